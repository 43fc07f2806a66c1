//! The replicated state machines: one [`VhostMachine`] per virtual host, one [`SystemMachine`] for the cluster.
//!
//! Applying is deterministic and total: any bytes whatever give the same result on every replica, and never a panic.
//!
//! ```text
//!   entry data -> command::CommandReader -> Command
//!                                             |  apply(index, data)
//!     routing (exchanges, bindings) <- vhost -+-> producer (de-duplication)     system (members, vhosts)
//!                                        |                                        |
//!                                      queue -> chunk (256 slots)                 |
//!                                        |                                        |
//!            checkpoint (what changed) --+-> StateBatch <-------------------------+
//! ```
//!
//! A message is a slot that points into the log. When the log has to let go of it, its body is spilled: searched with
//! [`VhostMachine::spill_candidates`], handed over with [`VhostMachine::mark_spilled`], written with the next
//! [`VhostMachine::checkpoint`].
//!
//! Reading order: [`command`], [`outcome`], [`limits`], `vhost`, `publish`, `producer`, `transaction`, `routing`, `queue`,
//! `chunk`, `checkpoint`, `safety`, `system`, `asked`.

mod asked;
mod checkpoint;
mod chunk;
mod codec;
pub mod command;
mod digest;
mod intents;
pub mod limits;
pub mod outcome;
mod producer;
mod publish;
mod queue;
mod routing;
mod safety;
mod spill;
mod system;
mod transaction;
mod vhost;

pub use asked::Asked;
pub use checkpoint::{ExportedRecord, RestoreError, export_state, meta_key};
pub use chunk::SlotView;
pub use codec::DecodeError;
pub use command::{Command, CommandReader, Founding, Member, Place, QueueDefinition, QueueId};
pub use intents::{Intents, Leaving, Wanted};
pub use outcome::{Committed, Outcome, Published};
pub use queue::Queue;
pub use quorate_protocol::frame::NumberRange as Range;
pub use routing::ExchangeView;
pub use safety::{Agreement, SAFETY_NUMBERS, SafetyNumbers};
pub use spill::{body_key, group_keys, parse_body_key};
pub use system::{Retired, SystemMachine};
pub use transaction::{Taken, Transaction};
pub use vhost::{Candidate, Resume, VhostMachine};

#[cfg(test)]
pub(crate) mod tests;
