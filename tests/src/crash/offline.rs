//! The operator tool's writes to a store that nobody has open, in the tool's order: the log made durable, the stamp kept
//! as it was, the stamp written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_store::files::Files;
use quorate_store::identity::LOCK_NAME;
use quorate_store::ids::{Epoch, Position, Term};
use quorate_store::log::{self, LOG_DIRECTORY, SyncedPoint};
use quorate_store::quarantine::{self, Act, Parts};
use quorate_store::stamp::{
    EpochCause, EpochEntry, Known, LeftOut, SLOT_NAMES, Stamp, StampFile, StampFound, StampState,
};
use quorate_store::state::StateStore;
use uuid::Uuid;

use crate::sim::record::Note;
use crate::sim::storage::{Medium, STORE_DIRECTORY};

/// What a closed store holds.
struct Closed {
    stamp: Stamp,
    ends: Vec<(quorate_store::ids::GroupId, Position)>,
    end: SyncedPoint,
}

fn look(medium: &Medium) -> Closed {
    let stamp = medium.stamp().expect("a readable stamp");
    let dir = Path::new(STORE_DIRECTORY).join(LOG_DIRECTORY);
    let (_, recovered) = log::inspect(&medium.files, &dir, stamp.store_id, None).expect("a sound log");
    let end = |group: &log::RecoveredGroup| {
        let term = group.terms.last().map_or(Term(0), |run| run.1);
        (group.group, Position { epoch: group.epoch, term, index: group.last })
    };
    Closed { stamp, ends: recovered.groups.iter().map(end).collect(), end: recovered.end }
}

fn note(medium: &Medium, note: Note) {
    if let Some(recorder) = &medium.recorder {
        recorder.note(note);
    }
}

fn write(medium: &Medium, stamp: Stamp) {
    let files: Arc<dyn Files> = Arc::new(medium.files.clone());
    let (mut file, _) = StampFile::open(files, PathBuf::from(STORE_DIRECTORY)).expect("the disk is sound");
    let next = Stamp { sequence: file.sequence() + 1, ..stamp.clone() };
    note(medium, Note::Stamping(Box::new(next)));
    file.write(stamp).expect("the disk is sound");
    note(medium, Note::Stamped);
}

fn keep_stamp(medium: &Medium, why: String) {
    let files: Arc<dyn Files> = Arc::new(medium.files.clone());
    let store = Path::new(STORE_DIRECTORY);
    let lock = files.lock(&store.join(LOCK_NAME), 1).expect("nobody has it open");
    let said = quarantine::Note { act: Act::Mark, why, groups: Vec::new(), diverged: None, when_ms: 1 };
    let image = quarantine::keep_closed(&files, store, lock.as_ref(), said, Parts::Stamp);
    note(medium, Note::Kept(image.expect("the disk is sound").name));
}

/// Makes an image of everything in a closed store.
pub fn keep(medium: &mut Medium) {
    let files: Arc<dyn Files> = Arc::new(medium.files.clone());
    let store = Path::new(STORE_DIRECTORY);
    let stamp = medium.stamp().expect("a readable stamp");
    let said = quarantine::Note {
        act: Act::Update,
        why: "a \"workload\"".into(),
        groups: vec![],
        diverged: None,
        when_ms: 1,
    };
    let make = || -> Result<_, quarantine::QuarantineError> {
        let draft = quarantine::Draft::begin(Arc::clone(&files), store, said)?;
        log::link_closed(files.as_ref(), &store.join(LOG_DIRECTORY), &draft.log_dir())?;
        medium.state.checkpoint(&draft.state_dir())?;
        draft.finish(Some(&stamp))
    };
    let image = make().expect("the disk is sound");
    note(medium, Note::Kept(image.name));
}

/// Marks a store, with the others looked at.
pub fn mark(medium: &Medium, others: &[&Medium], number: u128) {
    let Closed { mut stamp, ends, end } = look(medium);
    let others: Vec<Closed> = others.iter().map(|other| look(other)).collect();
    let dir = Path::new(STORE_DIRECTORY).join(LOG_DIRECTORY);
    log::sync_closed(&medium.files, &dir).expect("the disk is sound");
    let recovery = Uuid::from_u128(number);
    keep_stamp(medium, format!("before the mark {recovery}"));
    let own = stamp.members.iter().find(|member| member.store_id == stamp.store_id).expect("a member");
    let (own, members) = (own.raft_id, stamp.members.clone());
    for group in &mut stamp.groups {
        let at = |ends: &[(_, Position)]| ends.iter().find(|(id, _)| *id == group.group).map(|(_, at)| *at);
        let fork = at(&ends).expect("every group has a log");
        let left_out = members.iter().filter(|member| member.store_id != stamp.store_id).map(|member| {
            let other = others.iter().find(|other| other.stamp.store_id == member.store_id);
            let known = other.and_then(|other| {
                let part = other.stamp.groups.iter().find(|part| part.group == group.group)?;
                let tip = part.lineage.last()?.id;
                Some(Known { incarnation: other.stamp.incarnation, position: at(&other.ends)?, tip })
            });
            LeftOut { store: member.store_id, name: member.name.clone(), voter: true, named: false, known }
        });
        let (left_out, before) = (left_out.collect(), u32::try_from(group.lineage.len()).expect("few"));
        let members = u32::try_from(others.len() + 1).expect("few");
        let alone = others.is_empty();
        group.lineage.push(EpochEntry {
            number: Epoch(before + 1),
            id: Uuid::from_u128(number + 77 + u128::from(before) + u128::from(group.group.0) * 1000),
            fork,
            term: Term(fork.term.0 + 100),
            cause: EpochCause::Mark { recovery, alone, members: if alone { 0 } else { members }, sole: own },
            left_out,
            who: "operator".into(),
            when_ms: 1,
            why: "a workload".into(),
        });
        (group.position, group.synced) = (fork, fork);
    }
    (stamp.state, stamp.log_synced) = (StampState::Recovered { recovery }, end);
    write(medium, stamp);
}

/// Takes the last mark back, or makes a clean store dirty.
pub fn unmark(medium: &Medium) {
    let stamp = medium.stamp().expect("a readable stamp");
    if let StampState::Clean { .. } = stamp.state {
        keep_stamp(medium, "before a shutdown was taken back".to_owned());
        write(medium, Stamp { state: StampState::Dirty, ..stamp });
        return;
    }
    let files: Arc<dyn Files> = Arc::new(medium.files.clone());
    let store = Path::new(STORE_DIRECTORY);
    let images = quarantine::list(files.as_ref(), store).expect("the disk is sound");
    let marks = images.into_iter().filter_map(Result::ok);
    let image = marks.filter(|image| image.note.act == Act::Mark).last().expect("a mark keeps the stamp");
    let dir = quarantine::directory(files.as_ref(), store, image.number).expect("just listed");
    let (_, StampFound::Stamp(before)) = StampFile::open(files, dir).expect("the disk is sound") else {
        panic!("an image of the stamp has a stamp");
    };
    write(medium, Stamp { log_synced: stamp.log_synced, ..*before });
}

/// Makes both slots of the stamp unreadable, as rot would.
pub fn spoil(medium: &Medium) {
    note(medium, Note::Spoiled);
    for name in SLOT_NAMES {
        let path = Path::new(STORE_DIRECTORY).join(name);
        let file = medium.files.open(&path).expect("a stamp");
        file.write_at(16, b"rot").and_then(|()| file.sync()).expect("the disk is sound");
    }
}
