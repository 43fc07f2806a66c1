//! Consistent views, kept by a thread of their own.
//!
//! A RocksDB snapshot borrows its database, so a struct cannot own both without `unsafe`. A thread's stack can: the
//! keeper holds a share of the database and, below it, the snapshots that borrow from that share. Whoever reads from
//! a view asks the keeper. Considered and refused: leaking the database for a `'static` borrow, since it could then
//! never be closed and its directory never opened again by this process.
//!
//! Views are rare (a snapshot of a group for a far-behind member, a consistent listing); the keeper runs only while
//! there is one, and everything that needs no view never meets it.

use crate::families::handle;
use crate::scan::Range;
use quorate_store::state::{Pair, StateError, ViewId};
use rocksdb::{DB, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

/// What the keeper is asked.
enum Request {
    /// Keep a view of the present state.
    Open(ViewId, Sender<()>),
    /// Read from a view.
    Scan(ViewId, Range, Sender<Result<Vec<Pair>, StateError>>),
    /// Let a view go.
    Close(ViewId),
}

/// The views of one store.
#[derive(Default)]
pub(crate) struct Views {
    /// Numbers are never used twice.
    last: u64,
    open: BTreeSet<ViewId>,
    /// Runs while `open` is not empty.
    keeper: Option<Keeper>,
}

struct Keeper {
    requests: Sender<Request>,
    thread: JoinHandle<()>,
}

impl Views {
    /// Opens a view of the present state of `db`.
    pub(crate) fn open(&mut self, db: &Arc<DB>) -> Result<ViewId, StateError> {
        let view = ViewId(self.last.checked_add(1).expect("fewer than 2^64 views in a lifetime"));
        if self.keeper.is_none() {
            self.keeper = Some(Keeper::start(Arc::clone(db))?);
        }
        let (done, opened) = channel();
        self.ask(Request::Open(view, done))?;
        opened.recv().map_err(|_| keeper_gone())?;
        self.last = view.0;
        self.open.insert(view);
        Ok(view)
    }

    /// Reads from a view.
    pub(crate) fn scan(&self, view: ViewId, range: Range) -> Result<Vec<Pair>, StateError> {
        if !self.open.contains(&view) {
            return Err(StateError::NoView(view));
        }
        let (done, found) = channel();
        self.ask(Request::Scan(view, range, done))?;
        found.recv().map_err(|_| keeper_gone())?
    }

    /// Lets a view go; one that is not open is gone already.
    pub(crate) fn close(&mut self, view: ViewId) {
        if !self.open.remove(&view) {
            return;
        }
        if self.open.is_empty() {
            self.stop();
        } else {
            // A keeper that is gone keeps no view.
            let _ = self.ask(Request::Close(view));
        }
    }

    fn ask(&self, request: Request) -> Result<(), StateError> {
        let keeper = self.keeper.as_ref().ok_or_else(keeper_gone)?;
        keeper.requests.send(request).map_err(|_| keeper_gone())
    }

    /// Lets all views go and waits until the keeper has given back its share of the database.
    fn stop(&mut self) {
        self.open.clear();
        if let Some(Keeper { requests, thread }) = self.keeper.take() {
            drop(requests);
            // If it panicked, the panic has been reported by then, and its share is given back all the same.
            let _ = thread.join();
        }
    }
}

impl Drop for Views {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Keeper {
    fn start(db: Arc<DB>) -> Result<Keeper, StateError> {
        let (requests, inbox) = channel();
        let thread = Builder::new()
            .name("state-views".to_owned())
            .spawn(move || keep(&db, &inbox))
            .map_err(|error| StateError::Io(format!("starting the thread that keeps views: {error}")))?;
        Ok(Keeper { requests, thread })
    }
}

fn keep(db: &DB, inbox: &Receiver<Request>) {
    let mut views: BTreeMap<ViewId, Snapshot<'_>> = BTreeMap::new();
    for request in inbox {
        // An asker that does not wait for the answer any more is no reason to stop.
        match request {
            Request::Open(view, done) => {
                views.insert(view, db.snapshot());
                let _ = done.send(());
            }
            Request::Scan(view, range, done) => {
                let found = views.get(&view).ok_or(StateError::NoView(view)).and_then(|snapshot| {
                    range
                        .collect(snapshot.raw_iterator_cf_opt(handle(db, range.family), range.read_options()))
                });
                let _ = done.send(found);
            }
            Request::Close(view) => drop(views.remove(&view)),
        }
    }
}

fn keeper_gone() -> StateError {
    StateError::Io("the thread that keeps views has ended; the process must be started again".to_owned())
}
