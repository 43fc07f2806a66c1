//! How brokers become a cluster: one pure decision over what they told each other, and the founding agreement.
//!
//! ```text
//!   stamp, logs, flags ──> InitialStatus ──> peers
//!                               │
//!        peers' statuses ──> Facts ──decide──> Decision { row, verdict, reason, missing, next }
//!                                                 │ FORM
//!                          FoundingPlan ──────> Founding (single-decree Paxos) ──> FoundingValue
//! ```
//!
//! The broker, the inspector and the dry run call the same [`decide()`]; nothing here reads a clock, a file or a socket.

mod assembly;
pub(crate) mod company;
pub mod decide;
mod electorate;
pub mod facts;
pub mod forming;
pub mod founding;
mod founding_message;
pub mod limits;
pub mod lineage;
pub(crate) mod lineage_wire;
pub mod meeting;
pub mod plan;
mod rivals;
mod rolled_back;
pub mod rows;
pub mod status;
mod status_wire;
mod wire;

pub use decide::{Decision, Verdict, asking, decide, decide_group, rows_before};
pub use electorate::Electorate;
pub use facts::Facts;
pub use forming::{Ballot, FormingState, Founder, FoundingValue, Place};
pub use founding::{Founding, FoundingAction, FoundingMessage, founded_ms};
pub use meeting::{Meeting, meeting};
pub use plan::FoundingPlan;
pub use rows::Row;
pub use status::InitialStatus;
pub use wire::DecodeError;

#[cfg(test)]
pub(crate) mod samples;
