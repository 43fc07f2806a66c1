//! Raft's messages in our own encoding: raft-rs's protobuf types never meet a wire.

use bytes::{BufMut, Bytes, BytesMut};
use protobuf::Message as _;
use quorate_store::ids::{Incarnation, Index, Term};
use quorate_store::record::{Entry, EntryKind};
use raft::eraftpb;

use crate::codec::{CodecError, Pieces, Reader, put_bytes, put_count};

/// One Raft message between two nodes of a group. The fields mean what they mean in raft-rs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftMessage {
    /// Kind, as numbered by [`kind_number`].
    pub kind: u8,
    /// Receiver's Raft id.
    pub to: u64,
    /// Sender's Raft id.
    pub from: u64,
    /// Sender's term.
    pub term: u64,
    /// Term of the entry at `index`.
    pub log_term: u64,
    /// Place the message speaks about.
    pub index: u64,
    /// Entries to append.
    pub entries: Vec<Entry>,
    /// Sender's commit index.
    pub commit: u64,
    /// Term of the entry at `commit`.
    pub commit_term: u64,
    /// A follower asks for a snapshot at least this late.
    pub request_snapshot: u64,
    /// The answer is no.
    pub reject: bool,
    /// Where to probe next.
    pub reject_hint: u64,
    /// Read-index context, or the kind of campaign.
    pub context: Bytes,
    /// The candidate's priority.
    pub priority: i64,
}

/// Kinds that may travel, with their numbers on the wire. Snapshots travel as messages of their own.
///
/// Kinds by which raft-rs lets a caller command its own node, or lets a follower forward a caller's wish, are none of
/// them: a peer must not command us.
const KINDS: [(u8, eraftpb::MessageType); 9] = [
    (1, eraftpb::MessageType::MsgAppend),
    (2, eraftpb::MessageType::MsgAppendResponse),
    (3, eraftpb::MessageType::MsgRequestVote),
    (4, eraftpb::MessageType::MsgRequestVoteResponse),
    (5, eraftpb::MessageType::MsgHeartbeat),
    (6, eraftpb::MessageType::MsgHeartbeatResponse),
    (7, eraftpb::MessageType::MsgTimeoutNow),
    (8, eraftpb::MessageType::MsgRequestPreVote),
    (9, eraftpb::MessageType::MsgRequestPreVoteResponse),
];

/// No cluster lives to see such a term or index; whoever sends one would make counting up overflow.
const NUMBER_MAX: u64 = 1 << 62;

/// The wire number of a kind that may travel.
pub fn kind_number(kind: eraftpb::MessageType) -> Option<u8> {
    KINDS.iter().find(|(_, known)| *known == kind).map(|(number, _)| *number)
}

fn kind_of(number: u8) -> Option<eraftpb::MessageType> {
    KINDS.iter().find(|(known, _)| *known == number).map(|(_, kind)| *kind)
}

impl RaftMessage {
    /// From raft-rs's form; `None` for kinds that do not travel this way.
    pub fn from_raft(mut message: eraftpb::Message) -> Option<Self> {
        let kind = kind_number(message.get_msg_type())?;
        Some(Self {
            kind,
            to: message.to,
            from: message.from,
            term: message.term,
            log_term: message.log_term,
            index: message.index,
            entries: message.take_entries().into_iter().map(entry_from_raft).collect(),
            commit: message.commit,
            commit_term: message.commit_term,
            request_snapshot: message.request_snapshot,
            reject: message.reject,
            reject_hint: message.reject_hint,
            context: message.take_context(),
            priority: message.priority,
        })
    }

    /// To raft-rs's form; `None` for an unknown kind.
    pub fn into_raft(self) -> Option<eraftpb::Message> {
        let mut message = eraftpb::Message::default();
        message.set_msg_type(kind_of(self.kind)?);
        message.to = self.to;
        message.from = self.from;
        message.term = self.term;
        message.log_term = self.log_term;
        message.index = self.index;
        message.set_entries(self.entries.into_iter().map(entry_into_raft).collect::<Vec<_>>().into());
        message.commit = self.commit;
        message.commit_term = self.commit_term;
        message.request_snapshot = self.request_snapshot;
        message.reject = self.reject;
        message.reject_hint = self.reject_hint;
        message.context = self.context;
        message.priority = self.priority;
        Some(message)
    }

    /// Appends the encoding; long bodies stay shared.
    pub fn encode(&self, pieces: &mut Pieces) {
        let out = pieces.open();
        out.put_u8(self.kind);
        for number in [
            self.to,
            self.from,
            self.term,
            self.log_term,
            self.index,
            self.commit,
            self.commit_term,
            self.request_snapshot,
            self.reject_hint,
        ] {
            out.put_u64_le(number);
        }
        out.put_u8(u8::from(self.reject));
        out.put_i64_le(self.priority);
        put_bytes(out, &self.context);
        put_count(out, self.entries.len());
        for entry in &self.entries {
            let out = pieces.open();
            out.put_u64_le(entry.term.0);
            out.put_u64_le(entry.index.0);
            out.put_u8(entry.kind as u8);
            pieces.put_bytes(&entry.data);
        }
    }

    /// Reads one message; bodies stay shared with the input.
    pub fn decode(reader: &mut Reader) -> Result<Self, CodecError> {
        let kind = reader.u8("message kind")?;
        kind_of(kind).ok_or(CodecError::Unknown("message kind"))?;
        let mut numbers = [0_u64; 9];
        for number in &mut numbers {
            *number = reader.u64("message number")?;
        }
        let [to, from, term, log_term, index, commit, commit_term, request_snapshot, reject_hint] = numbers;
        let reject = reader.bool("reject")?;
        let priority = reader.u64("priority")?.cast_signed();
        let context = reader.bytes("context")?;
        let count = reader.count(21, "entries")?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            entries.push(Entry {
                term: Term(reader.u64("entry term")?),
                index: Index(reader.u64("entry index")?),
                kind: match reader.u8("entry kind")? {
                    0 => EntryKind::Command,
                    1 => EntryKind::Membership,
                    2 => EntryKind::Control,
                    _ => return Err(CodecError::Unknown("entry kind")),
                },
                data: reader.bytes("entry data")?,
            });
        }
        Ok(Self {
            kind,
            to,
            from,
            term,
            log_term,
            index,
            entries,
            commit,
            commit_term,
            request_snapshot,
            reject,
            reject_hint,
            context,
            priority,
        })
    }

    /// Whether it is a leader's heartbeat.
    pub fn is_heartbeat(&self) -> bool {
        self.kind() == Some(eraftpb::MessageType::MsgHeartbeat)
    }

    /// Its kind in raft-rs's words; none if no such kind travels.
    pub(super) fn kind(&self) -> Option<eraftpb::MessageType> {
        kind_of(self.kind)
    }

    /// Whether it gives its receiver the sender's vote in this term.
    pub fn is_vote(&self) -> bool {
        kind_of(self.kind) == Some(eraftpb::MessageType::MsgRequestVoteResponse) && !self.reject
    }

    /// Whether entries follow each other without a gap from `index + 1` on, with terms that never fall, after a place that
    /// has a term itself: what every correct leader sends. (Raft-rs answers 0 for the term of a place beyond its log, and
    /// would take an append after such a place for one that fits; a message without a term it takes for its own.)
    pub fn is_sound(&self) -> bool {
        let is_append = kind_of(self.kind) == Some(eraftpb::MessageType::MsgAppend);
        if self.from == 0
            || self.term == 0
            || (is_append && (self.index == 0) != (self.log_term == 0))
            || [self.term, self.log_term, self.index, self.commit].iter().any(|n| *n > NUMBER_MAX)
        {
            return false;
        }
        let mut next = self.index.checked_add(1);
        let mut term = self.log_term;
        for entry in &self.entries {
            if Some(entry.index.0) != next || entry.term.0 < term || entry.term.0 > self.term {
                return false;
            }
            term = entry.term.0;
            next = entry.index.0.checked_add(1);
        }
        next.is_some()
    }
}

/// What raft-rs keeps beside the data of a control entry: to it, that is a normal entry like a command. It never
/// travels and is never stored; our own encoding says the kind.
const CONTROL_CONTEXT: &[u8] = b"control";

/// A log entry from raft-rs's form.
pub fn entry_from_raft(mut entry: eraftpb::Entry) -> Entry {
    let (kind, data) = match entry.get_entry_type() {
        eraftpb::EntryType::EntryNormal if entry.context == CONTROL_CONTEXT => {
            (EntryKind::Control, entry.take_data())
        }
        eraftpb::EntryType::EntryNormal => (EntryKind::Command, entry.take_data()),
        _ => (EntryKind::Membership, MembershipChange::from_raft(&entry.data).encode()),
    };
    Entry { term: Term(entry.term), index: Index(entry.index), kind, data }
}

/// Whether an entry speaks about the group itself.
pub fn is_control(entry: &eraftpb::Entry) -> bool {
    entry.get_entry_type() == eraftpb::EntryType::EntryNormal && entry.context == CONTROL_CONTEXT
}

/// A log entry in raft-rs's form.
pub fn entry_into_raft(entry: Entry) -> eraftpb::Entry {
    let mut out = eraftpb::Entry::default();
    match entry.kind {
        EntryKind::Command => {
            out.set_entry_type(eraftpb::EntryType::EntryNormal);
            out.data = entry.data;
        }
        EntryKind::Control => {
            out.set_entry_type(eraftpb::EntryType::EntryNormal);
            out.context = Bytes::from_static(CONTROL_CONTEXT);
            out.data = entry.data;
        }
        EntryKind::Membership => {
            out.set_entry_type(eraftpb::EntryType::EntryConfChangeV2);
            out.data = MembershipChange::decode(&entry.data).to_raft_bytes();
        }
    }
    out.term = entry.term.0;
    out.index = entry.index.0;
    out
}

/// Tells a removal for good from one after which the node may come back, inside raft-rs.
const RETIRE_CONTEXT: &[u8] = b"for good";

/// Tells a learner that is told to be filled from one that is made, inside raft-rs; the incarnation follows.
const FILLED_CONTEXT: &[u8] = b"filled ";

/// One step of a change of a group's membership: what an entry of kind `Membership` carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// Makes this node a voter.
    Voter(u64),
    /// Makes this node a learner.
    Learner(u64),
    /// Takes this node out; it may come back.
    Remove(u64),
    /// Takes this node out for good.
    Retire(u64),
    /// Says that this learner, in this life of its store, was filled again: it holds everything that was committed
    /// when it was let in. Whoever is a learner stays one.
    Filled(u64, Incarnation),
    /// Changes nothing: an entry that no version of this program writes. It keeps `apply` total.
    Nothing,
}

impl MembershipChange {
    /// The bytes in an entry: kind, then the Raft id, then the incarnation if it is of one.
    pub fn encode(self) -> Bytes {
        let (kind, id) = match self {
            Self::Nothing => (0, 0),
            Self::Voter(id) => (1, id),
            Self::Learner(id) => (2, id),
            Self::Remove(id) => (3, id),
            Self::Retire(id) => (4, id),
            Self::Filled(id, _) => (5, id),
        };
        let mut out = BytesMut::with_capacity(17);
        out.put_u8(kind);
        out.put_u64_le(id);
        if let Self::Filled(_, incarnation) = self {
            out.put_u64_le(incarnation.0);
        }
        out.freeze()
    }

    /// From the bytes of an entry; anything else is [`Self::Nothing`] on every replica alike.
    pub fn decode(bytes: &Bytes) -> Self {
        let mut reader = Reader::new(bytes.clone());
        let (Ok(kind), Ok(id)) = (reader.u8("kind"), reader.u64("raft id")) else { return Self::Nothing };
        let change = match kind {
            1 => Self::Voter(id),
            2 => Self::Learner(id),
            3 => Self::Remove(id),
            4 => Self::Retire(id),
            5 => match reader.u64("incarnation") {
                Ok(incarnation) => Self::Filled(id, Incarnation(incarnation)),
                Err(_) => Self::Nothing,
            },
            _ => Self::Nothing,
        };
        if id == 0 || reader.end("membership").is_err() { Self::Nothing } else { change }
    }

    /// In raft-rs's form.
    pub fn to_raft(self) -> eraftpb::ConfChangeV2 {
        let mut change = eraftpb::ConfChangeV2::default();
        let (kind, id) = match self {
            Self::Nothing => return change,
            Self::Voter(id) => (eraftpb::ConfChangeType::AddNode, id),
            Self::Learner(id) | Self::Filled(id, _) => (eraftpb::ConfChangeType::AddLearnerNode, id),
            Self::Remove(id) | Self::Retire(id) => (eraftpb::ConfChangeType::RemoveNode, id),
        };
        match self {
            Self::Retire(_) => change.context = Bytes::from_static(RETIRE_CONTEXT),
            Self::Filled(_, incarnation) => {
                change.context = [FILLED_CONTEXT, &incarnation.0.to_le_bytes()].concat().into();
            }
            Self::Nothing | Self::Voter(_) | Self::Learner(_) | Self::Remove(_) => {}
        }
        let mut single = eraftpb::ConfChangeSingle::default();
        single.set_change_type(kind);
        single.node_id = id;
        change.set_changes(vec![single].into());
        change
    }

    fn to_raft_bytes(self) -> Bytes {
        self.to_raft().write_to_bytes().expect("a membership change always encodes").into()
    }

    /// These bytes were made by [`Self::to_raft_bytes`] or by our own proposal, never by a peer.
    fn from_raft(bytes: &[u8]) -> Self {
        let mut change = eraftpb::ConfChangeV2::default();
        if change.merge_from_bytes(bytes).is_err() {
            return Self::Nothing;
        }
        match change.changes.first() {
            Some(single) => match single.get_change_type() {
                eraftpb::ConfChangeType::AddNode => Self::Voter(single.node_id),
                eraftpb::ConfChangeType::AddLearnerNode => {
                    let incarnation = change.context.strip_prefix(FILLED_CONTEXT);
                    match incarnation.and_then(|bytes| bytes.try_into().ok()) {
                        Some(bytes) => Self::Filled(single.node_id, Incarnation(u64::from_le_bytes(bytes))),
                        None => Self::Learner(single.node_id),
                    }
                }
                eraftpb::ConfChangeType::RemoveNode if change.context == RETIRE_CONTEXT => {
                    Self::Retire(single.node_id)
                }
                eraftpb::ConfChangeType::RemoveNode => Self::Remove(single.node_id),
            },
            None => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_membership_survives_raft_rs_and_back() {
        for change in [
            MembershipChange::Voter(7),
            MembershipChange::Learner(8),
            MembershipChange::Remove(9),
            MembershipChange::Retire(9),
            MembershipChange::Filled(10, Incarnation(u64::MAX)),
        ] {
            let entry =
                Entry { term: Term(2), index: Index(3), kind: EntryKind::Membership, data: change.encode() };
            assert_eq!(entry_from_raft(entry_into_raft(entry.clone())), entry);
            assert_eq!(MembershipChange::decode(&change.encode()), change);
        }
    }

    #[test]
    fn a_control_entry_survives_raft_rs_and_the_wire_and_stays_apart_from_a_command() {
        let entry = |kind| Entry { term: Term(2), index: Index(3), kind, data: Bytes::from_static(b"x") };
        let (control, command) = (entry(EntryKind::Control), entry(EntryKind::Command));
        assert_eq!(entry_from_raft(entry_into_raft(control.clone())), control);
        assert_eq!(entry_from_raft(entry_into_raft(command.clone())), command);
        let mut message = eraftpb::Message::default();
        message.set_msg_type(eraftpb::MessageType::MsgAppend);
        message.set_entries(vec![entry_into_raft(control), entry_into_raft(command)].into());
        let message = RaftMessage::from_raft(message).unwrap();
        let mut pieces = Pieces::default();
        message.encode(&mut pieces);
        let mut reader = Reader::new(Bytes::from(pieces.finish().concat()));
        assert_eq!(RaftMessage::decode(&mut reader).unwrap(), message);
        let kinds: Vec<EntryKind> = message.entries.iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, [EntryKind::Control, EntryKind::Command]);
    }

    #[test]
    fn foreign_bytes_change_no_membership() {
        for bytes in [
            &b""[..],
            b"\x01",
            b"\x01\0\0\0\0\0\0\0\0",
            b"\x09\x01\0\0\0\0\0\0\0",
            b"\x01\x01\0\0\0\0\0\0\0\0",
            b"\x05\x01\0\0\0\0\0\0\0",
            b"\x05\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0",
        ] {
            assert_eq!(MembershipChange::decode(&Bytes::copy_from_slice(bytes)), MembershipChange::Nothing);
        }
    }

    #[test]
    fn no_kind_that_commands_the_receiver_travels() {
        use eraftpb::MessageType as Kind;
        for kind in [
            Kind::MsgHup,
            Kind::MsgBeat,
            Kind::MsgPropose,
            Kind::MsgSnapshot,
            Kind::MsgUnreachable,
            Kind::MsgSnapStatus,
            Kind::MsgCheckQuorum,
            Kind::MsgTransferLeader,
            Kind::MsgReadIndex,
        ] {
            assert_eq!(kind_number(kind), None, "{kind:?}");
        }
    }
}
