//! Opening a store: lock, identity, stamp, log, in this order.
//!
//! Opening makes no file but the lock and, in an empty directory, the store id. A store that cannot be trusted is
//! opened as damaged, with nothing in it changed; it is never taken for an empty one. What is in quarantine is no part
//! of the store. [`inspect`] looks without opening: no lock, no write.

mod inspect;

use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

pub use self::inspect::{Inspected, InspectedLog, inspect};
use crate::files::{FileError, FileLock, FileResult, Files};
use crate::identity::{self, IdentityError, LOCK_NAME};
use crate::ids::{Incarnation, StoreId};
use crate::log::{self, LOG_DIRECTORY, LogConfig, LogError, LogReader, LogWriter, Recovered};
use crate::panic::{self, PanicFound};
use crate::quarantine;
use crate::reserve::Reserve;
use crate::stamp::{StampError, StampFile, StampFound};

/// What opening needs to be told.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    /// This process's id, written into the lock file.
    pub process: u32,
    /// A fresh random id: the store's from now on if the directory is empty.
    pub fresh_id: StoreId,
    /// How to keep the log; its `store` is filled in.
    pub log: LogConfig,
    /// Size of the reserve, in bytes.
    pub reserve_bytes: u64,
}

/// An open store. Its parts may be taken out; the lock is to be kept for the process's life.
pub struct OpenStore {
    /// Keeps everybody else out.
    pub lock: Box<dyn FileLock>,
    /// Whose store it is. If the store id is unreadable: from the stamp, else the fresh one.
    pub id: StoreId,
    /// What the stamp says, the log's state taken into account.
    pub stamp: StampFound,
    /// Writes the stamp.
    pub stamp_file: StampFile,
    /// Whether its broker panicked, and was not cleared since.
    pub panic: PanicFound,
    /// The log; none if the store is damaged.
    pub log: Option<OpenLog>,
    /// The room kept for a full disk; not made by opening.
    pub reserve: Arc<Reserve>,
}

/// An open log.
pub struct OpenLog {
    /// Appends; knows the reserve.
    pub writer: LogWriter,
    /// Reads.
    pub reader: LogReader,
    /// What was found.
    pub recovered: Recovered,
}

/// Why a store could not be opened at all.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A part was written by another version of this software (exit 3). Nothing was changed.
    #[error("{0}")]
    OtherFormat(String),
    /// The disk failed (exit 5), or the lock is held ([`FileError::Locked`], exit 4).
    #[error(transparent)]
    File(#[from] FileError),
}

/// Opens the store in a directory, made if missing.
///
/// # Errors
/// [`OpenError::OtherFormat`]; [`OpenError::File`], among it [`FileError::Locked`] naming the process that has the store.
pub fn open(files: &Arc<dyn Files>, dir: &Path, options: OpenOptions) -> Result<OpenStore, OpenError> {
    files.create_dir(dir)?;
    let lock = files.lock(&dir.join(LOCK_NAME), options.process)?;
    let (stamp_file, stamp) = match StampFile::open(Arc::clone(files), dir.to_path_buf()) {
        Err(StampError::File(error)) => return Err(error.into()),
        Err(error) => return Err(OpenError::OtherFormat(error.to_string())),
        Ok(opened) => opened,
    };
    let panic = panic::read(files.as_ref(), dir)?;
    let log_dir = dir.join(LOG_DIRECTORY);
    let has_log = has_log(files.as_ref(), &log_dir)?;
    let (id, problem) = identify(files.as_ref(), dir, &stamp, has_log)?;
    if id.is_none() && problem.is_none() {
        identity::create_store_id(files.as_ref(), dir, options.fresh_id)?;
    }
    let id = id.unwrap_or(options.fresh_id);
    let reserve = Arc::new(Reserve::open(Arc::clone(files), dir.to_path_buf(), options.reserve_bytes)?);
    let (log, problem) = match problem {
        Some(problem) => (None, Some(problem)),
        None => open_log(files, &log_dir, LogConfig { store: id, ..options.log }, &stamp, &reserve)?,
    };
    let stamp = match problem {
        Some(problem) => condemn(stamp, &problem),
        None => stamp,
    };
    Ok(OpenStore { lock, id, stamp, stamp_file, panic, log, reserve })
}

fn has_log(files: &dyn Files, log_dir: &Path) -> FileResult<bool> {
    match files.list(log_dir) {
        Ok(names) => Ok(names.iter().any(|name| log::is_segment_name(name))),
        Err(FileError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The store's id, if one can be made out; and what is wrong with it or its surroundings. Neither: the directory holds
/// nothing of a store.
fn identify(
    files: &dyn Files,
    dir: &Path,
    stamp: &StampFound,
    has_log: bool,
) -> Result<(Option<StoreId>, Option<String>), OpenError> {
    let (stamped, is_damaged) = match stamp {
        StampFound::Absent => (None, false),
        StampFound::Stamp(stamp) => (Some(stamp.store_id), false),
        StampFound::Damaged { .. } => (None, true),
    };
    let found = match identity::read_store_id(files, dir) {
        Ok(found) => found,
        Err(IdentityError::Damaged(what)) => {
            return Ok((stamped, Some(IdentityError::Damaged(what).to_string())));
        }
        Err(IdentityError::File(error)) => return Err(error.into()),
        Err(error @ IdentityError::Newer { .. }) => return Err(OpenError::OtherFormat(error.to_string())),
    };
    if quarantine::is_interrupted(files, dir)? {
        let problem =
            "a restore from quarantine was interrupted: end it with `quorate store quarantine restore`";
        return Ok((found.or(stamped), Some(problem.to_owned())));
    }
    Ok(match found {
        None if stamped.is_none() && !is_damaged && !has_log => (None, None),
        None => (stamped, Some("the store id is missing beside other parts of a store".to_owned())),
        Some(_) if is_damaged => (found, Some("the stamp is unreadable".to_owned())),
        Some(id) => match stamped {
            Some(stamped) if stamped != id => {
                let problem = format!("the stamp belongs to store {stamped}, the directory to store {id}");
                (found, Some(problem))
            }
            // The stamp is written before the first write of the log.
            None if has_log => (found, Some("there is a log and no stamp".to_owned())),
            _ => (found, None),
        },
    })
}

fn open_log(
    files: &Arc<dyn Files>,
    log_dir: &Path,
    config: LogConfig,
    stamp: &StampFound,
    reserve: &Arc<Reserve>,
) -> Result<(Option<OpenLog>, Option<String>), OpenError> {
    let synced = match stamp {
        StampFound::Stamp(stamp) => Some(stamp.log_synced),
        StampFound::Absent | StampFound::Damaged { .. } => None,
    };
    match log::open(Arc::clone(files), log_dir, config, synced) {
        Ok((mut writer, reader, recovered)) => {
            writer.use_reserve(Arc::clone(reserve));
            Ok((Some(OpenLog { writer, reader, recovered }), None))
        }
        Err(LogError::File(error)) => Err(error.into()),
        Err(error @ LogError::OtherFormat { .. }) => Err(OpenError::OtherFormat(error.to_string())),
        Err(error) => Ok((None, Some(error.to_string()))),
    }
}

/// A stamp that is not to be believed because of something beside it.
fn condemn(stamp: StampFound, problem: &str) -> StampFound {
    let (reason, incarnation): (String, Option<Incarnation>) = match stamp {
        StampFound::Absent => (problem.to_owned(), None),
        StampFound::Stamp(stamp) => (problem.to_owned(), Some(stamp.incarnation)),
        StampFound::Damaged { reason, incarnation } => (format!("{problem}: {reason}"), incarnation),
    };
    StampFound::Damaged { reason, incarnation }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::files::crash::{CrashFiles, Fault, Operation};
    use crate::files::real::RealFiles;
    use crate::ids::{Epoch, GroupId};
    use crate::record::{Batch, HardState, Record};
    use crate::stamp::{SLOT_NAMES, sample_stamp};

    pub(super) const DIR: &str = "/data/store";

    fn id(number: u128) -> StoreId {
        StoreId(Uuid::from_u128(number))
    }

    fn options(fresh: u128) -> OpenOptions {
        let log = LogConfig { segment_bytes: 16 << 10, ..LogConfig::new(id(0), 99) };
        OpenOptions { process: 7, fresh_id: id(fresh), log, reserve_bytes: 1 << 20 }
    }

    fn open_on(disk: &CrashFiles, fresh: u128) -> Result<OpenStore, OpenError> {
        let files: Arc<dyn Files> = Arc::new(disk.clone());
        open(&files, Path::new(DIR), options(fresh))
    }

    fn reason(store: &OpenStore) -> &str {
        match &store.stamp {
            StampFound::Damaged { reason, .. } => reason,
            stamp => panic!("not damaged: {stamp:?}"),
        }
    }

    /// A store in use: stamped dirty, with something in the log.
    pub(super) fn used() -> CrashFiles {
        let disk = CrashFiles::new();
        let mut store = open_on(&disk, 1).unwrap();
        let mut log = store.log.unwrap();
        store.stamp_file.write(sample_stamp()).unwrap();
        let hard_state = Record::HardState(GroupId(1), Epoch(1), HardState::default());
        log.writer.append(&[&Batch { records: vec![hard_state] }]).unwrap();
        log.writer.sync().unwrap();
        store
            .stamp_file
            .write(crate::stamp::Stamp { log_synced: log.writer.synced_point(), ..sample_stamp() })
            .unwrap();
        disk.kill();
        disk
    }

    #[test]
    fn opening_makes_the_lock_and_the_id_and_keeps_the_id() {
        let disk = CrashFiles::new();
        let store = open_on(&disk, 1).unwrap();
        assert_eq!((store.id, &store.stamp), (id(1), &StampFound::Absent));
        assert_eq!(disk.list(Path::new(DIR)).unwrap(), [LOCK_NAME, identity::STORE_ID_NAME]);
        disk.crash(5);
        assert_eq!(open_on(&disk, 2).unwrap().id, id(1));
    }

    #[test]
    fn the_second_opener_is_told_who_was_first() {
        let disk = CrashFiles::new();
        let _store = open_on(&disk, 1).unwrap();
        let Err(OpenError::File(error)) = open_on(&disk, 2) else { panic!("opened twice") };
        assert!(matches!(error, FileError::Locked { holder: Some(7), .. }), "{error}");
    }

    #[test]
    fn a_used_store_comes_back_and_opening_changes_no_byte() {
        let disk = used();
        let before = disk.everything();
        let store = open_on(&disk, 2).unwrap();
        assert!(matches!(store.stamp, StampFound::Stamp(_)));
        assert_eq!(store.log.unwrap().recovered.groups.len(), 1);
        assert_eq!(disk.everything(), before);
    }

    #[test]
    fn whatever_is_missing_or_rotten_makes_a_used_store_damaged_never_empty() {
        let segment = "log/segment-0000000000000001";
        for (gone, says) in [
            (vec!["store-id"], "store id is missing"),
            (SLOT_NAMES.to_vec(), "there is a log and no stamp"),
            (vec![segment], "the stamp says"),
            (vec!["store-id", "stamp.a", "stamp.b"], "store id is missing"),
        ] {
            let disk = used();
            for name in &gone {
                disk.remove(&Path::new(DIR).join(name)).unwrap();
            }
            let before = disk.everything();
            let store = open_on(&disk, 2).unwrap();
            assert!(reason(&store).contains(says), "{gone:?}: {}", reason(&store));
            assert!(store.log.is_none());
            assert_eq!(disk.everything(), before, "{gone:?}: something was written");
        }
        for (rotten, says) in [
            (vec!["store-id"], "store-id is unreadable"),
            (SLOT_NAMES.to_vec(), "the stamp is unreadable"),
            (vec![segment], "damaged in segment 1"),
        ] {
            let disk = used();
            for name in &rotten {
                let path = Path::new(DIR).join(name);
                let mut bytes = disk.content(&path).unwrap();
                bytes[24] ^= 1;
                disk.replace(&path, &bytes);
            }
            let before = disk.everything();
            let store = open_on(&disk, 2).unwrap();
            assert!(reason(&store).contains(says), "{rotten:?}: {}", reason(&store));
            assert_eq!(disk.everything(), before, "{rotten:?}: something was written");
        }
    }

    #[test]
    fn parts_of_two_stores_are_not_one() {
        let (disk, other) = (used(), CrashFiles::new());
        drop(open_on(&other, 77).unwrap());
        let path = Path::new(DIR).join(identity::STORE_ID_NAME);
        disk.replace(&path, &other.content(&path).unwrap());
        assert!(reason(&open_on(&disk, 2).unwrap()).contains("belongs to store"));
    }

    #[test]
    fn another_format_anywhere_is_refused_and_left_alone() {
        let seal = |body: &str| format!("{body}crc32 = {:08x}\n", crc32fast::hash(body.as_bytes()));
        for (name, first) in [
            ("stamp.a", "quorate-stamp 1\n"),
            ("stamp.a", "quorate-stamp 9\n"),
            ("store-id", "quorate-store 9\n"),
        ] {
            let disk = used();
            disk.replace(&Path::new(DIR).join(name), seal(first).as_bytes());
            let before = disk.everything();
            assert!(matches!(open_on(&disk, 2), Err(OpenError::OtherFormat(_))), "{name}");
            assert_eq!(disk.everything(), before);
        }
    }

    #[test]
    fn an_unreadable_medium_is_an_error() {
        let disk = used();
        disk.fail_after(Operation::Read, 0, Fault::Io);
        assert!(matches!(open_on(&disk, 2), Err(OpenError::File(FileError::Io { .. }))));
    }

    #[test]
    fn a_full_disk_does_not_keep_a_used_store_from_opening() {
        let disk = used();
        disk.set_capacity(0);
        let store = open_on(&disk, 2).unwrap();
        assert!(store.log.is_some());
    }

    #[test]
    fn a_store_on_the_real_disk() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("data");
        let files: Arc<dyn Files> = Arc::new(RealFiles);
        let store = open(&files, &dir, options(1)).unwrap();
        assert!(matches!(open(&files, &dir, options(2)), Err(OpenError::File(FileError::Locked { .. }))));
        drop(store);
        let store = open(&files, &dir, options(3)).unwrap();
        assert_eq!(store.id, id(1));
        assert!(store.reserve.restore().unwrap());
        assert!(store.reserve.release().unwrap());
    }
}
