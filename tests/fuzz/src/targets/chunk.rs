//! A chunk of an update by snapshot: the message, and what a machine is restored from it.
//!
//! The first byte of an input says how: bit 0 clear, the chunk's checksum is put right first; bit 1, it is of the group
//! `system` (else of a virtual host); bit 2, a broker receives it, after a fitting offer (else only the machine does). The
//! rest is the message.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_core::admin::Author;
use quorate_core::io::Input;
use quorate_core::machine::{
    Asked, Command, QueueDefinition, QueueId, Range, SystemMachine, Taken, Transaction, VhostMachine,
    export_state,
};
use quorate_core::peer::{PeerMessage, SnapshotOffer, SnapshotPair};
use quorate_protocol::frame::{ExchangeKind, ProducerId};
use quorate_protocol::limits::Limits;
use quorate_protocol::message::Properties;
use quorate_protocol::name::{ExchangeName, QueueName, RoutingKey};
use quorate_protocol::publish::PublishBuilder;
use quorate_protocol::transaction::TransactionBuilder;
use quorate_store::ids::{GroupId, Index, RaftId, Term};
use quorate_store::state::{Family, Pair, StateBatch, StateWrite};

use super::mode;
use crate::allocator::Allowance;
use crate::broker::World;
use crate::{Reached, Target};

/// See the module.
pub const TARGET: Target = Target {
    name: "chunk",
    run,
    seeds,
    length_max: 8192,
    words: &[b"orders", b"trade", b"quorate."],
    text: false,
    smoke: 150_000,
};

const DECODE: Allowance = Allowance { each: 12, fixed: 64 << 10 };
/// A slot of 23 bytes is one of 24 in memory, and a chunk may begin with 255 empty ones; a producer has its window.
const RESTORE: Allowance = Allowance { each: 512, fixed: 64 << 10 };
const GROUP: GroupId = GroupId(1);
/// Where the checksum is, and what it covers.
const CHECKSUM: std::ops::Range<usize> = 18..22;

fn sealed(payload: &[u8]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    if payload.len() >= CHECKSUM.end {
        payload[0] = 7;
        let crc = crc32fast::hash(&payload[CHECKSUM.end..]);
        payload[CHECKSUM].copy_from_slice(&crc.to_le_bytes());
    }
    payload
}

fn run(input: &[u8]) -> Reached {
    let (mode, payload) = mode(input);
    let payload = Bytes::from(if mode & 1 == 0 { sealed(payload) } else { payload.to_vec() });
    let decoded = DECODE.check(payload.len(), "a chunk", || PeerMessage::decode(payload.clone()));
    let Ok(message) = decoded else { return Reached::Refused };
    // What other messages are is the peer target's matter.
    let PeerMessage::SnapshotChunk { transfer, chunk, pairs, last } = message else {
        return Reached::Refused;
    };
    let again = PeerMessage::SnapshotChunk { transfer, chunk, pairs: pairs.clone(), last };
    assert_eq!(again.encode(), payload, "a chunk has one form");
    if mode & 4 != 0 {
        receive(pairs);
        return Reached::Accepted;
    }
    Reached::accepted_if(if mode & 2 == 0 { restore_vhost(&pairs) } else { restore_system(&pairs) })
}

/// As they are under their group's prefix, the last of one key counting, in order.
fn state_of(pairs: &[SnapshotPair]) -> BTreeMap<Bytes, Bytes> {
    pairs
        .iter()
        .filter(|pair| pair.family == Family::State)
        .map(|pair| (Bytes::from([&GROUP.0.to_be_bytes()[..], &pair.key].concat()), pair.value.clone()))
        .collect()
}

fn apply(state: &mut BTreeMap<Bytes, Bytes>, batch: StateBatch) {
    for write in batch.writes {
        match write {
            StateWrite::Put(Family::State, key, value) => {
                state.insert(key, value);
            }
            StateWrite::Delete(Family::State, key) => {
                state.remove(&key);
            }
            StateWrite::DeleteRange(Family::State, from, to) => {
                state.retain(|key, _| *key < from || *key >= to);
            }
            _ => {}
        }
    }
}

fn pairs_of(state: &BTreeMap<Bytes, Bytes>) -> Vec<Pair> {
    state.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn size(pairs: &[Pair]) -> usize {
    pairs.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// A machine that was restored is a valid one: it takes commands, and its checkpoint restores it as it is.
fn restore_vhost(pairs: &[SnapshotPair]) -> bool {
    let mut state = state_of(pairs);
    for (key, value) in &state {
        if let Ok(record) = export_state(key, value.clone()) {
            let again = export_state(key, record.value.clone()).expect("what was exported is a record");
            assert_eq!(again.value, record.value);
            assert!(again.unspilled.is_empty(), "everything is spilled where the log is not");
        }
    }
    let all = pairs_of(&state);
    let restored = RESTORE.check(size(&all), "a machine", || VhostMachine::restore(GROUP, all));
    let Ok((_, mut machine)) = restored else { return false };
    let queues: Vec<QueueName> = machine.queues().map(|queue| queue.name().clone()).collect();
    let live: u64 = machine.queues().map(quorate_core::machine::Queue::live).sum();
    assert_eq!(machine.live(), live, "messages are counted right");
    let mut data = Vec::new();
    for command in commands(&queues) {
        command.encode(&mut data);
    }
    machine.apply(Index(u64::MAX - 1), &Bytes::from(data));
    let digest = machine.digest();
    apply(&mut state, machine.checkpoint(GROUP, Bytes::from_static(b"meta")));
    let (_, again) = VhostMachine::restore(GROUP, pairs_of(&state)).expect("a checkpoint restores");
    assert_eq!(again.digest(), digest, "a checkpoint is the machine");
    true
}

/// Something of everything, on what is there.
fn commands(queues: &[QueueName]) -> Vec<Command> {
    let name = |text| QueueName::new(text).expect("a name");
    let definition = QueueDefinition::default();
    let mut commands = vec![Command::DeclareQueue { name: name("fuzz"), definition }];
    let exchange = ExchangeName::new("fuzzed").expect("a name");
    commands.push(Command::DeclareExchange { name: exchange, kind: ExchangeKind::Topic });
    for queue in queues.iter().take(4).chain([&name("fuzz")]) {
        let default = ExchangeName::new("").expect("the default exchange");
        let key = RoutingKey::new(queue.as_str()).expect("a queue's name is a key");
        let mut builder = PublishBuilder::new(ProducerId(7), 1, 1, &default, &key);
        let pushed = [&b"one"[..], b"two", b"three"]
            .into_iter()
            .all(|body| builder.push(&Properties::NONE, body, 1 << 20).is_ok());
        if pushed && let Some(body) = builder.finish() {
            commands.push(Command::Publish(body.into_bytes()));
        }
    }
    for number in 0..4 {
        let queue = QueueId(number);
        commands.push(Command::Expose { queue, to: 3 });
        commands.push(Command::Returned { queue, ranges: vec![Range::one(1)] });
        commands.push(Command::Ack { queue, ranges: Range::new(1, u64::MAX).into_iter().collect() });
    }
    commands.push(transaction(queues));
    commands.push(Command::Resolve { producer: ProducerId(8), number: 2, first_unsettled: 1 });
    if let Some(queue) = queues.first() {
        commands.push(Command::DeleteQueue { name: queue.clone(), if_empty: false });
    }
    commands
}

/// Takes what is there, as if it were held, and publishes to every queue.
fn transaction(queues: &[QueueName]) -> Command {
    let mut builder = TransactionBuilder::new(ProducerId(8), 1);
    let default = ExchangeName::new("").expect("the default exchange");
    for queue in queues.iter().take(4) {
        let key = RoutingKey::new(queue.as_str()).expect("a queue's name is a key");
        let pushed = builder.push(&default, &key, (&Properties::NONE, b"x"), Limits::default(), 0);
        assert_eq!(pushed, Ok(()), "there is room for a few");
    }
    let settled = vec![Taken { queue: QueueId(1), ranges: vec![Range::one(2)] }];
    Command::Transaction(Transaction { body: builder.finish(), settled })
}

fn restore_system(pairs: &[SnapshotPair]) -> bool {
    let mut state = state_of(pairs);
    let all = pairs_of(&state);
    let restored = RESTORE.check(size(&all), "a machine", || SystemMachine::restore(GROUP, all));
    let Ok((_, mut machine)) = restored else { return false };
    let mut data = Vec::new();
    for name in ["one", "two"] {
        let name = quorate_protocol::name::VhostName::new(name).expect("a name");
        Command::CreateVhost { name }.encode(&mut data);
    }
    for member in machine.members().map(|member| member.store).collect::<Vec<_>>() {
        let command = Command::DrainMember { store: member, drained: true };
        let asked = Asked { at_ms: 1, author: Author::local("fuzz"), reason: String::new(), command };
        Command::Asked(Box::new(asked)).encode(&mut data);
        Command::LeaveMember { store: member, replaced: true }.encode(&mut data);
        Command::RemoveMember { store: member }.encode(&mut data);
    }
    machine.apply(Index(u64::MAX - 1), &Bytes::from(data));
    let digest = machine.digest();
    apply(&mut state, machine.checkpoint(GROUP, Bytes::from_static(b"meta")));
    let (_, again) = SystemMachine::restore(GROUP, pairs_of(&state)).expect("a checkpoint restores");
    assert_eq!(again.digest(), digest, "a checkpoint is the machine");
    true
}

/// A broker is offered a snapshot by the other one, and gets this.
fn receive(pairs: Vec<SnapshotPair>) {
    let mut world = World::new(2, false);
    let from = world.brokers[1].identity.key;
    let lineage = *world.lineages.get(&GROUP).expect("replicas have spoken");
    let status = world.status(0).expect("it answers");
    let group = status.groups.iter().find(|group| group.vhost == "/").expect("there is one");
    let index = Index(group.applied.0 + 10);
    let transfer = 77;
    // Raft ids are given in the order of the names.
    let offer = SnapshotOffer {
        transfer,
        from: RaftId(2),
        to: RaftId(1),
        term: Term(group.term.0 + 1),
        index,
        index_term: Term(group.term.0),
        voters: vec![1, 2],
        learners: Vec::new(),
        peak: 2,
        gone: Vec::new(),
        estimate: 1,
    };
    let tell = |world: &mut World, message| world.give(0, Input::PeerMessage { from, message });
    tell(&mut world, PeerMessage::SnapshotOffer { group: GROUP, lineage, offer });
    tell(&mut world, PeerMessage::SnapshotChunk { transfer, chunk: 0, pairs, last: true });
    world.pass(50);
    match &world.brokers[0].exit {
        None => assert!(world.status(0).is_some(), "a broker that does not answer"),
        Some((status, reason)) => {
            assert_eq!(*status, 70, "what cannot be read ends the process, said: {reason}");
        }
    }
}

/// The checkpoint of a machine with something of everything, and that of a founded cluster's `system`.
fn seeds() -> Vec<Vec<u8>> {
    let mut machine = VhostMachine::new();
    let names = ["orders", "returns"].map(|name| QueueName::new(name).expect("a name"));
    let definition = QueueDefinition::default();
    let mut data = Vec::new();
    for name in names.clone() {
        Command::DeclareQueue { name, definition: definition.clone() }.encode(&mut data);
    }
    let exchange = ExchangeName::new("trade").expect("a name");
    Command::DeclareExchange { name: exchange.clone(), kind: ExchangeKind::Topic }.encode(&mut data);
    let binding = quorate_protocol::frame::Binding {
        exchange,
        queue: names[0].clone(),
        key: RoutingKey::new("eu.#").expect("a key"),
    };
    Command::Bind(binding).encode(&mut data);
    machine.apply(Index(1), &Bytes::from(data));
    let mut data = Vec::new();
    for command in commands(&names).into_iter().take(4) {
        command.encode(&mut data);
    }
    machine.apply(Index(2), &Bytes::from(data));
    let mut state = BTreeMap::new();
    apply(&mut state, machine.checkpoint(GROUP, Bytes::from_static(b"meta")));
    let small = VhostMachine::new().checkpoint(GROUP, Bytes::from_static(b"meta"));
    let mut empty = BTreeMap::new();
    apply(&mut empty, small);
    let world = World::new(1, false);
    let system: BTreeMap<Bytes, Bytes> = world.brokers[0].pairs_of(GroupId::SYSTEM).into_iter().collect();
    let mut seeds = vec![chunk_of(0, &state), chunk_of(1, &empty), chunk_of(4, &state)];
    if !system.is_empty() {
        seeds.push(chunk_of(2, &system));
    }
    let mut system = SystemMachine::new().checkpoint(GROUP, Bytes::from_static(b"meta"));
    let mut founded = BTreeMap::new();
    apply(&mut founded, std::mem::take(&mut system));
    seeds.push(chunk_of(2, &founded));
    seeds
}

fn chunk_of(mode: u8, state: &BTreeMap<Bytes, Bytes>) -> Vec<u8> {
    let pair = |(key, value): (&Bytes, &Bytes)| SnapshotPair {
        family: Family::State,
        key: key.slice(4..),
        value: value.clone(),
    };
    let pairs = state.iter().map(pair).collect();
    let message = PeerMessage::SnapshotChunk { transfer: 77, chunk: 0, pairs, last: true };
    [&[mode][..], &message.encode()].concat()
}
