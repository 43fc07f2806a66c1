//! Looking at a store that may be somebody else's, broken, or on a medium that cannot be written.

use std::path::Path;
use std::sync::Arc;

use super::{OpenError, has_log, identify};
use crate::files::{FileError, Files};
use crate::ids::StoreId;
use crate::log::{self, LOG_DIRECTORY, LogError, LogReader, Recovered};
use crate::stamp::{StampError, StampFile, StampFound};

/// What a look at a store found. Nothing of it is decided: whatever can be read is there, beside what is wrong.
pub struct Inspected {
    /// Whose store it is, from the store id, else from the stamp; none if the directory holds nothing of a store, or
    /// neither can be read.
    pub id: Option<StoreId>,
    /// What the stamp says.
    pub stamp: StampFound,
    /// The log, if there is a directory for it and it can be trusted.
    pub log: Option<InspectedLog>,
    /// What is wrong: [`super::open`] calls such a store damaged.
    pub damage: Vec<String>,
    /// What was noticed and is no damage: one of two slots of the stamp is unreadable, or a batch is torn.
    pub notes: Vec<String>,
}

/// A log that was looked at.
pub struct InspectedLog {
    /// Reads its entries.
    pub reader: LogReader,
    /// What was found.
    pub recovered: Recovered,
}

/// Looks at the store in a directory, or at an image in quarantine: takes no lock, writes no byte, needs no permission
/// to write. Memory is bounded by the longest segment and the index of the log's entries.
///
/// A broker that works on the store meanwhile may make it look torn or damaged: whoever reports damage looks whether
/// somebody has the lock.
///
/// # Errors
/// [`OpenError::OtherFormat`]; [`OpenError::File`], among it [`FileError::NotFound`] if there is no such directory.
pub fn inspect(files: &Arc<dyn Files>, dir: &Path) -> Result<Inspected, OpenError> {
    if !files.is_dir(dir)? {
        return Err(FileError::NotFound { path: dir.to_path_buf() }.into());
    }
    let (slots, stamp) = match StampFile::open(Arc::clone(files), dir.to_path_buf()) {
        Err(StampError::File(error)) => return Err(error.into()),
        Err(error) => return Err(OpenError::OtherFormat(error.to_string())),
        Ok(opened) => opened,
    };
    let log_dir = dir.join(LOG_DIRECTORY);
    let has_log = has_log(files.as_ref(), &log_dir)?;
    let (id, problem) = identify(files.as_ref(), dir, &stamp, has_log)?;
    let mut damage = Vec::from_iter(problem);
    let mut notes = Vec::new();
    let synced = match &stamp {
        StampFound::Stamp(stamp) => Some(stamp.log_synced),
        StampFound::Absent | StampFound::Damaged { .. } => None,
    };
    match &stamp {
        StampFound::Damaged { reason, .. } => damage.push(reason.clone()),
        StampFound::Absent | StampFound::Stamp(_) => {
            notes.extend(slots.damage().map(|what| format!("one of two slots is unreadable: {what}")));
        }
    }
    let mut log = None;
    // Without a log the stamp's synced point is still to be asked.
    if let Some(id) = id {
        match log::inspect(files.as_ref(), &log_dir, id, synced) {
            Ok((reader, recovered)) => {
                notes.extend(recovered.torn.map(|torn| torn.to_string()));
                log = Some(InspectedLog { reader, recovered });
            }
            Err(LogError::File(error)) => return Err(error.into()),
            Err(error @ LogError::OtherFormat { .. }) => {
                return Err(OpenError::OtherFormat(error.to_string()));
            }
            Err(error) => damage.push(error.to_string()),
        }
    }
    Ok(Inspected { id, stamp, log, damage, notes })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{DIR, used};
    use super::*;
    use crate::files::crash::CrashFiles;
    use crate::stamp::SLOT_NAMES;

    fn look(disk: &CrashFiles) -> Result<Inspected, OpenError> {
        let before = (disk.operations(), disk.everything());
        let files: Arc<dyn Files> = Arc::new(disk.clone());
        let found = inspect(&files, Path::new(DIR));
        assert!((disk.operations(), disk.everything()) == before, "looking wrote");
        found
    }

    #[test]
    fn a_look_at_a_used_store_finds_it_whole_although_somebody_has_it() {
        let disk = used();
        let lock = disk.lock(&Path::new(DIR).join("lock"), 1).unwrap();
        let found = look(&disk).unwrap();
        drop(lock);
        assert!(matches!(&found.stamp, StampFound::Stamp(stamp) if Some(stamp.store_id) == found.id));
        assert_eq!(found.log.unwrap().recovered.groups.len(), 1);
        assert_eq!((found.damage, found.notes), (vec![], vec![]));
    }

    #[test]
    fn nothing_is_no_store_and_a_missing_directory_is_an_error() {
        let disk = CrashFiles::new();
        assert!(matches!(look(&disk), Err(OpenError::File(FileError::NotFound { .. }))));
        disk.create_dir(Path::new(DIR)).unwrap();
        let found = look(&disk).unwrap();
        assert_eq!((found.id, found.stamp, found.damage.len()), (None, StampFound::Absent, 0));
    }

    #[test]
    fn whatever_can_be_read_is_there_beside_what_is_wrong() {
        let rot = |disk: &CrashFiles, name: &str| {
            let path = Path::new(DIR).join(name);
            let mut bytes = disk.content(&path).unwrap();
            bytes[24] ^= 1;
            disk.replace(&path, &bytes);
        };
        let disk = used();
        rot(&disk, "log/segment-0000000000000001");
        let found = look(&disk).unwrap();
        assert!(found.log.is_none() && matches!(found.stamp, StampFound::Stamp(_)));
        assert!(found.damage[0].contains("segment 1"), "{:?}", found.damage);
        let disk = used();
        rot(&disk, "store-id");
        let found = look(&disk).unwrap();
        assert!(found.log.is_some() && found.id.is_some(), "the stamp says whose log it is");
        assert!(found.damage[0].contains("store-id"), "{:?}", found.damage);
        let disk = used();
        rot(&disk, SLOT_NAMES[0]);
        let found = look(&disk).unwrap();
        assert!(found.damage.is_empty() && found.notes[0].contains(SLOT_NAMES[0]), "{:?}", found.notes);
        rot(&disk, SLOT_NAMES[1]);
        let found = look(&disk).unwrap();
        assert!(found.log.is_some() && found.damage.len() == 2, "{:?}", found.damage);
    }
}
