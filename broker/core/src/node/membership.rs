//! Members: who is let in, who becomes a voter, who goes.

use quorate_store::ids::{GroupId, Index, RaftId, StoreId};

use super::group::Group;
use super::origin::Origin;
use super::steps::Roster;
use super::{Node, Phase};
use crate::controls::Controls;
use crate::event::Event;
use crate::formation::InitialStatus;
use crate::formation::status::StoreState;
use crate::io::Output;
use crate::machine::{Command, Member, SystemMachine};
use crate::peer::{Admission, PeerMessage};
use crate::replica::Replica;
use crate::replica::wire::MembershipChange;

/// How often membership is looked over, and an unanswered admission repeated, in milliseconds.
const REVIEW_MILLIS: u64 = 100;
const REPEAT_MILLIS: u64 = 1000;

impl Node {
    /// What leaders do about members, a few times a second.
    pub(super) fn review_membership(&mut self) {
        if self.now < self.next_membership || !matches!(self.phase, Phase::Running) || self.is_closing() {
            return;
        }
        self.next_membership = self.now.plus(REVIEW_MILLIS);
        self.with_group(GroupId::SYSTEM, |node, group| {
            if group.leads_surely() {
                node.review_newcomers(group);
            }
        });
        self.read_roster();
        let roster = self.steps.roster.clone();
        // A group that sleeps has all its members, and they have everything.
        let all = std::mem::take(&mut self.review_all) || roster.is_changing();
        let ids = if all { self.group_ids() } else { self.groups.awake().collect() };
        for id in ids {
            self.visit(id, |node, group| node.review_group(group, &roster));
        }
    }

    /// The leader of `system` lets in what may join, and keeps the members' addresses.
    fn review_newcomers(&mut self, group: &mut Group) {
        let Some(system) = group.machine.system() else { return };
        let mut commands = Vec::new();
        let mut admit = Vec::new();
        let mut retired = Vec::new();
        let mut given_up = Vec::new();
        let mut intruders = Vec::new();
        for peer in self.peers.all_linked() {
            let Some(status) = &peer.status else { continue };
            let store = peer.identity.key.store;
            let told = self.admissions.get(&store).copied();
            let may_repeat = told.is_none_or(|at| self.now.since(at) >= REPEAT_MILLIS);
            if status.panicked.is_some() {
                continue;
            }
            if matches!(status.state, StoreState::Damaged { .. }) {
                let wanted = system.intents().wanted.get(&status.name);
                let replaced = wanted.is_some_and(|wanted| wanted.replaces == Some(store))
                    && system.named(&status.name).is_none()
                    && status.cluster_name == self.config.cluster_name;
                if replaced && may_repeat {
                    given_up.push(peer.identity.key);
                }
                continue;
            }
            let fits = status.cluster_name == self.config.cluster_name
                && status.is_transient() == self.transient
                && status.cluster_id.is_none_or(|id| Some(id) == self.cluster_id)
                && status.cluster_id_wanted.is_none_or(|id| Some(id) == self.cluster_id);
            if system.is_retired(store) {
                if status.cluster_id.is_some() && status.cluster_id == self.cluster_id {
                    retired.push(peer.identity.key);
                }
                continue;
            }
            if !fits {
                continue;
            }
            match system.member(store) {
                None if status.cluster_id.is_none() && !is_permitted(&group.controls, status) => {
                    intruders.push(status.clone());
                }
                None if status.cluster_id.is_none()
                    && may_repeat
                    && self.is_name_free(system, &status.name) =>
                {
                    commands.push((store, self.add_member(system, status)));
                }
                None => {}
                Some(member) => {
                    // New, or given up to be filled again.
                    let lacks = status.group(GroupId::SYSTEM).is_none()
                        || status.groups.iter().any(|part| !part.trusted && part.position.index == Index(0));
                    if lacks && may_repeat {
                        admit.push((peer.identity.key, member.raft_id));
                    } else if let Some(command) = update_member(member, status)
                        && may_repeat
                    {
                        commands.push((store, command));
                    }
                }
            }
        }
        if let Some(store) = self.needless_stand_in(system) {
            commands.push((store, Command::LeaveMember { store, replaced: false }));
        }
        for (store, command) in commands {
            self.admissions.insert(store, self.now);
            let origin = match &command {
                Command::AddMember { .. } => Origin::AddMember(store),
                _ => Origin::UpdateMember(store),
            };
            group.propose(command, origin);
        }
        for to in given_up {
            self.admissions.insert(to.store, self.now);
            self.emit(Output::Send { to, message: PeerMessage::Replaced, after: None });
        }
        self.refuse_intruders(intruders);
        for to in retired {
            self.emit(Output::Send { to, message: PeerMessage::Retired, after: None });
        }
        for (key, raft_id) in admit {
            self.admissions.insert(key.store, self.now);
            if let Some(admission) = self.admission(group, raft_id) {
                self.emit(Output::Send {
                    to: key,
                    message: PeerMessage::Admit(Box::new(admission)),
                    after: None,
                });
            }
        }
        self.review_own_member(group);
    }

    /// Tells those who may not join, again and again; the event is once for each link.
    fn refuse_intruders(&mut self, intruders: Vec<InitialStatus>) {
        for InitialStatus { key: to, name: member, cluster_address: address, .. } in intruders {
            let told = self.admissions.get(&to.store).copied();
            if told.is_some_and(|at| self.now.since(at) < REPEAT_MILLIS) {
                continue;
            }
            self.admissions.insert(to.store, self.now);
            if told.is_none() {
                let why = "the list of permitted nodes names neither its name nor its store nor its address";
                self.event(Event::IntruderRefused { member, address, why: why.to_owned() });
            }
            self.emit(Output::Send { to, message: PeerMessage::NotPermitted, after: None });
        }
    }

    /// Whether an empty store may be let in under this name: nobody's, or that of a voter that is gone, perhaps with its
    /// disk. For that one it only stands in.
    fn is_name_free(&self, system: &SystemMachine, name: &str) -> bool {
        system.named(name).is_none_or(|holder| {
            !self.is_linked_or_own(holder.store)
                && system.may_vote(holder.store)
                && system.stand_in(holder).is_none()
        })
    }

    /// A store that stands in for a member that is back.
    fn needless_stand_in(&self, system: &SystemMachine) -> Option<StoreId> {
        if system.intents().leaving.is_some() {
            return None;
        }
        let back = system.members().filter(|member| self.is_linked_or_own(member.store));
        back.filter(|member| system.may_vote(member.store))
            .find_map(|member| system.stand_in(member))
            .map(|stand_in| stand_in.store)
    }

    fn is_linked_or_own(&self, store: StoreId) -> bool {
        store == self.own.store || self.peers.is_linked(store)
    }

    /// The leader's own addresses and run.
    fn review_own_member(&mut self, group: &mut Group) {
        let own = self.own.store;
        let status = self.own_words();
        let Some(member) = group.machine.system().and_then(|system| system.member(own)) else { return };
        let repeat = self.admissions.get(&own).is_none_or(|at| self.now.since(*at) >= REPEAT_MILLIS);
        if repeat && let Some(command) = update_member(member, &status) {
            self.admissions.insert(own, self.now);
            group.propose(command, Origin::UpdateMember(own));
        }
    }

    fn add_member(&self, system: &SystemMachine, status: &InitialStatus) -> Command {
        // A place of the founding rule's union that nobody took, under an address that leads to this broker.
        let stands_in = system.named(&status.name).is_some();
        let place = system.places().iter().position(|place| {
            !stands_in
                && place.store.is_none()
                && (place.address == status.cluster_address
                    || self.peers.resolved(&place.address) == Some(status.key.store)
                    || status
                        .peers
                        .iter()
                        .any(|peer| peer.text == place.address && peer.resolved == Some(status.key.store)))
        });
        let member = Member {
            store: status.key.store,
            raft_id: RaftId(0),
            name: status.name.clone(),
            cluster_address: status.cluster_address.clone(),
            client_address: status.client_address.clone(),
            admin_address: status.admin_address.clone(),
            incarnation: status.incarnation,
            run: None,
        };
        Command::AddMember { member, place: place.and_then(|place| u32::try_from(place).ok()) }
    }

    fn admission(&self, system: &Group, raft_id: RaftId) -> Option<Admission> {
        let machine = system.machine.system()?;
        let part = |group: &Group| (group.id, group.vhost.clone(), group.lineage.entries().to_vec());
        let groups = std::iter::once(part(system)).chain(self.groups.values().map(part)).collect();
        Some(Admission {
            cluster_id: self.cluster_id?,
            cluster_name: self.config.cluster_name.clone(),
            raft_id,
            groups,
            members: machine
                .members()
                .map(|member| {
                    (member.store, member.raft_id, member.name.clone(), member.cluster_address.clone())
                })
                .collect(),
        })
    }

    /// The leader of a group makes members learners, and learners that caught up voters, one step at a time.
    fn review_group(&mut self, group: &mut Group, roster: &Roster) {
        if !group.leads_surely() {
            group.learners.clear();
            group.taken_out.clear();
            group.told_filled.clear();
            group.parting = None;
            return;
        }
        if roster.leaving.is_none() {
            group.parting = None;
        }
        if group.replica.as_ref().is_none_or(Replica::membership_pending)
            || self.yield_leadership(group)
            || roster.leaving.is_some_and(|leaving| self.part(group, leaving))
        {
            return;
        }
        let Some(replica) = &mut group.replica else { return };
        for (store, raft_id) in &roster.members {
            // Whoever has to be filled again has no vote meanwhile, its acknowledgements do not count, and what Raft
            // remembers of its log is not true any more: it is taken out, and comes back as a learner of whom nothing
            // is known.
            let told = self.peers.get(*store).and_then(|peer| peer.status.as_ref());
            let told = told.and_then(|status| Some((status.incarnation, status.group(group.id)?)));
            let refilling = told.filter(|(_, part)| !part.trusted).map(|(incarnation, _)| incarnation);
            if let Some(incarnation) = refilling
                && group.configuration.contains(raft_id.0)
                && group.configuration.voters.iter().any(|voter| *voter != raft_id.0)
            {
                let votes = group.configuration.voters.contains(&raft_id.0);
                if votes || group.taken_out.get(raft_id) != Some(&incarnation) {
                    if replica.propose_membership(MembershipChange::Remove(raft_id.0)) {
                        group.taken_out.insert(*raft_id, incarnation);
                    }
                    return;
                }
            }
            let leaves = roster.leaving.is_some_and(|(_, leaving)| leaving == *raft_id);
            if leaves || group.configuration.gone.contains(&raft_id.0) {
                continue;
            }
            if !group.configuration.learners.contains(&raft_id.0) {
                // What it had to reach, and was told, was of another time as a learner: since then it may have voted.
                group.learners.remove(raft_id);
                group.told_filled.remove(raft_id);
            }
            if !group.configuration.contains(raft_id.0) {
                if self.peers.is_linked(*store) {
                    replica.propose_membership(MembershipChange::Learner(raft_id.0));
                    return;
                }
                continue;
            }
            if !group.configuration.learners.contains(&raft_id.0) {
                continue;
            }
            // It must have synced an entry that this leader proposed after admitting it: then it holds everything
            // that was committed when it was let in, and answers in this term.
            let Some(mark) = group.learners.get(raft_id).copied() else {
                if let Ok(mark) = replica.propose(vec![bytes::Bytes::new()]) {
                    group.learners.insert(*raft_id, mark);
                }
                continue;
            };
            let caught_up = replica.matched(*raft_id).is_some_and(|matched| matched >= mark)
                && replica.commit() >= mark
                && mark > Index(0);
            // `system` first: whoever is removed from it last was in it first.
            let in_turn = group.id == GroupId::SYSTEM || roster.system_voters.contains(&raft_id.0);
            // Whoever is not here cannot say whether it would vote.
            if !(caught_up && in_turn && roster.may_vote.contains(store)) || told.is_none() {
                continue;
            }
            let Some(incarnation) = refilling else {
                replica.propose_membership(MembershipChange::Voter(raft_id.0));
                return;
            };
            // First it is told that it is filled, and says itself that it would vote: a voter that does not know that it
            // may vote can be the one that a majority needs.
            let told = group.told_filled.get(raft_id).copied();
            if told.is_none_or(|at| self.now.since(at) >= REPEAT_MILLIS)
                && replica.propose_membership(MembershipChange::Filled(raft_id.0, incarnation))
            {
                group.told_filled.insert(*raft_id, self.now);
                return;
            }
        }
    }

    /// A committed step of a group's membership.
    pub(super) fn membership_applied(&mut self, group: &mut Group, change: MembershipChange) {
        let before = group.configuration.clone();
        group.configuration.apply(change);
        if let MembershipChange::Filled(id, incarnation) = change {
            self.told_filled(group, id, incarnation);
        }
        if group.configuration == before {
            return;
        }
        let (id, voter) = match change {
            MembershipChange::Voter(id) => (id, Some(true)),
            MembershipChange::Learner(id) | MembershipChange::Filled(id, _) => (id, Some(false)),
            MembershipChange::Remove(id) | MembershipChange::Retire(id) => (id, None),
            MembershipChange::Nothing => return,
        };
        self.stamp_changed = true;
        self.facts_changed = true;
        let member = match self.peers.store_of(RaftId(id)) {
            Some(store) => self.name_of(store),
            None => format!("node {id}"),
        };
        let vhost = group.vhost.clone();
        self.event(match voter {
            Some(voter) => Event::MemberAdded { vhost, member, voter },
            None => Event::MemberRemoved { vhost, member },
        });
    }
}

/// Whether an operator's list, if there is one, lets this broker join.
fn is_permitted(controls: &Controls, status: &InitialStatus) -> bool {
    let store = status.key.store.to_string();
    controls.permits([status.name.as_str(), store.as_str(), status.cluster_address.as_str()])
}

/// The command that brings a member's record up to date, if it is not.
fn update_member(member: &Member, status: &InitialStatus) -> Option<Command> {
    let updated = Member {
        store: member.store,
        raft_id: member.raft_id,
        name: status.name.clone(),
        cluster_address: status.cluster_address.clone(),
        client_address: status.client_address.clone(),
        admin_address: status.admin_address.clone(),
        incarnation: status.incarnation.max(member.incarnation),
        // Another run of the same incarnation is a copy: what is known of the first one stays.
        run: if status.incarnation > member.incarnation {
            status.stamped_run
        } else {
            member.run.or(status.stamped_run.filter(|_| status.incarnation == member.incarnation))
        },
    };
    (updated != *member).then_some(Command::UpdateMember(updated))
}
