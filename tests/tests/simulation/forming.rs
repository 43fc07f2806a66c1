//! Brokers become a cluster, again, and a larger one.

use quorate_core::admin::{AdminRequest, Author, VerdictWord};
use quorate_protocol::fault::FaultCode;
use quorate_tests::sim::fault::{Fault, Target};
use quorate_tests::sim::schedule::{MILLI, SECOND};
use quorate_tests::sim::storage::LogSizes;

use crate::stage::{
    SEED, finish, hosts, lead, publish_all, publish_and_finish, publisher, serving, sound, verdict,
};

#[test]
fn acceptance_b1_three_empty_brokers_form_one_cluster() {
    let world = serving(LogSizes::default());
    let ids: Vec<_> = world.statuses.values().map(|status| status.cluster_id).collect();
    assert!(ids[0].is_some() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    for host in 0..3 {
        assert_eq!(verdict(&world, host).map(|(word, _)| word), Some(VerdictWord::Active), "host {host}");
        assert!(world.statuses[&host].members.iter().all(|member| member.voter && member.present));
    }
    sound(&world);
}

#[test]
fn acceptance_b2_fewer_than_n_wait_and_say_so() {
    let mut world = hosts(3, LogSizes::default());
    world.start(0);
    world.start(1);
    let client = publisher(&mut world, "q", 10);
    world.run_for(100 * MILLI);
    let before: Vec<_> = world.hosts.iter().map(|host| host.medium.fingerprint()).collect();
    world.run_for(5 * SECOND);
    assert_eq!(world.leader(), None);
    for (host, before) in before.iter().enumerate().take(2) {
        assert_eq!(verdict(&world, host), Some((VerdictWord::Waiting, "W1".to_owned())));
        assert!(world.statuses[&host].reason.contains("2 of 3"), "{}", world.statuses[&host].reason);
        assert!(world.hosts[host].medium.fingerprint() == *before, "a broker that waits writes nothing");
    }
    assert_eq!(world.clients[client].last_refusal, Some(FaultCode::Waiting));
    world.start(2);
    lead(&mut world);
    publish_and_finish(world, client);
}

#[test]
fn a_cluster_that_lost_every_process_returns_by_itself() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 400);
    for power in [false, true] {
        world.run_for(300 * MILLI);
        let restart = 100 * MILLI;
        world.apply(&if power { Fault::PowerAll(restart) } else { Fault::KillAll(restart) });
        world.run_for(2 * SECOND);
        lead(&mut world);
    }
    publish_all(&mut world, client);
    assert!(world.events.iter().any(|(_, _, event)| event.text().contains("(row C1)")));
    finish(world);
}

#[test]
fn two_of_three_are_enough_after_a_total_outage_and_one_is_not() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 50);
    publish_all(&mut world, client);
    (0..3).for_each(|host| world.end(host, true));
    world.start(0);
    world.run_for(5 * SECOND);
    assert_eq!(verdict(&world, 0).map(|(word, _)| word), Some(VerdictWord::Waiting));
    world.start(2);
    lead(&mut world);
    finish(world);
}

#[test]
fn the_third_founder_may_come_late_and_becomes_a_voter() {
    let mut world = hosts(2, LogSizes::default());
    world.start(0);
    world.start(1);
    lead(&mut world);
    let client = publisher(&mut world, "q", 100);
    publish_all(&mut world, client);
    world.start(2);
    let votes = world.run_until(10 * SECOND, |world| {
        world.statuses.len() == 3
            && world.statuses.values().all(|status| {
                status.members.len() == 3
                    && status.members.iter().all(|member| member.voter)
                    && status.groups.iter().all(|group| group.nodes.iter().all(|node| node.role != "learner"))
            })
    });
    assert!(votes, "{:#?}", world.statuses);
    // Its vote counts: the cluster serves with it and one other.
    world.end(0, true);
    world.run_for(2 * SECOND);
    lead(&mut world);
    finish(world);
}

#[test]
fn an_empty_fourth_broker_joins_and_is_updated_without_a_vote() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 100);
    publish_all(&mut world, client);
    let config = world.hosts[0].config.clone();
    let fourth = world.add_host(SEED, config);
    world.start(fourth);
    assert!(world.settle(20 * SECOND), "{:#?}", world.statuses);
    let members = &world.statuses[&0].members;
    let voters: Vec<_> = members.iter().map(|member| (member.name.as_str(), member.voter)).collect();
    assert_eq!(voters, [("b1", true), ("b2", true), ("b3", true), ("b4", false)]);
    finish(world);
}

#[test]
fn sigterm_hands_over_and_ends_with_success() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 2000);
    world.run_for(500 * MILLI);
    let leader = lead(&mut world);
    world.apply(&Fault::Stop(Target::Host(leader), 60 * SECOND));
    world.run_until(3 * SECOND, |world| world.hosts[leader].process.is_none());
    assert_eq!(world.hosts[leader].exit.as_ref().map(|(status, _)| *status), Some(0));
    let asked = world.now();
    let next = lead(&mut world);
    assert_ne!(next, leader);
    assert!(world.now() - asked < 300 * MILLI, "the leadership was handed over");
    publish_and_finish(world, client);
}

#[test]
fn virtual_hosts_being_made_survive_the_loss_of_all_power() {
    for delay in 0..24 {
        let mut world = serving(LogSizes::default());
        let leader = world.statuses.values().find(|status| {
            status.groups.iter().any(|group| group.vhost == "system" && group.role == "leader")
        });
        let name = leader.map(|status| status.name.clone()).expect("somebody leads the system");
        let leader = (0..3).find(|host| world.statuses[host].name == name).expect("it is a host");
        // Each entry after the first makes the commit of the one before durable, while its state is still on its way.
        for number in 0..6 {
            world.ask(
                leader,
                AdminRequest::CreateVhost {
                    name: format!("v{number}"),
                    reason: String::new(),
                    author: Author::local("a test"),
                },
            );
            world.run_for(MILLI);
        }
        world.run_for(delay * MILLI / 2);
        world.apply(&Fault::PowerAll(10 * MILLI));
        // Those that lack a state vote for others before they are given one; they must remember it.
        world.run_for((600 + delay * 31) * MILLI);
        world.apply(&Fault::PowerAll(10 * MILLI));
        world.run_for(2 * SECOND);
        world.start_all();
        assert!(world.settle(30 * SECOND), "after {delay} half milliseconds: {:#?}", world.statuses);
        sound(&world);
    }
}
