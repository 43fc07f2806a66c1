//! `quorated`, the broker.

use std::process::ExitCode;

use clap::Parser;
use quorate_broker::config::Config;
use quorate_broker::exit::{Exit, ExitStatus, Then, end_process_on_panic};
use quorate_broker::flags::{Command, ConfigAction, Flags};
use quorate_broker::open_store::set_aside_store;
use quorate_broker::signals::Signals;
use quorate_broker::{admin_http, logging, startup};
use tokio::runtime::Runtime;

/// Messages are allocated by the thread that reads them and freed by others, later: this allocator keeps what they
/// leave behind small and gives it back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Before anything that takes time: whoever starts a broker may change their mind at once.
    let (signals, runtime) = match catch_signals() {
        Ok(caught) => caught,
        Err(exit) => return refuse(&exit.reason, exit.status),
    };
    let flags = Flags::parse();
    if flags.command == Some(Command::Openapi) {
        print!("{}", admin_http::openapi());
        return ExitCode::SUCCESS;
    }
    let config = match Config::load(&flags) {
        Ok(config) => config,
        Err(error) => return refuse(&error.to_string(), ExitStatus::Usage as u8),
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
        Some(Command::Openapi) | None => run(&flags, &config, runtime, signals),
    }
}

fn catch_signals() -> Result<(Signals, Runtime), Exit> {
    let runtime = startup::runtime()?;
    let signals = {
        let _inside = runtime.enter();
        Signals::catch()
    };
    let failed = |error| Exit::new(ExitStatus::Internal, format!("cannot catch signals: {error}"));
    Ok((signals.map_err(failed)?, runtime))
}

fn run(flags: &Flags, config: &Config, runtime: Runtime, signals: Signals) -> ExitCode {
    let level = match logging::start(config.log_format, &config.log_level) {
        Ok(level) => level,
        Err(error) => return refuse(&error, ExitStatus::Usage as u8),
    };
    end_process_on_panic();
    let mut exit = startup::run(flags, config, &level, runtime, signals);
    while exit.then != Then::End {
        tracing::warn!("beginning {}: {exit}", if exit.then == Then::Anew { "anew" } else { "again" });
        let aside = if exit.then == Then::Anew { set_aside_store(config, &exit.reason) } else { Ok(()) };
        let begun = aside.and_then(|()| catch_signals());
        exit = match begun {
            Ok((signals, runtime)) => startup::run(flags, config, &level, runtime, signals),
            Err(failed) => failed,
        };
    }
    if exit.status == ExitStatus::Done as u8 {
        tracing::info!("stopped: {exit}");
    } else {
        tracing::error!("stopped with status {}: {exit}", exit.status);
    }
    ExitCode::from(exit.status)
}

/// Every line of the reason begins like every other tool's.
fn refuse(reason: &str, status: u8) -> ExitCode {
    for line in reason.lines() {
        eprintln!("quorated: {line}");
    }
    ExitCode::from(status)
}
