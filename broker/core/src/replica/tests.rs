//! A group of replicas in memory, whose every batch is durable at once.

use quorate_store::ids::{Epoch, GroupId, Index, RaftId, Term};
use quorate_store::record::{EntryKind, HardState};
use raft::eraftpb;

use super::storage::LogWindow;
use super::wire::{MembershipChange, RaftMessage};
use super::{Candidacy, Effects, Replica, Standing, Timing};
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

/// An append of this leader: the entry before it, and one entry of the leader's term behind that.
fn append(term: u64, (index, log_term): (u64, u64)) -> RaftMessage {
    let mut message = eraftpb::Message::default();
    message.set_msg_type(eraftpb::MessageType::MsgAppend);
    (message.from, message.to, message.term) = (1, 2, term);
    (message.index, message.log_term, message.commit) = (index, log_term, index);
    let entry = eraftpb::Entry { index: index + 1, term, ..eraftpb::Entry::default() };
    message.set_entries(vec![entry].into());
    RaftMessage::from_raft(message).expect("it travels")
}

#[test]
fn who_knows_what_is_committed_acknowledges_nothing_of_another_history() {
    let mut trio = Trio::led_by_first(None);
    for _ in 0..3 {
        trio.replicas[0].propose(vec![b"x".as_slice().into()]).expect("it leads");
        trio.rest();
    }
    trio.replicas[0].tick();
    trio.rest();
    let follower = &mut trio.replicas[1];
    let (term, committed) = (follower.term().0, follower.commit().0);
    assert!(committed >= 5, "{committed}");
    for (message, differs) in [
        // The leader's own, once more and further on.
        (append(term, (committed - 1, term)), None),
        (append(term, (committed, term)), None),
        (append(term + 1, (committed, term)), None),
        // The entry before, or one of those behind it, is not the one that is committed here.
        (append(term + 3, (committed - 1, term + 1)), Some(committed - 1)),
        (append(term + 3, (committed, term + 1)), Some(committed)),
        (append(term + 3, (committed - 1, term)), Some(committed)),
        // What nobody knows to be committed may be of another leader.
        (append(term + 3, (committed + 1, term + 1)), None),
        // Whoever does not lead any more is told so.
        (append(term - 1, (committed, term - 1)), None),
    ] {
        assert_eq!(follower.differs_committed(&message), differs.map(Index), "{message:?}");
    }
    // raft-rs alone would have acknowledged all up to its commit.
    follower.step(append(term + 3, (committed - 2, term + 1)));
    trio.drive(1);
    assert!(trio.waiting.iter().all(|message| message.from != 2), "{:?}", trio.waiting);
}

/// A request for the second one's vote by the third one, whose log ends at the given entry; whether it was given.
fn is_given_vote(trio: &mut Trio, (index, log_term): (Index, u64)) -> bool {
    let voter = &mut trio.replicas[1];
    let mut message = eraftpb::Message::default();
    // Raft's own vote for a leader that nobody hears of any more.
    voter.forget_leader();
    message.set_msg_type(eraftpb::MessageType::MsgRequestVote);
    (message.from, message.to, message.term) = (3, 2, voter.term().0 + 1);
    (message.index, message.log_term) = (index.0, log_term);
    voter.step(RaftMessage::from_raft(message).expect("it travels"));
    trio.waiting.clear();
    trio.drive(1);
    trio.waiting
        .iter()
        .filter_map(|message| RaftMessage::from_raft(message.clone()))
        .any(|sent| sent.is_vote())
}

fn trio_with_an_entry() -> (Trio, (Index, u64)) {
    let mut trio = Trio::led_by_first(None);
    trio.replicas[0].propose(vec![b"acknowledged".as_slice().into()]).expect("it leads");
    trio.rest();
    let end = (trio.replicas[1].last(), trio.replicas[1].term().0);
    (trio, end)
}

#[test]
fn whoever_is_filled_again_votes_for_nobody() {
    let (mut trio, end) = trio_with_an_entry();
    trio.replicas[1].bar(true);
    assert!(!is_given_vote(&mut trio, end));
    trio.replicas[1].bar(false);
    assert!(is_given_vote(&mut trio, end), "once it is filled");
}

#[test]
fn whoever_leads_for_want_of_others_votes_as_anybody_does() {
    for candidacy in [Candidacy::Free, Candidacy::HeldBack, Candidacy::StandIn, Candidacy::Never] {
        let (mut trio, (last, term)) = trio_with_an_entry();
        trio.replicas[1].set_standing(Standing { candidacy, voters: 3, ..Standing::default() });
        assert!(!is_given_vote(&mut trio, (Index(last.0 - 1), term)), "{candidacy:?}: it lacks an entry");
        assert!(is_given_vote(&mut trio, (last, term)), "{candidacy:?}");
    }
}
