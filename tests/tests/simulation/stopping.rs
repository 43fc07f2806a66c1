//! A stop that is itself interrupted, after any of its writes: nothing is lost, and clean is said only by who is complete.

use quorate_core::admin::{AdminRequest, Author};
use quorate_core::event::Event;
use quorate_store::ids::{GroupId, Position};
use quorate_store::stamp::StampState;
use quorate_tests::sim::fault::{Fault, Target};
use quorate_tests::sim::mark::ends;
use quorate_tests::sim::schedule::{ClientId, HostId, MILLI, SECOND};
use quorate_tests::sim::storage::LogSizes;
use quorate_tests::sim::world::World;

use crate::stage::{finish, publish_all, publisher, serving, system_leader};

/// Far beyond the end of every scene.
const NEVER: u64 = 3600 * SECOND;
/// Fine enough that no two writes of a host fall into one.
const INSTANT: u64 = MILLI / 20;

/// What is asked, and of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// `quorate cluster shutdown`.
    Everybody,
    /// SIGTERM of the host that is interrupted.
    One,
    /// SIGTERM of all hosts.
    All,
}

fn begin(stop: Stop, victim: HostId) -> (World, ClientId) {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 400);
    world.run_for(300 * MILLI);
    let terminate = |world: &mut World, host: HostId| {
        world.apply(&Fault::Stop(Target::Host(host), NEVER));
    };
    match stop {
        Stop::Everybody => {
            let leader = system_leader(&mut world);
            world.ask(
                leader,
                AdminRequest::Shutdown { reason: "a test".into(), author: Author::local("a test") },
            );
        }
        Stop::One => terminate(&mut world, victim),
        Stop::All => (0..3).for_each(|host| terminate(&mut world, host)),
    }
    (world, client)
}

/// Changing operations of a host from when it is asked until it has ended.
fn operations(stop: Stop, victim: HostId) -> u64 {
    let (mut world, _) = begin(stop, victim);
    let before = world.hosts[victim].medium.files.operations();
    assert!(world.run_until(40 * SECOND, |world| world.hosts[victim].process.is_none()), "{stop:?}: it ends");
    assert_eq!(world.hosts[victim].exit.as_ref().map(|exit| exit.0), Some(0));
    world.hosts[victim].medium.files.operations() - before
}

/// Whoever says clean holds, in every group, at least what anybody else holds.
fn clean_is_complete(world: &World, what: &str) {
    let clean: Vec<HostId> = (0..3)
        .filter(|host| {
            let stamp = world.hosts[*host].medium.stamp();
            stamp.is_some_and(|stamp| matches!(stamp.state, StampState::Clean { .. }))
        })
        .collect();
    let all: Vec<_> = (0..3).map(|host| ends(world, host)).collect();
    let end = |host: HostId, group: GroupId| all[host].get(&group).copied().unwrap_or(Position::default());
    for host in clean {
        for group in all.iter().flat_map(|ends| ends.keys()) {
            for other in 0..3 {
                assert!(
                    end(host, *group) >= end(other, *group),
                    "{what}: host {host} is clean at {} of group {group}, host {other} reaches to {}",
                    end(host, *group),
                    end(other, *group)
                );
            }
        }
    }
}

/// Ends one host after so many of its writes, in the middle of the next one if its power is cut.
fn interrupt(world: &mut World, victim: HostId, operation: u64, power: bool) {
    if power {
        world.restarts = false;
        world.hosts[victim].medium.files.cut_power_at(operation);
        world.run_until(40 * SECOND, |world| world.hosts[victim].process.is_none());
        world.restarts = true;
        return;
    }
    let end = world.hosts[victim].medium.files.operations() + operation;
    while world.hosts[victim].process.is_some() && world.hosts[victim].medium.files.operations() < end {
        world.run_for(INSTANT);
    }
    world.end(victim, false);
}

fn at_any_write(stop: Stop, power: bool) {
    for victim in 0..3 {
        let last = operations(stop, victim);
        assert!(last > 5, "{stop:?}: {last} operations of host {victim}");
        for operation in 1..=last {
            let what = format!("{stop:?}, host {victim}, operation {operation} of {last}, power {power}");
            let (mut world, client) = begin(stop, victim);
            interrupt(&mut world, victim, operation, power);
            if stop == Stop::One {
                // The others go on and confirm: what it says of itself must hold then, too.
                world.run_for(SECOND);
            } else {
                // Those that do not end by themselves have nobody left to serve with.
                world.run_until(40 * SECOND, |world| world.hosts.iter().all(|host| host.process.is_none()));
            }
            clean_is_complete(&world, &what);
            world.start_all();
            publish_all(&mut world, client);
            let asked = |event: &Event| matches!(event, Event::Verdict { verdict: "needs-operator", .. });
            assert!(!world.events.iter().any(|(_, _, event)| asked(event)), "{what}: an operator was asked");
            finish(world);
        }
    }
}

#[test]
fn killed_after_any_write_of_a_shutdown_nobody_is_clean_who_is_not_complete() {
    at_any_write(Stop::Everybody, false);
}

#[test]
fn unplugged_in_any_write_of_a_shutdown_nobody_is_clean_who_is_not_complete() {
    at_any_write(Stop::Everybody, true);
}

#[test]
fn killed_after_any_write_of_its_own_stop_a_broker_comes_back_with_everything() {
    at_any_write(Stop::One, false);
}

#[test]
fn unplugged_in_any_write_of_its_own_stop_a_broker_comes_back_with_everything() {
    at_any_write(Stop::One, true);
}

#[test]
fn killed_after_any_write_of_everybodys_stop_one_costs_nothing() {
    at_any_write(Stop::All, false);
}

#[test]
fn unplugged_in_any_write_of_everybodys_stop_one_costs_nothing() {
    at_any_write(Stop::All, true);
}
