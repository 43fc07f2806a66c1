//! What a transaction did is there as a whole, or not at all.

use super::{Checker, MessageName, Place};

/// What one transaction is to do.
#[derive(Clone, Debug)]
pub(super) struct Group {
    published: Vec<MessageName>,
    settles: Vec<MessageName>,
    /// Some of it was seen.
    seen: bool,
    /// Its client was told that nothing of it happened.
    refused: bool,
    /// What is told of it counts: no operator has gone on from an older store, which may know nothing of it.
    pub(super) judged: bool,
}

impl Checker {
    /// A transaction is about to be sent that publishes and settles these messages; gives its number.
    pub fn transaction(&mut self, published: Vec<MessageName>, settles: Vec<MessageName>) -> usize {
        let number = self.groups.len();
        for name in &published {
            if let Some(fate) = self.fates.get_mut(name) {
                fate.group = Some(number);
            }
        }
        let judged = self.recovered.is_empty();
        self.groups.push(Group { published, settles, seen: false, refused: false, judged });
        number
    }

    /// A client was told that the transaction is committed.
    pub fn transaction_committed(&mut self, number: usize, place: Place) {
        let Some(Group { published, settles, .. }) = self.groups.get(number).cloned() else { return };
        for name in published {
            self.confirmed(name, place);
        }
        let void = self.recovered.iter().any(|end| place > *end && place.0 <= end.0);
        for name in settles.into_iter().filter(|_| !void) {
            self.settled(name);
        }
    }

    /// A client was told that nothing of the transaction happened, and nothing will.
    pub fn transaction_refused(&mut self, number: usize) {
        let Some(Group { published, settles, seen, judged, .. }) = self.groups.get(number).cloned() else {
            return;
        };
        if !judged {
            // Perhaps by a history that was given up.
            return;
        }
        if seen {
            self.violation(format!(
                "transaction {number} was refused, and some of {published:?} was delivered"
            ));
        }
        self.groups[number].refused = true;
        for name in published {
            self.refused(name);
        }
        for name in settles {
            if let Some(fate) = self.fates.get_mut(&name) {
                fate.ack_sent = fate.ack_sent.saturating_sub(1);
            }
        }
    }

    /// An operator goes on from an older store. What of a transaction was seen before is not seen again, and its other half
    /// may be; and one that was rolled back by a history that is given up may be committed in the one that goes on.
    pub(super) fn judge_no_transaction(&mut self) {
        for group in &mut self.groups {
            let undone = std::mem::take(&mut group.judged) && group.refused;
            for name in group.settles.iter().filter(|_| undone) {
                if let Some(fate) = self.fates.get_mut(name) {
                    fate.ack_sent += 1;
                }
            }
        }
    }

    /// Something that the transaction published was delivered: so it is committed, and what it settled is gone.
    pub(super) fn transaction_seen(&mut self, number: usize) {
        let Some(group) = self.groups.get_mut(number).filter(|group| group.judged && !group.seen) else {
            return;
        };
        group.seen = true;
        for name in group.settles.clone() {
            if let Some(fate) = self.fates.get_mut(&name) {
                fate.taken = true;
            }
        }
    }

    /// Transactions of which something was seen and something never.
    pub(super) fn halves(&self) -> Vec<String> {
        let is_seen = |name: &&MessageName| self.fates.get(name).is_some_and(|fate| fate.delivered > 0);
        let half = |group: &&Group| {
            let seen = group.published.iter().filter(is_seen).count();
            group.judged && seen > 0 && seen < group.published.len()
        };
        self.groups
            .iter()
            .filter(half)
            .map(|group| {
                let missing: Vec<&MessageName> =
                    group.published.iter().filter(|name| !is_seen(name)).collect();
                format!(
                    "of a transaction that published {:?}, {missing:?} were never delivered",
                    group.published
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::frame::ProducerId;

    use super::*;
    use crate::sim::checker::body_of;

    const PLACE: Place = (1, 1, 5);

    fn name(number: u64) -> MessageName {
        (ProducerId(1), number)
    }

    /// Message 1 waits in `q`; the transaction takes it and publishes 2 and 3 to `a` and `b`.
    fn stage() -> (Checker, usize) {
        let mut checker = Checker::default();
        for (number, queue) in [(1, "q"), (2, "a"), (3, "b")] {
            checker.published(name(number), queue, body_of(name(number), 0));
        }
        checker.confirmed(name(1), PLACE);
        checker.delivered("q", 1, false, &body_of(name(1), 0));
        checker.ack_sent(name(1));
        let group = checker.transaction(vec![name(2), name(3)], vec![name(1)]);
        (checker, group)
    }

    fn see(checker: &mut Checker, number: u64, queue: &str) {
        checker.delivered(queue, 1, number == 1, &body_of(name(number), 0));
        checker.ack_sent(name(number));
    }

    fn says(checker: &Checker, words: &str) {
        let violations = checker.violations();
        assert!(violations.iter().any(|text| text.contains(words)), "{words:?} in {violations:?}");
    }

    #[test]
    fn all_of_one_or_nothing_is_sound() {
        let (mut checker, group) = stage();
        see(&mut checker, 2, "a");
        checker.transaction_committed(group, PLACE);
        see(&mut checker, 3, "b");
        checker.drained();
        assert_eq!(checker.violations(), <&[String]>::default());
        let (mut checker, group) = stage();
        checker.transaction_refused(group);
        see(&mut checker, 1, "q");
        checker.drained();
        assert_eq!(checker.violations(), <&[String]>::default());
        // Nobody knows, and nothing is there.
        let (mut checker, _) = stage();
        see(&mut checker, 1, "q");
        checker.drained();
        assert_eq!(checker.violations(), <&[String]>::default());
    }

    #[test]
    fn half_of_one_is_not() {
        let (mut checker, _) = stage();
        see(&mut checker, 2, "a");
        checker.drained();
        says(&checker, "were never delivered");
        let (mut checker, _) = stage();
        see(&mut checker, 3, "b");
        see(&mut checker, 1, "q");
        says(&checker, "after what the transaction published that settled it");
    }

    #[test]
    fn a_committed_one_is_there_and_a_refused_one_is_not() {
        let (mut checker, group) = stage();
        checker.transaction_committed(group, PLACE);
        checker.drained();
        says(&checker, "is lost");
        see(&mut checker, 1, "q");
        says(&checker, "after its acknowledgement was confirmed");
        let (mut checker, group) = stage();
        checker.transaction_refused(group);
        checker.drained();
        says(&checker, "is lost (delivered, never acknowledged)");
        see(&mut checker, 2, "a");
        says(&checker, "was refused for good, then delivered");
        let (mut checker, group) = stage();
        see(&mut checker, 2, "a");
        checker.transaction_refused(group);
        says(&checker, "was refused, and some of");
    }

    #[test]
    fn what_an_operator_gave_up_is_not_held_against_anybody() {
        let (mut checker, group) = stage();
        checker.transaction_refused(group);
        checker.recovered((1, 1, 4));
        see(&mut checker, 2, "a");
        checker.drained();
        assert_eq!(checker.violations(), <&[String]>::default());
    }
}
