//! Rows W1 and F1 to F3: enough members, and a new cluster.

use super::super::plan::{FoundingPlan, Unmet};
use super::super::rows::Row;
use super::super::status::StoreState;
use super::{Case, Decision, Verdict, list, next};

/// Fewer members than this start waits for.
pub(super) fn row_w1(case: &Case<'_>) -> Option<Decision> {
    if case.is_stranded() {
        return None;
    }
    let company = case.company;
    let present = company.members().len();
    let recorded = case.assembly.voters().len();
    let wait_for = company.wait_for();
    let wanted = if recorded == 0 { wait_for } else { wait_for.min(recorded) };
    if present >= wanted {
        return None;
    }
    let mut reason = format!("{present} of {wanted} members are here");
    let missing = if recorded == 0 {
        FoundingPlan::of_company(company).err().map(|unmet| unmet.missing().to_vec()).unwrap_or_default()
    } else {
        case.missing_names()
    };
    if !missing.is_empty() {
        reason.push_str("; missing: ");
        reason.push_str(&list(&missing));
    }
    let mut decision = case.decision(Row::W1, Verdict::Wait, reason);
    decision.missing = missing;
    // Fewer would go on without them only where they could restore or found with fewer.
    if present > 0 && recorded > 0 && case.assembly.is_restorable() {
        decision.next = vec![next::wait_for(present)];
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
    decision.next = match unmet {
        Unmet::NotMostOfUnion { .. } => vec![next::allow_small()],
        Unmet::TooFew { present, .. } if present > 0 => vec![next::wait_for(present)],
        Unmet::TooFew { .. } | Unmet::OnlyJoins(_) | Unmet::NotEmpty | Unmet::TooMany { .. } => Vec::new(),
    };
    Some(decision)
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
    let reason = format!(
        "restarts took the majority of this transient cluster's {voters} voters; {} still {} data",
        list(survivors),
        if survivors.len() == 1 { "holds" } else { "hold" }
    );
    let verdict = if survives { Verdict::NeedsOperator } else { Verdict::Wait };
    let mut decision = case.decision(Row::F1, verdict, reason);
    if survives {
        decision.next = vec![if voters == 2 {
            next::take_over(&own.name)
        } else {
            next::required_nodes(survivors.len())
        }];
    }
    decision
}
