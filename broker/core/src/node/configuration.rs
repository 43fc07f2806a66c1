//! A group's voters and learners, as plain data.

use std::collections::BTreeSet;

use bytes::{BufMut, BytesMut};
use raft::eraftpb;

use crate::codec::{CodecError, Reader, put_count};
use crate::replica::wire::MembershipChange;

/// Voters and learners by Raft id. Changes go one node at a time, so a new majority always meets the old one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Configuration {
    pub(crate) voters: BTreeSet<u64>,
    pub(crate) learners: BTreeSet<u64>,
}

impl Configuration {
    /// The effect of one step.
    pub(crate) fn apply(&mut self, change: MembershipChange) {
        match change {
            MembershipChange::Voter(id) => {
                self.learners.remove(&id);
                self.voters.insert(id);
            }
            MembershipChange::Learner(id) => {
                self.voters.remove(&id);
                self.learners.insert(id);
            }
            MembershipChange::Remove(id) => {
                self.voters.remove(&id);
                self.learners.remove(&id);
            }
            MembershipChange::Nothing => {}
        }
    }

    pub(crate) fn contains(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.learners.contains(&id)
    }

    pub(crate) fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    pub(crate) fn to_raft(&self) -> eraftpb::ConfState {
        let mut out = eraftpb::ConfState::default();
        out.set_voters(self.voters.iter().copied().collect());
        out.set_learners(self.learners.iter().copied().collect());
        out
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        for set in [&self.voters, &self.learners] {
            put_count(out, set.len());
            for id in set {
                out.put_u64_le(*id);
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, CodecError> {
        let mut sets = [BTreeSet::new(), BTreeSet::new()];
        for set in &mut sets {
            for _ in 0..reader.count(8, "members")? {
                set.insert(reader.u64("raft id")?);
            }
        }
        let [voters, learners] = sets;
        Ok(Self { voters, learners })
    }
}
