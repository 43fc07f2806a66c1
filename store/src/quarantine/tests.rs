use bytes::Bytes;
use uuid::Uuid;

use super::*;
use crate::files::crash::CrashFiles;
use crate::identity::LOCK_NAME;
use crate::ids::{Epoch, GroupId, Index, Position, StoreId, Term};
use crate::log::LogConfig;
use crate::model::StateModel;
use crate::open::{OpenOptions, OpenStore, inspect, open};
use crate::record::{Batch, Entry, EntryKind, Record};
use crate::stamp::{StampFound, sample_stamp};
use crate::state::{Family, StateBatch, StateStore, StateWrite};

const DIR: &str = "/data/store";
const ID: StoreId = StoreId(Uuid::from_u128(1));

fn store() -> &'static Path {
    Path::new(DIR)
}

fn files(disk: &CrashFiles) -> Arc<dyn Files> {
    Arc::new(disk.clone())
}

fn open_on(disk: &CrashFiles) -> OpenStore {
    let log = LogConfig { segment_bytes: 16 << 10, ..LogConfig::new(ID, 5) };
    open(&files(disk), store(), OpenOptions { process: 1, fresh_id: ID, log, reserve_bytes: 4096 }).unwrap()
}

fn note(act: Act) -> Note {
    Note { act, why: "a test".into(), groups: vec![GroupId(1)], diverged: None, when_ms: 7 }
}

/// Appends entries up to and including `last`, and stamps.
fn fill(disk: &CrashFiles, opened: &mut OpenStore, last: u64) {
    let log = opened.log.as_mut().unwrap();
    if opened.stamp == StampFound::Absent {
        opened.stamp_file.write(stamp(0)).unwrap();
    }
    let from = log.reader.bounds(GroupId(1)).map_or(1, |(_, last)| last.next().0);
    for index in from..=last {
        let data = Bytes::from(vec![u8::try_from(index % 251).unwrap(); 3000]);
        let entry = Entry { term: Term(1), index: Index(index), kind: EntryKind::Command, data };
        log.writer.append(&[&Batch { records: vec![Record::Entry(GroupId(1), Epoch(1), entry)] }]).unwrap();
        log.writer.sync().unwrap();
    }
    let synced = log.writer.synced_point();
    opened.stamp_file.write(Stamp { log_synced: synced, ..stamp(last) }).unwrap();
    // The state's files are made where a broker's are.
    let mut state = StateModel::on(files(disk));
    state.write(&put(last)).unwrap();
    remove_tree(disk, &store().join(STATE_DIRECTORY)).unwrap();
    state.checkpoint(&store().join(STATE_DIRECTORY)).unwrap();
}

fn put(last: u64) -> StateBatch {
    let value = Bytes::copy_from_slice(&last.to_le_bytes());
    StateBatch { writes: vec![StateWrite::Put(Family::State, Bytes::from_static(b"last"), value)] }
}

/// The safety number says which content it was written with.
fn stamp(last: u64) -> Stamp {
    Stamp { safety_number: last, ..sample_stamp() }
}

/// A closed store with entries up to `last`, everything durable.
fn closed(last: u64) -> CrashFiles {
    let disk = CrashFiles::new();
    fill(&disk, &mut open_on(&disk), last);
    disk.crash(0);
    disk
}

/// What a store or an image holds: the last index in log, stamp and state, which are to be the same; none if it is
/// damaged.
fn content(disk: &CrashFiles, dir: &Path) -> Option<u64> {
    let found = inspect(&files(disk), dir).unwrap();
    if !found.damage.is_empty() {
        return None;
    }
    let StampFound::Stamp(stamp) = found.stamp else { panic!("no stamp: {:?}", found.stamp) };
    let log = found.log.unwrap();
    let (first, last) = log.reader.bounds(GroupId(1)).unwrap();
    let entries = log.reader.read(GroupId(1), first, last.next(), usize::MAX).unwrap();
    assert_eq!(entries.len() as u64, last.0);
    let state = StateModel::load(files(disk), &dir.join(STATE_DIRECTORY)).unwrap();
    let state = state.get(Family::State, b"last").unwrap().unwrap();
    let state = u64::from_le_bytes(state.as_ref().try_into().unwrap());
    assert_eq!((stamp.safety_number, state), (last.0, last.0), "parts of two stores");
    Some(last.0)
}

/// An image of an open store, as a broker makes it.
fn keep_open(disk: &CrashFiles, opened: &mut OpenStore, last: u64) -> Result<Image, QuarantineError> {
    let draft = Draft::begin(files(disk), store(), note(Act::Update))?;
    let tail = opened.log.as_mut().unwrap().writer.link_into(&draft.log_dir())?;
    let log_synced = tail.end();
    tail.copy(disk, &draft.log_dir())?;
    let mut state = StateModel::on(files(disk));
    state.write(&put(last))?;
    state.checkpoint(&draft.state_dir())?;
    draft.finish(Some(&Stamp { log_synced, ..stamp(last) }))
}

fn images(disk: &CrashFiles) -> Vec<Image> {
    list(disk, store()).unwrap().into_iter().map(|image| image.expect("an image is whole")).collect()
}

fn lock(disk: &CrashFiles) -> Box<dyn FileLock> {
    disk.lock(&store().join(LOCK_NAME), 1).unwrap()
}

/// Cuts the power at every changing operation of `act` on a fork of `disk`, and after the last, with several endings each,
/// and looks at what is found; says how many operations there are.
fn at_every_cut(
    disk: &CrashFiles,
    act: impl Fn(&CrashFiles) -> bool,
    check: impl Fn(&CrashFiles, bool, u64),
) -> u64 {
    for cut in 1.. {
        let mut ended = false;
        for seed in 0..12 {
            let disk = disk.fork();
            disk.cut_power_at(cut);
            let done = act(&disk);
            ended = !disk.is_off();
            assert!(done || !ended, "it failed without a cut");
            disk.crash(seed);
            check(&disk, ended, seed);
        }
        if ended {
            return cut - 1;
        }
    }
    unreachable!("an act ends")
}

#[test]
fn a_cut_at_any_step_leaves_no_image_or_a_whole_one_and_the_store_as_it_was() {
    let disk = closed(30);
    let check = |disk: &CrashFiles, done: bool, _: u64| {
        let found = images(disk);
        assert!(found.len() <= 1 && (!done || found.len() == 1));
        for image in found {
            assert_eq!(
                (image.number, image.name.as_str(), &image.note),
                (1, "000001-update", &note(Act::Update))
            );
            assert_eq!(content(disk, &directory(disk, store(), 1).unwrap()), Some(30));
            assert!(image.bytes > 30 * 3000 && total_bytes(disk, store()).unwrap() > image.bytes);
        }
        assert_eq!(content(disk, store()), Some(30));
        // It goes on, and the next image is made, whatever was left.
        disk.kill();
        let mut opened = open_on(disk);
        fill(disk, &mut opened, 60);
        let number = keep_open(disk, &mut opened, 60).unwrap().number;
        assert_eq!(content(disk, &directory(disk, store(), number).unwrap()), Some(60));
        let names = disk.list(&store().join(QUARANTINE_DIRECTORY)).unwrap();
        assert!(names.iter().all(|name| !name.ends_with(UNFINISHED)), "{names:?}");
        assert_eq!(content(disk, store()), Some(60));
    };
    // Opening writes, too: the cuts begin after it.
    let act = |disk: &CrashFiles| keep_open(disk, &mut open_on_before_cut(disk), 30).is_ok();
    let steps = at_every_cut(&disk, act, check);
    assert!(steps > 20, "only {steps} steps");
}

/// Opens the store without counting towards the cut that was set.
fn open_on_before_cut(disk: &CrashFiles) -> OpenStore {
    disk.hold_cut(open_on)
}

#[test]
fn a_cut_at_any_step_of_keeping_a_closed_store_leaves_no_image_or_a_whole_one() {
    for (parts, least) in [(Parts::Stamp, 10), (Parts::Everything, 20)] {
        let disk = closed(30);
        let act = |disk: &CrashFiles| {
            let lock = disk.hold_cut(lock);
            keep_closed(&files(disk), store(), lock.as_ref(), note(Act::Mark), parts).is_ok()
        };
        let check = |disk: &CrashFiles, done: bool, _: u64| {
            let found = images(disk);
            assert!(found.len() <= 1 && (!done || found.len() == 1));
            assert_eq!(content(disk, store()), Some(30));
            for image in found {
                let dir = directory(disk, store(), image.number).unwrap();
                match parts {
                    Parts::Everything => assert_eq!(content(disk, &dir), Some(30)),
                    Parts::Stamp => {
                        for name in SLOT_NAMES {
                            assert_eq!(disk.content(&dir.join(name)), disk.content(&store().join(name)));
                        }
                    }
                }
            }
        };
        let steps = at_every_cut(&disk, act, check);
        assert!(steps > least, "only {steps} steps");
    }
}

#[test]
fn a_cut_at_any_step_of_setting_aside_leaves_the_store_as_it_was_or_damaged_or_nothing_of_it() {
    let disk = closed(30);
    let act = |disk: &CrashFiles| {
        let lock = disk.hold_cut(lock);
        set_aside(&files(disk), store(), lock.as_ref(), note(Act::Damage)).is_ok()
    };
    // Empty directories are nothing of a store.
    let gone = |disk: &CrashFiles| {
        let of_store = |path: &Path| PARTS.iter().any(|part| path.starts_with(store().join(part)));
        !disk.everything().keys().any(|path| of_store(path))
    };
    let check = |disk: &CrashFiles, done: bool, _: u64| {
        disk.kill();
        let before = gone(disk);
        assert!(before || !done);
        // As the next start finds it: never an empty store with something of the old one beside it.
        let opened = open_on(disk);
        match &opened.stamp {
            StampFound::Absent => assert!(before),
            StampFound::Damaged { .. } => {}
            StampFound::Stamp(_) => assert_eq!(content(disk, store()), Some(30)),
        }
        drop(opened);
        if !before {
            disk.kill();
            assert!(act(disk));
            assert!(gone(disk));
        }
        let kept = images(disk);
        assert!((1..=2).contains(&kept.len()), "{kept:?}");
        assert_eq!(content(disk, &directory(disk, store(), 1).unwrap()), Some(30));
    };
    let steps = at_every_cut(&disk, act, check);
    assert!(steps > 20, "only {steps} steps");
}

/// A closed store of 60 with an image of 30.
fn with_image() -> CrashFiles {
    let disk = closed(30);
    let mut opened = open_on(&disk);
    assert_eq!(keep_open(&disk, &mut opened, 30).unwrap().number, 1);
    fill(&disk, &mut opened, 60);
    drop(opened);
    disk.crash(0);
    disk
}

fn restore_first(disk: &CrashFiles) -> Result<Image, QuarantineError> {
    let lock = disk.hold_cut(lock);
    restore(disk, store(), lock.as_ref(), 1, "it was better", 9)
}

#[test]
fn a_cut_restore_is_not_opened_and_the_same_call_ends_it() {
    let disk = with_image();
    let check = |disk: &CrashFiles, done: bool, seed: u64| {
        disk.kill();
        if is_interrupted(disk, store()).unwrap() {
            assert_eq!(content(disk, store()), None, "half a store was taken for one");
            let opened = open_on(disk);
            assert!(opened.log.is_none() && matches!(opened.stamp, StampFound::Damaged { .. }));
            drop(opened);
            let lock_held = lock(disk);
            let refused = [
                purge(disk, store(), lock_held.as_ref(), 1),
                Draft::begin(files(disk), store(), note(Act::Update)).map(drop),
                restore(disk, store(), lock_held.as_ref(), 2, "", 0).map(drop),
            ];
            for refused in refused {
                assert!(matches!(refused, Err(QuarantineError::Interrupted { number: 1 })), "{refused:?}");
            }
            drop(lock_held);
            // Cut once more while it is ended.
            disk.cut_power_at(seed % 7 + 1);
            if restore_first(disk).is_err() {
                disk.crash(seed);
            }
            disk.kill();
        }
        let left = content(disk, store());
        if !is_interrupted(disk, store()).unwrap() && left == Some(60) {
            assert!(!done);
            assert_eq!(images(disk).len(), 1);
            return;
        }
        if left.is_none() {
            restore_first(disk).unwrap();
        }
        assert_eq!(content(disk, store()), Some(30));
        let found = images(disk);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].number, found[0].note.act, found[0].note.when_ms), (2, Act::Restore, 9));
        assert_eq!(content(disk, &directory(disk, store(), 2).unwrap()), Some(60));
        // What was put back is a store like any other, and what it writes stays its own.
        disk.kill();
        fill(disk, &mut open_on(disk), 90);
        assert_eq!(content(disk, store()), Some(90));
        assert_eq!(content(disk, &directory(disk, store(), 2).unwrap()), Some(60));
    };
    let steps = at_every_cut(&disk, |disk| restore_first(disk).is_ok(), check);
    assert!(steps > 20, "only {steps} steps");
}

#[test]
fn a_cut_purge_leaves_the_image_whole_or_nothing_to_see() {
    let disk = with_image();
    let act = |disk: &CrashFiles| {
        let lock = disk.hold_cut(lock);
        purge(disk, store(), lock.as_ref(), 1).is_ok()
    };
    let check = |disk: &CrashFiles, done: bool, _: u64| {
        let found = images(disk);
        assert!(!done || found.is_empty());
        assert_eq!(content(disk, store()), Some(60));
        for image in found {
            assert_eq!(content(disk, &directory(disk, store(), image.number).unwrap()), Some(30));
        }
        if done {
            assert_eq!(total_bytes(disk, store()).unwrap(), 0);
        }
    };
    at_every_cut(&disk, act, check);
    let lock = lock(&disk);
    let missing = purge(&disk, store(), lock.as_ref(), 8);
    assert!(matches!(missing, Err(QuarantineError::NoImage { number: 8 })));
}

#[test]
fn an_image_without_a_record_is_listed_as_damaged_and_not_put_back() {
    let disk = with_image();
    disk.remove(&directory(&disk, store(), 1).unwrap().join(RECORD_NAME)).unwrap();
    let listed = list(&disk, store()).unwrap();
    assert!(matches!(listed.as_slice(), [Err(QuarantineError::Damaged { .. })]), "{listed:?}");
    assert!(matches!(restore_first(&disk), Err(QuarantineError::Damaged { .. })));
    assert!(!is_interrupted(&disk, store()).unwrap());
    // What is not ours stays.
    disk.create_dir(&store().join(QUARANTINE_DIRECTORY).join("000007-mine")).unwrap();
    purge(&disk, store(), lock(&disk).as_ref(), 1).unwrap();
    assert_eq!(disk.list(&store().join(QUARANTINE_DIRECTORY)).unwrap(), ["000007-mine"]);
}

#[test]
fn a_full_disk_gives_no_image_and_the_store_goes_on() {
    let disk = closed(30);
    let mut opened = open_on(&disk);
    disk.set_capacity(0);
    assert!(keep_open(&disk, &mut opened, 30).is_err());
    disk.set_capacity(u64::MAX);
    assert!(images(&disk).is_empty());
    fill(&disk, &mut opened, 60);
    assert_eq!(content(&disk, store()), Some(60));
    let too_long = Note { groups: vec![GroupId(1); MAX_RECORD_GROUPS + 1], ..note(Act::Update) };
    let refused = Draft::begin(files(&disk), store(), too_long).map(drop);
    assert!(matches!(refused, Err(QuarantineError::TooLarge { .. })));
}

#[test]
fn a_loss_is_named_alike_and_found_in_its_first_image() {
    let disk = closed(30);
    let lock = lock(&disk);
    let keep = |group: u32, fork: Option<u64>| {
        let fork = fork.map(|index| Position { epoch: Epoch(1), term: Term(2), index: Index(index) });
        let diverged = fork.map(|fork| Divergence { vhost: format!("v{group}"), fork });
        let note = Note { groups: vec![GroupId(group)], diverged, ..note(Act::Update) };
        keep_closed(&files(&disk), store(), lock.as_ref(), note, Parts::Stamp).unwrap()
    };
    assert_eq!(losses(&disk, store()).unwrap(), []);
    keep(1, None);
    let first = keep(1, Some(20));
    // The process ended before the group was given up, and began again.
    keep(1, Some(20));
    let other = keep(2, Some(5));
    let found = losses(&disk, store()).unwrap();
    let told: Vec<_> = found.iter().map(|loss| (loss.id.as_str(), loss.image, loss.vhost.as_str())).collect();
    assert_eq!(told, [("00000000-1-1.2.20", first.number, "v1"), ("00000000-2-1.2.5", other.number, "v2")]);
    assert_eq!(found[0].directory, store().join(QUARANTINE_DIRECTORY).join(&first.name));
    assert_eq!(found[0].id, loss_id(ID, GroupId(1), found[0].fork));
    // A damaged image is no loss, and hides none.
    disk.remove(&found[0].directory.join(RECORD_NAME)).unwrap();
    assert_eq!(losses(&disk, store()).unwrap().len(), 2, "the next one of the same is found");
}
