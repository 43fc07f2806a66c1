//! An operator who sets controls of the first virtual host, one at a time, and takes them back after a while.

use quorate_core::admin::{
    AdminRequest, Author, ForceAct, ForceKind, GroupAct, GroupRequest, GroupStatusView, Setting, Status,
};

use quorate_store::stamp::{Durability, DurabilityPolicy};

use super::host::name_of;
use super::operator::ASK_AGAIN;
use super::schedule::{Happening, HostId, Micros, Relief, SECOND};
use super::world::World;

/// For how long an override may serve: an operator's working day.
const LEASE_MILLIS: u64 = 8 * 3_600_000;
/// Everybody syncs.
pub const STRICT: DurabilityPolicy =
    DurabilityPolicy { leader: Durability::Sync, replicas: Durability::Sync };
/// The virtual host whose controls are set.
const VHOST: &str = "/";
/// What was asked for is decided after this, or never.
const DECIDED: Micros = 25 * SECOND;

/// What an operator may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// This host's priority.
    Priority(HostId, u64),
    /// So many nodes for each confirm.
    RequiredNodes(u64),
    /// This host goes on alone if the other one of two is gone.
    Primary(HostId),
    /// What leader and replicas do before they acknowledge.
    Durability(DurabilityPolicy),
}

/// A control that was set, until it is as before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Controlled {
    control: Control,
    /// Since when it is taken back.
    since: Option<Micros>,
}

impl World {
    /// Asks whoever leads; true if somebody was asked.
    fn ask_group_leader(&mut self, vhost: Option<&str>, act: GroupAct, reason: &str) -> bool {
        let led = vhost.unwrap_or("system");
        let leads =
            |status: &Status| status.groups.iter().any(|group| group.vhost == led && group.role == "leader");
        let leader = self.statuses.iter().find(|(host, status)| {
            leads(status) && self.hosts.get(**host).is_some_and(|host| host.process.is_some())
        });
        let Some(leader) = leader.map(|(leader, _)| *leader) else { return false };
        let request = GroupRequest {
            vhost: vhost.map(str::to_owned),
            act,
            author: Author::local("a test"),
            reason: reason.to_owned(),
        };
        self.ask(leader, AdminRequest::Group(request));
        true
    }

    /// Sets a control, if none is set, and takes it back after a while.
    pub(super) fn control(&mut self, control: Control, time: Micros) -> bool {
        let setting = match control {
            Control::Priority(host, priority) => Setting::Priority { node: name_of(host), priority },
            Control::RequiredNodes(count) => Setting::RequiredNodes(count),
            Control::Primary(host) => Setting::Primary(Some(name_of(host))),
            Control::Durability(policy) => Setting::Durability(policy),
        };
        let vhost = if matches!(control, Control::Primary(_)) { None } else { Some(VHOST) };
        if self.controlled.is_some() || !self.ask_group_leader(vhost, GroupAct::Set(vec![setting]), "a fault")
        {
            return false;
        }
        self.controlled = Some(Controlled { control, since: None });
        self.schedule.after(time, Happening::Relief(Relief::Uncontrol));
        true
    }

    /// Takes it back, and whatever else is set: asked for until the leader says that it is so, for longer than anything that
    /// was asked for before may still happen.
    pub(super) fn uncontrol(&mut self) {
        let Some(Controlled { control, since }) = self.controlled else { return };
        if matches!(control, Control::Primary(_)) {
            // Not asked for until it is so: whoever is designated stays so, if nobody takes it back now.
            let nobody = GroupAct::Set(vec![Setting::Primary(None)]);
            if self.dice.chance(50) {
                self.ask_group_leader(None, nobody, "it is over");
            }
            self.controlled = None;
            return;
        }
        let mut settings = match control {
            Control::Priority(host, _) => vec![Setting::Priority { node: name_of(host), priority: 1 }],
            Control::RequiredNodes(_) | Control::Primary(_) | Control::Durability(_) => Vec::new(),
        };
        let leads = self.statuses.values().filter_map(group).find(|group| group.role == "leader");
        let others = leads.into_iter().flat_map(|group| &group.nodes).filter(|node| node.priority != 1);
        settings.extend(others.map(|node| Setting::Priority { node: node.name.clone(), priority: 1 }));
        let is_set = leads.is_none_or(|group| {
            group.required_nodes != 0
                || group.durability != STRICT
                || group.nodes.iter().any(|node| node.priority != 1)
        });
        if since.is_some_and(|at| self.now() > at + DECIDED) && !is_set {
            self.controlled = None;
            return;
        }
        let since = since.or(Some(self.now()));
        self.controlled = Some(Controlled { control, since });
        settings.push(Setting::RequiredNodes(0));
        settings.push(Setting::Durability(STRICT));
        self.ask_group_leader(Some(VHOST), GroupAct::Set(settings), "it is over");
        self.schedule.after(ASK_AGAIN, Happening::Relief(Relief::Uncontrol));
    }

    /// Has leadership moved to this host.
    pub(super) fn transfer(&mut self, to: HostId) -> bool {
        let act = GroupAct::Transfer { to: name_of(to), within_millis: 5000 };
        self.ask_group_leader(Some(VHOST), act, "a fault")
    }

    /// Has the host go on alone in every virtual host, if it does not yet.
    pub(super) fn ask_override(&mut self, host: HostId) {
        let Some(status) = self.statuses.get(&host) else { return };
        let Some(confirm) = status.cluster_id.map(|cluster| cluster.to_string()) else { return };
        let waits = |group: &&GroupStatusView| group.vhost != "system" && group.leader.is_none();
        let Some(vhost) = status.groups.iter().find(waits).map(|group| group.vhost.clone()) else { return };
        if self.hosts[host].process.is_none() {
            return;
        }
        let kind = ForceKind::Override { nodes: vec![name_of(host)], lease_millis: LEASE_MILLIS };
        let request = GroupRequest {
            vhost: Some(vhost),
            act: GroupAct::Force(ForceAct { kind, confirm }),
            author: Author::local("a test"),
            reason: "the others are lost".to_owned(),
        };
        self.ask(host, AdminRequest::Group(request));
    }
}

fn group(status: &Status) -> Option<&GroupStatusView> {
    status.groups.iter().find(|group| group.vhost == VHOST)
}
