//! `quorate store quarantine`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use quorate_store::files::real::RealFiles;
use quorate_store::quarantine::{self, Image, QuarantineError};
use serde::Serialize;

use super::mark::{now_ms, take_lock};
use super::must_be_store;
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::store::inspect::quoted;
use crate::units::grouped;

/// What to do with what was put aside.
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// What was put aside, when and why; reads only
    #[command(after_help = "Examples:
  quorate store quarantine list /var/lib/quorate
  quorate store inspect /var/lib/quorate/quarantine/*-update

An image is a store directory of its own: inspect, verify and export read it like one.")]
    List {
        /// The data directory
        dir: PathBuf,
    },
    /// Put an image back in place of the store; what is there now becomes an image
    #[command(after_help = "Examples:
  quorate store quarantine restore /var/lib/quorate 3 --reason 'updated from the wrong side'

To the other members a store that was put back is one that was rolled back: it does not vote until it was updated. Cut
short, run the same command again.")]
    Restore {
        /// The data directory
        dir: PathBuf,
        /// Which, as `list` numbers them
        number: u64,
        /// Why; kept
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Do not ask
        #[arg(long, short = 'y')]
        yes: bool,
    },
    /// Remove an image for ever
    #[command(after_help = "Examples:
  quorate store quarantine purge /var/lib/quorate 3")]
    Purge {
        /// The data directory
        dir: PathBuf,
        /// Which, as `list` numbers them
        number: u64,
        /// Do not ask
        #[arg(long, short = 'y')]
        yes: bool,
    },
}

#[derive(Debug, Serialize)]
struct Row {
    number: Option<u64>,
    path: Option<String>,
    act: Option<&'static str>,
    why: Option<String>,
    when_ms: Option<u64>,
    bytes: Option<u64>,
    damage: Option<String>,
}

fn failed(error: &QuarantineError) -> Failure {
    let code = match error {
        QuarantineError::NoImage { .. } => "not-found",
        QuarantineError::Damaged { .. } => "damaged",
        QuarantineError::Interrupted { .. } => "interrupted",
        _ => "io",
    };
    Failure::new(Status::Refused, code, error.to_string())
}

fn row(dir: &Path, image: Result<Image, QuarantineError>) -> Row {
    match image {
        Ok(image) => Row {
            number: Some(image.number),
            path: Some(dir.join(quarantine::QUARANTINE_DIRECTORY).join(&image.name).display().to_string()),
            act: Some(image.note.act.word()),
            why: Some(image.note.why),
            when_ms: Some(image.note.when_ms),
            bytes: Some(image.bytes),
            damage: None,
        },
        Err(error) => Row {
            number: None,
            path: None,
            act: None,
            why: None,
            when_ms: None,
            bytes: None,
            damage: Some(error.to_string()),
        },
    }
}

/// Carries it out.
///
/// # Errors
/// There is no such image, nobody confirmed it, or the disk failed.
pub(super) fn run(command: &QuarantineCommand, console: &mut Console) -> Result<Status, Failure> {
    match command {
        QuarantineCommand::List { dir } => list(dir, console),
        QuarantineCommand::Restore { dir, number, reason, yes } => {
            known(dir, *number)?;
            let lock = take_lock(dir)?;
            console
                .confirm(&format!("Put image {number} in place of the store in {}?", dir.display()), *yes)?;
            let present = quarantine::restore(&RealFiles, dir, lock.as_ref(), *number, reason, now_ms())
                .map_err(|error| failed(&error))?;
            let text = format!("image {number}; what was there is image {} now", present.number);
            say(console, "RESTORED", &text)
        }
        QuarantineCommand::Purge { dir, number, yes } => {
            known(dir, *number)?;
            let lock = take_lock(dir)?;
            console.confirm(&format!("Remove image {number} of {} for ever?", dir.display()), *yes)?;
            quarantine::purge(&RealFiles, dir, lock.as_ref(), *number).map_err(|error| failed(&error))?;
            say(console, "PURGED", &format!("image {number}"))
        }
    }
}

/// Before the lock is taken, so that a wrong path gets no lock file.
fn known(dir: &Path, number: u64) -> Result<(), Failure> {
    let interrupted = quarantine::is_interrupted(&RealFiles, dir).unwrap_or(false);
    if interrupted {
        return Ok(());
    }
    let next = format!("quorate store quarantine list {}", quoted(&dir.display().to_string()));
    let found = quarantine::directory(&RealFiles, dir, number);
    found.map(drop).map_err(|error| failed(&error).next(next))
}

fn say(console: &mut Console, word: &str, text: &str) -> Result<Status, Failure> {
    if console.is_json() {
        console.json(&serde_json::json!({ "done": word.to_lowercase(), "what": text }))?;
    } else {
        console.verdict(Status::Done, word, text)?;
    }
    Ok(Status::Done)
}

fn list(dir: &Path, console: &mut Console) -> Result<Status, Failure> {
    must_be_store(dir)?;
    let images = quarantine::list(&RealFiles, dir);
    let images = images.map_err(|error| Failure::new(Status::Unknown, "io", error.to_string()))?;
    let rows: Vec<Row> = images.into_iter().map(|image| row(dir, image)).collect();
    let damaged = rows.iter().filter(|row| row.damage.is_some()).count();
    let status = if damaged == 0 { Status::Done } else { Status::Warning };
    if console.is_json() {
        console.json(&rows)?;
        return Ok(status);
    }
    let bytes = rows.iter().filter_map(|row| row.bytes).fold(0, u64::saturating_add);
    let text = format!("{} images of {} bytes, {damaged} of them damaged", rows.len(), grouped(bytes));
    console.verdict(status, status.word(), text)?;
    let dash = || "-".to_owned();
    let cells = |row: &Row| {
        vec![
            row.number.map_or_else(dash, |number| number.to_string()),
            row.act.unwrap_or("-").to_owned(),
            row.bytes.map_or_else(dash, grouped),
            row.path.clone().unwrap_or_else(dash),
            row.why.clone().or_else(|| row.damage.clone()).unwrap_or_default(),
        ]
    };
    if rows.is_empty() {
        return Ok(status);
    }
    console.table(&["number", "act", "bytes", "path", "why"], rows.iter().map(cells).collect())?;
    Ok(status)
}
