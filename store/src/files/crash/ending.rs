//! The states that a loss of power may leave, one by one.

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::journal::Step;
use super::{CrashFiles, hold};

/// What a loss of power leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All of it.
    Everything,
    /// Nothing of it.
    OnlySynced,
    /// Whatever this seed decides, as [`CrashFiles::crash`] does.
    Drawn(u64),
    /// Of the last write the first so many bytes. Of everything before it: all, or nothing.
    Torn {
        /// Bytes of the last write that arrived.
        kept: usize,
        /// Nothing else that was not synced arrived.
        alone: bool,
    },
    /// All bytes, and no name that was not made durable.
    NamesLost,
    /// All names, and no byte that was not synced: a rename before its data.
    NamesFirst,
}

impl CrashFiles {
    /// Power is lost and comes back, with this left. Open files and locks are gone.
    ///
    /// [`Ending::Torn`] needs the last operation, which is to be a write that is not synced.
    pub fn end(&self, ending: Ending) {
        let mut disk = hold(&self.disk);
        if let Ending::Drawn(seed) = ending {
            drop(disk);
            self.crash(seed);
            return;
        }
        disk.restart();
        let last = disk.last_write.take();
        let keeps_names = !matches!(ending, Ending::OnlySynced | Ending::NamesLost)
            && !matches!(ending, Ending::Torn { alone: true, .. });
        // With all names or with none there is nothing to draw.
        disk.names.settle(keeps_names);
        let keeps_bytes =
            matches!(ending, Ending::Everything | Ending::NamesLost | Ending::Torn { alone: false, .. });
        for (number, content) in &mut disk.files {
            match ending {
                Ending::Torn { kept, .. } if last == Some(*number) => content.tear(kept, keeps_bytes),
                _ => content.settle(keeps_bytes),
            }
        }
        disk.forget_nameless();
    }

    /// Whether anything is not durable.
    pub fn has_unsynced(&self) -> bool {
        let disk = hold(&self.disk);
        disk.names.is_pending() || disk.files.values().any(|content| !content.pending.is_empty())
    }

    /// A number for what is on the disk: every name, and every file's bytes.
    pub fn digest(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let disk = hold(&self.disk);
        let mut hasher = DefaultHasher::new();
        let mut found = Vec::new();
        disk.names.walk(super::ROOT, std::path::Path::new("/"), &mut found);
        for (path, file) in found {
            let bytes: &[u8] = &disk.files[&file].now;
            (path, file, bytes.len(), crc32fast::hash(bytes)).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// From now on every changing operation is noted.
    pub fn record(&self) {
        hold(&self.disk).journal = Some(Vec::new());
    }

    /// How many operations were noted so far.
    pub fn recorded(&self) -> usize {
        hold(&self.disk).journal.as_ref().map_or(0, Vec::len)
    }

    /// What was noted; nothing more is.
    pub fn take_record(&self) -> Vec<super::FileOperation> {
        hold(&self.disk).journal.take().unwrap_or_default()
    }

    /// Does again what was done to another disk, which was as this one is when it was noted.
    pub fn replay(&self, operation: &super::FileOperation) {
        let mut disk = hold(&self.disk);
        disk.operations += 1;
        disk.last_write = if let Step::Write(file, ..) = operation.step { Some(file) } else { None };
        disk.take(&operation.step);
    }
}

/// What a seed decides.
pub(super) fn dice(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}
