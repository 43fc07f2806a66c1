//! Durability policies: what is acknowledged when, what a loss of power or of processes takes, and who is asked then.
//!
//! Every confirm is checked where it is written: by its receipt's policy, on the leader and on a majority.

use quorate_core::admin::{AdminReply, GroupAct, Setting, VerdictWord};
use quorate_core::controls::policy_from_text;
use quorate_core::io::Input;
use quorate_store::stamp::{Durability, DurabilityPolicy};
use quorate_tests::sim::fault::{Fault, Target};
use quorate_tests::sim::schedule::{MILLI, SECOND};
use quorate_tests::sim::storage::LogSizes;
use quorate_tests::sim::world::World;

use crate::stage::{TINY, ask_group, finish, lead, leader_of, publish_all, publisher, serving, set, sound};

const VHOST: Option<&str> = Some("/");
const ALL: [&str; 3] = ["sync", "write-no-sync", "no-sync"];

fn policy(text: &str) -> DurabilityPolicy {
    policy_from_text(text).expect("a policy")
}

/// Sets a policy, and waits until every stamp admits it.
fn weaken(world: &mut World, text: &str) {
    assert!(set(world, VHOST, Setting::Durability(policy(text))).changed);
    await_stamps(world, text);
}

fn await_stamps(world: &mut World, text: &str) {
    let wanted = policy(text);
    let stamped = |world: &World, host: usize| {
        let stamp = world.hosts[host].medium.stamp().expect("a stamp");
        stamp.groups.iter().any(|group| {
            group.vhost == "/"
                && group.policy == wanted
                && (group.weakest == wanted.leader || group.weakest == wanted.replicas)
        })
    };
    let all = world.run_until(5 * SECOND, |world| (0..3).all(|host| stamped(world, host)));
    assert!(all, "all stamps say {text}");
}

/// Three hosts in service under this policy, with messages that are synced by now.
fn weak(text: &str) -> World {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 100);
    publish_all(&mut world, client);
    weaken(&mut world, text);
    world
}

/// All lose their power now, and come back; an operator is asked, or not.
fn without_power(mut world: World) {
    for host in 0..3 {
        world.end(host, true);
    }
    world.start_all();
    assert!(world.run_until(60 * SECOND, |world| world.leader().is_some() && world.ailing.is_none()));
    finish(world);
}

/// Publishes, and ends everything in the middle of it.
fn end_all(world: &mut World, power: bool) {
    publisher(world, "q", 1000);
    world.run_for(300 * MILLI);
    for host in 0..3 {
        world.end(host, power);
    }
}

/// How often an operator went on from what was left.
fn marks(world: &World) -> usize {
    let stamp = world.hosts[0].medium.stamp().expect("a stamp");
    stamp.groups.iter().find(|group| group.vhost == "/").map_or(0, |group| group.lineage.len() - 1)
}

fn needs_operator(world: &mut World) -> bool {
    world.statuses.values().any(|status| {
        status.verdict == VerdictWord::NeedsOperator
            && status.groups.iter().any(|group| group.vhost == "/" && group.may_lack.is_some())
    })
}

#[test]
fn acceptance_f2_every_policy_confirms_at_its_point() {
    for leader in ALL {
        for replicas in ALL {
            let text = format!("{leader},{replicas}");
            let mut world = serving(TINY);
            let before = publisher(&mut world, "q", 50);
            publish_all(&mut world, before);
            if text != "sync,sync" {
                weaken(&mut world, &text);
            }
            // The disks take their time, each another one: whatever is confirmed before its point is found.
            for (host, factor) in [(0, 200), (1, 40), (2, 5)] {
                world.apply(&Fault::SlowDisk(Target::Host(host), factor, 5 * SECOND));
            }
            let client = publisher(&mut world, "q", 300);
            publish_all(&mut world, client);
            sound(&world);
            finish(world);
        }
    }
}

/// Raft commits with the replicas alone; the leader applies, and confirms, only what it has itself.
#[test]
fn a_leader_that_syncs_confirms_after_its_own_sync_whatever_replicas_acknowledge() {
    let mut world = weak("sync,no-sync");
    let leader = leader_of(&mut world, "/");
    world.apply(&Fault::SlowDisk(Target::Host(leader), 2000, 8 * SECOND));
    let confirmed = world.checker.confirmed;
    let client = publisher(&mut world, "q", 50);
    world.run_for(300 * MILLI);
    assert_eq!(world.checker.confirmed, confirmed, "the leader's disk is not done");
    publish_all(&mut world, client);
    finish(world);
}

#[test]
fn weakening_then_a_loss_of_power_asks_the_operator_and_says_why() {
    for text in ["no-sync,no-sync", "sync,no-sync", "write-no-sync,write-no-sync", "sync,write-no-sync"] {
        let mut world = weak(text);
        end_all(&mut world, true);
        world.start_all();
        assert!(world.run_until(20 * SECOND, needs_operator), "{text}: {:?}", world.statuses);
        assert!(world.run_until(60 * SECOND, |world| world.leader().is_some() && world.ailing.is_none()));
        assert!(marks(&world) > 0, "{text}");
        if text.starts_with("sync,") {
            assert_eq!(world.checker.void(), 0, "{text}: what the leader synced is in its store");
        }
        finish(world);
    }
}

/// At whatever moment of it the power goes, no acknowledgement came before the stamp that admits it.
#[test]
fn power_may_go_at_any_moment_of_a_weakening() {
    for after in 0..60 {
        let mut world = serving(LogSizes::default());
        publisher(&mut world, "q", 2000);
        world.run_for(200 * MILLI);
        // What is acknowledged and not synced, and not said by the stamp, is there for longer.
        for host in &mut world.hosts {
            host.speed.factor = 20;
        }
        let request = GroupAct::Set(vec![Setting::Durability(policy("no-sync,no-sync"))]);
        let leader = leader_of(&mut world, "/");
        world.ask(
            leader,
            quorate_core::admin::AdminRequest::Group(quorate_core::admin::GroupRequest {
                vhost: VHOST.map(str::to_owned),
                act: request,
                author: quorate_core::admin::Author::local("a scene"),
                reason: String::new(),
            }),
        );
        world.run_for(after * MILLI);
        without_power(world);
    }
}

#[test]
fn a_stronger_policy_is_trusted_once_all_before_it_is_synced() {
    let mut world = weak("no-sync,no-sync");
    let client = publisher(&mut world, "q", 300);
    world.run_for(100 * MILLI);
    assert!(set(&mut world, VHOST, Setting::Durability(policy("sync,sync"))).changed);
    let strong = |world: &mut World| {
        (0..3).all(|host| {
            let stamp = world.hosts[host].medium.stamp().expect("a stamp");
            stamp.groups.iter().all(|group| group.weakest == Durability::Sync)
        })
    };
    assert!(world.run_until(5 * SECOND, strong));
    publish_all(&mut world, client);
    for host in 0..3 {
        world.end(host, true);
    }
    world.start_all();
    lead(&mut world);
    assert_eq!((marks(&world), world.checker.void()), (0, 0));
    finish(world);
}

#[test]
fn processes_that_die_lose_nothing_that_the_system_has() {
    for text in ["write-no-sync,write-no-sync", "sync,write-no-sync", "write-no-sync,sync"] {
        let mut world = weak(text);
        end_all(&mut world, false);
        world.start_all();
        lead(&mut world);
        assert_eq!((marks(&world), world.checker.void()), (0, 0), "{text}");
        finish(world);
    }
}

#[test]
fn processes_that_die_under_no_sync_ask_the_operator() {
    let mut world = weak("no-sync,no-sync");
    end_all(&mut world, false);
    world.start_all();
    assert!(world.run_until(20 * SECOND, needs_operator), "{:?}", world.statuses);
    assert!(world.run_until(60 * SECOND, |world| world.leader().is_some() && world.ailing.is_none()));
    assert!(marks(&world) > 0);
    finish(world);
}

/// A disk that takes seconds for a sync: what waits for none is confirmed until the window is full, and no more.
#[test]
fn no_more_is_confirmed_without_a_sync_than_the_window_holds() {
    let mut world = weak("no-sync,no-sync");
    let client = publisher(&mut world, "q", 4000);
    world.run_for(100 * MILLI);
    for host in &mut world.hosts {
        host.speed.factor = 20_000;
    }
    world.run_for(200 * MILLI);
    let confirmed = world.checker.confirmed;
    world.run_for(SECOND);
    assert_eq!(world.checker.confirmed, confirmed, "100 ms are over");
    for host in &mut world.hosts {
        host.speed.factor = 1;
    }
    publish_all(&mut world, client);
    finish(world);
}

#[test]
fn an_orderly_stop_of_all_loses_nothing_under_any_policy() {
    for text in ["no-sync,no-sync", "sync,no-sync", "write-no-sync,no-sync"] {
        let mut world = weak(text);
        publisher(&mut world, "q", 1000);
        world.run_for(300 * MILLI);
        for host in 0..3 {
            world.input(host, Input::Stop);
        }
        let ended =
            world.run_until(10 * SECOND, |world| world.hosts.iter().all(|host| host.process.is_none()));
        assert!(ended, "{text}: all stop");
        // The system goes down after them.
        for host in &mut world.hosts {
            host.end(true);
        }
        world.start_all();
        lead(&mut world);
        assert_eq!((marks(&world), world.checker.void()), (0, 0), "{text}");
        finish(world);
    }
}

/// Nor does any stamp on the way there say more than what the medium has at that moment.
#[test]
fn power_may_go_at_any_moment_of_an_orderly_stop() {
    for step in 0..40 {
        let mut world = weak("no-sync,no-sync");
        for host in 0..3 {
            world.apply(&Fault::SlowDisk(Target::Host(host), 1 + step % 8, 60 * SECOND));
        }
        publisher(&mut world, "q", 1000);
        world.run_for(300 * MILLI);
        for host in 0..3 {
            world.input(host, Input::Stop);
        }
        world.run_for(step * MILLI);
        without_power(world);
    }
}

#[test]
fn one_that_may_lack_something_is_filled_again_by_those_that_do_not() {
    for power in [true, false] {
        let mut world = weak("sync,no-sync");
        let leader = leader_of(&mut world, "/");
        let other = (leader + 1) % 3;
        let client = publisher(&mut world, "q", 500);
        world.run_for(100 * MILLI);
        world.end(other, power);
        world.run_for(SECOND);
        world.start(other);
        publish_all(&mut world, client);
        assert!(world.settle(30 * SECOND));
        assert!(crate::stage::snapshots(&world, other) > 0, "it is filled again");
        assert_eq!((marks(&world), world.checker.void()), (0, 0));
        finish(world);
    }
}

/// Nobody else holds what the last one confirms in a forced epoch: it syncs that, whatever the policy, and so needs no
/// operator again after it died.
#[test]
fn the_last_of_a_weak_group_goes_on_by_an_override_and_syncs_what_it_confirms() {
    let mut world = weak("no-sync,no-sync");
    let last = leader_of(&mut world, "/");
    for host in (0..3).filter(|host| *host != last) {
        world.end(host, true);
    }
    world.run_for(3 * SECOND);
    // It has been alive since it acknowledged: it is trusted, and holds everything.
    crate::forced::go_on(&mut world, &[last], 600 * SECOND);
    lead(&mut world);
    for power in [false, true] {
        let client = publisher(&mut world, "q", 100);
        publish_all(&mut world, client);
        world.end(last, power);
        world.start(last);
        assert_eq!(lead(&mut world), last, "power: {power}");
    }
    world.start_all();
    assert!(world.run_until(60 * SECOND, |world| world.is_settled()), "{:#?}", world.statuses);
    assert_eq!(world.checker.void(), 0);
    // After that the policy holds again.
    let client = publisher(&mut world, "q", 300);
    publish_all(&mut world, client);
    await_stamps(&mut world, "no-sync,no-sync");
    finish(world);
}

/// One that may lack something goes on by a mark only: by itself it could take what it lacks for what never was.
#[test]
fn who_may_lack_something_is_refused_an_override() {
    let mut world = weak("no-sync,no-sync");
    publisher(&mut world, "q", 1000);
    world.run_for(200 * MILLI);
    for host in 0..3 {
        world.end(host, true);
    }
    world.start(0);
    world.run_for(3 * SECOND);
    let reply = crate::forced::ask_alone(&mut world, 0);
    let AdminReply::Failed { message, .. } = reply else { panic!("{reply:?}") };
    assert!(message.contains("may lack what it acknowledged"), "{message}");
    assert!(message.contains("quorate store mark-clean"), "{message}");
    world.start_all();
    assert!(world.run_until(60 * SECOND, |world| world.leader().is_some() && world.ailing.is_none()));
    finish(world);
}

#[test]
fn the_metadata_of_the_cluster_is_always_synced() {
    let mut world = serving(LogSizes::default());
    let act = GroupAct::Set(vec![Setting::Durability(policy("sync,no-sync"))]);
    let reply = ask_group(&mut world, None, &act);
    assert!(matches!(reply, AdminReply::Failed { code: "INVALID", .. }), "{reply:?}");
    finish(world);
}
