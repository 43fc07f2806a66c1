//! An image of the log in another directory: what is not written any more is linked, the rest is copied.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::format::{ALIGNMENT, FIRST_BATCH, HeaderFault, LOG_FORMAT, SegmentHeader};
use super::segments::{SEGMENT_UNIT, Segment, parse_segment, segment_name};
use super::{LogError, SyncedPoint};
use crate::files::{FileError, FileResult, Files};

/// Bytes copied at once.
const COPY_BYTES: u64 = 1 << 20;

/// What remains to be copied for an image that [`LogWriter::link_into`](super::LogWriter::link_into) began: the last
/// segment, up to where it was synced. Its file is not used for anything else as long as this lives.
pub struct LogTail {
    pub(super) segment: Option<Arc<Segment>>,
    pub(super) end: SyncedPoint,
}

impl LogTail {
    /// Where the image ends. Everything before it was synced.
    pub fn end(&self) -> SyncedPoint {
        self.end
    }

    /// Copies the last segment into the image's directory, durably, from any thread: what is appended meanwhile lies
    /// behind what is copied. The copy is as long as what is in it, and its header says so.
    ///
    /// # Errors
    /// [`LogError::Damaged`] if the segment's header is not what was written, [`LogError::File`]. The log itself is as
    /// it was.
    pub fn copy(self, files: &dyn Files, dir: &Path) -> Result<(), LogError> {
        let Some(segment) = self.segment else { return Ok(()) };
        let generation = segment.generation;
        let mut page = vec![0; ALIGNMENT];
        segment.file.read_at(0, &mut page)?;
        let header = SegmentHeader::decode(&page).map_err(|fault| match fault {
            HeaderFault::Damaged(what) => LogError::Damaged { generation, offset: 0, what: what.to_owned() },
            HeaderFault::OtherFormat(found) => LogError::OtherFormat { found, supported: LOG_FORMAT },
        })?;
        let end = self.end.offset.max(FIRST_BATCH);
        let length = end.next_multiple_of(SEGMENT_UNIT);
        let copy = files.create(&dir.join(segment_name(generation)))?;
        copy.preallocate(length)?;
        copy.write_at(0, &SegmentHeader { length, ..header }.encode())?;
        let mut piece = Vec::new();
        let mut offset = FIRST_BATCH;
        while offset < end {
            let bytes = COPY_BYTES.min(end - offset);
            piece.resize(usize::try_from(bytes).expect("a piece fits memory"), 0);
            segment.file.read_at(offset, &mut piece)?;
            copy.write_at(offset, &piece)?;
            offset += bytes;
        }
        copy.sync_all()?;
        Ok(files.sync_dir(dir)?)
    }
}

/// Makes an image of a log that nobody has open, whatever its state: every segment is linked but the last, which is
/// copied as it is, because the next start may write to it.
///
/// # Errors
/// Those of the medium.
pub fn link_closed(files: &dyn Files, from: &Path, to: &Path) -> FileResult<()> {
    let names = match files.list(from) {
        Err(FileError::NotFound { .. }) => return Ok(()),
        names => names?,
    };
    let segments: BTreeMap<u64, String> =
        names.into_iter().filter_map(|name| Some((parse_segment(&name)?, name))).collect();
    let Some((_, last)) = segments.last_key_value() else { return Ok(()) };
    files.create_dir(to)?;
    for name in segments.values().filter(|name| *name != last) {
        files.link(&from.join(name), &to.join(name))?;
    }
    copy_file(files, &from.join(last), &to.join(last))?;
    files.sync_dir(to)
}

/// Copies a file's content as it is, synced; the name is durable after [`Files::sync_dir`].
pub(crate) fn copy_file(files: &dyn Files, from: &Path, to: &Path) -> FileResult<()> {
    let (from, to) = (files.open_read_only(from)?, files.create(to)?);
    let length = from.length()?;
    let mut piece = Vec::new();
    let mut offset = 0;
    while offset < length {
        let bytes = COPY_BYTES.min(length - offset);
        piece.resize(usize::try_from(bytes).expect("a piece fits memory"), 0);
        from.read_at(offset, &mut piece)?;
        to.write_at(offset, &piece)?;
        offset += bytes;
    }
    to.sync_all()
}
