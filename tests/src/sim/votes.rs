//! Votes, looked at when they leave: each is durable by then, and of a store that holds what it acknowledged.

use quorate_core::peer::PeerMessage;
use quorate_store::ids::{GroupId, Term};

use super::schedule::HostId;
use super::world::World;

impl World {
    /// Asks the ledger of what is synced, and the stamp, not the node.
    pub(super) fn watch_vote(&mut self, host: HostId, message: &PeerMessage) {
        let PeerMessage::Raft { group, message, .. } = message else { return };
        if !message.is_vote() || self.holds_wrong_store(host) {
            return;
        }
        let result = self.ledger.voted(host, *group, Term(message.term), message.to);
        self.checker.check(result);
        if self.is_refilled(host, *group) {
            let (term, to) = (message.term, message.to);
            self.checker.violation(format!(
                "host {host} gave {to} its vote in term {term} of group {group}, in which it is being filled again"
            ));
        }
    }

    /// Whether the stamp says so, that on the medium and each that is to be written.
    fn is_refilled(&self, host: HostId, group: GroupId) -> bool {
        let host = &self.hosts[host];
        let Some(process) = &host.process else { return false };
        let storage = &process.storage;
        let queued = storage.stamp_queue.iter().map(|(_, stamp)| stamp);
        let mut waiting = queued.chain(storage.stamp_flight.iter().map(|(_, stamp)| stamp));
        waiting.all(|stamp| stamp.refilling.contains(&group))
            && host.medium.stamp().is_some_and(|stamp| stamp.refilling.contains(&group))
    }
}
