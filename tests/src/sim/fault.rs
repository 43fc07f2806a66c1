//! What is done to the world, and how it is done.

use std::collections::BTreeMap;

use quorate_core::admin::{AdminRequest, MemberAct, MemberRequest, Status, VerdictWord};
use quorate_core::io::Input;
use quorate_store::files::crash::{Fault as DiskFault, Operation};

use super::dice::Dice;
use super::schedule::{Happening, HostId, MILLI, Micros, Relief, SECOND};
use super::storage::Medium;
use super::world::World;

/// Whom a fault meets.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// This host.
    Host(HostId),
    /// Whoever leads then, else this host.
    Leader(HostId),
}

/// One thing to be done.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The process ends; it starts again later.
    Kill(Target, Micros),
    /// The machine loses its power.
    Power(Target, Micros),
    /// The machine loses its power in the middle of one of its next writes, by number.
    PowerWithin(Target, u64),
    /// One of its next syncs fails.
    DiskError(Target, u64),
    /// All processes end at once.
    KillAll(Micros),
    /// All machines lose their power at once.
    PowerAll(Micros),
    /// The process is stopped by its machine for so long.
    Pause(Target, Micros),
    /// The host is cut off for so long.
    Isolate(Target, Micros),
    /// Nothing gets from the first to the second for so long.
    OneWay(Target, HostId, Micros),
    /// The disk is so many times slower for so long.
    SlowDisk(Target, u64, Micros),
    /// The disk is nearly full for so long.
    DiskLow(Target, Micros),
    /// SIGTERM; it starts again later.
    Stop(Target, Micros),
    /// An operator shuts the cluster down, asking this broker; all start again later.
    Shutdown(Target, Micros),
    /// The machine comes back with an empty disk; an operator replaces the member.
    LoseDisk(Target, Micros),
    /// As [`Fault::LoseDisk`], with a stamp that nobody can read.
    Damage(Target, Micros),
    /// Every client loses its connection.
    CutClients,
}

/// How often an operator looks after a broker whose store is lost.
const OPERATOR: Micros = SECOND;

impl Fault {
    /// Its kind, for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Kill(..) => "kill",
            Self::Power(..) => "power",
            Self::PowerWithin(..) => "power_within_write",
            Self::DiskError(..) => "disk_error",
            Self::KillAll(_) => "kill_all",
            Self::PowerAll(_) => "power_all",
            Self::Pause(..) => "pause",
            Self::Isolate(..) => "isolate",
            Self::OneWay(..) => "one_way",
            Self::SlowDisk(..) => "slow_disk",
            Self::DiskLow(..) => "disk_low",
            Self::Stop(..) => "stop",
            Self::Shutdown(..) => "shutdown",
            Self::LoseDisk(..) => "lose_disk",
            Self::Damage(..) => "damage",
            Self::CutClients => "cut_clients",
        }
    }

    /// Draws one of a kind.
    pub fn draw(kind: &str, hosts: usize, dice: &mut Dice) -> Self {
        let host = dice.index(hosts);
        let target = if dice.chance(50) { Target::Leader(host) } else { Target::Host(host) };
        let long = dice.between(100, 6000) * MILLI;
        let soon = dice.between(20, 3000) * MILLI;
        match kind {
            "kill" => Self::Kill(target, soon),
            "power" => Self::Power(target, soon),
            "power_within_write" => Self::PowerWithin(target, dice.between(1, 30)),
            "disk_error" => Self::DiskError(target, dice.below(20)),
            "kill_all" => Self::KillAll(soon),
            "power_all" => Self::PowerAll(soon),
            "pause" => Self::Pause(target, long),
            "isolate" => Self::Isolate(target, long),
            "one_way" => Self::OneWay(target, dice.index(hosts), long),
            "slow_disk" => Self::SlowDisk(target, dice.between(5, 300), long),
            "disk_low" => Self::DiskLow(target, long),
            "stop" => Self::Stop(target, soon),
            "shutdown" => Self::Shutdown(target, soon),
            "lose_disk" => Self::LoseDisk(target, soon),
            "damage" => Self::Damage(target, soon),
            "cut_clients" => Self::CutClients,
            other => panic!("no such fault: {other}"),
        }
    }
}

/// Every kind of fault.
pub const KINDS: [&str; 16] = [
    "kill",
    "power",
    "power_within_write",
    "disk_error",
    "kill_all",
    "power_all",
    "pause",
    "isolate",
    "one_way",
    "slow_disk",
    "disk_low",
    "stop",
    "shutdown",
    "cut_clients",
    "lose_disk",
    "damage",
];

/// How often what was done.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// By kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Pairs of neighbouring faults of a run, by kinds.
    pub pairs: BTreeMap<(&'static str, &'static str), u64>,
    /// Times at which no process ran.
    pub total_outages: u64,
    last: Option<&'static str>,
}

impl Tally {
    fn count(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
        if let Some(last) = self.last.replace(kind) {
            *self.pairs.entry((last, kind)).or_default() += 1;
        }
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        for (pair, count) in &other.pairs {
            *self.pairs.entry(*pair).or_default() += count;
        }
        self.total_outages += other.total_outages;
    }
}

impl World {
    fn target(&self, target: Target) -> HostId {
        match target {
            Target::Host(host) => host,
            Target::Leader(host) => self.leader().unwrap_or(host),
        }
    }

    fn start_later(&mut self, host: HostId, delay: Micros) {
        let after = self.hosts[host].life;
        self.schedule.after(delay, Happening::Start { host, after });
    }

    fn end_and_restart(&mut self, host: HostId, power: bool, restart: Micros) -> bool {
        let ran = self.hosts[host].process.is_some();
        if ran {
            self.end(host, power);
            self.start_later(host, restart);
            if self.hosts.iter().all(|host| host.process.is_none()) {
                self.tally.total_outages += 1;
            }
        }
        ran
    }

    fn end_all(&mut self, power: bool, restart: Micros) {
        for host in 0..self.hosts.len() {
            let later = restart + self.dice.between(0, 800) * MILLI;
            self.end_and_restart(host, power, later);
        }
    }

    pub(super) fn fault(&mut self, number: usize) {
        let Some((_, fault)) = self.plan.get(number).cloned() else { return };
        let now = self.now();
        self.trace.line(now, || format!("fault: {fault:?}"));
        if self.apply(&fault) {
            self.tally.count(fault.kind());
        }
    }

    /// Does it; false if there was nothing to do it to.
    pub fn apply(&mut self, fault: &Fault) -> bool {
        match *fault {
            Fault::Kill(target, restart) => self.end_and_restart(self.target(target), false, restart),
            Fault::Power(target, restart) => self.end_and_restart(self.target(target), true, restart),
            Fault::PowerWithin(target, operations) => {
                let host = self.target(target);
                self.hosts[host].medium.files.cut_power_at(operations);
                true
            }
            Fault::DiskError(target, syncs) => {
                let host = self.target(target);
                self.hosts[host].medium.files.fail_after(Operation::Sync, syncs, DiskFault::Io);
                true
            }
            Fault::KillAll(restart) => {
                self.end_all(false, restart);
                true
            }
            Fault::PowerAll(restart) => {
                self.end_all(true, restart);
                true
            }
            Fault::Pause(target, time) => {
                let host = self.target(target);
                let paused = self.pause(host);
                if paused {
                    let life = self.hosts[host].life;
                    self.schedule.after(time, Happening::Relief(Relief::Resume(host, life)));
                }
                paused
            }
            Fault::Isolate(target, time) => {
                self.isolate(self.target(target), time);
                true
            }
            Fault::OneWay(target, to, time) => {
                let from = self.target(target);
                if from != to {
                    self.network.cut(from, to);
                    self.schedule.after(time, Happening::Relief(Relief::Heal(from, to)));
                }
                from != to
            }
            Fault::SlowDisk(target, factor, time) => {
                let host = self.target(target);
                self.hosts[host].speed.factor = factor;
                self.schedule.after(time, Happening::Relief(Relief::FastDisk(host)));
                true
            }
            Fault::DiskLow(target, time) => {
                let host = self.target(target);
                let life = self.hosts[host].life;
                self.input(host, Input::Space { low: true });
                self.schedule.after(time, Happening::Relief(Relief::Space(host, life)));
                self.hosts[host].process.is_some()
            }
            Fault::Stop(target, restart) => {
                let host = self.target(target);
                let runs = self.hosts[host].process.is_some();
                if runs {
                    self.input(host, Input::Stop);
                    // It ends in its own time; whoever is late is started again when it has ended.
                    let after = self.hosts[host].life + 1;
                    self.schedule.after(restart + 3000 * MILLI, Happening::Start { host, after });
                }
                runs
            }
            Fault::Shutdown(target, restart) => {
                let host = self.target(target);
                let runs = self.hosts[host].process.is_some();
                if runs {
                    let reason = "a fault of the plan".to_owned();
                    self.ask(host, AdminRequest::Shutdown { reason });
                    // Most have ended soon; whoever waited for the others in vain, after that.
                    for host in 0..self.hosts.len() {
                        let after = self.hosts[host].life + 1;
                        for late in [2 * SECOND, 22 * SECOND] {
                            self.schedule.after(restart + late, Happening::Start { host, after });
                        }
                    }
                }
                runs
            }
            Fault::LoseDisk(target, restart) => {
                let host = self.target(target);
                self.lose(host, restart, |world| world.replace_medium(host, Medium::new()))
            }
            Fault::Damage(target, restart) => {
                let host = self.target(target);
                // One that is damaged does not count as a member: a start that waits for all would wait for ever.
                let spared =
                    self.hosts.iter().any(|other| other.config.wait_for as usize >= self.hosts.len());
                !spared && self.lose(host, restart, |world| world.hosts[host].medium.spoil_stamp())
            }
            Fault::CutClients => {
                self.cut_clients();
                true
            }
        }
    }

    fn isolate(&mut self, host: HostId, time: Micros) {
        for other in (0..self.hosts.len()).filter(|other| *other != host) {
            for (from, to) in [(host, other), (other, host)] {
                self.network.cut(from, to);
                self.schedule.after(time, Happening::Relief(Relief::Heal(from, to)));
            }
        }
    }

    /// Takes a voter's store away, if the cluster can do without it.
    fn lose(&mut self, host: HostId, restart: Micros, how: impl FnOnce(&mut Self)) -> bool {
        let store = self.statuses.get(&host).map(|status| status.store_id).filter(|_| self.votes(host));
        let Some(store) = store.filter(|_| self.ailing.is_none()) else { return false };
        if !self.end_and_restart(host, true, restart) {
            return false;
        }
        how(self);
        self.ailing = Some((host, store));
        // Until the new store votes, they are one fewer.
        self.copies = self.copies.min((self.hosts.len() - 1) / 2 + 1);
        self.schedule.after(OPERATOR, Happening::Operator);
        true
    }

    /// Whether this host's broker is one of at least three voters in every group, by its own latest status.
    fn votes(&self, host: HostId) -> bool {
        let Some(status) = self.statuses.get(&host) else { return false };
        let known = status.groups.len() > 1 && status.verdict == VerdictWord::Active;
        known
            && status.groups.iter().all(|group| {
                let here = |role| matches!(role, "leader" | "replica" | "waiting");
                let voters = group.nodes.iter().filter(|node| here(node.role)).count();
                matches!(group.role, "leader" | "replica") && group.quorum && voters >= 3
            })
    }

    /// The operator asks for the replacement until the broker votes again.
    pub(super) fn operate(&mut self) {
        let Some((host, store)) = self.ailing else { return };
        if self.votes(host) {
            let now = self.now();
            self.trace.line(now, || format!("host {host} votes again"));
            self.ailing = None;
            return;
        }
        self.schedule.after(OPERATOR, Happening::Operator);
        // Who leads, and still has the old store among the members.
        let leads = |status: &Status| {
            let known = status.members.iter().any(|member| member.store_id == store && member.voter);
            known
                && status
                    .groups
                    .iter()
                    .any(|group| group.vhost == "system" && group.role == "leader" && group.quorum)
        };
        let leader = self.statuses.iter().find(|(_, status)| leads(status)).map(|(leader, _)| *leader);
        if let Some(leader) = leader.filter(|leader| self.hosts[*leader].process.is_some()) {
            let name = self.hosts[host].name.clone();
            self.ask(
                leader,
                AdminRequest::Member(MemberRequest { act: MemberAct::Replace, name, address: None }),
            );
        }
    }
}
