//! `quorate completion`.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::cli::Cli;
use crate::console::Console;
use crate::exit::{Failure, Status};

/// For which shell.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  quorate completion bash > ~/.local/share/bash-completion/completions/quorate\n  \
                        quorate completion zsh > ~/.zfunc/_quorate\n  \
                        quorate completion fish > ~/.config/fish/completions/quorate.fish"
)]
pub struct CompletionArguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// Nobody reads it.
pub fn run(arguments: &CompletionArguments, console: &mut Console) -> Result<Status, Failure> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut Cli::command(), "quorate", &mut script);
    console.raw(&script)?;
    Ok(Status::Done)
}
