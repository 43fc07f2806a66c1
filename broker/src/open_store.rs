//! Opens what the broker keeps things in: a directory, or memory.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use quorate_core::io::{Found, FoundGroup, FoundStamp};
use quorate_store::files::real::RealFiles;
use quorate_store::files::{FileError, FileLock, Files};
use quorate_store::identity::LOCK_NAME;
use quorate_store::ids::{RunId, StoreId};
use quorate_store::log::{LogConfig, LogReader, LogWriter, RecoveredGroup};
use quorate_store::model::StateModel;
use quorate_store::open::{OpenError, OpenLog, OpenOptions, open};
use quorate_store::panic::{PanicFile, PanicFound};
use quorate_store::quarantine::{self, Act, Note, QUARANTINE_DIRECTORY};
use quorate_store::reserve::{RESERVE_BYTES, Reserve};
use quorate_store::stamp::{StampFile, StampFound};
use quorate_store::state::{STATE_DIRECTORY, StateError, StateStore};
use quorate_store_rocks::RocksConfig;
use uuid::Uuid;

use crate::config::{Config, StoreChoice};
use crate::exit::{Exit, ExitStatus};
use crate::lazy_state::LazyState;
use crate::memory_files::MemoryFiles;
use crate::stamp_thread::boot_id;

/// Segments in memory are small, so that what is let go of is given back soon.
const MEMORY_SEGMENT_BYTES: u64 = 8 << 20;

/// Everything that the core's surroundings need, and what the core is told of it.
pub struct Opened {
    /// Held for the life of the process; none for a transient broker.
    pub lock: Option<Box<dyn FileLock>>,
    /// For the core.
    pub found: Found,
    /// Appends to the log.
    pub writer: LogWriter,
    /// Reads from the log.
    pub reader: LogReader,
    /// None if there is nothing to remember, or nothing that may be written.
    pub stamp: Option<StampFile>,
    /// Beside it; none in memory.
    pub panic: Option<PanicFile>,
    /// None in memory.
    pub reserve: Option<Arc<Reserve>>,
    /// RocksDB or memory.
    pub state: Box<dyn StateStore>,
    /// Bytes in quarantine.
    pub quarantine_bytes: u64,
}

fn random_number() -> u64 {
    getrandom::u64().expect("the system gives random bytes")
}

/// Opens the store that the configuration names.
pub fn open_store(config: &Config) -> Result<Opened, Exit> {
    open_store_on(&(Arc::new(RealFiles) as Arc<dyn Files>), config, |log| log)
}

/// The same through these files (the state store excepted, which has files of its own), its log kept as `sizes` changes
/// what the configuration says.
pub fn open_store_on(
    files: &Arc<dyn Files>,
    config: &Config,
    sizes: impl FnOnce(LogConfig) -> LogConfig,
) -> Result<Opened, Exit> {
    let run = RunId(Uuid::new_v4());
    let fresh = StoreId(Uuid::new_v4());
    let log = LogConfig { log_retain: config.log_retain.0, ..LogConfig::new(fresh, random_number()) };
    match &config.store {
        StoreChoice::Transient => Ok(in_memory(run, fresh, log, FoundStamp::Transient)),
        StoreChoice::Directory(dir) => in_directory(files, dir, run, fresh, sizes(log), config),
    }
}

/// A log and a state store that nobody else sees.
fn in_memory(run: RunId, store: StoreId, log: LogConfig, stamp: FoundStamp) -> Opened {
    let files: Arc<dyn Files> = Arc::new(MemoryFiles::default());
    let log = LogConfig { store, segment_bytes: MEMORY_SEGMENT_BYTES, reuse: false, fill: false, ..log };
    let (writer, reader, _) =
        quorate_store::log::open(files, Path::new("/log"), log, None).expect("an empty log in memory opens");
    Opened {
        lock: None,
        found: Found {
            run,
            store,
            stamp,
            groups: Vec::new(),
            log_bytes: 0,
            same_boot: false,
            panic: PanicFound::None,
        },
        writer,
        reader,
        stamp: None,
        panic: None,
        reserve: None,
        state: Box::new(StateModel::new()),
        quarantine_bytes: 0,
    }
}

fn in_directory(
    files: &Arc<dyn Files>,
    dir: &Path,
    run: RunId,
    fresh: StoreId,
    log: LogConfig,
    config: &Config,
) -> Result<Opened, Exit> {
    let options =
        OpenOptions { process: std::process::id(), fresh_id: fresh, log, reserve_bytes: RESERVE_BYTES };
    let store = open(files, dir, options).map_err(|error| refuse(dir, error))?;
    let panic = PanicFile::new(Arc::clone(files), dir.to_path_buf());
    let quarantine_bytes = bytes_in(&dir.join(QUARANTINE_DIRECTORY));
    if let Some(damage) = store.stamp_file.damage() {
        tracing::warn!("one of the two stamps is unreadable, the other one counts: {damage}");
    }
    let memory = usize::try_from(config.rocksdb_memory.0).unwrap_or(usize::MAX);
    let state_dir = dir.join(STATE_DIRECTORY);
    let looked = LazyState::look(&state_dir, RocksConfig { memory });
    let (stamp, damage) = match (store.stamp, looked) {
        (StampFound::Damaged { reason, incarnation }, _) => (None, Some((reason, incarnation))),
        (StampFound::Stamp(stamp), Err(StateError::Corrupt(reason))) => {
            (None, Some((reason, Some(stamp.incarnation))))
        }
        (StampFound::Absent, Err(StateError::Corrupt(reason))) => (None, Some((reason, None))),
        (_, Err(error)) => {
            return Err(Exit::new(
                ExitStatus::Io,
                format!("cannot read the store in {}: {error}", dir.display()),
            ));
        }
        (StampFound::Stamp(stamp), Ok(state)) => (Some((FoundStamp::Stamp(stamp), state)), None),
        (StampFound::Absent, Ok(state)) => (Some((FoundStamp::Empty, state)), None),
    };
    let (Some(OpenLog { writer, reader, recovered }), Some((stamp, state))) = (store.log, stamp) else {
        let (reason, incarnation) = damage.unwrap_or_else(|| ("the log cannot be read".to_owned(), None));
        tracing::error!("the store in {} is damaged and left as it is: {reason}", dir.display());
        // Held: it is not written. Should something try, then into memory.
        let held = in_memory(run, store.id, log, FoundStamp::Damaged { reason, incarnation });
        let found = Found { panic: store.panic, ..held.found };
        return Ok(Opened { lock: Some(store.lock), found, panic: Some(panic), quarantine_bytes, ..held });
    };
    if let Some(torn) = recovered.torn {
        tracing::warn!("the log ended in a batch that was never synced: {torn}");
    }
    let same_boot = matches!(&stamp, FoundStamp::Stamp(stamp) if stamp.is_of_boot(&boot_id()));
    let found = Found {
        run,
        store: store.id,
        stamp,
        same_boot,
        groups: recovered.groups.into_iter().map(found_group).collect(),
        log_bytes: recovered.log_bytes,
        panic: store.panic,
    };
    Ok(Opened {
        lock: Some(store.lock),
        found,
        writer,
        reader,
        stamp: Some(store.stamp_file),
        panic: Some(panic),
        reserve: Some(store.reserve),
        state: Box::new(state),
        quarantine_bytes,
    })
}

/// Moves the store that an operator gave up into its quarantine, and leaves the directory to an empty one.
///
/// # Errors
/// The quarantine is full by `--quarantine-max`, or the disk failed (exit 5), or somebody else has the store (exit 4).
pub fn set_aside_store(config: &Config, why: &str) -> Result<(), Exit> {
    let StoreChoice::Directory(dir) = &config.store else { return Ok(()) };
    let files: Arc<dyn Files> = Arc::new(RealFiles);
    let lock = files
        .lock(&dir.join(LOCK_NAME), std::process::id())
        .map_err(|error| refuse(dir, OpenError::File(error)))?;
    let failed = |what: String| Exit::new(ExitStatus::Io, what);
    let there = bytes_in(&dir.join(QUARANTINE_DIRECTORY));
    if there >= config.quarantine_max.0 {
        return Err(failed(format!(
            "the damaged store in {0} is not set aside: its quarantine holds {there} bytes, and --quarantine-max permits {1}: \
             look at quorate store quarantine list {0}, purge what is not needed, and start the broker again",
            dir.display(),
            config.quarantine_max.0
        )));
    }
    let when_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let note = Note {
        act: Act::Damage,
        why: why.to_owned(),
        groups: Vec::new(),
        diverged: None,
        when_ms: u64::try_from(when_ms).unwrap_or(u64::MAX),
    };
    let image = quarantine::set_aside(&files, dir, lock.as_ref(), note).map_err(|error| {
        failed(format!("cannot set aside the damaged store in {}: {error}", dir.display()))
    })?;
    tracing::warn!(
        "the damaged store is kept in quarantine as image {} ({} bytes)",
        image.number,
        image.bytes
    );
    Ok(())
}

fn found_group(group: RecoveredGroup) -> FoundGroup {
    let RecoveredGroup { group, hard_state, first, last, terms, epoch } = group;
    FoundGroup { group, hard_state, first, last, terms, epoch }
}

fn refuse(dir: &Path, error: OpenError) -> Exit {
    let dir = dir.display();
    match error {
        OpenError::OtherFormat(text) => Exit::new(ExitStatus::Refused, format!("the store in {dir}: {text}")),
        OpenError::File(error @ FileError::Locked { .. }) => {
            Exit::new(ExitStatus::Locked, format!("{error}: stop it, or give this broker another --data-dir"))
        }
        OpenError::File(error) => {
            let next = what_next(&error);
            Exit::new(ExitStatus::Io, format!("cannot use the store in {dir}: {error}; {next}"))
        }
    }
}

/// What an operator does about a directory that cannot be used.
fn what_next(error: &FileError) -> &'static str {
    match error {
        FileError::Io { source, .. } => match source.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                "let the broker's user write there, or give another --data-dir"
            }
            ErrorKind::NotADirectory | ErrorKind::InvalidFilename => "give a directory with --data-dir",
            _ => "look at the disk and at the system's log",
        },
        FileError::Full { .. } => "make room, then start the broker again",
        FileError::NotFound { .. } => "make that directory, or give another --data-dir",
        FileError::Exists { .. } | FileError::Locked { .. } | FileError::Short { .. } => {
            "another program changes the directory: give the broker one of its own with --data-dir"
        }
    }
}

/// Bytes of all files below a directory, as far as they can be seen: a number for status, nothing is decided on it.
/// Bytes of all files below this directory; what cannot be read counts nothing.
pub fn bytes_in(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use std::io::{Error, Write as _};
    use std::path::PathBuf;

    use super::*;

    /// What a broker says that is started on this directory.
    fn said(dir: &Path) -> Exit {
        let files: Arc<dyn Files> = Arc::new(RealFiles);
        let fresh = StoreId(Uuid::from_u128(1));
        let options =
            OpenOptions { process: 1, fresh_id: fresh, log: LogConfig::new(fresh, 1), reserve_bytes: 0 };
        refuse(dir, open(&files, dir, options).err().expect("it cannot be opened"))
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_or_above_it_is_said_so() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("data");
        std::fs::File::create(&file).unwrap().write_all(b"x").unwrap();
        for dir in [file.clone(), file.join("below")] {
            let exit = said(&dir);
            assert_eq!(exit.status, 5);
            for part in [dir.to_str().unwrap(), "something else has that name", "--data-dir"] {
                assert!(exit.reason.contains(part), "{part} not in {exit}");
            }
            assert!(!exit.reason.contains("already exists"), "{exit}");
        }
    }

    #[test]
    fn each_failure_of_the_directory_says_what_next() {
        let path = PathBuf::from("/data");
        let io = |kind| FileError::Io { operation: "lock", path: path.clone(), source: Error::from(kind) };
        for (error, words) in [
            (io(ErrorKind::PermissionDenied), "let the broker's user write there"),
            (io(ErrorKind::ReadOnlyFilesystem), "let the broker's user write there"),
            (io(ErrorKind::NotADirectory), "give a directory"),
            (io(ErrorKind::Other), "look at the disk"),
            (FileError::Full { operation: "lock", path: path.clone() }, "make room"),
            (FileError::NotFound { path: path.clone() }, "make that directory"),
        ] {
            let exit = refuse(&path, OpenError::File(error));
            assert_eq!(exit.status, 5);
            assert!(exit.reason.contains(words) && exit.reason.contains("/data"), "{exit}");
        }
        let locked =
            refuse(&path, OpenError::File(FileError::Locked { path: path.clone(), holder: Some(7) }));
        assert_eq!(locked.status, 4);
        assert!(locked.reason.contains("process 7"), "{locked}");
    }
}
