//! Virtual hosts that were created while the store was away from which an operator has the cluster go on: of no history any
//! more. They are kept by those who have them, and nothing new is taken for them.

use quorate_core::event::Event;
use quorate_store::ids::{GroupId, Position};
use quorate_tests::sim::schedule::{HostId, MILLI, Micros, SECOND};
use quorate_tests::sim::storage::LogSizes;
use quorate_tests::sim::world::World;

use crate::deleting::{INSTANT, NAME, accounts_for_the_rest, ask_for_it, fill, held, told};
use crate::forced::{all_return, go_on};
use crate::marks::mark;
use crate::stage::{lead, publish_all, publisher, serving, sound};

/// The group of the first one that is created after a forced epoch.
const AFTER: GroupId = GroupId(2 + (1 << 16));
/// The host that was away.
const AWAY: HostId = 2;
const OTHERS: [HostId; 2] = [0, 1];

/// Two of three have a virtual host with so many messages of which the third one never heard; all are down.
fn known_to_two(messages: u64) -> World {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 100);
    publish_all(&mut world, client);
    assert!(world.settle(10 * SECOND));
    world.end(AWAY, true);
    lead(&mut world);
    ask_for_it(&mut world);
    let client = fill(&mut world, messages);
    world.clients[client].resting = true;
    for host in OTHERS {
        world.end(host, true);
    }
    world
}

/// What this host told of messages of the virtual host that only it and the other one have.
fn surplus(world: &World, host: HostId) -> Vec<(Position, u64)> {
    let of = world.events.iter().filter(|(_, at, _)| *at == host);
    of.filter_map(|(_, _, event)| match event {
        Event::Diverged { vhost, fork, queues, .. } if vhost == NAME => Some((*fork, queues.values().sum())),
        _ => None,
    })
    .collect()
}

/// Both kept it, said so, and have nothing of it any more.
fn is_kept_aside(world: &World, messages: u64) {
    for host in OTHERS {
        assert_eq!(surplus(world, host), [(Position::default(), messages)], "host {host}");
        assert!(!world.hosts[host].medium.images().is_empty(), "host {host} has an image");
        assert_eq!(told(world, host), 1, "host {host}");
    }
}

fn have(world: &mut World, groups: &[GroupId]) {
    let all = world.run_until(20 * SECOND, |world| (0..3).all(|host| held(world, host) == groups));
    let found: Vec<_> = (0..3).map(|host| held(world, host)).collect();
    assert!(all, "the hosts have {found:?}, not {groups:?}");
}

#[test]
fn what_an_override_does_not_know_is_kept_by_the_others_and_its_number_is_not_given_again() {
    let mut world = known_to_two(50);
    world.start(AWAY);
    world.run_for(3 * SECOND);
    go_on(&mut world, &[AWAY], 600 * SECOND);
    assert_eq!(lead(&mut world), AWAY);
    // The same name, for something else.
    ask_for_it(&mut world);
    fill(&mut world, 5);
    all_return(&mut world, &OTHERS);
    have(&mut world, &[GroupId(0), GroupId(1), AFTER]);
    is_kept_aside(&world, 50);
    sound(&world);
    for host in 0..3 {
        world.end(host, true);
    }
    world.start_all();
    assert!(world.settle(20 * SECOND), "all are equal: {:#?}", world.statuses);
    have(&mut world, &[GroupId(0), GroupId(1), AFTER]);
    accounts_for_the_rest(world);
}

#[test]
fn what_a_marked_store_does_not_know_is_kept_by_the_others() {
    for known in [&OTHERS[..], &[]] {
        let mut world = known_to_two(50);
        mark(&world, AWAY, true, known);
        let ends = quorate_tests::sim::mark::ends(&world, AWAY);
        world.ledger.left_behind(AWAY, &ends, None);
        world.start(AWAY);
        lead(&mut world);
        for host in OTHERS {
            world.start(host);
        }
        assert!(world.settle(60 * SECOND), "all are equal: {:#?}", world.statuses);
        have(&mut world, &[GroupId(0), GroupId(1)]);
        is_kept_aside(&world, 50);
        ask_for_it(&mut world);
        fill(&mut world, 5);
        have(&mut world, &[GroupId(0), GroupId(1), AFTER]);
        accounts_for_the_rest(world);
    }
}

/// One of the others comes back to a cluster that went on without it, and is ended after so long; true if it was rid of the
/// virtual host by then. However it is, all of it is told and kept, and gone in the end.
fn killed_after(step: u64, pace: Micros, begin: impl Fn(&mut World)) -> bool {
    let mut world = known_to_two(50);
    world.start(AWAY);
    world.run_for(3 * SECOND);
    go_on(&mut world, &[AWAY], 600 * SECOND);
    lead(&mut world);
    world.start(0);
    begin(&mut world);
    world.run_for(step * pace);
    let is_over = told(&world, 0) > 0;
    world.end(0, true);
    all_return(&mut world, &OTHERS);
    have(&mut world, &[GroupId(0), GroupId(1)]);
    let told_of = surplus(&world, 0);
    assert!(!told_of.is_empty(), "step {step}: nothing is said of it");
    assert!(told_of.into_iter().all(|one| one == (Position::default(), 50)), "step {step}");
    assert!(!world.hosts[0].medium.images().is_empty(), "step {step}");
    accounts_for_the_rest(world);
    is_over
}

#[test]
fn whoever_is_killed_while_it_keeps_it_aside_keeps_it_and_is_rid_of_it() {
    let until_told = |world: &mut World| {
        let until = world.now() + 60 * SECOND;
        while surplus(world, 0).is_empty() {
            assert!(world.now() < until, "it is told of");
            world.run_for(INSTANT);
        }
    };
    let steps = (0..2000).take_while(|step| !killed_after(*step, INSTANT, until_told)).count();
    assert!((2..2000).contains(&steps), "it was killed in between, and not for ever");
}

#[test]
fn whoever_is_killed_before_it_is_filled_again_keeps_it_and_is_rid_of_it() {
    let steps = (0..2000).take_while(|step| !killed_after(*step, 5 * MILLI, |_| {})).count();
    assert!((20..2000).contains(&steps), "it was killed in between, and not for ever");
}
