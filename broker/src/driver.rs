//! The one loop that meets the world: gives the core what arrived, performs what it asks for.
//!
//! One *round* is: everything that has arrived, then every output. So whatever came together shares one log batch and
//! one sync. The loop waits for no socket, and for the disk only where that is quicker than to hand the batch over: a
//! small one, with nothing else to do, on a disk that is quick. Everything else threads and tasks do, and report back
//! through the inbox. It is itself a task, on the one thread that also runs the sockets: see
//! `docs/decisions/one-thread.md`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quorate_core::Node;
use quorate_core::io::{Input, Output, PeerKey, SessionId, Tick};
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::admin_desk::AdminDesk;
use crate::clients::SessionOutlet;
use crate::counters::Counters;
use crate::event_log::EventLog;
use crate::exit::{Exit, Then};
use crate::inbox::{Arrival, Arrivals, LinkId};
use crate::keeper::KeepOrder;
use crate::log_thread::Round;
use crate::logging;
use crate::order::Order;
use crate::peers::{LinkOutlet, Peers};
use crate::pulse::Pulse;
use crate::stash::Stash;
use crate::state_thread::{StateThread, StateWork};
use crate::storage::Storage;

/// Arrivals in one round at most, so that a flood cannot keep the round's sync from beginning.
const ARRIVALS_PER_ROUND: usize = 4096;
/// How long peers may take to take the last messages.
const LAST_MESSAGES: Duration = Duration::from_millis(500);

/// Where the core's outputs go.
pub struct Outlets {
    /// Log, stamp and loads.
    pub storage: Storage,
    /// The state store.
    pub state: StateThread,
    /// Links to peers.
    pub peers: Peers,
    /// Operators' questions.
    pub desk: AdminDesk,
    /// The process's numbers.
    pub counters: Arc<Counters>,
    /// What operators may listen to.
    pub events: Arc<EventLog>,
    /// Beats once a round.
    pub pulse: Arc<Pulse>,
}

/// The core with its surroundings.
pub struct Driver {
    node: Node,
    arrivals: Arrivals,
    /// Taken from there, for the next round. Empty between two.
    arrived: Vec<Arrival>,
    outlets: Outlets,
    clock: Clock,
    sessions: HashMap<SessionId, SessionOutlet>,
    links: HashMap<PeerKey, (LinkId, LinkOutlet)>,
    stash: Stash,
    order: Order,
    /// The round sent something to a peer at once: an answer may come while the log is written.
    sent: bool,
    /// The round wrote something to a client.
    wrote: bool,
    exit: Option<Exit>,
}

/// The core's time: milliseconds since this was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Default for Clock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock {
    /// Now.
    pub fn now(self) -> Tick {
        Tick(u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// What the wall clock showed at tick zero, in milliseconds since 1970; 0 if it stands before that.
    pub fn zero_ms(self) -> u64 {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(wall.as_millis()).unwrap_or(u64::MAX).saturating_sub(self.now().0)
    }
}

impl Driver {
    /// A driver for a core that was made with this clock's time.
    pub fn new(node: Node, arrivals: Arrivals, outlets: Outlets, clock: Clock) -> Self {
        Self {
            node,
            arrivals,
            arrived: Vec::new(),
            outlets,
            clock,
            sessions: HashMap::new(),
            links: HashMap::new(),
            stash: Stash::default(),
            order: Order::default(),
            sent: false,
            wrote: false,
            exit: None,
        }
    }

    /// Runs until the core ends the process; closes what is open.
    pub async fn run(mut self) -> Exit {
        loop {
            self.round();
            if let Some(exit) = self.exit.take() {
                for outlet in self.sessions.values() {
                    outlet.close();
                }
                self.send_last().await;
                // The log's thread may still give the state's something to do.
                self.outlets.storage.finish();
                self.outlets.state.finish();
                return exit;
            }
            self.write().await;
            self.wait().await;
        }
    }

    /// Has the round's batch written. Whoever has sent it to others, and will hear from them before the disk is done,
    /// leaves that to the log's thread; whoever has nothing else to do may as well write himself.
    async fn write(&mut self) {
        let (sent, wrote) = (std::mem::take(&mut self.sent), std::mem::take(&mut self.wrote));
        if !self.outlets.storage.holds() {
            return;
        }
        if wrote && !sent {
            // Answers are not to wait for the disk.
            yield_now().await;
        }
        if !sent && self.arrivals.is_empty() {
            self.outlets.storage.write_held();
        } else {
            self.outlets.storage.give_held();
        }
    }

    /// What peers were told last goes before the process does.
    async fn send_last(&mut self) {
        let sent = async {
            while self.links.values().any(|(_, outlet)| outlet.is_waiting()) {
                yield_now().await;
            }
        };
        // A peer that takes nothing has it from somebody else, or from the log.
        let _ = timeout(LAST_MESSAGES, sent).await;
    }

    /// Waits for something to happen, and takes everything that has.
    async fn wait(&mut self) {
        let now = self.clock.now();
        let due = self
            .node
            .next_deadline()
            .map_or(Pulse::INTERVAL, |deadline| Duration::from_millis(deadline.since(now)));
        let mut arrived = std::mem::take(&mut self.arrived);
        let taking = self.arrivals.recv_many(&mut arrived, ARRIVALS_PER_ROUND);
        // Nothing is lost if the time is up first.
        let _ = timeout(due.min(Pulse::INTERVAL), taking).await;
        for arrival in arrived.drain(..) {
            self.take(arrival);
        }
        self.arrived = arrived;
        let now = self.clock.now();
        if self.node.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.node.handle(now, Input::Tick);
        }
    }

    fn handle(&mut self, input: Input) {
        self.outlets.counters.inputs.add(1);
        self.node.handle(self.clock.now(), input);
    }

    fn take(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Input(input, permit) => {
                self.take_input(input);
                // Only now is the memory of the input the core's.
                drop(permit);
            }
            Arrival::SessionOpened { session, address, secure, outlet } => {
                self.sessions.insert(session, outlet);
                self.handle(Input::SessionOpened { session, address, secure });
            }
            Arrival::Linked { link, peer, dialed, outlet } => {
                let key = peer.key;
                self.links.insert(key, (link, outlet));
                self.handle(Input::PeerLinked { peer, dialed });
                for message in self.stash.take(key) {
                    self.handle(Input::PeerMessage { from: key, message });
                }
            }
            Arrival::LinkEnded { link, peer } => {
                if self.links.get(&peer).is_some_and(|(current, _)| *current == link) {
                    self.links.remove(&peer);
                    self.handle(Input::PeerUnlinked { peer });
                }
            }
            Arrival::InboundEnded { peer } => {
                self.stash.take(peer);
                // What it sent last may be lost, and so may be what we sent it: both sides begin anew.
                if let Some((_, outlet)) = self.links.remove(&peer) {
                    outlet.stop();
                }
                self.handle(Input::PeerUnlinked { peer });
            }
        }
    }

    fn take_input(&mut self, input: Input) {
        match input {
            Input::Written { ticket } => {
                self.order.written(ticket);
                self.handle(Input::Written { ticket });
                for (to, message) in self.order.released() {
                    self.send(to, message);
                }
            }
            Input::Persisted { ticket } => {
                for ticket in self.order.persisted(ticket) {
                    self.handle(Input::Persisted { ticket });
                }
                for (to, message) in self.order.released() {
                    self.send(to, message);
                }
            }
            Input::NotKept { ticket, why } => {
                self.order.persisted(ticket);
                self.handle(Input::NotKept { ticket, why });
            }
            Input::SessionClosed { session } => {
                self.handle(Input::SessionClosed { session });
                if let Some(outlet) = self.sessions.remove(&session) {
                    outlet.forget();
                }
            }
            // An address that leads to a peer we are linked to already: the link may have ended since.
            Input::PeerLinked { peer, dialed } => {
                if self.links.contains_key(&peer.key) {
                    self.handle(Input::PeerLinked { peer, dialed });
                }
            }
            Input::PeerMessage { from, message } if !self.links.contains_key(&from) => {
                self.stash.put(from, message);
            }
            other => self.handle(other),
        }
    }

    /// Performs everything that the core asks for.
    fn round(&mut self) {
        let mut outputs = Vec::new();
        while let Some(output) = self.node.poll() {
            outputs.push(output);
        }
        self.outlets.pulse.beat();
        if outputs.is_empty() {
            return;
        }
        self.outlets.counters.rounds.add(1);
        // All tickets first: an output may wait for a batch that is asked for after it in the same round.
        for output in &outputs {
            self.order.note(output);
        }
        for output in outputs {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Persist { ticket, batch, point } => {
                self.outlets.storage.persist(Round { ticket, batch, point });
            }
            Output::WriteStamp { ticket, stamp } => self.outlets.storage.write_stamp(ticket, stamp),
            Output::WriteState { ticket, batch, flush, open_view } => {
                self.outlets.state.give(StateWork::Write { ticket, batch, flush, open_view });
            }
            Output::Quarantine { ticket, reason, groups, diverged, stamp } => {
                self.outlets.storage.keep(KeepOrder { ticket, reason, groups, diverged, stamp });
            }
            Output::Load { ticket, group, from, to, max_bytes } => {
                self.outlets.storage.load(ticket, group, from, to, max_bytes);
            }
            Output::Scan { ticket, family, from, to, max_bytes, view } => {
                self.outlets.state.give(StateWork::Scan { ticket, family, from, to, max_bytes, view });
            }
            Output::CloseView { view } => self.outlets.state.give(StateWork::CloseView(view)),
            Output::Compact { group, index } => self.outlets.storage.compact(group, index),
            Output::Dial { address } => self.outlets.peers.dial(&address),
            Output::Send { to, message, after } => {
                if let Some(message) = self.order.hold(after, to, message) {
                    self.send(to, message);
                    self.sent = true;
                }
            }
            Output::Write { session, channel, frame } => {
                if let Some(outlet) = self.sessions.get(&session) {
                    outlet.write(channel, frame);
                    self.wrote = true;
                }
            }
            Output::Release { session, cost } => {
                if let Some(outlet) = self.sessions.get(&session) {
                    outlet.release(cost);
                }
            }
            Output::Close { session } => {
                if let Some(outlet) = self.sessions.get(&session) {
                    outlet.close();
                }
            }
            Output::AdminReply { id, reply } => self.outlets.desk.answer(id, reply),
            Output::Event(event) => {
                logging::event(&event);
                self.outlets.events.record(&event);
            }
            Output::Exit { status, reason } => self.exit = Some(Exit { status, reason, then: Then::End }),
            Output::LookAtStamp { ticket } => self.outlets.storage.look_at_stamp(ticket),
            Output::Panic { ticket, record } => {
                self.order.drop_all();
                self.outlets.state.fence();
                self.outlets.storage.panic(ticket, record);
            }
            Output::ClearPanic { ticket } => self.outlets.storage.clear_panic(ticket),
            Output::Restart { reason } => self.exit = Some(Exit::begin_again(reason)),
            Output::BeginAnew { reason } => self.exit = Some(Exit::begin_anew(reason)),
        }
    }

    fn send(&self, to: PeerKey, message: quorate_core::peer::PeerMessage) {
        let Some((_, outlet)) = self.links.get(&to) else { return };
        if outlet.send(message).is_err() {
            self.outlets.counters.peer_overflows.add(1);
            tracing::warn!(
                "peer {to} does not keep up: its link is dropped, what it missed comes from the log"
            );
        }
    }
}
