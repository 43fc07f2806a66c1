//! Writes a mark: one stamp write under the store's lock, the stamp as it was kept first.

use std::path::Path;
use std::sync::Arc;

use quorate_store::files::real::RealFiles;
use quorate_store::files::{FileError, FileLock, Files};
use quorate_store::identity::LOCK_NAME;
use quorate_store::ids::Epoch;
use quorate_store::log::{LOG_DIRECTORY, sync_closed};
use quorate_store::quarantine::{self, Note, Parts, QuarantineError};
use quorate_store::stamp::{
    Durability, DurabilityPolicy, EpochCause, EpochEntry, GroupStamp, Stamp, StampFile, StampFound,
    StampState,
};
use thiserror::Error;
use uuid::Uuid;

use super::mark::Plan;
use super::subject::OpenSubject;

/// Why nothing was written.
#[derive(Debug, Error)]
pub enum MarkError {
    /// The disk failed, or the lock is held.
    #[error(transparent)]
    File(#[from] FileError),
    /// The old stamp cannot be kept.
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
    /// The stamp cannot be written.
    #[error(transparent)]
    Stamp(#[from] quorate_store::stamp::StampError),
    /// The stamp was not written whole: which of the two counts is to be looked at.
    #[error("the mark was not written whole, and may count or not: {0}")]
    Unfinished(quorate_store::stamp::StampError),
    /// The store is not what the act needs.
    #[error("{0}")]
    State(String),
}

/// Takes the store's lock; nothing overrides it.
///
/// # Errors
/// Somebody else has it.
pub fn lock(dir: &Path) -> Result<Box<dyn FileLock>, FileError> {
    RealFiles.lock(&dir.join(LOCK_NAME), std::process::id())
}

/// Who marks, when and why.
#[derive(Clone, Debug)]
pub struct Act {
    /// The mark's random id.
    pub recovery: Uuid,
    /// Who.
    pub who: String,
    /// Milliseconds since 1970.
    pub when_ms: u64,
    /// The reason given.
    pub why: String,
}

/// Writes the mark that was planned for this store, whose lock is held.
///
/// # Errors
/// Nothing was written, or the disk failed.
pub fn mark(opened: &OpenSubject, lock: &dyn FileLock, plan: &Plan, act: &Act) -> Result<(), MarkError> {
    let dir = &opened.look.dir;
    let (Some(stamp), Some((_, log))) = (&opened.look.stamp, &opened.look.log) else {
        return Err(MarkError::State(format!("{} has no stamp or no log", dir.display())));
    };
    let marked = marked(stamp, opened, plan, act)?;
    // The log was read through a cache: what the mark stands on must be on the medium.
    sync_closed(&RealFiles, &dir.join(LOG_DIRECTORY))?;
    let why = format!("{}: {}", before(act.recovery), act.why);
    keep_stamp(dir, lock, why, act.when_ms)?;
    let marked = Stamp { log_synced: log.end, ..marked };
    write(dir, marked).map_err(|error| match error {
        MarkError::Stamp(error) => MarkError::Unfinished(error),
        other => other,
    })
}

/// The stamp with the mark.
fn marked(stamp: &Stamp, opened: &OpenSubject, plan: &Plan, act: &Act) -> Result<Stamp, MarkError> {
    let mut groups = Vec::new();
    for mark in &plan.groups {
        let stored = opened.store.groups.iter().find(|group| group.group == mark.group);
        let Some(stored) = stored.filter(|stored| !stored.is_beyond_log) else {
            return Err(MarkError::State(format!(
                "an update of group {} was cut off before its log began: choose another store",
                mark.group
            )));
        };
        let last = stored.lineage.last().map_or(Epoch(0), |epoch| epoch.number);
        let mut lineage = stored.lineage.clone();
        lineage.push(EpochEntry {
            number: Epoch(last.0.saturating_add(1)),
            id: Uuid::new_v4(),
            fork: stored.end,
            term: mark.term,
            cause: EpochCause::Mark {
                recovery: act.recovery,
                alone: plan.alone,
                members: plan.members,
                sole: plan.sole,
            },
            left_out: mark.left_out.clone(),
            who: act.who.clone(),
            when_ms: act.when_ms,
            why: act.why.clone(),
        });
        let before = stamp.groups.iter().find(|group| group.group == mark.group);
        let policy = DurabilityPolicy { leader: Durability::Sync, replicas: Durability::Sync };
        groups.push(GroupStamp {
            group: mark.group,
            vhost: stored.vhost.clone(),
            lineage,
            position: stored.end,
            synced: stored.end,
            policy: before.map_or(policy, |before| before.policy),
            weakest: before.map_or(Durability::Sync, |before| before.weakest),
        });
    }
    // What goes on by itself stays as it is.
    let is_marked = |group: &&GroupStamp| plan.groups.iter().any(|mark| mark.group == group.group);
    groups.extend(stamp.groups.iter().filter(|group| !is_marked(group)).cloned());
    groups.sort_by_key(|group| group.group);
    Ok(Stamp {
        state: StampState::Recovered { recovery: act.recovery },
        groups,
        wall_clock_ms: act.when_ms,
        ..stamp.clone()
    })
}

/// What the image of the stamp from before a mark begins its reason with.
pub(super) fn before(recovery: Uuid) -> String {
    format!("before the mark {recovery}")
}

/// Keeps both slots as they are, durably and whole or not at all.
pub(super) fn keep_stamp(
    dir: &Path,
    lock: &dyn FileLock,
    why: String,
    when_ms: u64,
) -> Result<(), MarkError> {
    let note = Note { act: quarantine::Act::Mark, why, groups: Vec::new(), diverged: None, when_ms };
    let files: Arc<dyn Files> = Arc::new(RealFiles);
    quarantine::keep_closed(&files, dir, lock, note, Parts::Stamp)?;
    Ok(())
}

/// The stamp's next write.
pub(super) fn write(dir: &Path, stamp: Stamp) -> Result<(), MarkError> {
    let (mut file, _) = StampFile::open(Arc::new(RealFiles), dir.to_path_buf())?;
    file.write(stamp)?;
    Ok(())
}

/// The stamp, which must be readable.
pub(super) fn read(dir: &Path) -> Result<Stamp, MarkError> {
    match StampFile::open(Arc::new(RealFiles), dir.to_path_buf())?.1 {
        StampFound::Stamp(stamp) => Ok(*stamp),
        StampFound::Absent => Err(MarkError::State(format!("{} has no stamp", dir.display()))),
        StampFound::Damaged { reason, .. } => {
            Err(MarkError::State(format!("the stamp of {} is unreadable: {reason}", dir.display())))
        }
    }
}
