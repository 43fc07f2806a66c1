//! Publishing, as the application sees it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use quorate_protocol::frame::ProducerId;

use crate::client::Shared;
use crate::error::Error;
use crate::message::Message;
use crate::outcome::Outcome;
use crate::publish::{Accepted, NotAccepted, Outbox};
use crate::receipt::Receipt;
use crate::session::{Notice, Speaker, lock_outbox};

/// Publishes messages in order, and tells of each one what became of it.
///
/// A publisher numbers its messages. After a reconnect it sends again, in order, what was not confirmed; brokers know
/// the numbers, so there is neither a loss nor a second copy. What a broker refuses for now (a full queue, a full disk)
/// is held and sent again, with everything after it, until it is taken.
///
/// Messages published one after the other to the same exchange with the same key travel together. Dropping a publisher
/// does not take back what it has published.
pub struct Publisher {
    outbox: Arc<Mutex<Outbox>>,
    producer: ProducerId,
    shared: Arc<Shared>,
}

impl Publisher {
    pub(crate) fn new(shared: Arc<Shared>) -> Result<Self, Error> {
        Ok(Self::with_id(shared, random_id()?))
    }

    pub(crate) fn with_id(shared: Arc<Shared>, producer: ProducerId) -> Self {
        let outbox = Outbox::new(producer, shared.window, shared.signal.limits());
        let outbox = Arc::new(Mutex::new(outbox));
        if let Err(error) = shared.signal.tell(Notice::NewPublisher(Arc::clone(&outbox))) {
            lock_outbox(&outbox).end(&error);
        }
        Self { outbox, producer, shared }
    }

    /// The random number by which brokers know this publisher.
    pub fn id(&self) -> u128 {
        self.producer.0
    }

    /// Publishes a message: returns once there is room for it in the window, with a [`Confirm`] that resolves when the
    /// broker has answered. The default exchange, `""`, routes to the queue named by the key.
    ///
    /// A message is published even if the confirm is dropped. If this future is dropped before it returns, the message
    /// is not published.
    ///
    /// # Errors
    /// A name is not one, the message is too large, or the client has ended. What the broker thinks of the message is
    /// said by the confirm.
    pub async fn publish(
        &self,
        exchange: &str,
        key: &str,
        message: impl Into<Message>,
    ) -> Result<Confirm, Error> {
        let message = message.into();
        // A publisher that never has to wait for room must not keep its thread from everybody else.
        tokio::task::coop::consume_budget().await;
        let accepted = std::future::poll_fn(|cx| {
            let mut outbox = lock_outbox(&self.outbox);
            match outbox.push(exchange, key, &message) {
                Ok(accepted) => Poll::Ready(Ok(accepted)),
                Err(NotAccepted::Error(error)) => Poll::Ready(Err(error)),
                Err(NotAccepted::Full) => {
                    outbox.want_room(cx);
                    Poll::Pending
                }
            }
        })
        .await?;
        Ok(self.accepted(accepted))
    }

    /// Publishes a message if there is room for it in the window; none if there is not.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn try_publish(
        &self,
        exchange: &str,
        key: &str,
        message: &Message,
    ) -> Result<Option<Confirm>, Error> {
        let pushed = lock_outbox(&self.outbox).push(exchange, key, message);
        match pushed {
            Ok(accepted) => Ok(Some(self.accepted(accepted))),
            Err(NotAccepted::Full) => Ok(None),
            Err(NotAccepted::Error(error)) => Err(error),
        }
    }

    fn accepted(&self, accepted: Accepted) -> Confirm {
        if accepted.announce {
            // If nobody listens any more, the outbox has been ended, and the confirm says so.
            let _ = self.shared.signal.tell(Notice::Speaker(Speaker::Publisher(self.producer)));
        }
        Confirm { outcome: accepted.outcome, number: accepted.number, slot: usize::MAX }
    }

    /// Gives up: nothing is taken or sent any more, and every message gets the most exact outcome there is.
    ///
    /// What no broker can have fails at once: with the broker's refusal if it was refused for now each time that it was
    /// sent, or was held back behind such a one; with [`Error::TimedOut`] if it was never sent for other reasons. What
    /// is on its way still gets its answer, for as long as the connection lasts. Of what was sent and never answered
    /// the outcome is [unknown](Error::is_outcome_unknown), also if it was refused when it was sent again.
    pub fn withdraw(&self) {
        lock_outbox(&self.outbox).withdraw();
    }

    /// Waits until no message of this publisher is without its outcome, whatever it is.
    pub async fn settled(&self) {
        std::future::poll_fn(|cx| {
            if lock_outbox(&self.outbox).is_idle_or_wake(cx) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// A name that nobody else draws.
pub(crate) fn random_id() -> Result<ProducerId, Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| {
        Error::Invalid(format!("this system has no randomness to name a publisher with: {error}").into())
    })?;
    Ok(ProducerId(u128::from_le_bytes(random)))
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // With no connection's task there is nothing to clean up.
        let _ = self.shared.signal.tell(Notice::PublisherGone(self.producer));
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("producer", &self.producer).finish_non_exhaustive()
    }
}

/// Resolves when the broker has answered for a message: with a [`Receipt`] when it is safe, with an error when it was
/// refused for good, and with an [unknown outcome](Error::is_outcome_unknown) when the client was closed first.
///
/// Through reconnects it just takes longer. May be dropped; the message is published nevertheless.
pub struct Confirm {
    outcome: Arc<Outcome<Receipt>>,
    number: u64,
    slot: usize,
}

impl Confirm {
    /// The publisher's number for the message, counting from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What is known now, without waiting.
    pub fn try_get(&self) -> Option<Result<Receipt, Error>> {
        let result = self.outcome.get(self.number)?;
        Some(result.map(|receipt| receipt.for_number(self.number)))
    }

    /// Waits no longer than this; then the outcome is unknown. The message stays on its way all the same; what takes it
    /// back, as far as that is possible, is [`Publisher::withdraw`].
    ///
    /// # Errors
    /// As the confirm itself.
    pub async fn within(self, limit: Duration) -> Result<Receipt, Error> {
        match tokio::time::timeout(limit, self).await {
            Ok(result) => result,
            Err(_) => Err(Error::UnknownOutcome(format!("not confirmed within {limit:?}").into())),
        }
    }
}

impl Future for Confirm {
    type Output = Result<Receipt, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let number = this.number;
        this.outcome.poll(number, &mut this.slot, cx).map_ok(|receipt| receipt.for_number(number))
    }
}

impl fmt::Debug for Confirm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirm")
            .field("number", &self.number)
            .field("known", &self.try_get())
            .finish_non_exhaustive()
    }
}
