//! What operators set for a group while it runs: whom it prefers, how many it needs, whom it lets in, where it leads.

use quorate_core::admin::{AdminReply, AdminRequest, Author, GroupAct, GroupRequest, Setting};
use quorate_core::event::Event;
use quorate_tests::sim::client::Consumer;
use quorate_tests::sim::fault::{Fault, Target};
use quorate_tests::sim::host::name_of;
use quorate_tests::sim::schedule::{HostId, MILLI, SECOND};
use quorate_tests::sim::storage::LogSizes;
use quorate_tests::sim::world::World;

use crate::stage::{
    TINY, ask_group, consumer, finish, lead, leader_of, publish_all, publisher, serving, set, sound, transfer,
};

const VHOST: Option<&str> = Some("/");

fn priority(world: &mut World, host: HostId, priority: u64) {
    let node = name_of(host);
    assert!(set(world, VHOST, Setting::Priority { node, priority }).changed);
}

/// The hosts in the order in which `/` prefers them while nobody has set anything: by their store ids.
fn preferred(world: &World) -> Vec<HostId> {
    let mut hosts: Vec<HostId> = (0..world.hosts.len()).collect();
    let store = |host: &HostId| world.hosts[*host].medium.stamp().expect("a stamp").store_id;
    hosts.sort_by_key(|host| std::cmp::Reverse(store(host)));
    hosts
}

fn code_of(reply: &AdminReply) -> &str {
    match reply {
        AdminReply::Failed { code, .. } => code,
        other => panic!("refused, not {other:?}"),
    }
}

/// Who became leader of `/` since then, in order.
fn leaders_since(world: &World, since: u64) -> Vec<HostId> {
    let leads =
        |event: &Event| matches!(event, Event::RoleChanged { vhost, new: "leader", .. } if vhost == "/");
    world
        .events
        .iter()
        .filter(|(at, _, event)| *at > since && leads(event))
        .map(|(_, host, _)| *host)
        .collect()
}

fn codes_since(world: &World, since: u64, host: HostId) -> Vec<&'static str> {
    let of = world.events.iter().filter(|(at, of, _)| *at > since && *of == host);
    of.filter_map(|(_, _, event)| event.code()).collect()
}

#[test]
fn of_equal_logs_the_highest_priority_leads_and_of_equal_priorities_the_highest_store() {
    for high in 0..3 {
        let mut world = serving(LogSizes::default());
        let order = preferred(&world);
        assert_eq!(lead(&mut world), order[0], "nobody has set anything");
        let client = publisher(&mut world, "q", 100);
        publish_all(&mut world, client);
        priority(&mut world, high, 2);
        for _ in 0..4 {
            let leader = lead(&mut world);
            let expected = if leader == high {
                *order.iter().find(|host| **host != leader).expect("another one")
            } else {
                high
            };
            world.end(leader, true);
            assert_eq!(lead(&mut world), expected, "{leader} was killed, {high} is preferred");
            world.start(leader);
            assert!(world.settle(10 * SECOND));
            world.run_for(2 * SECOND);
        }
        finish(world);
    }
}

#[test]
fn the_most_recent_log_leads_whatever_the_priorities() {
    let mut world = serving(LogSizes::default());
    let leader = lead(&mut world);
    let (behind, ahead) = ((leader + 1) % 3, (leader + 2) % 3);
    priority(&mut world, behind, 3);
    world.apply(&Fault::Isolate(Target::Host(behind), 3 * SECOND));
    let client = publisher(&mut world, "q", 200);
    publish_all(&mut world, client);
    let died = world.now();
    world.end(leader, true);
    assert_eq!(lead(&mut world), ahead, "only this one has everything");
    assert_eq!(leaders_since(&world, died), [ahead]);
    sound(&world);
    world.start(leader);
    finish(world);
}

#[test]
fn what_only_a_node_of_priority_0_has_is_handed_on_and_it_serves_nobody() {
    let mut world = serving(LogSizes::default());
    let leader = lead(&mut world);
    let (never, behind) = ((leader + 1) % 3, (leader + 2) % 3);
    priority(&mut world, never, 0);
    world.apply(&Fault::Isolate(Target::Host(behind), 2 * SECOND));
    let client = publisher(&mut world, "q", 150);
    publish_all(&mut world, client);
    let died = world.now();
    world.end(leader, true);
    let reader = consumer(&mut world, "q", Consumer::new(50, 0));
    assert!(world.run_until(20 * SECOND, |world| world.clients[reader].consumer().log.len() == 150));
    assert_eq!(leaders_since(&world, died), [never, behind], "handed on, and nobody else");
    let served = world.statuses.get(&never).expect("it is here");
    assert!(served.groups.iter().all(|group| group.vhost != "/" || group.role != "leader"));
    assert_eq!(lead(&mut world), behind);
    sound(&world);
    world.start(leader);
    finish(world);
}

#[test]
fn nobody_leads_where_only_nodes_of_priority_0_are_left() {
    let mut world = serving(LogSizes::default());
    let leader = lead(&mut world);
    for host in (0..3).filter(|host| *host != leader) {
        priority(&mut world, host, 0);
    }
    let last = name_of(leader);
    let act = GroupAct::Set(vec![Setting::Priority { node: last, priority: 0 }]);
    assert_eq!(code_of(&ask_group(&mut world, VHOST, &act)), "GROUP_NEEDS_LEADER");
    let died = world.now();
    world.end(leader, true);
    world.run_for(30 * SECOND);
    assert!(leaders_since(&world, died).is_empty(), "{:?}", leaders_since(&world, died));
    world.start(leader);
    assert_eq!(lead(&mut world), leader);
    finish(world);
}

#[test]
fn a_leader_that_is_given_priority_0_hands_over() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 300);
    world.run_for(500 * MILLI);
    let leader = lead(&mut world);
    priority(&mut world, leader, 0);
    world.statuses.clear();
    assert!(world.run_until(SECOND, |world| world.leader().is_some_and(|now| now != leader)));
    publish_all(&mut world, client);
    // It leads again once it may, and not by itself.
    priority(&mut world, leader, 3);
    world.run_for(3 * SECOND);
    assert_ne!(lead(&mut world), leader);
    finish(world);
}

#[test]
fn leadership_moves_to_and_fro_under_load_and_nothing_is_lost_or_seen_twice() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 2000);
    let reader = consumer(&mut world, "q", Consumer::new(50, 0));
    world.run_for(SECOND);
    let first = lead(&mut world);
    for round in 0..6 {
        let to = if round % 2 == 0 { (first + 1) % 3 } else { first };
        let before = world.now();
        let from = lead(&mut world);
        transfer(&mut world, VHOST, to);
        let (asked, moved) = (codes_since(&world, before, from), codes_since(&world, before, to));
        assert_eq!(asked.iter().filter(|code| **code == "HA-1007").count(), 1, "{asked:?}");
        assert!(moved.contains(&"HA-1010"), "{moved:?}");
        let confirmed = world.checker.confirmed;
        assert!(
            world.run_until(SECOND, |world| world.checker.confirmed > confirmed),
            "confirms again within 1 s"
        );
    }
    publish_all(&mut world, client);
    assert!(world.run_until(30 * SECOND, |world| world.checker.settled == 2000));
    let log = &world.clients[reader].consumer().log;
    let fresh = log.iter().filter(|(_, _, redelivered)| !redelivered).count();
    assert!(fresh <= 2000, "{fresh} came unmarked");
    finish(world);
}

#[test]
fn a_transfer_waits_for_a_node_that_lags_and_gives_up_with_a_clear_error() {
    let mut world = serving(TINY);
    let leader = lead(&mut world);
    let to = (leader + 1) % 3;
    world.end(to, true);
    let client = publisher(&mut world, "q", 600);
    publish_all(&mut world, client);
    let name = name_of(to);
    let act = |within_millis| GroupAct::Transfer { to: name.clone(), within_millis };
    assert_eq!(code_of(&ask_group(&mut world, VHOST, &act(5000))), "MEMBER_AWAY");
    world.start(to);
    assert!(world.settle(30 * SECOND));
    transfer(&mut world, VHOST, to);
    // A node that takes no part any more, while its links are there.
    let stuck = (to + 1) % 3;
    world.apply(&Fault::Pause(Target::Host(stuck), 20 * SECOND));
    let client = publisher(&mut world, "q", 100);
    publish_all(&mut world, client);
    let name = name_of(stuck);
    let reply = ask_group(&mut world, VHOST, &GroupAct::Transfer { to: name, within_millis: 500 });
    assert!(["TRANSFER_TIMEOUT", "MEMBER_AWAY"].contains(&code_of(&reply)), "{reply:?}");
    // Nobody told it to ask for votes, so that it would when it goes on.
    let before = world.now();
    world.run_for(20 * SECOND);
    let since = leaders_since(&world, before);
    assert_ne!(since.first(), Some(&stuck), "{since:?}");
    finish(world);
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let mut world = serving(LogSizes::default());
    let leader = lead(&mut world);
    let name = name_of(leader);
    let transfer = |to: &str| GroupAct::Transfer { to: to.to_owned(), within_millis: 1000 };
    let node =
        |node: &str, priority| GroupAct::Set(vec![Setting::Priority { node: node.to_owned(), priority }]);
    let required = |count| GroupAct::Set(vec![Setting::RequiredNodes(count)]);
    let permitted = |names: &[&str]| {
        GroupAct::Set(vec![Setting::PermittedNodes(names.iter().map(|name| (*name).to_owned()).collect())])
    };
    let cases = [
        (VHOST, transfer(&name), "MEMBER_LEADS"),
        (VHOST, transfer("nobody"), "MEMBER_NOT_FOUND"),
        (None, transfer(&name), "INVALID"),
        (VHOST, GroupAct::Transfer { to: name.clone(), within_millis: 0 }, "INVALID"),
        (VHOST, node(&name, 4), "INVALID"),
        (VHOST, node("nobody", 1), "MEMBER_NOT_FOUND"),
        (VHOST, required(4), "INVALID"),
        (VHOST, required(1), "GROUP_HAS_QUORUM"),
        (VHOST, GroupAct::Set(Vec::new()), "INVALID"),
        (None, required(3), "INVALID"),
        (VHOST, permitted(&["b1"]), "INVALID"),
        (None, permitted(&["b1", "b2"]), "MEMBER_NEEDED"),
        (None, permitted(&[""]), "INVALID"),
    ];
    let before = world.now();
    for (vhost, act, expected) in cases {
        assert_eq!(code_of(&ask_group(&mut world, vhost, &act)), expected, "{act:?}");
    }
    let nothing = |event: &Event| {
        event.code().is_some_and(|code| ["HA-1007", "HA-1011", "HA-1012", "HA-1015"].contains(&code))
    };
    assert!(!world.events.iter().any(|(at, _, event)| *at > before && nothing(event)));
    assert!(
        !set(&mut world, VHOST, Setting::Priority { node: name, priority: 1 }).changed,
        "it was so before"
    );
    finish(world);
}

#[test]
fn where_three_of_three_are_required_nothing_is_told_with_one_away() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 1000);
    let reader = consumer(&mut world, "q", Consumer::new(50, 0));
    world.run_for(SECOND);
    set(&mut world, VHOST, Setting::RequiredNodes(3));
    let leader = lead(&mut world);
    let away = (leader + 1) % 3;
    let confirmed = world.checker.confirmed;
    assert!(world.run_until(SECOND, |world| world.checker.confirmed > confirmed), "all three are here");
    world.end(away, true);
    world.run_for(100 * MILLI);
    let (confirmed, delivered) = (world.checker.confirmed, world.clients[reader].consumer().log.len());
    world.run_for(5 * SECOND);
    assert_eq!(world.checker.confirmed, confirmed, "nothing is confirmed");
    assert_eq!(world.clients[reader].consumer().log.len(), delivered, "nothing is delivered");
    let status = &world.statuses[&leader];
    let group = status.groups.iter().find(|group| group.vhost == "/").expect("the virtual host");
    assert!(!group.quorum && group.gate.is_some(), "{group:#?}");
    let lost = |(_, host, event): &(u64, HostId, Event)| {
        *host == leader && matches!(event, Event::QuorumLost { present: 2, needed: 3, .. })
    };
    assert_eq!(world.events.iter().filter(|event| lost(event)).count(), 1);
    // Whoever leads can still be told to do with fewer.
    let request = GroupRequest {
        vhost: Some("/".to_owned()),
        act: GroupAct::Set(vec![Setting::RequiredNodes(0)]),
        author: Author::local("a scene"),
        reason: String::new(),
    };
    let id = world.ask(leader, AdminRequest::Group(request));
    assert!(world.run_until(5 * SECOND, |world| world.replies.contains_key(&id)));
    assert!(world.run_until(SECOND, |world| world.checker.confirmed > confirmed), "at once");
    world.start(away);
    publish_all(&mut world, client);
    finish(world);
}

/// How often a host has told that the quorum of `/` is lost, since then.
fn losses_since(world: &World, since: u64, host: HostId) -> Vec<(usize, usize)> {
    let of = world.events.iter().filter(|(at, of, _)| *at > since && *of == host);
    let lost = of.filter_map(|(_, _, event)| match event {
        Event::QuorumLost { vhost, present, needed } if vhost == "/" => Some((*present, *needed)),
        _ => None,
    });
    lost.collect()
}

#[test]
fn a_lost_quorum_is_told_once_though_its_leader_steps_down_later() {
    let mut world = serving(LogSizes::default());
    let leader = lead(&mut world);
    let since = world.now();
    for other in (0..3).filter(|host| *host != leader) {
        world.end(other, true);
    }
    world.run_for(10 * SECOND);
    assert_eq!(losses_since(&world, since, leader), [(1, 2)]);
    world.start_all();
    assert!(world.settle(10 * SECOND));
    finish(world);
}

#[test]
fn a_leader_that_is_elected_with_too_few_for_what_is_required_says_so_once() {
    let mut world = serving(LogSizes::default());
    set(&mut world, VHOST, Setting::RequiredNodes(3));
    world.run_for(SECOND);
    let since = world.now();
    let first = lead(&mut world);
    world.end(first, true);
    world.run_for(5 * SECOND);
    let [next] = leaders_since(&world, since)[..] else { panic!("{:?}", leaders_since(&world, since)) };
    assert_eq!(losses_since(&world, since, next), [(2, 3)]);
    let other = 3 - first - next;
    assert_eq!(losses_since(&world, since, other), [], "it has a leader");
    world.start(first);
    assert!(world.settle(10 * SECOND));
    assert_eq!(losses_since(&world, since, next).len(), 1);
    finish(world);
}

#[test]
fn a_node_that_hangs_holds_back_what_needs_it() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 600);
    world.run_for(SECOND);
    set(&mut world, VHOST, Setting::RequiredNodes(3));
    let leader = lead(&mut world);
    let hung = (leader + 1) % 3;
    // Shorter than anybody needs to notice.
    world.apply(&Fault::Pause(Target::Host(hung), 300 * MILLI));
    world.run_for(20 * MILLI);
    let confirmed = world.checker.confirmed;
    world.run_for(250 * MILLI);
    assert_eq!(world.checker.confirmed, confirmed, "two have it, three are required");
    publish_all(&mut world, client);
    sound(&world);
    finish(world);
}

#[test]
fn controls_and_their_audit_are_the_same_everywhere_and_survive() {
    let mut world = serving(TINY);
    priority(&mut world, 1, 3);
    set(&mut world, VHOST, Setting::RequiredNodes(2));
    set(&mut world, None, Setting::PermittedNodes(["b1", "b2", "b3"].map(str::to_owned).into()));
    world.end(0, true);
    priority(&mut world, 2, 2);
    let client = publisher(&mut world, "q", 800);
    publish_all(&mut world, client);
    world.start(0);
    assert!(world.settle(30 * SECOND), "by snapshot");
    let audits = |world: &mut World| {
        let ids: Vec<u64> = (0..3).map(|host| world.ask(host, AdminRequest::Audit)).collect();
        world.run_until(SECOND, |world| ids.iter().all(|id| world.replies.contains_key(id)));
        ids.iter().map(|id| world.replies.remove(id).expect("an answer")).collect::<Vec<_>>()
    };
    let before = audits(&mut world);
    assert!(before.windows(2).all(|pair| pair[0] == pair[1]), "{before:#?}");
    for host in 0..3 {
        world.end(host, true);
    }
    world.start_all();
    assert!(world.settle(30 * SECOND));
    assert_eq!(audits(&mut world), before);
    for host in 0..3 {
        let status = &world.statuses[&host];
        assert_eq!(status.permitted_nodes, ["b1", "b2", "b3"]);
        let group = status.groups.iter().find(|group| group.vhost == "/").expect("the virtual host");
        let priorities: Vec<u32> = ["b1", "b2", "b3"]
            .map(|name| group.nodes.iter().find(|node| node.name == name).expect("a node").priority)
            .into();
        assert_eq!((priorities, group.required_nodes), (vec![1, 3, 2], 2));
    }
    assert_eq!(leader_of(&mut world, "/"), 1, "the highest priority");
    finish(world);
}

/// Asks the leader of `system` just when it hears of nobody, and is heard as given; what it says, when it hears again.
fn asked_of_a_leader_that_is_deposed(is_heard: bool, request: AdminRequest) -> AdminReply {
    let mut world = serving(LogSizes::default());
    let leader = leader_of(&mut world, "system");
    let others: Vec<HostId> = (0..3).filter(|host| *host != leader).collect();
    for other in &others {
        world.network.cut(*other, leader);
        if !is_heard {
            world.network.cut(leader, *other);
        }
    }
    let asked = world.ask(leader, request);
    let leads =
        |event: &Event| matches!(event, Event::RoleChanged { vhost, new: "leader", .. } if vhost == "system");
    let since = world.now();
    let is_led = |world: &mut World| {
        world.events.iter().any(|(at, host, event)| *at > since && *host != leader && leads(event))
    };
    assert!(world.run_until(60 * SECOND, is_led), "others lead");
    assert!(!world.replies.contains_key(&asked), "it cannot know");
    world.heal_all();
    assert!(world.run_until(10 * SECOND, |world| world.replies.contains_key(&asked)), "it is answered");
    let reply = world.replies.remove(&asked).expect("just seen");
    finish(world);
    reply
}

#[test]
fn whoever_asked_a_leader_that_is_deposed_hears_what_became_of_it() {
    let create = || AdminRequest::CreateVhost {
        name: "orders".to_owned(),
        reason: String::new(),
        author: Author::local("a test"),
    };
    let taken = asked_of_a_leader_that_is_deposed(true, create());
    assert!(matches!(taken, AdminReply::Done { changed: true }), "{taken:?}");
    let overtaken = asked_of_a_leader_that_is_deposed(false, create());
    let AdminReply::Failed { code, leader_admin_address: Some(_), message, .. } = overtaken else {
        panic!("{overtaken:?}");
    };
    assert!(code == "NOT_LEADER" && message.ends_with("nothing is changed"), "{code}: {message}");
}

#[test]
fn a_name_that_commands_mean_something_else_by_is_no_virtual_hosts() {
    let mut world = serving(LogSizes::default());
    let leader = leader_of(&mut world, "system");
    for name in ["system", "*", " ", "\t"] {
        let request = AdminRequest::CreateVhost {
            name: name.to_owned(),
            reason: String::new(),
            author: Author::local("a test"),
        };
        let asked = world.ask(leader, request);
        assert!(world.run_until(10 * SECOND, |world| world.replies.contains_key(&asked)));
        let reply = world.replies.remove(&asked).expect("just seen");
        assert_eq!(code_of(&reply), "INVALID_NAME", "{name:?}");
    }
    finish(world);
}

#[test]
fn a_node_is_created_once_and_not_by_each_start() {
    let mut world = serving(LogSizes::default());
    for _ in 0..2 {
        for host in 0..3 {
            world.end(host, true);
        }
        world.start_all();
        assert!(world.settle(20 * SECOND));
    }
    for host in 0..3 {
        let created = |event: &Event| matches!(event, Event::NodeCreated { .. });
        let times = world.events.iter().filter(|(_, of, event)| *of == host && created(event)).count();
        assert_eq!(times, 2, "system and the first virtual host, on host {host}");
    }
    finish(world);
}
