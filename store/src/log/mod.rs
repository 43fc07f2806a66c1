//! The replicated log of all groups: one stream of batches in preallocated, recycled segment files.
//!
//! [`LogWriter`] appends and syncs on one thread; [`LogReader`]s read from any. A batch is found whole after a crash or
//! not at all; what was synced and cannot be read is damage, never a torn tail. Formats are in
//! `docs/internals/disk.md`.

mod format;
mod image;
mod index;
mod reader;
mod recovery;
mod segments;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

pub use self::format::LOG_FORMAT;
pub(crate) use self::image::copy_file;
pub use self::image::{LogTail, link_closed};
pub use self::reader::LogReader;
use self::recovery::Replay;
use self::segments::{Pool, SEGMENT_UNIT, Shared, State};
pub use self::segments::{SpareOrder, Surplus};
pub use self::writer::LogWriter;
use self::writer::Resume;
use crate::files::{FileError, Files};
use crate::ids::{Epoch, GroupId, Index, StoreId, Term};
use crate::record::HardState;

/// The log's directory in the store's.
pub const LOG_DIRECTORY: &str = "log";
/// Largest data of one entry, in bytes.
pub const MAX_ENTRY_BYTES: usize = 128 << 20;
/// Largest sum of what is appended with one call, in bytes.
pub const MAX_BATCH_BYTES: usize = 1 << 30;
/// Longest segment file: room for the largest batch, and for a base of very many groups.
const MAX_SEGMENT_BYTES: u64 = 2 << 30;

const _: () = assert!(MAX_ENTRY_BYTES < MAX_BATCH_BYTES);
const _: () = assert!((MAX_BATCH_BYTES as u64) < MAX_SEGMENT_BYTES);
// Places in a segment are kept as 32-bit numbers.
const _: () = assert!(MAX_SEGMENT_BYTES <= u32::MAX as u64);

/// How a log is kept.
#[derive(Clone, Copy, Debug)]
pub struct LogConfig {
    /// Whose log it is; segments of another store are damage.
    pub store: StoreId,
    /// Random, fresh for each process, told to nobody: see [`LogConfig::new`].
    pub salt: u64,
    /// Length of a segment file in bytes; rounded up to 4 KiB. A batch that is larger gets a segment of its own size.
    pub segment_bytes: u64,
    /// Above this many bytes of segments the oldest is due to retire.
    pub log_retain: u64,
    /// Above this many bytes of segments the oldest may retire early, if nothing in it is alive: a file that was
    /// written before is written again much faster than a new one.
    pub log_keep: u64,
    /// Keep the files of retired segments for use again, as long as they and the segments in use take no more than
    /// `log_retain` and two segments: a file that was written before needs no filling. Not for memory.
    pub reuse: bool,
    /// Write every block of a new file once before it is used, so that no sync has to do it; not for memory. A segment
    /// that is wanted at once and finds no file ready is not waited for: it is left, for a ready one, as soon as there is
    /// one, and not used again.
    pub fill: bool,
}

impl LogConfig {
    /// The usual sizes. The salt goes into every checksum of the segments that this process makes, so that nobody can
    /// publish a message that looks like a piece of the log.
    pub fn new(store: StoreId, salt: u64) -> Self {
        Self {
            store,
            salt,
            segment_bytes: 64 << 20,
            log_retain: 4 << 30,
            log_keep: 256 << 20,
            reuse: true,
            fill: true,
        }
    }

    fn rounded(mut self) -> Self {
        let most = MAX_SEGMENT_BYTES / 2;
        self.segment_bytes = self.segment_bytes.clamp(4 * SEGMENT_UNIT, most).next_multiple_of(SEGMENT_UNIT);
        self
    }
}

/// Opens a log. An empty or missing directory is an empty log, unless the stamp's synced point says otherwise. Nothing
/// new is written: the tail that was found is written again as it is and synced, since it may have been read from a
/// cache that never reached the medium, and what cannot be proved durable must not be built upon.
///
/// # Errors
/// [`LogError::Damaged`] if something that was, or may have been, acknowledged is not readable; [`LogError::OtherFormat`];
/// [`LogError::File`].
pub fn open(
    files: Arc<dyn Files>,
    dir: &Path,
    config: LogConfig,
    stamp_synced: Option<SyncedPoint>,
) -> Result<(LogWriter, LogReader, Recovered), LogError> {
    let config = config.rounded();
    let mut replay = Replay::run(files.as_ref(), dir, config.store, stamp_synced, true)?;
    replay.settle(files.as_ref(), dir)?;
    let recovered = recovered(&replay);
    let Replay { segments, catalogue, spares, end, sequence, crc, beyond, .. } = replay;
    let current = segments.values().next_back().cloned();
    let shared = Arc::new(Shared::new(State { segments, catalogue }));
    let pool = Pool::new(files, dir.to_path_buf(), config, spares);
    let resume = Resume { current, end, sequence, crc, beyond };
    let writer = LogWriter::new(Arc::clone(&shared), pool, config, resume);
    Ok((writer, LogReader::new(shared), recovered))
}

/// Looks at a log without any write, for tools; readable without permission to write.
///
/// # Errors
/// As [`open`].
pub fn inspect(
    files: &dyn Files,
    dir: &Path,
    store: StoreId,
    stamp_synced: Option<SyncedPoint>,
) -> Result<(LogReader, Recovered), LogError> {
    let replay = Replay::run(files, dir, store, stamp_synced, false)?;
    let recovered = recovered(&replay);
    let Replay { segments, catalogue, .. } = replay;
    Ok((LogReader::new(Arc::new(Shared::new(State { segments, catalogue }))), recovered))
}

/// Makes everything of a log durable that nobody has open: what is read of it may be in the system's cache alone, after the
/// process that wrote it was killed. Whoever writes down elsewhere where it ends calls this first.
///
/// # Errors
/// The disk failed.
pub fn sync_closed(files: &dyn Files, dir: &Path) -> Result<(), FileError> {
    for name in files.list(dir)?.iter().filter(|name| is_segment_name(name)) {
        files.open(&dir.join(name))?.sync_all()?;
    }
    files.sync_dir(dir)
}

fn recovered(replay: &Replay) -> Recovered {
    Recovered {
        groups: replay.catalogue.recovered(),
        torn: replay.torn,
        log_bytes: replay.segments.values().map(|segment| segment.length).sum(),
        end: replay.end,
    }
}

/// Whether a file in the log's directory is, by its name, a segment in use.
pub fn is_segment_name(name: &str) -> bool {
    segments::parse_segment(name).is_some()
}

/// What [`open`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Each group, by id.
    pub groups: Vec<RecoveredGroup>,
    /// What was cut off, to be reported.
    pub torn: Option<TornTail>,
    /// Bytes of the segment files.
    pub log_bytes: u64,
    /// Where the last whole batch ends.
    pub end: SyncedPoint,
}

/// Batches that were being written when the process or the power ended: never synced, and not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// In which segment.
    pub generation: u64,
    /// Where it begins.
    pub offset: u64,
    /// How long it was to be.
    pub bytes: u64,
    /// What is wrong with it.
    pub what: &'static str,
}

impl fmt::Display for TornTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, offset, bytes, what } = self;
        write!(f, "cut a torn batch of {bytes} bytes at {generation}+{offset}: {what}")
    }
}

/// Why the log could not do what was asked.
#[derive(Debug, Error)]
pub enum LogError {
    /// What was written is not what is there. The node must not vote until it is refilled from its peers.
    #[error("the log is damaged in segment {generation} at byte {offset}: {what}")]
    Damaged {
        /// The segment.
        generation: u64,
        /// Bytes from its beginning.
        offset: u64,
        /// What was found.
        what: String,
    },
    /// Written by another version of this software: start that one.
    #[error("the log has format {found}, this version reads {supported}: use the version that wrote it")]
    OtherFormat {
        /// The log's format.
        found: u32,
        /// The one that is understood here.
        supported: u32,
    },
    /// The entry has left the log: take a snapshot instead.
    #[error("entry {index} of group {group} was compacted")]
    Compacted {
        /// Which group.
        group: GroupId,
        /// Which entry.
        index: Index,
    },
    /// The log has nothing of this group.
    #[error("group {group} is not in the log")]
    UnknownGroup {
        /// Which group.
        group: GroupId,
    },
    /// Refused before anything was written.
    #[error("{bytes} bytes are more than the log takes at once ({limit})")]
    TooLarge {
        /// How many.
        bytes: u64,
        /// How many there may be.
        limit: u64,
    },
    /// An earlier write or sync failed, and what the medium holds is not known: the process must end.
    #[error("the log is not written any more: {0}")]
    Stopped(String),
    /// The disk failed, or is full.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A place in the log: everything before it was synced. Compared generation first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyncedPoint {
    /// The segment's generation; 0 is before the first segment.
    pub generation: u64,
    /// Bytes from the beginning of the segment file.
    pub offset: u64,
}

impl fmt::Display for SyncedPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.generation, self.offset)
    }
}

/// One group's log as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredGroup {
    /// Which.
    pub group: GroupId,
    /// The last hard state.
    pub hard_state: HardState,
    /// The first index whose entry is in the log; one more than `last` if the log is empty.
    pub first: Index,
    /// The last index, or the place of the last reset.
    pub last: Index,
    /// `(first index, term)` of each run of entries of one term, ascending; starts at `first - 1` (the compaction or
    /// reset point) if its term is known.
    pub terms: Vec<(Index, Term)>,
    /// The last epoch written.
    pub epoch: Epoch,
}
