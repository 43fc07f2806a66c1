//! Deliveries in a transaction that is proposed: settling, until it is known whether it took effect.

use std::collections::BTreeMap;

use quorate_protocol::frame::NumberRange;

use super::ledger::Delivery;
use super::{ConsumerKey, DeliveryError};
use crate::machine::QueueId;

/// What a consumer held and a transaction settles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// Who held it.
    pub consumer: ConsumerKey,
    /// In which queue.
    pub queue: QueueId,
    /// Sequences, with the serials of their assignments.
    taken: BTreeMap<u64, u64>,
}

impl Delivery {
    /// A transaction settles these messages. Propose it, then call [`Self::confirm_withheld`] or [`Self::give_back`].
    ///
    /// # Errors
    /// The consumer is not attached, or does not hold each of them; nothing is changed.
    pub fn withhold(
        &mut self,
        consumer: ConsumerKey,
        ranges: &[NumberRange],
    ) -> Result<Withheld, DeliveryError> {
        let known = self.consumers.get_mut(&consumer).ok_or(DeliveryError::NoConsumer(consumer))?;
        let mut taken = BTreeMap::new();
        for range in ranges {
            let before = taken.len() as u64;
            taken.extend(known.held.range(range.first()..=range.last()).map(|(seq, serial)| (*seq, *serial)));
            // What is named twice is not there the second time.
            if (taken.len() as u64).wrapping_sub(before) != range.count() {
                let (first, last) = (range.first(), range.last());
                return Err(DeliveryError::NotHeld { consumer, first, last });
            }
        }
        known.held.retain(|seq, _| !taken.contains_key(seq));
        let queue = known.queue;
        let line = self.line_mut(queue);
        line.held -= taken.len() as u64;
        line.settling.extend(taken.keys());
        Ok(Withheld { consumer, queue, taken })
    }

    /// The transaction took effect.
    pub fn confirm_withheld(&mut self, withheld: &Withheld) {
        let Some(line) = self.lines.get_mut(&withheld.queue) else { return };
        for seq in withheld.taken.keys() {
            line.settling.remove(seq);
        }
    }

    /// Nothing of the transaction took effect: the consumer holds the messages as before. If it is gone they are ready at
    /// their old place; propose their count of returns.
    pub fn give_back(&mut self, withheld: Withheld) -> Option<(QueueId, Vec<NumberRange>)> {
        let Withheld { consumer, queue, taken } = withheld;
        let line = self.lines.get_mut(&queue)?;
        let mut ready = Vec::new();
        for (seq, serial) in taken {
            if !line.settling.remove(&seq) {
                continue;
            }
            let holder = self.consumers.get_mut(&consumer);
            if let Some(known) = holder.filter(|known| known.queue == queue && known.since < serial) {
                known.held.insert(seq, serial);
                line.held += 1;
            } else {
                line.returned.insert(seq);
                ready.push(seq);
            }
        }
        self.active.insert(queue);
        (!ready.is_empty()).then(|| (queue, NumberRange::collect(ready)))
    }
}
