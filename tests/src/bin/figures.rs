//! Measures what a start, a restart and a full update take, and what durability policies cost:
//! `figures update|gap|outage|restart|durability [--messages N]`.
//!
//! The brokers are real processes on loopback with directories below `TMPDIR`, which go when it ends; `scripts/figures`
//! sees to that also when it is interrupted.

use std::process::ExitCode;

use quorate_tests::figures::{Plan, durability, gap, outage, restart, update};

const USAGE: &str = "figures update|gap|outage|restart|durability [--messages N] [--size BYTES] [--rounds N]";

fn plan(arguments: impl Iterator<Item = String>) -> Result<(String, Plan), String> {
    let mut arguments = arguments;
    let what = arguments.next().ok_or(USAGE)?;
    let messages = match what.as_str() {
        "outage" => 100_000,
        "durability" => 20_000,
        _ => 1_000_000,
    };
    let mut plan = Plan { messages, ..Plan::default() };
    while let Some(argument) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok());
        let value: u64 = value.ok_or_else(|| format!("{argument} needs a number"))?;
        match argument.as_str() {
            "--messages" => plan.messages = value,
            "--size" => plan.size = usize::try_from(value).map_err(|error| error.to_string())?,
            "--rounds" => plan.rounds = value,
            other => return Err(format!("{other} is not known: {USAGE}")),
        }
    }
    Ok((what, plan))
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let (what, plan) = match plan(std::env::args().skip(1)) {
        Ok(planned) => planned,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(64);
        }
    };
    let held = match what.as_str() {
        "update" => update::measure(&plan),
        "gap" => gap::measure(&plan).await,
        "outage" => outage::measure(&plan).await,
        "restart" => restart::measure(&plan).await,
        "durability" => durability::measure(&plan).await,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
