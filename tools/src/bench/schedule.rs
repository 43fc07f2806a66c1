//! Open loop: when each message is due, whatever the cluster does, and what follows from being late.
//!
//! A publisher that waits for the cluster before it sends the next message leaves out of its latencies those messages
//! that it would have sent meanwhile: a pause of a second is one slow message, and not the thousand that would have met
//! it. ("Coordinated omission"; the remedy is that of wrk2: the clock of a message starts when it is due.)

use std::time::Duration;

use super::plan::Limit;

const NANOS: u128 = 1_000_000_000;
/// What is sent later than this after it was due is late.
pub const LATE: Duration = Duration::from_millis(1);
/// Whoever is behind at the end of the schedule may catch up for so long, if a hundredth of the schedule is not longer.
const SHORTEST_GRACE: Duration = Duration::from_millis(250);
/// The waiting of messages that were never sent is recorded in at most so many steps.
const STEPS: u64 = 10_000;

/// Messages at even distances, numbered over all publishers, which take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Messages a second.
    rate: u64,
    publishers: u64,
    total: u64,
}

impl Schedule {
    /// So many messages a second until the limit.
    pub fn new(rate: u64, limit: Limit, publishers: usize) -> Self {
        let rate = rate.max(1);
        let total = match limit {
            Limit::Messages(messages) => messages,
            Limit::Time(time) => {
                let messages = time.as_nanos().saturating_mul(u128::from(rate)).div_ceil(NANOS);
                u64::try_from(messages).unwrap_or(u64::MAX)
            }
        };
        Self { rate, publishers: publishers.max(1) as u64, total }
    }

    /// Messages a second.
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// Messages, over all publishers.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// From the first message to the end of the last one's turn.
    pub fn length(&self) -> Duration {
        self.due(self.total)
    }

    /// When a message is due, from the beginning.
    pub fn due(&self, message: u64) -> Duration {
        let nanos = u128::from(message) * NANOS / u128::from(self.rate);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many messages are due by then.
    pub fn due_by(&self, elapsed: Duration) -> u64 {
        // Message n is due at floor(n · NANOS / rate): it is by then if n · NANOS < (elapsed + 1) · rate.
        let until = elapsed.as_nanos().saturating_add(1).saturating_mul(u128::from(self.rate));
        u64::try_from(until.div_ceil(NANOS)).unwrap_or(u64::MAX).min(self.total)
    }

    /// Whose turn a message is.
    pub fn publisher(&self, message: u64) -> usize {
        usize::try_from(message % self.publishers).unwrap_or(0)
    }

    /// When a publisher's own message number so many is due; none after its last.
    pub fn due_of(&self, publisher: usize, number: u64) -> Option<Duration> {
        let message = number.checked_mul(self.publishers)?.checked_add(publisher as u64)?;
        if message < self.total { Some(self.due(message)) } else { None }
    }

    /// How many messages one publisher has.
    pub fn total_of(&self, publisher: usize) -> u64 {
        self.total.saturating_sub(publisher as u64).div_ceil(self.publishers)
    }

    /// How long after its end messages may still be sent that were due before.
    pub fn grace(&self) -> Duration {
        (self.length() / 100).max(SHORTEST_GRACE)
    }

    /// Whether the cluster kept up: all was sent, and the last answer was there within the grace.
    pub fn is_kept(&self, took: Duration, unsent: u64) -> bool {
        unsent == 0 && took <= self.length().saturating_add(self.grace())
    }

    /// How long a publisher's messages from this number on had waited when it gave up: the least that their latency can
    /// be. Many are put together; the ages are exact to a ten-thousandth of the schedule.
    pub fn waited(&self, publisher: usize, from: u64, end: Duration) -> Vec<(Duration, u64)> {
        let total = self.total_of(publisher);
        let unsent = total.saturating_sub(from);
        let step = unsent.div_ceil(STEPS).max(1);
        let mut ages = Vec::new();
        let mut number = from;
        while number < total {
            let count = step.min(total - number);
            // The middle one stands for those put together.
            let due = self.due_of(publisher, number + count / 2).unwrap_or_default();
            ages.push((end.saturating_sub(due), count));
            number += count;
        }
        ages
    }
}

/// Whose fault it is that a message is sent late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lateness {
    /// It is not late.
    OnTime,
    /// The window was full of messages without a confirm when it was due.
    Window,
    /// There was room: this process did not come round to it.
    Client,
}

impl Lateness {
    /// Of a message that was due, and was sent; the window last had no room before `room_since`.
    pub fn of(due: Duration, sent: Duration, room_since: Duration) -> Self {
        if sent.saturating_sub(due) <= LATE {
            Self::OnTime
        } else if due < room_since {
            Self::Window
        } else {
            Self::Client
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn messages_are_due_at_even_distances_whoever_publishes_them() {
        let schedule = Schedule::new(1000, Limit::Time(SECOND * 2), 3);
        assert_eq!((schedule.total(), schedule.length()), (2000, SECOND * 2));
        assert_eq!(schedule.due_of(0, 0), Some(Duration::ZERO));
        assert_eq!(schedule.due_of(2, 1), Some(millis(5)));
        assert_eq!((schedule.due_of(1, 666), schedule.due_of(2, 666)), (Some(millis(1999)), None));
        assert_eq!((0..3).map(|publisher| schedule.total_of(publisher)).sum::<u64>(), 2000);
        assert_eq!((schedule.publisher(5), schedule.publisher(6)), (2, 0));
        assert_eq!(schedule.due_of(0, u64::MAX), None);
    }

    #[test]
    fn what_is_due_by_a_time_is_what_is_due_before_or_at_it() {
        for rate in [1, 3, 7, 1000, 999_983, 10_000_000] {
            let schedule = Schedule::new(rate, Limit::Messages(1_000), 1);
            for message in [0, 1, 2, 500, 999] {
                let due = schedule.due(message);
                assert_eq!(schedule.due_by(due), message + 1, "{rate} {message}");
                if let Some(before) = due.checked_sub(Duration::from_nanos(1)) {
                    assert_eq!(schedule.due_by(before), message, "{rate} {message}");
                }
            }
            assert_eq!(schedule.due_by(Duration::MAX), 1_000);
        }
        assert_eq!(Schedule::new(3, Limit::Time(SECOND), 1).total(), 3);
        assert_eq!(Schedule::new(3, Limit::Time(millis(1)), 1).total(), 1);
        assert_eq!(Schedule::new(u64::MAX, Limit::Time(Duration::MAX), 1).total(), u64::MAX);
    }

    #[test]
    fn it_is_kept_if_all_was_sent_and_answered_soon_after_its_end() {
        let schedule = Schedule::new(100, Limit::Time(SECOND * 5), 1);
        assert!(schedule.is_kept(SECOND * 5 + millis(250), 0));
        assert!(!schedule.is_kept(SECOND * 5 + millis(251), 0));
        assert!(!schedule.is_kept(SECOND * 5, 1));
        let long = Schedule::new(100, Limit::Time(SECOND * 100), 1);
        assert!(long.is_kept(SECOND * 101, 0) && !long.is_kept(SECOND * 101 + millis(1), 0));
    }

    #[test]
    fn a_message_that_was_never_sent_has_waited_since_it_was_due() {
        let schedule = Schedule::new(10, Limit::Time(SECOND), 2);
        // Publisher 1 has those due at 100, 300, 500, 700 and 900 ms.
        let waited = schedule.waited(1, 3, millis(1200));
        assert_eq!(waited, [(millis(500), 1), (millis(300), 1)]);
        assert_eq!(schedule.waited(1, 5, SECOND), []);
        let many = Schedule::new(1_000_000, Limit::Time(SECOND * 5), 1);
        let waited = many.waited(0, 0, SECOND * 5);
        assert_eq!(waited.iter().map(|(_, count)| count).sum::<u64>(), 5_000_000);
        assert!(waited.len() as u64 <= STEPS && waited[0].0 > millis(4999) && waited[9_999].0 < millis(1));
    }

    #[test]
    fn a_late_message_is_the_windows_or_the_clients_fault() {
        let of = |due, sent, room| Lateness::of(millis(due), millis(sent), millis(room));
        assert_eq!(of(10, 11, 0), Lateness::OnTime);
        assert_eq!(of(10, 12, 0), Lateness::Client);
        assert_eq!(of(10, 25, 20), Lateness::Window);
        assert_eq!(of(21, 25, 20), Lateness::Client);
        assert_eq!(of(21, 20, 20), Lateness::OnTime);
    }
}
