//! What brokers say to each other on an authenticated link.
//!
//! A message is `kind u8` and its fields, little-endian, in one link frame; unknown kinds are an error that closes the
//! link, since both ends negotiated one version.

mod codec;

use bytes::Bytes;
use quorate_store::ids::{ClusterId, Epoch, GroupId, Incarnation, Index, Position, RaftId, StoreId, Term};
use quorate_store::stamp::EpochEntry;
use quorate_store::state::Family;
use uuid::Uuid;

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

#[cfg(test)]
mod tests;
