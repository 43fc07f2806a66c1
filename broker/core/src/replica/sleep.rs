//! A group in which nothing happens costs nothing: its nodes count no time and send no heartbeats.
//!
//! Heartbeats of a group say two things: that the leader's process is alive, which the links between the brokers say as
//! well, once for all groups, and that it still leads. A leader that has had nothing to do for an election timeout, whose
//! members are all linked and hold and have committed everything, tells them that it sleeps, and they sleep with it. Safety
//! rests on no clock in Raft: whoever sleeps votes, acknowledges and steps down as before. What is left is to wake up:
//!
//! - by any message of the group, so whatever one of them does wakes those it tells;
//! - by the end of a link: a leader's to any member, a follower's to the leader, which is then forgotten at once.
//!
//! A word to sleep that is lost is lost with its link. One that is not taken leaves a follower that asks for votes in time,
//! which wakes the leader.

use quorate_store::ids::{Index, RaftId, Term};
use raft::{ProgressState, StateRole, eraftpb};

use super::Replica;

/// Ticks that a leader in doubt waits at least for a majority to answer.
const LEAST_DOUBT_TICKS: usize = 3;

impl Replica {
    /// Whether time passes for it.
    pub(crate) fn is_awake(&self) -> bool {
        !self.asleep
    }

    /// Time passes again.
    pub(crate) fn wake(&mut self) {
        self.asleep = false;
        self.told_to_sleep = None;
    }

    /// Time passes again, since a link has ended: a leader that sleeps has heard nothing for as long as that took to be
    /// noticed, so that a quarter of an election timeout is left for a majority to answer, which it asks at once.
    pub(super) fn wake_in_doubt(&mut self) {
        let raft = &mut self.raw.raft;
        if self.asleep && raft.state == StateRole::Leader {
            let own = raft.id;
            // Nobody counts as heard from now on.
            let _ = raft.mut_prs().quorum_recently_active(own);
            let ticks = self.timing.election_ticks;
            raft.election_elapsed = (ticks * 3 / 4).min(ticks.saturating_sub(LEAST_DOUBT_TICKS));
            self.in_doubt = true;
            self.raw.ping();
        }
        self.wake();
    }

    /// Whether it was woken in doubt since the last call.
    pub(crate) fn take_doubt(&mut self) -> bool {
        std::mem::take(&mut self.in_doubt)
    }

    /// No time passes until [`Self::wake`].
    pub(crate) fn sleep(&mut self) {
        self.asleep = true;
    }

    /// A message came. Answers to what a leader asked before it slept are no news.
    pub(super) fn wake_by(&mut self, message: &eraftpb::Message) {
        let raft = &self.raw.raft;
        let answers = matches!(
            message.get_msg_type(),
            eraftpb::MessageType::MsgHeartbeatResponse | eraftpb::MessageType::MsgAppendResponse
        );
        if !(answers && raft.state == StateRole::Leader && message.term == raft.term) {
            self.wake();
        }
    }

    /// Nothing is on its way here: the log is durable, committed and applied to its end.
    fn is_at_rest(&self) -> bool {
        let log = &self.raw.raft.raft_log;
        let last = log.last_index();
        log.committed == last
            && log.persisted == last
            && log.applied == last
            && self.backlog.is_empty()
            && !self.raw.has_ready()
            && !self.awaits_snapshot()
    }

    /// Leader only: where its log ends, if every member holds all of that and nothing is asked of anybody.
    pub(crate) fn rests_at(&self) -> Option<Index> {
        let raft = &self.raw.raft;
        let last = raft.raft_log.last_index();
        let has_all = raft.prs().iter().all(|(id, progress)| {
            *id == raft.id || (progress.matched == last && progress.state == ProgressState::Replicate)
        });
        let rests = self.leads_surely()
            && raft.lead_transferee.is_none()
            && raft.pending_read_count() == 0
            && !self.membership_pending()
            && self.is_at_rest()
            && has_all;
        rests.then_some(Index(last))
    }

    /// The leader of this term says that it sleeps at this end of its log.
    pub(crate) fn may_sleep(&mut self, leader: RaftId, term: Term, end: Index) {
        self.told_to_sleep = Some((leader, term, end));
    }

    /// Sleeps if the leader does, and everything that came before its word is done with.
    pub(crate) fn sleep_if_told(&mut self) {
        let Some((leader, term, end)) = self.told_to_sleep else { return };
        let raft = &self.raw.raft;
        self.asleep = raft.state == StateRole::Follower
            && raft.leader_id == leader.0
            && raft.term == term.0
            && raft.raft_log.last_index() == end.0
            && self.is_at_rest();
    }
}
