//! What can be said on the command line, in the environment and in the file: one list for all three.
//!
//! Everything is optional here; [`crate::config`] lays the layers over each other and fills in the defaults. What is
//! not built yet is not in this list, so that it is an error instead of a promise.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::address::{AddressList, HostPort};
use crate::units::{Size, Span};

/// The broker of a Quorate cluster.
///
/// Every option may also be given as an environment variable (QUORATE_DATA_DIR for --data-dir) or in the TOML file
/// named by --config (data-dir = "..."); a flag wins over the environment, the environment over the file.
#[derive(Clone, Debug, Parser)]
#[command(name = "quorated", version, disable_help_subcommand = true)]
pub struct Flags {
    /// TOML file with any of the options below.
    #[arg(long, env = "QUORATE_CONFIG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// The options.
    #[command(flatten)]
    pub settings: Settings,
    /// Without a command the broker runs.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Instead of running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Looks at the configuration without starting.
    Config {
        /// What to do with it.
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Prints the OpenAPI document of the admin port.
    Openapi,
}

/// What `quorated config` can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum ConfigAction {
    /// Says whether a broker would start with it; exit status 2 if not.
    Check,
    /// Prints what is in force, defaults included, as a file for --config.
    Print,
}

/// How a cluster comes back after all of it stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recovery {
    /// Unattended exactly when nothing confirmed can be missing.
    #[default]
    Automatic,
    /// Only from stores that were closed or marked by an administrator.
    Manual,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// One layer of settings: what a file, or flags and environment, said.
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// The broker's name, unique in the cluster [default: host name].
    #[arg(long, env = "QUORATE_NAME", value_name = "NAME", global = true)]
    pub name: Option<String>,
    /// The directory of the store [default: ./quorate-data].
    #[arg(long, env = "QUORATE_DATA_DIR", value_name = "DIR", global = true)]
    #[serde(alias = "data_dir")]
    pub data_dir: Option<PathBuf>,
    /// Keep everything in memory, write nothing; excludes --data-dir.
    #[arg(long, env = "QUORATE_TRANSIENT", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", global = true)]
    pub transient: Option<bool>,
    /// The cluster's name; members must agree [default: quorate].
    #[arg(long, env = "QUORATE_CLUSTER_NAME", value_name = "NAME", global = true)]
    #[serde(alias = "cluster_name")]
    pub cluster_name: Option<String>,
    /// Cluster addresses of the possible members, comma-separated, own address allowed.
    #[arg(long, env = "QUORATE_CLUSTER_PEERS", value_name = "HOST:PORT,...", global = true)]
    #[serde(alias = "cluster_peers")]
    pub cluster_peers: Option<AddressList>,
    /// Members to wait for before going active [default: majority of the listed peers, 1 if none].
    #[arg(long, env = "QUORATE_CLUSTER_WAIT_FOR", value_name = "N", global = true)]
    #[serde(alias = "cluster_wait_for")]
    pub cluster_wait_for: Option<u32>,
    /// How a stopped cluster comes back [default: automatic].
    #[arg(long, env = "QUORATE_RECOVERY", value_name = "MODE", global = true)]
    pub recovery: Option<Recovery>,
    /// With an empty store: join this cluster, never found one.
    #[arg(long, env = "QUORATE_CLUSTER_ID", value_name = "ID", global = true)]
    #[serde(alias = "cluster_id")]
    pub cluster_id: Option<Uuid>,
    /// Permit plain text and unauthenticated peers off loopback; said in every status.
    #[arg(long, env = "QUORATE_INSECURE", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", global = true)]
    pub insecure: Option<bool>,
    /// Permit waiting for no more than half of the listed peers.
    #[arg(long, env = "QUORATE_ALLOW_SMALL_CLUSTER", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", global = true)]
    #[serde(alias = "allow_small_cluster")]
    pub allow_small_cluster: Option<bool>,
    /// Where clients connect; port 0 takes any free one [default: 127.0.0.1:7420].
    #[arg(long, env = "QUORATE_LISTEN", value_name = "HOST:PORT", global = true)]
    pub listen: Option<HostPort>,
    /// Where brokers connect [default: 127.0.0.1:7421].
    #[arg(long, env = "QUORATE_CLUSTER_LISTEN", value_name = "HOST:PORT", global = true)]
    #[serde(alias = "cluster_listen")]
    pub cluster_listen: Option<HostPort>,
    /// HTTP: health, metrics, API [default: 127.0.0.1:7422].
    #[arg(long, env = "QUORATE_ADMIN_LISTEN", value_name = "HOST:PORT", global = true)]
    #[serde(alias = "admin_listen")]
    pub admin_listen: Option<HostPort>,
    /// The client address that others are told [default: the listen address].
    #[arg(long, env = "QUORATE_ADVERTISE", value_name = "HOST:PORT", global = true)]
    pub advertise: Option<HostPort>,
    /// The cluster address that others are told [default: the listen address].
    #[arg(long, env = "QUORATE_CLUSTER_ADVERTISE", value_name = "HOST:PORT", global = true)]
    #[serde(alias = "cluster_advertise")]
    pub cluster_advertise: Option<HostPort>,
    /// The admin address that others are told [default: the listen address].
    #[arg(long, env = "QUORATE_ADMIN_ADVERTISE", value_name = "HOST:PORT", global = true)]
    #[serde(alias = "admin_advertise")]
    pub admin_advertise: Option<HostPort>,
    /// File with the secret by which brokers authenticate each other.
    #[arg(long, env = "QUORATE_CLUSTER_SECRET_FILE", value_name = "FILE", global = true)]
    #[serde(alias = "cluster_secret_file")]
    pub cluster_secret_file: Option<PathBuf>,
    /// Certificate chain (PEM) for clients; with --tls-key.
    #[arg(long, env = "QUORATE_TLS_CERT", value_name = "FILE", global = true)]
    #[serde(alias = "tls_cert")]
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) of --tls-cert.
    #[arg(long, env = "QUORATE_TLS_KEY", value_name = "FILE", global = true)]
    #[serde(alias = "tls_key")]
    pub tls_key: Option<PathBuf>,
    /// Certificate chain (PEM) for operators; with --admin-tls-key.
    #[arg(long, env = "QUORATE_ADMIN_TLS_CERT", value_name = "FILE", global = true)]
    #[serde(alias = "admin_tls_cert")]
    pub admin_tls_cert: Option<PathBuf>,
    /// Private key (PEM) of --admin-tls-cert.
    #[arg(long, env = "QUORATE_ADMIN_TLS_KEY", value_name = "FILE", global = true)]
    #[serde(alias = "admin_tls_key")]
    pub admin_tls_key: Option<PathBuf>,
    /// Lines NAME TOKEN [read|admin]: operators must show one of these tokens.
    #[arg(long, env = "QUORATE_ADMIN_TOKEN_FILE", value_name = "FILE", global = true)]
    #[serde(alias = "admin_token_file")]
    pub admin_token_file: Option<PathBuf>,
    /// Bytes of log after which the oldest segment is retired [default: 4GiB; with --transient 256MiB].
    #[arg(long, env = "QUORATE_LOG_RETAIN", value_name = "SIZE", global = true)]
    #[serde(alias = "log_retain")]
    pub log_retain: Option<Size>,
    /// Memory of the state store, buffers and cache together [default: 128MiB].
    #[arg(long, env = "QUORATE_ROCKSDB_MEMORY", value_name = "SIZE", global = true)]
    #[serde(alias = "rocksdb_memory")]
    pub rocksdb_memory: Option<Size>,
    /// No image of the store is put into quarantine above so many bytes there: the update that would replace something
    /// waits for the operator [default: 16GiB].
    #[arg(long, env = "QUORATE_QUARANTINE_MAX", value_name = "SIZE", global = true)]
    #[serde(alias = "quarantine_max")]
    pub quarantine_max: Option<Size>,
    /// A full copy of a group is sent to a member that is updated at most so fast, in bytes a second; 0 for no limit
    /// [default: 0].
    #[arg(long, env = "QUORATE_UPDATE_RATE", value_name = "SIZE", global = true)]
    #[serde(alias = "update_rate")]
    pub update_rate: Option<Size>,
    /// How often an active broker rewrites its stamp [default: 5s].
    #[arg(long, env = "QUORATE_STORE_STAMP_INTERVAL", value_name = "TIME", global = true)]
    #[serde(alias = "store_stamp_interval")]
    pub store_stamp_interval: Option<Span>,
    /// How often the cluster's safety number is renewed, and each broker looks whether its store is still its own
    /// [default: 30s].
    #[arg(long, env = "QUORATE_SAFETY_INTERVAL", value_name = "TIME", global = true)]
    #[serde(alias = "safety_interval")]
    pub safety_interval: Option<Span>,
    /// So many entries of a group's log may be acknowledged and not synced, by a durability policy that permits that
    /// [default: 1000].
    #[arg(long, env = "QUORATE_UNSYNCED_MAX_ENTRIES", value_name = "N", global = true)]
    #[serde(alias = "unsynced_max_entries")]
    pub unsynced_max_entries: Option<u64>,
    /// For so long [default: 100ms].
    #[arg(long, env = "QUORATE_UNSYNCED_MAX_TIME", value_name = "TIME", global = true)]
    #[serde(alias = "unsynced_max_time")]
    pub unsynced_max_time: Option<Span>,
    /// How long without a leader before an election [default: 1s].
    #[arg(long, env = "QUORATE_ELECTION_TIMEOUT", value_name = "TIME", global = true)]
    #[serde(alias = "election_timeout")]
    pub election_timeout: Option<Span>,
    /// How often brokers hear from each other [default: 100ms].
    #[arg(long, env = "QUORATE_HEARTBEAT", value_name = "TIME", global = true)]
    pub heartbeat: Option<Span>,
    /// Written when the ports are open: {"pid":...,"client":"H:P","cluster":"H:P","admin":"H:P"}.
    #[arg(long, env = "QUORATE_READY_FILE", value_name = "FILE", global = true)]
    #[serde(alias = "ready_file")]
    pub ready_file: Option<PathBuf>,
    /// How log lines look [default: human].
    #[arg(long, env = "QUORATE_LOG_FORMAT", value_name = "FORMAT", global = true)]
    #[serde(alias = "log_format")]
    pub log_format: Option<LogFormat>,
    /// error, warn, info, debug, trace, or filters like info,quorate_core=debug [default: info].
    #[arg(long, env = "QUORATE_LOG_LEVEL", value_name = "LEVEL", global = true)]
    #[serde(alias = "log_level")]
    pub log_level: Option<String>,
}

impl Settings {
    /// These settings, and those of `below` where these say nothing.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        macro_rules! layered {
            ($($field:ident),* $(,)?) => { Self { $($field: self.$field.or(below.$field)),* } };
        }
        layered!(
            name,
            data_dir,
            transient,
            cluster_name,
            cluster_peers,
            cluster_wait_for,
            recovery,
            cluster_id,
            insecure,
            allow_small_cluster,
            listen,
            cluster_listen,
            admin_listen,
            advertise,
            cluster_advertise,
            admin_advertise,
            cluster_secret_file,
            tls_cert,
            tls_key,
            admin_tls_cert,
            admin_tls_key,
            admin_token_file,
            log_retain,
            rocksdb_memory,
            quarantine_max,
            update_rate,
            store_stamp_interval,
            safety_interval,
            unsynced_max_entries,
            unsynced_max_time,
            election_timeout,
            heartbeat,
            ready_file,
            log_format,
            log_level,
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Flags::command().debug_assert();
    }

    #[test]
    fn every_setting_has_a_flag_an_environment_name_and_a_file_key_of_the_same_name() {
        let flags: Vec<_> = Settings::augment_args(clap::Command::new("settings"))
            .get_arguments()
            .map(|argument| {
                let long = argument.get_long().unwrap().to_owned();
                let environment = argument.get_env().unwrap().to_str().unwrap().to_owned();
                assert_eq!(environment, format!("QUORATE_{}", long.to_uppercase().replace('-', "_")));
                long
            })
            .collect();
        // The file's keys are in the error for an unknown one.
        let unknown = toml::from_str::<Settings>("no-such-key = 1").unwrap_err().to_string();
        for flag in &flags {
            assert!(unknown.contains(&format!("`{flag}`")), "{flag}: {unknown}");
        }
    }

    #[test]
    fn switches_can_be_given_and_taken_back() {
        let parse = |words: &[&str]| Flags::try_parse_from(words).unwrap().settings.transient;
        assert_eq!(parse(&["quorated", "--transient"]), Some(true));
        assert_eq!(parse(&["quorated", "--transient=false"]), Some(false));
        assert_eq!(parse(&["quorated", "config", "check", "--transient"]), Some(true));
    }
}
