//! Random commands against a model that keeps every message and every number in plain lists.

use proptest::prelude::*;
use quorate_protocol::fault::FaultCode;
use quorate_protocol::pattern::Pattern;

use super::*;

const QUEUES: [(&str, u64); 4] = [("q0", 0), ("q1", 2), ("q2", 300), ("q3", 0)];
const EXCHANGES: [(&str, ExchangeKind); 3] =
    [("d", ExchangeKind::Direct), ("f", ExchangeKind::Fanout), ("t", ExchangeKind::Topic)];
const KEYS: [&str; 5] = ["q0", "a", "a.b", "*.b", "#"];

#[derive(Clone, Debug)]
pub(super) enum Step {
    Declare(usize),
    Delete(usize),
    Purge(usize, (u64, u64)),
    DeclareExchange(usize),
    DeleteExchange(usize),
    Bind(usize, usize, usize),
    Unbind(usize, usize, usize),
    Publish { producer: u128, ahead: Ahead, count: u64, settle: u64, exchange: usize, key: usize },
    Ack(usize, (u64, u64)),
    Returned(usize, (u64, u64)),
    Expose(usize, u64),
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let queue = 0..QUEUES.len();
    let exchange = 0..EXCHANGES.len();
    let key = 0..KEYS.len();
    let span = (0..1_200_u64, 0..400_u64);
    let publish = (1..3_u128, 0..5_u64, 1..150_u64, 0..5_u64, 0..=EXCHANGES.len(), key.clone());
    let publish = publish.prop_map(|(producer, ahead, count, settle, exchange, key)| {
        let ahead = match ahead {
            3 => Ahead::Overtakes,
            4 => Ahead::BeginsAgain,
            _ => Ahead::Not,
        };
        Step::Publish { producer, ahead, count, settle, exchange, key }
    });
    let step = prop_oneof![
        4 => queue.clone().prop_map(Step::Declare),
        1 => queue.clone().prop_map(Step::Delete),
        1 => (queue.clone(), span.clone()).prop_map(|(queue, span)| Step::Purge(queue, span)),
        2 => exchange.clone().prop_map(Step::DeclareExchange),
        1 => exchange.clone().prop_map(Step::DeleteExchange),
        3 => (exchange.clone(), queue.clone(), key.clone()).prop_map(|(e, q, k)| Step::Bind(e, q, k)),
        1 => (exchange, queue.clone(), key).prop_map(|(e, q, k)| Step::Unbind(e, q, k)),
        12 => publish,
        6 => (queue.clone(), span.clone()).prop_map(|(queue, span)| Step::Ack(queue, span)),
        2 => (queue.clone(), span).prop_map(|(queue, span)| Step::Returned(queue, span)),
        1 => (queue, 0..5_000_u64).prop_map(|(queue, to)| Step::Expose(queue, to)),
    ];
    prop::collection::vec(step, 1..60)
}

/// Which numbers a batch has.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ahead {
    Not,
    /// Of another one, which is lost.
    Overtakes,
    /// Another process under the same id, from its first number.
    BeginsAgain,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct NaiveQueue {
    max_length: u64,
    next: u64,
    exposed_to: u64,
    /// Sequence, text, returns.
    messages: Vec<(u64, String, u8)>,
}

/// Whose next number is which, as the client sees it; what became of every number, as the broker should.
#[derive(Clone, Debug)]
struct NaiveProducer {
    unsettled: u64,
    next: u64,
    refused: BTreeMap<u64, FaultCode>,
    /// Nobody remembers numbers below this.
    known_from: Option<u64>,
}

#[derive(Default)]
struct Naive {
    queues: BTreeMap<&'static str, NaiveQueue>,
    exchanges: BTreeMap<&'static str, ExchangeKind>,
    bindings: Vec<(&'static str, &'static str, &'static str)>,
    producers: BTreeMap<u128, NaiveProducer>,
}

impl Naive {
    fn targets(&self, exchange: &str, key: &str) -> Result<Vec<&'static str>, FaultCode> {
        if exchange.is_empty() {
            let found: Vec<_> = self.queues.keys().copied().filter(|name| *name == key).collect();
            return if found.is_empty() { Err(FaultCode::Unroutable) } else { Ok(found) };
        }
        let kind = *self.exchanges.get(exchange).ok_or(FaultCode::ExchangeNotFound)?;
        let fits = |bound: &str| match kind {
            ExchangeKind::Direct => bound == key,
            ExchangeKind::Fanout => true,
            ExchangeKind::Topic => Pattern::parse(&RoutingKey::new(bound).unwrap()).unwrap().matches(key),
        };
        let bound = self.bindings.iter().filter(|(from, _, with)| *from == exchange && fits(with));
        let mut targets: Vec<_> = bound.map(|(_, queue, _)| *queue).collect();
        targets.sort_unstable();
        targets.dedup();
        if targets.is_empty() { Err(FaultCode::Unroutable) } else { Ok(targets) }
    }

    /// What becomes of each number.
    fn publish(
        &mut self,
        id: u128,
        numbers: NumberRange,
        unsettled: u64,
        to: (&str, &str),
    ) -> Vec<(u64, Fate)> {
        let all = numbers.first()..=numbers.last();
        let targets = self.targets(to.0, to.1);
        let mut producer = self.producers[&id].clone();
        let expected = if producer.known_from.is_some() { producer.next.max(unsettled) } else { unsettled };
        if numbers.first() > expected {
            return all.map(|number| (number, Fate::Refused(FaultCode::OutOfOrder))).collect();
        }
        if producer.known_from.is_some() {
            // What was given up before it was judged.
            producer
                .refused
                .extend((producer.next..unsettled).map(|number| (number, FaultCode::RefusedBefore)));
            producer.next = expected;
        }
        let mut fates = Vec::new();
        let mut full = false;
        for number in all {
            let fate = if producer.known_from.is_some_and(|from| number < from) {
                Fate::Refused(FaultCode::OutcomeForgotten)
            } else if number < expected {
                producer.refused.get(&number).map_or(Fate::Duplicate, |&code| Fate::Refused(code))
            } else {
                match &targets {
                    Err(code) => {
                        producer.refused.insert(number, *code);
                        Fate::Refused(*code)
                    }
                    Ok(targets) => {
                        full |= targets.iter().any(|name| {
                            let queue = &self.queues[name];
                            queue.max_length > 0 && queue.messages.len() as u64 >= queue.max_length
                        });
                        if full {
                            Fate::Refused(FaultCode::QueueFull)
                        } else {
                            for name in targets {
                                let queue = self.queues.get_mut(name).unwrap();
                                queue.messages.push((queue.next, format!("{id}/{number}"), 0));
                                queue.next += 1;
                            }
                            Fate::Stored
                        }
                    }
                }
            };
            if !full && number >= expected {
                producer.next = number + 1;
                producer.known_from.get_or_insert(unsettled);
            }
            fates.push((number, fate));
        }
        self.producers.insert(id, producer);
        fates
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stored,
    Duplicate,
    Refused(FaultCode),
}

fn fates(published: &Published) -> Vec<(u64, Fate)> {
    let each = |range: &NumberRange, fate| (range.first()..=range.last()).map(move |number| (number, fate));
    let mut fates: Vec<_> = published.confirmed.iter().flat_map(|range| each(range, Fate::Stored)).collect();
    fates.extend(published.duplicates.iter().flat_map(|range| each(range, Fate::Duplicate)));
    fates.extend(published.refused.iter().flat_map(|(range, code)| each(range, Fate::Refused(*code))));
    fates.sort_unstable_by_key(|(number, _)| *number);
    fates
}

/// Drives model and machine.
pub(super) struct World {
    pub(super) replica: Replica,
    naive: Naive,
}

impl World {
    pub(super) fn new() -> Self {
        let start = NaiveProducer { unsettled: 1, next: 1, refused: BTreeMap::new(), known_from: None };
        let producers = (1..3).map(|id| (id, start.clone())).collect();
        Self { replica: Replica::new(), naive: Naive { producers, ..Naive::default() } }
    }

    pub(super) fn step(&mut self, step: &Step) {
        let naive = &mut self.naive;
        match *step {
            Step::Declare(queue) => {
                let (name, max_length) = QUEUES[queue];
                let new = NaiveQueue { max_length, next: 1, ..NaiveQueue::default() };
                naive.queues.entry(name).or_insert(new);
                self.replica.one(declare(name, max_length));
            }
            Step::Delete(queue) => {
                let name = QUEUES[queue].0;
                let removed = naive.queues.remove(name).map(|queue| queue.messages.len() as u64);
                naive.bindings.retain(|(_, bound, _)| *bound != name);
                let outcome =
                    self.replica.one(Command::DeleteQueue { name: queue_name(name), if_empty: false });
                assert_eq!(removed.map(|messages| Outcome::Removed { messages }), succeeded(outcome));
            }
            Step::Purge(queue, (first, more)) => {
                let name = QUEUES[queue].0;
                let except = range(first, first + more);
                if let Some(queue) = naive.queues.get_mut(name) {
                    queue.messages.retain(|(seq, ..)| except.contains(*seq));
                }
                self.replica.one(Command::PurgeQueue { name: queue_name(name), except: vec![except] });
            }
            Step::DeclareExchange(exchange) => {
                let (name, kind) = EXCHANGES[exchange];
                naive.exchanges.insert(name, kind);
                self.replica.one(declare_exchange(name, kind));
            }
            Step::DeleteExchange(exchange) => {
                let name = EXCHANGES[exchange].0;
                naive.exchanges.remove(name);
                naive.bindings.retain(|(from, ..)| *from != name);
                self.replica.one(Command::DeleteExchange { name: exchange_name(name), if_unused: false });
            }
            Step::Bind(exchange, queue, key) => {
                let new = (EXCHANGES[exchange].0, QUEUES[queue].0, KEYS[key]);
                let exists = naive.exchanges.contains_key(new.0) && naive.queues.contains_key(new.1);
                if exists && !naive.bindings.contains(&new) {
                    naive.bindings.push(new);
                }
                self.replica.one(Command::Bind(binding(new.0, new.1, new.2)));
            }
            Step::Unbind(exchange, queue, key) => {
                let old = (EXCHANGES[exchange].0, QUEUES[queue].0, KEYS[key]);
                naive.bindings.retain(|binding| *binding != old);
                self.replica.one(Command::Unbind(binding(old.0, old.1, old.2)));
            }
            Step::Publish { producer: id, ahead, count, settle, exchange, key } => {
                let exchange = EXCHANGES.get(exchange).map_or("", |(name, _)| *name);
                let producer = naive.producers.get_mut(&id).unwrap();
                let gives_up = settle == 4 && producer.known_from.is_some();
                producer.unsettled = if gives_up {
                    producer.next + 3
                } else {
                    producer.unsettled.max((producer.unsettled + settle * 50).min(producer.next))
                };
                let unsettled = producer.unsettled;
                let usual = unsettled.max(producer.next.saturating_sub(count / 3));
                let (first, unsettled) = match ahead {
                    Ahead::Not => (usual, unsettled),
                    Ahead::Overtakes => (usual + 5, unsettled),
                    Ahead::BeginsAgain => (1, 1),
                };
                let expected =
                    naive.publish(id, range(first, first + count - 1), unsettled, (exchange, KEYS[key]));
                let published =
                    self.replica.publish(batch(id, first, unsettled, (exchange, KEYS[key]), count));
                assert_eq!(published.producer, ProducerId(id));
                assert_eq!(fates(&published), expected);
            }
            Step::Ack(queue, (first, more)) => {
                let name = QUEUES[queue].0;
                let Some(content) = naive.queues.get_mut(name) else { return };
                let gone = range(first, first + more);
                let before = content.messages.len();
                content.messages.retain(|(seq, ..)| !gone.contains(*seq));
                let messages = (before - content.messages.len()) as u64;
                let queue = self.replica.id(name);
                let outcome = self.replica.one(Command::Ack { queue, ranges: vec![gone] });
                assert_eq!(outcome, Outcome::Settled { queue, messages });
            }
            Step::Returned(queue, (first, more)) => {
                let name = QUEUES[queue].0;
                let Some(content) = naive.queues.get_mut(name) else { return };
                let back = range(first, first + more);
                for (_, _, returns) in content.messages.iter_mut().filter(|(seq, ..)| back.contains(*seq)) {
                    *returns = returns.saturating_add(1);
                }
                let queue = self.replica.id(name);
                self.replica.one(Command::Returned { queue, ranges: vec![back] });
            }
            Step::Expose(queue, to) => {
                let name = QUEUES[queue].0;
                let Some(content) = naive.queues.get_mut(name) else { return };
                content.exposed_to = content.exposed_to.max(to);
                let queue = self.replica.id(name);
                self.replica.one(Command::Expose { queue, to });
            }
        }
    }

    pub(super) fn check(&self) {
        let machine = &self.replica.machine;
        let seen: BTreeMap<_, _> = machine
            .queues()
            .map(|queue| {
                let messages: Vec<_> = queue
                    .live_from(0)
                    .map(|(seq, slot)| (seq, self.replica.text(&slot), slot.returns))
                    .collect();
                assert_eq!(queue.live(), messages.len() as u64);
                assert_eq!(queue.first_live(), messages.first().map(|(seq, ..)| *seq));
                let bytes: usize = messages.iter().map(|(_, text, _)| text.len() + 2).sum();
                assert_eq!(queue.bytes(), bytes as u64);
                let max_length = queue.definition().max_length;
                let (next, exposed_to) = (queue.next_seq(), queue.exposed_to());
                (queue.name().as_str(), NaiveQueue { max_length, next, exposed_to, messages })
            })
            .collect();
        assert_eq!(seen, self.naive.queues.iter().map(|(name, queue)| (*name, queue.clone())).collect());
        assert_eq!(machine.live(), seen.values().map(|queue| queue.messages.len() as u64).sum::<u64>());
        let mut bindings: Vec<_> = self.naive.bindings.iter().map(|(e, q, k)| binding(e, q, k)).collect();
        bindings.sort();
        assert!(machine.bindings_after(None).eq(bindings.iter()));
        for (id, producer) in &self.naive.producers {
            assert_eq!(machine.producer_next(ProducerId(*id)), producer.known_from.map(|_| producer.next));
        }
    }
}

fn succeeded(outcome: Outcome) -> Option<Outcome> {
    match outcome {
        Outcome::Failed(..) => None,
        other => Some(other),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_machine_does_what_the_model_does(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
        // Any other replica that applies the same entries is equal.
        let mut other = VhostMachine::new();
        for (index, data) in &world.replica.log {
            other.apply(*index, data);
        }
        prop_assert_eq!(other.digest(), world.replica.machine.digest());
    }

    #[test]
    fn any_bytes_whatever_are_applied(
        start in steps(),
        data in prop::collection::vec(prop_oneof![3 => 0..16_u8, 1 => any::<u8>()], 0..300),
    ) {
        let mut world = World::new();
        for step in &start {
            world.step(step);
        }
        let mut twin = world.replica.machine.clone();
        let (index, data) = (world.replica.next_index(), Bytes::from(data));
        prop_assert_eq!(world.replica.machine.apply(index, &data), twin.apply(index, &data));
        prop_assert_eq!(world.replica.machine.digest(), twin.digest());
        SystemMachine::new().apply(index, &data);
    }

    #[test]
    fn commands_with_flipped_bytes_are_applied(steps in steps(), flips in prop::collection::vec(any::<(u16, u8)>(), 1..20)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        let mut machine = VhostMachine::new();
        for (index, data) in &world.replica.log {
            let mut data = data.to_vec();
            for &(at, bits) in &flips {
                let at = usize::from(at) * 7 % (data.len() * 3);
                if let Some(byte) = data.get_mut(at) {
                    *byte ^= bits;
                }
            }
            machine.apply(*index, &data.into());
        }
        let live: u64 = machine.queues().map(Queue::live).sum();
        prop_assert_eq!(machine.live(), live);
    }
}
