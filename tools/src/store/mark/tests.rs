//! Acceptance E5 to E7, as a table over statuses.

use quorate_core::formation::status::RecoveryMode;
use quorate_store::ids::{ClusterId, Index};
use quorate_store::stamp::EpochCause;
use uuid::Uuid;

use super::*;
use crate::store::samples::{CLUSTER, group, status, store, subject};

fn forced() -> MarkOptions {
    let cluster = ClusterId(Uuid::from_u128(CLUSTER)).to_string();
    MarkOptions { force: true, confirm: Some(cluster), alone: false }
}

fn untrusted(number: u128, index: u64) -> Subject {
    let mut subject = subject(number, index);
    status(&mut subject).groups.iter_mut().for_each(|group| group.trusted = false);
    subject
}

fn with(mut subject: Subject, change: fn(&mut InitialStatus)) -> Subject {
    change(status(&mut subject));
    subject
}

#[test]
fn acceptance_e5_each_ground_refuses_and_only_four_give_way() {
    let recovered = |status: &mut InitialStatus| {
        status.state = StoreState::Recovered { recovery: Uuid::from_u128(1) };
    };
    let mut running = untrusted(1, 30);
    running.facts.in_use_by = Some(4711);
    let mut file = untrusted(1, 30);
    file.directory = None;
    let mut unread = untrusted(1, 30);
    unread.status = None;
    let others = || vec![untrusted(2, 20), untrusted(3, 20)];
    let cases: Vec<(Subject, Vec<Subject>, Ground)> = vec![
        (running, others(), Ground::InUse),
        (file, others(), Ground::Unreadable),
        (unread, others(), Ground::Unreadable),
        (
            with(untrusted(1, 30), |status| status.state = StoreState::Damaged { reason: "rot".into() }),
            others(),
            Ground::Damaged,
        ),
        (
            with(untrusted(1, 30), |status| {
                (status.state, status.cluster_id) = (StoreState::Empty, None);
                status.groups.clear();
            }),
            others(),
            Ground::Empty,
        ),
        (with(untrusted(1, 30), recovered), others(), Ground::MarkedItself),
        (with(untrusted(1, 30), |status| status.groups.clear()), others(), Ground::Incomplete),
        (
            untrusted(1, 30),
            vec![
                untrusted(2, 20),
                with(untrusted(3, 20), |status| status.cluster_id = Some(ClusterId(Uuid::from_u128(9)))),
            ],
            Ground::Foreign,
        ),
        (untrusted(1, 30), vec![with(untrusted(2, 20), recovered), untrusted(3, 20)], Ground::MarkedOther),
        (untrusted(1, 10), others(), Ground::NotLatest),
        (subject(1, 30), vec![subject(2, 20)], Ground::CouldStart),
        (untrusted(1, 30), Vec::new(), Ground::OthersCouldStart),
    ];
    for (target, others, ground) in cases {
        let refused = judge(&target, &others, &MarkOptions::default()).unwrap_err();
        assert_eq!(refused.ground, ground, "{}", refused.reason);
        match judge(&target, &others, &forced()) {
            Ok(plan) => assert!(ground.is_overridable() && plan.overridden.contains(&ground), "{ground}"),
            Err(refused) => assert!(!ground.is_overridable() && refused.ground == ground, "{refused:?}"),
        }
        // The wrong word confirms nothing.
        for confirm in [None, Some("yes".to_owned())] {
            let options = MarkOptions { confirm, ..forced() };
            assert!(judge(&target, &others, &options).is_err(), "{ground}");
        }
    }
}

#[test]
fn what_cannot_go_on_by_itself_is_marked_and_the_rest_is_recorded() {
    let mut late = untrusted(2, 20);
    status(&mut late).groups[1].term = Term(7);
    let plan = judge(&untrusted(1, 30), &[late], &MarkOptions::default()).unwrap();
    assert_eq!((plan.sole, plan.members, plan.alone), (RaftId(1), 3, false));
    assert!(plan.overridden.is_empty());
    let vhost = &plan.groups[1];
    assert_eq!((vhost.group, vhost.term), (GroupId(1), Term(8)));
    let names: Vec<(&str, bool, Option<u64>)> = vhost
        .left_out
        .iter()
        .map(|left| (left.name.as_str(), left.voter, left.known.map(|known| known.position.index.0)))
        .collect();
    assert_eq!(names, [("b2", true, Some(20)), ("b3", true, None)]);
    let alone = MarkOptions { alone: true, ..MarkOptions::default() };
    let plan = judge(&untrusted(1, 30), &[untrusted(2, 20)], &alone).unwrap();
    assert_eq!((plan.members, plan.alone), (0, true));
}

#[test]
fn acceptance_e4_with_manual_recovery_the_latest_of_all_dirty_ones_can_be_marked() {
    let manual =
        |number, index| with(subject(number, index), |status| status.recovery = RecoveryMode::Manual);
    let others = [manual(2, 20), manual(3, 20)];
    let plan = judge(&manual(1, 30), &others, &MarkOptions::default()).unwrap();
    assert_eq!(plan.groups[0].left_out.len(), 2);
    // Automatic recovery needs no mark for that.
    let refused = judge(&subject(1, 30), &[subject(2, 20), subject(3, 20)], &MarkOptions::default());
    assert_eq!(refused.unwrap_err().ground, Ground::CouldStart);
}

#[test]
fn acceptance_e6_one_of_two_that_forked_is_chosen_against_the_other() {
    let clean = |number: u128, tip: u128, index: u64| {
        let mut subject = subject(number, index);
        status(&mut subject).state = StoreState::Clean { shutdown: Uuid::from_u128(tip) };
        status(&mut subject).groups[1] = group(1, &[11, tip], index);
        subject
    };
    let plan = judge(&clean(1, 12, 20), &[clean(2, 13, 30)], &MarkOptions::default()).unwrap();
    // The group `system`, which did not fork, is marked too: it starts from what is clean.
    let [_, vhost] = &plan.groups[..] else { panic!("{:?}", plan.groups) };
    assert_eq!(vhost.group, GroupId(1));
    let known = vhost.left_out[0].known.unwrap();
    assert_eq!((known.tip, known.position.index), (Uuid::from_u128(13), Index(30)));
}

#[test]
fn only_what_waits_is_marked_and_judged() {
    // In `system` the others went on while this store was away; of the virtual host it has the most.
    let other = |number: u128, at: u64| {
        with(untrusted(number, at), |status| {
            status.groups[0].trusted = true;
            status.groups[0].position.index = Index(90);
        })
    };
    let target = with(untrusted(1, 30), |status| status.groups[0].trusted = true);
    let plan = judge(&target, &[other(2, 20), other(3, 30)], &MarkOptions::default()).unwrap();
    let marked: Vec<GroupId> = plan.groups.iter().map(|mark| mark.group).collect();
    assert_eq!((marked, plan.overridden), (vec![GroupId(1)], vec![]));
    // Where it is behind in that, the virtual host is named.
    let refused = judge(&target, &[other(2, 50), other(3, 20)], &MarkOptions::default()).unwrap_err();
    assert_eq!(refused.ground, Ground::NotLatest);
    assert!(refused.reason.ends_with("/b2 is beyond it in /"), "{}", refused.reason);
    let plan = judge(&target, &[other(2, 50), other(3, 20)], &forced()).unwrap();
    assert_eq!(plan.groups.len(), 1, "also by force");
}

#[test]
fn all_is_marked_where_the_rest_would_not_go_on() {
    let marked = |plan: Plan| plan.groups.iter().map(|mark| mark.group.0).collect::<Vec<_>>();
    let trusted = |number, index| with(untrusted(number, index), |status| status.groups[0].trusted = true);
    let others = || vec![trusted(2, 20), trusted(3, 30)];
    assert_eq!(marked(judge(&trusted(1, 30), &others(), &MarkOptions::default()).unwrap()), [1]);
    // Without the others nothing else goes on.
    let alone = || MarkOptions { alone: true, ..MarkOptions::default() };
    assert_eq!(marked(judge(&trusted(1, 30), &others(), &alone()).unwrap()), [0, 1]);
    let ahead = with(trusted(2, 20), |status| status.groups[0].position.index = Index(90));
    let refused = judge(&trusted(1, 30), &[ahead.clone(), trusted(3, 30)], &alone()).unwrap_err();
    assert_eq!(refused.ground, Ground::NotLatest, "{}", refused.reason);
    // A clean store stays what it is for the groups that start from one, but not where somebody is beyond it.
    let clean =
        with(trusted(1, 30), |status| status.state = StoreState::Clean { shutdown: Uuid::from_u128(7) });
    assert_eq!(marked(judge(&clean, &others(), &MarkOptions::default()).unwrap()), [0, 1]);
    assert_eq!(marked(judge(&clean, &[ahead, trusted(3, 30)], &MarkOptions::default()).unwrap()), [1]);
    // Of two branches of `system` its own was decided against: it does not come back by a mark of the virtual host.
    let of_branch = |mut subject: Subject, tip: u128| {
        let system = &mut status(&mut subject).groups[0];
        *system = group(0, &[10, tip], 30);
        subject
    };
    let clean = of_branch(clean.clone(), 12);
    let chosen = |number: u128| {
        let mut subject = of_branch(trusted(number, 20), 13);
        let (incarnation, system) = (status(&mut subject).incarnation, &mut status(&mut subject).groups[0]);
        let known = Known { incarnation, position: system.position, tip: Uuid::from_u128(12) };
        let left =
            LeftOut { store: store(1), name: "b1".into(), voter: true, named: false, known: Some(known) };
        system.lineage[1].cause =
            EpochCause::Mark { recovery: Uuid::from_u128(13), alone: false, members: 2, sole: RaftId(2) };
        system.lineage[1].left_out.push(left);
        subject
    };
    assert_eq!(marked(judge(&clean, &[chosen(2), chosen(3)], &MarkOptions::default()).unwrap()), [1]);
    // The others took it out of the voters: in `system` it is behind them.
    let without = |number| {
        let mut subject = trusted(number, 20);
        let system = &mut status(&mut subject).groups[0];
        system.position.index = Index(90);
        system.voters.retain(|voter| voter.raft_id != RaftId(1));
        subject
    };
    let refused = judge(&trusted(1, 30), &[without(2), without(3)], &MarkOptions::default()).unwrap_err();
    assert_eq!(refused.ground, Ground::NotLatest, "{}", refused.reason);
    // What waits is not in it.
    let none = with(trusted(1, 30), |status| status.groups.truncate(1));
    let refused = judge(&none, &others(), &forced()).unwrap_err();
    assert_eq!(refused.ground, Ground::Incomplete, "{}", refused.reason);
}

#[test]
fn acceptance_e7_an_older_store_is_marked_only_by_force_and_that_is_recorded() {
    let others = [untrusted(2, 50), untrusted(3, 20)];
    let refused = judge(&untrusted(1, 30), &others, &MarkOptions::default()).unwrap_err();
    assert!(refused.reason.contains("/b2 is beyond it"), "{}", refused.reason);
    let plan = judge(&untrusted(1, 30), &others, &forced()).unwrap();
    assert_eq!(plan.overridden, [Ground::NotLatest]);
    assert_eq!(plan.groups[1].left_out[0].known.unwrap().position.index, Index(50));
}
