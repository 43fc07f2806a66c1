//! The judgement over statuses: every word it can say.

use quorate_core::formation::status::{RecordedRun, StoreState, VoterRef};
use quorate_store::ids::{Epoch, Incarnation, Index, RaftId, RunId};
use quorate_store::stamp::{EpochCause, LeftOut};
use uuid::Uuid;

use super::*;
use crate::store::loss::Surplus;
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
fn logs_that_differ_where_both_know_what_is_committed_are_no_safe_set() {
    let subjects = [subject(1, 20), subject(2, 30)];
    let surplus = |is_apart: bool| Surplus {
        path: "/b1".into(),
        vhost: "/".into(),
        common: Some(5),
        to: 20,
        entries: 15,
        messages: 3,
        queues: Vec::new(),
        is_apart,
    };
    let mut judgement = judge(&subjects);
    judgement.compared(&subjects, &[(1, surplus(false))]);
    assert_eq!(judgement.verdict, Verdict::SafeSet, "an end that was never committed");
    judgement.compared(&subjects, &[(1, surplus(false)), (1, surplus(true))]);
    assert_eq!((judgement.verdict, judgement.status), (Verdict::Forked, Status::Refused));
    assert_eq!((judgement.latest, judgement.safe.len()), (None, 0));
    assert_eq!(judgement.loss.as_ref().unwrap().confirmed, "unknown");
    let told = judgement.why.last().unwrap();
    assert!(told.starts_with("/b1 and /b2 have other entries of / after entry 5, "), "{told}");
    assert!(judgement.next.iter().all(|next| !next.starts_with("quorated ")), "{:?}", judgement.next);
    assert!(
        judgement.next.last().unwrap().contains("--against OTHERS --force --confirm 0000"),
        "{:?}",
        judgement.next
    );
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
fn the_latest_is_judged_by_the_groups_that_wait_and_a_trusted_one_comes_first() {
    // `system` goes on by itself, and the first store is behind there; of the virtual host all may lack something but one.
    let mut subjects = [subject(1, 20), subject(2, 20), subject(3, 10)];
    for one in &mut subjects {
        status(one).groups[1].trusted = false;
    }
    status(&mut subjects[0]).groups[0].position.index = Index(2);
    let judgement = judge(&subjects);
    assert_eq!((judgement.verdict, judgement.latest), (Verdict::NoSafeSet, Some(0)));
    assert!(judgement.waiting().iter().eq([&GroupId(1)]));
    status(&mut subjects[1]).groups[1].trusted = true;
    let judgement = judge(&subjects);
    assert_eq!((judgement.latest, judgement.ties), (Some(1), vec![vec![0, 1]]));
    let next = judgement.next.last().unwrap();
    assert_eq!(next, "quorate store mark-clean /b2 --against /b1 /b3 --reason TEXT");
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

/// The same store, marked against these.
fn marked(mut subject: Subject, left_out: &[LeftOut]) -> Subject {
    let recovery = Uuid::from_u128(70);
    let inner = status(&mut subject);
    inner.state = StoreState::Recovered { recovery };
    for group in &mut inner.groups {
        let mut epoch = group.lineage.last().unwrap().clone();
        epoch.number = Epoch(epoch.number.0 + 1);
        epoch.id = Uuid::from_u128(700 + u128::from(group.group.0));
        epoch.fork = group.position;
        epoch.cause = EpochCause::Mark { recovery, alone: false, members: 3, sole: RaftId(1) };
        epoch.left_out = left_out.to_vec();
        group.position.epoch = epoch.number;
        group.lineage.push(epoch);
    }
    subject
}

fn left_out(number: u128, voter: bool) -> LeftOut {
    LeftOut { store: store(number), name: format!("b{number}"), voter, named: false, known: None }
}

fn voters_left_out() -> [LeftOut; 2] {
    [left_out(2, true), left_out(3, true)]
}

#[test]
fn a_mark_changes_nothing_of_what_is_known_of_the_loss() {
    let cases: [(&[Subject], &str, &[&str]); 3] = [
        (&[subject(2, 20), subject(3, 30)], "none", &[]),
        (&[subject(2, 20)], "none", &["b3"]),
        (&[], "unknown", &["b2", "b3"]),
    ];
    for (others, confirmed, not_given) in cases {
        let given = [&[marked(subject(1, 30), &voters_left_out())], others].concat();
        let judgement = judge(&given);
        assert_eq!((judgement.verdict, judgement.latest), (Verdict::Marked, Some(0)));
        let loss = judgement.loss.unwrap();
        assert_eq!(loss.confirmed, confirmed, "{}", loss.reason);
        assert_eq!(loss.not_given, not_given);
    }
    // Marked by force though others are beyond it: all that can be known is here.
    let judgement = judge(&[marked(subject(1, 30), &voters_left_out()), subject(2, 50), subject(3, 50)]);
    assert_eq!(judgement.verdict, Verdict::Forked, "the others were not given when it was marked");
    let loss = judgement.loss.unwrap();
    assert_eq!((loss.confirmed, loss.not_given.len()), ("unknown", 0));
    assert!(loss.reason.contains("others hold what b1 does not"), "{}", loss.reason);
}

#[test]
fn a_mark_left_in_one_group_is_said_with_what_takes_it_back() {
    let mut left = marked(subject(1, 30), &voters_left_out());
    let inner = status(&mut left);
    inner.state = StoreState::Dirty;
    inner.groups[0].lineage.pop();
    let wanted = "nothing was begun on the mark in /: `quorate store unmark /b1` takes it back there";
    let remarks = judge(&[left.clone()]).remarks.remove(0);
    assert!(remarks.iter().any(|remark| remark.contains(wanted)), "{remarks:?}");
    // Begun, or filled again from another store.
    for (index, trusted) in [(31, true), (30, false)] {
        let mut other = left.clone();
        let group = &mut status(&mut other).groups[1];
        (group.position.index, group.trusted) = (Index(index), trusted);
        let remarks = judge(&[other]).remarks.remove(0);
        assert!(!remarks.iter().any(|remark| remark.contains("unmark")), "{remarks:?}");
    }
}

#[test]
fn what_could_not_be_read_is_not_named_to_mark_against() {
    let mut late = subject(2, 20);
    status(&mut late).groups.iter_mut().for_each(|group| group.trusted = false);
    let mut unread = subject(3, 1);
    "/c.facts".clone_into(&mut unread.path);
    (unread.status, unread.facts.unread) = (None, Some("no facts".to_owned()));
    let judgement = judge(&[subject(1, 30), late, unread]);
    assert_eq!(judgement.verdict, Verdict::NoSafeSet);
    let mark = "quorate store mark-clean /b1 --against /b2 --reason TEXT";
    assert!(judgement.next.iter().any(|next| next == mark), "{:?}", judgement.next);
}

#[test]
fn voters_that_a_mark_left_out_and_nobody_gave_are_named() {
    let group = |subjects: &[Subject]| {
        let statuses: Vec<&InitialStatus> =
            subjects.iter().filter_map(|subject| subject.status.as_ref()).collect();
        decisions(statuses[0], &statuses).remove(1)
    };
    // Begun: the marked store is the only voter.
    let begun = |left_out: &[LeftOut]| {
        let mut subject = marked(subject(1, 30), left_out);
        let inner = status(&mut subject);
        inner.state = StoreState::Dirty;
        for group in &mut inner.groups {
            group.voters.truncate(1);
            group.position.index = group.position.index.next();
        }
        subject
    };
    let left = [left_out(2, true), left_out(3, true), left_out(4, false)];
    let alone = [begun(&left)];
    assert_eq!(left_out_and_unheard(&alone, &group(&alone)), ["b2", "b3"]);
    let with_one = [begun(&left), subject(2, 20)];
    assert_eq!(left_out_and_unheard(&with_one, &group(&with_one)), ["b3"]);
    // A store that could not be read was not heard.
    let mut unread = subject(3, 20);
    unread.status = None;
    let unheard = [begun(&left), subject(2, 20), unread];
    assert_eq!(left_out_and_unheard(&unheard, &group(&unheard)), ["b3"]);
    // Once another one votes, the voters are asked and not the mark.
    let mut two = begun(&left);
    let voter = VoterRef { store: store(2), name: "b2".into(), raft_id: RaftId(2) };
    status(&mut two).groups.iter_mut().for_each(|group| group.voters.push(voter.clone()));
    let two = [two];
    assert_eq!(left_out_and_unheard(&two, &group(&two)), [""; 0]);
    // No mark, a single voter.
    let mut lone = subject(1, 30);
    status(&mut lone).groups.iter_mut().for_each(|group| group.voters.truncate(1));
    let lone = [lone];
    assert_eq!(left_out_and_unheard(&lone, &group(&lone)), [""; 0]);
}
