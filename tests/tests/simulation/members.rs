//! Membership changed while it runs: whatever happens meanwhile, it comes to its end, and nothing confirmed is lost.

use quorate_core::admin::{
    AdminReply, AdminRequest, Author, GroupStatusView, MemberAct, MemberReport, MemberRequest, VerdictWord,
};
use quorate_core::controls::AuditRecord;
use quorate_core::event::Event;
use quorate_store::ids::GroupId;
use quorate_tests::sim::fault::{Fault, Target};
use quorate_tests::sim::schedule::{ClientId, HostId, MILLI, SECOND};
use quorate_tests::sim::storage::LogSizes;
use quorate_tests::sim::world::World;

use crate::stage::{
    SEED, TINY, finish, follower, hosts, lead, publish_all, publish_and_finish, publisher, serving, sound,
    system_leader,
};

/// Codes after which the tool asks again.
const AGAIN: [&str; 5] = ["NOT_LEADER", "LEADER_CHANGED", "UNDECIDED", "NO_QUORUM", "SHUTTING_DOWN"];

/// The operator's reason.
const WHY: &str = "a new kernel";

fn request(act: MemberAct, name: &str) -> AdminRequest {
    AdminRequest::Member(MemberRequest {
        act,
        name: name.to_owned(),
        address: None,
        store: None,
        within_millis: 20_000,
        reason: WHY.to_owned(),
        author: Author::local("a test"),
    })
}

/// Asks as the tool does, again and again, until the answer is a last one.
fn ask(world: &mut World, act: MemberAct, name: &str) -> Result<MemberReport, &'static str> {
    let mut last = None;
    for _ in 0..20 {
        let leader = system_leader(world);
        let id = world.ask(leader, request(act, name));
        world.run_until(25 * SECOND, |world| {
            world.replies.contains_key(&id) || world.hosts[leader].process.is_none()
        });
        match world.replies.remove(&id) {
            Some(AdminReply::Member(report)) if report.complete => return Ok(*report),
            Some(AdminReply::Failed { code, .. }) if !AGAIN.contains(&code) => return Err(code),
            other => last = other,
        }
        world.run_for(200 * MILLI);
    }
    panic!("{act:?} {name} does not come to its end: {last:?}");
}

/// What the audit of `system` has: each what, and what it became.
fn noted(world: &mut World, host: HostId) -> Vec<(String, String)> {
    let id = world.ask(host, AdminRequest::Audit);
    world.run_until(SECOND, |world| world.replies.contains_key(&id));
    let Some(AdminReply::Audit(pages)) = world.replies.remove(&id) else { panic!("an audit") };
    let system =
        pages.into_iter().find(|page| page.vhost == "system").expect("that of the cluster's own group");
    let record = |record: AuditRecord| {
        assert_eq!((record.author, record.reason.as_str()), (Author::local("a test"), WHY));
        (record.what, record.after)
    };
    system.records.into_iter().map(record).collect()
}

fn done(world: &mut World, act: MemberAct, name: &str) -> MemberReport {
    ask(world, act, name).unwrap_or_else(|code| panic!("{act:?} {name}: {code}"))
}

/// The voters' names as each running member has them, in every group.
fn voters(world: &mut World) -> Vec<String> {
    assert!(world.settle(60 * SECOND), "all are equal: {:#?}", world.statuses);
    let mut all: Vec<Vec<String>> = Vec::new();
    for status in world.statuses.values() {
        for group in &status.groups {
            let mut names: Vec<String> = group
                .nodes
                .iter()
                .filter(|node| node.role != "learner")
                .map(|node| node.name.clone())
                .collect();
            names.sort();
            all.push(names);
        }
    }
    all.dedup();
    assert_eq!(all.len(), 1, "the groups agree: {all:?}");
    all.remove(0)
}

/// The groups in which this host is a learner beside the voter of its name; it says how it gets the place.
fn standing_in(world: &mut World, host: HostId) -> Vec<GroupId> {
    assert!(world.settle(60 * SECOND), "all are equal: {:#?}", world.statuses);
    let status = &world.statuses[&host];
    let command = format!("quorate member replace --name {}", world.hosts[host].name);
    assert!(status.next.contains(&command), "{status:#?}");
    assert_eq!(status.verdict, VerdictWord::Joining, "{status:#?}");
    let learns = |group: &&GroupStatusView| group.role == "learner" && group.own_lag == 0;
    status.groups.iter().filter(learns).map(|group| group.group).collect()
}

/// The members' names, as the broker knows them that leads `system`.
fn members(world: &mut World) -> Vec<String> {
    let leader = system_leader(world);
    assert!(world.settle(60 * SECOND), "all are equal: {:#?}", world.statuses);
    world.statuses[&leader].members.iter().map(|member| member.name.clone()).collect()
}

/// Starts a broker with an empty store: under a name that was there before, or under the next one.
fn start_empty(world: &mut World, name: Option<&str>) -> HostId {
    let config = world.hosts[0].config.clone();
    let host = world.add_host(SEED, config);
    if let Some(name) = name {
        name.clone_into(&mut world.hosts[host].name);
    }
    world.start(host);
    host
}

fn name_of(world: &World, host: HostId) -> String {
    world.hosts[host].name.clone()
}

/// A host that is gone for good.
fn lose(world: &mut World, host: HostId) {
    world.end(host, true);
    world.away.insert(host);
}

/// The process of a removed broker ends by itself, and says why.
fn refused(world: &mut World, host: HostId) {
    assert!(
        world.run_until(10 * SECOND, |world| world.hosts[host].process.is_none()),
        "host {host} is told that it was removed"
    );
    let (status, why) = world.hosts[host].exit.clone().expect("it ended by itself");
    assert_eq!(status, 3, "{why}");
    assert!(why.contains("removed from the cluster"), "{why}");
    world.away.insert(host);
}

fn busy() -> (World, ClientId) {
    let mut world = serving(TINY);
    let client = publisher(&mut world, "q", 3000);
    world.run_for(500 * MILLI);
    (world, client)
}

/// As [`busy`], but the disk of one that does not lead is lost; with that host and its name.
fn busy_without_one() -> (World, ClientId, HostId, String) {
    let (mut world, client) = busy();
    let dead = follower(&mut world);
    let name = name_of(&world, dead);
    lose(&mut world, dead);
    (world, client, dead, name)
}

/// Removes a member, whose process ends then.
fn remove(world: &mut World, host: HostId) {
    let name = name_of(world, host);
    done(world, MemberAct::Remove, &name);
    refused(world, host);
}

#[test]
fn a_fourth_and_a_fifth_become_voters_and_hold_the_cluster_up() {
    let (mut world, client) = busy();
    for name in ["b4", "b5"] {
        start_empty(&mut world, None);
        let report = done(&mut world, MemberAct::Add, name);
        assert!(report.changed, "{report:?}");
        assert!(!done(&mut world, MemberAct::Add, name).changed, "a second time it is so already");
    }
    assert_eq!(voters(&mut world), ["b1", "b2", "b3", "b4", "b5"]);
    // Two of the founders may go now, and a virtual host made now is on all five.
    let leader = system_leader(&mut world);
    world.ask(
        leader,
        AdminRequest::CreateVhost {
            name: "later".into(),
            reason: String::new(),
            author: Author::local("a test"),
        },
    );
    world.run_for(2 * SECOND);
    assert_eq!(voters(&mut world).len(), 5);
    world.end(0, true);
    world.end(1, true);
    publish_and_finish(world, client);
}

#[test]
fn a_voter_that_was_away_when_it_became_one_is_a_vote_though_it_does_not_know() {
    let made_voter = |world: &World| {
        let said =
            |event: &Event| matches!(event, Event::MemberAdded { vhost, voter: true, .. } if vhost == "/");
        world.events.iter().find(|(_, _, event)| said(event)).map(|(at, _, _)| *at)
    };
    let joining = || {
        let mut world = hosts(2, TINY);
        world.start(0);
        world.start(1);
        lead(&mut world);
        let client = publisher(&mut world, "q", 1000);
        world.start(2);
        (world, client)
    };
    let (mut undisturbed, _) = joining();
    assert!(undisturbed.run_until(10 * SECOND, |world| made_voter(world).is_some()));
    let voter_at = made_voter(&undisturbed).expect("it became one");
    let mut unknowing = 0;
    for step in 1..40 {
        let (mut world, client) = joining();
        world.run_for(voter_at - step * MILLI / 10 - world.now());
        assert_eq!(made_voter(&world), None, "the same happens each time");
        (0..3).for_each(|host| world.end(host, true));
        world.start(0);
        world.start(1);
        lead(&mut world);
        world.run_for(SECOND);
        if made_voter(&world).is_none() {
            continue;
        }
        unknowing += 1;
        // Its vote and one other are two of three.
        lose(&mut world, 1);
        world.start(2);
        publish_all(&mut world, client);
        finish(world);
    }
    assert!(unknowing > 0, "no outage came between the two");
}

#[test]
fn a_permission_may_come_before_the_broker() {
    let (mut world, client) = busy();
    let leader = system_leader(&mut world);
    let id = world.ask(leader, request(MemberAct::Add, "b4"));
    world.run_for(SECOND);
    assert!(!world.replies.contains_key(&id), "it is waited for");
    start_empty(&mut world, None);
    assert!(world.run_until(20 * SECOND, |world| world.replies.contains_key(&id)));
    assert_eq!(voters(&mut world).len(), 4);
    publish_and_finish(world, client);
}

#[test]
fn a_permission_that_nobody_used_is_taken_back() {
    let (mut world, client) = busy();
    let leader = system_leader(&mut world);
    world.ask(leader, request(MemberAct::Add, "b4"));
    world.run_for(SECOND);
    let report = done(&mut world, MemberAct::Remove, "b4");
    assert!(report.changed, "{report:?}");
    assert_eq!(report.detail, "nobody is waited for under the name b4 any more");
    publish_all(&mut world, client);
    finish(world);
}

#[test]
fn a_leader_that_hands_over_says_that_it_was_decided() {
    for act in [MemberAct::Drain, MemberAct::Remove] {
        let (mut world, client) = busy();
        let leader = system_leader(&mut world);
        let name = world.hosts[leader].name.clone();
        let id = world.ask(leader, request(act, &name));
        assert!(world.run_until(20 * SECOND, |world| world.replies.contains_key(&id)), "{act:?}");
        let reply = world.replies.remove(&id);
        let Some(AdminReply::Failed { code, .. }) = &reply else { panic!("{act:?}: {reply:?}") };
        assert_eq!(*code, "LEADER_CHANGED", "{act:?}: {reply:?}");
        // The next one finds it done.
        world.copies = 1;
        assert!(!done(&mut world, act, &name).changed, "{act:?}");
        if act == MemberAct::Remove {
            refused(&mut world, leader);
        }
        publish_all(&mut world, client);
        finish(world);
    }
}

#[test]
fn a_dead_member_is_removed_and_the_quorum_is_recomputed() {
    let (mut world, client, _, name) = busy_without_one();
    assert_eq!(ask(&mut world, MemberAct::Remove, "nobody"), Err("MEMBER_NOT_FOUND"));
    assert!(done(&mut world, MemberAct::Remove, &name).changed);
    let report = done(&mut world, MemberAct::Remove, &name);
    assert!(!report.changed && report.detail.contains("its store never will be again"), "{report:?}");
    assert_eq!(voters(&mut world).len(), 2);
    publish_all(&mut world, client);
    // Of two one may go, and the last one never.
    let other = follower(&mut world);
    world.copies = 1;
    remove(&mut world, other);
    let left = system_leader(&mut world);
    let name = name_of(&world, left);
    assert_eq!(ask(&mut world, MemberAct::Remove, &name), Err("MEMBER_NEEDED"));
    finish(world);
}

#[test]
fn a_removed_broker_that_starts_again_is_told_before_it_writes_anything() {
    let (mut world, client, dead, name) = busy_without_one();
    done(&mut world, MemberAct::Remove, &name);
    let before = world.hosts[dead].medium.fingerprint();
    world.away.remove(&dead);
    world.start(dead);
    refused(&mut world, dead);
    assert!(world.hosts[dead].medium.fingerprint() == before, "a refusal changes no file");
    publish_and_finish(world, client);
}

#[test]
fn a_leader_that_is_removed_hands_over_first_and_is_refused_after() {
    let (mut world, client) = busy();
    for _ in 0..2 {
        let leader = lead(&mut world);
        world.copies = 1;
        remove(&mut world, leader);
        // Its store is never taken back.
        world.away.remove(&leader);
        world.start(leader);
        refused(&mut world, leader);
    }
    assert_eq!(voters(&mut world).len(), 1);
    publish_and_finish(world, client);
}

#[test]
fn a_removed_name_comes_back_with_an_empty_store_only_by_permission() {
    let (mut world, client) = busy();
    let gone = follower(&mut world);
    let name = name_of(&world, gone);
    remove(&mut world, gone);
    start_empty(&mut world, Some(&name));
    world.run_for(5 * SECOND);
    assert_eq!(voters(&mut world).len(), 2, "it is a learner");
    done(&mut world, MemberAct::Add, &name);
    assert_eq!(voters(&mut world).len(), 3);
    publish_and_finish(world, client);
}

#[test]
fn a_lost_disk_is_replaced_before_or_after_the_new_one_is_there() {
    for early in [false, true] {
        let (mut world, client) = busy();
        let dead = follower(&mut world);
        let name = name_of(&world, dead);
        assert_eq!(ask(&mut world, MemberAct::Replace, &name), Err("MEMBER_ALIVE"));
        lose(&mut world, dead);
        world.run_for(SECOND);
        if early {
            done(&mut world, MemberAct::Replace, &name);
        }
        let fresh = start_empty(&mut world, Some(&name));
        if !early {
            world.run_for(5 * SECOND);
            // It is filled, and stands in for the other one: without a vote.
            assert_eq!(standing_in(&mut world, fresh), [GroupId::SYSTEM, GroupId(1)]);
            assert_eq!(voters(&mut world), ["b1", "b2", "b3"]);
            assert!(done(&mut world, MemberAct::Replace, &name).changed);
        }
        world.run_for(5 * SECOND);
        assert_eq!(voters(&mut world), ["b1", "b2", "b3"]);
        // The disk that was thought lost turns up again.
        world.away.remove(&dead);
        world.start(dead);
        assert!(world.run_until(10 * SECOND, |world| world.hosts[dead].process.is_none()));
        assert_eq!(world.hosts[dead].exit.as_ref().map(|exit| exit.0), Some(3));
        world.away.insert(dead);
        publish_and_finish(world, client);
    }
}

#[test]
fn the_next_disk_may_go_as_soon_as_the_replacement_of_the_last_one_votes() {
    let (mut world, client, dead, name) = busy_without_one();
    world.run_for(SECOND);
    let fresh = start_empty(&mut world, Some(&name));
    done(&mut world, MemberAct::Replace, &name);
    let votes = |world: &mut World| {
        let groups = world.statuses.get(&fresh).map(|status| &status.groups);
        groups.is_some_and(|groups| groups.len() == 2 && groups.iter().all(|group| group.role == "replica"))
    };
    assert!(world.run_until(10 * SECOND, votes));
    // Nothing came after it: that it is committed is remembered all the same.
    let leader = system_leader(&mut world);
    lose(&mut world, leader);
    for host in (0..world.hosts.len()).filter(|host| ![dead, leader].contains(host)) {
        world.end(host, true);
        world.start(host);
    }
    publish_all(&mut world, client);
    lead(&mut world);
}

#[test]
fn a_stand_in_gives_way_to_the_member_that_comes_back() {
    let (mut world, client, dead, name) = busy_without_one();
    world.run_for(SECOND);
    let fresh = start_empty(&mut world, Some(&name));
    world.run_for(5 * SECOND);
    assert_eq!(standing_in(&mut world, fresh), [GroupId::SYSTEM, GroupId(1)]);
    // Its broker is restarted meanwhile: it goes on as what it was.
    world.end(fresh, false);
    world.start(fresh);
    world.run_for(5 * SECOND);
    assert_eq!(standing_in(&mut world, fresh), [GroupId::SYSTEM, GroupId(1)]);
    // The volume was not lost at all, only not mounted.
    world.away.remove(&dead);
    world.start(dead);
    assert!(world.run_until(10 * SECOND, |world| world.hosts[fresh].process.is_none()));
    assert_eq!(world.hosts[fresh].exit.as_ref().map(|exit| exit.0), Some(3));
    world.away.insert(fresh);
    world.run_for(5 * SECOND);
    assert_eq!(members(&mut world), ["b1", "b2", "b3"]);
    assert_eq!(voters(&mut world), ["b1", "b2", "b3"]);
    publish_and_finish(world, client);
}

#[test]
fn nobody_is_removed_whom_the_quorum_needs() {
    let (mut world, client) = busy();
    let absent = follower(&mut world);
    world.end(absent, false);
    world.run_for(SECOND);
    let needed = (0..3).find(|host| *host != absent).expect("two are left");
    let name = name_of(&world, needed);
    assert_eq!(ask(&mut world, MemberAct::Remove, &name), Err("MEMBER_NEEDED"));
    assert_eq!(ask(&mut world, MemberAct::Replace, &name), Err("MEMBER_ALIVE"));
    world.start(absent);
    publish_and_finish(world, client);
}

#[test]
fn a_drained_broker_votes_and_does_not_lead_until_it_is_resumed() {
    let (mut world, client) = busy();
    let leader = lead(&mut world);
    let name = name_of(&world, leader);
    done(&mut world, MemberAct::Drain, &name);
    let next = lead(&mut world);
    assert_ne!(next, leader);
    // One of the two others goes: the drained one votes, and the third leads.
    world.end(next, false);
    world.run_for(3 * SECOND);
    assert_ne!(lead(&mut world), leader);
    // Nobody else is left to lead: better it than nobody.
    world.start(next);
    assert!(world.settle(20 * SECOND));
    let others: Vec<String> =
        (0..3).filter(|host| *host != leader).map(|host| name_of(&world, host)).collect();
    done(&mut world, MemberAct::Drain, &others[0]);
    assert_eq!(ask(&mut world, MemberAct::Drain, &others[1]), Err("MEMBER_NEEDED"));
    done(&mut world, MemberAct::Resume, &name);
    done(&mut world, MemberAct::Drain, &others[1]);
    assert!(world.run_until(10 * SECOND, |world| world.leader() == Some(leader)), "it leads again");
    let expected =
        [(&name, "drained"), (&others[0], "drained"), (&name, "may lead"), (&others[1], "drained")];
    let expected = expected.map(|(name, after)| (format!("member {name}"), after.to_owned()));
    assert_eq!(noted(&mut world, leader), expected, "what was refused is not there");
    world.end(leader, false);
    world.away.insert(leader);
    world.statuses.clear();
    assert!(world.wait_for_leader(30 * SECOND).is_some(), "drained ones lead for want of others");
    world.away.remove(&leader);
    publish_and_finish(world, client);
}

#[test]
fn a_cluster_shrinks_to_one_and_grows_from_it_again_and_again() {
    let (mut world, client) = busy();
    world.copies = 1;
    let mut present: Vec<HostId> = vec![0, 1, 2];
    for turn in 0..2 {
        while present.len() > 1 {
            let gone = present.remove(turn % present.len());
            remove(&mut world, gone);
        }
        assert_eq!(voters(&mut world).len(), 1);
        for _ in 0..2 {
            let host = start_empty(&mut world, None);
            let name = name_of(&world, host);
            done(&mut world, MemberAct::Add, &name);
            present.push(host);
        }
        assert_eq!(voters(&mut world).len(), 3);
    }
    publish_and_finish(world, client);
}

#[test]
fn two_removed_in_a_row_leave_the_last_entries_with_those_who_stay() {
    // Five; two of them stay behind in `/` while the other three confirm, and two of those three are removed.
    let mut world = serving(LogSizes::default());
    for name in ["b4", "b5"] {
        start_empty(&mut world, None);
        done(&mut world, MemberAct::Add, name);
    }
    world.copies = 1;
    let leader = lead(&mut world);
    let mut others: Vec<HostId> = (0..5).filter(|host| *host != leader).collect();
    let slow = others.split_off(2);
    for host in &slow {
        world.end(*host, false);
    }
    let client = publisher(&mut world, "q", 1000);
    publish_all(&mut world, client);
    for host in &slow {
        world.start(*host);
        world.hosts[*host].speed.factor = 50;
    }
    world.run_for(50 * MILLI);
    for host in &others {
        let name = name_of(&world, *host);
        // Until the two that were away are there and known to be sound, it is refused.
        while ask(&mut world, MemberAct::Remove, &name) == Err("MEMBER_NEEDED") {
            world.run_for(20 * MILLI);
        }
        // As soon as the command says that it is done, its disk may go.
        lose(&mut world, *host);
    }
    // A disk of one that stays is lost too: two of the three are left, and hold everything.
    lose(&mut world, leader);
    for host in &slow {
        world.hosts[*host].speed.factor = 1;
    }
    finish(world);
}

#[test]
fn once_a_removal_is_done_a_restart_needs_nobody_who_was_removed() {
    for power in [false, true] {
        for size in [2, 1] {
            let (mut world, client) = busy();
            world.copies = 1;
            let mut present: Vec<HostId> = vec![0, 1, 2];
            while present.len() > size {
                let gone = present.remove(1);
                let name = name_of(&world, gone);
                done(&mut world, MemberAct::Remove, &name);
                // As soon as the command says that it is done, its disk may go.
                lose(&mut world, gone);
            }
            for host in &present {
                world.end(*host, power);
            }
            world.start_all();
            lead(&mut world);
            assert_eq!(voters(&mut world).len(), size, "power {power}");
            publish_and_finish(world, client);
        }
    }
}

/// Kills or cuts whoever leads at many moments of a change; asked again, it comes to its end.
fn interrupted(act: MemberAct, power: bool) {
    for step in 0..24 {
        let (mut world, client) = busy();
        world.copies = 1;
        let subject = match act {
            MemberAct::Add => start_empty(&mut world, None),
            _ => follower(&mut world),
        };
        let name = name_of(&world, subject);
        if act == MemberAct::Replace {
            lose(&mut world, subject);
            start_empty(&mut world, Some(&name));
            world.run_for(SECOND);
        }
        let leader = system_leader(&mut world);
        world.ask(leader, request(act, &name));
        world.run_for(step * step * 2 * MILLI);
        let fault = if power {
            Fault::Power(Target::Host(leader), 300 * MILLI)
        } else {
            Fault::Kill(Target::Host(leader), 300 * MILLI)
        };
        world.apply(&fault);
        world.run_for(SECOND);
        done(&mut world, act, &name);
        if act == MemberAct::Remove {
            refused(&mut world, subject);
        }
        let expected = match act {
            MemberAct::Add => 4,
            MemberAct::Remove => 2,
            _ => 3,
        };
        publish_all(&mut world, client);
        assert_eq!(voters(&mut world).len(), expected, "step {step}");
        sound(&world);
        finish(world);
    }
}

#[test]
fn an_addition_survives_the_death_of_the_leader_at_any_step() {
    interrupted(MemberAct::Add, false);
}

#[test]
fn a_removal_survives_the_death_of_the_leader_at_any_step() {
    interrupted(MemberAct::Remove, true);
}

#[test]
fn a_replacement_survives_the_death_of_the_leader_at_any_step() {
    interrupted(MemberAct::Replace, false);
}

/// It is linked, and answers operators; whoever waits for it to lead waits for ever.
#[test]
fn a_drained_broker_hands_nothing_to_one_whose_store_is_damaged() {
    for turn in 0..2 {
        let (mut world, client) = busy();
        let leader = lead(&mut world);
        let others: Vec<HostId> = (0..3).filter(|host| *host != leader).collect();
        let (damaged, sound) = (others[turn], others[1 - turn]);
        world.end(damaged, false);
        world.hosts[damaged].medium.spoil_stamp();
        world.start(damaged);
        world.run_for(2 * SECOND);
        let name = name_of(&world, leader);
        done(&mut world, MemberAct::Drain, &name);
        let moved = world.run_until(10 * SECOND, |world| world.leader() == Some(sound));
        assert!(moved, "host {damaged} is damaged: {:#?}", world.statuses);
        publish_all(&mut world, client);
    }
}
