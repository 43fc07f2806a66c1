//! Log, stamp and loads behind one face.

use quorate_core::io::Ticket;
use quorate_store::ids::{GroupId, Index};
use quorate_store::log::LogReader;
use quorate_store::record::Batch;
use quorate_store::stamp::{Stamp, StampFile};

use crate::keeper::KeepOrder;
use crate::load_pool::{Load, LoadPool};
use crate::log_thread::{LogOwner, LogThread, LogWork};
use crate::stamp_thread::StampThread;

/// The threads that hold what must not be lost.
#[derive(Debug)]
pub struct Storage {
    log: LogThread,
    stamp: StampThread,
    loads: LoadPool,
}

impl Storage {
    /// Starts the threads.
    pub fn start(owner: LogOwner, reader: &LogReader, stamp: Option<StampFile>) -> std::io::Result<Self> {
        let loads = LoadPool::start(reader, &owner.inbox)?;
        let counters = std::sync::Arc::clone(&owner.counters);
        let stamp = StampThread::start(stamp, owner.synced.clone(), owner.inbox.clone(), counters)?;
        Ok(Self { log: LogThread::start(owner)?, stamp, loads })
    }

    /// See `Output::Persist`.
    pub fn persist(&self, ticket: Ticket, batch: Batch) {
        self.log.give(LogWork::Persist(ticket, batch));
    }

    /// See `Output::Compact`.
    pub fn compact(&self, group: GroupId, index: Index) {
        self.log.give(LogWork::Compact(group, index));
    }

    /// See `Output::Quarantine`.
    pub fn keep(&self, order: KeepOrder) {
        self.log.give(LogWork::Keep(order));
    }

    /// See `Output::WriteStamp`.
    pub fn write_stamp(&self, ticket: Ticket, stamp: Box<Stamp>) {
        self.stamp.give(ticket, stamp);
    }

    /// See `Output::Load`.
    pub fn load(&self, ticket: Ticket, group: GroupId, from: Index, to: Index, max_bytes: usize) {
        self.loads.give(Load { ticket, group, from, to, max_bytes });
    }

    /// Writes what is there and ends the writing threads.
    pub fn finish(&mut self) {
        self.log.finish();
        self.stamp.finish();
    }
}
