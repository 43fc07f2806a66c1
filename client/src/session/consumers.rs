//! The session's dealings with consumers.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use quorate_protocol::frame::{
    Ack, Cancel, Consume, ConsumeOk, ConsumerClosed, Credit, Deliver, Failed, Nack, ServerFrame,
};
use quorate_protocol::message as wire;
use quorate_protocol::name::QueueName;

use super::requests::{Purpose, is_passing};
use super::{Ended, Output, Session, Speaker};
use crate::consume::{Item, Mailbox, Settlement, Verdict};
use crate::error::Error;
use crate::limits;

/// What the session keeps of a consumer.
pub(super) struct Consumer<R> {
    mailbox: Arc<Mutex<Mailbox>>,
    queue: QueueName,
    no_ack: bool,
    exclusive: bool,
    phase: Phase,
    /// Who waits for the first start.
    reply: Option<R>,
    /// Messages the broker may still send.
    allowed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not known to the broker of the present connection.
    Unknown,
    /// Not before this time, because the broker refused it for a passing reason.
    Later(Instant),
    /// Asked for.
    Starting,
    /// Consuming.
    Running,
    /// Stopping.
    Stopping,
}

impl<R> Consumer<R> {
    fn lock(&self) -> MutexGuard<'_, Mailbox> {
        lock(&self.mailbox)
    }
}

/// Locks a mailbox. Nothing panics while it is locked, except where the program is broken anyway.
pub(crate) fn lock(mailbox: &Mutex<Mailbox>) -> MutexGuard<'_, Mailbox> {
    mailbox.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the application wants to consume, and how.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) queue: QueueName,
    pub(crate) no_ack: bool,
    pub(crate) exclusive: bool,
}

impl<R> Session<R> {
    /// The application wants to consume. Gives the consumer's number; the answer says whether it began.
    pub(crate) fn consume(&mut self, wanted: Wanted, mailbox: Arc<Mutex<Mailbox>>, reply: R, now: Instant) {
        let Wanted { queue, no_ack, exclusive } = wanted;
        while self.next_consumer == 0 || self.consumers.contains_key(&self.next_consumer) {
            self.next_consumer = self.next_consumer.wrapping_add(1);
        }
        let number = self.next_consumer;
        if !lock(&mailbox).register(number) {
            // The application changed its mind before the request got here.
            self.outputs.push_back(Output::Answer(reply, Err(Error::Closed)));
            return;
        }
        self.next_consumer = number.wrapping_add(1);
        self.consume_deadlines.push_back((now + self.request_timeout, number));
        let phase = Phase::Unknown;
        let consumer = Consumer { mailbox, queue, no_ack, exclusive, phase, reply: Some(reply), allowed: 0 };
        self.consumers.insert(number, consumer);
        self.wake(Speaker::Consumer(number));
    }

    /// Gives up consumers that could not begin in time.
    pub(super) fn expire_consumers(&mut self, now: Instant) {
        while let Some((_, number)) = self.consume_deadlines.front().copied().filter(|(at, _)| *at <= now) {
            self.consume_deadlines.pop_front();
            if self.consumers.get(&number).is_some_and(|consumer| consumer.reply.is_some()) {
                let error = Error::TimedOut("the consumer could not begin".into());
                let is_known = self.consumers.get(&number).is_some_and(|it| it.phase == Phase::Starting);
                if is_known && self.is_up() {
                    self.send_request(
                        Cancel { request: 0, consumer: number }.into(),
                        Purpose::Cancel(number, None),
                    );
                }
                self.end_consumer(number, Some(error));
            }
        }
    }

    pub(super) fn speak_consumer(&mut self, number: u32, now: Instant) {
        let Some(consumer) = self.consumers.get_mut(&number) else { return };
        match consumer.phase {
            Phase::Unknown => self.start_consumer(number),
            Phase::Later(at) if at <= now => self.start_consumer(number),
            Phase::Later(at) => {
                self.timers.insert((at, Speaker::Consumer(number)));
            }
            Phase::Starting | Phase::Stopping => {}
            Phase::Running => self.flush_consumer(number, now, false),
        }
    }

    fn start_consumer(&mut self, number: u32) {
        let Some(consumer) = self.consumers.get_mut(&number) else { return };
        consumer.phase = Phase::Starting;
        let credit = consumer.lock().begin();
        consumer.allowed = credit.into();
        let frame = Consume {
            request: 0,
            consumer: number,
            queue: consumer.queue.clone(),
            credit,
            no_ack: consumer.no_ack,
            exclusive: consumer.exclusive,
        };
        self.send_request(frame.into(), Purpose::Consume(number));
    }

    /// Sends what the application settled, and the credit that this frees.
    fn flush_consumer(&mut self, number: u32, now: Instant, everything: bool) {
        let Some(consumer) = self.consumers.get_mut(&number) else { return };
        let next = consumer.lock().next(now, everything);
        consumer.allowed += u64::from(next.credit);
        for settlement in next.settlements {
            let ranges = settlement.ranges.clone();
            let frame = match settlement.verdict {
                Verdict::Ack => Ack { request: 0, consumer: number, ranges }.into(),
                Verdict::Drop => Nack { request: 0, consumer: number, requeue: false, ranges }.into(),
                Verdict::Requeue => Nack { request: 0, consumer: number, requeue: true, ranges }.into(),
            };
            self.send_request(frame, Purpose::Settle(number, settlement));
        }
        if next.credit > 0 {
            self.send(&Credit { consumer: number, add: next.credit }.into());
        }
        if let Some(at) = next.wait {
            self.timers.insert((at, Speaker::Consumer(number)));
        }
    }

    pub(super) fn consume_answered(
        &mut self,
        number: u32,
        result: Result<ServerFrame, Failed>,
        now: Instant,
    ) {
        let Some(consumer) = self.consumers.get_mut(&number) else { return };
        match result {
            Ok(frame) => {
                if consumer.phase == Phase::Starting {
                    consumer.phase = Phase::Running;
                }
                if let Some(reply) = consumer.reply.take() {
                    self.outputs.push_back(Output::Answer(reply, Ok(frame)));
                }
                self.wake(Speaker::Consumer(number));
            }
            // Once it has begun, a consumer outlives whatever passes: also the broker's memory of its last connection.
            Err(failed)
                if is_passing(failed.code) || (consumer.reply.is_none() && failed.code.is_retryable()) =>
            {
                let at = now + limits::CONSUME_RETRY;
                consumer.phase = Phase::Later(at);
                consumer.lock().take_back();
                self.timers.insert((at, Speaker::Consumer(number)));
            }
            Err(failed) => {
                let error = Error::failed(failed.code, &failed.text);
                self.end_consumer(number, Some(error));
            }
        }
    }

    fn end_consumer(&mut self, number: u32, error: Option<Error>) {
        let Some(mut consumer) = self.consumers.remove(&number) else { return };
        if let Some(reply) = consumer.reply.take() {
            let error = error.clone().unwrap_or(Error::Closed);
            self.outputs.push_back(Output::Answer(reply, Err(error)));
        }
        consumer.lock().end(error);
    }

    pub(super) fn deliver(&mut self, deliver: Deliver) -> Result<(), Ended> {
        // What was on its way when the consumer was stopped goes back to the queue.
        let Some(consumer) = self.consumers.get_mut(&deliver.consumer) else { return Ok(()) };
        let count = u64::try_from(deliver.messages.len()).unwrap_or(u64::MAX);
        let Some(allowed) = consumer.allowed.checked_sub(count) else {
            let text = format!("it delivered {count} messages where {} were allowed", consumer.allowed);
            return Err(Error::protocol(text).into());
        };
        if !matches!(consumer.phase, Phase::Running | Phase::Stopping) {
            return Err(Error::protocol("it delivered to a consumer before it said that it began").into());
        }
        consumer.allowed = allowed;
        let mut items = Vec::with_capacity(deliver.messages.len());
        for delivery in deliver.messages {
            let message = wire::Message::parse(&delivery.message)
                .map_err(|problem| Error::protocol(format!("a delivered message: {problem}")))?;
            items.push(Item {
                seq: delivery.seq,
                redelivered: delivery.redelivered,
                message: message.into(),
            });
        }
        consumer.lock().deliver(deliver.exchange, deliver.key, items);
        Ok(())
    }

    pub(super) fn settle_answered(
        &mut self,
        number: u32,
        settlement: &Settlement,
        result: &Result<ServerFrame, Failed>,
    ) -> Result<(), Ended> {
        let outcome = match result {
            Ok(ServerFrame::Settled(settled)) if settled.settled == settlement.count => Ok(()),
            // What the broker does not hold any more is back in its queue, as wanted.
            Ok(ServerFrame::Settled(_)) if settlement.verdict == Verdict::Requeue => Ok(()),
            Ok(ServerFrame::Settled(settled)) => {
                let text = format!(
                    "of {} deliveries settled together the broker still held {}",
                    settlement.count, settled.settled
                );
                Err(Error::UnknownOutcome(text.into()))
            }
            Ok(other) => {
                return Err(Error::protocol(format!("a settlement was answered by {other:?}")).into());
            }
            Err(failed) => Err(Error::failed(failed.code, &failed.text)),
        };
        settlement.resolve(&outcome);
        if let Some(consumer) = self.consumers.get(&number) {
            let gone =
                if outcome.is_ok() && settlement.verdict != Verdict::Requeue { settlement.count } else { 0 };
            consumer.lock().answered(gone);
            self.wake(Speaker::Consumer(number));
        }
        Ok(())
    }

    /// Counts the sessions that a consumer lived through; none if there is no such consumer, or it is not at work.
    pub(super) fn consumer_generation(&self, number: u32) -> Option<u64> {
        let consumer = self.consumers.get(&number).filter(|consumer| consumer.phase == Phase::Running)?;
        Some(consumer.lock().generation().load(Ordering::Acquire))
    }

    /// A transaction settled so many of a consumer's deliveries. Says whether there is credit to give for it.
    pub(super) fn settled_together(&self, number: u32, generation: u64, count: u32) -> bool {
        let consumer = self.consumers.get(&number);
        consumer.is_some_and(|consumer| consumer.lock().settled_together(generation, count))
    }

    /// The application wants no more.
    pub(crate) fn cancel(&mut self, number: u32, reply: Option<R>, now: Instant) {
        let stopped = |session: &mut Self, reply: Option<R>| {
            if let Some(reply) = reply {
                session.outputs.push_back(Output::Answer(reply, Ok(ConsumeOk { request: 0 }.into())));
            }
        };
        let Some(consumer) = self.consumers.get(&number) else { return stopped(self, reply) };
        match consumer.phase {
            Phase::Starting | Phase::Running if self.is_up() => {
                self.flush_consumer(number, now, true);
                if let Some(consumer) = self.consumers.get_mut(&number) {
                    consumer.phase = Phase::Stopping;
                }
                let frame = Cancel { request: 0, consumer: number };
                self.send_request(frame.into(), Purpose::Cancel(number, reply));
            }
            Phase::Stopping => stopped(self, reply),
            _ => {
                self.end_consumer(number, None);
                stopped(self, reply);
            }
        }
    }

    pub(super) fn cancel_answered(
        &mut self,
        number: u32,
        reply: Option<R>,
        result: Result<ServerFrame, Failed>,
    ) {
        // A consumer that the broker does not know is stopped as well.
        self.end_consumer(number, None);
        if let Some(reply) = reply {
            let done = result.unwrap_or_else(|_| ConsumeOk { request: 0 }.into());
            self.outputs.push_back(Output::Answer(reply, Ok(done)));
        }
    }

    pub(super) fn consumer_closed(&mut self, closed: &ConsumerClosed, now: Instant) {
        let Some(consumer) = self.consumers.get_mut(&closed.consumer) else { return };
        if is_passing(closed.code) && consumer.phase == Phase::Running {
            let at = now + limits::CONSUME_RETRY;
            consumer.phase = Phase::Later(at);
            consumer.lock().lose_session();
            self.timers.insert((at, Speaker::Consumer(closed.consumer)));
        } else {
            let error = Error::consumer_closed(closed.code, &closed.text);
            self.end_consumer(closed.consumer, Some(error));
        }
    }

    pub(super) fn lose_consumers(&mut self) {
        for consumer in self.consumers.values_mut() {
            consumer.phase = Phase::Unknown;
            consumer.allowed = 0;
            consumer.lock().lose_session();
        }
    }

    pub(super) fn consumers_are_idle(&self) -> bool {
        self.consumers.values().all(|consumer| consumer.lock().is_idle())
    }

    pub(super) fn end_consumers(&mut self, error: &Error) {
        let numbers: Vec<u32> = self.consumers.keys().copied().collect();
        for number in numbers {
            self.end_consumer(number, Some(error.clone()));
        }
    }
}
