//! What lies in a store's directory: identity, stamp, log and state, each read as far as it can be.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_store::files::{FileError, Files};
use quorate_store::identity::{LOCK_NAME, STORE_ID_NAME, read_store_id};
use quorate_store::ids::{Incarnation, StoreId};
use quorate_store::log::{self, LOG_DIRECTORY, LogError, LogReader, Recovered};
use quorate_store::panic::{self, PanicFound};
use quorate_store::quarantine;
use quorate_store::stamp::{SLOT_NAMES, Stamp, StampError, StampFile, StampFound};
use quorate_store_rocks::RocksReader;

use super::STATE_DIRECTORY;
use super::limits::Budget;
use super::looking::{LookingFiles, check_is_file};
use crate::exit::{Failure, Status};

/// A store's parts.
pub struct Look {
    /// The directory.
    pub dir: PathBuf,
    /// What it was read with.
    pub files: LookingFiles,
    /// The budget of it all.
    pub budget: Budget,
    /// What the file `store-id` says.
    pub identity: Option<StoreId>,
    /// The stamp, if a slot is readable.
    pub stamp: Option<Box<Stamp>>,
    /// The highest incarnation that an unreadable stamp shows.
    pub incarnation: Option<Incarnation>,
    /// The log, if it is sound.
    pub log: Option<(LogReader, Recovered)>,
    /// The state store; none if nothing was ever written to it, or if it cannot be read.
    pub state: Option<RocksReader>,
    /// What is wrong; empty if nothing is.
    pub damage: Vec<String>,
    /// What was noticed and is no damage.
    pub notes: Vec<String>,
    /// Why nothing can be said of the store though it may be sound: another version's, no permission, no time.
    pub unread: Option<String>,
    /// Written by another version of this software.
    pub is_other_format: bool,
    /// The process that has the store, if another one has.
    pub in_use_by: Option<u32>,
}

/// Looks at everything.
///
/// # Errors
/// There is no such directory, it cannot be listed, or nothing of a store is in it.
pub fn look(dir: &Path, budget: Budget) -> Result<Look, Failure> {
    let nothing = |text: String| {
        Failure::new(Status::Unknown, "no-store", text)
            .next("quorate store facts DIR    (the directory given to quorated --data-dir)")
    };
    let files = LookingFiles::new(budget);
    let names = files.list(dir).map_err(|error| nothing(error.to_string()))?;
    let is_piece =
        |name: &String| name == STORE_ID_NAME || name == LOG_DIRECTORY || SLOT_NAMES.contains(&name.as_str());
    if !names.iter().any(is_piece) {
        return Err(nothing(format!("{} holds no store: neither identity nor stamp nor log", dir.display())));
    }
    let mut look = Look {
        dir: dir.to_path_buf(),
        files,
        budget,
        identity: None,
        stamp: None,
        incarnation: None,
        log: None,
        state: None,
        damage: Vec::new(),
        notes: Vec::new(),
        unread: None,
        is_other_format: false,
        in_use_by: lock_holder(&dir.join(LOCK_NAME)).filter(|pid| *pid != std::process::id()),
    };
    if quarantine::is_interrupted(&look.files, dir).unwrap_or(false) {
        look.damage.push("a restore from quarantine was interrupted: run it again".to_owned());
    }
    look.read_identity();
    look.read_stamp();
    look.read_panic();
    if let (Some(identity), Some(stamp)) = (look.identity, &look.stamp)
        && identity != stamp.store_id
    {
        let text =
            format!("the stamp belongs to store {}, the directory to store {identity}", stamp.store_id);
        look.damage.push(text);
    }
    look.read_log();
    look.read_state();
    if look.files.was_late() {
        let text = format!("it could not be read within {:?}: give more with --time", budget.time);
        look.unread = Some(text);
        // What looked like damage was the end of the time.
        look.damage.clear();
    }
    Ok(look)
}

impl Look {
    /// Whose store it is, from the identity, else from the stamp.
    pub fn id(&self) -> Option<StoreId> {
        self.identity.or(self.stamp.as_ref().map(|stamp| stamp.store_id))
    }

    /// Whether the system has run on since the stamp was written; not known: no.
    pub fn is_same_boot(&self) -> bool {
        let now = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        self.stamp.as_ref().is_some_and(|stamp| stamp.is_of_boot(now.trim()))
    }

    fn cannot(&mut self, error: &FileError) {
        self.unread.get_or_insert_with(|| error.to_string());
    }

    fn other_format(&mut self, text: String) {
        self.is_other_format = true;
        self.unread.get_or_insert(text);
    }

    fn read_identity(&mut self) {
        use quorate_store::identity::IdentityError;
        match read_store_id(&self.files, &self.dir) {
            Ok(Some(id)) => self.identity = Some(id),
            Ok(None) => {
                self.damage.push("the store id is missing beside other parts of a store".to_owned());
            }
            Err(IdentityError::File(FileError::Short { path, .. })) => {
                self.damage.push(format!("{} became shorter while it was read", path.display()));
            }
            Err(IdentityError::File(error)) => self.cannot(&error),
            Err(error @ IdentityError::Damaged(_)) => self.damage.push(error.to_string()),
            Err(error) => self.other_format(error.to_string()),
        }
    }

    fn read_stamp(&mut self) {
        let (file, found) = match StampFile::open(Arc::new(self.files.clone()), self.dir.clone()) {
            Ok(opened) => opened,
            Err(StampError::File(error)) => return self.cannot(&error),
            Err(error) => return self.other_format(error.to_string()),
        };
        match found {
            StampFound::Absent => {}
            StampFound::Stamp(stamp) => {
                // Its twin is whole, and the next write repairs it.
                self.notes
                    .extend(file.damage().map(|what| format!("one of two stamps is unreadable: {what}")));
                self.stamp = Some(stamp);
            }
            StampFound::Damaged { reason, incarnation } => {
                self.damage.push(format!("the stamp is unreadable: {reason}"));
                self.incarnation = incarnation;
            }
        }
    }

    fn read_panic(&mut self) {
        let what = match panic::read(&self.files, &self.dir) {
            Ok(PanicFound::None) => return,
            Ok(PanicFound::Panic(record)) => record.to_string(),
            Ok(PanicFound::Damaged(what)) => format!("its panic file cannot be read: {what}"),
            Err(error) => return self.cannot(&error),
        };
        self.notes.push(format!(
            "its broker panicked (SAFE-2001) and takes no part after a start before quorate cluster panic clear: {what}"
        ));
    }

    fn read_log(&mut self) {
        let log_dir = self.dir.join(LOG_DIRECTORY);
        let has_log =
            self.files.list(&log_dir).is_ok_and(|names| names.iter().any(|name| log::is_segment_name(name)));
        if has_log && self.stamp.is_none() && self.damage.is_empty() && !self.is_other_format {
            self.damage.push("there is a log and no stamp".to_owned());
        }
        let Some(id) = self.id() else { return };
        let synced = self.stamp.as_ref().map(|stamp| stamp.log_synced);
        match log::inspect(&self.files, &log_dir, id, synced) {
            Ok((reader, recovered)) => {
                // What was cut while opening for writing is only seen here.
                self.notes.extend(recovered.torn.map(|torn| {
                    format!(
                        "a torn batch of {} bytes at {}+{}, never synced: {}",
                        torn.bytes, torn.generation, torn.offset, torn.what
                    )
                }));
                self.log = Some((reader, recovered));
            }
            Err(LogError::File(error)) => self.cannot(&error),
            Err(error @ LogError::Damaged { .. }) => self.damage.push(error.to_string()),
            Err(error) => self.other_format(error.to_string()),
        }
    }

    fn read_state(&mut self) {
        use quorate_store::state::StateError;
        let dir = self.dir.join(STATE_DIRECTORY);
        let names = match self.files.list(&dir) {
            Ok(names) => names,
            Err(FileError::NotFound { .. }) => return,
            Err(error) => return self.cannot(&error),
        };
        if names.is_empty() {
            return;
        }
        // RocksDB opens what it finds, and reads all but the tables from end to end.
        for name in &names {
            let length = match check_is_file(&dir.join(name)) {
                Ok(length) => length,
                Err(error) => return self.damage.push(format!("the state store: {error}")),
            };
            let is_table = Path::new(name).extension().is_some_and(|extension| extension == "sst");
            let is_read_whole = !is_table && !name.starts_with("LOG");
            if is_read_whole && length > self.budget.memory {
                let path = dir.join(name);
                let limit = self.budget.memory;
                let text =
                    format!("{}: {length} bytes are more than --memory allows ({limit})", path.display());
                self.unread.get_or_insert(text);
                return;
            }
        }
        match RocksReader::open(&dir) {
            Ok(reader) => self.state = Some(reader),
            Err(StateError::Corrupt(what)) => self.damage.push(what),
            Err(error) => {
                self.unread.get_or_insert(error.to_string());
            }
        }
    }
}

/// The process that holds the advisory lock, from the kernel's table: asking with a lock of one's own could keep out
/// a broker that starts at this moment.
fn lock_holder(path: &Path) -> Option<u32> {
    let inode = fs::metadata(path).ok()?.ino();
    holder_in(&fs::read_to_string("/proc/locks").ok()?, inode)
}

/// `1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`
pub(super) fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, place, ..] = fields.as_slice() else { return None };
        let (_, found) = place.rsplit_once(':')?;
        if found.parse() == Ok(inode) { pid.parse().ok() } else { None }
    })
}
