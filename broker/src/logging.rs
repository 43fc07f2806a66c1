//! Log lines to standard error, for people or as JSON, with a level that can change while running.

use std::io;

use quorate_core::event::{Event, Level};
use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
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
    let colour = io::IsTerminal::is_terminal(&io::stderr());
    let result =
        tracing_subscriber::registry().with(filter).with(layer(format, colour, io::stderr)).try_init();
    if let Err(error) = result {
        tracing::debug!("logging was started before: {error}");
    }
    Ok(LogLevel(handle))
}

/// Writes lines of this format.
fn layer<S, W>(format: LogFormat, colour: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    match format {
        LogFormat::Human => fmt::layer().with_writer(writer).with_ansi(colour).with_target(false).boxed(),
        LogFormat::Json => {
            fmt::layer().json().flatten_event(true).with_writer(writer).with_target(true).boxed()
        }
    }
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn lines_of_both_formats_carry_the_code() {
        for format in [LogFormat::Human, LogFormat::Json] {
            let lines = Lines::default();
            let registry = tracing_subscriber::registry().with(layer(format, false, lines.clone()));
            tracing::subscriber::with_default(registry, || {
                for one in quorate_core::event::samples::one_of_each() {
                    event(&one);
                }
            });
            let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            for (line, one) in text.lines().zip(quorate_core::event::samples::one_of_each()) {
                let (code, said) = (one.code().unwrap(), one.text());
                match format {
                    LogFormat::Human => {
                        assert!(line.contains(&said) && line.contains(&format!("code=\"{code}\"")), "{line}");
                    }
                    LogFormat::Json => {
                        let line: serde_json::Value = serde_json::from_str(line).unwrap();
                        assert_eq!((&line["code"], &line["message"]), (&code.into(), &said.into()));
                    }
                }
            }
            assert_eq!(text.lines().count(), quorate_core::event::CODES.len());
        }
    }
}
