//! Every state that a loss of power may leave after each file operation of a store's life is recovered from by the
//! product itself and judged.
//!
//! `QUORATE_CRASH_EFFORT` multiplies what is tried; `QUORATE_CRASH_SEED` plays one workload only, and
//! `QUORATE_CRASH_STATE` one state of it.

use std::time::Instant;

use quorate_tests::crash::states::{Effort, Place, Tally, examine};
use quorate_tests::crash::workload::{Recording, member, single};

/// The first workload's seed.
const FIRST: u64 = 11;

fn number(name: &str) -> Option<u64> {
    let set = std::env::var(name).ok();
    set.map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

/// What a workload is tried with at least, whatever its seed.
#[derive(Clone, Copy)]
struct Least {
    operations: usize,
    states: u64,
    nested: u64,
    drained: u64,
}

impl Least {
    fn is_reached(&self, tally: &Tally) -> bool {
        tally.operations >= self.operations
            && tally.states >= self.states
            && tally.nested >= self.nested
            && tally.drained >= self.drained
    }
}

/// Plays so many workloads; all of it together, unless only a part was asked for.
fn run(record: fn(u64) -> Recording, workloads: u64, least: Least) -> Option<Tally> {
    let begun = Instant::now();
    let only = std::env::var("QUORATE_CRASH_STATE").ok();
    let only = only.map(|text| text.parse::<Place>().unwrap_or_else(|error| panic!("{error}")));
    let factor = number("QUORATE_CRASH_EFFORT").unwrap_or(1).max(1);
    let seeds = match number("QUORATE_CRASH_SEED") {
        Some(seed) => seed..seed + 1,
        None => FIRST..FIRST + workloads * factor,
    };
    let effort = Effort { drawn: 16, torn: 8, nested_every: 25, drained_every: 20, only };
    let mut all = Tally::default();
    for seed in seeds {
        let tally = examine(&record(seed), &effort);
        assert!(tally.failures.is_empty(), "{}", tally.failures.join("\n"));
        // A single state has no figures to reach.
        assert!(effort.only.is_some() || least.is_reached(&tally), "too little with seed {seed}: {tally}");
        all.add(tally);
    }
    println!("{all} in {:?}", begun.elapsed());
    (effort.only.is_none() && number("QUORATE_CRASH_SEED").is_none()).then_some(all)
}

#[test]
fn single_broker_at_every_crash_point() {
    let least = Least { operations: 300, states: 2300, nested: 5000, drained: 100 };
    let Some(tally) = run(single, 3, least) else { return };
    assert!(tally.states >= 9000 && tally.nested >= 20000 && tally.drained >= 400, "{tally}");
}

#[test]
fn member_of_a_cluster_at_every_crash_point() {
    let least = Least { operations: 500, states: 4200, nested: 1200, drained: 30 };
    let Some(tally) = run(member, 4, least) else { return };
    assert!(tally.states >= 19000 && tally.nested >= 7000 && tally.drained >= 200, "{tally}");
}
