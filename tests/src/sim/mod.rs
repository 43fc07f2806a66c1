//! A whole cluster in one thread: production brokers over simulated disks, network, clock and clients.
//!
//! ```text
//!   run (a seed) ──> plan (what is drawn before) ──> world (the one loop) ──> checker (what must hold)
//!                                                      ├─ schedule   simulated time
//!                                                      ├─ host       a machine: disk, process, lanes, effects
//!                                                      ├─ network    links between hosts, connections of clients
//!                                                      └─ client     publishers, consumers, transactors
//! ```
//!
//! Everything that happens follows from the seed: each component has dice of its own, drawn by label, so that a draw
//! more in one place does not shift the others. [`trace::Trace`] hashes what happened; the same seed gives the same
//! hash. What the broker does is the product's own code throughout: the core, the log, the stamp, the codecs. Only
//! the loop that performs effects is the simulator's, and it takes every liberty that the core's contract
//! ([`quorate_core::io`]) leaves.

mod acts;
pub mod checker;
pub mod client;
pub mod controls;
pub mod dice;
mod effects;
pub mod fault;
pub mod host;
pub mod intruder;
pub mod ledger;
mod links;
pub mod mark;
pub mod network;
pub mod operator;
pub mod order;
pub mod plan;
pub mod record;
pub mod run;
pub mod schedule;
mod sessions;
pub mod storage;
pub mod trace;
pub mod transactor;
mod vhosts;
mod votes;
mod weak;
pub mod world;
