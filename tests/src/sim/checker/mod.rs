//! What clients may rely on, checked against what they saw.
//!
//! A message is named by its producer and number. Its body says both, so a delivery names it too.

#[cfg(test)]
mod histories;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_protocol::frame::ProducerId;

use super::record::Moment;

/// A message's name: producer and number.
pub type MessageName = (ProducerId, u64);

/// What became of one message, as its publisher and the consumers saw it.
#[derive(Clone, Debug, Default)]
struct Fate {
    queue: String,
    body: Bytes,
    confirmed: bool,
    refused: bool,
    /// The sequence it was delivered with first.
    seq: Option<u64>,
    delivered: u64,
    /// An acknowledgement of it was sent.
    ack_sent: bool,
    /// An acknowledgement of it was confirmed.
    settled: bool,
}

/// Everything that was published, and what became of it.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    fates: BTreeMap<MessageName, Fate>,
    sequences: BTreeMap<(String, u64), MessageName>,
    violations: Vec<String>,
    /// Messages confirmed.
    pub confirmed: u64,
    /// Deliveries.
    pub delivered: u64,
    /// Confirmed acknowledgements.
    pub settled: u64,
}

/// What of a message's fate outlives a history that was cut back: by default, nothing but that it was refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Its confirm holds.
    pub confirmed: bool,
    /// The confirm of its acknowledgement holds.
    pub settled: bool,
    /// That it was delivered is known still: another delivery is marked.
    pub delivered: bool,
    /// Its place in the queue is still its own.
    pub place: bool,
}

/// More than this many say nothing more.
const VIOLATIONS_MAX: usize = 20;

impl Checker {
    /// Something that must not be.
    pub fn violation(&mut self, text: String) {
        if self.violations.len() < VIOLATIONS_MAX && !self.violations.contains(&text) {
            self.violations.push(text);
        }
    }

    /// Takes the outcome of a check.
    pub fn check(&mut self, result: Result<(), String>) {
        if let Err(text) = result {
            self.violation(text);
        }
    }

    /// What must not have been.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// A publisher is about to send this message for the first time.
    pub fn published(&mut self, name: MessageName, queue: &str, body: Bytes) {
        let fate = Fate { queue: queue.to_owned(), body, ..Fate::default() };
        assert!(self.fates.insert(name, fate).is_none(), "a publisher uses a number once");
    }

    /// A publisher received the confirm.
    pub fn confirmed(&mut self, name: MessageName) {
        let Some(fate) = self.fates.get_mut(&name) else {
            self.violation(format!("{} of {} was confirmed and never sent", name.1, name.0));
            return;
        };
        if fate.refused {
            self.violation(format!("{} of {} was refused for good, then confirmed", name.1, name.0));
        } else if !fate.confirmed {
            fate.confirmed = true;
            self.confirmed += 1;
        }
    }

    /// A publisher was told that the message is refused for good.
    pub fn refused(&mut self, name: MessageName) {
        let Some(fate) = self.fates.get_mut(&name) else { return };
        fate.refused = true;
        if fate.confirmed || fate.delivered > 0 {
            self.violation(format!("{} of {} was accepted, then refused for good", name.1, name.0));
        }
    }

    /// A consumer received a message.
    pub fn delivered(
        &mut self,
        queue: &str,
        seq: u64,
        redelivered: bool,
        body: &Bytes,
    ) -> Option<MessageName> {
        self.delivered += 1;
        let name = name_in(body);
        let Some(fate) = name.and_then(|name| self.fates.get_mut(&name)) else {
            self.violation(format!("queue {queue} delivered at {seq} what nobody published"));
            return None;
        };
        let name = name?;
        let (number, producer) = (name.1, name.0);
        let mut wrong = Vec::new();
        if fate.body != *body || fate.queue != queue {
            wrong.push(format!(
                "{number} of {producer} was delivered from queue {queue} changed or misrouted"
            ));
        }
        if fate.refused {
            wrong.push(format!("{number} of {producer} was refused for good, then delivered"));
        }
        if fate.settled {
            wrong.push(format!(
                "{number} of {producer} was delivered after its acknowledgement was confirmed"
            ));
        }
        if fate.delivered > 0 && !redelivered {
            wrong.push(format!("{number} of {producer} was delivered again and not marked redelivered"));
        }
        match fate.seq {
            Some(first) if first != seq => {
                wrong.push(format!(
                    "{number} of {producer} is in queue {queue} twice: at {first} and at {seq}"
                ));
            }
            _ => fate.seq = Some(seq),
        }
        fate.delivered += 1;
        let other = self.sequences.insert((queue.to_owned(), seq), name);
        if other.is_some_and(|other| other != name) {
            wrong.push(format!("queue {queue} delivered two messages with sequence {seq}"));
        }
        let order = self.order_around(name, queue, seq);
        wrong.into_iter().chain(order).for_each(|text| self.violation(text));
        Some(name)
    }

    /// Numbers of one publisher in one queue ascend with their sequences.
    fn order_around(&self, name: MessageName, queue: &str, seq: u64) -> Option<String> {
        let (producer, number) = name;
        let known = |(other, fate): (&MessageName, &Fate)| {
            fate.seq.filter(|_| fate.queue == queue).map(|seq| (other.1, seq))
        };
        let before = self.fates.range((producer, 0)..name).rev().find_map(known);
        let after = self.fates.range((producer, number + 1)..=(producer, u64::MAX)).find_map(known);
        if before.is_some_and(|(_, at)| at >= seq) || after.is_some_and(|(_, at)| at <= seq) {
            return Some(format!(
                "order of {producer} in queue {queue}: {number} at {seq}, before it {before:?}, after it {after:?}"
            ));
        }
        None
    }

    /// A consumer sends an acknowledgement.
    pub fn ack_sent(&mut self, name: MessageName) {
        if let Some(fate) = self.fates.get_mut(&name) {
            fate.ack_sent = true;
        }
    }

    /// The broker confirmed an acknowledgement that covers this message.
    pub fn settled(&mut self, name: MessageName) {
        if let Some(fate) = self.fates.get_mut(&name)
            && !fate.settled
        {
            fate.settled = true;
            self.settled += 1;
        }
    }

    /// All queues are empty now: everything confirmed must have been seen and acknowledged.
    pub fn drained(&mut self) {
        let lost: Vec<String> = self
            .fates
            .iter()
            .filter(|(_, fate)| fate.confirmed && !fate.ack_sent)
            .map(|((producer, number), fate)| {
                let seen =
                    if fate.delivered > 0 { "delivered, never acknowledged" } else { "never delivered" };
                format!("confirmed message {number} of {producer} in queue {} is lost ({seen})", fate.queue)
            })
            .collect();
        for text in lost {
            self.violation(text);
        }
    }

    /// The history was cut back, as by an operator who went on from an older store: what is left of each message that
    /// was published so far is all that may be relied on.
    pub fn cut_back(&mut self, left: impl Fn(MessageName) -> Left) {
        self.sequences.clear();
        for (name, fate) in &mut self.fates {
            let left = left(*name);
            fate.confirmed &= left.confirmed;
            fate.settled &= left.settled;
            if !left.delivered {
                fate.delivered = 0;
            }
            fate.seq = fate.seq.filter(|_| left.place);
            if let Some(seq) = fate.seq {
                self.sequences.insert((fate.queue.clone(), seq), *name);
            }
        }
    }

    /// What clients were told by now.
    pub fn moment(&self) -> Moment {
        let names = |test: fn(&Fate) -> bool| {
            self.fates.iter().filter(|(_, fate)| test(fate)).map(|(name, _)| *name).collect()
        };
        Moment { confirmed: names(|fate| fate.confirmed), settled: names(|fate| fate.settled) }
    }

    /// For another run from that moment on: whatever was ever published may be found, what was confirmed then must be,
    /// what was settled then must not.
    #[must_use]
    pub fn as_of(&self, moment: &Moment) -> Self {
        let fate_of = |name: &MessageName, fate: &Fate| Fate {
            queue: fate.queue.clone(),
            body: fate.body.clone(),
            confirmed: moment.confirmed.contains(name),
            settled: moment.settled.contains(name),
            // Whoever sent one may have been heard.
            ack_sent: fate.ack_sent,
            delivered: 0,
            refused: false,
            seq: None,
        };
        let fates = self.fates.iter().map(|(name, fate)| (*name, fate_of(name, fate))).collect();
        Self { fates, ..Self::default() }
    }

    /// Queues that something was published to.
    pub fn queues(&self) -> BTreeSet<String> {
        self.fates.values().map(|fate| fate.queue.clone()).collect()
    }

    /// Whether this message was confirmed.
    pub fn is_confirmed(&self, name: MessageName) -> bool {
        self.fates.get(&name).is_some_and(|fate| fate.confirmed)
    }
}

/// The body of a message of this name; `filler` bytes follow the name.
pub fn body_of(name: MessageName, filler: usize) -> Bytes {
    let mut body = Vec::with_capacity(24 + filler);
    body.extend_from_slice(&name.0.0.to_le_bytes());
    body.extend_from_slice(&name.1.to_le_bytes());
    let byte = u8::try_from(name.1 % 251).expect("below 251");
    body.resize(24 + filler, byte);
    body.into()
}

/// Which message's body this is, by [`body_of`].
pub fn name_in(body: &[u8]) -> Option<MessageName> {
    let (producer, rest) = body.split_first_chunk::<16>()?;
    let (number, _) = rest.split_first_chunk::<8>()?;
    Some((ProducerId(u128::from_le_bytes(*producer)), u64::from_le_bytes(*number)))
}
