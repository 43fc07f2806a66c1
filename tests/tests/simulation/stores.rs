//! Stores that cannot be trusted.

use quorate_core::admin::{AdminRequest, Author, MemberAct, MemberRequest, VerdictWord};
use quorate_tests::sim::schedule::{MILLI, SECOND};
use quorate_tests::sim::storage::LogSizes;
use quorate_tests::sim::world::World;

use crate::stage::{
    TINY, follower, lead, publish_all, publish_and_finish, publisher, serving, sound, system_leader, verdict,
};

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

#[test]
fn a_damaged_store_is_set_aside_and_filled_anew_once_an_operator_replaced_it() {
    let mut world = serving(TINY);
    let client = publisher(&mut world, "q", 3000);
    world.run_for(500 * MILLI);
    let held = follower(&mut world);
    let name = world.hosts[held].name.clone();
    world.end(held, false);
    world.hosts[held].medium.spoil_stamp();
    world.start(held);
    world.run_for(5 * SECOND);
    let (_, row) = verdict(&world, held).expect("a held broker answers");
    assert_eq!(row, "R2", "before the operator's word it stays as it is");
    let leader = system_leader(&mut world);
    let request = MemberRequest {
        act: MemberAct::Replace,
        name,
        address: None,
        store: None,
        within_millis: 20_000,
        reason: String::new(),
        author: Author::local("a test"),
    };
    world.ask(leader, AdminRequest::Member(request));
    let votes = |world: &World| {
        let status = world.statuses.get(&held)?;
        Some(
            status.verdict == VerdictWord::Active
                && status.groups.iter().all(|group| group.role == "replica"),
        )
    };
    let filled = world.run_until(60 * SECOND, |world| votes(world) == Some(true));
    assert!(filled, "{:#?}", world.statuses.get(&held));
    let images = world.hosts[held].medium.images();
    assert_eq!(images, ["000001-damage"]);
    publish_and_finish(world, client);
}
