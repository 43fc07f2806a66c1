//! What holds for the product's decisions whatever the oracle says.

use quorate_core::formation::{Decision, Facts, Row, Verdict, decide};
use quorate_store::ids::{ClusterId, StoreId};

use crate::facts::{cluster, facts, turn};
use crate::model::{Line, Member, Set, State, World};
use crate::worlds::{Class, active, clean, damaged, dirty, each, forming, ran};

/// Worlds of two clusters, empty and forming stores, at rest and running; smaller than the families, with settings.
fn worlds(visit: &mut dyn FnMut(&World)) {
    let voters = [Set::first(3), Set(0b1100)];
    let mut choices = vec![None, Some(Member::empty(0)), Some(damaged()), Some(forming(Some(0), voters[0]))];
    for cluster in [0, 1] {
        let voters = voters[usize::from(cluster)];
        let main = dirty(cluster, voters, Line::Main, 1, true);
        choices.extend([
            Some(main),
            Some(dirty(cluster, voters, Line::Main, 2, false)),
            Some(dirty(cluster, voters, Line::Fork, 1, true)),
            Some(clean(cluster, voters, Line::Old, 1, 1)),
            Some(Member { wait_for: 3, ..main }),
            Some(ran(main)),
            Some(active(main)),
        ]);
    }
    let class = |places: Vec<u8>| Class { places, choices: choices.clone() };
    each(&[class(vec![0, 1]), class(vec![2]), class(vec![3])], &mut |world| {
        if !world.members.is_empty() {
            visit(world);
        }
    });
}

/// What each member decides, in the order of the members.
fn decisions(world: &World) -> Vec<(StoreId, Decision)> {
    let mut facts = facts(world);
    let mut all = Vec::with_capacity(world.members.len());
    for me in 0..world.members.len() {
        all.push((facts.own.key.store, decide(&facts)));
        turn(&mut facts, me);
    }
    all
}

fn restoring(decisions: &[(StoreId, Decision)]) -> Vec<(StoreId, Option<ClusterId>)> {
    let restores = decisions.iter().filter(|(_, decision)| decision.verdict == Verdict::Restore);
    restores.map(|(store, decision)| (*store, decision.cluster_id)).collect()
}

#[test]
fn the_order_of_what_is_seen_does_not_matter() {
    worlds(&mut |world| {
        if world.members.len() < 3 {
            return;
        }
        let Facts { own, seen } = facts(world);
        let first = decide(&Facts { own: own.clone(), seen: seen.clone() });
        let mut turned = Facts { own, seen };
        for _ in 1..turned.seen.len() {
            turned.seen.rotate_left(1);
            assert_eq!(decide(&turned), first, "in another order:\n{world}");
        }
        turned.seen.reverse();
        assert_eq!(decide(&turned), first, "in reverse:\n{world}");
    });
}

#[test]
fn an_empty_member_changes_neither_source_nor_cluster() {
    let mut compared = 0;
    worlds(&mut |world| {
        let before = restoring(&decisions(world));
        // By its own settings it may ask for the operator, and for fewer than anybody else.
        for (place, manual) in [(4, false), (4, true)] {
            let mut with = world.clone();
            with.members.push(Member { manual, ..Member::empty(place) });
            let after = restoring(&decisions(&with));
            // Counting it may end the wait for N; then the source is who it is without that wait.
            let mut at_once = world.clone();
            at_once.members.iter_mut().for_each(|member| member.wait_for = 1);
            let at_once = restoring(&decisions(&at_once));
            for id in [cluster(0), cluster(1)] {
                let of = |sources: &[(StoreId, Option<ClusterId>)]| -> Vec<StoreId> {
                    sources.iter().filter(|(_, of)| *of == Some(id)).map(|(store, _)| *store).collect()
                };
                if of(&before).is_empty() {
                    let made = of(&after);
                    assert!(
                        made.is_empty() || made == of(&at_once),
                        "an empty member made a source:\n{with}"
                    );
                } else {
                    assert_eq!(of(&before), of(&after), "an empty member changed the source:\n{with}");
                    compared += 1;
                }
            }
            assert!(after.iter().all(|(_, id)| id.is_some()), "a source without a cluster:\n{with}");
        }
    });
    assert!(compared > 1000, "{compared}");
}

#[test]
fn nobody_founds_where_a_store_belongs_to_a_cluster() {
    let mut founded = 0;
    worlds(&mut |world| {
        let all = decisions(world);
        let forming = all.iter().any(|(_, decision)| decision.verdict == Verdict::Form);
        let taken = world.members.iter().any(Member::belongs);
        assert!(!(forming && taken), "FORM beside a store of a cluster:\n{world}{all:#?}");
        founded += u32::from(forming);
    });
    assert!(founded > 0);
}

#[test]
fn who_goes_on_as_a_voter_goes_on_in_the_cluster_of_its_own_store() {
    worlds(&mut |world| {
        for (member, (_, decision)) in world.members.iter().zip(decisions(world)) {
            if matches!(decision.verdict, Verdict::Restore | Verdict::Resume) {
                let own = match member.state {
                    State::Forming(id) => id,
                    _ => member.cluster,
                };
                assert!(own.is_some() && decision.cluster_id == own.map(cluster), "{world}{decision:#?}");
            }
        }
    });
}

#[test]
fn row_c1_has_a_majority_of_trusted_voters_of_the_latest_lineage() {
    let mut restored = 0;
    worlds(&mut |world| {
        for (member, (_, decision)) in world.members.iter().zip(decisions(world)) {
            if decision.row != Row::C1 || decision.verdict != Verdict::Restore || member.cluster.is_none() {
                continue;
            }
            restored += 1;
            let side: Vec<&Member> =
                world.members.iter().filter(|other| other.cluster == member.cluster).collect();
            let latest = side.iter().all(|other| !other.line.later_than(member.line));
            // The longest trusted log says who the voters are.
            let trusted = || side.iter().filter(|other| other.trusted && other.line == member.line);
            let voters = trusted().max_by_key(|other| other.rank).map_or(Set::NONE, |other| other.voters);
            let here = trusted().filter(|other| voters.has(other.store())).count();
            // Forming stores stand at position zero of the founding's epoch.
            let forming = world
                .members
                .iter()
                .filter(|other| {
                    other.state == State::Forming(member.cluster)
                        && member.line == Line::Old
                        && voters.has(other.store())
                })
                .count();
            assert!(
                latest && (here + forming) * 2 > voters.len() as usize,
                "C1 without a majority:\n{world}{decision:#?}"
            );
        }
    });
    assert!(restored > 1000, "{restored}");
}
