//! How the engine is set up, and how the one memory budget is shared out.

use crate::error::from_engine;
use crate::families::{self, name};
use quorate_store::state::{Family, StateError};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, LruCacheOptions, Options,
    WriteBufferManager,
};

/// Bytes for memtables and cached blocks unless told otherwise.
pub const DEFAULT_MEMORY: usize = 128 << 20;

/// The least memory the engine is given, in bytes; a smaller wish is raised to this.
pub const MINIMUM_MEMORY: usize = 8 << 20;

/// Memtables being filled, all families together, may take one part in this many of the memory. As many again may be
/// on their way to disk, and for a moment twice as many; so three quarters at the very most, the rest is cache.
const MEMTABLE_SHARE: usize = 4;

/// What a memtable takes from the allocator at a time, in bytes. An idle store holds next to nothing.
const ARENA_BLOCK: usize = 256 << 10;

/// The cache is cut into 2^3 parts with a lock each: few threads read here, and a part must be many times larger than
/// the 256 KiB by which memtables are charged to the cache.
const CACHE_SHARD_BITS: i32 = 3;

/// Bytes of keys and values in a block, the unit of reading and caching.
const BLOCK: usize = 16 << 10;

/// Ten bits a key: one useless read in a hundred.
const BLOOM_BITS: f64 = 10.0;

/// Bytes of a table file.
const TABLE_FILE: u64 = 32 << 20;

/// Files the engine may hold open.
const OPEN_FILES: i32 = 256;

/// Flushes and compactions at a time.
const BACKGROUND_JOBS: i32 = 2;

/// Info logs kept, and bytes of each.
const INFO_LOGS: usize = 2;
const INFO_LOG: usize = 1 << 20;

/// Bytes of the manifest before it is written anew.
const MANIFEST: usize = 4 << 20;

/// Bytes a file grows by before the kernel is asked to write them: without it, a finished table goes to disk at once
/// and the log's next sync waits behind it.
const BYTES_PER_SYNC: u64 = 1 << 20;

/// A table in which this many of so many successive entries are deletions is compacted soon: a settled queue leaves
/// long runs of them at its head, exactly where the next scan begins.
const DELETION_WINDOW: usize = 4096;
const DELETION_TRIGGER: usize = 2048;

/// How to open a [`crate::RocksStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RocksConfig {
    /// Bytes for memtables and cached blocks together (but see [`MINIMUM_MEMORY`]); taken as needed. Not in it: some
    /// MiB of buffers while a flush or a compaction runs, and the blocks that a scan has in hand.
    pub memory: usize,
}

impl Default for RocksConfig {
    fn default() -> Self {
        RocksConfig { memory: DEFAULT_MEMORY }
    }
}

/// All that is needed to open the engine.
pub(crate) struct Setup {
    /// Options of the whole database.
    pub(crate) database: Options,
    /// The families with theirs.
    pub(crate) families: Vec<ColumnFamilyDescriptor>,
    /// What memtables and blocks are charged to.
    pub(crate) cache: Cache,
}

impl Setup {
    /// The set-up for writing.
    pub(crate) fn new(config: RocksConfig) -> Result<Setup, StateError> {
        let memory = config.memory.max(MINIMUM_MEMORY);
        let memtables = memory / MEMTABLE_SHARE;
        let cache = shared_cache(memory);
        // The manager's own stall would wait for a flush even if flushes fail, and so hide the failure. Writers are
        // held back by `max_write_buffer_number` instead, which gives up with the flush's error.
        let stall = false;
        let manager =
            WriteBufferManager::new_write_buffer_manager_with_cache(memtables, stall, cache.clone());

        let mut database = base()?;
        database.create_if_missing(true);
        database.create_missing_column_families(true);
        database.set_atomic_flush(true);
        database.set_write_buffer_manager(&manager);
        database.set_max_background_jobs(BACKGROUND_JOBS);
        database.set_keep_log_file_num(INFO_LOGS);
        database.set_max_log_file_size(INFO_LOG);
        database.set_max_manifest_file_size(MANIFEST);
        database.set_manifest_preallocation_size(64 << 10);
        database.set_bytes_per_sync(BYTES_PER_SYNC);
        // Nobody reads its statistics, and an idle broker should sleep.
        database.set_stats_dump_period_sec(0);
        database.set_stats_persist_period_sec(0);

        let families = families::ALL.map(|family| {
            ColumnFamilyDescriptor::new(name(family), family_options(family, &cache, memtables))
        });
        Ok(Setup { database, families: families.into(), cache })
    }

    /// The set-up for looking only.
    pub(crate) fn read_only() -> Result<Setup, StateError> {
        let cache = shared_cache(MINIMUM_MEMORY);
        let families = families::ALL.map(|family| {
            ColumnFamilyDescriptor::new(name(family), family_options(family, &cache, MINIMUM_MEMORY))
        });
        Ok(Setup { database: base()?, families: families.into(), cache })
    }
}

/// What both set-ups have in common.
fn base() -> Result<Options, StateError> {
    // An unflushed write is one that the log will bring again. Writing it out on the way down would only make a stop
    // slower, and a test of what a crash loses impossible. The wrapper has no setter for it.
    let mut options = Options::default()
        .get_options_from_string("avoid_flush_during_shutdown=true")
        .map_err(|error| from_engine("setting options", &error))?;
    options.set_max_open_files(OPEN_FILES);
    options.set_max_file_opening_threads(BACKGROUND_JOBS);
    Ok(options)
}

fn shared_cache(bytes: usize) -> Cache {
    let mut options = LruCacheOptions::default();
    options.set_capacity(bytes);
    options.set_num_shard_bits(CACHE_SHARD_BITS);
    Cache::new_lru_cache_opts(&options)
}

fn family_options(family: Family, cache: &Cache, memtables: usize) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(BLOCK);
    table.set_bloom_filter(BLOOM_BITS, false);
    // Indexes and filters count against the budget like everything else.
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);

    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    // The write buffer manager decides when to flush: all families together never fill more than `memtables`.
    options.set_write_buffer_size(memtables);
    options.set_max_write_buffer_number(2);
    options.set_arena_block_size(ARENA_BLOCK);
    options.set_target_file_size_base(TABLE_FILE);
    if family == Family::Body {
        options.add_compact_on_deletion_collector_factory(DELETION_WINDOW, DELETION_TRIGGER, 0.0);
    }
    options
}
