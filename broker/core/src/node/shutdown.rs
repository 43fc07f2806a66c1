//! The administrative shutdown: every group's log ends with the same entry, everybody closes, and the stamps become
//! clean last of all.
//!
//! ```text
//!  operator ──> leader of `system` ── Shutdown{id, processes} ──> log of `system`
//!                                                     │ applied by every process that it names
//!      drain: no new work; each group's leader, when nothing of it is on the way, ends its log with the same entry
//!                                                     │ applied in every group
//!      complete: told to all; everybody stays until the others are complete
//!                                                     │
//!      close: log synced, checkpoints flushed, then the stamp: clean   (not complete in time: dirty, as any stop)
//!                                                     │
//!      report: to the initiator, who answers the operator and goes last
//! ```
//!
//! A leader that is elected meanwhile ends its logs again: the log of a member that is called clean ends with an entry
//! of this shutdown, or the stamp is not believed.

use std::collections::{BTreeMap, BTreeSet};

use quorate_protocol::fault::FaultCode;
use quorate_store::ids::{GroupId, StoreId};
use quorate_store::record::Entry;
use uuid::Uuid;

use super::group::Group;
use super::session::Stage;
use super::stop::Stopping;
use super::{Node, Phase};
use crate::admin::{AdminReply, Author, MemberShutdown, ShutdownReport};
use crate::control::{Control, MAX_PARTICIPANTS, Shutdown};
use crate::event::Level;
use crate::io::{AdminId, Output, PeerKey, Tick};
use crate::machine::SystemMachine;
use crate::peer::{ClosingStep, PeerMessage};
use crate::replica::Replica;

/// Whoever is not complete after this closes without being clean, in milliseconds.
const COMPLETE_MILLIS: u64 = 15_000;
/// Reports are waited for so much longer.
const REPORT_MILLIS: u64 = 5_000;
/// Between two tellings.
const TELL_MILLIS: u64 = 200;

/// A shutdown that this process takes part in.
#[derive(Debug)]
pub(crate) struct Closing {
    shutdown: Shutdown,
    /// Nobody is waited for after this.
    until: Tick,
    /// Since when all voters that are here are complete.
    voters_complete: Option<Tick>,
    step: Step,
    /// When to say again that this process is complete.
    tell_again: Tick,
    /// Who has said that the logs of all its groups have ended.
    complete: BTreeSet<StoreId>,
    /// Who has closed, and why it is not clean if it is not.
    closed: BTreeMap<StoreId, Option<String>>,
    /// The initiator knows that this process has closed.
    noted: bool,
}

/// How far this process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The groups' logs are being ended.
    Draining,
    /// Log, state and stamp are being closed.
    Closing,
    /// Everything is closed; the report is on its way, or the others' are awaited.
    Reporting,
}

/// What an initiator asked its group `system` for, until it is applied.
#[derive(Debug, Default)]
pub(crate) struct Askers {
    shutdown: Option<Shutdown>,
    waiting: Vec<AdminId>,
}

impl Node {
    /// An operator wants the cluster shut down.
    pub(super) fn ask_shutdown(
        &mut self,
        id: AdminId,
        reason: &str,
        author: &Author,
    ) -> Result<(), AdminReply> {
        if self.askers.shutdown.is_some() {
            self.askers.waiting.push(id);
            return Ok(());
        }
        if let Some(closing) = &self.closing {
            let initiator = closing.shutdown.initiator;
            return Err(failed(
                FaultCode::ShuttingDown,
                "the cluster is being shut down already".into(),
                self.peers.get(initiator).map(|peer| peer.identity.admin_address.clone()),
            ));
        }
        self.require_system_leader()?;
        let stranded: Vec<&str> = self
            .groups
            .values()
            .filter(|group| self.active_leader(group).is_none())
            .map(|group| group.vhost.as_str())
            .collect();
        if !stranded.is_empty() {
            let text = format!(
                "without a quorum nobody can be marked clean, and there is none for: {}; nothing was done",
                stranded.join(", ")
            );
            return Err(failed(FaultCode::NoQuorum, text, None));
        }
        let shutdown =
            Shutdown { id: self.fresh_id(), initiator: self.own.store, participants: self.living() };
        let asked = format!("shutdown {} of the cluster was asked for by {author}: {reason}", shutdown.id);
        self.note(Level::Info, asked);
        self.askers = Askers { shutdown: Some(shutdown), waiting: vec![id] };
        Ok(())
    }

    /// The processes of members that are here.
    fn living(&self) -> Vec<PeerKey> {
        let sound = self.peers.all_linked().filter(|peer| self.peers.takes_part(peer.identity.key.store));
        let linked = sound.map(|peer| peer.identity.key);
        let member = |key: &PeerKey| self.system().is_some_and(|system| system.member(key.store).is_some());
        std::iter::once(self.own).chain(linked.filter(member)).take(MAX_PARTICIPANTS).collect()
    }

    fn fresh_id(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(
            (u128::from(self.roll()) << 64 | u128::from(self.roll())).to_be_bytes(),
        )
        .into_uuid()
    }

    /// A committed entry of the kind `Control`.
    pub(super) fn control_applied(&mut self, group: &mut Group, entry: &Entry) {
        match Control::decode(entry.data.clone()) {
            Ok(Control::Shutdown(shutdown)) => self.shutdown_applied(group, shutdown),
            Ok(Control::Act(act)) => self.act_applied(group, (entry.term, entry.index), &act),
            // An epoch's first entry is applied where the epoch begins; everybody else is given the state after it.
            Ok(Control::Recovery { .. } | Control::Forced(_)) | Err(_) => {}
        }
    }

    fn shutdown_applied(&mut self, group: &mut Group, shutdown: Shutdown) {
        group.ended = Some(shutdown.id);
        if !shutdown.names(self.own) || !matches!(self.phase, Phase::Running) {
            return;
        }
        if self.closing.as_ref().is_none_or(|closing| closing.shutdown.id != shutdown.id) {
            self.note(Level::Info, format!("the cluster shuts down ({})", shutdown.id));
            self.facts_changed = true;
            self.closing = Some(Closing {
                shutdown,
                until: self.now.plus(COMPLETE_MILLIS),
                voters_complete: None,
                step: Step::Draining,
                tell_again: self.now,
                complete: BTreeSet::new(),
                closed: BTreeMap::new(),
                noted: false,
            });
        }
        if group.id != GroupId::SYSTEM {
            self.dismiss_clients(group.id);
        }
    }

    /// What the clients sent before is answered; what comes now is refused.
    fn dismiss_clients(&mut self, group: GroupId) {
        let sessions: Vec<_> = self
            .sessions
            .values()
            .filter(|session| session.stage == Stage::Open(group))
            .map(|session| session.id)
            .collect();
        // The confirms of this round are written before the farewell.
        self.flush_sessions();
        for id in sessions {
            self.close_session(id, FaultCode::ShuttingDown, "the cluster is shut down".into(), String::new());
        }
    }

    /// The cluster is shutting down: new work is refused.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Called once a round, after the round's batch.
    pub(super) fn drive_closing(&mut self) {
        let Some(mut closing) = self.closing.take() else {
            self.drive_askers();
            return;
        };
        match closing.step {
            Step::Draining if matches!(self.phase, Phase::Running) => self.drive_draining(&mut closing),
            Step::Reporting => self.drive_reporting(&mut closing),
            // SIGTERM came first: an ordinary stop.
            Step::Draining | Step::Closing => {}
        }
        self.closing = Some(closing);
    }

    /// Proposes what an operator asked for. A leader that was replaced before its entry was committed does not know
    /// what becomes of it.
    fn drive_askers(&mut self) {
        let Some(shutdown) = self.askers.shutdown.take() else { return };
        let leads = self.with_group(GroupId::SYSTEM, |node, group| {
            node.dirty |= end_log(group, &shutdown);
            group.is_leader()
        });
        if leads == Some(true) {
            self.askers.shutdown = Some(shutdown);
            return;
        }
        for id in std::mem::take(&mut self.askers.waiting) {
            let text =
                "leadership was lost while the shutdown was being agreed; it may still happen".to_owned();
            self.emit(Output::AdminReply { id, reply: failed(FaultCode::NoQuorum, text, None) });
        }
    }

    fn drive_draining(&mut self, closing: &mut Closing) {
        for id in self.group_ids() {
            self.with_group(id, |node, group| node.dirty |= end_log(group, &closing.shutdown));
        }
        let own = self.own.store;
        let open = self.open_groups(closing.shutdown.id);
        if open.is_empty() && (closing.complete.insert(own) || self.now >= closing.tell_again) {
            // Again and again: whoever has not heard of the shutdown yet takes no notice.
            closing.tell_again = self.now.plus(TELL_MILLIS);
            self.tell_participants(closing, &ClosingStep::Complete);
        }
        let outcome = if open.is_empty() {
            // Whoever left before would leave the others without a quorum if the leader died now.
            if !self.others_complete(closing) && self.now < closing.until {
                return;
            }
            self.why_not_a_voter()
        } else if self.now >= closing.until {
            Some(format!("not complete in time: {}", open.join(", ")))
        } else {
            return;
        };
        closing.step = Step::Closing;
        closing.closed.insert(own, outcome.clone());
        self.close(outcome.is_none().then_some(closing.shutdown.id));
    }

    /// Groups whose log does not end, durably, with an entry of this shutdown.
    fn open_groups(&self, shutdown: Uuid) -> Vec<String> {
        let ended = |group: &Group| {
            group.ended == Some(shutdown)
                && group.sink.is_none()
                && group.replica.as_ref().is_some_and(|replica| {
                    replica.last() == group.applied && replica.synced() == group.applied
                })
        };
        let known = self.system().into_iter().flat_map(SystemMachine::vhosts);
        let missing = known
            .filter(|(_, group)| !self.groups.contains_key(*group))
            .map(|(name, _)| format!("virtual host {name}"));
        self.groups
            .values()
            .filter(|group| !ended(group))
            .map(|group| format!("virtual host {}", group.vhost))
            .chain(missing)
            .collect()
    }

    fn why_not_a_voter(&self) -> Option<String> {
        let learner = self
            .groups
            .values()
            .find(|group| self.raft_id.is_none_or(|own| !group.configuration.voters.contains(&own.0)))?;
        Some(format!("virtual host {}: it was still being updated", learner.vhost))
    }

    /// Whether everybody who is here and closes too has all logs ended. Members that are being updated are waited for
    /// a little only.
    fn others_complete(&self, closing: &mut Closing) -> bool {
        let system = self.groups.get(GroupId::SYSTEM);
        let is_voter = |store: StoreId| {
            self.system().and_then(|machine| machine.member(store)).is_some_and(|member| {
                system.is_some_and(|group| group.configuration.voters.contains(&member.raft_id.0))
            })
        };
        let waiting = |key: &&PeerKey| {
            key.store != self.own.store
                && self.peers.key(key.store) == Some(**key)
                && !closing.complete.contains(&key.store)
        };
        let mut incomplete = closing.shutdown.participants.iter().filter(waiting).peekable();
        if incomplete.peek().is_none() {
            return true;
        }
        if incomplete.any(|key| is_voter(key.store)) {
            return false;
        }
        let since = *closing.voters_complete.get_or_insert(self.now);
        self.now.since(since) >= 2 * self.config.timing.election_millis()
    }

    fn tell_participants(&mut self, closing: &Closing, step: &ClosingStep) {
        for key in &closing.shutdown.participants {
            if *key != self.own && self.peers.key(key.store) == Some(*key) {
                let message = PeerMessage::Closing { shutdown: closing.shutdown.id, step: step.clone() };
                self.emit(Output::Send { to: *key, message, after: None });
            }
        }
    }

    /// Stops taking part, and closes the store; clean by this shutdown, or dirty.
    fn close(&mut self, clean: Option<Uuid>) {
        self.phase = Phase::Stopping;
        self.frozen = true;
        self.stop = Some(Stopping::Logging { clean });
        self.log_the_end();
    }

    /// The store is closed.
    pub(super) fn closed(&mut self) {
        let Some(closing) = &mut self.closing else { return };
        closing.step = Step::Reporting;
        closing.until = self.now.plus(REPORT_MILLIS);
        let outcome = closing.closed.get(&self.own.store).cloned().flatten();
        let (to, shutdown) = (closing.shutdown.initiator, closing.shutdown.id);
        if let Some(to) = self.peers.key(to) {
            let message =
                PeerMessage::Closing { shutdown, step: ClosingStep::Closed { why_not_clean: outcome } };
            self.emit(Output::Send { to, message, after: None });
        }
        self.dirty = true;
    }

    fn drive_reporting(&mut self, closing: &mut Closing) {
        let initiator = closing.shutdown.initiator;
        let late = self.now >= closing.until;
        let waits = if initiator == self.own.store {
            closing.shutdown.participants.iter().any(|key| {
                self.peers.key(key.store) == Some(*key) && !closing.closed.contains_key(&key.store)
            })
        } else {
            self.peers.is_linked(initiator) && !closing.noted
        };
        if waits && !late {
            return;
        }
        let report = self.shutdown_report(closing);
        for id in std::mem::take(&mut self.askers.waiting) {
            self.emit(Output::AdminReply { id, reply: AdminReply::ShutDown(Box::new(report.clone())) });
        }
        let reason = match closing.closed.get(&self.own.store) {
            Some(None) => format!("the cluster was shut down, this store is clean ({})", closing.shutdown.id),
            Some(Some(why)) => format!("the cluster was shut down; this store is not clean: {why}"),
            None => "the cluster was shut down".to_owned(),
        };
        self.exit(0, reason);
    }

    fn shutdown_report(&self, closing: &Closing) -> ShutdownReport {
        let members = self.system().into_iter().flat_map(SystemMachine::members);
        let members = members
            .map(|member| {
                let taking_part = closing.shutdown.participants.iter().any(|key| key.store == member.store);
                let why = match closing.closed.get(&member.store) {
                    Some(None) => None,
                    Some(Some(why)) => Some(why.clone()),
                    None if taking_part => {
                        Some("its connection ended before it said that it is clean".to_owned())
                    }
                    None => Some("it was not here: its store is updated when it comes back".to_owned()),
                };
                MemberShutdown { name: member.name.clone(), store_id: member.store, why_not_clean: why }
            })
            .collect();
        ShutdownReport { id: closing.shutdown.id, transient: self.transient, members }
    }

    /// What another participant says.
    pub(super) fn closing_told(&mut self, from: PeerKey, shutdown: Uuid, step: ClosingStep) {
        let Some(closing) = &mut self.closing else { return };
        if closing.shutdown.id != shutdown || !closing.shutdown.names(from) {
            return;
        }
        match step {
            ClosingStep::Complete => {
                closing.complete.insert(from.store);
                // Whoever heard of the shutdown last took no notice of what was told before, and waits to be told again.
                let is_complete = closing.complete.contains(&self.own.store);
                if is_complete && !matches!(closing.step, Step::Draining) && self.now >= closing.tell_again {
                    closing.tell_again = self.now.plus(TELL_MILLIS);
                    let message = PeerMessage::Closing { shutdown, step: ClosingStep::Complete };
                    self.emit(Output::Send { to: from, message, after: None });
                }
            }
            ClosingStep::Closed { why_not_clean } => {
                closing.complete.insert(from.store);
                closing.closed.insert(from.store, why_not_clean);
                let message = PeerMessage::Closing { shutdown, step: ClosingStep::Noted };
                self.emit(Output::Send { to: from, message, after: None });
            }
            ClosingStep::Noted => closing.noted = true,
        }
    }
}

/// Ends a group's log on its leader, once in each of its terms, after everything that was asked of it before; true if
/// it was done now.
fn end_log(group: &mut Group, shutdown: &Shutdown) -> bool {
    if !group.leads_surely() || group.replica.as_ref().is_none_or(Replica::membership_pending) {
        return false;
    }
    group.flush_proposals();
    let Some(replica) = &mut group.replica else { return false };
    let term = replica.term();
    if group.ended_term == Some(term) || !group.proposals.is_empty() {
        return false;
    }
    if replica.propose_control(Control::Shutdown(shutdown.clone()).encode()) {
        group.ended_term = Some(term);
    }
    group.ended_term == Some(term)
}

fn failed(code: FaultCode, message: String, leader_admin_address: Option<String>) -> AdminReply {
    AdminReply::Failed {
        code: code.name(),
        message,
        next: vec!["quorate cluster status".to_owned()],
        leader_admin_address,
    }
}
