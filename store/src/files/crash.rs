//! A disk in memory that takes every liberty the contract of [`Files`] leaves.
//!
//! What was written since the last sync is kept apart, and at a [`CrashFiles::crash`] a seed decides what of it is
//! found afterwards: nothing, all, a prefix, or any set of 512-byte sectors, torn ones among them; a file that grew may
//! have its old length, its new one or one between, and reads as zeros or as somebody's old bytes where nothing
//! arrived. A name that was not made durable may be the old one or the new one. Power can be cut at any operation, and
//! operations can be told to fail. The same calls and the same seed give the same disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::{FileError, FileLock, FileResult, Files, OpenFile};

/// What a medium writes as a whole, if it is not torn.
const SECTOR: usize = 512;

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
    /// [`Files::remove`].
    Remove,
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

type Place = (PathBuf, String);

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Clone, Debug, Default)]
struct Content {
    /// What reads see.
    now: Vec<u8>,
    /// What survives whatever happens.
    durable: Vec<u8>,
    /// What happened to `now` since `durable`, in order.
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
struct NameChange {
    put: Option<(Place, u64)>,
    drop: Option<Place>,
}

impl NameChange {
    fn places(&self) -> impl Iterator<Item = &Place> {
        self.put.iter().map(|(place, _)| place).chain(self.drop.iter())
    }

    fn apply(&self, names: &mut BTreeMap<Place, u64>) {
        if let Some(place) = &self.drop {
            names.remove(place);
        }
        if let Some((place, file)) = &self.put {
            names.insert(place.clone(), *file);
        }
    }
}

#[derive(Clone, Debug)]
struct Disk {
    /// Handles of an earlier life do nothing.
    life: u64,
    off: bool,
    operations: u64,
    cut_at: Option<u64>,
    faults: Vec<(Operation, u64, Fault)>,
    capacity: u64,
    files: BTreeMap<u64, Content>,
    next_file: u64,
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<Place, u64>,
    durable_names: BTreeMap<Place, u64>,
    pending_names: Vec<NameChange>,
    locks: BTreeMap<PathBuf, u32>,
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

fn place(path: &Path) -> FileResult<Place> {
    match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
        (Some(dir), Some(name)) => Ok((dir.to_path_buf(), name.to_owned())),
        _ => Err(error("name", path, "not a file name")),
    }
}

fn size(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).expect("a file in memory is within memory")
}

fn below(dice: &mut ChaCha8Rng, bound: usize) -> usize {
    match size(bound) {
        0 => 0,
        bound => position(dice.next_u64() % bound),
    }
}

impl Content {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        put(&mut self.now, offset, bytes);
        self.pending.push(Change::Write(offset, bytes.to_vec()));
    }

    fn set_length(&mut self, length: usize) {
        self.now.resize(length, 0);
        self.pending.push(Change::Length(length));
    }

    fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            apply(&mut self.durable, &change);
        }
    }

    /// What is found after power was lost.
    fn lose(&mut self, dice: &mut ChaCha8Rng, others: &[Vec<u8>]) {
        let pending = std::mem::take(&mut self.pending);
        match below(dice, 6) {
            0 => {}
            1 => pending.iter().for_each(|change| apply(&mut self.durable, change)),
            2 => self.keep_prefix(dice, &pending),
            mode => self.keep_sectors(dice, &pending, mode == 5, others),
        }
        self.now.clone_from(&self.durable);
    }

    fn keep_prefix(&mut self, dice: &mut ChaCha8Rng, pending: &[Change]) {
        let kept = below(dice, pending.len() + 1);
        for (number, change) in pending.iter().take(kept).enumerate() {
            match change {
                Change::Write(offset, bytes) if number + 1 == kept => {
                    let end = below(dice, bytes.len() + 1);
                    put(&mut self.durable, *offset, &bytes[..end]);
                }
                change => apply(&mut self.durable, change),
            }
        }
    }

    fn keep_sectors(&mut self, dice: &mut ChaCha8Rng, pending: &[Change], torn: bool, others: &[Vec<u8>]) {
        let odds = dice.next_u64() % 100;
        let old_length = self.durable.len();
        let mut lengths = vec![old_length];
        let mut length = old_length;
        for change in pending {
            length = match change {
                Change::Write(offset, bytes) => length.max(offset + bytes.len()),
                Change::Length(length) => *length,
            };
            lengths.push(length);
        }
        let length = lengths[below(dice, lengths.len())];
        if length > old_length {
            let filler = filler(dice, length, others);
            self.durable.extend_from_slice(&filler[old_length..]);
        }
        for change in pending {
            let Change::Write(offset, bytes) = change else { continue };
            let mut at = *offset;
            let end = offset + bytes.len();
            while at < end {
                let stop = end.min((at / SECTOR + 1) * SECTOR);
                if dice.next_u64() % 100 < odds {
                    let mut piece = &bytes[at - offset..stop - offset];
                    if torn && dice.next_u64().is_multiple_of(2) {
                        piece = &piece[..below(dice, piece.len() + 1)];
                    }
                    let room = self.durable.len().max(length).saturating_sub(at);
                    put(&mut self.durable, at, &piece[..piece.len().min(room)]);
                }
                at = stop;
            }
        }
        self.durable.resize(length, 0);
    }
}

/// What a file shows where it grew and nothing arrived.
fn filler(dice: &mut ChaCha8Rng, length: usize, others: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0; length];
    match below(dice, 3) {
        0 => {}
        1 => dice.fill_bytes(&mut bytes),
        _ => {
            if let Some(other) = others.get(below(dice, others.len())) {
                let common = length.min(other.len());
                bytes[..common].copy_from_slice(&other[..common]);
            }
        }
    }
    bytes
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(offset, bytes) => put(content, *offset, bytes),
        Change::Length(length) => content.resize(*length, 0),
    }
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
                    return Luck::Fails(fault);
                }
                self.faults[number].1 = after - 1;
            }
        }
        Luck::Good
    }

    fn used(&self) -> u64 {
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        named.iter().map(|file| size(self.files[file].now.len())).sum()
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }

    /// Makes the names in `dir` durable, and what they depend on.
    fn sync_names(&mut self, dir: &Path) {
        let mut touched: BTreeSet<Place> = BTreeSet::new();
        let mut chosen = vec![false; self.pending_names.len()];
        for (number, change) in self.pending_names.iter().enumerate().rev() {
            if change.places().any(|place| place.0 == dir || touched.contains(place)) {
                chosen[number] = true;
                touched.extend(change.places().cloned());
            }
        }
        let mut number = 0;
        let durable = &mut self.durable_names;
        self.pending_names.retain(|change| {
            let kept = chosen[number];
            number += 1;
            if kept {
                change.apply(durable);
            }
            !kept
        });
    }

    /// Changes of the same names survive in order; others independently.
    fn lose_names(&mut self, dice: &mut ChaCha8Rng) {
        let odds = dice.next_u64() % 101;
        let mut lost: BTreeSet<Place> = BTreeSet::new();
        for change in std::mem::take(&mut self.pending_names) {
            let depends = change.places().any(|place| lost.contains(place));
            if depends || dice.next_u64() % 100 >= odds {
                lost.extend(change.places().cloned());
            } else {
                change.apply(&mut self.durable_names);
            }
        }
        self.names = self.durable_names.clone();
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
            capacity: u64::MAX,
            files: BTreeMap::new(),
            next_file: 0,
            dirs: BTreeSet::from([PathBuf::new(), PathBuf::from("/")]),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            locks: BTreeMap::new(),
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

    /// Whether the power was cut.
    pub fn is_off(&self) -> bool {
        hold(&self.disk).off
    }

    /// Lets one operation of a kind fail, after `after` of them that do not.
    pub fn fail_after(&self, operation: Operation, after: u64, fault: Fault) {
        hold(&self.disk).faults.push((operation, after, fault));
    }

    /// Power is lost and comes back: the seed decides what of the unsynced is found. Open files and locks are gone.
    pub fn crash(&self, seed: u64) {
        let dice = &mut ChaCha8Rng::seed_from_u64(seed);
        let mut disk = hold(&self.disk);
        disk.restart();
        disk.lose_names(dice);
        let others: Vec<Vec<u8>> =
            disk.files.values().map(|content| content.durable.clone()).take(8).collect();
        for content in disk.files.values_mut() {
            if content.pending.is_empty() {
                // A failed sync left what reads see and what is durable apart.
                content.now.clone_from(&content.durable);
            } else {
                content.lose(dice, &others);
            }
        }
        let named: BTreeSet<u64> = disk.names.values().copied().collect();
        disk.files.retain(|file, _| named.contains(file));
    }

    /// The process dies and the operating system lives on: open files and locks are gone, every byte written is there,
    /// and what was not synced is still not durable.
    pub fn kill(&self) {
        hold(&self.disk).restart();
    }

    /// A separate disk with the same content and the same things unsynced, for trying several endings.
    pub fn fork(&self) -> Self {
        Self { disk: Arc::new(Mutex::new(hold(&self.disk).clone())) }
    }

    /// What reads of a file see; none if there is no such file.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = hold(&self.disk);
        let file = disk.names.get(&place(path).ok()?)?;
        Some(disk.files[file].now.clone())
    }

    /// Replaces a file's content durably, as rot or a careless hand does; makes the file if it is missing.
    pub fn replace(&self, path: &Path, bytes: &[u8]) {
        let mut disk = hold(&self.disk);
        let place = place(path).expect("a file name");
        let file = disk.names.get(&place).copied().unwrap_or_else(|| {
            let file = disk.next_file;
            disk.next_file += 1;
            disk.names.insert(place.clone(), file);
            disk.durable_names.insert(place, file);
            file
        });
        disk.files
            .insert(file, Content { now: bytes.to_vec(), durable: bytes.to_vec(), pending: Vec::new() });
    }

    /// Every file with what reads of it see, by path.
    pub fn everything(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let disk = hold(&self.disk);
        disk.names.iter().map(|((dir, name), file)| (dir.join(name), disk.files[file].now.clone())).collect()
    }

    fn handle(&self, disk: &Disk, file: u64, path: &Path, writable: bool) -> Arc<dyn OpenFile> {
        let (disk, life) = (Arc::clone(&self.disk), disk.life);
        Arc::new(CrashFile { disk, life, file, path: path.to_path_buf(), writable })
    }

    fn open_with(&self, path: &Path, writable: bool) -> FileResult<Arc<dyn OpenFile>> {
        let disk = hold(&self.disk);
        disk.alive(disk.life, "open", path)?;
        match disk.names.get(&place(path)?) {
            Some(file) => Ok(self.handle(&disk, *file, path, writable)),
            None => Err(FileError::NotFound { path: path.to_path_buf() }),
        }
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
        if hold(&self.disk).dirs.contains(dir) {
            return Ok(());
        }
        if let Some(above) = dir.parent() {
            self.create_dir(above)?;
        }
        self.rename_with((Operation::CreateDir, "create directory"), dir, |disk| {
            disk.dirs.insert(dir.to_path_buf());
            Ok(())
        })
    }

    fn list(&self, dir: &Path) -> FileResult<Vec<String>> {
        let disk = hold(&self.disk);
        disk.alive(disk.life, "list", dir)?;
        if !disk.dirs.contains(dir) {
            return Err(FileError::NotFound { path: dir.to_path_buf() });
        }
        let files = disk.names.keys().filter(|(parent, _)| parent == dir).map(|(_, name)| name.clone());
        let dirs = disk.dirs.iter().filter(|below| below.parent() == Some(dir));
        let dirs = dirs.filter_map(|below| below.file_name()?.to_str().map(str::to_owned));
        let names: BTreeSet<String> = files.chain(dirs).collect();
        Ok(names.into_iter().collect())
    }

    fn create(&self, path: &Path) -> FileResult<Arc<dyn OpenFile>> {
        self.rename_with((Operation::Create, "create"), path, |disk| {
            let place = place(path)?;
            if !disk.dirs.contains(&place.0) {
                return Err(FileError::NotFound { path: path.to_path_buf() });
            }
            if disk.names.contains_key(&place) {
                return Err(FileError::Exists { path: path.to_path_buf() });
            }
            let file = disk.next_file;
            disk.next_file += 1;
            disk.files.insert(file, Content::default());
            disk.change_name(NameChange { put: Some((place, file)), drop: None });
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
            let (from_place, to_place) = (place(from)?, place(to)?);
            let file = *disk
                .names
                .get(&from_place)
                .ok_or_else(|| FileError::NotFound { path: from.to_path_buf() })?;
            disk.change_name(NameChange { put: Some((to_place, file)), drop: Some(from_place) });
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> FileResult<()> {
        self.rename_with((Operation::Remove, "remove"), path, |disk| {
            let place = place(path)?;
            if !disk.names.contains_key(&place) {
                return Err(FileError::NotFound { path: path.to_path_buf() });
            }
            disk.change_name(NameChange { put: None, drop: Some(place) });
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> FileResult<()> {
        let mut disk = hold(&self.disk);
        disk.alive(disk.life, "sync directory", dir)?;
        match disk.luck(Operation::SyncDir) {
            Luck::Good => {
                disk.sync_names(dir);
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
        file.truncate(0)?;
        file.write_at(0, format!("{holder}\n").as_bytes())?;
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
    /// Changes the content by `act`; on a fault `partly` happens instead. `growth` is the length needed.
    fn change(
        &self,
        operation: (Operation, &'static str),
        needs: usize,
        act: impl FnOnce(&mut Content),
        partly: impl FnOnce(&mut Content),
    ) -> FileResult<()> {
        let mut disk = hold(&self.disk);
        disk.alive(self.life, operation.1, &self.path)?;
        assert!(self.writable, "{} was opened for reading", self.path.display());
        let luck = disk.luck(operation.0);
        let (used, capacity) = (disk.used(), disk.capacity);
        let content = disk.files.get_mut(&self.file).expect("an open file has content");
        let grown = size(needs.saturating_sub(content.now.len()));
        let full = FileError::Full { operation: operation.1, path: self.path.clone() };
        match luck {
            Luck::Good if grown > 0 && used.saturating_add(grown) > capacity => Err(full),
            Luck::Good => {
                act(content);
                Ok(())
            }
            Luck::Cut => {
                act(content);
                Err(error(operation.1, &self.path, "the power was cut"))
            }
            Luck::Fails(fault) => {
                partly(content);
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
        let act = |content: &mut Content| content.write(offset, bytes);
        let partly = |content: &mut Content| content.write(offset, &bytes[..bytes.len() / 2]);
        self.change((Operation::Write, "write"), offset + bytes.len(), act, partly)
    }

    fn sync(&self) -> FileResult<()> {
        let mut disk = hold(&self.disk);
        disk.alive(self.life, "sync", &self.path)?;
        let luck = disk.luck(Operation::Sync);
        let content = disk.files.get_mut(&self.file).expect("an open file has content");
        match luck {
            Luck::Good => {
                content.sync();
                Ok(())
            }
            Luck::Cut => Err(error("sync", &self.path, "the power was cut")),
            Luck::Fails(_) => {
                // As Linux does it: what could not be written counts as written from now on, and reads still see it.
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
        let act = |content: &mut Content| content.set_length(length);
        self.change((Operation::Truncate, "set the length of"), length, act, |_| {})
    }

    fn preallocate(&self, length: u64) -> FileResult<()> {
        let length = position(length);
        let act = |content: &mut Content| {
            if content.now.len() < length {
                content.set_length(length);
            }
        };
        self.change((Operation::Preallocate, "allocate"), length, act, |_| {})
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

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with(name: &str, bytes: &[u8]) -> (CrashFiles, Arc<dyn OpenFile>) {
        let files = CrashFiles::new();
        files.create_dir(Path::new("/d")).unwrap();
        let file = files.create(&Path::new("/d").join(name)).unwrap();
        file.write_at(0, bytes).unwrap();
        file.sync().unwrap();
        files.sync_dir(Path::new("/d")).unwrap();
        (files, file)
    }

    #[test]
    fn what_was_synced_survives_every_crash() {
        for seed in 0..200 {
            let (files, file) = disk_with("x", b"synced");
            file.write_at(6, &[7; 2000]).unwrap();
            files.crash(seed);
            let content = files.content(Path::new("/d/x")).unwrap();
            assert_eq!(&content[..6], b"synced", "seed {seed}");
            assert!(file.length().is_err(), "a handle of an earlier life works");
        }
    }

    #[test]
    fn the_unsynced_ends_in_many_ways_and_the_same_way_for_the_same_seed() {
        let mut endings = BTreeSet::new();
        for seed in 0..200 {
            let (files, file) = disk_with("x", &[1; 3000]);
            file.write_at(100, &[2; 2500]).unwrap();
            let twin = files.fork();
            files.crash(seed);
            twin.crash(seed);
            assert_eq!(files.everything(), twin.everything(), "seed {seed}");
            endings.insert(files.content(Path::new("/d/x")).unwrap());
        }
        assert!(endings.contains(&vec![1; 3000]), "never lost whole");
        assert!(endings.iter().any(|content| content[100..2600] == [2; 2500]), "never kept whole");
        assert!(endings.iter().any(|content| content[100] == 1 && content[2599] == 2), "no hole in front");
        assert!(endings.len() > 20, "only {} endings", endings.len());
    }

    #[test]
    fn names_become_durable_by_sync_dir_only() {
        let mut found = BTreeSet::new();
        for seed in 0..100 {
            let (files, _) = disk_with("old", b"1");
            files.rename(Path::new("/d/old"), Path::new("/d/new")).unwrap();
            let synced = files.fork();
            synced.sync_dir(Path::new("/d")).unwrap();
            synced.crash(seed);
            assert_eq!(synced.list(Path::new("/d")).unwrap(), ["new"]);
            files.crash(seed);
            found.insert(files.list(Path::new("/d")).unwrap());
        }
        assert_eq!(found, BTreeSet::from([vec!["old".to_owned()], vec!["new".to_owned()]]));
    }

    #[test]
    fn a_failed_sync_is_forgotten_by_the_next() {
        let (files, file) = disk_with("x", b"old");
        file.write_at(0, b"new").unwrap();
        files.fail_after(Operation::Sync, 0, Fault::Io);
        assert!(matches!(file.sync(), Err(FileError::Io { .. })));
        file.sync().unwrap();
        assert_eq!(files.content(Path::new("/d/x")).unwrap(), b"new");
        files.crash(1);
        assert_eq!(files.content(Path::new("/d/x")).unwrap(), b"old");
    }

    #[test]
    fn capacity_and_locks() {
        let (files, file) = disk_with("x", b"1234");
        files.set_capacity(10);
        assert_eq!(files.free_space(Path::new("/d")).unwrap(), 6);
        assert!(matches!(file.preallocate(11), Err(FileError::Full { .. })));
        file.preallocate(10).unwrap();
        files.set_capacity(20);
        let lock = files.lock(Path::new("/d/lock"), 9).unwrap();
        assert!(matches!(
            files.lock(Path::new("/d/lock"), 8),
            Err(FileError::Locked { holder: Some(9), .. })
        ));
        drop(lock);
        let _lock = files.lock(Path::new("/d/lock"), 8).unwrap();
        files.kill();
        files.lock(Path::new("/d/lock"), 7).unwrap();
    }

    #[test]
    fn a_cut_stops_everything() {
        let (files, file) = disk_with("x", b"1");
        files.cut_power_at(2);
        file.write_at(0, b"2").unwrap();
        assert!(file.sync().is_err());
        assert!(files.is_off() && file.length().is_err() && files.list(Path::new("/d")).is_err());
        files.crash(0);
        assert!(!files.is_off());
        files.open(Path::new("/d/x")).unwrap();
    }
}
