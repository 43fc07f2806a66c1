//! Links between brokers and connections of clients: ordered streams with delays, that end as TCP connections end.
//!
//! A cut does not lose a message out of the middle of a stream: it holds everything back. If it ends in time, what was
//! held back arrives; if not, the ends notice silence, each for itself, and what was on the way is lost whole.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_core::io::{PeerKey, SessionId};
use quorate_protocol::codec::{BrokerDecoder, ClientDecoder};

use super::dice::Dice;
use super::schedule::{ClientId, ConnectionId, HostId, LinkId, MILLI, Micros, SECOND};

/// A stream from the broker that dialed to the one that answered.
#[derive(Debug)]
pub struct Link {
    /// Who dialed: host, life, process.
    pub from: (HostId, u64, PeerKey),
    /// Who answered.
    pub to: (HostId, u64, PeerKey),
    /// What is on the way: when it arrives, and an encoded message; an empty one says only that the link is used.
    pub queue: VecDeque<(Micros, Bytes)>,
    /// The dialer has it open.
    pub open_from: bool,
    /// The answerer has it open.
    pub open_to: bool,
    /// The answerer knows of it.
    pub accepted: bool,
    /// The dialer ended without a word.
    pub from_lost: bool,
    /// The answerer ended without a word.
    pub to_lost: bool,
    /// Nothing comes through to the answerer since then.
    pub silent_since: Option<Micros>,
    /// Nothing is acknowledged to the dialer since then.
    pub unacknowledged_since: Option<Micros>,
}

/// A client's connection to a broker.
#[derive(Debug)]
pub struct Connection {
    /// Whose.
    pub client: ClientId,
    /// To which host, in which life.
    pub host: HostId,
    /// In which life of the host.
    pub life: u64,
    /// The broker's name for it.
    pub session: SessionId,
    /// On the way to the broker.
    pub up: VecDeque<(Micros, Bytes)>,
    /// On the way to the client.
    pub down: VecDeque<(Micros, Bytes)>,
    /// The client has it open.
    pub open_client: bool,
    /// The broker has it open.
    pub open_host: bool,
    /// What the broker reads with.
    pub broker_decoder: BrokerDecoder,
    /// What the client reads with.
    pub client_decoder: ClientDecoder,
}

/// All links, connections and cuts.
#[derive(Debug)]
pub struct Network {
    /// By number.
    pub links: BTreeMap<LinkId, Link>,
    /// By number.
    pub connections: BTreeMap<ConnectionId, Connection>,
    cuts: BTreeMap<(HostId, HostId), u32>,
    /// What goes this way takes so much longer.
    slow: BTreeMap<(HostId, HostId), Micros>,
    next: u64,
    dice: Dice,
    /// A link that was silent for so long is gone.
    pub read_timeout: Micros,
}

/// Sent bytes that nobody acknowledges end a link after so long at least.
pub const UNACKNOWLEDGED_MIN: Micros = 5 * SECOND;

impl Network {
    /// A quiet network.
    pub fn new(seed: u64, read_timeout: Micros) -> Self {
        Self {
            links: BTreeMap::new(),
            connections: BTreeMap::new(),
            cuts: BTreeMap::new(),
            slow: BTreeMap::new(),
            next: 1,
            dice: Dice::new(seed, "network"),
            read_timeout,
        }
    }

    /// A number for a link or a connection.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// How long something takes on its way.
    pub fn delay(&mut self) -> Micros {
        match self.dice.below(100) {
            0 => self.dice.between(MILLI, 20 * MILLI),
            1..=9 => self.dice.between(400, 3 * MILLI),
            _ => self.dice.between(60, 400),
        }
    }

    /// How much of what is on its way still arrives when a process ends.
    pub fn prefix(&mut self, length: usize) -> usize {
        self.dice.index(length + 1)
    }

    /// Nothing gets from one host to the other.
    pub fn is_cut(&self, from: HostId, to: HostId) -> bool {
        self.cuts.contains_key(&(from, to))
    }

    /// Cuts a direction; cuts add up.
    pub fn cut(&mut self, from: HostId, to: HostId) {
        *self.cuts.entry((from, to)).or_default() += 1;
    }

    /// Takes one cut away.
    pub fn heal(&mut self, from: HostId, to: HostId) {
        if let Some(count) = self.cuts.get_mut(&(from, to)) {
            *count -= 1;
            if *count == 0 {
                self.cuts.remove(&(from, to));
            }
        }
    }

    /// Takes every cut and every delay away.
    pub fn heal_all(&mut self) {
        self.cuts.clear();
        self.slow.clear();
    }

    /// What goes this way takes so much longer from now on.
    pub fn slow(&mut self, from: HostId, to: HostId, delay: Micros) {
        self.slow.insert((from, to), delay);
    }

    /// It takes as long as usual again.
    pub fn fast(&mut self, from: HostId, to: HostId) {
        self.slow.remove(&(from, to));
    }

    /// Puts a message on a link; when it arrives.
    pub fn send(&mut self, now: Micros, link: LinkId, message: Bytes) -> Option<Micros> {
        let delay = self.delay();
        let link = self.links.get_mut(&link)?;
        let delay = delay + self.slow.get(&(link.from.0, link.to.0)).copied().unwrap_or(0);
        let arrival = link.queue.back().map_or(0, |(last, _)| *last).max(now + delay);
        link.queue.push_back((arrival, message));
        Some(arrival)
    }

    /// The next message of a link that has arrived by now.
    pub fn arrive(&mut self, now: Micros, id: LinkId) -> Option<Bytes> {
        let link = self.links.get(&id)?;
        if self.is_cut(link.from.0, link.to.0) || !link.open_to {
            return None;
        }
        let link = self.links.get_mut(&id)?;
        if link.queue.front().is_none_or(|(arrival, _)| *arrival > now) {
            return None;
        }
        link.queue.pop_front().map(|(_, message)| message)
    }
}
