//! A group's voters and learners, as plain data.

use std::collections::BTreeSet;

use bytes::{BufMut, BytesMut};
use quorate_store::ids::RaftId;
use raft::eraftpb;

use crate::codec::{CodecError, Reader, put_count};
use crate::replica::wire::MembershipChange;

/// Voters and learners by Raft id. Changes go one node at a time, so a new majority always meets the old one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Configuration {
    pub(crate) voters: BTreeSet<u64>,
    pub(crate) learners: BTreeSet<u64>,
    /// The most voters at one time in the present epoch.
    pub(crate) peak: u32,
    /// Removed for good: they never come back, even where `system`'s decision is not known yet.
    pub(crate) gone: BTreeSet<u64>,
}

impl Configuration {
    /// One voter, as an operator's mark leaves it.
    pub(crate) fn sole(id: u64) -> Self {
        Self { voters: BTreeSet::from([id]), learners: BTreeSet::new(), peak: 1, gone: BTreeSet::new() }
    }

    /// With these.
    pub(crate) fn of(voters: BTreeSet<u64>, learners: BTreeSet<u64>) -> Self {
        let peak = u32::try_from(voters.len()).unwrap_or(u32::MAX);
        Self { voters, learners, peak, gone: BTreeSet::new() }
    }

    /// The effect of one step.
    pub(crate) fn apply(&mut self, change: MembershipChange) {
        match change {
            MembershipChange::Voter(id) => {
                self.learners.remove(&id);
                self.voters.insert(id);
            }
            MembershipChange::Learner(id) | MembershipChange::Filled(id, _) => {
                self.voters.remove(&id);
                self.learners.insert(id);
            }
            MembershipChange::Remove(id) => {
                self.voters.remove(&id);
                self.learners.remove(&id);
            }
            MembershipChange::Retire(id) => {
                self.voters.remove(&id);
                self.learners.remove(&id);
                self.gone.insert(id);
            }
            MembershipChange::Nothing => {}
        }
        self.peak = self.peak.max(u32::try_from(self.voters.len()).unwrap_or(u32::MAX));
    }

    /// What a group that is made now begins with: whoever is on its way out is not let in.
    pub(crate) fn for_new_group(&self, leaving: Option<RaftId>) -> Self {
        let mut configuration = self.clone();
        if let Some(leaving) = leaving
            && (self.voters.len() > 1 || !self.voters.contains(&leaving.0))
        {
            configuration.apply(MembershipChange::Retire(leaving.0));
            configuration.peak = u32::try_from(configuration.voters.len()).unwrap_or(u32::MAX);
        }
        configuration
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
        for set in [&self.voters, &self.learners, &self.gone] {
            put_count(out, set.len());
            for id in set {
                out.put_u64_le(*id);
            }
        }
        out.put_u32_le(self.peak);
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, CodecError> {
        let mut sets = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
        for set in &mut sets {
            for _ in 0..reader.count(8, "members")? {
                set.insert(reader.u64("raft id")?);
            }
        }
        let [voters, learners, gone] = sets;
        Ok(Self { voters, learners, peak: reader.u32("most voters")?, gone })
    }
}
