//! From held to running: decide, write `dirty`, start the groups' nodes.

use std::collections::{BTreeMap, BTreeSet};

use quorate_store::ids::{ClusterId, GroupId, Incarnation, Index, Position, RaftId, StoreId, Term};
use quorate_store::record::{HardState, Record};
use quorate_store::stamp::{self, Stamp, StampState};

use super::found;
use super::group::Group;
use super::lineage::Lineage;
use super::meta::Space;
use super::recovery::Recovery;
use super::{Node, Then};
use crate::event::Event;
use crate::formation::status::StoreState;
use crate::formation::{Facts, FormingState, FoundingAction, FoundingValue, Row, Verdict, decide};
use crate::io::{Found, FoundStamp, Output, Ticket};
use crate::peer::{Admission, PeerMessage};
use crate::replica::{LogWindow, Replica};

/// Where the broker is between start and service.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Reading its own store.
    Recovering(Box<Recovery>),
    /// Held: talks to peers, decides again at each change. Writes nothing but what founding needs.
    Deciding,
    /// Leaving the held state: `dirty` is being written.
    Beginning(Beginning),
    /// In service, or taking part.
    Running,
    /// SIGTERM was received.
    Stopping,
}

/// What the broker begins with once `dirty` is durable.
#[derive(Debug)]
pub(crate) enum Beginning {
    /// A cluster that was just founded.
    Founded(Box<FoundingValue>),
    /// What its store holds.
    Existing,
    /// Nothing yet: the cluster admits it.
    Admitted(Box<Admission>),
}

/// What the stamp remembers of a founding, in the founding machine's own form.
pub(crate) fn forming_of(stamp: Option<&Stamp>) -> FormingState {
    let forming = stamp.and_then(|stamp| stamp.forming.as_ref());
    forming.and_then(|forming| FormingState::try_from(forming).ok()).unwrap_or_default()
}

/// The store's own Raft id as its stamp remembers it.
pub(crate) fn raft_id_in(stamp: &Stamp, store: StoreId) -> Option<RaftId> {
    stamp.members.iter().find(|member| member.store_id == store).map(|member| member.raft_id)
}

impl Node {
    /// The first step of the process.
    pub(super) fn start(&mut self, found: Found) {
        self.tell_found_panic();
        for address in self.config.peers.clone() {
            if address != self.config.cluster_address {
                self.peers.expect(&address);
            }
            self.dial(&address);
        }
        if let Some(stamp) = &self.stamp {
            let known: Vec<_> = stamp
                .members
                .iter()
                .map(|member| (member.store_id, member.raft_id, member.cluster_address.clone()))
                .collect();
            for (store, raft_id, address) in known {
                self.peers.route(raft_id, store);
                if store != self.own.store {
                    self.dial(&address);
                }
            }
        }
        let held = matches!(
            self.stamp.as_ref().map(|stamp| stamp.state),
            None | Some(StampState::Empty | StampState::Forming)
        );
        if !held && matches!(found.stamp, FoundStamp::Stamp(_)) {
            self.begin_recovery(found);
        }
    }

    pub(super) fn dial(&mut self, address: &str) {
        if address != self.config.cluster_address && self.peers.dial(address) {
            self.emit(Output::Dial { address: address.to_owned() });
        }
    }

    /// Everything that this broker knows now.
    pub(super) fn facts(&self) -> Facts {
        Facts { own: self.own_status(), seen: self.peers.statuses().cloned().collect() }
    }

    /// Decides again while held. Called once a round.
    pub(super) fn decide_again(&mut self) {
        if matches!(self.phase, Phase::Recovering(_) | Phase::Beginning(_) | Phase::Stopping) {
            return;
        }
        let facts = self.facts();
        // Before anything is given up for a history that this one may not have to give way to.
        let met = self.meet_histories(&facts);
        if met && self.is_panicked() {
            return;
        }
        let decision = decide(&facts);
        let changed = self.decision.as_ref().is_none_or(|old| {
            (old.row, old.verdict, &old.reason) != (decision.row, decision.verdict, &decision.reason)
        });
        // A panic has said so itself.
        if changed && decision.row != Row::S1 {
            if decision.row == Row::R4 {
                let (store, member) = (self.own.store, self.config.name.clone());
                self.event(Event::StoreTwice { store, member, why: "this broker is held".to_owned() });
            }
            self.event(Event::Verdict {
                row: decision.row.label(),
                verdict: super::verdict::verdict_word(decision.verdict).word(),
                reason: decision.reason.clone(),
                next: decision.next.clone(),
            });
        }
        let (row, verdict) = (decision.row, decision.verdict);
        let reason = decision.reason.clone();
        self.decision = Some(decision);
        if matches!(self.phase, Phase::Running) {
            self.tell_safety_losses();
            if !met {
                self.go_solo();
                self.settle_groups(&facts);
            }
            return;
        }
        // Only after looking around. All by itself: a wrong directory must meet the cluster that runs at the configured
        // addresses before it becomes one itself. To found: empty stores may meet each other before the one that has
        // everything. Beside a few: somebody else may be about to say that it leads a history of its own; but whoever is
        // not there at all may take long to fail, and is not waited for.
        let patience = self.config.timing.election_millis().saturating_mul(2);
        let patient_until = *self.patient_until.get_or_insert(self.now.plus(patience));
        let looks_around = !self.peers.has_looked_around();
        let alone = facts.seen.is_empty();
        match verdict {
            Verdict::Form if looks_around => {}
            Verdict::Restore if looks_around && alone => {}
            Verdict::Restore if looks_around && self.now < patient_until => {
                self.decide_at = Some(patient_until);
            }
            // A copy under another name is held beside its original, which may be about to answer.
            Verdict::Refuse { .. } if row == Row::R5 && looks_around && self.now < patient_until => {
                self.decide_at = Some(patient_until);
            }
            Verdict::Restore if row == Row::P1 => self.go_solo(),
            Verdict::Form => {
                if let Some(plan) = facts.founding_plan() {
                    let now = self.now;
                    self.founding.propose(now, plan);
                }
            }
            // Nobody is there yet who could fill it again, or who has a place for it: until then it stays as it is. One
            // that was removed for good never gets one.
            Verdict::Join if facts.own.belongs() && !facts.has_place() => {}
            Verdict::Restore | Verdict::Resume | Verdict::Join if facts.own.belongs() => {
                if facts.is_rolled_back() {
                    self.tell_older("others recorded a later life of it, or more than it has".to_owned());
                }
                self.leave_behind(&facts);
                self.clear_groups(&facts);
                self.begin(Beginning::Existing);
            }
            Verdict::Restore | Verdict::Resume => {
                // A founder that slept through the end of the founding: its stamp knows what was agreed.
                if let StoreState::Forming(state) = &facts.own.state
                    && let Some(value) = state.value()
                    && value.founder(self.own.store).is_some()
                {
                    self.begin(Beginning::Founded(Box::new(value.clone())));
                }
            }
            // The leader of `system` sees the empty store and admits it.
            Verdict::Join => {}
            Verdict::Refuse { exit_status } => self.exit(exit_status, reason),
            Verdict::Wait | Verdict::NeedsOperator | Verdict::Held => {}
        }
        if (verdict != Verdict::Form || (alone && looks_around)) && matches!(self.phase, Phase::Deciding) {
            self.founding.withdraw();
        }
    }

    /// Gives the founding machine time and does what it asks for.
    pub(super) fn drive_founding(&mut self) {
        let now = self.now;
        let mut dice = self.dice.clone();
        self.founding.tick(now, &mut || rand_core::Rng::next_u64(&mut dice));
        self.dice = dice;
        self.poll_founding();
    }

    pub(super) fn poll_founding(&mut self) {
        while let Some(action) = self.founding.poll() {
            match action {
                FoundingAction::Persist(state) => {
                    self.facts_changed = true;
                    let mut stamp = self.blank_stamp();
                    stamp.state = StampState::Forming;
                    stamp.forming = Some(stamp::FormingState::from(&state));
                    self.write_stamp(stamp, Then::FoundingPersisted);
                }
                FoundingAction::Send { to, message } => {
                    if let Some(key) = self.peers.key(to) {
                        let message = PeerMessage::Founding(Box::new(message));
                        self.emit(Output::Send { to: key, message, after: None });
                    }
                }
                FoundingAction::Decided(value) => {
                    // A store that was founded long ago still remembers how, and goes on by the rows.
                    let founds = matches!(
                        self.store_state(),
                        StoreState::Empty | StoreState::Forming(_) | StoreState::Transient { .. }
                    );
                    if matches!(self.phase, Phase::Deciding)
                        && founds
                        && value.founder(self.own.store).is_some()
                    {
                        self.begin(Beginning::Founded(Box::new(value)));
                    }
                }
            }
        }
    }

    pub(super) fn founding_persisted(&mut self) {
        let now = self.now;
        let mut dice = self.dice.clone();
        self.founding.persisted(now, &mut || rand_core::Rng::next_u64(&mut dice));
        self.dice = dice;
        self.poll_founding();
    }

    /// Leaves the held state: `dirty`, durably, before anything else is written.
    pub(super) fn begin(&mut self, beginning: Beginning) {
        if !matches!(self.phase, Phase::Deciding) {
            return;
        }
        // Later than every life of this store that anybody here knows of.
        let known = self.peers.statuses().flat_map(|status| &status.recorded);
        let known = known.filter(|recorded| recorded.store == self.own.store);
        let known = known.map(|recorded| recorded.incarnation).max().unwrap_or_default();
        self.incarnation = Incarnation(self.incarnation.max(known).0.saturating_add(1));
        match &beginning {
            Beginning::Founded(value) => {
                self.cluster_id = Some(value.cluster_id);
                self.raft_id = value.founder(self.own.store).map(|founder| founder.raft_id);
            }
            Beginning::Admitted(admission) => {
                self.cluster_id = Some(admission.cluster_id);
                self.raft_id = Some(admission.raft_id);
            }
            Beginning::Existing => {}
        }
        let mut stamp = self.current_stamp();
        match &beginning {
            Beginning::Founded(value) => {
                stamp.members = value.founders.iter().map(found::stamp_member).collect();
                stamp.possible_members = value.founders.iter().map(|founder| founder.store).collect();
                stamp.forming = Some(stamp::FormingState::from(self.founding.state()));
            }
            Beginning::Admitted(admission) => {
                stamp.members = admission
                    .members
                    .iter()
                    .map(|(store, raft_id, name, address)| stamp::StampMember {
                        store_id: *store,
                        raft_id: *raft_id,
                        name: name.clone(),
                        cluster_address: address.clone(),
                        client_address: String::new(),
                        admin_address: String::new(),
                        voter: false,
                        incarnation: Incarnation(0),
                    })
                    .collect();
            }
            Beginning::Existing => {}
        }
        self.facts_changed = true;
        self.phase = Phase::Beginning(beginning);
        self.write_stamp(stamp, Then::Begun);
    }

    /// `dirty` is durable.
    pub(super) fn begun(&mut self) {
        let Phase::Beginning(beginning) = std::mem::replace(&mut self.phase, Phase::Running) else { return };
        match beginning {
            Beginning::Founded(value) => self.make_founded_groups(&value),
            Beginning::Admitted(admission) => self.take_admission(*admission),
            Beginning::Existing => {
                // A crash between `dirty` and the first state of the groups: what was agreed is in the stamp.
                if let Some(value) = self.founded_value() {
                    self.make_founded_groups(&value);
                }
                for (id, new) in std::mem::take(&mut self.unmade.vhosts) {
                    self.vhost_created(id, new);
                }
                self.make_missing_vhosts();
            }
        }
        self.learn_members();
        self.tell_life_now();
        self.groups.touch_all();
        self.facts_changed = true;
    }

    /// The founding that made this store's cluster, if it was a founder: the stamp says dirty in the very cluster that
    /// it had accepted, so that value was decided.
    pub(super) fn founded_value(&self) -> Option<FoundingValue> {
        let stamp = self.stamp.as_ref().filter(|stamp| stamp.state == StampState::Dirty)?;
        let value = forming_of(Some(stamp)).value()?.clone();
        (Some(value.cluster_id) == stamp.cluster_id && value.founder(self.own.store).is_some())
            .then_some(value)
    }

    /// Starts the node of a recovered group.
    pub(super) fn start_recovered(&mut self, id: GroupId) {
        let Some(raft_id) = self.raft_id else { return };
        let salt = self.roll();
        let timing = self.config.timing;
        let mut records = Vec::new();
        self.with_group(id, |node, group| {
            let Some(recovered) = group.recovered.take() else { return };
            let found = recovered.found;
            let epoch = group.lineage.tag().epoch;
            let mut hard_state = found.hard_state;
            hard_state.commit = group.applied;
            let end = Position { epoch: found.epoch, term: group.applied_term, index: group.applied };
            let members = node.stamp.as_ref().map(|stamp| stamp.members.as_slice()).unwrap_or_default();
            let mark =
                if recovered.marked { group.begin_marked(found.hard_state.term, members) } else { None };
            group.marked_at = mark.as_ref().map(|_| end);
            let conf_state = group.configuration.to_raft();
            let log = if let Some((entry, terms)) = mark {
                hard_state = HardState { term: entry.term, vote: 0, commit: entry.index };
                let log = LogWindow::new(hard_state, conf_state, found.first, entry.index, terms);
                records.push(Record::Entry(id, epoch, entry));
                records.push(Record::HardState(id, epoch, hard_state));
                log
            } else if recovered.reset {
                // Raft-rs would stop the process if the commit index went beyond the log.
                hard_state.term = hard_state.term.max(group.applied_term);
                records.push(Record::Reset(id, epoch, group.applied_term, group.applied));
                records.push(Record::HardState(id, epoch, hard_state));
                LogWindow::new(
                    hard_state,
                    conf_state,
                    group.applied.next(),
                    group.applied,
                    [(group.applied, group.applied_term)],
                )
            } else {
                let mut log = LogWindow::new(hard_state, conf_state, found.first, found.last, found.terms);
                recovered.tail.iter().for_each(|entry| group.acknowledging.note(entry));
                log.refill(recovered.tail);
                log
            };
            let salt = salt ^ u64::from(id.0);
            group.replica = Some(Replica::new(id, epoch, raft_id, log, group.applied, timing, salt));
            node.stamp_changed = true;
            node.campaign_soon(group);
            node.tell_forced(group);
        });
        if !records.is_empty() {
            let ticket = self.log_ticket();
            self.after(ticket, Then::MarkLogged(id));
        }
        self.records.extend(records);
    }

    /// From now on the log says itself where it is.
    pub(super) fn mark_logged(&mut self, id: GroupId) {
        self.groups.touch(id);
        if let Some(group) = self.groups.get_mut(id) {
            self.stamp_changed |= group.marked_at.take().is_some();
        }
    }

    /// The table has just said that the voters are there: nobody leads yet, and waiting for a silence would prove
    /// nothing. If somebody does lead, the others say so.
    fn campaign_soon(&mut self, group: &mut Group) {
        self.take_stand(group);
        let standing = group.replica.as_ref().map(Replica::standing).unwrap_or_default();
        let jitter = self.roll_between(20, 40);
        if let Some(delay) = standing.delay_millis(self.config.timing.election_millis()) {
            self.ask_for_votes(group, self.now.plus(delay + jitter));
        }
        group.campaign_until = self.now.plus(self.config.timing.election_millis());
    }

    /// Its store holds its first record; a later start finds it, and tells nothing.
    fn node_created(&mut self, vhost: &str) {
        self.stamp_changed = true;
        self.event(Event::NodeCreated { vhost: vhost.to_owned() });
    }

    /// Makes a group from its first state: at index 1 of term 1, so that whoever comes later with nothing cannot be
    /// updated by log alone and gets the first state too.
    pub(super) fn make_group(&mut self, mut group: Box<Group>) {
        let id = group.id;
        group.applied = Index(1);
        group.applied_term = Term(1);
        group.checkpointed = Index(1);
        let mut batch = group.checkpoint();
        batch.writes.insert(0, group.space.assign(id));
        batch.writes.insert(0, Space::used_below(self.next_space));
        let ticket = self.ticket();
        self.after(ticket, Then::GroupStateMade(id));
        self.emit(Output::WriteState { ticket, batch, flush: true, open_view: None });
        self.groups.insert(group);
    }

    pub(super) fn group_state_made(&mut self, id: GroupId) {
        let ticket = self.log_ticket();
        let Some(group) = self.groups.get(id) else { return };
        let epoch = group.lineage.tag().epoch;
        let hard_state = self.first_hard_state(id);
        self.records.push(Record::Reset(id, epoch, Term(1), Index(1)));
        self.records.push(Record::HardState(id, epoch, hard_state));
        self.after(ticket, Then::GroupLogMade(id));
    }

    /// The hard state of a group that begins at its first state.
    fn first_hard_state(&self, id: GroupId) -> HardState {
        let known = self.unmade.hard_states.get(&id).copied().unwrap_or_default();
        HardState { term: known.term.max(Term(1)), vote: known.vote, commit: Index(1) }
    }

    pub(super) fn group_log_made(&mut self, id: GroupId) {
        let Some(raft_id) = self.raft_id else { return };
        let hard_state = self.first_hard_state(id);
        let salt = self.roll();
        let timing = self.config.timing;
        self.with_group(id, |node, group| {
            if group.replica.is_some() {
                return;
            }
            let log = LogWindow::new(
                hard_state,
                group.configuration.to_raft(),
                Index(2),
                Index(1),
                [(Index(1), Term(1))],
            );
            let epoch = group.lineage.tag().epoch;
            group.replica = Some(Replica::new(id, epoch, raft_id, log, Index(1), timing, salt));
            node.node_created(&group.vhost);
            node.campaign_soon(group);
        });
    }

    /// A group of which this broker has nothing yet: it follows, and is given a snapshot.
    pub(super) fn make_bare_group(&mut self, id: GroupId, vhost: String, lineage: Lineage) {
        let Some(raft_id) = self.raft_id else { return };
        if self.groups.contains_key(id) {
            return;
        }
        let space = self.new_space();
        let salt = self.roll();
        let mut group = Box::new(Group::new(id, vhost, lineage, space));
        let epoch = group.lineage.tag().epoch;
        let known = self.unmade.hard_states.get(&id).copied().unwrap_or_default();
        let hard_state = HardState { commit: Index(0), ..known };
        let log = LogWindow::new(hard_state, raft::eraftpb::ConfState::default(), Index(1), Index(0), []);
        let mut replica = Replica::new(id, epoch, raft_id, log, Index(0), self.config.timing, salt);
        replica.bar(self.refilling.contains(&id));
        group.replica = Some(replica);
        self.node_created(&group.vhost);
        self.groups.insert(group);
    }

    pub(super) fn new_space(&mut self) -> Space {
        let space = Space(self.next_space);
        self.next_space += 1;
        space
    }

    /// The stamp with everything as it is now.
    pub(super) fn current_stamp(&self) -> Stamp {
        let mut stamp = self.stamp.clone().unwrap_or_else(|| self.blank_stamp());
        stamp.cluster_id = self.cluster_id;
        stamp.cluster_name.clone_from(&self.config.cluster_name);
        stamp.broker_name.clone_from(&self.config.name);
        stamp.incarnation = self.incarnation;
        stamp.run_id = self.own.run;
        if let Some(system) = self.system().filter(|system| system.safety().number() != 0) {
            stamp.safety_number = system.safety().number();
        }
        stamp.state = StampState::Dirty;
        stamp.wait_for = self.config.wait_for;
        stamp.recovery = match self.config.recovery {
            crate::formation::status::RecoveryMode::Automatic => stamp::RecoveryMode::Automatic,
            crate::formation::status::RecoveryMode::Manual => stamp::RecoveryMode::Manual,
        };
        self.fill_stamp(&mut stamp);
        stamp
    }

    pub(super) fn write_stamp(&mut self, stamp: Stamp, then: Then) {
        let ticket = self.emit_stamp(stamp);
        self.after(ticket, then);
    }

    fn emit_stamp(&mut self, stamp: Stamp) -> Ticket {
        let ticket = self.ticket();
        let life = (stamp.incarnation, stamp.run_id);
        if self.stamped_life != Some(life) {
            self.after(ticket, Then::LifeStamped(life));
        }
        let refilling: BTreeSet<GroupId> = stamp.refilling.iter().copied().collect();
        if self.stamp.as_ref().is_none_or(|before| before.refilling != stamp.refilling)
            || self.stamped_refilling != refilling
        {
            self.after(ticket, Then::RefillingStamped(refilling));
        }
        self.say_durability(ticket, &stamp);
        self.stamp = Some(stamp.clone());
        self.emit(Output::WriteStamp { ticket, stamp: Box::new(stamp) });
        ticket
    }

    /// A routine rewrite that nothing waits for.
    pub(super) fn refresh_stamp(&mut self) {
        self.stamp_changed = false;
        self.note_acknowledged();
        let stamp = self.current_stamp();
        self.emit_stamp(stamp);
    }

    /// Routes and addresses of every member that `system` knows.
    pub(super) fn learn_members(&mut self) {
        let members: Vec<_> = self
            .system()
            .map(|system| {
                system
                    .members()
                    .map(|member| (member.store, member.raft_id, member.cluster_address.clone()))
                    .collect()
            })
            .unwrap_or_default();
        let mut addresses = BTreeMap::new();
        for (store, raft_id, address) in members {
            self.peers.route(raft_id, store);
            if store == self.own.store {
                self.raft_id = Some(raft_id);
            } else {
                addresses.insert(store, address);
            }
        }
        for (store, address) in addresses {
            if !self.peers.is_linked(store) {
                self.dial(&address);
            }
        }
        let wanted = self.system().into_iter().flat_map(|system| system.intents().wanted.values());
        let addresses: Vec<String> = wanted.map(|wanted| wanted.address.clone()).collect();
        for address in addresses {
            self.dial(&address);
        }
    }

    /// The cluster this broker belongs to, for groups that begin.
    pub(super) fn cluster(&self) -> ClusterId {
        self.cluster_id.expect("a broker that makes groups belongs to a cluster")
    }
}
