//! The receiving side of an update by snapshot.
//!
//! What arrives is written into a fresh space of the state store; the group goes on with its old state until the new
//! one is whole and durable, and one write makes it the group's.

use bytes::{BufMut, BytesMut};
use quorate_store::ids::Epoch;
use quorate_store::state::{Pair, StateBatch, StateWrite};

use super::configuration::Configuration;
use super::group::Machine;
use super::meta::Space;
use crate::controls::Controls;
use crate::io::{PeerKey, Tick};
use crate::peer::{SnapshotOffer, SnapshotPair};

/// Between two lines about progress, in milliseconds.
const PROGRESS_MILLIS: u64 = 5_000;

/// How far a transfer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SinkStage {
    /// Chunks arrive and are written. Only here does anything depend on the source: what is whole is the group's own.
    Receiving {
        /// Since when its source is not in contact.
        cut_at: Option<Tick>,
    },
    /// The last chunk is durable; the space is being made the group's.
    Assigning,
    /// The new state is read into memory.
    Restoring,
    /// The machine is there; Raft is told as soon as its leader is known.
    Ready,
}

/// One transfer.
pub(crate) struct Sink {
    pub(crate) from: PeerKey,
    pub(crate) offer: SnapshotOffer,
    pub(crate) space: Space,
    pub(crate) stage: SinkStage,
    pub(crate) next_chunk: u64,
    pub(crate) last_seen: bool,
    pub(crate) bytes: u64,
    /// Chunks below this one are written.
    pub(crate) written: u64,
    /// When progress was last told.
    told: Option<Tick>,
    pub(crate) pairs: Vec<Pair>,
    /// The received state, from [`SinkStage::Ready`] on.
    pub(crate) machine: Option<Machine>,
    /// The latest epoch in it with work of clients.
    pub(crate) client_epoch: Epoch,
    /// The controls that came with it.
    pub(crate) controls: Controls,
}

impl Sink {
    pub(crate) fn new(from: PeerKey, offer: SnapshotOffer, space: Space) -> Self {
        Self {
            from,
            offer,
            space,
            stage: SinkStage::Receiving { cut_at: None },
            next_chunk: 0,
            last_seen: false,
            bytes: 0,
            written: 0,
            told: None,
            pairs: Vec::new(),
            machine: None,
            client_epoch: Epoch(0),
            controls: Controls::default(),
        }
    }

    /// Not all of it is here.
    pub(crate) fn is_receiving(&self) -> bool {
        matches!(self.stage, SinkStage::Receiving { .. })
    }

    /// Since when its source is not in contact, if anything depends on that.
    pub(crate) fn cut_at(&self) -> Option<Tick> {
        match self.stage {
            SinkStage::Receiving { cut_at } => cut_at,
            _ => None,
        }
    }

    /// A chunk is on its way to the state store: the next one is asked for when it is there.
    pub(crate) fn is_writing(&self) -> bool {
        self.written < self.next_chunk
    }

    /// A line about how far it is, now and then.
    pub(crate) fn progress(&mut self, now: Tick) -> Option<String> {
        let told = *self.told.get_or_insert(now);
        if now.since(told) < PROGRESS_MILLIS {
            return None;
        }
        self.told = Some(now);
        let (here, all) = (self.bytes >> 20, self.offer.estimate >> 20);
        Some(format!("{here} of about {all} MiB of the snapshot at {} received", self.offer.index))
    }

    /// Voters and learners at the snapshot's place.
    pub(crate) fn configuration(&self) -> Configuration {
        Configuration {
            voters: self.offer.voters.iter().copied().collect(),
            learners: self.offer.learners.iter().copied().collect(),
            peak: self.offer.peak,
            gone: self.offer.gone.iter().copied().collect(),
        }
    }

    /// The write for a chunk; `None` if it is not the one that was asked for.
    pub(crate) fn take(&mut self, chunk: u64, pairs: Vec<SnapshotPair>, last: bool) -> Option<StateBatch> {
        if chunk != self.next_chunk || !self.is_receiving() || self.last_seen {
            return None;
        }
        self.next_chunk += 1;
        self.last_seen = last;
        let mut batch = StateBatch::default();
        for pair in pairs {
            self.bytes += (pair.key.len() + pair.value.len()) as u64;
            let mut key = BytesMut::with_capacity(4 + pair.key.len());
            key.put_u32(self.space.0);
            key.put_slice(&pair.key);
            batch.writes.push(StateWrite::Put(pair.family, key.freeze(), pair.value));
        }
        Some(batch)
    }
}
