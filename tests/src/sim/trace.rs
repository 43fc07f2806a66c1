//! What happened, as a hash, and for people if asked.

use super::schedule::Micros;

/// Gathers a run's hash; prints each line if it is to be shown.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    /// Print lines to the standard error.
    pub show: bool,
}

impl Trace {
    /// Nothing happened yet.
    pub fn new(show: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, show }
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Something happened that these bytes describe.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let word = chunk.try_into().map(u64::from_le_bytes).unwrap_or_default();
            self.word(word);
        }
        for byte in chunks.remainder() {
            self.word(u64::from(*byte));
        }
        self.word(bytes.len() as u64);
    }

    /// Something happened that this number describes.
    pub fn word(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(17);
    }

    /// Something happened that is worth a line.
    pub fn line(&mut self, now: Micros, text: impl FnOnce() -> String) {
        self.word(now);
        if self.show {
            eprintln!("{:>13} {}", Seconds(now), text());
        }
    }
}

/// Microseconds shown as seconds.
struct Seconds(Micros);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000);
        f.pad(&text)
    }
}
