//! Virtual hosts that an operator deleted: what this store holds of them goes, and does not come back.
//!
//! ```text
//!  operator ──> leader of `system` ── act in the log of `system` ──> applied by each member, whenever that comes:
//!    clients are dismissed, the node ends; the name is free for another group at once
//!      `system` is checkpointed with the act: whoever starts from here on knows it, whatever is left of the group
//!        the stamp names the group no more
//!          the group leaves the log, then the state store: HA-1002
//! ```
//!
//! Each step is durable before the next one begins. A process that ends in between leaves a remainder: no group of the next
//! one, told to nobody, taken away once that one's `system` runs. Nothing is kept in quarantine: it was deleted by name,
//! with what it held counted.

use std::collections::BTreeSet;

use quorate_protocol::fault::FaultCode;
use quorate_store::ids::{GroupId, Index};
use quorate_store::record::Record;
use quorate_store::stamp::Stamp;
use quorate_store::state::StateBatch;

use super::group::Group;
use super::meta::Space;
use super::{Node, Phase, Then};
use crate::event::Event;
use crate::io::Output;

/// What is left here of a deleted virtual host.
#[derive(Debug)]
pub(crate) struct Deleted {
    /// None: there was no node here.
    vhost: Option<String>,
    /// None: the state store has nothing of it any more.
    space: Option<Space>,
    /// Where in the log of `system` this store learned of it; a state that was received, or found, knows it anyway.
    known_at: Index,
    /// Its removal has begun.
    going: bool,
}

impl Node {
    /// An entry of `system`, or a state of it that was received, says that this virtual host is deleted.
    pub(super) fn vhost_deleted(&mut self, id: GroupId, name: Option<&str>, known_at: Index) {
        let was_given_up = self.refilling.contains(&id);
        self.forget_group(id);
        let Some(mut group) = self.groups.remove(id) else {
            // Its term and vote are in the log still.
            if was_given_up {
                let vhost = name.map(str::to_owned);
                self.deleted.insert(id, Deleted { vhost, space: None, known_at, going: false });
            }
            return;
        };
        let text = format!("virtual host {} was deleted by an operator", group.vhost);
        self.stop_serving(&mut group, FaultCode::VhostNotFound, &text, "");
        self.drop_transfers(&mut group);
        self.leave_group(*group, known_at);
    }

    /// No group of this broker any more.
    fn leave_group(&mut self, group: Group, known_at: Index) {
        let deleted = Deleted { vhost: Some(group.vhost), space: Some(group.space), known_at, going: false };
        self.deleted.insert(group.id, deleted);
    }

    /// Nothing is remembered of a group that is never to be filled, made or vouched for again.
    fn forget_group(&mut self, id: GroupId) {
        for groups in
            [&mut self.refilling, &mut self.filled, &mut self.cleared, &mut self.rejoining, &mut self.to_keep]
        {
            groups.remove(&id);
        }
        self.unkept.remove(&id);
        self.unmade.hard_states.remove(&id);
        self.unmade.vhosts.remove(&id);
        self.life.forget_group(id);
        self.stamp_changed = true;
        self.facts_changed = true;
        self.review_all = true;
    }

    /// Whether this group is deleted, by what this store knows of `system`.
    pub(super) fn is_deleted(&self, id: GroupId) -> bool {
        self.deleted.contains_key(&id) || self.system().is_some_and(|system| system.is_deleted(id))
    }

    /// Whether this group was made in a history that an operator left behind, by what is here of `system`, and is not kept
    /// in quarantine yet: a group that the stamp does not name was kept.
    fn is_to_be_kept(&self, id: GroupId) -> bool {
        let is_left = self.system().is_some_and(|system| system.is_left_behind(id));
        let named = |stamp: &Stamp| stamp.groups.iter().any(|group| group.group == id);
        is_left && self.groups.contains_key(id) && (self.transient || self.stamp.as_ref().is_some_and(named))
    }

    /// Whether such a group's time has come: `system` is of the history that goes on, and stays so.
    pub(super) fn is_left_behind(&self, id: GroupId) -> bool {
        let follows = self.groups.get(GroupId::SYSTEM).is_some_and(|group| !group.stale);
        follows && !self.rejoining.contains(&GroupId::SYSTEM) && self.is_to_be_kept(id)
    }

    /// What was made in a history that was left behind is in quarantine, and no group here any more.
    pub(super) fn leave_kept(&mut self, id: GroupId) {
        let applied = self.groups.get(GroupId::SYSTEM).map(|group| group.applied).unwrap_or_default();
        self.vhost_deleted(id, None, applied);
    }

    /// Groups that this store has something of, and that its `system` says are deleted.
    fn known_deleted(&self) -> Vec<GroupId> {
        let Some(system) = self.system() else { return Vec::new() };
        let live: BTreeSet<GroupId> = system.vhosts().map(|(_, group)| group).collect();
        let held = self.groups.keys().chain(&self.refilling);
        let candidates: BTreeSet<GroupId> = held.copied().filter(|id| !live.contains(id)).collect();
        candidates.into_iter().filter(|id| system.is_deleted(*id) && !self.is_to_be_kept(*id)).collect()
    }

    /// `system` came by snapshot: it may have been told of deletions meanwhile.
    pub(super) fn leave_deleted(&mut self) {
        for id in self.known_deleted() {
            self.vhost_deleted(id, None, Index(0));
        }
    }

    /// `system`'s log was applied to its end in one go: what it deletes there goes as if it had been applied entry by entry.
    pub(super) fn leave_replayed_deletions(&mut self) {
        let applied = self.groups.get(GroupId::SYSTEM).map(|group| group.applied).unwrap_or_default();
        for id in self.known_deleted() {
            self.vhost_deleted(id, None, applied);
        }
    }

    /// What an earlier process left of groups that its `system` knows to be deleted is none of this one's groups.
    pub(super) fn set_remainders_apart(&mut self) {
        let applied = self.groups.get(GroupId::SYSTEM).map(|group| group.applied).unwrap_or_default();
        for id in self.known_deleted() {
            self.refilling.remove(&id);
            self.unmade.vhosts.remove(&id);
            self.life.forget_group(id);
            if let Some(group) = self.groups.remove(id) {
                self.leave_group(*group, applied);
            }
        }
    }

    /// The state store has nothing of this group, which `system` says is deleted: only the log has.
    pub(super) fn found_in_log_only(&mut self, id: GroupId) {
        let known_at = self.groups.get(GroupId::SYSTEM).map(|group| group.applied).unwrap_or_default();
        self.deleted.insert(id, Deleted { vhost: None, space: None, known_at, going: false });
    }

    /// Takes the next step with what is left of deleted virtual hosts. Called once a round.
    pub(super) fn drive_deleted(&mut self) {
        if self.deleted.is_empty() || !self.may_remove() {
            return;
        }
        let Some(system) = self.groups.get(GroupId::SYSTEM) else { return };
        if system.replica.is_none() || system.stale || system.sink.is_some() {
            return;
        }
        let (checkpointed, is_busy) = (system.checkpointed, system.checkpoint_running);
        let waiting = || self.deleted.iter().filter(|(_, deleted)| !deleted.going);
        let due: Vec<GroupId> =
            waiting().filter(|(_, deleted)| deleted.known_at <= checkpointed).map(|(id, _)| *id).collect();
        if waiting().count() > due.len() && !is_busy {
            self.visit(GroupId::SYSTEM, Self::begin_checkpoint);
        }
        if due.is_empty() {
            return;
        }
        for id in &due {
            if let Some(deleted) = self.deleted.get_mut(id) {
                deleted.going = true;
            }
        }
        let stamp = self.current_stamp();
        self.write_stamp(stamp, Then::DeletedStamped(due));
    }

    fn may_remove(&self) -> bool {
        matches!(self.phase, Phase::Running) && !self.frozen && !self.is_panicked()
    }

    /// The stamp names these groups no more.
    pub(super) fn deleted_stamped(&mut self, ids: Vec<GroupId>) {
        if !self.may_remove() {
            return;
        }
        let ticket = self.log_ticket();
        self.records.extend(ids.iter().map(|id| Record::Remove(*id)));
        self.after(ticket, Then::DeletedUnlogged(ids));
    }

    /// The log has nothing of these groups any more.
    pub(super) fn deleted_unlogged(&mut self, ids: Vec<GroupId>) {
        if !self.may_remove() {
            return;
        }
        let mut writes = Vec::new();
        for id in &ids {
            writes.push(Space::unassign(*id));
            let space = self.deleted.get(id).and_then(|deleted| deleted.space);
            writes.extend(space.into_iter().flat_map(Space::wipe));
        }
        let ticket = self.ticket();
        self.after(ticket, Then::DeletedGone(ids));
        self.emit(Output::WriteState { ticket, batch: StateBatch { writes }, flush: true, open_view: None });
    }

    /// Nothing is left of these groups.
    pub(super) fn deleted_gone(&mut self, ids: Vec<GroupId>) {
        for id in ids {
            if let Some(vhost) = self.deleted.remove(&id).and_then(|deleted| deleted.vhost) {
                self.event(Event::NodeDeleted { vhost });
            }
        }
    }
}
