//! What clients and brokers say to each other: one struct per frame, its fields in the order of their bytes.

mod client;
mod server;

use std::fmt;

use crate::wire::{Field, Malformed, Measure, Problem, Reader, Sink, fields};

pub use client::{
    Ack, Argument, Bind, Cancel, ClientFrame, Commit, Consume, Credit, DeclareExchange, DeclareQueue,
    DeleteExchange, DeleteQueue, Hello, ListBindings, ListExchanges, ListQueues, Login, MAGIC,
    MECHANISM_ANONYMOUS, MECHANISM_PLAIN, Nack, PeekQueue, PurgeQueue, Resolve, Unbind,
};
pub use server::{
    BindingList, Blocked, CancelOk, Committed, Confirm, ConsumeOk, ConsumerClosed, Deliver, Delivery, Done,
    ExchangeEntry, ExchangeList, Failed, HelloOk, LoginOk, PeekOk, Peeked, PublishRefused, QueueEntry,
    QueueList, QueueOk, Refused, ServerFrame, Settled, Unblocked,
};

use crate::fault::FaultCode;
use crate::name::{ExchangeName, QueueName, RoutingKey};

/// The flag of a frame's header that allows whoever does not know its kind to skip it.
pub const FLAG_MAY_SKIP: u8 = 0x80;

/// Names a publisher over all its connections: drawn at random, once, by the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub u128);

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Field for ProducerId {
    const MINIMUM: usize = 16;
    fn put(&self, sink: &mut impl Sink) {
        self.0.put(sink);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        u128::get(reader).map(Self)
    }
}

/// Consecutive numbers, both ends included; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NumberRange {
    first: u64,
    last: u64,
}

impl NumberRange {
    /// The numbers from `first` to `last`; none if `last` is smaller.
    pub fn new(first: u64, last: u64) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// This number alone.
    pub fn one(number: u64) -> Self {
        Self { first: number, last: number }
    }

    /// The lowest number.
    pub fn first(self) -> u64 {
        self.first
    }

    /// The highest number.
    pub fn last(self) -> u64 {
        self.last
    }

    /// How many numbers, at most `u64::MAX`.
    pub fn count(self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }

    /// Whether `number` is one of them.
    pub fn contains(self, number: u64) -> bool {
        self.first <= number && number <= self.last
    }

    /// The fewest ranges that hold exactly these ascending numbers; a number that does not ascend begins a new
    /// range.
    pub fn collect(ascending: impl IntoIterator<Item = u64>) -> Vec<Self> {
        let mut ranges: Vec<Self> = Vec::new();
        for number in ascending {
            match ranges.last_mut() {
                Some(range) if range.last.checked_add(1) == Some(number) => range.last = number,
                _ => ranges.push(Self::one(number)),
            }
        }
        ranges
    }
}

impl Field for NumberRange {
    const MINIMUM: usize = 16;
    fn put(&self, sink: &mut impl Sink) {
        self.first.put(sink);
        self.last.put(sink);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        let first = u64::get(reader)?;
        let last = u64::get(reader)?;
        Self::new(first, last).ok_or_else(|| Problem::Value(last).into())
    }
}

/// How an exchange chooses queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExchangeKind {
    /// Bindings whose key equals the message's.
    Direct,
    /// Every binding.
    Fanout,
    /// Bindings whose key is a pattern that matches the message's ([`crate::pattern`]).
    Topic,
}

impl ExchangeKind {
    /// Its number on the wire.
    pub fn number(self) -> u8 {
        match self {
            Self::Direct => 1,
            Self::Fanout => 2,
            Self::Topic => 3,
        }
    }

    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Direct),
            2 => Some(Self::Fanout),
            3 => Some(Self::Topic),
            _ => None,
        }
    }

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Direct, Self::Fanout, Self::Topic].into_iter().find(|kind| kind.name() == name)
    }
}

impl Field for ExchangeKind {
    const MINIMUM: usize = 1;
    fn put(&self, sink: &mut impl Sink) {
        self.number().put(sink);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        let number = u8::get(reader)?;
        Self::from_number(number).ok_or_else(|| Problem::Value(number.into()).into())
    }
}

/// What a node does before it acknowledges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SyncPolicy {
    /// Writes and makes durable: survives power loss.
    #[default]
    Sync,
    /// Writes to the operating system: survives the process.
    WriteNoSync,
    /// Nothing yet: survives the failure of a minority.
    NoSync,
}

impl fmt::Display for SyncPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sync => "sync",
            Self::WriteNoSync => "write-no-sync",
            Self::NoSync => "no-sync",
        })
    }
}

/// What a confirm guaranteed: the leader's and the replicas' policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Durability {
    /// On the leader.
    pub leader: SyncPolicy,
    /// On each replica of the majority.
    pub replicas: SyncPolicy,
}

impl Durability {
    /// One byte: the leader's policy in the low half, the replicas' in the high half.
    pub fn number(self) -> u8 {
        let half = |policy| match policy {
            SyncPolicy::Sync => 0,
            SyncPolicy::WriteNoSync => 1,
            SyncPolicy::NoSync => 2,
        };
        half(self.leader) | half(self.replicas) << 4
    }

    /// The reverse of [`Self::number`].
    pub fn from_number(number: u8) -> Option<Self> {
        let half = |number| match number {
            0 => Some(SyncPolicy::Sync),
            1 => Some(SyncPolicy::WriteNoSync),
            2 => Some(SyncPolicy::NoSync),
            _ => None,
        };
        Some(Self { leader: half(number & 0x0f)?, replicas: half(number >> 4)? })
    }
}

/// As operators set it: `sync,no-sync`.
impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.leader, self.replicas)
    }
}

impl Field for Durability {
    const MINIMUM: usize = 1;
    fn put(&self, sink: &mut impl Sink) {
        self.number().put(sink);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        let number = u8::get(reader)?;
        Self::from_number(number).ok_or_else(|| Problem::Value(number.into()).into())
    }
}

fields! {
    /// Messages that `exchange` receives with a fitting key go to `queue`.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub struct Binding {
        /// From here.
        pub exchange: ExchangeName,
        /// To here.
        pub queue: QueueName,
        /// If the message's key fits this one, as the exchange's kind says.
        pub key: RoutingKey,
    }
}

fields! {
    /// Both directions: nothing to say, still here.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Heartbeat {}
}

fields! {
    /// Both directions: the sender closes the connection after this frame.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Close {
        /// Why; none if everything is in order.
        pub code: Option<FaultCode>,
        /// For people.
        pub text: String,
        /// From a broker: where the leader is, `host:port`; empty if not known.
        pub leader_address: String,
    }
}

/// A set of frames that one side sends.
#[allow(private_interfaces, private_bounds, reason = "the trait is sealed")]
pub trait Frame: Sized + sealed::Sealed {
    /// The kind's number on the wire.
    fn kind(&self) -> u8;
    /// The kind's name in documents and messages.
    fn kind_name(&self) -> &'static str;
    /// Every kind of the set: number and name.
    const KINDS: &'static [(u8, &'static str)];
    /// Whether frames of this kind carry messages, and so may be longer.
    fn carries_messages(kind: u8) -> bool;
    /// Whether frames of this kind are about the connection and belong to channel 0.
    fn is_about_connection(kind: u8) -> bool;

    #[doc(hidden)]
    fn put_payload(&self, sink: &mut impl Sink);
    #[doc(hidden)]
    fn get_payload(kind: u8, reader: &mut Reader) -> Option<Result<Self, Malformed>>;

    /// How many bytes follow the header.
    fn payload_length(&self) -> usize {
        let mut measure = Measure::default();
        self.put_payload(&mut measure);
        measure.0
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::ClientFrame {}
    impl Sealed for super::ServerFrame {}
}

/// Defines one side's enum of frames from its table of kinds.
macro_rules! frames {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $($(#[$variant_meta:meta])* $kind:literal $variant:ident($type:ty),)*
        }
        messages: [$($with_messages:literal),*]
        connection: [$($about_connection:literal),*]
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant($type),)*
        }

        #[allow(private_interfaces, private_bounds, reason = "the trait is sealed")]
        impl $crate::frame::Frame for $name {
            fn kind(&self) -> u8 {
                match self {
                    $(Self::$variant(_) => $kind,)*
                }
            }
            fn kind_name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => stringify!($variant),)*
                }
            }
            const KINDS: &'static [(u8, &'static str)] = &[$(($kind, stringify!($variant))),*];
            fn carries_messages(kind: u8) -> bool {
                [$($with_messages),*].contains(&kind)
            }
            fn is_about_connection(kind: u8) -> bool {
                [$($about_connection),*].contains(&kind)
            }
            fn put_payload(&self, sink: &mut impl $crate::wire::Sink) {
                match self {
                    $(Self::$variant(payload) => $crate::wire::Field::put(payload, sink),)*
                }
            }
            fn get_payload(
                kind: u8,
                reader: &mut $crate::wire::Reader,
            ) -> Option<Result<Self, $crate::wire::Malformed>> {
                match kind {
                    $($kind => Some(<$type as $crate::wire::Field>::get(reader).map(Self::$variant)),)*
                    _ => None,
                }
            }
        }

        $(
            impl From<$type> for $name {
                fn from(payload: $type) -> Self {
                    Self::$variant(payload)
                }
            }
        )*
    };
}
use frames;
