//! What a seed draws before a run begins: the cluster, its load, and every fault with its time.

use std::collections::BTreeMap;

use quorate_core::formation::status::RecoveryMode;

use super::dice::Dice;
use super::fault::{Fault, KINDS, Kind};
use super::host::HostConfig;
use super::schedule::{MILLI, Micros, SECOND};
use super::storage::LogSizes;

/// Everything drawn.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The hosts' settings.
    pub hosts: Vec<HostConfig>,
    /// When each host is started first.
    pub starts: Vec<Micros>,
    /// How long faults go on.
    pub length: Micros,
    /// The faults, by their time after the cluster began to serve.
    pub faults: Vec<(Micros, Fault)>,
    /// Publishers: their queue's number and how many messages.
    pub publishers: Vec<(u64, u64)>,
    /// Consumers: their queue's number, credit, and how many of a hundred they give back.
    pub consumers: Vec<(u64, u32, u64)>,
    /// Transactors: their queue's number and how many messages they publish.
    pub transactors: Vec<(u64, u64)>,
    /// Room in the queues that have a limit, by their number: there is always somebody who consumes these.
    pub rooms: BTreeMap<u64, u64>,
    /// How many messages a publisher sends to a queue that does not exist.
    pub astray: u64,
    /// Before the cold start the queues are drained once, and messages are published for what comes after it.
    pub drains_before: bool,
    /// At the end all lose their power, not only their processes.
    pub power_at_the_end: bool,
}

/// The settings of `count` hosts that found one cluster.
pub fn cluster(count: usize, sizes: LogSizes) -> Vec<HostConfig> {
    let config = HostConfig {
        peers: (0..count).collect(),
        wait_for: u32::try_from(count / 2 + 1).expect("few"),
        allow_small: false,
        recovery: RecoveryMode::Automatic,
        cluster_id: None,
        heartbeat_millis: 50,
        election_millis: 500,
        safety_millis: 1000,
        update_rate: 0,
        sizes,
    };
    vec![config; count]
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "plan");
        let count = if dice.chance(50) { 3 } else { [1, 2, 2, 2, 4, 5, 5, 5, 6, 7][dice.index(10)] };
        let segment_bytes = [16, 32, 64][dice.index(3)] << 10;
        let log_retain = segment_bytes * dice.between(2, 8);
        let mut hosts = cluster(count, LogSizes { segment_bytes, log_retain });
        let majority = count as u64 / 2 + 1;
        let wait_for = if dice.chance(65) { majority } else { dice.between(majority, count as u64) };
        let wait_for = u32::try_from(wait_for).expect("few");
        let election = [500, 300, 1000][dice.index(3)];
        for host in &mut hosts {
            host.wait_for = wait_for;
            host.election_millis = election;
        }
        let starts = (0..count).map(|_| dice.between(0, 2000) * MILLI).collect();
        let length = dice.between(10, 40) * SECOND;
        let mut faults = Self::draw_faults(count, length, &mut Dice::new(seed, "faults"));
        faults.extend(Self::draw_apart(count, length, &mut Dice::new(seed, "virtual hosts")));
        faults.sort_by_key(|(at, _)| *at);
        let queues = dice.between(1, 3);
        let publishers =
            (0..dice.between(1, 3)).map(|_| (dice.below(queues), dice.between(100, 1900))).collect();
        let consumers: Vec<(u64, u32, u64)> = (0..dice.between(0, 3))
            .map(|_| {
                (dice.below(queues), u32::try_from(dice.between(1, 60)).expect("small"), dice.below(3) * 7)
            })
            .collect();
        let transactors = Self::draw_transactors(queues, &mut Dice::new(seed, "transactions"));
        let power_at_the_end = dice.chance(50);
        let mut rooms = BTreeMap::new();
        for (queue, ..) in &consumers {
            if dice.chance(30) {
                rooms.insert(*queue, dice.between(20, 200));
            }
        }
        let astray = if dice.chance(30) { dice.between(20, 300) } else { 0 };
        let drains_before = dice.chance(50);
        Self {
            hosts,
            starts,
            length,
            faults,
            publishers,
            consumers,
            transactors,
            rooms,
            astray,
            drains_before,
            power_at_the_end,
        }
    }

    /// In half of the runs there are some.
    fn draw_transactors(queues: u64, dice: &mut Dice) -> Vec<(u64, u64)> {
        let count = if dice.chance(50) { dice.between(1, 2) } else { 0 };
        (0..count).map(|_| (dice.below(queues), dice.between(50, 800))).collect()
    }

    /// Each kind is on with a probability of one third, so that rare combinations are met densely.
    fn draw_faults(count: usize, length: Micros, dice: &mut Dice) -> Vec<(Micros, Fault)> {
        let kinds: Vec<&Kind> = KINDS.iter().filter(|kind| kind.weight > 0 && dice.chance(33)).collect();
        let weight = kinds.iter().map(|kind| kind.weight).sum::<u64>();
        let mean = dice.between(130, 1600) * MILLI;
        let mut faults = Vec::new();
        let mut at = 0;
        loop {
            at += dice.between(mean / 10, mean * 2);
            if at >= length || weight == 0 {
                break;
            }
            let mut drawn = dice.below(weight);
            let kind = kinds.iter().find(|kind| {
                let is_it = drawn < kind.weight;
                drawn = drawn.saturating_sub(kind.weight);
                is_it
            });
            faults.extend(kind.map(|kind| (at, Fault::draw(kind, count, dice))));
        }
        faults
    }

    /// Kinds that have no weight beside the others, in one of three runs: what is drawn of the others is as without them.
    fn draw_apart(count: usize, length: Micros, dice: &mut Dice) -> Vec<(Micros, Fault)> {
        let mut faults = Vec::new();
        for kind in KINDS.iter().filter(|kind| kind.weight == 0) {
            let times = if dice.chance(33) { dice.between(1, 5) } else { 0 };
            faults.extend((0..times).map(|_| (dice.between(0, length), Fault::draw(kind, count, dice))));
        }
        faults
    }
}
