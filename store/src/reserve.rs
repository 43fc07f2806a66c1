//! Room kept for a full disk: a file that is given up when there is no other space left, so that acknowledgements,
//! deletes, elections and a shutdown go on while publishing is refused; and the decision when to refuse it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::files::{FileError, FileResult, Files};

/// The reserve's file name in the store's directory.
pub const RESERVE_NAME: &str = "reserve";
/// The reserve's usual size: as much as one log segment.
pub const RESERVE_BYTES: u64 = 64 << 20;

/// The file that keeps room.
pub struct Reserve {
    files: Arc<dyn Files>,
    dir: PathBuf,
    bytes: u64,
    held: Mutex<bool>,
}

impl Reserve {
    /// Looks for the file in the store's directory; makes nothing.
    pub fn open(files: Arc<dyn Files>, dir: PathBuf, bytes: u64) -> FileResult<Self> {
        let held = match files.open_read_only(&dir.join(RESERVE_NAME)) {
            Ok(file) => file.length()? >= bytes,
            Err(FileError::NotFound { .. }) => false,
            Err(error) => return Err(error),
        };
        Ok(Self { files, dir, bytes, held: Mutex::new(held) })
    }

    /// Bytes it keeps when it is held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Free bytes of the store's file system.
    pub fn free_space(&self) -> FileResult<u64> {
        self.files.free_space(&self.dir)
    }

    /// Whether the room is kept now.
    pub fn is_held(&self) -> bool {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the room up; true if there was any.
    pub fn release(&self) -> FileResult<bool> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held = false;
        match self.files.remove(&self.dir.join(RESERVE_NAME)) {
            Ok(()) => {}
            Err(FileError::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        // Some file systems free the blocks only when the name is durably gone.
        self.files.sync_dir(&self.dir)?;
        Ok(true)
    }

    /// Keeps the room again; false if there is none.
    pub fn restore(&self) -> FileResult<bool> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if *held {
            return Ok(true);
        }
        match self.allocate() {
            Ok(()) => {
                *held = true;
                Ok(true)
            }
            Err(FileError::Full { .. }) => match self.files.remove(&self.dir.join(RESERVE_NAME)) {
                Ok(()) | Err(FileError::NotFound { .. }) => Ok(false),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    fn allocate(&self) -> FileResult<()> {
        let path = self.dir.join(RESERVE_NAME);
        let file = match self.files.open(&path) {
            Err(FileError::NotFound { .. }) => self.files.create(&path)?,
            opened => opened?,
        };
        file.preallocate(self.bytes)?;
        file.sync_all()?;
        self.files.sync_dir(&self.dir)
    }
}

/// When a disk counts as full, and when not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceLimits {
    /// Below this many free bytes publishing stops.
    pub low_bytes: u64,
    /// From this many on it goes on; more than `low_bytes`, so that it does not flutter.
    pub enough_bytes: u64,
    /// Below this many free bytes the reserve is given up; less than `low_bytes`.
    pub critical_bytes: u64,
}

impl Default for SpaceLimits {
    fn default() -> Self {
        Self { low_bytes: 256 << 20, enough_bytes: 384 << 20, critical_bytes: 16 << 20 }
    }
}

/// What to do about the reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveStep {
    /// Nothing.
    Keep,
    /// [`Reserve::release`].
    Release,
    /// [`Reserve::restore`].
    Restore,
}

/// Decides from the free space whether publishing must stop. Pure: the space is an argument.
#[derive(Clone, Copy, Debug)]
pub struct SpaceGuard {
    limits: SpaceLimits,
    low: bool,
}

impl SpaceGuard {
    /// Starts with enough space assumed.
    pub fn new(limits: SpaceLimits) -> Self {
        assert!(
            limits.critical_bytes < limits.low_bytes && limits.low_bytes < limits.enough_bytes,
            "space limits must rise: {limits:?}"
        );
        Self { limits, low: false }
    }

    /// Publishing must stop.
    pub fn is_low(&self) -> bool {
        self.low
    }

    /// Takes a new measurement: free bytes, and the reserve's size if it is not held (it must fit before there is
    /// enough). Returns what to do about the reserve; see [`SpaceGuard::is_low`] for the rest.
    pub fn observe(&mut self, free: u64, missing_reserve: Option<u64>) -> ReserveStep {
        let SpaceLimits { low_bytes, enough_bytes, critical_bytes } = self.limits;
        let fits = free >= enough_bytes.saturating_add(missing_reserve.unwrap_or(0));
        if free < low_bytes {
            self.low = true;
        } else if fits {
            self.low = false;
        }
        match missing_reserve {
            None if free < critical_bytes => ReserveStep::Release,
            Some(_) if fits => ReserveStep::Restore,
            _ => ReserveStep::Keep,
        }
    }

    /// Decides for so many free bytes, and acts on the reserve. True if publishing must stop.
    pub fn check(&mut self, reserve: &Reserve, free: u64) -> FileResult<bool> {
        let missing = (!reserve.is_held()).then_some(reserve.bytes);
        match self.observe(free, missing) {
            ReserveStep::Keep => {}
            ReserveStep::Release => {
                reserve.release()?;
            }
            ReserveStep::Restore => {
                reserve.restore()?;
            }
        }
        Ok(self.low)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::files::crash::CrashFiles;

    const LIMITS: SpaceLimits = SpaceLimits { low_bytes: 100, enough_bytes: 200, critical_bytes: 10 };

    #[test]
    fn the_decision_has_hysteresis() {
        use ReserveStep::{Keep, Release, Restore};
        let mut guard = SpaceGuard::new(LIMITS);
        // free, size of a missing reserve, what to do, low afterwards
        let table = [
            (1000, None, Keep, false),
            (100, None, Keep, false),
            (99, None, Keep, true),
            (150, None, Keep, true),
            (200, None, Keep, false),
            (9, None, Release, true),
            (60, Some(50), Keep, true),
            (249, Some(50), Keep, true),
            (250, Some(50), Restore, false),
            (u64::MAX, Some(u64::MAX), Restore, false),
        ];
        for (row, (free, missing, step, low)) in table.into_iter().enumerate() {
            assert_eq!((guard.observe(free, missing), guard.is_low()), (step, low), "row {row}");
        }
    }

    #[test]
    fn the_reserve_is_given_up_and_taken_again() {
        let disk = CrashFiles::new();
        let dir = Path::new("/store");
        disk.create_dir(dir).unwrap();
        disk.set_capacity(1000);
        let reserve = Reserve::open(Arc::new(disk.clone()), dir.to_path_buf(), 300).unwrap();
        assert!(!reserve.is_held() && disk.everything().is_empty(), "opening made something");
        let mut guard = SpaceGuard::new(LIMITS);
        assert!(!guard.check(&reserve, reserve.free_space().unwrap()).unwrap());
        assert!(reserve.is_held());
        assert_eq!(disk.free_space(dir).unwrap(), 700);

        let filler = disk.create(Path::new("/store/filler")).unwrap();
        filler.preallocate(695).unwrap();
        assert!(guard.check(&reserve, reserve.free_space().unwrap()).unwrap());
        assert!(!reserve.is_held() && disk.free_space(dir).unwrap() == 305);
        assert!(
            guard.check(&reserve, reserve.free_space().unwrap()).unwrap(),
            "enough without the reserve is not enough"
        );
        filler.truncate(100).unwrap();
        assert!(!guard.check(&reserve, reserve.free_space().unwrap()).unwrap());
        assert!(reserve.is_held());
        disk.crash(3);
        assert!(Reserve::open(Arc::new(disk.clone()), dir.to_path_buf(), 300).unwrap().is_held());
    }

    #[test]
    fn a_reserve_that_does_not_fit_leaves_no_file() {
        let disk = CrashFiles::new();
        let dir = Path::new("/store");
        disk.create_dir(dir).unwrap();
        disk.set_capacity(100);
        let reserve = Reserve::open(Arc::new(disk.clone()), dir.to_path_buf(), 300).unwrap();
        assert!(!reserve.restore().unwrap());
        assert!(!reserve.is_held() && disk.everything().is_empty());
    }
}
