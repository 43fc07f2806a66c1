//! Operators' commands about members: refused, decided in `system`, and answered when the groups have followed.

use quorate_store::ids::{GroupId, StoreId};

use super::Node;
use super::controls::check_reason;
use super::origin::Origin;
use crate::admin::{AdminReply, MemberAct, MemberReport, MemberRequest};
use crate::formation::status::StoreState;
use crate::io::{AdminId, Output, Tick};
use crate::machine::{Command, Member, Outcome, SystemMachine};

/// Whoever asked is told how far it is after this at most, in milliseconds. What was decided goes on.
const ANSWER_MILLIS: u64 = 20_000;
/// Commands that wait for an answer at a time.
const MAX_WISHES: usize = 64;

/// A command that is on its way.
#[derive(Debug)]
pub(crate) struct Wish {
    id: AdminId,
    request: MemberRequest,
    /// Whom it is about, if that is a member now.
    store: Option<StoreId>,
    until: Tick,
    /// `system` has it.
    decided: bool,
    changed: bool,
}

impl Wish {
    /// What was removed had never come: no store had the name, and none is kept out.
    fn took_back_a_permission(&self, system: &SystemMachine) -> bool {
        let retired = || system.retired().any(|(_, retired)| retired.name == self.request.name);
        self.store.is_none() && (self.changed || !retired())
    }
}

/// How far a wish is.
enum Progress {
    Done(String),
    UnderWay(String),
}

impl Node {
    /// An operator wants something of a member.
    pub(super) fn ask_member(&mut self, id: AdminId, request: MemberRequest) -> Result<(), AdminReply> {
        self.require_system_leader()?;
        if self.is_closing() {
            return Err(refused("SHUTTING_DOWN", "the cluster is being shut down".into(), &[]));
        }
        if self.wishes.len() >= MAX_WISHES {
            return Err(refused("OVERLOADED", "too many commands about members wait already".into(), &[]));
        }
        let Some(system) = self.system() else {
            return Err(refused("NO_QUORUM", "this broker has no state of the group `system`".into(), &[]));
        };
        let store = system.named(&request.name).map(|member| member.store);
        check_reason(&request.reason)?;
        let command = self.command_for(system, &request)?;
        let decided = command.is_none();
        let (author, reason) = (request.author.clone(), request.reason.clone());
        if let Some(command) = command {
            self.propose_asked(command, (author, reason), Origin::Member(id));
        }
        let until = self.now.plus(request.within_millis.min(ANSWER_MILLIS));
        self.wishes.push(Wish { id, request, store, until, decided, changed: false });
        Ok(())
    }

    /// What `system` must decide, nothing if it has already, or why it is refused.
    fn command_for(
        &self,
        system: &SystemMachine,
        request: &MemberRequest,
    ) -> Result<Option<Command>, AdminReply> {
        let name = request.name.clone();
        let intents = system.intents();
        let retired = system.retired().any(|(_, retired)| retired.name == name);
        let waited_for = intents.wanted.contains_key(&name);
        let Some(member) = system.named(&name) else {
            return match request.act {
                MemberAct::Add if !self.is_name_permitted(&name, request.address.as_deref()) => Err(refused(
                    "MEMBER_NOT_PERMITTED",
                    format!("the list of permitted nodes names neither {name} nor its address"),
                    &[&self.permit_also(&name)],
                )),
                MemberAct::Add => Ok(Some(Command::PermitMember {
                    name,
                    address: request.address.clone().unwrap_or_default(),
                })),
                MemberAct::Remove if waited_for => Ok(Some(Command::ForgetMember { name })),
                MemberAct::Remove if retired => Ok(None),
                MemberAct::Replace if waited_for => Ok(None),
                _ => Err(refused(
                    "MEMBER_NOT_FOUND",
                    format!("no member of the cluster has the name {name}"),
                    &["quorate member list"],
                )),
            };
        };
        let store = member.store;
        if let Some(asked) =
            request.store.filter(|asked| *asked != store && request.act == MemberAct::Replace)
        {
            // That one is gone: what has its place now is not meant.
            if system.is_retired(asked) {
                return Ok(None);
            }
            let text = format!("the store of {name} is {store}, and {asked} was meant");
            return Err(refused("MEMBER_DIFFERS", text, &["quorate member list"]));
        }
        let leaving = intents.leaving.filter(|leaving| leaving.store == store);
        let alive = self.is_alive(store);
        match request.act {
            MemberAct::Add => {
                Ok(Some(Command::PermitMember { name, address: request.address.clone().unwrap_or_default() }))
            }
            MemberAct::Remove | MemberAct::Replace => {
                let replaced = request.act == MemberAct::Replace;
                match leaving {
                    Some(leaving) if leaving.replaced == replaced => return Ok(None),
                    Some(_) => {
                        let text = format!("{name} is on its way out by another command");
                        return Err(refused("MEMBER_CHANGING", text, &["quorate member list"]));
                    }
                    None => {}
                }
                if replaced && alive {
                    // Asked again by whoever did not hear the answer.
                    if retired {
                        return Ok(None);
                    }
                    let text = format!(
                        "the store of {name}, {store}, is here and sound: there is nothing to replace; if its disk is \
                         to go, stop the broker first"
                    );
                    return Err(refused("MEMBER_ALIVE", text, &["quorate member list"]));
                }
                self.check_departure(system, member)?;
                Ok(Some(Command::LeaveMember { store, replaced }))
            }
            MemberAct::Drain => {
                let others = system.members().filter(|other| {
                    other.store != store
                        && !intents.drained.contains(&other.store)
                        && self.is_alive(other.store)
                        && self.steps.roster.system_voters.contains(&other.raft_id.0)
                });
                if others.count() == 0 {
                    let text =
                        format!("nobody but {name} could lead: no other voter is here and not drained");
                    return Err(refused("MEMBER_NEEDED", text, &["quorate member list"]));
                }
                Ok(Some(Command::DrainMember { store, drained: true }))
            }
            MemberAct::Resume => Ok(Some(Command::DrainMember { store, drained: false })),
        }
    }

    /// What permits this one beside those that are permitted already.
    fn permit_also(&self, name: &str) -> String {
        let listed = self.groups.get(GroupId::SYSTEM).map(|system| system.controls.permitted());
        let listed = listed.into_iter().flatten().map(String::as_str);
        listed.chain([name]).fold("quorate member permit".to_owned(), |typed, node| typed + " --node " + node)
    }

    /// Whether an operator's list, if there is one, lets a broker of this name or address join.
    fn is_name_permitted(&self, name: &str, address: Option<&str>) -> bool {
        let system = self.groups.get(GroupId::SYSTEM);
        system.is_none_or(|system| system.controls.permits(std::iter::once(name).chain(address)))
    }

    /// Here, and not damaged.
    fn is_alive(&self, store: StoreId) -> bool {
        let damaged = || {
            let status = self.peers.get(store).and_then(|peer| peer.status.as_ref());
            status.is_some_and(|status| matches!(status.state, StoreState::Damaged { .. }))
        };
        store == self.own.store || (self.peers.is_linked(store) && !damaged())
    }

    /// Refuses to begin what could not be ended: those who stay must be able to go on without the one that leaves.
    fn check_departure(&self, system: &SystemMachine, leaver: &Member) -> Result<(), AdminReply> {
        let name = &leaver.name;
        if let Some(other) = system.intents().leaving.filter(|leaving| leaving.store != leaver.store) {
            let text = format!("{} is on its way out: one member after the other", self.name_of(other.store));
            return Err(refused("MEMBER_CHANGING", text, &["quorate member list"]));
        }
        for group in self.groups.values() {
            if !group.configuration.voters.contains(&leaver.raft_id.0) {
                continue;
            }
            let staying = group.configuration.voters.iter().filter(|id| **id != leaver.raft_id.0);
            let stores: Vec<Option<StoreId>> =
                staying.map(|id| self.peers.store_of(quorate_store::ids::RaftId(*id))).collect();
            if stores.is_empty() {
                let text =
                    format!("{name} is the last voter of virtual host {}: all data would go", group.vhost);
                return Err(refused("MEMBER_NEEDED", text, &["quorate member add --name NAME"]));
            }
            let sound = |store: &&Option<StoreId>| {
                store.is_some_and(|store| {
                    let status = self.peers.get(store).and_then(|peer| peer.status.as_ref());
                    let part = status.and_then(|status| status.group(group.id));
                    self.is_alive(store) && (store == self.own.store || part.is_some_and(|part| part.trusted))
                })
            };
            let here = stores.iter().filter(sound).count();
            let needed = stores.len() / 2 + 1;
            if here < needed {
                let text = format!(
                    "virtual host {} would be left without a quorum: of its {} other voters {here} are here and up \
                     to date, and {needed} are needed",
                    group.vhost,
                    stores.len()
                );
                return Err(refused(
                    "MEMBER_NEEDED",
                    text,
                    &["quorate cluster status", "start the other brokers"],
                ));
            }
        }
        Ok(())
    }

    /// `system` has decided about a wish.
    pub(super) fn wish_decided(&mut self, id: AdminId, outcome: Outcome) {
        let Some(at) = self.wishes.iter().position(|wish| wish.id == id) else { return };
        if let Outcome::Failed(code, message) = outcome {
            self.wishes.remove(at);
            let reply = refused(code.name(), message, &["quorate member list"]);
            self.emit(Output::AdminReply { id, reply });
            return;
        }
        if let Some(wish) = self.wishes.get_mut(at) {
            wish.decided = true;
            wish.changed = !matches!(outcome, Outcome::Done { affected: 0 });
        }
    }

    /// Answers what has come to its end, or to its time. Called once a round.
    pub(super) fn answer_wishes(&mut self) {
        if self.wishes.is_empty() {
            return;
        }
        let lost = self.require_system_leader().err();
        let mut waiting = Vec::new();
        for wish in std::mem::take(&mut self.wishes) {
            let reply = match (&lost, self.progress(&wish)) {
                (Some(AdminReply::Failed { leader_admin_address, .. }), _) => {
                    leader_changed(&wish, leader_admin_address.clone())
                }
                (_, Some(Progress::Done(detail))) => self.member_report(&wish, true, detail),
                (_, Some(Progress::UnderWay(detail))) if self.now >= wish.until || self.is_closing() => {
                    self.member_report(&wish, false, detail)
                }
                (_, None) if self.now >= wish.until => refused(
                    "UNDECIDED",
                    "not decided in time; it may still be".into(),
                    &["quorate member list"],
                ),
                _ => {
                    waiting.push(wish);
                    continue;
                }
            };
            self.emit(Output::AdminReply { id: wish.id, reply });
        }
        self.wishes = waiting;
    }

    fn member_report(&self, wish: &Wish, complete: bool, detail: String) -> AdminReply {
        let store_id = self
            .system()
            .and_then(|system| system.named(&wish.request.name))
            .map(|member| member.store)
            .or(wish.store);
        AdminReply::Member(Box::new(MemberReport {
            name: wish.request.name.clone(),
            store_id,
            changed: wish.changed,
            complete,
            detail,
        }))
    }

    /// None: `system` has not decided yet.
    fn progress(&self, wish: &Wish) -> Option<Progress> {
        let system = self.system().filter(|_| wish.decided)?;
        let name = &wish.request.name;
        let member = system.named(name);
        let progress = match (wish.request.act, member) {
            (MemberAct::Add, None) => {
                Progress::UnderWay(format!("{name} becomes a voter when it comes; it is not here yet"))
            }
            (MemberAct::Add, Some(member)) => self.promotion(member),
            (MemberAct::Remove | MemberAct::Replace, Some(member))
                if wish.store == Some(member.store) && self.is_leaving(member.store) =>
            {
                Progress::UnderWay(self.departure(member))
            }
            (MemberAct::Remove, _) if wish.took_back_a_permission(system) => {
                Progress::Done(format!("nobody is waited for under the name {name} any more"))
            }
            (MemberAct::Remove, _) => {
                Progress::Done(format!("{name} is no member any more, and its store never will be again"))
            }
            (MemberAct::Replace, None) => {
                let here = self.peers.statuses().any(|status| status.name == *name);
                let text = format!(
                    "the old store of {name} is retired; an empty one under this name takes its place"
                );
                if here { Progress::UnderWay(text) } else { Progress::Done(text) }
            }
            (MemberAct::Replace, Some(member)) => self.promotion(member),
            (MemberAct::Drain, Some(member)) => {
                let led = self.groups.values().filter(|group| {
                    self.active_leader(group).is_some_and(|active| active.leader == member.store)
                });
                let led: Vec<&str> = led.map(|group| group.vhost.as_str()).collect();
                if led.is_empty() {
                    Progress::Done(format!("{name} leads nothing and votes on"))
                } else {
                    Progress::UnderWay(format!("{name} still leads: {}", led.join(", ")))
                }
            }
            (MemberAct::Resume, Some(_)) => Progress::Done(format!("{name} may lead again")),
            (MemberAct::Drain | MemberAct::Resume, None) => {
                Progress::Done(format!("{name} is no member any more"))
            }
        };
        Some(progress)
    }

    pub(super) fn is_leaving(&self, store: StoreId) -> bool {
        let leaving = self.system().and_then(|system| system.intents().leaving);
        leaving.is_some_and(|leaving| leaving.store == store)
    }

    /// Groups, by virtual host, in which this member has or lacks a place.
    fn groups_where(&self, has: impl Fn(&super::group::Group) -> bool) -> Vec<String> {
        let known = self.system().into_iter().flat_map(SystemMachine::vhosts);
        let missing =
            known.filter(|(_, id)| !self.groups.contains_key(*id)).map(|(name, _)| name.to_string());
        let found = self.groups.values().filter(|group| has(group)).map(|group| group.vhost.clone());
        found.chain(missing).collect()
    }

    fn promotion(&self, member: &Member) -> Progress {
        let name = &member.name;
        let lacks = self.groups_where(|group| !group.configuration.voters.contains(&member.raft_id.0));
        if lacks.is_empty() {
            Progress::Done(format!("{name} is a voter in every group"))
        } else {
            Progress::UnderWay(format!("{name} is updated; no voter yet in: {}", lacks.join(", ")))
        }
    }

    /// How far a member that leaves is.
    pub(super) fn departure(&self, member: &Member) -> String {
        let still = self.groups_where(|group| group.configuration.contains(member.raft_id.0));
        if still.is_empty() {
            format!("{} has left every group; the others sync that", member.name)
        } else {
            format!("{} is on its way out; still in: {}", member.name, still.join(", "))
        }
    }
}

/// Another broker leads `system` before a wish came to its end. The next leader finds done what was done here and says
/// that nothing changed: whoever asks it must know what it asked for before.
fn leader_changed(wish: &Wish, leader_admin_address: Option<String>) -> AdminReply {
    let (code, message) = match (wish.decided, wish.changed) {
        (true, true) => {
            ("LEADER_CHANGED", "decided; another broker leads now and goes on with it: ask again")
        }
        (true, false) => ("NOT_LEADER", "it was so already; another broker leads now: ask again"),
        (false, _) => ("UNDECIDED", "another broker leads now; it may still be decided: ask again"),
    };
    AdminReply::Failed {
        code,
        message: message.into(),
        next: vec!["quorate member list".into()],
        leader_admin_address,
    }
}

fn refused(code: &'static str, message: String, next: &[&str]) -> AdminReply {
    AdminReply::Failed {
        code,
        message,
        next: next.iter().map(|text| (*text).to_owned()).collect(),
        leader_admin_address: None,
    }
}
