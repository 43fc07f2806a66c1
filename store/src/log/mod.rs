//! The replicated log of all groups: one stream of batches in preallocated, recycled segment files.
//!
//! [`LogWriter`] appends and syncs on one thread; [`LogReader`]s read from any. A batch is found whole after a crash or
//! not at all; what was synced and cannot be read is damage, never a torn tail. Formats are in
//! `docs/internals/disk.md`.

use std::fmt;

use crate::ids::{Epoch, GroupId, Index, Term};
use crate::record::HardState;

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
