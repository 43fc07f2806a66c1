//! The stamp: the small record in a store that says whose it is and what state it is in.
//!
//! Decisions read positions from the log itself; the positions here are for people and quick answers.

mod codec;
mod lineage;
mod slots;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use self::tests::sample as sample_stamp;

use bytes::Bytes;
use thiserror::Error;
use uuid::Uuid;

pub use self::codec::{MAX_STAMP_BYTES, MAX_STAMP_ITEMS, STAMP_FORMAT};
pub use self::lineage::{EpochCause, EpochEntry, Known, LeftOut};
pub(crate) use self::slots::write_copy;
pub use self::slots::{SLOT_NAMES, StampFile, StampFound};
use crate::files::FileError;
use crate::ids::{ClusterId, GroupId, Incarnation, Position, RaftId, RunId, StoreId};
use crate::log::SyncedPoint;
use crate::text::TextError;

/// What both slots of the stamp hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Counted up at each rewrite; shown, never decided on.
    pub sequence: u64,
    /// The store this stamp belongs to.
    pub store_id: StoreId,
    /// The cluster the store belongs to, once agreed.
    pub cluster_id: Option<ClusterId>,
    /// The cluster's name, as configured.
    pub cluster_name: String,
    /// The broker's name, as configured.
    pub broker_name: String,
    /// Counted up each time the broker leaves a held state.
    pub incarnation: Incarnation,
    /// The process that wrote the incarnation.
    pub run_id: RunId,
    /// What state the store is in.
    pub state: StampState,
    /// The founding in progress, or the one this store took part in.
    pub forming: Option<FormingState>,
    /// Each group of the store.
    pub groups: Vec<GroupStamp>,
    /// Membership last known.
    pub members: Vec<StampMember>,
    /// Position in `system` of the change that made `members`.
    pub members_position: Position,
    /// The founding rule's union: who may become a voter without an operator's act.
    pub possible_members: Vec<StoreId>,
    /// What this store promised to remember of other stores.
    pub witnessed: Vec<Witness>,
    /// Groups of which this store may lack what it acknowledged: it does not vote in them until the cluster, having
    /// filled it again, makes it a voter anew. Written before anything of them is discarded.
    pub refilling: Vec<GroupId>,
    /// Initial members before going active, as configured.
    pub wait_for: u32,
    /// Recovery mode, as configured.
    pub recovery: RecoveryMode,
    /// The kernel's boot id when this was written; empty if unknown.
    pub boot_id: String,
    /// The safety number last agreed.
    pub safety_number: u64,
    /// Wall-clock time of writing, milliseconds since 1970; shown, never decided on.
    pub wall_clock_ms: u64,
    /// Everything before this place of the log was synced when this was written.
    pub log_synced: SyncedPoint,
}

impl Stamp {
    /// Whether the system has not been started since this was written; not known: no.
    pub fn is_of_boot(&self, boot_id: &str) -> bool {
        !boot_id.is_empty() && self.boot_id == boot_id
    }

    /// By what it is told from the stamp of another process.
    pub fn identity(&self) -> StampIdentity {
        StampIdentity {
            incarnation: self.incarnation,
            run_id: self.run_id,
            safety_number: self.safety_number,
        }
    }
}

/// By what the stamp of one process is told from that of another one on the same directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StampIdentity {
    /// Counted up each time the broker leaves a held state.
    pub incarnation: Incarnation,
    /// The process.
    pub run_id: RunId,
    /// The safety number that it knew last.
    pub safety_number: u64,
}

/// What state a store is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StampState {
    /// Belongs to no cluster yet.
    Empty,
    /// A founding was agreed or is being agreed.
    Forming,
    /// In use, or was when the process ended.
    Dirty,
    /// Closed by an administrative shutdown.
    Clean {
        /// The shutdown's random id.
        shutdown: Uuid,
    },
    /// Marked clean by an operator.
    Recovered {
        /// The mark's random id.
        recovery: Uuid,
    },
}

/// The number of a founding proposal: round first, then proposer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// Counted up by every proposer above what it has seen.
    pub round: u64,
    /// The proposer.
    pub store: StoreId,
}

/// What an acceptor of the founding decision must remember before it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FormingState {
    /// The highest ballot promised.
    pub promised: Option<Ballot>,
    /// The highest ballot accepted, with its value in the core's own encoding.
    pub accepted: Option<(Ballot, Bytes)>,
    /// The accepted value is known to be decided.
    pub decided: bool,
}

/// What the stamp says about one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStamp {
    /// Which.
    pub group: GroupId,
    /// The virtual host's name; `system` for group 0.
    pub vhost: String,
    /// Every epoch, oldest first.
    pub lineage: Vec<EpochEntry>,
    /// Where the group's log ended.
    pub position: Position,
    /// Up to where it was synced.
    pub synced: Position,
    /// The durability policy in force.
    pub policy: DurabilityPolicy,
    /// The weakest policy this store acknowledged under since the last sync that covered everything.
    pub weakest: Durability,
}

/// What a node does before it acknowledges; weaker ones compare as less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Durability {
    /// Nothing; it writes and syncs within a bounded window.
    NoSync = 0,
    /// Hands the bytes to the operating system.
    WriteNoSync = 1,
    /// Writes and syncs.
    Sync = 2,
}

/// A virtual host's durability policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DurabilityPolicy {
    /// What the leader does.
    pub leader: Durability,
    /// What a replica does.
    pub replicas: Durability,
}

/// One member as last known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StampMember {
    /// Its store.
    pub store_id: StoreId,
    /// Its number inside Raft.
    pub raft_id: RaftId,
    /// Its broker's name.
    pub name: String,
    /// Where peers reach it.
    pub cluster_address: String,
    /// Where clients reach it.
    pub client_address: String,
    /// Where operators reach it.
    pub admin_address: String,
    /// Voter, or learner.
    pub voter: bool,
    /// The incarnation last acknowledged.
    pub incarnation: Incarnation,
}

/// What one store promised to remember of another before that one voted: by this it is noticed when the other comes
/// back rolled back or copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The other store.
    pub store: StoreId,
    /// Its incarnation, as acknowledged here.
    pub incarnation: Incarnation,
    /// The process that wrote that incarnation.
    pub run: RunId,
    /// For each group this store led: up to where the other had acknowledged under `sync`.
    pub positions: Vec<(GroupId, Position)>,
}

/// Whether a cluster comes back without an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecoveryMode {
    /// Exactly when nothing confirmed can be missing.
    #[default]
    Automatic = 0,
    /// By the design note to the letter.
    Manual = 1,
}

/// Why a stamp could not be read or written.
#[derive(Debug, Error)]
pub enum StampError {
    /// The bytes are no stamp; the data beside it is not to be trusted, nor to be taken for nothing.
    #[error("unreadable stamp: {0}")]
    Damaged(String),
    /// Written by another version of this software: start that one.
    #[error("the stamp has format {found}, this version reads {supported}: use the version that wrote it")]
    OtherFormat {
        /// The stamp's format.
        found: u16,
        /// The one that is understood here.
        supported: u16,
    },
    /// More than the limits allow; nothing was written.
    #[error("a stamp of {bytes} bytes with up to {items} items in a list is above the limits")]
    TooLarge {
        /// Length of the content.
        bytes: usize,
        /// Length of its longest list.
        items: usize,
    },
    /// The slot is not what was written last, nor another process's stamp: the medium forgets, or somebody else writes
    /// there. Stop, and find out who.
    #[error("{slot} is not as it was written last: another program changes it, or the disk forgets")]
    Changed {
        /// Which file.
        slot: &'static str,
    },
    /// Another process wrote its stamp over this one's: two processes work on one store. Write nothing more.
    #[error("{slot} holds the stamp of another process: two processes work on this store")]
    Foreign {
        /// Which file.
        slot: &'static str,
        /// Whose it is.
        found: StampIdentity,
        /// What was read or written there last; none if there was no stamp.
        remembered: Option<StampIdentity>,
    },
    /// Refused because of what happened before.
    #[error("the stamp is not written any more: {0}")]
    Stopped(&'static str),
    /// The disk failed.
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<TextError> for StampError {
    fn from(TextError(what): TextError) -> Self {
        Self::Damaged(what)
    }
}
