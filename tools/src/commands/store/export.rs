//! `quorate store export`.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use quorate_core::machine::Queue;
use quorate_core::node::offline::StoredGroup;
use quorate_store::ids::{Index, Position};
use serde::Serialize;

use super::{DAY, Effort};
use crate::commands::bodies::Seen;
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::store::inspect::quoted;
use crate::store::loss::{Content, Saved, saved};
use crate::store::recover::damage_in;
use crate::store::subject::OpenSubject;
use crate::units::grouped;

/// Messages between two words of progress.
const STEP: u64 = 10_000;

/// Which messages, and where to.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate store export /mnt/rescue/b2 --list
  quorate store export /mnt/rescue/b2 --queue orders --output orders.json
  quorate publish --queue orders --lines orders.json --input-format json
  quorate store export /mnt/rescue/b2 --vhost / --beyond 1.4.90210 --output only-there.json

Saves what is in the queues and not consumed, with everything in the log applied, committed or not: \"committed\" says
which of it the cluster is known to have agreed on. \"redelivered\" says that a consumer gave the message back before,
\"maybe_delivered\" that one may have had it. Nothing is changed; works on copies, on images in quarantine, and on a
store whose cluster is gone.
Exit status: 0 all saved, 2 damaged: what is missing is counted, 3 not read.")]
pub struct ExportArguments {
    /// The data directory
    dir: PathBuf,
    /// Only of this virtual host
    #[arg(long, value_name = "VHOST")]
    vhost: Option<String>,
    /// Only of this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Only what came after this place of the virtual host's log: epoch.term.index as `inspect` shows it, or an index
    #[arg(long, value_name = "POSITION", requires = "vhost")]
    beyond: Option<Beyond>,
    /// Say what there is, queue by queue, and save nothing
    #[arg(long, conflicts_with_all = ["output", "output_format"])]
    list: bool,
    /// Into a new file instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Bodies alone, each with a newline, or JSON objects, one on each line
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output_format: OutputFormat,
    /// How much it may take.
    #[command(flatten)]
    pub(super) effort: Effort,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// The body
    Lines,
    /// A JSON object with body, headers and where it was
    #[default]
    Json,
}

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Beyond(Index);

impl std::str::FromStr for Beyond {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(index) = text.parse() {
            return Ok(Self(Index(index)));
        }
        let position: Position = text.parse().map_err(|error| format!("{error}"))?;
        Ok(Self(position.index))
    }
}

/// What was found in one queue.
#[derive(Clone, Debug, Serialize)]
struct Found {
    vhost: String,
    queue: String,
    messages: u64,
    uncommitted: u64,
    /// Not where they should be, or not readable.
    lost: u64,
}

enum Out {
    File(BufWriter<File>, PathBuf),
    Standard,
    Nowhere,
}

impl Out {
    fn open(arguments: &ExportArguments) -> Result<Self, Failure> {
        let Some(path) = &arguments.output else {
            return Ok(if arguments.list { Self::Nowhere } else { Self::Standard });
        };
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        let file = file.map_err(|error| Failure::usage(format!("--output {}: {error}", path.display())))?;
        Ok(Self::File(BufWriter::new(file), path.clone()))
    }

    fn write(&mut self, bytes: &[u8], console: &mut Console) -> Result<(), Failure> {
        match self {
            Self::File(file, path) => file
                .write_all(bytes)
                .map_err(|error| Failure::io(format_args!("cannot write {}", path.display()), &error)),
            Self::Standard => console.stream(bytes),
            Self::Nowhere => Ok(()),
        }
    }

    fn close(self) -> Result<(), Failure> {
        let Self::File(mut file, path) = self else { return Ok(()) };
        file.flush()
            .and_then(|()| file.get_ref().sync_all())
            .map_err(|error| Failure::io(format_args!("cannot write {}", path.display()), &error))
    }
}

/// Exports them.
///
/// # Errors
/// There is no store, it cannot be read, or the file cannot be written.
pub(super) fn run(arguments: &ExportArguments, console: &mut Console) -> Result<Status, Failure> {
    console.progress("reading");
    let opened = OpenSubject::open(&arguments.dir, arguments.effort.budget_or(DAY))?;
    if let Some(damage) = damage_in(&opened.store.status) {
        let text = format!("the store in {} is damaged: {damage}", arguments.dir.display());
        let next = format!("quorate store verify {}", quoted(&arguments.dir.display().to_string()));
        return Err(Failure::new(Status::Refused, "damaged", text).next(next));
    }
    let wanted = |group: &&StoredGroup| {
        group.machine().is_some() && arguments.vhost.as_ref().is_none_or(|vhost| *vhost == group.vhost)
    };
    let groups: Vec<&StoredGroup> = opened.store.groups.iter().filter(wanted).collect();
    let mut found = Vec::new();
    let mut out = Out::open(arguments)?;
    for group in groups {
        let queues = group.machine().into_iter().flat_map(quorate_core::machine::VhostMachine::queues);
        for queue in queues {
            if arguments.queue.as_ref().is_none_or(|name| name == queue.name().as_str()) {
                found.push(export_queue(arguments, &opened, group, queue, &mut out, console)?);
            }
        }
    }
    out.close()?;
    if found.is_empty() && (arguments.vhost.is_some() || arguments.queue.is_some()) {
        let text = format!("the store in {} holds no such queue", arguments.dir.display());
        let next = format!("quorate store export {} --list", quoted(&arguments.dir.display().to_string()));
        return Err(Failure::new(Status::Refused, "not-found", text).next(next));
    }
    tell(arguments, &found, console)
}

fn export_queue(
    arguments: &ExportArguments,
    opened: &OpenSubject,
    group: &StoredGroup,
    queue: &Queue,
    out: &mut Out,
    console: &mut Console,
) -> Result<Found, Failure> {
    let mut found = Found {
        vhost: group.vhost.clone(),
        queue: queue.name().to_string(),
        messages: 0,
        uncommitted: 0,
        lost: 0,
    };
    let after = arguments.beyond.map_or(Index(0), |Beyond(index)| index);
    for saved in saved(opened, group, queue, after) {
        let Some(content) = &saved.content else {
            found.lost = found.lost.saturating_add(1);
            continue;
        };
        found.messages = found.messages.saturating_add(1);
        found.uncommitted = found.uncommitted.saturating_add(u64::from(saved.slot.index > group.committed));
        let record = match arguments.output_format {
            OutputFormat::Lines => [content.message.body().as_ref(), b"\n"].concat(),
            OutputFormat::Json => record(group, queue, &saved, content),
        };
        out.write(&record, console)?;
        if found.messages.is_multiple_of(STEP) {
            console.progress(format_args!("{}: {} messages", found.queue, grouped(found.messages)));
        }
    }
    Ok(found)
}

fn record(group: &StoredGroup, queue: &Queue, saved: &Saved, content: &Content) -> Vec<u8> {
    let Content { body, message } = content;
    let seen = Seen {
        seq: saved.seq,
        redelivered: saved.slot.returns > 0,
        exchange: &body.exchange,
        key: &body.key,
        properties: message.properties(),
        body: message.body(),
    };
    let mut value = seen.json();
    value["vhost"] = group.vhost.as_str().into();
    value["queue"] = queue.name().as_str().into();
    value["log_index"] = saved.slot.index.0.into();
    value["committed"] = (saved.slot.index <= group.committed).into();
    value["maybe_delivered"] = saved.maybe_delivered.into();
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

fn tell(arguments: &ExportArguments, found: &[Found], console: &mut Console) -> Result<Status, Failure> {
    let lost: u64 = found.iter().map(|queue| queue.lost).sum();
    let messages: u64 = found.iter().map(|queue| queue.messages).sum();
    let status = if lost == 0 { Status::Done } else { Status::Refused };
    let done = if arguments.list { "there" } else { "exported" };
    let mut text = format!("{} messages {done} in {} queues", grouped(messages), found.len());
    if lost > 0 {
        text.push_str(", could not be read: ");
        text.push_str(&grouped(lost));
    }
    if arguments.output.is_none() && !arguments.list {
        // Standard output is the messages.
        console.note(format_args!("{}: {text}", status.word()));
        return Ok(status);
    }
    if console.is_json() {
        console.json(&found)?;
        return Ok(status);
    }
    console.verdict(status, status.word(), text)?;
    let row = |queue: &Found| {
        vec![
            queue.vhost.clone(),
            queue.queue.clone(),
            grouped(queue.messages),
            grouped(queue.uncommitted),
            grouped(queue.lost),
        ]
    };
    console.table(
        &["vhost", "queue", "messages", "not committed", "unreadable"],
        found.iter().map(row).collect(),
    )?;
    if let Some(path) = &arguments.output
        && arguments.output_format == OutputFormat::Json
    {
        let path = quoted(&path.display().to_string());
        console.next(&[format!("quorate publish --queue QUEUE --lines {path} --input-format json")])?;
    }
    Ok(status)
}
