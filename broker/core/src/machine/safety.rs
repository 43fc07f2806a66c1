//! The cluster's safety number: a random number that the leader of `system` renews on a timer, in the log. Whoever has
//! another one for the same renewal has another history.

use std::collections::VecDeque;

use super::codec::{DecodeError, Reader, Writer};

/// Renewals that are remembered: whoever is further apart than this compares nothing.
pub const SAFETY_NUMBERS: usize = 8;

/// The latest numbers of one history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SafetyNumbers {
    /// How often it was renewed.
    renewals: u64,
    /// The last of them, oldest first.
    recent: VecDeque<u64>,
}

/// What two brokers' numbers say of their histories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// Nothing: one of them has none, or they are too far apart.
    Unknown,
    /// One history, both at the same renewal.
    Same,
    /// One history; the other broker is this many renewals ahead.
    Behind(u64),
    /// One history; the other broker is this many renewals behind.
    Ahead(u64),
    /// Two histories: the latest renewal that both remember has two numbers.
    Apart,
}

impl SafetyNumbers {
    /// These, the oldest first, of which the last is renewal number `renewals`; none if that cannot be.
    pub fn new(renewals: u64, recent: Vec<u64>) -> Option<Self> {
        let remembered = renewals.min(SAFETY_NUMBERS as u64);
        (u64::try_from(recent.len()) == Ok(remembered)).then(|| Self { renewals, recent: recent.into() })
    }

    /// The number in force; 0 before the first.
    pub fn number(&self) -> u64 {
        self.recent.back().copied().unwrap_or(0)
    }

    /// How often it was renewed.
    pub fn renewals(&self) -> u64 {
        self.renewals
    }

    /// Those that are remembered, oldest first.
    pub fn recent(&self) -> impl ExactSizeIterator<Item = u64> {
        self.recent.iter().copied()
    }

    /// A new number.
    pub fn renew(&mut self, number: u64) {
        self.renewals = self.renewals.saturating_add(1);
        self.recent.push_back(number);
        if self.recent.len() > SAFETY_NUMBERS {
            self.recent.pop_front();
        }
    }

    /// The number of this renewal, if it is remembered.
    fn at(&self, renewal: u64) -> Option<u64> {
        let back = usize::try_from(self.renewals.checked_sub(renewal)?).ok()?;
        self.recent.iter().rev().nth(back).copied()
    }

    /// Compares the latest renewal that both remember.
    pub fn compare(&self, other: &Self) -> Agreement {
        let common = self.renewals.min(other.renewals);
        match (self.at(common), other.at(common)) {
            (Some(mine), Some(theirs)) if mine != theirs => Agreement::Apart,
            (Some(_), Some(_)) => match self.renewals.cmp(&other.renewals) {
                std::cmp::Ordering::Equal => Agreement::Same,
                std::cmp::Ordering::Less => Agreement::Behind(other.renewals - self.renewals),
                std::cmp::Ordering::Greater => Agreement::Ahead(self.renewals - other.renewals),
            },
            _ => Agreement::Unknown,
        }
    }

    pub(super) fn write(&self, out: &mut Writer) {
        out.u64(self.renewals);
        out.count(self.recent.len());
        self.recent.iter().for_each(|number| out.u64(*number));
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let renewals = reader.u64()?;
        let mut recent = Vec::new();
        for _ in 0..reader.count(8)? {
            recent.push(reader.u64()?);
        }
        Self::new(renewals, recent).ok_or(DecodeError::Value("safety numbers"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many renewals: number `seed * 1000 + n` is the n-th.
    fn renewed(times: u64, seed: u64) -> SafetyNumbers {
        let mut numbers = SafetyNumbers::default();
        (1..=times).for_each(|n| numbers.renew(seed * 1000 + n));
        numbers
    }

    #[test]
    fn histories_are_told_apart_by_the_latest_renewal_that_both_remember() {
        let forked = |shared: u64, more: u64, seed: u64| {
            let mut numbers = renewed(shared, 1);
            (0..more).for_each(|n| numbers.renew(seed * 1000 + n));
            numbers
        };
        let limit = SAFETY_NUMBERS as u64;
        for (one, other, agreement) in [
            (renewed(0, 1), renewed(0, 1), Agreement::Unknown),
            (renewed(0, 1), renewed(3, 1), Agreement::Unknown),
            (renewed(3, 1), renewed(3, 1), Agreement::Same),
            (renewed(3, 1), renewed(5, 1), Agreement::Behind(2)),
            (renewed(20, 1), renewed(15, 1), Agreement::Ahead(5)),
            (renewed(20, 1), renewed(20 - limit + 1, 1), Agreement::Ahead(limit - 1)),
            (renewed(20, 1), renewed(20 - limit, 1), Agreement::Unknown),
            (renewed(3, 1), renewed(3, 2), Agreement::Apart),
            (forked(10, 1, 2), forked(10, 1, 3), Agreement::Apart),
            (forked(10, 4, 2), forked(10, 1, 3), Agreement::Apart),
            (forked(10, 1, 2), renewed(10, 1), Agreement::Ahead(1)),
        ] {
            assert_eq!(one.compare(&other), agreement, "{one:?} {other:?}");
            let turned = match agreement {
                Agreement::Behind(by) => Agreement::Ahead(by),
                Agreement::Ahead(by) => Agreement::Behind(by),
                same => same,
            };
            assert_eq!(other.compare(&one), turned);
        }
        assert_eq!((renewed(20, 1).number(), renewed(0, 1).number()), (1020, 0));
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else_is() {
        for times in [0, 1, 7, 8, 9, 1000] {
            let numbers = renewed(times, 1);
            let mut out = Writer::default();
            numbers.write(&mut out);
            assert_eq!(SafetyNumbers::read(&mut Reader::new(out.into_bytes())), Ok(numbers));
        }
        for (renewals, recent) in [(0, vec![1]), (1, vec![]), (2, vec![1]), (9, vec![1; 9])] {
            assert_eq!(SafetyNumbers::new(renewals, recent), None);
        }
    }
}
