//! Rows X1 and O1: histories that forked, and what an operator said about them.

use std::fmt::Write as _;

use quorate_store::stamp::{EpochCause, EpochEntry};

use super::super::assembly::Standing;
use super::super::lineage::{Relation, common, relation};
use super::super::rows::Row;
use super::{Case, Decision, Verdict, list, next};

/// Two histories of one group, and no mark supersedes one of them: neither is chosen automatically.
pub(super) fn row_x1(case: &Case<'_>) -> Option<Decision> {
    let (one, other) = case.assembly.rivals()?;
    let (one, other) = if one.member.name <= other.member.name { (one, other) } else { (other, one) };
    let mut reason = format!(
        "the histories of {} in the stores of {} and {} forked: each may hold what the other does not",
        case.group_name(),
        one.member.name,
        other.member.name
    );
    for (mine, theirs) in [(one, other), (other, one)] {
        let _ = write!(reason, "; {}", alone(mine, theirs));
    }
    reason.push_str("; what only the store that is not chosen holds is kept in its quarantine");
    if one.mark.is_some() || other.mark.is_some() {
        reason.push_str(ALONE);
    }
    let mut decision = case.decision(Row::X1, Verdict::NeedsOperator, reason);
    decision.next = vec![next::inspect(), next::mark_clean_against()];
    Some(decision)
}

/// Where a mark stands that nobody went on from.
const ALONE: &str =
    "; stop all of them first: a marked store goes on by itself as soon as the other one is away";

/// What one of two forked stores holds alone.
fn alone(mine: &Standing<'_>, theirs: &Standing<'_>) -> String {
    let shared = common(mine.lineage, theirs.lineage);
    let own = mine.lineage.get(shared..).unwrap_or_default();
    let name = &mine.member.name;
    if relation(mine.lineage, theirs.lineage) == Relation::Same {
        let (number, renewals) = (mine.member.safety.number(), mine.member.safety.renewals());
        return format!(
            "{name} reaches to {}, with the safety number {number:016x} after {renewals} renewals",
            mine.position
        );
    }
    if own.is_empty() {
        let begun = theirs.lineage.get(shared).map_or_else(|| "a later epoch".to_owned(), told);
        return format!("{name} reaches to {} and was not part of {begun}", mine.position);
    }
    let epochs: Vec<String> = own.iter().map(told).collect();
    format!("{name} alone has {} and reaches to {}", list(&epochs), mine.position)
}

/// An epoch as people know it.
fn told(epoch: &EpochEntry) -> String {
    let cause = match epoch.cause {
        EpochCause::Founding => "founding",
        EpochCause::Mark { .. } => "mark",
        EpochCause::Override { .. } => "override",
        EpochCause::Solo { .. } => "solo run",
        EpochCause::TakeOver { .. } => "take-over",
    };
    let who = if epoch.who.is_empty() { String::new() } else { format!(" by {}", epoch.who) };
    let why = if epoch.why.is_empty() { String::new() } else { format!(" for: {}", epoch.why) };
    format!("epoch {} (the {cause} at {}{who}{why})", epoch.number, epoch.fork)
}

/// An operator marked a store: the group goes on from it, and nobody else is awaited.
pub(super) fn row_o1(case: &Case<'_>) -> Option<Decision> {
    let assembly = &case.assembly;
    let marked: Vec<&Standing<'_>> = assembly.marked().collect();
    if marked.len() > 1 {
        let names: Vec<&str> = marked.iter().map(|standing| standing.member.name.as_str()).collect();
        let told: Vec<String> = marked
            .iter()
            .filter_map(|standing| Some((standing, standing.mark?)))
            .map(|(standing, mark)| format!("{} (recovery {})", standing.member.name, mark.recovery))
            .collect();
        let reason = format!(
            "{} stores of {} are marked to go on from, and only one can be: {}{ALONE}",
            marked.len(),
            case.group_name(),
            list(&told)
        );
        let mut decision = case.decision(Row::O1, Verdict::NeedsOperator, reason);
        decision.next = std::iter::once(next::inspect()).chain(names.into_iter().map(next::unmark)).collect();
        return Some(decision);
    }
    let only = assembly.sole_marked()?;
    let mark = only.lineage.last()?;
    let own = case.company.own();
    let mine = own.key.store == only.member.key.store;
    let mut reason = format!(
        "{} goes on from the store of {}, up to {}: {}",
        case.group_name(),
        only.member.name,
        only.position,
        told(mark)
    );
    let unknown: Vec<&str> =
        mark.left_out.iter().filter(|left| left.known.is_none()).map(|left| left.name.as_str()).collect();
    if !unknown.is_empty() {
        let _ =
            write!(reason, "; it is not known what {} held beyond that, which may be lost", list(&unknown));
    }
    if !mine {
        reason.push_str(
            "; this broker is updated from it, and what only this store holds is kept in its quarantine",
        );
    }
    let verdict = if mine { Verdict::Restore } else { Verdict::Join };
    Some(case.decision(Row::O1, verdict, reason))
}
