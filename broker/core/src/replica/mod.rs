//! One node of one group: raft-rs, driven without waiting for the disk.
//!
//! raft-rs says what must be persisted, sent and applied; this module turns that into log records, messages that wait
//! for a ticket, and committed entries. It never decides what an entry means.
//!
//! ```text
//!  step, tick, propose ──> raft-rs ──> Ready ─┬─> records ──────────> one log batch a round (ticket)
//!                                             ├─> messages ─────────> now (leader) or after the ticket (others)
//!                                             └─> committed entries ─> the group's state machine
//! ```

mod backlog;
mod evidence;
mod sleep;
mod standing;
mod storage;
mod view;
pub mod wire;

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_store::ids::{Epoch, GroupId, Index, RaftId, Term};
use quorate_store::record::{Entry, EntryKind, HardState, Record};
use quorate_store::stamp::Durability;
use raft::eraftpb;
use raft::{Config, ProgressState, RawNode, StateRole};

use self::backlog::{Backlog, Fill};
pub(crate) use self::standing::{Candidacy, Standing};
pub(crate) use self::storage::{LogWindow, Offer, Wanted};
use self::wire::{MembershipChange, RaftMessage, entry_from_raft, entry_into_raft};
use crate::io::{After, Point, Tick, Ticket};

/// Election and heartbeat, counted in ticks of [`Timing::tick_millis`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Length of a tick in milliseconds: the heartbeat interval.
    pub tick_millis: u64,
    /// Ticks without a leader before an election; each node draws from this to twice this.
    pub election_ticks: usize,
}

impl Timing {
    /// From the two settings of the broker.
    ///
    /// An election timeout of fewer than three heartbeats is raised to three.
    pub fn new(heartbeat_millis: u64, election_timeout_millis: u64) -> Self {
        let tick_millis = heartbeat_millis.max(1);
        let ticks = usize::try_from(election_timeout_millis / tick_millis).unwrap_or(usize::MAX);
        Self { tick_millis, election_ticks: ticks.clamp(3, 10_000) }
    }

    /// The election timeout in milliseconds.
    pub fn election_millis(self) -> u64 {
        self.tick_millis * self.election_ticks as u64
    }
}

/// What the node does in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Serves clients.
    Leader,
    /// Follows or looks for a leader.
    Replica,
}

/// Entries of a leader are packed up to this many bytes.
const ENTRIES_PER_MESSAGE_BYTES: u64 = 1 << 20;
/// Proposals not yet committed may occupy this many bytes; then publishers wait.
const UNCOMMITTED_BYTES: u64 = 64 << 20;
/// The newest entries stay in memory up to this many bytes, for deliveries and followers that lag a little.
const WINDOW_BYTES: usize = 12 << 20;

/// An entry that has no place yet.
fn proposed(kind: EntryKind, data: Bytes) -> eraftpb::Entry {
    entry_into_raft(Entry { term: Term(0), index: Index(0), kind, data })
}

/// What says how far a follower's log is: as soon as the policy says. Everything else waits for the medium.
const ACKNOWLEDGEMENTS: [eraftpb::MessageType; 2] =
    [eraftpb::MessageType::MsgAppendResponse, eraftpb::MessageType::MsgHeartbeatResponse];

/// What only those take part in who hold all that they ever acknowledged.
const ELECTION_KINDS: [eraftpb::MessageType; 3] = [
    eraftpb::MessageType::MsgRequestVote,
    eraftpb::MessageType::MsgRequestPreVote,
    eraftpb::MessageType::MsgTimeoutNow,
];

/// How a committed entry came to be known.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) entry: Entry,
}

/// What a drive produced, in order.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Records for this round's log batch.
    pub(crate) records: Vec<Record>,
    /// Messages that may leave at once.
    pub(crate) messages: Vec<eraftpb::Message>,
    /// Messages that wait for the round's batch, or one still on its way.
    pub(crate) messages_after: Vec<(eraftpb::Message, After)>,
    /// The records are to be synced with the round's batch.
    pub(crate) must_sync: bool,
    /// Messages wait until the medium has everything up to this batch: nobody is to wait for the end of a window.
    pub(crate) sync_through: Ticket,
    /// Entries to apply, in order.
    pub(crate) committed: Vec<Committed>,
    /// Read-index contexts whose round a quorum answered.
    pub(crate) reads: Vec<u64>,
    /// A snapshot was installed in Raft at this place: the machine has to be there already.
    pub(crate) installed: Option<(Index, Term)>,
}

/// One node of one group.
pub(crate) struct Replica {
    group: GroupId,
    epoch: Epoch,
    id: RaftId,
    raw: RawNode<LogWindow>,
    timing: Timing,
    /// Takes no part in elections.
    barred: bool,
    /// Whether and when it asks for votes.
    standing: Standing,
    /// Ticks for which it has known no leader.
    leaderless_ticks: usize,
    /// Who would have voted for it, since it led last.
    granted: BTreeSet<u64>,
    /// The term in which it asked for votes because a leader told it to.
    handed: Option<Term>,
    /// Ticks for which it has held back from asking for votes since it last heard of a leader.
    held_ticks: usize,
    /// What fixes this node's election timeouts, in place of raft-rs's own randomness.
    salt: u64,
    /// What of its log is on its way to the medium.
    backlog: Backlog,
    /// The highest index written to the log so far, durable or not, of this incarnation.
    commit_written: Index,
    /// Members changed since: that it is committed is to be durable soon, and not only with the next entries.
    members_changed: bool,
    /// No time passes for it: see [`sleep`].
    asleep: bool,
    /// Its leader, of this term, sleeps at this end of the log.
    told_to_sleep: Option<(RaftId, Term, Index)>,
    /// A link's end has just woken it.
    in_doubt: bool,
    /// Followers of unknown place that were sent entries again since the last tick.
    probed: BTreeSet<u64>,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "replica {} of group {} in term {}", self.id, self.group, self.raw.raft.term)
    }
}

impl Replica {
    /// A node over a log as recovered, its state machine at `applied`.
    pub(crate) fn new(
        group: GroupId,
        epoch: Epoch,
        id: RaftId,
        log: LogWindow,
        applied: Index,
        timing: Timing,
        salt: u64,
    ) -> Self {
        let config = Config {
            id: id.0,
            election_tick: timing.election_ticks,
            heartbeat_tick: 1,
            applied: applied.0,
            max_size_per_msg: ENTRIES_PER_MESSAGE_BYTES,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: UNCOMMITTED_BYTES,
            max_committed_size_per_ready: ENTRIES_PER_MESSAGE_BYTES * 4,
            // Followers hear how far the log is committed with the next entries, or the next heartbeat: a message each, and
            // its answer, for nothing that anybody waits for.
            skip_bcast_commit: true,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let commit_written = log.hard_state().commit;
        let backlog = Backlog::new(raft::Storage::last_index(&log).map(Index).unwrap_or_default());
        let raw = RawNode::new(&config, log, &logger).expect("the configuration is valid by construction");
        let mut replica = Self {
            group,
            epoch,
            id,
            raw,
            timing,
            salt,
            backlog,
            commit_written,
            members_changed: false,
            probed: BTreeSet::new(),
            asleep: false,
            told_to_sleep: None,
            in_doubt: false,
            barred: false,
            standing: Standing::default(),
            leaderless_ticks: 0,
            granted: BTreeSet::new(),
            handed: None,
            held_ticks: 0,
        };
        replica.fix_election_timeout();
        replica
    }

    /// raft-rs draws election timeouts from a thread's randomness after each reset; ours follow from the salt and the
    /// term alone, so that a seed reproduces a run.
    fn fix_election_timeout(&mut self) {
        let mut mixed = self.salt ^ self.raw.raft.term.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^= mixed >> 29;
        mixed = mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^= mixed >> 32;
        let timeout = self.timing.election_ticks + self.spread(mixed);
        self.raw.raft.set_randomized_election_timeout(timeout);
    }

    /// There is something to write, to send or to apply.
    pub(crate) fn has_ready(&self) -> bool {
        self.raw.has_ready()
    }

    /// Keeps this node out of elections: neither does it vote, nor does it ask.
    pub(crate) fn bar(&mut self, barred: bool) {
        self.wake();
        self.barred = barred;
    }

    /// Leads no more.
    pub(crate) fn step_down(&mut self) {
        self.wake();
        // Those who sleep with it wake, and miss it in time.
        self.raw.ping();
        let raft = &mut self.raw.raft;
        if raft.state != StateRole::Follower {
            raft.become_follower(raft.term, 0);
            self.fix_election_timeout();
        }
    }

    /// What an acknowledgement takes from now on, of what waits for one already too.
    pub(crate) fn set_level(&mut self, level: Durability) {
        if level != self.backlog.level() {
            self.backlog.set_level(level);
            self.tell_persisted();
        }
    }

    pub(crate) fn tick(&mut self) {
        self.probed.clear();
        self.leaderless_ticks = if self.raw.raft.leader_id == 0 { self.leaderless_ticks + 1 } else { 0 };
        if self.asleep || self.awaits_snapshot() || self.barred {
            return;
        }
        // A lone voter becomes leader in the tick itself, which raft-rs allows only over a log that is durable whole.
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader && raft.raft_log.persisted != raft.raft_log.last_index() {
            let alone = raft.prs().conf().to_conf_state().voters == [self.id.0];
            if alone {
                return;
            }
        }
        if self.holds_back_now() {
            return;
        }
        self.raw.tick();
        self.fix_election_timeout();
    }

    /// A closed connection is evidence that the leader is gone: forget it, so that nobody waits for a lease.
    pub(crate) fn forget_leader(&mut self) {
        self.wake();
        let raft = &mut self.raw.raft;
        if raft.state == StateRole::Follower && raft.leader_id != 0 {
            raft.become_follower(raft.term, 0);
            self.fix_election_timeout();
        }
    }

    /// Asks the others whether they would vote for this node.
    pub(crate) fn campaign(&mut self) {
        self.wake();
        // A lone voter would become leader at once, which raft-rs allows only over a log that is durable whole.
        let raft = &self.raw.raft;
        if raft.raft_log.persisted != raft.raft_log.last_index()
            || !raft.promotable()
            || self.barred
            || matches!(self.standing.candidacy, Candidacy::HeldBack | Candidacy::Never)
            || self.awaits_snapshot()
        {
            return;
        }
        if matches!(raft.state, StateRole::Follower | StateRole::PreCandidate) {
            let _ = self.raw.campaign();
            self.fix_election_timeout();
        }
    }

    /// A peer's message. Messages that no correct peer sends are dropped.
    pub(crate) fn step(&mut self, message: RaftMessage) {
        if message.to != self.id.0 || message.from == self.id.0 || !message.is_sound() {
            return;
        }
        if self.contradicts(&message) {
            return;
        }
        let Some(mut message) = message.into_raft() else { return };
        let kind = message.get_msg_type();
        if kind == eraftpb::MessageType::MsgTimeoutNow && self.awaits_snapshot() {
            return;
        }
        if self.barred && ELECTION_KINDS.contains(&kind) {
            return;
        }
        if kind == eraftpb::MessageType::MsgRequestPreVote && self.is_preferred_to(&message) {
            return;
        }
        message.priority = 0;
        if kind == eraftpb::MessageType::MsgRequestPreVoteResponse && !message.reject {
            self.granted.insert(message.from);
        }
        self.wake_by(&message);
        let from = message.from;
        let again = kind == eraftpb::MessageType::MsgHeartbeatResponse && self.awaits_probe(from);
        let sent = self.raw.raft.msgs.len();
        let _ = self.raw.step(message);
        // To whoever answers a heartbeat raft-rs sends again all that it may lack, in case the first time was lost. It
        // counts on a heartbeat in each interval; with reads there is one in each round, hundreds in a second.
        if again && !self.probed.insert(from) {
            let is_again = |message: &eraftpb::Message| {
                message.get_msg_type() == eraftpb::MessageType::MsgAppend && message.to == from
            };
            let messages = &mut self.raw.raft.msgs;
            let answers = messages.split_off(sent.min(messages.len()));
            messages.extend(answers.into_iter().filter(|message| !is_again(message)));
        }
        if kind == eraftpb::MessageType::MsgTimeoutNow && self.raw.raft.state == StateRole::Candidate {
            self.handed = Some(self.term());
        }
        self.fix_election_timeout();
    }

    /// Whether this follower was sent entries to find out where its log is, and has not answered.
    fn awaits_probe(&self, id: u64) -> bool {
        let progress = self.raw.raft.prs().get(id);
        progress.is_some_and(|progress| progress.state == ProgressState::Probe && progress.paused)
    }

    /// The snapshot at this place has been received whole and the machine is there: tell Raft, as from its leader.
    /// False if Raft does not take it now.
    pub(crate) fn step_snapshot(&mut self, leader: RaftId, offer: &Offer) -> bool {
        let mut snapshot = eraftpb::Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = offer.index.0;
        metadata.term = offer.term.0;
        metadata.set_conf_state(offer.conf_state.clone());
        let mut message = eraftpb::Message::default();
        message.set_msg_type(eraftpb::MessageType::MsgSnapshot);
        message.from = leader.0;
        message.to = self.id.0;
        message.term = self.raw.raft.term;
        message.set_snapshot(snapshot);
        self.wake();
        let _ = self.raw.step(message);
        self.fix_election_timeout();
        self.raw.raft.raft_log.unstable.snapshot.is_some()
    }

    /// The snapshot sent to this node arrived, or could not be sent.
    pub(crate) fn report_snapshot(&mut self, id: RaftId, arrived: bool) {
        let status = if arrived { raft::SnapshotStatus::Finish } else { raft::SnapshotStatus::Failure };
        self.raw.report_snapshot(id.0, status);
    }

    pub(crate) fn report_unreachable(&mut self, id: RaftId) {
        self.wake_in_doubt();
        self.raw.report_unreachable(id.0);
    }

    /// Proposes entries; returns the index of the first, or gives them back if this node cannot propose now.
    pub(crate) fn propose(&mut self, datas: Vec<Bytes>) -> Result<Index, Vec<Bytes>> {
        if !self.is_leader() || self.raw.raft.lead_transferee.is_some() || datas.is_empty() {
            return Err(datas);
        }
        let first = self.last().next();
        let entries = datas.iter().map(|data| proposed(EntryKind::Command, data.clone())).collect();
        if self.step_proposal(entries) { Ok(first) } else { Err(datas) }
    }

    /// Proposes an entry that speaks about the group itself; false if this node cannot propose now.
    pub(crate) fn propose_control(&mut self, data: Bytes) -> bool {
        self.is_leader()
            && self.raw.raft.lead_transferee.is_none()
            && self.step_proposal(vec![proposed(EntryKind::Control, data)])
    }

    fn step_proposal(&mut self, entries: Vec<eraftpb::Entry>) -> bool {
        self.wake();
        let mut message = eraftpb::Message::default();
        message.set_msg_type(eraftpb::MessageType::MsgPropose);
        message.from = self.id.0;
        message.set_entries(entries.into());
        self.raw.step(message).is_ok()
    }

    /// Proposes one step of membership; false if another one is on its way or this node does not lead.
    pub(crate) fn propose_membership(&mut self, change: MembershipChange) -> bool {
        if !self.is_leader() || self.membership_pending() {
            return false;
        }
        self.wake();
        self.raw.propose_conf_change(Vec::new(), change.to_raft()).is_ok()
    }

    /// Applies a committed step of membership.
    pub(crate) fn apply_membership(&mut self, change: MembershipChange) {
        let raft_change = change.to_raft();
        if raft_change.changes.is_empty() {
            return;
        }
        self.members_changed = true;
        if let Ok(conf_state) = self.raw.apply_conf_change(&raft_change) {
            // A leader that is no voter any more, chosen between the order to go and this: raft-rs keeps no progress of it
            // and ends the process at its next durable write.
            let votes = conf_state.voters.contains(&self.raw.raft.id);
            self.raw.mut_store().set_conf_state(conf_state);
            if !votes {
                self.step_down();
            }
        }
    }

    /// Asks a quorum whether this node still leads; answered in [`Effects::reads`].
    pub(crate) fn read_index(&mut self, context: u64) {
        self.wake();
        self.raw.read_index(context.to_le_bytes().to_vec());
    }

    /// A leader tells the others at once how far the log is committed: an operator's act is to be effective everywhere.
    pub(crate) fn tell_commit(&mut self) {
        if self.is_leader() {
            self.wake();
            self.raw.ping();
        }
    }

    /// Hands leadership to this node once it has caught up.
    pub(crate) fn transfer(&mut self, to: RaftId) {
        self.wake();
        self.raw.transfer_leader(to.0);
    }

    /// Leadership is being handed over.
    pub(crate) fn hands_over(&self) -> bool {
        self.raw.raft.lead_transferee.is_some()
    }

    /// The entry at this index, if it is in memory.
    pub(crate) fn cached(&self, index: Index) -> Option<Bytes> {
        self.raw.store().cached(index).map(|entry| entry.data.clone())
    }

    pub(crate) fn take_wanted(&mut self) -> Vec<Wanted> {
        self.raw.mut_store().take_wanted()
    }

    pub(crate) fn fetched(&mut self, wanted: Wanted, entries: Vec<Entry>) {
        self.raw.mut_store().put_fetched(entries);
        self.raw.on_entries_fetched(wanted.context);
        let _ = self.raw.mut_store().take_wanted();
        self.raw.mut_store().clear_fetched();
    }

    pub(crate) fn take_snapshots_wanted(&mut self) -> Vec<RaftId> {
        self.raw.mut_store().take_snapshots_wanted().into_iter().map(RaftId).collect()
    }

    pub(crate) fn set_offer(&mut self, offer: Option<Offer>) {
        self.raw.mut_store().set_offer(offer);
    }

    /// Entries up to this index have left the log.
    pub(crate) fn compact(&mut self, index: Index) {
        self.raw.mut_store().compact(index);
    }

    /// The operating system has the batch of this ticket, and all before it.
    pub(crate) fn on_written(&mut self, ticket: Ticket) {
        self.backlog.on_written(ticket);
        self.tell_persisted();
    }

    /// The batch of this ticket, and all before it, are durable.
    pub(crate) fn on_persisted(&mut self, ticket: Ticket) {
        self.backlog.on_synced(ticket);
        self.tell_persisted();
    }

    /// Tells raft-rs what has come as far as the policy of this node's role asks for. From then on a leader counts itself,
    /// and applies, which it never does before.
    fn tell_persisted(&mut self) {
        if let Some(number) = self.backlog.take_ready() {
            self.raw.on_persist_ready(number);
        }
        // The machine has had the snapshot's state since before Raft took it.
        let below = self.raw.raft.raft_log.first_index() - 1;
        if self.awaits_snapshot() && self.raw.raft.raft_log.persisted >= below {
            self.raw.advance_apply_to(below);
        }
    }

    /// Takes everything raft-rs has ready. `ticket` is this round's batch; it is used only if `effects.records` grew.
    pub(crate) fn drive(&mut self, ticket: Ticket, now: Tick, effects: &mut Effects) {
        while self.raw.has_ready() {
            let mut ready = self.raw.ready();
            effects.messages.extend(ready.take_messages());
            effects.reads.extend(
                ready
                    .take_read_states()
                    .into_iter()
                    .filter_map(|state| state.request_ctx.as_slice().try_into().ok().map(u64::from_le_bytes)),
            );

            let (mut wrote, mut promised) = (false, false);
            let mut fill = Fill { since: now, ..Fill::default() };
            if !ready.snapshot().is_empty() {
                let metadata = ready.snapshot().get_metadata();
                let (index, term) = (Index(metadata.index), Term(metadata.term));
                self.raw.mut_store().reset(index, term, metadata.get_conf_state().clone());
                effects.records.push(Record::Reset(self.group, self.epoch, term, index));
                effects.installed = Some((index, term));
                self.backlog.cut(index.next());
                (wrote, promised) = (true, true);
            }
            let entries = ready.take_entries();
            if !entries.is_empty() {
                self.raw.mut_store().append(&entries);
                self.backlog.cut(Index(entries.first().map_or(0, |entry| entry.index)));
                fill.entries = entries.len() as u64;
                fill.bytes = entries.iter().map(|entry| entry.data.len() as u64).sum();
                effects.records.extend(
                    entries
                        .into_iter()
                        .map(|entry| Record::Entry(self.group, self.epoch, entry_from_raft(entry))),
                );
                wrote = true;
            }
            if let Some(hard_state) = ready.hs() {
                let hard_state = HardState {
                    term: Term(hard_state.term),
                    vote: hard_state.vote,
                    commit: Index(hard_state.commit),
                };
                let before = self.raw.store().hard_state();
                self.raw.mut_store().set_hard_state(hard_state);
                promised |= hard_state.term != before.term || hard_state.vote != before.vote;
            }
            // A commit index alone need not be synced: it is learned again. With entries, the latest one goes along.
            let hard_state = self.raw.store().hard_state();
            if promised || (wrote && hard_state.commit > self.commit_written) {
                effects.records.push(Record::HardState(self.group, self.epoch, hard_state));
                self.commit_written = hard_state.commit;
                wrote = true;
            }
            let number = ready.number();
            let mut persisted_messages = ready.take_persisted_messages();
            for message in &mut persisted_messages {
                if message.get_msg_type() == eraftpb::MessageType::MsgRequestPreVote {
                    message.priority = self.standing.weight;
                }
            }
            effects.committed.extend(
                ready
                    .take_committed_entries()
                    .into_iter()
                    .map(|entry| Committed { entry: entry_from_raft(entry) }),
            );
            self.raw.advance_append_async(ready);
            if wrote {
                self.backlog.note(ticket, self.last(), fill, promised);
                effects.must_sync |= promised || self.backlog.level() == Durability::Sync;
            }
            self.backlog.await_ready(number, promised);
            self.tell_persisted();
            let (acknowledges, rest) = (self.backlog.acknowledges_after(), self.backlog.everything_after());
            for message in persisted_messages {
                let says_how_far = ACKNOWLEDGEMENTS.contains(&message.get_msg_type());
                match if says_how_far { acknowledges } else { rest } {
                    Some(after) => {
                        if after.point == Point::Synced {
                            effects.sync_through = effects.sync_through.max(after.ticket);
                        }
                        effects.messages_after.push((message, after));
                    }
                    None => effects.messages.push(message),
                }
            }
        }
        // raft-rs begins with the members of the last entry that is known to be committed. If all end now and a former
        // voter is lost, those who have forgotten that others vote in its place would wait for it for ever.
        if std::mem::take(&mut self.members_changed)
            && let Some(record) = self.final_record()
        {
            effects.records.push(record);
            effects.must_sync = true;
            self.backlog.note(ticket, self.last(), Fill { since: now, ..Fill::default() }, false);
        }
    }

    /// Something that was given to the log is not synced, or raft-rs is not told of it.
    pub(crate) fn is_logging(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// The machine has applied everything up to here; entries that nobody needs any more leave the memory.
    pub(crate) fn on_applied(&mut self, index: Index) {
        self.raw.advance_apply_to(index.0);
        // What the operating system does not have cannot be read back, and the stamp names the term of what is synced.
        let keep_above = index.min(self.backlog.synced());
        self.raw.mut_store().trim(WINDOW_BYTES, keep_above);
    }

    /// The hard state for the last batch before an orderly stop, if the log does not have it yet.
    pub(crate) fn final_record(&mut self) -> Option<Record> {
        let hard_state = self.raw.raft.hard_state();
        if hard_state.commit <= self.commit_written.0 {
            return None;
        }
        self.commit_written = Index(hard_state.commit);
        let hard_state = HardState {
            term: Term(hard_state.term),
            vote: hard_state.vote,
            commit: Index(hard_state.commit),
        };
        Some(Record::HardState(self.group, self.epoch, hard_state))
    }
}

#[cfg(test)]
mod tests;
