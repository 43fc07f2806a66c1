//! A group's epochs as this broker keeps them.

use quorate_store::ids::{ClusterId, Epoch, GroupId, Index, Position, Term};
use quorate_store::stamp::{EpochCause, EpochEntry};
use uuid::Uuid;

use crate::peer::LineageTag;

/// The list of epochs, oldest first; never empty for a group that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lineage {
    epochs: Vec<EpochEntry>,
}

impl Lineage {
    /// The lineage of a group that begins: its first epoch's id follows from cluster and group, so that every founder
    /// names it alike.
    pub(crate) fn founded(cluster: ClusterId, group: GroupId) -> Self {
        Self::begun_in(cluster.0, group)
    }

    /// The lineage of a group that begins in this epoch of `system`; the first one has the cluster's id. So two groups that
    /// got the same number in rival histories are never taken for one.
    pub(crate) fn begun_in(epoch: Uuid, group: GroupId) -> Self {
        let mut raw = *epoch.as_bytes();
        for (byte, salt) in raw.iter_mut().zip(group.0.to_be_bytes()) {
            *byte ^= salt;
        }
        let id = Uuid::from_bytes(raw);
        let first = EpochEntry {
            number: Epoch(1),
            id,
            fork: Position::default(),
            term: Term(1),
            cause: EpochCause::Founding,
            left_out: Vec::new(),
            who: "founding".into(),
            when_ms: 0,
            why: "the cluster was founded".into(),
        };
        Self { epochs: vec![first] }
    }

    /// From the stamp; `None` if it names none.
    pub(crate) fn from_stamp(epochs: &[EpochEntry]) -> Option<Self> {
        if epochs.is_empty() { None } else { Some(Self { epochs: epochs.to_vec() }) }
    }

    /// The epoch of the entry at this index.
    pub(crate) fn epoch_at(&self, index: Index) -> Epoch {
        let later = self.epochs.iter().rev().find(|epoch| index > epoch.fork.index);
        later.or(self.epochs.first()).map_or(Epoch(0), |epoch| epoch.number)
    }

    /// A new epoch begins after what is there.
    pub(crate) fn begin(&mut self, epoch: EpochEntry) {
        debug_assert!(self.epochs.last().is_none_or(|last| last.number < epoch.number));
        self.epochs.push(epoch);
    }

    /// Takes back an epoch that was never begun.
    pub(crate) fn take_back(&mut self) {
        if self.epochs.len() > 1 {
            self.epochs.pop();
        }
    }

    pub(crate) fn tag(&self) -> LineageTag {
        let last = self.epochs.last().expect("a lineage is never empty");
        LineageTag { epoch: last.number, id: last.id }
    }

    pub(crate) fn entries(&self) -> &[EpochEntry] {
        &self.epochs
    }
}
