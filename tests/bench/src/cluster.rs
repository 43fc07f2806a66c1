//! Whole cores with one client, in memory and without sockets: what the client's frames make them do.

use quorate_core::io::{Input, SessionId};
use quorate_fuzz::broker::World;
use quorate_protocol::codec::encoded_length;
use quorate_protocol::frame::{Ack, ClientFrame, Consume, Credit, DeclareQueue, NumberRange, ServerFrame};
use quorate_protocol::name::QueueName;
use quorate_protocol::publish::PublishBody;

use crate::messages::QUEUE;

const SESSION: SessionId = SessionId(1);
const CHANNEL: u16 = 1;
const CONSUMER: u32 = 1;

/// Brokers that serve, and a client of the leader, with a queue.
pub struct Cluster {
    world: World,
    leader: usize,
}

impl Cluster {
    /// So many brokers.
    ///
    /// # Panics
    /// They do not serve.
    pub fn new(brokers: u32) -> Self {
        let mut world = World::new(brokers, false);
        let leader = world.leader().expect("somebody leads");
        world.connect(leader, SESSION, true);
        let mut cluster = Self { world, leader };
        let queue = QueueName::new(QUEUE).expect("a name");
        let (max_length, arguments) = (0, Vec::new());
        let answers =
            cluster.say(DeclareQueue { request: 1, queue, passive: false, max_length, arguments }.into());
        assert!(matches!(answers.last(), Some(ServerFrame::QueueOk(_))), "no queue: {answers:?}");
        cluster
    }

    /// The client says this; what it is told at once. Everything it is told is read by it.
    pub fn say(&mut self, frame: ClientFrame) -> Vec<ServerFrame> {
        self.world.frame(self.leader, SESSION, CHANNEL, frame, 0);
        let written =
            self.world.brokers.get_mut(self.leader).map(|broker| std::mem::take(&mut broker.written));
        let answers: Vec<_> = written.into_iter().flatten().map(|(_, _, frame)| frame).collect();
        let bytes: usize = answers.iter().map(encoded_length).sum();
        if bytes > 0 {
            self.world.give(self.leader, Input::SessionDrained { session: SESSION, bytes: bytes as u64 });
        }
        answers
    }

    /// Publishes a batch; how many messages are confirmed by then.
    pub fn publish(&mut self, batch: PublishBody) -> u64 {
        confirmed(&self.say(ClientFrame::Publish(batch)))
    }

    /// Begins to consume the queue.
    ///
    /// # Panics
    /// It may not.
    pub fn consume(&mut self) {
        let queue = QueueName::new(QUEUE).expect("a name");
        let (consumer, credit) = (CONSUMER, 0);
        let answers =
            self.say(Consume { request: 2, consumer, queue, credit, no_ack: false, exclusive: false }.into());
        assert!(matches!(answers.last(), Some(ServerFrame::ConsumeOk(_))), "not to consume: {answers:?}");
    }

    /// Allows so many messages; those that come at once.
    pub fn take(&mut self, messages: u32) -> Vec<u64> {
        let answers = self.say(Credit { consumer: CONSUMER, add: messages }.into());
        delivered(&answers)
    }

    /// Is done with these messages; how many are settled by then.
    pub fn settle(&mut self, sequences: Vec<u64>) -> u64 {
        let ranges = NumberRange::collect(sequences);
        let answers = self.say(Ack { request: 3, consumer: CONSUMER, ranges }.into());
        answers
            .iter()
            .map(|frame| if let ServerFrame::Settled(settled) = frame { settled.settled } else { 0 })
            .sum()
    }
}

fn confirmed(answers: &[ServerFrame]) -> u64 {
    let ranges = answers.iter().flat_map(|frame| match frame {
        ServerFrame::Confirm(confirm) => confirm.ranges.as_slice(),
        _ => &[],
    });
    ranges.map(|range| range.count()).sum()
}

fn delivered(answers: &[ServerFrame]) -> Vec<u64> {
    let messages = answers.iter().flat_map(|frame| match frame {
        ServerFrame::Deliver(deliver) => deliver.messages.as_slice(),
        _ => &[],
    });
    messages.map(|message| message.seq).collect()
}
