//! Fewer than a majority go on, by an operator's word or as the designated primary, and the others come back.

use quorate_core::admin::{
    AdminReply, AdminRequest, Author, ForceAct, ForceKind, GroupAct, GroupRequest, GroupStatusView, Setting,
    VerdictWord,
};
use quorate_core::event::Event;
use quorate_store::ids::GroupId;
use quorate_tests::sim::host::name_of;
use quorate_tests::sim::mark::ends;
use quorate_tests::sim::plan::cluster;
use quorate_tests::sim::schedule::{HostId, MILLI, SECOND};
use quorate_tests::sim::storage::LogSizes;
use quorate_tests::sim::world::World;

use crate::deleting::{NAME, ask_for_it};
use crate::stage::{SEED, ask_group, finish, lead, publish_all, publisher, serving, set, sound, verdict};

const VHOST: &str = "/";

fn confirmation(world: &World, host: HostId) -> String {
    let stamp = world.hosts[host].medium.stamp().expect("a stamp");
    stamp.cluster_id.expect("a cluster").to_string()
}

fn ask(world: &mut World, host: HostId, vhost: Option<&str>, kind: ForceKind) -> AdminReply {
    let act = GroupAct::Force(ForceAct { kind, confirm: confirmation(world, host) });
    let request = GroupRequest {
        vhost: vhost.map(str::to_owned),
        act,
        author: Author::local("a scene"),
        reason: "the others are lost".to_owned(),
    };
    let id = world.ask(host, AdminRequest::Group(request));
    world.run_until(30 * SECOND, |world| world.replies.contains_key(&id));
    world.replies.remove(&id).expect("an answer")
}

/// Has these hosts go on, the first of them asked; from here on what only others have may be given up.
pub(crate) fn go_on(world: &mut World, hosts: &[HostId], lease: u64) {
    let nodes = hosts.iter().map(|host| name_of(*host)).collect();
    let held = ends(world, hosts[0]);
    world.ledger.left_behind(hosts[0], &held, None);
    let reply = ask(world, hosts[0], Some(VHOST), ForceKind::Override { nodes, lease_millis: lease / MILLI });
    assert!(matches!(reply, AdminReply::Group(_)), "{reply:?}");
}

/// What a host answers that is to go on alone.
pub(crate) fn ask_alone(world: &mut World, host: HostId) -> AdminReply {
    let nodes = vec![name_of(host)];
    ask(world, host, Some(VHOST), ForceKind::Override { nodes, lease_millis: 60_000 })
}

fn take_over(world: &mut World, host: HostId) -> AdminReply {
    let held = ends(world, host);
    let kind = ForceKind::TakeOver { node: name_of(host), other_is_stopped: true };
    let reply = ask(world, host, None, kind);
    world.ledger.left_behind(host, &held, None);
    reply
}

fn group<'a>(world: &'a World, host: HostId, vhost: &str) -> &'a GroupStatusView {
    let status = world.statuses.get(&host).expect("a status");
    status.groups.iter().find(|group| group.vhost == vhost).expect("the group")
}

fn in_force(world: &World, host: HostId) -> Option<&'static str> {
    let groups = &world.statuses.get(&host)?.groups;
    groups.iter().find(|group| group.vhost == VHOST)?.in_force.as_ref().map(|view| view.kind)
}

/// Everybody has everything, and nothing that was forced is in force any more.
fn is_over(world: &World) -> bool {
    world.is_settled()
        && world.statuses.values().all(|status| status.groups.iter().all(|group| group.in_force.is_none()))
}

fn count(world: &World, host: HostId, of: impl Fn(&Event) -> bool) -> usize {
    world.events.iter().filter(|(_, at, event)| *at == host && of(event)).count()
}

/// Three hosts with so many messages, of which one is left; and which that is.
fn last_of_three(messages: u64) -> (World, HostId, Vec<HostId>) {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", messages);
    publish_all(&mut world, client);
    let last = lead(&mut world);
    let others: Vec<HostId> = (0..3).filter(|host| *host != last).collect();
    for host in &others {
        world.end(*host, true);
    }
    world.run_for(3 * SECOND);
    (world, last, others)
}

/// The others are back, and what was forced ends.
pub(crate) fn all_return(world: &mut World, others: &[HostId]) {
    for host in others {
        world.start(*host);
    }
    assert!(world.run_until(60 * SECOND, |world| is_over(world)), "{:#?}", world.statuses);
}

fn two() -> World {
    let mut configs = cluster(2, LogSizes::default());
    for config in &mut configs {
        config.wait_for = 2;
    }
    let mut world = World::new(SEED, configs, std::env::var_os("QUORATE_SIM_TRACE").is_some());
    world.start_all();
    lead(&mut world);
    assert!(world.settle(10 * SECOND), "two hosts form");
    world
}

fn designate(world: &mut World, host: HostId) {
    set(world, None, Setting::Primary(Some(name_of(host))));
    world.run_for(SECOND);
}

#[test]
fn the_last_of_three_goes_on_by_an_override_and_the_others_come_back_with_everything() {
    let (mut world, last, others) = last_of_three(100);
    assert_eq!(verdict(&world, last), Some((VerdictWord::Waiting, "Q1".to_owned())));
    go_on(&mut world, &[last], 600 * SECOND);
    assert_eq!(lead(&mut world), last);
    assert_eq!(in_force(&world, last), Some("override"));
    let second = publisher(&mut world, "q", 100);
    publish_all(&mut world, second);
    sound(&world);
    // It is what it is after a restart, too.
    world.end(last, true);
    world.start(last);
    lead(&mut world);
    let third = publisher(&mut world, "q", 50);
    publish_all(&mut world, third);
    assert_eq!(in_force(&world, last), Some("override"));
    all_return(&mut world, &others);
    let required =
        |event: &Event| matches!(event, Event::RequiredNodesChanged { vhost, .. } if vhost == VHOST);
    assert_eq!(count(&world, last, required), 2, "it began, and it ended");
    finish(world);
}

#[test]
fn whoever_must_not_lead_does_only_while_an_override_names_it() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 50);
    publish_all(&mut world, client);
    let last = 2;
    set(&mut world, Some(VHOST), Setting::Priority { node: name_of(last), priority: 0 });
    let leads = |world: &World| {
        let group = group(world, last, VHOST);
        (
            group.role == "leader",
            group.nodes.iter().find(|node| node.name == name_of(last)).map(|node| node.priority),
        )
    };
    assert!(world.run_until(10 * SECOND, |world| leads(world) == (false, Some(0))), "{:#?}", world.statuses);
    assert!(world.settle(10 * SECOND));
    for host in [0, 1] {
        world.end(host, true);
    }
    world.run_for(3 * SECOND);
    go_on(&mut world, &[last], 600 * SECOND);
    assert_eq!(lead(&mut world), last);
    let second = publisher(&mut world, "q", 50);
    publish_all(&mut world, second);
    assert_eq!(leads(&world), (true, Some(0)), "nobody has set anything else");
    all_return(&mut world, &[0, 1]);
    assert!(world.run_until(20 * SECOND, |world| leads(world) == (false, Some(0))), "{:#?}", world.statuses);
    finish(world);
}

/// Nothing travels between these two any more, or everything does again.
fn part(world: &mut World, one: HostId, other: HostId, cut: bool) {
    for (from, to) in [(one, other), (other, one)] {
        if cut { world.network.cut(from, to) } else { world.network.heal(from, to) }
    }
}

/// The third goes on by an override out of sight of a majority that goes on, too. One of that hears of it just when it hears
/// nothing of its leader: what both confirmed is not given up for that.
#[test]
fn a_moment_without_its_leader_makes_no_voter_leave_a_majority_for_an_override() {
    let mut world = serving(LogSizes::default());
    let client = publisher(&mut world, "q", 50);
    publish_all(&mut world, client);
    let leader = lead(&mut world);
    let others: Vec<HostId> = (0..3).filter(|host| *host != leader).collect();
    let [follower, last] = others[..] else { panic!("three hosts") };
    world.intrusions.expected.insert(last);
    part(&mut world, last, leader, true);
    part(&mut world, last, follower, true);
    world.run_for(3 * SECOND);
    go_on(&mut world, &[last], 600 * SECOND);
    assert!(world.run_until(2 * SECOND, |world| in_force(world, last).is_some()), "{:#?}", world.statuses);
    let second = publisher(&mut world, "q", 50);
    world.clients[second].only = Some(leader);
    publish_all(&mut world, second);
    let active =
        |world: &World, host| verdict(world, host).is_some_and(|shown| shown.0 == VerdictWord::Active);
    part(&mut world, leader, follower, true);
    assert!(world.run_until(5 * SECOND, |world| !active(world, follower)), "{:#?}", world.statuses);
    part(&mut world, last, follower, false);
    world.run_for(SECOND);
    part(&mut world, leader, follower, false);
    part(&mut world, leader, last, false);
    let goes_on =
        |world: &World| active(world, leader) && active(world, follower) && in_force(world, leader).is_none();
    assert!(world.run_until(20 * SECOND, |world| goes_on(world)), "{:#?}", world.statuses);
    let shown = verdict(&world, last).expect("it runs").0;
    assert_eq!(shown, VerdictWord::Panicked, "{:#?}", world.statuses);
    let third = publisher(&mut world, "q", 50);
    world.clients[third].only = Some(leader);
    publish_all(&mut world, third);
    sound(&world);
}

#[test]
fn whoever_is_only_in_contact_ends_no_override() {
    let (mut world, last, others) = last_of_three(100);
    go_on(&mut world, &[last], 600 * SECOND);
    lead(&mut world);
    for _ in 0..5 {
        let since = world.events.len();
        world.start(others[0]);
        let met = |event: &Event| matches!(event, Event::ContactGained { .. });
        let is_met = |world: &mut World| {
            world.events[since..].iter().any(|(_, host, event)| *host == last && met(event))
        };
        assert!(world.run_until(10 * SECOND, is_met));
        world.end(others[0], true);
        world.run_for(5 * SECOND);
        assert_eq!(in_force(&world, last), Some("override"));
    }
    let second = publisher(&mut world, "q", 50);
    publish_all(&mut world, second);
    all_return(&mut world, &others);
    finish(world);
}

#[test]
fn no_restart_and_no_clock_makes_a_lease_longer_and_what_returns_after_it_still_ends_the_override() {
    let (mut world, last, others) = last_of_three(50);
    go_on(&mut world, &[last], 20 * SECOND);
    let began = world.now();
    let is_over_now = |world: &World| {
        let status = world.statuses.get(&last).expect("a status");
        let gate =
            status.groups.iter().find(|group| group.vhost == VHOST).and_then(|group| group.gate.as_ref());
        gate.is_some_and(|gate| gate.contains("lease is over"))
    };
    let mut restarts = 0;
    while !is_over_now(&world) {
        assert!(world.now() < began + 21 * SECOND, "{:#?}", world.statuses);
        world.run_for(1500 * MILLI);
        if restarts < 8 {
            world.end(last, restarts % 2 == 0);
            // Forward by decades, and back.
            world.hosts[last].wall_ms = if restarts % 2 == 0 { 4_000_000_000_000 } else { 1000 };
            world.start(last);
            restarts += 1;
        }
        world.run_for(1500 * MILLI);
    }
    // Kept over a restart, and nobody is served.
    world.end(last, true);
    world.start(last);
    world.run_for(5 * SECOND);
    assert!(is_over_now(&world), "{:#?}", world.statuses);
    let told = |event: &Event| matches!(event, Event::QuorumLost { vhost, .. } if vhost == VHOST);
    assert!(count(&world, last, told) > 0);
    let second = publisher(&mut world, "q", 20);
    world.run_for(10 * SECOND);
    assert!(!world.clients[second].publisher().is_done());
    world.start(others[0]);
    assert!(world.run_until(60 * SECOND, |world| in_force(world, last).is_none()), "{:#?}", world.statuses);
    world.start(others[1]);
    publish_all(&mut world, second);
    finish(world);
}

#[test]
fn an_operator_makes_a_lease_longer_and_ends_it() {
    let (mut world, last, others) = last_of_three(1);
    go_on(&mut world, &[last], 5 * SECOND);
    world.run_for(10 * SECOND);
    assert!(group(&world, last, VHOST).gate.is_some());
    let nodes = vec![name_of(last)];
    let reply = ask(&mut world, last, Some(VHOST), ForceKind::Override { nodes, lease_millis: 60_000 });
    assert!(matches!(reply, AdminReply::Group(_)), "{reply:?}");
    let client = publisher(&mut world, "q", 20);
    publish_all(&mut world, client);
    set(&mut world, Some(VHOST), Setting::RequiredNodes(0));
    world.run_for(3 * SECOND);
    assert!(group(&world, last, VHOST).gate.is_some(), "{:#?}", world.statuses);
    all_return(&mut world, &others);
    finish(world);
}

fn five() -> World {
    let mut world = World::new(SEED, cluster(5, LogSizes::default()), false);
    world.start_all();
    lead(&mut world);
    assert!(world.settle(20 * SECOND));
    world
}

/// Three of five end, and the other two go on by an override; the one that was asked comes first.
fn two_go_on(world: &mut World) -> [HostId; 2] {
    for host in 2..5 {
        world.end(host, true);
    }
    world.run_for(5 * SECOND);
    let held = [0, 1].map(|host| ends(world, host)[&GroupId(1)]);
    let asked = if held[1] > held[0] { [1, 0] } else { [0, 1] };
    go_on(world, &asked, 600 * SECOND);
    asked
}

#[test]
fn two_of_five_mean_two() {
    let mut world = five();
    let client = publisher(&mut world, "q", 50);
    publish_all(&mut world, client);
    world.run_for(3 * SECOND);
    let asked = two_go_on(&mut world);
    assert_eq!(lead(&mut world), asked[0]);
    let client = publisher(&mut world, "q", 50);
    publish_all(&mut world, client);
    // One of the two alone confirms nothing.
    world.end(asked[1], true);
    world.run_for(3 * SECOND);
    let client = publisher(&mut world, "q", 50);
    world.run_for(2 * SECOND);
    let confirmed = world.checker.confirmed;
    world.run_for(10 * SECOND);
    assert_eq!(world.checker.confirmed, confirmed);
    for host in 0..5 {
        world.start(host);
    }
    publish_all(&mut world, client);
    assert!(world.run_until(90 * SECOND, |world| is_over(world)), "{:#?}", world.statuses);
    finish(world);
}

#[test]
fn a_take_over_says_nothing_of_groups_with_more_voters() {
    let mut world = five();
    ask_for_it(&mut world);
    assert!(world.settle(20 * SECOND), "all five have it");
    let asked = two_go_on(&mut world);
    world.run_for(5 * SECOND);
    world.end(asked[0], true);
    world.run_for(3 * SECOND);
    let left = asked[1];
    let AdminReply::Group(report) = take_over(&mut world, left) else { panic!("it is taken over") };
    assert!(report.detail.ends_with(&format!("still without a quorum: {NAME}")), "{}", report.detail);
    world.run_for(3 * SECOND);
    assert_eq!(group(&world, left, VHOST).role, "leader");
    let other = group(&world, left, NAME);
    assert!(other.in_force.is_none() && other.role != "leader", "{other:?}");
}

#[test]
fn nobody_goes_on_while_somebody_here_who_is_not_named_has_more() {
    let mut world = five();
    world.end(0, true);
    let client = publisher(&mut world, "q", 50);
    publish_all(&mut world, client);
    world.run_for(3 * SECOND);
    for host in 2..5 {
        world.end(host, true);
    }
    world.start(0);
    world.run_for(5 * SECOND);
    let alone = |host| ForceKind::Override { nodes: vec![name_of(host)], lease_millis: 60_000 };
    let AdminReply::Failed { code, message, .. } = ask(&mut world, 0, Some(VHOST), alone(0)) else {
        panic!("refused")
    };
    assert!(code == "CONFLICT" && message.contains(&name_of(1)), "{code}: {message}");
    assert_eq!(in_force(&world, 0), None);
    let held = ends(&world, 1);
    world.ledger.left_behind(1, &held, None);
    let reply = ask(&mut world, 1, Some(VHOST), alone(1));
    assert!(matches!(reply, AdminReply::Group(_)), "{reply:?}");
    for host in 2..5 {
        world.start(host);
    }
    assert!(world.run_until(90 * SECOND, |world| is_over(world)), "{:#?}", world.statuses);
    finish(world);
}

#[test]
fn what_makes_no_sense_is_not_forced() {
    let code = |reply: &AdminReply| match reply {
        AdminReply::Failed { code, .. } => *code,
        other => panic!("refused, not {other:?}"),
    };
    let mut world = serving(LogSizes::default());
    let last = lead(&mut world);
    let alone = |host: HostId| ForceKind::Override { nodes: vec![name_of(host)], lease_millis: 60_000 };
    assert_eq!(code(&ask(&mut world, last, Some(VHOST), alone(last))), "GROUP_HAS_QUORUM");
    let take = |host: HostId, other_is_stopped| ForceKind::TakeOver { node: name_of(host), other_is_stopped };
    assert_eq!(code(&ask(&mut world, last, None, take(last, true))), "GROUP_NOT_OF_TWO");
    for host in (0..3).filter(|host| *host != last) {
        world.end(host, true);
    }
    world.run_for(3 * SECOND);
    let other = (last + 1) % 3;
    assert_eq!(code(&ask(&mut world, last, Some(VHOST), alone(other))), "MEMBER_AWAY");
    let both = ForceKind::Override { nodes: vec![name_of(last), name_of(other)], lease_millis: 60_000 };
    assert_eq!(code(&ask(&mut world, last, Some(VHOST), both)), "INVALID", "that is a majority");
    let brief = ForceKind::Override { nodes: vec![name_of(last)], lease_millis: 10 };
    assert_eq!(code(&ask(&mut world, last, Some(VHOST), brief)), "INVALID");
    sound(&world);
    let mut world = two();
    assert_eq!(code(&ask(&mut world, 0, None, take(0, true))), "GROUP_HAS_QUORUM");
    world.end(1, true);
    world.run_for(3 * SECOND);
    assert_eq!(code(&ask(&mut world, 0, Some(VHOST), alone(0))), "GROUP_OF_TWO");
    assert_eq!(code(&ask(&mut world, 0, None, take(0, false))), "NOT_CONFIRMED");
    sound(&world);
}

#[test]
fn the_designated_primary_goes_on_alone_and_the_other_one_never_does() {
    let mut world = two();
    let first = publisher(&mut world, "q", 60);
    publish_all(&mut world, first);
    designate(&mut world, 0);
    world.end(0, true);
    world.run_for(30 * SECOND);
    assert_eq!(verdict(&world, 1).map(|shown| shown.0), Some(VerdictWord::Waiting));
    world.end(1, true);
    world.start(1);
    world.run_for(30 * SECOND);
    assert_eq!(
        verdict(&world, 1).map(|shown| shown.0),
        Some(VerdictWord::Waiting),
        "nor when it starts alone"
    );
    world.start(0);
    assert!(world.settle(30 * SECOND), "{:#?}", world.statuses);
    // The survivor.
    world.end(1, true);
    assert!(
        world.run_until(60 * SECOND, |world| in_force(world, 0) == Some("solo")),
        "{:#?}",
        world.statuses
    );
    let second = publisher(&mut world, "q", 60);
    publish_all(&mut world, second);
    // What an operator could try now is refused, and says what helps.
    let primary = GroupAct::Set(vec![Setting::Primary(Some(name_of(1)))]);
    let AdminReply::Failed { code, next, .. } = ask_group(&mut world, None, &primary) else {
        panic!("refused")
    };
    assert!(
        code == "GROUP_NOT_OF_TWO" && next.iter().any(|next| next.contains("take-over")),
        "{code}: {next:?}"
    );
    let AdminReply::Failed { code, .. } = take_over(&mut world, 0) else { panic!("refused") };
    assert_eq!(code, "GROUP_HAS_QUORUM");
    world.end(0, true);
    world.start(0);
    lead(&mut world);
    let third = publisher(&mut world, "q", 60);
    publish_all(&mut world, third);
    world.start(1);
    assert!(world.run_until(60 * SECOND, |world| is_over(world)), "{:#?}", world.statuses);
    // Started alone after both were down.
    world.end(0, true);
    world.end(1, true);
    world.start(0);
    assert!(
        world.run_until(60 * SECOND, |world| in_force(world, 0) == Some("solo")),
        "{:#?}",
        world.statuses
    );
    let fourth = publisher(&mut world, "q", 60);
    publish_all(&mut world, fourth);
    world.start(1);
    assert!(world.run_until(60 * SECOND, |world| is_over(world)), "{:#?}", world.statuses);
    finish(world);
}

#[test]
fn a_designated_primary_that_is_moved_while_the_link_breaks_goes_on_nowhere() {
    let mut world = two();
    designate(&mut world, 0);
    crate::stage::transfer(&mut world, None, 0);
    world.network.cut(0, 1);
    let request = GroupRequest {
        vhost: None,
        act: GroupAct::Set(vec![Setting::Primary(Some(name_of(1)))]),
        author: Author::local("a scene"),
        reason: String::new(),
    };
    world.ask(0, AdminRequest::Group(request));
    world.run_for(500 * MILLI);
    world.network.cut(1, 0);
    world.run_for(60 * SECOND);
    assert_eq!((in_force(&world, 0), in_force(&world, 1)), (None, None));
    assert!((0..2).all(|host| verdict(&world, host).is_some_and(|shown| shown.0 == VerdictWord::Waiting)));
    finish(world);
}

#[test]
fn after_a_take_over_the_old_holder_that_booted_alone_gives_way_and_keeps_what_only_it_had() {
    let mut world = two();
    let first = publisher(&mut world, "q", 60);
    publish_all(&mut world, first);
    designate(&mut world, 0);
    world.end(0, true);
    world.run_for(3 * SECOND);
    let reply = take_over(&mut world, 1);
    assert!(matches!(reply, AdminReply::Group(_)), "{reply:?}");
    lead(&mut world);
    assert_eq!(in_force(&world, 1), Some("take-over"));
    let moved = |event: &Event| match event {
        Event::DesignatedPrimaryChanged { before, after, .. } => Some((before.clone()?, after.clone()?)),
        _ => None,
    };
    let told: Vec<_> =
        world.events.iter().filter_map(|(_, host, event)| Some((*host, moved(event)?))).collect();
    assert_eq!(told, [(1, ("b1".to_owned(), "b2".to_owned()))], "HA-1013, once");
    let second = publisher(&mut world, "q", 60);
    publish_all(&mut world, second);
    world.end(1, true);
    // Nobody can keep it from that: for a while there are two histories.
    let held = ends(&world, 0);
    world.ledger.left_behind(0, &held, None);
    world.start(0);
    assert!(
        world.run_until(60 * SECOND, |world| in_force(world, 0) == Some("solo")),
        "{:#?}",
        world.statuses
    );
    let lost = publisher(&mut world, "only", 40);
    publish_all(&mut world, lost);
    for client in &mut world.clients {
        client.resting = true;
    }
    world.cut_clients();
    let held = ends(&world, 1);
    world.ledger.left_behind(1, &held, None);
    world.start(1);
    assert!(world.run_until(90 * SECOND, |world| is_over(world)), "{:#?}", world.statuses);
    let told = world.events.iter().find_map(|(_, host, event)| match event {
        Event::Diverged { queues, vhost, .. } if *host == 0 && vhost == VHOST => Some(queues.clone()),
        _ => None,
    });
    assert_eq!(told.expect("HA-1014").get("only"), Some(&40), "what is announced is what is lost");
    assert!(!world.hosts[0].medium.images().is_empty(), "and it is kept");
    sound(&world);
}

#[test]
fn a_take_over_without_a_designated_primary_ends_once_the_other_one_has_everything() {
    let mut world = two();
    let first = publisher(&mut world, "q", 60);
    publish_all(&mut world, first);
    world.end(1, true);
    world.run_for(3 * SECOND);
    let reply = take_over(&mut world, 0);
    assert!(matches!(reply, AdminReply::Group(_)), "{reply:?}");
    let second = publisher(&mut world, "q", 60);
    publish_all(&mut world, second);
    world.start(1);
    assert!(world.run_until(60 * SECOND, |world| is_over(world)), "{:#?}", world.statuses);
    finish(world);
}

#[test]
fn a_take_over_does_not_wait_for_one_whose_store_is_damaged() {
    let mut world = two();
    let client = publisher(&mut world, "q", 50);
    publish_all(&mut world, client);
    world.end(1, false);
    world.hosts[1].medium.spoil_stamp();
    world.start(1);
    world.run_for(3 * SECOND);
    let reply = take_over(&mut world, 0);
    assert!(matches!(reply, AdminReply::Group(_)), "{reply:?}");
    let more = publisher(&mut world, "q", 50);
    publish_all(&mut world, more);
    assert_eq!(in_force(&world, 0), Some("take-over"));
}
