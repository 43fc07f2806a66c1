//! Real brokers under chaos: killed, stopped, cut off, shut down, short of disk, lost and recovered, while clients work.
//!
//! ```text
//! run ── deck ──► faults ──► ground ── Broker ×3, a small disk
//!  │   (seed)        │          └── proxy ── links   what passes between two brokers, by direction
//!  │                 └──► recovery                   the documented commands, and what they promise
//!  └── load ── 4 publishers, 4 consumers ──► history ──► judge ──► sim::checker
//! ```
//!
//! The deck of faults comes from the seed; when exactly a fault meets which message does not.

pub mod deck;
pub mod faults;
pub mod ground;
pub mod history;
pub mod judge;
pub mod links;
pub mod load;
pub mod proxy;
pub mod recovery;
pub mod run;
