//! What the core is told about itself once, at the start.

use quorate_store::ids::{ClusterId, GroupId};

use crate::formation::status::RecoveryMode;
use crate::replica::Timing;

/// The broker's settings, already validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// The broker's name, unique in the cluster.
    pub name: String,
    /// Members must agree on it.
    pub cluster_name: String,
    /// `--cluster-peers`, as configured.
    pub peers: Vec<String>,
    /// `--cluster-wait-for`, or its default.
    pub wait_for: u32,
    /// `--allow-small-cluster`.
    pub allow_small: bool,
    /// `--recovery`.
    pub recovery: RecoveryMode,
    /// `--cluster-id`.
    pub cluster_id_wanted: Option<ClusterId>,
    /// Where clients reach this broker.
    pub client_address: String,
    /// Where peers reach this broker.
    pub cluster_address: String,
    /// Where operators reach this broker.
    pub admin_address: String,
    /// The wall clock at tick zero, in milliseconds since 1970: for what is only told to people.
    pub tick_zero_ms: u64,
    /// Heartbeat and election.
    pub timing: Timing,
    /// How often the stamp is rewritten while active, in milliseconds.
    pub stamp_interval_millis: u64,
    /// How often the safety number is renewed and the stamp looked at, in milliseconds.
    pub safety_interval_millis: u64,
    /// So many entries of a group may be acknowledged and not synced, by a policy that permits that.
    pub unsynced_max_entries: u64,
    /// For so long, in milliseconds.
    pub unsynced_max_millis: u64,
    /// Updates by snapshot are sent at most so fast, in bytes a second for each; 0 for no limit.
    pub update_rate: u64,
    /// The largest frame that carries no message.
    pub frame_limit: u32,
    /// The largest message.
    pub message_limit: u32,
}

/// Limits of the core's own work, related by the assertions below.
pub mod limits {
    /// Commands of a round are packed into entries of about this many bytes.
    pub const ENTRY_BYTES: usize = 256 << 10;
    /// A command of this many bytes has an entry of its own.
    pub const LONE_COMMAND_BYTES: usize = 64 << 10;
    /// One answer to a load, a scan, or one snapshot chunk.
    pub const CHUNK_BYTES: usize = 1 << 20;
    /// Deliveries decided in one round for one group, in messages and bytes.
    pub const ROUND_MESSAGES: usize = 4096;
    /// See [`ROUND_MESSAGES`].
    pub const ROUND_BYTES: usize = 4 << 20;
    /// Bytes written to a client but not yet taken by its socket, above which its consumers pause.
    pub const OUTBOUND_BYTES: u64 = 4 << 20;
    /// Deliveries decided but not sent yet, for one group.
    pub const OUTBOX_MESSAGES: usize = 16_384;
    /// A group's log grows by this many bytes between two checkpoints.
    pub const CHECKPOINT_LOG_BYTES: u64 = 256 << 20;
    /// Sessions on one broker.
    pub const SESSIONS: usize = 4096;
    /// Entries of a page in any listing.
    pub const PAGE: usize = 1000;
    /// A page of peeked messages, in bytes.
    pub const PEEK_BYTES: usize = 512 << 10;

    const _: () = assert!(LONE_COMMAND_BYTES <= ENTRY_BYTES);
    const _: () = assert!(ROUND_MESSAGES <= OUTBOX_MESSAGES);
    const _: () = assert!(PEEK_BYTES < 1 << 20, "a page of messages fits a frame");
}

/// What the cluster's own group is called, as if it were a virtual host.
pub const SYSTEM_NAME: &str = "system";
/// The first vhost's group; `system` makes it when the cluster is founded.
pub const FIRST_VHOST: (GroupId, &str) = (GroupId(1), "/");
