//! The one door to the core: everything that happens anywhere arrives here, in order, and nowhere else.

use quorate_core::io::{Input, PeerIdentity, PeerKey, SessionId};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::clients::SessionOutlet;
use crate::peers::LinkOutlet;

/// What arrives at the core.
#[derive(Debug)]
pub enum Arrival {
    /// For the core as it is. The permit, if any, accounts for its memory until the core has taken it.
    Input(Input, Option<OwnedSemaphorePermit>),
    /// A client connected: its outlet, then the core's input.
    SessionOpened {
        /// The new session.
        session: SessionId,
        /// The client's address.
        address: String,
        /// Plain logins are acceptable from there.
        secure: bool,
        /// Where frames for it go.
        outlet: SessionOutlet,
    },
    /// Our connection to a peer is authenticated.
    Linked {
        /// Which connection.
        link: LinkId,
        /// Who answered.
        peer: PeerIdentity,
        /// The address that was dialed.
        dialed: String,
        /// Where messages for it go.
        outlet: LinkOutlet,
    },
    /// Our connection to a peer ended.
    LinkEnded {
        /// Which connection.
        link: LinkId,
        /// The peer.
        peer: PeerKey,
    },
    /// A peer's connection to us ended.
    InboundEnded {
        /// The peer.
        peer: PeerKey,
    },
}

/// The place behind the door.
pub type Arrivals = mpsc::UnboundedReceiver<Arrival>;

/// Names one connection that we dialed, for the life of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkId(pub u64);

/// Gives arrivals to the core, from any thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inbox(mpsc::UnboundedSender<Arrival>);

impl Inbox {
    /// A door and the place behind it.
    pub fn new() -> (Self, Arrivals) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Gives something to the core. Once that has ended the process is ending, and nothing is missed.
    pub fn arrive(&self, arrival: Arrival) {
        let _ = self.0.send(arrival);
    }

    /// Gives the core an input that is small or already accounted for.
    pub fn input(&self, input: Input) {
        self.arrive(Arrival::Input(input, None));
    }
}
