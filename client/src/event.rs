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

/// A stream of [`ConnectionEvent`]s. Its first says what is the matter if the connection is
/// [blocked](ConnectionEvent::Blocked) or [lost](ConnectionEvent::Reconnecting) when it is created; then come the
/// changes. A subscriber that does not read loses the oldest.
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
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    inboxes: Vec<Weak<Mutex<Inbox>>>,
    /// The event that says what is the matter with the connection now.
    trouble: Option<ConnectionEvent>,
    closed: bool,
}

impl Subscribers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn subscribe(&self) -> Events {
        let mut state = self.state();
        let events = state.trouble.clone().into_iter().collect();
        let inbox = Arc::new(Mutex::new(Inbox { events, closed: state.closed, waker: None }));
        state.inboxes.retain(|inbox| inbox.strong_count() > 0);
        state.inboxes.push(Arc::downgrade(&inbox));
        Events { inbox }
    }

    pub(crate) fn tell(&self, event: &ConnectionEvent) {
        let mut state = self.state();
        match event {
            ConnectionEvent::Blocked { .. } | ConnectionEvent::Reconnecting { .. } => {
                state.trouble = Some(event.clone());
            }
            ConnectionEvent::Connected { .. }
            | ConnectionEvent::Unblocked
            | ConnectionEvent::Closed { .. } => state.trouble = None,
            ConnectionEvent::Held { .. } | ConnectionEvent::NotRestored { .. } => {}
        }
        state.each(|inbox| {
            if inbox.events.len() >= limits::EVENTS {
                inbox.events.pop_front();
            }
            inbox.events.push_back(event.clone());
        });
    }

    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.each(|inbox| inbox.closed = true);
    }
}

impl State {
    /// Changes every inbox under the lock of them all, so that whoever subscribes meanwhile sees a change exactly once.
    fn each(&self, change: impl Fn(&mut Inbox)) {
        for inbox in self.inboxes.iter().filter_map(Weak::upgrade) {
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
        subscribers.tell(&ConnectionEvent::Unblocked);
        assert!(subscribers.subscribe().next().await.is_none(), "the client has ended");
    }

    #[tokio::test]
    async fn a_new_subscriber_is_told_what_is_the_matter_first() {
        let subscribers = Subscribers::default();
        let blocked = ConnectionEvent::Blocked { reason: "disk".to_owned() };
        let lost = ConnectionEvent::Reconnecting { error: Error::Closed };
        let connected = ConnectionEvent::Connected { address: "h".parse().unwrap(), leader: "b".to_owned() };
        for (trouble, end) in
            [(&blocked, &ConnectionEvent::Unblocked), (&blocked, &connected), (&lost, &connected)]
        {
            subscribers.tell(trouble);
            let mut during = subscribers.subscribe();
            subscribers.tell(end);
            let mut after = subscribers.subscribe();
            subscribers.tell(&ConnectionEvent::Unblocked);
            for expected in [trouble, end] {
                let event = during.next().await.unwrap();
                assert_eq!(format!("{event:?}"), format!("{expected:?}"));
            }
            assert!(matches!(after.next().await, Some(ConnectionEvent::Unblocked)), "it is over");
        }
    }
}
