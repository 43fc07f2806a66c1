//! What became of the messages of a run: speed is worth nothing if some are gone.

use serde::{Deserialize, Serialize};

use crate::exit::Status;
use crate::units::grouped;

/// Counts of messages. What a run cannot know is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Handed to the client library.
    pub published: u64,
    /// Known to be safe.
    pub confirmed: u64,
    /// Known to have had no effect.
    pub refused: u64,
    /// Nobody knows.
    pub unknown: u64,
    /// Messages that were delivered, each counted once.
    pub delivered: Option<u64>,
    /// Further deliveries of messages that had been delivered.
    pub delivered_twice: Option<u64>,
    /// Of these, those without the mark of redelivery: the broker did not know.
    pub unmarked: Option<u64>,
    /// Deliveries of what this run did not publish, or that were changed on their way.
    pub unexpected: Option<u64>,
    /// Confirmed and not delivered when the run gave up waiting, but still in the queues; if `lost` is none, also those
    /// of which nobody could say whether they are.
    pub undelivered: Option<u64>,
    /// Confirmed and left in the queues, since the time of consuming was over.
    pub left: Option<u64>,
    /// Confirmed, never delivered, and no longer in the queues. The least, if the run gave up waiting: what else is in the
    /// queues is taken for the missing. None as well if the queues could not be asked.
    pub lost: Option<u64>,
}

fn sum(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (known, None) | (None, known) => known,
    }
}

impl Account {
    /// Messages may be lost, and nobody could say.
    fn is_unsettled(&self) -> bool {
        self.undelivered.is_some() && self.lost.is_none()
    }

    /// Both together. What one of them does not count, the other one does; but with losses unknown on one side, they are
    /// unknown in sum.
    #[must_use]
    pub fn with(self, other: &Self) -> Self {
        let is_unsettled = self.is_unsettled() || other.is_unsettled();
        Self {
            published: self.published.saturating_add(other.published),
            confirmed: self.confirmed.saturating_add(other.confirmed),
            refused: self.refused.saturating_add(other.refused),
            unknown: self.unknown.saturating_add(other.unknown),
            delivered: sum(self.delivered, other.delivered),
            delivered_twice: sum(self.delivered_twice, other.delivered_twice),
            unmarked: sum(self.unmarked, other.unmarked),
            unexpected: sum(self.unexpected, other.unexpected),
            undelivered: sum(self.undelivered, other.undelivered),
            left: sum(self.left, other.left),
            lost: if is_unsettled { None } else { sum(self.lost, other.lost) },
        }
    }

    /// What it says about the cluster: a lost message, one delivered twice without its mark, or one that nobody
    /// published is critical; what was refused, is unknown or came twice is a warning.
    pub fn status(&self) -> Status {
        let some = |count: Option<u64>| count.is_some_and(|count| count > 0);
        if some(self.lost) || some(self.unmarked) || some(self.unexpected) {
            Status::Refused
        } else if self.refused > 0 || self.unknown > 0 || some(self.delivered_twice) || some(self.undelivered)
        {
            Status::Warning
        } else {
            Status::Done
        }
    }

    /// For people, in one line.
    pub fn line(&self) -> String {
        let mut text = format!(
            "{} published, {} confirmed, {} refused, {} unknown",
            grouped(self.published),
            grouped(self.confirmed),
            grouped(self.refused),
            grouped(self.unknown)
        );
        let Some(delivered) = self.delivered else { return text };
        let count = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), grouped);
        let twice = count(self.delivered_twice);
        let lost = count(self.lost);
        text.extend(["; ", &grouped(delivered), " delivered, ", &twice, " twice, ", &lost, " lost"]);
        let undelivered = if self.is_unsettled() {
            "confirmed and not delivered, perhaps still in the queues: not all could be asked"
        } else {
            "confirmed and still in the queues"
        };
        for (what, count) in [
            ("twice without the mark of redelivery", self.unmarked),
            ("delivered that this run did not publish", self.unexpected),
            (undelivered, self.undelivered),
            ("left in the queues when the time was over", self.left),
        ] {
            if let Some(count) = count.filter(|count| *count > 0) {
                text.extend([", ", &grouped(count), " ", what]);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_decides_the_status() {
        let good =
            Account { published: 5, confirmed: 5, delivered: Some(5), lost: Some(0), ..Account::default() };
        assert_eq!(good.status(), Status::Done);
        for (account, status) in [
            (Account { refused: 1, ..good }, Status::Warning),
            (Account { unknown: 1, ..good }, Status::Warning),
            (Account { delivered_twice: Some(1), ..good }, Status::Warning),
            (Account { undelivered: Some(1), ..good }, Status::Warning),
            (Account { lost: Some(1), unknown: 1, ..good }, Status::Refused),
            (Account { unmarked: Some(1), ..good }, Status::Refused),
            (Account { unexpected: Some(1), ..good }, Status::Refused),
            (Account { left: Some(1), ..good }, Status::Done),
            (Account { delivered: None, lost: None, ..good }, Status::Done),
        ] {
            assert_eq!(account.status(), status, "{account:?}");
        }
    }

    #[test]
    fn sums_know_what_one_of_them_knows() {
        let known = Account { confirmed: 2, delivered: Some(2), lost: Some(1), ..Account::default() };
        let both = known.with(&Account { confirmed: 3, ..Account::default() });
        assert_eq!((both.confirmed, both.delivered, both.lost), (5, Some(2), Some(1)));
        assert_eq!(
            both.line(),
            "0 published, 5 confirmed, 0 refused, 0 unknown; 2 delivered, ? twice, 1 lost"
        );
        let unasked = Account { delivered: Some(1), undelivered: Some(4), ..Account::default() };
        for sum in [known.with(&unasked), unasked.with(&known)] {
            assert_eq!((sum.lost, sum.undelivered, sum.delivered), (None, Some(4), Some(3)));
            assert!(sum.line().contains("? lost, 4 confirmed and not delivered, perhaps"), "{}", sum.line());
        }
        assert_eq!(Account::default().line(), "0 published, 0 confirmed, 0 refused, 0 unknown");
    }
}
