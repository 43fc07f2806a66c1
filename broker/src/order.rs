//! What may be done only once something else is written, or durable.

use std::collections::{BTreeMap, VecDeque};

use quorate_core::io::{After, Output, PeerKey, Point, Ticket};
use quorate_core::peer::PeerMessage;

/// Who makes a ticket durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Medium {
    /// In order: a ticket vouches for every smaller one.
    Log,
    /// Each for itself.
    Other,
}

/// Tickets that are not durable yet, and messages that wait for them.
#[derive(Debug, Default)]
pub struct Order {
    open: BTreeMap<Ticket, Medium>,
    /// The highest ticket asked for. One above it is not durable, though not open either.
    highest: u64,
    /// The operating system has the log up to this ticket.
    written: Ticket,
    held: VecDeque<(After, PeerKey, PeerMessage)>,
}

impl Order {
    /// The core asked for something; if it has a ticket, that is open from here on.
    pub fn note(&mut self, output: &Output) {
        let (ticket, medium) = match output {
            Output::Persist { ticket, .. } => (*ticket, Medium::Log),
            Output::WriteStamp { ticket, .. }
            | Output::WriteState { ticket, .. }
            | Output::LookAtStamp { ticket }
            | Output::Panic { ticket, .. }
            | Output::ClearPanic { ticket }
            | Output::Quarantine { ticket, .. } => (*ticket, Medium::Other),
            _ => return,
        };
        let previous = self.open.insert(ticket, medium);
        assert!(previous.is_none(), "ticket {} was used twice", ticket.0);
        self.highest = self.highest.max(ticket.0);
    }

    /// A ticket is durable; returns all that are now, in ascending order.
    pub fn persisted(&mut self, ticket: Ticket) -> Vec<Ticket> {
        let done: Vec<Ticket> = match self.open.get(&ticket) {
            None => Vec::new(),
            Some(Medium::Other) => vec![ticket],
            Some(Medium::Log) => self
                .open
                .range(..=ticket)
                .filter(|(_, medium)| **medium == Medium::Log)
                .map(|(open, _)| *open)
                .collect(),
        };
        for ticket in &done {
            self.open.remove(ticket);
        }
        done
    }

    /// The operating system has this ticket of the log, and every smaller one.
    pub fn written(&mut self, ticket: Ticket) {
        self.written = self.written.max(ticket);
    }

    fn is_met(&self, after: After) -> bool {
        let durable = after.ticket.0 <= self.highest && !self.open.contains_key(&after.ticket);
        durable || (after.point == Point::Written && after.ticket <= self.written)
    }

    /// Gives the message back if it may be sent now; else keeps it until [`Self::released`].
    pub fn hold(&mut self, after: Option<After>, to: PeerKey, message: PeerMessage) -> Option<PeerMessage> {
        match after {
            Some(after) if !self.is_met(after) => {
                self.held.push_back((after, to, message));
                None
            }
            _ => Some(message),
        }
    }

    /// Whatever waits is never sent, and no ticket that was asked for before is durable ever.
    pub fn drop_all(&mut self) {
        self.held.clear();
        self.open.clear();
    }

    /// The messages that need not wait any more, in the order in which the core sent them.
    pub fn released(&mut self) -> Vec<(PeerKey, PeerMessage)> {
        let mut released = Vec::new();
        for (after, to, message) in std::mem::take(&mut self.held) {
            if self.is_met(after) {
                released.push((to, message));
            } else {
                self.held.push_back((after, to, message));
            }
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use quorate_store::ids::{RunId, StoreId};
    use quorate_store::record::Batch;
    use quorate_store::state::StateBatch;
    use uuid::Uuid;

    use super::*;

    fn peer() -> PeerKey {
        PeerKey { store: StoreId(Uuid::nil()), run: RunId(Uuid::nil()) }
    }

    fn message(transfer: u64) -> PeerMessage {
        PeerMessage::SnapshotGone { transfer }
    }

    fn persist(ticket: u64) -> Output {
        Output::Persist { ticket: Ticket(ticket), batch: Batch::default(), point: Point::Synced }
    }

    fn synced(ticket: Ticket) -> After {
        After { ticket, point: Point::Synced }
    }

    fn write_state(ticket: u64) -> Output {
        Output::WriteState {
            ticket: Ticket(ticket),
            batch: StateBatch::default(),
            flush: false,
            open_view: None,
        }
    }

    #[test]
    fn what_waits_for_the_operating_system_does_not_wait_for_the_medium() {
        let mut order = Order::default();
        order.note(&persist(1));
        for point in [Point::Written, Point::Synced] {
            assert!(order.hold(Some(After { ticket: Ticket(1), point }), peer(), message(1)).is_none());
        }
        order.written(Ticket(1));
        assert_eq!(order.released().len(), 1);
        order.persisted(Ticket(1));
        assert_eq!(order.released().len(), 1);
    }

    #[test]
    fn a_log_ticket_vouches_for_smaller_log_tickets_only() {
        let mut order = Order::default();
        for output in [persist(1), write_state(2), persist(3), persist(5)] {
            order.note(&output);
        }
        assert_eq!(order.persisted(Ticket(3)), [Ticket(1), Ticket(3)]);
        assert_eq!(order.persisted(Ticket(3)), []);
        assert_eq!(order.persisted(Ticket(2)), [Ticket(2)]);
        assert_eq!(order.persisted(Ticket(5)), [Ticket(5)]);
    }

    #[test]
    fn messages_wait_for_their_ticket_and_keep_their_order() {
        let mut order = Order::default();
        order.note(&persist(1));
        order.note(&persist(2));
        assert_eq!(order.hold(None, peer(), message(0)), Some(message(0)));
        assert_eq!(order.hold(Some(synced(Ticket(2))), peer(), message(1)), None);
        assert_eq!(order.hold(Some(synced(Ticket(1))), peer(), message(2)), None);
        assert_eq!(order.hold(Some(synced(Ticket(1))), peer(), message(3)), None);
        order.persisted(Ticket(1));
        assert_eq!(order.released(), [(peer(), message(2)), (peer(), message(3))]);
        assert_eq!(order.hold(Some(synced(Ticket(1))), peer(), message(4)), Some(message(4)));
        order.persisted(Ticket(2));
        assert_eq!(order.released(), [(peer(), message(1))]);
    }

    #[test]
    fn nothing_that_was_dropped_is_sent_whatever_becomes_durable() {
        let mut order = Order::default();
        order.note(&persist(1));
        assert_eq!(order.hold(Some(synced(Ticket(1))), peer(), message(1)), None);
        order.drop_all();
        assert_eq!(order.persisted(Ticket(1)), []);
        assert_eq!(order.released(), []);
    }

    #[test]
    fn a_ticket_that_was_not_asked_for_yet_is_not_durable() {
        let mut order = Order::default();
        assert_eq!(order.hold(Some(synced(Ticket(7))), peer(), message(1)), None);
        assert_eq!(order.released(), []);
        order.note(&persist(7));
        assert_eq!(order.released(), []);
        order.persisted(Ticket(7));
        assert_eq!(order.released().len(), 1);
    }
}
