//! A consumer's deliveries on their way to the application and its settlements on their way back. Pure: no clock, no
//! socket, no runtime.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use quorate_protocol::frame::NumberRange;
use quorate_protocol::name::{ExchangeName, RoutingKey};

use crate::error::Error;
use crate::limits;
use crate::message::Message;
use crate::outcome::Outcome;
use crate::ranges::Ranges;

/// What the application says about a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Done with it.
    Ack,
    /// Never again.
    Drop,
    /// Back to its old place in the queue.
    Requeue,
}

/// Messages of one Deliver frame.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) generation: u64,
    pub(crate) exchange: ExchangeName,
    pub(crate) key: RoutingKey,
    pub(crate) messages: std::vec::IntoIter<Item>,
}

/// One message of a Deliver frame.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) seq: u64,
    pub(crate) redelivered: bool,
    pub(crate) message: Message,
}

/// One frame of settlements, and who waits for its answer.
pub(crate) struct Settlement {
    pub(crate) verdict: Verdict,
    pub(crate) ranges: Vec<NumberRange>,
    pub(crate) count: u64,
    pub(crate) outcome: Arc<Outcome<()>>,
}

impl Settlement {
    /// Says what became of all of them.
    pub(crate) fn resolve(&self, result: &Result<(), Error>) {
        for range in &self.ranges {
            self.outcome.settle(range.first(), range.last(), result.clone());
        }
    }
}

/// What the connection is to do for this consumer.
#[derive(Default)]
pub(crate) struct Next {
    /// Send these.
    pub(crate) settlements: Vec<Settlement>,
    /// Give this much credit; none if zero.
    pub(crate) credit: u32,
    /// Ask again at this time.
    pub(crate) wait: Option<Instant>,
}

/// Whether deliveries still come.
#[derive(Debug)]
enum Ending {
    NotYet,
    /// None come any more, and the application does not know why.
    Untold(Error),
    /// None come any more, and the application wanted it so or was told.
    Told,
}

/// The place where a consumer's connection and its application meet.
pub(crate) struct Mailbox {
    /// The consumer's number on the wire; 0 before the session gave it one.
    number: u32,
    /// The application wants no deliveries any more.
    abandoned: bool,
    credit: u32,
    no_ack: bool,
    /// Messages that may still be taken from the queue, beyond those that credit was given for; none if any number.
    left: Option<u64>,
    /// Of the credit given on the present session, the part that took no message from the queue for good.
    unused: u64,
    linger: Duration,
    /// Counts the sessions this consumer lived through: a delivery can be settled only on its own.
    generation: Arc<AtomicU64>,
    arrived: VecDeque<Arrived>,
    reader: Option<Waker>,
    ending: Ending,
    /// What becomes of deliveries that cannot be settled any more, as it is told of each.
    fate: Error,
    acks: Ranges,
    drops: Ranges,
    requeues: Ranges,
    outcome: Arc<Outcome<()>>,
    replenish: u32,
    unanswered: usize,
    linger_until: Option<Instant>,
    announced: bool,
}

impl Mailbox {
    pub(crate) fn new(credit: u32, no_ack: bool, limit: Option<u64>, linger: Duration) -> Self {
        Self {
            number: 0,
            abandoned: false,
            credit: credit.max(1),
            no_ack,
            left: limit,
            unused: 0,
            linger,
            generation: Arc::default(),
            arrived: VecDeque::new(),
            reader: None,
            ending: Ending::NotYet,
            fate: Error::WillBeRedelivered,
            acks: Ranges::default(),
            drops: Ranges::default(),
            requeues: Ranges::default(),
            outcome: Outcome::new(),
            replenish: 0,
            unanswered: 0,
            linger_until: None,
            announced: false,
        }
    }

    /// The consumer begins on a session: gives its first credit.
    pub(crate) fn begin(&mut self) -> u32 {
        self.grant(self.credit)
    }

    /// As much of the wanted credit as the limit leaves.
    fn grant(&mut self, wanted: u32) -> u32 {
        let Some(left) = &mut self.left else { return wanted };
        let granted = u32::try_from(*left).unwrap_or(u32::MAX).min(wanted);
        *left -= u64::from(granted);
        self.unused += u64::from(granted);
        granted
    }

    /// The broker never got the credit, or has forgotten it.
    pub(crate) fn take_back(&mut self) {
        let unused = std::mem::take(&mut self.unused);
        if let Some(left) = &mut self.left {
            *left = left.saturating_add(unused);
        }
    }

    /// Credit was used for messages that are out of the queue for good.
    fn used(&mut self, count: u64) {
        self.unused = self.unused.saturating_sub(count);
    }

    /// Credit was used for messages that went back.
    fn returned(&mut self, count: u64) {
        self.used(count);
        if let Some(left) = &mut self.left {
            *left = left.saturating_add(count);
        }
    }

    /// The session gives the consumer its number, unless the application has already abandoned it.
    pub(crate) fn register(&mut self, number: u32) -> bool {
        self.number = number;
        !self.abandoned
    }

    /// The application wants no deliveries any more. Gives the number, if there is one by now.
    pub(crate) fn abandon(&mut self) -> Option<u32> {
        self.abandoned = true;
        Some(self.number).filter(|number| *number > 0 && !self.has_ended())
    }

    /// The consumer's number on the wire; 0 before the session gave it one.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// The present generation, readable without a lock.
    pub(crate) fn generation(&self) -> &Arc<AtomicU64> {
        &self.generation
    }

    fn has_ended(&self) -> bool {
        !matches!(self.ending, Ending::NotYet)
    }

    /// What is told of deliveries of an earlier generation, or of a consumer that has ended.
    pub(crate) fn fate(&self) -> Error {
        self.fate.clone()
    }

    /// The session ended: what was delivered on it comes again.
    pub(crate) fn lose_session(&mut self) {
        self.generation.fetch_add(1, Ordering::Release);
        self.arrived.clear();
        for verdict in [Verdict::Ack, Verdict::Drop, Verdict::Requeue] {
            while let Some(settlement) = self.take_settlement(verdict) {
                settlement.resolve(&Err(self.fate.clone()));
            }
        }
        self.take_back();
        self.replenish = 0;
        self.unanswered = 0;
        self.linger_until = None;
    }

    /// No more deliveries come.
    pub(crate) fn end(&mut self, error: Option<Error>) {
        if let Some(error) = error.as_ref().filter(|error| error.is_end_of_queue()) {
            self.fate = error.clone();
        }
        if let Ending::NotYet = self.ending {
            self.ending = error.map_or(Ending::Told, Ending::Untold);
        }
        self.lose_session();
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Messages came from the broker.
    pub(crate) fn deliver(&mut self, exchange: ExchangeName, key: RoutingKey, messages: Vec<Item>) {
        if self.has_ended() {
            return;
        }
        let generation = self.generation.load(Ordering::Acquire);
        self.arrived.push_back(Arrived { generation, exchange, key, messages: messages.into_iter() });
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Hands over everything that has arrived, in exchange for an empty queue; or says that no more comes.
    pub(crate) fn poll_arrived(
        &mut self,
        into: &mut VecDeque<Arrived>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Option<Error>>> {
        if !self.arrived.is_empty() {
            std::mem::swap(&mut self.arrived, into);
            return Poll::Ready(Ok(()));
        }
        match std::mem::replace(&mut self.ending, Ending::Told) {
            Ending::NotYet => {
                self.ending = Ending::NotYet;
                self.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            // The error is told once; after it the stream is just over.
            Ending::Untold(error) => Poll::Ready(Err(Some(error))),
            Ending::Told => Poll::Ready(Err(None)),
        }
    }

    /// The application took messages that need no settling. Says whether the connection has to be told.
    pub(crate) fn took(&mut self, generation: u64, count: u32) -> bool {
        if self.has_ended() {
            return false;
        }
        if generation != self.generation.load(Ordering::Acquire) {
            // The credit was taken back before the application took the message.
            if let Some(left) = &mut self.left {
                *left = left.saturating_sub(u64::from(count));
            }
            return false;
        }
        self.used(u64::from(count));
        self.replenish = self.replenish.saturating_add(count);
        self.announce(u64::from(self.replenish) * 2 >= u64::from(self.credit))
    }

    /// The application settled a delivery. Gives where its outcome will be, and whether the connection has to be told.
    pub(crate) fn settle(
        &mut self,
        generation: u64,
        seq: u64,
        verdict: Verdict,
    ) -> Result<(Arc<Outcome<()>>, bool), Error> {
        if generation != self.generation.load(Ordering::Acquire) || self.has_ended() {
            return Err(self.fate.clone());
        }
        let added = match verdict {
            Verdict::Ack => self.acks.insert(seq),
            Verdict::Drop => self.drops.insert(seq),
            Verdict::Requeue => self.requeues.insert(seq),
        };
        if added {
            self.replenish = self.replenish.saturating_add(1);
            if verdict == Verdict::Requeue {
                self.returned(1);
            }
        }
        let announce = self.linger_until.is_none() || self.is_urgent();
        Ok((Arc::clone(&self.outcome), self.announce(announce)))
    }

    /// A transaction settled deliveries of this generation. Says whether there is credit to give for it.
    pub(crate) fn settled_together(&mut self, generation: u64, count: u32) -> bool {
        if generation != self.generation.load(Ordering::Acquire) || self.has_ended() {
            return false;
        }
        self.used(u64::from(count));
        self.replenish = self.replenish.saturating_add(count);
        true
    }

    fn announce(&mut self, wanted: bool) -> bool {
        let announce = wanted && !self.announced;
        self.announced |= announce;
        announce
    }

    fn pending(&self) -> u64 {
        self.acks.count() + self.drops.count() + self.requeues.count()
    }

    /// The broker may soon have no credit to deliver with.
    fn is_urgent(&self) -> bool {
        u64::from(self.replenish) * 2 >= u64::from(self.credit)
    }

    /// Whether every settlement was sent and answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending() == 0 && self.unanswered == 0
    }

    /// What to send now. `flush` sends everything, however little it is.
    pub(crate) fn next(&mut self, now: Instant, flush: bool) -> Next {
        self.announced = false;
        if self.no_ack {
            let wanted = if flush || self.is_urgent() { std::mem::take(&mut self.replenish) } else { 0 };
            let credit = self.grant(wanted);
            return Next { credit, ..Next::default() };
        }
        if self.pending() == 0 {
            // What transactions settled frees credit all the same.
            let wanted = std::mem::take(&mut self.replenish);
            return Next { credit: self.grant(wanted), ..Next::default() };
        }
        if self.unanswered >= limits::EAGER_SETTLES && !self.is_urgent() && !flush {
            let until = *self.linger_until.get_or_insert(now + self.linger);
            if now < until {
                return Next { wait: Some(until), ..Next::default() };
            }
        }
        self.linger_until = None;
        let mut settlements = Vec::with_capacity(1);
        for verdict in [Verdict::Ack, Verdict::Drop, Verdict::Requeue] {
            while let Some(settlement) = self.take_settlement(verdict) {
                settlements.push(settlement);
            }
        }
        self.outcome = Outcome::new();
        self.unanswered += settlements.len();
        let wanted = std::mem::take(&mut self.replenish);
        Next { settlements, credit: self.grant(wanted), wait: None }
    }

    fn take_settlement(&mut self, verdict: Verdict) -> Option<Settlement> {
        let set = match verdict {
            Verdict::Ack => &mut self.acks,
            Verdict::Drop => &mut self.drops,
            Verdict::Requeue => &mut self.requeues,
        };
        if set.is_empty() {
            return None;
        }
        let taken = set.take(limits::RANGES_PER_SETTLE);
        let ranges =
            taken.as_slice().iter().filter_map(|(first, last)| NumberRange::new(*first, *last)).collect();
        Some(Settlement { verdict, ranges, count: taken.count(), outcome: Arc::clone(&self.outcome) })
    }

    /// The broker answered one settlement, which took so many messages out of the queue for good.
    pub(crate) fn answered(&mut self, gone: u64) {
        self.used(gone);
        self.unanswered = self.unanswered.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests;
