//! A machine: its disk, and the process on it if one runs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_core::Node;
use quorate_core::formation::status::RecoveryMode;
use quorate_core::io::{FoundGroup, FoundStamp, Input, PeerIdentity, PeerKey, SessionId, Tick};
use quorate_core::node::config::NodeConfig;
use quorate_core::peer::PeerMessage;
use quorate_core::replica::Timing;
use quorate_store::ids::{ClusterId, GroupId};

use super::dice::Dice;
use super::ledger::FoundLog;
use super::order::Order;
use super::schedule::{ConnectionId, Happening, HostId, LinkId, MILLI, Micros};
use super::storage::{LogSizes, Medium, Opened, Storage, open_store};

/// What a host's broker is configured with.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// `--cluster-peers`, by host.
    pub peers: Vec<HostId>,
    /// `--cluster-wait-for`.
    pub wait_for: u32,
    /// `--allow-small-cluster`.
    pub allow_small: bool,
    /// `--recovery`.
    pub recovery: RecoveryMode,
    /// `--cluster-id`.
    pub cluster_id: Option<ClusterId>,
    /// Heartbeat in milliseconds.
    pub heartbeat_millis: u64,
    /// Election timeout in milliseconds.
    pub election_millis: u64,
    /// `--safety-interval` in milliseconds.
    pub safety_millis: u64,
    /// `--update-rate`.
    pub update_rate: u64,
    /// Of the log.
    pub sizes: LogSizes,
}

/// A host's broker's name.
pub fn name_of(host: HostId) -> String {
    format!("b{}", host + 1)
}

/// A host's address for peers.
pub fn cluster_address(host: HostId) -> String {
    format!("host{host}:7421")
}

/// A host's address for clients.
pub fn client_address(host: HostId) -> String {
    format!("host{host}:7420")
}

/// The host of a client address.
pub fn host_of(address: &str) -> Option<HostId> {
    address.strip_prefix("host")?.split(':').next()?.parse().ok()
}

/// How long the disk takes.
#[derive(Clone, Copy, Debug)]
pub struct DiskSpeed {
    /// Times as long as usual.
    pub factor: u64,
}

/// A monotonic clock that may go too fast or too slow.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Since then it goes at this pace.
    since: Micros,
    /// What it showed then.
    shown: Micros,
    percent: u64,
}

impl Clock {
    /// Shows zero now.
    pub fn new(now: Micros, percent: u64) -> Self {
        Self { since: now, shown: 0, percent: percent.max(1) }
    }

    /// What it shows.
    pub fn shows(&self, now: Micros) -> Micros {
        self.shown + (now - self.since) * self.percent / 100
    }

    /// When it will show this, at the present pace, or the time since when it goes at this pace if that is past.
    pub fn will_show(&self, shown: Micros) -> Micros {
        self.since + (shown.saturating_sub(self.shown) * 100).div_ceil(self.percent)
    }

    /// Goes at another pace from now on, without a jump.
    pub fn set_pace(&mut self, now: Micros, percent: u64) {
        *self = Self { since: now, shown: self.shows(now), percent: percent.max(1) };
    }
}

/// A running process.
pub struct Process {
    /// Everything that it decides.
    pub node: Node,
    /// Who it is.
    pub key: PeerKey,
    /// What it holds of the disk.
    pub storage: Box<Storage>,
    /// What waits for what.
    pub order: Order,
    /// What arrived since the last round.
    pub inbox: VecDeque<Input>,
    /// A round is due.
    pub round_due: bool,
    /// When the core is woken next.
    pub wake_at: Option<Micros>,
    /// The core's clock.
    pub clock: Clock,
    /// Connections of clients.
    pub sessions: BTreeMap<SessionId, ConnectionId>,
    /// The number of the next session.
    pub next_session: u64,
    /// Links that this process dialed.
    pub links: BTreeMap<PeerKey, LinkId>,
    /// Links that others dialed.
    pub inbound: BTreeMap<PeerKey, LinkId>,
    /// What peers said before there was a link to answer them.
    pub stash: BTreeMap<PeerKey, Vec<PeerMessage>>,
    /// Addresses that are dialed.
    pub dialing: BTreeSet<String>,
    /// Stopped by the scheduler of its machine; what happens meanwhile waits here.
    pub paused: Option<Vec<Happening>>,
}

impl Process {
    /// The core's time.
    pub fn tick(&self, now: Micros) -> Tick {
        Tick(self.clock.shows(now) / MILLI)
    }
}

/// A machine.
pub struct Host {
    /// Its number.
    pub id: HostId,
    /// Its broker's name.
    pub name: String,
    /// Its broker's settings.
    pub config: HostConfig,
    /// Its disk.
    pub medium: Medium,
    /// Counts starts and ends of its process.
    pub life: u64,
    /// Counts the times that its power came back.
    pub boot: u64,
    /// Runs now.
    pub process: Option<Process>,
    /// How the last process ended by itself.
    pub exit: Option<(u8, String)>,
    /// How fast its disk is.
    pub speed: DiskSpeed,
    /// At which pace its clock goes.
    pub clock_percent: u64,
    /// What its wall clock shows when a process starts, in milliseconds.
    pub wall_ms: u64,
    /// Each group's log as it was found at the last start; none if the store was damaged and its log not looked at.
    pub found_logs: Option<BTreeMap<GroupId, FoundLog>>,
    dice: Dice,
}

impl Host {
    /// A machine without a process.
    pub fn new(id: HostId, seed: u64, config: HostConfig) -> Self {
        Self {
            id,
            name: name_of(id),
            config,
            medium: Medium::new(),
            life: 0,
            boot: 1,
            process: None,
            exit: None,
            speed: DiskSpeed { factor: 1 },
            clock_percent: 100,
            wall_ms: 0,
            found_logs: None,
            dice: Dice::new(seed, &format!("host {id}")),
        }
    }

    /// Who its process says it is.
    pub fn identity(&self, key: PeerKey) -> PeerIdentity {
        PeerIdentity {
            key,
            name: self.name.clone(),
            cluster_address: cluster_address(self.id),
            client_address: client_address(self.id),
            admin_address: format!("host{}:7422", self.id),
            transient: false,
        }
    }

    fn node_config(&self) -> NodeConfig {
        let config = &self.config;
        NodeConfig {
            name: self.name.clone(),
            cluster_name: "simulated".to_owned(),
            peers: config.peers.iter().map(|host| cluster_address(*host)).collect(),
            wait_for: config.wait_for,
            allow_small: config.allow_small,
            recovery: config.recovery,
            cluster_id_wanted: config.cluster_id,
            client_address: client_address(self.id),
            cluster_address: cluster_address(self.id),
            admin_address: format!("host{}:7422", self.id),
            tick_zero_ms: self.wall_ms,
            timing: Timing::new(config.heartbeat_millis, config.election_millis),
            stamp_interval_millis: 5000,
            safety_interval_millis: config.safety_millis,
            unsynced_max_entries: 1000,
            unsynced_max_millis: 100,
            update_rate: self.config.update_rate,
            frame_limit: 1 << 20,
            message_limit: 16 << 20,
        }
    }

    /// Starts the process. False if the disk failed meanwhile.
    pub fn start(&mut self, now: Micros) -> bool {
        assert!(self.process.is_none(), "one process at a time");
        let boot = self.boot_id();
        let (storage, found) = match open_store(&self.medium, self.config.sizes, &boot, &mut self.dice) {
            Opened::Open(storage, found) => (storage, found),
            Opened::Failed(why) => {
                self.exit = Some((5, why));
                return false;
            }
        };
        self.life += 1;
        self.exit = None;
        let key = PeerKey { store: found.store, run: found.run };
        let damaged = matches!(found.stamp, FoundStamp::Damaged { .. });
        let log_of = |group: &FoundGroup| {
            let entries =
                storage.load(group.group, group.first, group.last.next(), usize::MAX).unwrap_or_default();
            let FoundGroup { hard_state, first, epoch, .. } = *group;
            (group.group, FoundLog { hard_state, first, epoch, entries })
        };
        self.found_logs = (!damaged).then(|| found.groups.iter().map(log_of).collect());
        let node = Node::new(self.node_config(), found, self.dice.number(), Tick(0));
        self.process = Some(Process {
            node,
            key,
            storage,
            order: Order::default(),
            inbox: VecDeque::new(),
            round_due: false,
            wake_at: None,
            clock: Clock::new(now, self.clock_percent),
            sessions: BTreeMap::new(),
            next_session: 1,
            links: BTreeMap::new(),
            inbound: BTreeMap::new(),
            stash: BTreeMap::new(),
            dialing: BTreeSet::new(),
            paused: None,
        });
        true
    }

    /// The process is gone; what is lost with it depends on how.
    pub fn end(&mut self, power: bool) -> Option<Process> {
        let process = self.process.take();
        self.life += 1;
        if power {
            self.boot += 1;
            self.medium.cut_power(&mut self.dice);
        } else {
            self.medium.kill(&mut self.dice);
        }
        process
    }

    /// The kernel's id of this boot.
    pub fn boot_id(&self) -> String {
        format!("boot-{}-{}", self.id, self.boot)
    }

    /// A write and sync of the log, or of the state store.
    pub fn sync_delay(&mut self) -> Micros {
        let usual = if self.dice.chance(3) {
            self.dice.between(2 * MILLI, 15 * MILLI)
        } else {
            self.dice.between(200, 1200)
        };
        usual * self.speed.factor
    }

    /// A read.
    pub fn read_delay(&mut self) -> Micros {
        self.dice.between(30, 400) * self.speed.factor
    }

    /// From an arrival to the round that takes it.
    pub fn round_delay(&mut self) -> Micros {
        self.dice.between(5, 60)
    }

    /// Any number of this host's own dice.
    pub fn roll(&mut self) -> u64 {
        self.dice.number()
    }
}
