//! What can go wrong, whose fault it is, and whether trying again may help.

use std::sync::Arc;

use quorate_protocol::fault::{Blame, FaultCode};
use quorate_protocol::message::PropertyError;
use quorate_protocol::name::NameError;
use quorate_protocol::publish::BatchError;
use thiserror::Error;

use crate::address::Address;

/// An error of the client. Cheap to clone: everybody who waits for one batch gets the same one.
///
/// [`Error::blame`] says who can do something about it, [`Error::is_retryable`] whether the same call may succeed
/// later, [`Error::is_outcome_unknown`] whether it may have taken effect nevertheless.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL, or an address, is not one.
    #[error("{0}")]
    Url(Arc<str>),
    /// A name, a key, a property or an option that no broker accepts.
    #[error("{0}")]
    Invalid(Arc<str>),
    /// The message is longer than the broker accepts.
    #[error("the message has {length} bytes, the broker takes at most {limit}")]
    MessageTooLarge {
        /// Bytes of the body.
        length: usize,
        /// The broker's limit on them.
        limit: u32,
    },
    /// Certificates or keys cannot be read, or do not fit.
    #[error("TLS: {0}")]
    Tls(Arc<str>),
    /// No leader was found in time.
    #[error("no leader found: {0}")]
    Unreachable(Arc<str>),
    /// One address could not be reached, or the connection to it ended.
    #[error("{address}: {text}")]
    Lost {
        /// Where.
        address: Address,
        /// What happened.
        text: Arc<str>,
    },
    /// A broker did not accept the login, or ended the connection, and said why.
    #[error("{address} refused: {code}: {text}")]
    Refused {
        /// Which broker.
        address: Address,
        /// The registered code.
        code: FaultCode,
        /// The broker's own words.
        text: Arc<str>,
    },
    /// The broker did not do what was asked: it had no effect.
    #[error("{code}: {text}")]
    Failed {
        /// The registered code.
        code: FaultCode,
        /// The broker's own words.
        text: Arc<str>,
    },
    /// The broker said something that the protocol does not allow.
    #[error("the broker broke the protocol: {0}")]
    Protocol(Arc<str>),
    /// It was not done in time, and will not be.
    #[error("timed out: {0}")]
    TimedOut(Arc<str>),
    /// It was sent, and nobody knows whether it took effect.
    #[error("unknown outcome: {0}")]
    UnknownOutcome(Arc<str>),
    /// The connection ended while the transaction was open or being committed: nothing of it happened, and nothing will.
    #[error("rolled back: {0}")]
    RolledBack(Arc<str>),
    /// No more goes into one transaction: commit it, and begin another.
    #[error("the transaction is full: {0}")]
    TransactionFull(Arc<str>),
    /// The delivery belongs to a connection or a consumer that has ended: it was not settled, and the broker delivers it
    /// again, maybe to another consumer.
    #[error("not settled: the connection or consumer it was delivered to has ended; it will be redelivered")]
    WillBeRedelivered,
    /// The broker ended the consumer.
    #[error("the broker ended the consumer: {code}: {text}")]
    ConsumerClosed {
        /// The registered code.
        code: FaultCode,
        /// The broker's own words.
        text: Arc<str>,
    },
    /// The client was closed by the application.
    #[error("the client is closed")]
    Closed,
}

impl Error {
    pub(crate) fn url(text: impl Into<Arc<str>>) -> Self {
        Self::Url(text.into())
    }

    pub(crate) fn failed(code: FaultCode, text: &str) -> Self {
        if matches!(code, FaultCode::UnknownOutcome | FaultCode::OutcomeForgotten) {
            return Self::UnknownOutcome(words(code, text));
        }
        Self::Failed { code, text: words(code, text) }
    }

    pub(crate) fn refused(address: &Address, code: FaultCode, text: &str) -> Self {
        Self::Refused { address: address.clone(), code, text: words(code, text) }
    }

    pub(crate) fn consumer_closed(code: FaultCode, text: &str) -> Self {
        Self::ConsumerClosed { code, text: words(code, text) }
    }

    pub(crate) fn lost(address: &Address, text: impl Into<Arc<str>>) -> Self {
        Self::Lost { address: address.clone(), text: text.into() }
    }

    pub(crate) fn protocol(text: impl Into<Arc<str>>) -> Self {
        Self::Protocol(text.into())
    }

    pub(crate) fn unknown_outcome(cause: &Self) -> Self {
        Self::UnknownOutcome(format!("it was sent and not answered before the end: {cause}").into())
    }

    /// Who can do something about it.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Url(_)
            | Self::Invalid(_)
            | Self::MessageTooLarge { .. }
            | Self::TransactionFull(_)
            | Self::Closed => Blame::Caller,
            Self::Tls(_) => Blame::Operator,
            Self::Refused { code, .. } | Self::Failed { code, .. } | Self::ConsumerClosed { code, .. } => {
                code.blame()
            }
            Self::Protocol(_) => Blame::Peer,
            Self::Unreachable(_)
            | Self::Lost { .. }
            | Self::TimedOut(_)
            | Self::UnknownOutcome(_)
            | Self::RolledBack(_)
            | Self::WillBeRedelivered => Blame::Environment,
        }
    }

    /// Whether the same call may succeed later; of a transaction, whether it may when begun again. After an [unknown outcome](Self::is_outcome_unknown) it may also take
    /// effect a second time.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused { code, .. } | Self::Failed { code, .. } | Self::ConsumerClosed { code, .. } => {
                code.is_retryable()
            }
            Self::Unreachable(_)
            | Self::Lost { .. }
            | Self::TimedOut(_)
            | Self::RolledBack(_)
            | Self::UnknownOutcome(_) => true,
            Self::Url(_)
            | Self::Invalid(_)
            | Self::MessageTooLarge { .. }
            | Self::TransactionFull(_)
            | Self::Tls(_)
            | Self::Protocol(_)
            | Self::WillBeRedelivered
            | Self::Closed => false,
        }
    }

    /// Whether the queue, and with it what was delivered from it, is no more.
    pub(crate) fn is_end_of_queue(&self) -> bool {
        matches!(
            self.code(),
            Some(FaultCode::QueueDeleted | FaultCode::QueueNotFound | FaultCode::VhostNotFound)
        )
    }

    /// Whether it may have taken effect although this is an error. All other errors say that it did not.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::UnknownOutcome(_))
    }

    /// The broker's registered code, if the broker gave one.
    pub fn code(&self) -> Option<FaultCode> {
        match self {
            Self::Refused { code, .. } | Self::Failed { code, .. } | Self::ConsumerClosed { code, .. } => {
                Some(*code)
            }
            Self::RolledBack(_) => Some(FaultCode::TransactionRolledBack),
            _ => None,
        }
    }

    /// Whether no broker of the cluster will ever let this client in as it is.
    pub(crate) fn is_final_refusal(&self) -> bool {
        matches!(self, Self::Refused { code, .. }
            if !code.is_retryable() && matches!(code.blame(), Blame::Caller | Blame::Operator))
    }
}

/// What the broker said, or the registry's words if it said nothing.
fn words(code: FaultCode, text: &str) -> Arc<str> {
    Arc::from(if text.is_empty() { code.text() } else { text })
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Self::Invalid(error.to_string().into())
    }
}

impl From<PropertyError> for Error {
    fn from(error: PropertyError) -> Self {
        Self::Invalid(error.to_string().into())
    }
}

impl From<BatchError> for Error {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::TooLarge { length, limit } => Self::MessageTooLarge { length, limit },
            BatchError::Full => Self::Invalid(error.to_string().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_says_whose_fault_and_whether_to_retry() {
        let address: Address = "h".parse().unwrap();
        for code in FaultCode::ALL {
            let refused = Error::refused(&address, *code, "");
            assert_eq!((refused.blame(), refused.is_retryable()), (code.blame(), code.is_retryable()));
            assert!(refused.to_string().contains(code.text()), "the registry's words stand in");
        }
        let unknown = Error::failed(FaultCode::UnknownOutcome, "x");
        assert!(unknown.is_outcome_unknown() && unknown.is_retryable());
        assert!(!Error::failed(FaultCode::QueueNotFound, "x").is_outcome_unknown());
        assert!(Error::refused(&address, FaultCode::LoginFailed, "").is_final_refusal());
        assert!(!Error::refused(&address, FaultCode::NotLeader, "").is_final_refusal());
        assert!(!Error::refused(&address, FaultCode::UnsupportedVersion, "").is_final_refusal());
    }

    #[test]
    fn an_error_is_small_enough_for_the_hot_path() {
        assert!(size_of::<Error>() <= 64, "{}", size_of::<Error>());
    }
}
