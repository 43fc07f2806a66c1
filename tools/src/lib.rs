//! What the `quorate` command does, as a library, so that tests can run it and read what it says.
//!
//! ```text
//!   arguments ── cli ── settings (flags, environment, context) ──> commands::* ──> Console (stdout, stderr)
//!                                                                    │
//!        connection (client protocol)   admin (HTTP)   store   sandbox   bench
//! ```
//!
//! Reading order: [`cli`], [`settings`], [`exit`], [`console`], then the command of interest. A command prints its
//! result and gives a [`exit::Status`], or fails with an [`exit::Failure`], which is printed here.

pub mod admin;
pub mod approach;
pub mod base64;
pub mod bench;
pub mod cli;
pub mod commands;
pub mod connection;
pub mod console;
pub mod exit;
pub mod process;
pub mod sandbox;
pub mod settings;
pub mod store;
pub mod units;

use std::ffi::OsString;

use clap::Parser;
use clap::error::ErrorKind;

use crate::cli::{Cli, Command};
pub use crate::console::Console;
use crate::exit::{Failure, Status};
pub use crate::settings::Environment;
use crate::settings::{Format, Settings};
use crate::store::confined::Invocation;

/// Runs the command with these arguments, the first being the program's name; gives the exit status.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &Environment,
    mut console: Console,
) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if wants_json(&arguments) {
        console.set_format(Format::Json);
    }
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error, &mut console).code(),
    };
    let settings = if cli.command.is_local() {
        Settings::local(&cli.globals)
    } else {
        Settings::new(&cli.globals, environment)
    };
    let result = settings.and_then(|settings| {
        if let Some(format) = settings.format {
            console.set_format(format);
        }
        let words = arguments.get(1..).unwrap_or_default();
        dispatch(cli.command, &settings, Invocation { environment, words }, &mut console)
    });
    let status = match result {
        Ok(status) => status,
        Err(failure) => {
            if !failure.is_closed_output() {
                console.failure(&failure);
            }
            failure.status
        }
    };
    console.finish(status).code()
}

fn dispatch(
    command: Command,
    settings: &Settings,
    invocation: Invocation<'_>,
    console: &mut Console,
) -> Result<Status, Failure> {
    match command {
        Command::Publish(arguments) => commands::publish::run(arguments, settings, console),
        Command::Consume(arguments) => commands::consume::run(arguments, settings, console),
        Command::Queue { command } => commands::queue::run(command, settings, console),
        Command::Exchange { command } => commands::exchange::run(command, settings, console),
        Command::Binding { command } => commands::binding::run(command, settings, console),
        Command::Vhost { command } => commands::vhost::run(command, settings, console),
        Command::Group { command } => commands::group::run(command, settings, console),
        Command::Member { command } => commands::member::run(command, settings, console),
        Command::Cluster { command } => commands::cluster::run(&command, settings, console),
        Command::Loss { command } => commands::loss::run(&command, settings, console),
        Command::Store { command } => commands::store::run(command, settings, invocation, console),
        Command::Sandbox { command } => commands::sandbox::run(command, settings, console),
        Command::Bench(arguments) => commands::bench::run(&arguments, settings, console),
        Command::Completion(arguments) => commands::completion::run(&arguments, console),
    }
}

/// Help and version are answers; everything else is a usage error.
fn not_parsed(error: &clap::Error, console: &mut Console) -> Status {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let text =
                if console.colour() { error.render().ansi().to_string() } else { error.render().to_string() };
            match console.raw(text.as_bytes()) {
                Ok(()) => Status::Done,
                Err(failure) => failure.status,
            }
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            if !console.is_json() {
                console.note(error.render());
            }
            console.failure(&Failure::usage("a command is missing"));
            Status::Usage
        }
        _ => {
            let text = error.render().to_string();
            let text = text.trim().strip_prefix("error: ").unwrap_or(text.trim());
            console.failure(&Failure::usage(text).next("quorate --help"));
            Status::Usage
        }
    }
}

/// Whether these arguments ask for JSON, as far as that can be said of arguments that may be wrong.
fn wants_json(arguments: &[OsString]) -> bool {
    let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
    words
        .windows(2)
        .any(|pair| matches!(pair, [flag, value] if (flag == "-o" || flag == "--format") && value == "json"))
        || words.iter().any(|word| word == "-ojson" || word == "-o=json" || word == "--format=json")
}

#[cfg(test)]
mod tests;
