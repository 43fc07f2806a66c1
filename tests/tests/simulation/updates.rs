//! Members that missed something get it: from the log, or by snapshot.

use quorate_core::event::Event;
use quorate_tests::sim::client::Consumer;
use quorate_tests::sim::fault::{Fault, Target};
use quorate_tests::sim::schedule::{MILLI, SECOND};
use quorate_tests::sim::storage::LogSizes;
use quorate_tests::sim::world::World;

use crate::stage::{
    TINY, consumer, finish, follower, hosts, lead, publish_all, publisher, serving, snapshots, sound,
};

#[test]
fn a_follower_that_was_away_catches_up_from_the_log() {
    let mut world = serving(LogSizes::default());
    let away = follower(&mut world);
    world.end(away, true);
    let client = publisher(&mut world, "q", 500);
    publish_all(&mut world, client);
    world.start(away);
    assert!(world.settle(10 * SECOND), "{:#?}", world.statuses);
    assert_eq!(snapshots(&world, away), 0);
    finish(world);
}

#[test]
fn a_follower_that_was_away_too_long_is_updated_by_snapshot() {
    let mut world = serving(TINY);
    let away = follower(&mut world);
    world.end(away, true);
    // Nobody consumes: what leaves the log is spilled, and the snapshot carries it.
    let client = publisher(&mut world, "q", 3000);
    publish_all(&mut world, client);
    world.start(away);
    assert!(world.settle(20 * SECOND), "{:#?}", world.statuses);
    assert!(snapshots(&world, away) > 0);
    // It holds everything: the messages are all there when it leads with the others' logs gone.
    finish(world);
}

#[test]
fn an_update_goes_on_where_its_connection_was_cut_and_keeps_to_its_rate() {
    let mut world = hosts(2, TINY);
    for host in &mut world.hosts {
        host.config.update_rate = 1 << 20;
    }
    world.start_all();
    lead(&mut world);
    assert!(world.settle(10 * SECOND));
    let away = follower(&mut world);
    world.end(away, true);
    let client = publisher(&mut world, "q", 3000);
    world.clients[client].publisher().filler = 2000;
    publish_all(&mut world, client);
    world.start(away);
    let told = |world: &World, what: &str| {
        let said = |event: &Event| matches!(event, Event::Update { vhost, progress, .. } if vhost == "/" && progress.contains(what));
        world.events.iter().filter(|(_, host, event)| *host == away && said(event)).count()
    };
    assert!(world.run_until(10 * SECOND, |world| told(world, "receiving") == 1), "an update begins");
    let begun = world.now();
    world.run_for(2 * SECOND);
    world.apply(&Fault::Isolate(Target::Host(away), 4 * SECOND));
    assert!(world.run_until(60 * SECOND, |world| told(world, "installed") == 1), "{:#?}", world.statuses);
    assert_eq!(told(&world, "going on with"), 1, "it goes on");
    assert_eq!(told(&world, "receiving"), 1, "and does not begin anew");
    let bytes = world.events.iter().rev().find_map(|(_, _, event)| match event {
        Event::Update { vhost, progress, .. } if vhost == "/" => {
            progress.split_once("installed, ")?.1.strip_suffix(" bytes")?.parse::<u64>().ok()
        }
        _ => None,
    });
    let bytes = bytes.expect("the size is told");
    assert!(bytes > 2 << 20, "{bytes} bytes are several chunks");
    // At one MiB a second, but for what a chunk may exceed its allowance by; a good part without a connection.
    let took = world.now() - begun;
    assert!(took * 2 > bytes, "{bytes} bytes in {took} µs");
    finish(world);
}

#[test]
fn an_update_survives_the_death_of_either_end() {
    for (number, source_dies) in [false, true, false, true].into_iter().enumerate() {
        let mut world = serving(TINY);
        let away = follower(&mut world);
        world.end(away, true);
        let client = publisher(&mut world, "q", 3000);
        publish_all(&mut world, client);
        world.start(away);
        let begun = world.run_until(10 * SECOND, |world| {
            world
                .events
                .iter()
                .any(|(_, host, event)| *host == away && event.text().contains("receiving a snapshot"))
        });
        assert!(begun, "an update begins");
        world.run_for(number as u64 * 2 * MILLI);
        let leader = lead(&mut world);
        let victim = if source_dies { leader } else { away };
        world.apply(&Fault::Power(Target::Host(victim), 300 * MILLI));
        world.run_for(SECOND);
        assert!(world.settle(30 * SECOND), "{:#?}", world.statuses);
        sound(&world);
        finish(world);
    }
}

#[test]
fn a_log_that_is_consumed_keeps_small() {
    let mut world = serving(TINY);
    let client = publisher(&mut world, "q", 6000);
    consumer(&mut world, "q", Consumer::new(200, 0));
    publish_all(&mut world, client);
    world.run_for(5 * SECOND);
    for status in world.statuses.values() {
        assert!(
            status.log_bytes <= 4 * TINY.log_retain,
            "{} bytes of log on {}",
            status.log_bytes,
            status.name
        );
    }
    finish(world);
}

/// Its source dies while the last of it is being written, and the next leader has the log that it lacks: what is the
/// group's by then is not let go with the update.
#[test]
fn an_update_that_is_whole_outlives_its_source() {
    for step in 0..20 {
        let mut world = serving(TINY);
        let source = lead(&mut world);
        let away = follower(&mut world);
        let other = 3 - source - away;
        for host in [other, away] {
            world.end(host, true);
        }
        world.hosts[other].config.sizes = LogSizes::default();
        world.start(other);
        let client = publisher(&mut world, "q", 1500);
        publish_all(&mut world, client);
        assert_eq!(lead(&mut world), source);
        world.apply(&Fault::SlowDisk(Target::Host(away), 50 + 15 * step, 60 * SECOND));
        world.start(away);
        let receives =
            |event: &Event| event.text().contains("/, b") && event.text().contains("receiving a snapshot");
        let begins =
            |world: &mut World| world.events.iter().any(|(_, host, event)| *host == away && receives(event));
        assert!(world.run_until(20 * SECOND, begins), "an update begins");
        world.run_for(step * 2 * MILLI);
        world.end(source, false);
        let state = |world: &World, host| {
            let group = world.statuses.get(&host)?.groups.iter().find(|group| group.vhost == "/")?;
            (group.updating.is_none() && group.quorum).then_some((group.applied, group.digest))
        };
        let equal =
            |world: &mut World| state(world, away).is_some() && state(world, away) == state(world, other);
        world.statuses.clear();
        assert!(world.run_until(30 * SECOND, equal), "step {step}: {:#?}", world.statuses);
        world.end(away, true);
        world.start(away);
        world.start(source);
        assert!(world.settle(30 * SECOND), "step {step}: {:#?}", world.statuses);
        finish(world);
    }
}
