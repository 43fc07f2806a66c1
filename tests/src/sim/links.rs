//! Links between brokers: dialed until they answer, closed as connections close.

use bytes::Bytes;
use quorate_core::io::{Input, PeerKey};
use quorate_core::peer::PeerMessage;

use super::host::cluster_address;
use super::network::{Link, UNACKNOWLEDGED_MIN};
use super::schedule::{Happening, HostId, LinkId, MILLI, Micros, ProcessStep, SECOND};
use super::world::World;

/// How often a link is looked at.
const CHECK: Micros = 100 * MILLI;

impl World {
    fn dial_again(&mut self, host: HostId, address: String, pause: Micros) {
        let life = self.hosts[host].life;
        let step = ProcessStep::Dial { address, pause: (pause * 2).min(SECOND) };
        self.schedule.after(pause, Happening::Process { host, life, step });
    }

    fn can_talk(&self, from: HostId, to: HostId) -> bool {
        let runs =
            |host: HostId| self.hosts[host].process.as_ref().is_some_and(|process| process.paused.is_none());
        runs(from) && runs(to) && !self.network.is_cut(from, to) && !self.network.is_cut(to, from)
    }

    pub(super) fn dial(&mut self, host: HostId, address: String, pause: Micros) {
        let Some(to) = (0..self.hosts.len()).find(|id| cluster_address(*id) == address) else {
            self.input(host, Input::PeerFailed { dialed: address.clone(), refused: None });
            self.dial_again(host, address, SECOND);
            return;
        };
        if to == host {
            self.input(host, Input::PeerIsSelf { dialed: address });
            return;
        }
        let linked = self.hosts[host].process.as_ref().is_some_and(|process| {
            process.links.values().any(|id| self.network.links.get(id).is_some_and(|link| link.to.0 == to))
        });
        if linked {
            self.dial_again(host, address, SECOND);
        } else if self.can_talk(host, to) {
            let delay = self.network.delay() + self.network.delay();
            let ends = ((host, self.hosts[host].life), (to, self.hosts[to].life));
            self.schedule.after(delay, Happening::LinkUp { from: ends.0, to: ends.1 });
        } else {
            self.input(host, Input::PeerFailed { dialed: address.clone(), refused: None });
            self.dial_again(host, address, pause);
        }
    }

    pub(super) fn link_up(&mut self, from: (HostId, u64), to: (HostId, u64)) {
        if self.hosts[from.0].life != from.1 {
            return;
        }
        let address = cluster_address(to.0);
        if self.hosts[to.0].life != to.1 || !self.can_talk(from.0, to.0) {
            self.input(from.0, Input::PeerFailed { dialed: address.clone(), refused: None });
            self.dial_again(from.0, address, 40 * MILLI);
            return;
        }
        let Some(from_key) = self.hosts[from.0].process.as_ref().map(|process| process.key) else { return };
        let Some(to_key) = self.hosts[to.0].process.as_ref().map(|process| process.key) else { return };
        let peer = self.hosts[to.0].identity(to_key);
        let id = self.network.number();
        let Some(process) = &mut self.hosts[from.0].process else { return };
        if process.links.contains_key(&to_key) {
            self.input(from.0, Input::PeerLinked { peer, dialed: address.clone() });
            self.dial_again(from.0, address, SECOND);
            return;
        }
        process.links.insert(to_key, id);
        let stashed = process.stash.remove(&to_key).unwrap_or_default();
        self.network.links.insert(
            id,
            Link {
                from: (from.0, from.1, from_key),
                to: (to.0, to.1, to_key),
                queue: std::collections::VecDeque::new(),
                open_from: true,
                open_to: true,
                accepted: false,
                from_lost: false,
                to_lost: false,
                silent_since: None,
                unacknowledged_since: None,
            },
        );
        self.put_on_link(id, Bytes::new());
        self.schedule.after(CHECK, Happening::LinkCheck(id));
        self.input(from.0, Input::PeerLinked { peer, dialed: address });
        for message in stashed {
            self.input(from.0, Input::PeerMessage { from: to_key, message });
        }
    }

    fn put_on_link(&mut self, id: LinkId, message: Bytes) {
        let now = self.now();
        if let Some(arrival) = self.network.send(now, id, message) {
            self.schedule.at(arrival, Happening::LinkArrival(id));
        }
    }

    /// Sends to a linked peer; dropped if there is no link.
    pub(super) fn send(&mut self, host: HostId, to: PeerKey, message: &PeerMessage) {
        self.watch_vote(host, message);
        let Some(process) = &self.hosts[host].process else { return };
        if let Some(id) = process.links.get(&to).copied() {
            let encoded = message.encode();
            self.trace.bytes(&encoded);
            self.put_on_link(id, encoded);
        }
    }

    pub(super) fn pump_all(&mut self) {
        let ids: Vec<LinkId> = self.network.links.keys().copied().collect();
        for id in ids {
            self.pump_link(id);
        }
    }

    pub(super) fn pump_link(&mut self, id: LinkId) {
        let now = self.now();
        while let Some(message) = self.network.arrive(now, id) {
            self.arrived(id, message);
        }
    }

    fn arrived(&mut self, id: LinkId, message: Bytes) {
        let Some(link) = self.network.links.get_mut(&id) else { return };
        let ((from, _, from_key), (to, to_life, _)) = (link.from, link.to);
        if self.hosts[to].life != to_life {
            return;
        }
        if !link.accepted {
            link.accepted = true;
            let before =
                self.hosts[to].process.as_mut().and_then(|process| process.inbound.insert(from_key, id));
            // A newer connection takes the place of the one before.
            if let Some(before) = before.and_then(|before| self.network.links.get_mut(&before)) {
                before.open_to = false;
                before.queue.clear();
            }
            let address = cluster_address(from);
            if let Some(process) = &mut self.hosts[to].process
                && !process.links.contains_key(&from_key)
                && process.dialing.insert(address.clone())
            {
                self.dial_again(to, address, MILLI);
            }
        }
        if message.is_empty() {
            return;
        }
        let message = match PeerMessage::decode(message) {
            Ok(message) => message,
            Err(error) => {
                self.checker.violation(format!("host {to} cannot read a message of host {from}: {error}"));
                return;
            }
        };
        let Some(process) = &mut self.hosts[to].process else { return };
        if process.links.contains_key(&from_key) {
            self.input(to, Input::PeerMessage { from: from_key, message });
        } else {
            process.stash.entry(from_key).or_default().push(message);
        }
    }

    pub(super) fn check_link(&mut self, id: LinkId) {
        let now = self.now();
        self.pump_link(id);
        let Some(link) = self.network.links.get(&id) else { return };
        let ((from, from_life, _), (to, to_life, _)) = (link.from, link.to);
        let from_cut = self.network.is_cut(from, to);
        let to_cut = self.network.is_cut(to, from);
        let alive =
            |host: HostId, life: u64| self.hosts[host].life == life && self.hosts[host].process.is_some();
        let paused =
            |host: HostId| self.hosts[host].process.as_ref().is_some_and(|process| process.paused.is_some());
        let silent = from_cut || !alive(from, from_life) || paused(from) || !link.open_from;
        let unacknowledged = to_cut || !alive(to, to_life);
        let back = |host: HostId| self.hosts[host].process.is_some();
        // The end of a process closes its connections in order; the end of a machine does not.
        let from_closed =
            !link.open_from && !from_cut && link.queue.is_empty() && (!link.from_lost || back(from));
        let to_closed = !link.open_to && !to_cut && (!link.to_lost || back(to));
        let timeout = self.network.read_timeout;
        let Some(link) = self.network.links.get_mut(&id) else { return };
        let since = |since: &mut Option<Micros>, holds: bool| match (holds, *since) {
            (false, _) => {
                *since = None;
                0
            }
            (true, Some(begun)) => now - begun,
            (true, None) => {
                *since = Some(now);
                0
            }
        };
        let silence = since(&mut link.silent_since, silent);
        let waiting = since(&mut link.unacknowledged_since, unacknowledged);
        if link.open_to && (silence >= timeout || from_closed) {
            self.link_ended_at_answerer(id);
        }
        let Some(link) = self.network.links.get(&id) else { return };
        if link.open_from && (waiting >= (timeout * 2).max(UNACKNOWLEDGED_MIN) || to_closed) {
            self.link_ended_at_dialer(id);
        }
        let Some(link) = self.network.links.get(&id) else { return };
        if link.open_from || link.open_to {
            self.schedule.after(CHECK, Happening::LinkCheck(id));
        } else {
            self.network.links.remove(&id);
        }
    }

    fn link_ended_at_dialer(&mut self, id: LinkId) {
        let Some(link) = self.network.links.get_mut(&id) else { return };
        link.open_from = false;
        let ((host, life, _), (to, _, to_key)) = (link.from, link.to);
        let kept = self.network.prefix(self.network.links[&id].queue.len());
        if let Some(link) = self.network.links.get_mut(&id) {
            link.queue.truncate(kept);
        }
        if self.hosts[host].life != life {
            return;
        }
        let Some(process) = &mut self.hosts[host].process else { return };
        if process.links.get(&to_key) == Some(&id) {
            process.links.remove(&to_key);
            self.input(host, Input::PeerUnlinked { peer: to_key });
        }
        self.dial_again(host, cluster_address(to), 20 * MILLI);
    }

    fn link_ended_at_answerer(&mut self, id: LinkId) {
        let Some(link) = self.network.links.get_mut(&id) else { return };
        link.open_to = false;
        link.queue.clear();
        let ((_, _, from_key), (host, life, _)) = (link.from, link.to);
        if self.hosts[host].life != life {
            return;
        }
        let Some(process) = &mut self.hosts[host].process else { return };
        if process.inbound.get(&from_key) != Some(&id) {
            return;
        }
        process.inbound.remove(&from_key);
        process.stash.remove(&from_key);
        // What it sent last may be lost, and so may be what we sent it: both sides begin anew.
        let own = process.links.get(&from_key).copied();
        if let Some(own) = own {
            self.link_ended_at_dialer(own);
        } else {
            self.input(host, Input::PeerUnlinked { peer: from_key });
        }
    }

    /// Every connection of this host breaks, as by a reset: what was on its way is lost, both ends learn of it at once.
    /// False if there is none.
    pub(super) fn reset_links(&mut self, host: HostId) -> bool {
        let links = self.network.links.iter();
        let ids: Vec<LinkId> =
            links.filter(|(_, link)| link.from.0 == host || link.to.0 == host).map(|(id, _)| *id).collect();
        for id in &ids {
            self.link_ended_at_answerer(*id);
            if self.network.links.get(id).is_some_and(|link| link.open_from) {
                self.link_ended_at_dialer(*id);
            }
        }
        !ids.is_empty()
    }

    /// A process is gone: its connections go with it, with a word or without.
    pub(super) fn links_of_ended(&mut self, host: HostId, life: u64, key: PeerKey, power: bool) {
        let ids: Vec<LinkId> = self.network.links.keys().copied().collect();
        for id in ids {
            let Some(length) = self.network.links.get(&id).map(|link| link.queue.len()) else { continue };
            let Some(link) = self.network.links.get(&id) else { continue };
            let (is_from, is_to) = (link.from == (host, life, key), link.to == (host, life, key));
            let kept = if is_from && link.open_from { self.network.prefix(length) } else { length };
            let Some(link) = self.network.links.get_mut(&id) else { continue };
            if is_from && link.open_from {
                link.open_from = false;
                link.from_lost = power;
                link.queue.truncate(kept);
            }
            if is_to && link.open_to {
                link.open_to = false;
                link.to_lost = power;
                link.queue.clear();
            }
            if is_from || is_to {
                let delay = self.network.delay();
                let extra = self.dice.between(0, 3) * MILLI;
                self.schedule.after(delay + extra, Happening::LinkCheck(id));
            }
        }
    }
}
