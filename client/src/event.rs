//! What the client tells the application about its connection.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use crate::address::Address;
use crate::error::Error;
use crate::limits;

/// Something happened to the connection. Publishers and consumers go on by themselves; this is for people and logs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// Logged in at the leader.
    Connected {
        /// Where.
        address: Address,
        /// The name of the broker that leads the virtual host.
        leader: String,
    },
    /// The connection ended; another one is being looked for. Unconfirmed messages will be sent again in order,
    /// deliveries without a confirmed ack will be delivered again.
    Reconnecting {
        /// Why the connection ended.
        error: Error,
    },
    /// The broker takes no messages for now; publishers hold theirs.
    Blocked {
        /// Why, in the broker's words.
        reason: String,
    },
    /// The broker takes messages again.
    Unblocked,
    /// The broker refused messages of a publisher for now, as when a queue is full. They and what the publisher
    /// publishes after them are held, and sent again in order until they are taken. Said once, until some are.
    Held {
        /// Why.
        reason: Error,
    },
    /// Something that this client declared could not be declared again after a reconnect.
    NotRestored {
        /// What, by kind and name.
        what: String,
        /// Why.
        error: Error,
    },
    /// The client ended: closed by the application, or refused for good.
    Closed {
        /// Why.
        error: Error,
    },
}

/// A stream of [`ConnectionEvent`]s, from its creation on. A subscriber that does not read loses the oldest.
pub struct Events {
    inbox: Arc<Mutex<Inbox>>,
}

#[derive(Default)]
struct Inbox {
    events: VecDeque<ConnectionEvent>,
    closed: bool,
    waker: Option<Waker>,
}

fn lock(inbox: &Mutex<Inbox>) -> MutexGuard<'_, Inbox> {
    inbox.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Events {
    /// The next event; `None` when the client has ended.
    pub async fn next(&mut self) -> Option<ConnectionEvent> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Events {
    type Item = ConnectionEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ConnectionEvent>> {
        let mut inbox = lock(&self.inbox);
        if let Some(event) = inbox.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        if inbox.closed {
            return Poll::Ready(None);
        }
        inbox.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Everybody who listens to the connection's events.
#[derive(Default)]
pub(crate) struct Subscribers {
    state: Mutex<(Vec<Weak<Mutex<Inbox>>>, bool)>,
}

impl Subscribers {
    fn state(&self) -> MutexGuard<'_, (Vec<Weak<Mutex<Inbox>>>, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn subscribe(&self) -> Events {
        let mut state = self.state();
        let inbox = Arc::new(Mutex::new(Inbox { closed: state.1, ..Inbox::default() }));
        state.0.retain(|inbox| inbox.strong_count() > 0);
        state.0.push(Arc::downgrade(&inbox));
        Events { inbox }
    }

    pub(crate) fn tell(&self, event: &ConnectionEvent) {
        self.each(|inbox| {
            if inbox.events.len() >= limits::EVENTS {
                inbox.events.pop_front();
            }
            inbox.events.push_back(event.clone());
        });
    }

    pub(crate) fn close(&self) {
        self.state().1 = true;
        self.each(|inbox| inbox.closed = true);
    }

    fn each(&self, change: impl Fn(&mut Inbox)) {
        let inboxes: Vec<_> = self.state().0.iter().filter_map(Weak::upgrade).collect();
        for inbox in inboxes {
            let waker = {
                let mut inbox = lock(&inbox);
                change(&mut inbox);
                inbox.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_subscriber_sees_what_happens_from_then_on_and_never_piles_up() {
        let subscribers = Subscribers::default();
        subscribers.tell(&ConnectionEvent::Unblocked);
        let mut events = subscribers.subscribe();
        for number in 0..=limits::EVENTS {
            subscribers.tell(&ConnectionEvent::Blocked { reason: number.to_string() });
        }
        subscribers.close();
        let mut reasons = Vec::new();
        while let Some(event) = events.next().await {
            let ConnectionEvent::Blocked { reason } = event else { panic!("an event from before") };
            reasons.push(reason);
        }
        assert_eq!(reasons.len(), limits::EVENTS);
        assert_eq!(reasons.first().map(String::as_str), Some("1"));
        assert!(subscribers.subscribe().next().await.is_none(), "the client has ended");
    }
}
