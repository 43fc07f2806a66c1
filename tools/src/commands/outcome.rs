//! What became of one message that was published.

use quorate_client::{Error, Receipt};

use crate::exit::Failure;

/// As people count it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Confirmed; there is one copy.
    Confirmed {
        /// It was known already: this one was sent again.
        duplicate: bool,
        /// In a forced epoch: whoever did not see it can go on without it.
        forced: bool,
    },
    /// The brokers said no.
    Refused(Failure),
    /// It may or may not be there.
    Unknown(Failure),
}

impl From<Result<Receipt, Error>> for Outcome {
    fn from(outcome: Result<Receipt, Error>) -> Self {
        match outcome {
            Ok(receipt) => Self::Confirmed { duplicate: receipt.duplicate, forced: receipt.under_override },
            // The last two may not even have been sent for want of a leader: known not to be there, and yet nobody
            // refused them.
            Err(error)
                if error.is_outcome_unknown() || matches!(error, Error::TimedOut(_) | Error::Closed) =>
            {
                Self::Unknown(error.into())
            }
            Err(error) => Self::Refused(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_client::FaultCode;

    use super::*;

    #[test]
    fn only_what_the_brokers_said_no_to_is_refused() {
        let of = |error: Error| Outcome::from(Err(error));
        let full = Error::Failed { code: FaultCode::QueueFull, text: "x".into() };
        assert!(matches!(of(full), Outcome::Refused(failure) if failure.code == "QUEUE_FULL"));
        for error in [Error::UnknownOutcome("x".into()), Error::TimedOut("x".into()), Error::Closed] {
            assert!(matches!(of(error), Outcome::Unknown(_)));
        }
    }
}
