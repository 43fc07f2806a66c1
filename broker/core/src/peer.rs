//! What brokers say to each other on an authenticated link.
//!
//! A message is `kind u8` and its fields, little-endian, in one link frame; unknown kinds are an error that closes the
//! link, since both ends negotiated one version.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_store::ids::{ClusterId, Epoch, GroupId, Incarnation, Index, Position, RaftId, StoreId, Term};
use quorate_store::stamp::EpochEntry;
use quorate_store::state::Family;
use uuid::Uuid;

use crate::codec::{CodecError, Pieces, Reader, put_bytes, put_count, put_option, put_text, put_uuid};
use crate::formation::lineage_wire::{decode_lineage, encode_lineage};
use crate::formation::{FoundingMessage, InitialStatus};
use crate::replica::wire::RaftMessage;

/// The latest epoch of a group's lineage, carried by everything that concerns the group: a message of another lineage
/// is never handed to Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LineageTag {
    /// Its number.
    pub epoch: Epoch,
    /// Its random id.
    pub id: Uuid,
}

/// One broker's message to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// What the sender knows about itself; sent when a link opens and at each change.
    Status(Box<InitialStatus>),
    /// Part of the founding agreement.
    Founding(Box<FoundingMessage>),
    /// The leader of `system` tells a newcomer that it belongs to the cluster.
    Admit(Box<Admission>),
    /// Raft's own.
    Raft {
        /// Which group.
        group: GroupId,
        /// Of which lineage.
        lineage: LineageTag,
        /// The message.
        message: Box<RaftMessage>,
    },
    /// The leader has a snapshot for a node whose log it cannot reach any more.
    SnapshotOffer {
        /// Which group.
        group: GroupId,
        /// Of which lineage.
        lineage: LineageTag,
        /// What is offered.
        offer: SnapshotOffer,
    },
    /// The receiver wants the next chunk.
    SnapshotPull {
        /// Which transfer.
        transfer: u64,
        /// Which chunk, from 0.
        chunk: u64,
    },
    /// One chunk.
    SnapshotChunk {
        /// Which transfer.
        transfer: u64,
        /// Which chunk, from 0.
        chunk: u64,
        /// Keys without their group prefix, and values.
        pairs: Vec<SnapshotPair>,
        /// Nothing follows.
        last: bool,
    },
    /// The source does not have this transfer (any more).
    SnapshotGone {
        /// Which transfer.
        transfer: u64,
    },
    /// The receiver has installed it, or gave up.
    SnapshotDone {
        /// Which transfer.
        transfer: u64,
        /// Installed.
        installed: bool,
    },
    /// The sender's store has begun this life. Told before it takes part, and answered once it is in a stamp.
    Life {
        /// Its incarnation; the run is that of the link.
        incarnation: Incarnation,
    },
    /// Answer to `Life`.
    LifeAnswer(LifeAnswer),
    /// Between those who close by an administrative shutdown.
    Closing {
        /// Its id.
        shutdown: Uuid,
        /// What the sender has come to.
        step: ClosingStep,
    },
    /// The leader of a group says, to that of `system`, that the group is done with a member that leaves: its removal is
    /// committed, and a majority of those who stay has synced everything up to it.
    Departed {
        /// Which group.
        group: GroupId,
        /// Who leaves.
        store: StoreId,
    },
    /// The group's leader has nothing to do and sends no heartbeats until it has: whoever has everything need not wait for
    /// one.
    Sleep {
        /// Which group.
        group: GroupId,
        /// Of which lineage.
        lineage: LineageTag,
        /// The leader's term.
        term: Term,
        /// Where its log ends; all of it is committed.
        end: Index,
    },
    /// The receiver's store was removed from the cluster for good.
    Retired,
    /// The receiver cannot read its store, and an operator had it replaced: an empty one under its name takes the place.
    Replaced,
    /// To a newcomer: the operator's list of permitted nodes does not name it.
    NotPermitted,
}

/// What a peer says to a life that it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LifeAnswer {
    /// It is in its stamp.
    Noted {
        /// Of the life that was told.
        incarnation: Incarnation,
    },
    /// The store is an older copy of itself.
    Stale {
        /// Of the life that was told.
        told: Incarnation,
        /// The highest that is known.
        known: Incarnation,
        /// What it is known to have acknowledged and was last heard not to have, whatever its life. The store itself knows
        /// better what it has by now.
        lacks: Vec<(GroupId, Position)>,
    },
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

/// What somebody who closes tells the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClosingStep {
    /// The logs of all its groups have ended, durably.
    Complete,
    /// Its store is closed.
    Closed {
        /// None: it is clean.
        why_not_clean: Option<String>,
    },
    /// The initiator knows that the receiver has closed.
    Noted,
}

/// One pair of a snapshot chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPair {
    /// `State` or `Body`.
    pub family: Family,
    /// The key after its four-byte group prefix.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
}

/// What a newcomer needs to know to take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its name.
    pub cluster_name: String,
    /// The newcomer's number inside Raft.
    pub raft_id: RaftId,
    /// The groups of the cluster: number, virtual host, lineage.
    pub groups: Vec<(GroupId, String, Vec<EpochEntry>)>,
    /// The members, itself among them: store, Raft id, name, cluster address.
    pub members: Vec<(StoreId, RaftId, String, String)>,
}

/// A snapshot of a group's state at one place of its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOffer {
    /// Names the transfer at its source.
    pub transfer: u64,
    /// The source's Raft id.
    pub from: RaftId,
    /// The receiver's Raft id.
    pub to: RaftId,
    /// The source's term.
    pub term: Term,
    /// The state is that after applying this entry.
    pub index: Index,
    /// The term of that entry.
    pub index_term: Term,
    /// Voters at that place.
    pub voters: Vec<u64>,
    /// Learners at that place.
    pub learners: Vec<u64>,
    /// The most voters at one time in the epoch, up to that place.
    pub peak: u32,
    /// Removed in the epoch, up to that place.
    pub gone: Vec<u64>,
    /// About how many bytes there are to send, for people.
    pub estimate: u64,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorate_store::record::{Entry, EntryKind};

    use super::*;

    fn tag() -> LineageTag {
        LineageTag { epoch: Epoch(3), id: Uuid::from_u128(9) }
    }

    fn append(data: &[u8], index: u64) -> PeerMessage {
        let entry = |index: u64| Entry {
            term: Term(7),
            index: Index(index),
            kind: EntryKind::Command,
            data: Bytes::copy_from_slice(data),
        };
        let message = RaftMessage {
            kind: 1,
            to: 2,
            from: 1,
            term: 7,
            log_term: 6,
            index,
            entries: vec![entry(index + 1), entry(index + 2)],
            commit: index,
            commit_term: 0,
            request_snapshot: 0,
            reject: false,
            reject_hint: 0,
            context: Bytes::from_static(b"context"),
            priority: -1,
        };
        PeerMessage::Raft { group: GroupId(4), lineage: tag(), message: Box::new(message) }
    }

    fn closing(step: ClosingStep) -> PeerMessage {
        PeerMessage::Closing { shutdown: Uuid::from_u128(4), step }
    }

    fn samples() -> Vec<PeerMessage> {
        let offer = SnapshotOffer {
            transfer: 1,
            from: RaftId(1),
            to: RaftId(2),
            term: Term(3),
            index: Index(4),
            index_term: Term(2),
            voters: vec![1, 2, 3],
            learners: vec![4],
            peak: 3,
            gone: vec![5],
            estimate: 9,
        };
        let pair = |family, key: &'static [u8]| SnapshotPair {
            family,
            key: Bytes::from_static(key),
            value: Bytes::from_static(b"value"),
        };
        let admission = Admission {
            cluster_id: ClusterId(Uuid::from_u128(1)),
            cluster_name: "quorate".into(),
            raft_id: RaftId(4),
            groups: vec![
                (GroupId(0), "system".into(), Vec::new()),
                (GroupId(1), "/".into(), crate::formation::samples::epochs(&[1, 2])),
            ],
            members: vec![(StoreId(Uuid::from_u128(5)), RaftId(1), "a".into(), "h:1".into())],
        };
        vec![
            PeerMessage::Admit(Box::new(admission)),
            append(b"body", 10),
            PeerMessage::SnapshotOffer { group: GroupId(1), lineage: tag(), offer },
            PeerMessage::SnapshotPull { transfer: 1, chunk: 2 },
            PeerMessage::SnapshotChunk {
                transfer: 1,
                chunk: 2,
                pairs: vec![pair(Family::State, b"key"), pair(Family::Body, b"")],
                last: true,
            },
            PeerMessage::SnapshotGone { transfer: 8 },
            PeerMessage::SnapshotDone { transfer: 8, installed: true },
            PeerMessage::Life { incarnation: Incarnation(7) },
            PeerMessage::LifeAnswer(LifeAnswer::Noted { incarnation: Incarnation(7) }),
            PeerMessage::LifeAnswer(LifeAnswer::Stale {
                told: Incarnation(7),
                known: Incarnation(8),
                lacks: vec![(GroupId(1), Position { epoch: Epoch(1), term: Term(2), index: Index(3) })],
            }),
            closing(ClosingStep::Complete),
            closing(ClosingStep::Closed { why_not_clean: None }),
            closing(ClosingStep::Closed { why_not_clean: Some("slow".into()) }),
            closing(ClosingStep::Noted),
            PeerMessage::Departed { group: GroupId(1), store: StoreId(Uuid::from_u128(7)) },
            PeerMessage::Retired,
            PeerMessage::Replaced,
            PeerMessage::NotPermitted,
            PeerMessage::Sleep { group: GroupId(1), lineage: tag(), term: Term(3), end: Index(4) },
            append(&[7; 10_000], 10),
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        for message in samples() {
            assert_eq!(PeerMessage::decode(message.encode()), Ok(message));
        }
    }

    #[test]
    fn a_message_cut_anywhere_or_with_bytes_left_over_is_refused() {
        for message in samples() {
            let bytes = message.encode();
            for length in (0..bytes.len()).step_by(1 + bytes.len() / 600) {
                assert!(PeerMessage::decode(bytes.slice(..length)).is_err(), "{message:?} cut at {length}");
            }
            let mut longer = bytes.to_vec();
            longer.push(0);
            assert!(PeerMessage::decode(longer.into()).is_err(), "{message:?} with a byte left over");
        }
    }

    #[test]
    fn a_flipped_bit_in_a_chunk_is_noticed() {
        let chunk = &samples()[4];
        let bytes = chunk.encode();
        // After kind, transfer, chunk number, flag and checksum come the pairs.
        for bit in 22 * 8..bytes.len() * 8 {
            let mut broken = bytes.to_vec();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(PeerMessage::decode(broken.into()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn an_append_with_a_gap_or_a_falling_term_is_not_sound() {
        let PeerMessage::Raft { message, .. } = append(&[], 10) else { unreachable!() };
        assert!(message.is_sound());
        let mut gap = message.clone();
        gap.entries[1].index = Index(13);
        assert!(!gap.is_sound());
        let mut falling = message.clone();
        falling.entries[1].term = Term(5);
        assert!(!falling.is_sound());
        let mut future = message.clone();
        future.entries[1].term = Term(8);
        assert!(!future.is_sound());
        let mut nowhere = message.clone();
        nowhere.log_term = 0;
        assert!(!nowhere.is_sound(), "raft-rs takes it for one that fits, wherever it is");
        let mut own = message.clone();
        own.term = 0;
        own.entries.clear();
        assert!(!own.is_sound(), "raft-rs takes it for one of its own");
        let mut end = message;
        end.entries.clear();
        end.index = u64::MAX;
        assert!(!end.is_sound());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = PeerMessage::decode(bytes.into());
        }

        #[test]
        fn appends_survive_the_wire(data in proptest::collection::vec(any::<u8>(), 0..300), index in 0..1_000_000_u64) {
            let message = append(&data, index);
            prop_assert_eq!(PeerMessage::decode(message.encode()), Ok(message));
        }
    }
}
