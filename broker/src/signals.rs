//! Signals of the operating system, and systemd's watchdog.

use std::sync::Arc;

use quorate_core::io::Input;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::admin_http::Access;
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

/// The signals that a broker obeys, caught before it does anything else: one that comes while the broker starts waits
/// until there is a core to tell, and ends the process as any later one does.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Catches them, from this call on. Called inside the runtime.
    ///
    /// # Errors
    /// The system does not let this process catch signals.
    pub fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Obeys them: SIGTERM and SIGINT stop the broker, once: the core hands over and ends the process. SIGHUP reads
    /// certificates, tokens and the log level again; a mistake leaves what is in force.
    pub async fn obey(self, inbox: Inbox, reloaded: Reloaded) {
        let Self { mut terminate, mut interrupt, mut hangup } = self;
        let name = loop {
            tokio::select! {
                biased;
                _ = terminate.recv() => break "SIGTERM",
                _ = interrupt.recv() => break "SIGINT",
                _ = hangup.recv() => reloaded.read_again(),
            }
        };
        tracing::info!("{name}: stopping");
        notify(&[NotifyState::Stopping]);
        inbox.input(Input::Stop);
        // Handing over takes a moment, in which a SIGHUP still means nothing worse than to read again.
        while hangup.recv().await.is_some() {
            reloaded.read_again();
        }
    }
}

/// What SIGHUP reads again.
pub struct Reloaded {
    /// For the log level, in the file that they name.
    pub flags: Flags,
    /// The listeners' certificates.
    pub certificates: Vec<Tls>,
    /// Operators' tokens.
    pub access: Access,
    /// The level in force.
    pub level: LogLevel,
}

impl Reloaded {
    fn read_again(&self) {
        for tls in &self.certificates {
            match tls.reload() {
                Ok(()) => tracing::info!("SIGHUP: certificate of {} read again", tls.flag()),
                Err(error) => tracing::error!("SIGHUP: the old certificate stays: {error}"),
            }
        }
        match self.access.reload() {
            Ok(None) => {}
            Ok(Some(count)) => tracing::info!("SIGHUP: {count} tokens of operators read again"),
            Err(error) => tracing::error!("SIGHUP: the old tokens stay: {error}"),
        }
        match Config::load(&self.flags) {
            Ok(config) => match self.level.set(&config.log_level) {
                Ok(()) => tracing::info!("SIGHUP: log level {}", config.log_level),
                Err(error) => tracing::error!("SIGHUP: the old log level stays: {error}"),
            },
            Err(error) => tracing::error!("SIGHUP: the old configuration stays: {error}"),
        }
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
