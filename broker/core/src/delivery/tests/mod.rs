//! Rules one by one, then everything against a naive model.

mod model;
mod rules;

use crate::io::SessionId;
use crate::machine::tests::{Replica, batch, declare, queue_name, range};
use crate::machine::{Command, QueueId};

use super::*;

pub(super) fn consumer(session: u64, consumer: u32) -> ConsumerKey {
    ConsumerKey { session: SessionId(session), channel: 1, consumer }
}

pub(super) fn credit(credit: u32) -> ConsumerOptions {
    ConsumerOptions { credit, ..ConsumerOptions::default() }
}

/// A leader: its machine and its delivery.
pub(super) struct Leader {
    pub(super) replica: Replica,
    pub(super) delivery: Delivery,
    published: u64,
}

impl Leader {
    /// With queues `q0`, `q1`, … numbered from 1.
    pub(super) fn new(queues: u32) -> Self {
        let mut replica = Replica::new();
        for queue in 0..queues {
            replica.one(declare(&format!("q{queue}"), 0));
        }
        let delivery = Delivery::new(&replica.machine);
        Self { replica, delivery, published: 0 }
    }

    pub(super) fn publish(&mut self, queue: QueueId, count: u64) {
        let name = format!("q{}", queue.0 - 1);
        self.apply(batch(1, self.published + 1, self.published + 1, ("", &name), count));
        self.published += count;
    }

    /// Applies a command and tells the delivery; consumers that were closed by it.
    pub(super) fn apply(&mut self, command: Command) -> Vec<ConsumerKey> {
        self.replica.one(command.clone());
        let touched = self.replica.machine.take_touched();
        let closed = self.delivery.touched(&self.replica.machine, &touched);
        if let Command::Ack { queue, ranges } | Command::Drop { queue, ranges } = command {
            self.delivery.confirm_settled(queue, &ranges);
        }
        closed
    }

    /// Applies every bound that is asked for; how many there were.
    pub(super) fn expose(&mut self) -> usize {
        let requests = self.delivery.take_expose_requests(&self.replica.machine);
        let count = requests.len();
        for (queue, to) in requests {
            self.apply(Command::Expose { queue, to });
        }
        count
    }

    pub(super) fn attach(&mut self, key: ConsumerKey, queue: QueueId, options: ConsumerOptions) {
        self.delivery.attach(&self.replica.machine, key, queue, options).unwrap();
        self.expose();
    }

    /// Consumer's number, sequence, redelivered.
    pub(super) fn assign(&mut self, max: usize) -> Vec<(u32, u64, bool)> {
        let given = self.delivery.assign(&self.replica.machine, max, usize::MAX);
        given.iter().map(|it| (it.consumer.consumer, it.seq, it.redelivered)).collect()
    }

    pub(super) fn counts(&self, queue: QueueId) -> (u64, u64, u32) {
        let counts = self.delivery.counts(&self.replica.machine, queue);
        (counts.ready, counts.unacknowledged, counts.consumers)
    }

    /// Another leadership over the same state.
    pub(super) fn fail_over(&mut self) {
        self.delivery = Delivery::new(&self.replica.machine);
    }
}
