//! What follows once storage has done what it was asked for: a ticket is durable, entries are read, a scan is answered.

use std::collections::BTreeSet;

use quorate_store::ids::{GroupId, Incarnation, Index, RunId};
use quorate_store::record::Entry;
use quorate_store::state::Pair;

use super::Node;
use super::session::Peek;
use crate::io::{AdminId, PeerKey, Ticket};
use crate::machine::{Candidate, QueueId};
use crate::replica::Wanted;

/// What follows when a ticket is durable.
#[derive(Debug)]
pub(super) enum Then {
    /// The founding machine goes on.
    FoundingPersisted,
    /// The store is dirty on disk: the broker leaves its held state.
    Begun,
    /// A new group's first state is durable: its log may begin.
    GroupStateMade(GroupId),
    /// A new group's log has begun: its node may start.
    GroupLogMade(GroupId),
    /// A checkpoint up to here is durable.
    Checkpointed(GroupId, Index),
    /// A source's view is open.
    SourceReady(GroupId, u64),
    /// A received chunk is written.
    SinkWritten(GroupId, u64),
    /// A received space has become the group's.
    SinkAssigned(GroupId, u64),
    /// The last batch before an orderly stop.
    StopLogged,
    /// A peer's life is in the stamp.
    LifeNoted(PeerKey, Incarnation),
    /// The stamp says durably which life this is.
    LifeStamped((Incarnation, RunId)),
    /// The stamp says durably which groups are being filled again.
    RefillingStamped(BTreeSet<GroupId>),
    /// A later life of the store is in the stamp.
    LifeRenewed,
    /// The stamp has the epochs that were forced on these groups.
    ForceStamped(Vec<GroupId>),
    /// The entry by which a marked store's log goes on is durable.
    MarkLogged(GroupId),
    /// The stamp says that the group is being refilled.
    RejoinStamped(GroupId),
    /// What the group held is in quarantine.
    Preserved(GroupId),
    /// The group is gone from the state store.
    Discarded(GroupId),
    /// The stamp names these deleted groups no more.
    DeletedStamped(Vec<GroupId>),
    /// These deleted groups are gone from the log.
    DeletedUnlogged(Vec<GroupId>),
    /// These deleted groups are gone from the state store, too.
    DeletedGone(Vec<GroupId>),
    /// One of the last checkpoints before an orderly stop.
    StopFlushed,
    /// The last stamp before an orderly stop.
    StopStamped,
    /// The stamp on the medium is this process's.
    StampLookedAt,
    /// The panic file is there.
    PanicKept,
    /// The panic file is gone, as an operator asked, and what is told of that.
    PanicCleared(AdminId, String),
}

/// Whom a load is for.
#[derive(Debug)]
pub(super) enum LoadFor {
    Recovery,
    Follower(GroupId, Wanted),
    Deliver(GroupId),
    Source(GroupId, u64),
    Spill(GroupId, Vec<Candidate>),
    Peek(Peek),
}

/// Whom a scan is for.
#[derive(Debug)]
pub(super) enum ScanFor {
    Recovery,
    Deliver(GroupId, QueueId),
    Source(GroupId, u64),
    Sink(GroupId, u64),
    Peek(Peek),
}

impl Node {
    pub(super) fn persisted(&mut self, ticket: Ticket) {
        // Only the log's tickets vouch for smaller ones: the stamp and the state store have threads of their own.
        if self.log_tickets.contains(&ticket) {
            self.log_tickets = self.log_tickets.split_off(&Ticket(ticket.0 + 1));
            for id in std::mem::take(&mut self.logging) {
                let group = self.groups.get_mut(id);
                let Some(replica) = group.and_then(|group| group.replica.as_mut()) else { continue };
                replica.on_persisted(ticket);
                if replica.is_logging() {
                    self.logging.insert(id);
                }
            }
        }
        self.durability_said(ticket);
        for then in self.then.remove(&ticket).unwrap_or_default() {
            self.facts_changed |=
                !matches!(then, Then::Checkpointed(..) | Then::SinkWritten(..) | Then::StampLookedAt);
            match then {
                Then::FoundingPersisted => self.founding_persisted(),
                Then::Begun => self.begun(),
                Then::GroupStateMade(group) => self.group_state_made(group),
                Then::GroupLogMade(group) => self.group_log_made(group),
                Then::Checkpointed(group, index) => self.checkpointed(group, index),
                Then::SourceReady(group, transfer) => self.source_ready(group, transfer),
                Then::SinkWritten(group, transfer) => self.sink_written(group, transfer),
                Then::SinkAssigned(group, transfer) => self.sink_assigned(group, transfer),
                Then::LifeNoted(peer, incarnation) => self.life_is_noted(peer, incarnation),
                Then::LifeStamped(life) => self.stamped_life = Some(life),
                Then::RefillingStamped(groups) => self.stamped_refilling = groups,
                Then::LifeRenewed => self.tell_life_now(),
                Then::MarkLogged(group) => self.mark_logged(group),
                Then::ForceStamped(groups) => self.force_stamped(&groups),
                Then::RejoinStamped(group) => self.rejoin_stamped(group),
                Then::Preserved(group) => self.preserved(group),
                Then::Discarded(group) => self.discarded(group),
                Then::DeletedStamped(groups) => self.deleted_stamped(groups),
                Then::DeletedUnlogged(groups) => self.deleted_unlogged(groups),
                Then::DeletedGone(groups) => self.deleted_gone(groups),
                Then::StopLogged => self.stop_logged(),
                Then::StopFlushed => self.stop_flushed(),
                Then::StopStamped => self.stop_stamped(),
                Then::StampLookedAt => self.renew_safety(),
                Then::PanicKept => {}
                Then::PanicCleared(id, told) => self.panic_cleared(id, told),
            }
        }
    }

    /// Something to follow when this ticket is durable.
    pub(super) fn after(&mut self, ticket: Ticket, then: Then) {
        self.then.entry(ticket).or_default().push(then);
    }

    pub(super) fn loaded(&mut self, ticket: Ticket, entries: Vec<Entry>) {
        match self.loads.remove(&ticket) {
            None => {}
            Some(LoadFor::Recovery) => self.recovery_loaded(entries),
            Some(LoadFor::Follower(group, wanted)) => {
                if let Some(replica) = self.groups.get_mut(group).and_then(|group| group.replica.as_mut()) {
                    replica.fetched(wanted, entries);
                }
            }
            Some(LoadFor::Deliver(group)) => self.deliver_loaded(group, entries),
            Some(LoadFor::Source(group, transfer)) => self.source_loaded(group, transfer, entries),
            Some(LoadFor::Spill(group, candidates)) => self.spill_loaded(group, candidates, &entries),
            Some(LoadFor::Peek(peek)) => self.peek_loaded(peek, &entries),
        }
    }

    pub(super) fn scanned(&mut self, ticket: Ticket, pairs: Vec<Pair>, complete: bool) {
        match self.scans.remove(&ticket) {
            None => {}
            Some(ScanFor::Recovery) => self.recovery_scanned(pairs, complete),
            Some(ScanFor::Deliver(group, queue)) => self.deliver_scanned(group, queue, pairs),
            Some(ScanFor::Source(group, transfer)) => self.source_scanned(group, transfer, pairs, complete),
            Some(ScanFor::Sink(group, transfer)) => self.sink_scanned(group, transfer, pairs, complete),
            Some(ScanFor::Peek(peek)) => self.peek_scanned(peek, pairs),
        }
    }
}
