//! The seam to the key-value engine that holds what can be rebuilt from the log: checkpoints and spilled bodies.
//!
//! Durability rule: a batch is atomic; everything since the last [`StateStore::flush`] may vanish in a crash, in
//! whole batches from the end. Truth is never decided from here: each group's applied index is written in the same
//! batch as the state it describes, and the log from there on is applied again.

use std::path::Path;

use bytes::Bytes;
use thiserror::Error;

/// The state store's directory in the store's.
pub const STATE_DIRECTORY: &str = "state";

/// The three column families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Node-wide facts.
    Node,
    /// Checkpoints of the groups' state machines; keys begin with the group id, big-endian.
    State,
    /// Spilled message bodies: group, queue, sequence, all big-endian. A key is put at most once before it is deleted.
    Body,
}

/// One change in a [`StateBatch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateWrite {
    /// Sets a key.
    Put(Family, Bytes, Bytes),
    /// Removes a key (for `Body`: a single delete).
    Delete(Family, Bytes),
    /// Removes all keys in `[from, to)`.
    DeleteRange(Family, Bytes, Bytes),
}

/// Changes that take effect together, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateBatch {
    /// The changes.
    pub writes: Vec<StateWrite>,
}

impl StateBatch {
    /// Bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        let bytes = |write: &StateWrite| match write {
            StateWrite::Put(_, key, value) => key.len() + value.len(),
            StateWrite::Delete(_, key) => key.len(),
            StateWrite::DeleteRange(_, from, to) => from.len() + to.len(),
        };
        self.writes.iter().map(bytes).sum()
    }
}

/// A consistent view of the store, opened by [`StateStore::open_view`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ViewId(pub u64);

/// Key and value, in key order.
pub type Pair = (Bytes, Bytes);

/// Why the state store could not answer.
#[derive(Debug, Error)]
pub enum StateError {
    /// The medium or the operating system failed; the process must stop.
    #[error("state store: {0}")]
    Io(String),
    /// Checksums or structure are wrong; the content can be rebuilt from log and peers, not trusted.
    #[error("state store is corrupt: {0}")]
    Corrupt(String),
    /// A view that is not open.
    #[error("no such view: {0:?}")]
    NoView(ViewId),
}

/// The engine's face. RocksDB implements it in `store/rocks`; [`crate::model::StateModel`] is its in-memory twin
/// with the same durability rule.
pub trait StateStore: Send {
    /// Applies a batch atomically. Not durable before the next flush.
    fn write(&mut self, batch: &StateBatch) -> Result<(), StateError>;
    /// Makes everything written so far durable.
    fn flush(&mut self) -> Result<(), StateError>;
    /// One value.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StateError>;
    /// Pairs with `from <= key < to` in key order, at least one if there is any, until `max_bytes` of keys and values
    /// are reached; from `view` if given, else from the latest state.
    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        max_bytes: usize,
        view: Option<ViewId>,
    ) -> Result<Vec<Pair>, StateError>;
    /// Opens a consistent view of the present state.
    fn open_view(&mut self) -> Result<ViewId, StateError>;
    /// Lets a view go.
    fn close_view(&mut self, view: ViewId);
    /// Makes a copy of the present state in `dir`, which must not exist while the directory above it does, on the same
    /// file system: a state store of its own, durable, sharing files that never change. Flushes.
    fn checkpoint(&mut self, dir: &Path) -> Result<(), StateError>;
}
