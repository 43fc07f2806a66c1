//! Files in memory, for a broker without a store: the log runs over them as it does over a disk.
//!
//! Nothing survives the process and nothing fails; a sync has nothing to do. Memory is taken page by page as it is
//! written, so a preallocated segment costs nothing yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use quorate_store::files::{FileError, FileLock, FileResult, Files, OpenFile};

/// Bytes taken at once.
const PAGE: usize = 64 << 10;
const PAGE_64: u64 = PAGE as u64;

/// A file system in memory; clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles(Arc<Mutex<BTreeMap<PathBuf, Arc<MemoryFile>>>>);

/// One file; it lives as long as somebody has it open, whatever happens to its name.
#[derive(Debug, Default)]
struct MemoryFile {
    path: PathBuf,
    content: RwLock<Content>,
}

#[derive(Debug, Default)]
struct Content {
    length: u64,
    /// By number; a page that was never written reads as zeros.
    pages: BTreeMap<u64, Box<[u8]>>,
}

/// Nobody else can see this memory.
struct MemoryLock;

impl FileLock for MemoryLock {}

impl MemoryFiles {
    fn names(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Arc<MemoryFile>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files for MemoryFiles {
    fn create_dir(&self, _dir: &Path) -> FileResult<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> FileResult<Vec<String>> {
        let names = self.names();
        let inside = names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create(&self, path: &Path) -> FileResult<Arc<dyn OpenFile>> {
        let mut names = self.names();
        if names.contains_key(path) {
            return Err(FileError::Exists { path: path.to_owned() });
        }
        let file = Arc::new(MemoryFile { path: path.to_owned(), content: RwLock::default() });
        names.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, path: &Path) -> FileResult<Arc<dyn OpenFile>> {
        match self.names().get(path) {
            Some(file) => Ok(Arc::clone(file) as Arc<dyn OpenFile>),
            None => Err(FileError::NotFound { path: path.to_owned() }),
        }
    }

    fn open_read_only(&self, path: &Path) -> FileResult<Arc<dyn OpenFile>> {
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> FileResult<()> {
        let mut names = self.names();
        if let Some(file) = names.remove(from) {
            names.insert(to.to_owned(), file);
            return Ok(());
        }
        let below: Vec<PathBuf> = names.keys().filter(|path| path.starts_with(from)).cloned().collect();
        if below.is_empty() {
            return Err(FileError::NotFound { path: from.to_owned() });
        }
        for path in below {
            let moved = path.strip_prefix(from).map(|rest| to.join(rest));
            if let (Ok(moved), Some(file)) = (moved, names.remove(&path)) {
                names.insert(moved, file);
            }
        }
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> FileResult<()> {
        let mut names = self.names();
        if names.contains_key(to) {
            return Err(FileError::Exists { path: to.to_owned() });
        }
        let file = names.get(from).ok_or_else(|| FileError::NotFound { path: from.to_owned() })?;
        let file = Arc::clone(file);
        names.insert(to.to_owned(), file);
        Ok(())
    }

    fn links(&self, path: &Path) -> FileResult<u64> {
        let names = self.names();
        let file = names.get(path).ok_or_else(|| FileError::NotFound { path: path.to_owned() })?;
        let same = names.values().filter(|other| Arc::ptr_eq(other, file)).count();
        Ok(u64::try_from(same).unwrap_or(u64::MAX))
    }

    /// Directories are only what their files' names say: an empty one is gone already.
    fn remove_dir(&self, _dir: &Path) -> FileResult<()> {
        Ok(())
    }

    fn is_dir(&self, path: &Path) -> FileResult<bool> {
        let names = self.names();
        Ok(!names.contains_key(path) && names.keys().any(|below| below.starts_with(path)))
    }

    fn remove(&self, path: &Path) -> FileResult<()> {
        match self.names().remove(path) {
            Some(_) => Ok(()),
            None => Err(FileError::NotFound { path: path.to_owned() }),
        }
    }

    fn sync_dir(&self, _dir: &Path) -> FileResult<()> {
        Ok(())
    }

    fn lock(&self, _path: &Path, _holder: u32) -> FileResult<Box<dyn FileLock>> {
        Ok(Box::new(MemoryLock))
    }

    fn free_space(&self, _dir: &Path) -> FileResult<u64> {
        Ok(u64::MAX)
    }
}

/// A page's number, the offset in it, and how many of `wanted` bytes are in it.
fn locate(offset: u64, wanted: usize) -> (u64, usize, usize) {
    let inside = usize::try_from(offset % PAGE_64).expect("a page fits memory");
    (offset / PAGE_64, inside, wanted.min(PAGE - inside))
}

fn end_of(offset: u64, length: usize) -> u64 {
    offset.saturating_add(u64::try_from(length).unwrap_or(u64::MAX))
}

impl OpenFile for MemoryFile {
    fn length(&self) -> FileResult<u64> {
        Ok(self.content.read().unwrap_or_else(PoisonError::into_inner).length)
    }

    fn read_at(&self, mut offset: u64, mut buffer: &mut [u8]) -> FileResult<()> {
        let content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        let end = end_of(offset, buffer.len());
        if end > content.length {
            return Err(FileError::Short { path: self.path.clone(), end });
        }
        while !buffer.is_empty() {
            let (number, inside, count) = locate(offset, buffer.len());
            let (now, rest) = buffer.split_at_mut(count);
            match content.pages.get(&number) {
                Some(page) => now.copy_from_slice(&page[inside..inside + count]),
                None => now.fill(0),
            }
            offset = end_of(offset, count);
            buffer = rest;
        }
        Ok(())
    }

    fn write_at(&self, mut offset: u64, mut bytes: &[u8]) -> FileResult<()> {
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        content.length = content.length.max(end_of(offset, bytes.len()));
        while !bytes.is_empty() {
            let (number, inside, count) = locate(offset, bytes.len());
            let (now, rest) = bytes.split_at(count);
            let page = content.pages.entry(number).or_insert_with(|| vec![0; PAGE].into_boxed_slice());
            page[inside..inside + count].copy_from_slice(now);
            offset = end_of(offset, count);
            bytes = rest;
        }
        Ok(())
    }

    fn sync(&self) -> FileResult<()> {
        Ok(())
    }

    fn sync_all(&self) -> FileResult<()> {
        Ok(())
    }

    fn truncate(&self, length: u64) -> FileResult<()> {
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        content.length = length;
        // What is added later reads as zeros.
        let (last, inside, _) = locate(length, 0);
        content.pages.split_off(&last.saturating_add(1));
        if let Some(page) = content.pages.get_mut(&last) {
            page[inside..].fill(0);
        }
        Ok(())
    }

    fn preallocate(&self, length: u64) -> FileResult<()> {
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        content.length = content.length.max(length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_over_page_borders_and_gaps_are_zeros() {
        let files = MemoryFiles::default();
        let file = files.create(Path::new("/d/f")).unwrap();
        let data: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        file.write_at(PAGE_64 * 3 - 7, &data).unwrap();
        let mut seen = vec![1; data.len() + 14];
        file.read_at(PAGE_64 * 3 - 14, &mut seen).unwrap_err();
        file.preallocate(PAGE_64 * 9).unwrap();
        file.read_at(PAGE_64 * 3 - 14, &mut seen).unwrap();
        assert_eq!(&seen[..7], [0; 7]);
        assert_eq!(&seen[7..data.len() + 7], &data[..]);
        assert_eq!(&seen[data.len() + 7..], [0; 7]);
        file.truncate(PAGE_64 * 3).unwrap();
        file.truncate(PAGE_64 * 4).unwrap();
        let mut rest = vec![1; PAGE];
        file.read_at(PAGE_64 * 3, &mut rest).unwrap();
        assert!(rest.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn names_come_and_go_and_open_files_stay() {
        let files = MemoryFiles::default();
        let file = files.create(Path::new("/d/a")).unwrap();
        assert!(matches!(files.create(Path::new("/d/a")), Err(FileError::Exists { .. })));
        file.write_at(0, b"x").unwrap();
        files.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
        assert_eq!(files.list(Path::new("/d")).unwrap(), ["b"]);
        files.remove(Path::new("/d/b")).unwrap();
        assert!(matches!(files.open(Path::new("/d/b")), Err(FileError::NotFound { .. })));
        assert_eq!(file.length().unwrap(), 1);
    }

    #[test]
    fn a_preallocated_file_takes_no_memory() {
        let files = MemoryFiles::default();
        let file = files.create(Path::new("/d/a")).unwrap();
        file.preallocate(1 << 40).unwrap();
        assert_eq!(file.length().unwrap(), 1 << 40);
    }

    #[test]
    fn a_file_with_two_names_and_a_directory_that_moves() {
        let files = MemoryFiles::default();
        let (a, b) = (Path::new("/a/x"), Path::new("/a/y"));
        files.create(a).unwrap().write_at(0, b"one").unwrap();
        files.link(a, b).unwrap();
        assert!(matches!(files.link(a, b), Err(FileError::Exists { .. })));
        assert!(matches!(
            files.link(Path::new("/none"), a.parent().unwrap()),
            Err(FileError::NotFound { .. })
        ));
        assert_eq!((files.links(a).unwrap(), files.links(b).unwrap()), (2, 2));
        assert!(files.is_dir(Path::new("/a")).unwrap() && !files.is_dir(a).unwrap());
        files.rename(Path::new("/a"), Path::new("/b")).unwrap();
        assert_eq!(files.list(Path::new("/b")).unwrap(), ["x", "y"]);
        assert!(!files.is_dir(Path::new("/a")).unwrap());
        files.remove(Path::new("/b/x")).unwrap();
        assert_eq!(files.links(Path::new("/b/y")).unwrap(), 1);
        assert!(matches!(files.rename(a, b), Err(FileError::NotFound { .. })));
    }
}
