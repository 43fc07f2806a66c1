//! Committed entries meet the state machine; whoever proposed them here gets an answer.

use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::{Confirm, Done, Failed, PublishRefused, QueueOk, ServerFrame, Settled};
use quorate_store::ids::{GroupId, Index, Term};
use quorate_store::record::{Entry, EntryKind};

use super::Node;
use super::group::Group;
use super::origin::Origin;
use crate::admin::AdminReply;
use crate::io::Output;
use crate::machine::QueueId;
use crate::machine::{Outcome, Published};
use crate::replica::Committed;
use crate::replica::wire::MembershipChange;

impl Node {
    pub(super) fn apply(&mut self, group: &mut Group, committed: Vec<Committed>) {
        for Committed { entry } in committed {
            assert_eq!(entry.index, group.applied.next(), "entries are applied one after the other");
            self.apply_entry(group, &entry);
            group.applied = entry.index;
            group.applied_term = entry.term;
            group.bytes_since_checkpoint += entry.data.len() as u64;
        }
        let applied = group.applied;
        Self::settle_policy(group);
        if let Some(replica) = &mut group.replica {
            replica.on_applied(applied);
        }
        self.after_apply(group);
    }

    fn apply_entry(&mut self, group: &mut Group, entry: &Entry) {
        let mut origins = group.take_origins(entry);
        let at = (entry.term, entry.index);
        if !group.bequeathed.is_empty() {
            origins.extend(self.bequeathed_to(group, at));
        }
        group.ended = None;
        match entry.kind {
            EntryKind::Command => {}
            EntryKind::Membership => {
                let change = MembershipChange::decode(&entry.data);
                if let Some(replica) = &mut group.replica {
                    replica.apply_membership(change);
                }
                self.membership_applied(group, change);
                return;
            }
            EntryKind::Control => {
                self.control_applied(group, entry);
                return;
            }
        }
        let renewals = group.machine.system().map_or(0, |system| system.safety().renewals());
        let outcomes = group.apply_commands(entry);
        if group.id == GroupId::SYSTEM && !outcomes.is_empty() {
            self.stamp_changed = true;
            let system = group.machine.system();
            if system.is_some_and(|system| system.safety().renewals() != renewals) {
                self.safety_renewed();
            }
            for id in outcomes.iter().filter_map(Outcome::new_vhost) {
                if let Some(new) = group.new_vhost(id) {
                    self.vhost_created(id, new);
                }
            }
        }
        if origins.is_empty() {
            return;
        }
        assert_eq!(origins.len(), outcomes.len(), "one outcome for each command proposed");
        for (origin, outcome) in origins.into_iter().zip(outcomes) {
            self.answer_in_time(group, origin, outcome, (entry.term, entry.index));
        }
    }

    pub(super) fn answer(&mut self, group: &mut Group, origin: Origin, outcome: Outcome, at: (Term, Index)) {
        match origin {
            Origin::Internal => {}
            Origin::Publish { session, channel, numbers, cost } => {
                self.emit(Output::Release { session, cost });
                match outcome {
                    Outcome::Published(published) => self.confirm(group, session, channel, &published, at),
                    Outcome::Failed(code, text) => {
                        if let Some(producer) =
                            self.sessions.get(&session).and_then(|s| s.producer_on(channel))
                        {
                            let frame = PublishRefused {
                                producer,
                                range: numbers,
                                code,
                                retryable: code.is_retryable(),
                                text,
                            };
                            self.write(session, channel, frame);
                        }
                    }
                    _ => {}
                }
            }
            Origin::Commit { session, channel, request, cost, withheld } => {
                self.emit(Output::Release { session, cost });
                let answer = self.transaction_answer(group, request, outcome, withheld, at);
                self.write(session, channel, answer);
            }
            Origin::Request { session, channel, request } => {
                let frame = Self::answer_request(group, request, outcome);
                self.write(session, channel, frame);
            }
            Origin::Settle { consumer, request, queue, ranges } => {
                let messages = match outcome {
                    Outcome::Settled { messages, .. } => messages,
                    _ => 0,
                };
                if let Some(serving) = &mut group.serving {
                    serving.delivery.confirm_settled(queue, &ranges);
                }
                self.counters.acknowledged += messages;
                if request != 0 {
                    self.write(consumer.session, consumer.channel, Settled { request, settled: messages });
                }
            }
            Origin::AddMember(store) | Origin::UpdateMember(store) => {
                self.admissions.remove(&store);
            }
            Origin::Member(id) => self.wish_decided(id, outcome),
            Origin::Admin(id) => {
                let reply = match outcome {
                    Outcome::Failed(code, message) => AdminReply::Failed {
                        code: code.name(),
                        message,
                        next: Vec::new(),
                        leader_admin_address: None,
                    },
                    Outcome::VhostCreated { created, .. } => AdminReply::Done { changed: created },
                    _ => AdminReply::Done { changed: true },
                };
                self.emit(Output::AdminReply { id, reply });
            }
        }
    }

    fn answer_request(group: &Group, request: u32, outcome: Outcome) -> ServerFrame {
        match outcome {
            Outcome::Failed(code, text) => Failed { request, code, text }.into(),
            Outcome::QueueDeclared { queue, created } => {
                let counts = match (&group.serving, group.machine.vhost()) {
                    (Some(serving), Some(machine)) => serving.delivery.counts(machine, queue),
                    _ => crate::delivery::Counts::default(),
                };
                QueueOk { request, created, ready: counts.ready, consumers: counts.consumers }.into()
            }
            Outcome::Removed { messages } => Done { request, affected: messages }.into(),
            Outcome::Done { affected } => Done { request, affected }.into(),
            _ => Done { request, affected: 0 }.into(),
        }
    }

    fn confirm(
        &mut self,
        group: &Group,
        session: crate::io::SessionId,
        channel: u16,
        published: &Published,
        (term, index): (Term, Index),
    ) {
        let epoch = group.lineage.tag().epoch;
        for (ranges, duplicate) in [(&published.confirmed, false), (&published.duplicates, true)] {
            if ranges.is_empty() {
                continue;
            }
            let count: u64 = ranges.iter().map(|range| range.count()).sum();
            let under_override = group.controls.in_force().is_some();
            if under_override {
                self.counters.under_override += count;
            }
            if duplicate {
                self.counters.duplicates += count;
            } else {
                self.counters.published += count;
            }
            let confirm = Confirm {
                producer: published.producer,
                ranges: ranges.clone(),
                group: group.id.0,
                epoch: epoch.0,
                term: term.0,
                index: index.0,
                durability: group.receipt_policy(),
                under_override,
                duplicate,
            };
            if let Some(session) = self.sessions.get_mut(&session) {
                session.add_confirm(channel, confirm);
                self.sessions_to_flush = true;
            }
        }
        for (range, code) in &published.refused {
            self.counters.refused += range.count();
            let frame = PublishRefused {
                producer: published.producer,
                range: *range,
                code: *code,
                retryable: code.is_retryable(),
                text: refusal(*code, published.full, group),
            };
            self.write(session, channel, frame);
        }
    }
}

fn refusal(code: FaultCode, full: Option<QueueId>, group: &Group) -> String {
    if code == FaultCode::QueueFull {
        let queue = full.and_then(|id| group.machine.vhost()?.queue(id));
        return match (full, queue) {
            (Some(_), Some(queue)) => {
                let (name, live) = (queue.name(), queue.live());
                format!("virtual host {}: queue {name} is full; it holds {live} messages", group.vhost)
            }
            // Deleted by a later command of the same entry.
            (Some(_), None) => format!("virtual host {}: {}", group.vhost, code.text()),
            (None, _) => format!("virtual host {}: it has no room for more messages", group.vhost),
        };
    }
    let hint = match code {
        FaultCode::QueueNotFound => "declare the queue first, or name another",
        FaultCode::ExchangeNotFound => "declare the exchange first, or name another",
        _ => "",
    };
    let dash = if hint.is_empty() { "" } else { " " };
    format!("virtual host {}: {}{dash}{hint}", group.vhost, code.text())
}
