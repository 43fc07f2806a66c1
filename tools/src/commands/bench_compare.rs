//! `quorate bench compare`.

use std::path::PathBuf;

use clap::Args;

use crate::bench::compare::file::Found;
use crate::bench::compare::{Comparison, compare};
use crate::console::Console;
use crate::exit::{Failure, Status};

/// What to compare.
#[derive(Debug, Args)]
pub(super) struct CompareArguments {
    /// What `bench … -o json` printed before
    #[arg(value_name = "OLD.json")]
    old: PathBuf,
    /// What it printed now
    #[arg(value_name = "NEW.json")]
    new: PathBuf,
    /// Exit with 1 if something is slower by more than this
    #[arg(long, value_name = "PERCENT", default_value = "10%", value_parser = parse_percent)]
    tolerance: f64,
    /// Also if the runs were given different tasks, or too few rounds: show what both have
    #[arg(long)]
    anyway: bool,
}

/// A share, from percent.
fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim_end();
    match number.parse::<f64>() {
        Ok(percent) if (0.0..=1000.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("not a share: write percent from 0 to 1000, like 10%".to_owned()),
    }
}

/// Compares.
///
/// # Errors
/// A file is no report, or the two cannot be compared.
pub(super) fn run(arguments: &CompareArguments, console: &mut Console) -> Result<Status, Failure> {
    let CompareArguments { old, new, tolerance, anyway } = arguments;
    let names = [old, new].map(|path| path.display().to_string());
    let comparison = compare(
        &Found::read(old)?,
        &Found::read(new)?,
        names.each_ref().map(String::as_str),
        *tolerance,
        *anyway,
    )?;
    say(&comparison, console)
}

fn say(comparison: &Comparison, console: &mut Console) -> Result<Status, Failure> {
    let status = comparison.status();
    if console.is_json() {
        console.json(comparison)?;
        return Ok(status);
    }
    let word = if status == Status::Done { "OK" } else { "SLOWER" };
    console.verdict(status, word, comparison.verdict())?;
    for side in [&comparison.old, &comparison.new] {
        console.entry(format_args!("  {}: version {}, {} rounds", side.file, side.version, side.rounds))?;
        if side.messages.status() != Status::Done {
            console.entry(format_args!("    not all was well: {}", side.messages.line()))?;
        }
        if let Some(why) = &side.incomplete {
            console.entry(format_args!("    not all was measured: {why}"))?;
        }
    }
    for difference in &comparison.differences {
        let (old, new) = (&difference.old, &difference.new);
        console.entry(format_args!("  they differ in {}: {old} and {new}", difference.argument))?;
    }
    console.line(format_args!("\nRatio of the medians, new to old\n\n{}", comparison.table()))?;
    if let Some(details) = comparison.details() {
        console.line(format_args!(
            "\nWhat is not the same: all rounds of one side beyond all of the other\n\n{details}"
        ))?;
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (text, share) in [("10%", 0.1), ("0", 0.0), ("2.5 %", 0.025), ("1000%", 10.0)] {
            assert!((parse_percent(text).unwrap() - share).abs() < 1e-12, "{text}");
        }
        for text in ["", "%", "-1%", "1001%", "NaN", "inf", "ten"] {
            assert!(parse_percent(text).is_err(), "{text}");
        }
    }
}
