//! What the process counts about itself. Written by the thread that does the work, read by `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows, or the latest value of something.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Takes from it, for what can also go down.
    pub fn subtract(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds a length of time, counted in nanoseconds.
    pub fn add_time(&self, time: Duration) {
        self.add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Its value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The process's own numbers.
#[derive(Debug, Default)]
pub struct Counters {
    /// Rounds of the core.
    pub rounds: Counter,
    /// Inputs the core was given.
    pub inputs: Counter,
    /// Writes to the log: each is one or more batches, followed by one sync.
    pub log_writes: Counter,
    /// Bytes appended to the log.
    pub log_written_bytes: Counter,
    /// Syncs of the log.
    pub log_syncs: Counter,
    /// Nanoseconds spent in them.
    pub log_sync_nanos: Counter,
    /// Bytes of log segments on disk.
    pub log_bytes: Counter,
    /// Bytes in quarantine.
    pub quarantine_bytes: Counter,
    /// Stamps written.
    pub stamps: Counter,
    /// Writes to the state store.
    pub state_writes: Counter,
    /// Flushes of the state store.
    pub state_flushes: Counter,
    /// Open client connections, logged in or not.
    pub sessions: Counter,
    /// Client connections accepted since the start.
    pub sessions_accepted: Counter,
    /// Client connections turned away because there were too many.
    pub sessions_rejected: Counter,
    /// Bytes read from clients.
    pub client_read_bytes: Counter,
    /// Bytes written to clients.
    pub client_written_bytes: Counter,
    /// Links to peers that can be sent on.
    pub peer_links: Counter,
    /// Bytes sent to peers.
    pub peer_written_bytes: Counter,
    /// Bytes read from peers.
    pub peer_read_bytes: Counter,
    /// Links dropped because the peer did not keep up.
    pub peer_overflows: Counter,
}
