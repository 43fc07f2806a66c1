//! From what is on the medium to groups in memory: checkpoint first, then the log from there on, applied again.
//!
//! Nothing is written here. A group whose state and log do not fit together makes the store damaged, never empty.

use std::collections::{BTreeMap, VecDeque};

use quorate_store::ids::{GroupId, Index, Term};
use quorate_store::record::{Entry, EntryKind, HardState};
use quorate_store::stamp::StampState;
use quorate_store::state::{Family, Pair};
use uuid::Uuid;

use super::config::{SYSTEM_NAME, limits};
use super::configuration::Configuration;
use super::found::NewVhost;
use super::group::{Group, Machine};
use super::lineage::Lineage;
use super::meta::{Meta, Space};
use super::startup::Phase;
use super::{LoadFor, Node, ScanFor};
use crate::control::Control;
use crate::controls::ForcedKind;
use crate::event::Level;
use crate::io::{Found, FoundGroup, Output, PeerKey};
use crate::machine::{Outcome, SystemMachine, VhostMachine};
use crate::replica::wire::MembershipChange;

/// A group's log as recovered, until its node starts.
#[derive(Debug)]
pub(crate) struct RecoveredLog {
    pub(crate) found: FoundGroup,
    /// Entries above the applied index.
    pub(crate) tail: Vec<Entry>,
    /// The latest configuration in the log, committed or not.
    pub(crate) latest: Configuration,
    /// The log has to begin anew at the applied index, since the state is a snapshot's that is beyond it.
    pub(crate) reset: bool,
    /// An operator marked the store, and the epoch has not begun yet: everything in the log counts as committed.
    pub(crate) marked: bool,
}

/// What recovery found of groups that have no state here yet.
#[derive(Debug, Default)]
pub(crate) struct Unmade {
    /// Terms and votes of nodes that never had a state. A vote is a promise all the same.
    pub(crate) hard_states: BTreeMap<GroupId, HardState>,
    /// Virtual hosts that entries after `system`'s checkpoint create: if the first state of such a group was not
    /// durable yet, it is made again, as it would have been.
    pub(crate) vhosts: BTreeMap<GroupId, NewVhost>,
}

/// Where recovery is.
#[derive(Debug)]
pub(crate) struct Recovery {
    waiting: VecDeque<FoundGroup>,
    spaces: BTreeMap<GroupId, Space>,
    stage: Stage,
}

enum Stage {
    /// Which space is whose.
    Spaces,
    /// A group's checkpoint.
    State { found: FoundGroup, group: Box<Group>, pairs: Vec<Pair> },
    /// A group's log.
    Log {
        found: FoundGroup,
        group: Box<Group>,
        next: Index,
        commit: Index,
        tail: Vec<Entry>,
        latest: Configuration,
    },
    /// The last entry of each group, of a stamp that says clean: group and index, those not yet read first.
    Ends { waiting: VecDeque<(GroupId, Index)> },
    /// Between groups.
    Between,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Spaces => "spaces",
            Self::State { .. } => "state",
            Self::Log { .. } => "log",
            Self::Ends { .. } => "ends",
            Self::Between => "between",
        })
    }
}

impl Node {
    /// Begins to recover the store's groups; the decision waits for the end of it.
    pub(super) fn begin_recovery(&mut self, found: Found) {
        let mut waiting: VecDeque<FoundGroup> = found.groups.into();
        waiting.make_contiguous().sort_by_key(|group| group.group);
        let recovery = Recovery { waiting, spaces: BTreeMap::new(), stage: Stage::Spaces };
        self.phase = Phase::Recovering(Box::new(recovery));
        let (from, to) = Space::node_range();
        self.recovery_scan(Family::Node, from, to);
    }

    fn recovery_scan(&mut self, family: Family, from: bytes::Bytes, to: bytes::Bytes) {
        let ticket = self.ticket();
        self.scans.insert(ticket, ScanFor::Recovery);
        self.emit(Output::Scan { ticket, family, from, to, max_bytes: limits::CHUNK_BYTES * 8, view: None });
    }

    pub(super) fn recovery_scanned(&mut self, pairs: Vec<Pair>, complete: bool) {
        let Phase::Recovering(recovery) = &mut self.phase else { return };
        match &mut recovery.stage {
            Stage::Spaces => {
                for (key, value) in &pairs {
                    if let Some((group, space)) = Space::read(key, value) {
                        recovery.spaces.insert(group, space);
                    }
                    if let Some(next) = Space::read_next(key, value) {
                        self.next_space = self.next_space.max(next);
                    }
                }
                let highest = recovery.spaces.values().map(|space| space.0).max().unwrap_or(0);
                self.next_space = self.next_space.max(highest + 1);
                recovery.stage = Stage::Between;
                self.recover_next();
            }
            Stage::State { group, pairs: gathered, .. } => {
                let space = group.space;
                let next = pairs.last().map(|(key, _)| after(key));
                gathered.extend(pairs);
                match next {
                    Some(next) if !complete => self.recovery_scan(Family::State, next, space.to()),
                    _ => self.recover_state(),
                }
            }
            Stage::Log { .. } | Stage::Ends { .. } | Stage::Between => {}
        }
    }

    fn recover_next(&mut self) {
        let Phase::Recovering(recovery) = &mut self.phase else { return };
        // A group whose state is there but whose log is not was being made, or was received whole just before.
        let without_log = recovery.spaces.keys().next().copied().map(|group| FoundGroup {
            group,
            hard_state: HardState::default(),
            first: Index(1),
            last: Index(0),
            terms: Vec::new(),
            epoch: quorate_store::ids::Epoch(1),
        });
        let Some(found) = recovery.waiting.pop_front().or(without_log) else {
            self.set_remainders_apart();
            self.check_ends();
            return;
        };
        let Some(space) = recovery.spaces.remove(&found.group) else {
            // Of a deleted group the state goes last, and the log before it; but a group may never have had a state.
            if self.system().is_some_and(|system| system.is_deleted(found.group)) {
                self.found_in_log_only(found.group);
                self.recover_next();
                return;
            }
            if found.last > Index(0) && !self.refilling.contains(&found.group) {
                // A group's state is durable before its log has a first place.
                self.damaged(format!(
                    "group {}: its log ends at {} and its state is missing",
                    found.group, found.last
                ));
                return;
            }
            self.note(
                Level::Debug,
                format!("group {} has a log and no state: it never had one", found.group),
            );
            self.unmade.hard_states.insert(found.group, found.hard_state);
            self.recover_next();
            return;
        };
        let (vhost, lineage) = self.named(found.group);
        let group = Box::new(Group::new(found.group, vhost, lineage, space));
        let Phase::Recovering(recovery) = &mut self.phase else { return };
        recovery.stage = Stage::State { found, group, pairs: Vec::new() };
        self.recovery_scan(Family::State, space.from(), space.to());
    }

    /// Name and lineage of a group, from the stamp, else as its founding gives them.
    fn named(&self, id: GroupId) -> (String, Lineage) {
        let stamped =
            self.stamp.as_ref().and_then(|stamp| stamp.groups.iter().find(|group| group.group == id));
        if let Some(stamped) = stamped
            && let Some(lineage) = Lineage::from_stamp(&stamped.lineage)
        {
            return (stamped.vhost.clone(), lineage);
        }
        let name = if id == GroupId::SYSTEM {
            SYSTEM_NAME.to_owned()
        } else {
            self.system()
                .and_then(|system| {
                    system.vhosts().find(|(_, group)| *group == id).map(|(name, _)| name.to_string())
                })
                .unwrap_or_else(|| format!("group {id}"))
        };
        (name, self.first_lineage(id))
    }

    fn recover_state(&mut self) {
        let Phase::Recovering(recovery) = &mut self.phase else { return };
        let Stage::State { found, mut group, pairs } = std::mem::replace(&mut recovery.stage, Stage::Between)
        else {
            return;
        };
        let prefix = group.space.prefix();
        let restored = if group.id == GroupId::SYSTEM {
            SystemMachine::restore(prefix, pairs)
                .map(|(meta, machine)| (meta, Machine::System(Box::new(machine))))
        } else {
            VhostMachine::restore(prefix, pairs)
                .map(|(meta, machine)| (meta, Machine::Vhost(Box::new(machine))))
        };
        let (meta, machine) = match restored {
            Ok(restored) => restored,
            Err(error) => {
                self.damaged(format!("the checkpoint of group {}: {error}", group.id));
                return;
            }
        };
        let meta = match Meta::decode(meta) {
            Ok(meta) => meta,
            Err(error) => {
                self.damaged(format!("the checkpoint record of group {}: {error}", group.id));
                return;
            }
        };
        group.machine = machine;
        group.applied = meta.applied;
        group.applied_term = meta.applied_term;
        group.checkpointed = meta.applied;
        group.configuration = meta.configuration;
        group.client_epoch = meta.client_epoch;
        group.controls = meta.controls;
        let marked = self.believes_mark(&mut group, &found);
        let commit = if marked { found.last } else { found.hard_state.commit };
        let commit = commit.max(meta.applied).min(found.last.max(meta.applied));
        if meta.applied > found.last
            || term_in(&found, meta.applied).is_some_and(|term| term != meta.applied_term)
        {
            // A received snapshot became the group's state and the process ended before its log began anew.
            self.finish_group(group, found, Vec::new(), None);
            return;
        }
        if meta.applied.next() < found.first {
            self.damaged(format!(
                "group {}: its state ends at {} and its log begins at {}",
                group.id, meta.applied, found.first
            ));
            return;
        }
        let latest = group.configuration.clone();
        let next = meta.applied.next();
        let Phase::Recovering(recovery) = &mut self.phase else { return };
        recovery.stage = Stage::Log { found, group, next, commit, tail: Vec::new(), latest };
        self.recover_log();
    }

    fn recover_log(&mut self) {
        let Phase::Recovering(recovery) = &mut self.phase else { return };
        let Stage::Log { found, next, .. } = &recovery.stage else { return };
        if *next > found.last {
            let stage = std::mem::replace(&mut recovery.stage, Stage::Between);
            if let Stage::Log { found, group, tail, latest, .. } = stage {
                self.finish_group(group, found, tail, Some(latest));
            }
            return;
        }
        let (group, from, to) = (found.group, *next, found.last.next());
        let ticket = self.ticket();
        self.loads.insert(ticket, LoadFor::Recovery);
        self.emit(Output::Load { ticket, group, from, to, max_bytes: limits::CHUNK_BYTES * 8 });
    }

    /// Whether an operator's mark begins the group's last epoch with the log as it is. A mark is believed only if the
    /// log ends exactly where the mark says; otherwise it is none, and the store is dirty.
    fn believes_mark(&mut self, group: &mut Group, found: &FoundGroup) -> bool {
        if !RecoveredLog::awaits_mark(group, found.epoch) {
            return false;
        }
        let stamped =
            self.stamp.as_ref().and_then(|stamp| stamp.groups.iter().find(|part| part.group == group.id));
        let at_end = stamped.is_some_and(|stamped| {
            stamped.position.index == found.last && Some(stamped.position.term) == term_in(found, found.last)
        });
        if at_end {
            return true;
        }
        let text = format!(
            "the stamp's mark of virtual host {} is not believed: the log does not end where it says; the store counts \
             as dirty",
            group.vhost
        );
        self.note(Level::Warn, text);
        group.lineage.take_back();
        if let Some(stamp) = &mut self.stamp {
            stamp.state = StampState::Dirty;
        }
        false
    }

    /// Clean is believed only if every group's log ends in exactly that shutdown's entry, and this very life of the
    /// store took part in it: a rotten newer slot of the stamp must not turn a dirty store into an older clean one.
    fn check_ends(&mut self) {
        let is_clean = matches!(self.stamp.as_ref().map(|stamp| stamp.state), Some(StampState::Clean { .. }));
        let Phase::Recovering(recovery) = &mut self.phase else { return };
        if !is_clean {
            self.recovered();
            return;
        }
        let ends: VecDeque<_> = self
            .groups
            .values()
            .map(|group| (group.id, group.recovered.as_ref().map_or(Index(0), |log| log.found.last)))
            .collect();
        recovery.stage = Stage::Ends { waiting: ends };
        self.check_next_end();
    }

    fn check_next_end(&mut self) {
        let Phase::Recovering(recovery) = &mut self.phase else { return };
        let Stage::Ends { waiting } = &recovery.stage else { return };
        let Some(&(group, last)) = waiting.front() else {
            self.recovered();
            return;
        };
        let in_log = self
            .groups
            .get(group)
            .and_then(|group| group.recovered.as_ref())
            .is_some_and(|log| !log.reset && log.found.first <= last && last > Index(0));
        if !in_log {
            self.disbelieve(group);
            return;
        }
        let ticket = self.ticket();
        self.loads.insert(ticket, LoadFor::Recovery);
        self.emit(Output::Load {
            ticket,
            group,
            from: last,
            to: last.next(),
            max_bytes: limits::CHUNK_BYTES,
        });
    }

    fn end_loaded(&mut self, entries: &[Entry]) {
        let Some(stamp) = &self.stamp else { return };
        let StampState::Clean { shutdown } = stamp.state else { return };
        let life = PeerKey { store: stamp.store_id, run: stamp.run_id };
        let Phase::Recovering(recovery) = &mut self.phase else { return };
        let Stage::Ends { waiting } = &mut recovery.stage else { return };
        let Some((group, last)) = waiting.pop_front() else { return };
        let ends = entries.first().is_some_and(|entry| {
            entry.index == last
                && entry.kind == EntryKind::Control
                && matches!(
                    Control::decode(entry.data.clone()),
                    Ok(Control::Shutdown(found)) if found.id == shutdown && found.names(life)
                )
        });
        if ends { self.check_next_end() } else { self.disbelieve(group) }
    }

    /// The stamp says clean and this group's log does not.
    fn disbelieve(&mut self, group: GroupId) {
        let vhost = self.groups.get(group).map(|group| group.vhost.clone()).unwrap_or_default();
        if let Some(stamp) = &mut self.stamp {
            let text = format!(
                "the stamp says clean by shutdown {}, but the log of virtual host {vhost} does not end with it: the store counts as dirty",
                if let StampState::Clean { shutdown } = stamp.state { shutdown } else { Uuid::nil() }
            );
            stamp.state = StampState::Dirty;
            self.note(Level::Warn, text);
        }
        self.recovered();
    }

    pub(super) fn recovery_loaded(&mut self, entries: Vec<Entry>) {
        let Phase::Recovering(recovery) = &mut self.phase else { return };
        if let Stage::Ends { .. } = &recovery.stage {
            self.end_loaded(&entries);
            return;
        }
        let Stage::Log { group, next, commit, tail, latest, .. } = &mut recovery.stage else { return };
        if entries.is_empty() {
            let reason = format!("group {}: the log has no entry {next}", group.id);
            self.damaged(reason);
            return;
        }
        for entry in entries {
            if entry.index != *next {
                let reason = format!("group {}: the log has entry {} for {next}", group.id, entry.index);
                self.damaged(reason);
                return;
            }
            *next = next.next();
            let change = match entry.kind {
                EntryKind::Membership => MembershipChange::decode(&entry.data),
                EntryKind::Command | EntryKind::Control => MembershipChange::Nothing,
            };
            latest.apply(change);
            if entry.kind == EntryKind::Control {
                Group::replay_control(latest, &entry.data);
            }
            // Committed or not: that the commit was not written down says nothing of what was confirmed.
            group.note_client_work(&entry);
            if entry.index > *commit {
                tail.push(entry);
                continue;
            }
            group.replay(&entry, &mut self.unmade);
        }
        self.recover_log();
    }

    fn finish_group(
        &mut self,
        mut group: Box<Group>,
        found: FoundGroup,
        tail: Vec<Entry>,
        latest: Option<Configuration>,
    ) {
        if let Machine::Vhost(machine) = &mut group.machine {
            machine.take_touched();
        }
        let reset = latest.is_none();
        let marked = RecoveredLog::awaits_mark(&group, found.epoch);
        // What was forced while the broker ran has no mark in the store's state that says who goes on.
        let forced = group.lineage.entries().last().map(|epoch| epoch.cause).filter(|_| marked);
        let sole = forced.and_then(|cause| ForcedKind::of(cause).and_then(|_| cause.sole()));
        let latest = match sole {
            Some(sole) => Configuration::sole(sole.0),
            None => latest.unwrap_or_else(|| group.configuration.clone()),
        };
        group.stale = self.refilling.contains(&group.id);
        // An operator who marks a store goes on from it as it is.
        group.acknowledging.lacks = self.lacking.get(&group.id).copied().filter(|_| !marked);
        let stamped = self.stamp.iter().flat_map(|stamp| &stamp.groups);
        if let Some(stamped) = stamped.into_iter().find(|part| part.group == group.id) {
            group.acknowledging.found(stamped);
        }
        group.recovered = Some(RecoveredLog { found, tail, latest, reset, marked });
        self.groups.insert(group);
        self.recover_next();
    }

    fn damaged(&mut self, reason: String) {
        self.damage = Some(reason);
        self.facts_changed = true;
        self.groups.clear();
        self.phase = Phase::Deciding;
    }

    fn recovered(&mut self) {
        self.phase = Phase::Deciding;
        self.facts_changed = true;
        self.learn_members();
    }
}

impl Group {
    /// Applies an entry of a log that no node runs on: nobody is answered, nothing is sent.
    pub(crate) fn replay(&mut self, entry: &Entry, unmade: &mut Unmade) {
        match entry.kind {
            EntryKind::Membership => self.configuration.apply(MembershipChange::decode(&entry.data)),
            EntryKind::Control => {
                Self::replay_control(&mut self.configuration, &entry.data);
                self.replay_act(entry);
            }
            EntryKind::Command => {
                let outcomes = self.apply_commands(entry);
                for id in outcomes.iter().filter_map(Outcome::new_vhost) {
                    unmade.vhosts.extend(self.new_vhost(id).map(|new| (id, new)));
                }
            }
        }
        self.bytes_since_checkpoint += entry.data.len() as u64;
        self.applied = entry.index;
        self.applied_term = entry.term;
    }
}

fn after(key: &[u8]) -> bytes::Bytes {
    let mut next = key.to_vec();
    next.push(0);
    next.into()
}

fn term_in(found: &FoundGroup, index: Index) -> Option<Term> {
    if index > found.last || index.next() < found.first {
        return None;
    }
    let run = found.terms.partition_point(|(first, _)| *first <= index);
    run.checked_sub(1).and_then(|run| found.terms.get(run)).map(|(_, term)| *term)
}
