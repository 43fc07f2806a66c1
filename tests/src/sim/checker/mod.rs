//! What clients may rely on, checked against what they saw.
//!
//! A message is named by its producer and number. Its body says both, so a delivery names it too.

#[cfg(test)]
mod histories;
mod transactions;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_protocol::frame::{Delivery, ProducerId};
use quorate_protocol::message::parse_message;

use self::transactions::Group;
use super::record::Moment;

/// A message's name: producer and number.
pub type MessageName = (ProducerId, u64);

/// A place in the replicated log, as confirms and the offline tool name it: epoch, term, index.
pub type Place = (u32, u64, u64);

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
    /// Acknowledgements of it that were sent, without those in transactions that are known to be rolled back.
    ack_sent: u64,
    /// In this transaction it was published.
    group: Option<usize>,
    /// A transaction settled it of which something was seen: so it is committed.
    taken: bool,
    /// An acknowledgement of it was confirmed.
    settled: bool,
    /// Where it was confirmed.
    place: Option<Place>,
    /// A recovery made its confirm void, and it was not given again.
    void: bool,
    /// When its publishing began, when it was delivered first, and when its acknowledgement was confirmed: after so many
    /// other things that clients did or were told.
    begun_at: u64,
    delivered_at: Option<u64>,
    settled_at: Option<u64>,
}

/// Everything that was published, and what became of it.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    fates: BTreeMap<MessageName, Fate>,
    sequences: BTreeMap<(String, u64), MessageName>,
    groups: Vec<Group>,
    violations: Vec<String>,
    /// What was noted so far.
    noted: u64,
    /// The ends of the stores that operators went on from.
    recovered: Vec<Place>,
    /// Messages confirmed, and not made void by a recovery.
    pub confirmed: u64,
    /// Messages refused for good.
    pub refused: u64,
    /// Deliveries.
    pub delivered: u64,
    /// Confirmed acknowledgements.
    pub settled: u64,
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
        let begun_at = self.note();
        let fate = Fate { queue: queue.to_owned(), body, begun_at, ..Fate::default() };
        assert!(self.fates.insert(name, fate).is_none(), "a publisher uses a number once");
    }

    fn note(&mut self) -> u64 {
        self.noted += 1;
        self.noted
    }

    /// A publisher received the confirm: that it is at this place, or before it.
    pub fn confirmed(&mut self, name: MessageName, place: Place) {
        self.note();
        // Told before an operator went on from an older store, heard after that.
        let void = self.recovered.iter().any(|end| place > *end && place.0 <= end.0);
        let Some(fate) = self.fates.get_mut(&name) else {
            self.violation(format!("{} of {} was confirmed and never sent", name.1, name.0));
            return;
        };
        if fate.refused {
            self.violation(format!("{} of {} was refused for good, then confirmed", name.1, name.0));
        } else if void {
            fate.void = !fate.confirmed;
        } else {
            fate.place = Some(fate.place.map_or(place, |known| known.min(place)));
            fate.void = false;
            self.confirmed += u64::from(!fate.confirmed);
            fate.confirmed = true;
        }
    }

    /// A publisher was told that the message is refused for good.
    pub fn refused(&mut self, name: MessageName) {
        self.note();
        let Some(fate) = self.fates.get_mut(&name) else { return };
        self.refused += u64::from(!fate.refused);
        fate.refused = true;
        if fate.confirmed || fate.delivered > 0 {
            self.violation(format!("{} of {} was accepted, then refused for good", name.1, name.0));
        }
    }

    /// A broker delivered this; gives its name, unless nothing of the kind was ever sent.
    pub fn delivery(&mut self, queue: &str, delivery: &Delivery) -> Option<MessageName> {
        let Ok(message) = parse_message(&delivery.message) else {
            self.violation(format!("queue {queue} delivered at {} what is no message", delivery.seq));
            return None;
        };
        self.delivered(queue, delivery.seq, delivery.redelivered, message.body())
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
        let now = self.note();
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
        if fate.taken {
            wrong.push(format!(
                "{number} of {producer} was delivered after what the transaction published that settled it"
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
        fate.delivered_at.get_or_insert(now);
        let group = fate.group;
        let other = self.sequences.insert((queue.to_owned(), seq), name);
        if other.is_some_and(|other| other != name) {
            wrong.push(format!("queue {queue} delivered two messages with sequence {seq}"));
        }
        let order = self.order_around(name, queue, seq);
        wrong.into_iter().chain(order).for_each(|text| self.violation(text));
        if let Some(group) = group {
            self.transaction_seen(group);
        }
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
            fate.ack_sent += 1;
        }
    }

    /// The broker confirmed an acknowledgement that covers this message.
    pub fn settled(&mut self, name: MessageName) {
        let now = self.note();
        if let Some(fate) = self.fates.get_mut(&name)
            && !fate.settled
        {
            fate.settled = true;
            fate.settled_at = Some(now);
            self.settled += 1;
        }
    }

    /// All queues are empty now: everything confirmed must have been seen and acknowledged.
    pub fn drained(&mut self) {
        let lost: Vec<String> = self
            .fates
            .iter()
            .filter(|(_, fate)| fate.confirmed && fate.ack_sent == 0)
            .map(|((producer, number), fate)| {
                let seen =
                    if fate.delivered > 0 { "delivered, never acknowledged" } else { "never delivered" };
                format!("confirmed message {number} of {producer} in queue {} is lost ({seen})", fate.queue)
            })
            .collect();
        for text in lost.into_iter().chain(self.halves()) {
            self.violation(text);
        }
    }

    /// How often an operator went on from less than everything.
    pub fn recoveries(&self) -> usize {
        self.recovered.len()
    }

    /// An operator went on from a store whose log ends here. What is certain to be in it:
    ///
    /// - every entry confirmed at or before that place: whoever has the last entry of a term has all that was committed
    ///   before it;
    /// - everything else that clients were told before the publishing of a message began that was confirmed at or before
    ///   that place: a delivery, or the confirm of an acknowledgement.
    ///
    /// All that was told of the rest is void, but for refusals of messages that are in no transaction.
    pub fn recovered(&mut self, end: Place) {
        self.recovered.push(end);
        let within = |fate: &&Fate| fate.place.is_some_and(|place| place <= end);
        let until = self.fates.values().filter(within).map(|fate| fate.begun_at).max().unwrap_or_default();
        let is_certain = |at: Option<u64>| at.is_some_and(|at| at < until);
        self.sequences.clear();
        self.judge_no_transaction();
        for (name, fate) in &mut self.fates {
            if fate.place.is_some_and(|place| place > end) {
                fate.place = None;
                fate.confirmed = false;
                fate.void = true;
                self.confirmed -= 1;
            }
            fate.taken = false;
            // What a transaction was refused for is remembered in the log, and given up with it.
            fate.refused &= fate.group.is_none();
            fate.settled &= is_certain(fate.settled_at);
            if !is_certain(fate.delivered_at) {
                fate.delivered = 0;
                fate.delivered_at = None;
                fate.seq = None;
            }
            if let Some(seq) = fate.seq {
                self.sequences.insert((fate.queue.clone(), seq), *name);
            }
        }
    }

    /// Messages whose confirm a recovery made void, and that were not confirmed again.
    pub fn void(&self) -> u64 {
        self.fates.values().filter(|fate| fate.void).count() as u64
    }

    /// Messages by queue whose confirm a recovery made void, and that nobody ever saw: what an operator's act cost.
    pub fn lost(&self) -> BTreeMap<String, u64> {
        let mut lost = BTreeMap::new();
        for fate in self.fates.values().filter(|fate| fate.void && fate.delivered == 0 && fate.ack_sent == 0)
        {
            *lost.entry(fate.queue.clone()).or_default() += 1;
        }
        lost
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
            ..Fate::default()
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
