//! Operators' commands about one group: checked by its leader, decided in its log, answered when it is so.
//!
//! ```text
//!  request ──> leader: checked against the group as it is ──> act in the group's log ──> applied everywhere: events, audit
//!     set       answered when applied
//!     transfer  then the target catches up, then it is told to ask for votes; answered when it leads
//! ```

use std::collections::BTreeSet;

use quorate_store::ids::{GroupId, Index, RaftId, StoreId, Term};

use super::Node;
use super::config::SYSTEM_NAME;
use super::group::Group;
use super::standing::CLOSE_BEHIND;
use crate::admin::{
    AdminReply, AuditPage, ForceAct, ForceKind, GroupAct, GroupReport, GroupRequest, Setting,
};
use crate::control::Control;
use crate::controls::{
    Act, Change, Changed, ForcedKind, InForce, MAX_CHANGES, MAX_PERMITTED, MAX_TEXT_BYTES, PRIORITY_MAX,
    PRIORITY_NEVER, policy_text,
};
use crate::event::Event;
use crate::io::{AdminId, Output, Tick};
use crate::machine::VhostMachine;

/// A change that is not decided after this is given up, in milliseconds. It may still be decided.
const DECIDE_MILLIS: u64 = 20_000;
/// How long a transfer may take, in milliseconds.
const TRANSFER_MILLIS: std::ops::RangeInclusive<u64> = 100..=600_000;
/// Commands about groups that wait for an answer at a time.
const MAX_ASKS: usize = 64;

/// A command that is on its way.
#[derive(Debug)]
pub(crate) struct Ask {
    id: AdminId,
    group: GroupId,
    until: Tick,
    /// Whom leadership goes to.
    to: Option<(RaftId, String)>,
    within_millis: u64,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// Cannot be proposed at this moment.
    Waiting(Act),
    /// Proposed as this entry.
    Proposed(Term, Index),
    /// Decided by this entry; leadership is on its way.
    Moving(Index),
    /// Decided; answered once everybody who acknowledges this entry knows that it is, and would after a restart.
    Settling(Index, Box<GroupReport>),
}

impl Node {
    /// An operator wants something of a group.
    pub(super) fn ask_group(&mut self, id: AdminId, request: GroupRequest) -> Result<(), AdminReply> {
        if self.is_closing() {
            return Err(refused("SHUTTING_DOWN", "the cluster is being shut down".into(), &[]));
        }
        if self.asks.len() >= MAX_ASKS {
            return Err(refused("OVERLOADED", "too many commands about groups wait already".into(), &[]));
        }
        check_reason(&request.reason)?;
        let group_id = self.group_asked(request.vhost.as_deref())?;
        let renewed = self.renewal(group_id, &request.act)?;
        if let (GroupAct::Force(act), None) = (&request.act, &renewed) {
            return self.ask_force(id, &request, act);
        }
        self.require_leader(group_id).map_err(|reply| without_leader(reply, &request.act))?;
        let Some(group) = self.groups.get(group_id) else { return Err(no_group("system")) };
        let (changes, to, within_millis) = match request.act {
            GroupAct::Force(_) => (renewed.into_iter().collect(), None, DECIDE_MILLIS),
            GroupAct::Set(settings) => (self.changes(group, settings)?, None, DECIDE_MILLIS),
            GroupAct::DeleteVhost { name, confirm, group } => match self.deletion(&name, &confirm, group)? {
                Some(change) => (vec![change], None, DECIDE_MILLIS),
                None => (Vec::new(), None, DECIDE_MILLIS),
            },
            GroupAct::Transfer { .. } if request.vhost.is_none() => {
                return Err(invalid(
                    "a transfer names its virtual host; the cluster's own is `system`".into(),
                ));
            }
            GroupAct::Transfer { to, within_millis } => {
                if !TRANSFER_MILLIS.contains(&within_millis) {
                    let text = "a transfer may take from 100ms to 10min";
                    return Err(refused("INVALID", text.into(), &["quorate group transfer --help"]));
                }
                let node = self.transferee(group, &to)?;
                let from = self.config.name.clone();
                (vec![Change::Transfer { to: node, name: to.clone(), from }], Some((node, to)), within_millis)
            }
        };
        let at_ms = self.wall_ms();
        let act = Act { at_ms, author: request.author, reason: request.reason, changes };
        if group.controls.clone().apply(Index(0), &act).is_empty() {
            let report = GroupReport {
                vhost: group.vhost.clone(),
                changed: false,
                detail: "it was so before".into(),
                messages: None,
            };
            self.emit(Output::AdminReply { id, reply: AdminReply::Group(Box::new(report)) });
            return Ok(());
        }
        let until = self.now.plus(within_millis.max(DECIDE_MILLIS));
        self.asks.push(Ask { id, group: group_id, until, to, within_millis, step: Step::Waiting(act) });
        Ok(())
    }

    /// What an override that is in force becomes by asking for it again.
    fn renewal(&self, id: GroupId, act: &GroupAct) -> Result<Option<Change>, AdminReply> {
        let GroupAct::Force(ForceAct { kind: ForceKind::Override { nodes, lease_millis }, confirm }) = act
        else {
            return Ok(None);
        };
        let led = self.groups.get(id).filter(|group| group.leads_surely());
        let is_confirmed = self.cluster_id.is_some_and(|cluster| cluster.to_string() == *confirm);
        match led.filter(|_| is_confirmed) {
            Some(group) => Self::lease_asked(group, nodes.len(), *lease_millis),
            None => Ok(None),
        }
    }

    pub(super) fn group_asked(&self, vhost: Option<&str>) -> Result<GroupId, AdminReply> {
        let Some(vhost) = vhost.filter(|vhost| *vhost != SYSTEM_NAME) else { return Ok(GroupId::SYSTEM) };
        let known = self.system().filter(|system| system.cluster().is_some());
        let Some(system) = known else {
            return Err(refused("NO_QUORUM", "this broker is not active".into(), &[]));
        };
        system.vhost_group(vhost).filter(|id| self.groups.contains_key(*id)).ok_or_else(|| no_group(vhost))
    }

    /// What the settings come to, or why they are refused. All are judged as they will be together.
    fn changes(&self, group: &Group, settings: Vec<Setting>) -> Result<Vec<Change>, AdminReply> {
        if settings.is_empty() || settings.len() > MAX_CHANGES {
            return Err(invalid(format!("a request has 1 to {MAX_CHANGES} settings")));
        }
        let changes: Vec<Change> =
            settings.into_iter().map(|setting| self.change(group, setting)).collect::<Result<_, _>>()?;
        let never: BTreeSet<u64> = group
            .configuration
            .voters
            .iter()
            .copied()
            .filter(|id| {
                let set = changes.iter().rev().find_map(|change| match change {
                    Change::Priority { node, priority, .. } if node.0 == *id => Some(*priority),
                    _ => None,
                });
                set.unwrap_or_else(|| group.controls.priority(RaftId(*id))) == PRIORITY_NEVER
            })
            .collect();
        let sets_never =
            changes.iter().any(|change| matches!(change, Change::Priority { priority: PRIORITY_NEVER, .. }));
        let left = |id: &&u64| !never.contains(id) && self.is_available(group, RaftId(**id));
        if sets_never && !group.configuration.voters.iter().any(|id| left(&id)) {
            let text = format!(
                "nobody that is here could lead virtual host {} any more: no other voter is in contact, of a priority \
                 above 0 and not drained",
                group.vhost
            );
            return Err(refused("GROUP_NEEDS_LEADER", text, &["quorate group status"]));
        }
        Ok(changes)
    }

    fn change(&self, group: &Group, setting: Setting) -> Result<Change, AdminReply> {
        match setting {
            Setting::Priority { node: name, priority } => {
                let node = self.voter_named(group, &name)?;
                let priority = u8::try_from(priority).ok().filter(|priority| *priority <= PRIORITY_MAX);
                let priority = priority.ok_or_else(|| {
                    invalid(format!(
                        "a priority is 0 (never), 1 (normal), 2 (high) or {PRIORITY_MAX} (highest)"
                    ))
                })?;
                Ok(Change::Priority { node, name, priority })
            }
            Setting::RequiredNodes(required) => {
                if group.id == GroupId::SYSTEM {
                    return Err(invalid("required nodes are set for virtual hosts, not for `system`".into()));
                }
                if let Some(in_force) = group.controls.in_force() {
                    return ended(group, in_force, required);
                }
                let (voters, majority) = (group.configuration.voters.len(), group.configuration.majority());
                let count = usize::try_from(required).unwrap_or(usize::MAX);
                if required != 0 && count > voters {
                    return Err(invalid(format!(
                        "virtual host {} has {voters} voters: required nodes are 0 (a majority) or up to {voters}",
                        group.vhost
                    )));
                }
                if required != 0 && count < majority {
                    let text = format!(
                        "{required} nodes are less than the majority of {majority} of {voters} voters of virtual host {}, which \
                         is in contact: going on with fewer is for when it is not",
                        group.vhost
                    );
                    return Err(refused("GROUP_HAS_QUORUM", text, &["quorate group status"]));
                }
                Ok(Change::RequiredNodes(u32::try_from(required).unwrap_or(u32::MAX)))
            }
            Setting::Durability(_) if group.id == GroupId::SYSTEM => {
                Err(invalid("`system` is always sync,sync: a policy is set for virtual hosts".into()))
            }
            Setting::Durability(policy) => Ok(Change::Durability(policy)),
            Setting::PermittedNodes(permitted) => permission(group, permitted),
            Setting::Primary(name) => self.primary_asked(group, name.as_deref()),
        }
    }

    /// The deletion of a virtual host; none if that very one is deleted already.
    fn deletion(&self, name: &str, confirm: &str, group: Option<u32>) -> Result<Option<Change>, AdminReply> {
        if confirm != name {
            let text = format!(
                "a virtual host goes with everything in it: {name:?} is to be confirmed by its name, not by {confirm:?}"
            );
            return Err(refused("NOT_CONFIRMED", text, &["quorate vhost delete --help"]));
        }
        let Some(system) = self.system() else { return Err(no_group("system")) };
        let named = system.vhost_group(name);
        match (named, group.map(GroupId)) {
            (Some(known), asked) if asked.is_none_or(|asked| asked == known) => {
                let machine = self.groups.get(known).and_then(|group| group.machine.vhost());
                let messages = machine.map_or(0, VhostMachine::live);
                Ok(Some(Change::DeleteVhost { group: known, name: name.to_owned(), messages }))
            }
            (_, Some(asked)) if system.is_deleted(asked) => Ok(None),
            (Some(known), Some(asked)) => {
                let text = format!("virtual host {name:?} is group {known}, and group {asked} was meant");
                Err(refused("VHOST_DIFFERS", text, &["quorate vhost list"]))
            }
            _ => Err(no_group(name)),
        }
    }

    pub(super) fn voter_named(&self, group: &Group, name: &str) -> Result<RaftId, AdminReply> {
        let member = self.system().and_then(|system| system.named(name)).ok_or_else(|| {
            let text = format!("no member of the cluster has the name {name}");
            refused("MEMBER_NOT_FOUND", text, &["quorate member list"])
        })?;
        if group.configuration.voters.contains(&member.raft_id.0) {
            return Ok(member.raft_id);
        }
        let text = format!("{name} is no voter of virtual host {}", group.vhost);
        Err(refused("MEMBER_NO_VOTER", text, &["quorate group status"]))
    }

    /// Whom to hand over to, if it may lead and does not.
    fn transferee(&self, group: &Group, name: &str) -> Result<RaftId, AdminReply> {
        let node = self.voter_named(group, name)?;
        let next = &["quorate group status"];
        if group.replica.as_ref().is_some_and(|replica| replica.id() == node) {
            let text = format!("{name} leads virtual host {} already", group.vhost);
            return Err(refused("MEMBER_LEADS", text, next));
        }
        if Self::never_leads(group, node) {
            let text = format!("{name} has priority 0 in virtual host {}: it never leads", group.vhost);
            return Err(refused("MEMBER_NEVER_LEADS", text, next));
        }
        if self.steps.roster.drained.contains(&node) {
            let text = format!("{name} is drained");
            return Err(refused("MEMBER_DRAINED", text, &["quorate member resume --name NAME"]));
        }
        if !self.could_lead(group, node) {
            let text = format!("{name} is not in contact, or on its way out");
            return Err(refused("MEMBER_AWAY", text, &["quorate cluster status"]));
        }
        Ok(node)
    }

    /// An act is decided.
    pub(super) fn act_applied(&mut self, group: &mut Group, at: (Term, Index), act: &Act) {
        let lease = group.controls.in_force().and_then(|in_force| in_force.lease_left_ms);
        let changed = group.apply_act(at.1, act.clone());
        if changed.iter().any(|changed| matches!(changed, Changed::Lease { .. })) {
            Self::lease_set(group);
        } else {
            self.part_taken(group, lease);
        }
        for one in &changed {
            // The one that was asked; not the one that leads by it when it hears of it.
            let leads = group.is_leader() && group.replica.as_ref().is_some_and(|it| it.term() == at.0);
            if let Changed::VhostDeleted { group, name, .. } = one {
                self.vhost_deleted(*group, Some(name), at.1);
            }
            if let Some(event) = event_of(&group.vhost, one, act, leads) {
                self.event(event);
            }
        }
        if changed.iter().any(|one| matches!(one, Changed::Durability { .. })) {
            group.acknowledging.decided(at.1);
        }
        self.facts_changed |= !changed.is_empty();
        self.take_stand(group);
        self.review_all = true;
        if let Some(replica) = &mut group.replica {
            replica.tell_commit();
        }
        let own = |ask: &&mut Ask| {
            ask.group == group.id && matches!(ask.step, Step::Proposed(term, index) if (term, index) == at)
        };
        let Some(ask) = self.asks.iter_mut().find(own) else { return };
        if ask.to.is_some() {
            ask.step = Step::Moving(at.1);
            ask.until = self.now.plus(ask.within_millis);
            return;
        }
        let id = ask.id;
        let detail = changed.iter().map(told).collect::<Vec<_>>().join("; ");
        let messages = changed.iter().find_map(|changed| match changed {
            Changed::VhostDeleted { messages, .. } => Some(*messages),
            _ => None,
        });
        let report =
            GroupReport { vhost: group.vhost.clone(), changed: !changed.is_empty(), detail, messages };
        // Whoever is designated has to know it when it starts alone; a commit is in a log with the next entry.
        if changed.iter().any(|changed| matches!(changed, Changed::Primary { .. }))
            && let Some(Ok(index)) =
                group.replica.as_mut().map(|replica| replica.propose(vec![bytes::Bytes::new()]))
        {
            ask.step = Step::Settling(index, Box::new(report));
            return;
        }
        self.asks.retain(|ask| ask.id != id);
        self.emit(Output::AdminReply { id, reply: AdminReply::Group(Box::new(report)) });
    }

    /// Goes on with what operators wait for. Called once a round.
    pub(super) fn drive_asks(&mut self) {
        for mut ask in std::mem::take(&mut self.asks) {
            let reply = self.with_group(ask.group, |node, group| node.drive_ask(group, &mut ask));
            let gone = || {
                refused(
                    "VHOST_NOT_FOUND",
                    "the virtual host was deleted meanwhile".into(),
                    &["quorate vhost list"],
                )
            };
            match reply.unwrap_or_else(|| Some(gone())) {
                Some(reply) => self.emit(Output::AdminReply { id: ask.id, reply }),
                None => self.asks.push(ask),
            }
        }
    }

    /// The answer, once there is one.
    fn drive_ask(&mut self, group: &mut Group, ask: &mut Ask) -> Option<AdminReply> {
        match &ask.step {
            Step::Moving(decided) => return self.drive_move(group, ask, *decided),
            Step::Settling(index, report) => {
                let settled = group.applied >= *index || !group.is_leader() || self.now >= ask.until;
                return settled.then(|| AdminReply::Group(report.clone()));
            }
            Step::Waiting(_) => {
                if !group.leads_surely() {
                    return Some(self.overtaken(group));
                }
            }
            Step::Proposed(term, _) => {
                let replica = group.replica.as_ref();
                if replica.is_none_or(|replica| !replica.is_leader() || replica.term() != *term) {
                    return Some(self.undecided(group));
                }
            }
        }
        let late = self.now >= ask.until || self.is_closing();
        if late && matches!(ask.step, Step::Waiting(_)) {
            let text = format!("virtual host {} could not take it in time: nothing is changed", group.vhost);
            return Some(self.elsewhere(group, "NOT_READY", text));
        }
        if late {
            return Some(self.undecided(group));
        }
        if let Step::Waiting(act) = &ask.step {
            group.flush_proposals();
            let replica = group.replica.as_mut()?;
            let at = (replica.term(), replica.last().next());
            if replica.propose_control(Control::Act(act.clone()).encode()) {
                ask.step = Step::Proposed(at.0, at.1);
            }
        }
        None
    }

    fn drive_move(&mut self, group: &mut Group, ask: &Ask, decided: Index) -> Option<AdminReply> {
        let (to, name) = ask.to.as_ref()?;
        let leader = self.active_leader(group).map(|active| active.leader);
        if leader.is_some() && leader == self.store_numbered(*to) {
            let detail = format!("{name} leads virtual host {}", group.vhost);
            let report = GroupReport { vhost: group.vhost.clone(), changed: true, detail, messages: None };
            return Some(AdminReply::Group(Box::new(report)));
        }
        if let Some(other) = leader.filter(|leader| *leader != self.own.store) {
            let other = self.name_of(other);
            let text = format!("virtual host {} is led by {other} now, not by {name}", group.vhost);
            return Some(refused("TRANSFER_ELSEWHERE", text, &["quorate group status"]));
        }
        let late = self.now >= ask.until || self.is_closing();
        let replica = group.replica.as_mut()?;
        let behind = replica.matched(*to).map(|matched| replica.last().0.saturating_sub(matched.0));
        if late {
            let how_far = match behind {
                Some(behind) => format!("{name} lacks {behind} entries"),
                None => "nobody is known to lead".to_owned(),
            };
            let text = format!(
                "virtual host {} is not led by {name} in time: {how_far}; nothing is lost by it",
                group.vhost
            );
            return Some(refused("TRANSFER_TIMEOUT", text, &["quorate group status"]));
        }
        // Who has acknowledged what was decided just now is not hanging: told to ask for votes, it would do so whenever it
        // goes on, long after the operator heard that nothing came of it.
        let answers = replica.matched(*to).is_some_and(|matched| matched >= decided);
        if answers && behind.is_some_and(|behind| behind <= CLOSE_BEHIND) && !replica.hands_over() {
            replica.transfer(*to);
        }
        None
    }

    fn store_numbered(&self, id: RaftId) -> Option<StoreId> {
        if self.raft_id == Some(id) { Some(self.own.store) } else { self.peers.store_of(id) }
    }

    pub(super) fn undecided(&self, group: &Group) -> AdminReply {
        let text = format!(
            "this broker does not know whether virtual host {} took it; it may have, or still may",
            group.vhost
        );
        self.elsewhere(group, "UNDECIDED", text)
    }

    /// Whoever leads now has to be asked.
    pub(super) fn elsewhere(&self, group: &Group, code: &'static str, message: String) -> AdminReply {
        let leader = self.active_leader(group).and_then(|active| self.peers.get(active.leader));
        let leader_admin_address = leader.map(|peer| peer.identity.admin_address.clone());
        AdminReply::Failed {
            code,
            message,
            next: vec!["quorate group status".to_owned()],
            leader_admin_address,
        }
    }

    /// What operators changed, group by group.
    pub(super) fn audit(&self) -> Vec<AuditPage> {
        let page = |group: &Group| AuditPage {
            vhost: group.vhost.clone(),
            records: group.controls.audit().cloned().collect(),
        };
        self.groups.values().map(page).filter(|page| !page.records.is_empty()).collect()
    }
}

/// A list of permitted nodes names every member there is.
fn permission(group: &Group, permitted: BTreeSet<String>) -> Result<Change, AdminReply> {
    let Some(system) = group.machine.system() else {
        return Err(invalid("permitted nodes are set for the cluster, not for a virtual host".into()));
    };
    let fits = |text: &String| !text.is_empty() && text.len() <= 255 && !text.chars().any(char::is_control);
    if permitted.len() > MAX_PERMITTED || !permitted.iter().all(fits) {
        let text = format!(
            "permitted nodes are up to {MAX_PERMITTED} names, store ids or cluster addresses of 1 to 255 bytes"
        );
        return Err(refused("INVALID", text, &["quorate member permit --help"]));
    }
    let is_named =
        |names: [&str; 3]| permitted.is_empty() || names.iter().any(|name| permitted.contains(*name));
    let dropped = system
        .members()
        .find(|member| !is_named([&member.name, &member.store.to_string(), &member.cluster_address]));
    if let Some(member) = dropped {
        let text = format!("{} is a member and not in the list: remove it first, or name it", member.name);
        return Err(refused("MEMBER_NEEDED", text, &["quorate member remove --name NAME"]));
    }
    Ok(Change::PermittedNodes(permitted))
}

/// What is told of a change where it is applied. A transfer is told by the leader that hands over.
fn event_of(vhost: &str, changed: &Changed, act: &Act, leads: bool) -> Option<Event> {
    let vhost = vhost.to_owned();
    Some(match changed.clone() {
        Changed::Priority { name, before, after } => {
            Event::PriorityChanged { vhost, member: name, before, after }
        }
        Changed::RequiredNodes { before, after } => Event::RequiredNodesChanged { vhost, before, after },
        Changed::Durability { before, after } => {
            let (before, after) = (policy_text(before), policy_text(after));
            Event::AttributeUpdated { vhost, attribute: "durability", before, after }
        }
        Changed::PermittedNodes { .. } => {
            let (_, before, after) = changed.texts();
            Event::AttributeUpdated { vhost, attribute: "permitted nodes", before, after }
        }
        Changed::Leader { after, .. } if leads => {
            Event::TransferRequested { vhost, to: after, who: act.author.to_string() }
        }
        // That is told by each node when it is gone.
        Changed::VhostDeleted { .. } => return None,
        Changed::Primary { before, after, .. } => Event::DesignatedPrimaryChanged { vhost, before, after },
        Changed::Lease { .. } => {
            let (attribute, before, after) = changed.texts();
            debug_assert_eq!(attribute, LEASE);
            Event::AttributeUpdated { vhost, attribute: LEASE, before, after }
        }
        Changed::Restored { forced, after } if matches!(forced.kind, ForcedKind::Override { .. }) => {
            let before = u32::try_from(forced.nodes.len()).unwrap_or(u32::MAX);
            Event::RequiredNodesChanged { vhost, before, after }
        }
        Changed::Restored { .. } => {
            let (_, before, after) = changed.texts();
            Event::AttributeUpdated { vhost, attribute: "voters", before, after }
        }
        // Told where it begins, which is before anybody could apply it.
        Changed::Leader { .. } | Changed::Forced { .. } => return None,
    })
}

fn told(changed: &Changed) -> String {
    let (what, before, after) = changed.texts();
    format!("{what}: {before} -> {after}")
}

/// What the audit and the log call an override's lease.
const LEASE: &str = "lease of the override";

/// An override that is in force ends by being set to a majority: its leader serves nobody until that has everything.
fn ended(group: &Group, in_force: &InForce, required: u64) -> Result<Change, AdminReply> {
    let has_lease = in_force.lease_left_ms.is_some();
    if required == 0 && has_lease {
        return Ok(Change::Lease { left_ms: 0, set: true });
    }
    let text = if has_lease {
        "goes on by an override: its required nodes can be set to 0, which ends it"
    } else {
        "goes on with one of two voters: that ends by itself once the other one has everything"
    };
    Err(refused("GROUP_FORCED", format!("virtual host {} {text}", group.vhost), &["quorate group status"]))
}

/// Without a leader some of it can be forced, in another way.
fn without_leader(reply: AdminReply, act: &GroupAct) -> AdminReply {
    let AdminReply::Failed { code: "NO_QUORUM", message, mut next, leader_admin_address } = reply else {
        return reply;
    };
    let GroupAct::Set(settings) = act else {
        return AdminReply::Failed { code: "NO_QUORUM", message, next, leader_admin_address };
    };
    for setting in settings {
        match setting {
            Setting::RequiredNodes(_) => next.push(
                "quorate group set --vhost V --required-nodes K --nodes B,… --lease 4h --confirm CLUSTER --reason TEXT"
                    .to_owned(),
            ),
            Setting::Primary(_) => next.push(
                "quorate group take-over --node B --confirm CLUSTER --other-is-stopped --reason TEXT".to_owned(),
            ),
            Setting::Priority { .. } | Setting::PermittedNodes(_) | Setting::Durability(_) => {}
        }
    }
    AdminReply::Failed { code: "NO_QUORUM", message, next, leader_admin_address }
}

fn no_group(vhost: &str) -> AdminReply {
    refused("VHOST_NOT_FOUND", format!("there is no virtual host {vhost:?}"), &["quorate vhost list"])
}

pub(super) fn invalid(message: String) -> AdminReply {
    refused("INVALID", message, &["quorate group set --help"])
}

/// An operator's reason is for people, and kept for long.
pub(super) fn check_reason(reason: &str) -> Result<(), AdminReply> {
    if reason.len() > MAX_TEXT_BYTES || reason.chars().any(char::is_control) {
        let text = format!("a reason is text of up to {MAX_TEXT_BYTES} bytes without control characters");
        return Err(refused("INVALID", text, &[]));
    }
    Ok(())
}

pub(super) fn refused(code: &'static str, message: String, next: &[&str]) -> AdminReply {
    let next = next.iter().map(|text| (*text).to_owned()).collect();
    AdminReply::Failed { code, message, next, leader_admin_address: None }
}
