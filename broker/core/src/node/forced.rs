//! Epochs that are forced while this broker runs: an operator's override, the designated primary alone, a take-over.
//!
//! ```text
//!  asked for, or row P1
//!    │  whoever goes on with it has said anew where its log ends; nothing of ours is on its way to the disk
//!    ▼
//!  each group goes back to what a start would find: its log, and the state up to its last entry. All of that counts as
//!    committed from here on: it holds everything that was ever confirmed to the extent that any store here does
//!    │  the stamp has the new epoch, with this store as the only voter, durably
//!    ▼
//!  each group begins as after an operator's mark: the epoch's first entry, a term above all that were seen
//!    │  the others join as after a mark; what only they have is kept in their quarantine
//!    ▼
//!  it has ended once a majority of the former voters votes again and has all that was committed since
//! ```
//!
//! A crash before the stamp is durable: nothing has happened. After it: the next start begins the epoch, if the log ends
//! where the stamp says; it does, since nothing is appended in between.

use std::collections::BTreeSet;

use quorate_store::ids::{Epoch, GroupId, Position, RaftId, StoreId, Term};
use quorate_store::stamp::{EpochEntry, Known, LeftOut};

use super::configuration::Configuration;
use super::group::Group;
use super::recovery::{RecoveredLog, Unmade};
use super::startup::Beginning;
use super::{Node, Phase, Then};
use crate::admin::{AdminReply, Author, GroupReport};
use crate::controls::{ForcedKind, duration_text};
use crate::event::{Event, Level};
use crate::formation::status::GroupStatus;
use crate::formation::{Row, Verdict, decide_group};
use crate::io::{AdminId, Output, Tick};

/// A forced act that cannot begin, or is not done, after this is given up, in milliseconds.
const FORCE_MILLIS: u64 = 10_000;
/// Whoever is designated goes on alone after so many election timeouts without the other one.
const SILENT_TIMEOUTS: u64 = 10;
/// From then on it is said what makes a lease longer, in milliseconds before its end.
const SHORT_LEASE_MILLIS: u64 = 30 * 60_000;
const LEASE_NEXT: &str = ", and no client is served then: start the others, or ask for the same override again with a longer --lease";
/// Epochs of one group: an operator is to look long before this.
const MOST_EPOCHS: usize = 2000;

/// A forced act on its way.
#[derive(Debug)]
pub(crate) struct Force {
    pub(super) groups: Vec<GroupId>,
    pub(super) kind: ForcedKind,
    /// The other voters that are linked, and those of them that have not said anew where their logs end.
    pub(super) here: BTreeSet<StoreId>,
    pub(super) unheard: BTreeSet<StoreId>,
    /// Who goes on with it, besides this broker.
    pub(super) named: BTreeSet<StoreId>,
    pub(super) author: Author,
    pub(super) reason: String,
    pub(super) ask: Option<AdminId>,
    pub(super) until: Tick,
    pub(super) begun: bool,
}

impl Force {
    pub(super) fn new(groups: Vec<GroupId>, kind: ForcedKind, author: Author, now: Tick) -> Self {
        Self {
            groups,
            kind,
            here: BTreeSet::new(),
            unheard: BTreeSet::new(),
            named: BTreeSet::new(),
            author,
            reason: String::new(),
            ask: None,
            until: now.plus(FORCE_MILLIS),
            begun: false,
        }
    }
}

impl Node {
    /// The number that this broker holds as the designated primary of two. It holds it once that is committed, which with
    /// two voters is once both have synced it; no more from when its log has a higher one, committed or not.
    pub(super) fn held_number(&self) -> Option<u64> {
        self.number_in(self.groups.get(GroupId::SYSTEM)?)
    }

    /// The same, asked while this group is worked on.
    pub(super) fn held_number_beside(&self, group: &Group) -> Option<u64> {
        if group.id == GroupId::SYSTEM { self.number_in(group) } else { self.held_number() }
    }

    fn number_in(&self, system: &Group) -> Option<u64> {
        let (primary, number) = system.controls.primary()?;
        let holds = Some(primary.node) == self.raft_id
            && system.seen_number <= number
            && !system.stale
            && !self.refilling.contains(&GroupId::SYSTEM);
        holds.then_some(number)
    }

    /// Keeps in mind since when the other one of two voters has not been linked. Called once a round.
    pub(super) fn mind_company(&mut self) {
        let others = self.groups.get(GroupId::SYSTEM).map(|system| match &system.recovered {
            Some(recovered) => recovered.latest.voters.clone(),
            None => system.configuration.voters.clone(),
        });
        let others = others.unwrap_or_default();
        let linked = others
            .iter()
            .filter(|id| self.raft_id != Some(RaftId(**id)))
            .any(|id| self.peers.store_of(RaftId(*id)).is_some_and(|store| self.peers.takes_part(store)));
        if linked || others.len() != 2 {
            self.lonely_since = None;
            return;
        }
        let was_silent = self.is_peer_silent();
        let since = *self.lonely_since.get_or_insert(self.now);
        if self.held_number().is_none() {
            return;
        }
        if !was_silent && self.is_peer_silent() {
            self.facts_changed = true;
        }
        let at = since.plus(self.silent_millis());
        if at > self.now {
            self.decide_at = Some(self.decide_at.map_or(at, |known| known.min(at)));
        }
    }

    fn silent_millis(&self) -> u64 {
        self.config.timing.election_millis().saturating_mul(SILENT_TIMEOUTS)
    }

    /// The other one of two voters has not been seen for long.
    pub(super) fn is_peer_silent(&self) -> bool {
        self.lonely_since.is_some_and(|since| self.now.since(since) >= self.silent_millis())
    }

    /// Row P1: this broker goes on alone in every group for which the table says so.
    pub(super) fn go_solo(&mut self) {
        if self.forcing.is_some() || self.is_closing() || self.transient {
            return;
        }
        let Some(number) = self.held_number().filter(|_| self.is_peer_silent()) else { return };
        let facts = self.facts();
        let alone = |id: &GroupId| {
            let decision = decide_group(&facts, *id);
            decision.row == Row::P1 && decision.verdict == Verdict::Restore
        };
        let groups: Vec<GroupId> = self.group_ids().into_iter().filter(alone).collect();
        if groups.is_empty() {
            return;
        }
        let author = Author { who: self.config.name.clone(), address: String::new() };
        let mut force = Force::new(groups, ForcedKind::Solo { number }, author, self.now);
        "the other voter is gone, and this broker is the designated primary".clone_into(&mut force.reason);
        self.forcing = Some(force);
    }

    /// Goes on with a forced act. Called once a round.
    pub(super) fn drive_force(&mut self) {
        let Some(force) = &self.forcing else { return };
        if force.begun {
            let leads = |id: &GroupId| self.groups.get(*id).is_some_and(Group::leads_surely);
            if force.groups.iter().all(leads) {
                self.force_done();
            } else if self.now >= force.until {
                let text = "it has begun, and is not done in time".to_owned();
                self.force_failed("UNDECIDED", text);
            }
            return;
        }
        if !matches!(self.phase, Phase::Deciding | Phase::Running) || self.is_closing() {
            self.force_failed("SHUTTING_DOWN", "this broker ends: nothing is changed".to_owned());
            return;
        }
        if self.now >= force.until {
            let missing: Vec<String> = force.unheard.iter().map(|store| self.name_of(*store)).collect();
            let text = if missing.is_empty() {
                "this broker's store is busy: nothing is changed".to_owned()
            } else {
                format!("{} did not say where its log ends: nothing is changed", missing.join(", "))
            };
            self.force_failed("NOT_READY", text);
            return;
        }
        if !force.unheard.is_empty() || !force.groups.iter().all(|id| self.is_calm(*id)) {
            return;
        }
        if let Err(text) = self.may_force(force) {
            self.force_failed("CONFLICT", text);
            return;
        }
        self.begin_force();
    }

    /// A peer said anew where its logs end.
    pub(super) fn heard_for_force(&mut self, store: StoreId) {
        if let Some(force) = &mut self.forcing {
            force.unheard.remove(&store);
        }
    }

    /// Nothing of the group is on its way to the disk, and its log can be taken for the group's.
    fn is_calm(&self, id: GroupId) -> bool {
        let Some(group) = self.groups.get(id) else { return false };
        let calm = match (&group.replica, &group.recovered) {
            (Some(replica), _) => {
                !replica.has_ready() && replica.synced() == replica.last() && !replica.is_logging()
            }
            (None, Some(recovered)) => !recovered.reset && !recovered.marked,
            (None, None) => false,
        };
        calm && group.sink.is_none() && !group.stale && !self.logging.contains(&id)
    }

    /// What is known now still allows it: nobody else went on meanwhile, and of those that go on none has more.
    pub(super) fn may_force(&self, force: &Force) -> Result<(), String> {
        let facts = self.facts();
        for id in &force.groups {
            let Some(group) = self.groups.get(*id) else { return Err("it is gone".to_owned()) };
            if facts.reference(*id).is_some_and(|part| part.active.is_some()) {
                return Err(format!("virtual host {} is led with a quorum: nothing is changed", group.vhost));
            }
            if !facts.is_trusted(*id) || self.refilling.contains(id) {
                return Err(format!(
                    "this broker's store may lack what it acknowledged in virtual host {}: nothing is changed; ask another \
                     broker, or compare the stores of all (quorate store inspect DIR DIR…) and go on from the latest \
                     (quorate store mark-clean DIR --reason TEXT)",
                    group.vhost
                ));
            }
            if group.lineage.entries().len() >= MOST_EPOCHS {
                return Err(format!("virtual host {} has had too many forced epochs", group.vhost));
            }
            if let Some(other) = self.more_recent(group, &force.here) {
                return Err(format!(
                    "the log of {other} goes further than this broker's in virtual host {}: ask {other} to go on, or, if \
                     that may lack something, compare the stores of all and mark the latest; nothing is changed",
                    group.vhost
                ));
            }
        }
        Ok(())
    }

    /// Whoever of these has more of the group than this broker, or another history of it: also one that may lack something.
    /// What it has was confirmed, or may have been.
    pub(super) fn more_recent(&self, group: &Group, among: &BTreeSet<StoreId>) -> Option<String> {
        let mine = self.group_status(group);
        let rank = |part: &GroupStatus| (part.lineage.len(), part.position);
        let more = |store: &&StoreId| {
            let status = self.peers.get(**store).and_then(|peer| peer.status.as_ref());
            let part = status.and_then(|status| status.group(group.id));
            part.is_some_and(|part| rank(part) > rank(&mine))
        };
        among.iter().find(more).map(|store| self.name_of(*store))
    }

    fn begin_force(&mut self) {
        let Some(mut force) = self.forcing.take() else { return };
        force.begun = true;
        force.until = self.now.plus(FORCE_MILLIS);
        let mut unmade = std::mem::take(&mut self.unmade);
        for id in &force.groups {
            let epoch_id = self.new_uuid();
            self.with_group(*id, |node, group| {
                node.stop_node(group);
                group.take_all(&mut unmade);
                let epoch = node.forced_epoch(group, &force, epoch_id);
                group.seen_number = group.seen_number.max(epoch.cause.number().unwrap_or(0));
                group.lineage.begin(epoch);
                let own = node.raft_id.map_or(0, |id| id.0);
                group.configuration = Configuration::sole(own);
                if let Some(recovered) = &mut group.recovered {
                    recovered.latest = group.configuration.clone();
                    recovered.marked = true;
                }
            });
        }
        self.unmade = unmade;
        self.leave_replayed_deletions();
        force.groups.retain(|id| self.groups.contains_key(*id));
        let groups = force.groups.clone();
        self.forcing = Some(force);
        self.facts_changed = true;
        if matches!(self.phase, Phase::Deciding) {
            let facts = self.facts();
            self.leave_behind(&facts);
            self.clear_groups(&facts);
            self.begin(Beginning::Existing);
        } else {
            let stamp = self.current_stamp();
            self.write_stamp(stamp, Then::ForceStamped(groups));
        }
    }

    /// The stamp has the new epochs.
    pub(super) fn force_stamped(&mut self, groups: &[GroupId]) {
        for id in groups {
            self.start_recovered(*id);
        }
        for (id, new) in std::mem::take(&mut self.unmade.vhosts) {
            self.vhost_created(id, new);
        }
        self.facts_changed = true;
    }

    /// What ran on the group's log ends; the log stays as it is.
    pub(super) fn stop_node(&mut self, group: &mut Group) {
        if group.replica.is_none() {
            return;
        }
        self.leadership_lost(group);
        self.drop_transfers(group);
        group.campaign_at = None;
        if let Some(replica) = group.replica.take() {
            let epoch = group.lineage.tag().epoch;
            let (found, tail) = replica.into_log(epoch, group.applied);
            group.recovered = Some(RecoveredLog {
                found,
                tail,
                latest: group.configuration.clone(),
                reset: false,
                marked: false,
            });
        }
    }

    /// The epoch that begins where the group's log ends, with what is known of those who have no say in it.
    fn forced_epoch(&self, group: &Group, force: &Force, id: uuid::Uuid) -> EpochEntry {
        let tag = group.lineage.tag();
        let fork = Position { epoch: tag.epoch, term: group.applied_term, index: group.applied };
        let own = self.raft_id.unwrap_or_default();
        let voters = group.configuration.voters.iter().filter(|id| **id != own.0);
        let left_out = voters
            .filter_map(|id| self.voter_by_stamp(RaftId(*id)))
            .map(|(store, name)| {
                let named = force.named.contains(&store);
                // Only what it said just now is known for sure.
                let known = force.here.contains(&store).then(|| self.known_of(store, group.id)).flatten();
                LeftOut { store, name, voter: true, named, known }
            })
            .collect();
        let seen = group.recovered.as_ref().map_or(Term(0), |recovered| recovered.found.hard_state.term);
        EpochEntry {
            number: Epoch(tag.epoch.0.saturating_add(1)),
            id,
            fork,
            term: Term(seen.0.max(group.applied_term.0).saturating_add(1)),
            cause: force.kind.cause(own),
            left_out,
            who: force.author.to_string(),
            when_ms: self.wall_ms(),
            why: force.reason.clone(),
        }
    }

    fn known_of(&self, store: StoreId, group: GroupId) -> Option<Known> {
        let status = self.peers.get(store)?.status.as_ref()?;
        let part = status.group(group)?;
        let tip = part.lineage.last()?.id;
        Some(Known { incarnation: status.incarnation, position: part.position, tip })
    }

    /// A voter as the stamp knows it: `system` itself may be the group that is worked on.
    fn voter_by_stamp(&self, id: RaftId) -> Option<(StoreId, String)> {
        let member = self.stamp.as_ref()?.members.iter().find(|member| member.raft_id == id)?;
        Some((member.store_id, member.name.clone()))
    }

    /// A group's epoch begins on this broker.
    pub(super) fn tell_forced(&mut self, group: &Group) {
        let Some(in_force) = group.controls.in_force().filter(|_| group.marked_at.is_some()) else { return };
        let forced = &in_force.forced;
        if let ForcedKind::Override { .. } = forced.kind {
            let after = u32::try_from(forced.nodes.len()).unwrap_or(u32::MAX);
            let before = group.controls.required_nodes();
            self.event(Event::RequiredNodesChanged { vhost: group.vhost.clone(), before, after });
        }
        if let Some(before) = group.controls.designated_until(group.applied) {
            let (vhost, before) = (group.vhost.clone(), Some(before.to_owned()));
            self.event(Event::DesignatedPrimaryChanged { vhost, before, after: Some(forced.name.clone()) });
        }
        let text = self.told_in_force(group).unwrap_or_default();
        self.note(Level::Warn, text);
    }

    /// A forced epoch that has not ended, for people; none if there is none.
    pub(super) fn told_in_force(&self, group: &Group) -> Option<String> {
        let in_force = group.controls.in_force()?;
        let forced = &in_force.forced;
        let what = match forced.kind {
            ForcedKind::Override { .. } => "by an override".to_owned(),
            ForcedKind::Solo { number } => {
                format!("by itself: {} is the designated primary (number {number})", forced.name)
            }
            ForcedKind::TakeOver { number } => format!("by a take-over of {} (number {number})", forced.name),
        };
        let lease = match self.lease_left(group) {
            Some(0) => "; its lease is over and no client is served".to_owned(),
            Some(left) => {
                let soon = if left <= SHORT_LEASE_MILLIS { LEASE_NEXT } else { "" };
                format!("; its lease ends in {}{soon}", duration_text(left))
            }
            None => String::new(),
        };
        let now_ms = self.wall_ms();
        let reason = if forced.reason.is_empty() { String::new() } else { format!(" ({})", forced.reason) };
        Some(format!(
            "virtual host {} goes on with {} of {} voters {what}, for {} now, by {}{reason}{lease}; what it confirms is marked, \
             and can be missing if the others go on without it: do not start them where they cannot reach it",
            group.vhost,
            forced.nodes.len(),
            forced.former.len(),
            duration_text(now_ms.saturating_sub(forced.at_ms)),
            forced.author,
        ))
    }

    /// For how long clients can still be served under an override, in milliseconds; none without one.
    pub(super) fn lease_left(&self, group: &Group) -> Option<u64> {
        let left = group.controls.in_force()?.lease_left_ms?;
        Some(left.saturating_add(group.lease_until.0.saturating_sub(self.now.0)))
    }

    fn force_done(&mut self) {
        let Some(force) = self.forcing.take() else { return };
        self.facts_changed = true;
        // The group that was named comes last.
        let named = force.groups.last().and_then(|id| self.groups.get(*id));
        let report = named.map(|group| GroupReport {
            vhost: group.vhost.clone(),
            changed: true,
            detail: self.told_in_force(group).unwrap_or_default() + &self.told_of_others(&force, group.id),
            messages: None,
        });
        let (Some(id), Some(report)) = (force.ask, report) else { return };
        self.emit(Output::AdminReply { id, reply: AdminReply::Group(Box::new(report)) });
    }

    /// What became of the other virtual hosts, which one act may have forced too, or left as they were.
    fn told_of_others(&self, force: &Force, named: GroupId) -> String {
        let all = |of: &dyn Fn(&Group) -> bool| {
            let others = self.groups.values().filter(|group| group.id != named && of(group));
            let others = others.filter(|group| group.id != GroupId::SYSTEM);
            others.map(|group| group.vhost.as_str()).collect::<Vec<_>>().join(", ")
        };
        let with_it = all(&|group| force.groups.contains(&group.id));
        let without = all(&|group| !force.groups.contains(&group.id) && !self.is_led_now(group.id));
        let with_it = if with_it.is_empty() { with_it } else { format!("; so do {with_it}") };
        let without =
            if without.is_empty() { without } else { format!("; still without a quorum: {without}") };
        with_it + &without
    }

    fn force_failed(&mut self, code: &'static str, message: String) {
        let Some(force) = self.forcing.take() else { return };
        let Some(id) = force.ask else { return };
        let next = vec!["quorate group status".to_owned()];
        let reply = AdminReply::Failed { code, message, next, leader_admin_address: None };
        self.emit(Output::AdminReply { id, reply });
    }

    fn new_uuid(&mut self) -> uuid::Uuid {
        uuid::Uuid::from_u64_pair(self.roll(), self.roll())
    }
}

impl Group {
    /// Applies the rest of the log, which no node runs on.
    pub(super) fn take_all(&mut self, unmade: &mut Unmade) {
        let tail = self.recovered.as_mut().map(|recovered| std::mem::take(&mut recovered.tail));
        for entry in tail.into_iter().flatten() {
            self.replay(&entry, unmade);
        }
        if let Some(machine) = self.machine.vhost_mut() {
            machine.take_touched();
        }
    }
}
