//! A disk that takes everything and keeps nothing: what is left is what the log itself does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_store::files::{FileError, FileLock, FileResult, Files, OpenFile};

/// Files without content.
#[derive(Clone, Copy, Debug, Default)]
pub struct VoidFiles;

#[derive(Debug)]
struct VoidFile {
    path: PathBuf,
}

struct VoidLock;

impl FileLock for VoidLock {}

fn missing(path: &Path) -> FileError {
    FileError::NotFound { path: path.to_path_buf() }
}

impl Files for VoidFiles {
    fn create_dir(&self, _: &Path) -> FileResult<()> {
        Ok(())
    }
    fn list(&self, _: &Path) -> FileResult<Vec<String>> {
        Ok(Vec::new())
    }
    fn create(&self, path: &Path) -> FileResult<Arc<dyn OpenFile>> {
        Ok(Arc::new(VoidFile { path: path.to_path_buf() }))
    }
    fn open(&self, path: &Path) -> FileResult<Arc<dyn OpenFile>> {
        Err(missing(path))
    }
    fn open_read_only(&self, path: &Path) -> FileResult<Arc<dyn OpenFile>> {
        Err(missing(path))
    }
    fn rename(&self, _: &Path, _: &Path) -> FileResult<()> {
        Ok(())
    }
    fn remove(&self, _: &Path) -> FileResult<()> {
        Ok(())
    }
    fn link(&self, _: &Path, _: &Path) -> FileResult<()> {
        Ok(())
    }
    fn links(&self, _: &Path) -> FileResult<u64> {
        Ok(1)
    }
    fn remove_dir(&self, _: &Path) -> FileResult<()> {
        Ok(())
    }
    fn is_dir(&self, _: &Path) -> FileResult<bool> {
        Ok(true)
    }
    fn sync_dir(&self, _: &Path) -> FileResult<()> {
        Ok(())
    }
    fn lock(&self, _: &Path, _: u32) -> FileResult<Box<dyn FileLock>> {
        Ok(Box::new(VoidLock))
    }
    fn free_space(&self, _: &Path) -> FileResult<u64> {
        Ok(u64::MAX)
    }
}

impl OpenFile for VoidFile {
    fn length(&self) -> FileResult<u64> {
        Ok(0)
    }
    fn read_at(&self, offset: u64, _: &mut [u8]) -> FileResult<()> {
        Err(FileError::Short { path: self.path.clone(), end: offset })
    }
    fn write_at(&self, _: u64, _: &[u8]) -> FileResult<()> {
        Ok(())
    }
    fn write_pieces_at(&self, _: u64, _: &[&[u8]]) -> FileResult<()> {
        Ok(())
    }
    fn sync(&self) -> FileResult<()> {
        Ok(())
    }
    fn sync_all(&self) -> FileResult<()> {
        Ok(())
    }
    fn truncate(&self, _: u64) -> FileResult<()> {
        Ok(())
    }
    fn preallocate(&self, _: u64) -> FileResult<()> {
        Ok(())
    }
}
