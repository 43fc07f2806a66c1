//! Threads that read entries back from the log, so that the core never waits for a disk.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use quorate_core::io::{Input, Ticket};
use quorate_store::ids::{GroupId, Index};
use quorate_store::log::{LogError, LogReader};
use quorate_store::record::Entry;

use crate::exit::die_of_io;
use crate::inbox::Inbox;

/// A slow follower and a slow consumer at once do not wait for each other.
const THREADS: usize = 2;

/// See `Output::Load`.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Names it.
    pub ticket: Ticket,
    /// Which log.
    pub group: GroupId,
    /// First index.
    pub from: Index,
    /// First index no longer wanted.
    pub to: Index,
    /// About so many bytes.
    pub max_bytes: usize,
}

/// Gives work to the threads. They end when this is dropped.
#[derive(Debug)]
pub struct LoadPool {
    work: Sender<Load>,
}

impl LoadPool {
    /// Starts the threads.
    pub fn start(reader: &LogReader, inbox: &Inbox) -> std::io::Result<Self> {
        let (work, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for number in 0..THREADS {
            let (reader, inbox, receiver) = (reader.clone(), inbox.clone(), Arc::clone(&receiver));
            thread::Builder::new()
                .name(format!("load-{number}"))
                .spawn(move || run(&reader, &inbox, &receiver))?;
        }
        Ok(Self { work })
    }

    /// Reads these entries on the next free thread.
    pub fn give(&self, load: Load) {
        // The threads end only with the process.
        let _ = self.work.send(load);
    }
}

fn run(reader: &LogReader, inbox: &Inbox, receiver: &Mutex<Receiver<Load>>) {
    loop {
        let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(load) = next else { return };
        let entries = read(reader, load);
        inbox.input(Input::Loaded { ticket: load.ticket, entries });
    }
}

fn read(reader: &LogReader, load: Load) -> Vec<Entry> {
    match reader.read(load.group, load.from, load.to, load.max_bytes) {
        Ok(entries) => entries,
        // The core let go of them after it asked; it sees that they are missing.
        Err(LogError::Compacted { .. } | LogError::UnknownGroup { .. }) => Vec::new(),
        Err(error) => die_of_io("read from the log", &error),
    }
}
