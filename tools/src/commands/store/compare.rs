//! `quorate store compare`, which `inspect` gives to a process of its own.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::Effort;
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::store::confined::Reading;
use crate::store::limits::{Budget, SURPLUS_BYTES};
use crate::store::loss::{Surplus, surplus};
use crate::store::subject::OpenSubject;

/// Which two.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  quorate store compare /var/lib/quorate /mnt/b2

The answer is JSON: what the second store holds beyond the first.")]
pub struct CompareArguments {
    /// The store that others are held against
    base: PathBuf,
    /// The store of which is said what it holds beyond
    other: PathBuf,
    /// How much it may take.
    #[command(flatten)]
    pub(super) effort: Effort,
}

/// The answer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Compared {
    only_elsewhere: Option<Vec<Surplus>>,
    not_compared: Option<String>,
}

/// Compares them; the answer is JSON always.
///
/// # Errors
/// Standard output is closed.
pub(super) fn run(arguments: &CompareArguments, console: &mut Console) -> Result<Status, Failure> {
    let name = arguments.other.display().to_string();
    let budget = arguments.effort.budget();
    let answer = match compare(&arguments.base, &arguments.other, &name, budget) {
        Ok(found) => Compared { only_elsewhere: Some(found), not_compared: None },
        Err(why) => Compared { only_elsewhere: None, not_compared: Some(why) },
    };
    console.json(&answer)?;
    Ok(Status::Done)
}

fn compare(base: &Path, other: &Path, name: &str, budget: Budget) -> Result<Vec<Surplus>, String> {
    let open = |path| OpenSubject::open(path, budget).map_err(|failure| failure.message);
    surplus(&open(base)?, &open(other)?, name)
}

/// What `other` holds beyond `base`; `name` names it.
///
/// # Errors
/// Why that cannot be said.
pub(super) fn beyond(
    base: &Path,
    other: &Path,
    name: &str,
    reading: &Reading,
) -> Result<Vec<Surplus>, String> {
    let Some(program) = &reading.program else {
        return compare(base, other, name, Budget::new(reading.memory, reading.time));
    };
    let (code, bytes) = reading.confined(program, "compare", &[base, other]).answer(SURPLUS_BYTES)?;
    let answer: Compared = serde_json::from_slice(&bytes)
        .map_err(|error| format!("the process that read it ended with status {code}: {error}"))?;
    answer.only_elsewhere.ok_or_else(|| answer.not_compared.unwrap_or_default())
}
