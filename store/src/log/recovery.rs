//! Reading the log at a start: what is whole, what is a torn tail, what is damage.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::format::{
    ALIGNMENT, BatchFault, FIRST_BATCH, FoundBatch, HeaderFault, LOG_FORMAT, Seal, SegmentHeader, read_batch,
};
use super::index::Catalogue;
use super::segments::{SEGMENT_UNIT, Segment, parse_segment, parse_spare, segment_name};
use super::writer::segment_number;
use super::{LogError, MAX_SEGMENT_BYTES, SyncedPoint, TornTail};
use crate::files::{FileError, Files, OpenFile};
use crate::ids::StoreId;

/// What the log's directory holds.
pub(super) struct Replay {
    pub(super) segments: BTreeMap<u32, Arc<Segment>>,
    pub(super) catalogue: Catalogue,
    pub(super) spares: Vec<u64>,
    /// Where the last whole batch ends.
    pub(super) end: SyncedPoint,
    pub(super) sequence: u64,
    pub(super) crc: u32,
    pub(super) torn: Option<TornTail>,
    /// Everything before this is known to be synced: something durable says so.
    proven: SyncedPoint,
    /// Where the last whole batch behind the torn tail ends: nothing of it counts.
    pub(super) beyond: Option<u64>,
    /// The last segment's bytes, for making its tail durable again.
    last_bytes: Vec<u8>,
}

/// A segment file, its header read.
struct Found {
    file: Arc<dyn OpenFile>,
    header: SegmentHeader,
}

fn damaged(generation: u64, offset: u64, what: impl Into<String>) -> LogError {
    LogError::Damaged { generation, offset, what: what.into() }
}

/// A medium that fails to read has lost what was there.
fn unreadable(generation: u64, offset: u64) -> impl Fn(FileError) -> LogError {
    move |error| damaged(generation, offset, error.to_string())
}

impl Replay {
    /// Reads everything; writes nothing.
    pub(super) fn run(
        files: &dyn Files,
        dir: &Path,
        store: StoreId,
        stamp: Option<SyncedPoint>,
        writable: bool,
    ) -> Result<Self, LogError> {
        let stamp = stamp.unwrap_or_default();
        let names = match files.list(dir) {
            Err(FileError::NotFound { .. }) => Vec::new(),
            names => names?,
        };
        let mut found = BTreeMap::new();
        for generation in names.iter().filter_map(|name| parse_segment(name)) {
            found.insert(generation, open_segment(files, dir, store, generation, writable)?);
        }
        let mut replay = Self {
            segments: BTreeMap::new(),
            catalogue: Catalogue::default(),
            spares: names.iter().filter_map(|name| parse_spare(name)).collect(),
            end: SyncedPoint::default(),
            sequence: 0,
            crc: 0,
            torn: None,
            proven: stamp,
            beyond: None,
            last_bytes: Vec::new(),
        };
        let ends: Vec<Option<(u64, u64)>> = found
            .values()
            .skip(1)
            .map(|next| Some((next.header.generation, next.header.previous_end)))
            .chain([None])
            .collect();
        for (segment, next) in found.into_values().zip(ends) {
            replay.read_segment(segment, next)?;
        }
        if stamp > replay.end {
            let what =
                format!("the stamp says that the log was synced up to {stamp}, it ends at {}", replay.end);
            return Err(damaged(replay.end.generation, replay.end.offset, what));
        }
        if let Some(group) = replay.catalogue.hole() {
            let what = format!("entries of group {group} are missing, with the segment that held them");
            return Err(damaged(replay.end.generation, replay.end.offset, what));
        }
        Ok(replay)
    }

    /// `next` is the next segment's generation, and where it says that this one ends.
    fn read_segment(&mut self, found: Found, next: Option<(u64, u64)>) -> Result<(), LogError> {
        let Found { file, header } = found;
        let SegmentHeader { generation, length, .. } = header;
        if self.end.generation != 0 && generation != self.end.generation + 1 {
            return Err(damaged(self.end.generation + 1, 0, "the segment is missing"));
        }
        if let Some((next, _)) = next
            && next != generation + 1
        {
            return Err(damaged(generation + 1, 0, "the segment is missing"));
        }
        let seal = Seal::new(generation, header.salt);
        let number = segment_number(generation)?;
        let mut bytes = std::mem::take(&mut self.last_bytes);
        let room = usize::try_from(length).map_err(|_| damaged(generation, 0, "the segment is too long"))?;
        bytes.resize(room, 0);
        file.read_at(0, &mut bytes).map_err(unreadable(generation, 0))?;
        self.end = SyncedPoint { generation, offset: FIRST_BATCH };
        let must_end = next.map(|(_, end)| end);
        loop {
            let offset = self.end.offset;
            if must_end == Some(offset) {
                break;
            }
            match read_batch(&seal, &bytes, offset, number) {
                Ok(batch) => self.take(&batch)?,
                Err(fault) if must_end.is_none() => {
                    self.judge_end(&fault, &seal, &bytes, number)?;
                    break;
                }
                Err(BatchFault::Torn { what, .. }) => return Err(damaged(generation, offset, what)),
                Err(BatchFault::Nothing) => return Err(damaged(generation, offset, "a batch is missing")),
            }
        }
        if next.is_some() {
            self.proven = self.proven.max(self.end);
        }
        self.last_bytes = bytes;
        self.segments.insert(number, Arc::new(Segment { file, generation, length, seal, filled: true }));
        Ok(())
    }

    fn take(&mut self, batch: &FoundBatch) -> Result<(), LogError> {
        let here = self.end;
        let wrong = |what: String| damaged(here.generation, here.offset, what);
        // Nothing is known before the first batch that is left.
        if self.sequence != 0 && (batch.sequence != self.sequence + 1 || batch.previous != self.crc) {
            return Err(wrong(format!("batch {} does not follow batch {}", batch.sequence, self.sequence)));
        }
        if batch.synced > here || batch.sequence == 0 || batch.sequence == u64::MAX {
            return Err(wrong(format!("batch {} cannot be at this place", batch.sequence)));
        }
        for effect in &batch.effects {
            self.catalogue.apply(effect).map_err(wrong)?;
        }
        self.proven = self.proven.max(batch.synced);
        self.sequence = batch.sequence;
        self.crc = batch.crc;
        self.end.offset = batch.end;
        Ok(())
    }

    /// There is no whole batch at the end of the last segment: the end of the log, a torn tail, or damage.
    ///
    /// A tail is torn only if it was never synced: the stamp does not say that it was, which is asked once the end is
    /// known, and no whole batch of this generation that comes after it does. One that comes after it and was written
    /// before a sync of it shows a loss of power among batches that none had been synced: all of them are the tail.
    fn judge_end(
        &mut self,
        fault: &BatchFault,
        seal: &Seal,
        bytes: &[u8],
        number: u32,
    ) -> Result<(), LogError> {
        let SyncedPoint { generation, offset } = self.end;
        let step = ALIGNMENT as u64;
        let mut later = offset.saturating_add(step);
        while later < bytes.len() as u64 {
            if let Ok(batch) = read_batch(seal, bytes, later, number) {
                if batch.synced > self.end {
                    let what = format!("a batch is not whole, and one at {later} was written after its sync");
                    return Err(damaged(generation, offset, what));
                }
                self.beyond = Some(batch.end);
            }
            later = later.saturating_add(step);
        }
        if let Some(end) = self.beyond {
            let what = "nothing from here on was synced";
            self.torn = Some(TornTail { generation, offset, bytes: end.saturating_sub(offset), what });
            return Ok(());
        }
        if let BatchFault::Torn { length, what } = *fault {
            self.torn = Some(TornTail { generation, offset, bytes: length, what });
        }
        Ok(())
    }

    /// Makes what was read durable: it may have come from a cache whose write-back failed, or never happened. The
    /// bytes that nothing proves to be synced are written again as they are, and synced, and so are the names.
    pub(super) fn settle(&mut self, files: &dyn Files, dir: &Path) -> Result<(), LogError> {
        let bytes = std::mem::take(&mut self.last_bytes);
        let Some(segment) = self.segments.last_entry() else { return Ok(()) };
        files.sync_dir(dir)?;
        let start = if self.proven.generation == self.end.generation { self.proven.offset } else { 0 };
        let range = usize::try_from(start).ok().zip(usize::try_from(self.end.offset).ok());
        let Some(tail) = range.and_then(|(start, end)| bytes.get(start..end)) else { return Ok(()) };
        if !tail.is_empty() {
            segment.get().file.write_at(start, tail)?;
        }
        Ok(segment.get().file.sync()?)
    }
}

fn open_segment(
    files: &dyn Files,
    dir: &Path,
    store: StoreId,
    generation: u64,
    writable: bool,
) -> Result<Found, LogError> {
    let path = dir.join(segment_name(generation));
    let file = if writable { files.open(&path)? } else { files.open_read_only(&path)? };
    let length = file.length()?;
    if !(FIRST_BATCH..=MAX_SEGMENT_BYTES).contains(&length) || !length.is_multiple_of(SEGMENT_UNIT) {
        return Err(damaged(generation, 0, format!("a segment cannot have {length} bytes")));
    }
    let mut page = vec![0; ALIGNMENT];
    file.read_at(0, &mut page).map_err(unreadable(generation, 0))?;
    let header = SegmentHeader::decode(&page).map_err(|fault| match fault {
        HeaderFault::Damaged(what) => damaged(generation, 0, what),
        HeaderFault::OtherFormat(found) => LogError::OtherFormat { found, supported: LOG_FORMAT },
    })?;
    if header.generation != generation {
        return Err(damaged(generation, 0, format!("it is segment {} by its header", header.generation)));
    }
    if header.length != length {
        let what = format!("the segment has {length} bytes, {} by its header", header.length);
        return Err(damaged(generation, 0, what));
    }
    if header.store != store {
        return Err(damaged(generation, 0, format!("it belongs to store {}", header.store)));
    }
    Ok(Found { file, header })
}
