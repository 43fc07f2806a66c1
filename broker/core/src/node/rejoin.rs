//! Groups of which this store must not vote as it is: kept aside, given up, and filled again by the cluster.
//!
//! ```text
//!  row J1 says JOIN for a group that the store holds
//!    │  the node stops; `refilling` goes into the stamp, durably, with a later incarnation if this one was refused
//!    ▼
//!  preserve   an image of the store in quarantine: nothing is deleted
//!    ▼
//!  discard    state and log of the group; its term and vote stay, since a vote is a promise
//!    ▼
//!  the leader of `system` admits the store to the group again; the group's leader takes it out of the configuration and
//!  makes it a learner, fills it, and, once it has synced an entry that was proposed after that, says in the log that the
//!  store is filled: only now it votes again, and says so; then it is made a voter
//! ```
//!
//! A group is filled at most once in a life of the store, and what says that it is filled names that life. So what is left
//! in a log of an earlier filling says nothing of this one.
//!
//! A crash at any step leaves a store that is marked as refilling: it is never taken for a source, and begins again.

use std::collections::BTreeMap;

use quorate_store::ids::{GroupId, Incarnation, Index, Position, RaftId, Term};
use quorate_store::quarantine::{Divergence, loss_id};
use quorate_store::record::{HardState, Record};
use quorate_store::state::StateBatch;

use super::group::Group;
use super::lineage::Lineage;
use super::meta::Space;
use super::recovery::Unmade;
use super::{Node, Phase, Then};
use crate::event::{Event, Level};
use crate::formation::lineage::same_tip;
use crate::formation::{Facts, Verdict, decide_group};
use crate::io::{Output, Ticket};
use crate::machine::VhostMachine;
use crate::replica::Replica;

/// Between two attempts to keep an image, in milliseconds.
const KEEP_AGAIN_MILLIS: u64 = 10_000;
/// Election timeouts for which the own side is awaited: a leader is elected in two at most.
const OWN_SIDE_TIMEOUTS: u64 = 3;
const KEEP_PROBLEM: &str =
    "what this store holds must be kept in quarantine before it is filled again, and cannot be";
const KEEP_NEXT: &str =
    "quorate store quarantine list DIR, then purge what is not needed; or make room on the disk";

impl Node {
    /// Starts the nodes of groups that may go on, gives up those that have to be filled again. Called whenever the
    /// facts have changed, while running.
    pub(super) fn settle_groups(&mut self, facts: &Facts) {
        if !matches!(self.phase, Phase::Running) || self.is_closing() {
            return;
        }
        // What the others deleted is taken away as soon as the own `system` says so.
        let deleted = facts.deleted(self.group_ids());
        for id in self.group_ids() {
            let Some(group) = self.groups.get(id) else { continue };
            if self.rejoining.contains(&id) {
                continue;
            }
            if self.is_left_behind(id) {
                self.rejoin(id);
                continue;
            }
            if deleted.contains(&id) {
                continue;
            }
            let reference = facts.reference(id);
            let strange =
                reference.is_some_and(|reference| !same_tip(&reference.lineage, group.lineage.entries()));
            if !strange && let Some(group) = self.groups.get_mut(id) {
                group.leaves_at = None;
            }
            let Some(group) = self.groups.get(id) else { continue };
            if group.recovered.is_none() && !strange && !group.stale {
                continue;
            }
            if strange && group.is_bare() {
                let lineage = reference.and_then(|reference| Lineage::from_stamp(&reference.lineage));
                if let Some(lineage) = lineage {
                    self.adopt(id, lineage);
                }
                continue;
            }
            if group.stale {
                let led = reference.and_then(|reference| reference.active);
                if led.is_some_and(|active| active.leader != self.own.store) {
                    self.rejoin(id);
                }
                continue;
            }
            let verdict = decide_group(facts, id).verdict;
            // Whoever only is no voter keeps what it has: Raft brings it up to date.
            let sound = !strange && facts.is_trusted(id);
            let goes_on = self.cleared.contains(&id)
                || matches!(verdict, Verdict::Restore | Verdict::Resume | Verdict::Form | Verdict::Join);
            match verdict {
                _ if goes_on && sound && group.recovered.is_some() && self.is_vouched(group, facts) => {
                    self.start_recovered(id);
                }
                Verdict::Join if strange && self.awaits_own_side(id, facts) => {}
                Verdict::Join if !sound && reference.is_some() => self.rejoin(id),
                _ => {}
            }
        }
        self.make_given_up(facts);
        // Nothing is left that this life could claim too much of.
        if self.life.is_refused() && self.groups.keys().all(|id| self.refilling.contains(id)) {
            self.renew_life();
            let stamp = self.current_stamp();
            self.write_stamp(stamp, Then::LifeRenewed);
        }
    }

    /// Whether those with whom this broker led or followed until a moment ago may be about to go on with it: they are a majority
    /// without whoever went on elsewhere. All of them may have hung at once, and the first to answer then is the other side;
    /// who leaves before them leaves them without a quorum.
    fn awaits_own_side(&mut self, id: GroupId, facts: &Facts) -> bool {
        let Some(group) = self.groups.get(id).filter(|group| group.was_active && group.recovered.is_none())
        else {
            return false;
        };
        let is_elsewhere = |raft_id: &u64| {
            let store = self.peers.store_of(RaftId(*raft_id));
            let status = facts.seen.iter().find(|seen| Some(seen.key.store) == store);
            let part = status.and_then(|status| status.group(id));
            part.is_some_and(|part| !same_tip(&part.lineage, group.lineage.entries()))
        };
        let voters = &group.configuration.voters;
        if voters.iter().filter(|voter| !is_elsewhere(voter)).count() < group.configuration.majority() {
            return false;
        }
        let patience = self.config.timing.election_millis().saturating_mul(OWN_SIDE_TIMEOUTS);
        let now = self.now;
        let Some(group) = self.groups.get_mut(id) else { return false };
        let until = *group.leaves_at.get_or_insert(now.plus(patience));
        if until > now {
            self.decide_at = Some(self.decide_at.map_or(until, |known| known.min(until)));
        }
        until > now
    }

    /// Remembers which groups may go on, before the stamp says that this store is in use again.
    pub(super) fn clear_groups(&mut self, facts: &Facts) {
        let goes_on = |id: &GroupId| {
            matches!(decide_group(facts, *id).verdict, Verdict::Restore | Verdict::Resume | Verdict::Form)
        };
        self.cleared = self.groups.keys().copied().filter(goes_on).collect();
    }

    /// Groups whose history went on elsewhere, by an operator's act, and those that may lack what they acknowledged: what
    /// is here of them claims nothing from the very stamp on that says this store is in use again. The next outage would
    /// take the first for one that went on by itself; and a store that was rolled back begins a life later than all that
    /// is known of it, by which nobody could tell any more that it was.
    pub(super) fn leave_behind(&mut self, facts: &Facts) {
        for group in self.groups.values_mut() {
            // Of what may have been lost with power or process, the stamp goes on to say so.
            let lost = !facts.is_trusted(group.id) && group.acknowledging.lacks.is_none();
            if facts.is_left_behind(group.id) || lost {
                group.stale = true;
                self.refilling.insert(group.id);
            }
        }
    }

    /// This store lacks what it acknowledged, or is a copy: it takes no part in any election until the cluster has filled
    /// it again.
    pub(super) fn distrust_store(&mut self) {
        for id in self.group_ids() {
            self.refilling.insert(id);
            self.with_group(id, |_, group| {
                group.stale = true;
                if let Some(replica) = &mut group.replica {
                    replica.bar(true);
                    replica.step_down();
                }
            });
        }
        self.stamp_changed = true;
        self.facts_changed = true;
    }

    /// Somebody knows another life of this store, or a later one: groups that a majority does not vouch for never begin by
    /// themselves, and are filled again. Those that run have such a majority.
    pub(super) fn distrust_unvouched(&mut self) {
        let facts = self.facts();
        let waits = |group: &&Group| group.recovered.is_some() && !self.is_vouched(group, &facts);
        let waiting: Vec<GroupId> = self.groups.values().filter(waits).map(|group| group.id).collect();
        for id in waiting {
            self.refilling.insert(id);
            self.with_group(id, |_, group| group.stale = true);
            self.stamp_changed = true;
            self.facts_changed = true;
        }
    }

    /// A group that holds nothing yet follows another lineage than it was told at first.
    fn adopt(&mut self, id: GroupId, lineage: Lineage) {
        if let Some(group) = self.groups.remove(id) {
            self.make_bare_group(id, group.vhost.clone(), lineage);
        }
    }

    fn renew_life(&mut self) {
        self.incarnation = self.life.renew(self.incarnation);
        self.filled.clear();
    }

    /// Gives up a group, to be filled again.
    pub(super) fn rejoin(&mut self, id: GroupId) {
        self.rejoining.insert(id);
        self.refilling.insert(id);
        if self.life.is_refused() || self.filled.contains(&id) {
            self.renew_life();
        }
        self.with_group(id, |node, group| {
            let surplus = node.divergence(group);
            let durable = group.replica.as_ref().map(Replica::synced);
            node.stop_node(group);
            node.forget_bequeathed(group, Index(u64::MAX));
            node.drop_transfers(group);
            if let Some((fork, last)) = surplus {
                // Whether or not it was confirmed: nobody here can say. But no more than is durable: a stamp will say that it
                // is there.
                if group.machine.vhost().is_some() {
                    if let (Some(durable), Some(recovered)) = (durable, &mut group.recovered) {
                        recovered.tail.retain(|entry| entry.index <= durable);
                    }
                    group.take_all(&mut Unmade::default());
                }
                node.report_surplus(group, fork, last);
                group.diverged = Some(fork);
            }
            if let Some(recovered) = group.recovered.take() {
                group.kept_hard_state = recovered.found.hard_state;
            }
        });
        let stamp = self.current_stamp();
        self.write_stamp(stamp, Then::RejoinStamped(id));
    }

    /// The stamp says that the group is being refilled.
    pub(super) fn rejoin_stamped(&mut self, id: GroupId) {
        self.tell_life_now();
        let Some(group) = self.groups.get(id) else { return };
        if self.transient {
            self.give_up(id);
            return;
        }
        // One image after the other: each is made of the whole store.
        if self.keeping.is_some() {
            self.to_keep.insert(id);
            return;
        }
        self.keeping = Some(id);
        let diverged = group.diverged.map(|fork| Divergence { vhost: group.vhost.clone(), fork });
        let reason = format!("virtual host {} is filled again by the cluster", group.vhost);
        let stamp = Box::new(self.current_stamp());
        let ticket = self.ticket();
        self.after(ticket, Then::Preserved(id));
        self.emit(Output::Quarantine { ticket, reason, groups: vec![id], diverged, stamp });
    }

    /// Nothing is given up that is not kept: it is tried again, and said.
    pub(super) fn not_kept(&mut self, ticket: Ticket, why: String) {
        if self.panic_not_kept(ticket, &why) {
            return;
        }
        let Some(waiting) = self.then.remove(&ticket) else { return };
        for then in waiting {
            if let Then::Preserved(id) = then {
                self.unkept.insert(id, self.now.plus(KEEP_AGAIN_MILLIS));
            }
        }
        self.facts_changed = true;
        if self.kept_aside_problem.as_ref() != Some(&why) {
            self.note(Level::Error, format!("{KEEP_PROBLEM}: {why}; next: {KEEP_NEXT}"));
        }
        self.kept_aside_problem = Some(why);
        self.keep_next();
    }

    /// An image is made, or is not: on with the groups that waited for it.
    fn keep_next(&mut self) {
        self.keeping = None;
        while self.keeping.is_none() {
            let Some(id) = self.to_keep.pop_first() else { return };
            self.rejoin_stamped(id);
        }
    }

    /// Tries again to keep aside what is to be given up. Called once a round.
    pub(super) fn keep_again(&mut self) {
        let due: Vec<GroupId> =
            self.unkept.iter().filter(|(_, at)| **at <= self.now).map(|(id, _)| *id).collect();
        for id in due {
            self.unkept.remove(&id);
            self.rejoin_stamped(id);
        }
    }

    /// Why an update of this broker cannot begin, and what to type, if that is so.
    pub(super) fn keeping_problem(&self) -> Option<(String, String)> {
        let why = self.kept_aside_problem.as_ref()?;
        Some((format!("{KEEP_PROBLEM}: {why}"), KEEP_NEXT.to_owned()))
    }

    /// What the group held is in quarantine.
    pub(super) fn preserved(&mut self, id: GroupId) {
        self.kept_aside_problem = None;
        self.give_up(id);
        self.keep_next();
    }

    /// What is kept goes: to be filled again, or for good.
    fn give_up(&mut self, id: GroupId) {
        if self.is_left_behind(id) { self.leave_kept(id) } else { self.discard(id) }
    }

    fn discard(&mut self, id: GroupId) {
        let Some(group) = self.groups.remove(id) else { return };
        let HardState { term, vote, .. } = group.kept_hard_state;
        let kept = HardState { term, vote, commit: Index(0) };
        self.unmade.hard_states.insert(id, kept);
        let epoch = group.lineage.tag().epoch;
        self.log_ticket();
        self.records.push(Record::Remove(id));
        self.records.push(Record::HardState(id, epoch, kept));
        let mut writes = vec![Space::unassign(id)];
        writes.extend(group.space.wipe());
        let ticket = self.ticket();
        self.after(ticket, Then::Discarded(id));
        self.emit(Output::WriteState { ticket, batch: StateBatch { writes }, flush: true, open_view: None });
    }

    /// The group is gone from log and state; the cluster is asked for it by saying so.
    pub(super) fn discarded(&mut self, id: GroupId) {
        self.rejoining.remove(&id);
        self.stamp_changed = true;
        self.facts_changed = true;
    }

    /// The cluster, having taken the vote of this life of the store, says that it is filled: it may vote.
    pub(super) fn told_filled(&mut self, group: &mut Group, id: u64, incarnation: Incarnation) {
        let is_this_one = self.raft_id == Some(RaftId(id)) && incarnation == self.incarnation;
        if !is_this_one || group.stale || !self.refilling.remove(&group.id) {
            return;
        }
        self.filled.insert(group.id);
        if let Some(replica) = &mut group.replica {
            replica.bar(false);
        }
        self.stamp_changed = true;
        self.facts_changed = true;
    }

    /// Where this store's history of the group left that of the cluster, if anything of it comes after that. A group that
    /// the cluster's history never made left it before its first entry.
    fn divergence(&self, group: &Group) -> Option<(Position, Index)> {
        let last = last_of(group);
        if self.system().is_some_and(|system| system.is_left_behind(group.id)) {
            return (last > Index(0)).then_some((Position::default(), last));
        }
        let facts = self.facts();
        let reference = facts.reference(group.id)?;
        let own = group.lineage.entries();
        let shared = own.iter().zip(&reference.lineage).take_while(|(a, b)| a.id == b.id).count();
        // Where the first of the two left what they share.
        let theirs = reference.lineage.get(shared).map(|epoch| epoch.fork);
        let left = theirs.into_iter().chain(own.get(shared).map(|epoch| epoch.fork));
        let mut fork = left.min_by_key(|fork| fork.index)?;
        // Their log may end at the same index, and yet have ended before: with what was never committed there, while others
        // put something else in its place, in later terms.
        let terms = terms_of(group);
        let later = theirs.and_then(|theirs| terms.iter().find(|(_, term)| *term > theirs.term));
        if let Some((first, _)) = later.filter(|(first, _)| *first <= fork.index) {
            let index = Index(first.0.saturating_sub(1));
            let before = terms.iter().rev().find(|(first, _)| *first <= index);
            fork = Position { index, term: before.map_or(Term(0), |(_, term)| *term), ..fork };
        }
        (last > fork.index).then_some((fork, last))
    }

    /// HA-1014: what only this store has, beyond the place where the group's history left it.
    fn report_surplus(&mut self, group: &Group, fork: Position, last: Index) {
        let mut queues = BTreeMap::new();
        for queue in group.machine.vhost().into_iter().flat_map(VhostMachine::queues) {
            let count = queue.live_from(0).filter(|(_, slot)| slot.index > fork.index).count();
            if count > 0 {
                queues.insert(queue.name().to_string(), u64::try_from(count).unwrap_or(u64::MAX));
            }
        }
        let entries = last.0 - fork.index.0;
        let loss = loss_id(self.own.store, group.id, fork);
        self.event(Event::Diverged { vhost: group.vhost.clone(), fork, entries, queues, loss });
    }
}

/// The runs of terms in its log.
fn terms_of(group: &Group) -> Vec<(Index, Term)> {
    match (&group.replica, &group.recovered) {
        (Some(replica), _) => replica.terms(),
        (None, Some(recovered)) => recovered.found.terms.clone(),
        (None, None) => Vec::new(),
    }
}

/// The last entry of its log.
fn last_of(group: &Group) -> Index {
    match (&group.replica, &group.recovered) {
        (Some(replica), _) => replica.last(),
        (None, Some(recovered)) => recovered.found.last.max(group.applied),
        (None, None) => group.applied,
    }
}
