//! The giving side of an update by snapshot: streams one consistent view of a group's state, chunk by chunk, as the
//! receiver asks for it. Nothing of the group waits for it.
//!
//! The view is that of a checkpoint, so only messages that are still nowhere but in the log have to be read from there
//! besides. They are sent as spilled bodies, and their slots are sent as spilled: the receiver needs no entry from
//! before the snapshot.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_store::ids::{Index, RaftId, StoreId, Term};
use quorate_store::record::Entry;
use quorate_store::state::{Family, Pair, ViewId};

use super::body::Body;
use super::config::limits;
use super::configuration::Configuration;
use super::meta::Space;
use crate::io::Tick;
use crate::machine::{QueueId, SlotView, body_key, export_state};
use crate::peer::SnapshotPair;

/// The transfers of one group; at most one at a time.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) current: Option<Source>,
}

/// What a source needs next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SourceNeed {
    /// Nothing until the receiver pulls.
    Pull,
    /// Pairs from the view.
    Scan { family: Family, from: Bytes, to: Bytes },
    /// Entries from the log.
    Load { from: Index, to: Index },
    /// Send this chunk.
    Send { chunk: u64, pairs: Vec<SnapshotPair>, last: bool },
    /// The state cannot be read as ours: the transfer ends.
    Broken,
}

#[derive(Debug)]
struct Unspilled {
    queue: QueueId,
    seq: u64,
    slot: SlotView,
}

/// One transfer.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) transfer: u64,
    pub(crate) to: RaftId,
    pub(crate) to_store: StoreId,
    pub(crate) view: ViewId,
    pub(crate) index: Index,
    pub(crate) term: Term,
    pub(crate) configuration: Configuration,
    pub(crate) last_used: Tick,
    pub(crate) bytes: u64,
    /// About how many bytes there are to send, for people.
    pub(crate) estimate: u64,
    /// The view is open.
    pub(crate) ready: bool,
    /// Bytes that may be sent now, and since when; see [`Source::may_send`].
    allowance: i64,
    allowance_at: Tick,
    /// The chunk sent last: if the link was cut, it may not have arrived.
    sent: Option<(u64, Vec<SnapshotPair>, bool)>,
    space: Space,
    pulled: Option<u64>,
    waiting: bool,
    next_chunk: u64,
    family: Family,
    next_key: Bytes,
    family_done: bool,
    page: VecDeque<Pair>,
    unspilled: VecDeque<Unspilled>,
    after_unspilled: Option<SnapshotPair>,
    entries: BTreeMap<Index, Bytes>,
    out: Vec<SnapshotPair>,
    out_bytes: usize,
}

impl Source {
    pub(crate) fn new(
        transfer: u64,
        space: Space,
        to: (RaftId, StoreId),
        view: ViewId,
        place: (Index, Term),
        configuration: Configuration,
        now: Tick,
    ) -> Self {
        Self {
            transfer,
            to: to.0,
            to_store: to.1,
            view,
            index: place.0,
            term: place.1,
            configuration,
            last_used: now,
            bytes: 0,
            estimate: 0,
            ready: false,
            allowance: 0,
            allowance_at: now,
            sent: None,
            space,
            pulled: None,
            waiting: false,
            next_chunk: 0,
            family: Family::Body,
            next_key: space.from(),
            family_done: false,
            page: VecDeque::new(),
            unspilled: VecDeque::new(),
            after_unspilled: None,
            entries: BTreeMap::new(),
            out: Vec::new(),
            out_bytes: 0,
        }
    }

    /// The receiver asks for this chunk. Only the next one can be had, and the last one again.
    /// False if it cannot be had any more: the receiver has begun anew.
    pub(crate) fn pull(&mut self, chunk: u64, now: Tick) -> bool {
        self.last_used = now;
        let here = chunk == self.next_chunk || self.sent.as_ref().is_some_and(|(sent, ..)| *sent == chunk);
        if here {
            self.pulled = Some(chunk);
        }
        here
    }

    /// Whether another chunk may be sent now at `rate` bytes a second; 0 is as fast as it is pulled. What is saved up in
    /// a pause is a fifth of a second's worth at most.
    pub(crate) fn may_send(&mut self, now: Tick, rate: u64) -> bool {
        if rate == 0 {
            return true;
        }
        let rate = i64::try_from(rate).unwrap_or(i64::MAX);
        let elapsed = i64::try_from(now.since(self.allowance_at)).unwrap_or(i64::MAX);
        self.allowance_at = now;
        let earned = rate.saturating_mul(elapsed) / 1000;
        self.allowance = self.allowance.saturating_add(earned).min((rate / 5).max(1));
        self.allowance > 0
    }

    /// So much was sent.
    pub(crate) fn spent(&mut self, pairs: &[SnapshotPair]) {
        let bytes: usize = pairs.iter().map(|pair| pair.key.len() + pair.value.len() + 9).sum();
        self.allowance = self.allowance.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// A chunk waits to be sent.
    pub(crate) fn is_pulled(&self) -> bool {
        self.pulled.is_some() && !self.waiting
    }

    pub(crate) fn scanned(&mut self, pairs: Vec<Pair>, complete: bool) {
        self.waiting = false;
        if let Some((key, _)) = pairs.last() {
            let mut next = key.to_vec();
            next.push(0);
            self.next_key = next.into();
        }
        self.page.extend(pairs);
        self.family_done = complete;
    }

    pub(crate) fn loaded(&mut self, entries: Vec<Entry>) {
        self.waiting = false;
        self.entries.extend(entries.into_iter().map(|entry| (entry.index, entry.data)));
    }

    fn emit(&mut self, pair: SnapshotPair) {
        self.out_bytes += pair.key.len() + pair.value.len() + 9;
        self.out.push(pair);
    }

    /// What to do now. Call again after each thing done.
    pub(crate) fn next(&mut self) -> SourceNeed {
        let Some(chunk) = self.pulled else { return SourceNeed::Pull };
        if self.waiting {
            return SourceNeed::Pull;
        }
        if let Some((sent, pairs, last)) = &self.sent
            && *sent == chunk
        {
            self.pulled = None;
            return SourceNeed::Send { chunk, pairs: pairs.clone(), last: *last };
        }
        loop {
            if self.out_bytes >= limits::CHUNK_BYTES {
                return self.send(chunk, false);
            }
            if let Some(wanted) = self.unspilled.front() {
                let index = wanted.slot.index;
                let Some(data) = self.entries.get(&index) else {
                    if self.entries.last_key_value().is_some_and(|(last, _)| *last > index) {
                        self.entries.clear();
                    }
                    self.waiting = true;
                    return SourceNeed::Load { from: index, to: self.index.next() };
                };
                let Some(body) = Body::cut(data, &wanted.slot) else { return SourceNeed::Broken };
                let key = body_key(self.space.prefix(), wanted.queue, wanted.seq).slice(4..);
                self.unspilled.pop_front();
                self.entries = self.entries.split_off(&index);
                self.emit(SnapshotPair { family: Family::Body, key, value: body.encode() });
                continue;
            }
            if let Some(pair) = self.after_unspilled.take() {
                self.emit(pair);
                continue;
            }
            if let Some((key, value)) = self.page.pop_front() {
                if self.take_pair(&key, value).is_none() {
                    return SourceNeed::Broken;
                }
                continue;
            }
            if !self.family_done {
                self.waiting = true;
                return SourceNeed::Scan {
                    family: self.family,
                    from: self.next_key.clone(),
                    to: self.space.to(),
                };
            }
            if self.family == Family::State {
                return self.send(chunk, true);
            }
            self.family = Family::State;
            self.next_key = self.space.from();
            self.family_done = false;
        }
    }

    fn take_pair(&mut self, key: &Bytes, value: Bytes) -> Option<()> {
        let short = key.slice(4.min(key.len())..);
        if self.family == Family::Body {
            self.emit(SnapshotPair { family: Family::Body, key: short, value });
            return Some(());
        }
        let exported = export_state(key, value).ok()?;
        self.unspilled.extend(exported.unspilled.into_iter().map(|(queue, seq, slot)| Unspilled {
            queue,
            seq,
            slot,
        }));
        self.after_unspilled =
            Some(SnapshotPair { family: Family::State, key: short, value: exported.value });
        Some(())
    }

    fn send(&mut self, chunk: u64, last: bool) -> SourceNeed {
        self.pulled = None;
        self.next_chunk += 1;
        self.bytes += self.out_bytes as u64;
        self.out_bytes = 0;
        let pairs = std::mem::take(&mut self.out);
        self.sent = Some((chunk, pairs.clone(), last));
        SourceNeed::Send { chunk, pairs, last }
    }
}
