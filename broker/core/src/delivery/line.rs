//! One queue on its leader: what was given, what came back, whose turn it is.

use std::collections::BTreeSet;

use crate::machine::{Queue, SlotView};

use super::ConsumerKey;
use super::limits::{EXPOSE_AHEAD, MAX_RUN};

/// The next message to give.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub(super) seq: u64,
    pub(super) slot: SlotView,
    pub(super) redelivered: bool,
}

#[derive(Debug, Default)]
pub(super) struct Line {
    /// No message from here on was given in this leadership.
    cursor: u64,
    /// Given and come back: all below the cursor.
    pub(super) returned: BTreeSet<u64>,
    /// Their Ack or Drop is proposed: all below the cursor.
    pub(super) settling: BTreeSet<u64>,
    /// Messages that consumers hold.
    pub(super) held: u64,
    /// What an earlier leader may have delivered.
    redelivered_below: u64,
    /// As it was when held and returned messages were last compared with the queue.
    pub(super) purges: u64,
    /// The highest bound asked for.
    asked_to: u64,
    consumers: Vec<ConsumerKey>,
    pub(super) exclusive: bool,
    /// Index in `consumers`.
    turn: usize,
    /// Messages that the consumer whose turn it is has got in a row.
    run: u64,
}

impl Line {
    pub(super) fn new(queue: &Queue, redelivered_below: u64) -> Self {
        Self { redelivered_below, purges: queue.purges(), ..Self::default() }
    }

    pub(super) fn consumers(&self) -> &[ConsumerKey] {
        &self.consumers
    }

    pub(super) fn join(&mut self, consumer: ConsumerKey) {
        self.consumers.push(consumer);
    }

    pub(super) fn leave(&mut self, consumer: ConsumerKey) {
        let Some(at) = self.consumers.iter().position(|&other| other == consumer) else { return };
        self.consumers.remove(at);
        if at < self.turn {
            self.turn -= 1;
        } else if at == self.turn {
            self.run = 0;
        }
        if self.turn >= self.consumers.len() {
            self.turn = 0;
        }
        if self.consumers.is_empty() {
            self.exclusive = false;
        }
    }

    /// Messages that wait for a consumer, whether they may be delivered already or not.
    pub(super) fn ready(&self, queue: &Queue) -> u64 {
        queue.live().saturating_sub(self.unacknowledged())
    }

    pub(super) fn unacknowledged(&self) -> u64 {
        self.held.saturating_add(self.settling.len() as u64)
    }

    /// The oldest message that may be given now.
    pub(super) fn next_ready(&mut self, queue: &Queue) -> Option<Ready> {
        while let Some(&seq) = self.returned.first() {
            if let Some(slot) = queue.message_at(seq) {
                return Some(Ready { seq, slot, redelivered: true });
            }
            self.returned.pop_first();
        }
        let (seq, slot) = queue.live_from(self.cursor).next()?;
        let redelivered = seq < self.redelivered_below || slot.returns > 0;
        (seq < queue.exposed_to()).then_some(Ready { seq, slot, redelivered })
    }

    /// The message was given to a consumer.
    pub(super) fn give(&mut self, seq: u64) {
        if !self.returned.remove(&seq) {
            assert!(seq >= self.cursor, "message {seq} below the cursor {} was not ready", self.cursor);
            self.cursor = seq + 1;
        }
        self.held += 1;
    }

    /// The consumer that gets the next message: each in turn gets a run, as long as the messages at hand allow all of
    /// them one.
    pub(super) fn next_consumer(
        &mut self,
        ready: u64,
        has_credit: impl Fn(ConsumerKey) -> bool,
    ) -> Option<ConsumerKey> {
        let count = self.consumers.len();
        let longest = (ready / (count as u64).max(1)).clamp(1, MAX_RUN);
        if self.run >= longest {
            self.pass_turn();
        }
        for _ in 0..count {
            let consumer = *self.consumers.get(self.turn).expect("the turn is kept within the consumers");
            if has_credit(consumer) {
                self.run += 1;
                return Some(consumer);
            }
            self.pass_turn();
        }
        None
    }

    fn pass_turn(&mut self) {
        self.run = 0;
        self.turn += 1;
        if self.turn >= self.consumers.len() {
            self.turn = 0;
        }
    }

    /// The bound to ask for, if less than half of what lies ahead remains and nothing was asked for already.
    pub(super) fn expose_request(&mut self, queue: &Queue) -> Option<u64> {
        if self.consumers.is_empty() {
            return None;
        }
        self.cursor =
            queue.live_from(self.cursor).next().map_or(queue.next_seq(), |(seq, _)| seq).max(self.cursor);
        let enough = queue.exposed_to().saturating_sub(self.cursor) >= EXPOSE_AHEAD / 2;
        if enough || self.asked_to > queue.exposed_to() {
            return None;
        }
        self.asked_to = self.cursor.saturating_add(EXPOSE_AHEAD);
        Some(self.asked_to)
    }

    pub(super) fn forget_request(&mut self) {
        self.asked_to = 0;
    }

    /// Whether a message that is not held may have been delivered before.
    pub(super) fn may_be_redelivered(&self, seq: u64) -> bool {
        seq < self.redelivered_below || seq < self.cursor
    }
}
