//! Everyone this broker knows of, for operators: members, whoever is linked, and voters that it only heard of.

use std::collections::{BTreeMap, BTreeSet};

use quorate_store::ids::{GroupId, Incarnation, RaftId, StoreId};

use super::{Node, Phase};
use crate::admin::{MemberStatus, Need};
use crate::formation::status::{GroupStatus, StoreState, VoterRef};
use crate::formation::{Decision, InitialStatus, asking};

impl Node {
    /// The members as `system` knows them, else as the stamp does; then whoever is linked; then the voters that linked
    /// peers recorded, so that a broker that has nothing of the cluster yet still shows all of it.
    pub(super) fn member_statuses(&self) -> Vec<MemberStatus> {
        let (voters, told) = self.recorded_members();
        let mut members: BTreeMap<StoreId, MemberStatus> = BTreeMap::new();
        for member in self.members_of_system().unwrap_or_else(|| self.members_of_stamp()) {
            members.insert(member.store_id, member);
        }
        members.entry(self.own.store).or_insert_with(|| MemberStatus {
            incarnation: self.incarnation,
            address: self.config.cluster_address.clone(),
            client_address: self.config.client_address.clone(),
            admin_address: self.config.admin_address.clone(),
            ..unseen(self.own.store, self.config.name.clone())
        });
        for voter in told {
            let known = || self.peers.address_of(voter.store).unwrap_or_default().to_owned();
            members.entry(voter.store).or_insert_with(|| MemberStatus {
                address: known(),
                ..unseen(voter.store, voter.name.clone())
            });
        }
        for peer in self.peers.all_linked() {
            let identity = &peer.identity;
            let store = identity.key.store;
            let member = members.entry(store).or_insert_with(|| unseen(store, identity.name.clone()));
            for (shown, told) in [
                (&mut member.address, &identity.cluster_address),
                (&mut member.client_address, &identity.client_address),
                (&mut member.admin_address, &identity.admin_address),
            ] {
                if shown.is_empty() {
                    shown.clone_from(told);
                }
            }
            if member.incarnation == Incarnation(0)
                && let Some(status) = &peer.status
            {
                member.incarnation = status.incarnation;
            }
        }
        for member in members.values_mut() {
            member.state = self.state_word(member.store_id);
            member.present = member.store_id == self.own.store || self.peers.is_linked(member.store_id);
            member.voter = voters.contains(&member.store_id);
            member.change = self.change_of(member.store_id);
            member.panicked = self.panic_of(member.store_id);
        }
        for (store, Decision { row, reason, next, .. }) in self.asking() {
            if let Some(member) = members.get_mut(&store).filter(|member| member.needs_operator.is_none()) {
                member.needs_operator = Some(Need { reason: format!("row {row}: {reason}"), next });
            }
        }
        let mut members: Vec<MemberStatus> = members.into_values().collect();
        members.sort_by(|a, b| a.name.cmp(&b.name).then(a.store_id.cmp(&b.store_id)));
        members
    }

    /// Who takes no part in what goes on here before a person decides.
    fn asking(&self) -> Vec<(StoreId, Decision)> {
        if matches!(self.phase, Phase::Running) { asking(&self.facts()) } else { Vec::new() }
    }

    fn members_of_system(&self) -> Option<Vec<MemberStatus>> {
        let system = self.system().filter(|system| system.cluster().is_some())?;
        let members = system.members().map(|member| MemberStatus {
            drained: system.intents().drained.contains(&member.store),
            incarnation: member.incarnation,
            address: member.cluster_address.clone(),
            client_address: member.client_address.clone(),
            admin_address: member.admin_address.clone(),
            ..unseen(member.store, member.name.clone())
        });
        Some(members.collect())
    }

    fn members_of_stamp(&self) -> Vec<MemberStatus> {
        let stamped = self.stamp.iter().flat_map(|stamp| &stamp.members);
        stamped
            .map(|member| MemberStatus {
                incarnation: member.incarnation,
                address: member.cluster_address.clone(),
                client_address: member.client_address.clone(),
                admin_address: member.admin_address.clone(),
                ..unseen(member.store_id, member.name.clone())
            })
            .collect()
    }

    /// The voters of `system`, and everyone its configuration names: as this broker's own node has it, else as the
    /// linked peer that is active, or has the most recent log, says.
    fn recorded_members(&self) -> (BTreeSet<StoreId>, Vec<VoterRef>) {
        if let Some(group) = self.groups.get(GroupId::SYSTEM)
            && !group.configuration.voters.is_empty()
        {
            let named = |ids: &BTreeSet<u64>| -> Vec<VoterRef> {
                ids.iter().filter_map(|id| self.voter_ref(RaftId(*id))).collect()
            };
            let (voters, learners) =
                (named(&group.configuration.voters), named(&group.configuration.learners));
            return (stores(&voters), voters.into_iter().chain(learners).collect());
        }
        let ours =
            |status: &&InitialStatus| self.cluster_id.is_none() || status.cluster_id == self.cluster_id;
        let parts = self.peers.statuses().filter(ours).filter_map(|status| status.group(GroupId::SYSTEM));
        let best = parts.max_by_key(|part: &&GroupStatus| (part.active.is_some(), part.position));
        best.map_or_else(Default::default, |part| {
            (stores(&part.voters), part.voters.iter().chain(&part.learners).cloned().collect())
        })
    }

    /// What an operator wants of a member and is not so yet.
    fn change_of(&self, store: StoreId) -> Option<String> {
        let system = self.system()?;
        let member = system.member(store)?;
        if self.is_leaving(store) {
            return Some(self.departure(member));
        }
        let number = member.raft_id.0;
        let lacks = self.groups.values().any(|group| !group.configuration.voters.contains(&number));
        let joins = system.may_vote(store) && lacks;
        joins.then(|| format!("{} is updated and becomes a voter", member.name))
    }

    /// Names that operators permitted and that nobody answers to yet.
    pub(super) fn awaited(&self) -> Vec<String> {
        let wanted = self.system().into_iter().flat_map(|system| system.intents().wanted.keys());
        wanted.map(|name| format!("{name} becomes a voter when it comes with an empty store")).collect()
    }

    fn panic_of(&self, store: StoreId) -> Option<String> {
        if store == self.own.store {
            return self.safety.panic().map(str::to_owned);
        }
        self.peers.get(store)?.status.as_ref()?.panicked.clone()
    }

    pub(super) fn state_word(&self, store: StoreId) -> &'static str {
        if store == self.own.store {
            return store_word(&self.store_state());
        }
        let status = self.peers.get(store).and_then(|peer| peer.status.as_ref());
        status.map_or("unknown", |status| store_word(&status.state))
    }
}

fn stores(voters: &[VoterRef]) -> BTreeSet<StoreId> {
    voters.iter().map(|voter| voter.store).collect()
}

/// A member of which nothing but its name is known.
fn unseen(store_id: StoreId, name: String) -> MemberStatus {
    MemberStatus {
        name,
        store_id,
        incarnation: Incarnation(0),
        address: String::new(),
        client_address: String::new(),
        admin_address: String::new(),
        state: "unknown",
        present: false,
        voter: false,
        drained: false,
        change: None,
        panicked: None,
        needs_operator: None,
    }
}

fn store_word(state: &StoreState) -> &'static str {
    match state {
        StoreState::Transient { .. } => "transient",
        StoreState::Empty => "empty",
        StoreState::Forming(_) => "forming",
        StoreState::Dirty => "dirty",
        StoreState::Clean { .. } | StoreState::Recovered { .. } => "clean",
        StoreState::Damaged { .. } => "damaged",
    }
}

/// What is wrong with a voter of a running cluster, and what to type.
pub(super) struct Ailment {
    pub(super) note: String,
    pub(super) commands: Vec<String>,
}

/// Voters that are damaged or not there, or wait for an operator: the cluster runs without them, with less to spare.
pub(super) fn ailments(members: &[MemberStatus]) -> impl Iterator<Item = Ailment> {
    members.iter().filter(|member| member.voter).filter_map(|member| {
        let name = &member.name;
        let replace = format!("quorate member replace --name {name}");
        let usurper = |other: &&MemberStatus| {
            other.present && other.name == *name && other.store_id != member.store_id
        };
        if !member.present && members.iter().any(|other| usurper(&other)) {
            return Some(Ailment {
                note: format!(
                    "the voter {name} is missing: its name is answered by another store, and its own, {}, by nobody",
                    member.store_id
                ),
                commands: vec![replace],
            });
        }
        if !member.present {
            return Some(Ailment {
                note: format!("the voter {name} is missing"),
                commands: vec![format!("quorated … --name {name}"), replace],
            });
        }
        if let Some(panic) = &member.panicked {
            return Some(Ailment {
                note: format!("{name} panicked and does not count: {panic}"),
                commands: vec![format!("quorate --admin {} cluster panic show", member.admin_address)],
            });
        }
        if let Some(Need { reason, next }) = &member.needs_operator {
            return Some(Ailment {
                note: format!("{name} needs an operator ({reason})"),
                commands: next.clone(),
            });
        }
        (member.state == "damaged").then(|| Ailment {
            note: format!("the store of the voter {name} is damaged; it does not count"),
            commands: vec!["quorate store verify DIR".to_owned(), replace],
        })
    })
}
