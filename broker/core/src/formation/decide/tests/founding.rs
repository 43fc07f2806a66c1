//! Founding, what it waits for, and stores on the way to it: rows W1 and F1 to F3.

use quorate_store::ids::{ClusterId, RaftId};

use super::super::{Row, Verdict, decide};
use super::outcome;
use crate::formation::forming::{Ballot, FormingState, Founder, FoundingValue, Place};
use crate::formation::samples::*;
use crate::formation::status::{InitialStatus, StoreState};

#[test]
fn w1_counts_to_the_smaller_of_n_and_the_recorded_voters() {
    let decision = decide(&facts(dirty(1), [dirty(2)]));
    assert_eq!((decision.row, decision.verdict), (Row::W1, Verdict::Wait));
    assert_eq!(decision.missing, ["c"]);
    assert_eq!(decision.next, ["quorated … --name c", "quorated … --cluster-wait-for 2"]);
    assert!(decision.reason.contains("2 of 3"), "{}", decision.reason);
    // The largest N counts, with a note; but never more than there are voters.
    let mut all = facts(dirty(1), [dirty(2)]);
    all.own.wait_for = 1;
    let decision = decide(&all);
    assert_eq!(decision.row, Row::W1);
    assert!(decision.notes.iter().any(|note| note.contains("--cluster-wait-for differs")), "{decision:?}");
    let mut all = facts(dirty(1), [dirty(2), dirty(3)]);
    all.own.wait_for = 5;
    assert_eq!(decide(&all).row, Row::C1);
    // Nothing recorded yet: N itself, and the addresses that do not answer.
    let decision = decide(&facts(empty(1), [empty(3)]));
    assert_eq!((decision.row, decision.missing), (Row::W1, vec!["b:7421".to_owned()]));
}

#[test]
fn f3_names_the_rule_that_is_not_met() {
    let alone = |allow_small| {
        let mut all = facts(empty(1), []);
        all.own.wait_for = 1;
        all.own.allow_small = allow_small;
        decide(&all)
    };
    let decision = alone(false);
    assert_eq!((decision.row, decision.verdict), (Row::F3, Verdict::Wait));
    let starts = ["quorated … --cluster-advertise b:7421", "quorated … --cluster-advertise c:7421"];
    assert_eq!(decision.next, [starts[0], starts[1], "quorated … --allow-small-cluster"]);
    assert_eq!(decision.missing, ["b:7421", "c:7421"]);
    assert_eq!((alone(true).row, alone(true).verdict), (Row::F2, Verdict::Form));
    // A store started for a certain cluster never founds, and the others found without it.
    let mut waiting = empty(1);
    waiting.cluster_id_wanted = Some(CLUSTER);
    let decision = decide(&facts(waiting.clone(), [empty(2), empty(3)]));
    assert_eq!((decision.row, decision.verdict), (Row::F3, Verdict::Wait));
    assert!(decision.reason.contains("--cluster-id"), "{}", decision.reason);
    assert_eq!(outcome(&facts(waiting.clone(), [active(2)])), (Row::J1, Verdict::Join));
    assert_eq!(outcome(&facts(waiting.clone(), [foreign(active(2)), empty(3)])).0, Row::W1);
    let mut all = facts(empty(2), [waiting, empty(3)]);
    assert_eq!(decide(&all).row, Row::F3, "2 of the 3 waited for may found");
    for status in all.seen.iter_mut().chain([&mut all.own]) {
        status.wait_for = 2;
    }
    assert_eq!(outcome(&all), (Row::F2, Verdict::Form));
}

#[test]
fn f1_transient_brokers_found_unless_one_kept_data() {
    assert_eq!(outcome(&facts(transient(1), [transient(2), transient(3)])), (Row::F1, Verdict::Form));
    assert_eq!(outcome(&facts(transient(1), [transient(2)])), (Row::W1, Verdict::Wait));
    // b and c restarted, with new stores under their old names: nobody founds beside a.
    let restarted = |number: u128, id: u128| {
        let mut status = transient(number);
        status.key.store = store(id);
        status
    };
    let fresh = [restarted(2, 12), restarted(3, 13)];
    let decision = decide(&facts(survivor(1), fresh.clone()));
    assert_eq!((decision.row, decision.verdict), (Row::F1, Verdict::NeedsOperator));
    assert!(decision.next[0].contains("--required-nodes 1"), "{:?}", decision.next);
    let all = facts(fresh[0].clone(), [survivor(1), fresh[1].clone()]);
    assert_eq!(outcome(&all), (Row::F1, Verdict::Wait));
    // Only b restarted: c may be on the other side of a cut link, so a waits for it.
    let [b, _] = fresh;
    assert_eq!(outcome(&facts(survivor(1), [b.clone()])), (Row::Q1, Verdict::Wait));
    assert_eq!(outcome(&facts(b.clone(), [survivor(1)])), (Row::Q1, Verdict::Wait));
    // With c the two go on, and b joins them.
    assert_eq!(outcome(&facts(survivor(1), [survivor(3), b.clone()])), (Row::J2, Verdict::Resume));
    assert_eq!(outcome(&facts(b, [survivor(1), survivor(3)])), (Row::J2, Verdict::Join));
}

#[test]
fn f1_the_survivor_of_two_is_told_of_take_over() {
    let mut own = survivor(1);
    own.groups[0].voters = voters(&[1, 2]);
    let mut fresh = transient(2);
    fresh.key.store = store(12);
    let decision = decide(&facts(own, [fresh]));
    assert_eq!(decision.row, Row::F1);
    assert!(decision.next[0].contains("take-over --node a"), "{:?}", decision.next);
}

fn forming(number: u128, founders: &[u128], cluster: ClusterId) -> InitialStatus {
    let value = FoundingValue {
        cluster_id: cluster,
        cluster_name: "quorate".into(),
        founders: founders
            .iter()
            .map(|founder| Founder {
                store: store(*founder),
                raft_id: RaftId(u64::try_from(*founder).unwrap()),
                name: name(*founder),
                cluster_address: address(*founder),
                client_address: String::new(),
                admin_address: String::new(),
            })
            .collect(),
        union: founders.iter().map(|founder| Place::Store(store(*founder))).collect(),
        small: false,
    };
    let ballot = Ballot { round: 1, proposer: store(1) };
    let state = FormingState { promised: Some(ballot), accepted: Some((ballot, value)), decided: false };
    InitialStatus { state: StoreState::Forming(state), ..empty(number) }
}

#[test]
fn a_forming_store_beside_its_cluster_is_trusted_at_position_zero() {
    let c = || forming(3, &[1, 2, 3], CLUSTER);
    assert_eq!(outcome(&facts(c(), [active(1), active(2)])), (Row::J1, Verdict::Resume));
    assert_eq!(outcome(&facts(c(), [dirty(1), untrusted(2)])), (Row::C1, Verdict::Restore));
    assert_eq!(outcome(&facts(dirty(1), [untrusted(2), c()])), (Row::C1, Verdict::Restore));
    // Of another founding it counts as empty, never as foreign.
    let other = || forming(3, &[1, 2, 3], OTHER_CLUSTER);
    assert_eq!(outcome(&facts(other(), [active(1), active(2)])), (Row::J1, Verdict::Join));
    assert_eq!(outcome(&facts(other(), [dirty(1), dirty(2)])), (Row::C1, Verdict::Join));
    assert_eq!(outcome(&facts(dirty(1), [untrusted(2), other()])), (Row::N1, Verdict::NeedsOperator));
    // Among themselves the founding goes on, even if one of them already knows the decision.
    assert_eq!(outcome(&facts(c(), [forming(1, &[1, 2, 3], CLUSTER), empty(2)])), (Row::F2, Verdict::Form));
    // After a forced epoch it is of an earlier history.
    let mut forced = active(1);
    forced.groups[0].lineage = epochs(&[1, 2]);
    assert_eq!(outcome(&facts(c(), [forced])), (Row::J1, Verdict::Join));
}
