//! A disk in memory that takes every liberty the contract of [`Files`] leaves.
//!
//! What was written since the last sync is kept apart, and at a [`CrashFiles::crash`] a seed decides what of it is
//! found afterwards: nothing, all, a prefix, or any set of 512-byte sectors, torn ones among them; a file that grew may
//! have its old length, its new one or one between, and reads as zeros or as somebody's old bytes where nothing
//! arrived. A name that was not made durable may be the old one or the new one. Power can be cut at any operation, and
//! operations can be told to fail. The same calls and the same seed give the same disk.

mod content;
mod ending;
mod journal;
mod names;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::content::{Content, position, size};
pub use self::ending::Ending;
pub use self::journal::FileOperation;
use self::journal::Step;
use self::names::{NameChange, Names, Node, Place, ROOT};
use super::{FileError, FileLock, FileResult, Files, OpenFile};

/// A kind of operation, for [`CrashFiles::fail_after`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// [`OpenFile::read_at`].
    Read,
    /// [`OpenFile::write_at`].
    Write,
    /// [`OpenFile::sync`] and [`OpenFile::sync_all`].
    Sync,
    /// [`OpenFile::truncate`].
    Truncate,
    /// [`OpenFile::preallocate`].
    Preallocate,
    /// [`Files::create`].
    Create,
    /// [`Files::create_dir`] of a missing directory.
    CreateDir,
    /// [`Files::rename`].
    Rename,
    /// [`Files::remove`] and [`Files::remove_dir`].
    Remove,
    /// [`Files::link`].
    Link,
    /// [`Files::sync_dir`].
    SyncDir,
}

/// How a failing operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `EIO`. A failing sync drops part of what it should have made durable, and the next sync knows nothing of it.
    Io,
    /// The disk is full, after part of a write.
    Full,
}

/// The disk; clones share it, as processes do.
#[derive(Clone)]
pub struct CrashFiles {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Clone, Debug)]
struct Disk {
    /// Handles of an earlier life do nothing.
    life: u64,
    off: bool,
    operations: u64,
    cut_at: Option<u64>,
    faults: Vec<(Operation, u64, Fault)>,
    /// Operations that failed by such a fault.
    struck: u64,
    capacity: u64,
    files: BTreeMap<u64, Content>,
    /// Number of the next file or directory.
    next: u64,
    names: Names,
    locks: BTreeMap<PathBuf, u32>,
    /// What was done, if somebody wants to know.
    journal: Option<Vec<FileOperation>>,
    /// The file of the operation replayed last, if that was a write.
    last_write: Option<u64>,
}

/// What an operation meets.
enum Luck {
    Good,
    /// Power is cut during it: it may or may not take effect.
    Cut,
    Fails(Fault),
}

fn error(operation: &'static str, path: &Path, text: &str) -> FileError {
    FileError::Io { operation, path: path.to_path_buf(), source: io::Error::other(text.to_owned()) }
}

fn missing(path: &Path) -> FileError {
    FileError::NotFound { path: path.to_path_buf() }
}

impl Disk {
    fn alive(&self, life: u64, operation: &'static str, path: &Path) -> FileResult<()> {
        if self.off || life != self.life {
            return Err(error(operation, path, "the power is off"));
        }
        Ok(())
    }

    /// Counts a changing operation and says what it meets.
    fn luck(&mut self, operation: Operation) -> Luck {
        if operation != Operation::Read {
            self.operations += 1;
            if self.cut_at == Some(self.operations) {
                self.off = true;
                return Luck::Cut;
            }
        }
        for number in 0..self.faults.len() {
            let (kind, after, fault) = self.faults[number];
            if kind == operation {
                if after == 0 {
                    self.faults.remove(number);
                    self.struck += 1;
                    return Luck::Fails(fault);
                }
                self.faults[number].1 = after - 1;
            }
        }
        Luck::Good
    }

    fn used(&self) -> u64 {
        self.names.files().keys().map(|file| size(self.files[file].now.len())).sum()
    }

    /// Where a path leads; the directory above it must exist.
    fn place(&self, path: &Path) -> FileResult<Place> {
        match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
            (Some(dir), Some(name)) => {
                let dir = self.names.dir(dir).ok_or_else(|| missing(path))?;
                Ok((dir, name.to_owned()))
            }
            _ => Err(error("name", path, "not a file name")),
        }
    }

    fn file(&self, path: &Path) -> FileResult<u64> {
        match self.names.now.get(&self.place(path)?) {
            Some(Node::File(file)) => Ok(*file),
            Some(Node::Dir(_)) => Err(error("open", path, "is a directory")),
            None => Err(missing(path)),
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A file that no name leads to is gone.
    fn forget_nameless(&mut self) {
        let named = self.names.files();
        self.files.retain(|file, _| named.contains_key(file));
    }

    fn restart(&mut self) {
        self.life += 1;
        self.off = false;
        self.cut_at = None;
        self.faults.clear();
        self.locks.clear();
    }
}

fn hold(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for CrashFiles {
    fn default() -> Self {
        Self::new()
    }
}

impl CrashFiles {
    /// An empty disk without a limit.
    pub fn new() -> Self {
        let disk = Disk {
            life: 0,
            off: false,
            operations: 0,
            cut_at: None,
            faults: Vec::new(),
            struck: 0,
            capacity: u64::MAX,
            files: BTreeMap::new(),
            next: ROOT,
            names: Names::default(),
            locks: BTreeMap::new(),
            journal: None,
            last_write: None,
        };
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    /// Limits the disk's size, in bytes of file content.
    pub fn set_capacity(&self, bytes: u64) {
        hold(&self.disk).capacity = bytes;
    }

    /// Changing operations so far.
    pub fn operations(&self) -> u64 {
        hold(&self.disk).operations
    }

    /// Cuts the power during the given changing operation from now on, the first being 1. Everything fails from then
    /// on, until [`CrashFiles::crash`].
    pub fn cut_power_at(&self, operation: u64) {
        let mut disk = hold(&self.disk);
        disk.cut_at = Some(disk.operations + operation);
    }

    /// Does something whose operations do not count towards the cut.
    #[cfg(test)]
    pub(crate) fn hold_cut<T>(&self, act: impl FnOnce(&Self) -> T) -> T {
        let before = self.operations();
        let cut = hold(&self.disk).cut_at.take();
        let done = act(self);
        let mut disk = hold(&self.disk);
        disk.cut_at = cut.map(|cut| cut + (disk.operations - before));
        drop(disk);
        done
    }

    /// Whether the power was cut.
    pub fn is_off(&self) -> bool {
        hold(&self.disk).off
    }

    /// Lets one operation of a kind fail, after `after` of them that do not.
    pub fn fail_after(&self, operation: Operation, after: u64, fault: Fault) {
        hold(&self.disk).faults.push((operation, after, fault));
    }

    /// How many operations failed by a fault of [`Self::fail_after`] since this was asked last.
    pub fn take_struck(&self) -> u64 {
        std::mem::take(&mut hold(&self.disk).struck)
    }

    /// Power is lost and comes back: the seed decides what of the unsynced is found. Open files and locks are gone.
    pub fn crash(&self, seed: u64) {
        let dice = &mut ending::dice(seed);
        let mut disk = hold(&self.disk);
        disk.restart();
        disk.names.lose(dice);
        let others: Vec<Arc<Vec<u8>>> =
            disk.files.values().map(|content| Arc::clone(&content.durable)).take(8).collect();
        for content in disk.files.values_mut() {
            if content.pending.is_empty() {
                // A failed sync left what reads see and what is durable apart.
                content.now.clone_from(&content.durable);
            } else {
                content.lose(dice, &others);
            }
        }
        disk.forget_nameless();
    }

    /// The process dies and the operating system lives on: open files and locks are gone, every byte written is there,
    /// and what was not synced is still not durable.
    pub fn kill(&self) {
        hold(&self.disk).restart();
    }

    /// A separate disk with the same content and the same things unsynced, for trying several endings.
    pub fn fork(&self) -> Self {
        let mut disk = hold(&self.disk).clone();
        disk.journal = None;
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    /// What reads of a file see; none if there is no such file.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = hold(&self.disk);
        let file = disk.file(path).ok()?;
        Some(disk.files[&file].now.to_vec())
    }

    /// Replaces a file's content durably, as rot or a careless hand does; makes the file if it is missing.
    pub fn replace(&self, path: &Path, bytes: &[u8]) {
        let mut disk = hold(&self.disk);
        assert!(disk.journal.is_none(), "rot is no operation, and cannot be noted as one");
        let place = disk.place(path).expect("a file name in a directory");
        let file = disk.file(path).unwrap_or_else(|_| {
            let file = disk.number();
            disk.names.put_durably(place, Node::File(file));
            file
        });
        disk.files.insert(file, Content::durable(bytes));
    }

    /// Every file with what reads of it see, by path.
    pub fn everything(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let disk = hold(&self.disk);
        let mut found = Vec::new();
        disk.names.walk(ROOT, Path::new("/"), &mut found);
        found.into_iter().map(|(path, file)| (path, disk.files[&file].now.to_vec())).collect()
    }

    fn handle(&self, disk: &Disk, file: u64, path: &Path, writable: bool) -> Arc<dyn OpenFile> {
        let (disk, life) = (Arc::clone(&self.disk), disk.life);
        Arc::new(CrashFile { disk, life, file, path: path.to_path_buf(), writable })
    }

    fn open_with(&self, path: &Path, writable: bool) -> FileResult<Arc<dyn OpenFile>> {
        let disk = hold(&self.disk);
        disk.alive(disk.life, "open", path)?;
        let file = disk.file(path)?;
        Ok(self.handle(&disk, file, path, writable))
    }

    /// Changes names by `act`, with the luck that the operation has.
    fn rename_with(
        &self,
        operation: (Operation, &'static str),
        path: &Path,
        act: impl FnOnce(&mut Disk) -> FileResult<()>,
    ) -> FileResult<()> {
        let mut disk = hold(&self.disk);
        disk.alive(disk.life, operation.1, path)?;
        match disk.luck(operation.0) {
            Luck::Good => act(&mut disk),
            Luck::Cut => {
                act(&mut disk)?;
                Err(error(operation.1, path, "the power was cut"))
            }
            Luck::Fails(Fault::Io) => Err(error(operation.1, path, "input/output error")),
            Luck::Fails(Fault::Full) => {
                Err(FileError::Full { operation: operation.1, path: path.to_path_buf() })
            }
        }
    }
}

impl Files for CrashFiles {
    fn create_dir(&self, dir: &Path) -> FileResult<()> {
        if hold(&self.disk).names.dir(dir).is_some() {
            return Ok(());
        }
        if let Some(above) = dir.parent() {
            self.create_dir(above)?;
        }
        self.rename_with((Operation::CreateDir, "create directory"), dir, |disk| {
            let place = disk.place(dir)?;
            if disk.names.now.contains_key(&place) {
                return Err(FileError::Exists { path: dir.to_path_buf() });
            }
            let number = disk.number();
            disk.perform(Operation::CreateDir, dir, Step::MakeDir(place, number));
            Ok(())
        })
    }

    fn list(&self, dir: &Path) -> FileResult<Vec<String>> {
        let disk = hold(&self.disk);
        disk.alive(disk.life, "list", dir)?;
        let number = disk.names.dir(dir).ok_or_else(|| missing(dir))?;
        Ok(disk.names.list(number).map(|(name, _)| name.clone()).collect())
    }

    fn create(&self, path: &Path) -> FileResult<Arc<dyn OpenFile>> {
        self.rename_with((Operation::Create, "create"), path, |disk| {
            let place = disk.place(path)?;
            if disk.names.now.contains_key(&place) {
                return Err(FileError::Exists { path: path.to_path_buf() });
            }
            let file = disk.number();
            disk.perform(Operation::Create, path, Step::Make(place, file));
            Ok(())
        })?;
        self.open_with(path, true)
    }

    fn open(&self, path: &Path) -> FileResult<Arc<dyn OpenFile>> {
        self.open_with(path, true)
    }

    fn open_read_only(&self, path: &Path) -> FileResult<Arc<dyn OpenFile>> {
        self.open_with(path, false)
    }

    fn rename(&self, from: &Path, to: &Path) -> FileResult<()> {
        self.rename_with((Operation::Rename, "rename"), from, |disk| {
            let (from_place, to_place) = (disk.place(from)?, disk.place(to)?);
            let node = *disk.names.now.get(&from_place).ok_or_else(|| missing(from))?;
            match (node, disk.names.now.get(&to_place)) {
                (_, None) | (Node::File(_), Some(Node::File(_))) => {}
                _ => return Err(FileError::Exists { path: to.to_path_buf() }),
            }
            let change = NameChange { put: Some((to_place, node)), drop: Some(from_place) };
            disk.perform(Operation::Rename, from, Step::Names(change));
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> FileResult<()> {
        self.rename_with((Operation::Remove, "remove"), path, |disk| {
            disk.file(path)?;
            let change = NameChange { put: None, drop: Some(disk.place(path)?) };
            disk.perform(Operation::Remove, path, Step::Names(change));
            Ok(())
        })
    }

    fn link(&self, from: &Path, to: &Path) -> FileResult<()> {
        self.rename_with((Operation::Link, "link"), from, |disk| {
            let (file, place) = (disk.file(from)?, disk.place(to)?);
            if disk.names.now.contains_key(&place) {
                return Err(FileError::Exists { path: to.to_path_buf() });
            }
            let change = NameChange { put: Some((place, Node::File(file))), drop: None };
            disk.perform(Operation::Link, from, Step::Names(change));
            Ok(())
        })
    }

    fn links(&self, path: &Path) -> FileResult<u64> {
        let disk = hold(&self.disk);
        disk.alive(disk.life, "count links of", path)?;
        let file = disk.file(path)?;
        Ok(disk.names.files()[&file])
    }

    fn remove_dir(&self, dir: &Path) -> FileResult<()> {
        self.rename_with((Operation::Remove, "remove directory"), dir, |disk| {
            let number = disk.names.dir(dir).ok_or_else(|| missing(dir))?;
            if disk.names.list(number).next().is_some() {
                return Err(error("remove directory", dir, "not empty"));
            }
            let change = NameChange { put: None, drop: Some(disk.place(dir)?) };
            disk.perform(Operation::Remove, dir, Step::Names(change));
            Ok(())
        })
    }

    fn is_dir(&self, path: &Path) -> FileResult<bool> {
        let disk = hold(&self.disk);
        disk.alive(disk.life, "look at", path)?;
        Ok(disk.names.dir(path).is_some())
    }

    fn sync_dir(&self, dir: &Path) -> FileResult<()> {
        let mut disk = hold(&self.disk);
        disk.alive(disk.life, "sync directory", dir)?;
        match disk.luck(Operation::SyncDir) {
            Luck::Good => {
                let number = disk.names.dir(dir).ok_or_else(|| missing(dir))?;
                disk.perform(Operation::SyncDir, dir, Step::SyncNames(number));
                Ok(())
            }
            // What was to become durable is still open: the crash decides.
            Luck::Cut => Err(error("sync directory", dir, "the power was cut")),
            Luck::Fails(_) => Err(error("sync directory", dir, "input/output error")),
        }
    }

    fn lock(&self, path: &Path, holder: u32) -> FileResult<Box<dyn FileLock>> {
        if let Some(holder) = hold(&self.disk).locks.get(path) {
            return Err(FileError::Locked { path: path.to_path_buf(), holder: Some(*holder) });
        }
        let file = match self.open(path) {
            Err(FileError::NotFound { .. }) => self.create(path)?,
            opened => opened?,
        };
        let written = file.truncate(0).and_then(|()| file.write_at(0, format!("{holder}\n").as_bytes()));
        match written {
            // Only for people: a full disk must not keep a broker from starting.
            Ok(()) | Err(FileError::Full { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut disk = hold(&self.disk);
        disk.locks.insert(path.to_path_buf(), holder);
        Ok(Box::new(CrashLock { disk: Arc::clone(&self.disk), life: disk.life, path: path.to_path_buf() }))
    }

    fn free_space(&self, dir: &Path) -> FileResult<u64> {
        let disk = hold(&self.disk);
        disk.alive(disk.life, "ask for free space of", dir)?;
        Ok(disk.capacity.saturating_sub(disk.used()))
    }
}

struct CrashFile {
    disk: Arc<Mutex<Disk>>,
    life: u64,
    file: u64,
    path: PathBuf,
    writable: bool,
}

impl CrashFile {
    /// Changes the content by `step`; on a fault `partly` happens instead. `needs` is the length needed.
    fn change(
        &self,
        operation: (Operation, &'static str),
        needs: usize,
        step: Step,
        partly: Option<Step>,
    ) -> FileResult<()> {
        let mut disk = hold(&self.disk);
        disk.alive(self.life, operation.1, &self.path)?;
        assert!(self.writable, "{} was opened for reading", self.path.display());
        let luck = disk.luck(operation.0);
        let (used, capacity) = (disk.used(), disk.capacity);
        let grown = size(needs.saturating_sub(disk.opened(self.file).now.len()));
        let full = FileError::Full { operation: operation.1, path: self.path.clone() };
        match luck {
            Luck::Good if grown > 0 && used.saturating_add(grown) > capacity => Err(full),
            Luck::Good => {
                disk.perform(operation.0, &self.path, step);
                Ok(())
            }
            Luck::Cut => {
                disk.perform(operation.0, &self.path, step);
                Err(error(operation.1, &self.path, "the power was cut"))
            }
            Luck::Fails(fault) => {
                if let Some(partly) = partly {
                    disk.perform(operation.0, &self.path, partly);
                }
                match fault {
                    Fault::Io => Err(error(operation.1, &self.path, "input/output error")),
                    Fault::Full => Err(full),
                }
            }
        }
    }
}

impl OpenFile for CrashFile {
    fn length(&self) -> FileResult<u64> {
        let disk = hold(&self.disk);
        disk.alive(self.life, "measure", &self.path)?;
        Ok(size(disk.files[&self.file].now.len()))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> FileResult<()> {
        let mut disk = hold(&self.disk);
        disk.alive(self.life, "read", &self.path)?;
        if let Luck::Fails(_) = disk.luck(Operation::Read) {
            return Err(error("read", &self.path, "input/output error"));
        }
        let content = &disk.files[&self.file].now;
        let end = offset.saturating_add(size(buffer.len()));
        if end > size(content.len()) {
            return Err(FileError::Short { path: self.path.clone(), end });
        }
        buffer.copy_from_slice(&content[position(offset)..position(end)]);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> FileResult<()> {
        let offset = position(offset);
        let step = |bytes: &[u8]| Step::Write(self.file, offset, bytes.into());
        let partly = step(&bytes[..bytes.len() / 2]);
        self.change((Operation::Write, "write"), offset + bytes.len(), step(bytes), Some(partly))
    }

    fn sync(&self) -> FileResult<()> {
        let mut disk = hold(&self.disk);
        disk.alive(self.life, "sync", &self.path)?;
        match disk.luck(Operation::Sync) {
            Luck::Good => {
                disk.perform(Operation::Sync, &self.path, Step::Sync(self.file));
                Ok(())
            }
            Luck::Cut => Err(error("sync", &self.path, "the power was cut")),
            Luck::Fails(_) => {
                // As Linux does it: what could not be written counts as written from now on, and reads still see it.
                assert!(disk.journal.is_none(), "a failing sync cannot be noted");
                let content = disk.opened(self.file);
                let kept = content.pending.len() / 2;
                content.pending.truncate(kept);
                content.sync();
                Err(error("sync", &self.path, "input/output error"))
            }
        }
    }

    fn sync_all(&self) -> FileResult<()> {
        self.sync()
    }

    fn truncate(&self, length: u64) -> FileResult<()> {
        let length = position(length);
        let step = Step::Length(self.file, length);
        self.change((Operation::Truncate, "set the length of"), length, step, None)
    }

    fn preallocate(&self, length: u64) -> FileResult<()> {
        let length = position(length);
        // It never gets shorter.
        let present = hold(&self.disk).opened(self.file).now.len();
        let step = Step::Length(self.file, length.max(present));
        self.change((Operation::Preallocate, "allocate"), length, step, None)
    }
}

struct CrashLock {
    disk: Arc<Mutex<Disk>>,
    life: u64,
    path: PathBuf,
}

impl FileLock for CrashLock {}

impl Drop for CrashLock {
    fn drop(&mut self) {
        let mut disk = hold(&self.disk);
        if disk.life == self.life {
            disk.locks.remove(&self.path);
        }
    }
}
