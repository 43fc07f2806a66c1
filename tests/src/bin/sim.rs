//! Plays simulated clusters: `sim --seeds 100 --first 1 [-v]`; `--trace` prints what happens, `--twice` plays each seed
//! twice and compares, `--gate` asks for as many faults of each kind as the gate wants, `--stop` ends at the first
//! violation.

use std::process::ExitCode;

use quorate_tests::sim::run::{Total, play, play_all};

struct Options {
    seeds: u64,
    first: u64,
    verbose: bool,
    trace: bool,
    twice: bool,
    gate: bool,
    stop: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        seeds: 100,
        first: 1,
        verbose: false,
        trace: false,
        twice: false,
        gate: false,
        stop: false,
    };
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
            "--gate" => options.gate = true,
            "--stop" => options.stop = true,
            other => {
                return Err(format!(
                    "{other} is not known: --seeds N --first S -v --trace --twice --gate --stop"
                ));
            }
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
    let play_one = |seed| {
        let mut outcome = play(seed, options.trace);
        if options.twice {
            let again = play(seed, false);
            if again.hash != outcome.hash {
                outcome.violations.push("played again, the seed gives another trace".to_owned());
            }
        }
        outcome
    };
    play_all(options.first, options.seeds, play_one, |outcome| {
        if options.verbose {
            println!("{outcome}");
        }
        for violation in &outcome.violations {
            println!("seed {}: {violation}", outcome.seed);
        }
        if !outcome.violations.is_empty() {
            println!(
                "again: make sim SEEDS=1 FIRST={0}, or with a trace: cargo run --release -p quorate-tests --bin sim -- \
                 --seeds 1 --first {0} --trace",
                outcome.seed
            );
        }
        total.add(&outcome);
        if options.stop && total.violations > 0 {
            println!("{}", total.json());
            std::process::exit(1);
        }
    });
    let lacks = if options.gate { total.lacks() } else { Vec::new() };
    for lack in &lacks {
        println!("too few for the gate: {lack}");
    }
    println!("{}", total.json());
    if total.violations == 0 && lacks.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
