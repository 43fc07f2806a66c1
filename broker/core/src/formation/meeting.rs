//! Two histories of one cluster that were active at once and meet: which side may go on.
//!
//! | histories | goes on |
//! |---|---|
//! | both hold the designated primary's number | the higher one; the lower one is no matter of a panic |
//! | they part at a forced act | the side that shows a majority of the voters recorded there; the other side panics |
//! | the same epochs, and the safety numbers differ | neither: some store votes on both sides |
//!
//! Two majorities of the same voters share one, so at most one side goes on.

use std::collections::{BTreeMap, BTreeSet};

use quorate_store::ids::{GroupId, RaftId, StoreId};
use quorate_store::stamp::EpochEntry;

use super::facts::Facts;
use super::lineage::{Relation, common, relation};
use super::rivals::outnumbered;
use super::status::{GroupStatus, InitialStatus};
use crate::machine::Agreement;

/// What the own broker met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meeting {
    /// The group that has two histories; the first of them.
    pub group: GroupId,
    /// Whose other history it is: name and address.
    pub who: String,
    /// The other side's safety number.
    pub number: u64,
    /// This side goes on.
    pub stays: bool,
    /// Why, for people.
    pub why: String,
}

/// The first group in which somebody linked is active along another history than this broker, which is active too.
/// A meeting that this broker may not survive comes before any that it may.
pub fn meeting(facts: &Facts) -> Option<Meeting> {
    let own = &facts.own;
    let mut survived = None;
    for other in facts.seen.iter().filter(|other| is_rival(own, other)) {
        for (mine, theirs) in active_in_both(own, other) {
            match meet(facts, (own, mine), (other, theirs)) {
                Some(met) if !met.stays => return Some(met),
                met => survived = survived.or(met),
            }
        }
    }
    survived
}

/// A sound broker of the same cluster.
fn is_rival(own: &InitialStatus, other: &InitialStatus) -> bool {
    own.cluster_id.is_some()
        && own.cluster_id == other.cluster_id
        && own.key != other.key
        && own.is_transient() == other.is_transient()
        && own.takes_part()
        && other.takes_part()
}

/// The groups that are led with a quorum as either of the two sees it. Both lists ascend.
fn active_in_both<'a>(
    own: &'a InitialStatus,
    other: &'a InitialStatus,
) -> impl Iterator<Item = (&'a GroupStatus, &'a GroupStatus)> {
    let is_active = |part: &&GroupStatus| part.active.is_some() && part.trusted && !part.lineage.is_empty();
    let theirs: BTreeMap<GroupId, &GroupStatus> =
        other.groups.iter().filter(is_active).map(|part| (part.group, part)).collect();
    own.groups.iter().filter(is_active).filter_map(move |mine| Some((mine, *theirs.get(&mine.group)?)))
}

type Side<'a> = (&'a InitialStatus, &'a GroupStatus);

fn meet(facts: &Facts, (own, mine): Side<'_>, (other, theirs): Side<'_>) -> Option<Meeting> {
    let told = |stays, why: String| {
        let who = format!("{} at {}", other.name, other.cluster_address);
        Some(Meeting { group: mine.group, who, number: other.safety.number(), stays, why })
    };
    if relation(&mine.lineage, &theirs.lineage) == Relation::Same {
        let apart = mine.group == GroupId::SYSTEM && own.safety.compare(&other.safety) == Agreement::Apart;
        return apart.then_some(()).and_then(|()| {
            told(
                false,
                "it has the same epochs and other safety numbers: some store votes in both".to_owned(),
            )
        });
    }
    let leader = |part: &GroupStatus| part.active.map(|active| active.leader);
    // Whoever follows the same leader has not heard of its new epoch yet.
    if leader(mine) == leader(theirs) {
        return None;
    }
    let (mine_is_less, theirs_is_less) =
        (outnumbered(&mine.lineage, &theirs.lineage), outnumbered(&theirs.lineage, &mine.lineage));
    if mine_is_less || theirs_is_less || mine.designated != theirs.designated {
        let stays = theirs_is_less || (!mine_is_less && mine.designated > theirs.designated);
        return stays.then_some(()).and_then(|()| told(true, "it has a lower designated number".to_owned()));
    }
    let fork = fork(facts, mine, theirs);
    let shown = fork.shown_by(facts, own, mine);
    let stays = shown > fork.voters / 2;
    let (has, of) = (shown, fork.voters);
    let why =
        format!("of the {of} voters recorded where the histories part, {has} are on this broker's side");
    told(stays, why)
}

/// The voters where two histories part, as the forced act recorded them that came first on either side.
#[derive(Debug)]
struct Fork {
    stores: BTreeSet<StoreId>,
    /// How many they are: the one that was marked may be known by its number only.
    voters: usize,
}

fn fork(facts: &Facts, mine: &GroupStatus, theirs: &GroupStatus) -> Fork {
    let shared = common(&mine.lineage, &theirs.lineage);
    let first = |part: &'_ GroupStatus| part.lineage.get(shared).cloned();
    // Both sides look at the same one of two.
    let forced =
        [first(mine), first(theirs)].into_iter().flatten().max_by_key(|epoch| (epoch.fork, epoch.id));
    let Some(forced) = forced.filter(|epoch| epoch.left_out.iter().any(|left| left.voter)) else {
        let both = mine.voters.iter().chain(&theirs.voters);
        let stores: BTreeSet<StoreId> = both.map(|voter| voter.store).collect();
        return Fork { voters: stores.len(), stores };
    };
    let mut stores: BTreeSet<StoreId> =
        forced.left_out.iter().filter(|left| left.voter).map(|left| left.store).collect();
    let left = stores.len();
    stores.extend(sole_voter(facts, &forced));
    Fork { voters: left + 1, stores }
}

/// The store that a forced act made the only voter.
fn sole_voter(facts: &Facts, epoch: &EpochEntry) -> Option<StoreId> {
    let sole = epoch.cause.sole()?;
    let all = facts.seen.iter().chain([&facts.own]).flat_map(|status| &status.groups);
    let mut known = all.flat_map(|part| part.voters.iter().chain(&part.learners));
    known.find(|voter| voter.raft_id == sole && voter.raft_id != RaftId(0)).map(|voter| voter.store)
}

impl Fork {
    /// How many of them are on this broker's side: active along its history, by their own word; or, where they are the
    /// very voters of a group that is led with a quorum, the majority that this takes.
    fn shown_by(&self, facts: &Facts, own: &InitialStatus, mine: &GroupStatus) -> usize {
        let same_side = |status: &&InitialStatus| {
            let part = status.group(mine.group);
            status.panicked.is_none()
                && part.is_some_and(|part| {
                    part.active.is_some()
                        && part.trusted
                        && relation(&part.lineage, &mine.lineage) == Relation::Same
                })
        };
        let here = facts.seen.iter().filter(same_side).chain([own]);
        let side: BTreeSet<StoreId> = here.map(|status| status.key.store).collect();
        let shown = self.stores.intersection(&side).count();
        let voters: BTreeSet<StoreId> = mine.voters.iter().map(|voter| voter.store).collect();
        if voters == self.stores && voters.len() == self.voters {
            return shown.max(self.voters / 2 + 1);
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{active, begun, facts, left_out, marked, ran, run, store, unknown};
    use super::super::status::Active;
    use super::*;
    use crate::machine::SafetyNumbers;
    use quorate_store::ids::Term;

    /// Led now with a quorum by this store, as this broker sees it.
    fn led_by(mut status: InitialStatus, leader: u128) -> InitialStatus {
        for part in &mut status.groups {
            part.active = Some(Active { leader: store(leader), term: Term(4) });
            part.was_active_this_run = true;
        }
        status.stamped_run = Some(status.key.run);
        status
    }

    /// Marked apart from the others, and active on its own.
    fn apart(number: u128, mark: u128) -> InitialStatus {
        let others = [1, 2, 3].into_iter().filter(|other| *other != number);
        let left: Vec<_> = others.map(|other| unknown(&ran(other))).collect();
        led_by(begun(marked(ran(number), mark, true, &left)), number)
    }

    /// Filled by that one since, and following it.
    fn joined(number: u128, leader: &InitialStatus) -> InitialStatus {
        let mut status = ran(number);
        status.groups.clone_from(&leader.groups);
        led_by(status, leader.key.store.0.as_u128())
    }

    fn numbers(seed: u64, times: u64) -> SafetyNumbers {
        let mut numbers = SafetyNumbers::default();
        (0..times).for_each(|number| numbers.renew(seed * 100 + number));
        numbers
    }

    fn stays(own: &InitialStatus, seen: &[&InitialStatus]) -> Option<bool> {
        let seen = seen.iter().map(|status| (*status).clone());
        meeting(&facts(own.clone(), seen)).map(|met| met.stays)
    }

    #[test]
    fn the_side_with_a_majority_of_the_voters_at_the_fork_goes_on() {
        let alone = apart(1, 71);
        let (b, c) = (led_by(ran(2), 2), led_by(ran(3), 2));
        assert_eq!(stays(&alone, &[&b, &c]), Some(false));
        assert_eq!(stays(&alone, &[&b]), Some(false), "one of them is enough to tell");
        assert_eq!(stays(&b, &[&alone, &c]), Some(true));
        assert_eq!(
            stays(&b, &[&alone]),
            Some(true),
            "its quorum is that majority, whoever of it is linked here"
        );
        assert_eq!(stays(&c, &[&alone, &b]), Some(true));
    }

    #[test]
    fn of_two_forced_sides_the_one_that_others_joined_goes_on_and_without_such_neither() {
        let (one, other) = (apart(1, 71), apart(2, 72));
        assert_eq!((stays(&one, &[&other]), stays(&other, &[&one])), (Some(false), Some(false)));
        let third = joined(3, &other);
        assert_eq!(stays(&one, &[&other, &third]), Some(false));
        assert_eq!(stays(&other, &[&one, &third]), Some(true));
        assert_eq!(stays(&third, &[&one, &other]), Some(true));
    }

    #[test]
    fn the_mark_that_records_the_fork_may_name_what_it_knew() {
        let (b, c) = (ran(2), ran(3));
        let marked = marked(ran(1), 71, true, &[left_out(&b), left_out(&c)]);
        let alone = led_by(begun(marked), 1);
        assert_eq!(stays(&alone, &[&led_by(b.clone(), 2), &led_by(c, 2)]), Some(false));
        assert_eq!(stays(&led_by(b, 2), &[&alone]), Some(true));
    }

    #[test]
    fn nobody_panics_of_one_history_of_what_is_not_active_or_of_whoever_counts_for_nothing() {
        let (a, b) = (led_by(ran(1), 1), led_by(ran(2), 1));
        assert_eq!(stays(&a, &[&b]), None);
        // Two that follow one leader: one of them has not heard of its epoch.
        let forced = apart(1, 71);
        assert_eq!(stays(&led_by(ran(2), 1), &[&forced]), None);
        // Whoever waits, or is filled, is for the rows.
        assert_eq!(stays(&forced, &[&ran(2), &ran(3)]), None);
        let mut bare = led_by(ran(2), 2);
        bare.groups[0].lineage.clear();
        assert_eq!(stays(&forced, &[&bare]), None);
        let mut panicked = led_by(ran(2), 2);
        panicked.panicked = Some("before".into());
        assert_eq!(stays(&forced, &[&panicked]), None);
        let mut foreign = led_by(ran(2), 2);
        foreign.cluster_id = Some(super::super::samples::OTHER_CLUSTER);
        assert_eq!(stays(&forced, &[&foreign]), None);
    }

    #[test]
    fn other_numbers_in_the_same_epochs_are_two_histories_and_neither_goes_on() {
        let (mut a, mut b) = (active(1), active(2));
        a.safety = numbers(1, 5);
        b.safety = numbers(1, 3);
        assert_eq!((stays(&a, &[&b]), stays(&b, &[&a])), (None, None), "one of them lags");
        b.safety = numbers(2, 4);
        assert_eq!((stays(&a, &[&b]), stays(&b, &[&a])), (Some(false), Some(false)));
        // A copy of the own store, met as such.
        let mut copy = a.clone();
        copy.key.run = run(99);
        copy.safety = numbers(2, 5);
        assert_eq!(stays(&a, &[&copy]), Some(false));
    }

    #[test]
    fn the_higher_designated_number_is_asked_before() {
        let (mut alone, mut other) = (apart(1, 71), led_by(ran(2), 2));
        alone.groups[0].designated = Some(2);
        assert_eq!(stays(&alone, &[&other]), Some(true));
        assert_eq!(stays(&other, &[&alone]), None, "it stops by another rule");
        other.groups[0].designated = Some(2);
        assert_eq!(stays(&alone, &[&other]), Some(false));
    }
}
