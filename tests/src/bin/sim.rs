//! Plays simulated clusters: `sim --seeds 100 --first 1 [-v]`; `--trace` prints what happens.

use std::process::ExitCode;

use quorate_tests::sim::run::Total;
use quorate_tests::sim::run::play;

struct Options {
    seeds: u64,
    first: u64,
    verbose: bool,
    trace: bool,
    twice: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options { seeds: 100, first: 1, verbose: false, trace: false, twice: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments.next().and_then(|value| value.parse().ok());
            value.ok_or_else(|| format!("{argument} needs a number"))
        };
        match argument.as_str() {
            "--seeds" => options.seeds = number()?,
            "--first" => options.first = number()?,
            "-v" => options.verbose = true,
            "--trace" => options.trace = true,
            "--twice" => options.twice = true,
            other => return Err(format!("{other} is not known: --seeds N --first S -v --trace --twice")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    let mut total = Total::default();
    for seed in options.first..options.first.saturating_add(options.seeds) {
        let mut outcome = play(seed, options.trace);
        if options.twice {
            let again = play(seed, false);
            if again.hash != outcome.hash {
                outcome.violations.push("played again, the seed gives another trace".to_owned());
            }
        }
        if options.verbose {
            println!("{outcome}");
        }
        for violation in &outcome.violations {
            println!("seed {seed}: {violation}");
        }
        if !outcome.violations.is_empty() {
            println!(
                "again: cargo run --release -p quorate-tests --bin sim -- --seeds 1 --first {seed} --trace"
            );
        }
        total.add(&outcome);
    }
    println!("{}", total.json());
    if total.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
