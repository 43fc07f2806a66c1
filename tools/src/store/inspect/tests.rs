//! The judgement over statuses: every word it can say.

use quorate_core::formation::status::{RecordedRun, StoreState, VoterRef};
use quorate_store::ids::{Incarnation, Index, RaftId, RunId};
use uuid::Uuid;

use super::*;
use crate::store::samples::{group, status, store, subject};

#[test]
fn two_of_three_are_safe_and_the_one_beyond_is_the_latest() {
    let judgement = judge(&[subject(1, 20), subject(2, 30)]);
    assert_eq!((judgement.verdict, judgement.status), (Verdict::SafeSet, Status::Done));
    assert_eq!((judgement.latest, judgement.safe.as_slice()), (Some(1), &[0, 1][..]));
    assert_eq!(judgement.loss.as_ref().unwrap().confirmed, "none");
    assert!(judgement.why[0].contains("b2 is beyond b1 in / (1.2.30 after 1.2.20)"), "{:?}", judgement.why);
    // They would wait for the third, and that is said with what to type.
    assert!(judgement.next.iter().any(|next| next.contains("--cluster-wait-for 2")), "{:?}", judgement.next);
}

#[test]
fn one_of_three_is_not_safe_and_what_is_lost_is_unknown() {
    let judgement = judge(&[subject(1, 20)]);
    assert_eq!((judgement.verdict, judgement.status.code()), (Verdict::NoSafeSet, 2));
    let loss = judgement.loss.unwrap();
    assert_eq!((loss.confirmed, loss.not_given), ("unknown", vec!["b2".to_owned(), "b3".to_owned()]));
    assert!(loss.reason.contains("/ 20"), "{}", loss.reason);
    assert!(judgement.next.iter().any(|next| next == "quorate store mark-clean /b1 --reason TEXT"));
}

#[test]
fn half_of_four_can_prove_what_it_cannot_serve() {
    let mut subjects = [subject(1, 20), subject(2, 30)];
    for one in &mut subjects {
        for group in &mut status(one).groups {
            group.voters.push(VoterRef { store: store(4), name: "b4".into(), raft_id: RaftId(4) });
        }
    }
    let judgement = judge(&subjects);
    assert_eq!(judgement.verdict, Verdict::NoSafeSet);
    // Any three of four have one of these two among them.
    assert_eq!(judgement.loss.unwrap().confirmed, "none");
}

#[test]
fn equal_stores_are_a_tie_and_different_ones_at_the_same_place_are_ambiguous() {
    let judgement = judge(&[subject(1, 20), subject(2, 20)]);
    assert_eq!((judgement.verdict, judgement.ties), (Verdict::SafeSet, vec![vec![0, 1]]));
    let mut other = subject(2, 20);
    other.facts.groups[0].digest = Some("else".into());
    let judgement = judge(&[subject(1, 20), other]);
    assert_eq!((judgement.verdict, judgement.latest), (Verdict::Ambiguous, None));
    assert!(judgement.next.last().unwrap().contains("mark-clean CHOSEN --against"));
}

#[test]
fn forks_are_named_and_nothing_is_chosen() {
    let (mut one, mut other) = (subject(1, 20), subject(2, 30));
    status(&mut one).groups[1] = group(1, &[11, 12], 20);
    status(&mut other).groups[1] = group(1, &[11, 13], 30);
    let judgement = judge(&[one, other]);
    assert_eq!((judgement.verdict, judgement.latest), (Verdict::Forked, None));
    assert!(judgement.why.iter().any(|why| why.contains("row X1")), "{:?}", judgement.why);
}

#[test]
fn each_may_be_ahead_in_a_group_of_its_own() {
    let mut one = subject(1, 20);
    status(&mut one).groups[0] = group(0, &[10], 9);
    let judgement = judge(&[one, subject(2, 30)]);
    assert_eq!((judgement.verdict, judgement.latest), (Verdict::SafeSet, None));
}

#[test]
fn stores_of_two_clusters_are_told_apart() {
    let mut other = subject(7, 20);
    status(&mut other).cluster_id = Some(ClusterId(Uuid::from_u128(501)));
    let judgement = judge(&[subject(1, 20), subject(2, 20), other]);
    assert_eq!((judgement.verdict, judgement.same_cluster), (Verdict::DifferentClusters, false));
    assert_eq!(judgement.next[0], "quorate store inspect /b1 /b2");
}

#[test]
fn a_store_of_which_a_later_life_is_recorded_was_rolled_back() {
    let mut witness = subject(1, 20);
    status(&mut witness).recorded =
        vec![RecordedRun { store: store(2), incarnation: Incarnation(5), run: None, positions: Vec::new() }];
    let judgement = judge(&[witness, subject(2, 90)]);
    assert_eq!((judgement.verdict, judgement.latest), (Verdict::NoSafeSet, Some(0)));
    assert!(judgement.remarks[1].iter().any(|remark| remark.contains("rolled back")));
    assert_eq!(judgement.loss.unwrap().confirmed, "unknown");
}

#[test]
fn copies_count_once() {
    let copies = |change: fn(&mut Subject)| {
        let mut copy = subject(1, 20);
        "/copy".clone_into(&mut copy.path);
        status(&mut copy).key.run = RunId(Uuid::from_u128(77));
        change(&mut copy);
        judge(&[subject(1, 20), copy, subject(2, 20)])
    };
    let same = copies(|_| {});
    assert_eq!((same.verdict, same.status, same.latest), (Verdict::SafeSet, Status::Warning, Some(0)));
    let older = copies(|copy| status(copy).groups[1].position.index = Index(10));
    assert_eq!(older.verdict, Verdict::SafeSet);
    assert!(
        older.remarks[1].iter().any(|remark| remark.contains("older copy of /b1")),
        "{:?}",
        older.remarks
    );
    let separate = copies(|copy| {
        copy.facts.run_id = Some("another".into());
        copy.facts.groups[0].digest = Some("else".into());
    });
    assert_eq!((separate.verdict, separate.latest), (Verdict::Ambiguous, None));
}

#[test]
fn damaged_and_unreadable_stores_get_a_row_and_do_not_count() {
    let mut damaged = subject(2, 20);
    status(&mut damaged).state = StoreState::Damaged { reason: "rot".into() };
    damaged.facts.state = "damaged".into();
    damaged.facts.damage = vec!["rot".into()];
    let judgement = judge(&[subject(1, 20), damaged.clone()]);
    assert_eq!(judgement.verdict, Verdict::NoSafeSet);
    assert_eq!(judgement.remarks[1], ["damaged: rot"]);
    let mut nothing = subject(3, 1);
    nothing.status = None;
    assert_eq!(judge(&[damaged, nothing.clone()]).verdict, Verdict::NoSafeSet);
    assert_eq!(judge(&[nothing]).status, Status::Unknown);
}

#[test]
fn empty_stores_hold_nothing() {
    let mut empty = subject(1, 0);
    let inner = status(&mut empty);
    (inner.state, inner.cluster_id, inner.groups) = (StoreState::Empty, None, Vec::new());
    let judgement = judge(&[empty]);
    assert_eq!((judgement.verdict, judgement.status), (Verdict::Empty, Status::Warning));
}
