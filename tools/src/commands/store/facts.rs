//! `quorate store facts`.

use std::path::PathBuf;

use clap::Args;

use super::Effort;
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::settings::{Format, Settings};
use crate::store::facts::{self, Facts, Place};
use crate::store::look::look;
use crate::store::recover::recover;
use crate::units::grouped;

/// Which store, and where to.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate store facts /var/lib/quorate --output a1.facts
  quorate store facts /mnt/rescue/b2 -o table
  quorate store inspect a1.facts b2.facts c1.facts

The document is a few KiB, has a version and a checksum, and is what `quorate store inspect` reads in the place of the
directory: take facts on each host, and compare them anywhere.
No byte of the directory is changed and no permission to write is needed. Take facts of a stopped broker: while one
runs, what is read may change in the middle (\"in_use_by\" says so).
Exit status: 0 intact, 1 damaged, of another version, or not read to its end (the facts say how), 3 no store there.")]
pub struct FactsArguments {
    /// The data directory
    dir: PathBuf,
    /// Write the document to a new file instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How much it may take.
    #[command(flatten)]
    pub(super) effort: Effort,
}

/// Takes them.
///
/// # Errors
/// There is no store, or the file cannot be written.
pub(super) fn run(
    arguments: &FactsArguments,
    settings: &Settings,
    console: &mut Console,
) -> Result<Status, Failure> {
    let look = look(&arguments.dir, arguments.effort.budget())?;
    let recovered = recover(&look);
    let facts = Facts::of(&look, recovered.as_ref().map_err(String::as_str));
    let sound = facts.damage.is_empty() && facts.unread.is_none();
    let status = if sound { Status::Done } else { Status::Warning };
    if let Some(path) = &arguments.output {
        let mut text = serde_json::to_string_pretty(&facts::seal(&facts)).expect("facts have text keys only");
        text.push('\n');
        super::write_new(path, text.as_bytes())?;
    }
    // Facts are made to be kept and compared: JSON unless something else is asked for.
    if settings.format == Some(Format::Table) {
        show(&facts, status, console)?;
    } else if arguments.output.is_none() {
        console.json(&facts::seal(&facts))?;
    }
    Ok(status)
}

fn show(facts: &Facts, status: Status, console: &mut Console) -> Result<(), Failure> {
    let id = facts.store_id.as_deref().unwrap_or("unknown");
    console.verdict(status, &facts.state.to_uppercase(), format_args!("store {id} in {}", facts.path))?;
    for damage in &facts.damage {
        console.entry(format_args!("  damage: {damage}"))?;
    }
    if let Some(why) = &facts.unread {
        console.entry(format_args!("  not read to its end: {why}"))?;
    }
    if let Some(pid) = facts.in_use_by {
        console.entry(format_args!("  in use by process {pid}: what is read may change meanwhile"))?;
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), grouped);
    let row = |what: &str, value: String| vec![what.to_owned(), value];
    let rows = vec![
        row("cluster", format!("{} {}", text(&facts.cluster_name), text(&facts.cluster_id))),
        row("broker", text(&facts.broker_name)),
        row("incarnation", number(facts.incarnation)),
        row("stamp sequence", number(facts.sequence)),
        row("shutdown id", text(&facts.shutdown_id)),
        row("recovery id", text(&facts.recovery_id)),
        row("same boot", facts.boot_id_same.map_or("-", |same| if same { "yes" } else { "no" }).to_owned()),
        row("log end", text(&facts.log_end)),
        row("queues", number(facts.queues)),
        row("messages", number(facts.messages)),
    ];
    console.table(&["what", "value"], rows)?;
    let groups = facts.groups.iter().map(|group| {
        let position = |place: &Option<Place>| {
            place.map_or_else(
                || "-".to_owned(),
                |place| format!("{}.{}.{}", place.epoch, place.term, place.index),
            )
        };
        vec![
            group.vhost.clone(),
            position(&group.log_position),
            position(&group.stamp_position),
            position(&group.stamp_synced),
            text(&group.policy),
            text(&group.weakest),
            number(group.commit),
            number(group.first),
        ]
    });
    let groups: Vec<_> = groups.collect();
    if !groups.is_empty() {
        console.table(
            &[
                "group",
                "log ends at",
                "stamp says",
                "stamp synced",
                "durability",
                "weakest",
                "commit",
                "log begins at",
            ],
            groups,
        )?;
    }
    let members = facts.members.iter().map(|member| {
        let voter = if member.voter { "voter" } else { "learner" };
        vec![member.name.clone(), voter.to_owned(), member.cluster_address.clone(), member.store_id.clone()]
    });
    let members: Vec<_> = members.collect();
    if !members.is_empty() {
        console.table(&["member", "role", "cluster", "store"], members)?;
    }
    Ok(())
}
