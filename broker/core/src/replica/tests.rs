//! A group of replicas in memory, whose every batch is durable at once.

use quorate_store::ids::{Epoch, GroupId, Index, RaftId, Term};
use quorate_store::record::{EntryKind, HardState};
use raft::eraftpb;

use super::storage::LogWindow;
use super::wire::{MembershipChange, RaftMessage};
use super::{Effects, Replica, Timing};
use crate::io::{Tick, Ticket};

struct Trio {
    replicas: Vec<Replica>,
    ticket: u64,
    /// Messages that nobody has received yet.
    waiting: Vec<eraftpb::Message>,
}

impl Trio {
    fn new() -> Self {
        let conf_state = eraftpb::ConfState { voters: vec![1, 2, 3], ..eraftpb::ConfState::default() };
        let replica = |id: u64| {
            let hard_state = HardState { term: Term(1), vote: 0, commit: Index(1) };
            let log =
                LogWindow::new(hard_state, conf_state.clone(), Index(2), Index(1), [(Index(1), Term(1))]);
            Replica::new(GroupId(1), Epoch(1), RaftId(id), log, Index(1), Timing::new(10, 100), id)
        };
        Self { replicas: (1..=3).map(replica).collect(), ticket: 0, waiting: Vec::new() }
    }

    /// One round of one replica; what it would send once its batch is durable waits with the rest. Its batch is durable
    /// when the ticket is given back.
    fn drive(&mut self, number: usize) -> Ticket {
        self.ticket += 1;
        let ticket = Ticket(self.ticket);
        let mut effects = Effects::default();
        let replica = &mut self.replicas[number];
        replica.drive(ticket, Tick(0), &mut effects);
        for committed in effects.committed {
            replica.on_applied(committed.entry.index);
            if committed.entry.kind == EntryKind::Membership {
                let change = MembershipChange::decode(&committed.entry.data);
                replica.apply_membership(change);
            }
        }
        let after = effects.messages_after.into_iter().map(|(message, _)| message);
        self.waiting.extend(effects.messages.into_iter().chain(after));
        ticket
    }

    /// Everything that waits arrives, until nothing waits.
    fn rest(&mut self) {
        self.rest_without(None);
    }

    /// As [`Self::rest`], but for what is sent to this one.
    fn rest_without(&mut self, deaf: Option<u64>) {
        for _ in 0..50 {
            for number in 0..self.replicas.len() {
                let ticket = self.drive(number);
                self.replicas[number].on_persisted(ticket);
            }
            for message in std::mem::take(&mut self.waiting) {
                if deaf == Some(message.to) {
                    continue;
                }
                let to = usize::try_from(message.to).expect("small") - 1;
                if let Some(message) = RaftMessage::from_raft(message) {
                    self.replicas[to].step(message);
                }
            }
        }
    }

    fn led_by_first(deaf: Option<u64>) -> Self {
        let mut trio = Self::new();
        trio.replicas[0].campaign();
        trio.rest_without(deaf);
        assert!(trio.replicas[0].is_leader());
        trio
    }
}

#[test]
fn a_leader_that_is_removed_leads_no_more() {
    let mut trio = Trio::led_by_first(None);
    assert!(trio.replicas[0].propose_membership(MembershipChange::Remove(1)));
    trio.rest();
    assert!(!trio.replicas[0].is_leader());
    // What is written after that is nothing to end for.
    let ticket = trio.drive(0);
    trio.replicas[0].on_persisted(ticket);
}

#[test]
fn a_heartbeat_shows_a_log_that_was_put_back() {
    let mut trio = Trio::led_by_first(None);
    trio.replicas[0].propose(vec![b"acknowledged".as_slice().into()]).expect("it leads");
    trio.rest();
    let last = trio.replicas[1].last();
    trio.replicas[0].tick();
    trio.drive(0);
    let messages = trio.waiting.iter().filter(|message| message.to == 2).cloned();
    let mut heartbeats = messages.filter_map(RaftMessage::from_raft).filter(RaftMessage::is_heartbeat);
    let heartbeat = heartbeats.next().expect("a leader's tick is a heartbeat");
    assert_eq!(heartbeat.commit, last.0);
    assert!(!trio.replicas[1].lacks_acknowledged(&heartbeat));
    let mut before = Trio::new().replicas.remove(1);
    assert!(before.lacks_acknowledged(&heartbeat));
    // A leader of a term that is over says nothing.
    before.raw.raft.become_follower(heartbeat.term + 1, 0);
    assert!(!before.lacks_acknowledged(&heartbeat));
}

#[test]
fn who_answers_many_heartbeats_is_sent_the_same_entries_once_a_tick() {
    // Nothing is known of the third yet.
    let mut trio = Trio::led_by_first(Some(3));
    trio.replicas[0].propose(vec![b"entry".as_slice().into()]).expect("it leads");
    trio.rest_without(Some(3));
    for _ in 0..3 {
        for _ in 0..100 {
            let answer = eraftpb::Message {
                msg_type: eraftpb::MessageType::MsgHeartbeatResponse,
                from: 3,
                to: 1,
                term: trio.replicas[0].term().0,
                ..eraftpb::Message::default()
            };
            trio.replicas[0].step(RaftMessage::from_raft(answer).expect("a message for the wire"));
        }
        let ticket = trio.drive(0);
        trio.replicas[0].on_persisted(ticket);
        // The first may have been lost: again, and once.
        let again = |message: &&eraftpb::Message| message.to == 3 && !message.entries.is_empty();
        assert_eq!(trio.waiting.iter().filter(again).count(), 1);
        trio.replicas[0].tick();
        trio.rest_without(Some(3));
    }
}
