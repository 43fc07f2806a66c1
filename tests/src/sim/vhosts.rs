//! An operator who creates a virtual host beside the first one, has something published to it, and deletes it after a while.
//!
//! What is in there when it is deleted may be gone, and nothing else: clients of the first virtual host rely on what they
//! always do.

use quorate_core::admin::{AdminRequest, Author, GroupAct, GroupRequest, Status};

use super::client::{Client, Publisher, Work};
use super::dice::Dice;
use super::operator::{ASK_AGAIN, leads_system};
use super::schedule::{ClientId, Happening, HostId, Micros, Relief, SECOND};
use super::world::World;

/// What was asked for is decided after this, or never.
const DECIDED: Micros = 25 * SECOND;
/// What is published there, if there is time for it.
const MESSAGES: u64 = 200;

/// The virtual host that was created, until it is gone.
#[derive(Clone, Debug)]
pub(super) struct Passing {
    name: String,
    client: ClientId,
    /// Since when nobody shows it any more, and it is asked to go.
    gone_since: Option<Micros>,
}

impl World {
    /// Whoever leads `system`, if it runs.
    fn system_leader(&self) -> Option<HostId> {
        let leads = |host: &HostId| self.hosts.get(*host).is_some_and(|host| host.process.is_some());
        let found = self.statuses.iter().find(|(host, status)| leads_system(status) && leads(host));
        found.map(|(host, _)| *host)
    }

    /// Creates a virtual host, if there is none but the first one, with somebody who publishes there.
    pub(super) fn create_vhost(&mut self, time: Micros) -> bool {
        let Some(leader) = self.system_leader().filter(|_| self.passing.is_none()) else { return false };
        let name = format!("passing-{}", self.clients.len());
        self.ask(
            leader,
            AdminRequest::CreateVhost {
                name: name.clone(),
                reason: String::new(),
                author: Author::local("a test"),
            },
        );
        let mut dice = Dice::new(self.dice.number(), &name);
        let producer = 10_000 + self.clients.len() as u128;
        let work = Work::Publisher(Publisher::new(producer, MESSAGES, &mut dice));
        let mut client = Client::new("passing", work, self.hosts.len(), dice);
        client.vhost.clone_from(&name);
        let client = self.add_client(client);
        self.passing = Some(Passing { name, client, gone_since: None });
        self.schedule.after(time, Happening::Relief(Relief::DeleteVhost));
        true
    }

    /// Deletes it: asked for until the leader shows it no more, for longer than anything that was asked for before may still
    /// happen.
    pub(super) fn delete_vhost(&mut self) {
        let Some(Passing { name, client, gone_since }) = self.passing.clone() else { return };
        // What it knows of its messages means nothing from here on.
        let client = &mut self.clients[client];
        client.resting = true;
        if let Work::Publisher(publisher) = &mut client.work {
            publisher.stop_at = publisher.next;
            publisher.unsettled.clear();
        }
        let shows = |status: &Status| status.groups.iter().any(|group| group.vhost == name);
        let leader = self.system_leader();
        let is_shown = leader.and_then(|leader| self.statuses.get(&leader)).is_none_or(shows);
        let since = if is_shown { None } else { gone_since.or(Some(self.now())) };
        if since.is_some_and(|since| self.now() > since + DECIDED) {
            self.passing = None;
            return;
        }
        if let Some(leader) = leader.filter(|_| is_shown) {
            let act = GroupAct::DeleteVhost { name: name.clone(), confirm: name.clone(), group: None };
            let (author, reason) = (Author::local("a test"), "it is over".to_owned());
            self.ask(leader, AdminRequest::Group(GroupRequest { vhost: None, act, author, reason }));
        }
        if let Some(passing) = &mut self.passing {
            passing.gone_since = since;
        }
        self.schedule.after(ASK_AGAIN, Happening::Relief(Relief::DeleteVhost));
    }

    /// Virtual hosts that were deleted for good, and that some broker still shows.
    pub(super) fn undeleted(&self) -> Vec<(HostId, String)> {
        let groups = |(host, status): (&HostId, &Status)| {
            let names = status.groups.iter().map(|group| group.vhost.clone());
            names.filter(|name| name.starts_with("passing-")).map(|name| (*host, name)).collect::<Vec<_>>()
        };
        self.statuses.iter().flat_map(groups).collect()
    }
}
