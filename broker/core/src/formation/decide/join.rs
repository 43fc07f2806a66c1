//! Rows J1, J2 and Q1: the group is running, or was a moment ago.

use quorate_store::ids::GroupId;

use super::super::assembly::rolled_back;
use super::super::company::Choice;
use super::super::lineage::{Relation, relation};
use super::super::rows::Row;
use super::super::status::{Active, GroupStatus, InitialStatus, StoreState};
use super::{Case, Decision, Verdict, list, next};

/// Some member is active: resume as a voter, or join and be updated.
pub(super) fn row_j1(case: &Case<'_>) -> Option<Decision> {
    let company = case.company;
    let reference = company.active(case.group)?;
    let part = reference.group(case.group)?;
    let active = part.active?;
    let own = company.own();
    if own.is_active(case.group) {
        let reason = format!("{} is active and this broker takes part", case.group_name());
        return Some(case.decision(Row::J1, Verdict::Resume, reason));
    }
    let standing = case.assembly.standings().iter().find(|standing| standing.member.key == own.key);
    let lineage = standing.map(|standing| relation(standing.lineage, &part.lineage));
    if matches!(lineage, Some(Relation::Forked | Relation::Later)) {
        let reason = format!(
            "this store's history of {} forked from the active one, which {} leads",
            case.group_name(),
            name_of(case, part, active)
        );
        let mut decision = case.decision(Row::J1, Verdict::NeedsOperator, reason);
        decision.next = vec![next::export(), next::replace(&own.name)];
        return Some(decision);
    }
    let voter = part.voters.iter().any(|voter| voter.store == own.key.store);
    let hindrance = match standing {
        None => Some("this store is empty"),
        Some(_) if rolled_back(own, company.members()) => {
            Some("SAFE-2003: this store is an older copy of itself, the cluster recorded a later life of it")
        }
        Some(standing) if !standing.trusted => Some("this store may lack what it acknowledged"),
        Some(_) if lineage == Some(Relation::Earlier) => Some("this store's history is an earlier one"),
        Some(_) if !voter => Some("this store is not a recorded voter"),
        Some(_) => None,
    };
    let group = case.group_name();
    let leader = name_of(case, part, active);
    let Some(hindrance) = hindrance else {
        let reason = format!(
            "{group} is active, led by {leader}; this store holds all it acknowledged and is a recorded voter"
        );
        return Some(case.decision(Row::J1, Verdict::Resume, reason));
    };
    let mut reason = format!(
        "{group} is active, led by {leader}; {hindrance} and is updated: it counts once it has caught up with \
             what {leader} commits after admitting it"
    );
    let predecessor = part.voters.iter().find(|voter| voter.name == own.name && voter.store != own.key.store);
    let mut commands = Vec::new();
    if let Some(predecessor) = predecessor
        && case.group == GroupId::SYSTEM
    {
        reason.push_str("; a voter of this name is recorded with another store, ");
        reason.push_str(&predecessor.store.to_string());
        commands.push(next::replace(&own.name));
    }
    let mut decision = case.decision(Row::J1, Verdict::Join, reason);
    decision.next = commands;
    Some(decision)
}

/// None active, but the group was active in this run, and enough voters are here to go on at once.
pub(super) fn row_j2(case: &Case<'_>) -> Option<Decision> {
    if !case.ran() || case.is_stranded() || !case.assembly.is_restorable() {
        return None;
    }
    let able = case.assembly.able().count();
    let mut reason = format!(
        "{} was active in this run and {able} of its {} voters are here: it goes on",
        case.group_name(),
        case.assembly.voters().len()
    );
    case.tell_join(&mut reason);
    Some(case.decision(Row::J2, case.voter_or(Verdict::Resume), reason))
}

/// As J2, without a majority. Raft's own writes go on.
pub(super) fn row_q1(case: &Case<'_>) -> Option<Decision> {
    if !case.ran() || case.is_stranded() || case.assembly.forked().is_some() {
        return None;
    }
    let assembly = &case.assembly;
    let mut reason = format!(
        "{} has no quorum: {} of its {} voters are here and {} are needed",
        case.group_name(),
        assembly.able().count(),
        assembly.voters().len(),
        assembly.majority()
    );
    case.tell_hindrances(&mut reason);
    let mut decision = case.decision(Row::Q1, Verdict::Wait, reason);
    decision.missing = case.missing_names();
    decision.next = next::start(&decision.missing);
    if decision.next.is_empty() {
        decision.next = if case.company.own().is_transient() {
            vec![next::required_nodes(assembly.able().count().max(1))]
        } else {
            vec![next::inspect(), next::mark_clean()]
        };
    }
    Some(decision)
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
            reason.push_str("; this broker is not among them: it is updated once they have elected a leader");
        }
    }

    /// The names of recorded voters that are not here.
    pub(super) fn missing_names(&self) -> Vec<String> {
        self.assembly.missing().iter().map(|voter| voter.name.clone()).collect()
    }

    /// Appends why each voter that cannot vote cannot.
    pub(super) fn tell_hindrances(&self, reason: &mut String) {
        let told: Vec<String> = self
            .assembly
            .voters()
            .iter()
            .filter_map(|voter| {
                self.assembly.hindrance(voter).map(|hindrance| format!("{} {hindrance}", voter.name))
            })
            .collect();
        if !told.is_empty() {
            reason.push_str("; ");
            reason.push_str(&list(&told));
        }
    }
}
