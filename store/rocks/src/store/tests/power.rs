//! What a loss of power may leave of a real directory, opened as a broker opens it.
//!
//! A directory's files only grow, are made, renamed or removed. So what is durable after a flush is the directory as it
//! was then, and what a loss of power leaves later is that and any part of what was done since: new files whole, cut off
//! or missing, a manifest that grew by less, names that are still there. The store must open, and hold what it held after
//! some batch that is not before the last flush: never less, never half a batch.
//!
//! `QUORATE_POWER_SEED` draws other lives.
//!
//! Whether the engine asks the disk to sync what it says is flushed cannot be seen here: a copy shows what was written.

use super::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::time::Instant;

/// What was written in one life of a store.
const STEPS: usize = 120;
/// Copies that are tried for a directory that changes while it is copied.
const COPIES: usize = 10_000;

/// The files of a directory at one instant.
type Image = BTreeMap<String, Vec<u8>>;

/// What everything holds, by family.
type Content = Vec<Vec<Pair>>;

/// The same draws for the same number.
struct Draws(TestRunner);

impl Draws {
    fn new(seed: u64) -> Draws {
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed.to_le_bytes().repeat(4));
        Draws(TestRunner::new_with_rng(Config::default(), rng))
    }

    fn draw<S: Strategy>(&mut self, strategy: S) -> S::Value {
        strategy.new_tree(&mut self.0).unwrap().current()
    }

    /// One time in so many.
    fn one_in(&mut self, times: u32) -> bool {
        self.draw(0..times) == 0
    }
}

/// Names, lengths and times of change of what is read. Not the lock and the engine's own words.
fn listing(dir: &Path) -> Option<BTreeMap<String, (u64, SystemTime)>> {
    let mut names = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name != "LOCK" && !name.starts_with("LOG") {
            // Gone since it was listed: not one instant.
            let known = entry.metadata().ok()?;
            names.insert(name, (known.len(), known.modified().unwrap()));
        }
    }
    Some(names)
}

fn try_copy(dir: &Path) -> Option<Image> {
    let before = listing(dir)?;
    let mut image = Image::new();
    for name in before.keys() {
        image.insert(name.clone(), fs::read(dir.join(name)).ok()?);
    }
    let whole = before.iter().all(|(name, (length, _))| image[name].len() as u64 == *length);
    (whole && listing(dir)? == before).then_some(image)
}

/// The directory as it is on the disk at one instant, whatever flushes and compactions go on behind.
fn copy(dir: &Path) -> Image {
    (0..COPIES).find_map(|_| try_copy(dir)).expect("the engine comes to rest")
}

/// Memory, if there is a file system for it: opening a store waits for its disk many times.
fn place() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { TempDir::new().unwrap() }
}

fn content(store: &impl StateStore) -> Content {
    ALL.map(|family| all(store, family, None)).into()
}

/// What was written, and how much of it must be there.
struct History {
    /// After each batch; the first is nothing.
    contents: Vec<Content>,
    /// The batch at the last flush that was over.
    flushed: usize,
}

impl History {
    fn new() -> History {
        History { contents: vec![vec![Vec::new(); ALL.len()]], flushed: 0 }
    }

    /// The batch after which this was everything, the last one of them.
    fn batch_of(&self, found: &Content) -> Option<usize> {
        self.contents.iter().rposition(|content| content == found)
    }

    /// Opens what is left as whoever looks does, then as a broker does: after how many batches it is.
    fn judge(&self, left: &Image) -> Result<usize, StateError> {
        let place = place();
        let dir = place.path().join("state");
        fs::create_dir(&dir).unwrap();
        for (name, bytes) in left {
            fs::write(dir.join(name), bytes).unwrap();
        }
        if RocksReader::is_unmade(&dir)? {
            assert!(self.flushed == 0, "a store with something in it is taken for an empty one");
        } else {
            let reader = RocksReader::open(&dir)?;
            let scan = |family| reader.scan(family, b"", END, usize::MAX);
            let seen = ALL.into_iter().map(scan).collect::<Result<Content, StateError>>()?;
            self.promised(&seen);
        }
        let mut store = RocksStore::open(&dir, CONFIG)?;
        let batch_found = self.promised(&content(&store));
        // It goes on.
        store.write(&batch([put(Family::Node, b"after the power came back", b"")]))?;
        store.flush()?;
        Ok(batch_found)
    }

    fn promised(&self, found: &Content) -> usize {
        let at = self.batch_of(found).expect("what is there was never everything that was there");
        assert!(at >= self.flushed, "batch {} was flushed, the store is that of batch {at}", self.flushed);
        at
    }
}

/// What was tried, by what is left of the directory, and what came of it.
#[derive(Debug, Default)]
struct Tally {
    points: u64,
    states: BTreeMap<&'static str, u64>,
    /// Something that had been written was gone.
    lost: u64,
    /// More was there than was promised.
    beyond: u64,
    /// Called damaged, which only a manifest's end may be.
    refused: u64,
}

impl Tally {
    fn judge(&mut self, what: &'static str, history: &History, left: &Image) {
        let at = history.judge(left).unwrap_or_else(|error| panic!("{what}: {error}"));
        *self.states.entry(what).or_default() += 1;
        self.lost += u64::from(at + 1 < history.contents.len());
        self.beyond += u64::from(at > history.flushed);
    }

    /// What a loss of power may leave now, if `durable` was there at the last flush.
    fn point(&mut self, history: &History, durable: &Image, now: &Image, keeps: bool, draws: &mut Draws) {
        self.points += 1;
        self.judge("everything", history, now);
        self.judge("what was flushed", history, durable);
        let mut more = durable.clone();
        for (name, bytes) in now.iter().filter(|(name, _)| !durable.contains_key(*name)) {
            match draws.draw(0..4) {
                0 => continue,
                1 => more.insert(name.clone(), bytes.clone()),
                _ => more.insert(name.clone(), bytes[..draws.draw(0..=bytes.len())].to_vec()),
            };
        }
        if more != *durable {
            self.judge("what was flushed, and parts of new files", history, &more);
        }
        // A manifest between the two speaks of tables that may be gone by now, unless none goes.
        let grown = now.iter().find(|(name, bytes)| {
            name.starts_with("MANIFEST") && durable.get(*name).is_some_and(|old| old.len() < bytes.len())
        });
        let Some((name, bytes)) = grown.filter(|_| keeps) else { return };
        assert!(bytes.starts_with(&durable[name]), "a manifest does not only grow");
        for _ in 0..3 {
            let end = draws.draw(durable[name].len()..bytes.len());
            let mut torn = now.clone();
            torn.insert(name.clone(), bytes[..end].to_vec());
            self.judge("a manifest cut off", history, &torn);
            // Where the length of a file is written before its content. What is not the end of a file for the engine is
            // damage, which it says.
            let mut zeroed = bytes.clone();
            zeroed[end..].fill(0);
            torn.insert(name.clone(), zeroed);
            *self.states.entry("a manifest's end zeroed").or_default() += 1;
            match history.judge(&torn) {
                Ok(_) => {}
                Err(StateError::Corrupt(_)) => self.refused += 1,
                Err(error) => panic!("a manifest's end zeroed: {error}"),
            }
        }
    }
}

/// One store's life; `keeps`: tables that are not needed any more stay.
fn live(seed: u64, keeps: bool, tally: &mut Tally) {
    let draws = &mut Draws::new(seed);
    let dir = place();
    let open = || {
        let store = open(dir.path());
        if keeps {
            store.db.disable_file_deletions().unwrap();
        }
        store
    };
    let mut store = open();
    let mut model = StateModel::new();
    let mut history = History::new();
    // Opening is over when what it wrote is durable.
    let mut durable = copy(dir.path());
    for _ in 0..STEPS {
        let writes = allowed(&model, draws.draw(prop::collection::vec(write(), 0..24)));
        store.write(&writes).unwrap();
        model.write(&writes).unwrap();
        history.contents.push(content(&model));
        if draws.one_in(3) {
            tally.point(&history, &durable, &copy(dir.path()), keeps, draws);
        }
        if draws.one_in(8) {
            store.flush().unwrap();
            let now = copy(dir.path());
            // It may have been cut off before its end.
            tally.point(&history, &durable, &now, keeps, draws);
            (durable, history.flushed) = (now, history.contents.len() - 1);
            tally.judge("just flushed", &history, &durable);
        }
        if draws.one_in(24) {
            drop(store);
            store = open();
            let now = copy(dir.path());
            // What the engine had flushed by itself may be there, and everything goes on from there.
            let found = history.promised(&content(&store));
            tally.point(&history, &durable, &now, keeps, draws);
            history.contents.truncate(found + 1);
            model = StateModel::new();
            let pairs = ALL.into_iter().zip(&history.contents[found]);
            let again = pairs.flat_map(|(family, pairs)| {
                pairs.iter().map(move |(key, value)| StateWrite::Put(family, key.clone(), value.clone()))
            });
            model.write(&batch(again.collect::<Vec<_>>())).unwrap();
            durable = now;
        }
    }
}

#[test]
fn what_power_leaves_is_what_was_there_after_some_batch_since_the_last_flush() {
    let begun = Instant::now();
    let mut tally = Tally::default();
    let first = std::env::var("QUORATE_POWER_SEED").ok();
    let first: u64 = first.map_or(1, |text| text.parse().expect("QUORATE_POWER_SEED is a number"));
    for (seed, keeps) in (first..).zip([false, true, false, true]) {
        live(seed, keeps, &mut tally);
    }
    println!(
        "lives from seed {first}: {} states: {tally:?} in {:?}",
        tally.states.values().sum::<u64>(),
        begun.elapsed()
    );
    assert!(tally.points >= 150 && tally.lost >= 200 && tally.beyond >= 20, "{tally:?}");
    assert!(tally.states.len() == 6 && tally.states.values().all(|count| *count >= 20), "{tally:?}");
}

/// A store with two flushes, the directory after the first and after the second, and what there was.
fn two_flushes() -> (Image, Image, History) {
    let dir = place();
    let mut store = open(dir.path());
    let mut history = History::new();
    let mut images = Vec::new();
    for value in [b"1", b"2"] {
        store.write(&batch(ALL.map(|family| put(family, value, value)))).unwrap();
        store.flush().unwrap();
        history.contents.push(content(&store));
        images.push(copy(dir.path()));
    }
    let second = images.pop().unwrap();
    (images.pop().unwrap(), second, history)
}

#[test]
#[should_panic(expected = "batch 2 was flushed, the store is that of batch 1")]
fn a_directory_from_before_the_last_flush_would_be_noticed() {
    let (first, _, mut history) = two_flushes();
    history.flushed = 2;
    let _ = history.judge(&first);
}

#[test]
#[should_panic(expected = "what is there was never everything that was there")]
fn half_a_batch_would_be_noticed() {
    let (_, second, mut history) = two_flushes();
    history.contents[2][1].pop();
    let _ = history.judge(&second);
}
