//! The RocksDB backend of [`quorate_store::state::StateStore`].
//!
//! ```text
//!   RocksStore ──write, flush, get, scan──► DB ◄──snapshots── view keeper (a thread, only while views are open)
//!   RocksReader ─────────get, scan────────► DB, opened read-only: changes nothing on disk
//! ```
//!
//! * `families`: the three column families and their names on disk
//! * `options`: how the engine is set up, and how the one memory budget is shared out
//! * `store`: [`RocksStore`]
//! * `views`: consistent views, kept by a thread of their own
//! * `reader`: [`RocksReader`], for the offline inspector
//! * `inspect`: [`inspect`], a look at a whole store
//! * `scan`: reading a range within a budget
//! * `error`: which of the engine's errors mean damage and which mean trouble with the medium
//!
//! There is no write-ahead log: the replicated log is one already. A flush is atomic over the three families, so what
//! a crash leaves is always a whole number of batches, each with the applied index it was written with.
//!
//! Compiling RocksDB takes minutes. This package is the only one that does, and nothing else lives in it.

mod error;
mod families;
mod inspect;
mod options;
mod reader;
mod scan;
mod store;
mod views;

pub use inspect::{StoreLook, inspect};
pub use options::{DEFAULT_MEMORY, MINIMUM_MEMORY, RocksConfig};
pub use reader::RocksReader;
pub use store::RocksStore;
