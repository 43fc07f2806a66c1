//! Where data goes that an update replaces or that is not understood: nothing is deleted at start-up.
//!
//! ```text
//!   Draft::begin ── <name>.tmp ──┬─ log: LogWriter::link_into, LogTail::copy   ─┐
//!                                └─ state: StateStore::checkpoint               ├─ Draft::finish ── <name>
//!   keep_closed ── the same, of a store that nobody has open ───────────────────┘
//! ```
//!
//! An image is a store directory of its own: whatever reads a store reads an image. It shares with the store the files
//! that nobody writes any more. Without its record it is none. Everything here is done by the one who holds the store's
//! lock, one thing at a time; only looking needs no lock.

mod loss;
mod record;
mod restore;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

pub use self::loss::{Loss, loss_id, losses};
pub use self::record::{Act, Divergence, Image, MAX_RECORD_GROUPS, Note, RECORD_FORMAT, RECORD_NAME};
pub use self::restore::{RESTORING_NAME, is_interrupted, restore};
use crate::files::{FileError, FileLock, Files, remove_tree, tree_bytes};
use crate::identity::STORE_ID_NAME;
use crate::log::{LOG_DIRECTORY, LogError, copy_file, link_closed};
use crate::panic::PANIC_NAME;
use crate::stamp::{SLOT_NAMES, Stamp, StampError, write_copy};
use crate::state::{STATE_DIRECTORY, StateError};

/// The quarantine's directory in the store's.
pub const QUARANTINE_DIRECTORY: &str = "quarantine";

/// An image that is being made, or removed: it means nothing.
const UNFINISHED: &str = ".tmp";
/// What of a store an image can hold, the lock, the reserve and the quarantine being none of it.
const PARTS: [&str; 5] = [LOG_DIRECTORY, STATE_DIRECTORY, SLOT_NAMES[0], SLOT_NAMES[1], STORE_ID_NAME];

/// Why something could not be done to the quarantine. The store itself is as it was, unless a restore was interrupted.
#[derive(Debug, Error)]
pub enum QuarantineError {
    /// There is no such image: `quorate store quarantine list` names those that are.
    #[error("there is no image {number} in quarantine")]
    NoImage {
        /// Its number.
        number: u64,
    },
    /// Its record is unreadable or missing. It can be purged; what is in it can be looked at.
    #[error("image {name} in quarantine is damaged: {what}")]
    Damaged {
        /// Its directory.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// A restore was begun and not ended; nothing else can be done before `quorate store quarantine restore` ends it.
    #[error(
        "a restore of image {number} was interrupted: run `quorate store quarantine restore {number}` again"
    )]
    Interrupted {
        /// The image.
        number: u64,
    },
    /// Longer than a record may be; nothing was made.
    #[error("the record of the image would be too long: {what}")]
    TooLarge {
        /// What is too long.
        what: &'static str,
    },
    /// The log's part could not be made.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The state store's part could not be made.
    #[error(transparent)]
    State(#[from] StateError),
    /// The stamp's part could not be made.
    #[error(transparent)]
    Stamp(#[from] StampError),
    /// The disk failed, or is full.
    #[error(transparent)]
    File(#[from] FileError),
}

/// An image being made. Until [`Draft::finish`] it is called `<name>.tmp`, and the next draft removes what is left of it.
pub struct Draft {
    files: Arc<dyn Files>,
    quarantine: PathBuf,
    name: String,
    number: u64,
    note: Note,
}

impl Draft {
    /// Begins an image of the store in `store`: with its id, and as yet without log, state and stamp. What an
    /// interrupted one left is removed.
    ///
    /// # Errors
    /// [`QuarantineError::Interrupted`], [`QuarantineError::TooLarge`], [`QuarantineError::File`].
    pub fn begin(files: Arc<dyn Files>, store: &Path, note: Note) -> Result<Self, QuarantineError> {
        note.check()?;
        restore::refuse_interrupted(files.as_ref(), store)?;
        let quarantine = store.join(QUARANTINE_DIRECTORY);
        files.create_dir(&quarantine)?;
        sweep(files.as_ref(), &quarantine)?;
        let number = next_number(files.as_ref(), &quarantine)?;
        let name = directory_name(number, note.act);
        let draft = Self { files, quarantine, name, number, note };
        draft.files.create_dir(&draft.dir())?;
        draft.copy_whole(store, STORE_ID_NAME)?;
        Ok(draft)
    }

    fn dir(&self) -> PathBuf {
        self.quarantine.join(format!("{}{UNFINISHED}", self.name))
    }

    /// Where the log's image goes; not made yet. It comes first, so that no state is newer than the log.
    pub fn log_dir(&self) -> PathBuf {
        self.dir().join(LOG_DIRECTORY)
    }

    /// Where the state store's checkpoint goes; not made yet.
    pub fn state_dir(&self) -> PathBuf {
        self.dir().join(STATE_DIRECTORY)
    }

    /// Ends the image, whose parts are durable by now: from now on it is there, whole, whatever happens. `stamp` is what the stamp said when the log's
    /// image was made, with [`Stamp::log_synced`] set to the image's end.
    ///
    /// # Errors
    /// [`QuarantineError::Stamp`], [`QuarantineError::File`]; the image is not there then.
    pub fn finish(self, stamp: Option<&Stamp>) -> Result<Image, QuarantineError> {
        let (files, dir) = (self.files.as_ref(), self.dir());
        if let Some(stamp) = stamp {
            write_copy(files, &dir, stamp)?;
        }
        let bytes = tree_bytes(files, &dir)?;
        let image = Image { number: self.number, name: self.name.clone(), note: self.note.clone(), bytes };
        record::write(files, &dir, &image)?;
        files.rename(&dir, &self.quarantine.join(&self.name))?;
        files.sync_dir(&self.quarantine)?;
        Ok(image)
    }

    /// Gives it up; what was made of it goes.
    ///
    /// # Errors
    /// Those of the medium; the next draft tries again.
    pub fn abandon(self) -> Result<(), QuarantineError> {
        Ok(sweep(self.files.as_ref(), &self.quarantine)?)
    }

    fn copy_whole(&self, store: &Path, name: &str) -> Result<(), FileError> {
        match copy_file(self.files.as_ref(), &store.join(name), &self.dir().join(name)) {
            Err(FileError::NotFound { .. }) => Ok(()),
            copied => {
                copied?;
                self.files.sync_dir(&self.dir())
            }
        }
    }
}

/// What of a closed store goes into an image, beside its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// Both slots of the stamp, byte for byte.
    Stamp,
    /// The stamp, the log and the state.
    Everything,
}

/// Makes an image of a store that nobody has open, whatever its state: files are taken as they are, damaged ones too.
///
/// # Errors
/// As [`Draft::begin`] and [`Draft::finish`].
pub fn keep_closed(
    files: &Arc<dyn Files>,
    store: &Path,
    _lock: &dyn FileLock,
    note: Note,
    parts: Parts,
) -> Result<Image, QuarantineError> {
    let draft = Draft::begin(Arc::clone(files), store, note)?;
    for name in SLOT_NAMES {
        draft.copy_whole(store, name)?;
    }
    if parts == Parts::Everything {
        link_closed(files.as_ref(), &store.join(LOG_DIRECTORY), &draft.log_dir())?;
        keep_closed_state(files.as_ref(), &store.join(STATE_DIRECTORY), &draft.state_dir())?;
    }
    draft.finish(None)
}

/// Makes an image of a store that nobody has open and that an operator gave up, and leaves an empty directory beside the
/// quarantine. Cut short, what is left is damaged, as its id goes first: the same again ends it.
///
/// # Errors
/// As [`keep_closed`].
pub fn set_aside(
    files: &Arc<dyn Files>,
    store: &Path,
    lock: &dyn FileLock,
    note: Note,
) -> Result<Image, QuarantineError> {
    let image = keep_closed(files, store, lock, note, Parts::Everything)?;
    // With the store goes what its broker found out about it.
    for name in [STORE_ID_NAME, SLOT_NAMES[0], SLOT_NAMES[1], PANIC_NAME] {
        match files.remove(&store.join(name)) {
            Ok(()) | Err(FileError::NotFound { .. }) => files.sync_dir(store)?,
            Err(error) => return Err(error.into()),
        }
    }
    // The log last: beside it, without an id, nothing is taken for an empty store.
    for name in [STATE_DIRECTORY, LOG_DIRECTORY] {
        remove_tree(files.as_ref(), &store.join(name))?;
        files.sync_dir(store)?;
    }
    Ok(image)
}

/// Tables are never written twice and are linked; everything else is small and copied.
fn keep_closed_state(files: &dyn Files, from: &Path, to: &Path) -> Result<(), FileError> {
    if !files.is_dir(from)? {
        return Ok(());
    }
    files.create_dir(to)?;
    for name in files.list(from)? {
        let (old, new) = (from.join(&name), to.join(&name));
        if files.is_dir(&old)? || name == "LOCK" || name == "LOG" || name.starts_with("LOG.old.") {
            continue;
        }
        if Path::new(&name).extension().is_some_and(|extension| extension == "sst") {
            files.link(&old, &new)?;
        } else {
            copy_file(files, &old, &new)?;
        }
    }
    files.sync_dir(to)
}

/// Every image, oldest first; of a damaged one, what is wrong. Changes nothing.
///
/// # Errors
/// Those of the medium.
pub fn list(files: &dyn Files, store: &Path) -> Result<Vec<Result<Image, QuarantineError>>, FileError> {
    let quarantine = store.join(QUARANTINE_DIRECTORY);
    let mut images = Vec::new();
    for (number, name) in names(files, &quarantine)? {
        if name.ends_with(UNFINISHED) {
            continue;
        }
        images.push(match record::read(files, &quarantine.join(&name), number, &name) {
            Err(QuarantineError::File(error)) => return Err(error),
            read => read,
        });
    }
    Ok(images)
}

/// An image's directory, for reading it like a store.
///
/// # Errors
/// [`QuarantineError::NoImage`], [`QuarantineError::File`].
pub fn directory(files: &dyn Files, store: &Path, number: u64) -> Result<PathBuf, QuarantineError> {
    let quarantine = store.join(QUARANTINE_DIRECTORY);
    let found = names(files, &quarantine)?
        .into_iter()
        .find(|(found, name)| *found == number && !name.ends_with(UNFINISHED));
    found.map(|(_, name)| quarantine.join(name)).ok_or(QuarantineError::NoImage { number })
}

/// Removes an image for ever, by an operator's word only.
///
/// # Errors
/// [`QuarantineError::NoImage`], [`QuarantineError::Interrupted`], [`QuarantineError::File`]; cut short, it may be
/// there, or gone for whoever looks, the rest being removed with the next act.
pub fn purge(
    files: &dyn Files,
    store: &Path,
    _lock: &dyn FileLock,
    number: u64,
) -> Result<(), QuarantineError> {
    restore::refuse_interrupted(files, store)?;
    let dir = directory(files, store, number)?;
    discard(files, &store.join(QUARANTINE_DIRECTORY), &dir)?;
    Ok(())
}

/// Bytes of everything in quarantine, unfinished images among it. A file that the store still uses counts too: it is
/// what remains if the store lets it go.
///
/// # Errors
/// Those of the medium.
pub fn total_bytes(files: &dyn Files, store: &Path) -> Result<u64, FileError> {
    tree_bytes(files, &store.join(QUARANTINE_DIRECTORY))
}

/// Takes an image's name away durably before anything in it goes: a file is used again as soon as no image has it, and
/// must not turn up in one after a crash.
fn discard(files: &dyn Files, quarantine: &Path, dir: &Path) -> Result<(), FileError> {
    let mut gone = dir.as_os_str().to_owned();
    gone.push(UNFINISHED);
    files.rename(dir, Path::new(&gone))?;
    files.sync_dir(quarantine)?;
    sweep(files, quarantine)
}

/// Removes unfinished images.
fn sweep(files: &dyn Files, quarantine: &Path) -> Result<(), FileError> {
    let mut swept = false;
    for (_, name) in names(files, quarantine)? {
        if name.ends_with(UNFINISHED) {
            remove_tree(files, &quarantine.join(name))?;
            swept = true;
        }
    }
    if swept { files.sync_dir(quarantine) } else { Ok(()) }
}

/// Above every number that is there.
fn next_number(files: &dyn Files, quarantine: &Path) -> Result<u64, FileError> {
    Ok(names(files, quarantine)?.last().map_or(1, |(last, _)| last.saturating_add(1)))
}

/// Directories by number; those of other names are not ours.
fn names(files: &dyn Files, quarantine: &Path) -> Result<Vec<(u64, String)>, FileError> {
    let names = match files.list(quarantine) {
        Err(FileError::NotFound { .. }) => Vec::new(),
        names => names?,
    };
    let mut found = Vec::new();
    for name in names {
        if let Some(number) = number_in(&name)
            && files.is_dir(&quarantine.join(&name))?
        {
            found.push((number, name));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn directory_name(number: u64, act: Act) -> String {
    format!("{number:06}-{}", act.word())
}

fn number_in(name: &str) -> Option<u64> {
    let number = name.split_once('-')?.0.parse().ok()?;
    let act = Act::ALL.into_iter().map(|act| directory_name(number, act));
    let mut spelled = act.flat_map(|name| [format!("{name}{UNFINISHED}"), name]);
    spelled.any(|spelled| spelled == name).then_some(number)
}
