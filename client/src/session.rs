//! Everything that the client knows and wants, across connections. Pure: frames, requests and time in; frames, answers
//! and events out.
//!
//! ```text
//!               connected            restored
//!      Down ──────────────> Restoring ───────> Up
//!        ^                      │               │   requests, consumers and publishers speak only when Up
//!        └──────────────────────┴───────────────┘
//!                   disconnected
//! ```

mod commits;
mod consumers;
mod publishers;
mod requests;
mod topology;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quorate_protocol::codec::Segments;
use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::{ClientFrame, Close, Frame, Heartbeat, ProducerId, ServerFrame};
use quorate_protocol::limits::Limits;

use crate::address::Address;
use crate::error::Error;
use crate::event::ConnectionEvent;
use crate::handshake::Established;
use crate::limits;
use crate::publish::Outbox;
use commits::Commits;
use consumers::Consumer;
use requests::Requests;
use topology::Topology;

pub(crate) use commits::{Numbers, Settles, Wanted as Commit, lost_while_open};
pub(crate) use consumers::{Wanted, lock as lock_mailbox};
pub(crate) use publishers::lock as lock_outbox;

/// The one channel that this client uses.
const CHANNEL: u16 = 0;

/// What comes out besides frames.
#[derive(Debug)]
pub(crate) enum Output<R> {
    /// A request was answered, or will not be.
    Answer(R, Result<ServerFrame, Error>),
    /// For the application.
    Event(ConnectionEvent),
}

/// Why a connection must end, and where to look for the leader next.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) error: Error,
    pub(crate) leader: Option<Address>,
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self { error, leader: None }
    }
}

/// Who may want to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Speaker {
    /// A publisher with messages.
    Publisher(ProducerId),
    /// A consumer with settlements, with credit to give, or to be started.
    Consumer(u32),
}

/// What another task did and the session has to know.
pub(crate) enum Notice {
    /// There may be something to send.
    Speaker(Speaker),
    /// A new publisher.
    NewPublisher(Arc<Mutex<Outbox>>),
    /// The application dropped its publisher; what it published is still delivered.
    PublisherGone(ProducerId),
    /// The application dropped its consumer.
    ConsumerGone(u32),
}

#[derive(Clone, Debug)]
enum Link {
    Down,
    Restoring(Connection),
    Up(Connection),
}

#[derive(Clone, Debug)]
struct Connection {
    address: Address,
    heartbeat: Option<Duration>,
    watch: bool,
    last_received: Instant,
    last_sent: Instant,
    suspect_since: Option<Instant>,
}

/// The state of one client. `R` is whatever the caller wants back with an answer.
pub(crate) struct Session<R> {
    request_timeout: Duration,
    link: Link,
    limits: Limits,
    /// Of the protocol, on the present or last connection.
    version: u16,
    /// Connections that ended, readable by everybody.
    losses: Arc<AtomicU64>,
    out: Segments,
    outputs: VecDeque<Output<R>>,
    requests: Requests<R>,
    commits: Commits<R>,
    topology: Topology,
    publishers: BTreeMap<ProducerId, publishers::Publisher>,
    consumers: BTreeMap<u32, Consumer<R>>,
    next_consumer: u32,
    /// Until when a consumer must have begun, in the order in which they were asked for.
    consume_deadlines: VecDeque<(Instant, u32)>,
    /// Why the broker takes no messages from anybody, if it does not.
    blocked: Option<Error>,
    /// Speakers to be asked now, each at most once.
    ready: VecDeque<Speaker>,
    is_ready: BTreeSet<Speaker>,
    /// Speakers to be asked later. One may be here for a time that no longer matters; asking in vain is harmless.
    timers: BTreeSet<(Instant, Speaker)>,
}

impl<R> Session<R> {
    pub(crate) fn new(request_timeout: Duration) -> Self {
        Self {
            request_timeout,
            link: Link::Down,
            limits: Limits::default(),
            version: 0,
            losses: Arc::default(),
            out: Segments::new(),
            outputs: VecDeque::new(),
            requests: Requests::new(),
            commits: Commits::new(),
            topology: Topology::default(),
            publishers: BTreeMap::new(),
            consumers: BTreeMap::new(),
            next_consumer: 1,
            consume_deadlines: VecDeque::new(),
            blocked: None,
            ready: VecDeque::new(),
            is_ready: BTreeSet::new(),
            timers: BTreeSet::new(),
        }
    }

    /// Logged in on a new connection.
    pub(crate) fn connected(&mut self, established: Established, now: Instant) {
        assert!(matches!(self.link, Link::Down), "a client has one connection at a time");
        let Established { address, leader, version, limits, heartbeat, watch } = established;
        self.limits = limits;
        self.version = version;
        self.blocked = None;
        self.event(ConnectionEvent::Connected { address: address.clone(), leader });
        self.link = Link::Restoring(Connection {
            address,
            heartbeat,
            watch,
            last_received: now,
            last_sent: now,
            suspect_since: None,
        });
        self.begin_publishing();
        self.topology.begin_restoring();
        self.go_on_restoring(now);
    }

    /// The connection ended.
    pub(crate) fn disconnected(&mut self, error: Error, now: Instant) {
        if matches!(self.link, Link::Down) {
            return;
        }
        self.link = Link::Down;
        self.losses.fetch_add(1, Ordering::Release);
        self.out = Segments::new();
        self.ready.clear();
        self.is_ready.clear();
        self.timers.clear();
        self.forget_in_flight(&error, now);
        self.lose_consumers();
        self.event(ConnectionEvent::Reconnecting { error });
    }

    /// Everything restored: now everybody may speak.
    fn up(&mut self) {
        if let Link::Restoring(connection) = &self.link {
            self.link = Link::Up(connection.clone());
        }
        let consumers: Vec<u32> = self.consumers.keys().copied().collect();
        let publishers: Vec<ProducerId> = self.publishers.keys().copied().collect();
        consumers.into_iter().map(Speaker::Consumer).for_each(|speaker| self.wake(speaker));
        publishers.into_iter().map(Speaker::Publisher).for_each(|speaker| self.wake(speaker));
    }

    /// Connections that ended, readable by everybody: what was begun before one of them and is not committed is rolled back.
    pub(crate) fn losses_shared(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.losses)
    }

    fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    fn is_up(&self) -> bool {
        matches!(self.link, Link::Up(_))
    }

    fn connection(&mut self) -> Option<&mut Connection> {
        match &mut self.link {
            Link::Down => None,
            Link::Restoring(connection) | Link::Up(connection) => Some(connection),
        }
    }

    fn send(&mut self, frame: &ClientFrame) {
        self.out.push(frame, CHANNEL);
    }

    fn event(&mut self, event: ConnectionEvent) {
        self.outputs.push_back(Output::Event(event));
    }

    fn wake(&mut self, speaker: Speaker) {
        if self.is_ready.insert(speaker) {
            self.ready.push_back(speaker);
        }
    }

    /// Another task did something.
    pub(crate) fn notice(&mut self, notice: Notice, now: Instant) {
        match notice {
            Notice::Speaker(speaker) => self.wake(speaker),
            Notice::NewPublisher(outbox) => self.add_publisher(outbox),
            Notice::PublisherGone(producer) => self.publisher_gone(producer),
            Notice::ConsumerGone(consumer) => self.cancel(consumer, None, now),
        }
    }

    /// A frame from the broker.
    ///
    /// # Errors
    /// The connection must end: the broker said so, or broke the protocol.
    pub(crate) fn handle(&mut self, frame: ServerFrame, now: Instant) -> Result<(), Ended> {
        match frame {
            ServerFrame::Confirm(confirm) => self.confirm(&confirm, now)?,
            ServerFrame::PublishRefused(refused) => self.publish_refused(&refused, now)?,
            ServerFrame::Deliver(deliver) => self.deliver(deliver)?,
            ServerFrame::Heartbeat(_) => {}
            ServerFrame::Blocked(blocked) => self.blocked(&blocked),
            ServerFrame::Unblocked(_) => self.unblocked(),
            ServerFrame::ConsumerClosed(closed) => self.consumer_closed(&closed, now),
            ServerFrame::Close(close) => return Err(self.closed_by_broker(&close)),
            ServerFrame::HelloOk(_) | ServerFrame::LoginOk(_) | ServerFrame::Refused(_) => {
                return Err(Error::protocol(format!("{} after the login", frame.kind_name())).into());
            }
            answer => self.answer(answer, now)?,
        }
        Ok(())
    }

    fn closed_by_broker(&mut self, close: &Close) -> Ended {
        let code = close.code.unwrap_or(FaultCode::ShuttingDown);
        let leader = close.leader_address.parse().ok();
        match self.connection() {
            Some(connection) => {
                Ended { error: Error::refused(&connection.address, code, &close.text), leader }
            }
            None => Ended { error: Error::failed(code, &close.text), leader },
        }
    }

    /// Bytes came from the broker: it lives.
    pub(crate) fn received(&mut self, now: Instant) {
        if let Some(connection) = self.connection() {
            connection.last_received = now;
            connection.suspect_since = None;
        }
    }

    /// Time passed.
    ///
    /// # Errors
    /// The broker has been silent for too long.
    pub(crate) fn tick(&mut self, now: Instant) -> Result<(), Ended> {
        while let Some((at, speaker)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, speaker));
            self.wake(speaker);
        }
        self.expire_requests(now);
        self.expire_consumers(now);
        if matches!(self.link, Link::Restoring(_)) {
            self.go_on_restoring(now);
        }
        self.watch_heartbeats(now)
    }

    fn watch_heartbeats(&mut self, now: Instant) -> Result<(), Ended> {
        let Some(connection) = self.connection() else { return Ok(()) };
        let Some(heartbeat) = connection.heartbeat else { return Ok(()) };
        let address = connection.address.clone();
        if connection.watch && now >= connection.last_received + heartbeat * 2 {
            // It may be this process that slept: what came meanwhile is read before the verdict.
            let since = *connection.suspect_since.get_or_insert(now);
            if now >= since + grace(heartbeat) {
                let silent = now.saturating_duration_since(connection.last_received).as_millis();
                return Err(
                    Error::lost(&address, format!("silent for {silent} ms: two heartbeats missed")).into()
                );
            }
        }
        if now >= connection.last_sent + speak_after(heartbeat) {
            connection.last_sent = now;
            self.send(&Heartbeat {}.into());
        }
        Ok(())
    }

    /// When [`Self::tick`] has to be called at the latest.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let heartbeat = match &self.link {
            Link::Restoring(connection) | Link::Up(connection) => connection.heartbeat.map(|heartbeat| {
                let speak = connection.last_sent + speak_after(heartbeat);
                let listen = match connection.suspect_since {
                    Some(since) => since + grace(heartbeat),
                    None => connection.last_received + heartbeat * 2,
                };
                if connection.watch { speak.min(listen) } else { speak }
            }),
            Link::Down => None,
        };
        let timer = self.timers.first().map(|(at, _)| *at);
        let consume = self.consume_deadlines.front().map(|(at, _)| *at);
        [
            heartbeat,
            timer,
            consume,
            self.requests.next_deadline(),
            self.commits.next_deadline(),
            self.topology.retry_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Gathers what is to be written, as long as there is room for it.
    pub(crate) fn gather(&mut self, now: Instant) {
        if self.is_up() {
            self.send_commits(now);
            self.send_requests(now);
            // Everybody once, in turn, so that one busy publisher does not keep the others waiting.
            while self.out.length() < limits::WRITE_BYTES {
                let Some(speaker) = self.ready.pop_front() else { break };
                self.is_ready.remove(&speaker);
                match speaker {
                    Speaker::Publisher(producer) => self.speak_publisher(producer, now),
                    Speaker::Consumer(consumer) => self.speak_consumer(consumer, now),
                }
            }
        }
        if !self.out.is_empty()
            && let Some(connection) = self.connection()
        {
            connection.last_sent = now;
        }
    }

    /// What is to be written.
    pub(crate) fn out(&mut self) -> &mut Segments {
        &mut self.out
    }

    /// The next answer or event.
    pub(crate) fn poll_output(&mut self) -> Option<Output<R>> {
        self.outputs.pop_front()
    }

    /// Whether everything that was asked, published and settled has its outcome.
    pub(crate) fn is_idle(&self) -> bool {
        self.requests.is_idle()
            && self.commits.is_idle()
            && self.publishers_are_idle()
            && self.consumers_are_idle()
    }

    /// Says goodbye to the broker.
    pub(crate) fn say_goodbye(&mut self) {
        if !matches!(self.link, Link::Down) {
            self.send(&Close { code: None, text: String::new(), leader_address: String::new() }.into());
        }
    }

    /// There will be no connection any more: everybody who waits is told.
    pub(crate) fn end(&mut self, error: &Error) {
        self.end_publishers(error);
        self.end_consumers(error);
        self.end_commits(error);
        self.end_requests(error);
        self.event(ConnectionEvent::Closed { error: error.clone() });
    }
}

/// Heartbeats are sent early enough to arrive in time.
fn speak_after(heartbeat: Duration) -> Duration {
    heartbeat / 2
}

/// Between the suspicion that the broker is dead and the verdict.
fn grace(heartbeat: Duration) -> Duration {
    heartbeat / 10
}
