//! What the scenarios have in common: a cluster, clients, and what must hold in the end.

use quorate_core::admin::{
    AdminReply, AdminRequest, Author, GroupAct, GroupReport, GroupRequest, Setting, VerdictWord,
};
use quorate_core::event::Event;
use quorate_tests::sim::client::{Client, Consumer, Publisher, Work};
use quorate_tests::sim::dice::Dice;
use quorate_tests::sim::host::name_of;
use quorate_tests::sim::plan::cluster;
use quorate_tests::sim::run::drain;
use quorate_tests::sim::schedule::{ClientId, HostId, MILLI, SECOND};
use quorate_tests::sim::storage::LogSizes;
use quorate_tests::sim::world::World;

/// The seed of every scenario; they hold with any.
pub(crate) const SEED: u64 = 11;

/// A log so small that segments retire after a few messages.
pub(crate) const TINY: LogSizes = LogSizes { segment_bytes: 16 << 10, log_retain: 64 << 10 };

/// Three hosts that found one cluster when `wait_for` of them are there; nothing runs yet.
pub(crate) fn hosts(wait_for: u32, sizes: LogSizes) -> World {
    let mut configs = cluster(3, sizes);
    for config in &mut configs {
        config.wait_for = wait_for;
    }
    World::new(SEED, configs, std::env::var_os("QUORATE_SIM_TRACE").is_some())
}

/// Three hosts in service.
pub(crate) fn serving(sizes: LogSizes) -> World {
    let mut world = hosts(2, sizes);
    world.start_all();
    lead(&mut world);
    assert!(world.settle(10 * SECOND), "three hosts form within 10 s");
    world
}

/// Waits for a leader.
pub(crate) fn lead(world: &mut World) -> HostId {
    world.statuses.clear();
    world.wait_for_leader(5 * SECOND).expect("somebody leads within 5 s")
}

/// Some host that runs and does not lead.
pub(crate) fn follower(world: &mut World) -> HostId {
    let leader = lead(world);
    (0..world.hosts.len())
        .find(|host| *host != leader && world.hosts[*host].process.is_some())
        .expect("a follower")
}

/// A publisher of so many messages.
pub(crate) fn publisher(world: &mut World, queue: &str, count: u64) -> ClientId {
    let mut dice = Dice::new(SEED, &format!("publisher {queue} {}", world.clients.len()));
    let mut publisher = Publisher::new(1000 + world.clients.len() as u128, count, &mut dice);
    publisher.rate = 100;
    publisher.filler = 100;
    let hosts = world.hosts.len();
    world.add_client(Client::new(queue, Work::Publisher(publisher), hosts, dice))
}

/// A consumer.
pub(crate) fn consumer(world: &mut World, queue: &str, consumer: Consumer) -> ClientId {
    let dice = Dice::new(SEED, &format!("consumer {queue} {}", world.clients.len()));
    let hosts = world.hosts.len();
    world.add_client(Client::new(queue, Work::Consumer(consumer), hosts, dice))
}

/// Lets a publisher finish.
pub(crate) fn publish_all(world: &mut World, id: ClientId) {
    let done = world.run_until(60 * SECOND, |world| world.clients[id].publisher().is_done());
    assert!(done, "the publisher finishes within 60 s; refused last: {:?}", world.clients[id].last_refusal);
}

/// Three stores with so many messages, each of them confirmed, all down by power.
pub(crate) fn all_down(sizes: LogSizes, messages: u64) -> World {
    let mut world = serving(sizes);
    let client = publisher(&mut world, "q", messages);
    publish_all(&mut world, client);
    world.run_for(6 * SECOND);
    for host in 0..3 {
        world.end(host, true);
    }
    world
}

/// Nothing was violated so far.
pub(crate) fn sound(world: &World) {
    assert_eq!(world.checker.violations(), <&[String]>::default());
}

/// Starts whatever does not run, waits until all are equal, drains every queue and accounts for every message.
pub(crate) fn finish(mut world: World) {
    world.heal_all();
    lead(&mut world);
    assert!(world.settle(60 * SECOND), "all are equal within 60 s: {:#?}", world.statuses);
    for client in &mut world.clients {
        client.resting = true;
    }
    world.cut_clients();
    drain(&mut world, SEED);
    sound(&world);
}

/// Lets a publisher finish, and accounts for every message as [`finish`] does.
pub(crate) fn publish_and_finish(mut world: World, id: ClientId) {
    publish_all(&mut world, id);
    finish(world);
}

/// What a host says of itself.
pub(crate) fn verdict(world: &World, host: HostId) -> Option<(VerdictWord, String)> {
    world.statuses.get(&host).map(|status| (status.verdict, status.row.clone()))
}

/// How often a host received a snapshot of the first virtual host.
pub(crate) fn snapshots(world: &World, host: HostId) -> usize {
    let installed = |event: &Event| matches!(event, Event::Update { vhost, progress, .. } if vhost == "/" && progress.contains("installed"));
    world.events.iter().filter(|(_, of, event)| *of == host && installed(event)).count()
}

/// The host that leads `system`.
pub(crate) fn system_leader(world: &mut World) -> HostId {
    lead(world);
    leader_of(world, "system")
}

/// The host that leads this group with a quorum.
pub(crate) fn leader_of(world: &mut World, vhost: &str) -> HostId {
    let leads = |world: &World, host: HostId| {
        world.hosts[host].process.is_some()
            && world.statuses.get(&host).is_some_and(|status| {
                status
                    .groups
                    .iter()
                    .any(|group| group.vhost == vhost && group.role == "leader" && group.quorum)
            })
    };
    let any = |world: &World| (0..world.hosts.len()).find(|host| leads(world, *host));
    assert!(world.run_until(5 * SECOND, |world| any(world).is_some()), "somebody leads {vhost}");
    any(world).expect("just seen")
}

/// Asks whoever leads the group until it says what became of it. No virtual host: `system`.
pub(crate) fn ask_group(world: &mut World, vhost: Option<&str>, act: &GroupAct) -> AdminReply {
    for _ in 0..20 {
        let leader = leader_of(world, vhost.unwrap_or("system"));
        let request = GroupRequest {
            vhost: vhost.map(str::to_owned),
            act: act.clone(),
            author: Author::local("a scene"),
            reason: "a test".to_owned(),
        };
        let id = world.ask(leader, AdminRequest::Group(request));
        world.run_until(40 * SECOND, |world| {
            world.replies.contains_key(&id) || world.hosts[leader].process.is_none()
        });
        match world.replies.remove(&id) {
            Some(AdminReply::Failed { code: "NOT_LEADER" | "NO_QUORUM" | "UNDECIDED", .. }) | None => {
                world.statuses.clear();
                world.run_for(100 * MILLI);
            }
            Some(reply) => return reply,
        }
    }
    panic!("nobody says what became of {act:?}");
}

/// Has a setting made; what was told of it.
pub(crate) fn set(world: &mut World, vhost: Option<&str>, setting: Setting) -> GroupReport {
    match ask_group(world, vhost, &GroupAct::Set(vec![setting])) {
        AdminReply::Group(report) => *report,
        other => panic!("{other:?}"),
    }
}

/// Has leadership moved to this host, if it is not there.
pub(crate) fn transfer(world: &mut World, vhost: Option<&str>, to: HostId) {
    let act = GroupAct::Transfer { to: name_of(to), within_millis: 10_000 };
    match ask_group(world, vhost.or(Some("system")), &act) {
        AdminReply::Group(_) | AdminReply::Failed { code: "MEMBER_LEADS", .. } => {}
        other => panic!("{other:?}"),
    }
    world.statuses.clear();
    assert_eq!(leader_of(world, vhost.unwrap_or("system")), to);
}
