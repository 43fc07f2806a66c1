//! What a host's disk was asked to do and what was said of it, in one order: for judging every state that a loss of
//! power could have left.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use quorate_store::files::crash::{CrashFiles, FileOperation};
use quorate_store::ids::{GroupId, Index, StoreId};
use quorate_store::model::StateModel;
use quorate_store::record::Batch;
use quorate_store::stamp::Stamp;

use super::checker::MessageName;
use super::storage::Medium;

/// Something that was begun or reported between two file operations.
#[derive(Clone)]
pub enum Note {
    /// A start read the store to its end: what it found is durable.
    Opened(StoreId),
    /// These go to the log with one call.
    Appending(Vec<Batch>),
    /// Everything appended was reported durable.
    Synced,
    /// This may leave the log with the next call.
    Compact(GroupId, Index),
    /// This stamp is about to be written.
    Stamping(Box<Stamp>),
    /// It was reported written.
    Stamped,
    /// The state store, as it is from here on.
    State(Box<StateModel>),
    /// An image of this name was reported made, of the log as it is.
    Kept(String),
    /// The store is damaged by something that is no operation of the product.
    Spoiled,
    /// It was set aside whole: what is left is an empty store.
    SetAside,
    /// What clients were told by now.
    Told(Moment),
    /// The other hosts' media, as they are at this moment.
    Peers(Vec<Medium>),
}

/// What clients were told.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    /// Messages confirmed.
    pub confirmed: BTreeSet<MessageName>,
    /// Messages whose acknowledgement was confirmed.
    pub settled: BTreeSet<MessageName>,
}

/// Notes with the number of file operations before each.
pub type Notes = Vec<(usize, Note)>;

/// Writes both down. Clones write into one.
#[derive(Clone)]
pub struct Recorder {
    files: CrashFiles,
    notes: Arc<Mutex<Notes>>,
}

impl Recorder {
    /// Begins with this disk as it is.
    pub fn begin(files: &CrashFiles) -> Self {
        files.record();
        Self { files: files.clone(), notes: Arc::default() }
    }

    /// Writes something down.
    pub fn note(&self, note: Note) {
        let at = self.files.recorded();
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push((at, note));
    }

    /// Operations so far.
    pub fn operations(&self) -> usize {
        self.files.recorded()
    }

    /// Everything; nothing more is written down.
    pub fn end(&self) -> (Vec<FileOperation>, Notes) {
        let notes = std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner));
        (self.files.take_record(), notes)
    }
}
