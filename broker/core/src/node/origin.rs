//! Who waits for what became of a command.

use quorate_protocol::frame::NumberRange;
use quorate_store::ids::{Index, StoreId, Term};

use crate::delivery::{ConsumerKey, Withheld};
use crate::io::{AdminId, SessionId};
use crate::machine::{Command, QueueId, Range};

/// Where a command came from.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// The broker itself; nobody waits.
    Internal,
    /// A client's batch.
    Publish { session: SessionId, channel: u16, numbers: NumberRange, cost: u32 },
    /// A client's request about topology.
    Request { session: SessionId, channel: u16, request: u32 },
    /// A client's transaction, or the end of one. `cost` is released with the answer.
    Commit { session: SessionId, channel: u16, request: u32, cost: u32, withheld: Vec<Withheld> },
    /// A client's acknowledgement or rejection.
    Settle { consumer: ConsumerKey, request: u32, queue: QueueId, ranges: Vec<Range> },
    /// An operator's command.
    Admin(AdminId),
    /// An operator's command about a member.
    Member(AdminId),
    /// A newcomer is made a member.
    AddMember(StoreId),
    /// A member's addresses or incarnation changed.
    UpdateMember(StoreId),
}

/// A command on its way into an entry.
#[derive(Debug)]
pub(crate) struct Proposal {
    pub(crate) command: Command,
    pub(crate) origin: Origin,
}

impl Proposal {
    /// About how many bytes its command takes.
    pub(crate) fn size(&self) -> usize {
        match &self.command {
            Command::Publish(body) => body.len() + 16,
            Command::Transaction(transaction) => transaction.size() + 16,
            Command::Ack { ranges, .. } | Command::Drop { ranges, .. } | Command::Returned { ranges, .. } => {
                ranges.len() * 16 + 32
            }
            _ => 1024,
        }
    }
}

/// An entry that this leadership proposed and that is not applied yet.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) index: Index,
    pub(crate) term: Term,
    pub(crate) origins: Vec<Origin>,
}
