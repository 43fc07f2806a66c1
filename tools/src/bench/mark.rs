//! What each message carries in its first bytes: who published it, which one it is, and when it was due.
//!
//! ```text
//!   64 bits:  publisher (as many bits as they need) │ number of the message │ microseconds, the lower 32 bits
//! ```
//!
//! It fits the smallest body, so that every delivery can be checked against what was published. Microseconds begin
//! anew after 71 minutes; latencies are told apart up to two.

use std::time::Duration;

/// Bytes of a mark, and so of the smallest message.
pub const MARK_BYTES: usize = 8;
const NUMBER_AND_PUBLISHER: u32 = 32;

/// How marks are made in a run with so many publishers.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    number_bits: u32,
}

/// A mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which publisher, from 0.
    pub publisher: usize,
    /// Which of its messages, from 0.
    pub number: u64,
    /// When it was due or published, from the run's beginning: the lower bits of the microseconds.
    pub micros: u32,
}

impl Marks {
    /// For publishers numbered below this.
    pub fn new(publishers: usize) -> Self {
        let bits = usize::BITS - publishers.saturating_sub(1).leading_zeros();
        Self { number_bits: NUMBER_AND_PUBLISHER.saturating_sub(bits) }
    }

    /// How many messages of one publisher can be told apart.
    pub fn most(self) -> u64 {
        1 << self.number_bits
    }

    /// Writes a mark into a body; a shorter body gets the part that fits.
    pub fn write(self, body: &mut [u8], publisher: usize, number: u64, since: Duration) {
        let high = ((publisher as u64) << self.number_bits) | (number & (self.most() - 1));
        let mark = (high << 32) | u64::from(micros(since));
        for (to, from) in body.iter_mut().zip(mark.to_le_bytes()) {
            *to = from;
        }
    }

    /// The mark of a body; none if it is too short.
    pub fn read(self, body: &[u8]) -> Option<Mark> {
        let mark = u64::from_le_bytes(body.get(..MARK_BYTES)?.try_into().ok()?);
        let high = mark >> 32;
        Some(Mark {
            publisher: usize::try_from(high >> self.number_bits).ok()?,
            number: high & (self.most() - 1),
            micros: u32::try_from(mark & u64::from(u32::MAX)).ok()?,
        })
    }
}

impl Mark {
    /// How long ago that was.
    pub fn age(self, now: Duration) -> Duration {
        Duration::from_micros(u64::from(micros(now).wrapping_sub(self.micros)))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lower bits are what is wanted")]
fn micros(since: Duration) -> u32 {
    since.as_micros() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        for (publishers, most) in [(1, 1 << 32), (2, 1 << 31), (3, 1 << 30), (1000, 1 << 22)] {
            let marks = Marks::new(publishers);
            assert_eq!(marks.most(), most);
            for (publisher, number) in [(0, 0), (publishers - 1, most - 1), (publishers / 2, 77)] {
                let mut body = [0; 12];
                marks.write(&mut body, publisher, number, Duration::from_micros(5));
                assert_eq!(marks.read(&body), Some(Mark { publisher, number, micros: 5 }));
            }
        }
        assert_eq!(Marks::new(1).read(&[0; 7]), None);
    }

    #[test]
    fn an_age_is_right_also_where_the_microseconds_begin_anew() {
        let marks = Marks::new(1);
        let published = Duration::from_micros((1 << 32) - 10);
        let mut body = [0; MARK_BYTES];
        marks.write(&mut body, 0, 0, published);
        let age = marks.read(&body).unwrap().age(published + Duration::from_millis(3));
        assert_eq!(age, Duration::from_millis(3));
    }
}
