//! What raft-rs reads: the group's log as a window in memory over the log on disk.
//!
//! The window always holds every entry above the applied index, so only what is sent to a lagging follower may have to
//! be read from disk, and raft-rs lets that be asynchronous.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};

use quorate_store::ids::{Index, RaftId, Term};
use quorate_store::record::{Entry, HardState};
use raft::eraftpb;
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use super::wire::{entry_from_raft, entry_into_raft};

/// Entries wanted from disk for a lagging follower.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) from: Index,
    pub(crate) to: Index,
    pub(crate) context: GetEntriesContext,
}

/// A snapshot that can be offered now.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) to: RaftId,
    pub(crate) index: Index,
    pub(crate) term: Term,
    pub(crate) conf_state: eraftpb::ConfState,
}

/// The window, and what lies below it.
pub(crate) struct LogWindow {
    hard_state: HardState,
    conf_state: eraftpb::ConfState,
    /// First index still in the log on disk.
    first: u64,
    last: u64,
    /// `(first index, term)` of each run of entries of one term, ascending. The first run covers `first - 1`.
    terms: VecDeque<(u64, u64)>,
    /// The newest entries, ending at `last`.
    window: VecDeque<eraftpb::Entry>,
    window_bytes: usize,
    fetched: RefCell<VecDeque<eraftpb::Entry>>,
    wanted: RefCell<Vec<Wanted>>,
    offer: Option<Offer>,
    snapshots_wanted: RefCell<BTreeSet<u64>>,
}

impl std::fmt::Debug for LogWindow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "log {}..={}, window of {}", self.first, self.last, self.window.len())
    }
}

impl LogWindow {
    /// A log as found on disk; the window is empty.
    pub(crate) fn new(
        hard_state: HardState,
        conf_state: eraftpb::ConfState,
        first: Index,
        last: Index,
        terms: impl IntoIterator<Item = (Index, Term)>,
    ) -> Self {
        Self {
            hard_state,
            conf_state,
            first: first.0,
            last: last.0,
            terms: terms.into_iter().map(|(index, term)| (index.0, term.0)).collect(),
            window: VecDeque::new(),
            window_bytes: 0,
            fetched: RefCell::new(VecDeque::new()),
            wanted: RefCell::new(Vec::new()),
            offer: None,
            snapshots_wanted: RefCell::new(BTreeSet::new()),
        }
    }

    pub(crate) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    pub(crate) fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    pub(crate) fn set_conf_state(&mut self, conf_state: eraftpb::ConfState) {
        self.conf_state = conf_state;
    }

    pub(crate) fn last_term(&self) -> Term {
        Term(self.term_of(self.last).unwrap_or(0))
    }

    /// Its first index on disk, its last one, and the runs of terms.
    pub(crate) fn extent(&self) -> (Index, Index, Vec<(Index, Term)>) {
        let terms = self.terms.iter().map(|(index, term)| (Index(*index), Term(*term))).collect();
        (Index(self.first), Index(self.last), terms)
    }

    /// The entries above this index, which the machine has not applied.
    pub(crate) fn above(&self, index: Index) -> Vec<Entry> {
        let entries = self.window.iter().filter(|entry| entry.index > index.0);
        let entries: Vec<Entry> = entries.cloned().map(entry_from_raft).collect();
        assert_eq!(
            entries.len() as u64,
            self.last.saturating_sub(index.0),
            "what is not applied is in the window"
        );
        entries
    }

    fn window_first(&self) -> u64 {
        self.last + 1 - self.window.len() as u64
    }

    fn term_of(&self, index: u64) -> Option<u64> {
        if index == 0 {
            return Some(0);
        }
        if index + 1 < self.first || index > self.last {
            return None;
        }
        let run = self.terms.partition_point(|(first, _)| *first <= index);
        run.checked_sub(1).and_then(|run| self.terms.get(run)).map(|(_, term)| *term)
    }

    /// Appends entries that follow, or replace, what is there.
    pub(crate) fn append(&mut self, entries: &[eraftpb::Entry]) {
        let Some(head) = entries.first() else { return };
        assert!(head.index <= self.last + 1, "a gap before entry {} after {}", head.index, self.last);
        assert!(head.index >= self.first, "entry {} is below the first index {}", head.index, self.first);
        while self.last >= head.index {
            if let Some(dropped) = self.window.pop_back() {
                self.window_bytes -= weight(&dropped);
            }
            self.last -= 1;
        }
        while self.terms.back().is_some_and(|(first, _)| *first > self.last && *first >= self.first) {
            self.terms.pop_back();
        }
        for entry in entries {
            assert_eq!(entry.index, self.last + 1, "entries must be consecutive");
            if self.terms.back().is_none_or(|(_, term)| *term != entry.term) {
                self.terms.push_back((entry.index, entry.term));
            }
            self.window_bytes += weight(entry);
            self.window.push_back(entry.clone());
            self.last = entry.index;
        }
    }

    /// Fills the window at the start of a run with entries that are on disk already.
    pub(crate) fn refill(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let entry = entry_into_raft(entry);
            self.window_bytes += weight(&entry);
            self.window.push_back(entry);
        }
        if let Some(entry) = self.window.back() {
            assert_eq!(entry.index, self.last, "the window must end where the log ends");
        }
    }

    /// The log continues after this place; everything in it is gone.
    pub(crate) fn reset(&mut self, index: Index, term: Term, conf_state: eraftpb::ConfState) {
        self.first = index.0 + 1;
        self.last = index.0;
        self.terms = VecDeque::from([(index.0, term.0)]);
        self.window.clear();
        self.window_bytes = 0;
        self.fetched.borrow_mut().clear();
        self.conf_state = conf_state;
        self.hard_state.commit = self.hard_state.commit.max(index);
    }

    /// Lets entries go from the window, oldest first, while it is heavier than `bytes`; never above `keep_above`.
    pub(crate) fn trim(&mut self, bytes: usize, keep_above: Index) {
        while self.window_bytes > bytes {
            match self.window.front() {
                Some(entry) if entry.index <= keep_above.0 => {
                    self.window_bytes -= weight(entry);
                    self.window.pop_front();
                }
                _ => break,
            }
        }
        if self.window.capacity() > 64 && self.window.len() < self.window.capacity() / 8 {
            self.window.shrink_to(self.window.len() * 2);
        }
    }

    /// Entries up to this index have left the log on disk.
    pub(crate) fn compact(&mut self, index: Index) {
        if index.0 < self.first || index.0 > self.last {
            return;
        }
        self.first = index.0 + 1;
        while self.terms.get(1).is_some_and(|(first, _)| *first <= index.0) {
            self.terms.pop_front();
        }
        self.trim(0, index);
    }

    /// The entry at this index, if the window holds it.
    pub(crate) fn cached(&self, index: Index) -> Option<&eraftpb::Entry> {
        let offset = index.0.checked_sub(self.window_first())?;
        self.window.get(usize::try_from(offset).ok()?)
    }

    /// Whether the log has this entry of this term (or knows it was there).
    pub(crate) fn has(&self, index: Index, term: Term) -> bool {
        index.0 != 0 && self.term_of(index.0) == Some(term.0)
    }

    /// What lagging followers wait for.
    pub(crate) fn take_wanted(&mut self) -> Vec<Wanted> {
        self.wanted.get_mut().drain(..).collect()
    }

    /// Entries asked for have been read; they serve the next question only.
    pub(crate) fn put_fetched(&mut self, entries: Vec<Entry>) {
        *self.fetched.get_mut() = entries.into_iter().map(entry_into_raft).collect();
    }

    /// The fetched entries have served.
    pub(crate) fn clear_fetched(&mut self) {
        self.fetched.get_mut().clear();
    }

    /// Whom a snapshot is needed for.
    pub(crate) fn take_snapshots_wanted(&mut self) -> BTreeSet<u64> {
        std::mem::take(self.snapshots_wanted.get_mut())
    }

    /// Offers this snapshot to whoever needs one.
    pub(crate) fn set_offer(&mut self, offer: Option<Offer>) {
        self.offer = offer;
    }
}

fn weight(entry: &eraftpb::Entry) -> usize {
    entry.data.len() + 128
}

fn take_limited(entries: impl Iterator<Item = eraftpb::Entry>, max_bytes: u64) -> Vec<eraftpb::Entry> {
    let mut out = Vec::new();
    let mut bytes = 0_u64;
    for entry in entries {
        bytes = bytes.saturating_add(entry.data.len() as u64 + 24);
        if !out.is_empty() && bytes > max_bytes {
            break;
        }
        out.push(entry);
    }
    out
}

impl Storage for LogWindow {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let mut hard_state = eraftpb::HardState::default();
        hard_state.term = self.hard_state.term.0;
        hard_state.vote = self.hard_state.vote;
        hard_state.commit = self.hard_state.commit.0;
        Ok(RaftState { hard_state, conf_state: self.conf_state.clone() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        if low < self.first {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(high <= self.last + 1, "entries up to {high} asked of a log that ends at {}", self.last);
        let max_bytes = max_size.into().unwrap_or(u64::MAX);
        let first = self.window_first();
        if low >= first {
            let skip = usize::try_from(low - first).unwrap_or(usize::MAX);
            let count = usize::try_from(high - low).unwrap_or(usize::MAX);
            return Ok(take_limited(self.window.iter().skip(skip).take(count).cloned(), max_bytes));
        }
        let fetched = self.fetched.borrow();
        if let Some(head) = fetched.front()
            && head.index <= low
            && low < head.index + fetched.len() as u64
        {
            let skip = usize::try_from(low - head.index).unwrap_or(usize::MAX);
            let run = fetched.iter().skip(skip).take_while(|entry| entry.index < high).cloned();
            return Ok(take_limited(run, max_bytes));
        }
        assert!(
            context.can_async(),
            "entries {low}..{high} are above the applied index and must be in the window"
        );
        self.wanted.borrow_mut().push(Wanted { from: Index(low), to: Index(high), context });
        Err(Error::Store(StorageError::LogTemporarilyUnavailable))
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index + 1 < self.first {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.term_of(index).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last)
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<eraftpb::Snapshot> {
        match &self.offer {
            Some(offer) if offer.index.0 >= request_index && offer.to.0 == to => {
                let mut snapshot = eraftpb::Snapshot::default();
                let metadata = snapshot.mut_metadata();
                metadata.index = offer.index.0;
                metadata.term = offer.term.0;
                metadata.set_conf_state(offer.conf_state.clone());
                Ok(snapshot)
            }
            _ => {
                self.snapshots_wanted.borrow_mut().insert(to);
                Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}
