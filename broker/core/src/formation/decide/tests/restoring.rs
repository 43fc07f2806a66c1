//! Going on from what the stores hold, as a whole and group by group: rows X1, C1 to C3, W2 and N1.

use quorate_store::ids::{GroupId, Position, RaftId};
use uuid::Uuid;

use super::super::{Row, Verdict, decide, decide_group};
use super::outcome;
use crate::formation::samples::*;
use crate::formation::status::{InitialStatus, VoterRef};

#[test]
fn c1_never_takes_its_identity_from_an_empty_store() {
    // Two of three voters clean, one absent, and an empty fourth with the lowest or the highest store id.
    for id in [0, 200] {
        let mut fourth = empty(4);
        fourth.key.store = store(id);
        let decision = decide(&facts(clean(1, 1), [clean(2, 1), fourth.clone()]));
        assert_eq!((decision.row, decision.verdict), (Row::C1, Verdict::Restore));
        assert_eq!(decision.cluster_id, Some(CLUSTER));
        assert_eq!(outcome(&facts(fourth, [clean(1, 1), clean(2, 1)])), (Row::C1, Verdict::Join));
    }
}

#[test]
fn c1_goes_by_the_latest_configuration_in_the_logs() {
    // a knows that c was removed and d and e were added; one of those is needed then. It is the latest by its term, though
    // others reach to a higher index, and though they were closed clean.
    let known = |at: Position| {
        let mut a = dirty(1);
        a.groups[0].voters = voters(&[1, 2, 4, 5]);
        a.groups[0].position = at;
        a
    };
    let mut all = facts(known(position(3, 40)), [dirty(2), dirty(3)]);
    all.own.wait_for = 3;
    for all in [
        all.clone(),
        facts(known(position(3, 15)), [dirty(2), dirty(3)]),
        facts(known(position(2, 21)), [clean(2, 1), clean(3, 1)]),
    ] {
        let decision = decide(&all);
        assert_eq!((decision.row, decision.verdict), (Row::W2, Verdict::Wait));
        assert_eq!(decision.missing, ["d", "e"]);
        assert!(decision.reason.contains("any 1 of those missing"), "{}", decision.reason);
    }
    // c is not among the voters: it would be updated.
    let mut all = facts(dirty(3), [all.own, dirty(2), dirty(4)]);
    all.seen[0].wait_for = 1;
    assert_eq!(outcome(&all), (Row::C1, Verdict::Join));
}

#[test]
fn x1_two_histories_are_never_chosen_between() {
    let mut b = dirty(2);
    b.groups[0].lineage = epochs(&[1, 2]);
    let mut c = dirty(3);
    c.groups[0].lineage = epochs(&[1, 3]);
    let decision = decide(&facts(dirty(1), [b.clone(), c]));
    assert_eq!((decision.row, decision.verdict), (Row::X1, Verdict::NeedsOperator));
    assert!(decision.reason.contains("of b and c"), "{}", decision.reason);
    // An earlier history beside a later one is no fork: it is updated.
    assert_eq!(outcome(&facts(dirty(1), [b.clone(), empty(3)])), (Row::N1, Verdict::NeedsOperator));
    b.groups[0].voters = voters(&[2]);
    assert_eq!(outcome(&facts(b.clone(), [dirty(1), dirty(3)])), (Row::C1, Verdict::Restore));
    assert_eq!(outcome(&facts(dirty(1), [b, dirty(3)])), (Row::C1, Verdict::Join));
}

#[test]
fn one_recorded_voter_says_manual_for_all() {
    assert_eq!(decide(&facts(dirty(1), [dirty(2), manual(dirty(3))])).row, Row::C2);
    // One that is no voter has no say.
    assert_eq!(decide(&facts(dirty(1), [dirty(2), dirty(3), manual(empty(4))])).row, Row::C1);
    // All clean by one shutdown goes on in either mode.
    assert_eq!(decide(&facts(clean(1, 1), [clean(2, 1), manual(clean(3, 1))])).row, Row::C1);
    let decision = decide(&facts(manual(clean(1, 1)), [clean(2, 2), clean(3, 2)]));
    assert_eq!(decision.row, Row::C3);
    for id in [Uuid::from_u128(1), Uuid::from_u128(2)] {
        assert!(decision.reason.contains(&id.to_string()), "{}", decision.reason);
    }
    // Automatic: the later one is a source only if a majority proves it.
    assert_eq!(decide(&facts(clean(1, 1), [clean(2, 2), clean(3, 2)])).row, Row::C1);
}

#[test]
fn w2_and_n1_tell_what_each_voter_lacks() {
    let decision = decide(&facts(dirty(1), [untrusted(2), damaged(3), empty(4)]));
    assert_eq!((decision.row, decision.verdict), (Row::N1, Verdict::NeedsOperator));
    for part in ["b may lack what it acknowledged", "c lost its store", "that of a"] {
        assert!(decision.reason.contains(part), "{part} not in {}", decision.reason);
    }
    assert_eq!(decision.next, ["quorate store inspect DIR…", "quorate store mark-clean DIR --reason TEXT"]);
    // A missing voter whose name an empty store answers is not waited for.
    let mut answered = empty(4);
    answered.name = "c".into();
    assert_eq!(decide(&facts(dirty(1), [untrusted(2), answered])).row, Row::N1);
    assert_eq!(decide(&facts(dirty(1), [untrusted(2), empty(4)])).row, Row::W2);
}

/// The same brokers with a virtual host of their own.
fn with_orders(mut status: InitialStatus) -> InitialStatus {
    let mut orders = status.groups[0].clone();
    orders.group = ORDERS;
    orders.vhost = "orders".into();
    status.groups.push(orders);
    status
}

#[test]
fn a_group_waits_alone() {
    let mut b = with_orders(dirty(2));
    b.groups[1].trusted = false;
    let mut c = with_orders(dirty(3));
    c.groups[1].trusted = false;
    let all = facts(with_orders(dirty(1)), [b, c]);
    assert_eq!(all.groups(), [GroupId::SYSTEM, ORDERS]);
    assert_eq!(outcome(&all), (Row::C1, Verdict::Restore));
    let decision = decide_group(&all, ORDERS);
    assert_eq!((decision.row, decision.verdict), (Row::N1, Verdict::NeedsOperator));
    assert!(decision.reason.contains("virtual host orders"), "{}", decision.reason);
    // Without system no group goes on.
    let all = facts(with_orders(dirty(1)), [with_orders(dirty(2))]);
    assert_eq!(decide_group(&all, ORDERS).row, Row::W1);
    // But one that is active is joined or resumed whatever system does.
    let mut runs = with_orders(ran(2));
    runs.groups[1].active = active(2).groups[0].active;
    let all = facts(with_orders(ran(1)), [runs]);
    assert_eq!(decide(&all).row, Row::J2);
    assert_eq!(decide_group(&all, ORDERS).row, Row::J1);
}

#[test]
fn where_all_that_is_waited_for_is_here_and_may_lack_something_nobody_waits() {
    // Of three voters of the virtual host one was taken out to be filled again, and then another one may lack something.
    let two = |mut status: InitialStatus| {
        status.groups[1].voters = voters(&[2, 3]);
        status.groups[1].active = None;
        status
    };
    let mut c = two(with_orders(active(3)));
    c.groups[1].trusted = false;
    c.groups[1].was_active_this_run = false;
    let runs = two(with_orders(active(2)));
    let all = facts(runs.clone(), [active(1), c.clone()]);
    assert_eq!(outcome(&all), (Row::J1, Verdict::Resume));
    let decision = decide_group(&all, ORDERS);
    assert_eq!((decision.row, decision.verdict), (Row::Q1, Verdict::NeedsOperator), "{}", decision.reason);
    let [inspect, mark, force] = &decision.next[..] else { panic!("{:?}", decision.next) };
    assert!(inspect.starts_with("quorate store inspect") && mark.starts_with("quorate store mark-clean"));
    assert!(force.contains("--required-nodes 1 --nodes b "), "the cluster has three voters: {force}");
    // While one of them is away it may bring what is missing.
    let decision = decide_group(&facts(runs, [active(1)]), ORDERS);
    assert_eq!((decision.row, decision.verdict), (Row::Q1, Verdict::Wait), "{}", decision.reason);
}

#[test]
fn virtual_hosts_of_a_history_that_was_left_behind_are_none_of_the_active_cluster() {
    let ghost = GroupId(65_538);
    let mut behind = with_orders(dirty(3));
    behind.groups[0].lineage = epochs(&[1, 9]);
    behind.groups[1].group = ghost;
    behind.deleted = vec![(ORDERS, GroupId(ghost.0 - 1))];
    let seen = [with_orders(active(2)), behind.clone()];
    let all = facts(with_orders(active(1)), seen.clone());
    assert_eq!(all.groups(), [GroupId::SYSTEM, ORDERS]);
    assert!(all.deleted([ORDERS]).is_empty(), "that history never had it");
    // It shows its own beside.
    assert_eq!(facts(behind.clone(), seen).groups(), [GroupId::SYSTEM, ORDERS, ghost]);
    // While nobody is active the latest history here counts.
    let all = facts(with_orders(dirty(1)), [with_orders(dirty(2)), behind]);
    assert_eq!(all.groups(), [GroupId::SYSTEM, ghost]);
}

#[test]
fn a_group_that_a_store_never_held_counts_at_position_zero() {
    // c ended before it heard that the virtual host was created: it acknowledged nothing of it.
    let all = facts(with_orders(dirty(1)), [dirty(3), empty(2)]);
    let decision = decide_group(&all, ORDERS);
    assert_eq!((decision.row, decision.verdict), (Row::C1, Verdict::Restore));
    // A store that may have lost its past may have lost the group.
    let all = facts(with_orders(dirty(1)), [untrusted(3), with_orders(dirty(2))]);
    assert_eq!(decide_group(&all, ORDERS).verdict, Verdict::Restore);
    let all = facts(with_orders(dirty(1)), [untrusted(3), dirty(2)]);
    assert_eq!(decide_group(&all, ORDERS).row, Row::C1);
    let mut all = facts(with_orders(untrusted(1)), [dirty(2), dirty(3)]);
    all.own.groups[1].trusted = true;
    all.seen[1].groups[0].trusted = false;
    all.seen[0].groups[0].trusted = true;
    assert_eq!(decide(&all).row, Row::N1, "system decides first");
}

#[test]
fn a_single_broker_restores_itself() {
    let alone = |mut status: InitialStatus| {
        status.wait_for = 1;
        status.groups[0].voters = vec![VoterRef { store: store(1), name: "a".into(), raft_id: RaftId(1) }];
        facts(status, [])
    };
    assert_eq!(outcome(&alone(dirty(1))), (Row::C1, Verdict::Restore));
    assert_eq!(outcome(&alone(ran(1))), (Row::J2, Verdict::Resume));
    assert_eq!(outcome(&alone(untrusted(1))), (Row::N1, Verdict::NeedsOperator));
}
