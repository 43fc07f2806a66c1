//! Reading a range within a budget.

use crate::error::from_engine;
use bytes::Bytes;
use quorate_store::state::{Family, Pair, StateError};
use rocksdb::{DBRawIterator, ReadOptions};

/// A range of keys, and how much of it to read at most.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    pub(crate) family: Family,
    pub(crate) from: Vec<u8>,
    pub(crate) to: Vec<u8>,
    pub(crate) max_bytes: usize,
}

impl Range {
    pub(crate) fn new(family: Family, from: &[u8], to: &[u8], max_bytes: usize) -> Range {
        Range { family, from: from.to_vec(), to: to.to_vec(), max_bytes }
    }

    /// Options for an iterator that ends where the range does.
    pub(crate) fn read_options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(self.to.clone());
        // What is scanned is read once: a checkpoint at recovery, a spilled run of messages at delivery.
        options.fill_cache(false);
        options
    }

    /// Pairs in key order, at least one if there is any, until `max_bytes` of keys and values are reached.
    pub(crate) fn collect(&self, mut iterator: DBRawIterator<'_>) -> Result<Vec<Pair>, StateError> {
        let mut pairs = Vec::new();
        let mut bytes = 0_usize;
        if self.from >= self.to {
            return Ok(pairs);
        }
        iterator.seek(&self.from);
        while let Some((key, value)) = iterator.item() {
            bytes = bytes.saturating_add(key.len()).saturating_add(value.len());
            pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            if bytes >= self.max_bytes {
                break;
            }
            iterator.next();
        }
        iterator.status().map_err(|error| from_engine("scan", &error))?;
        Ok(pairs)
    }
}
