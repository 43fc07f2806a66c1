//! An operator who sets controls of the first virtual host, one at a time, and takes them back after a while.

use quorate_core::admin::{AdminRequest, Author, GroupAct, GroupRequest, GroupStatusView, Setting, Status};

use super::host::name_of;
use super::operator::ASK_AGAIN;
use super::schedule::{Happening, HostId, Micros, Relief, SECOND};
use super::world::World;

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
    fn ask_group_leader(&mut self, act: GroupAct, reason: &str) -> bool {
        let leads = |status: &Status| group(status).is_some_and(|group| group.role == "leader");
        let leader = self.statuses.iter().find(|(host, status)| {
            leads(status) && self.hosts.get(**host).is_some_and(|host| host.process.is_some())
        });
        let Some(leader) = leader.map(|(leader, _)| *leader) else { return false };
        let request = GroupRequest {
            vhost: Some(VHOST.to_owned()),
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
        };
        if self.controlled.is_some() || !self.ask_group_leader(GroupAct::Set(vec![setting]), "a fault") {
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
        let mut settings = match control {
            Control::Priority(host, _) => vec![Setting::Priority { node: name_of(host), priority: 1 }],
            Control::RequiredNodes(_) => Vec::new(),
        };
        let leads = self.statuses.values().filter_map(group).find(|group| group.role == "leader");
        let others = leads.into_iter().flat_map(|group| &group.nodes).filter(|node| node.priority != 1);
        settings.extend(others.map(|node| Setting::Priority { node: node.name.clone(), priority: 1 }));
        let is_set = leads.is_none_or(|group| {
            group.required_nodes != 0 || group.nodes.iter().any(|node| node.priority != 1)
        });
        if since.is_some_and(|at| self.now() > at + DECIDED) && !is_set {
            self.controlled = None;
            return;
        }
        let since = since.or(Some(self.now()));
        self.controlled = Some(Controlled { control, since });
        settings.push(Setting::RequiredNodes(0));
        self.ask_group_leader(GroupAct::Set(settings), "it is over");
        self.schedule.after(ASK_AGAIN, Happening::Relief(Relief::Uncontrol));
    }

    /// Has leadership moved to this host.
    pub(super) fn transfer(&mut self, to: HostId) -> bool {
        let act = GroupAct::Transfer { to: name_of(to), within_millis: 5000 };
        self.ask_group_leader(act, "a fault")
    }
}

fn group(status: &Status) -> Option<&GroupStatusView> {
    status.groups.iter().find(|group| group.vhost == VHOST)
}
