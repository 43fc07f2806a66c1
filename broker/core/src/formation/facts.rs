//! What one broker knows when it decides: its own status and those of the peers it is linked to.

use std::collections::BTreeSet;

use quorate_store::ids::{ClusterId, GroupId};

use super::company::Company;
use super::decide::Case;
use super::lineage::{Relation, relation};
use super::plan::FoundingPlan;
use super::rivals::superseded;
use super::rolled_back::rolled_back;
use super::status::{GroupStatus, InitialStatus, VoterRef};

/// The whole input of [`super::decide()`]. The order of `seen` does not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// This broker.
    pub own: InitialStatus,
    /// The latest status of every peer linked now: a peer whose link closed is taken out at once.
    pub seen: Vec<InitialStatus>,
}

impl Facts {
    /// Every group that some member of the own cluster holds, ascending; `system` always, and first. None that is deleted,
    /// though somebody who was away still holds it, nor what is only in a history that the active one left behind.
    pub fn groups(&self) -> Vec<GroupId> {
        let mut groups: BTreeSet<GroupId> = BTreeSet::from([GroupId::SYSTEM]);
        let company = Company::of(self);
        let held = company.knowing_groups().flat_map(|member| &member.groups);
        groups.extend(held.map(|group| group.group));
        let deleted = self.deleted(groups.iter().copied());
        groups.difference(&deleted).copied().collect()
    }

    /// Those of these groups of which somebody who is here knows that they were deleted.
    pub fn deleted(&self, groups: impl IntoIterator<Item = GroupId>) -> BTreeSet<GroupId> {
        let company = Company::of(self);
        let knowing = company.knowing_deletions();
        let deleted = |group: &GroupId| knowing.iter().any(|member| member.has_deleted(*group));
        groups.into_iter().filter(deleted).collect()
    }

    /// What the leader of this group says of it, if it is here and leads with a quorum. Only its own word is enough for
    /// giving anything up: whoever merely follows may follow somebody who leads no more.
    pub fn reference(&self, group: GroupId) -> Option<&GroupStatus> {
        let company = Company::of(self);
        let led = |member: &&InitialStatus| {
            let part = member.group(group);
            part.and_then(|part| part.active).is_some_and(|active| active.leader == member.key.store)
        };
        let leader = company
            .members()
            .iter()
            .copied()
            .filter(led)
            .filter(|member| !company.gives_way(group, member))
            .max_by_key(|member| {
                member.group(group).and_then(|part| part.active).map(|active| active.term)
            })?;
        leader.group(group).filter(|part| part.trusted && !part.voters.is_empty())
    }

    /// Whether the leader of `system` says that this store is a member, with or without a vote.
    pub fn has_place(&self) -> bool {
        self.reference(GroupId::SYSTEM).is_some_and(|part| {
            let mut members = part.voters.iter().chain(&part.learners);
            members.any(|member| member.store == self.own.key.store)
        })
    }

    /// The voters that the latest log here, of the latest history, names.
    pub fn recorded_voters(&self, group: GroupId) -> Vec<VoterRef> {
        Company::of(self).assembly(group).voters().to_vec()
    }

    /// Whether the own store still holds everything that it acknowledged of this group, as far as anybody here knows.
    pub fn is_trusted(&self, group: GroupId) -> bool {
        let company = Company::of(self);
        let assembly = company.assembly(group);
        let own = assembly.standings().iter().find(|standing| standing.member.key == self.own.key);
        own.is_some_and(|standing| standing.trusted)
    }

    /// Whether others recorded a later life of the own store, or positions that it lacks.
    pub fn is_rolled_back(&self) -> bool {
        rolled_back(&self.own, Company::of(self).witnesses())
    }

    /// Whether this group's history went on elsewhere, by an operator's act that the own store had no part in, or that
    /// decided against it. While the group is not active, a later history of which nothing says that it includes what the
    /// own store went on to leaves nobody behind, nor does one beside which others are about to go on without it.
    pub fn is_left_behind(&self, group: GroupId) -> bool {
        let company = Company::of(self);
        let case = Case::new(&company, group);
        let assembly = case.running.as_ref().unwrap_or(&case.assembly);
        let Some(own) = assembly.standing(self.own.key.store) else { return false };
        let active = company.active(group).and_then(|member| member.group(group));
        if active.is_none() && assembly.has_rival(own) {
            return false;
        }
        let history = active.map_or(assembly.history(), |part| part.lineage.as_slice());
        relation(own.lineage, history) == Relation::Earlier || superseded(own, history)
    }

    /// The cluster that this broker belongs to or would join by what it sees; none while none is there or while
    /// there is more than one candidate.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        Company::of(self).cluster()
    }

    /// What to propose now that [`super::decide()`] says `FORM`; none if a founding is not possible by these facts.
    pub fn founding_plan(&self) -> Option<FoundingPlan> {
        FoundingPlan::of(self).ok()
    }
}
