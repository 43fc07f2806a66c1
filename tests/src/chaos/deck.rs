//! Which faults there are, how many of each a run has, and in which order: all of it from the seed.

use std::fmt;
use std::time::Duration;

use crate::sim::dice::Dice;

/// How brokers are cut off from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Split {
    /// One broker, in both directions: bytes are held back.
    Stall,
    /// One broker, in both directions: connections are reset.
    Cut,
    /// What one broker says is held back, or vanishes; it hears everything.
    OneWay,
    /// Connections from one broker end in the middle of a frame, and stay away.
    MiddleOfFrame,
    /// What one broker says comes late.
    Delay,
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9` of one broker.
    Kill,
    /// `kill -9` of all at one instant.
    KillAll,
    /// SIGSTOP, and SIGCONT some time later.
    Pause,
    /// A partition, and its end some time later.
    Partition(Split),
    /// SIGTERM of one broker.
    Terminate,
    /// `quorate cluster shutdown`.
    Shutdown,
    /// The small disk is filled, and freed some time later.
    FullDisk,
    /// Two of three stores are lost for good, and the operator goes on from the third.
    Recovery,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kills of one",
            Self::KillAll => "kills of all",
            Self::Pause => "pauses",
            Self::Partition(Split::Stall) => "stalls",
            Self::Partition(Split::Cut) => "cuts",
            Self::Partition(Split::OneWay) => "one-way partitions",
            Self::Partition(Split::MiddleOfFrame) => "cuts in the middle of a frame",
            Self::Partition(Split::Delay) => "delays",
            Self::Terminate => "stops",
            Self::Shutdown => "shutdowns",
            Self::FullDisk => "full disks",
            Self::Recovery => "recoveries",
        })
    }
}

/// In so many seconds …
const PER: u64 = 80;
/// … there are so many of each, and at least so many have to come about. Delays are no partitions.
const KINDS: [(Fault, u64, u64); 12] = [
    (Fault::Kill, 19, 17),
    (Fault::KillAll, 3, 3),
    (Fault::Pause, 9, 8),
    (Fault::Partition(Split::Stall), 2, 1),
    (Fault::Partition(Split::Cut), 2, 1),
    (Fault::Partition(Split::OneWay), 4, 3),
    (Fault::Partition(Split::MiddleOfFrame), 3, 2),
    (Fault::Partition(Split::Delay), 1, 1),
    (Fault::Terminate, 2, 1),
    (Fault::Shutdown, 1, 1),
    (Fault::FullDisk, 1, 1),
    (Fault::Recovery, 1, 1),
];
/// Of all partitions together, and of all kills.
const PARTITIONS_MIN: u64 = 8;
const KILLS_MIN: u64 = 20;

fn scaled(count: u64, fault: Fault, time: Duration) -> u64 {
    if fault == Fault::Recovery { 1 } else { (count * time.as_secs()).div_ceil(PER) }
}

/// The faults of a run of this length, in their order. The recovery comes when much has happened and much will.
pub fn deck(dice: &mut Dice, time: Duration) -> Vec<Fault> {
    let mut deck: Vec<Fault> = Vec::new();
    for (fault, count, _) in KINDS {
        if fault != Fault::Recovery {
            deck.extend((0..scaled(count, fault, time)).map(|_| fault));
        }
    }
    for place in (1..deck.len()).rev() {
        deck.swap(place, dice.index(place + 1));
    }
    let third = deck.len() / 3;
    deck.insert(third + dice.index(third.max(1)), Fault::Recovery);
    deck
}

/// What came about.
#[derive(Clone, Debug, Default)]
pub struct Tally(std::collections::BTreeMap<Fault, u64>);

impl Tally {
    /// One more.
    pub fn count(&mut self, fault: Fault) {
        *self.0.entry(fault).or_default() += 1;
    }

    /// How many of a kind.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0.get(&fault).copied().unwrap_or_default()
    }

    fn of_all(&self, test: impl Fn(Fault) -> bool) -> u64 {
        self.0.iter().filter(|(fault, _)| test(**fault)).map(|(_, count)| count).sum()
    }

    /// What a run of this length has too little of to mean anything; `is_possible` says what can be done here at all.
    pub fn missing(&self, time: Duration, is_possible: impl Fn(Fault) -> bool) -> Vec<String> {
        let kinds = KINDS
            .into_iter()
            .filter(|(fault, _, _)| is_possible(*fault))
            .map(|(fault, _, least)| (fault.to_string(), self.of(fault), scaled(least, fault, time)));
        let is_partition = |fault| matches!(fault, Fault::Partition(split) if split != Split::Delay);
        let is_kill = |fault| matches!(fault, Fault::Kill | Fault::KillAll);
        let sums = [
            ("partitions", self.of_all(is_partition), scaled(PARTITIONS_MIN, Fault::Kill, time)),
            ("kills", self.of_all(is_kill), scaled(KILLS_MIN, Fault::Kill, time)),
        ];
        let sums = sums.into_iter().map(|(what, count, least)| (what.to_owned(), count, least));
        let found: Vec<_> = kinds.chain(sums).collect();
        let short = found.into_iter().filter(|(_, count, least)| count < least);
        short.map(|(what, count, least)| format!("{count} {what}, at least {least} are needed")).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (fault, count)) in self.0.iter().enumerate() {
            write!(f, "{}{count} {fault}", if place == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deck_is_the_seeds_and_has_enough_of_everything() {
        for seconds in [20, 80, 600] {
            let time = Duration::from_secs(seconds);
            let deck_of = |seed| deck(&mut Dice::new(seed, "deck"), time);
            assert_eq!(deck_of(1), deck_of(1));
            assert_ne!(deck_of(1), deck_of(2));
            let mut tally = Tally::default();
            for fault in deck_of(3) {
                tally.count(fault);
            }
            assert_eq!(tally.missing(time, |_| true), [""; 0]);
            assert_eq!(tally.of(Fault::Recovery), 1);
            for (fault, _, _) in KINDS {
                let mut without = tally.clone();
                without.0.remove(&fault);
                assert!(!without.missing(time, |_| true).is_empty(), "{fault}");
            }
            let empty = Tally::default();
            assert!(empty.missing(time, |fault| fault != Fault::FullDisk).len() >= KINDS.len());
        }
    }
}
