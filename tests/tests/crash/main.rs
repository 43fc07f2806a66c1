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

/// Plays so many workloads; none if only a part was asked for, which has no figures to reach.
fn run(record: fn(u64) -> Recording, workloads: u64) -> Option<Tally> {
    let begun = Instant::now();
    let only = std::env::var("QUORATE_CRASH_STATE").ok();
    let only = only.map(|text| text.parse::<Place>().unwrap_or_else(|error| panic!("{error}")));
    let factor = number("QUORATE_CRASH_EFFORT").unwrap_or(1).max(1);
    let seeds = match number("QUORATE_CRASH_SEED") {
        Some(seed) => seed..seed + 1,
        None => FIRST..FIRST + workloads * factor,
    };
    let effort = Effort { drawn: 16, torn: 8, nested_every: 25, drained_every: 20, only };
    let (mut all, mut fewest) = (Tally::default(), usize::MAX);
    for seed in seeds {
        let tally = examine(&record(seed), &effort);
        fewest = fewest.min(tally.operations);
        all.add(tally);
        assert!(all.failures.is_empty(), "{}", all.failures.join("\n"));
    }
    println!("{all} in {:?}", begun.elapsed());
    assert!(fewest >= 300 || effort.only.is_some(), "a workload has {fewest} operations only");
    (effort.only.is_none() && number("QUORATE_CRASH_SEED").is_none()).then_some(all)
}

#[test]
fn single_broker_at_every_crash_point() {
    let Some(tally) = run(single, 3) else { return };
    assert!(tally.states >= 9000 && tally.nested >= 5000 && tally.drained >= 400, "{tally}");
}

#[test]
fn member_of_a_cluster_at_every_crash_point() {
    let Some(tally) = run(member, 4) else { return };
    assert!(tally.states >= 19000 && tally.nested >= 2000 && tally.drained >= 100, "{tally}");
}
