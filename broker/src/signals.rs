//! Signals of the operating system, and systemd's watchdog.

use std::sync::Arc;

use quorate_core::io::Input;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::flags::Flags;
use crate::inbox::Inbox;
use crate::logging::LogLevel;
use crate::pulse::Pulse;
use crate::tls::Tls;

/// Tells systemd, if it listens.
pub fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("systemd: {error}");
    }
}

/// SIGTERM and SIGINT stop the broker, once: the core hands over and ends the process.
///
/// The signals are caught from this call on; the future waits for them.
pub fn stop(inbox: Inbox) -> std::io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!("{name}: stopping");
        notify(&[NotifyState::Stopping]);
        inbox.input(Input::Stop);
    })
}

/// SIGHUP reads certificates and the log level again; a mistake leaves what is in force.
///
/// The signal is caught from this call on; the future waits for it.
pub fn reload(
    flags: Flags,
    tls: Option<Tls>,
    level: LogLevel,
) -> std::io::Result<impl Future<Output = ()> + Send> {
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            read_again(&flags, tls.as_ref(), &level);
        }
    })
}

fn read_again(flags: &Flags, tls: Option<&Tls>, level: &LogLevel) {
    if let Some(tls) = tls {
        match tls.reload() {
            Ok(()) => tracing::info!("SIGHUP: certificate read again"),
            Err(error) => tracing::error!("SIGHUP: the old certificate stays: {error}"),
        }
    }
    match Config::load(flags) {
        Ok(config) => match level.set(&config.log_level) {
            Ok(()) => tracing::info!("SIGHUP: log level {}", config.log_level),
            Err(error) => tracing::error!("SIGHUP: the old log level stays: {error}"),
        },
        Err(error) => tracing::error!("SIGHUP: the old configuration stays: {error}"),
    }
}

/// Tells systemd that the core thread turns, as often as it asks for.
pub async fn watchdog(pulse: Arc<Pulse>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut interval = tokio::time::interval(limit / 2);
    loop {
        interval.tick().await;
        if pulse.is_live() {
            notify(&[NotifyState::Watchdog]);
        }
    }
}
