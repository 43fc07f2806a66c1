//! What operators may force, and when: checked by the broker that would go on, before anything is changed.
//!
//! | refused | because |
//! |---|---|
//! | without the cluster's id and a reason | it is no command to type by mistake |
//! | a majority is here and may vote | nothing needs to be forced |
//! | an override in a cluster of two | a take-over settles who gives way when the other one is back |
//! | fewer or more nodes named than required | `k` means `k` |
//! | somebody here has more of the group | what it has would be lost for nothing |
//! | a store that may lack what it acknowledged | the offline tool says what that would lose |

use std::collections::BTreeSet;

use quorate_store::ids::{GroupId, RaftId, StoreId};

use super::Node;
use super::controls::{invalid, refused};
use super::forced::Force;
use super::group::Group;
use crate::admin::{AdminReply, ForceAct, ForceKind, GroupRequest};
use crate::controls::{Change, ForcedKind, Primary};
use crate::formation::Electorate;
use crate::io::AdminId;

/// How long an override may serve clients, in milliseconds: one second to a week.
const LEASE_MILLIS: std::ops::RangeInclusive<u64> = 1_000..=7 * 24 * 3_600_000;

pub(super) const OVERRIDE: &str =
    "quorate group set --vhost V --required-nodes K --nodes B,… --lease 4h --confirm CLUSTER --reason TEXT";
const INSPECT: &str = "quorate store inspect DIR…";
const STATUS: &str = "quorate group status";
const TAKE_OVER: &str =
    "quorate group take-over --node THIS --confirm CLUSTER --other-is-stopped --reason TEXT";

impl Node {
    /// An operator forces something.
    pub(super) fn ask_force(
        &mut self,
        id: AdminId,
        request: &GroupRequest,
        act: &ForceAct,
    ) -> Result<(), AdminReply> {
        self.require_word(request, act)?;
        let force = match &act.kind {
            ForceKind::Override { nodes, lease_millis } => {
                self.override_asked(request, nodes, *lease_millis)?
            }
            ForceKind::TakeOver { node, other_is_stopped } => {
                self.take_over_asked(request, node, *other_is_stopped)?
            }
        };
        for group in &force.groups {
            let electorate = Electorate::of(&self.facts(), *group);
            if electorate.is_complete() {
                let text = format!(
                    "a majority of the voters of {} is here and may vote: nothing needs to be forced",
                    self.called(*group)
                );
                return Err(refused("GROUP_HAS_QUORUM", text, &[STATUS]));
            }
        }
        self.may_force(&force).map_err(|text| refused("CONFLICT", text, &[STATUS]))?;
        self.forcing = Some(Force { ask: Some(id), reason: request.reason.clone(), ..force });
        // Whoever is asked to go on with it tells its state anew now and then.
        self.facts_changed = true;
        Ok(())
    }

    fn require_word(&self, request: &GroupRequest, act: &ForceAct) -> Result<(), AdminReply> {
        if let Some(panic) = self.safety.panic() {
            let text = format!("this broker panicked: {panic}");
            return Err(refused("PANICKED", text, &["quorate cluster panic show"]));
        }
        let cluster = self.cluster_id.map(|cluster| cluster.to_string());
        if cluster.as_deref() != Some(act.confirm.as_str()) {
            let text = "this needs the cluster's id as confirmation (--confirm), as `quorate cluster status` shows it";
            return Err(refused("NOT_CONFIRMED", text.into(), &["quorate cluster status"]));
        }
        if request.reason.trim().is_empty() {
            return Err(invalid("this needs a reason (--reason): it is kept in the audit".into()));
        }
        if self.forcing.is_some() {
            return Err(refused(
                "CONFLICT",
                "this broker is about to go on by such a command".into(),
                &[STATUS],
            ));
        }
        Ok(())
    }

    fn override_asked(
        &self,
        request: &GroupRequest,
        nodes: &[String],
        lease_millis: u64,
    ) -> Result<Force, AdminReply> {
        if !LEASE_MILLIS.contains(&lease_millis) {
            return Err(invalid("a lease is from 1s to 7d".into()));
        }
        if request.vhost.is_none() {
            return Err(invalid(
                "name a virtual host: system goes on with it, or alone if it is named".into(),
            ));
        }
        let id = self.group_asked(request.vhost.as_deref())?;
        let Some(group) = self.groups.get(id) else { return Err(invalid("there is no such group".into())) };
        let voters = latest_voters(group);
        let majority = voters.len() / 2 + 1;
        if voters.is_empty() {
            let text = format!(
                "this broker is being filled, and does not know the voters of {} yet: one of those named is to be asked",
                self.called(id)
            );
            return Err(elsewhere(text, self.admin_address_of(nodes)));
        }
        // Of a larger cluster's group two may be left for a while: who of them gives way is no question for a take-over.
        let of_cluster = self.groups.get(GroupId::SYSTEM).map_or(0, |system| latest_voters(system).len());
        if voters.len() == 2 && of_cluster == 2 {
            let text = "this cluster has two voters: a take-over settles which of them goes on, and which gives way later";
            return Err(refused("GROUP_OF_TWO", text.into(), &[TAKE_OVER]));
        }
        if nodes.is_empty() || nodes.len() >= majority {
            return Err(invalid(format!(
                "virtual host {} has {} voters: an override names fewer than the majority of {majority}",
                group.vhost,
                voters.len()
            )));
        }
        let mut named = BTreeSet::new();
        for name in nodes {
            let store = self.voter_called(group, &voters, name)?;
            if !named.insert(store) {
                return Err(invalid(format!("{name} is named twice")));
            }
            if store != self.own.store && !self.peers.takes_part(store) {
                let text = format!("{name} is not in contact with this broker");
                return Err(refused("MEMBER_AWAY", text, &["quorate cluster status"]));
            }
        }
        if !named.contains(&self.own.store) {
            let first = named.first().and_then(|store| self.peers.get(*store));
            let address = first.map(|peer| peer.identity.admin_address.clone());
            return Err(elsewhere(
                "this broker is not among those named: one of them is to be asked".into(),
                address,
            ));
        }
        let here = self.linked_voters(&voters);
        if let Some(other) = self.more_recent(group, &here) {
            let peer = here
                .iter()
                .filter_map(|store| self.peers.get(*store))
                .find(|peer| peer.identity.name == other);
            let text = format!("the log of {other} goes further than this broker's");
            return Err(match peer.filter(|peer| named.contains(&peer.identity.key.store)) {
                Some(peer) => elsewhere(
                    format!("{text}: {other} is to be asked"),
                    Some(peer.identity.admin_address.clone()),
                ),
                None => refused(
                    "CONFLICT",
                    format!(
                        "{text}, and {other} is not among those named: nothing is changed; if {other} may lack something, \
                         compare the stores of all and mark the latest"
                    ),
                    &[OVERRIDE, INSPECT],
                ),
            });
        }
        named.remove(&self.own.store);
        // With each virtual host goes what knows of it.
        let system = Some(GroupId::SYSTEM).filter(|system| *system != id && !self.is_led_now(*system));
        let groups = system.into_iter().chain([id]).collect();
        let kind = ForcedKind::Override { lease_ms: lease_millis };
        let force = Force::new(groups, kind, request.author.clone(), self.now);
        Ok(Force { named, unheard: here.clone(), here, ..force })
    }

    fn take_over_asked(
        &self,
        request: &GroupRequest,
        node: &str,
        other_is_stopped: bool,
    ) -> Result<Force, AdminReply> {
        let Some(group) = self.groups.get(GroupId::SYSTEM) else {
            return Err(invalid("this broker belongs to no cluster".into()));
        };
        let voters = latest_voters(group);
        if node != self.config.name {
            let store = self.voter_called(group, &voters, node)?;
            let address = self.peers.get(store).map(|peer| peer.identity.admin_address.clone());
            return Err(elsewhere(
                format!("this broker is {}: {node} is to be asked", self.config.name),
                address,
            ));
        }
        if voters.len() == 1 && group.controls.in_force().is_some() && group.leads_surely() {
            let text = format!("{node} goes on without the others already: nothing needs to be taken over");
            return Err(refused("GROUP_HAS_QUORUM", text, &[STATUS]));
        }
        if voters.len() != 2 {
            let text =
                format!("a take-over is for groups of two voters, and this cluster has {}", voters.len());
            return Err(refused("GROUP_NOT_OF_TWO", text, &[OVERRIDE]));
        }
        if self.raft_id.is_none_or(|own| !voters.contains(&own.0)) {
            return Err(invalid(format!("{node} is no voter of this cluster")));
        }
        let other = voters.iter().find(|id| self.raft_id != Some(RaftId(**id))).copied().unwrap_or_default();
        let other =
            self.voter_ref(RaftId(other)).map_or_else(|| "the other one".to_owned(), |other| other.name);
        if !other_is_stopped {
            let text = format!(
                "a take-over needs your word that {other} is stopped, and will not be started where it cannot reach this \
                 broker (--other-is-stopped): nothing can keep it from serving there. What {other} confirmed and this broker \
                 does not have is lost to clients until {other} is back: then it is kept in its quarantine"
            );
            return Err(refused("NOT_CONFIRMED", text, &[TAKE_OVER]));
        }
        let unled = self.group_ids().into_iter().filter(|id| !self.is_led_now(*id));
        // The word given is about one broker: of a group with more voters it says nothing.
        let (groups, larger): (Vec<GroupId>, Vec<GroupId>) = unled.partition(|id| {
            self.groups.get(*id).is_some_and(|group| latest_voters(group).is_subset(&voters))
        });
        if let (true, Some(larger)) = (groups.is_empty(), larger.first().and_then(|id| self.groups.get(*id)))
        {
            let count = latest_voters(larger).len();
            let text = format!(
                "a take-over is for groups of two voters, and virtual host {} has {count}",
                larger.vhost
            );
            return Err(refused("GROUP_NOT_OF_TWO", text, &[OVERRIDE]));
        }
        if groups.is_empty() || self.linked_voters(&voters).iter().any(|store| self.peers.takes_part(*store))
        {
            let text = format!("{other} is in contact: nothing needs to be taken over");
            return Err(refused("GROUP_HAS_QUORUM", text, &[STATUS]));
        }
        let seen = self.facts();
        let lineages = seen.seen.iter().chain([&seen.own]).flat_map(|status| &status.groups);
        let told = lineages.flat_map(|part| part.lineage.iter().filter_map(|epoch| epoch.cause.number()));
        let known = told.chain([group.seen_number, group.controls.number()]).max().unwrap_or(0);
        let kind = ForcedKind::TakeOver { number: known.saturating_add(1) };
        Ok(Force::new(groups, kind, request.author.clone(), self.now))
    }

    /// Who of two may go on alone: decided while both are here.
    pub(super) fn primary_asked(&self, group: &Group, name: Option<&str>) -> Result<Change, AdminReply> {
        if group.id != GroupId::SYSTEM {
            let text =
                "the designated primary is one for the whole cluster: it is set without a virtual host";
            return Err(invalid(text.into()));
        }
        let number = group.seen_number.max(group.controls.number()).saturating_add(1);
        let Some(name) = name else { return Ok(Change::Primary { primary: None, number }) };
        let voters = group.configuration.voters.len();
        if voters == 1 && group.controls.in_force().is_some() {
            let text = "one of two goes on alone: who is designated can be changed once both are here, and if the one that \
                        goes on is lost, the other one takes over";
            return Err(refused("GROUP_NOT_OF_TWO", text.into(), &[STATUS, TAKE_OVER]));
        }
        if voters != 2 {
            let text =
                format!("a designated primary is for clusters of two voters, and this one has {voters}");
            return Err(refused("GROUP_NOT_OF_TWO", text, &[STATUS]));
        }
        let node = self.voter_named(group, name)?;
        Ok(Change::Primary { primary: Some(Primary { node, name: name.to_owned() }), number })
    }

    /// What an operator wants of the lease of an override in force.
    pub(super) fn lease_asked(
        group: &Group,
        nodes: usize,
        lease_millis: u64,
    ) -> Result<Option<Change>, AdminReply> {
        let Some(in_force) = group.controls.in_force().filter(|in_force| in_force.lease_left_ms.is_some())
        else {
            return Ok(None);
        };
        if nodes != in_force.needed() {
            let text = format!(
                "virtual host {} goes on with {} nodes by an override: end that first, with --required-nodes 0",
                group.vhost,
                in_force.needed()
            );
            return Err(refused("CONFLICT", text, &[STATUS]));
        }
        if !LEASE_MILLIS.contains(&lease_millis) {
            return Err(invalid("a lease is from 1s to 7d".into()));
        }
        Ok(Some(Change::Lease { left_ms: lease_millis, set: true }))
    }

    pub(super) fn is_led_now(&self, id: GroupId) -> bool {
        self.groups.get(id).is_some_and(|group| self.active_leader(group).is_some())
    }

    /// Where the first of these that this broker is linked to answers operators.
    fn admin_address_of(&self, names: &[String]) -> Option<String> {
        let linked = |name: &String| self.peers.all_linked().find(|peer| peer.identity.name == *name);
        names.iter().find_map(linked).map(|peer| peer.identity.admin_address.clone())
    }

    fn linked_voters(&self, voters: &BTreeSet<u64>) -> BTreeSet<StoreId> {
        let stores = voters.iter().filter_map(|id| self.voter_ref(RaftId(*id))).map(|voter| voter.store);
        stores.filter(|store| *store != self.own.store && self.peers.takes_part(*store)).collect()
    }

    fn voter_called(&self, group: &Group, voters: &BTreeSet<u64>, name: &str) -> Result<StoreId, AdminReply> {
        let known = voters.iter().filter_map(|id| self.voter_ref(RaftId(*id)));
        known.into_iter().find(|voter| voter.name == name).map(|voter| voter.store).ok_or_else(|| {
            let text = format!("{name} is no voter of {}", self.called(group.id));
            refused("MEMBER_NO_VOTER", text, &[STATUS])
        })
    }

    fn called(&self, id: GroupId) -> String {
        match self.groups.get(id).filter(|_| id != GroupId::SYSTEM) {
            Some(group) => format!("virtual host {}", group.vhost),
            None => "the group `system`".to_owned(),
        }
    }
}

/// The voters that the log names last, committed or not.
fn latest_voters(group: &Group) -> BTreeSet<u64> {
    match &group.recovered {
        Some(recovered) => recovered.latest.voters.clone(),
        None => group.configuration.voters.clone(),
    }
}

fn elsewhere(message: String, leader_admin_address: Option<String>) -> AdminReply {
    AdminReply::Failed { code: "NOT_LEADER", message, next: vec![STATUS.to_owned()], leader_admin_address }
}
