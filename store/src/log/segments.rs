//! Segment files: their names, how one is made, retired and used again.
//!
//! A file is called `segment-<generation>` only while its header says so and is synced; before and after that it is
//! called `spare-<number>` and holds nothing. So a segment whose header cannot be read is damage, never a leftover.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::format::{FIRST_BATCH, Seal, SegmentHeader};
use super::index::Catalogue;
use super::{LogConfig, LogError};
use crate::files::{FileError, FileResult, Files, OpenFile};
use crate::reserve::Reserve;

const SEGMENT: &str = "segment-";
const SPARE: &str = "spare-";

/// Smallest and coarsest unit of a segment's length.
pub(super) const SEGMENT_UNIT: u64 = 4096;

pub(super) fn segment_name(generation: u64) -> String {
    format!("{SEGMENT}{generation:016x}")
}

fn spare_name(number: u64) -> String {
    format!("{SPARE}{number:016x}")
}

fn parse(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    // Only the spelling that is written: no sign, no capitals, no other length.
    (format!("{number:016x}") == digits).then_some(number)
}

/// The number in a segment's name.
pub(super) fn parse_segment(name: &str) -> Option<u64> {
    parse(name, SEGMENT)
}

/// The number in a spare's name.
pub(super) fn parse_spare(name: &str) -> Option<u64> {
    parse(name, SPARE)
}

/// A segment in use. Whoever reads from it holds it, and it is not written over before they let go.
pub(super) struct Segment {
    pub(super) file: Arc<dyn OpenFile>,
    pub(super) generation: u64,
    pub(super) length: u64,
    pub(super) seal: Seal,
}

/// What writer and readers share.
#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// By generation.
    pub(super) segments: BTreeMap<u32, Arc<Segment>>,
    pub(super) catalogue: Catalogue,
}

impl Shared {
    pub(super) fn new(state: State) -> Self {
        Self { state: Mutex::new(state) }
    }

    /// Held for a few memory accesses, never over I/O.
    pub(super) fn hold(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes segments, from files that are not needed any more if there are any.
pub(super) struct Pool {
    files: Arc<dyn Files>,
    dir: PathBuf,
    config: LogConfig,
    /// Numbers of spare files that nobody reads.
    spares: Vec<u64>,
    /// Retired segments that somebody may still read; their files have spare names already.
    retired: Vec<Arc<Segment>>,
    pub(super) reserve: Option<Arc<Reserve>>,
    /// Spares ordered and not made yet, or counted from here.
    ordered: u64,
    waiting: bool,
}

/// A file to be made ready for use as a segment, by whoever has the time: [`SpareOrder::make`] takes as long as writing
/// a segment does.
#[derive(Clone)]
pub struct SpareOrder {
    files: Arc<dyn Files>,
    dir: PathBuf,
    number: u64,
    length: u64,
    fill: bool,
}

impl std::fmt::Debug for SpareOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "spare {:x} of {} bytes", self.number, self.length)
    }
}

impl SpareOrder {
    /// Makes the file. If it cannot be had, the log makes its next segment itself, or says why it cannot.
    ///
    /// # Errors
    /// Those of the medium; what was begun is removed.
    pub fn make(&self) -> FileResult<()> {
        allocate(self.files.as_ref(), &self.dir, self.number, self.length, self.fill).map(drop)
    }
}

/// Numbers of ordered spares begin here: no generation comes so far.
const ORDERED: u64 = 1 << 63;
/// Zeros are synced in steps of so many bytes, so that the log's own syncs never wait for a whole segment.
const FILL_STEP: u64 = 1 << 20;
/// See [`fill`].
const FILL_BYTES: usize = 4096;
const _: () = assert!(FILL_BYTES as u64 == SEGMENT_UNIT, "a segment is whole pieces");

impl Pool {
    /// Gives these segments another name in `to`, which whoever ends the image makes durable.
    pub(super) fn link(&self, segments: &[Arc<Segment>], to: &Path) -> FileResult<()> {
        self.files.create_dir(to)?;
        for segment in segments {
            let name = segment_name(segment.generation);
            self.files.link(&self.dir.join(&name), &to.join(&name))?;
        }
        Ok(())
    }

    pub(super) fn new(files: Arc<dyn Files>, dir: PathBuf, config: LogConfig, spares: Vec<u64>) -> Self {
        let ordered =
            spares.iter().copied().filter(|number| *number >= ORDERED).max().map_or(ORDERED, |last| last + 1);
        Self { files, dir, config, spares, retired: Vec::new(), reserve: None, ordered, waiting: false }
    }

    /// A spare worth making now: there is none, and none is being made.
    pub(super) fn order(&mut self) -> Option<SpareOrder> {
        if self.waiting || !self.spares.is_empty() || !self.retired.is_empty() {
            return None;
        }
        self.waiting = true;
        let number = self.ordered;
        self.ordered += 1;
        let (files, dir) = (Arc::clone(&self.files), self.dir.clone());
        Some(SpareOrder { files, dir, number, length: self.config.segment_bytes, fill: self.config.fill })
    }

    /// An order was carried out, or could not be.
    pub(super) fn ordered(&mut self, order: &SpareOrder, made: bool) {
        self.waiting = false;
        if made {
            self.spares.push(order.number);
        }
    }

    /// Makes a segment with room for a batch of `needed` bytes, durably, with its name. On a full disk the reserve is
    /// released, and after that a smaller segment has to do.
    pub(super) fn make(
        &mut self,
        generation: u64,
        needed: u64,
        previous_end: u64,
    ) -> Result<Segment, LogError> {
        self.files.create_dir(&self.dir)?;
        let least = FIRST_BATCH.saturating_add(needed).next_multiple_of(SEGMENT_UNIT);
        let (spare, file, length) = self.find_file(generation, least)?;
        let salt = mix(self.config.salt, generation);
        let header = SegmentHeader { generation, salt, store: self.config.store, length, previous_end };
        file.write_at(0, &header.encode())?;
        file.sync_all()?;
        self.files.rename(&self.dir.join(spare_name(spare)), &self.dir.join(segment_name(generation)))?;
        self.files.sync_dir(&self.dir)?;
        Ok(Segment { file, generation, length, seal: Seal::new(generation, salt) })
    }

    /// A file that holds nothing needed, and its length.
    fn find_file(&mut self, generation: u64, least: u64) -> Result<(u64, Arc<dyn OpenFile>, u64), LogError> {
        let usual = self.config.segment_bytes;
        if least <= usual {
            while let Some(number) = self.take_spare() {
                let path = self.dir.join(spare_name(number));
                let file = self.files.open(&path)?;
                if file.length()? == usual {
                    return Ok((number, file, usual));
                }
                self.files.remove(&path)?;
            }
        }
        let fill = self.config.fill;
        let try_make = |length| allocate(self.files.as_ref(), &self.dir, generation, length, fill);
        let first = match try_make(usual.max(least)) {
            Err(error @ FileError::Full { .. }) => error,
            made => return Ok(made.map(|file| (generation, file, usual.max(least)))?),
        };
        if let Some(reserve) = &self.reserve {
            reserve.release()?;
        }
        for length in [usual, usual / 4, usual / 16, 0] {
            let length = length.max(least).next_multiple_of(SEGMENT_UNIT);
            match try_make(length) {
                Err(FileError::Full { .. }) => {}
                made => return Ok(made.map(|file| (generation, file, length))?),
            }
        }
        Err(first.into())
    }

    fn take_spare(&mut self) -> Option<u64> {
        let unread = self.retired.iter().position(|segment| Arc::strong_count(segment) == 1);
        match unread {
            Some(number) => Some(self.retired.swap_remove(number).generation),
            None => self.spares.pop(),
        }
    }

    /// Takes segments out of use, the oldest first: they become spares, or are removed if there are enough. Each name is
    /// durably gone before the next goes and before any file is used again, so that a crash always leaves the segments
    /// of consecutive generations, and a segment's name never leads to a file that holds something else.
    ///
    /// A file that has another name belongs to an image too, and is never written again: only this name of it goes. The
    /// file system itself remembers that, over every restart.
    pub(super) fn retire(&mut self, segments: Vec<Arc<Segment>>) -> FileResult<()> {
        for segment in segments {
            let path = self.dir.join(segment_name(segment.generation));
            let enough = self.spares.len() + self.retired.len() >= self.config.spares;
            let shared = self.files.links(&path)? > 1;
            if enough || shared || segment.length != self.config.segment_bytes {
                self.files.remove(&path)?;
            } else {
                self.files.rename(&path, &self.dir.join(spare_name(segment.generation)))?;
                self.retired.push(segment);
            }
            self.files.sync_dir(&self.dir)?;
        }
        Ok(())
    }
}

/// A spare file whose every block has been written once: where blocks are only reserved, the first sync over each piece
/// has to write the file system's own records too, which costs many times the sync itself.
fn allocate(
    files: &dyn Files,
    dir: &Path,
    number: u64,
    length: u64,
    fill_it: bool,
) -> FileResult<Arc<dyn OpenFile>> {
    let path = dir.join(spare_name(number));
    let file = match files.create(&path) {
        // Left by an attempt that a crash or a full disk ended.
        Err(FileError::Exists { .. }) => {
            files.remove(&path)?;
            files.create(&path)?
        }
        created => created?,
    };
    let filled =
        file.preallocate(length).and_then(|()| if fill_it { fill(file.as_ref(), length) } else { Ok(()) });
    match filled {
        Ok(()) => Ok(file),
        Err(error) => {
            drop(file);
            files.remove(&path)?;
            Err(error)
        }
    }
}

/// In small writes: the kernel keeps what was written at once together, and would count, and may write, all of it
/// whenever a part of it changes.
fn fill(file: &dyn OpenFile, length: u64) -> FileResult<()> {
    let zeros = [0; FILL_BYTES];
    for offset in (0..length).step_by(FILL_BYTES) {
        file.write_at(offset, &zeros)?;
        let written = offset + SEGMENT_UNIT;
        if written.is_multiple_of(FILL_STEP) || written >= length {
            file.sync()?;
        }
    }
    Ok(())
}

/// A salt for each generation from one for the process (splitmix64).
fn mix(salt: u64, generation: u64) -> u64 {
    let mut mixed = salt.wrapping_add(generation.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_that_are_written_are_read() {
        assert_eq!(parse_segment(&segment_name(0xab)), Some(0xab));
        assert_eq!(parse_spare(&spare_name(u64::MAX)), Some(u64::MAX));
        for name in
            ["segment-", "segment-ab", "segment-00000000000000AB", "segment-+0000000000000ab", "spare-x"]
        {
            assert_eq!((parse_segment(name), parse_spare(name)), (None, None), "{name}");
        }
    }
}
