//! Two reports beside each other: what has changed, and what is only noise.
//!
//! ```text
//!   OLD.json, NEW.json ─ file (read, bounded) ─> what differs in the arguments? ─> cell by cell: spread (the rule) ─> view
//! ```

pub mod file;
pub mod spread;
mod view;

use serde::Serialize;

use self::file::{Cost, Found, Measured, Round};
use self::spread::{Better, Change, Verdict};
use crate::bench::account::Account;
use crate::exit::{Failure, Status};

/// Rounds on each side with which something can be said: three against three lie apart by chance once in ten times,
/// in one direction once in twenty.
pub const ROUNDS_NEEDED: usize = 3;

/// An argument, or something else that matters, in which two runs differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its name in the report.
    pub argument: &'static str,
    /// In the old one.
    pub old: String,
    /// In the new one.
    pub new: String,
}

/// One number of one cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Bytes of each body.
    pub size: u64,
    /// Messages on their way.
    pub window: u64,
    /// Messages a second that were wanted.
    pub rate: Option<u64>,
    /// publish or consume.
    pub what: &'static str,
    /// The number's name in the report.
    pub metric: &'static str,
    /// What became of it.
    #[serde(flatten)]
    pub change: Change,
}

/// Where a side is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Side {
    /// As on the command line.
    pub file: String,
    /// Of the program that measured.
    pub version: String,
    /// When, in milliseconds since 1970.
    pub time_unix_ms: u64,
    /// How many rounds.
    pub rounds: usize,
    /// What became of its messages.
    pub messages: Account,
    /// Why not all of it was measured; none if all was.
    pub incomplete: Option<String>,
}

/// The result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// `quorate-bench-comparison`.
    pub format: &'static str,
    /// Of these fields.
    pub schema: u32,
    /// What it is compared with.
    pub old: Side,
    /// What is compared.
    pub new: Side,
    /// Slower by more than this share is too much.
    pub tolerance: f64,
    /// In what the runs differ, shown all the same.
    pub differences: Vec<Difference>,
    /// Numbers by verdict.
    pub faster: usize,
    /// Of all those that are slower.
    pub slower: usize,
    /// Of these, by more than the tolerance.
    pub beyond_tolerance: usize,
    /// Within the noise.
    pub same: usize,
    /// With too few rounds.
    pub unclear: usize,
    /// By cell, then publish and consume, then number.
    pub lines: Vec<Line>,
}

type OfMeasured = fn(&Measured) -> Option<f64>;
type OfCost = fn(&Cost) -> Option<f64>;

/// None is no fast one.
fn measured_latency(micros: f64) -> Option<f64> {
    Some(micros).filter(|micros| *micros > 0.0)
}

/// Rates and latencies that are compared.
const MEASURED: [(&str, Better, OfMeasured); 3] = [
    ("rate", Better::Higher, |measured| Some(measured.rate)),
    ("p50_us", Better::Lower, |measured| measured_latency(measured.p50_us)),
    ("p99_us", Better::Lower, |measured| measured_latency(measured.p99_us)),
];
/// Costs that are compared.
const COSTS: [(&str, OfCost); 4] = [
    ("broker_cpu_us_per_message", |cost| cost.broker_cpu_us_per_message),
    ("syncs_per_message", |cost| cost.syncs_per_message),
    ("log_bytes_per_payload_byte", |cost| cost.log_bytes_per_payload_byte),
    ("disk_bytes_per_payload_byte", |cost| cost.disk_bytes_per_payload_byte),
];

/// Compares two reports. With `anyway`, also those that differ in what matters, in the cells that both have.
///
/// # Errors
/// They cannot be compared; says why.
pub fn compare(
    old: &Found,
    new: &Found,
    names: [&str; 2],
    tolerance: f64,
    anyway: bool,
) -> Result<Comparison, Failure> {
    let differences = file::differences(&old.arguments, &new.arguments, [old.brokers, new.brokers]);
    let fewest = old.fewest_rounds().min(new.fewest_rounds());
    if !anyway {
        refuse(&differences, fewest)?;
        for (found, name) in [old, new].into_iter().zip(names) {
            if let Some(why) = found.incomplete() {
                let text = format!("{name} is the report of a run that did not measure all: {why}");
                return Err(not_comparable(text).next(ANYWAY));
            }
        }
    }
    let mut lines = Vec::new();
    for cell in &old.cells.0 {
        let same = |other: &&file::Cell| other.key() == cell.key();
        if let Some(other) = new.cells.0.iter().find(same) {
            let (size, window, rate) = cell.key();
            let rounds = changes(&cell.rounds.0, &other.rounds.0, tolerance);
            lines.extend(rounds.into_iter().map(|(what, metric, change)| Line {
                size,
                window,
                rate,
                what,
                metric,
                change,
            }));
        }
    }
    if lines.is_empty() {
        return Err(not_comparable("the two reports have no cell in common, or nothing was measured in any"));
    }
    let count = |verdict| lines.iter().filter(|line| line.change.verdict == verdict).count();
    let [old_name, new_name] = names;
    Ok(Comparison {
        format: "quorate-bench-comparison",
        schema: 1,
        old: side(old, old_name),
        new: side(new, new_name),
        tolerance,
        differences,
        faster: count(Verdict::Faster),
        slower: count(Verdict::Slower),
        beyond_tolerance: lines.iter().filter(|line| line.change.beyond_tolerance).count(),
        same: count(Verdict::Same),
        unclear: count(Verdict::Unclear),
        lines,
    })
}

const ANYWAY: &str = "the same command with --anyway shows the cells that both have";

fn not_comparable(why: impl Into<String>) -> Failure {
    Failure::new(Status::Refused, "not-comparable", why)
}

fn refuse(differences: &[Difference], fewest: usize) -> Result<(), Failure> {
    if !differences.is_empty() {
        let each: Vec<String> =
            differences.iter().map(|one| format!("{}: {} and {}", one.argument, one.old, one.new)).collect();
        let text = format!("the two runs were not given the same task: {}", each.join("; "));
        return Err(not_comparable(text).next(ANYWAY));
    }
    if fewest < ROUNDS_NEEDED {
        let text = format!(
            "a cell was measured {fewest} times: with fewer than {ROUNDS_NEEDED} rounds on each side nobody can tell a change \
             from noise"
        );
        let again = "quorate bench … --rounds 5 -o json";
        return Err(not_comparable(text)
            .next(again)
            .next("the same command with --anyway shows the numbers"));
    }
    Ok(())
}

fn side(found: &Found, file: &str) -> Side {
    Side {
        file: file.to_owned(),
        version: found.version.chars().take(64).collect(),
        time_unix_ms: found.time_unix_ms,
        rounds: found.fewest_rounds(),
        messages: found.messages,
        incomplete: found.incomplete(),
    }
}

/// Every number that both have.
fn changes(old: &[Round], new: &[Round], tolerance: f64) -> Vec<(&'static str, &'static str, Change)> {
    type Of<T> = fn(&Round) -> Option<&T>;
    let phases: [(&'static str, Of<Measured>, Of<Cost>); 2] = [
        ("publish", |round| round.publish.as_deref(), |round| round.publish_cost.as_deref()),
        ("consume", |round| round.consume.as_deref(), |round| round.consume_cost.as_deref()),
    ];
    let mut changes = Vec::new();
    for (what, measured, cost) in phases {
        for (metric, better, of) in MEASURED {
            let values =
                |rounds: &[Round]| rounds.iter().filter_map(measured).filter_map(of).collect::<Vec<f64>>();
            let change = Change::of(&values(old), &values(new), better, tolerance);
            changes.extend(change.map(|change| (what, metric, change)));
        }
        for (metric, of) in COSTS {
            let values =
                |rounds: &[Round]| rounds.iter().filter_map(cost).filter_map(of).collect::<Vec<f64>>();
            let change = Change::of(&values(old), &values(new), Better::Lower, tolerance);
            changes.extend(change.map(|change| (what, metric, change)));
        }
    }
    changes
}

#[cfg(test)]
mod tests;
