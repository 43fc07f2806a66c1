//! The one loop: hosts, network and clients, driven by the schedule.

use std::collections::{BTreeMap, BTreeSet};

use quorate_core::admin::{AdminReply, AdminRequest, Status};
use quorate_core::event::Event;
use quorate_core::io::{AdminId, Input};

use quorate_store::ids::Term;

use super::checker::Checker;
use super::client::Client;
use super::controls::Controlled;
use super::dice::Dice;
use super::fault::{Fault, Tally};
use super::host::{Host, HostConfig};
use super::intruder::Intrusions;
use super::ledger::Ledger;
use super::network::Network;
use super::operator::Ailing;
use super::schedule::{ClientId, Happening, HostId, MILLI, Micros, ProcessStep, Relief, SECOND, Schedule};
use super::storage::Medium;
use super::trace::Trace;
use super::vhosts::Passing;

/// How often the brokers' statuses are looked at.
const SURVEY: Micros = 97 * MILLI;
/// How often clients look around.
pub(super) const CLIENT_TICK: Micros = 10 * MILLI;

/// A run has at most so many steps.
const STEPS_MAX: u64 = 30_000_000;

/// The simulated world.
pub struct World {
    /// Time.
    pub schedule: Schedule,
    /// Machines.
    pub hosts: Vec<Host>,
    /// Between them.
    pub network: Network,
    /// Publishers and consumers.
    pub clients: Vec<Client>,
    /// What clients may rely on.
    pub checker: Checker,
    /// What logs must agree on.
    pub ledger: Ledger,
    /// What happened.
    pub trace: Trace,
    /// How many copies a confirm needs at least.
    pub copies: usize,
    /// An operator went on from what a loss of power, or of processes, had left of a weaker policy: what is gone with it is
    /// in no store, and nobody can tell of it.
    pub gone_unsynced: bool,
    /// What has been done to it.
    pub tally: Tally,
    /// The latest status of each host that runs.
    pub statuses: BTreeMap<HostId, Status>,
    /// Every event so far, by host.
    pub events: Vec<(Micros, HostId, Event)>,
    /// Answers to scripted questions.
    pub replies: BTreeMap<u64, AdminReply>,
    /// Faults still to come, by the plan's numbers.
    pub plan: Vec<(Micros, Fault)>,
    /// Hosts that are not started any more, and not waited for.
    pub away: BTreeSet<HostId>,
    /// The host whose store is not what it was, until its broker votes again: no second one goes before that.
    pub ailing: Option<Ailing>,
    /// Who may panic, and who did.
    pub intrusions: Intrusions,
    /// Messages that publishers are to send to queues that exist.
    pub wanted: u64,
    /// Older copies of hosts' disks.
    pub(super) older: BTreeMap<HostId, Medium>,
    /// The host whose broker is drained.
    pub(super) drained: Option<HostId>,
    /// The control that is set.
    pub(super) controlled: Option<Controlled>,
    /// The virtual host beside the first one.
    pub(super) passing: Option<Passing>,
    /// What its clients were told, and those before it: nobody accounts for that.
    pub(super) passed: Checker,
    /// Since when it is to lead again.
    pub(super) undrain_since: Option<Micros>,
    /// Restarts after faults happen only while true.
    pub restarts: bool,
    pub(super) dice: Dice,
    pub(super) next_admin: u64,
    /// The simulation's own steps; a world that comes to no rest is a bug.
    pub steps: u64,
}

/// Questions of the survey have numbers below this.
const SCRIPTED: u64 = 1 << 32;

impl World {
    /// A world of hosts with these settings; nothing runs yet.
    pub fn new(seed: u64, configs: Vec<HostConfig>, show: bool) -> Self {
        let election = configs.iter().map(|config| config.election_millis).max().unwrap_or(500);
        // Those that founded it are a majority of its voters at least.
        let founders = configs.iter().map(|config| config.wait_for).max().unwrap_or(1);
        let copies = usize::try_from(founders).unwrap_or(1) / 2 + 1;
        let hosts = configs.into_iter().enumerate().map(|(id, config)| Host::new(id, seed, config)).collect();
        let mut schedule = Schedule::default();
        schedule.after(SURVEY, Happening::Survey);
        Self {
            schedule,
            hosts,
            network: Network::new(seed, election * 3 / 2 * MILLI),
            clients: Vec::new(),
            checker: Checker::default(),
            ledger: Ledger::default(),
            trace: Trace::new(show),
            copies,
            gone_unsynced: false,
            tally: Tally::default(),
            statuses: BTreeMap::new(),
            events: Vec::new(),
            replies: BTreeMap::new(),
            plan: Vec::new(),
            away: BTreeSet::new(),
            ailing: None,
            intrusions: Intrusions::default(),
            wanted: 0,
            older: BTreeMap::new(),
            drained: None,
            controlled: None,
            passing: None,
            passed: Checker::default(),
            undrain_since: None,
            restarts: true,
            dice: Dice::new(seed, "world"),
            next_admin: SCRIPTED,
            steps: 0,
        }
    }

    /// The present.
    pub fn now(&self) -> Micros {
        self.schedule.now()
    }

    /// Adds a client; it connects by itself.
    pub fn add_client(&mut self, client: Client) -> ClientId {
        let id = self.clients.len();
        self.clients.push(client);
        self.schedule.after(CLIENT_TICK, Happening::ClientTick(id));
        id
    }

    /// Adds a machine; it is started like any other.
    pub fn add_host(&mut self, seed: u64, config: HostConfig) -> HostId {
        let id = self.hosts.len();
        self.hosts.push(Host::new(id, seed, config));
        id
    }

    /// Takes this plan's faults, counted from now.
    pub fn begin_plan(&mut self, plan: Vec<(Micros, Fault)>) {
        let base = self.plan.len();
        for (number, (at, _)) in plan.iter().enumerate() {
            self.schedule.after(*at, Happening::Fault(base + number));
        }
        self.plan.extend(plan);
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Micros) {
        let until = self.now() + time;
        while self.step(until) {}
    }

    /// Lets time pass until something holds; false if it does not within this time.
    pub fn run_until(&mut self, limit: Micros, mut holds: impl FnMut(&mut Self) -> bool) -> bool {
        let until = self.now() + limit;
        let mut look_at = self.now();
        loop {
            if self.now() >= look_at {
                if holds(self) {
                    return true;
                }
                look_at = self.now() + 20 * MILLI;
            }
            if !self.step(until) {
                return holds(self);
            }
        }
    }

    fn step(&mut self, until: Micros) -> bool {
        let Some(happening) = self.schedule.next(until) else { return false };
        self.steps += 1;
        assert!(self.steps < STEPS_MAX, "the world comes to no rest");
        match happening {
            Happening::Process { host, life, step } => self.process_step(host, life, step),
            Happening::LinkArrival(link) => self.pump_link(link),
            Happening::LinkCheck(link) => self.check_link(link),
            Happening::LinkUp { from, to } => self.link_up(from, to),
            Happening::Connected(connection) => self.client_connected(connection),
            Happening::FrameUp(connection) => self.pump_up(connection),
            Happening::FrameDown(connection) => self.pump_down(connection),
            Happening::ClientTick(client) => self.client_tick(client),
            Happening::Fault(number) => self.fault(number),
            Happening::Relief(relief) => self.relief(&relief),
            Happening::Start { host, after } => {
                if self.restarts && self.hosts[host].life == after {
                    self.start(host);
                }
            }
            Happening::Survey => {
                self.survey();
                self.schedule.after(SURVEY, Happening::Survey);
            }
            Happening::Operator => self.operate(),
        }
        true
    }

    fn process_step(&mut self, host: HostId, life: u64, step: ProcessStep) {
        if self.hosts[host].life != life {
            return;
        }
        let Some(process) = &mut self.hosts[host].process else { return };
        if let Some(waiting) = &mut process.paused {
            waiting.push(Happening::Process { host, life, step });
            return;
        }
        match step {
            ProcessStep::Round => self.round(host),
            ProcessStep::Wake => {
                process.wake_at = None;
                self.ask_for_round(host);
            }
            ProcessStep::LogSynced => self.log_synced(host),
            ProcessStep::StampWritten => self.stamp_written(host),
            ProcessStep::StateDone => self.state_done(host),
            ProcessStep::Loaded { ticket, group, from, to, max_bytes } => {
                match process.storage.load(group, from, to, max_bytes) {
                    Ok(entries) => self.input(host, Input::Loaded { ticket, entries }),
                    Err(failed) => self.disk_failed(host, &failed.0),
                }
            }
            ProcessStep::Dial { address, pause } => self.dial(host, address, pause),
        }
    }

    /// Starts a host's process.
    pub fn start(&mut self, host: HostId) {
        if self.hosts[host].process.is_some() || self.away.contains(&host) {
            return;
        }
        let now = self.now();
        if !self.hosts[host].start(now) {
            let why = self.hosts[host].exit.clone();
            self.trace.line(now, || format!("host {host} could not start: {why:?}"));
            let power = self.hosts[host].medium.files.is_off();
            self.count_failures(host);
            self.hosts[host].end(power);
            self.hosts[host].exit = why;
            self.start_again(host);
            return;
        }
        self.trace.line(now, || format!("host {host} starts"));
        let found = self.hosts[host].found_logs.take();
        if let Some(found) = found.filter(|_| !self.holds_wrong_store(host)) {
            let result = self.ledger.restarted(host, &found);
            self.checker.check(result);
        }
        self.ask_for_round(host);
    }

    /// Starts every host that does not run.
    pub fn start_all(&mut self) {
        for host in 0..self.hosts.len() {
            self.start(host);
        }
    }

    /// Ends a host's process, with or without its power.
    pub fn end(&mut self, host: HostId, power: bool) {
        let now = self.now();
        if let Some(process) = &self.hosts[host].process {
            let life = self.hosts[host].life;
            let key = process.key;
            self.trace
                .line(now, || format!("host {host} {}", if power { "loses its power" } else { "is killed" }));
            self.links_of_ended(host, life, key, power);
            self.sessions_of_ended(host, life, power);
            self.statuses.remove(&host);
        }
        self.hosts[host].end(power);
    }

    /// Puts another medium in the place of a host's that does not run: an older one, or a copy.
    pub fn replace_medium(&mut self, host: HostId, medium: Medium) {
        assert!(self.hosts[host].process.is_none(), "only of a host that does not run");
        self.hosts[host].medium = medium;
        // What it had synced is not asked of it any more.
        self.ledger.forget(host);
    }

    pub(super) fn disk_failed(&mut self, host: HostId, why: &str) {
        let now = self.now();
        self.trace.line(now, || format!("host {host}: disk: {why}"));
        // Whoever cut its power in the middle of a write meant just this; any other failure ends the process.
        let power = self.hosts[host].medium.files.is_off();
        self.count_failures(host);
        self.end(host, power);
        self.hosts[host].exit = Some((5, why.to_owned()));
        self.start_again(host);
    }

    /// What waited for an operation of the disk has struck, and counts now.
    fn count_failures(&mut self, host: HostId) {
        let now = self.now();
        let files = &self.hosts[host].medium.files;
        if files.is_off() {
            self.tally.count(now, "power_within_write");
        }
        for _ in 0..files.take_struck() {
            self.tally.count(now, "disk_error");
        }
    }

    fn start_again(&mut self, host: HostId) {
        let after = self.hosts[host].life;
        let delay = self.dice.between(50, 2000) * MILLI;
        self.schedule.after(delay, Happening::Start { host, after });
    }

    /// Stops or continues a process.
    pub fn pause(&mut self, host: HostId) -> bool {
        match &mut self.hosts[host].process {
            Some(process) if process.paused.is_none() => {
                process.paused = Some(Vec::new());
                true
            }
            _ => false,
        }
    }

    /// The host's clock goes at so many per cent of the real pace from now on.
    pub(super) fn set_clock(&mut self, host: HostId, percent: u64) {
        let now = self.now();
        self.hosts[host].clock_percent = percent;
        if let Some(process) = &mut self.hosts[host].process {
            process.clock.set_pace(now, percent);
            // It was to be woken by the old pace.
            process.wake_at = None;
            self.ask_for_round(host);
        }
    }

    /// Lets a stopped process go on.
    pub fn resume(&mut self, host: HostId) {
        let Some(process) = &mut self.hosts[host].process else { return };
        for happening in process.paused.take().unwrap_or_default() {
            self.schedule.after(0, happening);
        }
        self.ask_for_round(host);
    }

    fn relief(&mut self, relief: &Relief) {
        let now = self.now();
        if !matches!(relief, Relief::FoundOut { .. }) {
            self.trace.line(now, || format!("{relief:?}"));
        }
        match *relief {
            Relief::Heal(from, to) => {
                self.network.heal(from, to);
                self.pump_all();
            }
            Relief::Resume(host, life) if self.hosts[host].life == life => self.resume(host),
            Relief::Resume(..) => {}
            Relief::FastDisk(host) => self.hosts[host].speed.factor = 1,
            Relief::Space(host, life) if self.hosts[host].life == life => {
                self.input(host, Input::Space { low: false });
            }
            Relief::Space(..) => {}
            Relief::Room(host) => self.hosts[host].medium.files.set_capacity(u64::MAX),
            Relief::Clock(host) => self.set_clock(host, 100),
            Relief::FastLink(from, to) => self.network.fast(from, to),
            Relief::Undrain => self.undrain(),
            Relief::FoundOut { host, life, by } => self.found_out(host, life, by),
            Relief::Uncontrol => self.uncontrol(),
            Relief::DeleteVhost => self.delete_vhost(),
            Relief::MarkBlindly(host, restart) => self.mark_blindly(host, restart),
        }
    }

    /// Ends every fault's effect; what does not run is started.
    pub fn heal_all(&mut self) {
        self.network.heal_all();
        for host in 0..self.hosts.len() {
            self.hosts[host].speed.factor = 1;
            self.hosts[host].medium.files.set_capacity(u64::MAX);
            self.set_clock(host, 100);
            self.resume(host);
            if self.hosts[host].process.is_some() {
                self.input(host, Input::Space { low: false });
            }
        }
        self.pump_all();
        self.start_all();
    }

    /// Asks every running broker how it is.
    fn survey(&mut self) {
        self.look_for_losses();
        for host in 0..self.hosts.len() {
            if self.hosts[host].process.as_ref().is_some_and(|process| process.paused.is_none()) {
                let id = AdminId(host as u64);
                self.input(host, Input::Admin { id, request: AdminRequest::Status });
            }
        }
    }

    /// Asks one broker something; the answer comes to [`Self::replies`].
    pub fn ask(&mut self, host: HostId, request: AdminRequest) -> u64 {
        self.next_admin += 1;
        let id = self.next_admin;
        self.input(host, Input::Admin { id: AdminId(id), request });
        id
    }

    pub(super) fn answered(&mut self, host: HostId, id: AdminId, reply: AdminReply) {
        if id.0 > SCRIPTED {
            let now = self.now();
            self.trace.line(now, || format!("host {host} answers {}: {reply:?}", id.0 - SCRIPTED));
            self.replies.insert(id.0, reply);
            return;
        }
        let AdminReply::Status(status) = reply else { return };
        if self.holds_wrong_store(host) {
            return;
        }
        for group in &status.groups {
            self.trace.word(group.applied.0 ^ group.digest);
            let result = self.ledger.digest(host, group.group, group.applied, group.digest);
            self.checker.check(result);
            if group.role == "leader" {
                self.leads(host, &group.vhost, group.term);
            }
        }
        self.statuses.insert(host, *status);
    }

    /// A broker leads, by its own word.
    pub(super) fn leads(&mut self, host: HostId, vhost: &str, term: Term) {
        let process = self.hosts[host].process.as_ref();
        let Some(epoch) = process.and_then(|process| process.node.epoch(vhost)) else { return };
        let result = self.ledger.leads(host, vhost, epoch.id, term);
        self.checker.check(result);
    }

    /// The host that serves the first virtual host, by the latest survey.
    pub fn leader(&self) -> Option<HostId> {
        let leads = |status: &Status| {
            status
                .groups
                .iter()
                .filter(|group| group.vhost == "/" && group.role == "leader" && group.quorum)
                .map(|g| g.term)
                .max()
        };
        self.statuses
            .iter()
            .filter_map(|(host, status)| Some((leads(status)?, *host)))
            .max()
            .map(|(_, host)| host)
    }

    /// Every host runs, every group is led, and all states are equal and whole, by the latest survey.
    pub fn is_settled(&self) -> bool {
        let mut seen = BTreeMap::new();
        self.leader().is_some()
            && self.hosts.iter().filter(|host| !self.away.contains(&host.id)).all(|host| {
                host.process.is_some()
                    && self.statuses.get(&host.id).is_some_and(|status| {
                        status.groups.len() >= 2
                            && status.groups.iter().all(|group| {
                                let state = (group.applied, group.commit, group.digest);
                                group.quorum
                                    && group.updating.is_none()
                                    && *seen.entry(group.group).or_insert(state) == state
                            })
                    })
            })
    }

    /// Lets time pass until [`Self::is_settled`].
    pub fn settle(&mut self, limit: Micros) -> bool {
        self.statuses.clear();
        self.run_until(limit, |world| world.is_settled())
    }

    /// Lets time pass until somebody serves the first virtual host.
    pub fn wait_for_leader(&mut self, limit: Micros) -> Option<HostId> {
        self.run_until(limit, |world| world.leader().is_some());
        self.leader()
    }

    /// Simulated seconds so far.
    pub fn seconds(&self) -> u64 {
        self.now() / SECOND
    }
}

impl World {
    /// Starts what does not run, unless a start is still to come by a plan.
    pub fn start_all_if_healing(&mut self) {
        let is_late = |host: &Host| host.process.is_none() && host.life > 0;
        if self.plan.is_empty() {
            let late: Vec<HostId> =
                self.hosts.iter().filter(|host| is_late(host)).map(|host| host.id).collect();
            for host in late {
                self.start(host);
            }
        }
    }
}
