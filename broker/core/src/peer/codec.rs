//! Messages between brokers as bytes.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_store::ids::{ClusterId, Epoch, GroupId, Incarnation, Index, Position, RaftId, StoreId, Term};
use quorate_store::state::Family;

use super::{Admission, ClosingStep, LifeAnswer, LineageTag, PeerMessage, SnapshotOffer, SnapshotPair};
use crate::codec::{CodecError, Pieces, Reader, put_bytes, put_count, put_option, put_text, put_uuid};
use crate::formation::lineage_wire::{decode_lineage, encode_lineage};
use crate::formation::{FoundingMessage, InitialStatus};
use crate::replica::wire::RaftMessage;

impl PeerMessage {
    /// The payload of a link frame.
    pub fn encode(&self) -> Bytes {
        let mut pieces = self.encode_pieces();
        if pieces.len() == 1 {
            return pieces.swap_remove(0);
        }
        pieces.concat().into()
    }

    /// The payload of a link frame in pieces, none of them empty: what is long in an append is not copied.
    pub fn encode_pieces(&self) -> Vec<Bytes> {
        let mut pieces = Pieces::default();
        if let Self::Raft { group, lineage, message } = self {
            pieces.open().put_u8(4);
            put_tag(pieces.open(), *group, *lineage);
            message.encode(&mut pieces);
        } else {
            self.encode_fields(pieces.open());
        }
        pieces.finish()
    }

    fn encode_fields(&self, out: &mut BytesMut) {
        match self {
            Self::Status(status) => {
                out.put_u8(1);
                out.put_slice(&status.encode());
            }
            Self::Founding(message) => {
                out.put_u8(2);
                out.put_slice(&message.encode());
            }
            Self::Admit(admission) => {
                out.put_u8(3);
                admission.encode(out);
            }
            Self::Raft { .. } => unreachable!("an append is encoded in pieces"),
            Self::SnapshotOffer { group, lineage, offer } => {
                out.put_u8(5);
                put_tag(out, *group, *lineage);
                for number in [
                    offer.transfer,
                    offer.from.0,
                    offer.to.0,
                    offer.term.0,
                    offer.index.0,
                    offer.index_term.0,
                ] {
                    out.put_u64_le(number);
                }
                put_numbers(out, &offer.voters);
                put_numbers(out, &offer.learners);
                out.put_u32_le(offer.peak);
                put_numbers(out, &offer.gone);
                out.put_u64_le(offer.estimate);
            }
            Self::SnapshotPull { transfer, chunk } => {
                out.put_u8(6);
                out.put_u64_le(*transfer);
                out.put_u64_le(*chunk);
            }
            Self::SnapshotChunk { transfer, chunk, pairs, last } => {
                out.put_u8(7);
                out.put_u64_le(*transfer);
                out.put_u64_le(*chunk);
                out.put_u8(u8::from(*last));
                let mut body = BytesMut::new();
                put_count(&mut body, pairs.len());
                for pair in pairs {
                    body.put_u8(u8::from(pair.family == Family::Body));
                    put_bytes(&mut body, &pair.key);
                    put_bytes(&mut body, &pair.value);
                }
                // The link has TCP's checksum only; what goes into a store is checked end to end.
                out.put_u32_le(crc(&body));
                out.put_slice(&body);
            }
            Self::SnapshotGone { transfer } => {
                out.put_u8(8);
                out.put_u64_le(*transfer);
            }
            Self::SnapshotDone { transfer, installed } => {
                out.put_u8(9);
                out.put_u64_le(*transfer);
                out.put_u8(u8::from(*installed));
            }
            Self::Life { incarnation } => {
                out.put_u8(11);
                out.put_u64_le(incarnation.0);
            }
            Self::LifeAnswer(answer) => answer.encode(out),
            Self::Departed { group, store } => {
                out.put_u8(14);
                out.put_u32_le(group.0);
                put_uuid(out, store.0);
            }
            Self::Retired => out.put_u8(15),
            Self::Replaced => out.put_u8(16),
            Self::NotPermitted => out.put_u8(18),
            Self::Sleep { group, lineage, term, end } => {
                out.put_u8(17);
                put_tag(out, *group, *lineage);
                out.put_u64_le(term.0);
                out.put_u64_le(end.0);
            }
            Self::Closing { shutdown, step } => {
                out.put_u8(10);
                put_uuid(out, *shutdown);
                match step {
                    ClosingStep::Complete => out.put_u8(1),
                    ClosingStep::Closed { why_not_clean } => {
                        out.put_u8(2);
                        put_option(out, why_not_clean.as_ref(), |out, why| put_text(out, why));
                    }
                    ClosingStep::Noted => out.put_u8(3),
                }
            }
        }
    }

    /// Reads the payload of a link frame; bodies stay shared with it.
    pub fn decode(payload: Bytes) -> Result<Self, CodecError> {
        let mut reader = Reader::new(payload);
        let reader = &mut reader;
        let message = match reader.u8("message kind")? {
            1 => {
                let status =
                    InitialStatus::decode(&reader.rest()).map_err(|_| CodecError::Unknown("status"))?;
                Self::Status(Box::new(status))
            }
            2 => {
                let message = FoundingMessage::decode(&reader.rest())
                    .map_err(|_| CodecError::Unknown("founding message"))?;
                Self::Founding(Box::new(message))
            }
            3 => Self::Admit(Box::new(Admission::decode(reader)?)),
            4 => {
                let (group, lineage) = read_tag(reader)?;
                Self::Raft { group, lineage, message: Box::new(RaftMessage::decode(reader)?) }
            }
            5 => {
                let (group, lineage) = read_tag(reader)?;
                let offer = SnapshotOffer {
                    transfer: reader.u64("transfer")?,
                    from: RaftId(reader.u64("from")?),
                    to: RaftId(reader.u64("to")?),
                    term: Term(reader.u64("term")?),
                    index: Index(reader.u64("index")?),
                    index_term: Term(reader.u64("index term")?),
                    voters: read_numbers(reader)?,
                    learners: read_numbers(reader)?,
                    peak: reader.u32("most voters")?,
                    gone: read_numbers(reader)?,
                    estimate: reader.u64("estimate")?,
                };
                Self::SnapshotOffer { group, lineage, offer }
            }
            6 => Self::SnapshotPull { transfer: reader.u64("transfer")?, chunk: reader.u64("chunk")? },
            7 => Self::decode_chunk(reader)?,
            8 => Self::SnapshotGone { transfer: reader.u64("transfer")? },
            9 => {
                Self::SnapshotDone { transfer: reader.u64("transfer")?, installed: reader.bool("installed")? }
            }
            11 => Self::Life { incarnation: Incarnation(reader.u64("incarnation")?) },
            12 => {
                Self::LifeAnswer(LifeAnswer::Noted { incarnation: Incarnation(reader.u64("incarnation")?) })
            }
            13 => Self::LifeAnswer(LifeAnswer::Stale {
                told: Incarnation(reader.u64("incarnation")?),
                known: Incarnation(reader.u64("incarnation")?),
                lacks: read_acknowledged(reader)?,
            }),
            14 => {
                Self::Departed { group: GroupId(reader.u32("group")?), store: StoreId(reader.uuid("store")?) }
            }
            15 => Self::Retired,
            16 => Self::Replaced,
            18 => Self::NotPermitted,
            17 => {
                let (group, lineage) = read_tag(reader)?;
                Self::Sleep {
                    group,
                    lineage,
                    term: Term(reader.u64("term")?),
                    end: Index(reader.u64("index")?),
                }
            }
            10 => {
                let shutdown = reader.uuid("shutdown id")?;
                let step = match reader.u8("closing step")? {
                    1 => ClosingStep::Complete,
                    2 => ClosingStep::Closed {
                        why_not_clean: reader.option("reason", |reader| reader.text("reason"))?,
                    },
                    3 => ClosingStep::Noted,
                    _ => return Err(CodecError::Unknown("closing step")),
                };
                Self::Closing { shutdown, step }
            }
            _ => return Err(CodecError::Unknown("message kind")),
        };
        reader.end("message")?;
        Ok(message)
    }

    fn decode_chunk(reader: &mut Reader) -> Result<Self, CodecError> {
        let transfer = reader.u64("transfer")?;
        let chunk = reader.u64("chunk")?;
        let last = reader.bool("last")?;
        let expected = reader.u32("checksum")?;
        let body = reader.rest();
        if crc(&body) != expected {
            return Err(CodecError::Unknown("chunk checksum"));
        }
        let mut body = Reader::new(body);
        let count = body.count(9, "pairs")?;
        let mut pairs = Vec::with_capacity(count);
        for _ in 0..count {
            let family = if body.bool("family")? { Family::Body } else { Family::State };
            pairs.push(SnapshotPair { family, key: body.bytes("key")?, value: body.bytes("value")? });
        }
        body.end("chunk")?;
        Ok(Self::SnapshotChunk { transfer, chunk, pairs, last })
    }
}

fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

impl LifeAnswer {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Noted { incarnation } => {
                out.put_u8(12);
                out.put_u64_le(incarnation.0);
            }
            Self::Stale { told, known, lacks } => {
                out.put_u8(13);
                out.put_u64_le(told.0);
                out.put_u64_le(known.0);
                put_count(out, lacks.len());
                for (group, position) in lacks {
                    out.put_u32_le(group.0);
                    out.put_u32_le(position.epoch.0);
                    out.put_u64_le(position.term.0);
                    out.put_u64_le(position.index.0);
                }
            }
        }
    }
}

impl Admission {
    fn encode(&self, out: &mut BytesMut) {
        put_uuid(out, self.cluster_id.0);
        put_text(out, &self.cluster_name);
        out.put_u64_le(self.raft_id.0);
        put_count(out, self.groups.len());
        for (group, vhost, lineage) in &self.groups {
            out.put_u32_le(group.0);
            put_text(out, vhost);
            put_bytes(out, &encode_lineage(lineage));
        }
        put_count(out, self.members.len());
        for (store, raft_id, name, address) in &self.members {
            put_uuid(out, store.0);
            out.put_u64_le(raft_id.0);
            put_text(out, name);
            put_text(out, address);
        }
    }

    fn decode(reader: &mut Reader) -> Result<Self, CodecError> {
        let cluster_id = ClusterId(reader.uuid("cluster id")?);
        let cluster_name = reader.text("cluster name")?;
        let raft_id = RaftId(reader.u64("raft id")?);
        let mut groups = Vec::new();
        for _ in 0..reader.count(10, "groups")? {
            let group = GroupId(reader.u32("group")?);
            let vhost = reader.text("vhost")?;
            let lineage =
                decode_lineage(&reader.bytes("lineage")?).map_err(|_| CodecError::Unknown("lineage"))?;
            groups.push((group, vhost, lineage));
        }
        let mut members = Vec::new();
        for _ in 0..reader.count(28, "members")? {
            members.push((
                reader.store("store")?,
                RaftId(reader.u64("raft id")?),
                reader.text("name")?,
                reader.text("address")?,
            ));
        }
        Ok(Self { cluster_id, cluster_name, raft_id, groups, members })
    }
}

fn put_tag(out: &mut BytesMut, group: GroupId, tag: LineageTag) {
    out.put_u32_le(group.0);
    out.put_u32_le(tag.epoch.0);
    put_uuid(out, tag.id);
}

fn read_tag(reader: &mut Reader) -> Result<(GroupId, LineageTag), CodecError> {
    let group = GroupId(reader.u32("group")?);
    Ok((group, LineageTag { epoch: Epoch(reader.u32("epoch")?), id: reader.uuid("lineage")? }))
}

fn read_acknowledged(reader: &mut Reader) -> Result<Vec<(GroupId, Position)>, CodecError> {
    let count = reader.count(24, "acknowledged positions")?;
    let position = |reader: &mut Reader| {
        let (epoch, term) = (Epoch(reader.u32("epoch")?), Term(reader.u64("term")?));
        Ok(Position { epoch, term, index: Index(reader.u64("index")?) })
    };
    (0..count).map(|_| Ok((GroupId(reader.u32("group")?), position(reader)?))).collect()
}

fn put_numbers(out: &mut BytesMut, numbers: &[u64]) {
    put_count(out, numbers.len());
    for number in numbers {
        out.put_u64_le(*number);
    }
}

fn read_numbers(reader: &mut Reader) -> Result<Vec<u64>, CodecError> {
    let count = reader.count(8, "numbers")?;
    (0..count).map(|_| reader.u64("number")).collect()
}
