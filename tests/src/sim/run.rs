//! A run: safety under faults, then health and liveness, then a cold start and an account of every message.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{sync::mpsc, thread};

use quorate_core::event::Event;

use super::client::{Client, Consumer, Publisher, Work};
use super::dice::Dice;
use super::fault::{Fault, KINDS, Tally};
use super::plan::Plan;
use super::schedule::{Happening, MILLI, Micros, SECOND};
use super::transactor::Transactor;
use super::world::World;

/// What a run gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What must not have been.
    pub violations: Vec<String>,
    /// Simulated time.
    pub time: Micros,
    /// The trace's hash.
    pub hash: u64,
    /// Messages confirmed, without those that an operator's recovery made void.
    pub confirmed: u64,
    /// Those made void by an operator's recovery, and not confirmed again.
    pub given_up: u64,
    /// Messages that publishers were to send to queues that exist.
    pub wanted: u64,
    /// Messages refused for good.
    pub refused: u64,
    /// Deliveries.
    pub delivered: u64,
    /// What was done.
    pub tally: Tally,
    /// Hosts.
    pub hosts: usize,
    /// Simulated steps.
    pub steps: u64,
    /// Leaderships seen, updates by snapshot, checkpoints.
    pub seen: Seen,
}

/// What happened often enough to be worth a number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Leaderships of the first virtual host.
    pub leaderships: u64,
    /// Updates by snapshot that were installed.
    pub snapshots: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Transactions: committed, recognised when asked about again, refused, rolled back.
    pub transactions: [u64; 4],
}

impl Outcome {
    /// Hardly anything was confirmed, or less than a quarter of what there was to publish: the run says little, and counts
    /// for nothing.
    pub fn is_void(&self) -> bool {
        let confirmed = self.confirmed + self.given_up;
        self.violations.is_empty() && (confirmed < 100 || confirmed * 4 < self.wanted)
    }

    /// Its time, if there was at least one fault for every ten seconds of it: idle hours are cheap, and prove nothing.
    fn busy_time(&self) -> Micros {
        let faults: u64 = self.tally.faults.values().sum();
        if faults * 10 * SECOND >= self.time { self.time } else { 0 }
    }
}

/// Within so many election timeouts somebody must lead once nothing is broken.
const ELECTIONS: u64 = 10;
/// A shutdown ends within this time, whoever is missing.
const CLOSING: Micros = 12 * SECOND;
/// A control that is set is taken back within this time.
const CONTROLLED: Micros = 8 * SECOND;
/// An operator needs this time to see that stores went on separately, and to begin again.
const DECIDING: Micros = 5 * SECOND;
/// Of a hundred runs so many may say too little to count.
const VOID_PERCENT_MAX: u64 = 8;
/// Within this time everything must be settled and equal.
const SETTLE: Micros = 60 * SECOND;

/// Plays a seed. A panic anywhere in the product is a violation like any other.
pub fn play(seed: u64, show: bool) -> Outcome {
    let mut kept = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        let plan = Plan::draw(seed);
        let world = kept.insert(World::new(seed, plan.hosts.clone(), show));
        go(world, seed, &plan);
    }));
    let mut world = kept.expect("a world is made before anything can go wrong");
    if let Err(panic) = result {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "a panic without words".to_owned());
        world.checker.violation(format!("panic: {text}"));
    }
    outcome(&world, seed)
}

fn outcome(world: &World, seed: u64) -> Outcome {
    let count = |test: &dyn Fn(&Event) -> bool| {
        world.events.iter().filter(|(_, _, event)| test(event)).count() as u64
    };
    let counts = Seen {
        leaderships: count(
            &|event| matches!(event, Event::RoleChanged { vhost, new: "leader", .. } if vhost == "/"),
        ),
        snapshots: count(
            &|event| matches!(event, Event::Update { progress, .. } if progress.contains("installed")),
        ),
        checkpoints: count(&|event| matches!(event, Event::Checkpoint { .. })),
        transactions: transactions(world),
    };
    Outcome {
        seed,
        violations: world.checker.violations().to_vec(),
        time: world.now(),
        hash: world.trace.hash(),
        confirmed: world.checker.confirmed,
        given_up: world.checker.void(),
        wanted: world.wanted,
        refused: world.checker.refused,
        delivered: world.checker.delivered,
        tally: world.tally.clone(),
        hosts: world.hosts.len(),
        steps: world.steps,
        seen: counts,
    }
}

fn transactions(world: &World) -> [u64; 4] {
    let mut sum = [0; 4];
    for client in &world.clients {
        if let Work::Transactor(transactor) = &client.work {
            sum.iter_mut().zip(transactor.told).for_each(|(sum, told)| *sum += told);
        }
    }
    sum
}

fn go(world: &mut World, seed: u64, plan: &Plan) {
    for (host, at) in plan.starts.iter().enumerate() {
        world.schedule.at(*at, Happening::Start { host, after: 0 });
    }
    let election = plan.hosts.first().map_or(500, |host| host.election_millis) * MILLI;
    if !expect_leader(world, 5 * SECOND + election * ELECTIONS, "forming") {
        return;
    }
    add_clients(world, seed, plan);
    world.wanted = plan.publishers.iter().map(|(_, count)| count).sum();
    world.begin_plan(plan.faults.clone());
    world.run_for(plan.length);

    world.trace.line(world.schedule.now(), || "phase: heal".to_owned());
    world.plan.clear();
    world.heal_all();
    // A drained broker leaves it to the others for so long, if theirs are not the longest logs.
    let elections = if world.drained.is_some() { 2 * ELECTIONS + 5 } else { ELECTIONS };
    // A shutdown that some have not heard to its end goes on for so long.
    let shuts_down =
        plan.faults.iter().any(|(at, fault)| fault.kind() == "shutdown" && at + CLOSING > plan.length);
    let closing = if shuts_down { CLOSING } else { 0 };
    // An operator who goes on from one store may have to decide once more.
    let deciding = if world.goes_on_from_store() { DECIDING } else { 0 };
    // An operator who wants more nodes than are here takes that back when its time has come.
    let controlled = if world.controlled.is_some() { CONTROLLED } else { 0 };
    // An operator who is asked has to see it, and to begin again.
    let controlled = controlled + if world.is_weak() { 2 * DECIDING } else { 0 };
    if !expect_leader(world, closing + deciding + controlled + election * elections, "healing") {
        return;
    }
    let cured = world.run_until(SETTLE, |world| {
        world.start_all();
        world.ailing.is_none()
            && world.drained.is_none()
            && world.controlled.is_none()
            && world.passing.is_none()
    });
    if !cured {
        let ailing = world.ailing.as_ref();
        let status = ailing.map(|ailing| (ailing.clone(), world.statuses.get(&ailing.host).cloned()));
        world.checker.violation(format!("a lost store was not replaced within 60 s of health: {status:?}"));
    }
    let published = world.run_until(SETTLE, |world| {
        // A process that was asked to stop, or whose disk is about to fail, ends late.
        world.start_all();
        world.clients.iter().all(|client| match &client.work {
            Work::Publisher(publisher) => publisher.unsettled.is_empty(),
            Work::Transactor(transactor) => transactor.is_settled(),
            Work::Consumer(_) => true,
        })
    });
    if !published {
        let clients: Vec<String> = world.clients.iter().map(ToString::to_string).collect();
        world.checker.violation(format!(
            "publishers could not settle all batches within 60 s of health: {}",
            clients.join("; ")
        ));
    }
    rest(world);
    expect_equal(world, "healing");
    if plan.drains_before {
        // What is stuck where it is would come free by the cold start, and never be seen.
        drain(world, seed);
        publish_more(world, seed, plan);
        expect_equal(world, "the first drain");
    }

    world.trace.line(world.schedule.now(), || "phase: cold start".to_owned());
    for host in 0..world.hosts.len() {
        world.end(host, plan.power_at_the_end);
    }
    world.tally.total_outages += 1;
    world.run_for(100 * MILLI);
    world.start_all();
    if !expect_leader(world, 2 * SECOND + election * ELECTIONS, "the cold start") {
        return;
    }
    drain(world, seed);
    expect_equal(world, "the drain");
    expect_told(world);
    // Gone on from a store that knows nothing of it, a cluster may have one back.
    let forgets = plan.faults.iter().any(|(_, fault)| matches!(fault, Fault::Mark(_) | Fault::MarkBlind(..)));
    for (host, vhost) in world.undeleted() {
        if !forgets {
            world.checker.violation(format!("host {host} has virtual host {vhost}, which was deleted"));
        }
    }
}

/// What operators gave up was told: nobody lost a message that no HA-1014 speaks of. Where disks were lost there may be nobody
/// left who could.
fn expect_told(world: &mut World) {
    const DISKS_GO: [&str; 5] = ["lose_disk", "damage", "rot", "old_copy", "remove"];
    if world.gone_unsynced || DISKS_GO.iter().any(|kind| world.tally.faults.contains_key(kind)) {
        return;
    }
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    for (_, _, event) in &world.events {
        if let Event::Diverged { vhost, queues, .. } = event
            && vhost == "/"
        {
            for (queue, count) in queues {
                *told.entry(queue.clone()).or_default() += count;
            }
        }
    }
    for (queue, lost) in world.checker.lost() {
        let known = told.get(&queue).copied().unwrap_or_default();
        if known < lost {
            world.checker.violation(format!(
                "{lost} messages of queue {queue} were given up, and only {known} were told of"
            ));
        }
    }
}

/// Nobody publishes or consumes any more.
fn rest(world: &mut World) {
    for client in &mut world.clients {
        client.resting = true;
        match &mut client.work {
            Work::Publisher(publisher) => publisher.stop_at = publisher.next,
            Work::Transactor(transactor) => transactor.stop(),
            Work::Consumer(_) => {}
        }
    }
    world.cut_clients();
}

/// Something for the cold start to keep.
fn publish_more(world: &mut World, seed: u64, plan: &Plan) {
    let mut dice = Dice::new(seed, "the last publisher");
    let count = dice.between(10, 100);
    let work = Work::Publisher(Publisher::new(300, count, &mut dice));
    let queue = plan.publishers.first().map_or(0, |(queue, _)| *queue);
    // No more than fits in: nobody consumes.
    let fits = plan.rooms.get(&queue).is_none_or(|room| *room >= count);
    let name = if fits { queue_name(queue) } else { "more".to_owned() };
    let mut client = Client::new(&name, work, world.hosts.len(), dice);
    client.max_length = if fits { plan.rooms.get(&queue).copied().unwrap_or_default() } else { 0 };
    let id = world.add_client(client);
    world.wanted += count;
    if !world.run_until(SETTLE, |world| world.clients[id].publisher().is_done()) {
        world.checker.violation("nothing could be published within 60 s after the drain".to_owned());
    }
    rest(world);
}

fn expect_leader(world: &mut World, limit: Micros, after: &str) -> bool {
    world.statuses.clear();
    let led = world.run_until(limit, |world| {
        world.start_all_if_healing();
        world.leader().is_some()
    });
    if !led {
        let verdicts: Vec<String> = world
            .statuses
            .iter()
            .map(|(host, status)| {
                format!("{host}: {} {} {}", status.verdict.word(), status.row, status.reason)
            })
            .collect();
        let dead: Vec<String> = world
            .hosts
            .iter()
            .filter(|host| host.process.is_none())
            .map(|host| format!("{}: {:?}", host.id, host.exit))
            .collect();
        world.checker.violation(format!(
            "no leader within {} ms after {after}: {}; not running: {}",
            limit / MILLI,
            verdicts.join("; "),
            dead.join("; ")
        ));
    }
    led
}

fn expect_equal(world: &mut World, after: &str) {
    world.statuses.clear();
    let settled = world.run_until(SETTLE, |world| {
        // Whoever was asked to stop before may have ended only now.
        world.start_all_if_healing();
        world.is_settled()
    });
    if !settled {
        let states: Vec<String> = world
            .statuses
            .iter()
            .flat_map(|(host, status)| {
                status.groups.iter().map(move |group| {
                    format!(
                        "{host}/{}: {} applied {} commit {} digest {:08x} quorum {} updating {:?}",
                        group.group,
                        group.role,
                        group.applied,
                        group.commit,
                        group.digest,
                        group.quorum,
                        group.updating
                    )
                })
            })
            .collect();
        world
            .checker
            .violation(format!("members are not equal within 60 s after {after}: {}", states.join("; ")));
    }
}

fn queue_name(number: u64) -> String {
    format!("q{number}")
}

fn add_clients(world: &mut World, seed: u64, plan: &Plan) {
    let hosts = plan.hosts.len();
    for (number, (of, count)) in plan.publishers.iter().enumerate() {
        let mut dice = Dice::new(seed, &format!("publisher {number}"));
        let work = Work::Publisher(Publisher::new(100 + number as u128, *count, &mut dice));
        let mut client = Client::new(&queue_name(*of), work, hosts, dice);
        client.max_length = plan.rooms.get(of).copied().unwrap_or_default();
        world.add_client(client);
    }
    for (number, (of, credit, requeue)) in plan.consumers.iter().enumerate() {
        let dice = Dice::new(seed, &format!("consumer {number}"));
        let work = Work::Consumer(Consumer::new(*credit, *requeue));
        let mut client = Client::new(&queue_name(*of), work, hosts, dice);
        client.max_length = plan.rooms.get(of).copied().unwrap_or_default();
        world.add_client(client);
    }
    for (number, (of, count)) in plan.transactors.iter().enumerate() {
        let mut dice = Dice::new(seed, &format!("transactor {number}"));
        let targets: Vec<String> = (0..=2).map(queue_name).collect();
        let work = Transactor::new(400 + number as u128, &targets, *count, &mut dice);
        let mut client = Client::new(&queue_name(*of), Work::Transactor(work), hosts, dice);
        client.max_length = plan.rooms.get(of).copied().unwrap_or_default();
        world.add_client(client);
    }
    if plan.astray > 0 {
        let mut dice = Dice::new(seed, "the publisher who is astray");
        let work = Work::Publisher(Publisher::new(200, plan.astray, &mut dice));
        let mut client = Client::new("nowhere", work, hosts, dice);
        client.declares = false;
        world.add_client(client);
    }
}

/// Consumes every queue until it is empty, then accounts for every message.
pub fn drain(world: &mut World, seed: u64) {
    let hosts = world.hosts.len();
    let mut drains = Vec::new();
    for name in world.checker.queues() {
        let mut consumer = Consumer::new(100, 0);
        consumer.watches = true;
        let dice = Dice::new(seed, &format!("drain {name}"));
        let mut client = Client::new(&name, Work::Consumer(consumer), hosts, dice);
        let others = world.clients.iter().filter(|other| other.queue == name && other.declares);
        client.max_length = others.map(|other| other.max_length).max().unwrap_or_default();
        drains.push(world.add_client(client));
    }
    let empty = world.run_until(2 * SETTLE, |world| {
        drains.iter().all(|id| {
            let consumer = world.clients[*id].consumer();
            consumer.seen == Some(0) && consumer.held.is_empty()
        })
    });
    if empty {
        world.checker.drained();
    } else {
        let clients: Vec<String> = drains.iter().map(|id| world.clients[*id].to_string()).collect();
        let text = format!("the queues could not be drained within 120 s: {}", clients.join("; "));
        world.checker.violation(text);
    }
    for id in drains {
        world.clients[id].resting = true;
    }
    world.cut_clients();
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let faults: u64 = self.tally.faults.values().sum();
        write!(
            f,
            "seed {} hosts {} time {} s steps {} faults {faults} outages {} leaderships {} snapshots {} checkpoints {} \
             confirmed {} delivered {} hash {:016x} violations {}",
            self.seed,
            self.hosts,
            self.time / SECOND,
            self.steps,
            self.tally.total_outages,
            self.seen.leaderships,
            self.seen.snapshots,
            self.seen.checkpoints,
            self.confirmed,
            self.delivered,
            self.hash,
            self.violations.len()
        )
    }
}

/// Plays these seeds on all processors; gives their outcomes in the order of the seeds.
pub fn play_all(first: u64, seeds: u64, play: impl Fn(u64) -> Outcome + Sync, mut each: impl FnMut(Outcome)) {
    let next = AtomicU64::new(first);
    let end = first.saturating_add(seeds);
    let (sender, receiver) = mpsc::channel::<Outcome>();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let (next, sender, play) = (&next, sender.clone(), &play);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || sender.send(play(seed)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut due = first;
        for outcome in receiver {
            early.insert(outcome.seed, outcome);
            while let Some(outcome) = early.remove(&due) {
                due += 1;
                each(outcome);
            }
        }
    });
}

/// The sum of many runs.
#[derive(Clone, Debug, Default)]
pub struct Total {
    /// Runs.
    pub runs: u64,
    /// Runs in which something was wrong.
    pub violations: u64,
    void: u64,
    time: Micros,
    confirmed: u64,
    given_up: u64,
    refused: u64,
    delivered: u64,
    seen: Seen,
    tally: Tally,
}

impl Total {
    /// Adds a run.
    pub fn add(&mut self, outcome: &Outcome) {
        if outcome.is_void() {
            self.void += 1;
            return;
        }
        self.runs += 1;
        self.violations += u64::from(!outcome.violations.is_empty());
        self.time += outcome.busy_time();
        self.confirmed += outcome.confirmed;
        self.given_up += outcome.given_up;
        self.refused += outcome.refused;
        self.delivered += outcome.delivered;
        self.seen.leaderships += outcome.seen.leaderships;
        self.seen.snapshots += outcome.seen.snapshots;
        self.seen.checkpoints += outcome.seen.checkpoints;
        let told = outcome.seen.transactions;
        self.seen.transactions.iter_mut().zip(told).for_each(|(sum, told)| *sum += told);
        self.tally.add(&outcome.tally);
    }

    /// What these runs lack of what the gate wants of its own, in words.
    pub fn lacks(&self) -> Vec<String> {
        let faults: u64 = self.tally.faults.values().sum();
        let pairs = self.tally.pairs.len() * 100 / Tally::pairs_possible();
        let sums = [
            ("runs", self.runs, 1000),
            ("faults", faults, 20_000),
            ("total outages", self.tally.total_outages, 250),
            ("confirmed messages", self.confirmed, 2_000_000),
            ("messages refused for good", self.refused, 10_000),
            ("messages given up by operators", self.given_up, 1000),
            ("transactions committed", self.seen.transactions[0], 20_000),
            ("transactions recognised", self.seen.transactions[1], 200),
            ("transactions refused", self.seen.transactions[2], 1000),
            ("transactions rolled back", self.seen.transactions[3], 500),
            ("per cent of the pairs of kinds", pairs as u64, 90),
        ];
        let kinds =
            KINDS.iter().map(|kind| (kind.name, self.tally.faults.get(kind.name).copied().unwrap_or(0), 200));
        let short = sums.into_iter().chain(kinds).filter(|(_, found, wanted)| found < wanted);
        let short = short.map(|(what, found, wanted)| format!("{what}: {found} of {wanted}"));
        let limit = (self.runs + self.void) * VOID_PERCENT_MAX / 100;
        let void = (self.void > limit).then(|| format!("void runs: {}, and {limit} may be", self.void));
        short.chain(void).collect()
    }

    /// One JSON object.
    pub fn json(&self) -> String {
        let faults: Vec<String> =
            self.tally.faults.iter().map(|(kind, count)| format!("\"{kind}\":{count}")).collect();
        let hundredths = self.time / (36 * SECOND);
        let [committed, duplicates, refused, rolled_back] = self.seen.transactions;
        format!(
            "{{\"runs\":{},\"simulated_hours\":{}.{:02},\"faults\":{{{}}},\"pairs\":{},\"pairs_possible\":{},\"confirmed\":{},\"given_up\":{},\"refused\":{},\"delivered\":{},\
             \"transactions\":{{\"committed\":{},\"duplicates\":{},\"refused\":{},\"rolled_back\":{}}},\"leaderships\":{},\"snapshots\":{},\"checkpoints\":{},\"total_outages\":{},\"void\":{},\"violations\":{}}}",
            self.runs,
            hundredths / 100,
            hundredths % 100,
            faults.join(","),
            self.tally.pairs.len(),
            Tally::pairs_possible(),
            self.confirmed,
            self.given_up,
            self.refused,
            self.delivered,
            committed,
            duplicates,
            refused,
            rolled_back,
            self.seen.leaderships,
            self.seen.snapshots,
            self.seen.checkpoints,
            self.tally.total_outages,
            self.void,
            self.violations
        )
    }
}
