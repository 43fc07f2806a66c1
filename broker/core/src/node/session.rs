//! Client connections: greeting, login, heartbeats, and what is on the way to each client.

use std::collections::BTreeMap;

use quorate_protocol::codec::encoded_length;
use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::{
    Blocked, ClientFrame, Close, Confirm, Heartbeat, HelloOk, Login, LoginOk, MECHANISM_ANONYMOUS,
    MECHANISM_PLAIN, ProducerId, Refused, ServerFrame, Unblocked,
};
use quorate_protocol::version::CLIENT_VERSIONS;
use quorate_store::ids::GroupId;

use super::config::limits;
use super::group::Group;
use super::serving::Serving;
use super::{Node, Phase};
use crate::event::Event;
use crate::formation::{InitialStatus, Verdict};
use crate::io::{Output, SessionId, Tick};
use crate::machine::{QueueId, SlotView};

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing was said yet.
    Connected,
    /// Hello was answered.
    Greeted,
    /// Logged in to the virtual host of this group.
    Open(GroupId),
}

/// How many producers one connection may publish for.
const PRODUCERS: usize = 1024;
/// Heartbeat intervals that a client may ask for, in milliseconds.
const HEARTBEAT_MILLIS: std::ops::RangeInclusive<u64> = 50..=60_000;

/// One connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) address: String,
    pub(crate) secure: bool,
    pub(crate) stage: Stage,
    /// Of the protocol, from the greeting on.
    pub(crate) version: u16,
    heartbeat_millis: u64,
    heard: Tick,
    said: Tick,
    /// Bytes written and not yet taken by the socket.
    pub(crate) outbound: u64,
    /// The next number of each producer that may come on a channel without a gap.
    next_numbers: BTreeMap<(u16, ProducerId), u64>,
    confirms: Vec<(u16, Confirm)>,
    pub(crate) blocked: bool,
}

impl Session {
    /// The producer that publishes on this channel, if there is just one.
    pub(crate) fn producer_on(&self, channel: u16) -> Option<ProducerId> {
        let mut producers = self
            .next_numbers
            .range((channel, ProducerId(0))..=(channel, ProducerId(u128::MAX)))
            .map(|((_, id), _)| *id);
        let first = producers.next()?;
        producers.next().is_none().then_some(first)
    }

    /// Whether a batch that begins with `first` leaves no gap; if so, its numbers are expected no more.
    pub(crate) fn follows(&mut self, channel: u16, producer: ProducerId, first: u64, last: u64) -> bool {
        if let Some(next) = self.next_numbers.get_mut(&(channel, producer)) {
            if first > *next {
                return false;
            }
            *next = (*next).max(last.saturating_add(1));
        } else {
            if self.next_numbers.len() >= PRODUCERS {
                self.next_numbers.pop_first();
            }
            self.next_numbers.insert((channel, producer), last.saturating_add(1));
        }
        true
    }

    /// The batch that begins with `first` was refused and will come again: nothing after it is accepted before.
    pub(crate) fn expect_again(&mut self, channel: u16, producer: ProducerId, first: u64) {
        self.next_numbers
            .entry((channel, producer))
            .and_modify(|next| *next = (*next).min(first))
            .or_insert(first);
    }

    /// Gathers confirms until the round ends; neighbours become one.
    pub(crate) fn add_confirm(&mut self, channel: u16, confirm: Confirm) {
        if let Some((last_channel, last)) = self.confirms.last_mut()
            && *last_channel == channel
            && last.producer == confirm.producer
            && last.duplicate == confirm.duplicate
            && (last.epoch, last.term) == (confirm.epoch, confirm.term)
        {
            for range in confirm.ranges {
                match last.ranges.last_mut() {
                    Some(end) if end.last().checked_add(1) == Some(range.first()) => {
                        if let Some(joined) =
                            quorate_protocol::frame::NumberRange::new(end.first(), range.last())
                        {
                            *end = joined;
                        }
                    }
                    _ => last.ranges.push(range),
                }
            }
            last.index = confirm.index;
            return;
        }
        self.confirms.push((channel, confirm));
    }
}

/// A look at messages, until it is answered.
#[derive(Debug)]
pub(crate) struct Peek {
    pub(crate) group: GroupId,
    pub(crate) session: SessionId,
    pub(crate) channel: u16,
    pub(crate) request: u32,
    pub(crate) queue: QueueId,
    pub(crate) wanted: std::collections::VecDeque<(u64, SlotView, bool)>,
    pub(crate) found: Vec<quorate_protocol::frame::Peeked>,
    pub(crate) bytes: usize,
    pub(crate) more: bool,
}

impl Node {
    pub(super) fn session_opened(&mut self, id: SessionId, address: String, secure: bool) {
        if self.sessions.len() >= limits::SESSIONS {
            let frame = Refused {
                code: FaultCode::TooManySessions,
                text: format!("this broker accepts {} clients", limits::SESSIONS),
                leader_address: String::new(),
                retry_after_ms: 1000,
            };
            self.emit(Output::Write { session: id, channel: 0, frame: frame.into() });
            self.emit(Output::Close { session: id });
            return;
        }
        let session = Session {
            id,
            address,
            secure,
            stage: Stage::Connected,
            version: 0,
            heartbeat_millis: self.default_heartbeat(),
            heard: self.now,
            said: self.now,
            outbound: 0,
            next_numbers: BTreeMap::new(),
            confirms: Vec::new(),
            blocked: false,
        };
        self.sessions.insert(id, session);
    }

    fn default_heartbeat(&self) -> u64 {
        (self.config.timing.election_millis() / 2).clamp(*HEARTBEAT_MILLIS.start(), *HEARTBEAT_MILLIS.end())
    }

    pub(super) fn session_drained(&mut self, id: SessionId, bytes: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.outbound = session.outbound.saturating_sub(bytes);
        if let Stage::Open(group) = session.stage
            && session.outbound < limits::OUTBOUND_BYTES / 2
            && let Some(serving) = self.groups.get_mut(group).and_then(|group| group.serving.as_mut())
        {
            serving.delivery.resume(id);
        }
    }

    pub(super) fn session_closed(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        if let Stage::Open(group) = session.stage {
            self.with_group(group, |_, group| drop_consumers(group, id));
        }
    }

    pub(super) fn session_frame(&mut self, id: SessionId, channel: u16, frame: ClientFrame, cost: u32) {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(&id) else {
            self.emit(Output::Release { session: id, cost });
            return;
        };
        session.heard = now;
        let stage = session.stage;
        // What carries messages keeps its memory until it is applied; everything else is done with at once.
        if !matches!((&frame, stage), (ClientFrame::Publish(_) | ClientFrame::Commit(_), Stage::Open(_))) {
            self.emit(Output::Release { session: id, cost });
        }
        match (stage, frame) {
            (_, ClientFrame::Heartbeat(_)) => {}
            (_, ClientFrame::Close(_)) => {
                self.session_closed(id);
                self.emit(Output::Close { session: id });
            }
            (Stage::Connected, ClientFrame::Hello(hello)) => {
                match CLIENT_VERSIONS.negotiate(hello.versions) {
                    Ok(version) => {
                        let frame = HelloOk {
                            version,
                            server_name: format!(
                                "{} (quorated {})",
                                self.config.name,
                                env!("CARGO_PKG_VERSION")
                            ),
                            cluster_name: self.config.cluster_name.clone(),
                            frame_limit: self.config.frame_limit,
                            message_limit: self.config.message_limit,
                            heartbeat_ms: u32::try_from(self.default_heartbeat()).unwrap_or(u32::MAX),
                        };
                        self.write(id, 0, frame);
                        if let Some(session) = self.sessions.get_mut(&id) {
                            session.stage = Stage::Greeted;
                            session.version = version;
                        }
                    }
                    Err(problem) => {
                        self.refuse(id, FaultCode::UnsupportedVersion, problem.to_string(), "", 0);
                    }
                }
            }
            (Stage::Greeted, ClientFrame::Login(login)) => self.login(id, &login),
            (Stage::Open(group), frame) => {
                self.with_group(group, |node, group| node.request(group, id, channel, frame, cost));
            }
            (_, frame) => {
                use quorate_protocol::frame::Frame as _;
                let text = format!("{} is not expected before the login", frame.kind_name());
                self.refuse(id, FaultCode::UnexpectedFrame, text, "", 0);
            }
        }
    }

    fn login(&mut self, id: SessionId, login: &Login) {
        let Some(session) = self.sessions.get(&id) else { return };
        if !session.secure {
            let text = "this listener needs TLS for clients that are not on the broker's own host".to_owned();
            self.refuse(id, FaultCode::NotSecure, text, "", 0);
            return;
        }
        if ![MECHANISM_ANONYMOUS, MECHANISM_PLAIN].contains(&login.mechanism.as_str()) {
            let text = format!("known mechanisms are {MECHANISM_ANONYMOUS} and {MECHANISM_PLAIN}");
            self.refuse(id, FaultCode::MechanismUnsupported, text, "", 0);
            return;
        }
        let vhost = login.vhost.as_str();
        match self.serves(vhost) {
            Ok(group) => {
                let heartbeat = match u64::from(login.heartbeat_ms) {
                    0 => self.default_heartbeat(),
                    asked => asked.clamp(*HEARTBEAT_MILLIS.start(), *HEARTBEAT_MILLIS.end()),
                };
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.stage = Stage::Open(group);
                    session.heartbeat_millis = heartbeat;
                }
                let frame = LoginOk {
                    session: id.0,
                    vhost: login.vhost.clone(),
                    leader_name: self.config.name.clone(),
                    heartbeat_ms: u32::try_from(heartbeat).unwrap_or(u32::MAX),
                };
                self.write(id, 0, frame);
                if self.space_low {
                    self.tell_blocked(id);
                }
            }
            Err((code, text, leader, retry)) => self.refuse(id, code, text, &leader, retry),
        }
    }

    /// The group of a virtual host that this broker serves, or why it does not: code, text, leader, when to retry.
    pub(super) fn serves(&self, vhost: &str) -> Result<GroupId, (FaultCode, String, String, u32)> {
        let none = String::new;
        if matches!(self.phase, Phase::Stopping) {
            return Err((FaultCode::ShuttingDown, "this broker is stopping".into(), none(), 200));
        }
        if self.is_closing() {
            return Err((FaultCode::ShuttingDown, "the cluster is shutting down".into(), none(), 200));
        }
        let known = self.system().filter(|system| system.cluster().is_some());
        let group = known.and_then(|system| system.vhost_group(vhost));
        let Some(group) = group.and_then(|group| self.groups.get(group)) else {
            let system = self.groups.get(GroupId::SYSTEM).filter(|group| group.seen_role != "waiting");
            if let Some(system) = system.filter(|_| known.is_some() && group.is_none()) {
                return Err(self.not_found(system, vhost));
            }
            let decision = self.decision.as_ref();
            let reason =
                decision.map_or_else(|| "reading its store".to_owned(), |decision| decision.reason.clone());
            let code = match decision.map(|decision| decision.verdict) {
                Some(Verdict::NeedsOperator | Verdict::Held) => FaultCode::NeedsOperator,
                _ => FaultCode::Waiting,
            };
            return Err((code, format!("broker {}: {reason}", self.config.name), none(), 200));
        };
        if group.serving.is_some() && group.gated_since.is_none() {
            return Ok(group.id);
        }
        let Some(replica) = &group.replica else {
            let (code, text, retry) = self.not_begun(group);
            return Err((code, text, none(), retry));
        };
        if let Some(gate) = self.gate(group).filter(|_| replica.is_leader()) {
            return Err((gate.code(), gate.told(vhost), none(), gate.retry_millis()));
        }
        if replica.is_leader() {
            return Err((FaultCode::NotReady, "this broker was just elected".into(), none(), 20));
        }
        if let Some((name, address)) = self.leader_address(group) {
            let text = format!("virtual host {vhost} is led by {name}");
            return Err((FaultCode::NotLeader, text, address, 0));
        }
        // Where some store has no vote, nobody may elect one before an operator has decided. An election asks nothing of that.
        let is_outvoted = || {
            let (code, text, retry) = self.not_begun(group);
            (code == FaultCode::NeedsOperator).then_some((code, text, none(), retry))
        };
        if let Some(refusal) = self.may_lack_votes(group).then(is_outvoted).flatten() {
            return Err(refusal);
        }
        let text = format!(
            "virtual host {vhost} has no leader: {} of {} needed voters are in contact with this broker",
            self.voters_in_contact(group),
            group.configuration.majority()
        );
        Err((FaultCode::NoQuorum, text, none(), 50))
    }

    /// Somebody here may lack what it acknowledged of the group.
    fn may_lack_votes(&self, group: &Group) -> bool {
        let lacks = |status: &InitialStatus| status.group(group.id).is_some_and(|part| !part.trusted);
        group.acknowledging.lacks.is_some() || self.peers.statuses().any(lacks)
    }

    /// Only the leader of `system` knows that there is no such virtual host; with another broker it may just not have been
    /// heard of yet.
    fn not_found(&self, system: &Group, vhost: &str) -> (FaultCode, String, String, u32) {
        if system.leads_surely() {
            return (
                FaultCode::VhostNotFound,
                format!("there is no virtual host {vhost:?}"),
                String::new(),
                0,
            );
        }
        let text = format!("broker {} has not heard of a virtual host {vhost:?}", self.config.name);
        if let Some((name, address)) = self.leader_address(system) {
            (FaultCode::NotLeader, format!("{text}; {name} knows"), address, 0)
        } else {
            (FaultCode::NoQuorum, format!("{text}, and nobody leads `system`"), String::new(), 50)
        }
    }

    /// Name and client address of a group's leader, if it is known and not this broker.
    pub(super) fn leader_address(&self, group: &Group) -> Option<(String, String)> {
        let leader = group.replica.as_ref()?.leader()?;
        let store = self.peers.store_of(leader)?;
        if store == self.own.store {
            return None;
        }
        let from_system =
            self.system().and_then(|system| system.member(store)).map(|m| m.client_address.clone());
        let address = match self.peers.get(store) {
            Some(peer) => peer.identity.client_address.clone(),
            None => from_system.unwrap_or_default(),
        };
        Some((self.name_of(store), address))
    }

    fn refuse(&mut self, id: SessionId, code: FaultCode, text: String, leader: &str, retry_after_ms: u32) {
        if !code.is_retryable() {
            let who = self.sessions.get(&id).map_or_else(String::new, |session| session.address.clone());
            self.event(Event::Refused {
                who: format!("client {who}"),
                why: format!("{}: {text}", code.name()),
            });
        }
        let frame = Refused { code, text, leader_address: leader.to_owned(), retry_after_ms };
        self.write(id, 0, frame);
        self.session_closed(id);
        self.emit(Output::Close { session: id });
    }

    /// Ends a session that is logged in.
    pub(super) fn close_session(&mut self, id: SessionId, code: FaultCode, text: String, leader: String) {
        self.write(id, 0, Close { code: Some(code), text, leader_address: leader });
        self.sessions.remove(&id);
        self.emit(Output::Close { session: id });
    }

    /// Writes a frame; what the client has not taken yet is counted.
    pub(super) fn write(&mut self, id: SessionId, channel: u16, frame: impl Into<ServerFrame>) {
        let frame = frame.into();
        if let Some(session) = self.sessions.get_mut(&id) {
            session.said = self.now;
            session.outbound += encoded_bytes(&frame);
            self.outputs.push_back(Output::Write { session: id, channel, frame });
        }
    }

    /// Confirms gathered in this round.
    pub(super) fn flush_sessions(&mut self) {
        if !std::mem::take(&mut self.sessions_to_flush) {
            return;
        }
        let now = self.now;
        for session in self.sessions.values_mut() {
            for (channel, confirm) in session.confirms.drain(..) {
                session.said = now;
                let frame = ServerFrame::from(confirm);
                session.outbound += encoded_bytes(&frame);
                self.outputs.push_back(Output::Write { session: session.id, channel, frame });
            }
        }
    }

    pub(super) fn session_heartbeats(&mut self) {
        let mut gone = Vec::new();
        let mut beats = Vec::new();
        for session in self.sessions.values() {
            let silence =
                if matches!(session.stage, Stage::Open(_)) { session.heartbeat_millis * 2 } else { 10_000 };
            // A tick is the precision of this clock.
            if self.now.since(session.heard) > silence + self.config.timing.tick_millis {
                gone.push((session.id, session.stage));
            } else if matches!(session.stage, Stage::Open(_))
                && self.now.since(session.said) + self.config.timing.tick_millis >= session.heartbeat_millis
            {
                beats.push(session.id);
            }
        }
        for id in beats {
            self.write(id, 0, Heartbeat {});
        }
        for (id, stage) in gone {
            let (code, text) = match stage {
                Stage::Open(_) => {
                    (FaultCode::HeartbeatMissed, "nothing was heard for two heartbeat intervals")
                }
                _ => (FaultCode::LoginTimeout, "no login within 10 seconds"),
            };
            if let Stage::Open(group) = stage {
                self.with_group(group, |_, group| drop_consumers(group, id));
            }
            self.close_session(id, code, text.to_owned(), String::new());
        }
    }

    pub(super) fn space_changed(&mut self, low: bool) {
        if self.space_low == low {
            return;
        }
        self.space_low = low;
        self.event(Event::SpaceLow { low });
        let open: Vec<_> = self
            .sessions
            .values()
            .filter(|session| matches!(session.stage, Stage::Open(_)))
            .map(|session| (session.id, session.blocked))
            .collect();
        for (id, blocked) in open {
            if low {
                self.tell_blocked(id);
            } else if blocked {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.blocked = false;
                }
                self.write(id, 0, Unblocked {});
            }
        }
    }

    pub(super) fn tell_blocked(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.blocked = true;
        }
        let text = format!(
            "the disk of broker {} is nearly full; publishing goes on when space returns",
            self.config.name
        );
        self.write(id, 0, Blocked { code: FaultCode::DiskLow, text });
    }

    /// This broker has become fit to serve the group's virtual host.
    pub(super) fn leadership_won(group: &mut Group) {
        if let Some(machine) = group.machine.vhost() {
            group.serving = Some(Serving::new(machine));
        }
    }

    /// Order on demotion: stop serving, drop what was open, then follow.
    pub(super) fn leadership_lost(&mut self, group: &mut Group) {
        self.bequeath(group);
        group.learners.clear();
        group.rivals.clear();
        group.gated_since = None;
        group.lease_until = Tick::default();
        group.force_told_at = Tick::default();
        self.admissions.clear();
        self.drop_source(group);
        let leader = self.leader_address(group);
        let (code, text, address) = match leader {
            Some((name, address)) => {
                (FaultCode::NotLeader, format!("virtual host {} is led by {name} now", group.vhost), address)
            }
            None => (
                FaultCode::NoQuorum,
                format!("virtual host {} has lost its leader; its clients connect again", group.vhost),
                String::new(),
            ),
        };
        self.stop_serving(group, code, &text, &address);
    }

    /// Dismisses the group's clients; what they wait for they are not told.
    pub(super) fn stop_serving(&mut self, group: &mut Group, code: FaultCode, text: &str, address: &str) {
        group.serving = None;
        self.drop_held(group);
        let sessions: Vec<_> = self
            .sessions
            .values()
            .filter(|session| session.stage == Stage::Open(group.id))
            .map(|session| session.id)
            .collect();
        for id in sessions {
            self.close_session(id, code, text.to_owned(), address.to_owned());
        }
    }
}

/// What the driver will count when the frame leaves for the socket: exactly as much, or what is on its way would seem to
/// grow for ever.
fn encoded_bytes(frame: &ServerFrame) -> u64 {
    u64::try_from(encoded_length(frame)).unwrap_or(u64::MAX)
}

/// A client is gone: what it held is ready again, at its old place.
fn drop_consumers(group: &mut Group, id: SessionId) {
    let Some(serving) = &mut group.serving else { return };
    for (_, settlement) in serving.detach_session(id) {
        if !settlement.ranges.is_empty() {
            let command =
                crate::machine::Command::Returned { queue: settlement.queue, ranges: settlement.ranges };
            group.propose(command, super::origin::Origin::Internal);
        }
    }
}
