//! Reading entries, from any thread.

use std::sync::Arc;

use bytes::Bytes;

use super::LogError;
use super::format::{RECORD_HEADER, read_entry};
use super::index::Place;
use super::segments::{Segment, Shared};
use crate::ids::{GroupId, Index, Term};
use crate::record::Entry;

/// Records of one group that lie no further apart than this are read with one call.
const GAP: u64 = 4 << 10;

/// Reads entries; clones share the index. Sees what was appended, synced or not.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

/// Consecutive entries in one segment, read with one call.
struct Run {
    segment: Arc<Segment>,
    places: Vec<Place>,
}

impl LogReader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Entries `from..to` of a group, as many as exist, until `max_bytes` of records are reached; at least one if there
    /// is one. Every record's checksum is verified. A segment is not used again while it is being read.
    ///
    /// Entries that the writer replaces during the call may be returned as they were before.
    ///
    /// # Errors
    /// [`LogError::Compacted`] if `from` is not in the log any more, [`LogError::UnknownGroup`],
    /// [`LogError::Damaged`] if a record is not what was written, [`LogError::File`].
    pub fn read(
        &self,
        group: GroupId,
        from: Index,
        to: Index,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, LogError> {
        let runs = self.plan(group, from, to, max_bytes)?;
        let mut entries = Vec::with_capacity(runs.iter().map(|run| run.places.len()).sum());
        let mut index = from;
        for run in &runs {
            read_run(run, group, &mut index, &mut entries)?;
        }
        Ok(entries)
    }

    /// The term of an entry, or of the place the log was compacted to.
    pub fn term(&self, group: GroupId, index: Index) -> Option<Term> {
        self.shared.hold().catalogue.groups.get(&group)?.term(index)
    }

    /// First and last index of a group's log; first is one more than last if it is empty.
    pub fn bounds(&self, group: GroupId) -> Option<(Index, Index)> {
        let bounds = self.shared.hold().catalogue.groups.get(&group)?.bounds();
        Some((bounds.compacted.next(), bounds.last))
    }

    #[cfg(test)]
    pub(super) fn shared_segments(&self) -> Vec<Arc<Segment>> {
        self.shared.hold().segments.values().cloned().collect()
    }

    fn plan(&self, group: GroupId, from: Index, to: Index, max_bytes: usize) -> Result<Vec<Run>, LogError> {
        let state = self.shared.hold();
        let log = state.catalogue.groups.get(&group).ok_or(LogError::UnknownGroup { group })?;
        let bounds = log.bounds();
        if from <= bounds.compacted {
            return Err(LogError::Compacted { group, index: from });
        }
        let mut runs: Vec<Run> = Vec::new();
        let mut bytes = 0;
        let mut index = from;
        while index < to && index <= bounds.last {
            let place = log.place(index).expect("every entry between the bounds has a place");
            let length = usize::try_from(place.length).unwrap_or(usize::MAX).saturating_add(RECORD_HEADER);
            if !runs.is_empty() && max_bytes.saturating_sub(bytes) < length {
                break;
            }
            bytes += length;
            match runs.last_mut() {
                Some(run) if continues(run, place) => run.places.push(place),
                _ => {
                    let segment = state.segments.get(&place.segment);
                    let segment = Arc::clone(segment.expect("a place's segment is in use"));
                    runs.push(Run { segment, places: vec![place] });
                }
            }
            index = index.next();
        }
        Ok(runs)
    }
}

fn end(place: Place) -> u64 {
    u64::from(place.offset) + RECORD_HEADER as u64 + u64::from(place.length)
}

fn continues(run: &Run, place: Place) -> bool {
    let last = *run.places.last().expect("a run is never empty");
    last.segment == place.segment
        && u64::from(place.offset).checked_sub(end(last)).is_some_and(|gap| gap <= GAP)
}

fn read_run(run: &Run, group: GroupId, index: &mut Index, entries: &mut Vec<Entry>) -> Result<(), LogError> {
    let (Some(first), Some(last)) = (run.places.first(), run.places.last()) else { return Ok(()) };
    let start = u64::from(first.offset);
    let length = usize::try_from(end(*last) - start).expect("a run is within a segment");
    let mut buffer = vec![0; length];
    run.segment.file.read_at(start, &mut buffer)?;
    let buffer = Bytes::from(buffer);
    for place in &run.places {
        let at = usize::try_from(u64::from(place.offset) - start).expect("places ascend");
        let until = usize::try_from(end(*place) - start).expect("places ascend");
        let record = buffer.slice(at..until);
        let found = read_entry(&run.segment.seal, &record, *place, group, *index);
        let (term, kind) = found.ok_or_else(|| LogError::Damaged {
            generation: run.segment.generation,
            offset: u64::from(place.offset),
            what: format!("entry {index} of group {group} fails its checksum"),
        })?;
        entries.push(Entry { term, index: *index, kind, data: record.slice(RECORD_HEADER..) });
        *index = index.next();
    }
    Ok(())
}
