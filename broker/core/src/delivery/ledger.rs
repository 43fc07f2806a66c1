//! The leader's book of all queues and consumers of a virtual host.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use quorate_protocol::frame::NumberRange;

use crate::io::SessionId;
use crate::machine::{Queue, QueueId, VhostMachine};

use super::limits::MAX_CONSUMERS;
use super::line::Line;
use super::{Assignment, ConsumerKey, ConsumerOptions, Counts, DeliveryError, Settlement};

#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) queue: QueueId,
    credit: u32,
    no_ack: bool,
    /// What was assigned up to here was not to this consumer.
    pub(super) since: u64,
    /// Sequence to the serial of its assignment.
    pub(super) held: BTreeMap<u64, u64>,
}

/// Who holds what, in one virtual host, during one leadership.
#[derive(Debug)]
pub struct Delivery {
    pub(super) lines: BTreeMap<QueueId, Line>,
    pub(super) consumers: BTreeMap<ConsumerKey, Consumer>,
    /// Sessions that are given nothing for now.
    paused: BTreeSet<SessionId>,
    /// Queues that may have something to give.
    pub(super) active: BTreeSet<QueueId>,
    /// Where the next call of `assign` begins.
    first_queue: QueueId,
    /// Queues whose bound may be too near.
    near_bound: BTreeSet<QueueId>,
    /// Bounds at the start of the leadership.
    exposed_before: BTreeMap<QueueId, u64>,
    serial: u64,
}

impl Delivery {
    /// Begins a leadership: after the first entry of the leader's own term is applied, so that no bound is overlooked
    /// that an earlier leader delivered up to.
    pub fn new(machine: &VhostMachine) -> Self {
        let exposed = machine.queues().map(|queue| (queue.id(), queue.exposed_to()));
        Self {
            lines: BTreeMap::new(),
            consumers: BTreeMap::new(),
            paused: BTreeSet::new(),
            active: BTreeSet::new(),
            first_queue: QueueId::default(),
            near_bound: BTreeSet::new(),
            exposed_before: exposed.filter(|&(_, to)| to > 0).collect(),
            serial: 0,
        }
    }

    /// Adds a consumer to a queue.
    pub fn attach(
        &mut self,
        machine: &VhostMachine,
        consumer: ConsumerKey,
        queue: QueueId,
        options: ConsumerOptions,
    ) -> Result<(), DeliveryError> {
        if self.consumers.contains_key(&consumer) {
            return Err(DeliveryError::Exists(consumer));
        }
        let content = machine.queue(queue).ok_or(DeliveryError::NoQueue(queue))?;
        let before = self.exposed_before.get(&queue).copied().unwrap_or(0);
        let line = self.lines.entry(queue).or_insert_with(|| Line::new(content, before));
        let others = line.consumers().len();
        if line.exclusive || options.exclusive && others > 0 {
            return Err(DeliveryError::Exclusive(queue));
        }
        if others >= MAX_CONSUMERS {
            return Err(DeliveryError::TooMany(queue));
        }
        line.exclusive = options.exclusive;
        line.join(consumer);
        let ConsumerOptions { credit, no_ack, .. } = options;
        self.consumers
            .insert(consumer, Consumer { queue, credit, no_ack, since: self.serial, held: BTreeMap::new() });
        self.active.insert(queue);
        self.near_bound.insert(queue);
        Ok(())
    }

    /// Removes a consumer; what it held is ready again at its old place. Propose its count of returns.
    pub fn detach(&mut self, consumer: ConsumerKey) -> Option<Settlement> {
        let Consumer { queue, held, .. } = self.consumers.remove(&consumer)?;
        let ranges = NumberRange::collect(held.keys().copied());
        let line = self.line_mut(queue);
        line.leave(consumer);
        line.held -= held.len() as u64;
        line.returned.extend(held.into_keys());
        self.active.insert(queue);
        Some(Settlement { queue, ranges })
    }

    /// Removes all consumers of a session, as [`Self::detach`] does.
    pub fn detach_session(&mut self, session: SessionId) -> Vec<(ConsumerKey, Settlement)> {
        self.paused.remove(&session);
        let consumers: Vec<_> =
            self.consumers.range(all_of(session)).map(|(&consumer, _)| consumer).collect();
        consumers.into_iter().filter_map(|consumer| Some((consumer, self.detach(consumer)?))).collect()
    }

    /// Gives a session's consumers nothing until [`Self::resume`]: it does not read what it is sent.
    pub fn pause(&mut self, session: SessionId) {
        self.paused.insert(session);
    }

    /// Goes on giving to a session's consumers.
    pub fn resume(&mut self, session: SessionId) {
        if self.paused.remove(&session) {
            self.active.extend(self.consumers.range(all_of(session)).map(|(_, known)| known.queue));
        }
    }

    /// Allows a consumer `add` more messages.
    pub fn add_credit(&mut self, consumer: ConsumerKey, add: u32) -> Result<(), DeliveryError> {
        let known = self.consumers.get_mut(&consumer).ok_or(DeliveryError::NoConsumer(consumer))?;
        known.credit = known.credit.checked_add(add).ok_or(DeliveryError::CreditTooHigh(consumer))?;
        self.active.insert(known.queue);
        Ok(())
    }

    /// The consumer is done with these messages; those it does not hold are ignored. Propose Ack or Drop of the answer,
    /// then call [`Self::confirm_settled`] when that is applied.
    pub fn settle(
        &mut self,
        consumer: ConsumerKey,
        ranges: &[NumberRange],
    ) -> Result<Settlement, DeliveryError> {
        let (queue, taken) = self.take_held(consumer, ranges)?;
        let answer = NumberRange::collect(taken.iter().copied());
        self.line_mut(queue).settling.extend(taken);
        Ok(Settlement { queue, ranges: answer })
    }

    /// The consumer gives these messages back: they are ready again at their old place. Propose their count of
    /// returns.
    pub fn requeue(
        &mut self,
        consumer: ConsumerKey,
        ranges: &[NumberRange],
    ) -> Result<Settlement, DeliveryError> {
        let (queue, taken) = self.take_held(consumer, ranges)?;
        let answer = NumberRange::collect(taken.iter().copied());
        self.line_mut(queue).returned.extend(taken);
        self.active.insert(queue);
        Ok(Settlement { queue, ranges: answer })
    }

    fn take_held(
        &mut self,
        consumer: ConsumerKey,
        ranges: &[NumberRange],
    ) -> Result<(QueueId, BTreeSet<u64>), DeliveryError> {
        let known = self.consumers.get_mut(&consumer).ok_or(DeliveryError::NoConsumer(consumer))?;
        let mut taken = BTreeSet::new();
        for range in ranges {
            let inside = known.held.range(range.first()..=range.last());
            taken.extend(inside.map(|(&seq, _)| seq));
        }
        for seq in &taken {
            known.held.remove(seq);
        }
        let queue = known.queue;
        self.line_mut(queue).held -= taken.len() as u64;
        Ok((queue, taken))
    }

    /// An Ack or Drop of these messages was applied.
    pub fn confirm_settled(&mut self, queue: QueueId, ranges: &[NumberRange]) {
        let Some(line) = self.lines.get_mut(&queue) else { return };
        for range in ranges {
            let inside: Vec<u64> = line.settling.range(range.first()..=range.last()).copied().collect();
            for seq in inside {
                line.settling.remove(&seq);
            }
        }
    }

    /// These queues changed: see [`VhostMachine::take_touched`]. Consumers of queues that are gone are detached; they
    /// are the answer.
    pub fn touched(&mut self, machine: &VhostMachine, queues: &BTreeSet<QueueId>) -> Vec<ConsumerKey> {
        let mut closed = Vec::new();
        for &id in queues {
            let Some(line) = self.lines.get_mut(&id) else { continue };
            let Some(queue) = machine.queue(id) else {
                closed.extend(self.forget_line(id));
                continue;
            };
            if line.purges != queue.purges() {
                line.purges = queue.purges();
                line.returned.retain(|&seq| queue.message_at(seq).is_some());
                line.settling.retain(|&seq| queue.message_at(seq).is_some());
                for consumer in line.consumers() {
                    let known = self.consumers.get_mut(consumer).expect("a line's consumers are known");
                    known.held.retain(|&seq, _| queue.message_at(seq).is_some());
                }
                let held = |consumer| self.consumers.get(consumer).map_or(0, |known| known.held.len() as u64);
                line.held = line.consumers().iter().map(held).sum();
            }
            self.active.insert(id);
            self.near_bound.insert(id);
        }
        closed
    }

    fn forget_line(&mut self, queue: QueueId) -> Vec<ConsumerKey> {
        self.active.remove(&queue);
        self.near_bound.remove(&queue);
        self.exposed_before.remove(&queue);
        let Some(line) = self.lines.remove(&queue) else { return Vec::new() };
        line.consumers().iter().for_each(|consumer| drop(self.consumers.remove(consumer)));
        line.consumers().to_vec()
    }

    /// Gives ready messages to consumers with credit: up to `max_messages`, and no more once `max_bytes` are reached.
    /// Queues take turns from call to call.
    pub fn assign(
        &mut self,
        machine: &VhostMachine,
        max_messages: usize,
        max_bytes: usize,
    ) -> Vec<Assignment> {
        let mut given = Vec::new();
        let mut bytes = 0_usize;
        let after = self.active.range(self.first_queue..).copied();
        let order: Vec<QueueId> = after.chain(self.active.range(..self.first_queue).copied()).collect();
        for queue in order {
            if given.len() >= max_messages || bytes >= max_bytes {
                break;
            }
            self.assign_from(machine, queue, max_messages, max_bytes, &mut given, &mut bytes);
            self.first_queue = QueueId(queue.0.saturating_add(1));
        }
        given
    }

    /// Gives from one queue. It stays active if it may have more.
    fn assign_from(
        &mut self,
        machine: &VhostMachine,
        queue: QueueId,
        max_messages: usize,
        max_bytes: usize,
        given: &mut Vec<Assignment>,
        bytes: &mut usize,
    ) {
        let (Some(content), Some(line)) = (machine.queue(queue), self.lines.get_mut(&queue)) else {
            self.active.remove(&queue);
            return;
        };
        // Whatever is given brings the bound nearer.
        self.near_bound.insert(queue);
        while given.len() < max_messages && *bytes < max_bytes {
            let waiting = line.ready(content);
            let may_get = |key: ConsumerKey| {
                !self.paused.contains(&key.session)
                    && self.consumers.get(&key).is_some_and(|known| known.credit > 0)
            };
            let next = line.next_ready(content);
            let next = next.and_then(|ready| Some((ready, line.next_consumer(waiting, may_get)?)));
            let Some((ready, consumer)) = next else {
                self.active.remove(&queue);
                return;
            };
            line.give(ready.seq);
            self.serial += 1;
            let known = self.consumers.get_mut(&consumer).expect("a line's consumers are known");
            known.credit -= 1;
            let before = known.held.insert(ready.seq, self.serial);
            assert!(before.is_none(), "message {} of queue {queue} was given twice", ready.seq);
            *bytes = bytes.saturating_add(usize::try_from(ready.slot.length).unwrap_or(usize::MAX));
            given.push(Assignment {
                consumer,
                queue,
                seq: ready.seq,
                redelivered: ready.redelivered,
                no_ack: known.no_ack,
                slot: ready.slot,
                serial: self.serial,
            });
        }
    }

    /// Bounds to propose with Expose commands. Each is asked for once; see [`Self::expose_dropped`].
    pub fn take_expose_requests(&mut self, machine: &VhostMachine) -> Vec<(QueueId, u64)> {
        let mut requests = Vec::new();
        for id in std::mem::take(&mut self.near_bound) {
            let (Some(line), Some(queue)) = (self.lines.get_mut(&id), machine.queue(id)) else { continue };
            requests.extend(line.expose_request(queue).map(|to| (id, to)));
        }
        requests
    }

    /// An Expose that was asked for will not be applied: it is asked for again.
    pub fn expose_dropped(&mut self, queue: QueueId) {
        if let Some(line) = self.lines.get_mut(&queue) {
            line.forget_request();
            self.near_bound.insert(queue);
        }
    }

    /// Whether the consumer holds this message.
    pub fn holds(&self, consumer: ConsumerKey, seq: u64) -> bool {
        self.consumers.get(&consumer).is_some_and(|known| known.held.contains_key(&seq))
    }

    /// Whether this very assignment still stands: neither settled nor returned since.
    pub fn stands(&self, assignment: &Assignment) -> bool {
        let known = self.consumers.get(&assignment.consumer);
        known.is_some_and(|known| {
            known.queue == assignment.queue && known.held.get(&assignment.seq) == Some(&assignment.serial)
        })
    }

    /// The queue of a consumer; none if it is not attached.
    pub fn queue_of(&self, consumer: ConsumerKey) -> Option<QueueId> {
        self.consumers.get(&consumer).map(|known| known.queue)
    }

    /// How a queue stands.
    pub fn counts(&self, machine: &VhostMachine, queue: QueueId) -> Counts {
        let messages = machine.queue(queue).map_or(0, Queue::live);
        let Some(line) = self.lines.get(&queue) else {
            return Counts { ready: messages, ..Counts::default() };
        };
        let unacknowledged = line.unacknowledged().min(messages);
        let consumers = u32::try_from(line.consumers().len()).expect("a queue's consumers are limited");
        Counts { ready: messages - unacknowledged, unacknowledged, consumers }
    }

    /// What a purge must leave: messages that consumers hold or that are being settled.
    pub fn unacknowledged(&self, queue: QueueId) -> Vec<NumberRange> {
        let Some(line) = self.lines.get(&queue) else { return Vec::new() };
        let known = line.consumers().iter().filter_map(|consumer| self.consumers.get(consumer));
        let mut all: BTreeSet<u64> = known.flat_map(|known| known.held.keys().copied()).collect();
        all.extend(&line.settling);
        NumberRange::collect(all)
    }

    /// Whether a message may have been delivered to somebody before, for those who only look.
    pub fn may_be_redelivered(&self, queue: QueueId, seq: u64) -> bool {
        let before = self.exposed_before.get(&queue).copied().unwrap_or(0);
        seq < before || self.lines.get(&queue).is_some_and(|line| line.may_be_redelivered(seq))
    }

    pub(super) fn line_mut(&mut self, queue: QueueId) -> &mut Line {
        self.lines.get_mut(&queue).expect("a consumer's queue has a line as long as the consumer is attached")
    }
}

fn all_of(session: SessionId) -> RangeInclusive<ConsumerKey> {
    let first = ConsumerKey { session, channel: 0, consumer: 0 };
    first..=ConsumerKey { session, channel: u16::MAX, consumer: u32::MAX }
}
