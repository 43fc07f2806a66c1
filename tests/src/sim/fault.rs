//! What may be done to the world, how it is drawn, and how often it was done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_store::stamp::{Durability, DurabilityPolicy};

use super::dice::Dice;
use super::schedule::{HostId, MILLI, Micros, SECOND};

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
    /// All machines lose their power; those of this mask come back much later than the others.
    ColdStart(u64, Micros),
    /// The process is stopped by its machine for so long.
    Pause(Target, Micros),
    /// Its clock goes at so many per cent of the real pace for so long.
    ClockDrift(Target, u64, Micros),
    /// The host is cut off for so long.
    Isolate(Target, Micros),
    /// Nothing gets from the first to the second for so long.
    OneWay(Target, HostId, Micros),
    /// Nothing gets from a host of this mask to another one, or back, for so long.
    Split(u64, Micros),
    /// As [`Fault::Split`], but this host reaches all and all reach it.
    Bridge(HostId, u64, Micros),
    /// What goes from the first to the second takes so much longer, for so long.
    SlowLink(Target, HostId, Micros, Micros),
    /// Every connection between this host and another breaks, wherever it is in a frame.
    ResetLinks(Target),
    /// The disk is so many times slower for so long.
    SlowDisk(Target, u64, Micros),
    /// The disk is nearly full for so long.
    DiskLow(Target, Micros),
    /// So many bytes more fit on the disk, for so long.
    DiskFull(Target, u64, Micros),
    /// SIGTERM; it starts again later.
    Stop(Target, Micros),
    /// An operator shuts the cluster down, asking this broker; all start again later.
    Shutdown(Target, Micros),
    /// The machine comes back with an empty disk; an operator replaces the member.
    LoseDisk(Target, Micros),
    /// As [`Fault::LoseDisk`], with a stamp that nobody can read.
    Damage(Target, Micros),
    /// As [`Fault::LoseDisk`], with one byte of the log's synced part turned; the number says which.
    Rot(Target, u64, Micros),
    /// The machine comes back with an older copy of its own disk; nobody has to do anything about it.
    OldCopy(Target, Micros),
    /// The machine comes back with a copy of another's disk, under its own name; an operator finds out, wipes it and
    /// replaces the member.
    Clone(Target, HostId, Micros),
    /// As [`Fault::Clone`], but under the other's name, as a copied virtual machine.
    Twin(Target, HostId, Micros),
    /// The machine comes back with the store of another cluster; an operator finds out, wipes it and replaces the member.
    Foreign(Target, Micros),
    /// All lose their power; an operator marks the latest store to go on alone, starts it, and then the others.
    Mark(Micros),
    /// As [`Fault::Mark`], against the book: any store, as if the others were gone. What only they have is given up.
    MarkBlind(Target, Micros),
    /// A second process writes its stamp into the store; an operator lets the broker that found it take part again.
    Intrude(Target),
    /// An operator removes the member, wipes its disk, and adds it again.
    Remove(Target),
    /// An operator drains the broker, and lets it lead again after so long.
    Drain(Target, Micros),
    /// An operator sets the broker's priority in the first virtual host, and takes that back after so long.
    Priority(Target, u64, Micros),
    /// All lose their power; an operator has this one go on without the others by an override, whatever it lacks, and starts
    /// the others after it, one by one.
    Override(Target, Micros),
    /// One of two voters is the designated primary, for so long.
    Designate(Target, Micros),
    /// An operator wants so many nodes for each confirm, for so long.
    RequiredNodes(u64, Micros),
    /// An operator sets the durability policy of the first virtual host, and takes that back after so long.
    Durability(DurabilityPolicy, Micros),
    /// An operator has leadership of the first virtual host moved to this host.
    Transfer(HostId),
    /// An operator creates a virtual host beside the first one, and deletes it after so long.
    Vhost(Micros),
    /// Every client loses its connection.
    CutClients,
}

/// A kind of fault, for drawing and counting.
pub struct Kind {
    /// What it is called.
    pub name: &'static str,
    /// How often it is drawn beside others: what takes long to heal is met more rarely, and has to be drawn more often.
    pub weight: u64,
    draw: fn(&mut Draw<'_>) -> Fault,
}

/// What a fault is drawn from.
struct Draw<'a> {
    hosts: usize,
    dice: &'a mut Dice,
}

impl Draw<'_> {
    fn host(&mut self) -> HostId {
        self.dice.index(self.hosts)
    }

    /// The leader as often as anybody.
    fn target(&mut self) -> Target {
        let host = self.host();
        if self.dice.chance(50) { Target::Leader(host) } else { Target::Host(host) }
    }

    fn long(&mut self) -> Micros {
        self.dice.between(100, 6000) * MILLI
    }

    fn soon(&mut self) -> Micros {
        self.dice.between(20, 3000) * MILLI
    }

    /// Some hosts, seldom all or none.
    fn mask(&mut self) -> u64 {
        self.dice.below(1 << self.hosts)
    }
}

const fn kind(name: &'static str, weight: u64, draw: fn(&mut Draw<'_>) -> Fault) -> Kind {
    Kind { name, weight, draw }
}

/// Every kind of fault that is drawn. A [`Fault::Twin`] is for scenes: whoever is away for a moment may lose its place to
/// its copy, now or at its next start, and then more are lost than a cluster can do without.
pub const KINDS: [Kind; 39] = [
    kind("kill", 2, |draw| Fault::Kill(draw.target(), draw.soon())),
    kind("power", 2, |draw| Fault::Power(draw.target(), draw.soon())),
    kind("power_within_write", 2, |draw| Fault::PowerWithin(draw.target(), draw.dice.between(1, 30))),
    kind("disk_error", 2, |draw| Fault::DiskError(draw.target(), draw.dice.below(20))),
    kind("kill_all", 2, |draw| Fault::KillAll(draw.soon())),
    kind("power_all", 2, |draw| Fault::PowerAll(draw.soon())),
    kind("cold_start", 2, |draw| Fault::ColdStart(draw.mask(), draw.soon())),
    kind("pause", 2, |draw| Fault::Pause(draw.target(), draw.long())),
    kind("clock_drift", 2, |draw| Fault::ClockDrift(draw.target(), draw.dice.between(20, 400), draw.long())),
    kind("isolate", 2, |draw| Fault::Isolate(draw.target(), draw.long())),
    kind("one_way", 2, |draw| Fault::OneWay(draw.target(), draw.host(), draw.long())),
    kind("split", 2, |draw| Fault::Split(draw.mask(), draw.long())),
    kind("bridge", 2, |draw| Fault::Bridge(draw.host(), draw.mask(), draw.long())),
    kind("slow_link", 2, |draw| {
        Fault::SlowLink(draw.target(), draw.host(), draw.dice.between(5, 900) * MILLI, draw.long())
    }),
    kind("reset_links", 2, |draw| Fault::ResetLinks(draw.target())),
    kind("slow_disk", 2, |draw| Fault::SlowDisk(draw.target(), draw.dice.between(5, 300), draw.long())),
    kind("disk_low", 2, |draw| Fault::DiskLow(draw.target(), draw.long())),
    kind("disk_full", 2, |draw| Fault::DiskFull(draw.target(), draw.dice.below(64 << 10), draw.long())),
    kind("stop", 2, |draw| Fault::Stop(draw.target(), draw.soon())),
    kind("shutdown", 2, |draw| Fault::Shutdown(draw.target(), draw.soon())),
    kind("lose_disk", 5, |draw| Fault::LoseDisk(draw.target(), draw.soon())),
    kind("damage", 9, |draw| Fault::Damage(draw.target(), draw.soon())),
    kind("rot", 11, |draw| Fault::Rot(draw.target(), draw.dice.number(), draw.soon())),
    kind("old_copy", 20, |draw| Fault::OldCopy(draw.target(), draw.soon())),
    kind("clone", 7, |draw| Fault::Clone(draw.target(), draw.host(), draw.soon())),
    kind("foreign", 4, |draw| Fault::Foreign(draw.target(), draw.soon())),
    kind("intrude", 5, |draw| Fault::Intrude(draw.target())),
    kind("remove", 4, |draw| Fault::Remove(draw.target())),
    kind("mark", 6, |draw| Fault::Mark(draw.soon())),
    kind("mark_blind", 9, |draw| Fault::MarkBlind(draw.target(), draw.soon())),
    kind("drain", 4, |draw| Fault::Drain(draw.target(), draw.long())),
    kind("override", 12, |draw| Fault::Override(draw.target(), draw.soon())),
    kind("designate", 24, |draw| Fault::Designate(draw.target(), draw.long())),
    kind("priority", 3, |draw| Fault::Priority(draw.target(), draw.dice.below(4), draw.long())),
    kind("required_nodes", 3, |draw| {
        let hosts = draw.hosts as u64;
        Fault::RequiredNodes(draw.dice.between(hosts / 2 + 1, hosts), draw.long())
    }),
    kind("durability", 16, |draw| {
        let all = [Durability::NoSync, Durability::WriteNoSync, Durability::Sync];
        let leader = all[draw.dice.index(3)];
        let replicas = all[draw.dice.index(3)];
        Fault::Durability(DurabilityPolicy { leader, replicas }, draw.dice.between(2000, 15_000) * MILLI)
    }),
    kind("transfer", 3, |draw| Fault::Transfer(draw.host())),
    kind("cut_clients", 2, |_| Fault::CutClients),
    // Drawn apart from the others.
    kind("vhost", 0, |draw| Fault::Vhost(draw.long())),
];

impl Fault {
    /// Its kind's name, for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Kill(..) => "kill",
            Self::Power(..) => "power",
            Self::PowerWithin(..) => "power_within_write",
            Self::DiskError(..) => "disk_error",
            Self::KillAll(_) => "kill_all",
            Self::PowerAll(_) => "power_all",
            Self::ColdStart(..) => "cold_start",
            Self::Pause(..) => "pause",
            Self::ClockDrift(..) => "clock_drift",
            Self::Isolate(..) => "isolate",
            Self::OneWay(..) => "one_way",
            Self::Split(..) => "split",
            Self::Bridge(..) => "bridge",
            Self::SlowLink(..) => "slow_link",
            Self::ResetLinks(_) => "reset_links",
            Self::SlowDisk(..) => "slow_disk",
            Self::DiskLow(..) => "disk_low",
            Self::DiskFull(..) => "disk_full",
            Self::Stop(..) => "stop",
            Self::Shutdown(..) => "shutdown",
            Self::LoseDisk(..) => "lose_disk",
            Self::Damage(..) => "damage",
            Self::Rot(..) => "rot",
            Self::OldCopy(..) => "old_copy",
            Self::Clone(..) => "clone",
            Self::Twin(..) => "twin",
            Self::Foreign(..) => "foreign",
            Self::Mark(_) => "mark",
            Self::MarkBlind(..) => "mark_blind",
            Self::Intrude(_) => "intrude",
            Self::Remove(_) => "remove",
            Self::Drain(..) => "drain",
            Self::Override(..) => "override",
            Self::Designate(..) => "designate",
            Self::Priority(..) => "priority",
            Self::RequiredNodes(..) => "required_nodes",
            Self::Durability(..) => "durability",
            Self::Transfer(_) => "transfer",
            Self::CutClients => "cut_clients",
            Self::Vhost(_) => "vhost",
        }
    }

    /// Draws one of a kind.
    pub fn draw(kind: &Kind, hosts: usize, dice: &mut Dice) -> Self {
        (kind.draw)(&mut Draw { hosts, dice })
    }
}

/// Faults that begin within this time of each other met.
const NEAR: Micros = 5 * SECOND;

/// How often what was done.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// By kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Pairs of kinds, in alphabetical order, that met within five seconds of one run.
    pub pairs: BTreeSet<(&'static str, &'static str)>,
    /// Times at which no process ran.
    pub total_outages: u64,
    recent: VecDeque<(Micros, &'static str)>,
}

impl Tally {
    /// A fault was done.
    pub fn count(&mut self, now: Micros, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
        self.recent.retain(|(at, _)| now - at <= NEAR);
        self.pairs.extend(self.recent.iter().map(|(_, other)| (kind.min(*other), kind.max(*other))));
        self.recent.push_back((now, kind));
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        self.pairs.extend(&other.pairs);
        self.total_outages += other.total_outages;
    }

    /// How many pairs there can be.
    pub fn pairs_possible() -> usize {
        KINDS.len() * (KINDS.len() + 1) / 2
    }
}
