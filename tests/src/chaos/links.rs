//! What passes from one broker to another, changeable while it passes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

/// What happens to the bytes that one broker sends to another one, whichever of the two dialed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// They pass.
    Pass,
    /// They are held back; connections stay, and new ones are accepted.
    Stall,
    /// They vanish; connections stay until the rule changes, since what comes after a gap is no stream.
    Vanish,
    /// Connections are reset, and new ones, too.
    Cut,
    /// They pass this much later.
    Delay(Duration),
    /// The next frame passes in part, this number says how much of it; then as [`Rule::Cut`].
    MiddleOfFrame(u32),
}

/// All directions between so many brokers.
#[derive(Debug)]
pub struct Links {
    size: usize,
    directions: Vec<watch::Sender<Rule>>,
    /// Connections that were cut in the middle of a frame.
    middles: AtomicU64,
    /// Connections that carried a broker's handshake and what followed.
    connections: AtomicU64,
}

impl Links {
    /// Everything passes.
    pub fn new(size: usize) -> Self {
        Self {
            size,
            directions: (0..size * size).map(|_| watch::Sender::new(Rule::Pass)).collect(),
            middles: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        }
    }

    fn direction(&self, from: usize, to: usize) -> &watch::Sender<Rule> {
        &self.directions[from * self.size + to]
    }

    /// From now on.
    pub fn set(&self, from: usize, to: usize, rule: Rule) {
        self.direction(from, to).send_replace(rule);
    }

    /// Everything passes again.
    pub fn heal(&self) {
        for direction in &self.directions {
            direction.send_replace(Rule::Pass);
        }
    }

    /// The rule of a direction, and its changes.
    pub fn watch(&self, from: usize, to: usize) -> watch::Receiver<Rule> {
        self.direction(from, to).subscribe()
    }

    /// A frame was cut through: nothing passes in its direction any more.
    pub(super) fn cut_in_the_middle(&self, from: usize, to: usize) {
        self.middles.fetch_add(1, Ordering::Relaxed);
        self.set(from, to, Rule::Cut);
    }

    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections that were cut in the middle of a frame so far.
    pub fn middles(&self) -> u64 {
        self.middles.load(Ordering::Relaxed)
    }

    /// Connections between two brokers so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}
