//! Who must not take part: rows R1 to R5.

use quorate_store::ids::Incarnation;

use super::super::{Row, Verdict, decide};
use super::{REFUSED, outcome};
use crate::formation::facts::Facts;
use crate::formation::samples::*;
use crate::formation::status::{InitialStatus, RecordedRun, StoreState};

#[test]
fn r1_the_kinds_never_mix() {
    // None active: the transient one has nothing to lose.
    assert_eq!(outcome(&facts(transient(1), [dirty(2)])), (Row::R1, REFUSED));
    assert_eq!(outcome(&facts(transient(1), [empty(2)])), (Row::R1, REFUSED));
    // The persistent ones go on without it.
    assert_eq!(outcome(&facts(dirty(1), [dirty(2), transient(3)])), (Row::W1, Verdict::Wait));
    let decision = decide(&facts(dirty(1), [dirty(2), dirty(3), transient(4)]));
    assert_eq!(decision.row, Row::C1);
    assert!(decision.notes.iter().any(|note| note.contains("d:7421") && note.contains("transient")));
    // Whoever meets an active cluster of the other kind is refused, of either kind; the cluster goes on.
    assert_eq!(outcome(&facts(transient(1), [active(2)])), (Row::R1, REFUSED));
    let running = InitialStatus { state: StoreState::Transient { was_active: true }, ..active(2) };
    assert_eq!(outcome(&facts(empty(1), [running.clone()])), (Row::R1, REFUSED));
    assert_eq!(outcome(&facts(running.clone(), [empty(1)])), (Row::J1, Verdict::Resume));
    assert_eq!(outcome(&facts(dirty(1), [active(3), running])), (Row::J1, Verdict::Resume));
}

#[test]
fn r2_damage_is_held_and_named() {
    let decision = decide(&facts(damaged(1), [active(2)]));
    assert_eq!((decision.row, decision.verdict), (Row::R2, Verdict::NeedsOperator));
    assert!(decision.reason.contains("both slots fail"), "{}", decision.reason);
    assert!(decision.next.contains(&"quorate member replace --name a".to_owned()));
    // A stamp in use that names no cluster contradicts itself: never empty.
    let nameless = InitialStatus { cluster_id: None, ..dirty(1) };
    assert_eq!(outcome(&facts(nameless, [dirty(2), dirty(3)])), (Row::R2, Verdict::NeedsOperator));
}

#[test]
fn r3_says_who_is_foreign_and_what_is_known_of_it() {
    let mut own = dirty(1);
    own.founded_ms = Some(2_000);
    own.messages = Some(0);
    let mut other = foreign(active(2));
    other.founded_ms = Some(1_000);
    other.messages = Some(17);
    let decision = decide(&facts(own, [other]));
    assert_eq!((decision.row, decision.verdict), (Row::R3, REFUSED));
    for part in ["b at b:7421", "this store's cluster was founded later", "b holds 17 messages"] {
        assert!(decision.reason.contains(part), "{part} not in {}", decision.reason);
    }
    // An empty store between two clusters is told how to choose.
    let decision = decide(&facts(empty(4), [dirty(1), foreign(dirty(2))]));
    assert_eq!((decision.row, decision.verdict), (Row::R3, Verdict::Wait));
    assert_eq!(decision.next.len(), 2);
    // A broker of another cluster name does not count.
    let stranger = InitialStatus { cluster_name: "elsewhere".into(), ..empty(3) };
    assert_eq!(outcome(&facts(empty(1), [empty(2), stranger])), (Row::W1, Verdict::Wait));
}

#[test]
fn r3_both_sides_go_on_if_both_can() {
    let decision = decide(&facts(dirty(1), [dirty(2), foreign(dirty(2)), foreign(dirty(3))]));
    assert_eq!(decision.row, Row::W1, "N = 3 of the own cluster, and only 2 are here");
    let mut all = facts(dirty(1), [dirty(2), foreign(dirty(2)), foreign(dirty(3))]);
    for status in all.seen.iter_mut().chain([&mut all.own]) {
        status.wait_for = 2;
    }
    assert_eq!(outcome(&all), (Row::C1, Verdict::Restore));
    let mut others = Facts { own: all.seen[1].clone(), seen: all.seen.clone() };
    others.seen.push(all.own.clone());
    assert_eq!(outcome(&others), (Row::C1, Verdict::Restore));
}

#[test]
fn r4_the_acknowledged_run_stays_and_the_other_is_held() {
    let mut copy = dirty(1);
    copy.key.run = run(99);
    // None active: both held, and neither counts for the others.
    assert_eq!(outcome(&facts(dirty(1), [copy.clone(), dirty(2)])), (Row::R4, Verdict::Held));
    assert_eq!(outcome(&facts(copy.clone(), [dirty(1), dirty(2)])), (Row::R4, Verdict::Held));
    assert_eq!(outcome(&facts(dirty(2), [dirty(1), copy.clone()])), (Row::W1, Verdict::Wait));
    // An active cluster acknowledged one of them.
    let mut witness = active(2);
    witness.recorded = vec![RecordedRun {
        store: store(1),
        incarnation: Incarnation(1),
        run: Some(run(1)),
        positions: Vec::new(),
    }];
    let mut known = ran(1);
    known.groups[0].was_active_this_run = false;
    assert_eq!(outcome(&facts(known.clone(), [copy.clone(), witness.clone()])), (Row::J1, Verdict::Resume));
    let held = decide(&facts(copy, [known, witness]));
    assert_eq!((held.row, held.verdict), (Row::R4, Verdict::Held));
    assert!(held.reason.contains("SAFE-2002"), "{}", held.reason);
}

#[test]
fn r4_who_is_told_of_another_process_with_its_store_is_held_before_that_one_answers() {
    let mut copy = dirty(1);
    copy.key.run = run(99);
    let telling = |number| InitialStatus { rivalled: vec![dirty(1).key], ..active(number) };
    let held = decide(&facts(copy.clone(), [telling(2)]));
    assert_eq!((held.row, held.verdict), (Row::R4, Verdict::Held));
    assert!(held.reason.contains("by another process that b at "), "{}", held.reason);
    let named = decide(&facts(copy.clone(), [telling(2), ran(1)]));
    assert!(named.reason.contains("by a at "), "{}", named.reason);
    // Nobody else's matter, and no news to the one that counts.
    assert_eq!(outcome(&facts(ran(1), [telling(2)])), (Row::J1, Verdict::Resume));
    assert_eq!(outcome(&facts(dirty(3), [telling(2)])), (Row::J1, Verdict::Resume));
    assert_eq!(outcome(&facts(copy.clone(), [active(2)])), (Row::J1, Verdict::Resume));
    // Also by the word of one that does not count itself.
    let panicked = InitialStatus { panicked: Some("a test".into()), ..telling(2) };
    for others in [vec![panicked.clone()], vec![panicked.clone(), active(3)], vec![panicked, dirty(3)]] {
        let held = decide(&facts(copy.clone(), others));
        assert_eq!((held.row, held.verdict), (Row::R4, Verdict::Held), "{}", held.reason);
    }
    // The one that an active cluster acknowledged is not held by anybody's word, but where both were.
    let recording = |number, of_store_1: u128| InitialStatus {
        recorded: vec![RecordedRun {
            store: store(1),
            incarnation: Incarnation(1),
            run: Some(run(of_store_1)),
            positions: Vec::new(),
        }],
        ..active(number)
    };
    assert_eq!(outcome(&facts(copy.clone(), [telling(2), recording(3, 99)])), (Row::J1, Verdict::Resume));
    let both =
        facts(copy.clone(), [telling(2), recording(3, 99), recording(4, dirty(1).key.run.0.as_u128())]);
    assert_eq!(outcome(&both), (Row::R4, Verdict::Held));
    // While nobody is active neither counts for anybody, whichever was met first.
    let met = InitialStatus { rivalled: vec![copy.key], ..dirty(2) };
    for own in [copy.clone(), dirty(1)] {
        assert_eq!(outcome(&facts(own, [met.clone(), dirty(3)])), (Row::R4, Verdict::Held));
    }
    for (own, other) in [(met.clone(), dirty(3)), (dirty(3), met.clone())] {
        let decision = decide(&facts(own, [other, copy.clone()]));
        assert_eq!((decision.row, decision.verdict), (Row::W1, Verdict::Wait));
        let told = |note: &String| note.contains("does not count: store") && note.contains("is there twice");
        assert!(decision.notes.iter().any(told), "{:?}", decision.notes);
        // Nobody is told to start a third process.
        let stop = "kill PID (of one of the two processes that have the store of a)";
        assert_eq!(decision.next.first().map(String::as_str), Some(stop));
        assert!(!decision.next.iter().any(|next| next.contains("--name a")), "{:?}", decision.next);
    }
    // Whoever took part in this run does.
    let ran_with = |number| InitialStatus { rivalled: vec![ran(1).key], ..ran(number) };
    assert_eq!(outcome(&facts(ran(1), [ran_with(2), ran(3)])), (Row::J2, Verdict::Resume));
    // A member that met the copy at somebody's goes on.
    let mut member = ran(1);
    member.key.run = run(99);
    assert_eq!(outcome(&facts(member, [telling(2)])), (Row::J1, Verdict::Resume));
}

#[test]
fn r5_the_weaker_claim_to_a_name_is_refused() {
    let named = |mut status: InitialStatus, name: &str| {
        status.name = name.into();
        status
    };
    // Recorded before new, whatever the store id.
    assert_eq!(outcome(&facts(named(empty(4), "a"), [dirty(1), dirty(2)])), (Row::R5, REFUSED));
    let low =
        named(InitialStatus { key: crate::io::PeerKey { store: store(0), run: run(0) }, ..empty(4) }, "b");
    assert_eq!(outcome(&facts(low.clone(), [active(1), active(2)])), (Row::R5, REFUSED));
    assert_eq!(outcome(&facts(active(2), [active(1), low])), (Row::J1, Verdict::Resume));
    // A copy of a's store under the name of b, whose store is another one: whether both are here or neither.
    let copy =
        named(InitialStatus { key: crate::io::PeerKey { run: run(7), ..dirty(1).key }, ..dirty(1) }, "b");
    for seen in [vec![], vec![dirty(2), dirty(3)], vec![active(2), active(3)]] {
        let decision = decide(&facts(copy.clone(), seen));
        assert_eq!((decision.row, decision.verdict), (Row::R5, REFUSED), "{}", decision.reason);
        assert!(decision.reason.contains("is that of a;"), "{}", decision.reason);
    }
    for seen in [vec![dirty(1)], vec![active(1), active(2)]] {
        assert_eq!(outcome(&facts(copy.clone(), seen)), (Row::R4, Verdict::Held));
    }
    // It does not stand in the way of a itself, nor vote in its place.
    assert_eq!(outcome(&facts(dirty(1), [copy.clone(), dirty(2), dirty(3)])), (Row::C1, Verdict::Restore));
    assert_ne!(outcome(&facts(dirty(2), [copy])).1, Verdict::Restore);
    // A name that is nobody's is a new name of the same broker.
    assert_eq!(outcome(&facts(named(dirty(1), "z"), [dirty(2), dirty(3)])), (Row::C1, Verdict::Restore));
    // Two new ones: the greater store id.
    assert_eq!(outcome(&facts(empty(1), [named(empty(2), "a")])), (Row::W1, Verdict::Wait));
    assert_eq!(outcome(&facts(named(empty(2), "a"), [empty(1)])), (Row::R5, REFUSED));
}
