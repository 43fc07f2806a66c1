//! A publisher's messages from `publish` to their outcome. Pure: no clock, no socket, no runtime.
//!
//! ```text
//!   push ──> open batch ──> batches: │ sent, unanswered │ to be sent │ ──> outcomes
//!                                     └──── rewind: a new session, or a retryable refusal
//! ```
//! Numbers only ever go forward over the wire, except after a rewind, and never skip: a broker may take every number
//! it has seen for the lowest it will see on that session.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::{NumberRange, ProducerId};
use quorate_protocol::limits::Limits;
use quorate_protocol::name::{ExchangeName, RoutingKey};
use quorate_protocol::publish::{PublishBody, PublishBuilder};

use crate::batch::{Batch, OpenBatch};
use crate::error::Error;
use crate::limits;
use crate::message::Message;
use crate::outcome::Outcome;
use crate::receipt::Receipt;

/// How much a publisher may have in flight, and how it packs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    pub(crate) batch_bytes: usize,
    pub(crate) linger: Duration,
}

/// A message taken into the outbox.
pub(crate) struct Accepted {
    pub(crate) outcome: Arc<Outcome<Receipt>>,
    pub(crate) number: u64,
    /// The connection has to be told that there is something to send.
    pub(crate) announce: bool,
}

/// Why a message was not taken.
pub(crate) enum NotAccepted {
    /// The window is full; the message is given back.
    Full,
    /// It never will be.
    Error(Error),
}

/// What the connection is to do for this outbox.
#[derive(Debug)]
pub(crate) enum Next {
    /// Write this Publish frame.
    Publish(PublishBody),
    /// Nothing before this time, unless something happens.
    Wait(Instant),
    /// Nothing, unless something happens.
    Idle,
}

/// Everything that one producer has published and has no outcome for.
pub(crate) struct Outbox {
    producer: ProducerId,
    window: Window,
    /// What the broker of the present or last session takes.
    limits: Limits,
    next_number: u64,
    open: Option<OpenBatch>,
    /// In the order of their numbers. The front one always has something unsettled.
    batches: VecDeque<Batch>,
    /// Batches before this position were sent on the current session.
    next_to_send: usize,
    /// The next batch sent is the first since a rewind: it alone may leave out what is settled at its beginning.
    at_rewind: bool,
    used_messages: usize,
    used_bytes: usize,
    refusal: Refusal,
    refusal_backoff: Duration,
    linger_until: Option<Instant>,
    announced: bool,
    /// Why nothing is taken any more.
    ended: Option<Error>,
    /// Why nothing is sent at the moment, in the broker's words: what was refused first and not taken since, or that
    /// the broker takes no messages from anybody.
    held: Option<Error>,
    wants_room: Vec<Waker>,
    wants_idle: Vec<Waker>,
    /// Where the last message went: names are checked and allocated when they change, not for every message.
    last_target: Option<(ExchangeName, RoutingKey)>,
}

/// A retryable refusal, from the first refused batch to the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    None,
    /// What was sent after the refused batch is refused too: its answers are waited for before anything is sent again,
    /// so that no late refusal is taken for one of the new attempt.
    Gathering {
        from: u64,
        until: Instant,
    },
    Holding {
        until: Instant,
    },
}

impl Outbox {
    pub(crate) fn new(producer: ProducerId, window: Window, limits: Limits) -> Self {
        Self {
            producer,
            window,
            limits,
            next_number: 1,
            open: None,
            batches: VecDeque::new(),
            next_to_send: 0,
            at_rewind: true,
            used_messages: 0,
            used_bytes: 0,
            refusal: Refusal::None,
            refusal_backoff: limits::REFUSAL_RETRY_MIN,
            linger_until: None,
            announced: false,
            ended: None,
            held: None,
            wants_room: Vec::new(),
            wants_idle: Vec::new(),
            last_target: None,
        }
    }

    pub(crate) fn producer(&self) -> ProducerId {
        self.producer
    }

    /// Takes a message if the window has room for it.
    pub(crate) fn push(
        &mut self,
        exchange: &str,
        key: &str,
        message: &Message,
    ) -> Result<Accepted, NotAccepted> {
        if let Some(error) = &self.ended {
            return Err(NotAccepted::Error(error.clone()));
        }
        let limit = self.limits.message();
        if message.body().len() > usize::try_from(limit).unwrap_or(usize::MAX) {
            let length = message.body().len();
            return Err(NotAccepted::Error(Error::MessageTooLarge { length, limit }));
        }
        let length = PublishBuilder::message_length(message.properties(), message.body());
        let full = self.used_messages >= self.window.messages
            || (self.used_messages > 0 && self.used_bytes + length > self.window.bytes);
        if full {
            return Err(NotAccepted::Full);
        }
        let batch_limit = self.batch_limit();
        let mut sealed = false;
        if self
            .open
            .as_ref()
            .is_some_and(|open| !open.is_for(exchange, key) || !open.has_room(length, batch_limit))
        {
            self.seal();
            sealed = true;
        }
        if self.open.is_none() {
            self.open = Some(self.begin_batch(exchange, key).map_err(NotAccepted::Error)?);
        }
        let open = self.open.as_mut().expect("a batch was just opened");
        let number = open.push(message, limit).map_err(|error| NotAccepted::Error(error.into()))?;
        let outcome = Arc::clone(open.outcome());
        if open.length() >= batch_limit {
            self.seal();
            sealed = true;
        }
        assert_eq!(number, self.next_number, "numbers follow each other");
        self.next_number += 1;
        self.used_messages += 1;
        self.used_bytes += length;
        let announce = !self.announced && (sealed || self.linger_until.is_none());
        self.announced |= announce;
        Ok(Accepted { outcome, number, announce })
    }

    fn batch_limit(&self) -> usize {
        let frame = usize::try_from(self.limits.message_frame()).unwrap_or(usize::MAX);
        self.window.batch_bytes.min(frame)
    }

    fn begin_batch(&mut self, exchange: &str, key: &str) -> Result<OpenBatch, Error> {
        let target = match self.last_target.take() {
            Some(target) if target.0.as_str() == exchange && target.1.as_str() == key => target,
            _ => (ExchangeName::new(exchange)?, RoutingKey::new(key)?),
        };
        let (exchange, key) = self.last_target.insert(target).clone();
        Ok(OpenBatch::new(self.producer, self.next_number, self.first_unsettled(), exchange, key))
    }

    /// The lowest number without an outcome; the next one if all have theirs.
    fn first_unsettled(&self) -> u64 {
        self.batches.front().map_or(self.next_number, Batch::first_unsettled)
    }

    fn seal(&mut self) {
        self.linger_until = None;
        if let Some(batch) = self.open.take().and_then(OpenBatch::seal) {
            self.batches.push_back(batch);
        }
    }

    /// Wakes the task when there is room in the window, or never will be.
    pub(crate) fn want_room(&mut self, cx: &Context<'_>) {
        register(&mut self.wants_room, cx);
    }

    /// Whether every message has its outcome; otherwise wakes the task when that may have become so.
    pub(crate) fn is_idle_or_wake(&mut self, cx: &Context<'_>) -> bool {
        let idle = self.is_idle();
        if !idle {
            register(&mut self.wants_idle, cx);
        }
        idle
    }

    /// Whether every message has its outcome.
    pub(crate) fn is_idle(&self) -> bool {
        self.used_messages == 0
    }

    /// A new session began: everything without an outcome is sent again.
    pub(crate) fn begin_session(&mut self, limits: Limits) {
        self.limits = limits;
        self.rewind(0);
        self.refusal = Refusal::None;
        self.held = None;
        self.conclude();
    }

    fn rewind(&mut self, position: usize) {
        self.next_to_send = position;
        self.at_rewind = true;
        for batch in self.batches.range_mut(position..) {
            batch.recall();
        }
    }

    /// The next frame for the connection, or when to ask again.
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        self.announced = false;
        if self.ended.is_some() {
            return Next::Idle;
        }
        match self.refusal {
            Refusal::Gathering { until, .. } if now < until => return Next::Wait(until),
            Refusal::Gathering { from, .. } => {
                // The broker owes answers that did not come. What is sent twice is told apart by its number.
                self.rewind(self.position_of(from));
                self.refusal = Refusal::None;
            }
            Refusal::Holding { until } if now < until => return Next::Wait(until),
            Refusal::Holding { .. } => self.refusal = Refusal::None,
            Refusal::None => {}
        }
        if self.at_rewind {
            while self.batches.get(self.next_to_send).is_some_and(Batch::is_settled) {
                self.next_to_send += 1;
            }
        }
        if self.next_to_send >= self.batches.len() {
            let Some(open) = &self.open else { return Next::Idle };
            let unanswered =
                self.batches.iter().filter(|batch| !batch.is_settled()).take(limits::EAGER_BATCHES);
            if unanswered.count() >= limits::EAGER_BATCHES && open.length() < self.batch_limit() {
                let until = *self.linger_until.get_or_insert(now + self.window.linger);
                if now < until {
                    return Next::Wait(until);
                }
            }
            self.seal();
        }
        let first_unsettled = self.first_unsettled();
        let Some(batch) = self.batches.get_mut(self.next_to_send) else { return Next::Idle };
        if self.at_rewind {
            batch.renew(first_unsettled);
        }
        self.at_rewind = false;
        self.next_to_send += 1;
        Next::Publish(batch.send())
    }

    fn position_of(&self, number: u64) -> usize {
        self.batches.partition_point(|batch| batch.last() < number)
    }

    /// The broker keeps these messages. Says whether they were ever sent: a broker that confirms what it cannot have
    /// is not to be trusted.
    pub(crate) fn confirmed(&mut self, range: NumberRange, receipt: Receipt, now: Instant) -> bool {
        if self.refusal == Refusal::None {
            self.refusal_backoff = limits::REFUSAL_RETRY_MIN;
            self.held = None;
        }
        self.settle(range, &Ok(receipt), now)
    }

    /// The broker will never take these messages. Says whether they were ever sent.
    pub(crate) fn failed(&mut self, range: NumberRange, error: Error, now: Instant) -> bool {
        self.settle(range, &Err(error), now)
    }

    fn settle(&mut self, range: NumberRange, result: &Result<Receipt, Error>, now: Instant) -> bool {
        let sent = self.batches.partition_point(Batch::ever_sent);
        let never_sent = self.batches.get(sent).map(Batch::first);
        let beyond = never_sent.or(self.open.as_ref().map(OpenBatch::first)).unwrap_or(self.next_number);
        if range.last() >= beyond {
            return false;
        }
        let mut position = self.position_of(range.first());
        while let Some(batch) = self.batches.get_mut(position) {
            if batch.first() > range.last() {
                break;
            }
            let messages = batch.settle(range.first(), range.last(), result);
            self.used_messages = self.used_messages.saturating_sub(messages);
            if messages > 0 && batch.is_settled() {
                self.used_bytes = self.used_bytes.saturating_sub(batch.message_bytes());
            }
            position += 1;
        }
        self.forget_settled();
        self.end_gathering(now);
        true
    }

    /// Some have their outcome: makes room for others.
    fn forget_settled(&mut self) {
        while self.batches.front().is_some_and(Batch::is_settled) {
            self.batches.pop_front();
            self.next_to_send = self.next_to_send.saturating_sub(1);
        }
        self.wants_room.drain(..).for_each(Waker::wake);
        if self.is_idle() {
            self.wants_idle.drain(..).for_each(Waker::wake);
        }
    }

    /// The broker does not take these messages now. They and what follows them are sent again later, in order.
    /// Says whether this is news: not when they are refused again and again.
    pub(crate) fn refused_for_now(&mut self, range: NumberRange, reason: Error, now: Instant) -> bool {
        // What follows a refused batch is refused for following it; the first refusal says why.
        let reason = match &self.held {
            Some(first) if reason.code() == Some(FaultCode::OutOfOrder) => first.clone(),
            _ => reason,
        };
        let mut position = self.position_of(range.first());
        let mut from = None;
        while position < self.next_to_send {
            let Some(batch) = self.batches.get_mut(position) else { break };
            if batch.first() > range.last() {
                break;
            }
            if batch.refuse_for_now(range.first(), range.last(), &reason) {
                from = from.or(Some(batch.first_unsettled()));
            }
            position += 1;
        }
        let Some(from) = from else { return false };
        self.held = Some(reason);
        if self.ended.is_some() {
            self.conclude();
            return false;
        }
        let begins = match self.refusal {
            Refusal::Gathering { from: earlier, until } => {
                self.refusal = Refusal::Gathering { from: earlier.min(from), until };
                false
            }
            Refusal::None | Refusal::Holding { .. } => {
                self.refusal = Refusal::Gathering { from, until: now + limits::REFUSAL_GATHER };
                self.refusal_backoff == limits::REFUSAL_RETRY_MIN
            }
        };
        self.end_gathering(now);
        begins
    }

    fn end_gathering(&mut self, now: Instant) {
        let Refusal::Gathering { from, .. } = self.refusal else { return };
        let position = self.position_of(from);
        let sent = self.next_to_send.saturating_sub(position);
        if !self.batches.iter().skip(position).take(sent).all(Batch::is_answered) {
            return;
        }
        self.rewind(position);
        self.refusal = Refusal::Holding { until: now + self.refusal_backoff };
        self.refusal_backoff = (self.refusal_backoff * 2).min(limits::REFUSAL_RETRY_MAX);
    }

    /// The broker takes no messages from anybody for now.
    pub(crate) fn blocked(&mut self, reason: Error) {
        self.held = Some(reason);
    }

    /// The broker says that it takes messages again.
    pub(crate) fn retry_now(&mut self) {
        self.held = None;
        if let Refusal::Holding { .. } = self.refusal {
            self.refusal = Refusal::None;
        }
    }

    /// Nothing is taken or sent any more. What no broker can have fails at once; what is on its way still gets its
    /// answer, and an answer that it is refused for now is its outcome.
    pub(crate) fn withdraw(&mut self) {
        if self.ended.is_none() {
            self.ended = Some(Error::TimedOut("the publisher was withdrawn before this was sent".into()));
            self.seal();
            self.conclude();
        }
    }

    /// There will be no session any more: what was never sent, or refused each time, has failed; of the rest nobody
    /// knows.
    pub(crate) fn end(&mut self, error: &Error) {
        self.seal();
        self.ended = Some(error.clone());
        self.batches.iter_mut().for_each(Batch::recall);
        self.conclude();
        assert!(self.is_idle(), "without an answer on its way everything has an outcome");
    }

    /// Gives an outcome to whatever awaits no answer, if nothing is sent any more.
    fn conclude(&mut self) {
        let Some(cause) = &self.ended else { return };
        let unsent = self.held.as_ref().unwrap_or(cause);
        for batch in self.batches.iter_mut().filter(|batch| !batch.is_settled()) {
            self.used_messages = self.used_messages.saturating_sub(batch.conclude(unsent, cause));
            if batch.is_settled() {
                self.used_bytes = self.used_bytes.saturating_sub(batch.message_bytes());
            }
        }
        self.forget_settled();
    }
}

fn register(wakers: &mut Vec<Waker>, cx: &Context<'_>) {
    if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
        wakers.push(cx.waker().clone());
    }
}

#[cfg(test)]
mod tests;
