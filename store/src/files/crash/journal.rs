//! What was done to a disk, operation by operation: for building every state that a loss of power may leave.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::content::Content;
use super::names::{NameChange, Node, Place};
use super::{Disk, Operation};

/// One changing operation, as it was done. [`super::CrashFiles::replay`] does it again on another disk.
#[derive(Clone, Debug)]
pub struct FileOperation {
    /// What kind.
    pub kind: Operation,
    /// On what, as it was called then.
    pub path: PathBuf,
    pub(super) step: Step,
}

impl FileOperation {
    /// Where in the file it wrote and how many bytes; none if it is no write.
    pub fn written(&self) -> Option<(usize, usize)> {
        if let Step::Write(_, offset, bytes) = &self.step { Some((*offset, bytes.len())) } else { None }
    }
}

impl std::fmt::Display for FileOperation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.display();
        match &self.step {
            Step::Write(_, offset, bytes) => write!(f, "write {} bytes at {offset} of {path}", bytes.len()),
            Step::Length(_, length) => write!(f, "set the length of {path} to {length}"),
            Step::Names(NameChange { put: Some((place, _)), drop: Some(_) }) => {
                write!(f, "rename {path} to {}", place.1)
            }
            _ => write!(f, "{:?} {path}", self.kind),
        }
    }
}

/// What an operation does, by the numbers of files and directories.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A new directory, durable at once.
    MakeDir(Place, u64),
    /// A new empty file under a name.
    Make(Place, u64),
    /// A rename, a removal, one more name.
    Names(NameChange),
    /// The names in a directory become durable.
    SyncNames(u64),
    /// Bytes at an offset of a file.
    Write(u64, usize, Arc<[u8]>),
    /// A file's length.
    Length(u64, usize),
    /// A file's content becomes durable.
    Sync(u64),
}

impl Disk {
    /// Does something, and notes it if it is to be noted.
    pub(super) fn perform(&mut self, kind: Operation, path: &Path, step: Step) {
        self.take(&step);
        if let Some(journal) = &mut self.journal {
            journal.push(FileOperation { kind, path: path.to_path_buf(), step });
        }
    }

    pub(super) fn take(&mut self, step: &Step) {
        match step {
            Step::MakeDir(place, number) => {
                self.next = self.next.max(*number);
                self.names.put_durably(place.clone(), Node::Dir(*number));
            }
            Step::Make(place, number) => {
                self.next = self.next.max(*number);
                self.files.insert(*number, Content::default());
                self.names.change(NameChange { put: Some((place.clone(), Node::File(*number))), drop: None });
            }
            Step::Names(change) => self.names.change(change.clone()),
            Step::SyncNames(directory) => self.names.sync(*directory),
            Step::Write(file, offset, bytes) => self.opened(*file).write(*offset, Arc::clone(bytes)),
            Step::Length(file, length) => self.opened(*file).set_length(*length),
            Step::Sync(file) => self.opened(*file).sync(),
        }
    }

    pub(super) fn opened(&mut self, file: u64) -> &mut Content {
        self.files.get_mut(&file).expect("an open file has content")
    }
}
