//! What may be done only once something else is durable: the core's contract, kept by the simulator on its own.

use std::collections::{BTreeMap, VecDeque};

use quorate_core::io::{After, Output, PeerKey, Point, Ticket};
use quorate_core::peer::PeerMessage;

/// Tickets asked for and not durable yet, and messages that wait for them.
#[derive(Debug, Default)]
pub struct Order {
    /// True: a ticket of the log, which vouches for every smaller one.
    open: BTreeMap<Ticket, bool>,
    highest: u64,
    /// The operating system has the log up to here.
    written: Ticket,
    held: VecDeque<(After, PeerKey, PeerMessage)>,
}

impl Order {
    /// The core asked for this; all outputs of a round are noted before any is performed.
    pub fn note(&mut self, output: &Output) {
        let (ticket, of_log) = match output {
            Output::Persist { ticket, .. } => (*ticket, true),
            Output::WriteStamp { ticket, .. }
            | Output::WriteState { ticket, .. }
            | Output::LookAtStamp { ticket }
            | Output::Panic { ticket, .. }
            | Output::ClearPanic { ticket }
            | Output::Quarantine { ticket, .. } => (*ticket, false),
            _ => return,
        };
        assert!(self.open.insert(ticket, of_log).is_none(), "ticket {} was used twice", ticket.0);
        self.highest = self.highest.max(ticket.0);
    }

    /// A ticket is durable: every ticket that is durable with it.
    pub fn persisted(&mut self, ticket: Ticket) -> Vec<Ticket> {
        let done: Vec<Ticket> = match self.open.get(&ticket) {
            None => Vec::new(),
            Some(false) => vec![ticket],
            Some(true) => {
                self.open.range(..=ticket).filter(|(_, of_log)| **of_log).map(|(open, _)| *open).collect()
            }
        };
        for ticket in &done {
            self.open.remove(ticket);
        }
        done
    }

    /// The operating system has the log up to this ticket.
    pub fn written(&mut self, ticket: Ticket) {
        self.written = self.written.max(ticket);
    }

    fn is_met(&self, After { ticket, point }: After) -> bool {
        let is_durable = ticket.0 <= self.highest && !self.open.contains_key(&ticket);
        is_durable || (point == Point::Written && ticket <= self.written)
    }

    /// Gives the message back if it may leave now, else keeps it.
    pub fn hold(&mut self, after: Option<After>, to: PeerKey, message: PeerMessage) -> Option<PeerMessage> {
        match after {
            Some(after) if !self.is_met(after) => {
                self.held.push_back((after, to, message));
                None
            }
            _ => Some(message),
        }
    }

    /// Whatever waits is never sent, and nothing that was asked for becomes durable.
    pub fn drop_all(&mut self) {
        self.held.clear();
        self.open.clear();
    }

    /// What need not wait any more, in the order of the core.
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
