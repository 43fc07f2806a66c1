//! A state store that fails where it is told to, over RocksDB.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quorate_store::state::{Family, Pair, StateBatch, StateError, StateStore, ViewId};

use crate::trigger::{Instead, Trigger};

/// Fails at `state-store.write`, `.flush`, `.open-view` and `.checkpoint`.
pub struct FailState {
    below: Box<dyn StateStore>,
    trigger: Arc<Trigger>,
}

impl FailState {
    /// Over this one.
    pub fn new(below: Box<dyn StateStore>, trigger: Arc<Trigger>) -> Self {
        Self { below, trigger }
    }

    fn reach(&self, point: &str) -> Result<(), StateError> {
        // While the state's thread writes, no entry is waited for.
        match self.trigger.reach(point, Path::new("state"), Vec::new) {
            Instead::Nothing => Ok(()),
            Instead::Io => Err(StateError::Io("Input/output error".to_owned())),
            Instead::Full => Err(StateError::Io("No space left on device".to_owned())),
        }
    }
}

impl StateStore for FailState {
    fn write(&mut self, batch: &StateBatch) -> Result<(), StateError> {
        self.reach("state-store.write")?;
        self.below.write(batch)
    }

    fn flush(&mut self) -> Result<(), StateError> {
        self.reach("state-store.flush")?;
        self.below.flush()
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        self.below.get(family, key)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        max_bytes: usize,
        view: Option<ViewId>,
    ) -> Result<Vec<Pair>, StateError> {
        self.below.scan(family, from, to, max_bytes, view)
    }

    fn open_view(&mut self) -> Result<ViewId, StateError> {
        self.reach("state-store.open-view")?;
        self.below.open_view()
    }

    fn close_view(&mut self, view: ViewId) {
        self.below.close_view(view);
    }

    fn checkpoint(&mut self, dir: &Path) -> Result<(), StateError> {
        self.reach("state-store.checkpoint")?;
        self.below.checkpoint(dir)
    }
}
