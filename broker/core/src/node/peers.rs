//! Which brokers are there: links, what their peers said of themselves, and which store has which Raft id.

use std::collections::{BTreeMap, BTreeSet};

use quorate_store::ids::{GroupId, Index, RaftId, StoreId};

use crate::formation::InitialStatus;
use crate::formation::company::recorded_name;
use crate::formation::limits::MEMBERS;
use crate::io::{PeerIdentity, PeerKey};
use crate::machine::{Agreement, SafetyNumbers};

/// Addresses whose refusal is remembered, and how much of the reason.
const REFUSALS: usize = 16;
const REFUSAL_CHARS: usize = 300;

/// A peer's words may be of any length and hold anything.
fn bounded(why: &str) -> String {
    let mut text: String =
        why.chars().take(REFUSAL_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if why.chars().nth(REFUSAL_CHARS).is_some() {
        text.push('…');
    }
    text
}

/// One broker that was linked in this run.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) identity: PeerIdentity,
    /// Messages can be sent to it.
    pub(crate) linked: bool,
    /// The latest status of the linked run.
    pub(crate) status: Option<InitialStatus>,
}

/// Whether nothing is different that anybody would decide otherwise by: a renewed safety number in the log of `system`,
/// while that is led, wakes nobody.
fn says_the_same(before: &InitialStatus, now: &InitialStatus) -> bool {
    if before == now {
        return true;
    }
    let renewed = |status: &InitialStatus| {
        let mut status = status.clone();
        status.safety = SafetyNumbers::default();
        for part in status.groups.iter_mut().filter(|part| part.group == GroupId::SYSTEM) {
            part.position.index = Index(0);
        }
        status
    };
    let agrees = !matches!(before.safety.compare(&now.safety), Agreement::Apart);
    agrees
        && before.is_active(GroupId::SYSTEM)
        && now.is_active(GroupId::SYSTEM)
        && renewed(before) == renewed(now)
}

/// All peers.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    by_store: BTreeMap<StoreId, Peer>,
    routes: BTreeMap<RaftId, StoreId>,
    /// Which store answered under a dialed address.
    resolved: BTreeMap<String, StoreId>,
    dialed: BTreeSet<String>,
    /// Configured addresses whose first attempt has not ended yet, or whose peer has not said what it is.
    untried: BTreeSet<String>,
    /// Why there is no link to an address, where the two brokers do not want each other.
    refusals: BTreeMap<String, String>,
    /// Runs of a store of which another run is linked: copies, or a restart whose end was not noticed yet. They count
    /// for nothing until the linked run is gone.
    rivals: BTreeMap<PeerKey, Peer>,
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

/// What the end of a link means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unlinked {
    /// Contact was lost with this one.
    Lost(PeerIdentity),
    /// A run that waited for the linked one to go is gone.
    Rival,
    /// There was no such link.
    Unknown,
}

/// Started over another member's store, as it says itself.
fn is_misnamed(peer: &Peer) -> bool {
    peer.status.as_ref().is_some_and(|status| recorded_name(status).is_some())
}

impl Peers {
    /// Notes an address to dial; true if it is new.
    pub(crate) fn dial(&mut self, address: &str) -> bool {
        !address.is_empty() && self.dialed.insert(address.to_owned())
    }

    /// Notes a configured address, which is to be tried before this broker goes on all by itself.
    pub(crate) fn expect(&mut self, address: &str) {
        self.untried.insert(address.to_owned());
    }

    /// The attempt at an address came to its end.
    pub(crate) fn tried(&mut self, address: &str) -> bool {
        self.untried.remove(address)
    }

    /// Whatever is known by the addresses that lead to this store, it is known now.
    fn tried_store(&mut self, store: StoreId) {
        let resolved = &self.resolved;
        self.untried.retain(|address| resolved.get(address) != Some(&store));
    }

    /// Every configured address was tried once, and whoever is linked, by whose dialing ever, said what it is.
    pub(crate) fn has_looked_around(&self) -> bool {
        self.untried.is_empty() && self.all_linked().all(|peer| peer.status.is_some())
    }

    /// The attempt at an address failed, for this reason if somebody gave one. True if that is news.
    pub(crate) fn failed(&mut self, address: &str, refused: Option<String>) -> bool {
        let tried = self.tried(address);
        let before = match refused {
            Some(why) if self.refusals.len() < REFUSALS || self.refusals.contains_key(address) => {
                self.refusals.insert(address.to_owned(), bounded(&why))
            }
            Some(_) | None => self.refusals.remove(address),
        };
        tried || before.as_ref() != self.refusals.get(address)
    }

    /// Whom this broker could not link to because one of the two does not want it, and why.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (&str, &str)> {
        self.refusals.iter().map(|(address, why)| (address.as_str(), why.as_str()))
    }

    pub(crate) fn resolve(&mut self, address: &str, store: StoreId) {
        if !address.is_empty() {
            self.resolved.insert(address.to_owned(), store);
            self.refusals.remove(address);
        }
    }

    /// An address that leads to this store, as far as known.
    pub(crate) fn address_of(&self, store: StoreId) -> Option<&str> {
        let mut found = self.resolved.iter().filter(|(_, at)| **at == store);
        found.next().map(|(address, _)| address.as_str())
    }

    /// Configured addresses that were not tried yet.
    pub(crate) fn untried(&self) -> impl Iterator<Item = &str> {
        self.untried.iter().map(String::as_str)
    }

    pub(crate) fn resolved(&self, address: &str) -> Option<StoreId> {
        self.resolved.get(address).copied()
    }

    /// A link opened.
    pub(crate) fn linked(&mut self, identity: PeerIdentity) -> Linked {
        match self.by_store.get_mut(&identity.key.store) {
            Some(peer) if peer.linked && peer.identity.key == identity.key => {
                let (store, told) = (identity.key.store, peer.status.is_some());
                peer.identity = identity;
                if told {
                    self.tried_store(store);
                }
                Linked::Known
            }
            Some(peer) if peer.linked => {
                if self.rivals.len() < MEMBERS || self.rivals.contains_key(&identity.key) {
                    self.rivals.insert(identity.key, Peer { identity, linked: true, status: None });
                }
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

    fn rivals_of(&self, store: StoreId) -> impl Iterator<Item = &Peer> {
        self.rivals.values().filter(move |rival| rival.identity.key.store == store)
    }

    /// A run that waited for the linked one to go, with the status it sent meanwhile: one that was not started over another
    /// member's store, if there is one.
    pub(crate) fn take_rival(&mut self, store: StoreId) -> Option<(PeerIdentity, Option<InitialStatus>)> {
        let first = self.rivals_of(store).min_by_key(|rival| is_misnamed(rival))?.identity.key;
        self.rivals.remove(&first).map(|rival| (rival.identity, rival.status))
    }

    /// The linked runs beside which others of the same store wait for them to go. Whoever says itself that it was started
    /// over another member's store is in nobody's way.
    pub(crate) fn rivalled(&self) -> Vec<PeerKey> {
        let rivals = self.rivals.values().filter(|rival| !is_misnamed(rival));
        let stores: BTreeSet<StoreId> = rivals.map(|rival| rival.identity.key.store).collect();
        stores.into_iter().filter_map(|store| self.key(store)).collect()
    }

    /// Everybody who can be told something: who is linked, and who waits beside them.
    pub(crate) fn all_reached(&self) -> impl Iterator<Item = PeerKey> {
        self.all_linked().map(|peer| peer.identity.key).chain(self.rivals.keys().copied())
    }

    /// The linked run of this store, if it was started as another member over it, and another run waits for it to go.
    pub(crate) fn misnamed_before_rival(&self, store: StoreId) -> Option<(PeerKey, PeerIdentity)> {
        let peer = self.by_store.get(&store).filter(|peer| peer.linked)?;
        let has_better = self.rivals_of(store).any(|rival| !is_misnamed(rival));
        (is_misnamed(peer) && has_better).then(|| (peer.identity.key, peer.identity.clone()))
    }

    /// Whether this very run is the one that counts for its store, or none is known yet.
    pub(crate) fn counts(&self, key: PeerKey) -> bool {
        self.by_store.get(&key.store).is_none_or(|peer| !peer.linked || peer.identity.key == key)
    }

    /// A link closed.
    pub(crate) fn unlinked(&mut self, key: PeerKey) -> Unlinked {
        if self.rivals.remove(&key).is_some() {
            return Unlinked::Rival;
        }
        let Some(peer) = self.by_store.get_mut(&key.store) else { return Unlinked::Unknown };
        if peer.identity.key != key || !peer.linked {
            return Unlinked::Unknown;
        }
        peer.linked = false;
        peer.status = None;
        let identity = peer.identity.clone();
        self.tried_store(key.store);
        Unlinked::Lost(identity)
    }

    pub(crate) fn set_status(&mut self, from: PeerKey, status: InitialStatus) -> bool {
        if let Some(rival) = self.rivals.get_mut(&from)
            && status.key == from
        {
            // Only now is it known whether it is in anybody's way.
            return rival.status.replace(status).is_none();
        }
        match self.by_store.get_mut(&from.store) {
            Some(peer) if peer.identity.key == from && status.key == from => {
                let is_news = peer.status.as_ref().is_none_or(|before| !says_the_same(before, &status));
                peer.status = Some(status);
                if is_news {
                    self.tried_store(from.store);
                }
                is_news
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

    /// It is linked, and takes part in something.
    pub(crate) fn takes_part(&self, store: StoreId) -> bool {
        let peer = self.by_store.get(&store).filter(|peer| peer.linked);
        peer.is_some_and(|peer| peer.status.as_ref().is_none_or(InitialStatus::takes_part))
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
