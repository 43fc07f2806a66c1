//! What publishers and consumers see.

use quorate_core::io::Input;
use quorate_protocol::fault::FaultCode;
use quorate_tests::sim::client::Consumer;
use quorate_tests::sim::schedule::{MILLI, SECOND};
use quorate_tests::sim::storage::LogSizes;

use crate::stage::{consumer, finish, lead, publish_all, publisher, serving, sound};

#[test]
fn a_publish_to_a_missing_queue_is_refused_for_good() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "nowhere", 10);
    world.clients[client].declares = false;
    publish_all(&mut world, client);
    assert_eq!(world.checker.confirmed, 0);
    let code = world.clients[client].last_refusal;
    assert!(matches!(code, Some(FaultCode::QueueNotFound | FaultCode::Unroutable)), "{code:?}");
    sound(&world);
}

#[test]
fn messages_given_back_come_again_in_their_old_order_and_marked() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 200);
    publish_all(&mut world, client);
    let giver = consumer(&mut world, "q", Consumer::new(10, 50));
    assert!(world.run_until(60 * SECOND, |world| world.clients[giver].consumer().log.len() > 300));
    let log = &world.clients[giver].consumer().log;
    assert!(log.iter().any(|(_, _, redelivered)| *redelivered));
    // A message is given out again before any that was never given out: runs of marked ones are in order.
    let fresh: Vec<u64> =
        log.iter().filter(|(_, _, redelivered)| !redelivered).map(|(seq, ..)| *seq).collect();
    assert!(fresh.is_sorted(), "{fresh:?}");
    finish(world);
}

#[test]
fn publishing_waits_while_the_disk_is_nearly_full() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 5000);
    let drainer = consumer(&mut world, "q", Consumer::new(50, 0));
    world.run_for(SECOND);
    let leader = lead(&mut world);
    world.input(leader, Input::Space { low: true });
    world.run_for(200 * MILLI);
    assert!(world.clients[client].blocked);
    assert_eq!(world.clients[client].last_refusal, Some(FaultCode::DiskLow));
    let confirmed = world.checker.confirmed;
    assert!(confirmed > 0);
    world.run_for(3 * SECOND);
    assert_eq!(world.checker.confirmed, confirmed, "nothing is accepted meanwhile");
    let held = world.clients[drainer].consumer().held.len();
    assert_eq!((world.checker.settled, held), (confirmed, 0), "consuming goes on");
    world.input(leader, Input::Space { low: false });
    publish_all(&mut world, client);
    assert_eq!(world.checker.confirmed, 5000);
    finish(world);
}
