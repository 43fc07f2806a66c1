//! A store that an operator marked: the cluster goes on from it, and says what that cost.

use quorate_core::admin::VerdictWord;
use quorate_core::event::Event;
use quorate_protocol::fault::FaultCode;
use quorate_store::ids::GroupId;
use quorate_tests::sim::client::{Client, Consumer};
use quorate_tests::sim::mark::ends;
use quorate_tests::sim::schedule::{HostId, MILLI, SECOND};
use quorate_tests::sim::storage::LogSizes;
use quorate_tests::sim::world::World;

use crate::stage::{all_down, consumer, lead, publish_all, publisher, serving, sound, verdict};

/// Marks a store of three; the disk is sound.
pub(crate) fn mark(world: &World, host: HostId, alone: bool, known: &[HostId]) {
    world.mark(host, alone, known).expect("the disk is sound");
}

fn diverged(world: &World, host: HostId) -> usize {
    let events = world.events.iter().filter(|(_, of, _)| *of == host);
    events.filter(|(_, _, event)| matches!(event, Event::Diverged { .. })).count()
}

#[test]
fn two_disks_lost_the_last_store_is_marked_and_goes_on_alone() {
    let mut world = all_down(LogSizes::default(), 600);
    world.start(0);
    world.run_for(3 * SECOND);
    assert_eq!(verdict(&world, 0), Some((VerdictWord::Waiting, "W1".to_owned())));
    world.end(0, false);
    mark(&world, 0, true, &[]);
    world.start(0);
    lead(&mut world);
    assert_eq!(verdict(&world, 0).map(|shown| shown.0), Some(VerdictWord::Active));
    let reader = consumer(&mut world, "q", Consumer::new(50, 0));
    assert!(world.run_until(30 * SECOND, |world| world.clients[reader].consumer().log.len() >= 600));
    sound(&world);
    // It survives its own restart as what it is now: a cluster of one voter.
    world.end(0, true);
    world.start(0);
    lead(&mut world);
}

#[test]
fn a_marked_store_serves_nobody_before_as_many_members_hold_it() {
    let mut world = all_down(LogSizes::default(), 600);
    mark(&world, 0, false, &[1, 2]);
    world.start(0);
    world.run_for(10 * SECOND);
    let reader = consumer(&mut world, "q", Consumer::new(50, 0));
    world.run_for(5 * SECOND);
    assert_eq!(world.clients[reader].consumer().log.len(), 0, "one is not enough");
    world.start(1);
    world.start(2);
    assert!(world.run_until(60 * SECOND, |world| world.clients[reader].consumer().log.len() >= 600));
    assert!(world.settle(60 * SECOND), "all are equal: {:#?}", world.statuses);
    sound(&world);
}

#[test]
fn what_only_the_others_had_is_reported_and_kept_when_an_older_store_is_marked() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 400);
    world.run_for(100 * MILLI);
    // The marked store misses what the others confirm.
    let leader = lead(&mut world);
    let old = (leader + 1) % 3;
    world.end(old, true);
    publish_all(&mut world, client);
    world.run_for(6 * SECOND);
    let rest: Vec<HostId> = (0..3).filter(|host| *host != old).collect();
    for host in &rest {
        world.end(*host, true);
    }
    mark(&world, old, false, &rest);
    // From here on an operator has decided that the others' messages are given up.
    world.checker.confirmed = 0;
    let before = world.events.len();
    world.start_all();
    assert!(
        world.run_until(60 * SECOND, |world| rest.iter().all(|host| diverged(world, *host) > 0)),
        "{before}"
    );
    assert!(world.settle(60 * SECOND), "all are equal: {:#?}", world.statuses);
    for host in rest {
        let files = world.hosts[host].medium.files.everything();
        assert!(files.keys().any(|path| path.to_string_lossy().contains("/quarantine/")), "kept on {host}");
    }
}

#[test]
fn what_others_confirmed_where_a_marked_store_has_what_was_never_committed_is_told_and_kept() {
    let mut world = serving(LogSizes::default());
    let first = publisher(&mut world, "q", 50);
    publish_all(&mut world, first);
    let old = lead(&mut world);
    let rest: Vec<HostId> = (0..3).filter(|host| *host != old).collect();
    for host in &rest {
        world.network.cut(old, *host);
        world.network.cut(*host, old);
    }
    // Nobody else ever has these, and its log grows by them.
    let stray: Vec<_> = (0..8).map(|_| publisher(&mut world, "q", 400)).collect();
    world.run_for(300 * MILLI);
    for client in stray {
        world.clients[client].resting = true;
    }
    world.cut_clients();
    assert!(world.run_until(20 * SECOND, |world| world.leader().is_some_and(|leader| leader != old)));
    let few = publisher(&mut world, "q", 5);
    publish_all(&mut world, few);
    let end = |world: &World, host: HostId| ends(world, host)[&GroupId(1)];
    let (theirs, its) = (end(&world, rest[0]), end(&world, old));
    assert!(its.index >= theirs.index && its.term < theirs.term, "{its} is as long as {theirs}, and older");
    for host in 0..3 {
        world.end(host, true);
    }
    world.network.heal_all();
    mark(&world, old, true, &[]);
    world.start(old);
    lead(&mut world);
    let told = |world: &World, host: HostId| -> u64 {
        let of = world.events.iter().filter(|(_, at, _)| *at == host);
        let counts = of.filter_map(|(_, _, event)| match event {
            Event::Diverged { vhost, queues, .. } if vhost == "/" => Some(queues.values().sum::<u64>()),
            _ => None,
        });
        counts.sum()
    };
    // One after the other: together they would go on without it.
    for host in &rest {
        world.start(*host);
        let is_told =
            world.run_until(60 * SECOND, |world| told(world, *host) == 5 && world.leader() == Some(old));
        assert!(is_told, "host {host}: {}", told(&world, *host));
    }
}

#[test]
fn a_marked_store_killed_at_any_step_of_its_first_start_begins_again() {
    for step in 0..40 {
        let mut world = all_down(LogSizes::default(), 600);
        mark(&world, 0, true, &[1, 2]);
        world.start(0);
        world.run_for(step * MILLI / 2);
        world.end(0, step % 2 == 0);
        world.start(0);
        lead(&mut world);
        // One after the other: two together could have gone on without it.
        for host in [1, 2] {
            world.start(host);
            world.run_for(step * MILLI);
            if step % 3 == 0 {
                world.end(host, step % 2 == 0);
                world.start(host);
            }
            assert!(
                world.run_until(60 * SECOND, |world| votes(world, host)),
                "step {step}: {:#?}",
                world.statuses
            );
        }
        assert!(world.settle(60 * SECOND), "step {step}: all are equal: {:#?}", world.statuses);
        let reader = consumer(&mut world, "q", Consumer::new(50, 0));
        assert!(
            world.run_until(60 * SECOND, |world| world.clients[reader].consumer().log.len() >= 600),
            "step {step}: everything is there"
        );
        sound(&world);
    }
}

#[test]
fn cut_off_at_any_moment_of_becoming_the_second_voter_the_two_come_back() {
    for step in 0..60 {
        let mut world = all_down(LogSizes::default(), 100);
        mark(&world, 0, true, &[1, 2]);
        world.start(0);
        lead(&mut world);
        world.start(1);
        let learns = |world: &World| world.statuses.get(&1).is_some_and(|status| status.groups.len() == 2);
        assert!(world.run_until(10 * SECOND, |world| learns(world)));
        world.run_for(step * 10 * MILLI);
        world.network.cut(0, 1);
        world.run_for(200 * MILLI);
        for host in [0, 1] {
            world.end(host, true);
        }
        world.network.heal_all();
        for host in [0, 1] {
            world.start(host);
        }
        both_vote(&mut world, step);
        sound(&world);
    }
}

#[test]
fn of_two_stores_that_went_on_separately_the_one_marked_against_the_other_goes_on() {
    for step in 0..12 {
        let mut world = all_down(LogSizes::default(), 600);
        for host in [0, 1] {
            mark(&world, host, true, &[]);
            world.start(host);
            lead(&mut world);
            let client = publisher(&mut world, "q", 50);
            publish_all(&mut world, client);
            world.run_for(6 * SECOND);
            world.end(host, true);
            // The other one begins another history: an operator decided that there are two.
            world.checker.confirmed = 0;
        }
        // Nobody drops what clients were told is safe, though the log's commit was not written down.
        world.start(0);
        lead(&mut world);
        world.start(1);
        let asks = (VerdictWord::NeedsOperator, "J1".to_owned());
        assert!(world.run_until(10 * SECOND, |world| verdict(world, 1).as_ref() == Some(&asks)));
        // Meanwhile its `system`, in which no client's work is, is filled again.
        let client = publisher(&mut world, "q", 0);
        world.clients[client].only = Some(1);
        world.run_for(5 * SECOND);
        assert_eq!(verdict(&world, 1), Some(asks));
        let Client { last_refusal, refused_login, .. } = &world.clients[client];
        assert_eq!(*last_refusal, Some(FaultCode::NeedsOperator), "{refused_login}");
        assert!(refused_login.starts_with("broker b2, virtual host /: row J1: "), "{refused_login}");
        assert!(refused_login.contains("; next: quorate "), "{refused_login}");
        world.clients[client].resting = true;
        for host in [0, 1] {
            world.end(host, true);
        }
        mark(&world, 0, true, &[1]);
        world.start(0);
        lead(&mut world);
        world.start(1);
        // Power fails at any moment of the other's way back, for both.
        world.run_for(step * 20 * MILLI);
        for host in [0, 1] {
            world.end(host, true);
        }
        for host in [0, 1] {
            world.start(host);
        }
        both_vote(&mut world, step);
        assert!(diverged(&world, 1) > 0, "step {step}");
    }
}

/// A store is marked blindly and serves clients out of sight of the others, who go on as the majority they are. When it is
/// back, `system` is one history again, and the virtual host has two: whoever of the majority starts again then goes on
/// with what it confirmed.
#[test]
fn whoever_of_the_majority_starts_again_beside_a_blind_mark_gives_nothing_up() {
    for both in [false, true] {
        let mut world = all_down(LogSizes::default(), 200);
        mark(&world, 0, true, &[]);
        world.start(0);
        lead(&mut world);
        let client = publisher(&mut world, "q", 50);
        publish_all(&mut world, client);
        world.end(0, true);
        // What it confirmed is an operator's to give up.
        world.checker.confirmed = 200;
        for host in [1, 2] {
            world.start(host);
        }
        lead(&mut world);
        let client = publisher(&mut world, "q", 50);
        publish_all(&mut world, client);
        world.start(0);
        let asks = (VerdictWord::NeedsOperator, "J1".to_owned());
        assert!(world.run_until(20 * SECOND, |world| verdict(world, 0).as_ref() == Some(&asks)));
        world.run_for(3 * SECOND);
        let kept = |world: &World| {
            let refilling = |host: usize| {
                world.hosts[host].medium.stamp().is_some_and(|stamp| !stamp.refilling.is_empty())
            };
            assert!(!refilling(1) && !refilling(2), "given up: {:#?}", world.statuses);
        };
        if both {
            for host in [1, 2] {
                world.end(host, true);
            }
        }
        for host in [1, 2] {
            if !both {
                world.end(host, true);
                world.run_for(2 * SECOND);
            }
            // It hears of the mark before it hears of those with whom it went on.
            let other = 3 - host;
            for (from, to) in [(host, other), (other, host)] {
                world.network.cut(from, to);
            }
            world.start(host);
            world.run_for(SECOND);
            for (from, to) in [(host, other), (other, host)] {
                world.network.heal(from, to);
            }
            world.run_for(5 * SECOND);
            kept(&world);
        }
        if both {
            // Nobody is left who knows which of the two served last.
            let asks = Some((VerdictWord::NeedsOperator, "X1".to_owned()));
            assert!(world.run_until(20 * SECOND, |world| (0..3).all(|host| verdict(world, host) == asks)));
        } else {
            let leader = lead(&mut world);
            let client = publisher(&mut world, "q", 50);
            world.clients[client].only = Some(leader);
            publish_all(&mut world, client);
        }
    }
}

/// The first two hosts vote again, without an operator.
fn both_vote(world: &mut World, step: u64) {
    let both = world.run_until(60 * SECOND, |world| [0, 1].iter().all(|host| votes(world, *host)));
    assert!(both, "step {step}: {:#?}", world.statuses);
}

/// Whether a host is a voter in every group again, as it says itself.
fn votes(world: &World, host: HostId) -> bool {
    world.statuses.get(&host).is_some_and(|status| {
        let name = format!("b{}", host + 1);
        status.groups.len() == 2
            && status.groups.iter().all(|group| {
                let node = group.nodes.iter().find(|node| node.name == name);
                group.quorum && node.is_some_and(|node| node.role == "replica" || node.role == "leader")
            })
    })
}
