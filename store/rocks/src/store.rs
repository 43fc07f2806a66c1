//! [`RocksStore`]: the state store of a running broker.

use crate::error::{from_engine, from_system};
use crate::families::{ALL, handle};
use crate::options::{RocksConfig, Setup};
use crate::reader::RocksReader;
use crate::scan::Range;
use crate::views::Views;
use bytes::Bytes;
use quorate_store::state::{Family, Pair, StateBatch, StateError, StateStore, StateWrite, ViewId};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{Cache, DB, FlushOptions, WriteBatch, WriteOptions};
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

/// The state store in RocksDB. Dropping it closes it, and drops what was not flushed.
pub struct RocksStore {
    // Above `db`, so that the keeper's share of it is given back first.
    views: Views,
    db: Arc<DB>,
    cache: Cache,
    unlogged: WriteOptions,
}

impl RocksStore {
    /// Opens the store in `dir`, creating both if they are missing.
    ///
    /// # Errors
    /// [`StateError::Corrupt`] if what is there cannot be trusted: it must be put aside and built again.
    /// [`StateError::Io`] if it could not be read or written, or if another process has it open.
    pub fn open(dir: &Path, config: RocksConfig) -> Result<RocksStore, StateError> {
        prepare(dir)?;
        let Setup { database, families, cache } = Setup::new(config)?;
        let db = DB::open_cf_descriptors(&database, dir, families)
            .map_err(|error| from_engine(&format!("opening {}", dir.display()), &error))?;
        let mut unlogged = WriteOptions::default();
        unlogged.disable_wal(true);
        Ok(RocksStore { views: Views::default(), db: Arc::new(db), cache, unlogged })
    }

    /// Opens the store in `dir` for looking only; see [`RocksReader`].
    ///
    /// # Errors
    /// As [`RocksReader::open`].
    pub fn open_read_only(dir: &Path) -> Result<RocksReader, StateError> {
        RocksReader::open(dir)
    }

    /// Bytes that memtables and cached blocks take now.
    pub fn memory_used(&self) -> usize {
        self.cache.get_usage()
    }

    /// Bytes of the table files.
    pub fn disk_used(&self) -> u64 {
        ALL.iter().fold(0, |sum: u64, family| {
            let size = self
                .db
                .property_int_value_cf(handle(&self.db, *family), rocksdb::properties::TOTAL_SST_FILES_SIZE);
            sum.saturating_add(size.ok().flatten().unwrap_or(0))
        })
    }
}

impl StateStore for RocksStore {
    fn write(&mut self, batch: &StateBatch) -> Result<(), StateError> {
        let mut writes = WriteBatch::default();
        for write in &batch.writes {
            match write {
                StateWrite::Put(family, key, value) => writes.put_cf(handle(&self.db, *family), key, value),
                // A single delete and the put it answers vanish as soon as they meet in a compaction, where a plain
                // delete has to sink to the last level first. Sound only because a body is put once; the two kinds
                // are never mixed in a family.
                StateWrite::Delete(Family::Body, key) => {
                    writes.single_delete_cf(handle(&self.db, Family::Body), key);
                }
                StateWrite::Delete(family, key) => writes.delete_cf(handle(&self.db, *family), key),
                // RocksDB calls a range that ends before it begins an error.
                StateWrite::DeleteRange(_, from, to) if from >= to => {}
                StateWrite::DeleteRange(family, from, to) => {
                    writes.delete_range_cf(handle(&self.db, *family), from, to);
                }
            }
        }
        if writes.is_empty() {
            return Ok(());
        }
        self.db.write_opt(writes, &self.unlogged).map_err(|error| from_engine("write", &error))
    }

    fn flush(&mut self) -> Result<(), StateError> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        // All families, always: an atomic flush is atomic over those it is given.
        let families = ALL.map(|family| handle(&self.db, family));
        self.db.flush_cfs_opt(&families, &options).map_err(|error| from_engine("flush", &error))
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        get(&self.db, family, key)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        max_bytes: usize,
        view: Option<ViewId>,
    ) -> Result<Vec<Pair>, StateError> {
        let range = Range::new(family, from, to, max_bytes);
        match view {
            Some(view) => self.views.scan(view, range),
            None => scan(&self.db, &range),
        }
    }

    fn open_view(&mut self) -> Result<ViewId, StateError> {
        self.views.open(&self.db)
    }

    fn close_view(&mut self, view: ViewId) {
        self.views.close(view);
    }

    fn checkpoint(&mut self, dir: &Path) -> Result<(), StateError> {
        // The engine's own checkpoint would flush too; whether it does depends on there being a log of its own.
        self.flush()?;
        let failed = |error| from_engine(&format!("making a checkpoint in {}", dir.display()), &error);
        Checkpoint::new(&self.db).and_then(|made| made.create_checkpoint(dir)).map_err(failed)?;
        sync_all(dir)
    }
}

/// One value of the latest state.
pub(crate) fn get(db: &DB, family: Family, key: &[u8]) -> Result<Option<Bytes>, StateError> {
    let found = db.get_cf(handle(db, family), key).map_err(|error| from_engine("get", &error))?;
    Ok(found.map(Bytes::from))
}

/// A range of the latest state.
pub(crate) fn scan(db: &DB, range: &Range) -> Result<Vec<Pair>, StateError> {
    range.collect(db.raw_iterator_cf_opt(handle(db, range.family), range.read_options()))
}

/// What `dir` holds, as far as names tell.
pub(crate) struct Contents {
    /// `CURRENT` is there, which names the manifest: there is a database.
    pub(crate) database: bool,
    /// Some table file is there.
    pub(crate) tables: bool,
}

impl Contents {
    pub(crate) fn of(dir: &Path) -> Result<Contents, StateError> {
        let mut contents = Contents { database: false, tables: false };
        let failed = |error: std::io::Error| from_system("listing", dir, &error);
        for entry in fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            contents.database |= path.file_name().is_some_and(|name| name == "CURRENT");
            contents.tables |= path.extension().is_some_and(|extension| extension == "sst");
        }
        Ok(contents)
    }

    /// Tables that no manifest speaks of: RocksDB would begin afresh and delete them.
    pub(crate) fn orphaned(&self, dir: &Path) -> Option<StateError> {
        (self.tables && !self.database).then(|| {
            StateError::Corrupt(format!("opening {}: there are table files, but no CURRENT", dir.display()))
        })
    }
}

/// Makes sure that `dir` exists durably and that opening it would lose nothing.
fn prepare(dir: &Path) -> Result<(), StateError> {
    if dir.is_dir() {
        return match Contents::of(dir)?.orphaned(dir) {
            Some(error) => Err(error),
            None => Ok(()),
        };
    }
    fs::create_dir_all(dir).map_err(|error| from_system("creating", dir, &error))?;
    sync(parent(dir))
}

fn parent(dir: &Path) -> &Path {
    dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a file, or the names in a directory, durable.
fn sync(path: &Path) -> Result<(), StateError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| from_system("syncing", path, &error))
}

/// Makes everything in a directory durable, and its own name. The engine does some of it; what is promised is done here.
fn sync_all(dir: &Path) -> Result<(), StateError> {
    let failed = |error: std::io::Error| from_system("listing", dir, &error);
    for entry in fs::read_dir(dir).map_err(failed)? {
        sync(&entry.map_err(failed)?.path())?;
    }
    sync(dir)?;
    sync(parent(dir))
}

#[cfg(test)]
mod tests;
