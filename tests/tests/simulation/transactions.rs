//! Transactions: all of one, or nothing of it, through everything that may befall a leader.

use quorate_tests::sim::client::{Client, Consumer, Work};
use quorate_tests::sim::dice::Dice;
use quorate_tests::sim::fault::{Fault, Target};
use quorate_tests::sim::schedule::{ClientId, MILLI, SECOND};
use quorate_tests::sim::storage::LogSizes;
use quorate_tests::sim::transactor::Transactor;
use quorate_tests::sim::world::World;

use crate::stage::{SEED, TINY, consumer, finish, lead, publish_all, publisher, serving};

/// Takes from `q`, and publishes so many messages to `a` and `b`.
fn transactor(world: &mut World, count: u64) -> ClientId {
    for queue in ["a", "b"] {
        let mut watcher = Consumer::new(1, 0);
        watcher.holds = true;
        let id = consumer(world, queue, watcher);
        let opens = |world: &mut World| world.clients[id].stage == quorate_tests::sim::client::Stage::Open;
        assert!(world.run_until(5 * SECOND, opens), "the queue {queue} is declared");
        world.clients[id].consumer().holds = false;
    }
    let mut dice = Dice::new(SEED, "transactor");
    let mut transactor = Transactor::new(2000, &["a".to_owned(), "b".to_owned()], count, &mut dice);
    transactor.rate = 100;
    transactor.impossible = 0;
    let hosts = world.hosts.len();
    world.add_client(Client::new("q", Work::Transactor(transactor), hosts, dice))
}

fn finish_transactions(world: &mut World, id: ClientId) -> [u64; 4] {
    let done = world.run_until(60 * SECOND, |world| world.clients[id].transactor().is_done());
    assert!(done, "all are settled within 60 s: {}", world.clients[id]);
    world.clients[id].transactor().told
}

#[test]
fn what_is_taken_and_what_is_published_go_together() {
    let mut world = serving(LogSizes::default());
    let source = publisher(&mut world, "q", 500);
    let id = transactor(&mut world, 1000);
    publish_all(&mut world, source);
    let [committed, duplicates, refused, rolled_back] = finish_transactions(&mut world, id);
    assert!(committed > 100, "{committed}");
    assert_eq!((duplicates, refused, rolled_back), (0, 0, 0));
    finish(world);
}

#[test]
fn one_that_cannot_be_done_leaves_everything_as_it_was() {
    let mut world = serving(LogSizes::default());
    let source = publisher(&mut world, "q", 500);
    let id = transactor(&mut world, 1000);
    world.clients[id].transactor().impossible = 50;
    publish_all(&mut world, source);
    let [committed, _, refused, _] = finish_transactions(&mut world, id);
    assert!(committed > 50 && refused > 50, "{committed} and {refused}");
    finish(world);
}

#[test]
fn a_fail_over_leaves_no_half_and_no_second_one() {
    let mut world = serving(TINY);
    let source = publisher(&mut world, "q", 8000);
    let id = transactor(&mut world, 16_000);
    for round in 0..40 {
        // At another moment of a commit each time.
        world.run_for(150 * MILLI + round * 9_700);
        let leader = lead(&mut world);
        world.apply(&Fault::Kill(Target::Host(leader), 200 * MILLI));
        world.run_for(SECOND);
    }
    publish_all(&mut world, source);
    let [committed, duplicates, _, rolled_back] = finish_transactions(&mut world, id);
    assert!(committed > 200, "{committed}");
    assert!(
        duplicates > 0,
        "some were committed before the fail-over that hid it: {committed} {duplicates} {rolled_back}"
    );
    assert!(rolled_back > 0, "some were under way and are rolled back");
    finish(world);
}

#[test]
fn connections_that_break_leave_no_half_and_no_second_one() {
    let mut world = serving(LogSizes::default());
    let source = publisher(&mut world, "q", 2000);
    let id = transactor(&mut world, 4000);
    for _ in 0..40 {
        world.run_for(50 * MILLI);
        world.cut_clients();
    }
    publish_all(&mut world, source);
    let told = finish_transactions(&mut world, id);
    assert!(told[1] > 0, "recognised when asked for: {told:?}");
    finish(world);
}

#[test]
fn none_is_committed_without_a_majority() {
    let mut world = serving(LogSizes::default());
    let id = transactor(&mut world, 100_000);
    let leader = lead(&mut world);
    world.clients[id].only = Some(leader);
    world.run_for(SECOND);
    world.apply(&Fault::Isolate(Target::Host(leader), 20 * SECOND));
    world.run_for(50 * MILLI);
    let before = world.clients[id].transactor().told;
    assert!(before[0] > 0);
    world.run_for(8 * SECOND);
    assert_eq!(world.clients[id].transactor().told, before);
    world.clients[id].only = None;
    world.clients[id].transactor().stop();
    world.heal_all();
    let settled = world.run_until(60 * SECOND, |world| world.clients[id].transactor().is_settled());
    assert!(settled, "{}", world.clients[id]);
    finish(world);
}
