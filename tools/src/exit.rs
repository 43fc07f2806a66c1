//! How a command ends: a status for scripts, and, if it failed, what to say about it.

use std::fmt;
use std::io;

use quorate_client::{Error, FaultCode};
use serde::Serialize;

/// Exit statuses, in the order of Nagios; 64 is the usage error of `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done, or all is well: 0.
    Done,
    /// A warning, waiting or degraded: 1.
    Warning,
    /// Refused or critical: 2.
    Refused,
    /// Unknown or unreachable: 3.
    Unknown,
    /// The command line, or the configuration, is wrong: 64.
    Usage,
}

impl Status {
    /// As the operating system gets it.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Warning => 1,
            Self::Refused => 2,
            Self::Unknown => 3,
            Self::Usage => 64,
        }
    }

    /// That of another process of this program; what has no meaning here is unknown.
    pub fn of_code(code: i32) -> Self {
        match code {
            0 => Self::Done,
            1 => Self::Warning,
            2 => Self::Refused,
            64 => Self::Usage,
            _ => Self::Unknown,
        }
    }

    /// The word a verdict begins with.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "OK",
            Self::Warning => "WARNING",
            Self::Refused => "REFUSED",
            Self::Unknown => "UNKNOWN",
            Self::Usage => "USAGE",
        }
    }
}

/// Why a command was not carried out: what happened, to what, what next. In JSON it has the shape of the admin API's
/// errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The exit status.
    #[serde(skip)]
    pub status: Status,
    /// A stable name: a broker's code, or one of this tool in small letters.
    pub code: String,
    /// For people.
    pub message: String,
    /// Commands to type next.
    pub next: Vec<String>,
}

/// [`Failure::code`] of a stream that nobody reads to its end.
const CLOSED_OUTPUT: &str = "output-closed";

impl Failure {
    /// Whoever read standard output closed it before all was written. That is said by the status alone.
    pub fn closed_output() -> Self {
        Self::new(Status::Warning, CLOSED_OUTPUT, "whoever read standard output closed it")
    }

    /// Whether nobody reads standard output any more.
    pub fn is_closed_output(&self) -> bool {
        self.code == CLOSED_OUTPUT
    }

    /// A failure without advice.
    pub fn new(status: Status, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into(), next: Vec::new() }
    }

    /// Wrong arguments or configuration.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Status::Usage, "usage", message)
    }

    /// A file or a stream of this machine failed.
    pub fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(Status::Refused, "io", format!("{what}: {error}"))
    }

    /// The same with one more command to type next.
    #[must_use]
    pub fn next(mut self, command: impl Into<String>) -> Self {
        self.next.push(command.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = error.code().map_or_else(|| name(&error).to_owned(), |code| code.name().to_owned());
        let failure = Self::new(status(&error), &code, error.to_string());
        match error.code() {
            Some(FaultCode::QueueNotFound) => {
                failure.next("quorate queue list").next("quorate queue declare NAME")
            }
            Some(FaultCode::ExchangeNotFound) => {
                failure.next("quorate exchange list").next("quorate exchange declare NAME")
            }
            Some(FaultCode::Unroutable) => failure.next("quorate queue list").next("quorate binding list"),
            Some(FaultCode::VhostNotFound) => failure.next("quorate vhost list"),
            Some(FaultCode::BindingNotFound) => failure.next("quorate binding list"),
            Some(code) if code.is_retryable() => failure.next("quorate cluster status"),
            None if failure.status == Status::Unknown => failure.next("quorate cluster status"),
            _ => failure,
        }
    }
}

fn status(error: &Error) -> Status {
    match error {
        Error::Url(_) | Error::Invalid(_) => Status::Usage,
        Error::Unreachable(_)
        | Error::Lost { .. }
        | Error::TimedOut(_)
        | Error::UnknownOutcome(_)
        | Error::WillBeRedelivered
        | Error::Closed => Status::Unknown,
        Error::Refused { code, .. } | Error::Failed { code, .. } | Error::ConsumerClosed { code, .. }
            if code.is_retryable() =>
        {
            Status::Warning
        }
        _ => Status::Refused,
    }
}

fn name(error: &Error) -> &'static str {
    match error {
        Error::Url(_) | Error::Invalid(_) => "usage",
        Error::MessageTooLarge { .. } => "message-too-large",
        Error::Tls(_) => "tls",
        Error::Unreachable(_) | Error::Lost { .. } => "unreachable",
        Error::TimedOut(_) => "timeout",
        Error::UnknownOutcome(_) => "unknown-outcome",
        Error::WillBeRedelivered => "will-be-redelivered",
        Error::Closed => "closed",
        _ => "protocol",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_broker_says_becomes_a_status_and_advice() {
        let failed = |code| Failure::from(Error::Failed { code, text: "x".into() });
        let missing = failed(FaultCode::QueueNotFound);
        assert_eq!((missing.status, missing.code.as_str()), (Status::Refused, "QUEUE_NOT_FOUND"));
        assert_eq!(missing.next[1], "quorate queue declare NAME");
        assert_eq!(failed(FaultCode::NoQuorum).status, Status::Warning);
        assert_eq!(Failure::from(Error::Unreachable("x".into())).status, Status::Unknown);
        assert_eq!(Failure::from(Error::Invalid("x".into())).status.code(), 64);
    }
}
