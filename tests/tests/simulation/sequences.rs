//! Sequences of events, each of which loses confirmed messages or sticks under a rule that looks right.
//!
//! Others are beside what they are about: founders that crash in `founding`, two removed members with the last entries in
//! `members`, copies in `copies`.

use quorate_core::admin::VerdictWord;
use quorate_core::event::Event;
use quorate_core::formation::status::RecoveryMode;
use quorate_store::ids::GroupId;
use quorate_tests::sim::client::Consumer;
use quorate_tests::sim::ledger::Ledger;
use quorate_tests::sim::mark::ends;
use quorate_tests::sim::schedule::{HostId, MILLI, SECOND};
use quorate_tests::sim::storage::{LogSizes, Medium};
use quorate_tests::sim::world::World;

use crate::marks::mark;
use crate::stage::{
    all_down, consumer, finish, follower, lead, publish_all, publisher, serving, sound, verdict,
};

/// The first virtual host's group.
const VHOST: GroupId = GroupId(1);

fn asked_an_operator(world: &World) -> bool {
    let asks = |event: &Event| matches!(event, Event::Verdict { verdict: "needs-operator", .. });
    world.events.iter().any(|(_, _, event)| asks(event))
}

#[test]
fn a_quorum_of_two_with_one_dead_restarts_one_at_a_time() {
    // In either mode, if each is back before the next one goes.
    for manual in [false, true] {
        let mut world = serving(LogSizes::default());
        world.end(2, true);
        world.away.insert(2);
        for host in &mut world.hosts {
            host.config.recovery = if manual { RecoveryMode::Manual } else { RecoveryMode::Automatic };
        }
        let client = publisher(&mut world, "q", 4000);
        for turn in 0..6 {
            lead(&mut world);
            world.run_for(200 * MILLI);
            let host = turn % 2;
            world.end(host, turn % 3 == 0);
            world.run_for(turn as u64 * 100 * MILLI);
            world.start(host);
            lead(&mut world);
            assert!(world.settle(10 * SECOND), "turn {turn}: {:#?}", world.statuses);
        }
        assert!(!asked_an_operator(&world), "manual {manual}");
        publish_all(&mut world, client);
        world.away.remove(&2);
        world.hosts[2].config.recovery = RecoveryMode::Automatic;
        finish(world);
    }
}

#[test]
fn a_quorum_of_two_with_one_dead_restarts_each_before_the_other_has_taken_part_again() {
    for pause in 0..40 {
        let mut world = serving(LogSizes::default());
        world.end(2, true);
        world.away.insert(2);
        let client = publisher(&mut world, "q", 300);
        world.run_for(200 * MILLI);
        for turn in 0..4 {
            let host = turn % 2;
            world.end(host, turn % 3 == 0);
            world.start(host);
            world.run_for(pause * 4 * MILLI);
        }
        world.statuses.clear();
        let led = world.wait_for_leader(20 * SECOND);
        assert!(led.is_some() && !asked_an_operator(&world), "pause {pause}: {:#?}", world.statuses);
        publish_all(&mut world, client);
        world.away.remove(&2);
        finish(world);
    }
}

#[test]
fn a_store_is_copied_the_copy_acknowledges_and_the_original_returns_with_the_same_incarnation() {
    let mut world = serving(LogSizes::default());
    let copied = follower(&mut world);
    let leader = lead(&mut world);
    let away = 3 - leader - copied;
    world.end(copied, false);
    let original = world.hosts[copied].medium.clone_now();
    world.start(copied);
    lead(&mut world);
    // From here on the copy's acknowledgements count, since the third is away.
    world.end(away, true);
    let client = publisher(&mut world, "q", 500);
    publish_all(&mut world, client);
    world.run_for(6 * SECOND);
    world.end(copied, true);
    world.end(leader, true);
    world.replace_medium(copied, original);
    world.start(copied);
    world.start(leader);
    world.run_for(10 * SECOND);
    assert!(world.leader().is_none(), "the original is no vote: {:#?}", world.statuses);
    world.start(away);
    lead(&mut world);
    finish(world);
}

/// The first host is behind: the other two went on and confirmed without it. All are down.
fn minority_behind() -> World {
    let mut world = serving(LogSizes::default());
    let first = publisher(&mut world, "q", 100);
    publish_all(&mut world, first);
    world.end(0, true);
    let client = publisher(&mut world, "q", 300);
    publish_all(&mut world, client);
    world.run_for(6 * SECOND);
    world.end(1, true);
    world.end(2, true);
    world
}

/// As [`minority_behind`]; the operator, who sees only the first, forces it to go on alone, and it confirms on its own.
/// All are down again.
fn overridden() -> World {
    let mut world = minority_behind();
    mark(&world, 0, true, &[]);
    world.start(0);
    lead(&mut world);
    let client = publisher(&mut world, "alone", 50);
    publish_all(&mut world, client);
    world.end(0, true);
    // Two histories, and each has confirmed what the other lacks.
    world.ledger = Ledger::default();
    world
}

/// Everything that the majority confirmed can be consumed.
fn majority_is_whole(world: &mut World) {
    let reader = consumer(world, "q", Consumer::new(50, 0));
    assert!(
        world.run_until(60 * SECOND, |world| world.clients[reader].consumer().log.len() >= 400),
        "all of it is there"
    );
}

#[test]
fn an_override_on_the_minority_while_the_majority_went_on_then_all_restart_it_last() {
    let mut world = overridden();
    let confirmed_alone = ends(&world, 0)[&VHOST];
    world.start(1);
    world.start(2);
    lead(&mut world);
    world.start(0);
    world.run_for(20 * SECOND);
    // It takes no part in the virtual host, and keeps what it confirmed alone: that is the operator's to decide about.
    assert_ne!(lead(&mut world), 0);
    let of_vhost = |world: &World| {
        let status = world.statuses.get(&0)?;
        status.groups.iter().find(|group| group.vhost == "/").map(|group| (group.role, group.quorum))
    };
    assert!(matches!(of_vhost(&world), Some(("waiting", false))), "{:#?}", world.statuses.get(&0));
    majority_is_whole(&mut world);
    world.end(0, false);
    assert_eq!(ends(&world, 0)[&VHOST], confirmed_alone);
}

#[test]
fn an_override_on_the_minority_while_the_majority_went_on_then_all_restart_it_first() {
    let mut world = overridden();
    world.start(0);
    lead(&mut world);
    world.start(1);
    world.start(2);
    // By the operator's word it goes on. What the others confirmed is not dropped in silence: it is kept, and reported.
    let told = |world: &World, host: HostId| {
        let mut events = world.events.iter().filter(|(_, of, _)| *of == host);
        events.any(|(_, _, event)| matches!(event, Event::Diverged { vhost, .. } if vhost == "/"))
    };
    assert!(
        world.run_until(60 * SECOND, |world| [1, 2].iter().all(|host| told(world, *host))),
        "{:#?}",
        world.statuses
    );
    let kept = |world: &World, host: HostId| !world.hosts[host].medium.images().is_empty();
    assert!(world.run_until(10 * SECOND, |world| [1, 2].iter().all(|host| kept(world, *host))));
}

#[test]
fn a_store_is_marked_while_two_unseen_voters_start_by_themselves() {
    let mut world = minority_behind();
    mark(&world, 0, true, &[]);
    world.start(1);
    world.start(2);
    lead(&mut world);
    world.start(0);
    // Nothing was begun on the mark: it is dropped, and the store is updated.
    assert!(world.settle(60 * SECOND), "{:#?}", world.statuses);
    finish(world);
}

#[test]
fn a_disk_is_lost_and_a_stamp_unreadable_while_the_third_waits() {
    let mut world = all_down(LogSizes::default(), 300);
    let lost = world.hosts[0].medium.clone_now();
    let stamp = world.hosts[1].medium.stamp_content();
    world.replace_medium(0, Medium::new());
    world.hosts[1].medium.spoil_stamp();
    let before: Vec<_> = (0..3).map(|host| world.hosts[host].medium.fingerprint()).collect();
    world.start(2);
    world.run_for(2 * SECOND);
    world.start(0);
    world.start(1);
    world.run_for(20 * SECOND);
    assert_eq!(world.leader(), None, "{:#?}", world.statuses);
    assert_eq!(verdict(&world, 1), Some((VerdictWord::NeedsOperator, "R2".to_owned())));
    let third = verdict(&world, 2).map(|shown| shown.0);
    assert!(matches!(third, Some(VerdictWord::Waiting | VerdictWord::NeedsOperator)), "{third:?}");
    for host in [1, 2] {
        assert!(world.hosts[host].medium.fingerprint() == before[host], "host {host}");
    }
    for host in 0..3 {
        world.end(host, false);
    }
    // Whichever of the two turns up again makes it a majority.
    world.hosts[1].medium.replace_stamp(&stamp);
    world.away.insert(0);
    world.start(1);
    world.start(2);
    lead(&mut world);
    world.away.remove(&0);
    world.replace_medium(0, lost);
    finish(world);
}

/// All volumes but one are not mounted: their brokers find empty directories.
fn unmounted(cluster_id: bool, first: &[HostId]) {
    let mut world = all_down(LogSizes::default(), 300);
    let id = world.hosts[0].medium.stamp().and_then(|stamp| stamp.cluster_id);
    let volumes = [0, 1].map(|host| world.hosts[host].medium.clone_now());
    let before = world.hosts[2].medium.fingerprint();
    for host in 0..2 {
        world.replace_medium(host, Medium::new());
    }
    if cluster_id {
        for host in &mut world.hosts {
            host.config.cluster_id = id;
        }
    }
    for host in first.iter().copied().chain(0..3) {
        world.start(host);
        world.run_for(5 * SECOND);
    }
    world.run_for(10 * SECOND);
    assert_eq!(world.leader(), None, "nothing is founded, nothing restored: {:#?}", world.statuses);
    assert!(world.hosts[2].medium.fingerprint() == before);
    for host in 0..3 {
        world.end(host, false);
    }
    // The volumes are mounted again.
    for (host, volume) in volumes.into_iter().enumerate() {
        assert!(world.hosts[host].medium.stamp().is_none(), "host {host} belongs to nothing");
        world.replace_medium(host, volume);
    }
    world.start_all();
    lead(&mut world);
    sound(&world);
    finish(world);
}

#[test]
fn all_volumes_are_unmounted_but_one_and_that_one_is_there_first() {
    unmounted(false, &[2]);
}

#[test]
fn all_volumes_are_unmounted_but_one_and_that_one_is_there_last() {
    // Those with empty directories were told the cluster's id, as `cluster status` recommends.
    unmounted(true, &[0, 1]);
}
