//! [`RocksReader`]: a look at a store that no broker has open.

use crate::error::from_engine;
use crate::families::{ALL, name};
use crate::options::Setup;
use crate::scan::Range;
use crate::store::{Contents, get, scan};
use bytes::Bytes;
use quorate_store::state::{Family, Pair, StateError};
use rocksdb::{DB, Options};
use std::path::Path;

/// A state store opened for looking only: nothing in its directory is created, changed or removed.
///
/// It takes no lock. Whoever opens one makes sure that no broker runs on the directory, or lives with errors when
/// files vanish under it.
pub struct RocksReader {
    db: DB,
}

impl RocksReader {
    /// Opens the store in `dir`.
    ///
    /// # Errors
    /// [`StateError::Corrupt`] if what is there cannot be trusted, [`StateError::Io`] if it could not be read or
    /// there is no store.
    pub fn open(dir: &Path) -> Result<RocksReader, StateError> {
        let contents = Contents::of(dir)?;
        if let Some(error) = contents.orphaned(dir) {
            return Err(error);
        }
        if !contents.database {
            return Err(StateError::Io(format!("opening {}: there is no state store", dir.display())));
        }
        let Setup { database, families, cache: _ } = Setup::read_only()?;
        let unclean_is_error = false;
        let db = DB::open_cf_descriptors_read_only(&database, dir, families, unclean_is_error)
            .map_err(|error| from_engine(&format!("opening {} read-only", dir.display()), &error))?;
        Ok(RocksReader { db })
    }

    /// Whether nothing was ever stored in `dir`: it is missing or empty, or the making of a store there was cut off before
    /// the first table. Such a directory is as good as an empty one; the next store that is opened there is made anew.
    ///
    /// # Errors
    /// [`StateError::Io`] if it could not be read.
    pub fn is_unmade(dir: &Path) -> Result<bool, StateError> {
        if !dir.exists() {
            return Ok(true);
        }
        let contents = Contents::of(dir)?;
        if contents.tables || !contents.database {
            return Ok(!contents.tables);
        }
        // The families are made one after the other, and nothing is stored before all of them are there.
        let lacks = |made: &[String]| ALL.iter().any(|family| !made.iter().any(|made| made == name(*family)));
        Ok(DB::list_cf(&Options::default(), dir).is_ok_and(|made| lacks(&made)))
    }

    /// One value.
    ///
    /// # Errors
    /// As [`quorate_store::state::StateStore::get`].
    pub fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        get(&self.db, family, key)
    }

    /// Pairs with `from <= key < to` in key order, at least one if there is any, until `max_bytes` of keys and values
    /// are reached.
    ///
    /// # Errors
    /// As [`quorate_store::state::StateStore::scan`].
    pub fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        max_bytes: usize,
    ) -> Result<Vec<Pair>, StateError> {
        scan(&self.db, &Range::new(family, from, to, max_bytes))
    }
}
