//! Checkpoints of a vhost's machine in the state store: only what changed, in one atomic batch with the replica's own
//! record of how far it had applied.
//!
//! ```text
//! key = group u32 | kind u8 | id            (numbers in keys are big-endian, in values little-endian)
//!   0  the replica's record                 id: none
//!   1  machine: next queue number           id: none
//!   2  queue: definition, counters          id: queue u32
//!   3  chunk: live slots                    id: queue u32, chunk u64
//!   4  exchange: kind                       id: name
//!   5  binding                              id: length u8, exchange, length u8, queue, key
//!   6  producer: next, refused              id: producer u128
//! ```
//! Every value but the replica's begins with a format byte. Kinds are in the order in which they can be read: a
//! queue before its chunks, exchanges and queues before bindings.

use bytes::Bytes;
use quorate_protocol::frame::{Binding, ExchangeKind, ProducerId};
use quorate_protocol::name::{ExchangeName, QueueName, RoutingKey};
use quorate_store::ids::GroupId;
use quorate_store::state::{Family, Pair, StateBatch, StateWrite};

use super::chunk::{Chunk, SlotView};
use super::codec::{DecodeError, Reader, Writer};
use super::command::QueueId;
use super::limits::{CHUNK_SLOTS, MAX_BINDINGS, MAX_EXCHANGES, MAX_QUEUES};
use super::queue::Queue;
use super::spill::body_key;
use super::vhost::VhostMachine;

pub(super) const META: u8 = 0;
pub(super) const MACHINE: u8 = 1;
const QUEUE: u8 = 2;
const CHUNK: u8 = 3;
const EXCHANGE: u8 = 4;
const BINDING: u8 = 5;
const PRODUCER: u8 = 6;

const FORMAT: u8 = 1;

/// Why a checkpoint cannot be used: it is damaged, or a newer release wrote it. The state can be rebuilt from log and
/// peers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A key that is none of a checkpoint of this group.
    #[error("group {group}: the checkpoint has a key that is none of its own: {key:02x?}")]
    Key {
        /// Which group was to be restored.
        group: GroupId,
        /// The key.
        key: Vec<u8>,
    },
    /// A value cannot be read.
    #[error("group {group}: the checkpoint's record of kind {kind} is not readable: {cause}")]
    Record {
        /// Which group.
        group: GroupId,
        /// What kind of record.
        kind: u8,
        /// Why.
        cause: DecodeError,
    },
    /// Records that must be there are not.
    #[error("group {group}: the checkpoint lacks its record of kind {kind}")]
    Missing {
        /// Which group.
        group: GroupId,
        /// What kind of record.
        kind: u8,
    },
}

/// Where the replica's own record of a group is: what tells whether there is a checkpoint, and of when.
pub fn meta_key(group: GroupId) -> Bytes {
    key(group, META, &[])
}

pub(super) fn key(group: GroupId, kind: u8, id: &[u8]) -> Bytes {
    let mut key = Vec::with_capacity(5 + id.len());
    key.extend_from_slice(&group.0.to_be_bytes());
    key.push(kind);
    key.extend_from_slice(id);
    Bytes::from(key)
}

/// Group, kind and id of a key.
pub(super) fn split_key(group: GroupId, key: &[u8]) -> Result<(u8, &[u8]), RestoreError> {
    key.strip_prefix(&group.0.to_be_bytes())
        .and_then(<[u8]>::split_first)
        .map(|(&kind, id)| (kind, id))
        .ok_or_else(|| RestoreError::Key { group, key: key.to_vec() })
}

fn queue_id(queue: QueueId) -> [u8; 4] {
    queue.0.to_be_bytes()
}

fn chunk_id(queue: QueueId, number: u64) -> Vec<u8> {
    let mut id = queue_id(queue).to_vec();
    id.extend_from_slice(&number.to_be_bytes());
    id
}

fn binding_id(binding: &Binding) -> Vec<u8> {
    let mut id = Vec::new();
    for name in [binding.exchange.as_str(), binding.queue.as_str()] {
        id.push(u8::try_from(name.len()).expect("a name has at most 255 bytes"));
        id.extend_from_slice(name.as_bytes());
    }
    id.extend_from_slice(binding.key.as_str().as_bytes());
    id
}

fn parse_binding_id(id: &[u8]) -> Option<Binding> {
    fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
        let (&length, rest) = bytes.split_first()?;
        rest.split_at_checked(length.into())
    }
    let (exchange, rest) = counted(id)?;
    let (queue, key) = counted(rest)?;
    Some(Binding {
        exchange: ExchangeName::from_bytes(exchange).ok()?,
        queue: QueueName::from_bytes(queue).ok()?,
        key: RoutingKey::from_bytes(key).ok()?,
    })
}

/// The writes of one checkpoint, in order.
struct Writes {
    group: GroupId,
    batch: StateBatch,
}

impl Writes {
    fn set(&mut self, kind: u8, id: &[u8], value: Option<Bytes>) {
        let key = key(self.group, kind, id);
        self.batch.writes.push(match value {
            Some(value) => StateWrite::Put(Family::State, key, value),
            None => StateWrite::Delete(Family::State, key),
        });
    }

    fn delete_body(&mut self, queue: QueueId, seq: u64) {
        self.batch.writes.push(StateWrite::Delete(Family::Body, body_key(self.group, queue, seq)));
    }

    fn delete_queue(&mut self, queue: QueueId, bodies: Vec<u64>) {
        self.set(QUEUE, &queue_id(queue), None);
        let from = key(self.group, CHUNK, &queue_id(queue));
        let to = key(self.group, CHUNK, &queue_id(QueueId(queue.0 + 1)));
        self.batch.writes.push(StateWrite::DeleteRange(Family::State, from, to));
        for seq in bodies {
            self.delete_body(queue, seq);
        }
    }

    fn queue(&mut self, queue: &mut Queue) {
        let id = queue.id();
        if queue.header_dirty {
            self.set(QUEUE, &queue_id(id), Some(queue.encode_header()));
        }
        let changes = queue.take_changes();
        changes.gone.into_iter().for_each(|number| self.set(CHUNK, &chunk_id(id, number), None));
        for (number, record) in changes.chunks {
            self.set(CHUNK, &chunk_id(id, number), Some(record));
        }
        changes.dead_bodies.into_iter().for_each(|seq| self.delete_body(id, seq));
        for (seq, body) in changes.new_bodies {
            self.batch.writes.push(StateWrite::Put(Family::Body, body_key(self.group, id, seq), body));
        }
    }
}

impl VhostMachine {
    /// Everything that changed since the last checkpoint, with `meta`, the replica's own record. The caller writes it
    /// whole, before it reads any body that this machine says is spilled; from here on it counts as written.
    pub fn checkpoint(&mut self, group: GroupId, meta: Bytes) -> StateBatch {
        let mut out = Writes { group, batch: StateBatch::default() };
        out.set(META, &[], Some(meta));
        let mut machine = Writer::default();
        machine.u8(FORMAT);
        machine.u32(self.next_queue);
        out.set(MACHINE, &[], Some(machine.into_bytes()));
        for (queue, bodies) in std::mem::take(&mut self.deleted) {
            out.delete_queue(queue, bodies);
        }
        for (&id, queue) in self.queues.iter_mut().filter(|(_, queue)| queue.has_changes()) {
            self.stored_queues.insert(id);
            out.queue(queue);
        }
        for (name, kind) in self.routing.take_dirty_exchanges() {
            let record = kind.map(|kind| Bytes::copy_from_slice(&[FORMAT, kind.number()]));
            out.set(EXCHANGE, name.as_str().as_bytes(), record);
        }
        for (binding, exists) in self.routing.take_dirty_bindings() {
            out.set(BINDING, &binding_id(&binding), exists.then(|| Bytes::from_static(&[FORMAT])));
        }
        for (producer, record) in self.producers.take_dirty() {
            out.set(PRODUCER, &producer.0.to_be_bytes(), record);
        }
        out.batch
    }

    /// The machine and the replica's record as the last checkpoint left them, from all pairs of the group in key
    /// order (see [`super::spill::group_keys`]).
    pub fn restore(
        group: GroupId,
        pairs: impl IntoIterator<Item = Pair>,
    ) -> Result<(Bytes, Self), RestoreError> {
        let mut machine = Self::new();
        let mut meta = None;
        let mut counted = false;
        for (key, value) in pairs {
            let (kind, id) = split_key(group, &key)?;
            let record = |cause| RestoreError::Record { group, kind, cause };
            match kind {
                META if id.is_empty() => meta = Some(value),
                MACHINE if id.is_empty() => {
                    machine.next_queue = decode_machine(value).map_err(record)?;
                    counted = true;
                }
                _ => machine
                    .restore_record(kind, id, value)
                    .ok_or_else(|| RestoreError::Key { group, key: key.to_vec() })?
                    .map_err(record)?,
            }
        }
        let meta = meta.ok_or(RestoreError::Missing { group, kind: META })?;
        if !counted {
            return Err(RestoreError::Missing { group, kind: MACHINE });
        }
        if machine.queues.last_key_value().is_some_and(|(id, _)| id.0 >= machine.next_queue) {
            let cause = DecodeError::Value("next queue");
            return Err(RestoreError::Record { group, kind: MACHINE, cause });
        }
        machine.routing.forget_dirty();
        machine.after_restore();
        Ok((meta, machine))
    }

    /// Takes in one record; none if the key is not one of a checkpoint.
    fn restore_record(&mut self, kind: u8, id: &[u8], value: Bytes) -> Option<Result<(), DecodeError>> {
        Some(match kind {
            QUEUE => {
                let id = QueueId(u32::from_be_bytes(id.try_into().ok()?));
                Queue::decode_header(id, value).and_then(|queue| self.restore_queue(queue))
            }
            CHUNK => {
                let (queue, number) = parse_chunk_id(id)?;
                self.queues.get_mut(&queue)?.restore_chunk(number, value)
            }
            EXCHANGE => {
                let name = ExchangeName::from_bytes(id).ok().filter(|name| !name.is_default())?;
                decode_exchange(value).and_then(|kind| self.restore_exchange(name, kind))
            }
            BINDING => {
                let binding = parse_binding_id(id)?;
                let queue = *self.names.get(&binding.queue)?;
                self.exchange(binding.exchange.as_str())?;
                self.restore_binding(binding, queue, &value)
            }
            PRODUCER => {
                let id = ProducerId(u128::from_be_bytes(id.try_into().ok()?));
                self.producers.restore(id, value)
            }
            _ => return None,
        })
    }

    fn restore_queue(&mut self, queue: Queue) -> Result<(), DecodeError> {
        let taken = self.names.insert(queue.name().clone(), queue.id()).is_some();
        if taken || queue.id().0 == 0 || self.queues.len() >= MAX_QUEUES {
            return Err(DecodeError::Value("queues"));
        }
        self.stored_queues.insert(queue.id());
        self.queues.insert(queue.id(), queue);
        Ok(())
    }

    fn restore_exchange(&mut self, name: ExchangeName, kind: ExchangeKind) -> Result<(), DecodeError> {
        if self.routing.exchange_count() >= MAX_EXCHANGES || self.exchange(name.as_str()).is_some() {
            return Err(DecodeError::Value("exchanges"));
        }
        self.routing.insert_exchange(name, kind);
        Ok(())
    }

    fn restore_binding(&mut self, binding: Binding, queue: QueueId, value: &[u8]) -> Result<(), DecodeError> {
        if value != [FORMAT] {
            return Err(DecodeError::Value("binding format"));
        }
        if self.routing.binding_count() >= MAX_BINDINGS {
            return Err(DecodeError::Value("bindings"));
        }
        self.routing.bind(binding, queue).map(drop).map_err(|_| DecodeError::Value("binding key"))
    }
}

/// One record of a checkpoint as another store should get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedRecord {
    /// The record's value, in which every live message is spilled.
    pub value: Bytes,
    /// The messages whose bodies were only in the log: they have to be sent along as spilled bodies.
    pub unspilled: Vec<(QueueId, u64, SlotView)>,
}

/// Prepares one pair of [`Family::State`] for a store that has none of the group's log.
pub fn export_state(key: &[u8], value: Bytes) -> Result<ExportedRecord, DecodeError> {
    let (_, kind_and_id) = key.split_first_chunk::<4>().ok_or(DecodeError::Short)?;
    let Some((&CHUNK, id)) = kind_and_id.split_first() else {
        return Ok(ExportedRecord { value, unspilled: Vec::new() });
    };
    let (queue, number) = parse_chunk_id(id).ok_or(DecodeError::Value("chunk key"))?;
    let mut chunk = Chunk::decode(value)?;
    let unspilled = chunk.spill_all().into_iter().map(|(place, view)| {
        let seq = number.checked_mul(CHUNK_SLOTS).and_then(|first| first.checked_add(place.into()));
        seq.map(|seq| (queue, seq, view)).ok_or(DecodeError::Value("chunk number"))
    });
    let unspilled = unspilled.collect::<Result<_, _>>()?;
    Ok(ExportedRecord { value: chunk.encode(), unspilled })
}

fn parse_chunk_id(id: &[u8]) -> Option<(QueueId, u64)> {
    let (queue, number) = id.split_first_chunk::<4>()?;
    let number = <[u8; 8]>::try_from(number).ok()?;
    Some((QueueId(u32::from_be_bytes(*queue)), u64::from_be_bytes(number)))
}

fn decode_machine(record: Bytes) -> Result<u32, DecodeError> {
    let mut reader = Reader::new(record);
    if reader.u8()? != FORMAT {
        return Err(DecodeError::Value("machine format"));
    }
    let next_queue = reader.u32()?;
    reader.finish()?;
    Ok(next_queue)
}

fn decode_exchange(record: Bytes) -> Result<ExchangeKind, DecodeError> {
    let mut reader = Reader::new(record);
    if reader.u8()? != FORMAT {
        return Err(DecodeError::Value("exchange format"));
    }
    let kind = ExchangeKind::from_number(reader.u8()?).ok_or(DecodeError::Value("exchange kind"))?;
    reader.finish()?;
    Ok(kind)
}
