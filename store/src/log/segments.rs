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
    /// Every block was written before, as far as is known.
    pub(super) filled: bool,
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
    /// Not wanted any more; their files have spare names too.
    surplus: Vec<Arc<Segment>>,
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

/// Files that the log needs no more, to be removed by whoever has the time: to free the blocks of a segment takes the
/// file system longer than a sync.
pub struct Surplus {
    files: Arc<dyn Files>,
    dir: PathBuf,
    numbers: Vec<u64>,
    bytes: u64,
    /// Held open until their names are gone: the last to close a file frees it.
    held: Vec<Arc<Segment>>,
}

impl std::fmt::Debug for Surplus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "spares {:x?}", self.numbers)
    }
}

impl Surplus {
    /// Bytes that come back.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Removes them. A crash before the end leaves spares, which the next run uses or removes.
    ///
    /// # Errors
    /// The first of those of the medium; the others are removed all the same.
    pub fn remove(self) -> FileResult<()> {
        let mut result = Ok(());
        for number in &self.numbers {
            result = result.and(self.files.remove(&self.dir.join(spare_name(*number))));
        }
        drop(self.held);
        result
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
        Self {
            files,
            dir,
            config,
            spares,
            retired: Vec::new(),
            surplus: Vec::new(),
            reserve: None,
            ordered,
            waiting: false,
        }
    }

    /// Whether the next segment needs no new file.
    pub(super) fn has_spare(&self) -> bool {
        !self.spares.is_empty() || self.retired.iter().any(|segment| Arc::strong_count(segment) == 1)
    }

    /// Keeps no more files than the configuration allows beside segments of `used` bytes; none if there is no room.
    /// The rest is what the result removes.
    pub(super) fn surplus(&mut self, used: u64, no_room: bool) -> Option<Surplus> {
        let most = self.config.log_retain.saturating_add(2 * self.config.segment_bytes).saturating_sub(used);
        // One that was made ahead of need stays in any case but that of a full disk.
        let keep = if no_room { 0 } else { (most / self.config.segment_bytes).max(1) };
        let keep = usize::try_from(keep).unwrap_or(usize::MAX);
        let mut numbers = Vec::new();
        while self.spares.len() + self.retired.len() > keep {
            match self.retired.pop() {
                Some(segment) => self.surplus.push(segment),
                None => numbers.extend(self.spares.pop()),
            }
        }
        let held = std::mem::take(&mut self.surplus);
        let lengths = numbers.iter().map(|_| self.config.segment_bytes);
        let bytes = lengths.chain(held.iter().map(|segment| segment.length)).sum();
        numbers.extend(held.iter().map(|segment| segment.generation));
        let (files, dir) = (Arc::clone(&self.files), self.dir.clone());
        (!numbers.is_empty()).then_some(Surplus { files, dir, numbers, bytes, held })
    }

    /// A spare worth making now: there is none, and none is being made.
    pub(super) fn order(&mut self) -> Option<SpareOrder> {
        if self.waiting || self.has_spare() {
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

    /// Makes a segment with room for a batch of `needed` bytes, durably, with its name. `fill` says whether there is
    /// time to fill a new file. On a full disk the reserve is released, and after that a smaller segment has to do.
    pub(super) fn make(
        &mut self,
        generation: u64,
        needed: u64,
        previous_end: u64,
        fill: bool,
    ) -> Result<Segment, LogError> {
        self.files.create_dir(&self.dir)?;
        let least = FIRST_BATCH.saturating_add(needed).next_multiple_of(SEGMENT_UNIT);
        let fill = fill && self.config.fill;
        let Made { number: spare, file, length, filled } = self.find_file(generation, least, fill)?;
        let salt = mix(self.config.salt, generation);
        let header = SegmentHeader { generation, salt, store: self.config.store, length, previous_end };
        file.write_at(0, &header.encode())?;
        file.sync_all()?;
        self.files.rename(&self.dir.join(spare_name(spare)), &self.dir.join(segment_name(generation)))?;
        self.files.sync_dir(&self.dir)?;
        Ok(Segment { file, generation, length, seal: Seal::new(generation, salt), filled })
    }

    /// A file that holds nothing needed.
    fn find_file(&mut self, generation: u64, least: u64, fill_it: bool) -> Result<Made, LogError> {
        let usual = self.config.segment_bytes;
        if least <= usual {
            while let Some(number) = self.take_spare() {
                let path = self.dir.join(spare_name(number));
                let file = self.files.open(&path)?;
                if file.length()? == usual {
                    return Ok(Made { number, file, length: usual, filled: true });
                }
                self.files.remove(&path)?;
            }
        }
        let try_make = |length| {
            let file = allocate(self.files.as_ref(), &self.dir, generation, length, fill_it)?;
            Ok(Made { number: generation, file, length, filled: fill_it || !self.config.fill })
        };
        let first = match try_make(usual.max(least)) {
            Err(error @ FileError::Full { .. }) => error,
            made => return Ok(made?),
        };
        if let Some(reserve) = &self.reserve {
            reserve.release()?;
        }
        for length in [usual, usual / 4, usual / 16, 0] {
            let length = length.max(least).next_multiple_of(SEGMENT_UNIT);
            match try_make(length) {
                Err(FileError::Full { .. }) => {}
                made => return Ok(made?),
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

    /// Takes segments out of use, the oldest first: they become spares, or are removed at once. Each name is
    /// durably gone before the next goes and before any file is used again, so that a crash always leaves the segments
    /// of consecutive generations, and a segment's name never leads to a file that holds something else.
    ///
    /// A file that has another name belongs to an image too, and is never written again: only this name of it goes. The
    /// file system itself remembers that, over every restart.
    pub(super) fn retire(&mut self, segments: Vec<Arc<Segment>>) -> FileResult<()> {
        for segment in segments {
            let path = self.dir.join(segment_name(segment.generation));
            let shared = self.files.links(&path)? > 1;
            if shared || !self.config.reuse {
                self.files.remove(&path)?;
            } else {
                self.files.rename(&path, &self.dir.join(spare_name(segment.generation)))?;
                let useful = segment.length == self.config.segment_bytes && segment.filled;
                if useful { &mut self.retired } else { &mut self.surplus }.push(segment);
            }
            self.files.sync_dir(&self.dir)?;
        }
        Ok(())
    }
}

/// A file for a segment, under a spare's name.
struct Made {
    number: u64,
    file: Arc<dyn OpenFile>,
    length: u64,
    filled: bool,
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
