//! What an entry of kind `Command` carries: commands, one after the other.
//!
//! Each is `kind u8, length u32, payload`, little-endian. A publish command's payload is the client's Publish frame
//! body, byte for byte, so that a message stays one piece of bytes from socket to log to consumer.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use quorate_protocol::frame::{Binding, ExchangeKind, NumberRange, ProducerId};
use quorate_protocol::name::{ExchangeName, NameError, QueueName, RoutingKey, VhostName};
use quorate_store::ids::{ClusterId, Incarnation, RaftId, RunId, StoreId};

use super::asked::Asked;
use super::codec::{DecodeError, Reader, Writer};
use super::transaction::Transaction;

/// Bytes before a command's payload.
pub const COMMAND_HEADER: usize = 5;

/// A queue's number inside its vhost; given once, never used again. The first is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u32);

impl std::fmt::Display for QueueId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What a queue was declared with. Declaring again with the same is a success, with another a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueDefinition {
    /// Messages it may hold; publishes beyond are refused. 0: no limit but the vhost's.
    pub max_length: u64,
    /// What this release only keeps and shows.
    pub arguments: BTreeMap<String, Bytes>,
}

impl QueueDefinition {
    pub(crate) fn write(&self, out: &mut Writer) {
        out.u64(self.max_length);
        out.count(self.arguments.len());
        for (key, value) in &self.arguments {
            out.string(key);
            out.bytes(value);
        }
    }

    pub(crate) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let max_length = reader.u64()?;
        let mut arguments = BTreeMap::new();
        for _ in 0..reader.count(6)? {
            let key = reader.string()?;
            arguments.insert(key, reader.bytes()?);
        }
        Ok(Self { max_length, arguments })
    }
}

/// One broker that belongs to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its store.
    pub store: StoreId,
    /// Its number inside Raft, in every group.
    pub raft_id: RaftId,
    /// Its name.
    pub name: String,
    /// Where peers reach it.
    pub cluster_address: String,
    /// Where clients reach it.
    pub client_address: String,
    /// Where operators reach it.
    pub admin_address: String,
    /// The last acknowledged incarnation.
    pub incarnation: Incarnation,
    /// The run acknowledged with it; none until the first.
    pub run: Option<RunId>,
}

impl Member {
    pub(crate) fn write(&self, out: &mut Writer) {
        out.uuid(self.store.0);
        out.u64(self.raft_id.0);
        for text in [&self.name, &self.cluster_address, &self.client_address, &self.admin_address] {
            out.string(text);
        }
        out.u64(self.incarnation.0);
        out.bool(self.run.is_some());
        if let Some(run) = self.run {
            out.uuid(run.0);
        }
    }

    pub(crate) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            store: StoreId(reader.uuid()?),
            raft_id: RaftId(reader.u64()?),
            name: reader.string()?,
            cluster_address: reader.string()?,
            client_address: reader.string()?,
            admin_address: reader.string()?,
            incarnation: Incarnation(reader.u64()?),
            run: if reader.bool("run present")? { Some(RunId(reader.uuid()?)) } else { None },
        })
    }
}

/// One place of the founding rule's union: who may become a voter without an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The address text it was listed under; empty if it was known by its store alone.
    pub address: String,
    /// The one store that took it.
    pub store: Option<StoreId>,
}

impl Place {
    pub(crate) fn write(&self, out: &mut Writer) {
        out.string(&self.address);
        out.bool(self.store.is_some());
        if let Some(store) = self.store {
            out.uuid(store.0);
        }
    }

    pub(crate) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let address = reader.string()?;
        let store = if reader.bool("store present")? { Some(StoreId(reader.uuid()?)) } else { None };
        Ok(Self { address, store })
    }
}

/// What a founding agreed on: the first command of the group `system`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founding {
    /// The new cluster's id.
    pub cluster: ClusterId,
    /// Its name.
    pub name: String,
    /// The founders, with their Raft ids.
    pub members: Vec<Member>,
    /// The union.
    pub places: Vec<Place>,
}

/// One change, as it is proposed and replicated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A batch of messages: a client's Publish frame body as it came.
    Publish(Bytes),
    /// Makes a queue.
    DeclareQueue {
        /// Its name.
        name: QueueName,
        /// With what.
        definition: QueueDefinition,
    },
    /// Removes a queue with its messages and bindings.
    DeleteQueue {
        /// Which.
        name: QueueName,
        /// Fail if it holds a message.
        if_empty: bool,
    },
    /// Removes a queue's messages.
    PurgeQueue {
        /// Which.
        name: QueueName,
        /// But not these: the leader's consumers hold them.
        except: Vec<NumberRange>,
    },
    /// Makes an exchange.
    DeclareExchange {
        /// Its name.
        name: ExchangeName,
        /// Its kind.
        kind: ExchangeKind,
    },
    /// Removes an exchange with its bindings.
    DeleteExchange {
        /// Which.
        name: ExchangeName,
        /// Fail if it has bindings.
        if_unused: bool,
    },
    /// Routes an exchange's messages to a queue.
    Bind(Binding),
    /// Takes a binding back.
    Unbind(Binding),
    /// Messages were consumed: they are gone.
    Ack {
        /// Whose.
        queue: QueueId,
        /// Which sequences.
        ranges: Vec<NumberRange>,
    },
    /// Messages were rejected for good: they are gone.
    Drop {
        /// Whose.
        queue: QueueId,
        /// Which sequences.
        ranges: Vec<NumberRange>,
    },
    /// Messages came back from a consumer: their delivery count goes up.
    Returned {
        /// Whose.
        queue: QueueId,
        /// Which sequences.
        ranges: Vec<NumberRange>,
    },
    /// The leader may deliver sequences below `to`.
    Expose {
        /// Whose.
        queue: QueueId,
        /// The new bound; never goes down.
        to: u64,
    },
    /// A transaction: all of it takes effect, or nothing.
    Transaction(Transaction),
    /// A transaction whose outcome a client does not know: it stays committed, or never will be.
    Resolve {
        /// Whose.
        producer: ProducerId,
        /// Its number.
        number: u64,
        /// Every number below this is settled.
        first_unsettled: u64,
    },
    /// `system`: the cluster begins.
    Found(Founding),
    /// `system`: a broker belongs to the cluster from here on; its `raft_id` is given when this is applied.
    AddMember {
        /// The broker; `raft_id` is ignored.
        member: Member,
        /// The index of the place it takes, or none if an operator named it.
        place: Option<u32>,
    },
    /// `system`: a member's name, addresses, incarnation and run change; `raft_id` is ignored.
    UpdateMember(Member),
    /// `system`: a member's store id is retired for ever.
    RemoveMember {
        /// Which.
        store: StoreId,
    },
    /// `system`: the broker of this name becomes a voter, now or when it comes.
    PermitMember {
        /// Its name.
        name: String,
        /// Where to look for it; empty if it finds the cluster by itself.
        address: String,
    },
    /// `system`: a permission that nobody has used yet is taken back.
    ForgetMember {
        /// The name.
        name: String,
    },
    /// `system`: a member is to leave every group, and then the cluster.
    LeaveMember {
        /// Which.
        store: StoreId,
        /// Another store comes under its name.
        replaced: bool,
    },
    /// `system`: a member is not to lead any more, or may lead again.
    DrainMember {
        /// Which.
        store: StoreId,
        /// Not to lead.
        drained: bool,
    },
    /// `system`: the safety number of the cluster from here on. Nobody asked for it.
    RenewSafety {
        /// Random.
        number: u64,
    },
    /// `system`: a change of members or a vhost that an operator asked for, with who did, for the audit.
    Asked(Box<Asked>),
    /// `system`: a vhost with a group of its own.
    CreateVhost {
        /// Its name.
        name: VhostName,
    },
}

impl Command {
    fn kind(&self) -> u8 {
        match self {
            Self::Publish(_) => 1,
            Self::DeclareQueue { .. } => 2,
            Self::DeleteQueue { .. } => 3,
            Self::PurgeQueue { .. } => 4,
            Self::DeclareExchange { .. } => 5,
            Self::DeleteExchange { .. } => 6,
            Self::Bind(_) => 7,
            Self::Unbind(_) => 8,
            Self::Ack { .. } => 9,
            Self::Drop { .. } => 10,
            Self::Returned { .. } => 11,
            Self::Expose { .. } => 12,
            Self::Transaction(_) => 13,
            Self::Resolve { .. } => 14,
            Self::Found(_) => 64,
            Self::AddMember { .. } => 65,
            Self::UpdateMember(_) => 66,
            Self::RemoveMember { .. } => 67,
            Self::CreateVhost { .. } => 68,
            Self::PermitMember { .. } => 70,
            Self::ForgetMember { .. } => 71,
            Self::LeaveMember { .. } => 72,
            Self::DrainMember { .. } => 73,
            Self::Asked(_) => 74,
            Self::RenewSafety { .. } => 96,
        }
    }

    /// Appends the command to an entry's data.
    ///
    /// # Panics
    /// If a name is 64 KiB long or the payload 4 GiB: both are checked where they enter the broker.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer(std::mem::take(out));
        writer.u8(self.kind());
        let length_at = writer.0.len();
        writer.u32(0);
        self.write_payload(&mut writer);
        *out = writer.0;
        let length = out.len() - length_at - 4;
        let length = u32::try_from(length).expect("a command is limited by the frame it came in");
        out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    fn write_payload(&self, out: &mut Writer) {
        match self {
            Self::Publish(body) => out.0.extend_from_slice(body),
            Self::DeclareQueue { name, definition } => {
                out.string(name.as_str());
                definition.write(out);
            }
            Self::DeleteQueue { name, if_empty } => {
                out.string(name.as_str());
                out.bool(*if_empty);
            }
            Self::PurgeQueue { name, except } => {
                out.string(name.as_str());
                write_ranges(out, except);
            }
            Self::DeclareExchange { name, kind } => {
                out.string(name.as_str());
                out.u8(kind.number());
            }
            Self::DeleteExchange { name, if_unused } => {
                out.string(name.as_str());
                out.bool(*if_unused);
            }
            Self::Bind(binding) | Self::Unbind(binding) => {
                out.string(binding.exchange.as_str());
                out.string(binding.queue.as_str());
                out.string(binding.key.as_str());
            }
            Self::Ack { queue, ranges } | Self::Drop { queue, ranges } | Self::Returned { queue, ranges } => {
                out.u32(queue.0);
                write_ranges(out, ranges);
            }
            Self::CreateVhost { name } => out.string(name.as_str()),
            Self::Transaction(transaction) => transaction.write(out),
            Self::Resolve { producer, number, first_unsettled } => {
                out.0.extend_from_slice(&producer.0.to_le_bytes());
                out.u64(*number);
                out.u64(*first_unsettled);
            }
            Self::Expose { queue, to } => {
                out.u32(queue.0);
                out.u64(*to);
            }
            Self::Found(founding) => {
                out.uuid(founding.cluster.0);
                out.string(&founding.name);
                out.count(founding.members.len());
                founding.members.iter().for_each(|member| member.write(out));
                out.count(founding.places.len());
                founding.places.iter().for_each(|place| place.write(out));
            }
            Self::AddMember { member, place } => {
                member.write(out);
                out.bool(place.is_some());
                out.u32(place.unwrap_or(0));
            }
            Self::UpdateMember(member) => member.write(out),
            Self::RemoveMember { store } => out.uuid(store.0),
            Self::PermitMember { name, address } => {
                out.string(name);
                out.string(address);
            }
            Self::ForgetMember { name } => out.string(name),
            Self::Asked(asked) => asked.write(out),
            Self::RenewSafety { number } => out.u64(*number),
            Self::LeaveMember { store, replaced: flag } | Self::DrainMember { store, drained: flag } => {
                out.uuid(store.0);
                out.bool(*flag);
            }
        }
    }

    pub(super) fn read(kind: u8, payload: Bytes) -> Result<Self, DecodeError> {
        if kind == 1 {
            return Ok(Self::Publish(payload));
        }
        let mut reader = Reader::new(payload);
        let from = &mut reader;
        let command = match kind {
            2 => Self::DeclareQueue {
                name: read_name(from, QueueName::new)?,
                definition: QueueDefinition::read(from)?,
            },
            3 => {
                Self::DeleteQueue { name: read_name(from, QueueName::new)?, if_empty: from.bool("if empty")? }
            }
            4 => Self::PurgeQueue { name: read_name(from, QueueName::new)?, except: read_ranges(from)? },
            5 => {
                let name = read_name(from, ExchangeName::new)?;
                let kind =
                    ExchangeKind::from_number(from.u8()?).ok_or(DecodeError::Value("exchange kind"))?;
                Self::DeclareExchange { name, kind }
            }
            6 => {
                let name = read_name(from, ExchangeName::new)?;
                Self::DeleteExchange { name, if_unused: from.bool("if unused")? }
            }
            7 => Self::Bind(read_binding(from)?),
            8 => Self::Unbind(read_binding(from)?),
            9 => Self::Ack { queue: QueueId(from.u32()?), ranges: read_ranges(from)? },
            10 => Self::Drop { queue: QueueId(from.u32()?), ranges: read_ranges(from)? },
            11 => Self::Returned { queue: QueueId(from.u32()?), ranges: read_ranges(from)? },
            12 => Self::Expose { queue: QueueId(from.u32()?), to: from.u64()? },
            13 => Self::Transaction(Transaction::read(from)?),
            14 => Self::Resolve {
                producer: ProducerId(u128::from_le_bytes(from.array()?)),
                number: from.u64()?,
                first_unsettled: from.u64()?,
            },
            64 => Self::Found(read_founding(from)?),
            65 => {
                let member = Member::read(from)?;
                let placed = from.bool("place present")?;
                let place = from.u32()?;
                Self::AddMember { member, place: placed.then_some(place) }
            }
            66 => Self::UpdateMember(Member::read(from)?),
            67 => Self::RemoveMember { store: StoreId(from.uuid()?) },
            68 => Self::CreateVhost { name: read_name(from, VhostName::new)? },
            70 => Self::PermitMember { name: from.string()?, address: from.string()? },
            71 => Self::ForgetMember { name: from.string()? },
            72 => Self::LeaveMember { store: StoreId(from.uuid()?), replaced: from.bool("replaced")? },
            73 => Self::DrainMember { store: StoreId(from.uuid()?), drained: from.bool("drained")? },
            74 => Self::Asked(Box::new(Asked::read(from)?)),
            96 => Self::RenewSafety { number: from.u64()? },
            _ => return Err(DecodeError::Value("command kind")),
        };
        reader.finish()?;
        Ok(command)
    }
}

pub(super) fn write_ranges(out: &mut Writer, ranges: &[NumberRange]) {
    out.count(ranges.len());
    for range in ranges {
        out.u64(range.first());
        out.u64(range.last());
    }
}

pub(super) fn read_ranges(reader: &mut Reader) -> Result<Vec<NumberRange>, DecodeError> {
    let count = reader.count(16)?;
    let mut ranges = Vec::with_capacity(count);
    for _ in 0..count {
        let (first, last) = (reader.u64()?, reader.u64()?);
        ranges.push(NumberRange::new(first, last).ok_or(DecodeError::Value("range"))?);
    }
    Ok(ranges)
}

/// Reads a text and makes it a name.
pub(crate) fn read_name<N>(
    reader: &mut Reader,
    new: impl Fn(&str) -> Result<N, NameError>,
) -> Result<N, DecodeError> {
    new(&reader.string()?).map_err(|_| DecodeError::Value("name"))
}

fn read_binding(reader: &mut Reader) -> Result<Binding, DecodeError> {
    Ok(Binding {
        exchange: read_name(reader, ExchangeName::new)?,
        queue: read_name(reader, QueueName::new)?,
        key: read_name(reader, RoutingKey::new)?,
    })
}

fn read_founding(reader: &mut Reader) -> Result<Founding, DecodeError> {
    let cluster = ClusterId(reader.uuid()?);
    let name = reader.string()?;
    let mut members = Vec::new();
    for _ in 0..reader.count(41)? {
        members.push(Member::read(reader)?);
    }
    let mut places = Vec::new();
    for _ in 0..reader.count(3)? {
        places.push(Place::read(reader)?);
    }
    Ok(Founding { cluster, name, members, places })
}

/// One command and where its payload begins in the entry's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Offset of the payload's first byte in the entry's data.
    pub offset: usize,
    /// The command, or why these bytes are none; what follows is still read.
    pub command: Result<Command, DecodeError>,
}

/// Iterates over the commands of one entry without copying. Bytes that do not even frame a command are one last item
/// with an error, so the number of items depends on the bytes alone.
#[derive(Clone, Debug)]
pub struct CommandReader {
    rest: Bytes,
    offset: usize,
}

impl CommandReader {
    /// Reads `data`, the data of an entry of kind `Command`.
    pub fn new(data: &Bytes) -> Self {
        Self { rest: data.clone(), offset: 0 }
    }
}

impl Iterator for CommandReader {
    type Item = Located;

    fn next(&mut self) -> Option<Located> {
        if self.rest.is_empty() {
            return None;
        }
        let offset = self.offset + COMMAND_HEADER;
        let mut reader = Reader::new(self.rest.clone());
        let framed = reader.u8().and_then(|kind| reader.bytes().map(|payload| (kind, payload)));
        let Ok((kind, payload)) = framed else {
            self.rest.clear();
            return Some(Located { offset, command: Err(DecodeError::Short) });
        };
        self.rest.advance(COMMAND_HEADER + payload.len());
        self.offset = offset + payload.len();
        Some(Located { offset, command: Command::read(kind, payload) })
    }
}
