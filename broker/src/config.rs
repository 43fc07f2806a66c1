//! The configuration in force: file below environment below flags, defaults filled in, contradictions refused.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use thiserror::Error;
use uuid::Uuid;

use crate::address::{AddressList, HostPort};
use crate::admin_http::Tokens;
use crate::flags::{Flags, LogFormat, Recovery, Settings};
use crate::logging;
use crate::secret::Secret;
use crate::units::{Size, Span};

/// Where the broker keeps what it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreChoice {
    /// In this directory.
    Directory(PathBuf),
    /// In memory only.
    Transient,
}

/// Certificate and key of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// What the flags that named them begin with.
    pub flags: &'static str,
    /// Chain, leaf first, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Both, or none.
    fn of(
        flags: &'static str,
        certificate: Option<PathBuf>,
        key: Option<PathBuf>,
        wrong: &mut Vec<String>,
    ) -> Option<Self> {
        match (certificate, key) {
            (Some(certificate), Some(key)) => Some(Self { flags, certificate, key }),
            (None, None) => None,
            _ => {
                wrong.push(format!("{flags}-cert and {flags}-key go together: one is missing"));
                None
            }
        }
    }

    /// The flag that named one of them: `cert` or `key`.
    pub fn flag(&self, which: &str) -> String {
        format!("{}-{which}", self.flags)
    }
}

/// Everything the broker was told, checked. Fields are named after their flags.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file the lowest layer came from; read again at SIGHUP.
    pub file: Option<PathBuf>,
    /// Unique in the cluster.
    pub name: String,
    /// `--data-dir` or `--transient`.
    pub store: StoreChoice,
    /// Members must agree on it.
    pub cluster_name: String,
    /// Without repetitions, in the order given.
    pub cluster_peers: Vec<HostPort>,
    /// N.
    pub cluster_wait_for: u32,
    /// Automatic or manual.
    pub recovery: Recovery,
    /// Only join this cluster.
    pub cluster_id: Option<Uuid>,
    /// Plain text off loopback is permitted.
    pub insecure: bool,
    /// N may be half of the listed peers, or fewer.
    pub allow_small_cluster: bool,
    /// Clients.
    pub listen: HostPort,
    /// Brokers.
    pub cluster_listen: HostPort,
    /// HTTP.
    pub admin_listen: HostPort,
    /// What clients are told, if not the listen address.
    pub advertise: Option<HostPort>,
    /// What brokers are told.
    pub cluster_advertise: Option<HostPort>,
    /// What operators are told.
    pub admin_advertise: Option<HostPort>,
    /// Where the secret came from.
    pub cluster_secret_file: Option<PathBuf>,
    /// By which brokers authenticate each other.
    pub cluster_secret: Option<Secret>,
    /// For clients.
    pub tls: Option<TlsFiles>,
    /// For operators.
    pub admin_tls: Option<TlsFiles>,
    /// Tokens that operators must show.
    pub admin_token_file: Option<PathBuf>,
    /// Bytes of log kept.
    pub log_retain: Size,
    /// RocksDB's buffers and cache.
    pub rocksdb_memory: Size,
    /// Bytes in quarantine above which no image is made.
    pub quarantine_max: Size,
    /// Bytes a second of one update by snapshot; 0 for no limit.
    pub update_rate: Size,
    /// Between two stamps.
    pub store_stamp_interval: Span,
    /// Between two safety numbers, and between two looks at the stamp.
    pub safety_interval: Span,
    /// Entries of a group that may be acknowledged and not synced.
    pub unsynced_max_entries: u64,
    /// For how long.
    pub unsynced_max_time: Span,
    /// Without a leader before an election.
    pub election_timeout: Span,
    /// Between brokers.
    pub heartbeat: Span,
    /// Written when the ports are open.
    pub ready_file: Option<PathBuf>,
    /// Human or JSON.
    pub log_format: LogFormat,
    /// A filter that tracing-subscriber understands.
    pub log_level: String,
}

/// A configuration that the broker does not start with: exit status 2.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file that was named could not be read.
    #[error("cannot read {what} {path}: {error}")]
    Unreadable {
        /// Which file.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The TOML file is wrong; says line and column.
    #[error("{path}: {error}")]
    File {
        /// Where.
        path: PathBuf,
        /// With line, column and the known keys.
        error: Box<toml::de::Error>,
    },
    /// The settings contradict each other or the rules; one line each.
    #[error("{}", .0.join("\n"))]
    Refused(Vec<String>),
}

/// A configuration file is for people: anything longer is the wrong file.
const FILE_BYTES_MAX: u64 = 1 << 20;
const NAME_BYTES_MAX: usize = 255;
const PEERS_MAX: usize = 1024;
/// Below this the log could not even rotate.
const LOG_RETAIN_MIN: Size = Size(128 << 20);
/// Of a log that is memory.
const LOG_RETAIN_TRANSIENT: Size = Size(256 << 20);
const ROCKSDB_MEMORY_MIN: Size = Size(8 << 20);
const HEARTBEAT_MIN_MILLIS: u64 = 5;
const ELECTION_TIMEOUT_MAX_MILLIS: u64 = 3_600_000;
/// An election must not start because of one late heartbeat.
const HEARTBEATS_PER_ELECTION_TIMEOUT: u64 = 3;
const STAMP_INTERVAL_MIN_MILLIS: u64 = 10;
const SAFETY_INTERVAL_MIN_MILLIS: u64 = 100;
/// What waits for a sync is kept in memory, and told as what may be lost.
const UNSYNCED_MAX_ENTRIES: std::ops::RangeInclusive<u64> = 2..=100_000;
const UNSYNCED_MAX_MILLIS: std::ops::RangeInclusive<u64> = 2..=60_000;

impl Config {
    /// What flags and environment say, over the file they name, over the defaults.
    pub fn load(flags: &Flags) -> Result<Self, ConfigError> {
        let file = match &flags.config {
            Some(path) => read_file(path)?,
            None => Settings::default(),
        };
        Self::from_settings(flags.settings.clone().over(file), flags.config.clone())
    }

    /// The defaults under `settings`, checked.
    pub fn from_settings(settings: Settings, file: Option<PathBuf>) -> Result<Self, ConfigError> {
        let mut wrong = Vec::new();
        let transient = settings.transient.unwrap_or(false);
        if transient && let Some(directory) = &settings.data_dir {
            wrong.push(format!(
                "--transient excludes --data-dir ({}): a transient broker writes nothing; give one of the two",
                directory.display()
            ));
        }
        let store = match (transient, settings.data_dir) {
            (true, _) => StoreChoice::Transient,
            (false, Some(directory)) => StoreChoice::Directory(directory),
            (false, None) => StoreChoice::Directory(PathBuf::from("quorate-data")),
        };
        let tls = TlsFiles::of("--tls", settings.tls_cert, settings.tls_key, &mut wrong);
        let admin_tls =
            TlsFiles::of("--admin-tls", settings.admin_tls_cert, settings.admin_tls_key, &mut wrong);
        if let Some(Err(text)) = settings.admin_token_file.as_deref().map(Tokens::read) {
            wrong.push(text);
        }
        let mut seen = BTreeSet::new();
        let mut peers = settings.cluster_peers.unwrap_or_default().0;
        peers.retain(|peer| seen.insert(peer.clone()));
        let majority = u32::try_from(peers.len() / 2 + 1).unwrap_or(u32::MAX);
        let cluster_secret = match settings.cluster_secret_file.as_deref().map(Secret::read).transpose() {
            Ok(secret) => secret,
            Err(text) => {
                wrong.push(text);
                None
            }
        };
        let config = Self {
            file,
            name: settings.name.unwrap_or_else(host_name),
            store,
            cluster_name: settings.cluster_name.unwrap_or_else(|| "quorate".to_owned()),
            cluster_wait_for: settings.cluster_wait_for.unwrap_or(if peers.is_empty() {
                1
            } else {
                majority
            }),
            cluster_peers: peers,
            recovery: settings.recovery.unwrap_or_default(),
            cluster_id: settings.cluster_id,
            insecure: settings.insecure.unwrap_or(false),
            allow_small_cluster: settings.allow_small_cluster.unwrap_or(false),
            listen: settings.listen.unwrap_or_else(|| HostPort::new("127.0.0.1", 7420)),
            cluster_listen: settings.cluster_listen.unwrap_or_else(|| HostPort::new("127.0.0.1", 7421)),
            admin_listen: settings.admin_listen.unwrap_or_else(|| HostPort::new("127.0.0.1", 7422)),
            advertise: settings.advertise,
            cluster_advertise: settings.cluster_advertise,
            admin_advertise: settings.admin_advertise,
            cluster_secret_file: settings.cluster_secret_file,
            cluster_secret,
            tls,
            admin_tls,
            admin_token_file: settings.admin_token_file,
            log_retain: settings.log_retain.unwrap_or(if transient {
                LOG_RETAIN_TRANSIENT
            } else {
                Size(4 << 30)
            }),
            rocksdb_memory: settings.rocksdb_memory.unwrap_or(Size(128 << 20)),
            update_rate: settings.update_rate.unwrap_or(Size(0)),
            quarantine_max: settings.quarantine_max.unwrap_or(Size(16 << 30)),
            store_stamp_interval: settings
                .store_stamp_interval
                .unwrap_or(Span(std::time::Duration::from_secs(5))),
            safety_interval: settings.safety_interval.unwrap_or(Span(std::time::Duration::from_secs(30))),
            unsynced_max_entries: settings.unsynced_max_entries.unwrap_or(1000),
            unsynced_max_time: settings
                .unsynced_max_time
                .unwrap_or(Span(std::time::Duration::from_millis(100))),
            election_timeout: settings.election_timeout.unwrap_or(Span(std::time::Duration::from_secs(1))),
            heartbeat: settings.heartbeat.unwrap_or(Span(std::time::Duration::from_millis(100))),
            ready_file: settings.ready_file,
            log_format: settings.log_format.unwrap_or_default(),
            log_level: settings.log_level.unwrap_or_else(|| "info".to_owned()),
        };
        config.check_names(&mut wrong);
        config.check_formation(&mut wrong);
        config.check_exposure(&mut wrong);
        config.check_bounds(&mut wrong);
        if wrong.is_empty() { Ok(config) } else { Err(ConfigError::Refused(wrong)) }
    }

    fn check_names(&self, wrong: &mut Vec<String>) {
        for (flag, name) in [("--name", &self.name), ("--cluster-name", &self.cluster_name)] {
            if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
                wrong.push(format!(
                    "{flag} {name:?}: a name has 1 to {NAME_BYTES_MAX} bytes and no control characters"
                ));
            }
        }
        if let Err(error) = logging::filter(&self.log_level) {
            wrong.push(format!(
                "--log-level {:?}: {error}; write error, warn, info, debug or trace",
                self.log_level
            ));
        }
    }

    fn check_formation(&self, wrong: &mut Vec<String>) {
        let listed = self.cluster_peers.len();
        if listed > PEERS_MAX {
            wrong.push(format!("--cluster-peers lists {listed} addresses; {PEERS_MAX} is the limit"));
        }
        for peer in &self.cluster_peers {
            if peer.port == 0 || peer.is_wildcard() {
                wrong.push(format!("--cluster-peers: {peer} cannot be dialed"));
            }
        }
        let wait_for = usize::try_from(self.cluster_wait_for).unwrap_or(usize::MAX);
        if wait_for == 0 {
            wrong.push("--cluster-wait-for 0: a cluster has at least one member".to_owned());
        } else if wait_for.saturating_mul(2) <= listed && !self.allow_small_cluster {
            wrong.push(format!(
                "--cluster-wait-for {wait_for} is no more than half of the {listed} listed peers: two halves could found \
                 two clusters; wait for at least {}, or accept that with --allow-small-cluster",
                listed / 2 + 1
            ));
        }
    }

    fn check_exposure(&self, wrong: &mut Vec<String>) {
        if self.insecure {
            return;
        }
        if !self.listen.is_loopback() && self.tls.is_none() {
            wrong.push(format!(
                "--listen {} can be reached from other hosts without TLS: give --tls-cert and --tls-key, or accept plain \
                 text with --insecure",
                self.listen
            ));
        }
        if !self.cluster_listen.is_loopback() && self.cluster_secret_file.is_none() {
            wrong.push(format!(
                "--cluster-listen {} can be reached from other hosts and anyone there could join: give \
                 --cluster-secret-file, or accept that with --insecure",
                self.cluster_listen
            ));
        }
        let missing: Vec<&str> = [
            (self.admin_tls.is_none(), "--admin-tls-cert and --admin-tls-key"),
            (self.admin_token_file.is_none(), "--admin-token-file"),
        ]
        .into_iter()
        .filter_map(|(is_missing, flags)| is_missing.then_some(flags))
        .collect();
        if !self.admin_listen.is_loopback() && !missing.is_empty() {
            wrong.push(format!(
                "--admin-listen {} can be reached from other hosts, where it needs TLS and tokens: give {}, or accept plain \
                 text without authentication with --insecure",
                self.admin_listen,
                missing.join(" and ")
            ));
        }
    }

    fn check_bounds(&self, wrong: &mut Vec<String>) {
        let heartbeat = self.heartbeat.millis();
        let election = self.election_timeout.millis();
        if heartbeat < HEARTBEAT_MIN_MILLIS {
            wrong.push(format!("--heartbeat {}: at least {HEARTBEAT_MIN_MILLIS}ms", self.heartbeat));
        }
        if election < heartbeat.saturating_mul(HEARTBEATS_PER_ELECTION_TIMEOUT) {
            wrong.push(format!(
                "--election-timeout {} is too short for --heartbeat {}: at least {HEARTBEATS_PER_ELECTION_TIMEOUT} heartbeats, \
                 or one late heartbeat would cost a leader its place",
                self.election_timeout, self.heartbeat
            ));
        }
        if election > ELECTION_TIMEOUT_MAX_MILLIS {
            wrong.push(format!("--election-timeout {}: at most 1h", self.election_timeout));
        }
        if self.store_stamp_interval.millis() < STAMP_INTERVAL_MIN_MILLIS {
            wrong.push(format!(
                "--store-stamp-interval {}: at least {STAMP_INTERVAL_MIN_MILLIS}ms",
                self.store_stamp_interval
            ));
        }
        if self.safety_interval.millis() < SAFETY_INTERVAL_MIN_MILLIS {
            wrong.push(format!(
                "--safety-interval {}: at least {SAFETY_INTERVAL_MIN_MILLIS}ms",
                self.safety_interval
            ));
        }
        if !UNSYNCED_MAX_ENTRIES.contains(&self.unsynced_max_entries) {
            wrong.push(format!("--unsynced-max-entries {}: 2 to 100000", self.unsynced_max_entries));
        }
        if !UNSYNCED_MAX_MILLIS.contains(&self.unsynced_max_time.millis()) {
            wrong.push(format!("--unsynced-max-time {}: 2ms to 1min", self.unsynced_max_time));
        }
        if self.log_retain < LOG_RETAIN_MIN {
            wrong.push(format!("--log-retain {}: at least {LOG_RETAIN_MIN}", self.log_retain));
        }
        if self.rocksdb_memory < ROCKSDB_MEMORY_MIN {
            wrong.push(format!("--rocksdb-memory {}: at least {ROCKSDB_MEMORY_MIN}", self.rocksdb_memory));
        }
    }

    /// What is in force, as a file for `--config`. Holds names of secret files, never secrets.
    pub fn to_toml(&self) -> String {
        let mut text = String::from(
            "# What quorated would run with. A flag wins over the environment, that over this file.\n",
        );
        let settings = self.clone().into_settings();
        match toml::to_string(&settings) {
            Ok(body) => text.push_str(&body),
            // Only a path that is no UTF-8 cannot be written as TOML.
            Err(error) => {
                let _ = writeln!(text, "# cannot be shown: {error}");
            }
        }
        text
    }

    fn into_settings(self) -> Settings {
        let (data_dir, transient) = match self.store {
            StoreChoice::Directory(directory) => (Some(directory), None),
            StoreChoice::Transient => (None, Some(true)),
        };
        let (tls_cert, tls_key) = self.tls.map(|files| (files.certificate, files.key)).unzip();
        let (admin_tls_cert, admin_tls_key) =
            self.admin_tls.map(|files| (files.certificate, files.key)).unzip();
        Settings {
            name: Some(self.name),
            data_dir,
            transient,
            cluster_name: Some(self.cluster_name),
            cluster_peers: Some(AddressList(self.cluster_peers)),
            cluster_wait_for: Some(self.cluster_wait_for),
            recovery: Some(self.recovery),
            cluster_id: self.cluster_id,
            insecure: Some(self.insecure),
            allow_small_cluster: Some(self.allow_small_cluster),
            listen: Some(self.listen),
            cluster_listen: Some(self.cluster_listen),
            admin_listen: Some(self.admin_listen),
            advertise: self.advertise,
            cluster_advertise: self.cluster_advertise,
            admin_advertise: self.admin_advertise,
            cluster_secret_file: self.cluster_secret_file,
            tls_cert,
            tls_key,
            admin_tls_cert,
            admin_tls_key,
            admin_token_file: self.admin_token_file,
            log_retain: Some(self.log_retain),
            rocksdb_memory: Some(self.rocksdb_memory),
            update_rate: Some(self.update_rate),
            quarantine_max: Some(self.quarantine_max),
            store_stamp_interval: Some(self.store_stamp_interval),
            safety_interval: Some(self.safety_interval),
            unsynced_max_entries: Some(self.unsynced_max_entries),
            unsynced_max_time: Some(self.unsynced_max_time),
            election_timeout: Some(self.election_timeout),
            heartbeat: Some(self.heartbeat),
            ready_file: self.ready_file,
            log_format: Some(self.log_format),
            log_level: Some(self.log_level),
        }
    }
}

/// Reads one layer from a TOML file.
fn read_file(path: &Path) -> Result<Settings, ConfigError> {
    let unreadable =
        |error| ConfigError::Unreadable { what: "configuration file", path: path.to_owned(), error };
    let text = read_bounded(path, FILE_BYTES_MAX).map_err(unreadable)?;
    toml::from_str(&text).map_err(|error| ConfigError::File { path: path.to_owned(), error: Box::new(error) })
}

/// Reads a text file of at most `limit` bytes.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> std::io::Result<String> {
    use std::io::Read;

    let mut text = String::new();
    std::fs::File::open(path)?.take(limit + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|length| length > limit) {
        return Err(std::io::Error::other(format!("longer than {}", Size(limit))));
    }
    Ok(text)
}

/// The kernel's idea of this host's name.
pub fn host_name() -> String {
    read_bounded(Path::new("/proc/sys/kernel/hostname"), 4096)
        .ok()
        .map(|text| text.trim().to_owned())
        .filter(|name| !name.is_empty())
        .or_else(|| std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty()))
        .unwrap_or_else(|| "localhost".to_owned())
}

#[cfg(test)]
mod tests;
