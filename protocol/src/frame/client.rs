//! Frames from the client.

use bytes::Bytes;

use super::{Binding, Close, ExchangeKind, Heartbeat, NumberRange, ProducerId, fields, frames};
use crate::limits::{
    ARGUMENT_LENGTH_MAX, ARGUMENTS_MAX, NAME_LENGTH_MAX, SECRET_LENGTH_MAX, TRANSACTION_RANGES_MAX,
};
use crate::name::{ExchangeName, QueueName, VhostName};
use crate::publish::PublishBody;
use crate::transaction::{TransactionBody, TransactionSettlement};
use crate::version::VersionRange;
use crate::wire::{Field, Malformed, Problem, Reader, Sink, too_long};

/// The first four bytes of Hello's payload.
pub const MAGIC: [u8; 4] = *b"QRTE";
/// [`Login::mechanism`]: no credentials.
pub const MECHANISM_ANONYMOUS: &str = "ANONYMOUS";
/// [`Login::mechanism`]: user and secret as they are, so only over TLS or loopback.
pub const MECHANISM_PLAIN: &str = "PLAIN";

frames! {
    /// What a client says.
    pub enum ClientFrame {
        /// Opens the connection.
        0x01 Hello(Hello),
        /// Asks for a virtual host.
        0x02 Login(Login),
        /// Makes sure that a queue exists.
        0x03 DeclareQueue(DeclareQueue),
        /// Deletes a queue with its messages.
        0x04 DeleteQueue(DeleteQueue),
        /// Drops the ready messages of a queue.
        0x05 PurgeQueue(PurgeQueue),
        /// Asks for a page of queues.
        0x06 ListQueues(ListQueues),
        /// Looks at messages without taking them.
        0x07 PeekQueue(PeekQueue),
        /// Makes sure that an exchange exists.
        0x08 DeclareExchange(DeclareExchange),
        /// Deletes an exchange with its bindings.
        0x09 DeleteExchange(DeleteExchange),
        /// Asks for a page of exchanges.
        0x0a ListExchanges(ListExchanges),
        /// Makes sure that a binding exists.
        0x0b Bind(Bind),
        /// Removes a binding.
        0x0c Unbind(Unbind),
        /// Asks for a page of bindings.
        0x0d ListBindings(ListBindings),
        /// Publishes a batch of messages.
        0x10 Publish(PublishBody),
        /// Starts consuming a queue.
        0x11 Consume(Consume),
        /// Allows more messages to a consumer.
        0x12 Credit(Credit),
        /// Stops consuming.
        0x13 Cancel(Cancel),
        /// Done with messages.
        0x14 Ack(Ack),
        /// Gives messages back or drops them.
        0x15 Nack(Nack),
        /// Publishes and settles, all of it or nothing.
        0x16 Commit(Commit),
        /// Asks what became of a transaction, and ends it.
        0x17 Resolve(Resolve),
        /// Still here.
        0x70 Heartbeat(Heartbeat),
        /// Ends the connection.
        0x71 Close(Close),
    }
    messages: [0x10, 0x16]
    connection: [0x01, 0x02, 0x70, 0x71]
}

/// Opens the connection; answered by HelloOk or Refused. Its layout is the same in every version, and bytes
/// after its last field are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The protocol versions that the client speaks.
    pub versions: VersionRange,
    /// Who the client is, for listings: name and version of library and program.
    pub client_name: String,
}

impl Field for Hello {
    const MINIMUM: usize = 10;
    fn put(&self, sink: &mut impl Sink) {
        MAGIC.put(sink);
        self.versions.put(sink);
        self.client_name.put(sink);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        if <[u8; 4]>::get(reader) != Ok(MAGIC) {
            return Err(Problem::Magic.into());
        }
        let versions = VersionRange::get(reader).map_err(|malformed| malformed.within("versions"))?;
        let client_name = String::get(reader).map_err(|malformed| malformed.within("client_name"))?;
        reader.take_rest();
        Ok(Self { versions, client_name })
    }
}

/// Asks for a virtual host; answered by LoginOk or Refused.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Which virtual host.
    pub vhost: VhostName,
    /// [`MECHANISM_ANONYMOUS`] or [`MECHANISM_PLAIN`].
    pub mechanism: String,
    /// Who logs in; empty if anonymous.
    pub user: String,
    /// The proof; empty if anonymous. At most [`SECRET_LENGTH_MAX`] bytes: a longer one is refused.
    pub secret: Bytes,
    /// How often the client would like to hear from the broker, in milliseconds; 0 leaves it to the broker.
    pub heartbeat_ms: u32,
}

/// Without the secret, which has no place in a log.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("vhost", &self.vhost)
            .field("mechanism", &self.mechanism)
            .field("user", &self.user)
            .field("heartbeat_ms", &self.heartbeat_ms)
            .finish_non_exhaustive()
    }
}

impl Field for Login {
    const MINIMUM: usize = 14;
    fn put(&self, sink: &mut impl Sink) {
        self.vhost.put(sink);
        self.mechanism.put(sink);
        self.user.put(sink);
        self.secret.put(sink);
        self.heartbeat_ms.put(sink);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        let vhost = VhostName::get(reader).map_err(|malformed| malformed.within("vhost"))?;
        let mechanism = String::get(reader).map_err(|malformed| malformed.within("mechanism"))?;
        let user = String::get(reader).map_err(|malformed| malformed.within("user"))?;
        let secret = Bytes::get(reader).map_err(|malformed| malformed.within("secret"))?;
        if secret.len() > SECRET_LENGTH_MAX {
            return Err(too_long(secret.len(), SECRET_LENGTH_MAX).within("secret"));
        }
        let heartbeat_ms = u32::get(reader).map_err(|malformed| malformed.within("heartbeat_ms"))?;
        Ok(Self { vhost, mechanism, user, secret, heartbeat_ms })
    }
}

/// Something a declaration says beyond its fixed fields. A broker refuses those it does not know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Argument {
    /// Which: 1 to 255 bytes.
    pub name: String,
    /// As the argument's own description says; at most [`ARGUMENT_LENGTH_MAX`] bytes.
    pub value: Bytes,
}

impl Field for Argument {
    const MINIMUM: usize = 6;
    const LIST_MAXIMUM: usize = ARGUMENTS_MAX;
    fn put(&self, sink: &mut impl Sink) {
        self.name.put(sink);
        self.value.put(sink);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        let name = String::get(reader).map_err(|malformed| malformed.within("arguments"))?;
        if name.len() > NAME_LENGTH_MAX {
            return Err(too_long(name.len(), NAME_LENGTH_MAX).within("arguments"));
        }
        let value = Bytes::get(reader).map_err(|malformed| malformed.within("arguments"))?;
        if value.len() > ARGUMENT_LENGTH_MAX {
            return Err(too_long(value.len(), ARGUMENT_LENGTH_MAX).within("arguments"));
        }
        Ok(Self { name, value })
    }
}

fields! {
    /// Makes sure that a queue exists; answered by QueueOk or Failed.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DeclareQueue {
        /// Comes back in the answer.
        pub request: u32,
        /// The queue's name.
        pub queue: QueueName,
        /// Only ask whether it exists; the fields below are not looked at.
        pub passive: bool,
        /// The most messages it holds; publishes beyond it are refused. 0: no limit.
        pub max_length: u64,
        /// Whatever later versions add; at most [`ARGUMENTS_MAX`].
        pub arguments: Vec<Argument>,
    }
}

fields! {
    /// Deletes a queue with its messages; answered by Done (affected: messages dropped) or Failed.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DeleteQueue {
        /// Comes back in the answer.
        pub request: u32,
        /// The queue's name.
        pub queue: QueueName,
        /// Only if it holds no message.
        pub if_empty: bool,
        /// Only if nobody consumes it.
        pub if_unused: bool,
    }
}

fields! {
    /// Drops the ready messages of a queue; answered by Done (affected: messages dropped) or Failed.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PurgeQueue {
        /// Comes back in the answer.
        pub request: u32,
        /// The queue's name.
        pub queue: QueueName,
    }
}

fields! {
    /// Asks for queues in the order of their names' bytes; answered by QueueList or Failed.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ListQueues {
        /// Comes back in the answer.
        pub request: u32,
        /// Only those after this one.
        pub after: Option<QueueName>,
        /// At most this many; the broker may give fewer. 0 leaves it to the broker.
        pub limit: u32,
    }
}

fields! {
    /// Looks at messages without taking them; answered by PeekOk or Failed.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PeekQueue {
        /// Comes back in the answer.
        pub request: u32,
        /// The queue's name.
        pub queue: QueueName,
        /// The lowest sequence of interest; 0 for the oldest message.
        pub from_seq: u64,
        /// At most this many; the broker may give fewer. 0 leaves it to the broker.
        pub limit: u32,
    }
}

fields! {
    /// Makes sure that an exchange exists; answered by Done (affected: 1 if it is new) or Failed.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DeclareExchange {
        /// Comes back in the answer.
        pub request: u32,
        /// The exchange's name.
        pub exchange: ExchangeName,
        /// How it routes.
        pub kind: ExchangeKind,
        /// Only ask whether it exists, of whatever kind.
        pub passive: bool,
    }
}

fields! {
    /// Deletes an exchange with its bindings; answered by Done (affected: bindings removed) or Failed.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DeleteExchange {
        /// Comes back in the answer.
        pub request: u32,
        /// The exchange's name.
        pub exchange: ExchangeName,
        /// Only if it has no bindings.
        pub if_unused: bool,
    }
}

fields! {
    /// Asks for exchanges in the order of their names' bytes; answered by ExchangeList or Failed.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ListExchanges {
        /// Comes back in the answer.
        pub request: u32,
        /// Only those after this one.
        pub after: Option<ExchangeName>,
        /// At most this many; the broker may give fewer. 0 leaves it to the broker.
        pub limit: u32,
    }
}

fields! {
    /// Makes sure that a binding exists; answered by Done (affected: 1 if it is new) or Failed.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Bind {
        /// Comes back in the answer.
        pub request: u32,
        /// What to bind.
        pub binding: Binding,
    }
}

fields! {
    /// Removes a binding; answered by Done (affected: 1) or Failed.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Unbind {
        /// Comes back in the answer.
        pub request: u32,
        /// What to unbind.
        pub binding: Binding,
    }
}

fields! {
    /// Asks for bindings ordered by exchange, queue, key (as bytes); answered by BindingList or Failed.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ListBindings {
        /// Comes back in the answer.
        pub request: u32,
        /// Only those of this exchange; all if none.
        pub exchange: Option<ExchangeName>,
        /// Only those after this one.
        pub after: Option<Binding>,
        /// At most this many; the broker may give fewer. 0 leaves it to the broker.
        pub limit: u32,
    }
}

fields! {
    /// Starts consuming a queue; answered by ConsumeOk, before the first Deliver, or Failed.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Consume {
        /// Comes back in the answer.
        pub request: u32,
        /// The client's number for this consumer, unique on its channel.
        pub consumer: u32,
        /// Which queue.
        pub queue: QueueName,
        /// How many messages may be delivered before more credit is given.
        pub credit: u32,
        /// Messages count as acknowledged when they are sent.
        pub no_ack: bool,
        /// Nobody else consumes the queue meanwhile.
        pub exclusive: bool,
    }
}

fields! {
    /// Allows `add` more messages to a consumer; no answer.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Credit {
        /// Whose.
        pub consumer: u32,
        /// How many more.
        pub add: u32,
    }
}

fields! {
    /// Stops consuming; what the consumer holds goes back to the queue. Answered by CancelOk or Failed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Cancel {
        /// Comes back in the answer.
        pub request: u32,
        /// Which.
        pub consumer: u32,
    }
}

fields! {
    /// Done with these messages; answered by Settled once that is committed.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Ack {
        /// Comes back in the answer; 0: no answer wanted.
        pub request: u32,
        /// The consumer they were delivered to.
        pub consumer: u32,
        /// Their sequences. Those that the consumer does not hold are ignored.
        pub ranges: Vec<NumberRange>,
    }
}

fields! {
    /// Gives messages back, or drops them; answered by Settled once that is done.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Nack {
        /// Comes back in the answer; 0: no answer wanted.
        pub request: u32,
        /// The consumer they were delivered to.
        pub consumer: u32,
        /// True: back to their old place in the queue, marked as redelivered. False: dropped.
        pub requeue: bool,
        /// Their sequences. Those that the consumer does not hold are ignored.
        pub ranges: Vec<NumberRange>,
    }
}

/// A transaction, whole: answered by Committed once it is committed, or by Failed, and then nothing of it took effect.
/// Since version 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Comes back in the answer.
    pub request: u32,
    /// What it settles of the deliveries on this channel; takes effect before what it publishes. At most
    /// [`TRANSACTION_RANGES_MAX`] ranges in all.
    pub settlements: Vec<TransactionSettlement>,
    /// Its number, and what it publishes.
    pub transaction: TransactionBody,
}

impl Field for Commit {
    const MINIMUM: usize = 8 + TransactionBody::MINIMUM;
    fn put(&self, sink: &mut impl Sink) {
        self.request.put(sink);
        self.settlements.put(sink);
        self.transaction.put(sink);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        let request = u32::get(reader).map_err(|malformed| malformed.within("request"))?;
        let settlements: Vec<TransactionSettlement> =
            Vec::get(reader).map_err(|malformed| malformed.within("settlements"))?;
        let ranges = settlements.iter().map(|settlement| settlement.ranges.len()).sum();
        if ranges > TRANSACTION_RANGES_MAX {
            return Err(too_long(ranges, TRANSACTION_RANGES_MAX).within("settlements"));
        }
        let transaction =
            TransactionBody::get(reader).map_err(|malformed| malformed.within("transaction"))?;
        Ok(Self { request, settlements, transaction })
    }
}

fields! {
    /// Ends a transaction whose Commit got no answer: answered by Committed if it is committed, otherwise by Failed, and
    /// then it never will be. Since version 2.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Resolve {
        /// Comes back in the answer.
        pub request: u32,
        /// Whose transaction.
        pub producer: ProducerId,
        /// Its number, at least 1.
        pub number: u64,
        /// Every number below this is settled: at least 1, at most `number`.
        pub first_unsettled: u64,
    }
}
