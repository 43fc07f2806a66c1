//! Consuming, as the application sees it.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use quorate_protocol::name::{ExchangeName, RoutingKey};

use crate::client::Shared;
use crate::consume::{Arrived, Mailbox, Verdict};
use crate::driver::Command;
use crate::error::Error;
use crate::limits;
use crate::message::Message;
use crate::outcome::Outcome;
use crate::session::{Notice, Speaker, lock_mailbox};

/// How to consume a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumeOptions {
    /// How many messages may be delivered and not settled; more come as they are settled. 1000 by default. A consumer
    /// that settles nothing gets no more than this. With `no_ack`: how many may be delivered and not taken.
    pub credit: u32,
    /// Messages are removed when they are sent. What is on its way when a connection ends may be lost.
    pub no_ack: bool,
    /// Nobody else consumes the queue meanwhile.
    pub exclusive: bool,
    /// No more than this many are taken from the queue: the broker is never given credit for more, so that nothing
    /// beyond it is delivered, goes back and is marked as redelivered, or with `no_ack` is lost. What is requeued does
    /// not count. When they are all there, the stream waits for more that do not come. After a reconnect as many more
    /// may be delivered as there were acks without an answer. None by default.
    pub limit: Option<u64>,
}

impl Default for ConsumeOptions {
    fn default() -> Self {
        Self { credit: limits::CREDIT, no_ack: false, exclusive: false, limit: None }
    }
}

/// A stream of the messages of a queue.
///
/// Goes on through reconnects; an item is an error only if the consumer has ended for good, and it is the last item.
/// Dropping the consumer stops it; what it holds unsettled goes back to the queue.
pub struct Consumer {
    handle: Arc<Handle>,
    generation: Arc<AtomicU64>,
    /// Taken from the mailbox and not yet given to the application.
    taken: VecDeque<Arrived>,
    no_ack: bool,
    /// Messages given to the application whose credit was not given back yet.
    untold: u32,
    /// The connection is told of so many together; of each one if their number is limited, since it must be right
    /// when the connection ends.
    told_together: u32,
    _guard: StopOnDrop,
}

/// What consumer and deliveries share.
pub(crate) struct Handle {
    mailbox: Arc<Mutex<Mailbox>>,
    shared: Arc<Shared>,
    no_ack: bool,
}

impl Handle {
    pub(crate) fn new(mailbox: Arc<Mutex<Mailbox>>, shared: Arc<Shared>, no_ack: bool) -> Arc<Self> {
        Arc::new(Self { mailbox, shared, no_ack })
    }

    fn announce(&self, number: u32) {
        // If nobody listens any more, the mailbox has been ended, and who waits is told.
        let _ = self.shared.signal.tell(Notice::Speaker(Speaker::Consumer(number)));
    }
}

/// Stops the consumer when nobody reads it any more, also when it never began.
pub(crate) struct StopOnDrop(pub(crate) Arc<Handle>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        let number = lock_mailbox(&self.0.mailbox).abandon();
        if let Some(number) = number {
            // With no connection's task there is nothing to stop.
            let _ = self.0.shared.signal.tell(Notice::ConsumerGone(number));
        }
    }
}

impl Consumer {
    pub(crate) fn new(guard: StopOnDrop, told_together: u32) -> Self {
        let handle = Arc::clone(&guard.0);
        let generation = Arc::clone(lock_mailbox(&handle.mailbox).generation());
        let no_ack = handle.no_ack;
        Self { handle, generation, taken: VecDeque::new(), no_ack, untold: 0, told_together, _guard: guard }
    }

    /// The next message; none when the consumer has ended.
    pub async fn next(&mut self) -> Option<Result<Delivery, Error>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Stops consuming: settlements made so far are sent first, what is unsettled goes back to the queue.
    ///
    /// # Errors
    /// The client has ended.
    pub async fn cancel(self) -> Result<(), Error> {
        let number = lock_mailbox(&self.handle.mailbox).abandon();
        if let Some(number) = number {
            self.handle.shared.ask(|reply| Command::Cancel(number, reply)).await?;
        }
        Ok(())
    }

    /// The next message already here.
    fn take(&mut self) -> Option<Delivery> {
        let generation = self.generation.load(Ordering::Acquire);
        while let Some(arrived) = self.taken.front_mut() {
            // What is left of an earlier connection is delivered again: it must not be handled twice.
            if arrived.generation == generation
                && let Some(item) = arrived.messages.next()
            {
                let delivery = Delivery {
                    message: item.message,
                    exchange: arrived.exchange.clone(),
                    key: arrived.key.clone(),
                    seq: item.seq,
                    redelivered: item.redelivered,
                    acker: Acker { handle: Arc::clone(&self.handle), generation, seq: item.seq },
                };
                self.took(generation);
                return Some(delivery);
            }
            self.taken.pop_front();
        }
        None
    }

    fn took(&mut self, generation: u64) {
        if !self.no_ack {
            return;
        }
        self.untold += 1;
        let more = self.taken.front().is_some_and(|arrived| !arrived.messages.as_slice().is_empty());
        if more && self.untold < self.told_together {
            return;
        }
        let (announce, number) = {
            let mut mailbox = lock_mailbox(&self.handle.mailbox);
            (mailbox.took(generation, self.untold), mailbox.number())
        };
        self.untold = 0;
        if announce {
            self.handle.announce(number);
        }
    }
}

/// A consumer without acks takes its lock once for so many messages.
pub(crate) const TOLD_TOGETHER: u32 = 64;

impl Stream for Consumer {
    type Item = Result<Delivery, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(delivery) = this.take() {
                return Poll::Ready(Some(Ok(delivery)));
            }
            let arrived = lock_mailbox(&this.handle.mailbox).poll_arrived(&mut this.taken, cx);
            match ready!(arrived) {
                Ok(()) => {}
                Err(None) => return Poll::Ready(None),
                Err(Some(error)) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = lock_mailbox(&self.handle.mailbox).number();
        f.debug_struct("Consumer").field("number", &number).finish_non_exhaustive()
    }
}

/// A message from a queue. Settle it with [`ack`](Self::ack) or [`nack`](Self::nack); if it is just dropped, it stays
/// with this consumer, and uses its credit, until the consumer ends.
#[derive(Debug)]
pub struct Delivery {
    message: Message,
    exchange: ExchangeName,
    key: RoutingKey,
    seq: u64,
    redelivered: bool,
    acker: Acker,
}

impl Delivery {
    /// The message. Its body shares a read buffer of up to 128 KiB with its neighbours: copy what is kept for long.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The message's body.
    pub fn body(&self) -> &[u8] {
        self.message.body()
    }

    /// The exchange it was published to.
    pub fn exchange(&self) -> &str {
        self.exchange.as_str()
    }

    /// The key it was published with.
    pub fn key(&self) -> &str {
        self.key.as_str()
    }

    /// Its place in the queue.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// It may have been delivered before.
    pub fn is_redelivered(&self) -> bool {
        self.redelivered
    }

    /// Done with it: the broker removes it from the queue.
    ///
    /// The ack is on its way as soon as this returns; the result need not be awaited. It resolves when the ack is
    /// committed: from then on the message never comes back.
    pub fn ack(self) -> Settled {
        self.acker.ack()
    }

    /// Not done with it: back to its old place in the queue, marked as redelivered, or dropped for good.
    pub fn nack(self, requeue: bool) -> Settled {
        self.acker.nack(requeue)
    }

    /// The message, and what settles it, apart.
    pub fn into_parts(self) -> (Message, Acker) {
        (self.message, self.acker)
    }
}

/// Settles one delivery.
pub struct Acker {
    handle: Arc<Handle>,
    generation: u64,
    seq: u64,
}

impl Acker {
    /// As [`Delivery::ack`].
    pub fn ack(self) -> Settled {
        self.settle(Verdict::Ack)
    }

    /// As [`Delivery::nack`].
    pub fn nack(self, requeue: bool) -> Settled {
        self.settle(if requeue { Verdict::Requeue } else { Verdict::Drop })
    }

    /// Where it is: the consumer's number and generation, and the sequence.
    pub(crate) fn place(&self, shared: &Arc<Shared>) -> Result<(u32, u64, u64), Error> {
        if !Arc::ptr_eq(shared, &self.handle.shared) {
            return Err(Error::Invalid("the delivery came by another client".into()));
        }
        if self.handle.no_ack {
            return Err(Error::Invalid(
                "the delivery is settled already: it was consumed without acks".into(),
            ));
        }
        let mailbox = lock_mailbox(&self.handle.mailbox);
        if self.generation != mailbox.generation().load(Ordering::Acquire) {
            return Err(mailbox.fate());
        }
        Ok((mailbox.number(), self.generation, self.seq))
    }

    fn settle(self, verdict: Verdict) -> Settled {
        if self.handle.no_ack {
            return Settled { state: State::Known(Ok(())) };
        }
        let (result, number) = {
            let mut mailbox = lock_mailbox(&self.handle.mailbox);
            (mailbox.settle(self.generation, self.seq, verdict), mailbox.number())
        };
        let state = match result {
            Ok((outcome, announce)) => {
                if announce {
                    self.handle.announce(number);
                }
                State::Waiting { outcome, seq: self.seq, slot: usize::MAX }
            }
            Err(error) => State::Known(Err(error)),
        };
        Settled { state }
    }
}

impl AsRef<Acker> for Acker {
    fn as_ref(&self) -> &Acker {
        self
    }
}

impl AsRef<Acker> for Delivery {
    fn as_ref(&self) -> &Acker {
        &self.acker
    }
}

impl fmt::Debug for Acker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acker").field("seq", &self.seq).finish_non_exhaustive()
    }
}

/// Resolves when a settlement is committed. May be dropped: the settlement is sent all the same.
///
/// # Errors
/// [`Error::WillBeRedelivered`] if the delivery's connection or consumer ended before the settlement was sent;
/// [`Error::ConsumerClosed`] or [`Error::Failed`] if its queue is no more, and it with it;
/// [`Error::UnknownOutcome`] if it was sent and not answered.
pub struct Settled {
    state: State,
}

enum State {
    Known(Result<(), Error>),
    Waiting { outcome: Arc<Outcome<()>>, seq: u64, slot: usize },
}

impl Future for Settled {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.get_mut().state {
            State::Known(result) => Poll::Ready(result.clone()),
            State::Waiting { outcome, seq, slot } => outcome.poll(*seq, slot, cx),
        }
    }
}

impl fmt::Debug for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Known(result) => f.debug_tuple("Settled").field(result).finish(),
            State::Waiting { seq, .. } => f.debug_struct("Settled").field("seq", seq).finish_non_exhaustive(),
        }
    }
}
