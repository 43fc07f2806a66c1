//! `quorate store`.

use std::path::PathBuf;

use clap::Subcommand;

use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::settings::{Format, Settings};
use crate::store_facts::{self, Facts};
use crate::units::grouped;

/// What to do with stores, without a broker.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// What a store says about itself, as JSON; reads only, works on damaged stores
    #[command(after_help = "Examples:\n  quorate store facts /var/lib/quorate > a1.facts\n  \
        quorate store facts /mnt/rescue/b2 -o table\n\n\
        No byte of the directory is changed and no permission to write is needed. Take facts of a stopped broker:\n\
        while one runs, what is read may change in the middle (\"in_use_by\" says so).\n\
        Exit status: 0 intact, 1 damaged or of a later version (the facts say how), 3 no store there.")]
    Facts {
        /// The data directory
        dir: PathBuf,
    },
}

/// Carries it out.
///
/// # Errors
/// There is no store.
pub fn run(command: &StoreCommand, settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    let StoreCommand::Facts { dir } = command;
    let facts = store_facts::read(dir)?;
    let status = if facts.damage.is_empty() { Status::Done } else { Status::Warning };
    // Facts are made to be kept and compared: JSON unless something else is asked for.
    if settings.format == Some(Format::Table) {
        show(&facts, status, console)?;
    } else {
        console.json(&facts)?;
    }
    Ok(status)
}

fn show(facts: &Facts, status: Status, console: &mut Console) -> Result<(), Failure> {
    let id = facts.store_id.as_deref().unwrap_or("unknown");
    console.verdict(status, &facts.state.to_uppercase(), format_args!("store {id} in {}", facts.path))?;
    for damage in &facts.damage {
        console.line(format_args!("  damage: {damage}"))?;
    }
    if let Some(pid) = facts.in_use_by {
        console.line(format_args!("  in use by process {pid}: what is read may change meanwhile"))?;
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
    ];
    console.table(&["what", "value"], rows)?;
    let groups = facts.groups.iter().map(|group| {
        let position = |place: &Option<store_facts::Place>| {
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
            number(group.commit),
            number(group.first),
        ]
    });
    let groups: Vec<_> = groups.collect();
    if !groups.is_empty() {
        console.table(
            &["group", "log ends at", "stamp says", "stamp synced", "commit", "log begins at"],
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
