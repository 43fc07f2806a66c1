//! When a node of a group may acknowledge, and what the stamp says of that.
//!
//! ```text
//!  a weaker policy   decided in the log ─> that entry synced here ─> the stamp says so, durably ─> acknowledged by it
//!  a stronger one    seen in the log, decided or not ─> acknowledged by it ─> all before it synced ─> the stamp says so
//! ```
//!
//! So no acknowledgement is weaker than what the stamp admits: whoever reads the stamp of a process that is gone knows what
//! the store may lack. The last word has the stamp's `weakest`: an acknowledgement takes at least that, and it is raised
//! only when everything acknowledged before is synced.

use std::collections::VecDeque;

use quorate_protocol::frame::{self, SyncPolicy};
use quorate_store::ids::{GroupId, Index};
use quorate_store::record::{Entry, EntryKind};
use quorate_store::stamp::{Durability, DurabilityPolicy, GroupStamp, Stamp, StampState};

use super::group::Group;
use super::{Node, Phase};
use crate::control::Control;
use crate::controls::Change;
use crate::io::{Output, Point, Ticket};
use crate::replica::Replica;

/// Everything is synced by everybody.
pub(crate) const STRICT: DurabilityPolicy =
    DurabilityPolicy { leader: Durability::Sync, replicas: Durability::Sync };
/// A window that holds so many bytes is full, whatever else is permitted.
const UNSYNCED_BYTES: u64 = 64 << 20;

/// What the stamp says of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    policy: DurabilityPolicy,
    weakest: Durability,
}

/// What of a node matters to its stamp.
#[derive(Clone, Copy, Debug)]
struct NodeSeen {
    leads: bool,
    /// The medium has its log up to here.
    synced: Index,
    /// The medium has everything that may have been acknowledged by a weaker policy.
    holds_acknowledged: bool,
}

impl NodeSeen {
    fn of(replica: &Replica) -> Self {
        Self {
            leads: replica.is_leader(),
            synced: replica.synced(),
            holds_acknowledged: replica.holds_acknowledged(),
        }
    }
}

/// What acknowledgements of one node take.
#[derive(Debug)]
pub(crate) struct Acknowledging {
    /// What the stamp says durably.
    said: Said,
    /// Stamps on their way that say something else.
    saying: VecDeque<(Ticket, Said)>,
    /// Policies in entries that are not known to be committed.
    coming: Vec<(Index, DurabilityPolicy)>,
    /// Where the present policy was decided.
    decided: Index,
    /// Why a loss of power, or of the process, may have taken what this store acknowledged of the group; none: it did not.
    pub(crate) lacks: Option<&'static str>,
    /// Something waits until all that is applied is synced: nothing is acknowledged before that meanwhile.
    pub(crate) waits_for_sync: bool,
}

impl Default for Acknowledging {
    fn default() -> Self {
        Self {
            said: Said { policy: STRICT, weakest: Durability::Sync },
            saying: VecDeque::new(),
            coming: Vec::new(),
            decided: Index(0),
            lacks: None,
            waits_for_sync: false,
        }
    }
}

/// What this node's role asks for.
fn part(policy: DurabilityPolicy, leads: bool) -> Durability {
    if leads { policy.leader } else { policy.replicas }
}

/// Whether a store whose process is gone still holds everything it ever acknowledged of a group: by its state, the weakest
/// policy that it acknowledged under since everything was synced, and whether the system has run since.
fn holds_all(state: StampState, weakest: Durability, same_boot: bool) -> bool {
    match (state, weakest) {
        (StampState::Clean { .. } | StampState::Empty | StampState::Forming, _) => true,
        (StampState::Dirty | StampState::Recovered { .. }, Durability::Sync) => true,
        (StampState::Dirty | StampState::Recovered { .. }, Durability::WriteNoSync) => same_boot,
        (StampState::Dirty | StampState::Recovered { .. }, Durability::NoSync) => false,
    }
}

/// The groups of which the store may lack what it acknowledged, and why.
pub(super) fn lacking(stamp: &Stamp, same_boot: bool) -> impl Iterator<Item = (GroupId, &'static str)> {
    let lacks = move |group: &&GroupStamp| !holds_all(stamp.state, group.weakest, same_boot);
    stamp.groups.iter().filter(lacks).map(|group| (group.group, why_lacking(group.weakest)))
}

fn why_lacking(weakest: Durability) -> &'static str {
    match weakest {
        Durability::WriteNoSync => {
            "it acknowledged by write-no-sync what was not synced, and the system was started anew since"
        }
        Durability::NoSync | Durability::Sync => {
            "it acknowledged by no-sync what was not synced, and its process ended"
        }
    }
}

impl Acknowledging {
    /// As the stamp of a former process leaves it: what was found is synced.
    pub(super) fn found(&mut self, stamped: &GroupStamp) {
        self.said = Said { policy: stamped.policy, weakest: stamped.weakest };
    }

    /// The present policy was decided here.
    pub(super) fn decided(&mut self, at: Index) {
        self.decided = at;
    }

    /// What an entry says that is not known to be committed.
    pub(super) fn note(&mut self, entry: &Entry) {
        if entry.kind != EntryKind::Control {
            return;
        }
        let Ok(Control::Act(act)) = Control::decode(entry.data.clone()) else { return };
        self.coming.extend(act.changes.iter().filter_map(|change| match change {
            Change::Durability(policy) => Some((entry.index, *policy)),
            _ => None,
        }));
    }

    /// What an acknowledgement takes, of a node that leads or not, under this policy.
    fn level(&self, policy: DurabilityPolicy, leads: bool) -> Durability {
        let coming = self.coming.iter().map(|(_, policy)| *policy);
        let wanted = coming.chain([policy, self.said.policy]).map(|policy| part(policy, leads));
        let admitted = self.saying.iter().map(|(_, said)| said.weakest).chain([self.said.weakest]);
        wanted.chain(admitted).max().unwrap_or(Durability::Sync)
    }

    /// Whether a replica that says that it has the log up to here has synced it: it has the entry by which all do, and none
    /// comes by which they do not.
    fn is_synced_by_replicas(&self, policy: DurabilityPolicy, matched: Index) -> bool {
        let coming = self.coming.iter().map(|(_, policy)| *policy);
        matched >= self.decided && coming.chain([policy]).all(|policy| policy.replicas == Durability::Sync)
    }

    /// What the stamp is to say.
    fn to_say(&self, policy: DurabilityPolicy, node: Option<NodeSeen>, strict: bool) -> Said {
        if self.lacks.is_some() {
            return Said { policy: self.said.policy, weakest: Durability::NoSync };
        }
        let Some(node) = node else {
            return Said { policy: self.said.policy, weakest: Durability::Sync };
        };
        let policy = if node.synced >= self.decided { policy } else { self.said.policy };
        let wanted = if strict { Durability::Sync } else { part(policy, node.leads) };
        if node.holds_acknowledged {
            return Said { policy, weakest: wanted };
        }
        let admitted = self.saying.iter().map(|(_, said)| said.weakest).chain([self.said.weakest]);
        Said { policy, weakest: admitted.chain([wanted]).min().unwrap_or(Durability::NoSync) }
    }

    /// What it says once all stamps are written that are on their way.
    fn latest(&self) -> Said {
        self.saying.back().map_or(self.said, |(_, said)| *said)
    }

    fn is_stamped(&mut self, ticket: Ticket) {
        while let Some((_, said)) = self.saying.front().filter(|(waiting, _)| *waiting <= ticket) {
            self.said = *said;
            self.saying.pop_front();
        }
    }
}

impl Group {
    /// The policy in force, as a receipt says it.
    pub(super) fn receipt_policy(&self) -> frame::Durability {
        let part = |durability| match durability {
            Durability::Sync => SyncPolicy::Sync,
            Durability::WriteNoSync => SyncPolicy::WriteNoSync,
            Durability::NoSync => SyncPolicy::NoSync,
        };
        let policy = self.controls.policy();
        frame::Durability { leader: part(policy.leader), replicas: part(policy.replicas) }
    }

    /// Policy and weakest, as the stamp is to say them.
    pub(super) fn durability_to_say(&self, strict: bool) -> (DurabilityPolicy, Durability) {
        let said = self.acknowledging.to_say(
            self.controls.policy(),
            self.replica.as_ref().map(NodeSeen::of),
            strict,
        );
        (said.policy, said.weakest)
    }

    /// Whether a replica that says so has synced the log up to here.
    pub(super) fn is_synced_by_replicas(&self, matched: Index) -> bool {
        self.acknowledging.is_synced_by_replicas(self.controls.policy(), matched)
    }

    /// The policy that this store acknowledges by, and the weakest since all was synced, as its stamp says.
    pub(crate) fn durability_said(&self) -> (DurabilityPolicy, Durability) {
        (self.acknowledging.said.policy, self.acknowledging.said.weakest)
    }
}

impl Node {
    /// Acknowledges nothing of the group that is not synced, whatever the policy: the process is about to end; or fewer than
    /// a majority hold what is confirmed in a forced epoch, and nobody could say what the last of them lost; or the store is
    /// being filled again, and is to vote because it holds everything.
    pub(super) fn is_strict(&self, group: &Group) -> bool {
        matches!(self.phase, Phase::Stopping)
            || self.closing.is_some()
            || self.frozen
            || group.controls.in_force().is_some()
            || self.refilling.contains(&group.id)
    }

    /// Whether all that is applied is synced: only then may the state store have it. Else it is synced now, and nothing
    /// more is acknowledged, and so applied, before that.
    pub(super) fn may_checkpoint(&mut self, group: &mut Group) -> bool {
        let Some(replica) = &group.replica else { return true };
        let behind = replica.synced() < group.applied;
        group.acknowledging.waits_for_sync = behind;
        self.must_sync |= behind && replica.fill_beyond(self.sync_asked).is_some();
        !behind
    }

    /// What acknowledgements of the group take in this round.
    pub(super) fn set_level(&self, group: &mut Group) {
        let strict =
            self.is_strict(group) || group.acknowledging.waits_for_sync || self.is_window_full(group);
        let Some(replica) = &mut group.replica else { return };
        for entry in replica.new_controls() {
            group.acknowledging.note(&entry);
        }
        // Whoever does not vote yet is to vote because it holds everything.
        let votes = group.configuration.voters.contains(&replica.id().0);
        let level = if strict || !votes {
            Durability::Sync
        } else {
            group.acknowledging.level(group.controls.policy(), replica.is_leader())
        };
        replica.set_level(level);
    }

    fn is_window_full(&self, group: &Group) -> bool {
        group.replica.as_ref().and_then(Replica::fill).is_some_and(|fill| {
            fill.entries >= self.config.unsynced_max_entries
                || fill.bytes >= UNSYNCED_BYTES
                || self.now.since(fill.since) >= self.config.unsynced_max_millis
        })
    }

    /// Has the log synced before the group's window is full, and the stamp say what is to be said.
    pub(super) fn mind_durability(&mut self, group: &mut Group) {
        let strict = self.is_strict(group);
        let said = group.acknowledging.to_say(
            group.controls.policy(),
            group.replica.as_ref().map(NodeSeen::of),
            strict,
        );
        self.stamp_changed |= said != group.acknowledging.latest();
        let Some(replica) = &group.replica else { return };
        group.acknowledging.waits_for_sync &= replica.synced() < group.applied;
        let Some(fill) = replica.fill_beyond(self.sync_asked) else { return };
        let behind = replica.synced() < group.acknowledging.decided;
        let half = self.config.unsynced_max_millis / 2;
        if strict
            || behind
            || group.acknowledging.waits_for_sync
            || fill.entries >= self.config.unsynced_max_entries / 2
            || fill.bytes >= UNSYNCED_BYTES / 2
        {
            self.must_sync = true;
        } else {
            let due = fill.since.plus(half);
            self.next_sync = Some(self.next_sync.map_or(due, |next| next.min(due)));
        }
    }

    /// Gives the round's batch to the log, with a sync if anything in it, or the time, asks for one.
    pub(super) fn write_batch(&mut self) {
        let records = std::mem::take(&mut self.records);
        let due = self.next_sync.is_some_and(|at| at <= self.now);
        let sync = std::mem::take(&mut self.must_sync) || due;
        if self.round_ticket.is_none() && !sync {
            assert!(records.is_empty(), "records without a ticket would never become durable");
            return;
        }
        let ticket = self.round_batch();
        self.round_ticket = None;
        self.give_batch(ticket, records, if sync { Point::Synced } else { Point::Written });
    }

    pub(super) fn give_batch(
        &mut self,
        ticket: Ticket,
        records: Vec<quorate_store::record::Record>,
        point: Point,
    ) {
        self.counters.log_batches += 1;
        if point == Point::Synced {
            self.sync_asked = ticket;
            self.next_sync = None;
        }
        self.emit(Output::Persist { ticket, batch: quorate_store::record::Batch { records }, point });
    }

    /// The operating system has this batch, and all before it.
    pub(super) fn written(&mut self, ticket: Ticket) {
        for id in &self.logging {
            if let Some(replica) = self.groups.get_mut(*id).and_then(|group| group.replica.as_mut()) {
                replica.on_written(ticket);
            }
        }
    }

    /// A stamp is given out: groups of which it says something new wait for it.
    pub(super) fn say_durability(&mut self, ticket: Ticket, stamp: &Stamp) {
        for part in &stamp.groups {
            let said = Said { policy: part.policy, weakest: part.weakest };
            if let Some(group) = self.groups.get_mut_quietly(part.group)
                && group.acknowledging.latest() != said
            {
                group.acknowledging.saying.push_back((ticket, said));
                self.stamps_awaited.entry(ticket).or_default().push(part.group);
            }
        }
    }

    /// A stamp is durable.
    pub(super) fn durability_said(&mut self, ticket: Ticket) {
        for id in self.stamps_awaited.remove(&ticket).unwrap_or_default() {
            if let Some(group) = self.groups.get_mut(id) {
                group.acknowledging.is_stamped(ticket);
            }
        }
    }

    /// A policy was decided, or nothing that is not decided is left before here.
    pub(super) fn settle_policy(group: &mut Group) {
        let applied = group.applied;
        group.acknowledging.coming.retain(|(index, _)| *index > applied);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const ALL: [Durability; 3] = [Durability::NoSync, Durability::WriteNoSync, Durability::Sync];

    #[test]
    fn what_a_store_holds_of_what_it_acknowledged() {
        let (id, no) = (Uuid::from_u128(1), Durability::NoSync);
        let rows = [
            (StampState::Dirty, Durability::Sync, false, true),
            (StampState::Dirty, Durability::Sync, true, true),
            (StampState::Dirty, Durability::WriteNoSync, false, false),
            (StampState::Dirty, Durability::WriteNoSync, true, true),
            (StampState::Dirty, no, false, false),
            (StampState::Dirty, no, true, false),
            (StampState::Clean { shutdown: id }, no, false, true),
            // Should its mark not be believed, it is as dirty as before.
            (StampState::Recovered { recovery: id }, no, true, false),
        ];
        for (state, weakest, same_boot, holds) in rows {
            assert_eq!(holds_all(state, weakest, same_boot), holds, "{state:?} {weakest:?} {same_boot}");
        }
    }

    /// No acknowledgement is weaker than any stamp that is or may be on the medium, than the policy, than any that comes,
    /// and than the policy that the stamp names.
    #[test]
    fn an_acknowledgement_takes_the_most_of_all_that_is_said() {
        for policy in ALL {
            for said in ALL {
                for saying in ALL {
                    for coming in ALL {
                        let both = |one| DurabilityPolicy { leader: one, replicas: one };
                        let acknowledging = Acknowledging {
                            said: Said { policy: both(Durability::NoSync), weakest: said },
                            saying: [(Ticket(1), Said { policy: both(Durability::NoSync), weakest: saying })]
                                .into(),
                            coming: vec![(Index(9), both(coming))],
                            ..Acknowledging::default()
                        };
                        let level = acknowledging.level(both(policy), true);
                        assert_eq!(Some(level), [policy, said, saying, coming].into_iter().max());
                    }
                }
            }
        }
    }

    #[test]
    fn a_replica_is_known_to_have_synced_what_it_says_by_a_strict_policy_only() {
        let weak = DurabilityPolicy { leader: Durability::Sync, replicas: Durability::WriteNoSync };
        let mut acknowledging = Acknowledging { decided: Index(5), ..Acknowledging::default() };
        assert!(acknowledging.is_synced_by_replicas(STRICT, Index(5)));
        assert!(!acknowledging.is_synced_by_replicas(STRICT, Index(4)), "it may still go by the weaker one");
        assert!(!acknowledging.is_synced_by_replicas(weak, Index(9)));
        acknowledging.coming.push((Index(8), weak));
        assert!(!acknowledging.is_synced_by_replicas(STRICT, Index(9)), "it may be decided, and known there");
    }

    /// It is lowered at once, and raised only when everything that was acknowledged before is synced.
    #[test]
    fn the_weakest_is_raised_once_everything_before_is_synced() {
        let both = |one| DurabilityPolicy { leader: one, replicas: one };
        let no = both(Durability::NoSync);
        let said = Said { policy: no, weakest: Durability::NoSync };
        let acknowledging = Acknowledging { said, decided: Index(5), ..Acknowledging::default() };
        let node = |synced, holds_acknowledged| {
            Some(NodeSeen { leads: true, synced: Index(synced), holds_acknowledged })
        };
        // What is decided, how far the log is synced, whether all acknowledged is, strictly or not; what it says.
        let rows = [
            (STRICT, node(4, false), false, no, Durability::NoSync),
            (STRICT, node(5, false), false, STRICT, Durability::NoSync),
            (STRICT, node(5, true), false, STRICT, Durability::Sync),
            (no, node(9, false), true, no, Durability::NoSync),
            (no, node(9, true), true, no, Durability::Sync),
            (no, node(9, true), false, no, Durability::NoSync),
            (STRICT, None, false, no, Durability::Sync),
        ];
        for (policy, node, strict, names, weakest) in rows {
            let expected = Said { policy: names, weakest };
            assert_eq!(acknowledging.to_say(policy, node, strict), expected, "{policy:?} {node:?} {strict}");
        }
        let strict = Acknowledging { decided: Index(5), ..Acknowledging::default() };
        assert_eq!(
            strict.to_say(no, node(4, false), false),
            Said { policy: STRICT, weakest: Durability::Sync }
        );
        assert_eq!(strict.to_say(no, node(5, false), false), said, "a weaker one admits it at once");
        let lacking = Acknowledging { lacks: Some("power"), ..Acknowledging::default() };
        assert_eq!(lacking.to_say(STRICT, node(9, true), false).weakest, Durability::NoSync);
    }

    #[test]
    fn a_role_takes_its_part() {
        let weak = DurabilityPolicy { leader: Durability::Sync, replicas: Durability::NoSync };
        let mut acknowledging = Acknowledging::default();
        assert_eq!(acknowledging.level(weak, false), Durability::Sync, "the stamp does not say so");
        acknowledging.saying.push_back((Ticket(4), Said { policy: weak, weakest: Durability::NoSync }));
        assert_eq!(acknowledging.level(weak, false), Durability::Sync, "not durably");
        acknowledging.is_stamped(Ticket(4));
        assert_eq!(acknowledging.level(weak, false), Durability::NoSync);
        assert_eq!(acknowledging.level(weak, true), Durability::Sync);
        assert_eq!(acknowledging.level(STRICT, false), Durability::Sync, "a stronger one holds at once");
    }
}
