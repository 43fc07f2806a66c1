//! Links between brokers. Every broker dials every peer; what it dialed carries only its own messages.
//!
//! ```text
//!   core -> LinkOutlet -> dial (handshake, heartbeats, queue) ======> accept (handshake, decode) -> inbox -> core
//! ```
//!
//! A link is an ordered stream: when a connection ends, what was queued for it is dropped whole, and the core is told.

mod accept;
mod dial;
mod framing;
mod outlet;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_core::io::{PeerIdentity, PeerKey};
use quorate_protocol::peer_hello::{Nonce, PeerConfig, PeerHello};
use quorate_store::ids::{RunId, StoreId};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

pub use outlet::LinkOutlet;

use self::accept::Inbound;
use crate::counters::Counters;
use crate::inbox::{Inbox, LinkId};
use crate::rarely::Rarely;

/// From the connection to the end of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections whose handshake is not done yet.
const HANDSHAKES_MAX: usize = 64;
/// Bytes of one peer's messages that the core has not taken yet. One larger message takes the whole share.
const INBOUND_BYTES: usize = 64 << 20;

/// How often and how long.
#[derive(Clone, Copy, Debug)]
pub struct LinkTiming {
    /// An idle link says so at this interval.
    pub heartbeat: Duration,
    /// A link that was silent for so long is gone.
    pub read_timeout: Duration,
}

impl LinkTiming {
    /// From the broker's settings: a link is given up after one and a half election timeouts of silence. For groups that
    /// sleep it is the only sign that a broker hangs, and who leads them next is to be decided within two.
    pub fn new(heartbeat: Duration, election_timeout: Duration) -> Self {
        Self { heartbeat, read_timeout: election_timeout * 3 / 2 }
    }
}

/// All links of this broker. Cheap to clone.
#[derive(Clone)]
pub struct Peers(Arc<Shared>);

struct Shared {
    config: PeerConfig,
    timing: LinkTiming,
    inbox: Inbox,
    counters: Arc<Counters>,
    runtime: Handle,
    /// Addresses that are dialed already.
    dialing: Mutex<HashSet<String>>,
    /// Peers that we have a link to.
    linked: Mutex<HashMap<PeerKey, LinkId>>,
    /// Peers that have a connection to us.
    inbound: Mutex<HashMap<PeerKey, Inbound>>,
    handshakes: Arc<Semaphore>,
    next: AtomicU64,
    complaints: Rarely,
}

impl Peers {
    /// Links for a broker that says `config` of itself. `runtime` runs the tasks.
    pub fn new(
        config: PeerConfig,
        timing: LinkTiming,
        inbox: Inbox,
        counters: Arc<Counters>,
        runtime: Handle,
    ) -> Self {
        Self(Arc::new(Shared {
            config,
            timing,
            inbox,
            counters,
            runtime,
            dialing: Mutex::default(),
            linked: Mutex::default(),
            inbound: Mutex::default(),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            next: AtomicU64::new(1),
            complaints: Rarely::default(),
        }))
    }

    /// Dials this address until the process ends. Nothing happens if that is under way already.
    pub fn dial(&self, address: &str) {
        self.0.dial(address);
    }
}

impl Shared {
    fn dial(self: &Arc<Self>, address: &str) {
        if lock(&self.dialing).insert(address.to_owned()) {
            self.runtime.spawn(Arc::clone(self).dial_for_ever(address.to_owned()));
        }
    }

    fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes the place of the one link to this peer, unless there is one.
    fn claim(&self, peer: PeerKey) -> Option<LinkId> {
        let mut linked = lock(&self.linked);
        if linked.contains_key(&peer) {
            return None;
        }
        let link = LinkId(self.next());
        linked.insert(peer, link);
        self.counters.peer_links.add(1);
        Some(link)
    }

    fn unclaim(&self, peer: PeerKey) {
        if lock(&self.linked).remove(&peer).is_some() {
            self.counters.peer_links.subtract(1);
        }
    }

    fn is_linked(&self, peer: PeerKey) -> bool {
        lock(&self.linked).contains_key(&peer)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nonce() -> Nonce {
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce).expect("the system gives random bytes");
    nonce
}

fn identity(hello: &PeerHello) -> PeerIdentity {
    PeerIdentity {
        key: PeerKey { store: StoreId(hello.store_id), run: RunId(hello.run_id) },
        name: hello.name.to_string(),
        cluster_address: hello.cluster_address.to_string(),
        client_address: hello.client_address.to_string(),
        admin_address: hello.admin_address.to_string(),
        transient: hello.transient,
    }
}

#[cfg(test)]
mod tests;
