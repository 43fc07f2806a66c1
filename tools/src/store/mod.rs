//! Stores of stopped brokers: read without changing a byte, compared, and what an operator may do with one.
//!
//! ```text
//!   directory ──> looking (files, read only) ──> look (what lies there) ──> recover (the broker's own recovery)
//!                                                  │                            │ InitialStatus, StoredGroup
//!   facts file ──> facts (document) ───────────────┴────────> subject ──────────┤
//!                                                                               ├─> inspect ─> report
//!                                                                               └─> loss (two stores, entry by entry)
//! ```
//!
//! The tool reads each directory by a process of its own, with limits (confined): what it holds may be anything.
//! Nothing here takes the lock, which would write: whether a broker has the store is read from the kernel's table.

pub mod confined;
pub mod facts;
pub mod inspect;
pub mod limits;
pub mod look;
pub mod looking;
pub mod loss;
pub mod mark;
pub mod mark_write;
pub mod recover;
#[cfg(test)]
pub(crate) mod sample_store;
#[cfg(test)]
pub(crate) mod samples;
pub mod subject;
pub mod unmark;
pub mod verify;

/// The state store's directory in the store's.
pub const STATE_DIRECTORY: &str = "state";
