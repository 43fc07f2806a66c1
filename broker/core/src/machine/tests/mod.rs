//! Rules one by one, then everything against a naive model.

mod checkpoints;
mod model;
mod rules;
mod systems;
mod transactions;

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_protocol::frame::{Binding, ExchangeKind, NumberRange, ProducerId};
use quorate_protocol::message::Properties;
use quorate_protocol::name::{ExchangeName, QueueName, RoutingKey};
use quorate_protocol::publish::PublishBuilder;
use quorate_store::ids::{GroupId, Index};
use quorate_store::state::{Family, Pair, StateBatch, StateWrite};

use super::*;

pub(crate) const GROUP: GroupId = GroupId(7);

pub(crate) fn queue_name(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

pub(crate) fn exchange_name(name: &str) -> ExchangeName {
    ExchangeName::new(name).unwrap()
}

pub(crate) fn range(first: u64, last: u64) -> NumberRange {
    NumberRange::new(first, last).unwrap()
}

pub(crate) fn binding(exchange: &str, queue: &str, key: &str) -> Binding {
    Binding {
        exchange: exchange_name(exchange),
        queue: queue_name(queue),
        key: RoutingKey::new(key).unwrap(),
    }
}

pub(crate) fn declare(name: &str, max_length: u64) -> Command {
    let definition = QueueDefinition { max_length, ..QueueDefinition::default() };
    Command::DeclareQueue { name: queue_name(name), definition }
}

pub(crate) fn declare_exchange(name: &str, kind: ExchangeKind) -> Command {
    Command::DeclareExchange { name: exchange_name(name), kind }
}

/// A batch of `count` messages from number `first` on; each says who and which it is.
pub(crate) fn batch(
    producer: u128,
    first: u64,
    first_unsettled: u64,
    to: (&str, &str),
    count: u64,
) -> Command {
    let key = RoutingKey::new(to.1).unwrap();
    let mut builder =
        PublishBuilder::new(ProducerId(producer), first, first_unsettled, &exchange_name(to.0), &key);
    for number in first..first + count {
        builder.push(&Properties::NONE, format!("{producer}/{number}").as_bytes(), 1 << 20).unwrap();
    }
    Command::Publish(builder.finish().unwrap().into_bytes())
}

/// A machine with its log.
#[derive(Clone)]
pub(crate) struct Replica {
    pub(crate) machine: VhostMachine,
    pub(crate) log: BTreeMap<Index, Bytes>,
}

impl Replica {
    pub(crate) fn new() -> Self {
        Self { machine: VhostMachine::new(), log: BTreeMap::new() }
    }

    pub(crate) fn next_index(&self) -> Index {
        self.log.last_key_value().map_or(Index(1), |(index, _)| index.next())
    }

    /// Applies commands as one entry.
    pub(crate) fn apply(&mut self, commands: &[Command]) -> Vec<Outcome> {
        let mut data = Vec::new();
        for command in commands {
            command.encode(&mut data);
        }
        let index = self.next_index();
        let data = Bytes::from(data);
        self.log.insert(index, data.clone());
        let outcomes = self.machine.apply(index, &data);
        assert_eq!(outcomes.len(), commands.len());
        outcomes
    }

    pub(crate) fn one(&mut self, command: Command) -> Outcome {
        self.apply(&[command]).remove(0)
    }

    pub(crate) fn publish(&mut self, command: Command) -> Published {
        match self.one(command) {
            Outcome::Published(published) => published,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn id(&self, queue: &str) -> QueueId {
        self.machine.queue_named(queue).unwrap().id()
    }

    /// The body of a message in the log, as text.
    pub(crate) fn text(&self, slot: &SlotView) -> String {
        let data = &self.log[&slot.index];
        let from = slot.message_offset as usize;
        let message = data.slice(from..from + slot.length as usize);
        String::from_utf8(message[2..].to_vec()).unwrap()
    }

    /// Sequence and text of a queue's live messages.
    pub(crate) fn content(&self, queue: &str) -> Vec<(u64, String)> {
        let queue = self.machine.queue_named(queue).unwrap();
        queue.live_from(0).map(|(seq, slot)| (seq, self.text(&slot))).collect()
    }
}

/// The state store as a map; a body is put at most once before it is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept(pub(crate) BTreeMap<(Family, Bytes), Bytes>);

impl Kept {
    pub(crate) fn write(&mut self, batch: StateBatch) {
        for write in batch.writes {
            match write {
                StateWrite::Put(family, key, value) => {
                    let before = self.0.insert((family, key), value);
                    assert!(family != Family::Body || before.is_none(), "a body was put twice");
                }
                StateWrite::Delete(family, key) => {
                    let before = self.0.remove(&(family, key));
                    assert!(
                        family != Family::Body || before.is_some(),
                        "a body was deleted that is not there"
                    );
                }
                StateWrite::DeleteRange(family, from, to) => {
                    assert_ne!(family, Family::Body);
                    self.0.retain(|(other, key), _| *other != family || *key < from || *key >= to);
                    // A range that reached into the next kind of record would take other queues' records with it.
                    assert_eq!((to.len(), to[4]), (9, 3));
                }
            }
        }
    }

    pub(crate) fn pairs(&self, family: Family) -> Vec<Pair> {
        let of_family = self.0.iter().filter(|((other, _), _)| *other == family);
        of_family.map(|((_, key), value)| (key.clone(), value.clone())).collect()
    }

    pub(crate) fn restore(&self) -> Result<(Bytes, VhostMachine), RestoreError> {
        VhostMachine::restore(GROUP, self.pairs(Family::State))
    }
}
