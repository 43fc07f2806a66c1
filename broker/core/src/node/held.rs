//! What a leader knows to be committed and tells nobody yet, because an operator wants more than a majority to have it.
//!
//! Raft commits with a majority, and state moves on with that. What clients are told of it, answers and deliveries, waits
//! until as many voters as required have acknowledged.

use std::collections::VecDeque;

use quorate_store::ids::{Index, RaftId, Term};

use super::Node;
use super::group::Group;
use super::origin::Origin;
use crate::io::Output;
use crate::machine::Outcome;

/// An answer that waits.
#[derive(Debug)]
struct Answer {
    at: (Term, Index),
    origin: Origin,
    outcome: Outcome,
}

/// Answers and proofs of leadership, in the order of the log.
#[derive(Debug, Default)]
pub(crate) struct Held {
    answers: VecDeque<Answer>,
    /// Read-index rounds, with how far the state was applied when each was asked for.
    rounds: VecDeque<(u64, Index)>,
    /// Rounds up to this one were answered by a quorum.
    answered: u64,
}

impl Held {
    pub(crate) fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.rounds.is_empty()
    }
}

impl Node {
    /// Up to where as many voters as required have acknowledged; none: whatever is committed will do.
    fn required_index(group: &Group) -> Option<Index> {
        let needed = Self::needed_voters(group);
        if needed <= group.configuration.majority() {
            return None;
        }
        let replica = group.replica.as_ref()?;
        let voters = group.configuration.voters.iter();
        let mut matched: Vec<Index> =
            voters.map(|id| replica.matched(RaftId(*id)).unwrap_or_default()).collect();
        matched.sort_unstable_by(|a, b| b.cmp(a));
        Some(matched.get(needed - 1).copied().unwrap_or_default())
    }

    /// Answers now, or when enough voters have it.
    pub(super) fn answer_in_time(
        &mut self,
        group: &mut Group,
        origin: Origin,
        outcome: Outcome,
        at: (Term, Index),
    ) {
        let waits =
            !group.held.answers.is_empty() || Self::required_index(group).is_some_and(|there| there < at.1);
        if waits {
            group.held.answers.push_back(Answer { at, origin, outcome });
        } else {
            self.answer(group, origin, outcome, at);
        }
    }

    /// What is held is not told any more: to clients, because they are dismissed. An operator hears that it is open.
    pub(super) fn drop_held(&mut self, group: &mut Group) {
        let held = std::mem::take(&mut group.held);
        for answer in held.answers {
            if let Origin::Admin(id) = answer.origin {
                let reply = self.undecided(group);
                self.emit(Output::AdminReply { id, reply });
            }
        }
    }

    /// A round of reads was asked for, of the state as it is now.
    pub(super) fn round_asked(group: &mut Group, context: u64) {
        if !group.held.rounds.is_empty() || Self::required_index(group).is_some() {
            group.held.rounds.push_back((context, group.applied));
        }
    }

    /// A quorum answered this round, and so every earlier one.
    pub(super) fn round_answered(group: &mut Group, context: u64) {
        if group.held.rounds.is_empty() {
            if let Some(serving) = &mut group.serving {
                serving.proved(context);
            }
        } else {
            group.held.answered = group.held.answered.max(context);
        }
    }

    /// Gives out what enough voters have by now; true if that was anything.
    pub(super) fn release_held(&mut self, group: &mut Group) -> bool {
        if group.held.is_empty() {
            return false;
        }
        let there = Self::required_index(group);
        let is_there = |index: Index| there.is_none_or(|there| index <= there);
        let mut released = false;
        while group.held.answers.front().is_some_and(|answer| is_there(answer.at.1)) {
            let Some(Answer { at, origin, outcome }) = group.held.answers.pop_front() else { break };
            self.answer(group, origin, outcome, at);
            released = true;
        }
        while let Some((context, index)) = group.held.rounds.front().copied() {
            if context > group.held.answered || !is_there(index) {
                break;
            }
            group.held.rounds.pop_front();
            if let Some(serving) = &mut group.serving {
                serving.proved(context);
            }
            released = true;
        }
        released
    }
}
