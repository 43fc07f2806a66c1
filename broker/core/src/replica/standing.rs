//! How a node stands in its group's elections: whether it asks for votes, when, and before whom.
//!
//! Raft elects any node whose log is recent enough. Among those, operators want a certain one: the one with the highest
//! priority, and of equals always the same. Three things bring that about; none of them touches what makes Raft safe:
//!
//! - who is preferred asks first, the others some milliseconds later, in turn;
//! - who is preferred and has the same log does not answer an earlier question of another one, for an election timeout;
//! - whoever was elected all the same hands over to the one that is preferred and has all of its log.
//!
//! Raft-rs's own priority is not used: a voter there refuses whoever has a lower priority even if it could not win itself,
//! because its log is older, and then nobody is elected.

use quorate_store::ids::RaftId;
use raft::{StateRole, eraftpb};

use super::Replica;

/// Whether a node asks for votes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Candidacy {
    /// As soon as nobody leads.
    #[default]
    Free,
    /// When none of the others leads for long.
    HeldBack,
    /// It must not lead, but what only it has is to be handed on: when none of the others leads for a while.
    StandIn,
    /// Never.
    Never,
}

impl Candidacy {
    /// For so many election timeouts it leaves it to the others; none: for ever.
    fn patience(self) -> Option<usize> {
        match self {
            Self::Free => Some(0),
            Self::StandIn => Some(1),
            Self::HeldBack => Some(10),
            Self::Never => None,
        }
    }
}

/// How a node stands among its group's voters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) candidacy: Candidacy,
    /// Compares nodes: the higher one is preferred. Of two voters no two are equal.
    pub(crate) weight: i64,
    /// So many of those that could lead now are preferred to this one.
    pub(crate) rank: usize,
    /// So many voters there are.
    pub(crate) voters: usize,
}

/// Between two of those who ask for votes after the end of a leader's link, in milliseconds.
const TURN_MILLIS: u64 = 25;

impl Standing {
    /// How long to wait, after the end of a leader's link, before asking for votes, in milliseconds; none: not at all.
    pub(crate) fn delay_millis(self, election_millis: u64) -> Option<u64> {
        match self.candidacy {
            Candidacy::Free => Some(TURN_MILLIS * self.rank as u64),
            Candidacy::StandIn => Some(election_millis / 2),
            Candidacy::HeldBack | Candidacy::Never => None,
        }
    }
}

impl Replica {
    /// Says how it stands from now on.
    pub(crate) fn set_standing(&mut self, standing: Standing) {
        if self.standing != standing {
            self.standing = standing;
            self.fix_election_timeout();
        }
    }

    /// How it stands.
    pub(crate) fn standing(&self) -> Standing {
        self.standing
    }

    /// Ticks beyond the election timeout before it asks for votes: those who are preferred ask first. `mixed` keeps two
    /// that take themselves for the same rank apart.
    pub(super) fn spread(&self, mixed: u64) -> usize {
        let ticks = self.timing.election_ticks;
        let step = (ticks / self.standing.voters.max(1)).max(1);
        let jitter = usize::try_from(mixed % step as u64).unwrap_or(0);
        let spread = (self.standing.rank * step + jitter).min(ticks - 1);
        // One that is held back stops short of its timeout, and must be past its leader's lease there, to vote.
        if self.standing.candidacy == Candidacy::Free { spread } else { spread.max(1) }
    }

    /// Whether time must not pass, since this node would ask for votes now and is to leave that to the others.
    pub(super) fn holds_back_now(&mut self) -> bool {
        let raft = &self.raw.raft;
        let would_ask = raft.state != StateRole::Leader
            && raft.election_elapsed + 1 >= raft.randomized_election_timeout();
        if !would_ask || self.standing.candidacy == Candidacy::Free {
            self.held_ticks = 0;
            return false;
        }
        self.held_ticks += 1;
        let patience = self.standing.candidacy.patience();
        patience.is_none_or(|timeouts| self.held_ticks < timeouts * self.timing.election_ticks)
    }

    /// Whether this question for a vote is left to itself: this node has the same log, is preferred, and will ask too.
    pub(super) fn is_preferred_to(&self, question: &eraftpb::Message) -> bool {
        let raft = &self.raw.raft;
        let log = &raft.raft_log;
        // Of a leader that is still believed in, raft-rs itself decides.
        raft.leader_id == 0
            && self.standing.candidacy == Candidacy::Free
            && question.priority < self.standing.weight
            && (question.index, question.log_term) == (log.last_index(), log.last_term())
            && self.leaderless_ticks < self.timing.election_ticks
            && raft.promotable()
            && !self.barred
            && !self.awaits_snapshot()
    }

    /// Who would have voted for it, since this was asked last: each of them has less in its log, or would not lead.
    pub(crate) fn take_granted(&mut self) -> Vec<RaftId> {
        std::mem::take(&mut self.granted).into_iter().map(RaftId).collect()
    }

    /// Whether it leads because another leader, or an operator by way of that one, wanted it to.
    pub(crate) fn was_handed_over(&self) -> bool {
        self.is_leader() && self.handed == Some(self.term())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_preferred_asks_first_and_who_must_not_lead_does_not_ask() {
        let of = |candidacy, rank| Standing { candidacy, weight: 0, rank, voters: 3 }.delay_millis(1000);
        assert_eq!(of(Candidacy::Free, 0), Some(0));
        assert!(of(Candidacy::Free, 1) < of(Candidacy::Free, 2));
        assert!(of(Candidacy::Free, 4) < of(Candidacy::StandIn, 0));
        assert_eq!((of(Candidacy::HeldBack, 0), of(Candidacy::Never, 0)), (None, None));
    }
}
