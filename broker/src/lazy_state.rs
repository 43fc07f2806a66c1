//! RocksDB, opened for writing only when the first write comes.
//!
//! Opening it writes files. A broker that waits, or is held, leaves its store as it was; what it has to read then is
//! read without writing.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use quorate_store::state::{Family, Pair, StateBatch, StateError, StateStore, ViewId};
use quorate_store_rocks::{RocksConfig, RocksReader, RocksStore};

/// The state store of a persistent broker.
pub struct LazyState {
    dir: PathBuf,
    config: RocksConfig,
    open: Open,
}

enum Open {
    /// There is nothing yet.
    Nothing,
    /// For looking.
    Reader(Box<RocksReader>),
    /// For everything.
    Store(Box<RocksStore>),
}

impl LazyState {
    /// Looks at what is in `dir`, if anything.
    ///
    /// # Errors
    /// [`StateError::Corrupt`] if it cannot be trusted, [`StateError::Io`] if it cannot be read.
    pub fn look(dir: &Path, config: RocksConfig) -> Result<Self, StateError> {
        let open = if RocksReader::is_unmade(dir)? {
            Open::Nothing
        } else {
            Open::Reader(Box::new(RocksReader::open(dir)?))
        };
        Ok(Self { dir: dir.to_owned(), config, open })
    }

    fn store(&mut self) -> Result<&mut RocksStore, StateError> {
        if !matches!(self.open, Open::Store(_)) {
            // The reader goes first: the store changes files under it.
            self.open = Open::Nothing;
            self.open = Open::Store(Box::new(RocksStore::open(&self.dir, self.config)?));
        }
        match &mut self.open {
            Open::Store(store) => Ok(store),
            Open::Nothing | Open::Reader(_) => unreachable!("it was opened just now"),
        }
    }
}

impl StateStore for LazyState {
    fn write(&mut self, batch: &StateBatch) -> Result<(), StateError> {
        self.store()?.write(batch)
    }

    fn flush(&mut self) -> Result<(), StateError> {
        self.store()?.flush()
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        match &self.open {
            Open::Nothing => Ok(None),
            Open::Reader(reader) => reader.get(family, key),
            Open::Store(store) => store.get(family, key),
        }
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        max_bytes: usize,
        view: Option<ViewId>,
    ) -> Result<Vec<Pair>, StateError> {
        match (&self.open, view) {
            (Open::Store(store), view) => store.scan(family, from, to, max_bytes, view),
            (_, Some(view)) => Err(StateError::NoView(view)),
            (Open::Nothing, None) => Ok(Vec::new()),
            (Open::Reader(reader), None) => reader.scan(family, from, to, max_bytes),
        }
    }

    fn open_view(&mut self) -> Result<ViewId, StateError> {
        self.store()?.open_view()
    }

    fn close_view(&mut self, view: ViewId) {
        if let Open::Store(store) = &mut self.open {
            store.close_view(view);
        }
    }

    fn checkpoint(&mut self, dir: &Path) -> Result<(), StateError> {
        self.store()?.checkpoint(dir)
    }
}

#[cfg(test)]
mod tests {
    use quorate_store::state::StateWrite;

    use super::*;

    fn names(dir: &Path) -> Vec<(std::ffi::OsString, u64)> {
        let mut names: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.map(|entry| (entry.file_name(), entry.metadata().unwrap().len())).unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn looking_writes_nothing_and_the_first_write_opens() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("state");
        let mut state = LazyState::look(&dir, RocksConfig::default()).unwrap();
        assert_eq!(state.get(Family::State, b"k").unwrap(), None);
        assert!(state.scan(Family::State, b"", b"z", 100, None).unwrap().is_empty());
        assert!(!dir.exists());
        let put = StateWrite::Put(Family::State, Bytes::from_static(b"k"), Bytes::from_static(b"v"));
        state.write(&StateBatch { writes: vec![put] }).unwrap();
        state.flush().unwrap();
        drop(state);
        let before = names(&dir);
        let mut state = LazyState::look(&dir, RocksConfig::default()).unwrap();
        assert_eq!(state.get(Family::State, b"k").unwrap().as_deref(), Some(&b"v"[..]));
        assert_eq!(state.scan(Family::State, b"", b"z", 100, None).unwrap().len(), 1);
        assert_eq!(names(&dir), before);
        let view = state.open_view().unwrap();
        assert_eq!(state.scan(Family::State, b"", b"z", 100, Some(view)).unwrap().len(), 1);
        state.close_view(view);
        assert!(matches!(state.scan(Family::State, b"", b"z", 100, Some(view)), Err(StateError::NoView(_))));
    }
}
