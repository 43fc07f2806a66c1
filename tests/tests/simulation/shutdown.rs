//! The administrative shutdown: everybody clean or nobody called so, whatever happens meanwhile.

use quorate_core::admin::{AdminReply, AdminRequest, Author, ShutdownReport};
use quorate_store::stamp::StampState;
use quorate_tests::sim::fault::{Fault, Target};
use quorate_tests::sim::schedule::{HostId, MILLI, SECOND};
use quorate_tests::sim::storage::LogSizes;
use quorate_tests::sim::world::World;

use crate::stage::{
    TINY, finish, follower, lead, publish_all, publish_and_finish, publisher, serving, snapshots, sound,
    system_leader, verdict,
};

fn ask(world: &mut World, host: HostId) -> u64 {
    world.ask(host, AdminRequest::Shutdown { reason: "a test".into(), author: Author::local("a test") })
}

fn gone(world: &World) -> bool {
    world.hosts.iter().all(|host| host.process.is_none())
}

fn reply(world: &mut World, id: u64) -> AdminReply {
    assert!(
        world.run_until(40 * SECOND, |world| world.replies.contains_key(&id)),
        "the operator is answered"
    );
    world.replies.remove(&id).expect("just seen")
}

fn report(world: &mut World, id: u64) -> ShutdownReport {
    match reply(world, id) {
        AdminReply::ShutDown(report) => *report,
        other => panic!("no report: {other:?}"),
    }
}

fn shut_down(world: &mut World) -> ShutdownReport {
    let leader = system_leader(world);
    let id = ask(world, leader);
    let report = report(world, id);
    assert!(world.run_until(SECOND, |world| gone(world)), "all have ended");
    report
}

fn stamp_state(world: &World, host: HostId) -> StampState {
    world.hosts[host].medium.stamp().expect("a readable stamp").state
}

#[test]
fn all_members_become_clean_by_one_shutdown_and_restart_in_any_order() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut world = serving(TINY);
        let client = publisher(&mut world, "q", 2000);
        world.run_for(SECOND);
        let report = shut_down(&mut world);
        assert!(report.members.iter().all(|member| member.why_not_clean.is_none()), "{report:?}");
        assert_eq!(report.members.len(), 3);
        for host in 0..3 {
            assert_eq!(stamp_state(&world, host), StampState::Clean { shutdown: report.id });
            assert_eq!(world.hosts[host].exit.as_ref().map(|exit| exit.0), Some(0));
        }
        let before: Vec<_> = (0..3).map(|host| world.hosts[host].medium.fingerprint()).collect();
        world.start(order[0]);
        world.run_for(2 * SECOND);
        let (_, row) = verdict(&world, order[0]).expect("it answers while it waits");
        assert_eq!(row, "W1", "one of three waits for a second one");
        assert_eq!(world.hosts[order[0]].medium.fingerprint(), before[order[0]], "and changes no file");
        world.start(order[1]);
        world.run_for(200 * MILLI);
        world.start(order[2]);
        publish_all(&mut world, client);
        assert_eq!((0..3).map(|host| snapshots(&world, host)).sum::<usize>(), 0, "no data is transferred");
        finish(world);
    }
}

#[test]
fn a_member_that_hears_of_the_shutdown_last_is_told_again_who_is_complete() {
    for late in (20..=600).step_by(20) {
        let mut world = serving(LogSizes::default());
        let leader = system_leader(&mut world);
        let last = (0..3).find(|host| *host != leader).expect("a follower");
        for from in (0..3).filter(|host| *host != last) {
            world.apply(&Fault::OneWay(Target::Host(from), last, late * MILLI));
        }
        let id = ask(&mut world, leader);
        let asked = world.now();
        let report = report(&mut world, id);
        assert!(report.members.iter().all(|member| member.why_not_clean.is_none()), "{late} ms: {report:?}");
        let took = world.now().saturating_sub(asked);
        assert!(took < (late + 2000) * MILLI, "{late} ms late, and it took {} ms", took / MILLI);
    }
}

#[test]
fn without_a_quorum_nobody_is_marked_clean() {
    let mut world = serving(LogSizes::default());
    let leader = system_leader(&mut world);
    for host in (0..3).filter(|host| *host != leader) {
        world.end(host, false);
    }
    world.run_for(5 * SECOND);
    let id = ask(&mut world, leader);
    match reply(&mut world, id) {
        AdminReply::Failed { code, .. } => assert_eq!(code, "NO_QUORUM"),
        other => panic!("it was not refused: {other:?}"),
    }
    world.run_for(30 * SECOND);
    assert!(world.hosts[leader].process.is_some(), "it goes on waiting");
    for host in 0..3 {
        assert_eq!(stamp_state(&world, host), StampState::Dirty);
    }
    finish(world);
}

#[test]
fn a_member_that_missed_the_shutdown_is_updated_and_does_not_shut_down_by_the_old_entry() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 3000);
    world.run_for(500 * MILLI);
    let absent = follower(&mut world);
    world.end(absent, true);
    world.run_for(500 * MILLI);
    let report = shut_down(&mut world);
    let missed: Vec<_> = report.members.iter().filter(|member| member.why_not_clean.is_some()).collect();
    assert_eq!(missed.len(), 1, "{report:?}");
    assert_eq!(stamp_state(&world, absent), StampState::Dirty);
    world.start_all();
    publish_all(&mut world, client);
    world.run_for(20 * SECOND);
    assert!(world.hosts.iter().all(|host| host.process.is_some()), "nobody ends by an old entry");
    finish(world);
}

/// Kills one process, or cuts its power, at many moments of a shutdown. Whoever says that it is clean holds everything.
fn interrupted(leader_dies: bool, power: bool) {
    for step in 0..40 {
        let mut world = serving(LogSizes::default());
        let client = publisher(&mut world, "q", 500);
        world.run_for(300 * MILLI);
        let leader = system_leader(&mut world);
        let victim = if leader_dies { leader } else { (leader + 1) % 3 };
        ask(&mut world, leader);
        world.run_for(step * MILLI / 2);
        world.end(victim, power);
        world.run_until(60 * SECOND, |world| gone(world));
        let clean =
            |world: &World, host: HostId| matches!(stamp_state(world, host), StampState::Clean { .. });
        let all_clean = (0..3).filter(|host| clean(&world, *host)).count();
        let running = world.hosts.iter().filter(|host| host.process.is_some()).count();
        assert!(
            running == 0 || all_clean == 0,
            "step {step}: {all_clean} clean beside {running} that run on"
        );
        world.start_all();
        publish_and_finish(world, client);
    }
}

#[test]
fn a_follower_killed_at_any_step_of_a_shutdown_costs_nothing() {
    interrupted(false, false);
}

#[test]
fn a_follower_that_loses_power_at_any_step_of_a_shutdown_costs_nothing() {
    interrupted(false, true);
}

#[test]
fn a_leader_killed_at_any_step_of_a_shutdown_costs_nothing() {
    interrupted(true, false);
}

#[test]
fn a_leader_that_loses_power_at_any_step_of_a_shutdown_costs_nothing() {
    interrupted(true, true);
}

#[test]
fn a_clean_store_that_ran_alone_later_is_not_taken_for_equal() {
    // After a clean stop one member goes on with a second one; the third, still clean, is stale.
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 4000);
    world.run_for(300 * MILLI);
    let report = shut_down(&mut world);
    world.start(0);
    world.start(1);
    publish_all(&mut world, client);
    world.end(0, true);
    world.end(1, true);
    assert_eq!(stamp_state(&world, 2), StampState::Clean { shutdown: report.id });
    assert_eq!(stamp_state(&world, 0), StampState::Dirty);
    world.start(2);
    world.start(0);
    lead(&mut world);
    finish(world);
}

#[test]
fn a_stamp_that_fell_back_to_an_older_clean_one_is_dirty() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 600);
    world.run_for(300 * MILLI);
    shut_down(&mut world);
    let older = world.hosts[0].medium.stamp_content();
    world.start_all();
    publish_all(&mut world, client);
    for host in 0..3 {
        world.end(host, false);
    }
    // Both newer slots rotted away, and what is left says clean.
    world.hosts[0].medium.replace_stamp(&older);
    world.start(0);
    world.run_for(2 * SECOND);
    let state =
        world.statuses[&0].members.iter().find(|member| member.name == "b1").map(|member| member.state);
    assert_eq!(state, Some("dirty"));
    sound(&world);
    finish(world);
}
