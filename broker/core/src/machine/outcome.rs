//! What became of a command, for the one who waits for its answer.

use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::{NumberRange, ProducerId};
use quorate_store::ids::{GroupId, RaftId};

use super::command::QueueId;

/// The effect of one applied command. The same on every replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A publish batch was judged, number by number.
    Published(Published),
    /// All of a transaction is in effect.
    Committed(Committed),
    /// Done.
    Done {
        /// Things changed: bindings or exchanges made or removed; 0 if nothing had to be done.
        affected: u64,
    },
    /// A queue exists as declared.
    QueueDeclared {
        /// Its number.
        queue: QueueId,
        /// It did not exist before.
        created: bool,
    },
    /// A queue was purged or deleted.
    Removed {
        /// Messages that went with it.
        messages: u64,
    },
    /// Messages were acknowledged, dropped or counted as returned.
    Settled {
        /// Whose.
        queue: QueueId,
        /// Messages that were there.
        messages: u64,
    },
    /// `system`: the broker is a member with this number.
    MemberAdded(RaftId),
    /// `system`: the vhost exists; `created` is false if it did before.
    VhostCreated {
        /// Its group.
        group: GroupId,
        /// It did not exist before.
        created: bool,
    },
    /// Nothing was changed.
    Failed(FaultCode, String),
}

impl Outcome {
    /// The group of a virtual host that did not exist before.
    pub fn new_vhost(&self) -> Option<GroupId> {
        match self {
            Self::VhostCreated { group, created: true } => Some(*group),
            _ => None,
        }
    }

    /// Whether something of the cluster is not as it was before.
    pub(crate) fn has_changed(&self) -> bool {
        matches!(self, Self::Done { affected: 1.. }) || self.new_vhost().is_some()
    }
}

/// A transaction that is in effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// By an earlier command: this one changed nothing.
    pub duplicate: bool,
    /// Messages that it published.
    pub published: u64,
    /// Deliveries that it settled.
    pub settled: u64,
}

/// What became of the numbers of one publish batch. Each number is in exactly one of the three lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Whose batch.
    pub producer: ProducerId,
    /// Stored by this command.
    pub confirmed: Vec<NumberRange>,
    /// Stored by an earlier command.
    pub duplicates: Vec<NumberRange>,
    /// Not stored. Retryable ones may come again under the same number; the others will be refused again.
    pub refused: Vec<(NumberRange, FaultCode)>,
    /// The queue that has no room, where something is refused for that; nobody: the virtual host has none.
    pub full: Option<QueueId>,
}
