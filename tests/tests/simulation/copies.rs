//! Stores that were copied or rolled back: what they no longer hold must not be voted away.

use quorate_core::admin::{Status, VerdictWord};
use quorate_core::event::Event;
use quorate_tests::sim::fault::{Fault, Target};
use quorate_tests::sim::schedule::{HostId, MILLI, SECOND};
use quorate_tests::sim::storage::{LogSizes, Medium};
use quorate_tests::sim::world::World;

use crate::stage::{
    TINY, finish, follower, hosts, lead, publish_all, publisher, serving, sound, system_leader, transfer,
    verdict,
};

fn voters(status: &Status) -> usize {
    status.members.iter().filter(|member| member.voter).count()
}

/// Images in quarantine on a host.
fn images(world: &World, host: HostId) -> usize {
    let files = world.hosts[host].medium.files.everything();
    files
        .keys()
        .filter(|path| path.ends_with("store-id") && path.to_string_lossy().contains("/quarantine/"))
        .count()
}

/// Has this host lead both groups.
fn leads_all(world: &mut World, wanted: HostId) {
    for vhost in [None, Some("/")] {
        transfer(world, vhost, wanted);
    }
    assert_eq!((system_leader(world), lead(world)), (wanted, wanted));
}

fn is_refused(world: &World) -> bool {
    let stale = |event: &Event| match event {
        Event::OlderCopy { .. } => true,
        Event::Verdict { reason, .. } => reason.contains("SAFE-2003"),
        _ => false,
    };
    world.events.iter().any(|(_, _, event)| stale(event))
}

/// All three vote again, and the store that was stale kept what it had.
fn healed(world: &mut World, stale: HostId) {
    let kept = world.run_until(20 * SECOND, |world| images(world, stale) > 0);
    assert!(kept, "what it held is in quarantine");
    let all_vote = |world: &World| {
        (0..3).all(|host| world.statuses.get(&host).is_some_and(|status| voters(status) == 3))
    };
    assert!(world.run_until(60 * SECOND, |world| all_vote(world)), "all vote again: {:#?}", world.statuses);
}

#[test]
fn a_store_that_was_rolled_back_is_filled_again_before_it_votes() {
    for sizes in [LogSizes::default(), TINY] {
        let mut world = serving(sizes);
        let client = publisher(&mut world, "q", 2000);
        world.run_for(500 * MILLI);
        let stale = follower(&mut world);
        let older = world.hosts[stale].medium.clone_now();
        publish_all(&mut world, client);
        world.run_for(SECOND);
        world.end(stale, true);
        world.replace_medium(stale, older);
        world.start(stale);
        assert!(world.run_until(20 * SECOND, |world| is_refused(world)), "somebody notices");
        healed(&mut world, stale);
        finish(world);
    }
}

#[test]
fn a_store_that_was_rolled_back_is_filled_again_though_its_leader_only_knows_of_its_later_life() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 100);
    publish_all(&mut world, client);
    let before = lead(&mut world);
    leads_all(&mut world, before);
    let stale = follower(&mut world);
    world.end(stale, true);
    let older = world.hosts[stale].medium.clone_now();
    world.start(stale);
    assert!(world.settle(10 * SECOND));
    world.end(stale, true);
    world.replace_medium(stale, older);
    // Whoever led and noted what was acknowledged does not hear of it, and leads no more.
    leads_all(&mut world, 3 - stale - before);
    for (from, to) in [(stale, before), (before, stale)] {
        world.apply(&Fault::OneWay(Target::Host(from), to, 60 * SECOND));
    }
    world.start(stale);
    assert!(world.run_until(20 * SECOND, |world| is_refused(world)), "somebody notices");
    let kept = world.run_until(20 * SECOND, |world| images(world, stale) > 0);
    assert!(kept, "it does not take part as it is");
    healed(&mut world, stale);
    finish(world);
}

/// The third host votes, and is gone; the second one leads, which never saw it acknowledge anything, and the first one, which
/// did, is heard by the third one only after some seconds. The third host's store as it was at these times: before it belonged
/// to the cluster, and before all messages, in its last life.
fn who_remembers_is_far() -> (World, [Medium; 2]) {
    let mut world = hosts(2, LogSizes::default());
    world.start(2);
    world.run_for(500 * MILLI);
    world.end(2, true);
    let empty = world.hosts[2].medium.clone_now();
    (0..2).for_each(|host| world.start(host));
    leads_all(&mut world, 0);
    world.start(2);
    assert!(world.settle(10 * SECOND), "three hosts vote");
    let early = world.hosts[2].medium.clone_now();
    let client = publisher(&mut world, "q", 300);
    publish_all(&mut world, client);
    assert!(world.settle(10 * SECOND), "three hosts have it");
    world.end(2, true);
    leads_all(&mut world, 1);
    world.network.slow(0, 2, 3 * SECOND);
    world.statuses.clear();
    (world, [empty, early])
}

/// What the others tell of the third host's store from this event on.
fn told_of_it(world: &World, from: usize) -> Vec<String> {
    let told = world.events[from..].iter().filter(|(_, host, _)| *host != 2);
    told.map(|(_, _, event)| event.text()).filter(|text| text.contains("b3")).collect()
}

#[test]
fn a_voter_that_is_empty_again_is_taken_out_and_filled_though_nobody_near_remembers() {
    let (mut world, [empty, _]) = who_remembers_is_far();
    world.replace_medium(2, empty);
    let begun = world.events.len();
    world.start(2);
    for vhost in ["system", "/"] {
        for step in ["removed from", "added to"] {
            let what = format!("b3 {step} the group of virtual host {vhost}");
            let done = |world: &World| told_of_it(world, begun).iter().any(|text| text.starts_with(&what));
            assert!(
                world.run_until(5 * SECOND, |world| done(world)),
                "{what}: {:#?}",
                told_of_it(&world, begun)
            );
        }
    }
    let voted = |event: &Event| event.text().contains("this store holds all it acknowledged");
    assert!(!world.events[begun..].iter().any(|(_, host, event)| *host == 2 && voted(event)));
    finish(world);
}

#[test]
fn who_hears_late_that_a_store_was_older_does_not_have_it_filled_when_it_has_everything() {
    let (mut world, [_, early]) = who_remembers_is_far();
    world.replace_medium(2, early);
    let begun = world.events.len();
    world.start(2);
    assert!(world.run_until(2 * SECOND, |world| is_refused(world)), "who remembers judges it");
    world.run_for(10 * SECOND);
    let told = told_of_it(&world, begun);
    assert!(!told.iter().any(|text| text.contains("removed")), "it has all of that: {told:#?}");
    finish(world);
}

#[test]
fn the_original_of_a_copy_that_ran_meanwhile_is_filled_again() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 3000);
    world.run_for(500 * MILLI);
    let host = follower(&mut world);
    world.end(host, false);
    // The copy runs in its place and acknowledges.
    let original = world.hosts[host].medium.clone_now();
    world.start(host);
    lead(&mut world);
    publish_all(&mut world, client);
    world.run_for(SECOND);
    world.end(host, false);
    // The original begins the same incarnation as another run.
    world.replace_medium(host, original);
    world.start(host);
    assert!(world.run_until(20 * SECOND, |world| is_refused(world)), "somebody notices");
    healed(&mut world, host);
    finish(world);
}

#[test]
fn a_rolled_back_store_is_no_vote_for_a_majority_that_would_lose_messages() {
    // Confirmed by the leader and the follower while the third was away; then the follower's disk goes back in time, and
    // it meets only those who know better when the leader returns.
    let mut world = serving(LogSizes::default());
    let stale = follower(&mut world);
    let leader = lead(&mut world);
    let away = 3 - leader - stale;
    world.end(away, true);
    let client = publisher(&mut world, "q", 500);
    world.run_for(100 * MILLI);
    let older = world.hosts[stale].medium.clone_now();
    publish_all(&mut world, client);
    // The leader's stamp says what the follower acknowledged.
    world.run_for(6 * SECOND);
    world.end(leader, true);
    world.end(stale, true);
    world.replace_medium(stale, older);
    world.start(leader);
    world.start(stale);
    world.run_for(10 * SECOND);
    // Neither a majority of trusted voters, nor anything lost: the third one is waited for.
    world.start(away);
    lead(&mut world);
    sound(&world);
    healed(&mut world, stale);
    finish(world);
}

#[test]
fn a_refilling_broker_killed_at_any_step_is_never_a_source() {
    for step in 0..30 {
        let mut world = serving(TINY);
        let client = publisher(&mut world, "q", 1500);
        world.run_for(300 * MILLI);
        let stale = follower(&mut world);
        let older = world.hosts[stale].medium.clone_now();
        publish_all(&mut world, client);
        world.run_for(SECOND);
        world.end(stale, false);
        world.replace_medium(stale, older);
        world.start(stale);
        world.run_for(step * 4 * MILLI);
        world.end(stale, step % 2 == 0);
        // A total outage in the middle of it.
        for host in 0..3 {
            world.end(host, true);
        }
        world.start_all();
        lead(&mut world);
        finish(world);
    }
}

#[test]
fn a_copy_under_another_name_is_held_beside_its_original_though_that_one_answers_late() {
    let mut world = serving(LogSizes::default());
    lead(&mut world);
    world.end(2, false);
    let copy = world.hosts[0].medium.clone_now();
    let before = copy.fingerprint();
    world.replace_medium(2, copy);
    // The others answer first, and know both names.
    for (from, to) in [(0, 2), (2, 0)] {
        world.network.slow(from, to, 150 * MILLI);
    }
    world.start(2);
    let held = (VerdictWord::Held, "R4".to_owned());
    assert!(world.run_until(10 * SECOND, |world| verdict(world, 2).as_ref() == Some(&held)));
    assert_eq!(world.hosts[2].exit, None);
    // With its original gone it is on its own, and no member under this name.
    world.end(0, false);
    world.end(2, false);
    world.start(2);
    assert!(world.run_until(10 * SECOND, |world| world.hosts[2].exit.is_some()));
    assert_eq!(world.hosts[2].medium.fingerprint(), before, "no byte of it was changed");
}
