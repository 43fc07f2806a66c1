//! Rows C3, C2, C1, W2 and N1: some store belongs to a cluster, and none is active.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use quorate_store::ids::GroupId;
use uuid::Uuid;

use super::super::assembly::{Assembly, clean_id};
use super::super::company::Why;
use super::super::lineage::{Relation, relation};
use super::super::rows::Row;
use super::{Case, Decision, Verdict, list, next};

/// Manual mode: clean stores of different shutdowns, or a dirty store later than every clean one.
pub(super) fn row_c3(case: &Case<'_>) -> Option<Decision> {
    if !case.assembly.is_manual() {
        return None;
    }
    let assembly = &case.assembly;
    let mut shutdowns: BTreeMap<Uuid, Vec<&str>> = BTreeMap::new();
    for closed in assembly.closed() {
        if let Some(id) = clean_id(closed.member) {
            shutdowns.entry(id).or_default().push(&closed.member.name);
        }
    }
    let reason = if shutdowns.len() > 1 {
        let told: Vec<String> =
            shutdowns.iter().map(|(id, names)| format!("{} (shutdown {id})", list(names))).collect();
        format!("the clean stores were closed by different shutdowns: {}", list(&told))
    } else {
        let cleanest = assembly
            .closed()
            .max_by_key(|closed| (closed.lineage.len(), closed.position, closed.member.key))?;
        let later =
            assembly.most_recent().filter(|recent| match relation(recent.lineage, cleanest.lineage) {
                Relation::Later => true,
                Relation::Same => recent.position > cleanest.position,
                Relation::Earlier | Relation::Forked => false,
            })?;
        format!(
            "the store of {} is {} and reaches to {}, beyond every clean one: {} of the last shutdown ends at {} and is \
             stale",
            later.member.name, later.member.state, later.position, cleanest.member.name, cleanest.position
        )
    };
    let mut decision = case.decision(Row::C3, Verdict::NeedsOperator, reason);
    decision.next = vec![next::inspect(), next::mark_clean()];
    Some(decision)
}

/// Manual mode: every recorded voter is here and none is clean.
pub(super) fn row_c2(case: &Case<'_>) -> Option<Decision> {
    let assembly = &case.assembly;
    if !assembly.is_manual() || assembly.clean().next().is_some() || !assembly.missing().is_empty() {
        return None;
    }
    let mut reason =
        format!("--recovery manual, and none of the {} recorded voters is clean", assembly.voters().len());
    case.tell_hindrances(&mut reason);
    let mut decision = case.decision(Row::C2, Verdict::NeedsOperator, reason);
    decision.next = vec![next::inspect(), next::mark_clean()];
    Some(decision)
}

/// A majority of trusted voters of the latest lineage: nothing confirmed can be missing, the most recent is elected.
pub(super) fn row_c1(case: &Case<'_>) -> Option<Decision> {
    let assembly = &case.assembly;
    if !assembly.is_restorable() || (assembly.is_manual() && assembly.clean().next().is_none()) {
        return None;
    }
    let able: Vec<&str> = assembly.able().map(|voter| voter.name.as_str()).collect();
    let mut reason = format!(
        "{} of the {} recorded voters of {} hold all they acknowledged: {}",
        able.len(),
        assembly.voters().len(),
        case.group_name(),
        list(&able)
    );
    case.tell_join(&mut reason);
    Some(case.decision(Row::C1, case.voter_or(Verdict::Restore), reason))
}

/// Recorded voters are missing whose arrival could complete a majority.
pub(super) fn row_w2(case: &Case<'_>) -> Option<Decision> {
    let assembly = &case.assembly;
    let able = assembly.able().count();
    let missing = case.missing_names();
    if missing.is_empty() || able + missing.len() < assembly.majority() {
        return None;
    }
    let needed = assembly.majority().saturating_sub(able);
    let mut reason = format!(
        "{able} of the {} recorded voters of {} may vote and {} are needed",
        assembly.voters().len(),
        case.group_name(),
        assembly.majority()
    );
    case.tell_hindrances(&mut reason);
    if needed == 0 {
        reason.push_str("; --recovery manual waits for a clean store: any of those missing may bring it");
    } else if needed == missing.len() {
        reason.push_str("; all of those missing must arrive with trusted stores");
    } else {
        reason.push_str("; the arrival of any ");
        reason.push_str(&needed.to_string());
        reason.push_str(" of those missing, with a trusted store, completes the majority");
    }
    let mut decision = case.decision(Row::W2, Verdict::Wait, reason);
    decision.next = case.bring(&missing);
    decision.missing = missing;
    // If they never return.
    decision.next.extend(take_over(case));
    decision.next.extend([next::inspect(), next::mark_clean()]);
    Some(decision)
}

/// How the one of two voters that is here goes on without the other, by an operator's word: not while that one runs, even if
/// twice.
fn take_over(case: &Case<'_>) -> Option<String> {
    let twins = case.aside_for(&Why::StoreTwice);
    if case.assembly.missing().iter().any(|voter| twins.contains(voter.name.as_str())) {
        return None;
    }
    let system = case.company.assembly(GroupId::SYSTEM);
    let [one] = system.able().collect::<Vec<_>>()[..] else { return None };
    (system.voters().len() == 2 && case.assembly.may_vote(one.store)).then(|| next::take_over(&one.name))
}

/// Names the store to mark.
pub(super) fn tell_most_recent(assembly: &Assembly<'_>, reason: &mut String) {
    let Some(latest) = assembly.most_recent() else { return };
    let (position, name) = (latest.position, &latest.member.name);
    let away: Vec<&str> = assembly.missing().iter().map(|voter| voter.name.as_str()).collect();
    let _ = if away.is_empty() {
        write!(
            reason,
            "; the most recent log, up to {position}, is that of {name}: inspect all, then mark that one"
        )
    } else {
        write!(
            reason,
            "; of those here {name} has the most recent log, up to {position}, and {} may have more: inspect all, then mark \
             the latest",
            list(&away)
        )
    };
}

/// Nobody who is missing could complete a majority of trusted voters.
// Every row's test has this type; this one always holds.
#[allow(clippy::unnecessary_wraps)]
pub(super) fn row_n1(case: &Case<'_>) -> Option<Decision> {
    let assembly = &case.assembly;
    let mut reason = format!(
        "{} of the {} recorded voters of {} may vote, {} are needed, and nobody missing could change that",
        assembly.able().count(),
        assembly.voters().len(),
        case.group_name(),
        assembly.majority()
    );
    case.tell_hindrances(&mut reason);
    tell_most_recent(assembly, &mut reason);
    let mut decision = case.decision(Row::N1, Verdict::NeedsOperator, reason);
    decision.missing = case.missing_names();
    decision.next = vec![next::inspect(), next::mark_clean()];
    Some(decision)
}
