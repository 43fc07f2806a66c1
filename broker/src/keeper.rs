//! Images of the store in quarantine: the log's thread begins one between two batches, the state's thread ends it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{SystemTime, UNIX_EPOCH};

use quorate_core::io::Ticket;
use quorate_store::files::Files;
use quorate_store::ids::GroupId;
use quorate_store::log::{LogTail, LogWriter};
use quorate_store::quarantine::{Act, Divergence, Draft, Note, QUARANTINE_DIRECTORY};
use quorate_store::stamp::Stamp;
use quorate_store::state::StateStore;

use crate::open_store::bytes_in;
use crate::state_thread::StateWork;

/// What the core asked for.
#[derive(Debug)]
pub struct KeepOrder {
    /// Names it.
    pub ticket: Ticket,
    /// Why.
    pub reason: String,
    /// Because of which groups.
    pub groups: Vec<GroupId>,
    /// What of it the cluster does not have.
    pub diverged: Option<Divergence>,
    /// What the image's stamp says.
    pub stamp: Box<Stamp>,
}

/// Where images go.
pub struct Keeper {
    /// The store's files.
    pub files: Arc<dyn Files>,
    /// The store's directory.
    pub dir: PathBuf,
    /// No image is begun above so many bytes in quarantine.
    pub bytes_max: u64,
    /// To the thread that ends them.
    pub state: Sender<StateWork>,
}

/// An image whose log is linked.
pub struct Begun {
    pub(crate) ticket: Ticket,
    files: Arc<dyn Files>,
    draft: Draft,
    tail: LogTail,
    stamp: Box<Stamp>,
    quarantine_bytes: Arc<AtomicU64>,
}

impl std::fmt::Debug for Begun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "image of ticket {:?}", self.ticket)
    }
}

impl Keeper {
    /// Begins an image.
    ///
    /// # Errors
    /// Why there can be none, for people; the store is as it was.
    pub fn begin(
        &self,
        order: KeepOrder,
        writer: &mut LogWriter,
        quarantine_bytes: &Arc<AtomicU64>,
    ) -> Result<(), String> {
        let KeepOrder { ticket, reason, groups, diverged, stamp } = order;
        let quarantine = self.dir.join(QUARANTINE_DIRECTORY);
        // An operator may have purged some of it since.
        let there = bytes_in(&quarantine);
        quarantine_bytes.store(there, Ordering::Relaxed);
        if there >= self.bytes_max {
            return Err(format!(
                "{} holds {there} bytes, and --quarantine-max permits {}",
                quarantine.display(),
                self.bytes_max
            ));
        }
        let when_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let note = Note {
            act: Act::Update,
            why: reason,
            groups,
            diverged,
            when_ms: u64::try_from(when_ms).unwrap_or(u64::MAX),
        };
        let files = Arc::clone(&self.files);
        let draft = Draft::begin(Arc::clone(&files), &self.dir, note).map_err(|error| error.to_string())?;
        let tail = writer.link_into(&draft.log_dir()).map_err(|error| error.to_string())?;
        let begun =
            Begun { ticket, files, draft, tail, stamp, quarantine_bytes: Arc::clone(quarantine_bytes) };
        // The state's thread ends with the process only.
        let _ = self.state.send(StateWork::Keep(Box::new(begun)));
        Ok(())
    }
}

impl Begun {
    /// Ends it.
    ///
    /// # Errors
    /// Why it could not be made, for people.
    pub fn end(self, state: &mut dyn StateStore) -> Result<(), String> {
        let end = self.tail.end();
        self.tail
            .copy(self.files.as_ref(), &self.draft.log_dir())
            .map_err(|error| error.to_string())
            .and_then(|()| state.checkpoint(&self.draft.state_dir()).map_err(|error| error.to_string()))?;
        let stamp = Stamp { log_synced: end, ..*self.stamp };
        let image = self.draft.finish(Some(&stamp)).map_err(|error| error.to_string())?;
        self.quarantine_bytes.fetch_add(image.bytes, Ordering::Relaxed);
        tracing::info!(
            "what is to be replaced is kept in quarantine as image {} ({} bytes)",
            image.number,
            image.bytes
        );
        Ok(())
    }
}
