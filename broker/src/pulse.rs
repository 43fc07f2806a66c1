//! When the core thread last ran: for `/health/live` and systemd's watchdog.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A stuck disk can hold up a round for a while; this long is not that any more.
const LIVE_WITHIN: Duration = Duration::from_secs(10);

/// Beats once per round of the driver, and at least twice a second.
#[derive(Debug)]
pub struct Pulse {
    start: Instant,
    beat_millis: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { start: Instant::now(), beat_millis: AtomicU64::new(0) }
    }
}

impl Pulse {
    /// The driver's wait between two beats is at most this long.
    pub const INTERVAL: Duration = Duration::from_millis(500);

    fn now_millis(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The core thread runs.
    pub fn beat(&self) {
        self.beat_millis.store(self.now_millis(), Ordering::Relaxed);
    }

    /// It ran lately.
    pub fn is_live(&self) -> bool {
        let age = self.now_millis().saturating_sub(self.beat_millis.load(Ordering::Relaxed));
        Duration::from_millis(age) < LIVE_WITHIN
    }
}
