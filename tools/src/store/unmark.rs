//! Takes a mark back, whole or as far as it was left in single groups: one stamp write under the store's lock, the stamp
//! as it was kept first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use quorate_store::files::FileLock;
use quorate_store::files::real::RealFiles;
use quorate_store::ids::{Epoch, GroupId};
use quorate_store::quarantine;
use quorate_store::stamp::{EpochCause, EpochEntry, GroupStamp, Stamp, StampState};
use uuid::Uuid;

use super::limits::Budget;
use super::look::look;
use super::mark_write::{MarkError, before, keep_stamp, read, write};

/// What was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmarked {
    /// A mark: the store is as it was before.
    Mark(Uuid),
    /// The clean stamp of a shutdown: the store is dirty.
    Shutdown(Uuid),
    /// Marks in single groups, on which nothing was begun, with their virtual hosts: those are as they were before, and
    /// the store stays dirty.
    Left(BTreeMap<Uuid, Vec<String>>),
}

/// Takes back a mark that no broker has started from, also where a start left it in single groups; or makes a clean
/// store dirty. The lock is held. `budget` is for reading the log, which tells what was begun.
///
/// # Errors
/// There is nothing to take back, or the disk failed.
pub fn unmark(dir: &Path, lock: &dyn FileLock, budget: Budget, when_ms: u64) -> Result<Unmarked, MarkError> {
    let stamp = read(dir)?;
    match stamp.state {
        StampState::Clean { shutdown } => {
            keep_stamp(dir, lock, format!("before the shutdown {shutdown} was taken back"), when_ms)?;
            write(dir, Stamp { state: StampState::Dirty, wall_clock_ms: when_ms, ..stamp })?;
            Ok(Unmarked::Shutdown(shutdown))
        }
        StampState::Recovered { recovery } => {
            let before = kept(dir, recovery)
                .map_err(|error| MarkError::State(format!("the mark cannot be taken back: {error}")))?;
            if before.store_id != stamp.store_id || before.incarnation != stamp.incarnation {
                let text = "the stamp kept from before the mark is not that of this store".to_owned();
                return Err(MarkError::State(text));
            }
            // Sequence and clock go on.
            write(dir, Stamp { wall_clock_ms: when_ms, log_synced: stamp.log_synced, ..before })?;
            Ok(Unmarked::Mark(recovery))
        }
        StampState::Dirty => unmark_groups(dir, lock, stamp, budget, when_ms),
        StampState::Empty | StampState::Forming => Err(nothing(dir)),
    }
}

fn nothing(dir: &Path) -> MarkError {
    MarkError::State(format!(
        "{} is neither marked nor closed by a shutdown: there is nothing to take back",
        dir.display()
    ))
}

/// The stamp that was kept before this mark.
fn kept(dir: &Path, recovery: Uuid) -> Result<Stamp, MarkError> {
    let begins = before(recovery);
    let image = quarantine::list(&RealFiles, dir)?
        .into_iter()
        .filter_map(Result::ok)
        .rfind(|image| image.note.act == quarantine::Act::Mark && image.note.why.starts_with(&begins));
    let Some(image) = image else {
        return Err(MarkError::State("the stamp from before the mark is not in quarantine".to_owned()));
    };
    read(&quarantine::directory(&RealFiles, dir, image.number)?)
}

/// A broker started with the mark and made the store dirty; groups that could not begin on it have it still.
fn unmark_groups(
    dir: &Path,
    lock: &dyn FileLock,
    mut stamp: Stamp,
    budget: Budget,
    when_ms: u64,
) -> Result<Unmarked, MarkError> {
    if stamp.groups.iter().all(|group| last_mark(&group.lineage).is_none()) {
        return Err(nothing(dir));
    }
    let log = read_log(dir, budget)?;
    // A group that is filled again has the lineage of whoever fills it, and nothing of that in its log yet.
    let refilling: BTreeSet<GroupId> = stamp.refilling.iter().copied().collect();
    let taken = take_back(&mut stamp.groups, &log, &refilling, |recovery| {
        kept(dir, recovery).ok().filter(|kept| kept.store_id == stamp.store_id)
    });
    if taken.is_empty() {
        let text = format!(
            "{} has no mark to take back: a broker went on from it, or the stamp from before it is not in quarantine",
            dir.display()
        );
        return Err(MarkError::State(text));
    }
    keep_stamp(dir, lock, "before marks in single groups were taken back".to_owned(), when_ms)?;
    write(dir, Stamp { wall_clock_ms: when_ms, ..stamp })?;
    Ok(Unmarked::Left(taken))
}

/// The mark that begins the last epoch of a lineage, and its number.
fn last_mark(lineage: &[EpochEntry]) -> Option<(Uuid, Epoch)> {
    let last = lineage.last()?;
    Some((recovery_of(last)?, last.number))
}

/// The mark that begins this epoch.
fn recovery_of(epoch: &EpochEntry) -> Option<Uuid> {
    if let EpochCause::Mark { recovery, .. } = epoch.cause { Some(recovery) } else { None }
}

/// The marks of which the log has an entry, in any group.
fn begun_marks(groups: &[GroupStamp], is_begun: impl Fn(GroupId, Epoch) -> bool) -> BTreeSet<Uuid> {
    groups
        .iter()
        .flat_map(|group| group.lineage.iter().map(move |epoch| (group.group, epoch)))
        .filter(|(group, epoch)| is_begun(*group, epoch.number))
        .filter_map(|(_, epoch)| recovery_of(epoch))
        .collect()
}

/// The last epoch in each group's log.
fn read_log(dir: &Path, budget: Budget) -> Result<BTreeMap<GroupId, Epoch>, MarkError> {
    let cannot = |why: String| MarkError::State(format!("the log of {} is unreadable: {why}", dir.display()));
    let look = look(dir, budget).map_err(|failure| cannot(failure.message))?;
    if let Some(why) = look.unread.as_ref().or(look.damage.first()) {
        return Err(cannot(why.clone()));
    }
    let (_, found) = look.log.ok_or_else(|| cannot("it is not there".to_owned()))?;
    Ok(found.groups.iter().map(|group| (group.group, group.epoch)).collect())
}

/// Takes marks from the ends of the lineages where nothing was begun: no entry of the mark's epoch is in the group's log,
/// `system` is not on its way from the same mark, and the stamp that was kept before the mark tells of no other lineage than the
/// rest.
fn take_back(
    groups: &mut [GroupStamp],
    log: &BTreeMap<GroupId, Epoch>,
    refilling: &BTreeSet<GroupId>,
    kept: impl Fn(Uuid) -> Option<Stamp>,
) -> BTreeMap<Uuid, Vec<String>> {
    // A group without a log holds its first epoch, which no mark begins.
    let is_begun = |group: GroupId, epoch: Epoch| log.get(&group).is_some_and(|last| *last >= epoch);
    let begun = begun_marks(groups, is_begun);
    let in_system = |recovery: Uuid| {
        let system = groups.iter().filter(|group| group.group == GroupId::SYSTEM);
        system.flat_map(|group| &group.lineage).any(|epoch| recovery_of(epoch) == Some(recovery))
    };
    // Such a start goes on, or was interrupted and will.
    let gone_on_from: BTreeSet<Uuid> = begun.into_iter().filter(|recovery| in_system(*recovery)).collect();
    let mut taken: BTreeMap<Uuid, Vec<String>> = BTreeMap::new();
    for group in groups.iter_mut().filter(|group| !refilling.contains(&group.group)) {
        // One mark may have been set upon another.
        while let Some((recovery, number)) = last_mark(&group.lineage) {
            let rest = group.lineage.split_last().map(|(_, rest)| rest).unwrap_or_default();
            let was_so = |stamp: &Stamp| {
                let kept = stamp.groups.iter().find(|kept| kept.group == group.group);
                kept.is_none_or(|kept| kept.lineage == rest)
            };
            if is_begun(group.group, number)
                || gone_on_from.contains(&recovery)
                || rest.is_empty()
                || !kept(recovery).is_some_and(|stamp| was_so(&stamp))
            {
                break;
            }
            group.lineage.pop();
            taken.entry(recovery).or_default().push(group.vhost.clone());
        }
    }
    taken
}

#[cfg(test)]
mod tests;
