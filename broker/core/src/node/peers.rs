//! Which brokers are there: links, what their peers said of themselves, and which store has which Raft id.

use std::collections::{BTreeMap, BTreeSet};

use quorate_store::ids::{RaftId, StoreId};

use crate::formation::InitialStatus;
use crate::io::{PeerIdentity, PeerKey};

/// One broker that was linked in this run.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) identity: PeerIdentity,
    /// Messages can be sent to it.
    pub(crate) linked: bool,
    /// The latest status of the linked run.
    pub(crate) status: Option<InitialStatus>,
}

/// All peers.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    by_store: BTreeMap<StoreId, Peer>,
    routes: BTreeMap<RaftId, StoreId>,
    /// Which store answered under a dialed address.
    resolved: BTreeMap<String, StoreId>,
    dialed: BTreeSet<String>,
    /// Runs of a store of which another run is linked: a copy, or a restart whose end was not noticed yet. They count
    /// for nothing until the linked run is gone.
    rivals: BTreeMap<StoreId, Peer>,
}

/// What a new link means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linked {
    /// Contact was gained.
    Gained,
    /// There was contact before.
    Known,
    /// Another run of the same store is linked; this one has to wait until that one is gone.
    Rival,
}

impl Peers {
    /// Notes an address to dial; true if it is new.
    pub(crate) fn dial(&mut self, address: &str) -> bool {
        !address.is_empty() && self.dialed.insert(address.to_owned())
    }

    pub(crate) fn resolve(&mut self, address: &str, store: StoreId) {
        if !address.is_empty() {
            self.resolved.insert(address.to_owned(), store);
        }
    }

    pub(crate) fn resolved(&self, address: &str) -> Option<StoreId> {
        self.resolved.get(address).copied()
    }

    /// A link opened.
    pub(crate) fn linked(&mut self, identity: PeerIdentity) -> Linked {
        match self.by_store.get_mut(&identity.key.store) {
            Some(peer) if peer.linked && peer.identity.key == identity.key => {
                peer.identity = identity;
                Linked::Known
            }
            Some(peer) if peer.linked => {
                let store = identity.key.store;
                self.rivals.insert(store, Peer { identity, linked: true, status: None });
                Linked::Rival
            }
            Some(peer) => {
                if peer.identity.key != identity.key {
                    peer.status = None;
                }
                peer.identity = identity;
                peer.linked = true;
                Linked::Gained
            }
            None => {
                let store = identity.key.store;
                self.by_store.insert(store, Peer { identity, linked: true, status: None });
                Linked::Gained
            }
        }
    }

    /// The run that waited for the linked one to go, with the status it sent meanwhile.
    pub(crate) fn take_rival(&mut self, store: StoreId) -> Option<(PeerIdentity, Option<InitialStatus>)> {
        self.rivals.remove(&store).map(|rival| (rival.identity, rival.status))
    }

    /// Whether this very run is the one that counts for its store, or none is known yet.
    pub(crate) fn counts(&self, key: PeerKey) -> bool {
        self.by_store.get(&key.store).is_none_or(|peer| !peer.linked || peer.identity.key == key)
    }

    /// A link closed; the peer as it was, if it was linked.
    pub(crate) fn unlinked(&mut self, key: PeerKey) -> Option<PeerIdentity> {
        if self.rivals.get(&key.store).is_some_and(|rival| rival.identity.key == key) {
            self.rivals.remove(&key.store);
        }
        let peer = self.by_store.get_mut(&key.store)?;
        if peer.identity.key != key || !peer.linked {
            return None;
        }
        peer.linked = false;
        peer.status = None;
        Some(peer.identity.clone())
    }

    pub(crate) fn set_status(&mut self, from: PeerKey, status: InitialStatus) -> bool {
        if let Some(rival) = self.rivals.get_mut(&from.store)
            && rival.identity.key == from
            && status.key == from
        {
            rival.status = Some(status);
            return false;
        }
        match self.by_store.get_mut(&from.store) {
            Some(peer) if peer.identity.key == from && status.key == from => {
                if peer.status.as_ref() == Some(&status) {
                    return false;
                }
                peer.status = Some(status);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn get(&self, store: StoreId) -> Option<&Peer> {
        self.by_store.get(&store)
    }

    /// The run to send to, if it is linked.
    pub(crate) fn key(&self, store: StoreId) -> Option<PeerKey> {
        self.by_store.get(&store).filter(|peer| peer.linked).map(|peer| peer.identity.key)
    }

    pub(crate) fn is_linked(&self, store: StoreId) -> bool {
        self.key(store).is_some()
    }

    pub(crate) fn all_linked(&self) -> impl Iterator<Item = &Peer> {
        self.by_store.values().filter(|peer| peer.linked)
    }

    /// The latest statuses of linked peers.
    pub(crate) fn statuses(&self) -> impl Iterator<Item = &InitialStatus> {
        self.all_linked().filter_map(|peer| peer.status.as_ref())
    }

    pub(crate) fn route(&mut self, raft_id: RaftId, store: StoreId) {
        self.routes.insert(raft_id, store);
    }

    pub(crate) fn store_of(&self, raft_id: RaftId) -> Option<StoreId> {
        self.routes.get(&raft_id).copied()
    }
}
