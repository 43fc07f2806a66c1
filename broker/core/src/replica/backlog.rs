//! What of a node's log is on its way to the medium: how far it is written, how far synced, and what may be said of it.
//!
//! Records leave in one batch a round. What is said of them, to peers and to raft-rs, waits for the point that the policy of
//! the node's role asks for; terms and votes wait for the medium, whatever the policy, and so does all that comes after them.

use std::collections::VecDeque;

use quorate_store::ids::Index;
use quorate_store::stamp::Durability;

use crate::io::{After, Point, Tick, Ticket};

/// A batch that is not synced.
#[derive(Clone, Copy, Debug)]
struct OnTheWay {
    ticket: Ticket,
    /// Where the log ends with it.
    last: Index,
    fill: Fill,
}

/// What waits for a sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fill {
    /// Entries.
    pub(crate) entries: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// When the oldest was given to the log.
    pub(crate) since: Tick,
}

/// Batches and readies of one node that are not done.
#[derive(Debug)]
pub(crate) struct Backlog {
    batches: VecDeque<OnTheWay>,
    /// Readies of raft-rs whose records have not come as far as they must: with their batches, and whether they promise.
    readies: VecDeque<(Ticket, u64, bool)>,
    /// The operating system has everything up to this batch.
    written: Ticket,
    /// The medium has everything up to here.
    synced: Index,
    /// The last batch that promises, until it is synced.
    promise: Option<Ticket>,
    /// The last batch that may be acknowledged before it is synced, until it is.
    weak: Option<Ticket>,
    /// All that waits for a sync.
    fill: Fill,
    /// What an acknowledgement takes now.
    level: Durability,
}

impl Backlog {
    /// Of a log that was found, and so is synced, up to here.
    pub(crate) fn new(last: Index) -> Self {
        Self {
            batches: VecDeque::new(),
            readies: VecDeque::new(),
            written: Ticket(0),
            synced: last,
            promise: None,
            weak: None,
            fill: Fill::default(),
            level: Durability::Sync,
        }
    }

    /// What an acknowledgement takes from now on.
    pub(crate) fn set_level(&mut self, level: Durability) {
        self.level = level;
        self.note_weak();
    }

    fn note_weak(&mut self) {
        if self.level != Durability::Sync
            && let Some(last) = self.batches.back()
        {
            self.weak = Some(last.ticket);
        }
    }

    pub(crate) fn level(&self) -> Durability {
        self.level
    }

    /// The log is cut before this index, or begins anew before it.
    pub(crate) fn cut(&mut self, head: Index) {
        let kept = Index(head.0.saturating_sub(1));
        self.synced = self.synced.min(kept);
        for batch in &mut self.batches {
            batch.last = batch.last.min(kept);
        }
    }

    /// Records of this batch, after which the log ends here.
    pub(crate) fn note(&mut self, ticket: Ticket, last: Index, fill: Fill, promises: bool) {
        if promises {
            self.promise = Some(ticket);
        }
        self.fill.entries = self.fill.entries.saturating_add(fill.entries);
        self.fill.bytes = self.fill.bytes.saturating_add(fill.bytes);
        match self.batches.back_mut().filter(|batch| batch.ticket == ticket) {
            Some(batch) => {
                batch.last = last;
                batch.fill.entries += fill.entries;
                batch.fill.bytes += fill.bytes;
            }
            None => self.batches.push_back(OnTheWay { ticket, last, fill }),
        }
        self.note_weak();
    }

    /// raft-rs is to be told of this ready once its records, or those before it, have come far enough.
    pub(crate) fn await_ready(&mut self, number: u64, promises: bool) {
        let ticket = self.batches.back().map_or(Ticket(0), |batch| batch.ticket);
        self.readies.push_back((ticket, number, promises));
    }

    /// The operating system has everything up to this batch.
    pub(crate) fn on_written(&mut self, ticket: Ticket) {
        self.written = self.written.max(ticket);
    }

    /// The medium has everything up to this batch.
    pub(crate) fn on_synced(&mut self, ticket: Ticket) {
        self.on_written(ticket);
        while let Some(batch) = self.batches.front().filter(|batch| batch.ticket <= ticket) {
            self.synced = batch.last;
            self.fill.entries = self.fill.entries.saturating_sub(batch.fill.entries);
            self.fill.bytes = self.fill.bytes.saturating_sub(batch.fill.bytes);
            self.batches.pop_front();
        }
        self.promise = self.promise.filter(|promise| *promise > ticket);
        self.weak = self.weak.filter(|weak| *weak > ticket);
    }

    /// The last ready of which raft-rs may be told now.
    pub(crate) fn take_ready(&mut self) -> Option<u64> {
        let mut number = None;
        while let Some((ticket, ready, promises)) = self.readies.front().copied() {
            let synced = self.batches.front().is_none_or(|batch| ticket < batch.ticket);
            let met = synced
                || (!promises
                    && match self.level {
                        Durability::Sync => false,
                        Durability::WriteNoSync => self.written >= ticket,
                        Durability::NoSync => true,
                    });
            if !met {
                break;
            }
            number = Some(ready);
            self.readies.pop_front();
        }
        number
    }

    /// What an acknowledgement of everything that the log has waits for.
    pub(crate) fn acknowledges_after(&self) -> Option<After> {
        let last = self.batches.back()?.ticket;
        let after = |ticket, point| Some(After { ticket, point });
        match (self.level, self.promise) {
            // That a batch is written does not say that one before it is synced, nor the other way round.
            (Durability::WriteNoSync, Some(_)) if self.written < last => self.everything_after(),
            (Durability::WriteNoSync, None) if self.written < last => after(last, Point::Written),
            (Durability::WriteNoSync | Durability::NoSync, Some(promise)) => after(promise, Point::Synced),
            (Durability::WriteNoSync | Durability::NoSync, None) => None,
            (Durability::Sync, _) => self.everything_after(),
        }
    }

    /// What everything else waits for that is said of the log.
    pub(crate) fn everything_after(&self) -> Option<After> {
        self.batches.back().map(|batch| After { ticket: batch.ticket, point: Point::Synced })
    }

    /// The medium has everything that may have been acknowledged by a weaker policy.
    pub(crate) fn holds_acknowledged(&self) -> bool {
        self.weak.is_none()
    }

    /// Nothing is on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.readies.is_empty()
    }

    /// The medium has the log up to here.
    pub(crate) fn synced(&self) -> Index {
        self.synced
    }

    /// What waits for a sync; none if nothing does.
    pub(crate) fn fill(&self) -> Option<Fill> {
        self.batches.front().map(|batch| Fill { since: batch.fill.since, ..self.fill })
    }

    /// The same beyond this batch.
    pub(crate) fn fill_beyond(&self, ticket: Ticket) -> Option<Fill> {
        if self.batches.front().is_some_and(|batch| batch.ticket > ticket) {
            return self.fill();
        }
        let beyond = self.batches.iter().rev().take_while(|batch| batch.ticket > ticket);
        beyond.map(|batch| batch.fill).reduce(|sum, fill| Fill {
            entries: sum.entries.saturating_add(fill.entries),
            bytes: sum.bytes.saturating_add(fill.bytes),
            since: sum.since.min(fill.since),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(since: u64) -> Fill {
        Fill { entries: 1, bytes: 10, since: Tick(since) }
    }

    /// Batch 1 promises, batch 2 does not; a ready waits for each.
    fn two(level: Durability) -> Backlog {
        let mut backlog = Backlog::new(Index(5));
        backlog.set_level(level);
        backlog.note(Ticket(1), Index(6), fill(10), true);
        backlog.await_ready(1, true);
        backlog.note(Ticket(2), Index(7), fill(20), false);
        backlog.await_ready(2, false);
        backlog
    }

    #[test]
    fn what_is_said_waits_for_the_point_of_the_policy_and_promises_for_the_medium() {
        let after = |ticket, point| Some(After { ticket: Ticket(ticket), point });
        let cases = [
            (Durability::Sync, after(2, Point::Synced), after(2, Point::Synced), None),
            (Durability::WriteNoSync, after(2, Point::Written), None, Some(2)),
            (Durability::NoSync, None, None, Some(2)),
        ];
        for (level, once_promised, once_written, ready) in cases {
            let mut backlog = two(level);
            assert_eq!(backlog.take_ready(), None, "{level:?}: a promise is not synced");
            let expected = if level == Durability::NoSync { 1 } else { 2 };
            assert_eq!(backlog.acknowledges_after(), after(expected, Point::Synced), "{level:?}");
            backlog.on_synced(Ticket(1));
            assert_eq!(backlog.synced(), Index(6), "{level:?}");
            assert_eq!(backlog.acknowledges_after(), once_promised, "{level:?}");
            let at_once = if level == Durability::NoSync { 2 } else { 1 };
            assert_eq!(backlog.take_ready(), Some(at_once), "{level:?}");
            backlog.on_written(Ticket(2));
            assert_eq!(backlog.synced(), Index(6), "{level:?}");
            assert_eq!(backlog.acknowledges_after(), once_written, "{level:?}");
            assert_eq!(backlog.everything_after(), after(2, Point::Synced), "{level:?}");
            assert_eq!(backlog.take_ready().or((at_once == 2).then_some(2)), ready, "{level:?}");
            backlog.on_synced(Ticket(2));
            assert_eq!(backlog.acknowledges_after(), None, "{level:?}");
            assert!(backlog.holds_acknowledged() && backlog.take_ready().is_none_or(|number| number == 2));
        }
    }

    #[test]
    fn a_stronger_level_holds_for_what_waits_already() {
        let mut backlog = two(Durability::WriteNoSync);
        backlog.on_synced(Ticket(1));
        assert_eq!(backlog.take_ready(), Some(1));
        backlog.set_level(Durability::Sync);
        backlog.on_written(Ticket(2));
        assert_eq!(backlog.take_ready(), None);
        assert_eq!(backlog.fill_beyond(Ticket(0)), Some(fill(20)));
        assert_eq!(backlog.fill_beyond(Ticket(2)), None);
    }

    /// Whoever dies between the two has written what it promised, and not what it acknowledged.
    #[test]
    fn what_was_written_after_a_promise_is_acknowledged_once_both_are_there() {
        let mut backlog = two(Durability::WriteNoSync);
        backlog.on_written(Ticket(1));
        let both = After { ticket: Ticket(2), point: Point::Synced };
        assert_eq!(backlog.acknowledges_after(), Some(both));
        backlog.on_written(Ticket(2));
        assert_eq!(backlog.acknowledges_after(), Some(After { ticket: Ticket(1), point: Point::Synced }));
        backlog.on_synced(Ticket(1));
        assert_eq!(backlog.acknowledges_after(), None);
    }

    /// Under load something is always on its way: what counts is what may have been acknowledged before.
    #[test]
    fn a_store_holds_what_it_acknowledged_once_the_last_weak_batch_is_synced() {
        let mut backlog = two(Durability::NoSync);
        assert!(!backlog.holds_acknowledged());
        backlog.set_level(Durability::Sync);
        backlog.note(Ticket(3), Index(8), fill(30), false);
        backlog.on_synced(Ticket(1));
        assert!(!backlog.holds_acknowledged());
        backlog.on_synced(Ticket(2));
        assert!(backlog.holds_acknowledged(), "the third batch waits for its own sync");
        backlog.set_level(Durability::WriteNoSync);
        assert!(!backlog.holds_acknowledged(), "what waits may now be acknowledged too");
    }

    #[test]
    fn what_is_cut_is_not_synced() {
        let mut backlog = two(Durability::NoSync);
        backlog.cut(Index(6));
        backlog.note(Ticket(3), Index(6), fill(30), false);
        backlog.on_synced(Ticket(2));
        assert_eq!(backlog.synced(), Index(5));
        backlog.on_synced(Ticket(3));
        assert_eq!(backlog.synced(), Index(6));
        backlog.cut(Index(4));
        assert_eq!(backlog.synced(), Index(3));
    }
}
