//! Leaders die, are cut off, and their clients go on.

use quorate_core::admin::{AdminReply, AdminRequest, VerdictWord};
use quorate_core::event::Event;
use quorate_tests::sim::client::{Consumer, Stage};
use quorate_tests::sim::fault::{Fault, Target};
use quorate_tests::sim::schedule::{HostId, MILLI, SECOND};
use quorate_tests::sim::storage::LogSizes;
use quorate_tests::sim::world::World;

use crate::stage::{
    consumer, finish, hosts, lead, publish_all, publish_and_finish, publisher, serving, sound,
};

#[test]
fn another_broker_leads_soon_after_the_leader_is_killed() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 1000);
    world.run_for(SECOND);
    let leader = lead(&mut world);
    world.end(leader, false);
    let killed = world.now();
    let next = lead(&mut world);
    assert_ne!(next, leader);
    assert!(world.now() - killed < SECOND, "within a second: {} µs", world.now() - killed);
    publish_and_finish(world, client);
}

#[test]
fn what_is_sent_again_after_fail_overs_is_not_stored_twice() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 3000);
    for _ in 0..6 {
        world.run_for(400 * MILLI);
        let leader = lead(&mut world);
        world.apply(&Fault::Kill(Target::Host(leader), 200 * MILLI));
        world.run_for(SECOND);
    }
    publish_all(&mut world, client);
    assert_eq!(world.checker.confirmed, 3000);
    // The checker names every message that is in the queue twice.
    finish(world);
}

#[test]
fn a_leader_without_its_majority_confirms_nothing() {
    let mut world = serving(LogSizes::default());
    let leader = lead(&mut world);
    let client = publisher(&mut world, "q", 100_000);
    world.clients[client].only = Some(leader);
    world.run_for(SECOND);
    assert!(world.checker.confirmed > 0);
    world.apply(&Fault::Isolate(Target::Host(leader), 20 * SECOND));
    // What was on its way back when the network was cut may still come.
    world.run_for(50 * MILLI);
    let confirmed = world.checker.confirmed;
    world.run_for(8 * SECOND);
    assert_eq!(world.checker.confirmed, confirmed);
    let next = lead(&mut world);
    assert_ne!(next, leader, "the majority goes on");
    world.clients[client].only = None;
    world.clients[client].publisher().stop_at = world.clients[client].publisher().next + 10;
    world.heal_all();
    publish_all(&mut world, client);
    assert!(world.checker.confirmed > confirmed);
    finish(world);
}

#[test]
fn a_leader_without_its_majority_delivers_nothing() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 100);
    publish_all(&mut world, client);
    // Whoever consumes first has the leader ask how far it may deliver: the others, cut off, could not answer that.
    let mut first = Consumer::new(1, 0);
    first.holds = true;
    let first = consumer(&mut world, "q", first);
    assert!(world.run_until(5 * SECOND, |world| world.clients[first].consumer().log.len() == 1));
    let leader = lead(&mut world);
    world.apply(&Fault::Isolate(Target::Host(leader), 20 * SECOND));
    let late = consumer(&mut world, "q", Consumer::new(50, 0));
    world.clients[late].only = Some(leader);
    world.clients[late].declares = false;
    let consumes = |world: &mut World| matches!(world.clients[late].stage, Stage::Open);
    assert!(world.run_until(SECOND, consumes), "it is the leader still, as far as it knows");
    world.run_for(8 * SECOND);
    assert_eq!(world.clients[late].consumer().log.len(), 0);
    assert_ne!(lead(&mut world), leader, "the majority goes on");
    world.clients[late].only = None;
    world.clients[first].consumer().holds = false;
    finish(world);
}

/// The others know at once that its links are gone, and go on at once; so does it, and it lives.
#[test]
fn a_leader_whose_links_are_all_reset_delivers_nothing_that_was_acknowledged_elsewhere() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 100);
    publish_all(&mut world, client);
    let leader = lead(&mut world);
    let near = consumer(&mut world, "q", Consumer::new(20, 0));
    world.clients[near].only = Some(leader);
    world.clients[near].consumer().holds = true;
    assert!(world.run_until(5 * SECOND, |world| world.clients[near].consumer().log.len() == 20));
    world.apply(&Fault::ResetLinks(Target::Host(leader)));
    world.apply(&Fault::Isolate(Target::Host(leader), 20 * SECOND));
    let cut = world.now();
    let far = consumer(&mut world, "q", Consumer::new(50, 0));
    let goes_on = |world: &World| {
        world.events.iter().any(|(at, host, event)| {
            *at > cut
                && *host != leader
                && matches!(event, Event::RoleChanged { vhost, new: "leader", .. } if vhost == "/")
        })
    };
    assert!(world.run_until(500 * MILLI, |world| goes_on(world)), "no election timeout is waited for");
    let all = |world: &mut World| world.clients[far].consumer().log.len() >= 100;
    assert!(world.run_until(10 * SECOND, all), "all is acknowledged there");
    // What it held would come again to whoever asks the old leader for it.
    world.cut_clients();
    world.run_for(5 * SECOND);
    assert!(world.hosts[leader].process.is_some());
    assert_eq!(world.clients[near].consumer().log.len(), 20, "the old leader delivers nothing more");
    world.clients[near].only = None;
    world.clients[near].consumer().holds = false;
    finish(world);
}

#[test]
fn a_leader_whose_followers_died_says_at_once_that_it_has_no_quorum() {
    let mut world = serving(LogSizes::default());
    let leader = lead(&mut world);
    for host in (0..3).filter(|host| *host != leader) {
        world.end(host, false);
    }
    // Much less than the two election timeouts that Raft takes to step down; enough for closed connections to be seen.
    world.run_for(100 * MILLI);
    let id = world.ask(leader, AdminRequest::Status);
    world.run_for(MILLI);
    let Some(AdminReply::Status(status)) = world.replies.remove(&id) else { panic!("a status is answered") };
    assert_eq!((status.verdict, status.row.as_str()), (VerdictWord::Waiting, "Q1"), "{}", status.reason);
    assert!(status.groups.iter().all(|group| !group.quorum && group.leader.is_none()));
    let starts = status.next.iter().filter(|command| command.starts_with("quorated "));
    assert_eq!(starts.count(), 2, "both are to be started: {:?}", status.next);
    finish(world);
}

#[test]
fn what_a_consumer_held_comes_again_marked_after_a_fail_over() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 20);
    publish_all(&mut world, client);
    let mut holder = Consumer::new(20, 0);
    holder.holds = true;
    let holder = consumer(&mut world, "q", holder);
    assert!(world.run_until(5 * SECOND, |world| world.clients[holder].consumer().log.len() == 20));
    assert!(world.clients[holder].consumer().log.iter().all(|(_, _, redelivered)| !redelivered));
    world.clients[holder].consumer().log.clear();
    let leader = lead(&mut world);
    world.end(leader, true);
    lead(&mut world);
    assert!(world.run_until(5 * SECOND, |world| world.clients[holder].consumer().log.len() == 20));
    let log = &world.clients[holder].consumer().log;
    assert!(log.iter().all(|(_, _, redelivered)| *redelivered), "{log:?}");
    assert!(log.is_sorted(), "{log:?}");
    sound(&world);
    finish(world);
}

/// How many groups count time on this host.
fn awake(world: &mut World, host: HostId) -> String {
    let id = world.ask(host, AdminRequest::Metrics);
    world.run_until(SECOND, |world| world.replies.contains_key(&id));
    let Some(AdminReply::Metrics(metrics)) = world.replies.remove(&id) else { panic!("host {host} answers") };
    let sample = metrics.samples.iter().find(|sample| sample.name == "groups_awake").expect("it is counted");
    sample.value.to_string()
}

/// Three hosts whose virtual host sleeps, and who leads it.
fn asleep() -> (World, HostId) {
    asleep_with(500)
}

/// The same with another election timeout, in milliseconds.
fn asleep_with(election_millis: u64) -> (World, HostId) {
    let mut world = hosts(2, LogSizes::default());
    for host in &mut world.hosts {
        host.config.election_millis = election_millis;
    }
    world.start_all();
    lead(&mut world);
    assert!(world.settle(10 * SECOND), "{:#?}", world.statuses);
    let client = publisher(&mut world, "q", 100);
    publish_all(&mut world, client);
    world.clients[client].only = Some(0);
    world.run_for(3 * SECOND);
    let leader = lead(&mut world);
    for host in 0..3 {
        assert_eq!(awake(&mut world, host), "1", "only `system` is awake on host {host}");
    }
    (world, leader)
}

#[test]
fn a_group_in_which_nothing_happens_sleeps_and_wakes_for_work() {
    let (mut world, _) = asleep();
    world.run_for(60 * SECOND);
    for host in 0..3 {
        assert_eq!(awake(&mut world, host), "1");
    }
    let terms =
        |world: &World| world.events.iter().filter(|(_, _, event)| event.code() == Some("HA-1010")).count();
    let before = terms(&world);
    let client = publisher(&mut world, "q", 100);
    let began = world.now();
    publish_all(&mut world, client);
    assert!(world.now() - began < 2 * SECOND, "at a hundred a second: {} µs", world.now() - began);
    assert_eq!(terms(&world), before, "nobody else leads for that");
    finish(world);
}

#[test]
fn a_leader_that_dies_while_its_group_sleeps_is_replaced_at_once() {
    let (mut world, leader) = asleep();
    world.end(leader, true);
    let died = world.now();
    let next = lead(&mut world);
    assert!(next != leader && world.now() - died < SECOND, "{} µs", world.now() - died);
    finish(world);
}

#[test]
fn a_leader_that_hangs_while_its_group_sleeps_is_replaced_within_two_election_timeouts() {
    let (mut world, leader) = asleep();
    let election = world.hosts[leader].config.election_millis * MILLI;
    world.apply(&Fault::Pause(Target::Host(leader), 60 * SECOND));
    let hung = world.now();
    let led = world.run_until(5 * SECOND, |world| {
        world.events.iter().any(|(at, host, event)| {
            *at > hung
                && *host != leader
                && matches!(event, Event::RoleChanged { vhost, new: "leader", .. } if vhost == "/")
        })
    });
    assert!(led && world.now() - hung <= 2 * election, "{} µs", world.now() - hung);
}

#[test]
fn a_sleeping_leader_that_is_cut_off_notices_within_two_election_timeouts() {
    let (mut world, leader) = asleep();
    let election = world.hosts[leader].config.election_millis * MILLI;
    world.apply(&Fault::Isolate(Target::Host(leader), 60 * SECOND));
    let cut = world.now();
    let noticed = world.run_until(5 * SECOND, |world| {
        world.events.iter().any(|(at, host, event)| {
            *at > cut && *host == leader && matches!(event, Event::QuorumLost { vhost, .. } if vhost == "/")
        })
    });
    assert!(noticed && world.now() - cut <= 2 * election + 20 * MILLI, "{} µs", world.now() - cut);
}

#[test]
fn a_follower_that_dies_does_not_unseat_a_sleeping_leader() {
    for election_millis in [150, 200, 300, 500] {
        let (mut world, leader) = asleep_with(election_millis);
        let other = (0..3).find(|host| *host != leader).expect("a follower");
        let before = world.now();
        world.end(other, false);
        world.run_for(3 * SECOND);
        let changes = |(at, host, event): &&(u64, HostId, Event)| {
            *at > before
                && *host == leader
                && matches!(event, Event::RoleChanged { vhost, .. } if vhost == "/")
        };
        assert_eq!(world.events.iter().find(changes), None, "with {election_millis} ms");
    }
}

#[test]
fn a_sleeping_follower_that_starts_again_is_brought_up_to_date_and_sleeps_again() {
    let (mut world, leader) = asleep();
    let other = (0..3).find(|host| *host != leader).expect("a follower");
    world.end(other, false);
    let client = publisher(&mut world, "q", 100);
    publish_all(&mut world, client);
    world.start(other);
    assert!(world.settle(10 * SECOND), "{:#?}", world.statuses);
    world.run_for(3 * SECOND);
    for host in 0..3 {
        assert_eq!(awake(&mut world, host), "1", "host {host}");
    }
    finish(world);
}
