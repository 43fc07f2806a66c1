//! Who may write: the safety number's timer, and what becomes of a broker that finds somebody outside the cluster writing.
//!
//! ```text
//!  every broker ── every interval: is the stamp on the medium still this process's? (and before each write of it)
//!  leader of `system` ── if it is: RenewSafety{random} ──> log ──> applied: into the stamp, and into the status
//!       │ another process's                         │ a peer is active along another history, see formation::meeting
//!       ▼                                           ▼
//!  panic: nodes and clients are dropped, nothing is written but the panic file; row S1 from here on
//!       │ quorate cluster panic clear
//!       ▼
//!  the panic file goes, and the broker begins as after a start, by what its store says then
//! ```

use quorate_protocol::fault::FaultCode;
use quorate_store::ids::{GroupId, Index, StoreId};
use quorate_store::panic::{PanicCause, PanicFound, PanicRecord};
use quorate_store::stamp::StampIdentity;

use super::group::Group;
use super::origin::Origin;
use super::source::Sources;
use super::{Node, Phase, Then};
use crate::admin::{AdminReply, Author, PanicView, SafetyView};
use crate::event::{Event, Level};
use crate::formation::{Facts, meeting};
use crate::io::{AdminId, Output, PeerKey, Tick, Ticket};
use crate::machine::{Agreement, Command, SafetyNumbers};

/// What to type about a panic.
const SHOW: &str = "quorate cluster panic show";

/// Where this broker is with the cluster's safety.
#[derive(Debug, Default)]
pub(crate) struct Safety {
    /// An interval after the last renewal.
    next_renewal: Tick,
    /// The stamp is looked at then.
    next_look: Tick,
    /// The first number was not waited for.
    hurried: bool,
    /// A number came since they were last compared with the peers'.
    renewed: bool,
    panicked: Option<Panicked>,
    /// Whom this broker met last and survived; told once.
    survived: Option<String>,
    /// Whom a loss was told of.
    lost_to: Option<StoreId>,
}

/// A panic.
#[derive(Debug)]
struct Panicked {
    record: Option<PanicRecord>,
    text: String,
    /// It was found at the start.
    before: bool,
}

impl Safety {
    /// At the start.
    pub(crate) fn found(found: PanicFound) -> Self {
        let panicked = match found {
            PanicFound::None => None,
            PanicFound::Panic(record) => {
                Some(Panicked { text: record.to_string(), record: Some(*record), before: true })
            }
            PanicFound::Damaged(what) => Some(Panicked {
                text: format!("its panic file is there and cannot be read: {what}"),
                record: None,
                before: true,
            }),
        };
        Self { panicked, ..Self::default() }
    }

    /// Why this broker panicked, if it did.
    pub(crate) fn panic(&self) -> Option<&str> {
        self.panicked.as_ref().map(|panicked| panicked.text.as_str())
    }
}

impl Node {
    pub(super) fn is_panicked(&self) -> bool {
        self.safety.panicked.is_some()
    }

    /// What this broker applied last of the safety numbers; nothing while what it has of `system` claims nothing.
    pub(super) fn safety_numbers(&self) -> SafetyNumbers {
        let claims = !self.refilling.contains(&GroupId::SYSTEM);
        self.system().filter(|_| claims).map(|system| system.safety().clone()).unwrap_or_default()
    }

    /// A panic that was found at the start is said once.
    pub(super) fn tell_found_panic(&mut self) {
        if let Some(panicked) = &self.safety.panicked {
            let text = format!("as before this start: {}", panicked.text);
            self.event(Event::Panicked { text, next: self.panic_next() });
        }
    }

    /// The timer's work. Called once a round.
    pub(super) fn keep_safe(&mut self) {
        if std::mem::take(&mut self.safety.renewed) {
            let own = self.safety_numbers();
            let apart = |other: &SafetyNumbers| own.compare(other) == Agreement::Apart;
            self.facts_changed |= self.peers.statuses().any(|status| apart(&status.safety));
        }
        // The first number need not wait.
        let first = !self.safety.hurried && self.may_renew() && self.safety_numbers().number() == 0;
        if first {
            self.safety.hurried = true;
            self.safety.next_look = self.now;
        }
        if self.safety.next_look > self.now {
            return;
        }
        self.safety.next_look = self.now.plus(self.config.safety_interval_millis);
        if self.transient || self.damage.is_some() {
            return self.renew_safety();
        }
        // First compared, then renewed: whoever is not alone on its store has nothing to add to the log.
        let ticket = self.ticket();
        self.after(ticket, Then::StampLookedAt);
        self.emit(Output::LookAtStamp { ticket });
    }

    fn may_renew(&self) -> bool {
        matches!(self.phase, Phase::Running)
            && !self.is_closing()
            && self.groups.get(GroupId::SYSTEM).is_some_and(Group::leads_surely)
    }

    /// The stamp is this process's: the leader of `system` renews the number, unless another one has just done so.
    pub(super) fn renew_safety(&mut self) {
        let due = self.safety.next_renewal <= self.now.plus(self.config.safety_interval_millis / 2);
        if !due || !self.may_renew() {
            return;
        }
        // Zero is no number.
        let number = self.roll().max(1);
        self.with_group(GroupId::SYSTEM, |_, group| {
            group.propose(Command::RenewSafety { number }, Origin::Internal);
        });
    }

    /// `system` was renewed: whoever leads it next waits for an interval from now on.
    pub(super) fn safety_renewed(&mut self) {
        self.safety.next_renewal = self.now.plus(self.config.safety_interval_millis);
        self.safety.renewed = true;
    }

    /// Another process's stamp was found in this store.
    pub(super) fn stamp_foreign(&mut self, found: StampIdentity) {
        let who = format!(
            "the process with run {} and incarnation {}, which wrote the stamp of this very store,",
            found.run_id, found.incarnation
        );
        // Whoever is held has written nothing, and may keep nothing.
        let wrote = self.stamped_life.is_some_and(|(_, run)| run == self.own.run);
        self.panic(PanicCause::SecondWriter, found.safety_number, who, wrote);
    }

    /// Looks whether a peer is active along another history; true if that is so, whoever may go on.
    pub(super) fn meet_histories(&mut self, facts: &Facts) -> bool {
        if !matches!(self.phase, Phase::Running) {
            return false;
        }
        let Some(met) = meeting(facts) else {
            self.safety.survived = None;
            return false;
        };
        let group = self.groups.get(met.group).map(|group| group.vhost.clone()).unwrap_or_default();
        let who = format!(
            "{}, which is active along another history of virtual host {group} ({}),",
            met.who, met.why
        );
        if !met.stays {
            self.panic(PanicCause::TwoHistories, met.number, who, !self.transient);
            return true;
        }
        if self.safety.survived.as_ref() != Some(&who) {
            self.note(
                Level::Warn,
                format!("met {who} and goes on: that side is to panic (SAFE-2001), and keeps what it holds"),
            );
            self.safety.survived = Some(who);
        }
        true
    }

    /// A leader has another entry where this broker knows which one is committed: some store voted in two histories.
    pub(super) fn committed_otherwise(&mut self, group: GroupId, leader: PeerKey, index: Index) {
        let vhost = self.groups.get(group).map(|group| group.vhost.clone()).unwrap_or_default();
        let peer = self.peers.get(leader.store);
        let number = peer.and_then(|peer| peer.status.as_ref()).map_or(0, |status| status.safety.number());
        let at = peer.map(|peer| peer.identity.cluster_address.clone()).unwrap_or_default();
        let who = format!(
            "{} at {at}, which leads virtual host {vhost} and has another entry {index} than the one that is committed here,",
            self.name_of(leader.store)
        );
        self.panic(PanicCause::TwoHistories, number, who, !self.transient);
    }

    /// Stops taking part in anything, at once and until an operator clears it.
    fn panic(&mut self, cause: PanicCause, found_number: u64, found: String, is_kept: bool) {
        if self.is_panicked() || self.exited {
            return;
        }
        let record = PanicRecord {
            cluster_id: self.cluster_id,
            store_id: self.own.store,
            own: StampIdentity {
                incarnation: self.incarnation,
                run_id: self.own.run,
                safety_number: self.own_number(),
            },
            cause,
            found_number,
            found,
            when_ms: self.wall_ms(),
        };
        let text = record.to_string();
        self.safety.panicked =
            Some(Panicked { record: Some(record.clone()), text: text.clone(), before: false });
        self.drop_everything();
        let ticket = self.ticket();
        self.after(ticket, Then::PanicKept);
        self.emit(Output::Panic { ticket, record: is_kept.then(|| Box::new(record)) });
        self.event(Event::Panicked { text, next: self.panic_next() });
        if self.stop.take().is_some() {
            self.exit(0, "stopped as asked; it panicked meanwhile".into());
        }
    }

    fn own_number(&self) -> u64 {
        self.stamp.as_ref().map_or_else(|| self.safety_numbers().number(), |stamp| stamp.safety_number)
    }

    /// Nodes, clients, and whatever waits for the disk: nothing of it may happen any more.
    fn drop_everything(&mut self) {
        let told = |output: &Output| {
            matches!(
                output,
                Output::Write { .. }
                    | Output::Release { .. }
                    | Output::Close { .. }
                    | Output::AdminReply { .. }
                    | Output::Event(_)
                    | Output::Dial { .. }
                    | Output::CloseView { .. }
            )
        };
        self.outputs.retain(told);
        self.records.clear();
        self.round_ticket = None;
        self.must_sync = false;
        self.next_sync = None;
        self.stamps_awaited.clear();
        self.log_tickets.clear();
        self.logging.clear();
        self.then.clear();
        self.loads.clear();
        self.scans.clear();
        self.rejoining.clear();
        self.to_keep.clear();
        self.unkept.clear();
        self.next_campaign = None;
        self.closing = None;
        self.frozen = false;
        self.stamp_changed = false;
        let text = format!("broker {} panicked (SAFE-2001): another broker may serve you", self.config.name);
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.close_session(id, FaultCode::NeedsOperator, text.clone(), String::new());
        }
        for group in self.groups.values_mut() {
            group.give_up_node();
        }
        self.phase = Phase::Deciding;
        self.facts_changed = true;
        self.tell = true;
    }

    /// A round of a broker that panicked: it decides (row S1), says so, and answers operators.
    pub(super) fn panicked_round(&mut self) {
        if self.next_tick <= self.now {
            self.next_tick = self.now.plus(self.config.timing.tick_millis);
            self.session_heartbeats();
        }
        if std::mem::take(&mut self.facts_changed) {
            self.tell = true;
            self.decide_again();
        }
        self.answer_wishes();
        self.drive_asks();
        self.drive_closing();
        self.flush_sessions();
        if std::mem::take(&mut self.tell) || self.is_status_due() {
            self.tell_status();
        }
    }

    fn panic_next(&self) -> Vec<String> {
        let cluster = self.cluster_id.map_or_else(|| "CLUSTER-ID".to_owned(), |id| id.to_string());
        vec![SHOW.to_owned(), format!("quorate cluster panic clear --confirm {cluster}")]
    }

    /// What operators are shown.
    pub(super) fn safety_view(&self) -> SafetyView {
        let numbers = self.safety_numbers();
        let panic = self.safety.panicked.as_ref().map(|panicked| PanicView {
            text: panicked.text.clone(),
            record: panicked.record.clone(),
            before_start: panicked.before,
            next: self.panic_next(),
        });
        let number = if numbers.number() == 0 { self.own_number() } else { numbers.number() };
        SafetyView { number, renewals: numbers.renewals(), panic }
    }

    /// An operator clears the panic.
    pub(super) fn clear_panic(
        &mut self,
        id: AdminId,
        confirm: &str,
        reason: &str,
        author: &Author,
    ) -> Result<(), AdminReply> {
        if !self.is_panicked() {
            return Err(AdminReply::Done { changed: false });
        }
        let wanted =
            self.cluster_id.map_or_else(|| self.own.store.to_string(), |cluster| cluster.to_string());
        if confirm != wanted {
            let message = format!(
                "a panic is cleared with the cluster's id as confirmation, and `{confirm}` is not that of this broker"
            );
            let next = vec![SHOW.to_owned(), "quorate cluster status".to_owned()];
            return Err(AdminReply::Failed {
                code: "NOT_CONFIRMED",
                message,
                next,
                leader_admin_address: None,
            });
        }
        let given = if reason.is_empty() { "no reason was given" } else { reason };
        let ticket = self.ticket();
        let told = format!("the panic is cleared by {author}: {given}");
        self.after(ticket, Then::PanicCleared(id, told));
        self.emit(Output::ClearPanic { ticket });
        Ok(())
    }

    /// The panic file is gone: what was known before it counts for nothing, the store is read again.
    pub(super) fn panic_cleared(&mut self, id: AdminId, told: String) {
        self.note(Level::Warn, told);
        self.emit(Output::AdminReply { id, reply: AdminReply::Done { changed: true } });
        if !self.exited {
            self.exited = true;
            self.emit(Output::Restart { reason: "an operator cleared the panic".to_owned() });
        }
    }

    /// The panic file could not be written, or not removed; true if it was that.
    pub(super) fn panic_not_kept(&mut self, ticket: Ticket, why: &str) -> bool {
        let waiting = self.then.get(&ticket).and_then(|waiting| waiting.first());
        match waiting {
            Some(Then::PanicKept) => {
                let text = format!(
                    "the panic file could not be written: {why}; this broker stays panicked until its process ends, and must \
                     not be started again before the cause is found"
                );
                self.note(Level::Error, text);
            }
            Some(Then::PanicCleared(id, _)) => {
                let id = *id;
                let reply = AdminReply::Failed {
                    code: "STORE_FAILED",
                    message: format!("the panic file could not be removed: {why}"),
                    next: vec![SHOW.to_owned()],
                    leader_admin_address: None,
                };
                self.emit(Output::AdminReply { id, reply });
            }
            _ => return false,
        }
        self.then.remove(&ticket);
        true
    }

    /// A broker whose numbers go on beyond those of the history that is active: what was confirmed after the place where the
    /// two part may be missing.
    pub(super) fn safety_losses(&self) -> Vec<String> {
        let own = self.safety_numbers();
        let active = self.groups.get(GroupId::SYSTEM).and_then(|group| self.active_leader(group));
        if active.is_none() || own.number() == 0 {
            return Vec::new();
        }
        let lineage = self.groups.get(GroupId::SYSTEM).map(|group| group.lineage.tag());
        let statuses = self.peers.statuses().filter(|status| status.cluster_id == self.cluster_id);
        statuses
            .filter(|status| !status.is_active(GroupId::SYSTEM) && status.safety.number() != 0)
            .filter(|status| {
                let part = status.group(GroupId::SYSTEM);
                part.and_then(|part| super::lineage::Lineage::from_stamp(&part.lineage))
                    .map(|theirs| theirs.tag())
                    != lineage
            })
            .filter_map(|status| loss(&own, &status.name, &status.safety))
            .collect()
    }

    /// The same, once in the log for each store.
    pub(super) fn tell_safety_losses(&mut self) {
        let losses = self.safety_losses();
        let about = self.peers.statuses().map(|status| status.key.store).next();
        match losses.first() {
            Some(first) if self.safety.lost_to != about => {
                self.safety.lost_to = about;
                self.note(Level::Warn, first.clone());
            }
            _ => {}
        }
    }
}

/// What it means that a broker has seen other safety numbers than the log that the cluster goes on from, if it means
/// anything.
fn loss(own: &SafetyNumbers, name: &str, theirs: &SafetyNumbers) -> Option<String> {
    let beyond = match own.compare(theirs) {
        Agreement::Behind(by) => format!("{by} renewals later"),
        Agreement::Apart => "of another history".to_owned(),
        Agreement::Unknown if theirs.renewals() > own.renewals() => {
            format!("{} renewals later", theirs.renewals() - own.renewals())
        }
        Agreement::Unknown | Agreement::Same | Agreement::Ahead(_) => return None,
    };
    Some(format!(
        "{name} has seen safety number {:016x} (renewal {}), {beyond} than what this cluster goes on from, {:016x} (renewal {}): \
         the cluster went on from a copy that lacked something; what was confirmed meanwhile may be missing, and what {name} \
         holds of it is kept: quorate loss list",
        theirs.number(),
        theirs.renewals(),
        own.number(),
        own.renewals()
    ))
}

impl Group {
    /// Its node takes no part any more; what the log holds of it stays.
    fn give_up_node(&mut self) {
        self.replica = None;
        self.serving = None;
        self.proposals.clear();
        self.in_flight.clear();
        self.bequeathed.clear();
        self.sources = Sources::default();
        self.sink = None;
        self.learners.clear();
        self.parting = None;
        self.campaign_at = None;
        self.seen_role = "waiting";
        self.seen_active = false;
        self.had_quorum = false;
    }
}
