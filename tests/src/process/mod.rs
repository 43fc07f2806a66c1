//! Real brokers: processes of `quorated` on loopback, with directories and ports of their own, ended when dropped.
//!
//! ```text
//! Cluster ── Broker ── quorated (a process)      programs   where the binaries are
//!    │          └── Status (what it says of itself)   patience   waiting for something to become so
//!    └── ports, Place (directories)              RawClient  bytes that the client library would not send
//! ```
//!
//! Nothing here sleeps to let time pass: whoever waits asks again and again, until a deadline.

pub mod broker;
pub mod cluster;
pub mod directory;
pub mod full_disk;
pub mod held_sync;
pub mod messages;
pub mod outage;
pub mod patience;
pub mod ports;
pub mod probe;
pub mod programs;
pub mod raw_client;
pub mod status;

pub use broker::{Broker, Ended};
pub use cluster::{Cluster, ClusterPlan};
pub use directory::{Place, Snapshot};
pub use patience::{PATIENCE, wait_for};
pub use raw_client::RawClient;
pub use status::Status;
