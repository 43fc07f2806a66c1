//! The disk.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::{Errno, pwritev};

use super::{FileError, FileLock, FileResult, Files, OpenFile};

/// As many pieces as the system takes in one call.
const SLICES_AT_ONCE: usize = 1024;

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFiles;

fn failed(operation: &'static str, path: &Path, source: io::Error) -> FileError {
    let path = path.to_path_buf();
    match source.kind() {
        ErrorKind::NotFound => FileError::NotFound { path },
        ErrorKind::AlreadyExists => FileError::Exists { path },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => FileError::Full { operation, path },
        _ => FileError::Io { operation, path, source },
    }
}

/// The directory that holds a name; `.` for a bare name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

impl RealFiles {
    fn open_with(
        path: &Path,
        operation: &'static str,
        options: &OpenOptions,
    ) -> FileResult<Arc<dyn OpenFile>> {
        let file = options.open(path).map_err(|source| failed(operation, path, source))?;
        Ok(Arc::new(RealFile { file, path: path.to_path_buf() }))
    }
}

impl Files for RealFiles {
    fn create_dir(&self, dir: &Path) -> FileResult<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let above = parent(dir);
        if above != dir {
            self.create_dir(above)?;
        }
        match fs::create_dir(dir) {
            Ok(()) => self.sync_dir(above),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
            // Not what the caller wanted to hear of: the name it is told of is taken by something else.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let source = io::Error::new(ErrorKind::NotADirectory, "something else has that name");
                Err(failed("create directory", dir, source))
            }
            Err(source) => Err(failed("create directory", dir, source)),
        }
    }

    fn list(&self, dir: &Path) -> FileResult<Vec<String>> {
        let fault = |source| failed("list", dir, source);
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).map_err(fault)? {
            if let Ok(name) = entry.map_err(fault)?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, path: &Path) -> FileResult<Arc<dyn OpenFile>> {
        Self::open_with(path, "create", OpenOptions::new().read(true).write(true).create_new(true))
    }

    fn open(&self, path: &Path) -> FileResult<Arc<dyn OpenFile>> {
        Self::open_with(path, "open", OpenOptions::new().read(true).write(true))
    }

    fn open_read_only(&self, path: &Path) -> FileResult<Arc<dyn OpenFile>> {
        Self::open_with(path, "open", OpenOptions::new().read(true))
    }

    fn rename(&self, from: &Path, to: &Path) -> FileResult<()> {
        fs::rename(from, to).map_err(|source| failed("rename", from, source))
    }

    fn remove(&self, path: &Path) -> FileResult<()> {
        fs::remove_file(path).map_err(|source| failed("remove", path, source))
    }

    fn link(&self, from: &Path, to: &Path) -> FileResult<()> {
        fs::hard_link(from, to).map_err(|source| match source.kind() {
            ErrorKind::AlreadyExists => failed("link", to, source),
            _ => failed("link", from, source),
        })
    }

    fn links(&self, path: &Path) -> FileResult<u64> {
        Ok(fs::symlink_metadata(path).map_err(|source| failed("count links of", path, source))?.nlink())
    }

    fn remove_dir(&self, dir: &Path) -> FileResult<()> {
        fs::remove_dir(dir).map_err(|source| failed("remove directory", dir, source))
    }

    fn is_dir(&self, path: &Path) -> FileResult<bool> {
        match fs::symlink_metadata(path) {
            Ok(metadata) => Ok(metadata.is_dir()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(source) => Err(failed("look at", path, source)),
        }
    }

    fn sync_dir(&self, dir: &Path) -> FileResult<()> {
        let fault = |source| failed("sync directory", dir, source);
        File::open(dir).map_err(fault)?.sync_all().map_err(fault)
    }

    fn lock(&self, path: &Path, holder: u32) -> FileResult<Box<dyn FileLock>> {
        let fault = |source| failed("lock", path, source);
        // Not truncated before it is ours: the holder's process id is for whoever comes second.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(fault)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(FileError::Locked { path: path.to_path_buf(), holder: read_holder(&file) });
            }
            Err(TryLockError::Error(source)) => return Err(fault(source)),
        }
        // Only for people: a full disk must not keep a broker from starting.
        let _ = file.set_len(0).and_then(|()| file.write_all(format!("{holder}\n").as_bytes()));
        Ok(Box::new(RealLock { file }))
    }

    fn free_space(&self, dir: &Path) -> FileResult<u64> {
        let space = statvfs(dir).map_err(|error| failed("ask for free space of", dir, error.into()))?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

/// The process id in a lock file, if there is one.
fn read_holder(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[derive(Debug)]
struct RealFile {
    file: File,
    path: PathBuf,
}

impl RealFile {
    fn failed(&self, operation: &'static str, source: io::Error) -> FileError {
        failed(operation, &self.path, source)
    }
}

impl OpenFile for RealFile {
    fn length(&self) -> FileResult<u64> {
        Ok(self.file.metadata().map_err(|source| self.failed("measure", source))?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> FileResult<()> {
        self.file.read_exact_at(buffer, offset).map_err(|source| match source.kind() {
            ErrorKind::UnexpectedEof => {
                let end = offset.saturating_add(buffer.len() as u64);
                FileError::Short { path: self.path.clone(), end }
            }
            _ => self.failed("read", source),
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> FileResult<()> {
        self.file.write_all_at(bytes, offset).map_err(|source| self.failed("write", source))
    }

    fn write_pieces_at(&self, mut offset: u64, pieces: &[&[u8]]) -> FileResult<()> {
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut left = slices.as_mut_slice();
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let some = left.get(..left.len().min(SLICES_AT_ONCE)).unwrap_or_default();
            let written = match pwritev(&self.file, some, offset) {
                Ok(0) => return Err(self.failed("write", ErrorKind::WriteZero.into())),
                Ok(written) => written,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(self.failed("write", error.into())),
            };
            offset += written as u64;
            IoSlice::advance_slices(&mut left, written);
        }
        Ok(())
    }

    fn sync(&self) -> FileResult<()> {
        self.file.sync_data().map_err(|source| self.failed("sync", source))
    }

    fn sync_all(&self) -> FileResult<()> {
        self.file.sync_all().map_err(|source| self.failed("sync", source))
    }

    fn truncate(&self, length: u64) -> FileResult<()> {
        self.file.set_len(length).map_err(|source| self.failed("set the length of", source))
    }

    fn preallocate(&self, length: u64) -> FileResult<()> {
        let length = length.max(self.length()?);
        if length == 0 {
            return Ok(());
        }
        loop {
            match fallocate(&self.file, FallocateFlags::empty(), 0, length) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                // Not every file system can: then a full disk is found by the write, which ends the process.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return self.truncate(length),
                Err(error) => return Err(self.failed("allocate", error.into())),
            }
        }
    }
}

/// The lock goes with the open file, of which a process that was just forked has a descriptor, too, until its program
/// begins. So it is given back, and does not wait for the last descriptor to be closed.
struct RealLock {
    file: File,
}

impl FileLock for RealLock {}

impl Drop for RealLock {
    fn drop(&mut self) {
        // What cannot be given back goes with the descriptors.
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_follow_each_other_however_many_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = RealFiles.create(&path).unwrap();
        file.write_at(0, &[9; 100]).unwrap();
        // More than one call takes, empty ones and large ones among them.
        let owned: Vec<Vec<u8>> = (0..3_000_usize)
            .map(|number| vec![u8::try_from(number % 251).unwrap(); number * 7 % 5_000])
            .collect();
        let pieces: Vec<&[u8]> = owned.iter().map(Vec::as_slice).collect();
        file.write_pieces_at(50, &pieces).unwrap();
        file.write_pieces_at(10, &[]).unwrap();
        let expected = [vec![9; 50], owned.concat()].concat();
        assert!(fs::read(&path).unwrap() == expected, "the file holds something else");
    }

    #[test]
    fn files_behave_as_the_seam_says() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("a").join("b");
        let files = RealFiles;
        files.create_dir(&dir).unwrap();
        files.create_dir(&dir).unwrap();
        let path = dir.join("x");
        assert!(matches!(files.open(&path), Err(FileError::NotFound { .. })));
        let file = files.create(&path).unwrap();
        assert!(matches!(files.create(&path), Err(FileError::Exists { .. })));
        file.preallocate(8192).unwrap();
        file.write_at(100, b"hello").unwrap();
        file.sync().unwrap();
        file.sync_all().unwrap();
        assert_eq!(file.length().unwrap(), 8192);
        files.rename(&path, &dir.join("y")).unwrap();
        files.sync_dir(&dir).unwrap();
        assert_eq!(files.list(&dir).unwrap(), ["y"]);
        let mut buffer = [1; 6];
        files.open_read_only(&dir.join("y")).unwrap().read_at(99, &mut buffer).unwrap();
        assert_eq!(&buffer, b"\0hello");
        assert!(matches!(file.read_at(8190, &mut buffer), Err(FileError::Short { end: 8196, .. })));
        file.truncate(3).unwrap();
        assert_eq!(file.length().unwrap(), 3);
        assert!(files.free_space(&dir).unwrap() > 0);
        files.remove(&dir.join("y")).unwrap();
        assert_eq!(files.list(&dir).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_link_is_another_name_of_the_same_file() {
        let temporary = tempfile::tempdir().unwrap();
        crate::files::tests::links_and_directories(&RealFiles, temporary.path());
    }

    #[test]
    fn the_second_locker_learns_who_holds_it() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("lock");
        let lock = RealFiles.lock(&path, 4711).unwrap();
        let Err(error) = RealFiles.lock(&path, 4712) else { panic!("locked twice") };
        assert!(matches!(error, FileError::Locked { holder: Some(4711), .. }), "{error}");
        drop(lock);
        RealFiles.lock(&path, 4712).unwrap();
    }

    #[test]
    fn a_lock_does_not_outlive_its_holder_in_a_descriptor_that_a_child_inherited() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("lock");
        let file = File::create(&path).unwrap();
        file.try_lock().unwrap();
        let inherited = file.try_clone().unwrap();
        drop(RealLock { file });
        RealFiles.lock(&path, 4712).unwrap();
        drop(inherited);
    }
}
