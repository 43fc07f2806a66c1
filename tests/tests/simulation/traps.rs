//! What the implementation before got wrong, one scene each.

use quorate_core::admin::{AdminRequest, Author, VerdictWord};
use quorate_store::files::Files;
use quorate_store::identity::create_store_id;
use quorate_store::ids::StoreId;
use quorate_store::stamp::StampState;
use quorate_tests::sim::client::Consumer;
use quorate_tests::sim::ledger::Ledger;
use quorate_tests::sim::schedule::{ClientId, HostId, MILLI, SECOND};
use quorate_tests::sim::storage::{LogSizes, Medium, STORE_DIRECTORY};
use quorate_tests::sim::world::World;
use std::path::Path;
use uuid::Uuid;

use crate::stage::{
    SEED, TINY, consumer, finish, follower, hosts, lead, publish_all, publish_and_finish, publisher, serving,
    sound, system_leader, verdict,
};

fn state(world: &World, host: HostId) -> StampState {
    world.hosts[host].medium.stamp().expect("a readable stamp").state
}

fn is_clean(world: &World, host: HostId) -> bool {
    matches!(state(world, host), StampState::Clean { .. })
}

/// Shuts the whole cluster down; those that were members and here are clean.
fn shut_down(world: &mut World) {
    let leader = system_leader(world);
    world.ask(leader, AdminRequest::Shutdown { reason: "a test".into(), author: Author::local("a test") });
    let gone = |world: &World| world.hosts.iter().all(|host| host.process.is_none());
    assert!(world.run_until(40 * SECOND, |world| gone(world)), "all have ended");
}

/// Three clean stores, of which the last one sleeps while the others go on and confirm more.
fn one_stays_behind(sizes: LogSizes, count: u64) -> (World, ClientId) {
    let mut world = serving(sizes);
    let client = publisher(&mut world, "q", count);
    world.run_for(200 * MILLI);
    shut_down(&mut world);
    assert!((0..3).all(|host| is_clean(&world, host)));
    world.start(0);
    world.start(1);
    lead(&mut world);
    (world, client)
}

#[test]
fn a_stale_clean_store_never_wins_over_a_later_dirty_one() {
    for (later, power) in [(0, false), (1, false), (0, true), (1, true)] {
        let (mut world, client) = one_stays_behind(LogSizes::default(), 800);
        publish_all(&mut world, client);
        world.end(0, power);
        world.end(1, power);
        assert!(is_clean(&world, 2) && !is_clean(&world, later));
        world.start(2);
        world.run_for(SECOND);
        world.start(later);
        assert_eq!(lead(&mut world), later, "it leads, since it has everything");
        finish(world);
    }
}

#[test]
fn running_on_after_a_clean_stop_a_store_is_not_equal_to_the_others() {
    let (world, client) = one_stays_behind(LogSizes::default(), 800);
    // Before anything is confirmed, the stamps no longer say what the sleeping one says.
    assert!(!is_clean(&world, 0) && !is_clean(&world, 1) && is_clean(&world, 2));
    publish_and_finish(world, client);
}

#[test]
fn the_cluster_id_never_comes_from_the_lowest_member_if_that_is_empty() {
    for lowest in [true, false] {
        let mut world = serving(LogSizes::default());
        let client = publisher(&mut world, "q", 100);
        publish_all(&mut world, client);
        let cluster = world.hosts[0].medium.stamp().and_then(|stamp| stamp.cluster_id);
        shut_down(&mut world);
        let config = world.hosts[0].config.clone();
        let empty = world.add_host(SEED, config);
        let files = &world.hosts[empty].medium.files;
        let id = StoreId(Uuid::from_u128(if lowest { 1 } else { u128::MAX - 1 }));
        for directory in ["/data", STORE_DIRECTORY] {
            files.create_dir(Path::new(directory)).expect("the disk is sound");
        }
        create_store_id(files, Path::new(STORE_DIRECTORY), id).expect("the disk is sound");
        world.start(empty);
        world.run_for(SECOND);
        world.start(0);
        world.start(1);
        lead(&mut world);
        world.start(2);
        assert!(world.settle(30 * SECOND), "{:#?}", world.statuses);
        for host in 0..4 {
            assert_eq!(world.hosts[host].medium.stamp().and_then(|stamp| stamp.cluster_id), cluster);
        }
        assert_eq!(world.hosts[empty].medium.stamp().map(|stamp| stamp.store_id), Some(id));
        finish(world);
    }
}

#[test]
fn a_store_is_not_moved_aside_before_there_is_a_source() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 500);
    world.run_for(200 * MILLI);
    let stale = follower(&mut world);
    let leader = lead(&mut world);
    let away = 3 - leader - stale;
    let older = world.hosts[stale].medium.clone_now();
    publish_all(&mut world, client);
    // The leader's stamp says what the others acknowledged.
    world.run_for(6 * SECOND);
    for host in 0..3 {
        world.end(host, true);
    }
    world.replace_medium(stale, older);
    let before = [stale, leader].map(|host| world.hosts[host].medium.fingerprint());
    world.start(stale);
    world.start(leader);
    world.run_for(20 * SECOND);
    assert_eq!(world.leader(), None, "one of three is no majority");
    for (host, before) in [stale, leader].into_iter().zip(before) {
        assert!(world.hosts[host].medium.fingerprint() == before, "host {host} keeps every byte where it is");
    }
    world.start(away);
    lead(&mut world);
    let kept = |world: &World| {
        let files = world.hosts[stale].medium.files.everything();
        files.keys().any(|path| path.to_string_lossy().contains("/quarantine/"))
    };
    assert!(world.run_until(60 * SECOND, |world| kept(world)), "now it is kept aside");
    finish(world);
}

#[test]
fn a_shutdown_never_marks_a_member_clean_that_is_not_complete() {
    let mut world = hosts(2, TINY);
    for host in &mut world.hosts {
        host.config.update_rate = 64 << 10;
    }
    world.start(0);
    world.start(1);
    lead(&mut world);
    let client = publisher(&mut world, "q", 2000);
    world.clients[client].publisher().filler = 2000;
    publish_all(&mut world, client);
    world.start(2);
    // It knows the cluster, and is far from having its messages.
    let updating = |world: &World| {
        let group = |vhost: &str| {
            let status = world.statuses.get(&2)?;
            status.groups.iter().find(|group| group.vhost == vhost)
        };
        let begun = group("/").is_some_and(|group| group.updating.is_some());
        begun && group("system").is_some_and(|group| group.updating.is_none() && group.role == "replica")
    };
    assert!(world.run_until(30 * SECOND, |world| updating(world)), "{:#?}", world.statuses);
    let leader = system_leader(&mut world);
    world.ask(leader, AdminRequest::Shutdown { reason: "a test".into(), author: Author::local("a test") });
    let ended = |world: &World| (0..2).all(|host| world.hosts[host].process.is_none());
    assert!(world.run_until(40 * SECOND, |world| ended(world)));
    world.run_until(40 * SECOND, |world| world.hosts[2].process.is_none());
    world.end(2, false);
    assert!(is_clean(&world, 0) && is_clean(&world, 1) && !is_clean(&world, 2));
    for host in &mut world.hosts {
        host.config.update_rate = 0;
    }
    world.start(2);
    world.start(0);
    world.start(1);
    lead(&mut world);
    finish(world);
}

#[test]
fn a_half_updated_store_is_never_a_source() {
    for step in 0..24 {
        let (mut world, client) = one_stays_behind(TINY, 3000);
        publish_all(&mut world, client);
        world.start(2);
        let begins = |world: &World| {
            let mut events = world.events.iter().filter(|(_, host, _)| *host == 2);
            events.any(|(_, _, event)| event.text().contains("receiving a snapshot"))
        };
        while !begins(&world) {
            assert!(world.now() < 60 * SECOND, "it is updated");
            world.run_for(MILLI);
        }
        world.run_for(step * MILLI / 4);
        world.end(2, step % 2 == 0);
        assert!(!is_clean(&world, 2), "step {step}");
        let other = HostId::from(step % 3 == 0);
        world.end(0, true);
        world.end(1, true);
        world.start(2);
        world.run_for(SECOND);
        world.start(other);
        // It may lead, once it has everything; what matters is that nothing is missing.
        lead(&mut world);
        finish(world);
    }
}

/// The disk of one of three brokers of a cluster that was founded elsewhere.
fn foreign() -> Medium {
    let config = quorate_tests::sim::plan::cluster(3, LogSizes::default());
    let mut world = World::new(SEED + 1, config, false);
    world.start_all();
    lead(&mut world);
    let client = publisher(&mut world, "theirs", 20);
    publish_all(&mut world, client);
    world.end(0, false);
    world.hosts[0].medium.clone_now()
}

#[test]
fn one_wrong_directory_never_stops_good_brokers_and_its_refusal_has_a_status_and_changes_no_byte() {
    for order in [[0, 1, 2], [2, 0, 1], [0, 2, 1]] {
        let mut world = serving(LogSizes::default());
        let client = publisher(&mut world, "q", 300);
        publish_all(&mut world, client);
        for host in 0..3 {
            world.end(host, true);
        }
        let own = world.hosts[2].medium.clone_now();
        world.replace_medium(2, foreign());
        // The two clusters' histories have nothing to do with each other.
        world.ledger = Ledger::default();
        let before = world.hosts[2].medium.fingerprint();
        world.restarts = false;
        for host in order {
            world.start(host);
            world.run_for(20 * MILLI);
        }
        world.statuses.clear();
        let leader = world.wait_for_leader(10 * SECOND).expect("the good ones serve");
        assert_ne!(leader, 2, "{order:?}");
        world.run_until(20 * SECOND, |world| world.hosts[2].process.is_none());
        let exit = world.hosts[2].exit.clone();
        assert_eq!(exit.as_ref().map(|exit| exit.0), Some(3), "{order:?}: {exit:?} {:?}", verdict(&world, 2));
        assert!(world.hosts[2].medium.fingerprint() == before, "{order:?}: no byte has changed");
        let active = |world: &World| {
            (0..2).all(|host| verdict(world, host).map(|shown| shown.0) == Some(VerdictWord::Active))
        };
        assert!(world.run_until(5 * SECOND, |world| active(world)), "{order:?}");
        // With its own disk the third is one of them again.
        world.restarts = true;
        world.ledger = Ledger::default();
        world.replace_medium(2, own);
        world.start(2);
        assert!(world.settle(30 * SECOND), "{order:?}: {:#?}", world.statuses);
        let reader = consumer(&mut world, "q", Consumer::new(50, 0));
        assert!(world.run_until(60 * SECOND, |world| world.clients[reader].consumer().log.len() >= 300));
    }
}

#[test]
fn a_broker_that_waits_ends_with_no_status_and_changes_no_byte() {
    let mut world = serving(LogSizes::default());
    for host in 0..3 {
        world.end(host, true);
    }
    let before = world.hosts[1].medium.fingerprint();
    world.start(1);
    world.run_for(60 * SECOND);
    assert!(world.hosts[1].process.is_some() && world.hosts[1].exit.is_none());
    assert_eq!(verdict(&world, 1).map(|shown| shown.0), Some(VerdictWord::Waiting));
    assert!(world.hosts[1].medium.fingerprint() == before);
    sound(&world);
    finish(world);
}
