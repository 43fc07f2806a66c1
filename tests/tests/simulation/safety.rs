//! Who may write: the safety number, second processes, and histories that went on apart and meet again.

use quorate_core::admin::{AdminReply, AdminRequest, Author, Status, VerdictWord};
use quorate_core::event::Event;
use quorate_tests::sim::client::{Client, Publisher, Work};
use quorate_tests::sim::dice::Dice;
use quorate_tests::sim::fault::{Fault, Target};
use quorate_tests::sim::host::HostConfig;
use quorate_tests::sim::plan::cluster;
use quorate_tests::sim::schedule::{ClientId, HostId, MILLI, Micros, SECOND};
use quorate_tests::sim::storage::LogSizes;
use quorate_tests::sim::world::World;

use crate::marks::mark;
use crate::stage::{
    SEED, all_down, finish, follower, lead, publish_all, publisher, serving, sound, system_leader, verdict,
};

/// Of the simulated brokers.
const INTERVAL: Micros = SECOND;

fn status(world: &World, host: HostId) -> &Status {
    world.statuses.get(&host).expect("it was asked")
}

fn is_panicked(world: &World, host: HostId) -> bool {
    verdict(world, host) == Some((VerdictWord::Panicked, "S1".to_owned()))
}

/// How often this broker said SAFE-2001.
fn panics(world: &World, host: HostId) -> usize {
    let events = world.events.iter().filter(|(_, of, _)| *of == host);
    events.filter(|(_, _, event)| matches!(event, Event::Panicked { .. })).count()
}

/// Has a second process write to the store of this host.
fn intrude(world: &mut World, host: HostId) {
    let mut dice = Dice::new(SEED, "intruder");
    assert!(world.hosts[host].medium.intrude(&mut dice), "a store in use");
    world.expect_panic(host);
}

/// Asks for the panic to be cleared; the answer.
fn clear(world: &mut World, host: HostId) -> AdminReply {
    world.statuses.clear();
    assert!(world.run_until(5 * SECOND, |world| world.statuses.contains_key(&host)));
    let asked = world.clear_panic(host).expect("it panicked");
    assert!(world.run_until(5 * SECOND, |world| world.replies.contains_key(&asked)));
    world.replies[&asked].clone()
}

/// A publisher that only tries this host.
fn publisher_at(world: &mut World, host: HostId, count: u64) -> ClientId {
    let mut dice = Dice::new(SEED, &format!("publisher at {host} {}", world.clients.len()));
    let mut publisher = Publisher::new(5000 + world.clients.len() as u128, count, &mut dice);
    publisher.rate = 100;
    let hosts = world.hosts.len();
    let id = world.add_client(Client::new("q", Work::Publisher(publisher), hosts, dice));
    world.clients[id].only = Some(host);
    id
}

#[test]
fn the_number_is_renewed_stamped_everywhere_and_wakes_no_sleeping_group() {
    let mut world = serving(LogSizes::default());
    world.run_for(10 * SECOND);
    let before = status(&world, 0).safety.clone();
    let term = |world: &World| status(world, 0).groups[1].term;
    let was = term(&world);
    for _ in 0..50 {
        world.run_for(200 * MILLI);
        let asked: Vec<u64> = (0..3).map(|host| world.ask(host, AdminRequest::Metrics)).collect();
        assert!(world.run_until(SECOND, |world| asked.iter().all(|id| world.replies.contains_key(id))));
        for id in asked {
            let AdminReply::Metrics(metrics) = &world.replies[&id] else { panic!("metrics were asked for") };
            let awake = metrics.samples.iter().find(|sample| sample.name == "groups_awake");
            assert_eq!(awake.map(|sample| sample.value), Some(1.0), "only `system` is awake");
        }
    }
    let after = status(&world, 0).safety.clone();
    assert!((9..=14).contains(&(after.renewals - before.renewals)), "{before:?} {after:?}");
    assert_eq!(term(&world), was);
    assert!(world.settle(5 * SECOND));
    let stamped: Vec<u64> =
        (0..3).map(|host| world.hosts[host].medium.stamp().expect("a stamp").safety_number).collect();
    assert!(stamped.iter().all(|number| *number != 0 && *number == stamped[0]), "{stamped:x?}");
    assert!((0..3).all(|host| panics(&world, host) == 0));
    finish(world);
}

#[test]
fn a_single_broker_renews_its_number_too_and_finds_a_second_process() {
    let mut world = World::new(SEED, cluster(1, LogSizes::default()), false);
    world.start_all();
    lead(&mut world);
    world.run_for(5 * SECOND);
    assert!(status(&world, 0).safety.renewals >= 5, "{:?}", status(&world, 0).safety);
    intrude(&mut world, 0);
    assert!(world.run_until(2 * INTERVAL, |world| panics(world, 0) == 1));
    world.run_for(SECOND);
    assert!(is_panicked(&world, 0));
    assert!(matches!(clear(&mut world, 0), AdminReply::Done { changed: true }));
    let client = publisher(&mut world, "q", 50);
    publish_all(&mut world, client);
    finish(world);
}

#[test]
fn whoever_finds_a_second_process_on_its_store_stops_and_the_others_go_on() {
    for leads in [true, false] {
        let mut world = serving(LogSizes::default());
        let client = publisher(&mut world, "q", 2000);
        world.run_for(500 * MILLI);
        let host = if leads { lead(&mut world) } else { follower(&mut world) };
        intrude(&mut world, host);
        assert!(world.run_until(2 * INTERVAL, |world| panics(world, host) == 1), "leads: {leads}");
        let held = world.hosts[host].medium.fingerprint();
        publish_all(&mut world, client);
        world.run_for(10 * SECOND);
        assert_eq!(world.hosts[host].medium.fingerprint(), held, "a panicked broker writes nothing");
        assert!(is_panicked(&world, host));
        assert_eq!(panics(&world, host), 1, "said once");
        let other = (host + 1) % 3;
        let shown =
            status(&world, other).members.iter().find(|member| member.name == format!("b{}", host + 1));
        assert!(shown.is_some_and(|member| member.panicked.is_some()), "{shown:?}");
        let of_it = format!("b{} panicked", host + 1);
        assert!(status(&world, other).notes.iter().any(|note| note.contains(&of_it)));
        // A restart changes nothing.
        world.end(host, true);
        world.start(host);
        world.run_for(5 * SECOND);
        assert!(is_panicked(&world, host));
        assert_eq!(world.hosts[host].medium.fingerprint(), held);
        assert!(matches!(clear(&mut world, host), AdminReply::Done { changed: true }));
        assert!(world.settle(20 * SECOND), "{:#?}", world.statuses);
        finish(world);
    }
}

#[test]
fn a_panic_is_found_by_the_followers_of_groups_that_sleep() {
    let mut world = serving(LogSizes::default());
    world.run_for(10 * SECOND);
    let host = lead(&mut world);
    intrude(&mut world, host);
    assert!(world.run_until(2 * INTERVAL, |world| panics(world, host) == 1));
    world.statuses.clear();
    let led = world.run_until(2 * SECOND, |world| world.leader().is_some_and(|leader| leader != host));
    assert!(led, "somebody else leads: {:#?}", world.statuses);
    assert!(matches!(clear(&mut world, host), AdminReply::Done { changed: true }));
    finish(world);
}

#[test]
fn a_panic_is_not_cleared_by_another_word() {
    let mut world = serving(LogSizes::default());
    let host = follower(&mut world);
    intrude(&mut world, host);
    assert!(world.run_until(2 * INTERVAL, |world| panics(world, host) == 1));
    let request = AdminRequest::ClearPanic {
        confirm: "yes".into(),
        reason: String::new(),
        author: Author::local("a test"),
    };
    let asked = world.ask(host, request);
    assert!(world.run_until(SECOND, |world| world.replies.contains_key(&asked)));
    assert!(matches!(world.replies[&asked], AdminReply::Failed { code: "NOT_CONFIRMED", .. }));
    world.run_for(SECOND);
    assert!(is_panicked(&world, host));
}

/// Two panicked brokers of three are not counted: the third one waits for them by name.
#[test]
fn panicked_members_do_not_count_at_the_start_of_a_cluster() {
    let mut world = serving(LogSizes::default());
    for host in [0, 1] {
        intrude(&mut world, host);
    }
    assert!(world.run_until(2 * INTERVAL, |world| [0, 1].iter().all(|host| panics(world, *host) == 1)));
    for host in 0..3 {
        world.end(host, true);
    }
    world.statuses.clear();
    world.start_all();
    world.run_for(10 * SECOND);
    assert_eq!(verdict(&world, 2), Some((VerdictWord::Waiting, "W1".to_owned())));
    let notes = &status(&world, 2).notes;
    assert!(notes.iter().filter(|note| note.contains("it panicked")).count() == 2, "{notes:?}");
    for host in [0, 1] {
        assert!(matches!(clear(&mut world, host), AdminReply::Done { changed: true }));
    }
    finish(world);
}

#[test]
fn pauses_clocks_disks_cuts_and_outages_panic_nobody() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 4000);
    let leader = Target::Leader(0);
    for fault in [
        Fault::Pause(leader, 3 * INTERVAL + INTERVAL / 2),
        Fault::ClockDrift(leader, 400, 5 * SECOND),
        Fault::ClockDrift(Target::Host(1), 20, 5 * SECOND),
        Fault::SlowDisk(leader, 300, 5 * SECOND),
        Fault::Isolate(leader, 4 * SECOND),
        Fault::Split(1, 4 * SECOND),
        Fault::Kill(leader, SECOND),
        Fault::PowerAll(SECOND),
        Fault::ResetLinks(leader),
        Fault::Stop(leader, SECOND),
    ] {
        world.apply(&fault);
        world.run_for(8 * SECOND);
        sound(&world);
    }
    publish_all(&mut world, client);
    assert!((0..3).all(|host| panics(&world, host) == 0));
    finish(world);
}

/// Nobody on one of these hosts reaches one on the others.
fn part(world: &mut World, side: &[HostId], cut: bool) {
    for from in side {
        for to in (0..world.hosts.len()).filter(|to| !side.contains(to)) {
            for (from, to) in [(*from, to), (to, *from)] {
                if cut { world.network.cut(from, to) } else { world.network.heal(from, to) }
            }
        }
    }
}

/// The first is marked and goes on alone; the others start out of its sight and need no mark.
fn marked_apart(world: &mut World) {
    world.intrusions.expected.extend(0..world.hosts.len());
    mark(world, 0, true, &[]);
    part(world, &[0], true);
    world.start_all();
    let both = |world: &World| {
        let active = |host| verdict(world, host).is_some_and(|shown| shown.0 == VerdictWord::Active);
        active(0) && active(1) && active(2)
    };
    assert!(world.run_until(20 * SECOND, |world| both(world)), "{:#?}", world.statuses);
}

#[test]
fn of_two_histories_that_meet_the_one_without_a_majority_of_the_fork_panics_without_any_traffic() {
    for works in [false, true] {
        let mut world = all_down(LogSizes::default(), 200);
        // Whoever comes again declares its queue: that is work.
        world.clients[0].resting = true;
        marked_apart(&mut world);
        if works {
            let client = publisher_at(&mut world, 0, 20);
            publish_all(&mut world, client);
            world.clients[client].resting = true;
        }
        world.run_for(10 * SECOND);
        part(&mut world, &[0], false);
        assert!(world.run_until(2 * INTERVAL, |world| panics(world, 0) == 1), "found out");
        world.run_for(5 * SECOND);
        assert!(is_panicked(&world, 0));
        assert_eq!((panics(&world, 1), panics(&world, 2)), (0, 0));
        let (_, _, text) = panic_of(&world, 0);
        assert!(text.contains("of the 3 voters recorded"), "{text}");
        // The others go on confirming, it does not.
        let (here, there) = (publisher_at(&mut world, 1, 20), publisher_at(&mut world, 0, 20));
        world.clients[here].only = None;
        publish_all(&mut world, here);
        world.run_for(2 * SECOND);
        assert!(!world.clients[there].publisher().is_done(), "a panicked broker confirmed");
        world.clients[there].resting = true;
        assert!(matches!(clear(&mut world, 0), AdminReply::Done { changed: true }));
        // What clients were told there is not dropped without a word; what nobody asked for is.
        if works {
            let asks = (VerdictWord::NeedsOperator, "J1".to_owned());
            assert!(world.run_until(20 * SECOND, |world| verdict(world, 0).as_ref() == Some(&asks)));
        } else {
            assert!(world.settle(60 * SECOND), "{:#?}", world.statuses);
        }
    }
}

/// The last panic of a host.
fn panic_of(world: &World, host: HostId) -> (Micros, HostId, String) {
    let last = world.events.iter().rev().find_map(|(at, of, event)| match event {
        Event::Panicked { text, .. } if *of == host => Some((*at, *of, text.clone())),
        _ => None,
    });
    last.expect("it panicked")
}

#[test]
fn of_two_marks_made_apart_both_panic_or_the_one_that_was_joined_goes_on() {
    for joined in [false, true] {
        let mut world = all_down(LogSizes::default(), 200);
        world.intrusions.expected.extend(0..3);
        mark(&world, 0, true, &[]);
        mark(&world, 1, true, &[]);
        part(&mut world, &[0], true);
        world.start(0);
        world.start(1);
        for host in [0, 1] {
            let active =
                |world: &World| verdict(world, host).is_some_and(|shown| shown.0 == VerdictWord::Active);
            assert!(world.run_until(20 * SECOND, |world| active(world)));
        }
        if joined {
            world.start(2);
            let votes = |world: &World| {
                world.statuses.get(&1).is_some_and(|status| {
                    status.groups.len() == 2
                        && status.groups.iter().all(|group| {
                            group.nodes.len() == 2 && group.nodes.iter().all(|node| node.role != "learner")
                        })
                })
            };
            assert!(world.run_until(60 * SECOND, |world| votes(world)), "{:#?}", world.statuses);
        }
        world.run_for(3 * SECOND);
        part(&mut world, &[0], false);
        let stays = usize::from(!joined);
        assert!(
            world.run_until(2 * INTERVAL, |world| panics(world, 0) == 1 && panics(world, 1) == stays),
            "joined: {joined}: {:?}",
            (panics(&world, 0), panics(&world, 1))
        );
        world.run_for(5 * SECOND);
        assert_eq!((panics(&world, 0), panics(&world, 1), panics(&world, 2)), (1, stays, 0));
    }
}

/// Two copies of one voter's store, each with another voter for company: both sides have a majority of three, and the same
/// epochs. Only the numbers tell.
#[test]
fn two_copies_of_a_voter_with_a_majority_each_panic_all_when_they_meet() {
    let mut world = all_down(LogSizes::default(), 200);
    world.intrusions.expected.extend(0..4);
    let copy = world.hosts[0].medium.clone_now();
    let config: HostConfig = world.hosts[2].config.clone();
    let twin = world.add_host(SEED, config);
    world.hosts[twin].name = world.hosts[0].name.clone();
    world.replace_medium(twin, copy);
    // Its peers find it where they find its original.
    world.hosts[2].config.peers.push(twin);
    part(&mut world, &[0, 1], true);
    world.start_all();
    let active =
        |world: &World, host| verdict(world, host).is_some_and(|shown| shown.0 == VerdictWord::Active);
    assert!(
        world.run_until(20 * SECOND, |world| (0..4).all(|host| active(world, host))),
        "both sides go on: {:#?}",
        world.statuses
    );
    world.run_for(5 * SECOND);
    part(&mut world, &[0, 1], false);
    assert!(
        world.run_until(2 * INTERVAL, |world| {
            // Whoever is left alone by that has no quorum any more, and has nothing to panic of.
            (0..4).all(|host| panics(world, host) > 0 || !active(world, host))
        }),
        "nobody goes on: {:?}",
        (0..4).map(|host| panics(&world, host)).collect::<Vec<_>>()
    );
    let panicked: Vec<HostId> = (0..4).filter(|host| panics(&world, *host) > 0).collect();
    assert!(panicked.len() >= 3, "{panicked:?}");
    world.end(twin, true);
    for host in panicked.into_iter().filter(|host| *host != twin) {
        assert!(matches!(clear(&mut world, host), AdminReply::Done { changed: true }));
    }
    world.run_for(20 * SECOND);
    // Nobody has chosen between the two, so they do not go on together, though the copy is gone.
    let asks = |world: &World, host: HostId| {
        let (shown, row) = verdict(world, host).expect("it runs");
        shown == VerdictWord::NeedsOperator && ["J2", "X1"].contains(&row.as_str())
    };
    assert!((0..3).all(|host| !active(&world, host)), "{:#?}", world.statuses);
    // The copy ran where its original did not: that one is to be filled again, by whoever is chosen.
    assert!(asks(&world, 1), "{:#?}", world.statuses);
    let told = &status(&world, 1).reason;
    assert!(told.contains("safety number"), "{told}");
    for host in 0..3 {
        world.end(host, false);
        world.start(host);
    }
    world.run_for(5 * SECOND);
    assert!((0..3).all(|host| asks(&world, host)), "{:#?}", world.statuses);
    // Two are of one side: they go on as soon as the third is stopped, and it is none of theirs when it comes back.
    world.end(2, false);
    assert!(
        world.run_until(10 * SECOND, |world| active(world, 0) && active(world, 1)),
        "{:#?}",
        world.statuses
    );
    world.start(2);
    world.run_for(5 * SECOND);
    let (shown, row) = verdict(&world, 2).expect("it runs");
    assert_eq!((shown, row.as_str()), (VerdictWord::NeedsOperator, "J1"), "{:#?}", status(&world, 2).reason);
    assert!(active(&world, 0) && active(&world, 1));
}

/// A leader of `system` that is paused over its renewal is no double when it comes back.
#[test]
fn a_leader_that_slept_over_renewals_finds_the_number_in_the_log() {
    let mut world = serving(LogSizes::default());
    for _ in 0..5 {
        let leader = system_leader(&mut world);
        world.apply(&Fault::Pause(Target::Host(leader), 4 * INTERVAL));
        world.run_for(6 * INTERVAL);
    }
    assert!((0..3).all(|host| panics(&world, host) == 0));
    finish(world);
}
