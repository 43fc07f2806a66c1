//! Putting an image back in the store's place.
//!
//! What is there moves out into an image of its own, then the image moves in, by renames. A journal beside them says how
//! far it came; as long as it is there the store is not opened, and the same call goes on where the last one ended.

use std::path::{Path, PathBuf};

use super::{
    Act, Image, Note, PARTS, QUARANTINE_DIRECTORY, QuarantineError, UNFINISHED, directory, directory_name,
    discard, next_number, record, sweep,
};
use crate::files::{FileError, FileLock, Files, create_whole, read_whole, tree_bytes};

/// The journal's file name in the store's directory.
pub const RESTORING_NAME: &str = "restoring";

const FIRST: &str = "quorate-restoring 1";
const MAX_BYTES: u64 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// What was there moves out.
    Out,
    /// The image moves in.
    In,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Journal {
    phase: Phase,
    /// The image that is put back.
    image: u64,
    /// The image that what was there becomes.
    present: u64,
}

/// Whether a restore was begun and not ended: the store is half of each, and not to be opened.
///
/// # Errors
/// Those of the medium.
pub fn is_interrupted(files: &dyn Files, store: &Path) -> Result<bool, FileError> {
    Ok(read_whole(files, &store.join(RESTORING_NAME), MAX_BYTES)?.is_some())
}

pub(super) fn refuse_interrupted(files: &dyn Files, store: &Path) -> Result<(), QuarantineError> {
    match read_journal(files, store)? {
        Some(journal) => Err(QuarantineError::Interrupted { number: journal.image }),
        None => Ok(()),
    }
}

/// Puts an image back in place of the store, which nobody may have open; what was there becomes an image with this
/// reason and time, which is given back. If the power fails, the store opens as damaged until the same call was made
/// again, which goes on and ends it. To peers a store that was put back is one that was rolled back.
///
/// # Errors
/// Before anything is changed: [`QuarantineError::NoImage`], [`QuarantineError::Damaged`],
/// [`QuarantineError::TooLarge`], and [`QuarantineError::Interrupted`] if a restore of another image was begun.
/// [`QuarantineError::File`] at any time.
pub fn restore(
    files: &dyn Files,
    store: &Path,
    _lock: &dyn FileLock,
    number: u64,
    why: &str,
    when_ms: u64,
) -> Result<Image, QuarantineError> {
    let quarantine = store.join(QUARANTINE_DIRECTORY);
    let note = Note { act: Act::Restore, why: why.to_owned(), groups: Vec::new(), diverged: None, when_ms };
    let mut journal = match read_journal(files, store)? {
        Some(journal) if journal.image == number => journal,
        Some(journal) => return Err(QuarantineError::Interrupted { number: journal.image }),
        None => begin(files, store, number, &note)?,
    };
    let present = make_room(files, store, journal.present, note)?;
    if journal.phase == Phase::Out {
        move_parts(files, store, &present)?;
        journal.phase = Phase::In;
        write_journal(files, store, &journal)?;
    }
    match directory(files, store, number) {
        Ok(image) => {
            move_parts(files, &image, store)?;
            discard(files, &quarantine, &image)?;
        }
        // It was moved in whole, and is being removed.
        Err(QuarantineError::NoImage { .. }) => sweep(files, &quarantine)?,
        Err(error) => return Err(error),
    }
    let name = directory_name(journal.present, Act::Restore);
    let image = record::read(files, &present, journal.present, &name)?;
    files.remove(&store.join(RESTORING_NAME))?;
    files.sync_dir(store)?;
    Ok(image)
}

/// Checks the image and writes the journal.
fn begin(files: &dyn Files, store: &Path, number: u64, note: &Note) -> Result<Journal, QuarantineError> {
    note.check()?;
    let quarantine = store.join(QUARANTINE_DIRECTORY);
    let dir = directory(files, store, number)?;
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    record::read(files, &dir, number, name)?;
    let journal = Journal { phase: Phase::Out, image: number, present: next_number(files, &quarantine)? };
    write_journal(files, store, &journal)?;
    Ok(journal)
}

/// Makes the directory for what is there, with its record, before anything moves.
fn make_room(files: &dyn Files, store: &Path, number: u64, note: Note) -> Result<PathBuf, QuarantineError> {
    let quarantine = store.join(QUARANTINE_DIRECTORY);
    let name = directory_name(number, Act::Restore);
    let place = quarantine.join(&name);
    if files.is_dir(&place)? {
        return Ok(place);
    }
    sweep(files, &quarantine)?;
    let mut bytes: u64 = 0;
    for part in PARTS {
        let path = store.join(part);
        let more = if files.is_dir(&path)? {
            tree_bytes(files, &path)?
        } else {
            match files.open_read_only(&path) {
                Ok(file) => file.length()?,
                Err(FileError::NotFound { .. }) => 0,
                Err(error) => return Err(error.into()),
            }
        };
        bytes = bytes.saturating_add(more);
    }
    let made = quarantine.join(format!("{name}{UNFINISHED}"));
    files.create_dir(&made)?;
    record::write(files, &made, &Image { number, name, note, bytes })?;
    files.rename(&made, &place)?;
    files.sync_dir(&quarantine)?;
    Ok(place)
}

/// Moves what is in one directory and not yet in the other.
fn move_parts(files: &dyn Files, from: &Path, to: &Path) -> Result<(), QuarantineError> {
    for part in PARTS {
        match files.rename(&from.join(part), &to.join(part)) {
            Ok(()) | Err(FileError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    files.sync_dir(to)?;
    Ok(files.sync_dir(from)?)
}

fn journal_path(store: &Path) -> PathBuf {
    store.join(RESTORING_NAME)
}

fn write_journal(files: &dyn Files, store: &Path, journal: &Journal) -> Result<(), FileError> {
    create_whole(files, store, RESTORING_NAME, encode(journal).as_bytes())
}

fn read_journal(files: &dyn Files, store: &Path) -> Result<Option<Journal>, QuarantineError> {
    let Some(content) = read_whole(files, &journal_path(store), MAX_BYTES)? else { return Ok(None) };
    let damaged = || QuarantineError::Damaged {
        name: RESTORING_NAME.to_owned(),
        what: "it is not what was written".to_owned(),
    };
    decode(&content).map(Some).ok_or_else(damaged)
}

fn encode(journal: &Journal) -> String {
    let phase = match journal.phase {
        Phase::Out => "out",
        Phase::In => "in",
    };
    let Journal { image, present, .. } = journal;
    let body = format!("{FIRST}\nphase = {phase}\nimage = {image}\npresent = {present}\n");
    format!("{body}crc32 = {:08x}\n", crc32fast::hash(body.as_bytes()))
}

fn decode(content: &[u8]) -> Option<Journal> {
    let text = str::from_utf8(content).ok()?;
    let mut lines = text.lines().skip(1);
    let mut value = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(" = ");
    let phase = match value("phase")? {
        "out" => Phase::Out,
        "in" => Phase::In,
        _ => return None,
    };
    let journal =
        Journal { phase, image: value("image")?.parse().ok()?, present: value("present")?.parse().ok()? };
    (encode(&journal).as_bytes() == content).then_some(journal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_read_as_written_and_every_flipped_bit_is_noticed() {
        for phase in [Phase::Out, Phase::In] {
            let journal = Journal { phase, image: 3, present: 9 };
            let content = encode(&journal).into_bytes();
            assert_eq!(decode(&content), Some(journal));
            for bit in 0..content.len() * 8 {
                let mut flipped = content.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(&flipped), None, "bit {bit}");
            }
        }
    }
}
