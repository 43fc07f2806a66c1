//! A founding that is interrupted: one cluster comes of it, or none, whoever dies at whichever step.

use std::collections::BTreeSet;

use quorate_core::admin::VerdictWord;
use quorate_store::ids::ClusterId;
use quorate_store::stamp::StampState;
use quorate_tests::sim::fault::Fault;
use quorate_tests::sim::ledger::Ledger;
use quorate_tests::sim::schedule::{HostId, MILLI, SECOND};
use quorate_tests::sim::storage::{LogSizes, Medium};
use quorate_tests::sim::world::World;

use crate::stage::{finish, hosts, lead, publish_all, publisher, sound};

/// The clusters that stores beyond forming belong to.
fn clusters(world: &World) -> BTreeSet<ClusterId> {
    let stamps = world.hosts.iter().filter_map(|host| host.medium.stamp());
    stamps
        .filter(|stamp| !matches!(stamp.state, StampState::Empty | StampState::Forming))
        .filter_map(|stamp| stamp.cluster_id)
        .collect()
}

/// Changing operations of one host from its first start until the cluster serves.
fn operations_of_forming(host: HostId) -> u64 {
    let mut world = hosts(3, LogSizes::default());
    world.start_all();
    lead(&mut world);
    world.hosts[host].medium.files.operations()
}

/// The cluster that came of it is the only one there ever was, and holds what it confirms.
fn founded(mut world: World, before: &BTreeSet<ClusterId>, what: &str) {
    assert!(world.settle(30 * SECOND), "{what}: {:#?}", world.statuses);
    let after = clusters(&world);
    assert_eq!(after.len(), 1, "{what}: one cluster");
    assert!(before.is_subset(&after), "{what}: its identity is what it was: {before:?} {after:?}");
    let client = publisher(&mut world, "q", 20);
    publish_all(&mut world, client);
    finish(world);
}

#[test]
fn acceptance_b14_power_lost_by_one_at_any_write_of_forming() {
    for victim in 0..3 {
        let last = operations_of_forming(victim);
        assert!(last > 20, "{last} operations are a whole forming");
        for operation in 1..=last {
            let mut world = hosts(3, LogSizes::default());
            world.hosts[victim].medium.files.cut_power_at(operation);
            world.start_all();
            world.run_for(300 * MILLI);
            let before = clusters(&world);
            world.run_for(3 * SECOND);
            founded(world, &before, &format!("host {victim}, operation {operation}"));
        }
    }
}

#[test]
fn acceptance_b14_all_killed_at_any_moment_of_forming() {
    for power in [false, true] {
        for step in 0..240 {
            let mut world = hosts(3, LogSizes::default());
            // Slow disks: all of it takes some 200 ms.
            for host in &mut world.hosts {
                host.speed.factor = 20;
            }
            world.start_all();
            world.run_for(step * MILLI);
            world.apply(&if power { Fault::PowerAll(10 * MILLI) } else { Fault::KillAll(10 * MILLI) });
            let before = clusters(&world);
            world.run_for(SECOND);
            world.start_all();
            founded(world, &before, &format!("after {step} ms, power {power}"));
        }
    }
}

/// Three empty brokers form; the last one loses its power after it has accepted the founding,
/// and the others go on and confirm.
fn deserted_founder() -> (World, [Medium; 2]) {
    let mut world = hosts(3, LogSizes::default());
    world.start_all();
    let state = |world: &World, host: HostId| world.hosts[host].medium.stamp().map(|stamp| stamp.state);
    let until = |world: &mut World, holds: &dyn Fn(&World) -> bool| {
        while !holds(world) {
            assert!(world.now() < 5 * SECOND, "the founding goes on");
            world.run_for(MILLI / 4);
        }
    };
    let accepted = |world: &World| {
        let forming = world.hosts[2].medium.stamp().and_then(|stamp| stamp.forming);
        forming.is_some_and(|forming| forming.accepted.is_some())
    };
    until(&mut world, &accepted);
    // It hears of the end too late.
    world.hosts[2].speed.factor = 100;
    until(&mut world, &|world| [0, 1].iter().all(|host| state(world, *host) == Some(StampState::Dirty)));
    world.end(2, true);
    world.away.insert(2);
    lead(&mut world);
    let client = publisher(&mut world, "q", 200);
    publish_all(&mut world, client);
    sound(&world);
    for host in 0..2 {
        world.end(host, true);
    }
    assert_eq!(world.hosts[2].medium.stamp().map(|stamp| stamp.state), Some(StampState::Forming));
    for host in &mut world.hosts {
        host.config.wait_for = 2;
    }
    let kept = [0, 1].map(|host| world.hosts[host].medium.clone_now());
    (world, kept)
}

#[test]
fn one_founder_crashes_while_forming_the_others_go_on_and_it_meets_only_empty_stores() {
    let (mut world, kept) = deserted_founder();
    let cluster = clusters(&world);
    assert_eq!(cluster.len(), 1);
    for host in 0..2 {
        world.replace_medium(host, Medium::new());
    }
    // Each of the two clusters has its own history.
    world.ledger = Ledger::default();
    world.away.remove(&2);
    world.start_all();
    world.run_for(20 * SECOND);
    // Whatever they do, they do it under another name: they do not go on, empty, as the cluster that confirmed.
    for (host, status) in &world.statuses {
        let serves = status.verdict == VerdictWord::Active && status.cluster_id.is_some();
        assert!(
            !serves || !cluster.contains(&status.cluster_id.expect("just seen")),
            "host {host}: {status:#?}"
        );
    }
    // The disks of the other two turn up again: with them everything is there.
    for host in 0..3 {
        world.end(host, true);
    }
    world.away.insert(2);
    world.ledger = Ledger::default();
    for (host, medium) in kept.into_iter().enumerate() {
        world.replace_medium(host, medium);
        world.start(host);
    }
    finish(world);
}

#[test]
fn one_founder_crashes_while_forming_and_meets_one_of_those_that_went_on() {
    for other in 0..2 {
        let (mut world, _) = deserted_founder();
        world.away.remove(&2);
        world.start(2);
        world.start(other);
        // Two of three founders, and one of them held everything that was confirmed.
        lead(&mut world);
        finish(world);
    }
}
