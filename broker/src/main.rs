//! `quorated`, the broker.

use std::process::ExitCode;

use clap::Parser;
use quorate_broker::config::Config;
use quorate_broker::exit::{ExitStatus, end_process_on_panic};
use quorate_broker::flags::{Command, ConfigAction, Flags};
use quorate_broker::{logging, startup};

/// Messages are allocated by the thread that reads them and freed by others, later: this allocator keeps what they
/// leave behind small and gives it back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let flags = Flags::parse();
    let config = match Config::load(&flags) {
        Ok(config) => config,
        Err(error) => return refuse(&error.to_string()),
    };
    match flags.command {
        Some(Command::Config { action: ConfigAction::Check }) => {
            println!("the configuration is good");
            ExitCode::SUCCESS
        }
        Some(Command::Config { action: ConfigAction::Print }) => {
            print!("{}", config.to_toml());
            ExitCode::SUCCESS
        }
        None => run(&flags, &config),
    }
}

fn run(flags: &Flags, config: &Config) -> ExitCode {
    let level = match logging::start(config.log_format, &config.log_level) {
        Ok(level) => level,
        Err(error) => return refuse(&error),
    };
    end_process_on_panic();
    let exit = startup::run(flags, config, level);
    if exit.status == ExitStatus::Done as u8 {
        tracing::info!("stopped: {exit}");
    } else {
        tracing::error!("stopped with status {}: {exit}", exit.status);
    }
    ExitCode::from(exit.status)
}

/// Every line of the reason begins like every other tool's.
fn refuse(reason: &str) -> ExitCode {
    for line in reason.lines() {
        eprintln!("quorated: {line}");
    }
    ExitCode::from(ExitStatus::Usage as u8)
}
