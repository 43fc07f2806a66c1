//! Forced epochs, marks, the designated primary and a panic: rows X1, O1, P1, S1, and what J1, J2, Q1, W1, C1, C2 and
//! C3 make of them.

use quorate_store::ids::RaftId;
use quorate_store::ids::{Epoch, GroupId, Incarnation, Index, Term};
use quorate_store::stamp::{EpochCause, LeftOut};
use uuid::Uuid;

use super::super::{Row, Verdict, asking, decide, decide_group};
use super::{decisions, outcome, seen_by};
use crate::formation::samples::*;
use crate::formation::status::{Active, InitialStatus, RecordedRun, StoreState};

/// The decision of each of them when all see each other.
fn each(all: &[InitialStatus]) -> Vec<(Row, Verdict)> {
    decisions(all).iter().map(|decision| (decision.row, decision.verdict)).collect()
}

fn at(mut status: InitialStatus, index: u64) -> InitialStatus {
    for group in &mut status.groups {
        group.position = position(2, index);
    }
    status
}

const OVERRIDE: EpochCause = EpochCause::Override { sole: RaftId(1), lease_ms: 60_000 };

fn overridden(status: InitialStatus, left_out: &[LeftOut]) -> InitialStatus {
    let own = status.key.store;
    let mut status = forced(status, 2, OVERRIDE, left_out);
    for group in &mut status.groups {
        group.voters.retain(|voter| voter.store == own);
    }
    status
}

const RESTORES: (Row, Verdict) = (Row::O1, Verdict::Restore);
const JOINS: (Row, Verdict) = (Row::O1, Verdict::Join);
const FORKED: (Row, Verdict) = (Row::X1, Verdict::NeedsOperator);

#[test]
fn o1_the_marked_store_goes_on_and_the_others_are_updated() {
    let (b, c) = (untrusted(2), at(untrusted(3), 30));
    let a = marked(untrusted(1), 9, false, &[left_out(&b), left_out(&c)]);
    assert_eq!(each(&[a.clone(), b.clone(), c.clone(), empty(4)]), [RESTORES, JOINS, JOINS, JOINS]);
    let decision = decide(&facts(a.clone(), [b.clone(), c.clone()]));
    for part in ["the store of a", "by ann", "fire"] {
        assert!(decision.reason.contains(part), "{part} not in {}", decision.reason);
    }
    // It needs no manual consent, and its being clean by another id than the others' disagrees with nobody.
    let shut = clean(2, 5);
    let a = marked(untrusted(1), 9, false, &[left_out(&shut), left_out(&c)]);
    assert_eq!(each(&[manual(a), shut, c]), [RESTORES, JOINS, JOINS]);
}

#[test]
fn o1_says_what_may_be_lost() {
    let a = marked(dirty(1), 9, true, &[unknown(&dirty(2)), left_out(&dirty(3))]);
    let decision = decide(&facts(a, []));
    assert_eq!((decision.row, decision.verdict), RESTORES);
    assert!(decision.reason.contains("not known what b held"), "{}", decision.reason);
}

#[test]
fn o1_two_marks_need_the_operator() {
    let one = marked(dirty(1), 8, true, &[left_out(&dirty(2)), left_out(&dirty(3))]);
    let other = marked(dirty(2), 9, true, &[left_out(&dirty(1)), left_out(&dirty(3))]);
    let all = [one.clone(), other, dirty(3)];
    assert_eq!(each(&all), [(Row::O1, Verdict::NeedsOperator); 3]);
    let decision = decisions(&all).remove(2);
    let told: Vec<bool> = ["(the directory of a)", "(the directory of b)"]
        .iter()
        .map(|who| decision.next.iter().any(|next| next.contains(who)))
        .collect();
    assert_eq!(told, [true, true], "{:?}", decision.next);
    // A second mark that was made against the marked store itself supersedes it.
    let over = marked(dirty(2), 9, true, &[left_out(&one), left_out(&dirty(3))]);
    assert_eq!(each(&[one, over, dirty(3)]), [JOINS, RESTORES, JOINS]);
}

#[test]
fn x1_a_mark_on_an_earlier_history_does_not_win_unless_made_against_the_later() {
    let later = overridden(dirty(2), &[left_out(&dirty(1)), left_out(&dirty(3))]);
    let mut later = later;
    later.groups[0].position.index = Index(40);
    let blind = marked(dirty(1), 9, true, &[unknown(&dirty(2)), unknown(&dirty(3))]);
    assert_eq!(each(&[blind, later.clone(), dirty(3)]), [FORKED; 3]);
    let seeing = marked(dirty(1), 9, true, &[left_out(&later), left_out(&dirty(3))]);
    assert_eq!(each(&[seeing.clone(), later.clone(), dirty(3)]), [RESTORES, JOINS, JOINS]);
    // The store went on after the mark recorded it: by its log, or by its incarnation.
    let mut grown = later.clone();
    grown.groups[0].position.index.0 += 1;
    assert_eq!(each(&[seeing.clone(), grown]), [FORKED; 2]);
    later.incarnation.0 += 1;
    assert_eq!(each(&[seeing, later]), [FORKED; 2]);
}

#[test]
fn x1_a_fork_is_decided_by_a_mark_against_the_other_side() {
    let side = |number: u128, id: u128| {
        let mut status = dirty(number);
        status.groups[0].lineage = epochs(&[1, id]);
        status.groups[0].position.epoch = Epoch(2);
        status.groups[0].voters = voters(&[number]);
        status
    };
    let (a, b) = (side(1, 2), side(2, 3));
    let decision = decide(&facts(a.clone(), [b.clone(), dirty(3)]));
    assert_eq!((decision.row, decision.verdict), FORKED);
    for part in ["a alone has epoch 2", "b alone has epoch 2", "override"] {
        assert!(decision.reason.contains(part), "{part} not in {}", decision.reason);
    }
    assert!(decision.next[1].contains("--against"), "{:?}", decision.next);
    let chosen = marked(b, 9, true, &[left_out(&a), left_out(&dirty(3))]);
    assert_eq!(each(&[a.clone(), chosen.clone(), dirty(3)]), [JOINS, RESTORES, JOINS]);
    // Once it was begun it is the latest history, and what it left behind still is.
    let begun = begun(chosen);
    let all = each(&[a, begun, dirty(3)]);
    assert_eq!(all, [(Row::C1, Verdict::Join), (Row::C1, Verdict::Restore), (Row::C1, Verdict::Join)]);
}

#[test]
fn x1_a_store_beyond_what_a_forced_epoch_recorded_for_it_is_not_updated_silently() {
    let forced = |record: LeftOut| overridden(dirty(1), &[record, left_out(&dirty(3))]);
    let b = dirty(2);
    let goes_on = [(Row::C1, Verdict::Restore), (Row::C1, Verdict::Join)];
    assert_eq!(each(&[forced(left_out(&b)), b.clone()]), goes_on);
    assert_eq!(each(&[forced(left_out(&b)), at(b.clone(), 21)]), [FORKED; 2]);
    let mut lived = b.clone();
    lived.incarnation = Incarnation(2);
    assert_eq!(each(&[forced(left_out(&b)), lived]), [FORKED; 2]);
    // Unknown, or not recorded at all: up to the fork it holds nothing of its own.
    for record in [unknown(&b), unknown(&dirty(5))] {
        assert_eq!(each(&[forced(record.clone()), at(b.clone(), 20)]), goes_on);
        assert_eq!(each(&[forced(record), at(b.clone(), 21)]), [FORKED; 2]);
    }
    // Two epochs on: each one's record holds.
    let twice = |first: LeftOut, second: LeftOut| {
        let mut status = overridden(dirty(1), &[first]);
        status.groups[0].position.epoch = Epoch(2);
        crate::formation::samples::forced(status, 3, OVERRIDE, &[second])
    };
    assert_eq!(each(&[twice(left_out(&b), left_out(&b)), b.clone()]), goes_on);
    assert_eq!(each(&[twice(left_out(&b), unknown(&b)), at(b.clone(), 21)]), [FORKED; 2]);
    assert_eq!(each(&[twice(unknown(&b), left_out(&at(b.clone(), 21))), at(b, 21)]), [FORKED; 2]);
}

#[test]
fn w1_a_marked_store_waits_for_the_members_before_the_mark_unless_alone() {
    let left = [left_out(&dirty(2)), left_out(&dirty(3))];
    let decision = decide(&facts(marked(dirty(1), 9, false, &left), [dirty(2)]));
    assert_eq!((decision.row, decision.missing), (Row::W1, vec!["c".to_owned()]));
    assert!(decision.next.contains(&"quorated … --cluster-wait-for 2".to_owned()), "{:?}", decision.next);
    assert_eq!(outcome(&facts(marked(dirty(1), 9, true, &left), [])), RESTORES);
    // Once it began, the recorded voters are those of its log; clients still wait for as many members as the mark says.
    for alone in [false, true] {
        let begun = begun(marked(dirty(1), 9, alone, &left));
        assert_eq!(outcome(&facts(begun, [])), (Row::C1, Verdict::Restore));
    }
    // A smaller N is enough.
    let mut own = marked(dirty(1), 9, false, &left);
    own.wait_for = 1;
    assert_eq!(outcome(&facts(own, [])), RESTORES);
}

#[test]
fn w1_is_not_applied_after_a_forced_epoch() {
    let left = [left_out(&dirty(2)), left_out(&dirty(3))];
    for cause in [
        OVERRIDE,
        EpochCause::Solo { sole: RaftId(1), number: 1 },
        EpochCause::TakeOver { sole: RaftId(1), number: 1 },
    ] {
        let mut own = forced(dirty(1), 2, cause, &left);
        own.groups[0].voters = voters(&[1]);
        assert_eq!(outcome(&facts(own, [])), (Row::C1, Verdict::Restore), "{cause:?}");
    }
    // Stores that do not count are named, and do not count.
    let decision = decide(&facts(dirty(1), [dirty(2), damaged(3)]));
    assert_eq!(decision.row, Row::W1);
    assert!(decision.reason.contains("not counted: c"), "{}", decision.reason);
}

#[test]
fn a_mark_is_dropped_beside_the_active_cluster() {
    let own = marked(dirty(3), 9, true, &[unknown(&dirty(1)), unknown(&dirty(2))]);
    let decision = decide(&facts(own.clone(), [active(1), active(2)]));
    assert_eq!((decision.row, decision.verdict), (Row::J1, Verdict::Join));
    assert!(decision.reason.contains("mark is dropped"), "{}", decision.reason);
    assert_eq!(outcome(&facts(active(1), [active(2), own.clone()])), (Row::J1, Verdict::Resume));
    // Nor does it stop a group that only elects a leader just now.
    let all = [ran(1), ran(2), own.clone()];
    assert_eq!(
        each(&all),
        [(Row::J2, Verdict::Resume), (Row::J2, Verdict::Resume), (Row::J2, Verdict::Join)]
    );
    // What it confirmed to clients is not dropped.
    let mut served = begun(own);
    assert_eq!(outcome(&facts(served.clone(), [active(1), active(2)])), (Row::J1, Verdict::Join));
    served.groups[0].client_epochs = vec![Epoch(1), Epoch(2)];
    let decision = decide(&facts(served.clone(), [active(1), active(2)]));
    assert_eq!((decision.row, decision.verdict), (Row::J1, Verdict::NeedsOperator));
    assert!(decision.reason.contains("epoch 2 holds messages"), "{}", decision.reason);
    assert_eq!(
        decision.next,
        ["quorate store export DIR", "quorate member replace --name c (once this broker is stopped)"]
    );
    assert_eq!(outcome(&facts(served, [ran(1), ran(2)])), (Row::J2, Verdict::NeedsOperator));
}

/// With the group `orders` beside `system`, just as far.
fn two(mut status: InitialStatus) -> InitialStatus {
    let mut orders = status.groups[0].clone();
    orders.group = ORDERS;
    orders.vhost = "orders".into();
    status.groups.push(orders);
    status
}

/// Two stores that were marked separately and served clients, the first then marked against the second, and begun.
fn decided_fork() -> (InitialStatus, InitialStatus) {
    let side = |number: u128| {
        let left = [unknown(&dirty(1)), unknown(&dirty(2)), unknown(&dirty(3))];
        let mut status = begun(marked(two(dirty(number)), 10 + number, true, &left));
        for group in &mut status.groups {
            group.client_epochs = vec![Epoch(1), Epoch(2)];
        }
        status
    };
    let (first, second) = (side(1), side(2));
    (begun(marked(first, 20, true, &[left_out(&second), unknown(&dirty(3))])), second)
}

#[test]
fn j1_what_a_mark_decided_against_is_given_up_though_clients_know_of_it() {
    let (mut chosen, other) = decided_fork();
    for group in &mut chosen.groups {
        group.active = Some(Active { leader: store(1), term: Term(300) });
    }
    let outcomes = |other: &InitialStatus| {
        let facts = facts(other.clone(), [chosen.clone()]);
        assert_eq!(facts.is_left_behind(ORDERS), decide_group(&facts, ORDERS).verdict == Verdict::Join);
        [GroupId::SYSTEM, ORDERS].map(|group| decide_group(&facts, group).verdict)
    };
    let decision = decide(&facts(other.clone(), [chosen.clone()]));
    assert_eq!((decision.row, decision.verdict), (Row::J1, Verdict::Join));
    assert!(decision.reason.contains("mark decided against"), "{}", decision.reason);
    assert_eq!(outcomes(&other), [Verdict::Join; 2]);
    // It went on after the mark: by its log in this group, or by a life of the whole store.
    let mut grown = other.clone();
    grown.groups[1].position.index.0 += 1;
    assert_eq!(outcomes(&grown), [Verdict::Join, Verdict::NeedsOperator]);
    // Those who go on know that it asks, in that group only.
    let seen_from_there = facts(chosen.clone(), [grown.clone()]);
    let told = decide_group(&facts(grown.clone(), [chosen.clone()]), ORDERS);
    assert_eq!(asking(&seen_from_there), [(grown.key.store, told)]);
    assert_eq!(asking(&facts(chosen.clone(), [other.clone()])), [], "it joins");
    assert_eq!(asking(&facts(grown.clone(), [chosen.clone()])), [], "nothing goes on here");
    let mut lived = other.clone();
    lived.incarnation.0 += 1;
    assert_eq!(outcomes(&lived)[0], Verdict::NeedsOperator);
    let asked = asking(&facts(chosen, [lived]));
    assert_eq!(asked.len(), 1, "not once more for each group");
}

#[test]
fn who_went_on_without_a_blind_mark_is_not_left_behind_by_it() {
    // The third was marked without the others, who went on as the majority they are; `system` is one history again.
    let blind = |number: u128| {
        let mut status = two(dirty(number));
        let marked = begun(marked(status.clone(), 9, true, &[unknown(&dirty(1)), unknown(&dirty(2))]));
        status.groups[1] = marked.groups[1].clone();
        status.groups[1].client_epochs = vec![Epoch(1), Epoch(2)];
        status.wait_for = 2;
        status
    };
    let further = |mut status: InitialStatus| {
        status.wait_for = 2;
        status.groups[1].position.index.0 += 5;
        status
    };
    let (one, other, third) = (further(two(dirty(1))), further(two(dirty(2))), blind(3));
    let waits = |mut status: InitialStatus| {
        status.groups[1].was_active_this_run = true;
        status
    };
    // One of them starts again: beside the other that waits for it, it goes on at once; otherwise nothing is chosen.
    for (others, row, verdict) in [
        (vec![waits(other.clone()), third.clone()], Row::J2, Verdict::Resume),
        (vec![other.clone(), third.clone()], Row::X1, Verdict::NeedsOperator),
        (vec![third.clone()], Row::X1, Verdict::NeedsOperator),
    ] {
        let facts = facts(one.clone(), others);
        let decision = decide_group(&facts, ORDERS);
        assert_eq!((decision.row, decision.verdict), (row, verdict), "{}", decision.reason);
        assert!(!facts.is_left_behind(ORDERS), "{row}");
    }
    // What the mark found, and nothing beyond it, is left behind.
    let within = facts(two(dirty(1)), [third.clone()]);
    assert!(within.is_left_behind(ORDERS));
    // Where that history is active, it is the one: what only this store holds is kept in its quarantine.
    let mut leads = third;
    leads.groups[1].active = Some(Active { leader: store(3), term: Term(300) });
    assert!(facts(one, [leads]).is_left_behind(ORDERS));
}

#[test]
fn a_store_that_joined_system_alone_is_still_what_the_mark_recorded_of_its_other_groups() {
    let (chosen, mut other) = decided_fork();
    // As `leave_behind` left it: system is being filled again, in a new life; then all lost power.
    other.incarnation.0 += 1;
    other.groups[0].lineage.clear();
    other.groups[0].trusted = false;
    let restores = [(Row::C1, Verdict::Restore), (Row::C1, Verdict::Join)];
    let all = [facts(chosen.clone(), [other.clone()]), facts(other.clone(), [chosen.clone()])];
    let orders = all.each_ref().map(|facts| decide_group(facts, ORDERS));
    assert_eq!(orders.map(|decision| (decision.row, decision.verdict)), restores);
    // More in its log is more than the operator knew.
    other.groups[1].position.index.0 += 1;
    assert_eq!(decide_group(&facts(chosen, [other]), ORDERS).row, Row::X1);
}

#[test]
fn marks_are_judged_group_by_group() {
    let idle = |number: u128| {
        let mut status = two(active(number));
        status.groups[1].active = None;
        status.groups[1].was_active_this_run = false;
        status.groups[1].trusted = false;
        status
    };
    let left = [left_out(&dirty(1)), left_out(&dirty(2))];
    let c = marked(two(dirty(3)), 9, false, &left);
    let all = facts(c.clone(), [idle(1), idle(2)]);
    assert_eq!(outcome(&all), (Row::J1, Verdict::Join));
    let orders = decide_group(&all, ORDERS);
    assert_eq!((orders.row, orders.verdict), RESTORES);
    let all = facts(idle(1), [c, idle(2)]);
    assert_eq!(outcome(&all), (Row::J1, Verdict::Resume));
    let orders = decide_group(&all, ORDERS);
    assert_eq!((orders.row, orders.verdict), JOINS);
}

#[test]
fn a_copy_of_a_marked_store_is_no_mark() {
    // a began, and b follows it; now an image of a from before that is started.
    let left = [left_out(&dirty(2)), left_out(&dirty(3))];
    let image = marked(dirty(1), 9, true, &left);
    let mut b = begun(marked(dirty(1), 9, true, &left));
    b.key = dirty(2).key;
    b.name = "b".into();
    b.groups[0].voters = voters(&[1, 2]);
    let seen = RecordedRun {
        store: store(1),
        incarnation: Incarnation(2),
        run: Some(run(50)),
        positions: Vec::new(),
    };
    b.recorded = vec![seen];
    assert_eq!(outcome(&facts(image, [b])).0, Row::N1, "one of two voters is not to be trusted");
}

#[test]
fn a_store_that_lacks_what_it_was_seen_to_have_is_an_older_copy() {
    let mut witness = dirty(2);
    let record = |index: u64| RecordedRun {
        store: store(1),
        incarnation: Incarnation(1),
        run: dirty(1).stamped_run,
        positions: vec![(GroupId::SYSTEM, position(2, index))],
    };
    witness.recorded = vec![record(20)];
    assert_eq!(outcome(&facts(dirty(1), [witness.clone(), damaged(3), empty(4)])).0, Row::C1);
    witness.recorded = vec![record(21)];
    assert_eq!(outcome(&facts(dirty(1), [witness.clone(), damaged(3), empty(4)])).0, Row::N1);
    // Of an epoch that was dropped since it says nothing.
    witness.recorded[0].positions[0].1.epoch = Epoch(2);
    assert_eq!(outcome(&facts(dirty(1), [witness, damaged(3), empty(4)])).0, Row::C1);
}

#[test]
fn q1_a_process_that_a_later_history_left_behind_holds_nobody_up() {
    let b = ran(2);
    let a = overridden(dirty(1), &[left_out(&b), left_out(&dirty(3))]);
    assert_eq!(each(&[a.clone(), b.clone()]), [(Row::C1, Verdict::Restore), (Row::C1, Verdict::Join)]);
    // Beyond its record it is a rival.
    let b = at(b, 21);
    assert_eq!(each(&[a, b]), [(Row::Q1, Verdict::Wait); 2]);
}

#[test]
fn p1_the_designated_primary_of_two_goes_on_alone() {
    let primary = |mut status: InitialStatus| {
        status.groups[0].voters = voters(&[1, 2]);
        status.groups[0].designated = Some(4);
        status.groups[0].peer_silent = true;
        status
    };
    for own in [dirty(1), ran(1)] {
        let decision = decide(&facts(primary(own.clone()), [empty(4)]));
        assert_eq!((decision.row, decision.verdict), (Row::P1, Verdict::Restore));
        assert_eq!(decision.missing, ["b"]);
        assert_eq!(outcome(&facts(empty(4), [primary(own)])), (Row::P1, Verdict::Join));
    }
    let without = |change: &dyn Fn(&mut InitialStatus)| {
        let mut own = primary(ran(1));
        change(&mut own);
        outcome(&facts(own, [])).0
    };
    assert_eq!(without(&|own| own.groups[0].designated = None), Row::Q1);
    assert_eq!(without(&|own| own.groups[0].peer_silent = false), Row::Q1);
    assert_eq!(without(&|own| own.groups[0].trusted = false), Row::Q1);
    assert_eq!(without(&|own| own.groups[0].voters = voters(&[1, 2, 3])), Row::Q1);
    // With the other one here there is no reason to.
    let mut other = ran(2);
    other.groups[0].voters = voters(&[1, 2]);
    assert_eq!(outcome(&facts(primary(ran(1)), [other])), (Row::J2, Verdict::Resume));
}

#[test]
fn s1_a_panicked_broker_stays_so_and_does_not_count() {
    let panicked = |mut status: InitialStatus| {
        status.panicked = Some("the safety numbers 1 and 2 differ".into());
        status
    };
    for status in [active(1), clean(1, 1), transient(1), damaged(1)] {
        let decision = decide(&facts(panicked(status), [active(2), active(3)]));
        assert_eq!((decision.row, decision.verdict), (Row::S1, Verdict::NeedsOperator));
        assert!(decision.reason.contains("numbers 1 and 2"), "{}", decision.reason);
        assert!(decision.next[1].starts_with("quorate cluster panic clear"), "{:?}", decision.next);
    }
    let decision = decide(&facts(dirty(1), [dirty(2), panicked(dirty(3))]));
    assert_eq!(decision.row, Row::W1, "two of three");
    assert!(decision.notes.iter().any(|note| note.contains("it panicked")), "{:?}", decision.notes);
    assert_eq!(outcome(&facts(dirty(1), [panicked(active(2)), panicked(active(3))])).0, Row::W1);
    // In its groups, too.
    assert_eq!(decide_group(&facts(panicked(active(1)), [active(2)]), ORDERS).row, Row::S1);
}

#[test]
fn traps_of_the_implementation_before() {
    // A clean store does not win over later dirty ones.
    let stale = at(clean(1, 1), 10);
    let all = [stale.clone(), dirty(2), dirty(3)];
    assert_eq!(each(&all), [(Row::C1, Verdict::Restore); 3], "and the group elects the most recent");
    let lonely = at(clean(1, 1), 10);
    assert_eq!(outcome(&facts(lonely, [untrusted(2), damaged(3), empty(4)])).0, Row::N1);
    assert_eq!(decide(&facts(manual(stale), [dirty(2), dirty(3)])).row, Row::C3);
    // The cluster id is not the lowest member's, which is empty here.
    let decision = decide(&facts(empty(1), [dirty(2), dirty(3)]));
    assert_eq!((decision.verdict, decision.cluster_id), (Verdict::Join, Some(CLUSTER)));
    // Refusals end with a status of their own; whether anything is moved aside is not decided before a source exists.
    assert_eq!(outcome(&facts(transient(1), [active(2)])).1, Verdict::Refuse { exit_status: 3 });
    // A clean mark kept while running alone: the others went on without it.
    let mut kept = clean(1, 1);
    kept.groups[0].position = position(1, 9);
    assert_eq!(decide(&facts(manual(kept), [clean(2, 2), clean(3, 2)])).row, Row::C3);
}

#[test]
fn manual_asks_when_a_later_history_is_not_clean() {
    let own = overridden(dirty(1), &[left_out(&clean(2, 1)), left_out(&clean(3, 1))]);
    let decision = decide(&facts(manual(own), [clean(2, 1), clean(3, 1)]));
    assert_eq!((decision.row, decision.verdict), (Row::C3, Verdict::NeedsOperator));
}

#[test]
fn a_stamp_that_calls_itself_marked_without_such_an_epoch_is_no_mark() {
    let mut own = dirty(1);
    own.state = StoreState::Recovered { recovery: Uuid::from_u128(9) };
    assert_eq!(outcome(&facts(own.clone(), [dirty(2), dirty(3)])).0, Row::C1);
    let mut other = marked(dirty(1), 9, true, &[]);
    other.state = StoreState::Recovered { recovery: Uuid::from_u128(8) };
    assert_ne!(outcome(&facts(other, [])).0, Row::O1);
}

#[test]
fn the_same_epochs_with_other_safety_numbers_are_two_histories() {
    let renewed = |mut status: InitialStatus, seed: u64, times: u64| {
        status.safety.renew(7);
        (0..times).for_each(|number| status.safety.renew(seed * 100 + number));
        status
    };
    let (b, c) = (renewed(dirty(2), 2, 3), renewed(dirty(3), 2, 1));
    // One of them lags; the third took part elsewhere.
    assert_eq!(outcome(&seen_by(&[b.clone(), c.clone()], 0)), (Row::W1, Verdict::Wait));
    let of_two = |mut status: InitialStatus| {
        status.wait_for = 2;
        status
    };
    let (a, b, c) = (of_two(renewed(dirty(1), 1, 2)), of_two(b), of_two(c));
    assert_eq!(outcome(&seen_by(&[b.clone(), c.clone()], 0)), (Row::C1, Verdict::Restore));
    for all in [vec![a.clone(), b.clone(), c.clone()], vec![a.clone(), b.clone()]] {
        for decision in decisions(&all) {
            assert_eq!(
                (decision.row, decision.verdict),
                (Row::X1, Verdict::NeedsOperator),
                "{}",
                decision.reason
            );
            assert!(decision.reason.contains("after 3 renewals"), "{}", decision.reason);
        }
    }
    // No part of what goes on, nor of what went on a moment ago.
    let takes_part = |status: &InitialStatus, like: InitialStatus| InitialStatus {
        safety: status.safety.clone(),
        wait_for: 2,
        ..like
    };
    for (like, row) in [(active as fn(u128) -> InitialStatus, Row::J1), (ran, Row::J2)] {
        let (b, c) = (takes_part(&b, like(2)), takes_part(&c, like(3)));
        let decision = decide(&facts(a.clone(), [b.clone(), c.clone()]));
        assert_eq!((decision.row, decision.verdict), (row, Verdict::NeedsOperator), "{}", decision.reason);
        assert!(decision.reason.contains("safety number is"), "{}", decision.reason);
        assert_eq!(outcome(&facts(b, [a.clone(), c])), (row, Verdict::Resume));
    }
    // What may lack something is filled again in any case, and an operator's mark decides.
    let weak = InitialStatus { safety: a.safety.clone(), ..untrusted(1) };
    assert_eq!(
        outcome(&facts(weak, [takes_part(&b, active(2)), takes_part(&c, active(3))])).1,
        Verdict::Join
    );
    let chosen = marked(c.clone(), 71, true, &[left_out(&a), left_out(&b)]);
    assert_eq!(outcome(&facts(chosen.clone(), [a.clone(), b])), (Row::O1, Verdict::Restore));
    assert_eq!(outcome(&facts(a, [chosen])), (Row::O1, Verdict::Join));
}
