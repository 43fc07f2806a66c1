//! Stores that cannot be trusted.

use quorate_core::admin::VerdictWord;
use quorate_tests::sim::schedule::SECOND;
use quorate_tests::sim::storage::LogSizes;

use crate::stage::{follower, lead, publish_all, publisher, serving, sound, verdict};

#[test]
fn a_broker_with_a_damaged_stamp_is_held_and_writes_nothing() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 300);
    let held = follower(&mut world);
    world.end(held, false);
    world.hosts[held].medium.spoil_stamp();
    let before = world.hosts[held].medium.fingerprint();
    world.start(held);
    world.run_for(5 * SECOND);
    let (verdict, row) = verdict(&world, held).expect("a held broker answers");
    assert_eq!((verdict, row.as_str()), (VerdictWord::NeedsOperator, "R2"));
    assert!(world.hosts[held].medium.fingerprint() == before, "no file of a held broker changes");
    lead(&mut world);
    publish_all(&mut world, client);
    sound(&world);
}
