//! How much a look at a store may take, so that a damaged or hostile directory ends with a message and not with the
//! machine.

use std::time::{Duration, Instant};

/// Memory for what a look gathers, unless told otherwise.
pub const MEMORY: u64 = 256 << 20;
/// Time for one store, unless told otherwise.
pub const TIME: Duration = Duration::from_mins(1);
/// Longest facts file, in bytes.
pub const FACTS_BYTES: u64 = 4 << 20;
/// Longest answer to what one store holds beyond another, in bytes.
pub const SURPLUS_BYTES: u64 = 16 << 20;
/// Stores compared at once.
pub const STORES: usize = 64;
/// Message ids, and ranges of positions, listed for one queue.
pub const LISTED: usize = 1000;

/// What is left of both for one store.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Bytes.
    pub memory: u64,
    /// Until when.
    pub deadline: Instant,
    /// How long that was, for messages.
    pub time: Duration,
}

impl Budget {
    /// From now on.
    pub fn new(memory: u64, time: Duration) -> Self {
        let now = Instant::now();
        Self { memory, deadline: now.checked_add(time).unwrap_or(now), time }
    }

    /// Whether the time is over.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }
}
