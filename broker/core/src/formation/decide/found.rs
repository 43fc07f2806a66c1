//! Rows W1 and F1 to F3: enough members, and a new cluster.

use super::super::plan::{FoundingPlan, Unmet};
use super::super::rows::Row;
use super::super::status::StoreState;
use super::{Case, Decision, Verdict, list, next};

/// Fewer members than this start waits for.
pub(super) fn row_w1(case: &Case<'_>) -> Option<Decision> {
    if case.is_stranded() || case.assembly.awaits_nobody() {
        return None;
    }
    let company = case.company;
    let present = company.members().len();
    let recorded = case.assembly.awaited_voters();
    let wait_for = company.wait_for();
    let wanted = if recorded == 0 { wait_for } else { wait_for.min(recorded) };
    if present >= wanted {
        return None;
    }
    let mut reason = format!("{present} of {wanted} members are here");
    let unmet = if recorded == 0 { FoundingPlan::of_company(company).err() } else { None };
    let missing = if recorded == 0 {
        unmet.as_ref().map(|unmet| unmet.missing().to_vec()).unwrap_or_default()
    } else {
        case.assembly.awaited_missing()
    };
    if !missing.is_empty() {
        reason.push_str("; missing: ");
        reason.push_str(&list(&missing));
    }
    let apart: Vec<&str> = company.asides().iter().map(|aside| aside.status.name.as_str()).collect();
    if !apart.is_empty() {
        reason.push_str("; here, but not counted: ");
        reason.push_str(&list(&apart));
    }
    let mut decision = case.decision(Row::W1, Verdict::Wait, reason);
    decision.next = case.bring(&missing);
    decision.missing = missing;
    // How to go on without them: with fewer only where fewer could restore or found.
    if recorded == 0 {
        decision.next.extend(unmet.map_or_else(Vec::new, |unmet| without(&unmet)));
    } else if case.assembly.is_restorable() || case.assembly.sole_marked().is_some() {
        decision.next.push(next::wait_for(present.max(1)));
    } else {
        decision.next.extend([next::inspect(), next::mark_clean()]);
    }
    if decision.next.is_empty() {
        decision.next.push(next::wait_for(present.max(1)));
    }
    Some(decision)
}

/// Transient brokers that were in no cluster found one. One that kept data while the others restarted is the
/// operator's to decide about, and nobody founds anew beside it.
pub(super) fn row_f1(case: &Case<'_>) -> Option<Decision> {
    let company = case.company;
    let own = company.own();
    if !own.is_transient() {
        return None;
    }
    let survivors = case.survivors();
    if !survivors.is_empty() {
        return Some(stranded(case, &survivors));
    }
    form(case, Row::F1)
}

/// Only empty and forming stores.
pub(super) fn row_f2(case: &Case<'_>) -> Option<Decision> {
    if case.company.own().is_transient() { None } else { form(case, Row::F2) }
}

/// No store belongs to a cluster, and none can be founded yet.
pub(super) fn row_f3(case: &Case<'_>) -> Option<Decision> {
    let company = case.company;
    if company.members().iter().any(|member| member.belongs()) {
        return None;
    }
    let unmet = FoundingPlan::of_company(company).err()?;
    let mut reason = format!("no cluster can be founded yet: {unmet}");
    if !unmet.missing().is_empty() {
        reason.push_str("; nobody who may found answers at ");
        reason.push_str(&list(unmet.missing()));
    }
    let mut decision = case.decision(Row::F3, Verdict::Wait, reason);
    decision.missing = unmet.missing().to_vec();
    decision.next = case.bring(&decision.missing);
    decision.next.extend(without(&unmet));
    Some(decision)
}

/// How a founding goes on without those who are missing, or what else has to change for it.
fn without(unmet: &Unmet) -> Vec<String> {
    match unmet {
        Unmet::NotMostOfUnion { .. } => vec![next::allow_small()],
        Unmet::TooFew { present, missing, .. } => {
            // At least so many more are possible members.
            let present = (*present).max(1);
            let most = present > missing.len();
            vec![if most { next::wait_for(present) } else { next::found_small(present) }]
        }
        Unmet::OnlyJoins(_) | Unmet::TooMany { .. } => vec![next::peers()],
        Unmet::NotEmpty => vec![next::status()],
    }
}

fn form(case: &Case<'_>, row: Row) -> Option<Decision> {
    let company = case.company;
    if company.members().iter().any(|member| member.belongs()) {
        return None;
    }
    let plan = FoundingPlan::of_company(company).ok()?;
    let names: Vec<&str> = plan.founders.iter().map(|founder| founder.name.as_str()).collect();
    let reason =
        format!("{} of {} possible members are here: {}", names.len(), plan.union.len(), list(&names));
    Some(case.decision(row, Verdict::Form, reason))
}

fn stranded(case: &Case<'_>, survivors: &[&str]) -> Decision {
    let own = case.company.own();
    let survives = matches!(own.state, StoreState::Transient { was_active: true });
    let voters = case.assembly.voters().len();
    let mut reason = format!(
        "restarts took the majority of this transient cluster's {voters} voters; {} still {} data",
        list(survivors),
        if survivors.len() == 1 { "holds" } else { "hold" }
    );
    let verdict = if survives { Verdict::NeedsOperator } else { Verdict::Wait };
    if !survives {
        reason.push_str("; this broker waits for what the operator decides there");
    }
    let mut decision = case.decision(Row::F1, verdict, reason);
    let survivor = if survives { Some(own.name.as_str()) } else { survivors.first().copied() };
    decision.next = vec![match survivor {
        Some(survivor) if voters == 2 => next::take_over(survivor),
        _ => next::required_nodes(survivors),
    }];
    decision
}
