//! `quorate store`.

mod compare;
mod export;
mod facts;
mod inspect;
mod mark;
mod quarantine;
mod verify;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};
use quorate_store::identity::STORE_ID_NAME;
use quorate_store::log::LOG_DIRECTORY;
use quorate_store::quarantine::QUARANTINE_DIRECTORY;
use quorate_store::stamp::SLOT_NAMES;

use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::settings::Settings;
use crate::store::confined::{Confined, Invocation, Reading, confine};
use crate::store::limits::{Budget, MEMORY, TIME};
use crate::units::{Size, Span};

/// What to do with stores, without a broker.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Compare stores: are they safe together, which is the latest, what would be lost; reads only
    Inspect(inspect::InspectArguments),
    /// What a store says about itself, as JSON; reads only, works on damaged stores
    Facts(facts::FactsArguments),
    /// Check every checksum of a store and recover it as a broker would; reads only
    Verify(verify::VerifyArguments),
    /// List or save the messages of a store whose broker is stopped, to publish them again; reads only
    Export(export::ExportArguments),
    /// What one store holds and another does not: `inspect` asks this of a process of its own
    #[command(hide = true)]
    Compare(compare::CompareArguments),
    /// Choose a store for its cluster to go on from, when it cannot go on by itself
    MarkClean(mark::MarkArguments),
    /// Take that back before the first start; or make a cleanly closed store dirty
    Unmark(mark::UnmarkArguments),
    /// What was put aside: list it, put it back, remove it
    #[command(after_help = "Example:\n  quorate store quarantine list /var/lib/quorate")]
    Quarantine {
        /// What to do.
        #[command(subcommand)]
        command: quarantine::QuarantineCommand,
    },
}

/// Nothing of a store in a directory is nothing to give an all-clear for: the path is wrong, or a volume not mounted.
///
/// # Errors
/// There is no such directory, or nothing of a store is in it.
pub(crate) fn must_be_store(dir: &Path) -> Result<(), Failure> {
    let parts = [STORE_ID_NAME, SLOT_NAMES[0], SLOT_NAMES[1], LOG_DIRECTORY, QUARANTINE_DIRECTORY];
    if parts.iter().any(|part| dir.join(part).exists()) {
        return Ok(());
    }
    let text = format!("{} holds nothing of a store", dir.display());
    Err(Failure::new(Status::Unknown, "no-store", text)
        .next("look at the path, and whether the volume is mounted"))
}

/// For what reads a store whole.
const DAY: Duration = Duration::from_hours(24);

/// How much a look at one store may take.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Effort {
    /// Memory for reading one store; a store with very many messages needs more [default: 256MiB]
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// Time for one store [default: 60s; a day for verify and export]
    #[arg(long, value_name = "TIME")]
    time: Option<Span>,
}

impl Effort {
    /// For reading here, from now on.
    fn budget(self) -> Budget {
        self.budget_or(TIME)
    }

    /// From now on, for what reads a store whole.
    pub(in crate::commands) fn for_reading_all(self) -> Budget {
        self.budget_or(DAY)
    }

    /// From now on, with this time unless another one was given.
    fn budget_or(self, time: Duration) -> Budget {
        let time = self.time.map_or(time, |span| span.0);
        // Some of it is for saying what was found before whoever waits for this process gives up.
        Budget::new(self.bytes(), time.saturating_sub(time / 12))
    }

    fn bytes(self) -> u64 {
        self.memory.map_or(MEMORY, |size| size.0)
    }

    /// For reading elsewhere.
    fn reading(self, invocation: Invocation<'_>) -> Reading {
        let time = self.time.map_or(TIME, |span| span.0);
        Reading { memory: self.bytes(), time, program: invocation.environment.program.clone() }
    }
}

impl StoreCommand {
    /// What a command may take that reads a store and does nothing else, and for how long if nothing is said.
    fn reads(&self) -> Option<(Effort, Duration)> {
        match self {
            Self::Facts(arguments) => Some((arguments.effort, TIME)),
            Self::Compare(arguments) => Some((arguments.effort, TIME)),
            Self::Verify(arguments) => Some((arguments.effort, DAY)),
            Self::Export(arguments) => Some((arguments.effort, DAY)),
            // `inspect` and the acts on a store give each reading to a process of its own.
            Self::Inspect(_) | Self::MarkClean(_) | Self::Unmark(_) | Self::Quarantine { .. } => None,
        }
    }
}

/// Carries it out.
///
/// # Errors
/// As each command says.
pub fn run(
    command: StoreCommand,
    settings: &Settings,
    invocation: Invocation<'_>,
    console: &mut Console,
) -> Result<Status, Failure> {
    if let Some((effort, time)) = command.reads() {
        if invocation.environment.confined {
            confine(effort.bytes()).map_err(|error| Failure::io("cannot limit this process", &error))?;
        } else if let Some(program) = &invocation.environment.program {
            let time = effort.time.map_or(time, |span| span.0);
            let other = Confined { program, words: invocation.words.to_vec(), memory: effort.bytes(), time };
            let unread = |why| Failure::new(Status::Unknown, "unread", why);
            return other.stand_in().map(Status::of_code).map_err(unread);
        }
    }
    match command {
        StoreCommand::Inspect(arguments) => inspect::run(&arguments, invocation, console),
        StoreCommand::Compare(arguments) => compare::run(&arguments, console),
        StoreCommand::Facts(arguments) => facts::run(&arguments, settings, console),
        StoreCommand::Verify(arguments) => verify::run(&arguments, console),
        StoreCommand::Export(arguments) => export::run(&arguments, console),
        StoreCommand::MarkClean(arguments) => mark::mark(&arguments, invocation, console),
        StoreCommand::Unmark(arguments) => mark::unmark(&arguments, invocation, console),
        StoreCommand::Quarantine { command } => quarantine::run(&command, console),
    }
}

/// Writes a file that must not be there yet, durably.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|error| Failure::usage(format!("--output {}: {error}", path.display())))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|error| Failure::io(format_args!("cannot write {}", path.display()), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_a_store_makes_it_one() {
        let directory = |part: Option<&str>| {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("letter.txt"), "dear").unwrap();
            if let Some(part) = part {
                std::fs::write(directory.path().join(part), "").unwrap();
            }
            must_be_store(directory.path())
        };
        let failure = directory(None).unwrap_err();
        assert_eq!((failure.status, failure.code.as_str()), (Status::Unknown, "no-store"));
        assert!(failure.next[0].contains("volume is mounted"));
        for part in ["store-id", "stamp.a", "stamp.b", "log", "quarantine"] {
            assert_eq!(directory(Some(part)), Ok(()), "{part}");
        }
        assert!(must_be_store(Path::new("/no/such/directory")).is_err());
    }
}
