//! What people are told: why a broker is held, in plain words, and what to do next.

use std::collections::BTreeSet;

use quorate_store::ids::Epoch;

use super::super::{Decision, Row, Verdict, decide, decide_group};
use super::kinds::{KINDS, Kind};
use crate::formation::samples::*;
use crate::formation::status::{InitialStatus, StoreState};

use Kind::*;

/// What people are told holds no trace of the program's own notation.
fn assert_plain(decision: &Decision) {
    for text in std::iter::once(&decision.reason).chain(&decision.next).chain(&decision.notes) {
        assert!(!text.is_empty(), "{decision:?}");
        for artefact in ["(\"", "Some(", "None", "{", "}", "[", "Id(", "  ", "()"] {
            assert!(!text.contains(artefact), "{artefact} in: {text}");
        }
    }
}

#[test]
fn every_row_that_holds_a_broker_says_why_in_plain_words_and_what_next() {
    let mut all = Vec::new();
    for a in KINDS.into_iter().filter(|kind| *kind != Absent) {
        for b in KINDS {
            for c in KINDS {
                for wait_for in [1, 2, 3, 9] {
                    let seen = [b.status(2), c.status(3)].into_iter().flatten();
                    let mut facts = facts(a.status(1).unwrap(), seen);
                    for status in facts.seen.iter_mut().chain([&mut facts.own]) {
                        status.wait_for = wait_for;
                    }
                    all.push(facts.clone());
                    facts.own = manual(facts.own);
                    all.push(facts);
                }
            }
        }
    }
    let mut copy = dirty(1);
    copy.key.run = run(99);
    let mut forked = [dirty(1), dirty(2)];
    forked[0].groups[0].lineage = epochs(&[1, 2]);
    forked[1].groups[0].lineage = epochs(&[1, 3]);
    let [one, two] = forked;
    let namesake = InitialStatus { name: "a".into(), ..empty(2) };
    let running = InitialStatus { state: StoreState::Transient { was_active: true }, ..active(2) };
    let wanting = InitialStatus { cluster_id_wanted: Some(CLUSTER), ..empty(1) };
    let founded = |mut status: InitialStatus, at| {
        status.founded_ms = Some(at);
        status.messages = Some(at);
        status
    };
    let restarted =
        [(4, "b"), (5, "c")].map(|(number, name)| InitialStatus { name: name.into(), ..transient(number) });
    let mut lonely = empty(1);
    lonely.peers.truncate(1);
    lonely.wait_for = 2;
    all.extend([
        facts(transient(1), [dirty(2)]),
        facts(empty(1), [running]),
        facts(dirty(1), [copy]),
        facts(namesake, [empty(1)]),
        facts(one.clone(), [two, dirty(3)]),
        facts(one, [active(2)]),
        facts(wanting, []),
        facts(survivor(1), restarted.clone()),
        facts(restarted[0].clone(), [survivor(1), restarted[1].clone()]),
        facts(survivor(1), []),
        facts(founded(dirty(1), 1), [founded(foreign(active(2)), 2)]),
        facts(founded(dirty(1), 2), [founded(foreign(dirty(2)), 1)]),
        facts(empty(1), [dirty(2), foreign(dirty(3))]),
        facts(lonely, []),
        facts(empty(4), [active(1), active(2), active(3)]),
    ]);
    let mut panicked = dirty(1);
    panicked.panicked = Some("another process writes to this store".into());
    let mut primary = ran(1);
    primary.groups[0].voters = voters(&[1, 2]);
    primary.groups[0].designated = Some(1);
    primary.groups[0].peer_silent = true;
    let mark = |number, id| marked(dirty(number), id, false, &[unknown(&dirty(3))]);
    let mut served = begun(mark(1, 8));
    served.groups[0].client_epochs.push(Epoch(2));
    all.extend([
        facts(panicked.clone(), [dirty(2)]),
        facts(dirty(1), [panicked]),
        facts(primary.clone(), [empty(4)]),
        facts(empty(4), [primary]),
        facts(mark(1, 8), []),
        facts(mark(1, 8), [dirty(2), dirty(3)]),
        facts(dirty(3), [mark(1, 8), dirty(2)]),
        facts(dirty(3), [mark(1, 8), mark(2, 9)]),
        facts(begun(mark(1, 8)), [dirty(2)]),
        facts(mark(1, 8), [active(2)]),
        facts(begun(mark(1, 8)), [active(2)]),
        facts(served, [active(2)]),
    ]);
    let mut held = BTreeSet::new();
    for facts in &all {
        let decision = decide(facts);
        assert_plain(&decision);
        match decision.verdict {
            Verdict::Wait | Verdict::NeedsOperator | Verdict::Held | Verdict::Refuse { .. } => {
                assert!(!decision.next.is_empty(), "{decision:?}");
                held.insert(decision.row);
            }
            Verdict::Join => assert!(decision.reason.contains("updated"), "{}", decision.reason),
            Verdict::Form | Verdict::Restore | Verdict::Resume => {}
        }
    }
    let go_on = [Row::J2, Row::P1, Row::F2, Row::C1];
    for row in Row::ALL {
        assert_ne!(held.contains(&row), go_on.contains(&row), "{row}");
    }
}

#[test]
fn q1_and_w1_name_what_to_start() {
    let decision = decide(&facts(ran(1), []));
    assert_eq!(decision.row, Row::Q1);
    let go_on =
        "quorate group set --vhost '*' --required-nodes 1 --nodes a --confirm CLUSTER-ID --reason TEXT";
    assert_eq!(decision.next, ["quorated … --name b", "quorated … --name c", go_on]);
    // Not to go on alone with less than somebody who is here.
    let running = |mut status: InitialStatus| {
        status.stamped_run = Some(status.key.run);
        status.groups[0].was_active_this_run = true;
        status
    };
    let mut ahead = running(untrusted(2));
    ahead.groups[0].position = position(2, 21);
    let decision = decide(&facts(ran(1), [ahead.clone()]));
    assert_eq!((decision.row, &decision.next[..]), (Row::Q1, &["quorated … --name c".to_owned()][..]));
    ahead.groups[0].position = ran(1).groups[0].position;
    let decision = decide(&facts(ran(1), [ahead]));
    assert_eq!(decision.next, ["quorated … --name c", go_on]);
    let decision = decide(&facts(empty(1), [empty(2)]));
    assert_eq!(decision.row, Row::W1);
    assert_eq!(decision.next, ["quorated … --cluster-advertise c:7421", "quorated … --cluster-wait-for 2"]);
    // One of three cannot found by a smaller number alone.
    let decision = decide(&facts(empty(1), []));
    assert_eq!(
        decision.next.last().map(String::as_str),
        Some("quorated … --cluster-wait-for 1 --allow-small-cluster")
    );
}

#[test]
fn a_take_over_is_named_for_the_one_that_is_here_of_two_and_not_while_the_other_runs() {
    let of_two = |mut status: InitialStatus| {
        status.groups[0].voters = voters(&[1, 2]);
        status.wait_for = 1;
        status
    };
    let take_over = |next: &String| next.contains("take-over --node a ");
    let decision = decide(&facts(of_two(dirty(1)), []));
    assert_eq!(decision.row, Row::W2, "{}", decision.reason);
    assert_eq!(decision.next[0], "quorated … --name b");
    assert!(take_over(&decision.next[1]), "{:?}", decision.next);
    // Two processes have the other one's store.
    let mut copy = of_two(dirty(2));
    copy.key.run = run(99);
    let met = InitialStatus { rivalled: vec![copy.key], ..of_two(dirty(1)) };
    let decision = decide(&facts(met, [copy]));
    assert_eq!(decision.row, Row::W2, "{}", decision.reason);
    assert!(
        decision.next[0].starts_with("kill PID") && !decision.next.iter().any(take_over),
        "{:?}",
        decision.next
    );
    // The group of a larger cluster, of which an override left two, and a cluster of which one is left.
    for (of_cluster, of_group) in [(&[1, 2, 3][..], &[1, 2][..]), (&[1], &[1, 2])] {
        let part = |mut status: InitialStatus| {
            status.groups[0].voters = voters(of_cluster);
            let mut orders = group(ORDERS, "orders");
            orders.voters = voters(of_group);
            orders.was_active_this_run = true;
            status.groups.push(orders);
            status
        };
        let decision = decide_group(&facts(part(active(1)), [part(active(3))]), ORDERS);
        assert_eq!(decision.row, Row::Q1, "{}", decision.reason);
        assert!(!decision.next.iter().any(take_over), "{:?}", decision.next);
        assert!(
            decision.next.iter().any(|next| next.contains("--required-nodes 1 --nodes a ")),
            "{:?}",
            decision.next
        );
    }
}

#[test]
fn who_panicked_is_cleared_and_not_started() {
    let panicked = InitialStatus { panicked: Some("a test".into()), ..dirty(2) };
    let decision = decide(&facts(dirty(1), [panicked, dirty(3)]));
    assert_eq!((decision.row, &decision.missing[..]), (Row::W1, &["b".to_owned()][..]));
    assert!(decision.next[0].starts_with("quorate cluster panic clear --confirm "), "{:?}", decision.next);
    assert!(!decision.next.iter().any(|next| next.contains("--name b")), "{:?}", decision.next);
}
