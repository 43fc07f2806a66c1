//! Files that fail where they are told to, over any others; and that know what is not durable.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_store::files::{FileError, FileLock, FileResult, Files, OpenFile};

use crate::trigger::{Instead, Trigger};

const QUARANTINE: &str = quorate_store::quarantine::QUARANTINE_DIRECTORY;

/// The files of a store in `root`.
#[derive(Clone)]
pub struct FailFiles {
    below: Arc<dyn Files>,
    root: PathBuf,
    trigger: Arc<Trigger>,
    undurable: Arc<Mutex<Undurable>>,
}

/// An open file's name, which changes when the file is renamed.
type Name = Arc<Mutex<PathBuf>>;

/// What a loss of power may take.
#[derive(Debug, Default)]
struct Undurable {
    /// Files whose content changed since it was synced.
    content: BTreeSet<PathBuf>,
    /// Names that changed since their directory was synced.
    names: BTreeSet<PathBuf>,
    /// Of every file that was opened.
    open: Vec<Name>,
    /// What was written to a file and not synced since.
    written: Vec<(Name, Vec<u8>)>,
    /// The file that each piece of data of interest was written to.
    holders: BTreeMap<Vec<u8>, Name>,
}

/// Data that begins like this is of interest.
const MARK: &[u8] = b"entry ";

/// The mark with the number behind it.
fn marked(bytes: &[u8]) -> Option<&[u8]> {
    let start = bytes.windows(MARK.len()).position(|some| some == MARK)?;
    let digits = bytes[start + MARK.len()..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    bytes.get(start..start + MARK.len() + digits)
}

fn read(name: &Name) -> PathBuf {
    name.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl FailFiles {
    /// Over these.
    pub fn new(below: Arc<dyn Files>, root: &Path, trigger: Arc<Trigger>) -> Self {
        Self { below, root: root.to_owned(), trigger, undurable: Arc::default() }
    }

    /// Files with this beginning of their names that a loss of power may change or take.
    pub fn undurable(&self, beginning: &str) -> Vec<PathBuf> {
        let undurable = self.hold();
        let named = |path: &&PathBuf| {
            !path.iter().any(|part| part == QUARANTINE)
                && path
                    .file_name()
                    .and_then(|name| name.to_str())
                    .is_some_and(|name| name.starts_with(beginning))
        };
        undurable.content.iter().chain(&undurable.names).filter(named).cloned().collect()
    }

    /// Files of images that a loss of power may change or take.
    pub fn undurable_images(&self) -> Vec<PathBuf> {
        let undurable = self.hold();
        let inside = |path: &&PathBuf| path.iter().any(|part| part == QUARANTINE);
        undurable.content.iter().chain(&undurable.names).filter(inside).cloned().collect()
    }

    /// Whether a loss of power may take this data, whose number is behind the mark. (What else is in the log does not
    /// count: its thread goes on with compactions after it has said that something is durable.)
    pub fn may_lose(&self, number: u64) -> bool {
        let mark = [MARK, number.to_string().as_bytes()].concat();
        let undurable = self.hold();
        let unsynced = undurable.written.iter().any(|(_, bytes)| marked(bytes) == Some(&mark));
        let unnamed = undurable.holders.get(&mark).is_none_or(|name| undurable.names.contains(&read(name)));
        unsynced || unnamed
    }

    /// The numbers of the data that no loss of power takes any more.
    fn durable(&self) -> Vec<u64> {
        let holders: Vec<Vec<u8>> = self.hold().holders.keys().cloned().collect();
        let number = |mark: &Vec<u8>| std::str::from_utf8(mark.strip_prefix(MARK)?).ok()?.parse().ok();
        let mut durable: Vec<u64> =
            holders.iter().filter_map(number).filter(|number| !self.may_lose(*number)).collect();
        durable.sort_unstable();
        durable
    }

    fn hold(&self) -> MutexGuard<'_, Undurable> {
        self.undurable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a file is, by its place in the store.
    fn kind(&self, path: &Path) -> String {
        let place = path.strip_prefix(&self.root).unwrap_or(path);
        let parts: Vec<&str> = place.iter().filter_map(|part| part.to_str()).collect();
        let plain = |name: &str| {
            let name = name.strip_suffix(".new").unwrap_or(name);
            match name {
                _ if name.starts_with("segment-") => "segment".to_owned(),
                _ if name.starts_with("spare-") => "spare".to_owned(),
                _ if name.starts_with("stamp.") => "stamp".to_owned(),
                _ => name.to_owned(),
            }
        };
        match parts.as_slice() {
            [] => "store".to_owned(),
            ["quarantine"] => "quarantine".to_owned(),
            ["quarantine", _] => "image-dir".to_owned(),
            // RocksDB's names are its own.
            ["quarantine", _, "state", ..] => "image-state".to_owned(),
            ["quarantine", _, rest @ ..] => {
                format!("image-{}", plain(rest.last().copied().unwrap_or_default()))
            }
            ["state", ..] => "state".to_owned(),
            [.., name] => plain(name),
        }
    }

    fn reach(&self, path: &Path, how: &'static str) -> FileResult<()> {
        let point = format!("{}.{how}", self.kind(path));
        match self.trigger.reach(&point, path, || self.durable()) {
            Instead::Nothing => Ok(()),
            Instead::Io => Err(FileError::Io {
                operation: how,
                path: path.to_owned(),
                source: io::Error::from_raw_os_error(5),
            }),
            Instead::Full => Err(FileError::Full { operation: how, path: path.to_owned() }),
        }
    }

    fn renamed(&self, path: &Path) {
        self.hold().names.insert(path.to_owned());
    }

    fn open_file(&self, path: &Path, file: Arc<dyn OpenFile>) -> Arc<dyn OpenFile> {
        let name: Name = Arc::new(Mutex::new(path.to_owned()));
        self.hold().open.push(Arc::clone(&name));
        Arc::new(FailFile { files: self.clone(), name, file })
    }
}

impl Files for FailFiles {
    fn create_dir(&self, dir: &Path) -> FileResult<()> {
        if !self.below.is_dir(dir)? {
            self.reach(dir, "create-dir")?;
        }
        self.below.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> FileResult<Vec<String>> {
        self.below.list(dir)
    }

    fn create(&self, path: &Path) -> FileResult<Arc<dyn OpenFile>> {
        self.reach(path, "create")?;
        let file = self.below.create(path)?;
        self.renamed(path);
        Ok(self.open_file(path, file))
    }

    fn open(&self, path: &Path) -> FileResult<Arc<dyn OpenFile>> {
        Ok(self.open_file(path, self.below.open(path)?))
    }

    fn open_read_only(&self, path: &Path) -> FileResult<Arc<dyn OpenFile>> {
        self.below.open_read_only(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> FileResult<()> {
        self.reach(from, "rename")?;
        self.below.rename(from, to)?;
        let mut undurable = self.hold();
        for name in &undurable.open {
            let mut name = name.lock().unwrap_or_else(PoisonError::into_inner);
            if *name == from {
                to.clone_into(&mut name);
            }
        }
        // What is not synced of a file moves with it.
        if undurable.content.remove(from) {
            undurable.content.insert(to.to_owned());
        }
        drop(undurable);
        self.renamed(from);
        self.renamed(to);
        Ok(())
    }

    fn remove(&self, path: &Path) -> FileResult<()> {
        // Whether anything is there is found out by removing it.
        if self.below.open_read_only(path).is_ok() {
            self.reach(path, "remove")?;
        }
        self.below.remove(path)?;
        self.hold().content.remove(path);
        self.renamed(path);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> FileResult<()> {
        self.reach(to, "link")?;
        self.below.link(from, to)?;
        self.renamed(to);
        Ok(())
    }

    fn links(&self, path: &Path) -> FileResult<u64> {
        self.below.links(path)
    }

    fn remove_dir(&self, dir: &Path) -> FileResult<()> {
        self.reach(dir, "remove-dir")?;
        self.below.remove_dir(dir)?;
        self.renamed(dir);
        Ok(())
    }

    fn is_dir(&self, path: &Path) -> FileResult<bool> {
        self.below.is_dir(path)
    }

    fn sync_dir(&self, dir: &Path) -> FileResult<()> {
        self.reach(dir, "sync-dir")?;
        self.below.sync_dir(dir)?;
        self.hold().names.retain(|path| path.parent() != Some(dir));
        Ok(())
    }

    fn lock(&self, path: &Path, holder: u32) -> FileResult<Box<dyn FileLock>> {
        self.reach(path, "lock")?;
        self.below.lock(path, holder)
    }

    fn free_space(&self, dir: &Path) -> FileResult<u64> {
        self.below.free_space(dir)
    }
}

struct FailFile {
    files: FailFiles,
    name: Name,
    file: Arc<dyn OpenFile>,
}

impl FailFile {
    fn changed(&self) {
        self.files.hold().content.insert(read(&self.name));
    }

    fn synced(&self) {
        let mut undurable = self.files.hold();
        undurable.content.remove(&read(&self.name));
        undurable.written.retain(|(name, _)| !Arc::ptr_eq(name, &self.name));
    }
}

impl OpenFile for FailFile {
    fn length(&self) -> FileResult<u64> {
        self.file.length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> FileResult<()> {
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> FileResult<()> {
        self.changed();
        if let Some(mark) = marked(bytes) {
            let mut undurable = self.files.hold();
            undurable.holders.insert(mark.to_vec(), Arc::clone(&self.name));
            undurable.written.push((Arc::clone(&self.name), bytes.to_vec()));
        }
        if let Err(error) = self.files.reach(&read(&self.name), "write") {
            // As a disk does: part of it may be there.
            self.file.write_at(offset, &bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        self.file.write_at(offset, bytes)
    }

    fn sync(&self) -> FileResult<()> {
        self.files.reach(&read(&self.name), "sync")?;
        self.file.sync()?;
        self.synced();
        Ok(())
    }

    fn sync_all(&self) -> FileResult<()> {
        self.files.reach(&read(&self.name), "sync")?;
        self.file.sync_all()?;
        self.synced();
        Ok(())
    }

    fn truncate(&self, length: u64) -> FileResult<()> {
        self.files.reach(&read(&self.name), "truncate")?;
        self.changed();
        self.file.truncate(length)
    }

    fn preallocate(&self, length: u64) -> FileResult<()> {
        self.files.reach(&read(&self.name), "preallocate")?;
        self.changed();
        self.file.preallocate(length)
    }
}
