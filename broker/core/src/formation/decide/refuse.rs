//! Rows S1 and R1 to R5: who must not take part.

use std::fmt::Write as _;

use quorate_store::ids::{ClusterId, GroupId};

use super::super::company::{Choice, Why, is_of, recorded_name, stands_alone};
use super::super::rows::Row;
use super::super::status::{InitialStatus, StoreState};
use super::{Case, Decision, EXIT_REFUSED, Verdict, list, next};

/// A panicked broker stays panicked, whatever it sees.
pub(super) fn row_s1(case: &Case<'_>) -> Option<Decision> {
    let own = case.company.own();
    let panic = own.panicked.as_deref()?;
    let reason = format!(
        "this broker panicked (SAFE-2001): {panic}; it votes for nobody, acknowledges nothing and serves no client until \
         an operator clears that; its data is kept"
    );
    let mut decision = case.decision(Row::S1, Verdict::NeedsOperator, reason);
    decision.next = vec![next::inspect(), next::clear_panic(own.cluster_id)];
    Some(decision)
}

/// Transient and persistent brokers meet. The one that meets an active cluster of the other kind is refused; while
/// none is active the transient ones are: they have nothing to lose.
pub(super) fn row_r1(case: &Case<'_>) -> Option<Decision> {
    let company = case.company;
    let own = company.own();
    let others = || company.asides().iter().filter(|aside| aside.why == Why::OtherKind).map(|a| a.status);
    let met = others().next()?;
    // Whose cluster is active goes on: the newcomer is refused.
    if own.is_active(GroupId::SYSTEM) {
        return None;
    }
    let active_other = others().find(|other| other.is_active(GroupId::SYSTEM));
    let mine_active = company.active(GroupId::SYSTEM).is_some();
    let refused = match active_other {
        Some(_) if !mine_active => true,
        Some(_) => false,
        None => own.is_transient() && !mine_active,
    };
    if !refused {
        return None;
    }
    let met = active_other.unwrap_or(met);
    let (mine, theirs) =
        if own.is_transient() { ("transient", "persistent") } else { ("persistent", "transient") };
    let reason = format!(
        "this broker is {mine} and met the {theirs} broker {} at {}{}: the two kinds never form one cluster",
        met.name,
        met.cluster_address,
        if active_other.is_some() { ", a member of an active cluster" } else { "" }
    );
    let mut decision = case.decision(Row::R1, Verdict::Refuse { exit_status: EXIT_REFUSED }, reason);
    decision.next = vec![next::kind(!own.is_transient())];
    Some(decision)
}

/// The own store is damaged beyond trust: held, nothing is changed. The others decide without it.
pub(super) fn row_r2(case: &Case<'_>) -> Option<Decision> {
    let own = case.company.own();
    let reason = match (&own.state, case.company.own_aside()) {
        (StoreState::Damaged { reason }, _) => reason.as_str(),
        (_, Some(Why::Damaged)) => "the stamp says that the store is in use, but names no cluster",
        _ => return None,
    };
    let active = case.company.active(GroupId::SYSTEM).is_some();
    let mut text = format!("the store is damaged: {reason}; it is left as it is");
    if active {
        text.push_str("; the cluster is active and can fill a new store");
    }
    let mut decision = case.decision(Row::R2, Verdict::NeedsOperator, text);
    decision.next = vec!["quorate store verify DIR".to_owned(), next::replace(&own.name)];
    Some(decision)
}

/// A store of another cluster. A newcomer to an active cluster is refused; while none is active, the side that can
/// restore itself goes on and everyone else waits.
pub(super) fn row_r3(case: &Case<'_>) -> Option<Decision> {
    let company = case.company;
    if let Choice::Several(clusters) = company.choice() {
        return Some(several(case, clusters));
    }
    let foreign = company.foreign();
    let own = company.own();
    if foreign.is_empty() || case.runs_or_ran() {
        return None;
    }
    let cluster = company.cluster().filter(|cluster| is_of(own, *cluster))?;
    let active = foreign.iter().find_map(|(id, stores)| {
        stores.iter().find(|store| store.is_active(GroupId::SYSTEM)).map(|store| (*id, *store))
    });
    if let Some((id, store)) = active {
        let mut reason = format!(
            "this store belongs to cluster {cluster}; {} at {} is a member of the active cluster {id}",
            store.name, store.cluster_address
        );
        compare(&mut reason, own, store);
        let mut decision = case.decision(Row::R3, Verdict::Refuse { exit_status: EXIT_REFUSED }, reason);
        decision.next = vec![next::inspect(), next::data_dir()];
        return Some(decision);
    }
    if stands_alone(company.members(), company.witnesses(), cluster) {
        return None;
    }
    let mut reason = format!(
        "this store belongs to cluster {cluster}, and the stores of that cluster that are here cannot restore it by \
         themselves"
    );
    for (id, stores) in &foreign {
        for store in stores {
            let _ = write!(reason, "; {} at {} is of cluster {id}", store.name, store.cluster_address);
            compare(&mut reason, own, store);
        }
    }
    let mut decision = case.decision(Row::R3, Verdict::Wait, reason);
    decision.missing = case.missing_names();
    decision.next = vec![next::inspect(), next::data_dir()];
    Some(decision)
}

/// An empty store between clusters.
fn several(case: &Case<'_>, clusters: &std::collections::BTreeSet<ClusterId>) -> Decision {
    let ids: Vec<String> = clusters.iter().map(ToString::to_string).collect();
    let reason = format!("this store is empty and there are several clusters it could join: {}", list(&ids));
    let mut decision = case.decision(Row::R3, Verdict::Wait, reason);
    decision.next = clusters.iter().map(|id| next::cluster_id(*id)).collect();
    decision
}

/// Says which of two clusters was founded later and which holds messages, as far as it is known.
fn compare(reason: &mut String, own: &InitialStatus, other: &InitialStatus) {
    let mut told = Vec::new();
    match (own.founded_ms, other.founded_ms) {
        (Some(mine), Some(theirs)) if mine > theirs => {
            told.push("this store's cluster was founded later".to_owned());
        }
        (Some(mine), Some(theirs)) if mine < theirs => told.push("that cluster was founded later".to_owned()),
        _ => {}
    }
    for (whose, messages) in [("this store", own.messages), (other.name.as_str(), other.messages)] {
        told.extend(messages.map(|messages| match messages {
            0 => format!("{whose} holds no message"),
            1 => format!("{whose} holds 1 message"),
            _ => format!("{whose} holds {messages} messages"),
        }));
    }
    if !told.is_empty() {
        let _ = write!(reason, " ({})", list(&told));
    }
}

/// The same store id twice: the run that an active cluster acknowledged stays, every other one is held.
pub(super) fn row_r4(case: &Case<'_>) -> Option<Decision> {
    let company = case.company;
    if company.own_aside() != Some(&Why::StoreTwice) {
        return None;
    }
    let own = company.own();
    let other = company
        .asides()
        .iter()
        .map(|aside| aside.status)
        .chain(company.members().iter().copied())
        .find(|other| other.key.store == own.key.store && other.key != own.key);
    let by = match (other, company.rivalled_by()) {
        (Some(other), _) => format!("by {} at {}", other.name, other.cluster_address),
        (None, Some(witness)) => {
            format!("by another process that {} at {} has met", witness.name, witness.cluster_address)
        }
        (None, None) => "by another process".to_owned(),
    };
    let reason = format!(
        "SAFE-2002: store {} is in use twice: here, and {by}; one of them is a copy, or one directory is mounted twice",
        own.key.store
    );
    let mut decision = case.decision(Row::R4, Verdict::Held, reason);
    decision.next = vec![next::data_dir(), next::inspect()];
    Some(decision)
}

/// The same name twice: the broker with the weaker claim is refused, and so is one that was started under another
/// member's name over this member's store: that is the wrong disk, or a copy.
pub(super) fn row_r5(case: &Case<'_>) -> Option<Decision> {
    let company = case.company;
    if let (Some(Why::OthersName), Some((recorded, holder))) =
        (company.own_aside(), recorded_name(company.own()))
    {
        let reason = format!(
            "store {} is that of {}; the store of {}, as which this broker was started, is {}",
            recorded.store, recorded.name, holder.name, holder.store
        );
        let mut decision = case.decision(Row::R5, Verdict::Refuse { exit_status: EXIT_REFUSED }, reason);
        decision.next = vec![next::data_dir(), next::name()];
        return Some(decision);
    }
    if company.own_aside() != Some(&Why::NameTwice) {
        return None;
    }
    let own = company.own();
    let holder = company.members().iter().find(|member| member.name == own.name)?;
    let reason = format!(
        "the name {} belongs to the broker at {} (store {}); this broker's store is {}",
        own.name, holder.cluster_address, holder.key.store, own.key.store
    );
    let mut decision = case.decision(Row::R5, Verdict::Refuse { exit_status: EXIT_REFUSED }, reason);
    decision.next = vec![next::name()];
    Some(decision)
}
