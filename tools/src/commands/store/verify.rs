//! `quorate store verify`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{DAY, Effort};
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::store::look::look;
use crate::store::recover::{damage_in, recover};
use crate::store::subject::OpenSubject;
use crate::store::verify::{Checked, contents, tables};
use crate::units::grouped;

/// Which store.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate store verify /var/lib/quorate
  quorate store verify /mnt/rescue/b2 -o json

Reads all of it: identity, both slots of the stamp, every batch of the log, every table of the state store; then recovers
it as a broker would and looks for every message where it should be. Nothing is changed. Stop the broker first: files
that move are no evidence.
Exit status: 0 sound, 1 sound, with something to know, 2 damaged (file and offset are named), 3 not read to its end.")]
pub struct VerifyArguments {
    /// The data directory
    dir: PathBuf,
    /// How much it may take.
    #[command(flatten)]
    pub(super) effort: Effort,
}

#[derive(Debug, Serialize)]
struct Report {
    path: String,
    sound: bool,
    damage: Vec<String>,
    notes: Vec<String>,
    unread: Option<String>,
    log_bytes: u64,
    log_entries: u64,
    state_bytes: u64,
    messages: u64,
    in_use_by: Option<u32>,
}

/// Verifies it.
///
/// # Errors
/// There is no store.
pub(super) fn run(arguments: &VerifyArguments, console: &mut Console) -> Result<Status, Failure> {
    let budget = arguments.effort.budget_or(DAY);
    console.progress("reading stamp and log");
    let look = look(&arguments.dir, budget)?;
    let mut damage = look.damage.clone();
    let mut unread = look.unread.clone();
    let mut checked = Checked::default();
    console.progress("reading the state store");
    if let Err(what) = tables(&look, &mut checked, |bytes| {
        console.progress(format_args!("reading the state store: {} bytes", grouped(bytes)));
    }) {
        damage.push(what);
    }
    console.progress("recovering");
    match recover(&look) {
        Ok(store) => {
            damage.extend(damage_in(&store.status).filter(|_| look.damage.is_empty()).map(str::to_owned));
            let opened = OpenSubject { look, store };
            if let Err(what) = contents(&opened, &mut checked, |messages| {
                console.progress(format_args!("looking for messages: {}", grouped(messages)));
            }) {
                damage.push(what);
            }
            return finish(arguments, &opened.look, damage, unread, checked, console);
        }
        Err(why) => unread = unread.or(Some(why)),
    }
    finish(arguments, &look, damage, unread, checked, console)
}

fn finish(
    arguments: &VerifyArguments,
    look: &crate::store::look::Look,
    damage: Vec<String>,
    unread: Option<String>,
    checked: Checked,
    console: &mut Console,
) -> Result<Status, Failure> {
    let status = match (&damage[..], &unread, &look.notes[..], look.in_use_by) {
        ([_, ..], ..) => Status::Refused,
        ([], Some(_), ..) => Status::Unknown,
        ([], None, [], None) => Status::Done,
        ([], None, ..) => Status::Warning,
    };
    let report = Report {
        path: arguments.dir.display().to_string(),
        sound: damage.is_empty() && unread.is_none(),
        damage,
        notes: look.notes.clone(),
        unread,
        log_bytes: look.log.as_ref().map_or(0, |(_, recovered)| recovered.log_bytes),
        log_entries: checked.entries,
        state_bytes: checked.state_bytes,
        messages: checked.messages,
        in_use_by: look.in_use_by,
    };
    if console.is_json() {
        console.json(&report)?;
        return Ok(status);
    }
    let word = match status {
        Status::Refused => "DAMAGED",
        Status::Unknown => "NOT READ",
        _ => "SOUND",
    };
    let text = format!(
        "{}: {} bytes of log with {} entries, {} bytes of state, {} messages",
        report.path,
        grouped(report.log_bytes),
        grouped(report.log_entries),
        grouped(report.state_bytes),
        grouped(report.messages)
    );
    console.verdict(status, word, text)?;
    for damage in &report.damage {
        console.entry(format_args!("  damage: {damage}"))?;
    }
    if let Some(why) = &report.unread {
        console.entry(format_args!("  not read to its end: {why}"))?;
    }
    for note in &report.notes {
        console.entry(format_args!("  note: {note}"))?;
    }
    if let Some(pid) = report.in_use_by {
        console.entry(format_args!("  in use by process {pid}: what is read may be moving"))?;
    }
    if !report.damage.is_empty() {
        console.next(&["quorate store inspect DIR…    (with the stores of the other members)".to_owned()])?;
    }
    Ok(status)
}
