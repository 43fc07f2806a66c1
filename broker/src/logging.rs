//! Log lines to standard error, for people or as JSON, with a level that can change while running.

use std::io;

use quorate_core::event::{Event, Level};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt};

use crate::flags::LogFormat;

/// Changes the level of a running process.
#[derive(Clone, Debug)]
pub struct LogLevel(Handle<EnvFilter, Registry>);

/// What a log level lets through.
///
/// # Errors
/// It is none, or not ASCII, of which the library that reads it would panic.
pub fn filter(level: &str) -> Result<EnvFilter, String> {
    if !level.is_ascii() {
        return Err("not ASCII".to_owned());
    }
    EnvFilter::try_new(level).map_err(|error| error.to_string())
}

/// Starts logging. Called once; a second call (a test) leaves the first in force.
pub fn start(format: LogFormat, level: &str) -> Result<LogLevel, String> {
    let filter = filter(level).map_err(|error| format!("--log-level {level:?}: {error}"))?;
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let result = match format {
        LogFormat::Human => {
            let colour = io::IsTerminal::is_terminal(&io::stderr());
            registry
                .with(fmt::layer().with_writer(io::stderr).with_ansi(colour).with_target(false))
                .try_init()
        }
        LogFormat::Json => registry
            .with(fmt::layer().json().flatten_event(true).with_writer(io::stderr).with_target(true))
            .try_init(),
    };
    if let Err(error) = result {
        tracing::debug!("logging was started before: {error}");
    }
    Ok(LogLevel(handle))
}

impl LogLevel {
    /// Sets another level or filter.
    pub fn set(&self, level: &str) -> Result<(), String> {
        let filter = filter(level).map_err(|error| format!("--log-level {level:?}: {error}"))?;
        self.0.reload(filter).map_err(|error| error.to_string())
    }
}

/// Writes one event of the core as a log line: the text for people, the stable code as a field.
pub fn event(event: &Event) {
    let text = event.text();
    match (event.code(), event.level()) {
        (Some(code), Level::Debug) => tracing::debug!(code, "{text}"),
        (Some(code), Level::Info) => tracing::info!(code, "{text}"),
        (Some(code), Level::Warn) => tracing::warn!(code, "{text}"),
        (Some(code), Level::Error) => tracing::error!(code, "{text}"),
        (None, Level::Debug) => tracing::debug!("{text}"),
        (None, Level::Info) => tracing::info!("{text}"),
        (None, Level::Warn) => tracing::warn!("{text}"),
        (None, Level::Error) => tracing::error!("{text}"),
    }
}
