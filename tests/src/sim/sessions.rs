//! Clients' connections to brokers, through the product's codec in both directions.

use std::collections::VecDeque;

use bytes::BytesMut;
use quorate_core::io::{Input, SessionId};
use quorate_protocol::codec::{BrokerDecoder, ClientDecoder, encode};
use quorate_protocol::frame::{ClientFrame, ServerFrame};
use quorate_protocol::limits::Limits;

use super::client::{ClientAction, FIRST_VHOST};
use super::network::Connection;
use super::schedule::{ClientId, ConnectionId, Happening, HostId, MILLI};
use super::world::{CLIENT_TICK, World};

impl World {
    pub(super) fn client_tick(&mut self, client: ClientId) {
        let now = self.now();
        let mut actions = Vec::new();
        let first = self.clients[client].vhost == FIRST_VHOST;
        let checker = if first { &mut self.checker } else { &mut self.passed };
        self.clients[client].tick(now, checker, &mut actions);
        self.client_acts(client, actions);
        self.schedule.after(CLIENT_TICK, Happening::ClientTick(client));
    }

    fn connection_of(&self, client: ClientId) -> Option<ConnectionId> {
        self.network.connections.iter().find(|(_, c)| c.client == client && c.open_client).map(|(id, _)| *id)
    }

    fn client_acts(&mut self, client: ClientId, actions: Vec<ClientAction>) {
        for action in actions {
            match action {
                ClientAction::Connect(host) => {
                    let id = self.network.number();
                    let connection = Connection {
                        client,
                        host,
                        life: self.hosts[host].life,
                        session: SessionId(0),
                        up: VecDeque::new(),
                        down: VecDeque::new(),
                        open_client: true,
                        open_host: false,
                        broker_decoder: BrokerDecoder::new(Limits::default()),
                        client_decoder: ClientDecoder::new(Limits::default()),
                    };
                    self.network.connections.insert(id, connection);
                    let delay = self.network.delay() + self.network.delay();
                    self.schedule.after(delay, Happening::Connected(id));
                }
                ClientAction::Send(frame) => {
                    if let Some(id) = self.connection_of(client) {
                        let mut bytes = BytesMut::new();
                        encode(&frame, 0, &mut bytes);
                        self.put_up(id, bytes.freeze());
                    }
                }
                ClientAction::Hang => {
                    if let Some(id) = self.connection_of(client) {
                        self.client_hangs(id);
                    }
                }
            }
        }
    }

    /// A client closes; the broker learns it after what was sent before.
    fn client_hangs(&mut self, id: ConnectionId) {
        if let Some(connection) = self.network.connections.get_mut(&id) {
            connection.open_client = false;
            connection.down.clear();
            self.put_up(id, bytes::Bytes::new());
        }
    }

    fn put_up(&mut self, id: ConnectionId, bytes: bytes::Bytes) {
        let at = self.now() + self.network.delay();
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        let at = connection.up.back().map_or(0, |(last, _)| *last).max(at);
        connection.up.push_back((at, bytes));
        self.schedule.at(at, Happening::FrameUp(id));
    }

    fn put_down(&mut self, id: ConnectionId, bytes: bytes::Bytes) {
        let at = self.now() + self.network.delay();
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        let at = connection.down.back().map_or(0, |(last, _)| *last).max(at);
        connection.down.push_back((at, bytes));
        self.schedule.at(at, Happening::FrameDown(id));
    }

    pub(super) fn client_connected(&mut self, id: ConnectionId) {
        let now = self.now();
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        let (host, client) = (connection.host, connection.client);
        let life = self.hosts[host].life;
        let answers = self.hosts[host].process.as_mut().filter(|process| process.paused.is_none());
        let Some(process) = answers.filter(|_| connection.life == life && connection.open_client) else {
            let was_open = connection.open_client;
            self.network.connections.remove(&id);
            if was_open {
                self.clients[client].apart(now);
            }
            return;
        };
        let session = SessionId(process.next_session);
        process.next_session += 1;
        process.sessions.insert(session, id);
        connection.session = session;
        connection.open_host = true;
        self.input(host, Input::SessionOpened { session, address: format!("client{client}"), secure: true });
        let mut actions = Vec::new();
        self.clients[client].connected(now, &mut actions);
        self.client_acts(client, actions);
    }

    pub(super) fn pump_up(&mut self, id: ConnectionId) {
        let now = self.now();
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        if connection.up.front().is_none_or(|(at, _)| *at > now) {
            return;
        }
        let Some((_, bytes)) = connection.up.pop_front() else { return };
        let (host, life, session) = (connection.host, connection.life, connection.session);
        if !connection.open_host || self.hosts[host].life != life {
            return;
        }
        if bytes.is_empty() {
            self.network.connections.remove(&id);
            if let Some(process) = &mut self.hosts[host].process {
                process.sessions.remove(&session);
            }
            self.input(host, Input::SessionClosed { session });
            return;
        }
        let cost = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut buffer = BytesMut::from(&bytes[..]);
        match connection.broker_decoder.decode(&mut buffer) {
            Ok(Some((channel, frame))) => {
                // What follows a login is within the limits after it, as the broker's connection sees them.
                if matches!(frame, ClientFrame::Login(_)) {
                    connection.broker_decoder.logged_in();
                }
                self.input(host, Input::SessionFrame { session, frame, channel, cost });
            }
            other => self.checker.violation(format!("host {host} cannot read a client's frame: {other:?}")),
        }
    }

    pub(super) fn write_frame(
        &mut self,
        host: HostId,
        session: SessionId,
        channel: u16,
        frame: &ServerFrame,
    ) {
        let Some(id) = self.hosts[host].process.as_ref().and_then(|process| process.sessions.get(&session))
        else {
            return;
        };
        let id = *id;
        let place = match frame {
            ServerFrame::Confirm(it) if !it.duplicate => {
                Some((it.group, it.term, it.index, it.under_override, it.durability))
            }
            ServerFrame::Committed(it) if !it.duplicate => {
                Some((it.group, it.term, it.index, it.under_override, it.durability))
            }
            _ => None,
        };
        if let Some((group, term, index, under_override, policy)) = place {
            let group = quorate_store::ids::GroupId(group);
            let (term, index) = (quorate_store::ids::Term(term), quorate_store::ids::Index(index));
            let place = (group, term, index);
            // Whoever may lack something has no vote until it is filled again.
            let voters = self.hosts[host].process.as_ref().map_or(0, |process| process.node.voters(group));
            // Of what is marked as confirmed by fewer, one copy is enough.
            let needed = if under_override {
                1
            } else if self.is_weak() || self.tally.faults.contains_key("durability") {
                self.copies.min(voters / 2 + 1)
            } else {
                self.copies
            };
            let (copies, leads) = self.ledger.copies(host, place, policy.leader, policy.replicas);
            if (copies < needed || !leads) && !self.ledger.is_removed(group) {
                self.checker.violation(format!(
                    "host {host} confirmed entry {index} of term {term} by {policy:?}: its own log {} it, {copies} of {} hosts \
                     needed have come as far",
                    if leads { "has" } else { "lacks" },
                    needed
                ));
            }
        }
        let mut bytes = BytesMut::new();
        encode(frame, channel, &mut bytes);
        self.trace.bytes(&bytes);
        self.put_down(id, bytes.freeze());
    }

    pub(super) fn pump_down(&mut self, id: ConnectionId) {
        let now = self.now();
        let Some(connection) = self.network.connections.get_mut(&id) else { return };
        if connection.down.front().is_none_or(|(at, _)| *at > now) {
            return;
        }
        let Some((_, bytes)) = connection.down.pop_front() else { return };
        let (host, life, session, client) =
            (connection.host, connection.life, connection.session, connection.client);
        if !connection.open_client {
            return;
        }
        if bytes.is_empty() {
            self.network.connections.remove(&id);
            self.clients[client].apart(now);
            return;
        }
        let length = bytes.len() as u64;
        let mut buffer = BytesMut::from(&bytes[..]);
        let decoded = connection.client_decoder.decode(&mut buffer);
        if connection.open_host && self.hosts[host].life == life {
            self.input(host, Input::SessionDrained { session, bytes: length });
        }
        match decoded {
            Ok(Some((_, frame))) => {
                if matches!(frame, ServerFrame::LoginOk(_))
                    && let Some(connection) = self.network.connections.get_mut(&id)
                {
                    connection.client_decoder.logged_in();
                }
                let mut actions = Vec::new();
                let first = self.clients[client].vhost == FIRST_VHOST;
                let checker = if first { &mut self.checker } else { &mut self.passed };
                self.clients[client].frame(now, frame, checker, &mut actions);
                self.client_acts(client, actions);
            }
            other => {
                self.checker.violation(format!("a client cannot read a frame of host {host}: {other:?}"));
            }
        }
    }

    /// The broker closes; the client learns it after what was written before.
    pub(super) fn close_session(&mut self, host: HostId, session: SessionId) {
        let Some(process) = &mut self.hosts[host].process else { return };
        if let Some(id) = process.sessions.remove(&session) {
            if let Some(connection) = self.network.connections.get_mut(&id) {
                connection.open_host = false;
            }
            self.put_down(id, bytes::Bytes::new());
            self.input(host, Input::SessionClosed { session });
        }
    }

    /// A process is gone: its clients are told, unless the machine went with it.
    pub(super) fn sessions_of_ended(&mut self, host: HostId, life: u64, power: bool) {
        let ids: Vec<ConnectionId> = self.network.connections.keys().copied().collect();
        for id in ids {
            let Some(connection) = self.network.connections.get_mut(&id) else { continue };
            if connection.host != host || connection.life != life {
                continue;
            }
            connection.open_host = false;
            let length = connection.down.len();
            let kept = self.network.prefix(length);
            if let Some(connection) = self.network.connections.get_mut(&id) {
                connection.down.truncate(kept);
            }
            if !power {
                self.put_down(id, bytes::Bytes::new());
            }
        }
    }

    /// Every client's connection breaks, seen by both ends.
    pub fn cut_clients(&mut self) -> bool {
        let mut any_cut = false;
        let ids: Vec<ConnectionId> = self.network.connections.keys().copied().collect();
        for id in ids {
            let Some(connection) = self.network.connections.get(&id) else { continue };
            let (client, open) = (connection.client, connection.open_client);
            if !open {
                continue;
            }
            self.client_hangs(id);
            let now = self.now();
            self.clients[client].apart(now + self.dice.between(0, 200) * MILLI);
            any_cut = true;
        }
        any_cut
    }
}
