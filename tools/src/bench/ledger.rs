//! Which messages of a cell were confirmed and which were delivered, one bit each.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::mark::Mark;

/// What a delivery is, seen from what was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The first of its message.
    First,
    /// Its message was delivered before.
    Again,
    /// This run published no such message.
    Stranger,
}

/// The messages of a cell, over all publishers. What it takes grows with what was published: two bits a message.
#[derive(Debug)]
pub struct Ledger {
    publishers: Vec<Page>,
    /// Confirmed, and not delivered yet.
    missing: AtomicU64,
    /// No more confirms come.
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Page {
    /// Numbers below this were published.
    published: AtomicU64,
    bits: Mutex<Bits>,
}

#[derive(Debug, Default)]
struct Bits {
    confirmed: Vec<u64>,
    delivered: Vec<u64>,
}

/// Sets a bit; says whether it was set before.
fn set(bits: &mut Vec<u64>, number: u64) -> bool {
    let Ok(place) = usize::try_from(number / 64) else { return false };
    if bits.len() <= place {
        bits.resize(place + 1, 0);
    }
    let mask = 1 << (number % 64);
    bits.get_mut(place).is_some_and(|word| {
        let before = *word & mask != 0;
        *word |= mask;
        before
    })
}

fn is_set(bits: &[u64], number: u64) -> bool {
    let place = usize::try_from(number / 64).ok();
    place.and_then(|place| bits.get(place)).is_some_and(|word| word >> (number % 64) & 1 != 0)
}

impl Page {
    fn bits(&self) -> MutexGuard<'_, Bits> {
        self.bits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// For so many publishers.
    pub fn new(publishers: usize) -> Self {
        let publishers = (0..publishers).map(|_| Page::default()).collect();
        Self { publishers, missing: AtomicU64::new(0), closed: AtomicBool::new(false) }
    }

    /// A publisher is about to publish this number; they come in order.
    pub fn publish(&self, publisher: usize, number: u64) {
        if let Some(page) = self.publishers.get(publisher) {
            page.published.store(number.saturating_add(1), Ordering::SeqCst);
        }
    }

    /// A message was confirmed.
    pub fn confirm(&self, publisher: usize, number: u64) {
        let Some(page) = self.publishers.get(publisher) else { return };
        let mut bits = page.bits();
        // Counted under the lock, so that nobody takes off what is not on yet.
        if !set(&mut bits.confirmed, number) && !is_set(&bits.delivered, number) {
            self.missing.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A message was delivered.
    pub fn deliver(&self, mark: Option<Mark>) -> Seen {
        let page = mark.and_then(|mark| self.publishers.get(mark.publisher).map(|page| (mark.number, page)));
        // What was never published has no place here, and must not make one.
        let Some((number, page)) =
            page.filter(|(number, page)| *number < page.published.load(Ordering::SeqCst))
        else {
            return Seen::Stranger;
        };
        let mut bits = page.bits();
        if set(&mut bits.delivered, number) {
            return Seen::Again;
        }
        if is_set(&bits.confirmed, number) {
            self.missing.fetch_sub(1, Ordering::SeqCst);
        }
        Seen::First
    }

    /// No more messages will be confirmed.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Whether all that was, or will be, confirmed was delivered.
    pub fn is_drained(&self) -> bool {
        self.closed.load(Ordering::SeqCst) && self.missing() == 0
    }

    /// Confirmed, and not delivered so far.
    pub fn missing(&self) -> u64 {
        self.missing.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn see(ledger: &Ledger, publisher: usize, number: u64) -> Seen {
        ledger.deliver(Some(Mark { publisher, number, micros: 0 }))
    }

    #[test]
    fn what_is_confirmed_and_never_delivered_is_missing() {
        let ledger = Ledger::new(2);
        for number in 0..130 {
            ledger.publish(1, number);
        }
        ledger.confirm(1, 0);
        ledger.confirm(1, 129);
        assert_eq!(ledger.missing(), 2);
        assert_eq!(see(&ledger, 1, 129), Seen::First);
        // Delivered before its confirm came, and one without a confirm.
        assert_eq!((see(&ledger, 1, 64), see(&ledger, 1, 65)), (Seen::First, Seen::First));
        ledger.confirm(1, 64);
        assert_eq!(ledger.missing(), 1);
        ledger.close();
        assert!(!ledger.is_drained());
        assert_eq!(see(&ledger, 1, 0), Seen::First);
        assert!(ledger.is_drained());
    }

    #[test]
    fn it_is_not_drained_before_the_last_confirm_is_in() {
        let ledger = Ledger::new(1);
        ledger.publish(0, 0);
        ledger.confirm(0, 0);
        see(&ledger, 0, 0);
        assert!(!ledger.is_drained());
        ledger.close();
        assert!(ledger.is_drained());
    }

    #[test]
    fn a_second_delivery_and_a_stranger_are_told() {
        let ledger = Ledger::new(1);
        ledger.publish(0, 0);
        assert_eq!((see(&ledger, 0, 0), see(&ledger, 0, 0)), (Seen::First, Seen::Again));
        for (publisher, number) in [(0, 1), (1, 0), (0, u64::MAX), (usize::MAX, 0)] {
            assert_eq!(see(&ledger, publisher, number), Seen::Stranger);
        }
        assert_eq!(ledger.deliver(None), Seen::Stranger);
        assert_eq!(ledger.publishers[0].bits().delivered.len(), 1);
    }
}
