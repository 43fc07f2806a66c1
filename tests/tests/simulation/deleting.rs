//! A virtual host that is deleted: gone everywhere, once, whoever was away or ended in the middle, and nothing else with it.

use quorate_core::admin::{AdminReply, AdminRequest, Author, GroupAct, GroupReport};
use quorate_core::event::Event;
use quorate_protocol::fault::FaultCode;
use quorate_store::ids::GroupId;
use quorate_store::state::{Family, StateStore as _};
use quorate_tests::sim::client::FIRST_VHOST;
use quorate_tests::sim::dice::Dice;
use quorate_tests::sim::schedule::{ClientId, HostId, MILLI, SECOND};
use quorate_tests::sim::storage::{LogSizes, Opened, open_store};
use quorate_tests::sim::world::World;

use crate::stage::{
    TINY, ask_group, finish, lead, leader_of, publish_all, publisher, serving, sound, system_leader, transfer,
};

pub(crate) const NAME: &str = "orders";
/// Fine enough that no two writes of a host fall into one.
pub(crate) const INSTANT: u64 = MILLI / 20;

/// Has it created, and led.
pub(crate) fn ask_for_it(world: &mut World) {
    let leader = system_leader(world);
    world.ask(
        leader,
        AdminRequest::CreateVhost {
            name: NAME.to_owned(),
            reason: String::new(),
            author: Author::local("a test"),
        },
    );
    leader_of(world, NAME);
}

fn create(world: &mut World) {
    ask_for_it(world);
    assert!(world.settle(10 * SECOND), "every host has it");
}

/// So many messages in it, all confirmed.
pub(crate) fn fill(world: &mut World, count: u64) -> ClientId {
    let id = publisher(world, "q", count);
    NAME.clone_into(&mut world.clients[id].vhost);
    publish_all(world, id);
    id
}

fn deletion(group: Option<u32>) -> GroupAct {
    GroupAct::DeleteVhost { name: NAME.to_owned(), confirm: NAME.to_owned(), group }
}

fn delete(world: &mut World) -> GroupReport {
    match ask_group(world, None, &deletion(None)) {
        AdminReply::Group(report) => *report,
        other => panic!("{other:?}"),
    }
}

/// The code with which it is refused.
fn refused(world: &mut World, act: &GroupAct) -> &'static str {
    match ask_group(world, None, act) {
        AdminReply::Failed { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

/// How often this host said HA-1002 of it.
pub(crate) fn told(world: &World, host: HostId) -> usize {
    let is_it = |event: &Event| matches!(event, Event::NodeDeleted { vhost } if vhost == NAME);
    world.events.iter().filter(|(_, of, event)| *of == host && is_it(event)).count()
}

/// Groups of which this host's log or state store has anything.
pub(crate) fn held(world: &World, host: HostId) -> Vec<GroupId> {
    let medium = world.hosts[host].medium.clone_now();
    let Opened::Open(_, found) = open_store(&medium, LogSizes::default(), "", &mut Dice::new(1, "a look"))
    else {
        panic!("host {host} has a store");
    };
    let mut groups: Vec<GroupId> = found.groups.iter().map(|group| group.group).collect();
    let pairs =
        medium.state.scan(Family::Node, b"space/", b"space0", usize::MAX, None).expect("the state is there");
    groups.extend(
        pairs.iter().map(|(key, _)| GroupId(u32::from_be_bytes(key[6..].try_into().expect("a number")))),
    );
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// Every host has `system` and the first virtual host, and nothing of another one.
fn all_are_rid_of_it(world: &mut World, what: &str) {
    let gone = world.run_until(20 * SECOND, |world| {
        (0..3).all(|host| world.statuses.get(&host).is_some_and(|status| status.groups.len() == 2))
            && world.is_settled()
            && (0..3).all(|host| held(world, host) == [GroupId(0), GroupId(1)])
    });
    let left: Vec<_> = (0..3).map(|host| held(world, host)).collect();
    assert!(gone, "{what}: the hosts have {left:?}: {:#?}", world.statuses);
}

/// What was in it is nothing that anybody accounts for.
pub(crate) fn accounts_for_the_rest(mut world: World) {
    for client in world.clients.iter_mut().filter(|client| client.vhost != FIRST_VHOST) {
        client.resting = true;
    }
    finish(world);
}

/// In service, with messages in the first virtual host and in this one.
fn begin(sizes: LogSizes) -> World {
    let mut world = serving(sizes);
    create(&mut world);
    let client = publisher(&mut world, "q", 100);
    publish_all(&mut world, client);
    fill(&mut world, 50);
    world
}

#[test]
fn deleted_it_is_gone_on_every_host_and_told_once_and_the_rest_stays() {
    let mut world = begin(LogSizes::default());
    assert!(world.settle(10 * SECOND));
    let client = world.clients.len() - 1;
    let wrong = GroupAct::DeleteVhost { name: NAME.to_owned(), confirm: "order".to_owned(), group: None };
    assert_eq!(refused(&mut world, &wrong), "NOT_CONFIRMED");
    let report = delete(&mut world);
    assert_eq!((report.changed, report.messages), (true, Some(50)), "{report:?}");
    all_are_rid_of_it(&mut world, "deleted");
    assert_eq!([0, 1, 2].map(|host| told(&world, host)), [1, 1, 1]);
    // Its client is told why, and is not let in again.
    let refused_for_good =
        |world: &mut World| world.clients[client].last_refusal == Some(FaultCode::VhostNotFound);
    assert!(world.run_until(5 * SECOND, refused_for_good), "{:?}", world.clients[client].last_refusal);
    // Who asks again, not knowing that it was done, changes nothing; who means the name is told that there is none.
    let AdminReply::Group(again) = ask_group(&mut world, None, &deletion(Some(2))) else {
        panic!("answered")
    };
    assert!(!again.changed);
    assert_eq!(refused(&mut world, &deletion(None)), "VHOST_NOT_FOUND");
    accounts_for_the_rest(world);
}

#[test]
fn declared_again_it_is_another_group_with_nothing_of_the_first_one() {
    let mut world = begin(LogSizes::default());
    let client = world.clients.len() - 1;
    world.clients[client].resting = true;
    world.cut_clients();
    delete(&mut world);
    // At once: some have not carried it out by now.
    create(&mut world);
    let group = |world: &World, host: HostId| {
        let status = world.statuses.get(&host)?;
        status.groups.iter().find(|group| group.vhost == NAME).map(|group| group.group)
    };
    assert_eq!([0, 1, 2].map(|host| group(&world, host)), [Some(GroupId(3)); 3]);
    // A deletion of the first one, asked for again, is none of this one.
    let AdminReply::Group(again) = ask_group(&mut world, None, &deletion(Some(2))) else {
        panic!("answered")
    };
    assert!(!again.changed);
    assert_eq!(refused(&mut world, &deletion(Some(7))), "VHOST_DIFFERS");
    fill(&mut world, 5);
    assert!(world.settle(10 * SECOND), "whoever leads `system` knows of all five");
    let report = delete(&mut world);
    assert_eq!((report.changed, report.messages), (true, Some(5)), "{report:?}");
    all_are_rid_of_it(&mut world, "deleted twice");
    accounts_for_the_rest(world);
}

#[test]
fn whoever_was_away_takes_it_away_when_it_comes_back_by_log_or_by_snapshot() {
    for (sizes, messages) in [(LogSizes::default(), 20), (TINY, 2000)] {
        let mut world = begin(sizes);
        world.end(2, false);
        lead(&mut world);
        delete(&mut world);
        let client = publisher(&mut world, "q", messages);
        publish_all(&mut world, client);
        // What holds the log back is cut while nobody else needs it.
        world.run_for(20 * SECOND);
        world.start(2);
        all_are_rid_of_it(&mut world, "one was away");
        assert_eq!([0, 1, 2].map(|host| told(&world, host)), [1, 1, 1], "{messages} messages");
        assert_eq!(world.hosts[2].medium.images(), Vec::<String>::new(), "nothing is kept of it");
        accounts_for_the_rest(world);
    }
}

#[test]
fn after_an_outage_of_all_whoever_missed_it_neither_brings_it_back_nor_is_in_the_way() {
    for late in 0..2 {
        let mut world = begin(LogSizes::default());
        // It knows from its leadership what the others had, and says so in its stamp.
        transfer(&mut world, Some(NAME), 2);
        fill(&mut world, 10);
        world.run_for(6 * SECOND);
        world.end(2, true);
        lead(&mut world);
        delete(&mut world);
        world.run_until(10 * SECOND, |world| [0, 1].iter().all(|host| told(world, *host) == 1));
        (0..2).for_each(|host| world.end(host, true));
        // With one who knows, then with both.
        world.start(2);
        world.start(late);
        lead(&mut world);
        world.start(1 - late);
        all_are_rid_of_it(&mut world, "an outage");
        assert_eq!([0, 1, 2].map(|host| told(&world, host)), [1, 1, 1]);
        let wrong = |event: &Event| {
            let text = event.text();
            matches!(event, Event::Verdict { verdict: "needs-operator", .. }) || text.contains("SAFE-2003")
        };
        let said: Vec<_> = world.events.iter().filter(|(_, _, event)| wrong(event)).collect();
        assert!(said.is_empty(), "{said:?}");
        accounts_for_the_rest(world);
    }
}

/// Operations of a host from when the deletion is asked for until nothing is left.
fn operations(victim: HostId) -> u64 {
    let mut world = begin(LogSizes::default());
    let before = world.hosts[victim].medium.files.operations();
    delete(&mut world);
    all_are_rid_of_it(&mut world, "undisturbed");
    world.hosts[victim].medium.files.operations() - before
}

/// Ends one host after so many of its writes, in the middle of the next one if its power is cut.
fn interrupt(world: &mut World, victim: HostId, operation: u64, power: bool) {
    if power {
        world.hosts[victim].medium.files.cut_power_at(operation);
    }
    let end = world.hosts[victim].medium.files.operations() + operation;
    let until = world.now() + 5 * SECOND;
    world.restarts = false;
    while world.now() < until
        && world.hosts[victim].process.is_some()
        && (power || world.hosts[victim].medium.files.operations() < end)
    {
        world.run_for(INSTANT);
    }
    world.restarts = true;
    world.end(victim, power);
}

fn at_any_write(power: bool) {
    for victim in 0..3 {
        let last = operations(victim);
        assert!(last > 8, "{last} operations of host {victim}");
        for operation in 1..=last {
            let what = format!("host {victim}, operation {operation} of {last}, power {power}");
            let mut world = begin(LogSizes::default());
            let leader = system_leader(&mut world);
            let request = quorate_core::admin::GroupRequest {
                vhost: None,
                act: deletion(Some(2)),
                author: Author::local("a test"),
                reason: String::new(),
            };
            world.ask(leader, AdminRequest::Group(request));
            interrupt(&mut world, victim, operation, power);
            // All begin again, and nobody but the stores knows how far it was.
            (0..3).filter(|host| *host != victim).for_each(|host| world.end(host, power));
            world.start_all();
            lead(&mut world);
            // Whether it was decided or not, it is so when it is asked for again.
            ask_group(&mut world, None, &deletion(Some(2)));
            all_are_rid_of_it(&mut world, &what);
            assert!((0..3).all(|host| told(&world, host) <= 1), "{what}: told once");
            sound(&world);
            accounts_for_the_rest(world);
        }
    }
}

#[test]
fn killed_after_any_write_it_is_deleted_or_never_was() {
    at_any_write(false);
}

#[test]
fn without_power_in_any_write_it_is_deleted_or_never_was() {
    at_any_write(true);
}

/// `system` is known up to its last checkpoint by a start, and the group may be there before `system` names it.
#[test]
fn killed_after_any_write_of_its_creation_every_host_knows_its_name() {
    for victim in 0..3 {
        for operation in 1..=12 {
            let mut world = serving(LogSizes::default());
            let leader = system_leader(&mut world);
            let author = Author::local("a test");
            world.ask(
                leader,
                AdminRequest::CreateVhost { name: NAME.to_owned(), reason: String::new(), author },
            );
            interrupt(&mut world, victim, operation, false);
            world.start_all();
            world.statuses.clear();
            ask_for_it(&mut world);
            assert!(world.settle(20 * SECOND), "{:#?}", world.statuses);
            for status in world.statuses.values() {
                let names: Vec<&str> = status.groups.iter().map(|group| group.vhost.as_str()).collect();
                assert_eq!(names, ["system", FIRST_VHOST, NAME], "host {victim}, operation {operation}");
            }
            sound(&world);
            accounts_for_the_rest(world);
        }
    }
}

#[test]
fn the_first_virtual_host_can_be_deleted_and_a_founder_does_not_make_it_again() {
    let mut world = serving(LogSizes::default());
    let act = GroupAct::DeleteVhost { name: FIRST_VHOST.into(), confirm: FIRST_VHOST.into(), group: None };
    assert!(matches!(ask_group(&mut world, None, &act), AdminReply::Group(report) if report.changed));
    let only_system = |world: &World| {
        (0..3).all(|host| {
            world.statuses.get(&host).is_some_and(|status| status.groups.len() == 1)
                && held(world, host) == [GroupId(0)]
        })
    };
    assert!(world.run_until(20 * SECOND, |world| only_system(world)), "{:#?}", world.statuses);
    for host in 0..3 {
        world.end(host, true);
    }
    world.statuses.clear();
    world.start_all();
    world.run_for(5 * SECOND);
    assert!(only_system(&world), "{:#?}", world.statuses);
    let made = |event: &Event| matches!(event, Event::NodeCreated { vhost } if vhost == FIRST_VHOST);
    let times = |host| world.events.iter().filter(|(_, of, event)| *of == host && made(event)).count();
    assert_eq!([0, 1, 2].map(times), [1, 1, 1]);
    sound(&world);
}
