//! The thread that writes the stamp: two files, each synced, too slow for the log's thread.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use quorate_core::io::{Input, Ticket};
use quorate_store::stamp::{Stamp, StampFile};

use crate::config::read_bounded;
use crate::counters::Counters;
use crate::exit::die_of_io;
use crate::inbox::Inbox;
use crate::log_worker::Synced;

/// Gives work to the thread.
#[derive(Debug)]
pub struct StampThread {
    work: Option<Sender<(Ticket, Box<Stamp>)>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl StampThread {
    /// Starts the thread over the stamp's files; none for a transient broker, which has nothing to remember.
    pub fn start(
        file: Option<StampFile>,
        synced: Synced,
        inbox: Inbox,
        counters: Arc<Counters>,
    ) -> std::io::Result<Self> {
        let (work, receiver) = channel();
        let boot_id = boot_id();
        let thread = thread::Builder::new()
            .name("stamp".to_owned())
            .spawn(move || run(file, &synced, &inbox, &counters, &boot_id, &receiver))?;
        Ok(Self { work: Some(work), thread: Some(thread) })
    }

    /// Writes this stamp after those before it.
    pub fn give(&self, ticket: Ticket, stamp: Box<Stamp>) {
        if let Some(sender) = &self.work {
            // The thread ends only with the process or after `finish`.
            let _ = sender.send((ticket, stamp));
        }
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

fn run(
    mut file: Option<StampFile>,
    synced: &Synced,
    inbox: &Inbox,
    counters: &Counters,
    boot_id: &str,
    receiver: &Receiver<(Ticket, Box<Stamp>)>,
) {
    for (ticket, stamp) in receiver {
        // The core's stamps build on each other: the latest of those that wait says all that the others say.
        let mut tickets = vec![ticket];
        let mut latest = stamp;
        while let Ok((ticket, stamp)) = receiver.try_recv() {
            tickets.push(ticket);
            latest = stamp;
        }
        if let Some(file) = &mut file {
            let stamp = Stamp {
                boot_id: boot_id.to_owned(),
                wall_clock_ms: wall_clock_ms(),
                log_synced: synced.get(),
                ..*latest
            };
            file.write(stamp).unwrap_or_else(|error| die_of_io("write of the stamp", &error));
            counters.stamps.add(1);
        }
        for ticket in tickets {
            inbox.input(Input::Persisted { ticket });
        }
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
