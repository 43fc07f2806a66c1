//! The file system for whoever only looks: nothing can be written through it, and no read begins after its time.

use std::fs;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quorate_store::files::real::RealFiles;
use quorate_store::files::{FileError, FileLock, FileResult, Files, OpenFile};

use super::limits::Budget;

/// Files that can be read until a deadline.
#[derive(Clone, Debug)]
pub struct LookingFiles {
    budget: Budget,
    late: Arc<AtomicBool>,
}

struct LookingFile {
    inner: Arc<dyn OpenFile>,
    path: PathBuf,
    files: LookingFiles,
}

fn refused<T>(operation: &'static str, path: &Path) -> FileResult<T> {
    let source = Error::new(ErrorKind::PermissionDenied, "whoever looks at a store changes nothing");
    Err(FileError::Io { operation, path: path.to_path_buf(), source })
}

fn wrong(path: &Path, text: String) -> FileError {
    FileError::Io { operation: "read", path: path.to_path_buf(), source: Error::other(text) }
}

impl LookingFiles {
    /// Within this budget.
    pub fn new(budget: Budget) -> Self {
        Self { budget, late: Arc::default() }
    }

    /// A read was refused because the time was over: what came of it is no statement about the store.
    pub fn was_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    fn in_time(&self, path: &Path) -> FileResult<()> {
        if !self.budget.is_over() {
            return Ok(());
        }
        self.late.store(true, Ordering::Relaxed);
        let source = Error::new(ErrorKind::TimedOut, format!("not read within {:?}", self.budget.time));
        Err(FileError::Io { operation: "read", path: path.to_path_buf(), source })
    }
}

/// A pipe or a device in a store's place would block, or never end.
pub fn check_is_file(path: &Path) -> FileResult<u64> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(metadata.len()),
        Ok(_) => Err(wrong(path, "it is no file".to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(FileError::NotFound { path: path.to_path_buf() })
        }
        Err(source) => Err(FileError::Io { operation: "open", path: path.to_path_buf(), source }),
    }
}

impl Files for LookingFiles {
    fn create_dir(&self, dir: &Path) -> FileResult<()> {
        refused("create directory", dir)
    }

    fn list(&self, dir: &Path) -> FileResult<Vec<String>> {
        self.in_time(dir)?;
        RealFiles.list(dir)
    }

    fn create(&self, path: &Path) -> FileResult<Arc<dyn OpenFile>> {
        refused("create", path)
    }

    fn open(&self, path: &Path) -> FileResult<Arc<dyn OpenFile>> {
        refused("open for writing", path)
    }

    fn open_read_only(&self, path: &Path) -> FileResult<Arc<dyn OpenFile>> {
        self.in_time(path)?;
        let length = check_is_file(path)?;
        // The log reads a whole segment into memory.
        if length > self.budget.memory {
            let text = format!("{length} bytes are more than --memory allows ({})", self.budget.memory);
            return Err(wrong(path, text));
        }
        let inner = RealFiles.open_read_only(path)?;
        Ok(Arc::new(LookingFile { inner, path: path.to_path_buf(), files: self.clone() }))
    }

    fn rename(&self, from: &Path, _: &Path) -> FileResult<()> {
        refused("rename", from)
    }

    fn remove(&self, path: &Path) -> FileResult<()> {
        refused("remove", path)
    }

    fn link(&self, from: &Path, _: &Path) -> FileResult<()> {
        refused("link", from)
    }

    fn links(&self, path: &Path) -> FileResult<u64> {
        self.in_time(path)?;
        RealFiles.links(path)
    }

    fn remove_dir(&self, dir: &Path) -> FileResult<()> {
        refused("remove", dir)
    }

    fn is_dir(&self, path: &Path) -> FileResult<bool> {
        self.in_time(path)?;
        RealFiles.is_dir(path)
    }

    fn sync_dir(&self, dir: &Path) -> FileResult<()> {
        refused("sync directory", dir)
    }

    fn lock(&self, path: &Path, _: u32) -> FileResult<Box<dyn FileLock>> {
        refused("lock", path)
    }

    fn free_space(&self, dir: &Path) -> FileResult<u64> {
        RealFiles.free_space(dir)
    }
}

impl OpenFile for LookingFile {
    fn length(&self) -> FileResult<u64> {
        self.inner.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> FileResult<()> {
        self.files.in_time(&self.path)?;
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> FileResult<()> {
        refused("write", &self.path)
    }

    fn sync(&self) -> FileResult<()> {
        refused("sync", &self.path)
    }

    fn sync_all(&self) -> FileResult<()> {
        refused("sync", &self.path)
    }

    fn truncate(&self, _: u64) -> FileResult<()> {
        refused("truncate", &self.path)
    }

    fn preallocate(&self, _: u64) -> FileResult<()> {
        refused("allocate", &self.path)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn nothing_can_be_changed_and_nothing_but_files_is_opened() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("file");
        fs::write(&path, "content").unwrap();
        let files = LookingFiles::new(Budget::new(100, Duration::from_mins(1)));
        let file = files.open_read_only(&path).unwrap();
        assert!(file.write_at(0, b"x").is_err() && file.truncate(0).is_err() && file.sync().is_err());
        assert!(files.open(&path).is_err() && files.remove(&path).is_err());
        assert!(files.create(&temporary.path().join("new")).is_err());
        assert!(files.lock(&path, 1).is_err() && files.rename(&path, &path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"content");
        assert!(files.open_read_only(temporary.path()).is_err(), "a directory");
        fs::write(&path, [0; 101]).unwrap();
        let error = files.open_read_only(&path).err().unwrap();
        assert!(error.to_string().contains("--memory"), "{error}");
    }

    #[test]
    fn nothing_is_read_after_the_deadline() {
        let temporary = tempfile::tempdir().unwrap();
        let files = LookingFiles::new(Budget::new(100, Duration::ZERO));
        assert!(!files.was_late());
        assert!(files.list(temporary.path()).is_err());
        assert!(files.was_late());
    }
}
