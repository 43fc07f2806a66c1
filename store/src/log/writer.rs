//! Appending: one write a round, one sync a round, for all groups.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::format::{ALIGNMENT, BATCH_FRAME, BatchBuilder, BatchBytes, FIRST_BATCH, RECORD_HEADER};
use super::image::LogTail;
use super::index::{Bounds, Effect, step};
use super::segments::{Pool, SEGMENT_UNIT, Segment, Shared, SpareOrder, Surplus};
use super::{LogConfig, LogError, MAX_BATCH_BYTES, SyncedPoint};
use crate::ids::{GroupId, Index};
use crate::record::{Batch, Record};
use crate::reserve::Reserve;

/// The write buffer is not kept larger than this between rounds.
const BUFFER_BYTES: usize = 1 << 20;
/// Batches up to this many bytes feel every sync; larger ones are worth a file that is not filled.
const SMALL_BATCH: u64 = 64 << 10;
/// Room for a group's record at the beginning of a segment.
const BASE_BYTES: u64 = RECORD_HEADER as u64 + 40;

/// The one writer of the log. Any failed write or sync ends it: what the medium holds is not known after that, so every
/// later call fails too, and the process must stop.
pub struct LogWriter {
    shared: Arc<Shared>,
    pool: Pool,
    config: LogConfig,
    current: Option<Arc<Segment>>,
    /// Where the next batch goes.
    end: SyncedPoint,
    synced: SyncedPoint,
    /// Of the last batch.
    sequence: u64,
    crc: u32,
    /// Up to here, behind the end of the log, are whole batches that count for nothing.
    beyond: Option<u64>,
    compactions: BTreeMap<GroupId, Index>,
    /// Something happened after which old segments may be needed no more.
    retire: bool,
    reported: u64,
    reported_idle: u64,
    buffer: BatchBytes,
    stopped: Option<String>,
}

/// Where recovery left off.
pub(super) struct Resume {
    pub(super) current: Option<Arc<Segment>>,
    pub(super) end: SyncedPoint,
    pub(super) sequence: u64,
    pub(super) crc: u32,
    pub(super) beyond: Option<u64>,
}

impl LogWriter {
    pub(super) fn new(shared: Arc<Shared>, pool: Pool, config: LogConfig, resume: Resume) -> Self {
        let Resume { current, end, sequence, crc, beyond } = resume;
        Self {
            shared,
            pool,
            config,
            current,
            end,
            synced: end,
            sequence,
            crc,
            beyond,
            compactions: BTreeMap::new(),
            retire: true,
            reported: 0,
            reported_idle: 0,
            buffer: BatchBytes::default(),
            stopped: None,
        }
    }

    /// Lets the log give up this reserve when the disk is full and a new segment is needed.
    pub fn use_reserve(&mut self, reserve: Arc<Reserve>) {
        self.pool.reserve = Some(reserve);
    }

    /// Appends batches with one contiguous write. They become durable, all of them together, with the next
    /// [`LogWriter::sync`]; until then a crash keeps all of this call or nothing of it. Compactions asked for since the
    /// last call go along, even if there are no batches.
    ///
    /// Should power be lost while several calls are unsynced, the medium may keep any of them; the log ends before the first
    /// that is gone.
    ///
    /// # Errors
    /// [`LogError::TooLarge`] before anything is written. After any other the writer is stopped.
    pub fn append(&mut self, batches: &[&Batch]) -> Result<(), LogError> {
        self.check_stopped()?;
        let needed = size_of(batches)?;
        let compactions = self.take_compactions();
        if compactions.is_empty() && batches.iter().all(|batch| batch.records.is_empty()) {
            return Ok(());
        }
        if self.sequence >= u64::MAX - 1 {
            // Only a forged log comes this far, and no reader takes the last number.
            return Err(LogError::Stopped("there is no number for another batch".to_owned()));
        }
        let result = self.wipe_beyond().and_then(|()| self.try_append(batches, &compactions, needed));
        self.stop_on(result)
    }

    /// Makes everything appended durable; afterwards segments that no group needs are retired.
    ///
    /// # Errors
    /// After any the writer is stopped: a failed sync is never tried again.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.check_stopped()?;
        let result = self.try_sync().and_then(|()| self.try_retire());
        self.stop_on(result)
    }

    /// Begins an image of the log as it is now, synced, in a directory made if missing, on the log's file system and
    /// without a segment in it. Every segment but the current one is linked there, and from then on unlinked rather
    /// than used again when it retires; the current one is to be copied by [`LogTail::copy`], which any thread may do
    /// while this one goes on. A log without a segment gives an image without one.
    ///
    /// # Errors
    /// [`LogError::File`] if the image could not be made; the log goes on. A failed sync stops the writer, as always:
    /// see [`LogWriter::sync`].
    pub fn link_into(&mut self, dir: &Path) -> Result<LogTail, LogError> {
        self.check_stopped()?;
        let synced = self.try_sync();
        self.stop_on(synced)?;
        let mut sealed: Vec<_> = self.shared.hold().segments.values().cloned().collect();
        let current = sealed.pop();
        self.pool.link(&sealed, dir)?;
        Ok(LogTail { segment: current, end: self.end })
    }

    /// Everything of this group up to and including `index` may leave the log. Takes effect with the next append, and
    /// frees segments after the sync that follows. Ignored if nothing is there.
    pub fn compact(&mut self, group: GroupId, index: Index) {
        let known = self.shared.hold().catalogue.groups.get(&group).map(super::index::GroupLog::bounds);
        let Some(bounds) = known else { return };
        assert!(index <= bounds.last, "group {group} ends at {}, compaction up to {index}", bounds.last);
        if index > bounds.compacted {
            let asked = self.compactions.entry(group).or_insert(index);
            *asked = index.max(*asked);
        }
    }

    /// A file worth making ready for the next segment, by another thread; tell [`LogWriter::spare_made`] of its end.
    pub fn order_spare(&mut self) -> Option<SpareOrder> {
        // The first segment is made by the first append: before it, nothing may be written.
        self.current.as_ref()?;
        self.pool.order()
    }

    /// An order was carried out, or could not be.
    pub fn spare_made(&mut self, order: &SpareOrder, made: bool) {
        self.pool.ordered(order, made);
    }

    /// Files that are worth removing, by another thread: those beyond what may be kept, all of them if the disk has
    /// `no_room`.
    pub fn surplus(&mut self, no_room: bool) -> Option<Surplus> {
        let used = self.log_bytes();
        self.pool.surplus(used, no_room)
    }

    /// Whether records of `bytes` bytes, about, fit the current segment without making another.
    pub fn has_room(&self, bytes: u64) -> bool {
        let needed = bytes.saturating_add(SMALL_BATCH);
        let fits = |current: &Arc<Segment>| {
            self.end.offset.saturating_add(needed) <= current.length
                && (current.filled || !self.pool.has_spare())
        };
        self.end.offset > FIRST_BATCH && self.current.as_ref().is_some_and(fits)
    }

    /// Whether a compaction waits for the next append; an empty one will do.
    pub fn compaction_waits(&self) -> bool {
        !self.compactions.is_empty()
    }

    /// If the log is larger than it should be: for each group with entries in the oldest segment, the highest index
    /// there. Said once for each segment.
    pub fn segment_due(&mut self) -> Option<Vec<(GroupId, Index)>> {
        let (generation, due) = self.oldest_above(self.config.log_retain, self.reported)?;
        self.reported = generation;
        Some(due)
    }

    /// If the log is larger than it needs to be: the same, for a segment that may go if nothing in it is alive. Said
    /// once for each segment.
    pub fn segment_idle(&mut self) -> Option<Vec<(GroupId, Index)>> {
        let (generation, idle) = self.oldest_above(self.config.log_keep, self.reported_idle)?;
        self.reported_idle = generation;
        Some(idle)
    }

    fn oldest_above(&self, bytes: u64, reported: u64) -> Option<(u64, Vec<(GroupId, Index)>)> {
        if self.log_bytes() <= bytes {
            return None;
        }
        let state = self.shared.hold();
        let (&oldest, segment) = state.segments.first_key_value()?;
        if state.segments.len() < 2 || segment.generation <= reported {
            return None;
        }
        let groups = state.catalogue.groups.iter();
        let due: Vec<_> = groups.filter_map(|(id, log)| Some((*id, log.highest_in(oldest)?))).collect();
        if due.is_empty() { None } else { Some((segment.generation, due)) }
    }

    /// Everything before this place is synced.
    pub fn synced_point(&self) -> SyncedPoint {
        self.synced
    }

    /// Bytes of the segment files in use.
    pub fn log_bytes(&self) -> u64 {
        self.shared.hold().segments.values().map(|segment| segment.length).sum()
    }

    fn check_stopped(&self) -> Result<(), LogError> {
        match &self.stopped {
            Some(why) => Err(LogError::Stopped(why.clone())),
            None => Ok(()),
        }
    }

    fn stop_on<T>(&mut self, result: Result<T, LogError>) -> Result<T, LogError> {
        if let Err(error) = &result {
            self.stopped = Some(error.to_string());
        }
        result
    }

    fn take_compactions(&mut self) -> Vec<Effect> {
        let asked = std::mem::take(&mut self.compactions);
        let state = self.shared.hold();
        let effects = asked.into_iter().filter_map(|(group, index)| {
            let log = state.catalogue.groups.get(&group)?;
            let bounds = log.bounds();
            // The group may have been reset or cut since it was asked for.
            let fits = index > bounds.compacted && index <= bounds.last;
            let term = log.term(index)?;
            fits.then(|| Effect::Compact { group, epoch: log.epoch(), term, index })
        });
        effects.collect()
    }

    /// A batch behind a torn one must not follow whatever is written in place of that. As long as nothing is, it stays for
    /// whoever looks.
    fn wipe_beyond(&mut self) -> Result<(), LogError> {
        let (Some(beyond), Some(segment)) = (self.beyond.take(), &self.current) else { return Ok(()) };
        let length = beyond.min(segment.length).saturating_sub(self.end.offset);
        segment.file.write_at(self.end.offset, &vec![0; usize::try_from(length).unwrap_or(0)])?;
        Ok(segment.file.sync()?)
    }

    fn try_append(
        &mut self,
        batches: &[&Batch],
        compactions: &[Effect],
        needed: u64,
    ) -> Result<(), LogError> {
        let needed = needed + compactions.len() as u64 * RECORD_HEADER as u64;
        let segment = self.segment_for(needed)?;
        let number = segment_number(segment.generation)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut builder = BatchBuilder::new(&segment.seal, &mut buffer, self.end.offset);
        let bases = if self.end.offset == FIRST_BATCH { self.bases() } else { Vec::new() };
        let mut effects = Vec::with_capacity(compactions.len() + batches.len());
        for effect in bases.iter().chain(compactions) {
            builder.effect(effect)?;
            effects.push(*effect);
        }
        for record in batches.iter().flat_map(|batch| &batch.records) {
            effects.push(lay_out(&mut builder, record, number)?);
        }
        self.assert_fits(&effects);
        let crc = builder.finish(self.sequence + 1, self.crc, self.synced);
        let end = self.end.offset + buffer.length() as u64;
        assert!(
            end <= segment.length,
            "a batch that ends at {end} was laid out for {} bytes",
            segment.length
        );
        // The whole of the last page, which the system would have to read first if only a part of it were written.
        let page_end = end.next_multiple_of(SEGMENT_UNIT).min(segment.length);
        buffer.pad(usize::try_from(page_end - end).unwrap_or(0));
        segment.file.write_pieces_at(self.end.offset, &buffer.pieces())?;
        self.end.offset = end;
        self.sequence += 1;
        self.crc = crc;
        buffer.shrink_to(BUFFER_BYTES);
        self.buffer = buffer;
        let mut state = self.shared.hold();
        for effect in &effects {
            state.catalogue.apply(effect).expect("the effects were checked before they were written");
        }
        Ok(())
    }

    fn bases(&self) -> Vec<Effect> {
        self.shared.hold().catalogue.bases().collect()
    }

    /// What is about to be written follows from what is there; recovery checks the same again.
    fn assert_fits(&mut self, effects: &[Effect]) {
        let state = self.shared.hold();
        let mut bounds: BTreeMap<GroupId, Option<Bounds>> = BTreeMap::new();
        for effect in effects {
            let group = effect.group();
            let known = || state.catalogue.groups.get(&group).map(super::index::GroupLog::bounds);
            let now = bounds.entry(group).or_insert_with(known);
            *now = step(*now, effect).unwrap_or_else(|rule| panic!("asked to append what cannot be: {rule}"));
            self.retire |=
                matches!(effect, Effect::Compact { .. } | Effect::Reset { .. } | Effect::Remove { .. });
        }
    }

    /// The segment in which `needed` bytes of records have room from `end` on; a new one if need be.
    fn segment_for(&mut self, needed: u64) -> Result<Arc<Segment>, LogError> {
        let batch = |needed: u64| (BATCH_FRAME as u64 + needed).next_multiple_of(ALIGNMENT as u64);
        let with_bases = batch(needed + self.shared.hold().catalogue.groups.len() as u64 * BASE_BYTES);
        if let Some(current) = &self.current {
            let wanted = if self.end.offset == FIRST_BATCH { with_bases } else { batch(needed) };
            let fits = self.end.offset.saturating_add(wanted) <= current.length;
            // What was begun in haste is left when there is time again.
            let leave = !current.filled && wanted <= SMALL_BATCH && self.pool.has_spare();
            if fits && !leave {
                return Ok(Arc::clone(current));
            }
            // The next segment's header will say that everything up to here was synced.
            self.try_sync()?;
        }
        let generation = self.end.generation.checked_add(1).expect("2^64 segments are never written");
        let number = segment_number(generation)?;
        // Nobody waits for the first one; later, filling it here would hold up everything.
        let fill = self.current.is_none();
        let made = self.pool.make(generation, with_bases, self.end.offset, fill)?;
        let made = Arc::new(made);
        self.shared.hold().segments.insert(number, Arc::clone(&made));
        self.current = Some(Arc::clone(&made));
        self.end = SyncedPoint { generation, offset: FIRST_BATCH };
        self.synced = self.end;
        self.retire = true;
        Ok(made)
    }

    fn try_sync(&mut self) -> Result<(), LogError> {
        if self.synced < self.end {
            let current = self.current.as_ref().expect("what was appended is in a segment");
            current.file.sync()?;
            self.synced = self.end;
        }
        Ok(())
    }

    /// Retires the segments older than every entry. Only when everything is synced: what makes them superfluous must
    /// be durable before they go. The current segment begins with a base for each group, so it stands alone.
    fn try_retire(&mut self) -> Result<(), LogError> {
        // Before its first batch the current segment does not have the bases yet.
        if self.end.offset == FIRST_BATCH || !std::mem::take(&mut self.retire) {
            return Ok(());
        }
        let Some(current) = &self.current else { return Ok(()) };
        let current = segment_number(current.generation)?;
        let retired: Vec<Arc<Segment>> = {
            let mut state = self.shared.hold();
            let needed = state.catalogue.oldest_segment().unwrap_or(current).min(current);
            let kept = state.segments.split_off(&needed);
            std::mem::replace(&mut state.segments, kept).into_values().collect()
        };
        Ok(self.pool.retire(retired)?)
    }
}

/// Bytes of the records, without the batch's frame.
fn size_of(batches: &[&Batch]) -> Result<u64, LogError> {
    let mut bytes: u64 = 0;
    for record in batches.iter().flat_map(|batch| &batch.records) {
        let payload = match record {
            Record::Entry(_, _, entry) => entry.data.len(),
            Record::HardState(..) => 8,
            Record::Reset(..) | Record::Remove(_) => 0,
        };
        if payload > super::MAX_ENTRY_BYTES {
            return Err(LogError::TooLarge { bytes: payload as u64, limit: super::MAX_ENTRY_BYTES as u64 });
        }
        bytes = bytes.saturating_add((RECORD_HEADER + payload) as u64);
    }
    if bytes > MAX_BATCH_BYTES as u64 {
        return Err(LogError::TooLarge { bytes, limit: MAX_BATCH_BYTES as u64 });
    }
    Ok(bytes)
}

fn lay_out(builder: &mut BatchBuilder<'_>, record: &Record, segment: u32) -> Result<Effect, LogError> {
    let effect = match record {
        Record::Entry(group, epoch, entry) => {
            let place = builder.entry(*group, *epoch, entry, segment)?;
            let (group, epoch, term, index) = (*group, *epoch, entry.term, entry.index);
            return Ok(Effect::Entry { group, epoch, term, index, place });
        }
        Record::HardState(group, epoch, hard_state) => {
            Effect::HardState { group: *group, epoch: *epoch, hard_state: *hard_state }
        }
        Record::Reset(group, epoch, term, index) => {
            Effect::Reset { group: *group, epoch: *epoch, term: *term, index: *index }
        }
        Record::Remove(group) => Effect::Remove { group: *group },
    };
    builder.effect(&effect)?;
    Ok(effect)
}

/// A generation as the index keeps it; 2^32 segments of the usual size are 2^58 bytes.
pub(super) fn segment_number(generation: u64) -> Result<u32, LogError> {
    u32::try_from(generation).map_err(|_| LogError::Damaged {
        generation,
        offset: 0,
        what: "more segments than a log can have".to_owned(),
    })
}
