//! Why the process ends, as its exit status says it.

use std::fmt;

/// The exit statuses that scripts rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// Stopped as asked.
    Done = 0,
    /// Usage, configuration, port in use.
    Usage = 2,
    /// Refused by the cluster, or a newer store format.
    Refused = 3,
    /// The store is locked by another process.
    Locked = 4,
    /// I/O error on the store, unwritable directory.
    Io = 5,
    /// A bug.
    Internal = 70,
}

/// An end with its reason: a line for people that says what happened, to what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// For scripts.
    pub status: u8,
    /// For people.
    pub reason: String,
    /// What follows.
    pub then: Then,
}

/// What follows the end of one life of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The end of the process.
    End,
    /// The store is set aside, and the broker begins again with an empty one.
    Anew,
    /// The broker begins again with the store as it is.
    Again,
}

impl Exit {
    /// An end for this reason.
    pub fn new(status: ExitStatus, reason: impl Into<String>) -> Self {
        Self { status: status as u8, reason: reason.into(), then: Then::End }
    }

    /// The end of this life of the broker; the next one is to have an empty store.
    pub fn begin_anew(reason: String) -> Self {
        Self { then: Then::Anew, ..Self::new(ExitStatus::Done, reason) }
    }

    /// The end of this life of the broker; the next one begins with what the store holds.
    pub fn begin_again(reason: String) -> Self {
        Self { then: Then::Again, ..Self::new(ExitStatus::Done, reason) }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Exit {}

/// Ends the process now because the store cannot be written or read. Nothing that waited for the disk is confirmed,
/// and nothing is tried again: after a failed sync nobody knows what the medium holds.
pub fn die_of_io(what: &str, error: &dyn fmt::Display) -> ! {
    tracing::error!("I/O error on the store, the process ends at once: {what}: {error}");
    std::process::exit(i32::from(ExitStatus::Io as u8))
}

/// Makes a panic on any thread end the whole process: a broker without its core, its log writer or a socket task must
/// not look alive.
pub fn end_process_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!("internal error, the process ends: {panic}");
        report(panic);
        std::process::exit(i32::from(ExitStatus::Internal as u8))
    }));
}
