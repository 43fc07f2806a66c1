//! Everything that decides, and nothing that does: formation, sessions, replication, queues, delivery.
//!
//! ```text
//!   Input ──> Node ──> Output            the whole contract: io
//!              ├─ formation              how brokers become a cluster: one table, one Paxos decision
//!              ├─ replica                one node of a group: raft-rs, its log and its wire form
//!              ├─ machine                what entries mean: queues, exchanges, producers; members, vhosts
//!              ├─ delivery               which consumer holds what, on a leader
//!              └─ peer, admin, event     what is said to peers, to operators, to the log
//! ```
//!
//! No thread, no clock, no file, no randomness of its own: time and dice are arguments, disk and network are peers
//! that messages are exchanged with. Read [`io`] first, then [`node`].

pub mod admin;
pub mod codec;
pub mod control;
pub mod controls;
pub mod delivery;
pub mod event;
pub mod formation;
pub mod io;
pub mod loss_window;
pub mod machine;
pub mod node;
pub mod peer;
pub mod replica;

pub use node::Node;
pub use node::config::NodeConfig;
