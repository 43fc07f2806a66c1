//! Links and what comes over them: who is there, what they say, and who is told.

use std::collections::BTreeSet;

use quorate_store::ids::{GroupId, Index, RaftId, StoreId, Term};

use super::group::Group;
use super::peers::{Linked, Peers, Unlinked};
use super::{Node, Phase};
use crate::event::Event;
use crate::formation::InitialStatus;
use crate::io::{Output, PeerIdentity, PeerKey};
use crate::machine::Agreement;
use crate::peer::{LineageTag, PeerMessage};

/// A status that has not changed is told again after this, in milliseconds.
const TELL_STATUS_MILLIS: u64 = 2000;

impl Node {
    pub(super) fn peer_linked(&mut self, peer: PeerIdentity, dialed: &str) {
        self.facts_changed = true;
        self.peers.resolve(dialed, peer.key.store);
        self.peers.resolve(&peer.cluster_address, peer.key.store);
        let key = peer.key;
        let name = peer.name.clone();
        match self.peers.linked(peer) {
            Linked::Gained => {
                self.groups.touch_all();
                self.tell_life_now();
                self.event(Event::ContactGained { member: name, peer: key });
            }
            Linked::Known => {}
            Linked::Rival if self.settle_rivals(key.store) => return,
            Linked::Rival => {
                let why = "another process with it is linked already, and counts until it is gone; if this one is of a copy of \
                           the data directory, stop it";
                self.event(Event::StoreTwice { store: key.store, member: name, why: why.to_owned() });
            }
        }
        if !matches!(self.phase, Phase::Recovering(_)) {
            let status = self.own_status();
            self.emit(Output::Send { to: key, message: PeerMessage::Status(Box::new(status)), after: None });
        }
    }

    /// Whoever was started over another member's store gives way to that member: it never takes part, and must not keep the
    /// other one from it because it was here first. True if it was so, and both were told.
    fn settle_rivals(&mut self, store: StoreId) -> bool {
        let Some((key, identity)) = self.peers.misnamed_before_rival(store) else { return false };
        self.peer_unlinked(key);
        self.peer_linked(identity, "");
        true
    }

    pub(super) fn peer_unlinked(&mut self, key: PeerKey) {
        // What it acknowledged until now is remembered: it may come back with less.
        self.note_acknowledged();
        let identity = match self.peers.unlinked(key) {
            Unlinked::Lost(identity) => identity,
            // The run beside which it waited counts again.
            Unlinked::Rival => return self.facts_changed = true,
            Unlinked::Unknown => return,
        };
        self.facts_changed = true;
        self.event(Event::ContactLost { member: identity.name, peer: key });
        self.admissions.remove(&key.store);
        for id in self.group_ids() {
            self.with_group(id, |node, group| node.group_lost_contact(group, key));
        }
        if let Some((rival, status)) = self.peers.take_rival(key.store) {
            let key = rival.key;
            self.peer_linked(rival, "");
            if let Some(status) = status {
                self.take_status(key, status);
            }
        }
    }

    /// A closed connection is evidence that the process is gone: nobody waits for a timer.
    fn group_lost_contact(&mut self, group: &mut Group, key: PeerKey) {
        self.drop_transfers_with(group, key);
        self.take_stand(group);
        let jitter = self.roll() % 5;
        let Some(replica) = &mut group.replica else { return };
        // Also where the voters are not known yet.
        let led = replica.leader().and_then(|leader| self.peers.store_of(leader)) == Some(key.store);
        if led && group.configuration.voters.is_empty() {
            replica.forget_leader();
            return;
        }
        let Some(raft_id) = raft_id_of(&self.peers, key.store, &group.configuration.voters)
            .or_else(|| raft_id_of(&self.peers, key.store, &group.configuration.learners))
        else {
            return;
        };
        if replica.is_leader() {
            replica.report_unreachable(raft_id);
        } else if replica.leader() == Some(raft_id) {
            replica.forget_leader();
            let election_millis = self.config.timing.election_millis();
            if let Some(delay) = replica.standing().delay_millis(election_millis) {
                self.ask_for_votes(group, self.now.plus(delay + jitter));
            }
            group.campaign_until = self.now.plus(self.config.timing.election_millis());
        }
    }

    pub(super) fn peer_message(&mut self, from: PeerKey, message: PeerMessage) {
        // Whoever panicked hears what the others say of themselves, and has no part in anything else.
        if self.is_panicked() && !matches!(message, PeerMessage::Status(_)) {
            return;
        }
        // A copy of a store must never vote or acknowledge in the place of the process that the cluster knows.
        if !self.peers.counts(from) && !matches!(message, PeerMessage::Status(_)) {
            return;
        }
        match message {
            PeerMessage::Status(status) => self.take_status(from, *status),
            PeerMessage::Founding(message) => {
                // A founding of another cluster name is none of ours.
                let now = self.now;
                let mut dice = self.dice.clone();
                self.founding.message(now, from.store, *message, &mut || rand_core::Rng::next_u64(&mut dice));
                self.dice = dice;
                self.poll_founding();
            }
            PeerMessage::Admit(admission) => self.admitted(from, *admission),
            PeerMessage::Raft { group, lineage, message } => {
                if !matches!(self.phase, Phase::Running | Phase::Stopping) || self.frozen {
                    return;
                }
                self.peers.route(RaftId(message.from), from.store);
                let (mut lacks, mut differs) = (false, None);
                self.with_group(group, |node, group| {
                    if group.lineage.tag() != lineage {
                        return;
                    }
                    // What is about to be given up acknowledges nothing any more.
                    // While a snapshot is received, the old log must not move on under it.
                    if !message.entries.is_empty() {
                        node.entries_instead(group, from.store, Term(message.term));
                    }
                    if group.stale || (group.sink.is_some() && !message.entries.is_empty()) {
                        return;
                    }
                    if let Some(replica) = &mut group.replica {
                        lacks = replica.lacks_acknowledged(&message);
                        differs = replica.differs_committed(&message);
                        replica.step(*message);
                    }
                });
                // What is being filled again claims nothing, and the leader may not know that yet.
                if lacks && !self.transient && !self.refilling.contains(&group) {
                    self.tell_older("it lacks what it acknowledged to the leader of this term".to_owned());
                    self.distrust_store();
                }
                if let Some(index) = differs {
                    self.committed_otherwise(group, from, index);
                }
            }
            PeerMessage::Sleep { group, lineage, term, end } => {
                self.told_to_sleep(from, group, lineage, term, end);
            }
            PeerMessage::Life { incarnation } => self.life_told(from, incarnation),
            PeerMessage::LifeAnswer(answer) => self.life_answered(from, answer),
            PeerMessage::Closing { shutdown, step } => self.closing_told(from, shutdown, step),
            PeerMessage::Departed { group, store } => self.departed_told(group, store),
            PeerMessage::Retired => self.retired_told(from),
            PeerMessage::Replaced => self.replaced_told(from),
            PeerMessage::NotPermitted => self.not_permitted_told(from),
            _ if self.frozen => {}
            PeerMessage::SnapshotOffer { group, lineage, offer } => {
                self.snapshot_offered(from, group, lineage, offer);
            }
            PeerMessage::SnapshotPull { transfer, chunk } => self.snapshot_pulled(from, transfer, chunk),
            PeerMessage::SnapshotChunk { transfer, chunk, pairs, last } => {
                self.snapshot_chunk(from, transfer, chunk, pairs, last);
            }
            PeerMessage::SnapshotGone { transfer } => self.snapshot_gone(from, transfer),
            PeerMessage::SnapshotDone { transfer, installed } => {
                self.snapshot_done(from, transfer, installed);
            }
        }
    }

    /// The leader sleeps, and so may this broker's node.
    fn told_to_sleep(&mut self, from: PeerKey, group: GroupId, lineage: LineageTag, term: Term, end: Index) {
        if !matches!(self.phase, Phase::Running) || self.frozen {
            return;
        }
        self.with_group(group, |node, group| {
            if group.lineage.tag() != lineage || group.stale || group.sink.is_some() {
                return;
            }
            let Some(replica) = &mut group.replica else { return };
            if let Some(leader) = replica.leader().filter(|id| node.peers.store_of(*id) == Some(from.store)) {
                replica.may_sleep(leader, term, end);
            }
        });
    }

    fn take_status(&mut self, from: PeerKey, status: InitialStatus) {
        for peer in &status.peers {
            if let Some(store) = peer.resolved
                && self.peers.resolved(&peer.text).is_none()
            {
                self.peers.resolve(&peer.text, store);
            }
        }
        let took_part = self.peers.takes_part(from.store);
        // A renewed number is no news, but one of another history is.
        self.facts_changed |= self.safety_numbers().compare(&status.safety) == Agreement::Apart;
        self.facts_changed |= self.peers.set_status(from, status);
        if took_part && self.peers.key(from.store) == Some(from) && !self.peers.takes_part(from.store) {
            // It panicked, or its store is damaged: for the groups it is gone, though its link stays.
            for id in self.group_ids() {
                self.with_group(id, |node, group| node.group_lost_contact(group, from));
            }
        }
        self.heard_for_force(from.store);
        self.settle_rivals(from.store);
    }

    /// Tells every peer when the own status has changed. Called once a round.
    pub(super) fn tell_status(&mut self) {
        if matches!(self.phase, Phase::Recovering(_)) {
            // What it holds is not known yet: it would look as if it held nothing.
            self.tell = true;
            return;
        }
        let status = self.own_status();
        let encoded = status.encode();
        if self.told_status.as_ref() == Some(&encoded) && !self.is_status_due() {
            return;
        }
        self.told_status = Some(encoded);
        self.told_at = self.now;
        let keys: Vec<_> = self.peers.all_reached().collect();
        for to in keys {
            self.emit(Output::Send {
                to,
                message: PeerMessage::Status(Box::new(status.clone())),
                after: None,
            });
        }
    }

    /// Told again now and then, though nothing has changed: a peer whose old connection ended after the new one was made
    /// has forgotten what it was told by the new one, and nobody else knows that.
    pub(super) fn is_status_due(&self) -> bool {
        self.now.since(self.told_at) >= TELL_STATUS_MILLIS.min(self.config.safety_interval_millis)
    }

    /// Sends a Raft message to whoever has that Raft id, if it is linked.
    pub(super) fn send_raft(
        &mut self,
        group: &Group,
        to: RaftId,
        message: PeerMessage,
        after: Option<crate::io::After>,
    ) -> bool {
        let Some(key) = self.peers.store_of(to).and_then(|store| self.peers.key(store)) else { return false };
        debug_assert!(group.replica.is_some(), "only a node sends");
        self.emit(Output::Send { to: key, message, after });
        true
    }
}

/// The number under which this store takes part, among these.
fn raft_id_of(peers: &Peers, store: StoreId, ids: &BTreeSet<u64>) -> Option<RaftId> {
    ids.iter().copied().map(RaftId).find(|id| peers.store_of(*id) == Some(store))
}
