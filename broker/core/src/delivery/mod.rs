//! Who holds which message: leader-local, made anew at the start of each leadership, gone with it.
//!
//! ```text
//! attach, add_credit, touched ----> assign -> Assignment --- settle --> (Ack or Drop proposed) --> confirm_settled
//!                                     ^                  \- requeue, detach -> ready again at the old place
//!      take_expose_requests -> (Expose proposed) -> touched
//! ```
//!
//! A message of a queue is in one place: ready, held by one consumer, or settling (its Ack or Drop, or a transaction with
//! it, is proposed). What a refused transaction would have settled is its consumer's again.
//! Deliveries are only made below the queue's replicated bound, so that after a fail-over everything above it is known
//! not to have been delivered.

mod ledger;
mod limits;
mod line;
mod withheld;

use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::NumberRange;

use crate::io::SessionId;
use crate::machine::{QueueId, SlotView};

pub use ledger::Delivery;
pub use limits::{EXPOSE_AHEAD, MAX_CONSUMERS};
pub use withheld::Withheld;

/// Names one consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerKey {
    /// Its connection.
    pub session: SessionId,
    /// Its channel there.
    pub channel: u16,
    /// The number the client gave it on that channel.
    pub consumer: u32,
}

/// How a consumer wants its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerOptions {
    /// Messages it may be given before it gives more credit.
    pub credit: u32,
    /// Messages count as acknowledged when they are sent.
    pub no_ack: bool,
    /// No other consumer beside it.
    pub exclusive: bool,
}

/// One message given to one consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// To whom.
    pub consumer: ConsumerKey,
    /// From which queue.
    pub queue: QueueId,
    /// Its sequence there.
    pub seq: u64,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// To be settled, and its Ack proposed, as soon as it is sent.
    pub no_ack: bool,
    /// Where its bytes are.
    pub slot: SlotView,
    /// Counts assignments up: tells this one from another of the same message to the same consumer.
    pub serial: u64,
}

/// Messages that a consumer really held and does not hold any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Whose.
    pub queue: QueueId,
    /// Which, ascending; empty if it held none of those named.
    pub ranges: Vec<NumberRange>,
}

/// How a queue stands on its leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that wait for a consumer.
    pub ready: u64,
    /// Messages held by a consumer, or whose settlement is on its way.
    pub unacknowledged: u64,
    /// Consumers attached.
    pub consumers: u32,
}

/// Why a consumer's request fails: always the caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// The consumer is not attached; it was cancelled, or its queue is gone.
    #[error("consumer {} on channel {} is not attached: it was cancelled or its queue is gone", .0.consumer, .0.channel)]
    NoConsumer(ConsumerKey),
    /// The key is in use.
    #[error("consumer {} on channel {} exists already: choose another number", .0.consumer, .0.channel)]
    Exists(ConsumerKey),
    /// No such queue.
    #[error("queue {0} does not exist")]
    NoQueue(QueueId),
    /// Another consumer has, or exclusivity was asked where others are attached.
    #[error("queue {0} is or would be consumed exclusively: wait until its other consumers are gone")]
    Exclusive(QueueId),
    /// The queue's consumers reach the limit.
    #[error("queue {0} has as many consumers as one queue may have")]
    TooMany(QueueId),
    /// It does not hold all of what a transaction settles.
    #[error("consumer {} on channel {} does not hold all of {first} to {last}", .consumer.consumer, .consumer.channel)]
    NotHeld {
        /// Which consumer.
        consumer: ConsumerKey,
        /// The first sequence.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// More credit than its number can say.
    #[error("consumer {} on channel {} has more credit than 32 bits can say", .0.consumer, .0.channel)]
    CreditTooHigh(ConsumerKey),
}

impl DeliveryError {
    /// The code to answer with.
    pub fn fault(self) -> FaultCode {
        match self {
            Self::NoConsumer(_) => FaultCode::ConsumerNotFound,
            Self::Exists(_) => FaultCode::ConsumerExists,
            Self::NoQueue(_) => FaultCode::QueueNotFound,
            Self::Exclusive(_) => FaultCode::ExclusiveConsumer,
            Self::TooMany(_) => FaultCode::LimitReached,
            Self::NotHeld { .. } => FaultCode::DeliveryNotHeld,
            Self::CreditTooHigh(_) => FaultCode::CreditTooHigh,
        }
    }
}

#[cfg(test)]
mod tests;
