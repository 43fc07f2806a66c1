//! One group's members side by side: whose history is the latest, who may vote, who is missing.

use std::collections::BTreeSet;

use quorate_store::ids::{ClusterId, GroupId, Position, StoreId};
use quorate_store::stamp::EpochEntry;
use uuid::Uuid;

use super::lineage::{Relation, relation};
use super::status::{GroupStatus, InitialStatus, RecoveryMode, StoreState, VoterRef};

/// What one member holds of the group.
#[derive(Clone, Debug)]
pub(crate) struct Standing<'a> {
    pub(crate) member: &'a InitialStatus,
    pub(crate) lineage: &'a [EpochEntry],
    pub(crate) position: Position,
    pub(crate) voters: Vec<VoterRef>,
    /// Holds everything it ever acknowledged, and is not an older copy of itself.
    pub(crate) trusted: bool,
}

/// All of them.
#[derive(Clone, Debug)]
pub(crate) struct Assembly<'a> {
    standings: Vec<Standing<'a>>,
    latest: &'a [EpochEntry],
    forked: Option<(&'a InitialStatus, &'a InitialStatus)>,
    /// The voters of the latest configuration in the logs, committed or not.
    voters: Vec<VoterRef>,
    missing: Vec<VoterRef>,
}

impl<'a> Assembly<'a> {
    pub(crate) fn of(
        members: &[&'a InitialStatus],
        cluster: Option<ClusterId>,
        group: GroupId,
        answered_names: &BTreeSet<&str>,
    ) -> Self {
        let standings: Vec<Standing<'a>> =
            members.iter().filter_map(|member| standing(member, members, cluster, group)).collect();
        let latest = standings.iter().map(|standing| standing.lineage).max_by_key(|lineage| lineage.len());
        let latest = latest.unwrap_or_default();
        let longest = standings.iter().find(|standing| standing.lineage == latest);
        let other = standings.iter().find(|standing| relation(standing.lineage, latest) == Relation::Forked);
        let forked = longest.zip(other).map(|(one, other)| (one.member, other.member));
        let voters = standings
            .iter()
            .filter(|standing| relation(standing.lineage, latest) == Relation::Same)
            .filter(|standing| !standing.voters.is_empty())
            .max_by_key(|standing| (standing.trusted, standing.position, standing.member.key))
            .map(|standing| standing.voters.clone())
            .unwrap_or_default();
        let here: BTreeSet<StoreId> = members.iter().map(|member| member.key.store).collect();
        let missing = voters
            .iter()
            .filter(|voter| !here.contains(&voter.store) && !answered_names.contains(voter.name.as_str()))
            .cloned()
            .collect();
        Self { standings, latest, forked, voters, missing }
    }

    /// Members that hold something of the group, or founded it.
    pub(crate) fn standings(&self) -> &[Standing<'a>] {
        &self.standings
    }

    /// Two members whose histories both went on separately.
    pub(crate) fn forked(&self) -> Option<(&'a InitialStatus, &'a InitialStatus)> {
        self.forked
    }

    /// The recorded voters.
    pub(crate) fn voters(&self) -> &[VoterRef] {
        &self.voters
    }

    /// How many voters are a majority.
    pub(crate) fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// Recorded voters that may still arrive.
    pub(crate) fn missing(&self) -> &[VoterRef] {
        &self.missing
    }

    /// Whether this store may vote: trusted, of the latest lineage, and a recorded voter.
    pub(crate) fn may_vote(&self, store: StoreId) -> bool {
        self.voters.iter().any(|voter| voter.store == store)
            && self.latest_trusted().any(|standing| standing.member.key.store == store)
    }

    /// The recorded voters that are here and may vote.
    pub(crate) fn able(&self) -> impl Iterator<Item = &VoterRef> {
        self.voters.iter().filter(|voter| self.may_vote(voter.store))
    }

    /// A majority of the recorded voters is here and may vote.
    pub(crate) fn is_restorable(&self) -> bool {
        !self.voters.is_empty() && self.forked.is_none() && self.able().count() >= self.majority()
    }

    /// A recorded voter that is here says `--recovery manual`.
    pub(crate) fn is_manual(&self) -> bool {
        self.standings.iter().any(|standing| {
            standing.member.recovery == RecoveryMode::Manual
                && self.voters.iter().any(|voter| voter.store == standing.member.key.store)
        })
    }

    /// Trusted members of the latest lineage.
    pub(crate) fn latest_trusted(&self) -> impl Iterator<Item = &Standing<'a>> {
        self.standings
            .iter()
            .filter(|standing| standing.trusted && relation(standing.lineage, self.latest) == Relation::Same)
    }

    /// Trusted members of the latest lineage that were closed clean or marked.
    pub(crate) fn clean(&self) -> impl Iterator<Item = &Standing<'a>> {
        self.latest_trusted().filter(|standing| clean_id(standing.member).is_some())
    }

    /// The member with the most recent log of the latest lineage, trusted or not.
    pub(crate) fn most_recent(&self) -> Option<&Standing<'a>> {
        self.standings
            .iter()
            .filter(|standing| relation(standing.lineage, self.latest) == Relation::Same)
            .max_by_key(|standing| (standing.position, standing.member.key))
    }

    /// Why a recorded voter cannot vote, in words; none if it can.
    pub(crate) fn hindrance(&self, voter: &VoterRef) -> Option<&'static str> {
        if self.may_vote(voter.store) {
            return None;
        }
        let standing = self.standings.iter().find(|standing| standing.member.key.store == voter.store);
        Some(match standing {
            Some(standing) if !standing.trusted => "may lack what it acknowledged",
            Some(_) => "is of an earlier history",
            None if self.missing.contains(voter) => "is missing",
            None => "lost its store",
        })
    }
}

/// The shutdown or recovery id of a clean store.
pub(crate) fn clean_id(member: &InitialStatus) -> Option<Uuid> {
    match member.state {
        StoreState::Clean { shutdown } => Some(shutdown),
        StoreState::Recovered { recovery } => Some(recovery),
        StoreState::Transient { .. }
        | StoreState::Empty
        | StoreState::Forming(_)
        | StoreState::Dirty
        | StoreState::Damaged { .. } => None,
    }
}

fn standing<'a>(
    member: &'a InitialStatus,
    members: &[&'a InitialStatus],
    cluster: Option<ClusterId>,
    group: GroupId,
) -> Option<Standing<'a>> {
    let sound = !rolled_back(member, members);
    if member.belongs() {
        return Some(match member.group(group) {
            Some(part) => of_group(member, part, sound),
            // It never held anything of this group, unless it lost it: as far as `system` is to be trusted.
            None => at_zero(
                member,
                Vec::new(),
                sound && member.group(GroupId::SYSTEM).is_some_and(|system| system.trusted),
            ),
        });
    }
    // Beside its cluster, a store that answered the founding holds, soundly, nothing.
    let StoreState::Forming(forming) = &member.state else { return None };
    let value = forming.value().filter(|value| Some(value.cluster_id) == cluster)?;
    let founders = value
        .founders
        .iter()
        .map(|founder| VoterRef {
            store: founder.store,
            name: founder.name.clone(),
            raft_id: founder.raft_id,
        })
        .collect();
    let voters = if group == GroupId::SYSTEM { founders } else { Vec::new() };
    Some(at_zero(member, voters, sound))
}

fn of_group<'a>(member: &'a InitialStatus, part: &'a GroupStatus, sound: bool) -> Standing<'a> {
    Standing {
        member,
        lineage: &part.lineage,
        position: part.position,
        voters: part.voters.clone(),
        trusted: part.trusted && sound,
    }
}

fn at_zero(member: &InitialStatus, voters: Vec<VoterRef>, trusted: bool) -> Standing<'_> {
    Standing { member, lineage: &[], position: Position::default(), voters, trusted }
}

/// A peer recorded a later life of this store than the one that its stamp shows: it was rolled back or copied.
pub(crate) fn rolled_back(member: &InitialStatus, members: &[&InitialStatus]) -> bool {
    !member.is_transient()
        && members
            .iter()
            .filter(|witness| witness.key.store != member.key.store)
            .flat_map(|witness| &witness.recorded)
            .filter(|recorded| recorded.store == member.key.store)
            // A record of the very process that speaks may only be newer than what it last said.
            .filter(|recorded| recorded.run != Some(member.key.run))
            .any(|recorded| {
                let other_run = recorded.run.is_some()
                    && member.stamped_run.is_some()
                    && recorded.run != member.stamped_run;
                recorded.incarnation > member.incarnation
                    || (recorded.incarnation == member.incarnation && other_run)
            })
}
