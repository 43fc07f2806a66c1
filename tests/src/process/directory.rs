//! A test's own directories, and what is in them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_store::files::real::RealFiles;
use quorate_store::stamp::{Stamp, StampFile, StampFound};
use tempfile::TempDir;

/// A temporary directory, gone with the test.
#[derive(Debug)]
pub struct Place {
    directory: TempDir,
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// A new one.
    ///
    /// # Panics
    /// None can be made.
    pub fn new() -> Self {
        Self {
            directory: tempfile::Builder::new().prefix("quorate-").tempdir().expect("a temporary directory"),
        }
    }

    /// It stays when the test has ended; gives where it is.
    pub fn keep(&mut self) -> &Path {
        self.directory.disable_cleanup(true);
        self.directory.path()
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// What the stamp in a store's directory says; none if there is no stamp.
///
/// # Panics
/// It cannot be read, or is damaged.
pub fn stamp(directory: &Path) -> Option<Stamp> {
    match StampFile::open(Arc::new(RealFiles), directory.to_owned()).expect("the stamp can be read").1 {
        StampFound::Absent => None,
        StampFound::Stamp(stamp) => Some(*stamp),
        StampFound::Damaged { reason, .. } => panic!("{}: {reason}", directory.display()),
    }
}

/// Copies a directory with everything below it.
///
/// # Panics
/// Something cannot be read or written.
pub fn copy(from: &Path, to: &Path) {
    copy_by(from, to, &|file, target| {
        fs::copy(file, target).expect("a file can be copied");
    });
}

/// As [`copy`], of a directory that somebody is at work on: what goes away meanwhile is left out.
///
/// # Panics
/// A directory cannot be read or made.
pub fn copy_in_use(from: &Path, to: &Path) {
    copy_by(from, to, &|file, target| {
        let _gone = fs::copy(file, target);
    });
}

fn copy_by(from: &Path, to: &Path, copy_file: &dyn Fn(&Path, &Path)) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory to copy") {
        let path = entry.expect("a directory can be listed").path();
        let target = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() {
            copy_by(&path, &target, copy_file);
        } else {
            copy_file(&path, &target);
        }
    }
}

/// Every file below a directory, with its bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Snapshot {
    /// What is there now; nothing if there is no such directory.
    ///
    /// # Panics
    /// Something cannot be read.
    pub fn of(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut open = vec![root.to_owned()];
        while let Some(directory) = open.pop() {
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            for entry in entries {
                let path = entry.expect("a directory can be listed").path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                    files.insert(path.strip_prefix(root).expect("it is below the root").to_owned(), bytes);
                }
            }
        }
        Self { files }
    }

    /// The same without files of this name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.files.remove(Path::new(name));
        self
    }

    /// The files' names.
    pub fn names(&self) -> Vec<String> {
        self.files.keys().map(|path| path.display().to_string()).collect()
    }

    /// What differs from another one, by name; empty if nothing does.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let names = self.files.keys().chain(other.files.keys());
        let mut different: Vec<String> = names
            .filter(|name| self.files.get(*name) != other.files.get(*name))
            .map(|name| name.display().to_string())
            .collect();
        different.sort();
        different.dedup();
        different
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.files.iter().map(|(name, bytes)| (name, bytes.len()))).finish()
    }
}
