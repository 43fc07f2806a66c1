//! What a node of a group knows of itself, its log and the others: nothing here changes anything.

use quorate_store::ids::{Epoch, Index, RaftId, Term};
use quorate_store::record::{Entry, HardState};
use raft::StateRole;

use super::backlog::Fill;
use super::wire::{entry_from_raft, is_control};
use super::{Replica, Role};
use crate::io::{FoundGroup, Ticket};

impl Replica {
    /// The log that it ran on, as a start would find it, with the entries above `applied`. Everything handed to it is durable.
    pub(crate) fn into_log(self, epoch: Epoch, applied: Index) -> (FoundGroup, Vec<Entry>) {
        let hard_state = self.hard_state();
        let log = self.raw.store();
        let (first, last, terms) = log.extent();
        let found = FoundGroup { group: self.group, hard_state, first, last, terms, epoch };
        (found, log.above(applied))
    }

    /// The runs of terms in its log, as the log on disk tells them: the first index of each.
    pub(crate) fn terms(&self) -> Vec<(Index, Term)> {
        self.raw.store().extent().2
    }

    /// What it has promised.
    pub(crate) fn hard_state(&self) -> HardState {
        let state = self.raw.raft.hard_state();
        HardState { term: Term(state.term), vote: state.vote, commit: Index(state.commit) }
    }

    pub(crate) fn id(&self) -> RaftId {
        self.id
    }

    pub(crate) fn term(&self) -> Term {
        Term(self.raw.raft.term)
    }

    pub(crate) fn commit(&self) -> Index {
        Index(self.raw.raft.raft_log.committed)
    }

    pub(crate) fn last(&self) -> Index {
        Index(self.raw.raft.raft_log.last_index())
    }

    /// The medium has its log up to here.
    pub(crate) fn synced(&self) -> Index {
        self.backlog.synced()
    }

    /// The medium has everything that may have been acknowledged by a weaker policy.
    pub(crate) fn holds_acknowledged(&self) -> bool {
        self.backlog.holds_acknowledged()
    }

    /// Entries that wait for a sync.
    pub(crate) fn unsynced_entries(&self) -> u64 {
        self.fill().map_or(0, |fill| fill.entries)
    }

    /// What waits for a sync; none if nothing does.
    pub(crate) fn fill(&self) -> Option<Fill> {
        self.backlog.fill()
    }

    /// The same beyond this batch.
    pub(crate) fn fill_beyond(&self, ticket: Ticket) -> Option<Fill> {
        self.backlog.fill_beyond(ticket)
    }

    /// Entries about the group itself that came since the last drive.
    pub(crate) fn new_controls(&self) -> Vec<Entry> {
        let new = self.raw.raft.raft_log.unstable_entries().iter();
        new.filter(|entry| is_control(entry)).cloned().map(entry_from_raft).collect()
    }

    pub(crate) fn last_term(&self) -> Term {
        self.raw.store().last_term()
    }

    pub(crate) fn role(&self) -> Role {
        if self.raw.raft.state == StateRole::Leader { Role::Leader } else { Role::Replica }
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.role() == Role::Leader
    }

    /// Whom this node takes for the leader.
    pub(crate) fn leader(&self) -> Option<RaftId> {
        Some(self.raw.raft.leader_id).filter(|id| *id != 0).map(RaftId)
    }

    /// A leader that has committed an entry of its own term knows everything that was ever committed.
    pub(crate) fn leads_surely(&self) -> bool {
        self.is_leader() && self.raw.raft.commit_to_current_term()
    }

    /// Leader only: the highest index known to be durable on this node.
    pub(crate) fn matched(&self, id: RaftId) -> Option<Index> {
        if !self.is_leader() {
            return None;
        }
        self.raw.raft.prs().get(id.0).map(|progress| Index(progress.matched))
    }

    /// The term of the entry at this index, if it is known here.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        self.raw.raft.raft_log.term(index.0).ok().filter(|term| *term > 0).map(Term)
    }

    /// Its log was compacted, or began anew, beyond this index.
    pub(crate) fn begins_after(&self, index: Index) -> bool {
        index.next().0 < self.raw.raft.raft_log.first_index()
    }

    /// A change of membership is on its way.
    pub(crate) fn membership_pending(&self) -> bool {
        self.raw.raft.has_pending_conf()
    }

    /// A snapshot was taken and is not durable yet. Until then raft-rs does not count it as applied, and would look for
    /// entries below it when it asks for votes.
    pub(super) fn awaits_snapshot(&self) -> bool {
        self.raw.raft.raft_log.applied + 1 < self.raw.raft.raft_log.first_index()
    }

    /// Whether its log has this very entry, committed or not: then it has everything before it as well.
    pub(crate) fn has(&self, index: Index, term: Term) -> bool {
        self.raw.store().has(index, term)
    }
}
