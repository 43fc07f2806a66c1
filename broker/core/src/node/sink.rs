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
use crate::io::PeerKey;
use crate::peer::{SnapshotOffer, SnapshotPair};

/// How far a transfer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SinkStage {
    /// Chunks arrive and are written.
    Receiving,
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
    pub(crate) pairs: Vec<Pair>,
    /// The received state, from [`SinkStage::Ready`] on.
    pub(crate) machine: Option<Machine>,
    /// The latest epoch in it with work of clients.
    pub(crate) client_epoch: Epoch,
}

impl Sink {
    pub(crate) fn new(from: PeerKey, offer: SnapshotOffer, space: Space) -> Self {
        Self {
            from,
            offer,
            space,
            stage: SinkStage::Receiving,
            next_chunk: 0,
            last_seen: false,
            bytes: 0,
            pairs: Vec::new(),
            machine: None,
            client_epoch: Epoch(0),
        }
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
        if chunk != self.next_chunk || self.stage != SinkStage::Receiving || self.last_seen {
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
