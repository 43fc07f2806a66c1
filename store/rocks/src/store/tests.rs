//! The store against its model in memory, and what only a real directory can show.

use super::*;
use crate::options::MINIMUM_MEMORY;
use proptest::prelude::*;
use quorate_store::model::StateModel;
use rocksdb::properties::CUR_SIZE_ALL_MEM_TABLES;
use std::collections::BTreeMap;
use std::time::SystemTime;
use tempfile::TempDir;

mod power;

const CONFIG: RocksConfig = RocksConfig { memory: MINIMUM_MEMORY };

fn open(dir: &Path) -> RocksStore {
    RocksStore::open(dir, CONFIG).unwrap()
}

fn put(family: Family, key: &[u8], value: &[u8]) -> StateWrite {
    StateWrite::Put(family, Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))
}

fn delete(family: Family, key: &[u8]) -> StateWrite {
    StateWrite::Delete(family, Bytes::copy_from_slice(key))
}

fn delete_range(family: Family, from: &[u8], to: &[u8]) -> StateWrite {
    StateWrite::DeleteRange(family, Bytes::copy_from_slice(from), Bytes::copy_from_slice(to))
}

fn batch(writes: impl Into<Vec<StateWrite>>) -> StateBatch {
    StateBatch { writes: writes.into() }
}

fn compact(store: &RocksStore) {
    for family in ALL {
        store.db.compact_range_cf(handle(&store.db, family), None::<&[u8]>, None::<&[u8]>);
    }
}

/// Larger than every key used here.
const END: &[u8] = &[0xff; 3000];

fn all(store: &impl StateStore, family: Family, view: Option<ViewId>) -> Vec<Pair> {
    store.scan(family, b"", END, usize::MAX, view).unwrap()
}

// ---- against the model

/// What the contract allows of `writes`: a body is put once before it is deleted.
fn allowed(model: &StateModel, writes: Vec<StateWrite>) -> StateBatch {
    let mut ahead = model.clone();
    let mut allowed = Vec::new();
    for write in writes {
        let again = |key| ahead.get(Family::Body, key).unwrap().is_some();
        if matches!(&write, StateWrite::Put(Family::Body, key, _) if again(key)) {
            continue;
        }
        ahead.write(&batch([write.clone()])).unwrap();
        allowed.push(write);
    }
    batch(allowed)
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<StateWrite>),
    Flush,
    Compact,
    /// Closes without a flush and opens again.
    Reopen,
    OpenView,
    CloseView(prop::sample::Index),
    Get(Family, Bytes),
    Scan(Family, Bytes, Bytes, usize, Option<prop::sample::Index>),
}

fn family() -> impl Strategy<Value = Family> {
    prop::sample::select(ALL.to_vec())
}

/// Few, so that they collide; one empty, some wide, some that only a comparison of unsigned bytes orders rightly.
fn key() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        1 => Just(Bytes::new()),
        12 => (0_u8..4, 0_u8..6).prop_map(|(group, sequence)| Bytes::from(vec![0, group, 0, sequence])),
        3 => prop::sample::select(vec![0_u8, 1, 0x7f, 0x80, 0xff]).prop_map(|byte| Bytes::from(vec![byte; 2000])),
        2 => prop::sample::select(vec![0x7f_u8, 0x80, 0xff]).prop_map(|byte| Bytes::from(vec![byte])),
    ]
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from),
        1 => (any::<u8>(), 0_usize..100_000).prop_map(|(byte, length)| Bytes::from(vec![byte; length])),
    ]
}

fn write() -> impl Strategy<Value = StateWrite> {
    prop_oneof![
        6 => (family(), key(), value()).prop_map(|(family, key, value)| StateWrite::Put(family, key, value)),
        4 => (family(), key()).prop_map(|(family, key)| StateWrite::Delete(family, key)),
        1 => (family(), key(), key()).prop_map(|(family, from, to)| StateWrite::DeleteRange(family, from, to)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let view = || prop::option::of(any::<prop::sample::Index>());
    let max_bytes = prop_oneof![Just(0), Just(usize::MAX), 1_usize..5000];
    prop_oneof![
        10 => prop::collection::vec(write(), 0..12).prop_map(Step::Write),
        3 => Just(Step::Flush),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
        2 => Just(Step::OpenView),
        1 => any::<prop::sample::Index>().prop_map(Step::CloseView),
        3 => (family(), key()).prop_map(|(family, key)| Step::Get(family, key)),
        6 => (family(), key(), key(), max_bytes, view())
            .prop_map(|(family, from, to, max_bytes, view)| Step::Scan(family, from, to, max_bytes, view)),
    ]
}

fn live_side_by_side(steps: Vec<Step>) {
    let dir = TempDir::new().unwrap();
    let mut store = Some(open(dir.path()));
    let mut model = StateModel::new();
    let mut views: Vec<(ViewId, ViewId)> = Vec::new();
    for step in steps {
        let rocks = store.as_mut().unwrap();
        match step {
            Step::Write(writes) => {
                let batch = allowed(&model, writes);
                rocks.write(&batch).unwrap();
                model.write(&batch).unwrap();
            }
            Step::Flush => {
                rocks.flush().unwrap();
                model.flush().unwrap();
            }
            Step::Compact => {
                // It flushes first.
                compact(rocks);
                model.flush().unwrap();
            }
            Step::Reopen => {
                drop(store.take());
                store = Some(open(dir.path()));
                // So little is written here that the engine never flushes by itself: all that was not flushed is gone.
                model.crash(0);
                views.clear();
            }
            Step::OpenView => views.push((rocks.open_view().unwrap(), model.open_view().unwrap())),
            Step::CloseView(index) => {
                if !views.is_empty() {
                    let (view, twin) = views.remove(index.index(views.len()));
                    rocks.close_view(view);
                    model.close_view(twin);
                    let closed = rocks.scan(Family::Node, b"", b"x", 1, Some(view));
                    assert!(matches!(closed, Err(StateError::NoView(gone)) if gone == view));
                }
            }
            Step::Get(family, key) => {
                assert_eq!(rocks.get(family, &key).unwrap(), model.get(family, &key).unwrap());
            }
            Step::Scan(family, from, to, max_bytes, index) => {
                let view = index.filter(|_| !views.is_empty()).map(|index| *index.get(&views));
                assert_eq!(
                    rocks.scan(family, &from, &to, max_bytes, view.map(|(view, _)| view)).unwrap(),
                    model.scan(family, &from, &to, max_bytes, view.map(|(_, twin)| twin)).unwrap()
                );
            }
        }
    }
    let rocks = store.as_ref().unwrap();
    for family in ALL {
        assert_eq!(all(rocks, family, None), all(&model, family, None));
        for (view, twin) in &views {
            assert_eq!(all(rocks, family, Some(*view)), all(&model, family, Some(*twin)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_and_its_model_cannot_be_told_apart(steps in prop::collection::vec(step(), 1..50)) {
        live_side_by_side(steps);
    }
}

#[test]
fn a_scan_stops_when_its_limit_is_reached_and_gives_at_least_one() {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    store.write(&batch([b"a", b"b", b"c"].map(|key| put(Family::State, key, b"value")))).unwrap();
    let count = |max_bytes| store.scan(Family::State, b"a", b"z", max_bytes, None).unwrap().len();
    assert_eq!([count(0), count(6), count(7), count(12), count(13)], [1, 1, 2, 2, 3]);
}

// ---- durability

/// Bytes of all memtables, also of those on their way to disk, by the engine's own count for each family.
fn memtables(store: &RocksStore) -> u64 {
    let size = |family| store.db.property_int_value_cf(handle(&store.db, family), CUR_SIZE_ALL_MEM_TABLES);
    ALL.into_iter().map(|family| size(family).unwrap().unwrap()).sum()
}

#[test]
fn what_was_not_flushed_is_gone_after_a_drop() {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    store.write(&batch([put(Family::State, b"k", b"flushed"), put(Family::Body, b"b", b"body")])).unwrap();
    store.flush().unwrap();
    store
        .write(&batch([
            put(Family::State, b"k", b"lost"),
            delete(Family::Body, b"b"),
            put(Family::Node, b"n", b""),
        ]))
        .unwrap();
    drop(store);

    let store = open(dir.path());
    assert_eq!(all(&store, Family::State, None), [(Bytes::from("k"), Bytes::from("flushed"))]);
    assert_eq!(all(&store, Family::Body, None), [(Bytes::from("b"), Bytes::from("body"))]);
    assert_eq!(all(&store, Family::Node, None), []);
}

#[test]
fn what_survives_without_a_flush_is_a_whole_number_of_batches_within_the_memory_given() {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    // Several times the memory, in every family as much: the engine must flush by itself.
    let value = vec![7_u8; 8 << 10];
    let batches = 2000_u64;
    let (mut most, mut most_memtables) = (0, 0);
    for applied in 1..=batches {
        let key = applied.to_be_bytes();
        let mut writes = vec![
            put(Family::Node, &key, &value),
            put(Family::Node, b"applied", &key),
            put(Family::State, &key, &value),
        ];
        if applied > 1 {
            writes.push(delete(Family::Body, &(applied - 1).to_be_bytes()));
        }
        writes.push(put(Family::Body, &key, &value));
        store.write(&batch(writes)).unwrap();
        most = most.max(store.memory_used());
        most_memtables = most_memtables.max(memtables(&store));
    }
    assert!(most <= CONFIG.memory, "used {most} bytes of {}", CONFIG.memory);
    assert!(
        most_memtables <= CONFIG.memory as u64 / 4 * 3,
        "memtables: {most_memtables} of {}",
        CONFIG.memory
    );
    assert!(store.disk_used() > 0, "nothing was flushed, so nothing is tested");
    drop(store);

    let store = open(dir.path());
    let applied = store.get(Family::Node, b"applied").unwrap().unwrap();
    let applied = u64::from_be_bytes(applied[..].try_into().unwrap());
    assert!(0 < applied && applied < batches, "applied {applied}");
    let keys: Vec<Bytes> = all(&store, Family::State, None).into_iter().map(|(key, _)| key).collect();
    let expected: Vec<Bytes> = (1..=applied).map(|key| Bytes::copy_from_slice(&key.to_be_bytes())).collect();
    assert_eq!(keys, expected);
    let bodies = all(&store, Family::Body, None);
    assert_eq!(bodies, [(Bytes::copy_from_slice(&applied.to_be_bytes()), Bytes::from(value))]);
}

#[test]
fn an_idle_store_takes_next_to_no_memory() {
    let dir = TempDir::new().unwrap();
    let mut store = RocksStore::open(dir.path(), RocksConfig::default()).unwrap();
    store.write(&batch([put(Family::State, b"k", b"v")])).unwrap();
    assert!(store.memory_used() < 2 << 20, "used {}", store.memory_used());
}

// ---- views

#[test]
fn a_view_stays_as_it_was_through_deletes_flushes_and_compactions() {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    let bodies: Vec<StateWrite> = (0..100_u8).map(|key| put(Family::Body, &[key], &[key; 100])).collect();
    store.write(&batch(bodies)).unwrap();
    let view = store.open_view().unwrap();
    let before = all(&store, Family::Body, Some(view));
    assert_eq!(before.len(), 100);

    store.write(&batch((0..50_u8).map(|key| delete(Family::Body, &[key])).collect::<Vec<_>>())).unwrap();
    store.flush().unwrap();
    let later = store.open_view().unwrap();
    store.write(&batch([delete_range(Family::Body, b"", &[0xff])])).unwrap();
    store.flush().unwrap();
    compact(&store);

    assert_eq!(all(&store, Family::Body, None), []);
    assert_eq!(all(&store, Family::Body, Some(later)), before[50..]);
    assert_eq!(all(&store, Family::Body, Some(view)), before);
    store.close_view(view);
    store.close_view(view);
    assert_eq!(all(&store, Family::Body, Some(later)), before[50..]);
    store.close_view(later);
    let third = store.open_view().unwrap();
    assert!(third > later, "a number is never used twice");
    assert_eq!(all(&store, Family::Body, Some(third)), []);
}

#[test]
fn a_store_dropped_with_open_views_can_be_opened_again() {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    store.open_view().unwrap();
    store.open_view().unwrap();
    drop(store);
    open(dir.path());
}

#[test]
fn single_deletes_leave_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    for _ in 0..3 {
        store
            .write(&batch((0..200_u8).map(|key| put(Family::Body, &[key], &[key; 500])).collect::<Vec<_>>()))
            .unwrap();
        store.flush().unwrap();
        store.write(&batch((0..200_u8).map(|key| delete(Family::Body, &[key])).collect::<Vec<_>>())).unwrap();
        store.flush().unwrap();
    }
    compact(&store);
    assert_eq!(store.disk_used(), 0);
}

// ---- a second opener, and the reader

#[test]
fn a_store_is_open_once_at_a_time() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let second = RocksStore::open(dir.path(), CONFIG).err().expect("the first one holds the lock");
    assert!(matches!(&second, StateError::Io(text) if text.contains("lock")), "{second}");
    drop(store);
    open(dir.path());
}

/// Everything about a directory that a careless reader could change.
fn fingerprint(dir: &Path) -> BTreeMap<std::path::PathBuf, (SystemTime, Vec<u8>)> {
    let mut files = BTreeMap::new();
    files.insert(dir.to_owned(), (fs::metadata(dir).unwrap().modified().unwrap(), Vec::new()));
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let content = fs::read(&path).unwrap();
        files.insert(path.clone(), (fs::metadata(&path).unwrap().modified().unwrap(), content));
    }
    files
}

#[test]
fn a_reader_sees_what_was_flushed_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    store.write(&batch([put(Family::State, b"a", b"1"), put(Family::State, b"b", b"2")])).unwrap();
    store.flush().unwrap();
    store.write(&batch([put(Family::State, b"c", b"3")])).unwrap();
    drop(store);

    let before = fingerprint(dir.path());
    let reader = RocksStore::open_read_only(dir.path()).unwrap();
    assert_eq!(reader.get(Family::State, b"a").unwrap(), Some(Bytes::from("1")));
    assert_eq!(reader.get(Family::State, b"c").unwrap(), None);
    let first = reader.scan(Family::State, b"", b"z", 1).unwrap();
    assert_eq!(first, [(Bytes::from("a"), Bytes::from("1"))]);
    drop(reader);
    assert!(fingerprint(dir.path()) == before, "the reader changed the directory");
}

#[test]
fn a_reader_does_not_create_what_is_not_there() {
    let dir = TempDir::new().unwrap();
    let empty = RocksReader::open(dir.path()).err().expect("nothing to read");
    assert!(matches!(&empty, StateError::Io(text) if text.contains("there is no state store")), "{empty}");
    let absent = dir.path().join("absent");
    assert!(matches!(RocksReader::open(&absent).err(), Some(StateError::Io(_))));
    assert!(!absent.exists());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

// ---- checkpoints

#[test]
fn a_checkpoint_is_a_store_that_stays_as_it_was() {
    let dir = TempDir::new().unwrap();
    let mut store = open(&dir.path().join("state"));
    store.write(&batch([put(Family::State, b"a", b"1"), put(Family::Body, b"b", b"2")])).unwrap();
    store.flush().unwrap();
    // Not flushed yet: it is in the checkpoint all the same.
    store.write(&batch([put(Family::Node, b"c", b"3")])).unwrap();
    let copy = dir.path().join("copy");
    store.checkpoint(&copy).unwrap();
    let before = fingerprint(&copy);
    assert!(matches!(store.checkpoint(&copy), Err(StateError::Io(_))), "one was written over");
    for round in 0..20_u8 {
        store.write(&batch([put(Family::State, b"a", &[round])])).unwrap();
        store.flush().unwrap();
    }
    drop(store);
    assert!(fingerprint(&copy) == before, "the store changed its checkpoint");
    let reader = RocksReader::open(&copy).unwrap();
    assert_eq!(reader.get(Family::State, b"a").unwrap(), Some(Bytes::from("1")));
    assert_eq!(reader.get(Family::Body, b"b").unwrap(), Some(Bytes::from("2")));
    assert_eq!(reader.get(Family::Node, b"c").unwrap(), Some(Bytes::from("3")));
    drop(reader);
    let store = open(&copy);
    assert_eq!(store.get(Family::Node, b"c").unwrap(), Some(Bytes::from("3")));
}

// ---- damage

/// A closed store with a few hundred keys in each family, and the paths of its files with this ending.
fn closed_store(ending: &str) -> (TempDir, Vec<std::path::PathBuf>) {
    let dir = TempDir::new().unwrap();
    let mut store = open(dir.path());
    for family in ALL {
        let writes: Vec<StateWrite> =
            (0..300_u16).map(|key| put(family, &key.to_be_bytes(), &[1; 64])).collect();
        store.write(&batch(writes)).unwrap();
    }
    store.flush().unwrap();
    drop(store);
    let mut paths: Vec<std::path::PathBuf> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(ending) || path.to_string_lossy().contains(ending));
    assert!(!paths.is_empty(), "no file {ending}");
    (dir, paths)
}

/// Turns over a byte.
fn damage(path: &Path, at: usize) {
    let mut content = fs::read(path).unwrap();
    content[at] ^= 0x40;
    fs::write(path, content).unwrap();
}

/// What is done to a file.
type Harm<'a> = &'a dyn Fn(&Path);

fn is_corrupt<T>(result: Result<T, StateError>) -> bool {
    match result {
        Err(StateError::Corrupt(_)) => true,
        Err(error) => panic!("not seen as damage: {error}"),
        Ok(_) => false,
    }
}

#[test]
fn a_damaged_block_is_reported_when_it_is_read() {
    let (dir, tables) = closed_store(".sst");
    for table in &tables {
        damage(table, 100);
    }
    let mut store = open(dir.path());
    for family in ALL {
        assert!(is_corrupt(store.get(family, &[0, 7])), "get from {family:?}");
        assert!(is_corrupt(store.scan(family, b"", END, usize::MAX, None)), "scan of {family:?}");
        let view = store.open_view().unwrap();
        assert!(is_corrupt(store.scan(family, b"", END, usize::MAX, Some(view))), "view of {family:?}");
        store.close_view(view);
    }
}

#[test]
fn a_store_whose_making_was_cut_off_between_two_families_is_made_anew() {
    for made in [&["default"][..], &["default", "state"]] {
        let dir = TempDir::new().unwrap();
        let mut options = rocksdb::Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        drop(DB::open_cf(&options, dir.path(), made).unwrap());
        let before = fingerprint(dir.path());
        assert!(RocksReader::is_unmade(dir.path()).unwrap(), "{made:?}");
        assert!(fingerprint(dir.path()) == before, "looking changes nothing");
        let mut store = open(dir.path());
        store.write(&batch(vec![put(Family::Body, b"k", b"v")])).unwrap();
        store.flush().unwrap();
        drop(store);
        assert!(!RocksReader::is_unmade(dir.path()).unwrap());
        assert_eq!(open(dir.path()).get(Family::Body, b"k").unwrap().as_deref(), Some(&b"v"[..]));
    }
    // One that is whole is no such one, though its tables are gone.
    let (dir, tables) = closed_store(".sst");
    for table in &tables {
        fs::remove_file(table).unwrap();
    }
    assert!(!RocksReader::is_unmade(dir.path()).unwrap());
}

#[test]
fn a_damaged_or_missing_file_is_reported_at_opening() {
    let empty = |path: &Path| fs::write(path, b"").unwrap();
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    let garble = |path: &Path| fs::write(path, b"nonsense").unwrap();
    let flip = |path: &Path| damage(path, 20);
    let cases: [(&str, &str, Harm<'_>); 9] = [
        ("CURRENT removed", "CURRENT", &remove),
        ("CURRENT emptied", "CURRENT", &empty),
        ("CURRENT garbled", "CURRENT", &garble),
        ("manifest removed", "MANIFEST", &remove),
        ("manifest emptied", "MANIFEST", &empty),
        ("manifest flipped", "MANIFEST", &flip),
        ("tables removed", ".sst", &remove),
        ("tables emptied", ".sst", &empty),
        ("tables garbled", ".sst", &garble),
    ];
    for (name, ending, harm) in cases {
        let (dir, paths) = closed_store(ending);
        for path in &paths {
            harm(path);
        }
        let before = fingerprint(dir.path());
        assert!(is_corrupt(RocksReader::open(dir.path())), "{name}: reader");
        assert!(fingerprint(dir.path()) == before, "{name}: the reader changed the directory");
        assert!(is_corrupt(RocksStore::open(dir.path(), CONFIG)), "{name}: store");
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_trouble_not_damage() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = RocksStore::open(&file.join("state"), CONFIG).err().expect("a file is in the way");
    assert!(matches!(&error, StateError::Io(_)), "{error}");
}
