//! The file-system seam: every byte that a store reads or writes goes through [`Files`].
//!
//! What the seam promises is what a careful reading of POSIX promises, and no more: bytes are durable after
//! [`OpenFile::sync`], names after [`Files::sync_dir`]. [`real`] is the disk; [`crash`] is a disk in memory that takes
//! every liberty this contract leaves, and can be told to fail.

pub mod crash;
pub mod real;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

/// Why the file system could not do what was asked.
#[derive(Debug, Error)]
pub enum FileError {
    /// No such file or directory.
    #[error("{0} does not exist", path.display())]
    NotFound {
        /// What was looked for.
        path: PathBuf,
    },
    /// The name is taken.
    #[error("{0} already exists", path.display())]
    Exists {
        /// The name.
        path: PathBuf,
    },
    /// No room (or quota): make room, then start again.
    #[error("no space left to {operation} {0}", path.display())]
    Full {
        /// What was tried.
        operation: &'static str,
        /// With what.
        path: PathBuf,
    },
    /// The lock is held by somebody else.
    #[error("{0} is locked by {holder}", path.display(), holder = Holder(*holder))]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process id written in it, if readable.
        holder: Option<u32>,
    },
    /// A read past the end of a file.
    #[error("{0} ends before byte {end}", path.display())]
    Short {
        /// The file.
        path: PathBuf,
        /// The end of what was asked for.
        end: u64,
    },
    /// The operating system or the medium failed.
    #[error("cannot {operation} {0}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

struct Holder(Option<u32>);

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(process) => write!(f, "process {process}"),
            None => f.write_str("another process"),
        }
    }
}

/// What a file operation gives.
pub type FileResult<T> = Result<T, FileError>;

/// A file system. Paths are passed through; the store keeps to one directory.
pub trait Files: Send + Sync {
    /// Makes a directory and those above it, each made durable in its parent. Nothing happens if it exists.
    fn create_dir(&self, dir: &Path) -> FileResult<()>;
    /// The names in a directory, sorted; names that are not UTF-8 are left out.
    fn list(&self, dir: &Path) -> FileResult<Vec<String>>;
    /// Makes an empty file; an existing one is [`FileError::Exists`].
    fn create(&self, path: &Path) -> FileResult<Arc<dyn OpenFile>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> FileResult<Arc<dyn OpenFile>>;
    /// Opens an existing file for reading; needs no permission to write.
    fn open_read_only(&self, path: &Path) -> FileResult<Arc<dyn OpenFile>>;
    /// Gives a file another name, replacing what had it; or a directory, whose new name must be free. Durable after
    /// [`Files::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> FileResult<()>;
    /// Removes a file's name. Durable after [`Files::sync_dir`].
    fn remove(&self, path: &Path) -> FileResult<()>;
    /// Gives a file one more name, in any directory of the same file system; a taken one is [`FileError::Exists`].
    /// Content is the same under both names from then on. Durable after [`Files::sync_dir`].
    fn link(&self, from: &Path, to: &Path) -> FileResult<()>;
    /// How many names a file has.
    fn links(&self, path: &Path) -> FileResult<u64>;
    /// Removes an empty directory. Durable after [`Files::sync_dir`] of the one above.
    fn remove_dir(&self, dir: &Path) -> FileResult<()>;
    /// Whether there is a directory of this name.
    fn is_dir(&self, path: &Path) -> FileResult<bool>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> FileResult<()>;
    /// Takes the advisory lock on a file, made if missing, and writes `holder` (a process id) into it. Held until the
    /// result is dropped or the process ends; [`FileError::Locked`] if somebody else holds it.
    fn lock(&self, path: &Path, holder: u32) -> FileResult<Box<dyn FileLock>>;
    /// Bytes that this process may still allocate on the directory's file system.
    fn free_space(&self, dir: &Path) -> FileResult<u64>;
}

/// An open file. All methods take `&self` and may be called from several threads.
pub trait OpenFile: Send + Sync {
    /// Bytes in the file.
    fn length(&self) -> FileResult<u64>;
    /// Fills `buffer` from `offset` on; [`FileError::Short`] if the file ends before that.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> FileResult<()>;
    /// Writes all of `bytes` at `offset`; the file grows if need be. Durable after a sync.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> FileResult<()>;
    /// Writes these one behind the other, as [`OpenFile::write_at`] would if they were one.
    fn write_pieces_at(&self, offset: u64, pieces: &[&[u8]]) -> FileResult<()> {
        self.write_at(offset, &pieces.concat())
    }
    /// Makes the content durable, and the length as far as it is needed to read it (`fdatasync`).
    fn sync(&self) -> FileResult<()>;
    /// Makes content and all metadata durable (`fsync`).
    fn sync_all(&self) -> FileResult<()>;
    /// Sets the length; what is added reads as zeros.
    fn truncate(&self, length: u64) -> FileResult<()>;
    /// Allocates room so that writes below `length` cannot find the disk full; grows the file, never shrinks it.
    fn preallocate(&self, length: u64) -> FileResult<()>;
}

/// A lock that is held as long as this lives.
pub trait FileLock: Send + Sync {}

/// A file's whole content; none if it does not exist. A file longer than `limit` bytes is cut after `limit + 1`, so
/// that the caller sees that it is too long and its length is never trusted for allocation.
pub fn read_whole(files: &dyn Files, path: &Path, limit: u64) -> FileResult<Option<Vec<u8>>> {
    let file = match files.open_read_only(path) {
        Err(FileError::NotFound { .. }) => return Ok(None),
        opened => opened?,
    };
    let length = file.length()?.min(limit.saturating_add(1));
    let mut content = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_at(0, &mut content)?;
    Ok(Some(content))
}

/// Makes a file with this content so that after a crash it is there whole or not at all: written and synced beside its
/// place as `name.new`, then renamed, then the directory synced.
pub fn create_whole(files: &dyn Files, dir: &Path, name: &str, content: &[u8]) -> FileResult<()> {
    let beside = dir.join(format!("{name}.new"));
    match files.remove(&beside) {
        Ok(()) | Err(FileError::NotFound { .. }) => {}
        Err(error) => return Err(error),
    }
    let file = files.create(&beside)?;
    file.write_at(0, content)?;
    file.sync_all()?;
    files.rename(&beside, &dir.join(name))?;
    files.sync_dir(dir)
}

/// Removes a directory with everything in it; nothing happens if there is none. Not atomic: what is to vanish at once is
/// first renamed to where nobody looks.
pub fn remove_tree(files: &dyn Files, dir: &Path) -> FileResult<()> {
    if !files.is_dir(dir)? {
        return Ok(());
    }
    for name in files.list(dir)? {
        let path = dir.join(name);
        if files.is_dir(&path)? { remove_tree(files, &path)? } else { files.remove(&path)? }
    }
    files.remove_dir(dir)
}

/// Bytes of all files in a directory and those below it; none if it does not exist. A file with several names counts
/// under each.
pub fn tree_bytes(files: &dyn Files, dir: &Path) -> FileResult<u64> {
    let mut bytes: u64 = 0;
    if !files.is_dir(dir)? {
        return Ok(bytes);
    }
    for name in files.list(dir)? {
        let path = dir.join(name);
        let more = if files.is_dir(&path)? {
            tree_bytes(files, &path)?
        } else {
            files.open_read_only(&path)?.length()?
        };
        bytes = bytes.saturating_add(more);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What both kinds of files do alike.
    pub(super) fn links_and_directories(files: &dyn Files, dir: &Path) {
        let (a, b) = (dir.join("a"), dir.join("b"));
        files.create_dir(&a.join("below")).unwrap();
        let file = files.create(&a.join("x")).unwrap();
        file.write_at(0, b"one").unwrap();
        assert_eq!(files.links(&a.join("x")).unwrap(), 1);
        files.link(&a.join("x"), &a.join("below/y")).unwrap();
        assert_eq!(files.links(&a.join("below/y")).unwrap(), 2);
        file.write_at(0, b"two").unwrap();
        assert_eq!(read_whole(files, &a.join("below/y"), 9).unwrap().unwrap(), b"two");
        assert!(matches!(files.link(&a.join("x"), &a.join("below/y")), Err(FileError::Exists { .. })));
        assert!(matches!(files.link(&a.join("none"), &a.join("z")), Err(FileError::NotFound { .. })));
        assert!(matches!(files.links(&a.join("none")), Err(FileError::NotFound { .. })));
        assert!(files.is_dir(&a).unwrap() && !files.is_dir(&a.join("x")).unwrap());
        assert!(!files.is_dir(&b).unwrap());
        assert!(files.remove_dir(&a).is_err(), "a directory with something in it was removed");
        assert_eq!(tree_bytes(files, &a).unwrap(), 6);
        // A directory moves with everything in it.
        files.rename(&a, &b).unwrap();
        files.sync_dir(dir).unwrap();
        assert!(!files.is_dir(&a).unwrap());
        assert_eq!(files.list(&b).unwrap(), ["below", "x"]);
        assert_eq!(read_whole(files, &b.join("below/y"), 9).unwrap().unwrap(), b"two");
        files.remove(&b.join("x")).unwrap();
        assert_eq!(files.links(&b.join("below/y")).unwrap(), 1);
        remove_tree(files, &b).unwrap();
        remove_tree(files, &b).unwrap();
        assert_eq!(files.list(dir).unwrap(), Vec::<String>::new());
        assert_eq!(tree_bytes(files, &b).unwrap(), 0);
    }
}
