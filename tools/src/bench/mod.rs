//! Measuring a cluster, next to what the disks under it can do at best, and comparing what was measured.
//!
//! ```text
//!   plan ─> run: rounds x cells (sizes x windows x rates)      each round: floor cell, cluster cell, next …
//!            │     floor       one process, three files, group commit, done at two of three; a thread
//!            │     crew        connections and queues: there before, gone after
//!            │     publishing  publishers with `window` messages on their way each; closed loop, or
//!            │                 open loop: schedule (what is due when), pacer (wakes them)
//!            │     consuming   consumers with `window` messages unsettled each
//!            │     mark, ledger, account     which messages were confirmed, delivered, lost
//!            │     cost        processor time, syncs and bytes of the brokers during a cell
//!            └─> measure (rates, percentiles, histogram) ─> report ─> tables, JSON ─> compare
//! ```

pub mod account;
pub mod compare;
pub mod consuming;
pub mod cost;
pub mod crew;
pub mod floor;
pub mod floor_worker;
pub mod histogram;
pub mod ledger;
pub mod mark;
pub mod measure;
pub mod pacer;
pub mod plan;
pub mod publishing;
pub mod report;
pub mod run;
pub mod schedule;
pub mod tables;
