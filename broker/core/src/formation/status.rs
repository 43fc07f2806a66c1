//! What brokers tell each other before, and while, they are a cluster: the initial status.

use std::fmt;

use quorate_store::ids::{ClusterId, Epoch, GroupId, Incarnation, Position, RaftId, RunId, StoreId, Term};
use quorate_store::stamp::EpochEntry;
use uuid::Uuid;

use crate::io::PeerKey;
use crate::machine::SafetyNumbers;

use super::forming::FormingState;

/// Everything one broker knows about itself that decides how it starts. A change is sent again to every peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialStatus {
    /// Store and process.
    pub key: PeerKey,
    /// The broker's name.
    pub name: String,
    /// The configured cluster name.
    pub cluster_name: String,
    /// Where peers reach it.
    pub cluster_address: String,
    /// Where clients reach it.
    pub client_address: String,
    /// Where operators reach it.
    pub admin_address: String,
    /// What its store says.
    pub state: StoreState,
    /// The cluster it belongs to; none for empty and forming stores, and for a transient broker that was in no
    /// cluster during this run.
    pub cluster_id: Option<ClusterId>,
    /// `--cluster-id`: joins only this cluster, never founds.
    pub cluster_id_wanted: Option<ClusterId>,
    /// When that cluster was founded, wall clock, milliseconds since 1970; only for people.
    pub founded_ms: Option<u64>,
    /// Messages in the store, if it was counted; only for people.
    pub messages: Option<u64>,
    /// The incarnation in the stamp.
    pub incarnation: Incarnation,
    /// The run id in the stamp: the process that last left a held state. Differs from `key.run` while this one waits.
    pub stamped_run: Option<RunId>,
    /// The processes that this broker's `system` group acknowledged.
    pub recorded: Vec<RecordedRun>,
    /// Every group that the store holds, ascending by group.
    pub groups: Vec<GroupStatus>,
    /// `--cluster-wait-for`.
    pub wait_for: u32,
    /// `--allow-small-cluster`.
    pub allow_small: bool,
    /// `--recovery`.
    pub recovery: RecoveryMode,
    /// `--cluster-peers` and itself.
    pub peers: Vec<PeerRef>,
    /// The founding rule's union, as `system` recorded it at the founding; empty before.
    pub possible_members: Vec<StoreId>,
    /// Why this broker panicked, if it did: it takes no part until an operator clears that.
    pub panicked: Option<String>,
    /// The safety numbers that it applied last; none while it claims nothing of `system`.
    pub safety: SafetyNumbers,
    /// Groups of virtual hosts that were deleted, by its `system`: ranges of numbers, ascending.
    pub deleted: Vec<(GroupId, GroupId)>,
    /// The processes that count for their stores here although another one with the same store is linked, too, ascending.
    pub rivalled: Vec<PeerKey>,
}

impl InitialStatus {
    /// Without a store.
    pub fn is_transient(&self) -> bool {
        matches!(self.state, StoreState::Transient { .. })
    }

    /// The store, or a transient broker's memory, belongs to a cluster: it is beyond forming.
    pub fn belongs(&self) -> bool {
        match self.state {
            StoreState::Empty | StoreState::Forming(_) | StoreState::Damaged { .. } => false,
            StoreState::Transient { .. } => self.cluster_id.is_some(),
            StoreState::Dirty | StoreState::Clean { .. } | StoreState::Recovered { .. } => true,
        }
    }

    /// It did not panic, and its store is not damaged: such a broker answers operators and nobody else.
    pub fn takes_part(&self) -> bool {
        self.panicked.is_none() && !matches!(self.state, StoreState::Damaged { .. })
    }

    /// Its part in a group, if it holds anything of it.
    pub fn group(&self, group: GroupId) -> Option<&GroupStatus> {
        self.groups.iter().find(|status| status.group == group)
    }

    /// Whether it knows that this group was deleted.
    pub fn has_deleted(&self, group: GroupId) -> bool {
        self.deleted.iter().any(|(first, last)| (*first..=*last).contains(&group))
    }

    /// Whether it takes part in a group that is led with a quorum.
    pub fn is_active(&self, group: GroupId) -> bool {
        self.group(group).is_some_and(|status| status.active.is_some())
    }
}

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreState {
    /// No store.
    Transient {
        /// It was active during this run.
        was_active: bool,
    },
    /// Belongs to no cluster yet.
    Empty,
    /// Answered a founding proposal.
    Forming(FormingState),
    /// In use, or was when its process ended.
    Dirty,
    /// Closed by an administrative shutdown.
    Clean {
        /// Its id, the same in every member of that shutdown.
        shutdown: Uuid,
    },
    /// Marked clean by an operator.
    Recovered {
        /// The mark's id.
        recovery: Uuid,
    },
    /// Unreadable, or its checks fail inside the synced part.
    Damaged {
        /// What was found where.
        reason: String,
    },
}

impl fmt::Display for StoreState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transient { .. } => f.write_str("transient"),
            Self::Empty => f.write_str("empty"),
            Self::Forming(_) => f.write_str("forming"),
            Self::Dirty => f.write_str("dirty"),
            Self::Clean { shutdown } => write!(f, "clean (shutdown {shutdown})"),
            Self::Recovered { recovery } => write!(f, "clean (recovery {recovery})"),
            Self::Damaged { reason } => write!(f, "damaged ({reason})"),
        }
    }
}

/// `--recovery`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecoveryMode {
    /// Go on unattended exactly when nothing confirmed can be missing.
    #[default]
    Automatic,
    /// The design note to the letter: whatever is not clean waits for the operator.
    Manual,
}

/// A process that `system` acknowledged for a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedRun {
    /// Whose.
    pub store: StoreId,
    /// The highest incarnation acknowledged.
    pub incarnation: Incarnation,
    /// The run id that came with it, if it was recorded.
    pub run: Option<RunId>,
    /// Where that store was known to have synced each group's log to.
    pub positions: Vec<(GroupId, Position)>,
}

/// One group as one broker's log and memory show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// Which.
    pub group: GroupId,
    /// The virtual host's name; `system` for group 0.
    pub vhost: String,
    /// Its epochs.
    pub lineage: Vec<EpochEntry>,
    /// The epochs of its lineage in which it holds client entries (shutdown, recovery, safety and membership entries do
    /// not count).
    pub client_epochs: Vec<Epoch>,
    /// Where the log ends.
    pub position: Position,
    /// The latest term in the hard state.
    pub term: Term,
    /// Voters of the latest configuration in the log, committed or not.
    pub voters: Vec<VoterRef>,
    /// Learners of that configuration.
    pub learners: Vec<VoterRef>,
    /// Holds everything it ever acknowledged (*trusted*); true for a process alive since; false while it is
    /// being refilled.
    pub trusted: bool,
    /// Led now with a quorum, as this broker sees it.
    pub active: Option<Active>,
    /// This process took part while the group was active.
    pub was_active_this_run: bool,
    /// The number under which it is the designated primary, if it is.
    pub designated: Option<u64>,
    /// The other voter of two has not been seen for ten election timeouts.
    pub peer_silent: bool,
}

/// A member of a group's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoterRef {
    /// Its store.
    pub store: StoreId,
    /// The broker's name.
    pub name: String,
    /// Its number inside Raft.
    pub raft_id: RaftId,
}

/// A leadership with a quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Active {
    /// Who leads.
    pub leader: StoreId,
    /// Its term.
    pub term: Term,
}

/// One entry of `--cluster-peers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRef {
    /// As configured.
    pub text: String,
    /// The store that answered there, once one did; the own store for the own address.
    pub resolved: Option<StoreId>,
}
