//! Measuring a cluster, next to what the disks under it can do at best.
//!
//! ```text
//!   cells: sizes x windows        each round: floor cell, cluster cell, next size or window …
//!     floor    one process, three files, group commit, done at two of three
//!     publish  a publisher with `window` messages on their way; confirm latency
//!     consume  a consumer with `window` messages unsettled; ack latency
//!   cost       processor time, syncs and bytes of the brokers during a cell
//!   report     medians over the rounds, as table and JSON
//! ```

pub mod cost;
pub mod floor;
pub mod measure;
pub mod report;
pub mod workload;
