//! A forced epoch while it is in force: its lease, its end, and that it is not forgotten.
//!
//! A lease is taken in parts. Before a leader serves, it writes into the group's log that the next part is spent; then it
//! serves for as long as that part is by its own monotonic clock. What it took and did not use, because it ended or lost its
//! leadership, is spent all the same: no restart and no clock makes a lease longer. Once all is spent the leader leads on,
//! updates whoever returns, and serves nobody.

use quorate_store::ids::{Index, RaftId};

use super::Node;
use super::group::Group;
use crate::admin::Author;
use crate::control::Control;
use crate::controls::{Act, Change};
use crate::event::Level;

/// An epoch in force is told of again after this, in milliseconds.
const TELL_MILLIS: u64 = 60_000;
/// A proposal that was lost is made again after this, in milliseconds.
const AGAIN_MILLIS: u64 = 1000;

impl Node {
    /// What the leader of a group in a forced epoch has to do by itself. Called at each tick.
    pub(super) fn mind_force(&mut self, group: &mut Group) {
        if group.controls.in_force().is_none() || !group.leads_surely() {
            return;
        }
        let first = group.force_told_at == crate::io::Tick::default();
        if first || self.now >= group.force_told_at.plus(TELL_MILLIS) {
            group.force_told_at = self.now;
            // Where it began it has just been said.
            if !first && let Some(text) = self.told_in_force(group) {
                self.note(Level::Warn, text);
            }
        }
        let served = self.now < group.lease_until;
        if !served && group.serving.is_some() {
            self.groups.touch(group.id);
        }
        if self.now < group.force_asked_at.plus(AGAIN_MILLIS) {
            return;
        }
        let change = if self.is_restored(group) { Some(Change::Restored) } else { self.next_part(group) };
        if let Some(change) = change {
            group.force_asked_at = self.now;
            let at_ms = self.wall_ms();
            let author = Author { who: self.config.name.clone(), address: String::new() };
            let act = Act { at_ms, author, reason: String::new(), changes: vec![change] };
            group.flush_proposals();
            if let Some(replica) = &mut group.replica {
                replica.propose_control(Control::Act(act).encode());
            }
            self.groups.touch(group.id);
        }
    }

    /// The next part of the lease, if the last one is nearly over.
    fn next_part(&self, group: &Group) -> Option<Change> {
        let in_force = group.controls.in_force()?;
        let left = in_force.lease_left_ms?;
        let part = in_force.next_part_ms();
        let soon = self.now.plus(part / 4) >= group.lease_until;
        (part > 0 && soon).then_some(Change::Lease { left_ms: left - part, set: false })
    }

    /// A part of the lease is spent, as the log says: its leader serves for so long.
    pub(super) fn part_taken(&self, group: &mut Group, before: Option<u64>) {
        let left = group.controls.in_force().and_then(|in_force| in_force.lease_left_ms);
        if let (Some(before), Some(left)) = (before, left)
            && group.is_leader()
        {
            group.lease_until = group.lease_until.max(self.now).plus(before.saturating_sub(left));
            group.force_asked_at = crate::io::Tick::default();
        }
    }

    /// An operator said anew how long clients are served.
    pub(super) fn lease_set(group: &mut Group) {
        group.lease_until = crate::io::Tick::default();
        group.force_asked_at = crate::io::Tick::default();
    }

    /// The lease is over, or no part of it is taken yet.
    pub(super) fn is_unleased(&self, group: &Group) -> bool {
        let has_lease = group.controls.in_force().is_some_and(|in_force| in_force.lease_left_ms.is_some());
        has_lease && self.now >= group.lease_until
    }

    /// A majority of the former voters, without those that were removed for good, votes again and has synced all that is
    /// committed. That somebody is merely in contact says nothing.
    fn is_restored(&self, group: &Group) -> bool {
        let Some(in_force) = group.controls.in_force() else { return false };
        let Some(replica) = group.replica.as_ref().filter(|replica| !replica.membership_pending()) else {
            return false;
        };
        let members = &self.steps.roster.members;
        let is_member = |id: &&u64| members.iter().any(|(_, member)| member.0 == **id);
        let former: Vec<u64> = in_force.forced.former.iter().filter(is_member).copied().collect();
        let commit = replica.commit();
        let has_all = |id: &&u64| {
            group.configuration.voters.contains(*id)
                && (self.raft_id == Some(RaftId(**id))
                    || replica.matched(RaftId(**id)).is_some_and(|matched| matched >= commit))
        };
        let there = former.iter().filter(has_all).count();
        commit > Index(0) && !former.is_empty() && there > former.len() / 2
    }
}
