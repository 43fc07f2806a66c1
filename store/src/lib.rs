//! What durable means: stamp, identity, log, and the file-system seam.
//!
//! ```text
//!   open ── identity (lock, store-id) ── stamp (two slots) ── log (segments) ── reserve
//!      \________________ all of it through files::Files ________________/
//!                         real: the disk     crash: a disk that loses what was not synced
//! ```
//!
//! Reading order: [`ids`], [`record`], [`files`], [`identity`], [`stamp`], [`log`], [`reserve`], [`mod@panic`],
//! [`open`], [`quarantine`].
//! [`state`] is the seam to the key-value engine, [`model`] its in-memory twin. What each file holds, to the byte, is
//! in `docs/internals/disk.md`.

pub mod files;
pub mod identity;
pub mod ids;
pub mod log;
pub mod model;
pub mod open;
pub mod panic;
pub mod quarantine;
pub mod record;
pub mod reserve;
pub mod stamp;
pub mod state;
mod text;
