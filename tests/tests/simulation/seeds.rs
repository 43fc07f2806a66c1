//! Whole runs.

use quorate_tests::sim::run::{Total, play};

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(usual)
}

/// `QUORATE_SIM_SEEDS` and `QUORATE_SIM_FIRST` choose others.
#[test]
fn simulation_of_a_fixed_set_of_seeds() {
    let first = number("QUORATE_SIM_FIRST", 1);
    let mut total = Total::default();
    let mut wrong = Vec::new();
    for seed in first..first + number("QUORATE_SIM_SEEDS", 200) {
        let outcome = play(seed, false);
        total.add(&outcome);
        wrong.extend(outcome.violations.iter().map(|violation| format!("seed {seed}: {violation}")));
        if !outcome.violations.is_empty() {
            wrong.push(format!("again: make sim SEEDS=1 FIRST={seed}"));
        }
    }
    println!("{}", total.json());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each showed a defect once: after a replacement, and then the loss of the leader's disk and of all power, those who were
/// left had forgotten that the new store votes.
#[test]
fn seeds_that_found_a_defect_stay_sound() {
    for seed in [20338, 20815] {
        let outcome = play(seed, false);
        assert!(outcome.violations.is_empty(), "seed {seed}: {:?}", outcome.violations);
    }
}

#[test]
fn a_seed_played_again_gives_the_same_trace() {
    for seed in [1, 2, 6, 9, 17, 20] {
        assert_eq!(play(seed, false).hash, play(seed, false).hash, "seed {seed}");
    }
}
