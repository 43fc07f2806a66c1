//! A store that the product wrote, and what its files looked like on the way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_store::files::crash::{CrashFiles, Ending};

use crate::crash::expected::{Expected, Logs};
use crate::crash::workload::{Recording, closed};
use crate::sim::record::Note;
use crate::sim::storage::STORE_DIRECTORY;

/// A store, and older contents of its files.
pub struct Golden {
    /// The disk.
    pub disk: CrashFiles,
    /// Every file of the store that is read.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// Older contents of files of the same name, oldest first.
    pub older: BTreeMap<PathBuf, Vec<Vec<u8>>>,
    /// What its log may hold; the first is what was reported durable.
    pub logs: Vec<Arc<Logs>>,
}

/// How often older contents are kept, in operations.
const EVERY: usize = 8;

fn replayed(recording: &Recording, until: usize) -> Golden {
    let disk = CrashFiles::new();
    let mut expected = Expected::default();
    let mut notes = recording.notes.iter().peekable();
    let mut older: BTreeMap<PathBuf, Vec<Vec<u8>>> = BTreeMap::new();
    for (number, operation) in recording.operations.iter().take(until).enumerate() {
        disk.replay(operation);
        while let Some((_, note)) = notes.next_if(|(at, _)| *at <= number + 1) {
            expected.take(note);
        }
        if number.is_multiple_of(EVERY) {
            for (path, content) in disk.everything() {
                let known = older.entry(path).or_default();
                if known.last() != Some(&content) {
                    known.push(content);
                }
            }
        }
    }
    disk.end(Ending::Everything);
    let mut files = disk.everything();
    files.retain(|path, bytes| super::layout::layout(path, bytes).is_some());
    older.retain(|path, _| files.contains_key(path));
    Golden { disk, files, older, logs: expected.possible_logs() }
}

impl Golden {
    /// Closed by a shutdown: both slots of the stamp, several segments, an image in quarantine with log, stamp and a
    /// checkpoint of the state.
    pub fn closed(seed: u64) -> Self {
        let recording = closed(seed);
        replayed(&recording, recording.operations.len())
    }

    /// While it is being founded: stamped, and no log yet.
    pub fn forming(seed: u64) -> Self {
        let recording = closed(seed);
        let stamped = |(at, note): &(usize, Note)| matches!(note, Note::Stamped).then_some(*at);
        let first = recording.notes.iter().find_map(stamped).expect("a founding stamps first");
        replayed(&recording, first)
    }

    /// In use, with a last batch that is written and was never reported durable.
    pub fn in_use(seed: u64) -> Self {
        let recording = closed(seed);
        let batch = |(at, note): &(usize, Note)| {
            let Note::Appending(batches) = note else { return None };
            let first = recording.operations.get(*at)?;
            // Into a segment that is there, so that the batch is the next operation.
            (!batches.is_empty() && first.written().is_some_and(|(offset, _)| offset > 8192))
                .then_some(*at + 1)
        };
        let last = recording.notes.iter().filter_map(batch).nth(40).expect("a workload of many batches");
        replayed(&recording, last)
    }

    /// The segments of the store itself.
    pub fn segments(&self) -> Vec<PathBuf> {
        let log = Path::new(STORE_DIRECTORY).join(quorate_store::log::LOG_DIRECTORY);
        self.files.keys().filter(|path| path.parent() == Some(&log)).cloned().collect()
    }

    /// The directory of the store or the image that a file belongs to.
    pub fn home(&self, path: &Path) -> PathBuf {
        let above = path.ancestors().find(|dir| self.files.contains_key(&dir.join("store-id")));
        above.expect("every store and image has an id").to_path_buf()
    }
}
