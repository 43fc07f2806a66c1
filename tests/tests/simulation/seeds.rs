//! Whole runs.

use quorate_tests::sim::run::{Total, play, play_all};

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(usual)
}

/// `QUORATE_SIM_SEEDS` and `QUORATE_SIM_FIRST` choose others.
#[test]
fn simulation_of_a_fixed_set_of_seeds() {
    let first = number("QUORATE_SIM_FIRST", 1);
    let mut total = Total::default();
    let mut wrong = Vec::new();
    let seeds = number("QUORATE_SIM_SEEDS", 60);
    play_all(
        first,
        seeds,
        |seed| play(seed, false),
        |outcome| {
            total.add(&outcome);
            let seed = outcome.seed;
            wrong.extend(outcome.violations.iter().map(|violation| format!("seed {seed}: {violation}")));
            if !outcome.violations.is_empty() {
                wrong.push(format!("again: make sim SEEDS=1 FIRST={seed}"));
            }
        },
    );
    println!("{}", total.json());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_seed_played_again_gives_the_same_trace() {
    for seed in 1..=20 {
        assert_eq!(play(seed, false).hash, play(seed, false).hash, "seed {seed}");
    }
}
