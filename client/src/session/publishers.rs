//! The session's dealings with publishers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use quorate_protocol::frame::{Blocked, Confirm, ProducerId, PublishRefused};

use super::{Ended, Session, Speaker};
use crate::error::Error;
use crate::event::ConnectionEvent;
use crate::publish::{Next, Outbox};
use crate::receipt::Receipt;

/// What the session keeps of a publisher.
pub(super) struct Publisher {
    outbox: Arc<Mutex<Outbox>>,
    /// The application dropped it: it ends with its last outcome.
    gone: bool,
}

impl Publisher {
    fn lock(&self) -> MutexGuard<'_, Outbox> {
        lock(&self.outbox)
    }
}

/// Locks an outbox. Nothing panics while it is locked, except where the program is broken anyway.
pub(crate) fn lock(outbox: &Mutex<Outbox>) -> MutexGuard<'_, Outbox> {
    outbox.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R> Session<R> {
    pub(super) fn add_publisher(&mut self, outbox: Arc<Mutex<Outbox>>) {
        let producer = {
            let mut outbox = lock(&outbox);
            outbox.begin_session(self.limits);
            if let Some(reason) = &self.blocked {
                outbox.blocked(reason.clone());
            }
            outbox.producer()
        };
        let earlier = self.publishers.insert(producer, Publisher { outbox, gone: false });
        assert!(earlier.is_none(), "producer ids are random: {producer}");
        self.wake(Speaker::Publisher(producer));
    }

    pub(super) fn publisher_gone(&mut self, producer: ProducerId) {
        if let Some(publisher) = self.publishers.get_mut(&producer) {
            publisher.gone = true;
            if publisher.lock().is_idle() {
                self.publishers.remove(&producer);
            }
        }
    }

    pub(super) fn begin_publishing(&mut self) {
        for publisher in self.publishers.values() {
            publisher.lock().begin_session(self.limits);
        }
    }

    pub(super) fn speak_publisher(&mut self, producer: ProducerId, now: Instant) {
        if self.blocked.is_some() {
            // Unblocked wakes everybody.
            return;
        }
        let Some(publisher) = self.publishers.get(&producer) else { return };
        let next = publisher.lock().next(now);
        match next {
            Next::Publish(body) => {
                self.send(&body.into());
                self.wake(Speaker::Publisher(producer));
            }
            Next::Wait(until) => {
                self.timers.insert((until, Speaker::Publisher(producer)));
            }
            Next::Idle => {}
        }
    }

    pub(super) fn confirm(&mut self, confirm: &Confirm, now: Instant) -> Result<(), Ended> {
        let receipt = Receipt::new(confirm);
        self.with_publisher(confirm.producer, |outbox| {
            confirm.ranges.iter().all(|range| outbox.confirmed(*range, receipt, now))
        })
    }

    pub(super) fn publish_refused(&mut self, refused: &PublishRefused, now: Instant) -> Result<(), Ended> {
        let mut begins = false;
        self.with_publisher(refused.producer, |outbox| {
            if refused.retryable {
                let reason = Error::failed(refused.code, &refused.text);
                begins = outbox.refused_for_now(refused.range, reason, now);
                return true;
            }
            outbox.failed(refused.range, Error::failed(refused.code, &refused.text), now)
        })?;
        if begins {
            let reason = Error::failed(refused.code, &refused.text);
            self.event(ConnectionEvent::Held { reason });
        }
        Ok(())
    }

    /// Changes a publisher by something the broker said; `false` says that the broker cannot have meant it.
    fn with_publisher(
        &mut self,
        producer: ProducerId,
        change: impl FnOnce(&mut Outbox) -> bool,
    ) -> Result<(), Ended> {
        // A publisher that is gone has no interest in answers.
        let Some(publisher) = self.publishers.get(&producer) else { return Ok(()) };
        let (sensible, idle) = {
            let mut outbox = publisher.lock();
            (change(&mut outbox), outbox.is_idle())
        };
        if !sensible {
            let text = "it answered for messages that it was never sent";
            return Err(Error::protocol(text).into());
        }
        if idle && publisher.gone {
            self.publishers.remove(&producer);
        } else {
            self.wake(Speaker::Publisher(producer));
        }
        Ok(())
    }

    pub(super) fn blocked(&mut self, blocked: &Blocked) {
        let error = Error::failed(blocked.code, &blocked.text);
        for publisher in self.publishers.values() {
            publisher.lock().blocked(error.clone());
        }
        self.blocked = Some(error);
        let reason = format!("{}: {}", blocked.code, blocked.text);
        self.event(ConnectionEvent::Blocked { reason });
    }

    pub(super) fn unblocked(&mut self) {
        self.blocked = None;
        for publisher in self.publishers.values() {
            publisher.lock().retry_now();
        }
        let producers: Vec<ProducerId> = self.publishers.keys().copied().collect();
        for producer in producers {
            self.wake(Speaker::Publisher(producer));
        }
        self.event(ConnectionEvent::Unblocked);
    }

    pub(super) fn publishers_are_idle(&self) -> bool {
        self.publishers.values().all(|publisher| publisher.lock().is_idle())
    }

    pub(super) fn end_publishers(&mut self, error: &Error) {
        for publisher in std::mem::take(&mut self.publishers).into_values() {
            publisher.lock().end(error);
        }
    }
}
