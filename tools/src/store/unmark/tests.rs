use std::time::Duration;

use quorate_core::control::Control;
use quorate_store::ids::{Incarnation, Index, Position, RaftId, Term};
use quorate_store::record::{Batch, Entry, EntryKind, Record};
use tempfile::TempDir;

use super::super::mark_write::lock;
use super::*;
use crate::store::sample_store::{open_store, used};

const RECOVERY: Uuid = Uuid::from_u128(70);
const VHOST: GroupId = GroupId(1);

fn unmarked(dir: &Path) -> Result<Unmarked, String> {
    let lock = lock(dir).unwrap();
    let budget = Budget::new(64 << 20, Duration::from_mins(1));
    unmark(dir, lock.as_ref(), budget, 99).map_err(|error| error.to_string())
}

/// The epoch that a mark begins, behind `/` as it is.
fn epoch(recovery: Uuid, number: u32) -> EpochEntry {
    EpochEntry {
        number: Epoch(number),
        id: Uuid::from_u128(1000 + u128::from(number)),
        fork: Position { epoch: Epoch(1), term: Term(2), index: Index(5) },
        term: Term(9),
        cause: EpochCause::Mark { recovery, alone: true, members: 0, sole: RaftId(1) },
        left_out: Vec::new(),
        who: "an operator".into(),
        when_ms: 1,
        why: "test".into(),
    }
}

/// Of the used store: the stamp kept before the mark, then a life in which these groups are left with the mark.
fn left_with_mark(groups: &[GroupId]) -> TempDir {
    let store = used(StampState::Dirty);
    left_with(store.path(), RECOVERY, groups);
    store
}

fn left_with(dir: &Path, recovery: Uuid, groups: &[GroupId]) {
    let lock = lock(dir).unwrap();
    keep_stamp(dir, lock.as_ref(), before(recovery), 1).unwrap();
    let mut stamp = read(dir).unwrap();
    stamp.incarnation = Incarnation(stamp.incarnation.0 + 1);
    for group in stamp.groups.iter_mut().filter(|group| groups.contains(&group.group)) {
        let number = u32::try_from(group.lineage.len()).unwrap() + 1;
        group.lineage.push(epoch(recovery, number));
    }
    write(dir, stamp).unwrap();
}

/// The first entry of the mark's epoch.
fn begin(dir: &Path, group: GroupId, index: u64) {
    let mut store = open_store(dir);
    let mut log = store.log.take().unwrap();
    let data = Control::Recovery { recovery: RECOVERY, sole: RaftId(1) }.encode();
    let entry = Entry { term: Term(9), index: Index(index), kind: EntryKind::Control, data };
    log.writer.append(&[&Batch { records: vec![Record::Entry(group, Epoch(2), entry)] }]).unwrap();
    log.writer.sync().unwrap();
    let stamp = read(dir).unwrap();
    store.stamp_file.write(Stamp { log_synced: log.writer.synced_point(), ..stamp }).unwrap();
}

fn epochs(dir: &Path) -> Vec<usize> {
    read(dir).unwrap().groups.iter().map(|group| group.lineage.len()).collect()
}

fn left(recovery: Uuid, vhosts: &[&str]) -> Unmarked {
    let vhosts = vhosts.iter().map(|&vhost| vhost.to_owned()).collect();
    Unmarked::Left(BTreeMap::from([(recovery, vhosts)]))
}

#[test]
fn a_mark_left_in_one_group_of_a_dirty_stamp_is_taken_back_once() {
    let store = left_with_mark(&[VHOST]);
    let before = read(store.path()).unwrap();
    assert_eq!(unmarked(store.path()), Ok(left(RECOVERY, &["/"])));
    let after = read(store.path()).unwrap();
    assert_eq!((after.state, after.incarnation), (StampState::Dirty, before.incarnation));
    assert!(after.sequence > before.sequence && after.log_synced == before.log_synced);
    assert_eq!(epochs(store.path()), [1, 1]);
    assert_eq!(after.groups[1].position, before.groups[1].position);
    let error = unmarked(store.path()).unwrap_err();
    assert!(error.contains("nothing to take back"), "{error}");
    // The stamp as it was is kept, too.
    assert_eq!(quarantine::list(&RealFiles, store.path()).unwrap().len(), 2);
}

#[test]
fn a_start_that_ended_before_anything_was_begun_is_taken_back_everywhere() {
    let store = left_with_mark(&[GroupId::SYSTEM, VHOST]);
    assert_eq!(unmarked(store.path()), Ok(left(RECOVERY, &["system", "/"])));
    assert_eq!(epochs(store.path()), [1, 1]);
}

#[test]
fn of_two_marks_one_upon_the_other_both_are_taken_back() {
    let store = left_with_mark(&[VHOST]);
    let second = Uuid::from_u128(71);
    left_with(store.path(), second, &[VHOST]);
    let both = [(RECOVERY, vec!["/".to_owned()]), (second, vec!["/".to_owned()])];
    assert_eq!(unmarked(store.path()), Ok(Unmarked::Left(both.into())));
    assert_eq!(epochs(store.path()), [1, 1]);
}

#[test]
fn what_was_begun_is_not_taken_back() {
    // Not in one group either as long as `system` is to begin on the same mark, or began on it.
    for (marked, (group, index), left) in [
        (&[VHOST][..], (VHOST, 6), [1, 2]),
        (&[GroupId::SYSTEM, VHOST], (VHOST, 6), [2, 2]),
        (&[GroupId::SYSTEM, VHOST], (GroupId::SYSTEM, 1), [2, 2]),
    ] {
        let store = left_with_mark(marked);
        begin(store.path(), group, index);
        let error = unmarked(store.path()).unwrap_err();
        assert!(error.contains("a broker went on from it"), "{error}");
        assert_eq!(epochs(store.path()), left);
    }
}

#[test]
fn a_mark_of_another_store_is_not_taken_back() {
    // The lineage of whoever fills the group again.
    let store = left_with_mark(&[VHOST]);
    let filled = Stamp { refilling: vec![VHOST], ..read(store.path()).unwrap() };
    write(store.path(), filled).unwrap();
    assert!(unmarked(store.path()).is_err());
    // One that was never made here, and one behind another history than the stamp kept before it tells.
    let store = used(StampState::Dirty);
    let mut foreign = read(store.path()).unwrap();
    foreign.groups[1].lineage.push(epoch(RECOVERY, 2));
    write(store.path(), foreign).unwrap();
    assert!(unmarked(store.path()).is_err());
    let store = left_with_mark(&[VHOST]);
    let mut other = read(store.path()).unwrap();
    other.groups[1].lineage[0].id = Uuid::from_u128(8);
    write(store.path(), other).unwrap();
    assert!(unmarked(store.path()).is_err());
    assert_eq!(epochs(store.path()), [1, 2]);
}

#[test]
fn nothing_is_taken_back_by_a_log_that_cannot_be_read() {
    let store = left_with_mark(&[VHOST]);
    let segment = store.path().join("log/segment-0000000000000001");
    let mut content = std::fs::read(&segment).unwrap();
    content[24] ^= 1;
    std::fs::write(&segment, content).unwrap();
    let error = unmarked(store.path()).unwrap_err();
    assert!(error.contains("the log of") && error.contains("unreadable"), "{error}");
    assert_eq!(epochs(store.path()), [1, 2]);
}
