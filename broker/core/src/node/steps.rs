//! Steps of membership that operators want: leaving, being replaced, being drained.
//!
//! ```text
//!  operator ──> leader of `system` ── Leave{store} ──> log of `system`: from here on every leader drives it
//!      each virtual host's leader, itself not the one that leaves (it hands over first):
//!        a majority of those who stay has synced all that was committed  ──> removal in the group's log
//!        a majority of those who stay has synced that it is committed    ──> Departed to the leader of `system`
//!      all virtual hosts departed ──> removal in `system`, in the same way ──> Remove{store}: retired for ever
//! ```
//!
//! Nothing here is kept by a process: whoever leads next sees the intent in `system` and the configurations in the
//! groups, and goes on. A group never takes back whom it removed, even under a leader that does not know why yet.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_store::ids::{GroupId, Index, RaftId, StoreId};

use super::Node;
use super::group::Group;
use super::origin::Origin;
use super::standing::CLOSE_BEHIND;
use crate::io::{Output, PeerKey, Tick};
use crate::machine::Command;
use crate::peer::PeerMessage;
use crate::replica::Candidacy;
use crate::replica::wire::MembershipChange;

/// Between two proposals of the last step, in milliseconds.
const RETIRE_MILLIS: u64 = 1000;

/// What `system` says about members, as this broker knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roster {
    pub(crate) members: Vec<(StoreId, RaftId)>,
    pub(crate) may_vote: BTreeSet<StoreId>,
    pub(crate) leaving: Option<(StoreId, RaftId)>,
    /// Members that are not to lead.
    pub(crate) drained: BTreeSet<RaftId>,
    /// Voters of `system`.
    pub(crate) system_voters: BTreeSet<u64>,
    /// Groups of virtual hosts.
    pub(crate) vhosts: Vec<GroupId>,
}

impl Roster {
    /// Somebody is to leave, or not to lead: every group has a part in that.
    pub(crate) fn is_changing(&self) -> bool {
        self.leaving.is_some() || !self.drained.is_empty()
    }
}

/// Leader only: how far its group has come with a member that leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parting {
    id: RaftId,
    /// Those who stay must have synced everything up to here before it goes.
    before: Index,
    /// And up to here once it has gone.
    after: Option<Index>,
}

/// What the leader of `system` has heard.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    pub(crate) roster: Roster,
    /// Groups that are done with a member. True for ever once it is: raft ids do not come back.
    departed: BTreeSet<(GroupId, StoreId)>,
    next_retire: Tick,
}

impl Node {
    /// Reads `system` again.
    pub(super) fn read_roster(&mut self) {
        let Some(group) = self.groups.get(GroupId::SYSTEM) else { return };
        let Some(system) = group.machine.system() else { return };
        let number = |store: StoreId| system.member(store).map(|member| member.raft_id);
        let intents = system.intents();
        let roster = Roster {
            members: system.members().map(|member| (member.store, member.raft_id)).collect(),
            may_vote: system
                .members()
                .map(|member| member.store)
                .filter(|store| system.may_vote(*store))
                .collect(),
            leaving: intents.leaving.and_then(|leaving| Some((leaving.store, number(leaving.store)?))),
            drained: intents.drained.iter().filter_map(|store| number(*store)).collect(),
            system_voters: group.configuration.voters.clone(),
            vhosts: system.vhosts().map(|(_, group)| group).collect(),
        };
        if roster != self.steps.roster {
            self.steps.roster = roster;
            self.review_all = true;
        }
        let leaving = self.steps.roster.leaving.map(|(store, _)| store);
        self.steps.departed.retain(|(_, store)| Some(*store) == leaving);
    }

    /// Whether this broker is not to lead while another one can.
    pub(super) fn is_drained(&self) -> bool {
        self.raft_id.is_some_and(|own| self.steps.roster.drained.contains(&own))
    }

    /// The linked voter that leadership is best handed to: not one that leaves; one that is drained or must not lead only
    /// for want of another; of those that lack next to nothing the preferred one, else the one whose log is longest.
    pub(super) fn best_successor(&self, group: &Group) -> Option<RaftId> {
        let replica = group.replica.as_ref()?;
        let roster = &self.steps.roster;
        let close = replica.last().0.saturating_sub(CLOSE_BEHIND);
        group
            .configuration
            .voters
            .iter()
            .map(|id| RaftId(*id))
            .filter(|id| *id != replica.id() && roster.leaving.is_none_or(|(_, leaving)| leaving != *id))
            .filter(|id| self.peers.store_of(*id).is_some_and(|store| self.peers.takes_part(store)))
            .filter(|id| !self.refills(group, *id))
            .max_by_key(|id| {
                let matched = replica.matched(*id).map_or(0, |matched| matched.0);
                (self.could_lead(group, *id), matched.min(close), self.weight(group, *id))
            })
    }

    /// A leader that leaves, is drained or must not lead hands over; true if it does.
    pub(super) fn yield_leadership(&self, group: &mut Group) -> bool {
        let Some(own) = self.raft_id else { return false };
        let leaves = self.steps.roster.leaving.is_some_and(|(_, leaving)| leaving == own);
        if !leaves && self.could_lead(group, own) {
            return self.give_precedence(group);
        }
        let successor = self.best_successor(group).filter(|to| leaves || self.could_lead(group, *to));
        match (successor, &mut group.replica) {
            (Some(to), Some(replica)) => {
                replica.transfer(to);
                true
            }
            // What only it has cannot be handed on now, and it must not lead: nobody does.
            (None, Some(replica)) if replica.standing().candidacy == Candidacy::Never => {
                replica.step_down();
                true
            }
            _ => false,
        }
    }

    /// Whether a majority of the group's voters without this one has synced everything up to here.
    fn staying_have(&self, group: &Group, leaving: RaftId, mark: Index) -> bool {
        let Some(replica) = &group.replica else { return false };
        let staying = group.configuration.voters.iter().map(|id| RaftId(*id)).filter(|id| *id != leaving);
        let has: Vec<bool> = staying
            .map(|id| !self.refills(group, id) && replica.matched(id).is_some_and(|matched| matched >= mark))
            .collect();
        has.iter().filter(|has| **has).count() > has.len() / 2
    }

    /// Takes the next step with the member that leaves; true if something was proposed.
    pub(super) fn part(&mut self, group: &mut Group, (store, id): (StoreId, RaftId)) -> bool {
        let Some(replica) = &mut group.replica else { return false };
        let parting = group.parting.filter(|parting| parting.id == id).unwrap_or_else(|| Parting {
            id,
            before: replica.commit(),
            after: None,
        });
        group.parting = Some(parting);
        if !group.configuration.gone.contains(&id.0) {
            let is_last = group.id == GroupId::SYSTEM;
            let departed = |vhost: &GroupId| self.steps.departed.contains(&(*vhost, store));
            if id == replica.id() || (is_last && !self.steps.roster.vhosts.iter().all(departed)) {
                return false;
            }
            let votes = group.configuration.voters.contains(&id.0);
            let ready = !votes || self.staying_have(group, id, parting.before);
            let replica = group.replica.as_mut().filter(|_| ready);
            return replica.is_some_and(|replica| replica.propose_membership(MembershipChange::Retire(id.0)));
        }
        // Whoever has synced an entry that was proposed after the removal was applied has synced, with it, that the removal
        // is committed: it comes back with those who stay as its voters, and needs nobody who was removed.
        let Some(after) = parting.after.or_else(|| replica.propose(vec![Bytes::new()]).ok()) else {
            return false;
        };
        group.parting = Some(Parting { after: Some(after), ..parting });
        if self.staying_have(group, id, after) {
            self.group_departed(group, store);
        }
        false
    }

    /// The group is done with this member.
    fn group_departed(&mut self, group: &mut Group, store: StoreId) {
        if group.id == GroupId::SYSTEM {
            if self.now >= self.steps.next_retire {
                self.steps.next_retire = self.now.plus(RETIRE_MILLIS);
                group.propose(Command::RemoveMember { store }, Origin::Internal);
            }
            return;
        }
        let leader = self.groups.get(GroupId::SYSTEM).and_then(|system| self.active_leader(system));
        match leader.map(|active| active.leader) {
            Some(leader) if leader == self.own.store => {
                self.steps.departed.insert((group.id, store));
            }
            Some(leader) => {
                if let Some(to) = self.peers.key(leader) {
                    let message = PeerMessage::Departed { group: group.id, store };
                    self.emit(Output::Send { to, message, after: None });
                }
            }
            None => {}
        }
    }

    /// Another leader says that its group is done with a member.
    pub(super) fn departed_told(&mut self, group: GroupId, store: StoreId) {
        let roster = &self.steps.roster;
        if roster.leaving.is_some_and(|(leaving, _)| leaving == store) && roster.vhosts.contains(&group) {
            self.steps.departed.insert((group, store));
        }
    }

    /// An operator had this broker's damaged store replaced: it is set aside, and the broker begins with an empty one.
    pub(super) fn replaced_told(&mut self, from: PeerKey) {
        let status = self.peers.get(from.store).and_then(|peer| peer.status.as_ref());
        let by_member = status.is_some_and(|status| {
            status.cluster_name == self.config.cluster_name && status.is_active(GroupId::SYSTEM)
        });
        if by_member && self.damage.is_some() && self.stop.is_none() {
            let reason = format!(
                "store {} is damaged, and an operator had it replaced by an empty one under the name {}",
                self.own.store, self.config.name
            );
            self.begin_anew(reason);
        }
    }

    /// The cluster's operator did not permit this broker to join.
    pub(super) fn not_permitted_told(&mut self, from: PeerKey) {
        let status = self.peers.get(from.store).and_then(|peer| peer.status.as_ref());
        let by_member = status.is_some_and(|status| {
            status.cluster_name == self.config.cluster_name && status.is_active(GroupId::SYSTEM)
        });
        if by_member && self.cluster_id.is_none() && self.groups.is_empty() && self.stop.is_none() {
            let reason = format!(
                "the active cluster {} permits certain nodes only, and neither the name {} nor store {} nor address {} is one of \
                 them; next: quorate member permit there, with every member and --node {}, or another --cluster-peers here",
                self.config.cluster_name,
                self.config.name,
                self.own.store,
                self.config.cluster_address,
                self.config.name
            );
            self.exit(3, reason);
        }
    }

    /// The cluster has retired this store.
    pub(super) fn retired_told(&mut self, from: PeerKey) {
        let status = self.peers.get(from.store).and_then(|peer| peer.status.as_ref());
        let by_member = status.is_some_and(|status| {
            status.cluster_id.is_some()
                && status.cluster_id == self.cluster_id
                && status.is_active(GroupId::SYSTEM)
        });
        if by_member && self.stop.is_none() {
            let reason = format!(
                "store {} was removed from the cluster by its operator and is never taken back; it is left as it is; \
                 to use this host again: start with an empty data directory, and quorate member add --name {}",
                self.own.store, self.config.name
            );
            self.exit(3, reason);
        }
    }
}
