//! Everybody stops and starts again, in whatever order: the same content, and never an operator.

use quorate_core::admin::{AdminRequest, Author};
use quorate_core::event::Event;
use quorate_tests::sim::dice::Dice;
use quorate_tests::sim::fault::{Fault, Target};
use quorate_tests::sim::plan::cluster;
use quorate_tests::sim::schedule::{HostId, MILLI, SECOND};
use quorate_tests::sim::storage::LogSizes;
use quorate_tests::sim::world::World;

use crate::stage::{SEED, finish, lead, publish_all, publisher, system_leader};

/// Every order of three.
const ORDERS: [[HostId; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// How a cluster comes to stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `quorate cluster shutdown`.
    ShutDown,
    /// SIGTERM, one after the other.
    Terminated,
    /// SIGTERM, to all at once.
    TerminatedAtOnce,
    /// kill -9, one after the other.
    Killed,
    /// Power, one after the other.
    Unplugged,
}

const WAYS: [Way; 5] = [Way::ShutDown, Way::Terminated, Way::TerminatedAtOnce, Way::Killed, Way::Unplugged];

/// Far beyond the end of every scene.
const NEVER: u64 = 3600 * SECOND;

fn running(size: usize) -> World {
    let mut world = World::new(SEED, cluster(size, LogSizes::default()), false);
    world.start_all();
    assert!(world.settle(10 * SECOND), "{size} hosts form within 10 s");
    world
}

fn wait_ended(world: &mut World, host: HostId) {
    assert!(
        world.run_until(20 * SECOND, |world| world.hosts[host].process.is_none()),
        "host {host} ends when it is asked to"
    );
}

fn asked_to_stop(world: &mut World, host: HostId) {
    world.apply(&Fault::Stop(Target::Host(host), NEVER));
}

/// Stops all, with some time in which the others go on between two.
fn stop(world: &mut World, way: Way, order: &[HostId]) {
    match way {
        Way::ShutDown => {
            let leader = system_leader(world);
            world.ask(
                leader,
                AdminRequest::Shutdown { reason: "a test".into(), author: Author::local("a test") },
            );
            for host in order {
                wait_ended(world, *host);
            }
        }
        Way::TerminatedAtOnce => {
            for host in order {
                asked_to_stop(world, *host);
            }
            for host in order {
                wait_ended(world, *host);
            }
        }
        Way::Terminated => {
            for host in order {
                asked_to_stop(world, *host);
                wait_ended(world, *host);
                world.run_for(150 * MILLI);
            }
        }
        Way::Killed | Way::Unplugged => {
            for host in order {
                world.end(*host, way == Way::Unplugged);
                world.run_for(150 * MILLI);
            }
        }
    }
}

fn asked_an_operator(world: &World) -> bool {
    world.events.iter().any(|(_, _, event)| matches!(event, Event::Verdict { verdict: "needs-operator", .. }))
}

/// Stops and starts in these orders; as soon as a majority is there, it serves.
fn round(way: Way, stopping: &[HostId], starting: &[HostId], pause: u64) {
    let what = format!("{way:?}, stopped {stopping:?}, started {starting:?}");
    let mut world = running(stopping.len());
    let client = publisher(&mut world, "q", 700);
    world.run_for(400 * MILLI);
    stop(&mut world, way, stopping);
    let majority = starting.len() / 2 + 1;
    for (place, host) in starting.iter().enumerate() {
        world.start(*host);
        if place + 1 == majority {
            world.statuses.clear();
            assert!(world.wait_for_leader(10 * SECOND).is_some(), "{what}: {:#?}", world.statuses);
        }
        world.run_for(pause);
    }
    assert!(!asked_an_operator(&world), "{what}: an operator was asked");
    publish_all(&mut world, client);
    lead(&mut world);
    finish(world);
}

#[test]
fn three_come_back_unattended_from_every_order_of_stopping_in_every_order_of_starting() {
    for way in WAYS {
        // All at once is one order only.
        let orders = if matches!(way, Way::ShutDown | Way::TerminatedAtOnce) { 1 } else { ORDERS.len() };
        for stopping in ORDERS.into_iter().take(orders) {
            for starting in ORDERS {
                for pause in [0, 300 * MILLI] {
                    round(way, &stopping, &starting, pause);
                }
            }
        }
    }
}

/// Any order of so many.
fn shuffled(size: usize, dice: &mut Dice) -> Vec<HostId> {
    let mut left: Vec<HostId> = (0..size).collect();
    std::iter::from_fn(|| (!left.is_empty()).then(|| left.remove(dice.index(left.len())))).collect()
}

#[test]
fn five_come_back_unattended_from_sampled_orders_of_stopping_and_starting() {
    for sample in 0..60 {
        let mut dice = Dice::new(sample, "orders of five");
        let way = WAYS[dice.index(WAYS.len())];
        let (stopping, starting) = (shuffled(5, &mut dice), shuffled(5, &mut dice));
        let pause = dice.below(400) * MILLI;
        round(way, &stopping, &starting, pause);
    }
}
