//! The end of a round: propose what gathered, take what Raft has ready, apply, answer, and write one log batch.

use std::collections::BTreeSet;

use quorate_store::ids::{GroupId, RaftId};
use quorate_store::record::Record;
use raft::eraftpb;

use super::group::Group;
use super::{LoadFor, Node, Phase};
use crate::event::Event;
use crate::io::{After, Output, Tick, Ticket};
use crate::peer::PeerMessage;
use crate::replica::Effects;
use crate::replica::wire::RaftMessage;

impl Node {
    pub(super) fn end_round(&mut self) {
        if self.exited {
            return;
        }
        self.counters.rounds += 1;
        if self.is_panicked() {
            self.panicked_round();
            return;
        }
        if self.frozen {
            if self.next_tick <= self.now {
                self.next_tick = self.now.plus(self.config.timing.tick_millis);
            }
            self.drive_closing();
            return;
        }
        self.pass_time();
        self.keep_safe();
        self.mind_company();
        self.drive_founding();
        let now = self.now;
        let is_due = self.decide_at.take_if(|at| *at <= now).is_some();
        if std::mem::take(&mut self.facts_changed) || is_due {
            self.tell = true;
            self.review_all = true;
            self.decide_again();
        }
        if self.is_panicked() {
            self.panicked_round();
            return;
        }
        self.keep_again();
        self.drive_force();
        self.review_membership();
        self.answer_wishes();
        self.drive_asks();
        let looked_at = self.drive_groups();
        self.flush_sessions();
        for id in &looked_at {
            self.visit(*id, Self::notice_role);
        }
        self.retire_groups(&looked_at);
        self.drive_transfers(&looked_at);
        if std::mem::take(&mut self.system_arrived) {
            self.leave_deleted();
            self.make_missing_vhosts();
        }
        self.drive_deleted();
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
        if std::mem::replace(&mut self.was_drained, drained) != drained {
            for id in self.group_ids() {
                self.with_group(id, |node, group| node.take_stand(group));
            }
        }
        if ticks > 0 {
            for id in self.groups.awake().collect::<Vec<_>>() {
                self.with_group(id, |node, group| {
                    // Before the tick, which makes something to send.
                    node.rest(group);
                    node.take_stand(group);
                    node.mind_force(group);
                    let Some(replica) = &mut group.replica else { return };
                    // What came in a burst is no silence of those who were asked only now.
                    let ticks = if replica.take_doubt() { ticks.min(1) } else { ticks };
                    for _ in 0..ticks {
                        replica.tick();
                    }
                });
            }
        }
        if self.next_campaign.is_some_and(|at| at <= self.now) {
            self.campaign();
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

    /// A leader that has had nothing to do for long enough sleeps, and with it the others: see [`crate::replica`].
    /// `system` never does.
    fn rest(&mut self, group: &mut Group) {
        let end = group.rests_at().filter(|_| {
            group.id != GroupId::SYSTEM
                && group.controls.in_force().is_none()
                && matches!(self.phase, Phase::Running)
                && !self.is_closing()
                && self.voters_in_contact(group) == group.configuration.voters.len()
        });
        let Some(end) = end else {
            group.idle_ticks = 0;
            return;
        };
        // What came and went between two ticks is no rest, and the others may not know yet that it is committed.
        if std::mem::replace(&mut group.idle_at, end) != end {
            group.idle_ticks = 0;
        }
        group.idle_ticks += 1;
        if group.idle_ticks < self.config.timing.election_ticks {
            return;
        }
        group.idle_ticks = 0;
        let Some(replica) = &mut group.replica else { return };
        replica.sleep();
        let (own, term) = (replica.id(), replica.term());
        let (id, lineage) = (group.id, group.lineage.tag());
        for to in group.configuration.voters.iter().map(|id| RaftId(*id)).filter(|to| *to != own) {
            self.send_raft(group, to, PeerMessage::Sleep { group: id, lineage, term, end }, None);
        }
    }

    /// Has those ask for votes whose time has come.
    fn campaign(&mut self) {
        self.next_campaign = None;
        for id in self.groups.awake().collect::<Vec<_>>() {
            self.visit(id, |node, group| {
                let (now, Some(at)) = (node.now, group.campaign_at) else { return };
                let Some(replica) = group.replica.as_mut().filter(|_| at <= now) else {
                    return node.ask_for_votes(group, at);
                };
                group.campaign_at = None;
                if replica.leader().is_none() && now < group.campaign_until {
                    replica.campaign();
                    // The others may not have noticed yet: ask again soon.
                    let again = now.plus(node.roll_between(10, 40));
                    node.ask_for_votes(group, again);
                }
            });
        }
    }

    /// Has the group's node ask for votes at this time, if nobody leads by then.
    pub(super) fn ask_for_votes(&mut self, group: &mut Group, at: Tick) {
        group.campaign_at = Some(at);
        self.next_campaign = Some(self.next_campaign.map_or(at, |next| next.min(at)));
    }

    /// Turns over the touched groups until nothing happens any more; all that were touched.
    ///
    /// Applying may propose (exposure, settled deliveries), and proposing makes something to write; both end after few
    /// turns, since nothing is committed before it is durable.
    fn drive_groups(&mut self) -> BTreeSet<GroupId> {
        let mut looked_at = self.groups.take_touched();
        let mut turns = 0;
        loop {
            let mut worked = false;
            for id in &looked_at {
                worked |= self.work_on(*id, Self::drive_group).unwrap_or(false);
            }
            let more = self.groups.take_touched();
            if !worked && more.is_empty() {
                return looked_at;
            }
            looked_at.extend(more);
            turns += 1;
            assert!(turns < 1000, "a round must come to rest");
        }
    }

    fn drive_group(&mut self, group: &mut Group) -> bool {
        if group.replica.is_none() {
            return false;
        }
        group.flush_proposals();
        self.serve(group);
        self.set_level(group);
        // The ticket is taken only if records come of it, so look first with the number it would have.
        let ticket = self.round_ticket.unwrap_or(Ticket(self.next_ticket));
        let mut effects = Effects::default();
        let Some(replica) = &mut group.replica else { return false };
        replica.drive(ticket, self.now, &mut effects);
        if replica.is_logging() {
            self.logging.insert(group.id);
        }
        let wanted = replica.take_wanted();
        let snapshots = replica.take_snapshots_wanted();
        self.must_sync |= effects.must_sync || effects.sync_through > self.sync_asked;
        if !effects.records.is_empty() {
            let taken = self.round_batch();
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
        for (message, after) in effects.messages_after {
            self.send_raft_message(group, message, Some(after));
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
            Self::round_answered(group, context);
        }
        if !effects.committed.is_empty() {
            self.apply(group, effects.committed);
        }
        let worked = self.release_held(group) || worked;
        self.mind_durability(group);
        if let Some(replica) = &mut group.replica {
            replica.sleep_if_told();
        }
        worked
    }

    fn send_raft_message(&mut self, group: &mut Group, message: eraftpb::Message, after: Option<After>) {
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
                self.note_rivals(group);
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
                // It may have told so while it still led.
                if !std::mem::take(&mut group.loss_told) {
                    let present = present.min(needed.saturating_sub(1));
                    self.event(Event::QuorumLost { vhost: group.vhost.clone(), present, needed });
                }
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
        if group.id != GroupId::SYSTEM {
            self.mind_gate(group);
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
                    || self.peers.store_of(RaftId(**id)).is_some_and(|store| self.peers.takes_part(store))
            })
            .count()
    }
}
