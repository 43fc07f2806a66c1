//! The end of a round: propose what gathered, take what Raft has ready, apply, answer, and write one log batch.

use quorate_store::ids::{GroupId, RaftId};
use quorate_store::record::{Batch, Record};
use raft::eraftpb;

use super::group::Group;
use super::{LoadFor, Node, Phase};
use crate::event::Event;
use crate::io::{Output, Ticket};
use crate::peer::PeerMessage;
use crate::replica::Effects;
use crate::replica::wire::RaftMessage;

impl Node {
    pub(super) fn end_round(&mut self) {
        if self.exited {
            return;
        }
        self.counters.rounds += 1;
        if self.frozen {
            if self.next_tick <= self.now {
                self.next_tick = self.now.plus(self.config.timing.tick_millis);
            }
            self.drive_closing();
            return;
        }
        self.pass_time();
        self.drive_founding();
        let now = self.now;
        let is_due = self.decide_at.take_if(|at| *at <= now).is_some();
        if std::mem::take(&mut self.facts_changed) || is_due {
            self.tell = true;
            self.decide_again();
        }
        self.keep_again();
        self.review_membership();
        self.answer_wishes();
        // Applying may propose (exposure, settled deliveries), and proposing makes something to write; both end after
        // few turns, since nothing is committed before it is durable.
        let mut turns = 0;
        while self.drive_groups() {
            turns += 1;
            assert!(turns < 1000, "a round must come to rest");
        }
        self.flush_sessions();
        self.notice_roles();
        self.retire_groups();
        self.drive_transfers();
        if std::mem::take(&mut self.system_arrived) {
            self.make_missing_vhosts();
        }
        if self.stamp_changed && matches!(self.phase, Phase::Running) {
            self.learn_members();
            self.refresh_stamp();
        }
        if std::mem::take(&mut self.tell) || self.facts_changed || self.is_status_due() {
            self.tell_status();
        }
        // After the status: what is told of this life is judged by that.
        self.tell_life();
        self.write_batch();
        self.drive_closing();
        self.drive_stop();
    }

    fn write_batch(&mut self) {
        let records = std::mem::take(&mut self.records);
        let Some(ticket) = self.round_ticket.take() else {
            assert!(records.is_empty(), "records without a ticket would never become durable");
            return;
        };
        self.counters.log_batches += 1;
        self.emit(Output::Persist { ticket, batch: Batch { records } });
    }

    fn pass_time(&mut self) {
        let mut ticks = 0;
        while self.next_tick <= self.now {
            self.next_tick = self.next_tick.plus(self.config.timing.tick_millis);
            ticks += 1;
            if ticks >= 4 {
                // After a pause, time that nobody saw must not look like a leader's silence.
                self.next_tick = self.now.plus(self.config.timing.tick_millis);
                break;
            }
        }
        let drained = self.is_drained();
        for id in self.group_ids() {
            self.with_group(id, |node, group| {
                let now = node.now;
                let again = node.roll_between(10, 40);
                let Some(replica) = &mut group.replica else { return };
                replica.hold_back(drained);
                for _ in 0..ticks {
                    replica.tick();
                }
                if group.campaign_at.is_some_and(|at| at <= now) {
                    group.campaign_at = None;
                    if replica.leader().is_none() && now < group.campaign_until {
                        replica.campaign();
                        // The others may not have noticed yet: ask again soon.
                        group.campaign_at = Some(now.plus(again));
                    }
                }
            });
        }
        if ticks > 0 {
            self.session_heartbeats();
        }
        if self.next_stamp <= self.now {
            self.next_stamp = self.now.plus(self.config.stamp_interval_millis);
            if matches!(self.phase, Phase::Running) && !self.groups.is_empty() {
                self.stamp_changed = true;
            }
        }
    }

    pub(super) fn roll_between(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll() % (high - low)
    }

    /// One turn over all groups; true if anything happened.
    fn drive_groups(&mut self) -> bool {
        let mut worked = false;
        for id in self.group_ids() {
            worked |= self.with_group(id, Self::drive_group).unwrap_or(false);
        }
        worked
    }

    fn drive_group(&mut self, group: &mut Group) -> bool {
        if group.replica.is_none() {
            return false;
        }
        group.flush_proposals();
        self.serve(group);
        // The ticket is taken only if records come of it, so look first with the number it would have.
        let ticket = self.round_ticket.unwrap_or(Ticket(self.next_ticket));
        let mut effects = Effects::default();
        let Some(replica) = &mut group.replica else { return false };
        replica.drive(ticket, &mut effects);
        let waits_for = replica.waits_for();
        let wanted = replica.take_wanted();
        let snapshots = replica.take_snapshots_wanted();
        if !effects.records.is_empty() {
            let taken = self.log_ticket();
            assert_eq!(taken, ticket, "the ticket seen is the ticket taken");
            for record in &effects.records {
                if let Record::Entry(_, _, entry) = record {
                    group.note_client_work(entry);
                }
            }
            self.records.append(&mut effects.records);
        }
        let worked = !effects.committed.is_empty()
            || !effects.reads.is_empty()
            || !effects.messages.is_empty()
            || !effects.messages_after.is_empty()
            || effects.installed.is_some();
        for message in effects.messages {
            self.send_raft_message(group, message, None);
        }
        for message in effects.messages_after {
            self.send_raft_message(group, message, waits_for);
        }
        for wanted in wanted {
            let ticket = self.ticket();
            self.emit(Output::Load {
                ticket,
                group: group.id,
                from: wanted.from,
                to: wanted.to,
                max_bytes: super::config::limits::CHUNK_BYTES,
            });
            self.loads.insert(ticket, LoadFor::Follower(group.id, wanted));
        }
        for to in snapshots {
            self.snapshot_wanted(group, to);
        }
        if let Some((index, term)) = effects.installed {
            self.snapshot_installed(group, index, term);
        }
        for context in effects.reads {
            if let Some(serving) = &mut group.serving {
                serving.proved(context);
            }
        }
        if !effects.committed.is_empty() {
            self.apply(group, effects.committed);
        }
        worked
    }

    fn send_raft_message(&mut self, group: &mut Group, message: eraftpb::Message, after: Option<Ticket>) {
        let to = RaftId(message.to);
        if message.get_msg_type() == eraftpb::MessageType::MsgSnapshot {
            self.offer_snapshot(group, to, message.term);
            return;
        }
        let Some(message) = RaftMessage::from_raft(message) else { return };
        let appends = !message.entries.is_empty();
        let lineage = group.lineage.tag();
        let message = PeerMessage::Raft { group: group.id, lineage, message: Box::new(message) };
        let sent = self.send_raft(group, to, message, after);
        if !sent
            && appends
            && let Some(replica) = &mut group.replica
        {
            replica.report_unreachable(to);
        }
    }

    /// Changes of role, leadership and quorum become events; a lost leadership closes its sessions.
    fn notice_roles(&mut self) {
        for id in self.group_ids() {
            self.with_group(id, Self::notice_role);
        }
    }

    fn notice_role(&mut self, group: &mut Group) {
        let Some(replica) = &group.replica else { return };
        let (term, leads) = (replica.term(), replica.is_leader());
        let role = Self::role_word(group);
        let led = group.seen_role == "leader";
        if led && (!leads || term != group.seen_term) {
            self.leadership_lost(group);
        }
        if role != group.seen_role {
            if leads {
                self.counters.elections += 1;
            }
            let (vhost, old) = (group.vhost.clone(), group.seen_role);
            group.seen_role = role;
            self.facts_changed = true;
            self.event(Event::RoleChanged { vhost, old, new: role, term });
        }
        group.had_quorum |= role != "waiting";
        if role == "waiting" && group.had_quorum {
            // A leader that steps down in its own term has lost its quorum; so has whoever follows nobody and sees too
            // few voters, whether those went before the leader, with it, or after it.
            let present = self.voters_in_contact(group);
            let needed = group.configuration.majority();
            if present < needed || (led && term == group.seen_term) {
                group.had_quorum = false;
                let present = present.min(needed.saturating_sub(1));
                self.event(Event::QuorumLost { vhost: group.vhost.clone(), present, needed });
            }
        }
        group.seen_term = term;
        // The others go by the leader's own word, so it is told whenever it changes.
        let active = self.active_leader(group).is_some();
        if active != group.seen_active {
            group.seen_active = active;
            group.was_active |= active;
            self.facts_changed = true;
        }
        if group.serving.is_none()
            && group.id != GroupId::SYSTEM
            && group.leads_surely()
            && Self::gate(group).is_none()
        {
            Self::leadership_won(group);
        }
    }

    /// What this broker's node is in its group, now.
    pub(super) fn role_word(group: &Group) -> &'static str {
        let Some(replica) = &group.replica else { return "waiting" };
        if replica.is_leader() {
            "leader"
        } else if replica.leader().is_none() {
            "waiting"
        } else if group.configuration.voters.contains(&replica.id().0) {
            "replica"
        } else {
            "learner"
        }
    }

    /// Voters of the group that this broker is linked to, itself among them.
    pub(super) fn voters_in_contact(&self, group: &Group) -> usize {
        group
            .configuration
            .voters
            .iter()
            .filter(|id| {
                self.raft_id == Some(RaftId(**id))
                    || self.peers.store_of(RaftId(**id)).is_some_and(|store| self.peers.is_linked(store))
            })
            .count()
    }
}
