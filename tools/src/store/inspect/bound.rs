//! What may be lost if the cluster goes on from one of the stores.

use std::collections::BTreeSet;

use quorate_core::formation::status::StoreState;
use quorate_store::ids::StoreId;
use quorate_store::stamp::{EpochCause, EpochEntry};
use serde::Serialize;

use super::{GroupDecision, Judgement, judge, store_of};
use crate::store::subject::Subject;

/// What is certain of a loss if the cluster goes on from the latest store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LossBound {
    /// `none` if it is proved that nothing confirmed is missing, else `unknown`.
    pub confirmed: &'static str,
    /// Why.
    pub reason: String,
    /// Recorded voters whose stores were not given.
    pub not_given: Vec<String>,
}

impl Judgement {
    /// What is certain if the cluster goes on from this store.
    pub(super) fn bound(&self, subjects: &[Subject], latest: usize) -> Option<LossBound> {
        let store = store_of(subjects, latest)?;
        let mut not_given = BTreeSet::new();
        let mut unproved = Vec::new();
        for group in &self.decisions {
            let electorate = &group.electorate;
            not_given.extend(electorate.missing.iter().map(|voter| voter.name.clone()));
            let unheard = left_out_and_unheard(subjects, group);
            let proved = (electorate.is_complete()
                || (electorate.covers_every_majority() && electorate.able.contains(&store)))
                && unheard.is_empty();
            not_given.extend(unheard);
            if !proved {
                unproved.push(group.vhost.as_str());
            }
        }
        let not_given: Vec<String> = not_given.into_iter().collect();
        let facts = &subjects.get(latest)?.facts;
        let reason = if unproved.is_empty() {
            "every majority of the recorded voters has a store among those given that holds all it acknowledged, and \
             the latest of these holds everything that any of them does"
                .to_owned()
        } else {
            let known: Vec<String> = facts
                .groups
                .iter()
                .filter(|group| unproved.contains(&group.vhost.as_str()))
                .filter_map(|group| Some(format!("{} {}", group.vhost, group.commit?)))
                .collect();
            let who = if not_given.is_empty() { "others".to_owned() } else { not_given.join(", ") };
            format!(
                "what {} is known to have committed is here ({}); whether {who} went on confirming without it \
                 cannot be known from the stores given",
                subjects.get(latest)?.name(),
                known.join(", ")
            )
        };
        let confirmed = if unproved.is_empty() { "none" } else { "unknown" };
        Some(LossBound { confirmed, reason, not_given })
    }
}

/// What is certain if the cluster goes on from the marked store: the mark changes nothing of what the others hold, so
/// they are asked as they were before it.
pub(super) fn of_mark(subjects: &[Subject], marked: usize) -> Option<LossBound> {
    let before: Vec<Subject> = subjects.iter().cloned().map(without_mark).collect();
    let judgement = judge(&before);
    let is_level = |tie: &Vec<usize>| tie.contains(&marked);
    if judgement.latest == Some(marked) || judgement.ties.iter().any(is_level) {
        return judgement.loss;
    }
    Some(LossBound {
        confirmed: "unknown",
        reason: format!(
            "others hold what {} does not; how much of that was confirmed cannot be known from the stores given",
            subjects.get(marked)?.name()
        ),
        not_given: judgement.loss?.not_given,
    })
}

/// A marked store as it was before its mark, on which nothing was begun.
fn without_mark(mut subject: Subject) -> Subject {
    let Some(status) = &mut subject.status else { return subject };
    let StoreState::Recovered { recovery: stamped } = status.state else { return subject };
    status.state = StoreState::Dirty;
    for group in &mut status.groups {
        let is_mark = |epoch: &EpochEntry| matches!(epoch.cause, EpochCause::Mark { recovery, .. } if recovery == stamped);
        if let [.., before, last] = group.lineage.as_slice()
            && is_mark(last)
        {
            group.position.epoch = before.number;
            group.lineage.pop();
        }
    }
    subject
}

/// Who voted before the mark that the latest history of this group ends with, as long as nobody else votes in it: those
/// who are not given may have gone on without it.
pub(in crate::store) fn left_out_and_unheard(subjects: &[Subject], group: &GroupDecision) -> Vec<String> {
    if group.electorate.voters.len() != 1 {
        return Vec::new();
    }
    let statuses = || subjects.iter().filter_map(|subject| subject.status.as_ref());
    let given = |store: StoreId| statuses().any(|status| status.key.store == store);
    statuses()
        .filter(|status| group.electorate.latest.contains(&status.key.store))
        .filter_map(|status| status.group(group.group)?.lineage.last())
        .filter(|epoch| matches!(epoch.cause, EpochCause::Mark { .. }))
        .flat_map(|epoch| &epoch.left_out)
        .filter(|left| left.voter && !given(left.store))
        .map(|left| left.name.clone())
        .collect()
}
