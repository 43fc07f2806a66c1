//! Whom a group prefers as its leader: see [`crate::replica`]'s part about it.
//!
//! The higher priority is preferred; of equals the higher store id, beginning with another one in each group, so that
//! leaders of different virtual hosts spread over the brokers.

use quorate_store::ids::{GroupId, RaftId, StoreId};

use super::Node;
use super::group::Group;
use crate::controls::PRIORITY_NEVER;
use crate::replica::{Candidacy, Replica, Standing};

/// A follower that lacks no more than this of its leader's log, in entries, can be handed to at once.
pub(super) const CLOSE_BEHIND: u64 = 64;

impl Node {
    /// Tells the group's node how it stands, as this broker sees the others now.
    pub(super) fn take_stand(&self, group: &mut Group) {
        let Some(own) = group.replica.as_ref().map(Replica::id) else { return };
        let standing = self.standing_of(group, own);
        if let Some(replica) = &mut group.replica {
            replica.set_standing(standing);
        }
    }

    fn standing_of(&self, group: &Group, own: RaftId) -> Standing {
        let weight = self.weight(group, own);
        // Whoever led last is the one that is missed.
        let last_leader = group.replica.as_ref().and_then(Replica::leader);
        let voters = || group.configuration.voters.iter().map(|id| RaftId(*id));
        let others = || voters().filter(|id| *id != own && self.could_lead(group, *id));
        let better = |id: &RaftId| Some(*id) != last_leader && self.weight(group, *id) > weight;
        let candidacy = if Self::never_leads(group, own) {
            if others().next().is_some() { Candidacy::StandIn } else { Candidacy::Never }
        } else if self.steps.roster.drained.contains(&own) {
            Candidacy::HeldBack
        } else if group.ended.is_some() && self.is_closing() {
            // Whoever led has closed its store, or died closing it. The others close too: a leader is for those only who do
            // not have the end yet, and makes the log longer than the one that was closed.
            Candidacy::StandIn
        } else {
            Candidacy::Free
        };
        Standing { candidacy, weight, rank: others().filter(better).count(), voters: voters().count() }
    }

    /// An operator said that this voter must not lead. The only one there is does, whatever was said before, and so does the
    /// one that a forced epoch goes on with, until that ends.
    pub(super) fn never_leads(group: &Group, id: RaftId) -> bool {
        group.controls.priority(id) == PRIORITY_NEVER
            && group.controls.in_force().is_none_or(|in_force| in_force.forced.sole != id)
            && group.configuration.voters.iter().any(|voter| *voter != id.0)
    }

    /// What this store acknowledged of the group it may lack, and so it is filled again: it has no say until that is done.
    pub(super) fn refills(&self, group: &Group, id: RaftId) -> bool {
        if self.raft_id == Some(id) {
            return self.refilling.contains(&group.id);
        }
        let peer = self.peers.store_of(id).and_then(|store| self.peers.get(store));
        let part = peer.and_then(|peer| peer.status.as_ref()).and_then(|status| status.group(group.id));
        part.is_some_and(|part| !part.trusted)
    }

    /// Here, not drained, not on its way out, and holding what it acknowledged.
    pub(super) fn is_available(&self, group: &Group, id: RaftId) -> bool {
        let roster = &self.steps.roster;
        !self.refills(group, id)
            && !roster.drained.contains(&id)
            && roster.leaving.is_none_or(|(_, leaving)| leaving != id)
            && (self.raft_id == Some(id) || self.linked_store(id).is_some())
    }

    /// Available, and permitted to lead.
    pub(super) fn could_lead(&self, group: &Group, id: RaftId) -> bool {
        self.is_available(group, id) && !Self::never_leads(group, id)
    }

    fn linked_store(&self, id: RaftId) -> Option<StoreId> {
        self.peers.store_of(id).filter(|store| self.peers.takes_part(*store))
    }

    /// Compares voters: priority first, then store ids in the group's turn.
    pub(super) fn weight(&self, group: &Group, id: RaftId) -> i64 {
        let store = |id: RaftId| {
            if self.raft_id == Some(id) { Some(self.own.store) } else { self.peers.store_of(id) }
        };
        let own = store(id);
        let voters = &group.configuration.voters;
        let above = voters.iter().filter(|other| (store(RaftId(**other)), **other) > (own, id.0)).count();
        let turn = turn_of(group.id, voters.len(), above);
        let turn = i64::try_from(turn).unwrap_or(i64::MAX >> 16);
        (i64::from(group.controls.priority(id)) << 32) - turn
    }

    /// This broker was elected: notes who was here then, is preferred, and did not leave it to this one.
    pub(super) fn note_rivals(&self, group: &mut Group) {
        let Some(replica) = &mut group.replica else { return };
        let (own, granted) = (replica.id(), replica.take_granted());
        let weight = self.weight(group, own);
        let voters = group.configuration.voters.iter().map(|id| RaftId(*id));
        let preferred = voters.filter(|id| {
            !granted.contains(id) && self.could_lead(group, *id) && self.weight(group, *id) > weight
        });
        group.rivals = preferred.collect();
        group.elected_at = self.now;
    }

    /// A leader that was elected though one that is preferred has the same log hands over to it; true if it does.
    pub(super) fn give_precedence(&self, group: &mut Group) -> bool {
        let Some(replica) = &group.replica else { return false };
        let own = replica.id();
        let recent = self.now.since(group.elected_at) < self.config.timing.election_millis();
        if group.rivals.is_empty() || !recent || replica.was_handed_over() {
            return false;
        }
        let rivals = group.rivals.iter().copied().filter(|id| *id != own && self.could_lead(group, *id));
        let preferred = rivals
            .filter(|id| replica.matched(*id).is_some_and(|matched| matched >= replica.commit()))
            .max_by_key(|id| self.weight(group, *id));
        match (preferred, &mut group.replica) {
            (Some(to), Some(replica)) => {
                replica.transfer(to);
                true
            }
            _ => false,
        }
    }
}

/// The place, 0 the best, of the voter that has `above` voters with higher store ids, in this group's turn. `system` and
/// the first virtual host begin with the highest.
fn turn_of(group: GroupId, voters: usize, above: usize) -> usize {
    if voters == 0 {
        return 0;
    }
    let first = usize::try_from(group.0.saturating_sub(1)).unwrap_or(0) % voters;
    (above + voters - first) % voters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_begins_with_another_voter_and_orders_all_of_them() {
        for (group, expected) in
            [(0, [0, 1, 2]), (1, [0, 1, 2]), (2, [2, 0, 1]), (3, [1, 2, 0]), (4, [0, 1, 2])]
        {
            let turns = [0, 1, 2].map(|above| turn_of(GroupId(group), 3, above));
            assert_eq!(turns, expected, "group {group}");
        }
        assert_eq!(turn_of(GroupId(7), 0, 0), 0);
    }
}
