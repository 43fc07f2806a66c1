//! Frames from the broker.

use bytes::Bytes;

use super::{Binding, Close, Durability, ExchangeKind, Heartbeat, NumberRange, ProducerId, fields, frames};
use crate::fault::FaultCode;
use crate::name::{ExchangeName, QueueName, RoutingKey, VhostName};

frames! {
    /// What a broker says.
    pub enum ServerFrame {
        /// Answers Hello.
        0x40 HelloOk(HelloOk),
        /// Answers Login.
        0x41 LoginOk(LoginOk),
        /// Answers Hello or Login; the broker closes the connection.
        0x42 Refused(Refused),
        /// Answers any request.
        0x43 Failed(Failed),
        /// Answers requests whose success needs no more words.
        0x44 Done(Done),
        /// Answers DeclareQueue.
        0x45 QueueOk(QueueOk),
        /// Answers ListQueues.
        0x46 QueueList(QueueList),
        /// Answers PeekQueue.
        0x47 PeekOk(PeekOk),
        /// Answers ListExchanges.
        0x48 ExchangeList(ExchangeList),
        /// Answers ListBindings.
        0x49 BindingList(BindingList),
        /// Published messages are safe.
        0x50 Confirm(Confirm),
        /// Published messages are not accepted.
        0x51 PublishRefused(PublishRefused),
        /// Publishing must pause.
        0x52 Blocked(Blocked),
        /// Publishing may go on.
        0x53 Unblocked(Unblocked),
        /// Answers Consume.
        0x54 ConsumeOk(ConsumeOk),
        /// Answers Cancel.
        0x55 CancelOk(CancelOk),
        /// Messages for a consumer.
        0x56 Deliver(Deliver),
        /// The broker ended a consumer.
        0x57 ConsumerClosed(ConsumerClosed),
        /// Answers Ack and Nack.
        0x58 Settled(Settled),
        /// Answers Commit and Resolve: the transaction is safe.
        0x59 Committed(Committed),
        /// Still here.
        0x70 Heartbeat(Heartbeat),
        /// Ends the connection.
        0x71 Close(Close),
    }
    messages: [0x47, 0x56]
    connection: [0x40, 0x41, 0x42, 0x52, 0x53, 0x70, 0x71]
}

fields! {
    /// Answers Hello.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct HelloOk {
        /// The version that both speak from here on.
        pub version: u16,
        /// The broker's name.
        pub server_name: String,
        /// The cluster's name.
        pub cluster_name: String,
        /// The largest payload of frames without messages, after login.
        pub frame_limit: u32,
        /// The largest message body.
        pub message_limit: u32,
        /// The broker's own heartbeat interval, in milliseconds.
        pub heartbeat_ms: u32,
    }
}

fields! {
    /// Answers Login: this broker leads the virtual host and serves.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LoginOk {
        /// The connection's number in the broker's log and listings.
        pub session: u64,
        /// The virtual host.
        pub vhost: VhostName,
        /// The leader's name: this broker's.
        pub leader_name: String,
        /// Each side sends something at least this often, in milliseconds.
        pub heartbeat_ms: u32,
    }
}

fields! {
    /// Answers Hello or Login; the broker closes the connection.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Refused {
        /// Why.
        pub code: FaultCode,
        /// For people: what, and what to do next.
        pub text: String,
        /// Where the leader takes clients, `host:port`; empty if not known.
        pub leader_address: String,
        /// When to try again, in milliseconds; 0: no opinion.
        pub retry_after_ms: u32,
    }
}

fields! {
    /// The request had no effect, except with the code UNKNOWN_OUTCOME.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Failed {
        /// Which request.
        pub request: u32,
        /// Why.
        pub code: FaultCode,
        /// For people: what, and what to do next.
        pub text: String,
    }
}

fields! {
    /// The request took effect, safely, on a majority.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Done {
        /// Which request.
        pub request: u32,
        /// How many things it changed, as the request says.
        pub affected: u64,
    }
}

fields! {
    /// Answers DeclareQueue: the queue exists.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct QueueOk {
        /// Which request.
        pub request: u32,
        /// Whether it is new.
        pub created: bool,
        /// Messages that wait for a consumer.
        pub ready: u64,
        /// Consumers it has now.
        pub consumers: u32,
    }
}

fields! {
    /// One queue of a [`QueueList`].
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct QueueEntry {
        /// The queue's name.
        pub queue: QueueName,
        /// Messages that wait for a consumer.
        pub ready: u64,
        /// Messages delivered and neither acknowledged nor given back.
        pub unacknowledged: u64,
        /// Consumers it has now.
        pub consumers: u32,
        /// Bytes of all its messages.
        pub bytes: u64,
        /// The name of the broker that leads it.
        pub leader: String,
    }
}

fields! {
    /// Answers ListQueues.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct QueueList {
        /// Which request.
        pub request: u32,
        /// A page of queues.
        pub entries: Vec<QueueEntry>,
        /// More follow: ask again after the last one.
        pub more: bool,
    }
}

fields! {
    /// One message of a [`PeekOk`].
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Peeked {
        /// Its place in the queue.
        pub seq: u64,
        /// It may have been delivered before.
        pub redelivered: bool,
        /// The exchange it was published to.
        pub exchange: ExchangeName,
        /// The key it was published with.
        pub key: RoutingKey,
        /// As published: see [`crate::message::Message::parse`].
        pub message: Bytes,
    }
}

fields! {
    /// Answers PeekQueue.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PeekOk {
        /// Which request.
        pub request: u32,
        /// By ascending sequence.
        pub messages: Vec<Peeked>,
        /// More follow: ask again from the last sequence + 1.
        pub more: bool,
    }
}

fields! {
    /// One exchange of an [`ExchangeList`].
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ExchangeEntry {
        /// The exchange's name.
        pub exchange: ExchangeName,
        /// How it routes.
        pub kind: ExchangeKind,
        /// How many bindings it has.
        pub bindings: u32,
    }
}

fields! {
    /// Answers ListExchanges.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ExchangeList {
        /// Which request.
        pub request: u32,
        /// A page of exchanges.
        pub entries: Vec<ExchangeEntry>,
        /// More follow: ask again after the last one.
        pub more: bool,
    }
}

fields! {
    /// Answers ListBindings.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct BindingList {
        /// Which request.
        pub request: u32,
        /// A page of bindings.
        pub entries: Vec<Binding>,
        /// More follow: ask again after the last one.
        pub more: bool,
    }
}

fields! {
    /// These messages are safe as `durability` says: the receipt.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Confirm {
        /// Whose messages.
        pub producer: ProducerId,
        /// Their numbers.
        pub ranges: Vec<NumberRange>,
        /// The replication group that holds them.
        pub group: u32,
        /// The latest epoch of the group's lineage.
        pub epoch: u32,
        /// The leader's term.
        pub term: u64,
        /// The log entry that holds them; for duplicates, an entry at or after it.
        pub index: u64,
        /// What was waited for.
        pub durability: Durability,
        /// Given while an operator's override was in force: nodes that did not see it can restore without it.
        pub under_override: bool,
        /// They had been accepted before; this is no second copy.
        pub duplicate: bool,
    }
}

fields! {
    /// These messages are not accepted and are on no queue.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PublishRefused {
        /// Whose messages.
        pub producer: ProducerId,
        /// Their numbers.
        pub range: NumberRange,
        /// Why.
        pub code: FaultCode,
        /// Whether the same numbers may be sent again; if not, they are settled.
        pub retryable: bool,
        /// For people.
        pub text: String,
    }
}

fields! {
    /// Publishing must pause: what is sent meanwhile may be refused.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Blocked {
        /// Why.
        pub code: FaultCode,
        /// For people.
        pub text: String,
    }
}

fields! {
    /// Publishing may go on.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Unblocked {}
}

fields! {
    /// Answers Consume: deliveries may follow.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ConsumeOk {
        /// Which request.
        pub request: u32,
    }
}

fields! {
    /// Answers Cancel: no deliveries follow.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CancelOk {
        /// Which request.
        pub request: u32,
    }
}

fields! {
    /// One message of a [`Deliver`].
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Delivery {
        /// Its place in the queue, for Ack and Nack.
        pub seq: u64,
        /// It may have been delivered before.
        pub redelivered: bool,
        /// As published: see [`crate::message::Message::parse`].
        pub message: Bytes,
    }
}

fields! {
    /// Messages for a consumer, all published to the same exchange with the same key; each takes one credit.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Deliver {
        /// Which consumer.
        pub consumer: u32,
        /// The exchange they were published to.
        pub exchange: ExchangeName,
        /// The key they were published with.
        pub key: RoutingKey,
        /// In the order of the queue.
        pub messages: Vec<Delivery>,
    }
}

fields! {
    /// The broker ended this consumer; what it holds went back to the queue.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ConsumerClosed {
        /// Which consumer.
        pub consumer: u32,
        /// Why.
        pub code: FaultCode,
        /// For people.
        pub text: String,
    }
}

fields! {
    /// Answers Ack and Nack: an acknowledged or dropped message never comes back.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Settled {
        /// Which request.
        pub request: u32,
        /// How many messages it settled; those that the consumer did not hold do not count.
        pub settled: u64,
    }
}

fields! {
    /// Answers Commit and Resolve: all of the transaction took effect and is safe as `durability` says: its receipt. Since
    /// version 2.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Committed {
        /// Which request.
        pub request: u32,
        /// The replication group that holds it.
        pub group: u32,
        /// The latest epoch of the group's lineage.
        pub epoch: u32,
        /// The leader's term.
        pub term: u64,
        /// The log entry that holds it; for a duplicate, an entry at or after it.
        pub index: u64,
        /// What was waited for.
        pub durability: Durability,
        /// Given while an operator's override was in force: nodes that did not see it can restore without it.
        pub under_override: bool,
        /// It had been committed before; nothing of it happened twice.
        pub duplicate: bool,
    }
}
