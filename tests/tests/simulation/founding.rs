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

use crate::stage::{finish, hosts, lead, publish_all, publish_and_finish, publisher, sound};

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
    publish_and_finish(world, client);
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

/// Three empty brokers form; the last one loses its power after it has accepted the founding and before it knows that
/// this was decided, and the others go on and confirm.
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
    let forming = |world: &World| world.hosts[2].medium.stamp().and_then(|stamp| stamp.forming);
    until(&mut world, &|world| forming(world).is_some_and(|forming| forming.promised.is_some()));
    // From here on it writes slowly: that it was decided comes while it writes that it accepts.
    world.hosts[2].speed.factor = 100;
    until(&mut world, &|world| forming(world).is_some_and(|forming| forming.accepted.is_some()));
    until(&mut world, &|world| [0, 1].iter().all(|host| state(world, *host) == Some(StampState::Dirty)));
    assert!(!forming(&world).expect("it accepted").decided, "it does not know that this was decided");
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
    world.hosts[2].speed.factor = 1;
    let kept = [0, 1].map(|host| world.hosts[host].medium.clone_now());
    (world, kept)
}

/// The founder that crashed and two empty stores start, the ones so much after the other. Gives whether they serve.
fn founder_meets_empty_stores(founder_first: bool, pause: u64) -> bool {
    let (mut world, kept) = deserted_founder();
    let cluster = clusters(&world);
    assert_eq!(cluster.len(), 1);
    for host in 0..2 {
        world.replace_medium(host, Medium::new());
    }
    // Each of the two clusters has its own history.
    world.ledger = Ledger::default();
    world.away.remove(&2);
    let (first, then): (&[HostId], &[HostId]) = if founder_first { (&[2], &[0, 1]) } else { (&[0, 1], &[2]) };
    for host in first {
        world.start(*host);
    }
    world.run_for(pause);
    for host in then {
        world.start(*host);
    }
    world.run_for(20 * SECOND);
    // Whatever they do, they do it under another name: they do not go on, empty, as the cluster that confirmed.
    let mut served = false;
    for (host, status) in &world.statuses {
        let serving = status.cluster_id.filter(|_| status.verdict == VerdictWord::Active);
        let is_it = serving.is_some_and(|id| cluster.contains(&id));
        assert!(!is_it, "founder first {founder_first}, {pause} ns: host {host}: {status:#?}");
        served |= serving.is_some();
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
    served
}

#[test]
fn one_founder_crashes_while_forming_the_others_go_on_and_it_meets_only_empty_stores() {
    let mut served = false;
    for founder_first in [false, true] {
        for pause in 0..8 {
            served |= founder_meets_empty_stores(founder_first, pause * pause * MILLI);
        }
    }
    assert!(served, "there is a cluster whose name can be looked at");
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
