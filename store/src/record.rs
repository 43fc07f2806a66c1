//! What goes into the log: the records of one batch, as values. Their bytes are in [`crate::log`].

use bytes::Bytes;

use crate::ids::{Epoch, GroupId, Index, Term};

/// What an entry means to the replica that applies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// Commands for the group's state machine; empty data is a leader's first entry.
    Command = 0,
    /// A change of the group's voters and learners, in the replica's own encoding.
    Membership = 1,
    /// A fact about the cluster's own life, like a shutdown or a recovery, in the node's own encoding: no client's
    /// command, and none of the group's state machine.
    Control = 2,
}

/// One entry of a group's replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The term of the leader that proposed it.
    pub term: Term,
    /// Its place.
    pub index: Index,
    /// How to read `data`.
    pub kind: EntryKind,
    /// Shared bytes; a body in it is never copied on its way.
    pub data: Bytes,
}

/// What a Raft voter must remember: synced before it is answered, whatever the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term seen.
    pub term: Term,
    /// Whom this node voted for in that term; 0 is nobody.
    pub vote: u64,
    /// The highest index known to be committed (may lag).
    pub commit: Index,
}

/// One record of a log batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Appends one entry. An entry at or below the last index replaces it and drops everything after it.
    Entry(GroupId, Epoch, Entry),
    /// Replaces the group's hard state.
    HardState(GroupId, Epoch, HardState),
    /// The group's log is dropped whole and continues after this place (a snapshot was installed).
    Reset(GroupId, Epoch, Term, Index),
    /// The group is gone; its records may be dropped.
    Remove(GroupId),
}

/// Records that become durable together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// In the order in which they take effect.
    pub records: Vec<Record>,
}
