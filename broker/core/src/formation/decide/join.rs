//! Rows J1, J2, Q1 and P1: the group is running, was a moment ago, or goes on with one of two.

use std::fmt::Write as _;

use quorate_store::ids::{GroupId, Position};
use quorate_store::stamp::EpochEntry;

use super::super::assembly::Assembly;
use super::super::company::Choice;
use super::super::lineage::{Relation, relation};
use super::super::rivals::{outnumbered, own_client_epochs, parted, superseded};
use super::super::rolled_back::rolled_back;
use super::super::rows::Row;
use super::super::status::{Active, GroupStatus, InitialStatus, StoreState, VoterRef};
use super::{Case, Decision, Verdict, list, next};

/// Some member is active: resume as a voter, or join and be updated.
pub(super) fn row_j1(case: &Case<'_>) -> Option<Decision> {
    let company = case.company;
    let reference = company.active(case.group)?;
    let part = reference.group(case.group)?;
    let active = part.active?;
    let own = company.own();
    // The other one of two went on alone, by a higher number: what this one does ends.
    let gives_way = own.group(case.group).is_some_and(|mine| outnumbered(&mine.lineage, &part.lineage));
    if own.is_active(case.group) && !gives_way {
        let mut reason = format!("{} is active and this broker takes part", case.group_name());
        let mut commands = Vec::new();
        tell_predecessor(case, part, &mut reason, &mut commands);
        let mut decision = case.decision(Row::J1, Verdict::Resume, reason);
        decision.next = commands;
        return Some(decision);
    }
    let leader = name_of(case, part, active);
    if let Some(decision) =
        forked(case, Row::J1, &part.lineage, &leader).or_else(|| parted_from(case, Row::J1, reference))
    {
        return Some(decision);
    }
    let standing = case.assembly.standing(own.key.store);
    let lineage = standing.map(|standing| relation(standing.lineage, &part.lineage));
    let voter = part.voters.iter().any(|voter| voter.store == own.key.store);
    let hindrance = match standing {
        None => Some("this store is empty"),
        Some(_) if rolled_back(own, company.witnesses()) => {
            Some("SAFE-2003: this store is an older copy of itself, the cluster recorded a later life of it")
        }
        Some(standing) if !standing.trusted => Some("this store may lack what it acknowledged"),
        Some(_) if lineage == Some(Relation::Earlier) => Some("this store's history is an earlier one"),
        Some(standing) if standing.mark.is_some() => {
            Some("this store was marked, and the mark is dropped: nothing was begun on it")
        }
        Some(standing) if outnumbered(standing.lineage, &part.lineage) => {
            Some("this store's history has a lower designated number than the active one")
        }
        Some(standing) if superseded(standing, &part.lineage) => {
            Some("this store's history is one that an operator's mark decided against")
        }
        Some(_) if matches!(lineage, Some(Relation::Later | Relation::Forked)) => Some(
            "this store's history left the active one without any message of a client, and that part of it is dropped",
        ),
        Some(_) if !voter => Some("this store is not a recorded voter"),
        Some(_) => None,
    };
    let group = case.group_name();
    let Some(hindrance) = hindrance else {
        let reason = format!(
            "{group} is active, led by {leader}; this store holds all it acknowledged and is a recorded voter"
        );
        return Some(case.decision(Row::J1, Verdict::Resume, reason));
    };
    let mut reason = format!(
        "{group} is active, led by {leader}; {hindrance}; it is updated and counts once it has caught up with \
         what {leader} commits after admitting it"
    );
    if standing.is_some_and(|standing| standing.position > Position::default()) {
        reason.push_str("; what only this store holds is kept in its quarantine");
    }
    let mut commands = Vec::new();
    let follows = tell_predecessor(case, part, &mut reason, &mut commands);
    if case.group == GroupId::SYSTEM
        && !follows
        && !voter
        && !reference.possible_members.contains(&own.key.store)
    {
        reason.push_str(
            "; it votes then if a place among the possible members is free or quorate member add names it",
        );
    }
    let mut decision = case.decision(Row::J1, Verdict::Join, reason);
    decision.next = commands;
    Some(decision)
}

/// Says that this store stands in for a voter of its name, which lost its disk or will come back, and with which command
/// it takes the voter's place.
fn tell_predecessor(
    case: &Case<'_>,
    part: &GroupStatus,
    reason: &mut String,
    commands: &mut Vec<String>,
) -> bool {
    let own = case.company.own();
    let of_name = |voter: &&VoterRef| voter.name == own.name && voter.store != own.key.store;
    let Some(predecessor) = part.voters.iter().find(of_name).filter(|_| case.group == GroupId::SYSTEM) else {
        return false;
    };
    let _ = write!(
        reason,
        "; a voter of this name is recorded with another store, {}: it stays a learner until that one is replaced",
        predecessor.store
    );
    commands.push(next::replace(&own.name));
    true
}

/// None active, but the group was active in this run, and enough voters are here to go on at once.
pub(super) fn row_j2(case: &Case<'_>) -> Option<Decision> {
    let running = case.running.as_ref()?;
    if case.is_stranded() || !running.is_restorable() {
        return None;
    }
    let own = case.company.own();
    let mut ran = running.standings().iter().filter(|standing| standing.ran);
    let has_run = running.standing(own.key.store).is_some_and(|standing| standing.ran);
    let other = || ran.find_map(|standing| parted_from(case, Row::J2, standing.member)).filter(|_| !has_run);
    if let Some(decision) =
        forked(case, Row::J2, running.history(), "a majority of its voters").or_else(other)
    {
        return Some(decision);
    }
    let mut reason = format!(
        "{} was active in this run and {} of its {} voters are here: it goes on",
        case.group_name(),
        running.able().count(),
        running.voters().len()
    );
    let votes = running.may_vote(own.key.store);
    if !votes {
        reason.push_str(TELL_JOIN);
    }
    Some(case.decision(Row::J2, if votes { Verdict::Resume } else { Verdict::Join }, reason))
}

/// As J2, without a majority. Raft's own writes go on. A peer that the designated primary goes on without holds nobody up.
pub(super) fn row_q1(case: &Case<'_>) -> Option<Decision> {
    let running = case.running.as_ref()?;
    if case.is_stranded() || running.solo().is_some() {
        return None;
    }
    let mut reason = format!(
        "{} has no quorum: {} of its {} voters are here and {} are needed",
        case.group_name(),
        running.able().count(),
        running.voters().len(),
        running.majority()
    );
    tell_hindrances(running, &mut reason);
    // Everybody whom it waits for is here, and too many of them have lost or may lack what they acknowledged.
    let hopeless = running.able().count() + running.missing().len() < running.majority();
    let verdict = if hopeless { Verdict::NeedsOperator } else { Verdict::Wait };
    if hopeless {
        reason.push_str("; nobody missing could change that");
        super::restore::tell_most_recent(running, &mut reason);
    }
    let mut decision = case.decision(Row::Q1, verdict, reason);
    decision.missing = names(running.missing());
    decision.next = case.bring(&decision.missing);
    if hopeless && !case.company.own().is_transient() {
        decision.next.extend([next::inspect(), next::mark_clean()]);
    }
    // If they never return. Whoever has less than somebody who is here is not to go on alone.
    let latest = running.most_recent().map(|latest| latest.position);
    let first =
        running.able().filter_map(|voter| running.standing(voter.store)).map(|able| able.position).max();
    if first == latest {
        decision.next.extend(without_them(case, running));
    }
    Some(decision)
}

/// How those of a running group that may vote go on by an operator's word: a take-over is for clusters of two voters, not
/// for what an override left of a larger one.
fn without_them(case: &Case<'_>, running: &Assembly<'_>) -> Option<String> {
    let able: Vec<&str> = running.able().map(|voter| voter.name.as_str()).collect();
    let of_cluster = case.company.assembly(GroupId::SYSTEM).voters().len();
    match (able.as_slice(), running.voters().len()) {
        ([], _) => None,
        ([one], 2) if of_cluster == 2 => Some(next::take_over(one)),
        (some, _) => Some(next::required_nodes(some)),
    }
}

/// The designated primary of two voters goes on alone: the other one was not seen for ten election timeouts.
pub(super) fn row_p1(case: &Case<'_>) -> Option<Decision> {
    let assembly = case.running.as_ref().unwrap_or(&case.assembly);
    let holder = assembly.solo().filter(|_| assembly.rivals().is_none())?;
    let other = assembly.voters().iter().find(|voter| voter.store != holder.member.key.store)?;
    let mine = holder.member.key == case.company.own().key;
    let mut reason = format!(
        "{} has two voters, {} is its designated primary and {} is gone: {} goes on alone, and what it confirms until {} \
         is back exists once",
        case.group_name(),
        holder.member.name,
        other.name,
        holder.member.name,
        other.name
    );
    if !mine {
        reason.push_str("; this broker is updated from it");
    }
    let mut decision = case.decision(Row::P1, if mine { Verdict::Restore } else { Verdict::Join }, reason);
    decision.missing = vec![other.name.clone()];
    Some(decision)
}

/// What a broker that may not vote waits for.
const TELL_JOIN: &str = "; this broker is not among them: it is updated once they have elected a leader";

/// The own store went on beyond the history that the group goes on with, and clients know of it: their messages are not
/// dropped without a person's word, such as a mark against just this state of it. What holds no client's entry is dropped.
fn forked(case: &Case<'_>, row: Row, history: &[EpochEntry], leader: &str) -> Option<Decision> {
    let own = case.company.own();
    let standing = case.assembly.standing(own.key.store)?;
    if superseded(standing, history) {
        return None;
    }
    let epochs: Vec<String> = own_client_epochs(standing, history).iter().map(ToString::to_string).collect();
    if epochs.is_empty() {
        return None;
    }
    let reason = format!(
        "this store's history of {} forked from the active one, which {leader} leads: its epoch {} holds messages of \
         clients that are not there",
        case.group_name(),
        list(&epochs)
    );
    Some(given_up(case, row, &reason))
}

/// The own store has the epochs of the group that goes on, and took part in another history of it: what it holds may have
/// been confirmed there, and is not taken for a part of this one.
fn parted_from(case: &Case<'_>, row: Row, other: &InitialStatus) -> Option<Decision> {
    let own = case.company.own();
    let trusted = case.assembly.standing(own.key.store).is_some_and(|standing| standing.trusted);
    if !trusted || !parted(own, other) {
        return None;
    }
    let reason = format!(
        "this store took part in another history of the cluster that has the same epochs: its safety number is {:016x}, that of \
         {} is {:016x}; some store voted in both, and messages that were confirmed here may not be there",
        own.safety.number(),
        other.name,
        other.safety.number()
    );
    Some(given_up(case, row, &reason))
}

/// What this store holds counts only if a person says so, and how it is given up.
fn given_up(case: &Case<'_>, row: Row, reason: &str) -> Decision {
    let reason = format!(
        "{reason}; to give them up: save them, stop this broker, have it replaced, and start it with an empty directory"
    );
    let mut decision = case.decision(row, Verdict::NeedsOperator, reason);
    let replace = format!("{} (once this broker is stopped)", next::replace(&case.company.own().name));
    decision.next = vec![next::export(), replace];
    decision
}

/// Appends why each voter that cannot vote cannot.
fn tell_hindrances(assembly: &Assembly<'_>, reason: &mut String) {
    let hindrance = |voter: &VoterRef| Some(format!("{} {}", voter.name, assembly.hindrance(voter)?));
    let told: Vec<String> = assembly.voters().iter().filter_map(hindrance).collect();
    if !told.is_empty() {
        reason.push_str("; ");
        reason.push_str(&list(&told));
    }
}

fn names(voters: &[VoterRef]) -> Vec<String> {
    voters.iter().map(|voter| voter.name.clone()).collect()
}

fn name_of(case: &Case<'_>, part: &GroupStatus, active: Active) -> String {
    let member = case.company.members().iter().find(|member| member.key.store == active.leader);
    let voter = part.voters.iter().find(|voter| voter.store == active.leader);
    match (member, voter) {
        (Some(member), _) => member.name.clone(),
        (None, Some(voter)) => voter.name.clone(),
        (None, None) => active.leader.to_string(),
    }
}

impl Case<'_> {
    /// The group was active during the life of some process that is here.
    pub(super) fn ran(&self) -> bool {
        let ran =
            |member: &&InitialStatus| member.group(self.group).is_some_and(|part| part.was_active_this_run);
        self.company.members().iter().any(ran)
    }

    /// As [`Self::ran`], or the group is active now.
    pub(super) fn runs_or_ran(&self) -> bool {
        matches!(self.company.choice(), Choice::One(_))
            && (self.company.active(self.group).is_some() || self.ran())
    }

    /// A transient cluster that restarts of its members took the majority from: new processes answer under the names
    /// of so many voters that those left can never be a majority again.
    pub(super) fn is_stranded(&self) -> bool {
        let assembly = &self.assembly;
        self.company.own().is_transient()
            && !assembly.voters().is_empty()
            && assembly.able().count() + assembly.missing().len() < assembly.majority()
    }

    /// Brokers that kept data while a transient cluster lost its majority.
    pub(super) fn survivors(&self) -> Vec<&str> {
        let kept = |member: &&&InitialStatus| {
            matches!(member.state, StoreState::Transient { was_active: true }) && member.cluster_id.is_some()
        };
        self.company.members().iter().filter(kept).map(|member| member.name.as_str()).collect()
    }

    /// `verdict` for a voter that is able, `JOIN` for everyone else.
    pub(super) fn voter_or(&self, verdict: Verdict) -> Verdict {
        if self.assembly.may_vote(self.company.own().key.store) { verdict } else { Verdict::Join }
    }

    /// Appends what a broker that may not vote waits for.
    pub(super) fn tell_join(&self, reason: &mut String) {
        if !self.assembly.may_vote(self.company.own().key.store) {
            reason.push_str(TELL_JOIN);
        }
    }

    /// The names of recorded voters that are not here.
    pub(super) fn missing_names(&self) -> Vec<String> {
        names(self.assembly.missing())
    }

    /// Appends why each voter that cannot vote cannot.
    pub(super) fn tell_hindrances(&self, reason: &mut String) {
        tell_hindrances(&self.assembly, reason);
    }
}
