//! What this broker says about itself: to peers, before and while it is a member.

use quorate_store::ids::{Epoch, GroupId, Position, RaftId, Term};
use quorate_store::stamp::{EpochCause, StampState};

use super::Node;
use super::Phase;
use super::config::SYSTEM_NAME;
use super::configuration::Configuration;
use super::group::Group;
use super::lineage::Lineage;
use super::startup::{Beginning, forming_of};
use crate::formation::status::{Active, GroupStatus, PeerRef, RecordedRun, StoreState, VoterRef};
use crate::formation::{InitialStatus, founded_ms};
use crate::machine::{SystemMachine, VhostMachine};

/// Notes of groups in a forced epoch that are shown at most; `group status` shows all.
const FORCED_NOTES: usize = 4;

impl Node {
    /// The present initial status.
    pub(super) fn own_status(&self) -> InitialStatus {
        let (messages, groups) = (self.live_messages(), self.group_statuses());
        let deleted = self.told_deleted();
        InitialStatus { messages, groups, deleted, ..self.own_words() }
    }

    /// The same without what grows with the number of groups.
    pub(super) fn own_words(&self) -> InitialStatus {
        let state = self.store_state();
        let mut peers =
            vec![PeerRef { text: self.config.cluster_address.clone(), resolved: Some(self.own.store) }];
        peers.extend(
            self.config
                .peers
                .iter()
                .filter(|text| **text != self.config.cluster_address)
                .map(|text| PeerRef { text: text.clone(), resolved: self.peers.resolved(text) }),
        );
        let stamp = self.stamp.as_ref();
        let belongs = !matches!(state, StoreState::Forming(_))
            && matches!(
                stamp.map(|stamp| stamp.state),
                Some(StampState::Dirty | StampState::Clean { .. } | StampState::Recovered { .. })
            )
            || self.transient;
        let recorded = self
            .system()
            .map(|system| {
                system
                    .members()
                    .map(|member| RecordedRun {
                        store: member.store,
                        incarnation: member.incarnation,
                        run: member.run,
                        positions: Vec::new(),
                    })
                    .collect::<Vec<_>>()
            })
            .unwrap_or_default();
        let recorded = recorded
            .into_iter()
            .chain(self.life.witnessed().map(|witness| RecordedRun {
                store: witness.store,
                incarnation: witness.incarnation,
                run: Some(witness.run),
                positions: witness.positions.clone(),
            }))
            .collect();
        InitialStatus {
            key: self.own,
            name: self.config.name.clone(),
            cluster_name: self.config.cluster_name.clone(),
            cluster_address: self.config.cluster_address.clone(),
            client_address: self.config.client_address.clone(),
            admin_address: self.config.admin_address.clone(),
            state,
            cluster_id: self.cluster_id.filter(|_| belongs),
            cluster_id_wanted: self.config.cluster_id_wanted,
            founded_ms: self.cluster_id.filter(|_| belongs).and_then(founded_ms),
            messages: None,
            incarnation: self.stamped_life.map_or(self.incarnation, |(incarnation, _)| incarnation),
            stamped_run: self.stamped_life.map(|(_, run)| run).or(self.transient.then_some(self.own.run)),
            recorded,
            groups: Vec::new(),
            wait_for: self.config.wait_for,
            allow_small: self.config.allow_small,
            recovery: self.config.recovery,
            peers,
            possible_members: stamp.map(|stamp| stamp.possible_members.clone()).unwrap_or_default(),
            panicked: self.safety.panic().map(str::to_owned),
            safety: self.safety_numbers(),
            deleted: Vec::new(),
            rivalled: self.peers.rivalled(),
        }
    }

    /// Deleted groups, unless this store claims nothing of `system`.
    fn told_deleted(&self) -> Vec<(GroupId, GroupId)> {
        let claims = |id| !self.refilling.contains(&id) && !self.stamped_refilling.contains(&id);
        let system = self.system().filter(|_| claims(GroupId::SYSTEM));
        system.map(SystemMachine::deleted_groups).unwrap_or_default()
    }

    /// Messages in all virtual hosts, once they have been counted.
    fn live_messages(&self) -> Option<u64> {
        let mut machines = self.groups.values().filter_map(|group| group.machine.vhost()).peekable();
        machines.peek()?;
        Some(machines.map(VhostMachine::live).sum())
    }

    pub(super) fn store_state(&self) -> StoreState {
        if let Some(reason) = &self.damage {
            return StoreState::Damaged { reason: reason.clone() };
        }
        if self.transient {
            let was_active = self.groups.values().any(|group| group.was_active);
            return StoreState::Transient { was_active };
        }
        // Until its first entry is in the log, a mark is what this store is, though it be stamped dirty by now.
        let mut marked = self.groups.values().filter(|group| group.awaits_mark());
        if let Some(EpochCause::Mark { recovery, .. }) =
            marked.next().and_then(|group| group.lineage.entries().last()).map(|epoch| epoch.cause)
        {
            return StoreState::Recovered { recovery };
        }
        match self.stamp.as_ref().map(|stamp| stamp.state) {
            None | Some(StampState::Empty) => StoreState::Empty,
            Some(StampState::Forming) => StoreState::Forming(forming_of(self.stamp.as_ref())),
            // Founded, and its first groups are not made yet: what it agreed to is all that it holds.
            Some(StampState::Dirty)
                if self.groups.is_empty()
                    && matches!(self.phase, Phase::Beginning(Beginning::Founded(_))) =>
            {
                StoreState::Forming(forming_of(self.stamp.as_ref()))
            }
            Some(StampState::Dirty) => StoreState::Dirty,
            Some(StampState::Clean { shutdown }) => StoreState::Clean { shutdown },
            Some(StampState::Recovered { recovery }) => StoreState::Recovered { recovery },
        }
    }

    pub(super) fn group_status(&self, group: &Group) -> GroupStatus {
        let epoch = group.lineage.tag().epoch;
        let (position, term, configuration) = match (&group.replica, &group.recovered) {
            (Some(replica), _) => (
                Position { epoch, term: replica.last_term(), index: replica.last() },
                replica.term(),
                group.configuration.clone(),
            ),
            (None, Some(recovered)) => {
                let last = recovered.found.last.max(group.applied);
                let last_term = if last == group.applied {
                    group.applied_term
                } else {
                    recovered.tail.last().map_or(group.applied_term, |entry| entry.term)
                };
                (
                    Position { epoch, term: last_term, index: last },
                    recovered.found.hard_state.term,
                    recovered.latest.clone(),
                )
            }
            (None, None) => (
                Position { epoch, term: group.applied_term, index: group.applied },
                group.applied_term,
                group.configuration.clone(),
            ),
        };
        let named = |ids: &Configuration, voters: bool| {
            let set = if voters { &ids.voters } else { &ids.learners };
            set.iter().filter_map(|id| self.voter_ref(RaftId(*id))).collect()
        };
        // What is to be filled again claims nothing: no history, no votes, nor that it was active. Until the stamp knows
        // otherwise, its next process would not, either.
        let claims = !self.refilling.contains(&group.id) && !self.stamped_refilling.contains(&group.id);
        GroupStatus {
            group: group.id,
            vhost: group.vhost.clone(),
            lineage: if claims { group.lineage.entries().to_vec() } else { Vec::new() },
            client_epochs: (1..=group.client_epoch.0).map(Epoch).collect(),
            // Both move with every entry; they are told with the next change of anything else.
            position,
            term,
            voters: named(&configuration, true),
            learners: named(&configuration, false),
            trusted: claims && !self.life.is_refused() && group.acknowledging.lacks.is_none(),
            active: self.active_leader(group),
            was_active_this_run: group.was_active && claims,
            designated: self.held_number_beside(group).filter(|_| claims),
            peer_silent: self.is_peer_silent(),
        }
    }

    /// `system` as it was founded, while nothing of it is made here: a process that ended between `dirty` and the first
    /// state has acknowledged nothing, and what was agreed is in its stamp.
    fn unmade_system(&self) -> Option<GroupStatus> {
        let id = GroupId::SYSTEM;
        let is_said = self.groups.contains_key(id) || self.refilling.contains(&id);
        if is_said || self.store_state() != StoreState::Dirty {
            return None;
        }
        let value = self.founded_value()?;
        let founders = value.founders.iter().map(|founder| VoterRef {
            store: founder.store,
            name: founder.name.clone(),
            raft_id: founder.raft_id,
        });
        Some(GroupStatus {
            group: id,
            vhost: SYSTEM_NAME.to_owned(),
            lineage: Lineage::founded(value.cluster_id, id).entries().to_vec(),
            client_epochs: Vec::new(),
            position: Position::default(),
            term: self.unmade.hard_states.get(&id).map_or(Term(0), |state| state.term),
            voters: founders.collect(),
            learners: Vec::new(),
            trusted: !self.life.is_refused(),
            active: None,
            was_active_this_run: false,
            designated: None,
            peer_silent: false,
        })
    }

    /// What it holds, what it founded and has not made yet, and what it gave up to be filled again.
    fn group_statuses(&self) -> Vec<GroupStatus> {
        let given_up =
            self.refilling.iter().filter(|id| !self.groups.contains_key(**id)).map(|id| GroupStatus {
                group: *id,
                vhost: String::new(),
                lineage: Vec::new(),
                client_epochs: Vec::new(),
                position: Position::default(),
                term: Term(0),
                voters: Vec::new(),
                learners: Vec::new(),
                trusted: false,
                active: None,
                was_active_this_run: false,
                designated: None,
                peer_silent: false,
            });
        let mut parts: Vec<GroupStatus> =
            self.groups.values().map(|group| self.group_status(group)).chain(given_up).collect();
        parts.extend(self.unmade_system());
        parts.sort_by_key(|part| part.group);
        parts
    }

    /// Who leads the group with a quorum, as far as this broker knows now.
    pub(super) fn active_leader(&self, group: &Group) -> Option<Active> {
        let replica = group.replica.as_ref()?;
        let leader = replica.leader()?;
        let store =
            if Some(leader) == self.raft_id { self.own.store } else { self.peers.store_of(leader)? };
        // A closed link is evidence that the process is gone: a leader without a majority in contact leads nobody,
        // though Raft takes its time to step down.
        let sure = if replica.is_leader() {
            group.leads_surely() && self.voters_in_contact(group) >= group.configuration.majority()
        } else {
            self.peers.takes_part(store)
        };
        sure.then_some(Active { leader: store, term: replica.term() })
    }

    pub(super) fn voter_ref(&self, raft_id: RaftId) -> Option<VoterRef> {
        let member = self.system().and_then(|system| system.member_numbered(raft_id));
        if let Some(member) = member {
            return Some(VoterRef { store: member.store, name: member.name.clone(), raft_id });
        }
        let stamped = self.stamp.as_ref()?.members.iter().find(|member| member.raft_id == raft_id)?;
        Some(VoterRef { store: stamped.store_id, name: stamped.name.clone(), raft_id })
    }

    /// What else was noticed.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = self.decision.as_ref().map_or_else(Vec::new, |decision| decision.notes.clone());
        notes.extend(
            self.peers.refusals().map(|(address, why)| format!("the peer at {address} is not linked: {why}")),
        );
        notes.extend(self.awaited());
        let forced = self.groups.values().filter_map(|group| {
            let is_led = self.active_leader(group).is_some();
            Some(self.told_in_force(group)? + if is_led { "" } else { "; nobody leads it at this moment" })
        });
        notes.extend(forced.take(FORCED_NOTES));
        notes.extend(self.safety_losses());
        if matches!(self.phase, Phase::Deciding) {
            notes.extend(self.peers.untried().map(|address| format!("{address} was not tried yet")));
        }
        notes
    }
}
