//! The thread that writes the stamp: two files, each synced, too slow for the log's thread. It is also the one that finds
//! another process's stamp there, and keeps the panic file.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use quorate_core::io::{Input, Ticket};
use quorate_store::panic::{PanicFile, PanicRecord};
use quorate_store::stamp::{Stamp, StampError, StampFile};

use crate::config::read_bounded;
use crate::counters::Counters;
use crate::exit::die_of_io;
use crate::inbox::Inbox;
use crate::log_worker::Synced;

/// What the core asks for.
#[derive(Debug)]
enum StampWork {
    /// See `Output::WriteStamp`.
    Write(Ticket, Box<Stamp>),
    /// See `Output::LookAtStamp`.
    Look(Ticket),
    /// See `Output::Panic`.
    Panic(Ticket, Option<Box<PanicRecord>>),
    /// See `Output::ClearPanic`.
    Clear(Ticket),
}

/// Gives work to the thread.
#[derive(Debug)]
pub struct StampThread {
    work: Option<Sender<StampWork>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// The files that say what the broker found out about itself; none of a transient broker, which has nothing to remember.
#[derive(Default)]
pub struct StampFiles {
    /// None, too, if the stamp must not be written.
    pub stamp: Option<StampFile>,
    /// Beside it.
    pub panic: Option<PanicFile>,
}

impl StampThread {
    /// Starts the thread over these files.
    pub fn start(
        files: StampFiles,
        synced: Synced,
        inbox: Inbox,
        counters: Arc<Counters>,
    ) -> std::io::Result<Self> {
        let (work, receiver) = channel();
        let owner = Owner { files, fenced: false, synced, inbox, counters, boot_id: boot_id() };
        let thread = thread::Builder::new().name("stamp".to_owned()).spawn(move || owner.run(&receiver))?;
        Ok(Self { work: Some(work), thread: Some(thread) })
    }

    fn send(&self, work: StampWork) {
        if let Some(sender) = &self.work {
            // The thread ends only with the process or after `finish`.
            let _ = sender.send(work);
        }
    }

    /// Writes this stamp after those before it.
    pub fn give(&self, ticket: Ticket, stamp: Box<Stamp>) {
        self.send(StampWork::Write(ticket, stamp));
    }

    /// Looks whether the stamp is another process's.
    pub fn look(&self, ticket: Ticket) {
        self.send(StampWork::Look(ticket));
    }

    /// Writes no stamp from here on, and keeps this record if there is one.
    pub fn panic(&self, ticket: Ticket, record: Option<Box<PanicRecord>>) {
        self.send(StampWork::Panic(ticket, record));
    }

    /// Removes the panic file.
    pub fn clear_panic(&self, ticket: Ticket) {
        self.send(StampWork::Clear(ticket));
    }

    /// Does what is there and ends the thread.
    pub fn finish(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has ended the process already.
            let _ = thread.join();
        }
    }
}

struct Owner {
    files: StampFiles,
    /// No stamp is written any more.
    fenced: bool,
    synced: Synced,
    inbox: Inbox,
    counters: Arc<Counters>,
    boot_id: String,
}

impl Owner {
    fn run(mut self, receiver: &Receiver<StampWork>) {
        let mut next = receiver.recv().ok();
        while let Some(work) = next.take() {
            match work {
                StampWork::Write(ticket, stamp) => next = self.write_latest(ticket, stamp, receiver),
                StampWork::Look(ticket) => self.look(ticket),
                StampWork::Panic(ticket, record) => {
                    self.fenced = true;
                    let kept = match (record, &self.files.panic) {
                        (Some(record), Some(file)) => file.write(&record),
                        _ => Ok(()),
                    };
                    self.answer(ticket, kept);
                }
                StampWork::Clear(ticket) => {
                    let cleared = self.files.panic.as_ref().map_or(Ok(()), PanicFile::clear);
                    self.answer(ticket, cleared);
                }
            }
            next = next.or_else(|| receiver.recv().ok());
        }
    }

    /// The core's stamps build on each other: the latest of those that wait says all that the others say. What comes next
    /// that is no stamp, if something is there.
    fn write_latest(
        &mut self,
        ticket: Ticket,
        stamp: Box<Stamp>,
        receiver: &Receiver<StampWork>,
    ) -> Option<StampWork> {
        let (mut tickets, mut latest) = (vec![ticket], stamp);
        let next = loop {
            match receiver.try_recv().ok() {
                Some(StampWork::Write(ticket, stamp)) => {
                    tickets.push(ticket);
                    latest = stamp;
                }
                other => break other,
            }
        };
        if self.write(*latest) {
            for ticket in tickets {
                self.inbox.input(Input::Persisted { ticket });
            }
        }
        next
    }

    /// Whether the stamp says this now.
    fn write(&mut self, stamp: Stamp) -> bool {
        if self.fenced {
            return false;
        }
        let Some(file) = &mut self.files.stamp else { return true };
        let stamp = Stamp {
            boot_id: self.boot_id.clone(),
            wall_clock_ms: wall_clock_ms(),
            log_synced: self.synced.get(),
            ..stamp
        };
        match file.write(stamp) {
            Ok(_) => {}
            Err(StampError::Foreign { found, .. }) => {
                self.fenced = true;
                self.inbox.input(Input::StampForeign { found });
                return false;
            }
            Err(error) => die_of_io("write of the stamp", &error),
        }
        if let Some(other) = file.take_outrun() {
            tracing::error!(
                "another process (run {}, incarnation {}) still writes to this store; this one is later and goes on, that one \
                 is to panic (SAFE-2001) when it finds this stamp",
                other.run_id,
                other.incarnation
            );
        }
        self.counters.stamps.add(1);
        true
    }

    fn look(&mut self, ticket: Ticket) {
        if self.fenced {
            return;
        }
        match self.files.stamp.as_ref().and_then(StampFile::foreign) {
            Some(StampError::Foreign { found, .. }) => {
                self.fenced = true;
                self.inbox.input(Input::StampForeign { found });
            }
            _ => self.inbox.input(Input::Persisted { ticket }),
        }
    }

    fn answer(&self, ticket: Ticket, done: Result<(), quorate_store::files::FileError>) {
        self.inbox.input(match done {
            Ok(()) => Input::Persisted { ticket },
            Err(error) => Input::NotKept { ticket, why: error.to_string() },
        });
    }
}

fn wall_clock_ms() -> u64 {
    // A clock before 1970 is shown as 1970: it is for people, nothing is decided on it.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The kernel's id of this boot; empty if unknown.
pub fn boot_id() -> String {
    read_bounded(Path::new("/proc/sys/kernel/random/boot_id"), 4096)
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}
