//! The one door to the core thread: everything that happens anywhere arrives here, in order, and nowhere else.

use std::sync::mpsc;

use quorate_core::io::{Input, PeerIdentity, PeerKey, SessionId};
use tokio::sync::OwnedSemaphorePermit;

use crate::clients::SessionOutlet;
use crate::peers::LinkOutlet;

/// What arrives at the core thread.
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

/// Names one connection that we dialed, for the life of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkId(pub u64);

/// Gives arrivals to the core thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inbox(mpsc::Sender<Arrival>);

impl Inbox {
    /// A door and the place behind it.
    pub fn new() -> (Self, mpsc::Receiver<Arrival>) {
        let (sender, receiver) = mpsc::channel();
        (Self(sender), receiver)
    }

    /// Gives something to the core thread. Once that has ended the process is ending, and nothing is missed.
    pub fn arrive(&self, arrival: Arrival) {
        let _ = self.0.send(arrival);
    }

    /// Gives the core an input that is small or already accounted for.
    pub fn input(&self, input: Input) {
        self.arrive(Arrival::Input(input, None));
    }
}
