//! Log, stamp and loads behind one face.

use quorate_core::io::Ticket;
use quorate_store::ids::{GroupId, Index};
use quorate_store::log::LogReader;
use quorate_store::panic::PanicRecord;
use quorate_store::stamp::Stamp;

use crate::keeper::KeepOrder;
use crate::load_pool::{Load, LoadPool};
use crate::log_thread::{LogThread, LogWork, Round};
use crate::log_worker::LogOwner;
use crate::stamp_thread::{StampFiles, StampThread};

/// The threads that hold what must not be lost.
#[derive(Debug)]
pub struct Storage {
    log: LogThread,
    /// The round's batch, until the round has ended.
    held: Option<Round>,
    stamp: StampThread,
    loads: LoadPool,
}

impl Storage {
    /// Starts the threads.
    pub fn start(owner: LogOwner, reader: &LogReader, stamp: StampFiles) -> std::io::Result<Self> {
        let loads = LoadPool::start(reader, &owner.inbox)?;
        let counters = std::sync::Arc::clone(&owner.counters);
        let stamp = StampThread::start(stamp, owner.synced.clone(), owner.inbox.clone(), counters)?;
        Ok(Self { log: LogThread::start(owner)?, held: None, stamp, loads })
    }

    /// See `Output::Persist`. Begins at the end of the round: see [`Storage::write_held`].
    pub fn persist(&mut self, round: Round) {
        self.give_held();
        self.held = Some(round);
    }

    /// Whether a batch waits for the end of the round.
    pub fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// Has the log's thread write the batch that waits.
    pub fn give_held(&mut self) {
        if let Some(round) = self.held.take() {
            self.log.give(LogWork::Persist(round));
        }
    }

    /// Writes the batch that waits, here if it is small.
    pub fn write_held(&mut self) {
        if let Some(round) = self.held.take() {
            self.log.write_at_once(round);
        }
    }

    /// See `Output::Compact`.
    pub fn compact(&mut self, group: GroupId, index: Index) {
        self.give_held();
        self.log.give(LogWork::Compact(group, index));
    }

    /// See `Output::Quarantine`.
    pub fn keep(&mut self, order: KeepOrder) {
        self.give_held();
        self.log.give(LogWork::Keep(order));
    }

    /// See `Output::WriteStamp`.
    pub fn write_stamp(&self, ticket: Ticket, stamp: Box<Stamp>) {
        self.stamp.give(ticket, stamp);
    }

    /// See `Output::LookAtStamp`.
    pub fn look_at_stamp(&self, ticket: Ticket) {
        self.stamp.look(ticket);
    }

    /// See `Output::Panic`: what waits for the log and the stamp is dropped.
    pub fn panic(&mut self, ticket: Ticket, record: Option<Box<PanicRecord>>) {
        self.held = None;
        self.log.fence();
        self.stamp.panic(ticket, record);
    }

    /// See `Output::ClearPanic`.
    pub fn clear_panic(&self, ticket: Ticket) {
        self.stamp.clear_panic(ticket);
    }

    /// See `Output::Load`.
    pub fn load(&self, ticket: Ticket, group: GroupId, from: Index, to: Index, max_bytes: usize) {
        self.loads.give(Load { ticket, group, from, to, max_bytes });
    }

    /// Writes what is there and ends the writing threads.
    pub fn finish(&mut self) {
        self.give_held();
        self.log.finish();
        self.stamp.finish();
    }
}
