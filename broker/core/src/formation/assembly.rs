//! One group's members side by side: whose history is the latest, who may vote, who is missing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use quorate_store::ids::{ClusterId, Epoch, GroupId, Position, StoreId};
use quorate_store::stamp::{EpochCause, EpochEntry, LeftOut};
use uuid::Uuid;

use super::lineage::{Relation, relation};
use super::rivals::{are_parted, rivals, superseded};
use super::rolled_back::rolled_back;
use super::status::{GroupStatus, InitialStatus, RecoveryMode, StoreState, VoterRef};

/// What one member holds of the group.
#[derive(Clone, Debug)]
pub(crate) struct Standing<'a> {
    pub(crate) member: &'a InitialStatus,
    pub(crate) group: GroupId,
    pub(crate) lineage: &'a [EpochEntry],
    pub(crate) client_epochs: &'a [Epoch],
    pub(crate) position: Position,
    pub(crate) voters: Vec<VoterRef>,
    /// Holds everything it ever acknowledged, and is not an older copy of itself.
    pub(crate) trusted: bool,
    /// An operator's mark on which nothing was begun yet.
    pub(crate) mark: Option<Mark>,
    /// Its process took part while the group was active.
    pub(crate) ran: bool,
    /// It is the designated primary and has not seen the other voter for long.
    pub(crate) may_go_solo: bool,
}

/// An operator's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) recovery: Uuid,
    /// Clients are served without waiting for anybody.
    pub(crate) alone: bool,
}

impl<'a> Standing<'a> {
    /// Its lineage, without a mark on which nothing was begun.
    pub(crate) fn unmarked(&self) -> &'a [EpochEntry] {
        match self.lineage.split_last() {
            Some((_, before)) if self.mark.is_some() => before,
            _ => self.lineage,
        }
    }
}

/// All of them, seen along one history of the group.
#[derive(Clone, Debug)]
pub(crate) struct Assembly<'a> {
    standings: Vec<Standing<'a>>,
    history: &'a [EpochEntry],
    /// Two whose histories no mark decides between.
    rivals: Option<(usize, usize)>,
    /// The voters of the latest configuration in the logs, committed or not.
    voters: Vec<VoterRef>,
    missing: Vec<VoterRef>,
    here: BTreeSet<StoreId>,
    /// Names under which nothing more can be expected.
    answered: BTreeSet<&'a str>,
}

impl<'a> Assembly<'a> {
    /// Along the latest history.
    pub(crate) fn of(
        members: &[&'a InitialStatus],
        witnesses: &[&InitialStatus],
        cluster: Option<ClusterId>,
        group: GroupId,
        answered: BTreeSet<&'a str>,
    ) -> Self {
        let mut standings: Vec<Standing<'a>> =
            members.iter().filter_map(|member| standing(member, witnesses, cluster, group)).collect();
        let marks: Vec<Option<Mark>> =
            standings.iter().map(|standing| unbegun_mark(standing, &standings)).collect();
        for (standing, mark) in standings.iter_mut().zip(marks) {
            standing.mark = mark;
        }
        let live = |standing: &&Standing<'a>| !is_superseded(standing, &standings);
        let latest = |found: &mut dyn Iterator<Item = &Standing<'a>>| {
            found.map(|standing| standing.lineage).max_by_key(|lineage| lineage.len())
        };
        let history = latest(&mut standings.iter().filter(live))
            .or_else(|| latest(&mut standings.iter()))
            .unwrap_or_default();
        let rivals = first_rivals(&standings, history);
        let here = members.iter().map(|member| member.key.store).collect();
        Self::along(standings, history, rivals, here, answered)
    }

    fn along(
        standings: Vec<Standing<'a>>,
        history: &'a [EpochEntry],
        rivals: Option<(usize, usize)>,
        here: BTreeSet<StoreId>,
        answered: BTreeSet<&'a str>,
    ) -> Self {
        let voters = standings
            .iter()
            .filter(|standing| relation(standing.lineage, history) == Relation::Same)
            .filter(|standing| !standing.voters.is_empty())
            .max_by_key(|standing| (standing.trusted, standing.position, standing.member.key))
            .map(|standing| standing.voters.clone())
            .unwrap_or_default();
        let missing = voters
            .iter()
            .filter(|voter| !here.contains(&voter.store) && !answered.contains(voter.name.as_str()))
            .cloned()
            .collect();
        Self { standings, history, rivals, voters, missing, here, answered }
    }

    /// The same members along the history of the processes that took part while the group was active; none if there
    /// are none, or if their histories are rivals.
    pub(crate) fn running(&self) -> Option<Self> {
        let ran: Vec<Standing<'a>> = self.standings.iter().filter(|standing| standing.ran).cloned().collect();
        let history = ran.iter().map(|standing| standing.lineage).max_by_key(|lineage| lineage.len())?;
        if first_rivals(&ran, history).is_some() {
            return None;
        }
        let (here, answered) = (self.here.clone(), self.answered.clone());
        Some(Self::along(self.standings.clone(), history, None, here, answered))
    }

    /// Every process that took part while the group was active belongs to a history that the latest one left behind,
    /// and none of them is beyond what was recorded for it.
    pub(crate) fn left_running_behind(&self) -> bool {
        let ran = || self.standings.iter().filter(|standing| standing.ran);
        let behind = |standing: &Standing<'_>| {
            let later = relation(standing.lineage, self.history);
            matches!(later, Relation::Earlier) || superseded(standing, self.history)
        };
        ran().next().is_some() && self.rivals.is_none() && ran().all(behind)
    }

    /// Members that hold something of the group, or founded it.
    pub(crate) fn standings(&self) -> &[Standing<'a>] {
        &self.standings
    }

    /// What this store holds of the group.
    pub(crate) fn standing(&self, store: StoreId) -> Option<&Standing<'a>> {
        self.standings.iter().find(|standing| standing.member.key.store == store)
    }

    /// The history that the members are seen along.
    pub(crate) fn history(&self) -> &'a [EpochEntry] {
        self.history
    }

    /// Two members of which no mark says which one goes on.
    pub(crate) fn rivals(&self) -> Option<(&Standing<'a>, &Standing<'a>)> {
        let (one, other) = self.rivals?;
        Some((self.standings.get(one)?, self.standings.get(other)?))
    }

    /// Whether some member of this history is a rival of this one.
    pub(crate) fn has_rival(&self, one: &Standing<'_>) -> bool {
        let mut of_history =
            self.standings.iter().filter(|other| relation(other.lineage, self.history) == Relation::Same);
        of_history.any(|other| rivals(one, other))
    }

    /// Members with an operator's mark that nobody else's mark supersedes.
    pub(crate) fn marked(&self) -> impl Iterator<Item = &Standing<'a>> {
        self.standings
            .iter()
            .filter(|standing| standing.mark.is_some() && !is_superseded(standing, &self.standings))
    }

    /// The member with the only mark there is, if that is the latest history.
    pub(crate) fn sole_marked(&self) -> Option<&Standing<'a>> {
        let mut marked = self.marked();
        let only = marked.next()?;
        let latest = relation(only.lineage, self.history) == Relation::Same;
        (marked.next().is_none() && latest && self.rivals.is_none()).then_some(only)
    }

    /// The recorded voters.
    pub(crate) fn voters(&self) -> &[VoterRef] {
        &self.voters
    }

    /// How many recorded voters a start waits for at most: those before the mark, while a marked store is the only one.
    pub(crate) fn awaited_voters(&self) -> usize {
        let before = |left_out: &[LeftOut]| left_out.iter().filter(|left| left.voter).count() + 1;
        self.voters.len().max(self.left_out_by_mark().map_or(0, before))
    }

    /// What a mark recorded of the others, as long as nobody went on from it and unless it goes on alone. Afterwards
    /// those who vote are the recorded voters again, and what the mark asks for is a matter of serving clients.
    fn left_out_by_mark(&self) -> Option<&[LeftOut]> {
        let awaits = |standing: &&Standing<'_>| standing.mark.is_some_and(|mark| !mark.alone);
        let marked = self.marked().find(awaits);
        Some(marked?.lineage.last()?.left_out.as_slice())
    }

    /// The names of those that a start waits for and that may still arrive, ascending by store.
    pub(crate) fn awaited_missing(&self) -> Vec<String> {
        let left_out = self
            .left_out_by_mark()
            .unwrap_or_default()
            .iter()
            .filter(|left| left.voter && !self.here.contains(&left.store))
            .filter(|left| !self.answered.contains(left.name.as_str()))
            .map(|left| (left.store, left.name.as_str()));
        let missing = self.missing.iter().map(|voter| (voter.store, voter.name.as_str()));
        let awaited: BTreeMap<StoreId, &str> = left_out.chain(missing).collect();
        awaited.into_values().map(str::to_owned).collect()
    }

    /// An operator said that nobody is to be waited for: the latest epoch is an override, solo or take-over, or the
    /// store is marked to go on alone.
    pub(crate) fn awaits_nobody(&self) -> bool {
        let cause = self.history.last().map(|epoch| epoch.cause);
        let is_forced = |cause| !matches!(cause, EpochCause::Founding | EpochCause::Mark { .. });
        cause.is_some_and(is_forced)
            || self.marked().any(|standing| standing.mark.is_some_and(|mark| mark.alone))
    }

    /// How many voters are a majority.
    pub(crate) fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// Recorded voters that may still arrive.
    pub(crate) fn missing(&self) -> &[VoterRef] {
        &self.missing
    }

    /// Whether this store may vote: trusted, of this history, and a recorded voter.
    pub(crate) fn may_vote(&self, store: StoreId) -> bool {
        self.voters.iter().any(|voter| voter.store == store)
            && self.trusted().any(|standing| standing.member.key.store == store)
    }

    /// The recorded voters that are here and may vote.
    pub(crate) fn able(&self) -> impl Iterator<Item = &VoterRef> {
        self.voters.iter().filter(|voter| self.may_vote(voter.store))
    }

    /// A majority of the recorded voters is here and may vote.
    pub(crate) fn is_restorable(&self) -> bool {
        !self.voters.is_empty() && self.rivals.is_none() && self.able().count() >= self.majority()
    }

    /// The designated primary of two voters, trusted, while the other one is neither here nor seen for long.
    pub(crate) fn solo(&self) -> Option<&Standing<'a>> {
        let [one, other] = self.voters.as_slice() else { return None };
        [(one, other), (other, one)].into_iter().find_map(|(holder, other)| {
            let standing = self.standing(holder.store)?;
            let gone = self.standing(other.store).is_none();
            (standing.may_go_solo && self.may_vote(holder.store) && gone).then_some(standing)
        })
    }

    /// A recorded voter that is here says `--recovery manual`.
    pub(crate) fn is_manual(&self) -> bool {
        self.standings.iter().any(|standing| {
            standing.member.recovery == RecoveryMode::Manual
                && self.voters.iter().any(|voter| voter.store == standing.member.key.store)
        })
    }

    /// Trusted members of this history.
    pub(crate) fn trusted(&self) -> impl Iterator<Item = &Standing<'a>> {
        self.standings
            .iter()
            .filter(|standing| standing.trusted && relation(standing.lineage, self.history) == Relation::Same)
    }

    /// Trusted members of this history that were closed clean or marked, in this group.
    pub(crate) fn clean(&self) -> impl Iterator<Item = &Standing<'a>> {
        self.trusted().filter(|standing| {
            matches!(standing.member.state, StoreState::Clean { .. }) || standing.mark.is_some()
        })
    }

    /// Members that were closed clean, of whatever history, but for those that a mark supersedes.
    pub(crate) fn closed(&self) -> impl Iterator<Item = &Standing<'a>> {
        self.standings.iter().filter(|standing| {
            matches!(standing.member.state, StoreState::Clean { .. })
                && !is_superseded(standing, &self.standings)
        })
    }

    /// The member with the most recent log of this history, trusted or not: of several the one to choose. `quorate store
    /// inspect` names the same.
    pub(crate) fn most_recent(&self) -> Option<&Standing<'a>> {
        self.standings
            .iter()
            .filter(|standing| relation(standing.lineage, self.history) == Relation::Same)
            .max_by_key(|standing| (standing.position, standing.trusted, Reverse(standing.member.key)))
    }

    /// Why a recorded voter cannot vote, in words; none if it can.
    pub(crate) fn hindrance(&self, voter: &VoterRef) -> Option<&'static str> {
        if self.may_vote(voter.store) {
            return None;
        }
        Some(match self.standing(voter.store) {
            Some(standing) if !standing.trusted => "may lack what it acknowledged",
            Some(standing) if relation(standing.lineage, self.history) == Relation::Earlier => {
                "is of an earlier history"
            }
            Some(_) => "is of another history",
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

fn is_superseded(standing: &Standing<'_>, all: &[Standing<'_>]) -> bool {
    all.iter().any(|other| superseded(standing, other.lineage))
}

/// The first two rivals, one of them of the latest history if possible. What a mark superseded is in nobody's way.
fn first_rivals(standings: &[Standing<'_>], history: &[EpochEntry]) -> Option<(usize, usize)> {
    let first = |order: &[usize], test: fn(&Standing<'_>, &Standing<'_>) -> bool| {
        let tested = |(one, other): (&usize, &usize)| {
            standings.get(*one).zip(standings.get(*other)).is_some_and(|(one, other)| test(one, other))
        };
        let pairs = order
            .iter()
            .enumerate()
            .flat_map(|(at, one)| order.iter().skip(at + 1).map(move |other| (one, other)));
        pairs.into_iter().find(|pair| tested(*pair)).map(|(one, other)| (*one, *other))
    };
    let all = || 0..standings.len();
    if standings.iter().all(|standing| relation(standing.lineage, history) == Relation::Same) {
        return first(&all().collect::<Vec<_>>(), are_parted);
    }
    let live = |at: &usize| standings.get(*at).is_some_and(|standing| !is_superseded(standing, standings));
    let mut order: Vec<usize> = all().filter(live).collect();
    order.sort_by_key(|at| standings.get(*at).is_none_or(|standing| standing.lineage != history));
    first(&order, rivals)
}

/// The mark of this store, if nobody went on from it yet.
fn unbegun_mark(standing: &Standing<'_>, all: &[Standing<'_>]) -> Option<Mark> {
    let StoreState::Recovered { recovery: stamped } = standing.member.state else { return None };
    let last = standing.lineage.last()?;
    let EpochCause::Mark { recovery, alone, .. } = last.cause else { return None };
    let begun = all.iter().filter(|other| other.member.key.store != standing.member.key.store).any(|other| {
        match relation(other.lineage, standing.lineage) {
            Relation::Later => true,
            Relation::Same => other.position.epoch >= last.number,
            Relation::Earlier | Relation::Forked => false,
        }
    });
    (recovery == stamped && standing.trusted && !begun).then_some(Mark { recovery, alone })
}

fn standing<'a>(
    member: &'a InitialStatus,
    witnesses: &[&InitialStatus],
    cluster: Option<ClusterId>,
    group: GroupId,
) -> Option<Standing<'a>> {
    let sound = !rolled_back(member, witnesses);
    if member.belongs() {
        return Some(match member.group(group) {
            Some(part) => of_group(member, part, sound),
            // It never held anything of this group, unless it lost it: as far as `system` is to be trusted.
            None => at_zero(
                member,
                group,
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
    Some(at_zero(member, group, voters, sound))
}

fn of_group<'a>(member: &'a InitialStatus, part: &'a GroupStatus, sound: bool) -> Standing<'a> {
    Standing {
        member,
        group: part.group,
        lineage: &part.lineage,
        client_epochs: &part.client_epochs,
        position: part.position,
        voters: part.voters.clone(),
        trusted: part.trusted && sound,
        mark: None,
        ran: part.was_active_this_run,
        may_go_solo: part.designated.is_some() && part.peer_silent,
    }
}

fn at_zero(member: &InitialStatus, group: GroupId, voters: Vec<VoterRef>, trusted: bool) -> Standing<'_> {
    Standing {
        member,
        group,
        lineage: &[],
        client_epochs: &[],
        position: Position::default(),
        voters,
        trusted,
        mark: None,
        ran: false,
        may_go_solo: false,
    }
}
