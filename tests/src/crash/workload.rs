//! What is done to a host while its medium is recorded: everything that a store goes through in its life.

use quorate_core::admin::{AdminReply, AdminRequest, Author, MemberAct, MemberRequest};
use quorate_store::files::crash::{CrashFiles, FileOperation};

use super::expected::Expected;
use super::offline;
use crate::sim::checker::Checker;
use crate::sim::client::{Client, Consumer, Publisher, Work};
use crate::sim::dice::Dice;
use crate::sim::ledger::Ledger;
use crate::sim::plan::cluster;
use crate::sim::record::{Note, Notes, Recorder};
use crate::sim::schedule::{ClientId, HostId, MILLI, Micros, SECOND};
use crate::sim::storage::LogSizes;
use crate::sim::world::World;

/// A log so small that segments retire after a few messages.
pub const SIZES: LogSizes = LogSizes { segment_bytes: 16 << 10, log_retain: 48 << 10 };

/// A workload as it was recorded.
pub struct Recording {
    /// Its name.
    pub name: &'static str,
    /// Its seed.
    pub seed: u64,
    /// How many hosts there were.
    pub hosts: usize,
    /// Whose medium it is.
    pub host: HostId,
    /// The disk before the first operation.
    pub disk: CrashFiles,
    /// What was there before the first operation.
    pub expected: Expected,
    /// Every operation.
    pub operations: Vec<FileOperation>,
    /// What was said, each with the number of operations before it.
    pub notes: Notes,
    /// Everything published, and what became of it in the end.
    pub checker: Checker,
}

/// The host whose medium is recorded.
const HOST: HostId = 0;
/// How often what clients were told is noted.
const LOOK: Micros = 50 * MILLI;
/// Every so many looks the other hosts' media are noted.
const PEERS: u64 = 4;

struct Stage {
    world: World,
    recorder: Recorder,
    seed: u64,
    looks: u64,
    /// The other hosts' media still go with what clients were told.
    with_peers: bool,
    /// What clients were told before an operator gave something up.
    before: Option<Checker>,
}

impl Stage {
    fn new(seed: u64, hosts: usize) -> Self {
        let mut configs = cluster(hosts, SIZES);
        for config in &mut configs {
            config.wait_for = u32::try_from(hosts / 2 + 1).expect("few");
        }
        let mut world = World::new(seed, configs, false);
        let recorder = world.hosts[HOST].medium.record();
        Self { world, recorder, seed, looks: 0, with_peers: hosts > 1, before: None }
    }

    fn look(&mut self) {
        self.looks += 1;
        self.recorder.note(Note::Told(self.world.checker.moment()));
        if self.with_peers && self.looks.is_multiple_of(PEERS) {
            let media = self.world.hosts.iter().map(|host| host.medium.clone_now()).collect();
            self.recorder.note(Note::Peers(media));
        }
    }

    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut World) -> bool) {
        for _ in 0..60 * SECOND / LOOK {
            if self.world.run_until(LOOK, &mut holds) {
                self.look();
                return;
            }
            self.look();
        }
        panic!("the workload waited for this in vain: {what}; {:?}", self.world.checker.violations());
    }

    fn wait(&mut self, time: Micros) {
        for _ in 0..time / LOOK {
            self.world.run_for(LOOK);
            self.look();
        }
    }

    fn lead(&mut self) {
        self.world.statuses.clear();
        self.until("a leader", |world| world.leader().is_some());
    }

    fn settle(&mut self) {
        self.world.statuses.clear();
        self.until("equal members", |world| world.is_settled());
    }

    /// Every member is a voter again, as it says itself.
    fn all_vote(&mut self) {
        let votes = |world: &World, host: HostId| {
            world.statuses.get(&host).is_some_and(|status| {
                let name = &world.hosts[host].name;
                status.groups.iter().all(|group| {
                    let node = group.nodes.iter().find(|node| node.name == *name);
                    node.is_some_and(|node| node.role == "replica" || node.role == "leader")
                })
            })
        };
        self.until("voters", |world| (0..world.hosts.len()).all(|host| votes(world, host)));
        self.settle();
    }

    /// From here on an operator decides what is lost: what was promised before does not bind any more.
    fn give_up(&mut self) {
        let checker = std::mem::take(&mut self.world.checker);
        assert_eq!(checker.violations(), <&[String]>::default(), "the workload itself went wrong");
        self.before = Some(checker);
        self.begin_anew();
    }

    fn begin_anew(&mut self) {
        self.world.checker = Checker::default();
        self.world.ledger = Ledger::default();
    }

    fn publish(&mut self, queue: &str, count: u64) -> ClientId {
        let world = &mut self.world;
        let mut dice = Dice::new(self.seed, &format!("publisher {queue} {}", world.clients.len()));
        let mut publisher = Publisher::new(1000 + world.clients.len() as u128, count, &mut dice);
        (publisher.rate, publisher.filler) = (40, 60);
        let hosts = world.hosts.len();
        let id = world.add_client(Client::new(queue, Work::Publisher(publisher), hosts, dice));
        self.until("every message confirmed", |world| world.clients[id].publisher().is_done());
        self.world.clients[id].resting = true;
        id
    }

    fn consume(&mut self, queue: &str, count: usize) {
        let world = &mut self.world;
        let dice = Dice::new(self.seed, &format!("consumer {}", world.clients.len()));
        let hosts = world.hosts.len();
        let client = Client::new(queue, Work::Consumer(Consumer::new(20, 0)), hosts, dice);
        let id = world.add_client(client);
        self.until("deliveries", |world| world.clients[id].consumer().log.len() >= count);
        self.world.clients[id].resting = true;
        self.world.cut_clients();
    }

    fn end_all(&mut self) {
        for host in 0..self.world.hosts.len() {
            self.world.end(host, false);
        }
    }

    fn shut_down(&mut self) {
        self.lead();
        let leads = |world: &World, host: HostId| {
            world.statuses.get(&host).is_some_and(|status| {
                status.groups.iter().any(|group| group.vhost == "system" && group.role == "leader")
            })
        };
        let hosts = self.world.hosts.len();
        self.until("a leader of system", |world| (0..hosts).any(|host| leads(world, host)));
        let leader = (0..hosts).find(|host| leads(&self.world, *host)).expect("just seen");
        let id = self.world.ask(
            leader,
            AdminRequest::Shutdown { reason: "a workload".into(), author: Author::local("a test") },
        );
        self.until("the shutdown", |world| world.hosts.iter().all(|host| host.process.is_none()));
        assert!(
            matches!(self.world.replies.get(&id), Some(AdminReply::ShutDown(_))),
            "the shutdown is answered"
        );
    }

    fn finish(mut self, name: &'static str) -> Recording {
        self.wait(LOOK);
        assert_eq!(self.world.checker.violations(), <&[String]>::default(), "the workload itself went wrong");
        let (operations, notes) = self.recorder.end();
        Recording {
            name,
            seed: self.seed,
            hosts: self.world.hosts.len(),
            host: HOST,
            disk: CrashFiles::new(),
            expected: Expected::default(),
            operations,
            notes,
            checker: self.before.unwrap_or(self.world.checker),
        }
    }
}

/// A broker of its own: founding, group commits, rotation, retirement, checkpoints, compaction, shutdown, restart after
/// clean and after a kill, a shutdown taken back, a mark taken back, a mark.
pub fn single(seed: u64) -> Recording {
    let mut stage = Stage::new(seed, 1);
    stage.world.start_all();
    stage.lead();
    stage.publish("q", 100);
    stage.consume("q", 40);
    stage.publish("q", 60);
    stage.shut_down();
    stage.world.start_all();
    stage.lead();
    stage.publish("r", 20);
    stage.end_all();
    stage.world.start_all();
    stage.lead();
    stage.publish("q", 30);
    stage.shut_down();
    offline::unmark(&stage.world.hosts[HOST].medium);
    stage.world.start_all();
    stage.lead();
    stage.end_all();
    offline::mark(&stage.world.hosts[HOST].medium, &[], 0xfeed);
    offline::unmark(&stage.world.hosts[HOST].medium);
    offline::mark(&stage.world.hosts[HOST].medium, &[], 0xbeef);
    stage.world.start_all();
    stage.lead();
    stage.publish("q", 20);
    stage.finish("single")
}

/// A broker of its own that is shut down, of which an image is made, log, stamp and state, and that is shut down again.
pub fn closed(seed: u64) -> Recording {
    let mut stage = Stage::new(seed, 1);
    stage.world.start_all();
    stage.lead();
    stage.publish("q", 60);
    stage.shut_down();
    let medium = &mut stage.world.hosts[HOST].medium;
    offline::keep(medium);
    stage.world.start_all();
    stage.lead();
    stage.publish("r", 200);
    stage.publish("q", 60);
    stage.shut_down();
    stage.finish("closed")
}

/// One of three brokers: besides the above, what it missed from the log and by snapshot, its copy of a history that was
/// given up kept in quarantine and filled again, its store given up by an operator and set aside.
pub fn member(seed: u64) -> Recording {
    let mut stage = Stage::new(seed, 3);
    stage.world.start_all();
    stage.lead();
    stage.settle();
    stage.publish("q", 100);
    stage.consume("q", 30);
    // Catches up from the log.
    stage.world.end(HOST, false);
    stage.lead();
    stage.publish("q", 20);
    stage.world.start(HOST);
    stage.settle();
    // Too much for the log: by snapshot.
    stage.world.end(HOST, false);
    stage.lead();
    let client = stage.publish("q", 900);
    assert!(stage.world.clients[client].publisher().is_done(), "published");
    stage.world.start(HOST);
    stage.settle();
    stage.shut_down();
    stage.world.start_all();
    stage.lead();
    stage.settle();
    stage.publish("q", 40);
    // From here on an operator decides what is lost.
    stage.with_peers = false;
    stage.end_all();
    offline::mark(&stage.world.hosts[HOST].medium, &[], 0xfeed);
    offline::unmark(&stage.world.hosts[HOST].medium);
    stage.world.start_all();
    stage.lead();
    stage.settle();
    // It has what another one lacks, and that other one is marked.
    stage.world.end(1, false);
    stage.lead();
    stage.publish("q", 30);
    stage.end_all();
    let media = [&stage.world.hosts[0].medium, &stage.world.hosts[2].medium];
    offline::mark(&stage.world.hosts[1].medium, &media, 0xbeef);
    stage.give_up();
    stage.world.start_all();
    stage.all_vote();
    // The other history was seen until it was given up.
    stage.begin_anew();
    assert!(!stage.world.hosts[HOST].medium.images().is_empty(), "an image of what was given up");
    // Rot, and an operator who gives the store up.
    stage.world.end(HOST, false);
    offline::spoil(&stage.world.hosts[HOST].medium);
    stage.world.start(HOST);
    stage.lead();
    stage.wait(2 * SECOND);
    stage.lead();
    let name = stage.world.hosts[HOST].name.clone();
    let leader = stage.world.leader().expect("two lead");
    let request = MemberRequest {
        act: MemberAct::Replace,
        name,
        address: None,
        store: None,
        within_millis: 20_000,
        reason: String::new(),
        author: Author::local("a test"),
    };
    stage.world.ask(leader, AdminRequest::Member(request));
    stage.until("the store set aside and filled", |world| {
        world.hosts[HOST].medium.images().iter().any(|image| image.ends_with("-damage")) && world.is_settled()
    });
    stage.all_vote();
    stage.publish("q", 20);
    stage.finish("member")
}
