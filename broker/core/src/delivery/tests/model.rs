//! Random consumers against a model that writes down for each message where it is.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const QUEUES: u32 = 2;
const CONSUMERS: u32 = 4;

#[derive(Clone, Debug)]
enum Step {
    Publish(u32, u64),
    Attach {
        consumer: u32,
        queue: u32,
        credit: u32,
        no_ack: bool,
    },
    Detach(u32),
    DetachSession(u64),
    Credit(u32, u32),
    Assign(usize),
    Settle(u32, (u64, u64)),
    Requeue(u32, (u64, u64)),
    /// Apply the oldest proposed settlement.
    Commit,
    Expose,
    Purge(u32, bool),
    FailOver,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let queue = 1..=QUEUES;
    let consumer = 1..=CONSUMERS;
    let span = (1..60_u64, 0..20_u64);
    let attach = (consumer.clone(), queue.clone(), 0..20_u32, any::<bool>());
    let attach =
        attach.prop_map(|(consumer, queue, credit, no_ack)| Step::Attach { consumer, queue, credit, no_ack });
    let step = prop_oneof![
        4 => (queue.clone(), 1..20_u64).prop_map(|(queue, count)| Step::Publish(queue, count)),
        4 => attach,
        1 => consumer.clone().prop_map(Step::Detach),
        1 => (0..2_u64).prop_map(Step::DetachSession),
        4 => (consumer.clone(), 1..10_u32).prop_map(|(consumer, add)| Step::Credit(consumer, add)),
        8 => (0..30_usize).prop_map(Step::Assign),
        4 => (consumer.clone(), span.clone()).prop_map(|(consumer, span)| Step::Settle(consumer, span)),
        3 => (consumer, span).prop_map(|(consumer, span)| Step::Requeue(consumer, span)),
        4 => Just(Step::Commit),
        4 => Just(Step::Expose),
        1 => (queue, any::<bool>()).prop_map(|(queue, all)| Step::Purge(queue, all)),
        1 => Just(Step::FailOver),
    ];
    prop::collection::vec(step, 1..120)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Ready,
    Held(ConsumerKey),
    Settling,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    place: Place,
    /// Given to somebody in this leadership, or below the bound when it began.
    marked: bool,
}

struct World {
    leader: Leader,
    messages: BTreeMap<(QueueId, u64), Message>,
    /// Consumer's queue and credit.
    consumers: BTreeMap<ConsumerKey, (QueueId, u32)>,
    proposed: Vec<(QueueId, Vec<NumberRange>)>,
}

fn key(number: u32) -> ConsumerKey {
    consumer(u64::from(number % 2), number)
}

impl World {
    fn new() -> Self {
        let leader = Leader::new(QUEUES);
        Self { leader, messages: BTreeMap::new(), consumers: BTreeMap::new(), proposed: Vec::new() }
    }

    fn exposed(&self, queue: QueueId) -> u64 {
        self.leader.replica.machine.queue(queue).unwrap().exposed_to()
    }

    fn next_ready(&self, queue: QueueId) -> Option<u64> {
        let bound = self.exposed(queue);
        let of_queue = self.messages.range((queue, 0)..(queue, bound));
        of_queue.filter(|(_, message)| message.place == Place::Ready).map(|((_, seq), _)| *seq).next()
    }

    fn has_credit(&self, queue: QueueId) -> bool {
        self.consumers.values().any(|&(of, credit)| of == queue && credit > 0)
    }

    /// Messages in `range` that the consumer holds.
    fn held(&self, key: ConsumerKey, range: NumberRange) -> Vec<u64> {
        let held = self.messages.iter().filter(|(_, message)| message.place == Place::Held(key));
        held.map(|((_, seq), _)| *seq).filter(|seq| range.contains(*seq)).collect()
    }

    fn move_to(&mut self, queue: QueueId, ranges: &[NumberRange], place: Place) {
        for range in ranges {
            for seq in range.first()..=range.last() {
                self.messages.get_mut(&(queue, seq)).unwrap().place = place;
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish(queue, count) => {
                let queue = QueueId(queue);
                let next = self.leader.replica.machine.queue(queue).unwrap().next_seq();
                self.leader.publish(queue, count);
                for seq in next..next + count {
                    let marked = self.leader.delivery.may_be_redelivered(queue, seq);
                    self.messages.insert((queue, seq), Message { place: Place::Ready, marked });
                }
            }
            Step::Attach { consumer, queue, credit, no_ack } => {
                let (key, queue) = (key(consumer), QueueId(queue));
                let options = ConsumerOptions { credit, no_ack, exclusive: false };
                let attached = self.leader.delivery.attach(&self.leader.replica.machine, key, queue, options);
                assert_eq!(attached.is_ok(), !self.consumers.contains_key(&key));
                self.consumers.entry(key).or_insert((queue, credit));
            }
            Step::Detach(number) => {
                let detached = self.leader.delivery.detach(key(number));
                assert_eq!(detached.is_some(), self.consumers.contains_key(&key(number)));
                if let Some(settlement) = detached {
                    self.detached(key(number), &settlement);
                }
            }
            Step::DetachSession(session) => {
                for (key, settlement) in self.leader.delivery.detach_session(SessionId(session)) {
                    assert_eq!(key.session.0, session);
                    self.detached(key, &settlement);
                }
                assert!(self.consumers.keys().all(|key| key.session.0 != session));
            }
            Step::Credit(number, add) => {
                let added = self.leader.delivery.add_credit(key(number), add);
                assert_eq!(added.is_ok(), self.consumers.contains_key(&key(number)));
                if let Some((_, credit)) = self.consumers.get_mut(&key(number)) {
                    *credit += add;
                }
            }
            Step::Assign(max) => self.assign(max),
            Step::Settle(number, (first, more)) => {
                let range = range(first, first + more);
                let Ok(settlement) = self.leader.delivery.settle(key(number), &[range]) else {
                    assert!(!self.consumers.contains_key(&key(number)));
                    return;
                };
                assert_eq!(settlement.ranges, NumberRange::collect(self.held(key(number), range)));
                self.move_to(settlement.queue, &settlement.ranges, Place::Settling);
                self.proposed.push((settlement.queue, settlement.ranges));
            }
            Step::Requeue(number, (first, more)) => {
                let range = range(first, first + more);
                let Ok(settlement) = self.leader.delivery.requeue(key(number), &[range]) else { return };
                assert_eq!(settlement.ranges, NumberRange::collect(self.held(key(number), range)));
                self.move_to(settlement.queue, &settlement.ranges, Place::Ready);
            }
            Step::Commit => {
                if self.proposed.is_empty() {
                    return;
                }
                let (queue, ranges) = self.proposed.remove(0);
                for range in &ranges {
                    self.messages.retain(|(of, seq), _| *of != queue || !range.contains(*seq));
                }
                self.leader.apply(Command::Ack { queue, ranges });
            }
            Step::Expose => {
                self.leader.expose();
            }
            Step::Purge(queue, all) => {
                let id = QueueId(queue);
                let except = if all { Vec::new() } else { self.leader.delivery.unacknowledged(id) };
                self.messages.retain(|(of, _), message| *of != id || !all && message.place != Place::Ready);
                self.leader
                    .apply(Command::PurgeQueue { name: queue_name(&format!("q{}", queue - 1)), except });
            }
            Step::FailOver => {
                // What was proposed is either committed or lost: here it is lost.
                self.proposed.clear();
                self.consumers.clear();
                let bounds: Vec<_> = (0..=QUEUES)
                    .map(|queue| match queue {
                        0 => 0,
                        queue => self.exposed(QueueId(queue)),
                    })
                    .collect();
                for ((queue, seq), message) in &mut self.messages {
                    let marked = *seq < bounds[queue.0 as usize];
                    *message = Message { place: Place::Ready, marked };
                }
                self.leader.fail_over();
            }
        }
    }

    fn detached(&mut self, key: ConsumerKey, settlement: &Settlement) {
        let (queue, _) = self.consumers.remove(&key).unwrap();
        assert_eq!(settlement.queue, queue);
        assert_eq!(settlement.ranges, NumberRange::collect(self.held(key, range(0, u64::MAX))));
        self.move_to(queue, &settlement.ranges, Place::Ready);
    }

    fn assign(&mut self, max: usize) {
        let given = self.leader.delivery.assign(&self.leader.replica.machine, max, usize::MAX);
        assert!(given.len() <= max);
        for assignment in &given {
            let queue = assignment.queue;
            // The oldest one first, below the bound, to a consumer of the queue with credit.
            assert_eq!(Some(assignment.seq), self.next_ready(queue));
            let (of, credit) = self.consumers.get_mut(&assignment.consumer).unwrap();
            assert_eq!(*of, queue);
            *credit = credit.checked_sub(1).unwrap();
            let message = self.messages.get_mut(&(queue, assignment.seq)).unwrap();
            assert_eq!(assignment.redelivered, message.marked);
            *message = Message { place: Place::Held(assignment.consumer), marked: true };
        }
        if given.len() < max {
            for queue in (1..=QUEUES).map(QueueId) {
                assert!(self.next_ready(queue).is_none() || !self.has_credit(queue), "queue {queue} stalls");
            }
        }
        assert!(given.iter().all(|assignment| self.leader.delivery.stands(assignment)));
    }

    fn check(&self) {
        for queue in (1..=QUEUES).map(QueueId) {
            let of_queue: Vec<_> = self.messages.range((queue, 0)..=(queue, u64::MAX)).collect();
            let ready = of_queue.iter().filter(|(_, message)| message.place == Place::Ready).count() as u64;
            let consumers = self.consumers.values().map(|(of, _)| u32::from(*of == queue)).sum();
            let unacknowledged = of_queue.len() as u64 - ready;
            assert_eq!(self.leader.counts(queue), (ready, unacknowledged, consumers));
            let live: BTreeSet<u64> = of_queue.iter().map(|((_, seq), _)| *seq).collect();
            let machine = self.leader.replica.machine.queue(queue).unwrap();
            assert!(machine.live_from(0).map(|(seq, _)| seq).eq(live));
        }
        for (&(_, seq), message) in &self.messages {
            if let Place::Held(key) = message.place {
                assert!(self.leader.delivery.holds(key, seq));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_message_is_in_one_place(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
    }
}
