//! A transaction as the client sends it, the leader logs it and replicas apply it: all of it or nothing.
//!
//! ```text
//! producer u128 | number u64 | first_unsettled u64 | batch*
//! batch = length u32 | as a Publish frame's payload: the same producer, first = place of its first message in the
//!         transaction, first_unsettled = 1
//! ```
//!
//! The number is the transaction's, one for all that is in it: whoever has it remembered knows of the whole.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::frame::{NumberRange, ProducerId};
use crate::limits::{Limits, TRANSACTION_MESSAGES_MAX, TRANSACTION_RANGES_MAX, TRANSACTION_SETTLEMENTS_MAX};
use crate::message::Properties;
use crate::name::{ExchangeName, RoutingKey};
use crate::publish::{BatchError, PublishBody, PublishBuilder};
use crate::wire::{Field, Malformed, Problem, Reader, Sink, announce, length, too_long};

/// Bytes before the first batch.
const HEADER: usize = 32;
/// Bytes of a batch beside its names and messages: its length, and Publish's fixed fields.
const BATCH_FIXED: usize = 4 + 16 + 8 + 8 + 2 + 2 + 4;

/// Deliveries that a transaction settles: acknowledged, or dropped for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionSettlement {
    /// The consumer they were delivered to.
    pub consumer: u32,
    /// False: acknowledged. True: dropped.
    pub dropped: bool,
    /// Their sequences; the consumer has to hold each of them.
    pub ranges: Vec<NumberRange>,
}

impl TransactionSettlement {
    /// How many bytes it takes.
    pub fn length(&self) -> usize {
        Self::MINIMUM + self.ranges.len() * NumberRange::MINIMUM
    }
}

impl Field for TransactionSettlement {
    const MINIMUM: usize = 9;
    const LIST_MAXIMUM: usize = TRANSACTION_SETTLEMENTS_MAX;
    fn put(&self, sink: &mut impl Sink) {
        self.consumer.put(sink);
        self.dropped.put(sink);
        self.ranges.put(sink);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        let (consumer, dropped) = (u32::get(reader)?, bool::get(reader)?);
        let ranges: Vec<NumberRange> = Vec::get(reader)?;
        if ranges.len() > TRANSACTION_RANGES_MAX {
            return Err(too_long(ranges.len(), TRANSACTION_RANGES_MAX));
        }
        Ok(Self { consumer, dropped, ranges })
    }
}

/// A batch of a transaction, and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionBatch {
    /// Its first byte, counted from the beginning of the transaction's bytes.
    pub offset: u32,
    /// The messages; the numbers are their places in the transaction, from 1.
    pub body: PublishBody,
}

/// What a transaction publishes, checked once: batches, places, names and every message are in order. Cloning shares
/// the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionBody {
    producer: ProducerId,
    number: u64,
    first_unsettled: u64,
    /// Their bytes, each behind its length.
    bytes: Bytes,
    batches: Vec<TransactionBatch>,
}

impl TransactionBody {
    /// Checks everything about a transaction whose bytes may come from anywhere.
    ///
    /// # Errors
    /// They are none, or have more messages than a transaction may have.
    pub fn parse(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let producer = ProducerId::get(&mut reader).map_err(|it| it.within("producer"))?;
        let number = u64::get(&mut reader).map_err(|it| it.within("number"))?;
        let first_unsettled = u64::get(&mut reader).map_err(|it| it.within("first_unsettled"))?;
        if number == 0 {
            return Err(Malformed::from(Problem::Value(number)).within("number"));
        }
        if first_unsettled == 0 || first_unsettled > number {
            return Err(Malformed::from(Problem::Value(first_unsettled)).within("first_unsettled"));
        }
        let rest = reader.take_rest();
        if u32::try_from(HEADER + rest.len()).is_err() {
            return Err(too_long(rest.len(), length(u32::MAX)));
        }
        let batches = split(producer, &rest)?;
        Ok(Self { producer, number, first_unsettled, bytes: rest, batches })
    }

    /// Whose transaction: numbered apart from what anybody publishes otherwise.
    pub fn producer(&self) -> ProducerId {
        self.producer
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Every number below this is settled: its outcome is known, and it will not be sent again.
    pub fn first_unsettled(&self) -> u64 {
        self.first_unsettled
    }

    /// The same transaction, sent again later.
    #[must_use]
    pub fn with_first_unsettled(self, first_unsettled: u64) -> Self {
        let number = self.number;
        self.numbered(number, first_unsettled)
    }

    /// The same content under another number.
    #[must_use]
    pub fn numbered(self, number: u64, first_unsettled: u64) -> Self {
        assert!((1..=number).contains(&first_unsettled), "numbers begin at 1 and settle in order");
        Self { number, first_unsettled, ..self }
    }

    /// What it publishes, in order.
    pub fn batches(&self) -> &[TransactionBatch] {
        &self.batches
    }

    /// How many messages.
    pub fn messages(&self) -> u64 {
        self.batches.last().map_or(0, |batch| batch.body.last())
    }

    /// The length of the longest message body, to compare with the limit in force.
    pub fn largest_body(&self) -> u32 {
        self.batches.iter().map(|batch| batch.body.largest_body()).max().unwrap_or(0)
    }

    /// How many bytes it takes.
    pub fn length(&self) -> usize {
        HEADER + self.bytes.len()
    }

    /// Appends it to bytes that are logged.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.reserve(self.length());
        out.extend_from_slice(&self.producer.0.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.first_unsettled.to_le_bytes());
        out.extend_from_slice(&self.bytes);
    }
}

/// The batches in these bytes.
fn split(producer: ProducerId, bytes: &Bytes) -> Result<Vec<TransactionBatch>, Malformed> {
    let mut reader = Reader::new(bytes.clone());
    let mut batches: Vec<TransactionBatch> = Vec::new();
    let (mut at, mut place) = (0, 1_u64);
    while at < bytes.len() {
        let batch = Bytes::get(&mut reader).map_err(|it| it.within("batch"))?;
        let offset = announce(HEADER + at + 4);
        at += 4 + batch.len();
        let body = PublishBody::parse(batch)?;
        if body.producer() != producer || body.first() != place || body.first_unsettled() != 1 {
            return Err(Malformed::from(Problem::Value(body.first())).within("batch"));
        }
        place = body.last().saturating_add(1);
        let messages = usize::try_from(body.last()).unwrap_or(usize::MAX);
        if messages > TRANSACTION_MESSAGES_MAX {
            return Err(too_long(messages, TRANSACTION_MESSAGES_MAX).within("messages"));
        }
        batches.push(TransactionBatch { offset, body });
    }
    Ok(batches)
}

impl Field for TransactionBody {
    const MINIMUM: usize = HEADER;
    fn put(&self, sink: &mut impl Sink) {
        self.producer.put(sink);
        self.number.put(sink);
        self.first_unsettled.put(sink);
        sink.put_shared(&self.bytes);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        Self::parse(reader.take_rest())
    }
}

/// Why a message does not go into a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TransactionError {
    /// The transaction has as much as one may have: commit it and begin another.
    #[error("the transaction has {messages} messages and {bytes} bytes, at most {limit} bytes go into one")]
    Full {
        /// Its messages.
        messages: u64,
        /// Its bytes.
        bytes: usize,
        /// How many bytes it may have.
        limit: usize,
    },
    /// The body is longer than the limit, which no transaction can help.
    #[error("the message's body has {length} bytes, the limit is {limit}")]
    TooLarge {
        /// The body's length.
        length: usize,
        /// The limit.
        limit: u32,
    },
}

/// Puts a transaction together.
#[derive(Debug)]
pub struct TransactionBuilder {
    producer: ProducerId,
    number: u64,
    closed: BytesMut,
    messages: u64,
    open: Option<OpenBatch>,
}

#[derive(Debug)]
struct OpenBatch {
    exchange: ExchangeName,
    key: RoutingKey,
    builder: PublishBuilder,
}

impl TransactionBuilder {
    /// An empty transaction of this number, at least 1.
    pub fn new(producer: ProducerId, number: u64) -> Self {
        assert!(number > 0, "numbers begin at 1");
        Self { producer, number, closed: BytesMut::new(), messages: 0, open: None }
    }

    /// How many messages are in it.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// How many bytes it has by now.
    pub fn length(&self) -> usize {
        HEADER + self.closed.len() + self.open.as_ref().map_or(0, |open| 4 + open.builder.length())
    }

    /// Adds a message. `reserved` bytes of the frame are for something else.
    ///
    /// # Errors
    /// There is no room for it; the transaction is as it was.
    pub fn push(
        &mut self,
        exchange: &ExchangeName,
        key: &RoutingKey,
        (properties, body): (&Properties, &[u8]),
        limits: Limits,
        reserved: usize,
    ) -> Result<(), TransactionError> {
        if body.len() > length(limits.message()) {
            return Err(TransactionError::TooLarge { length: body.len(), limit: limits.message() });
        }
        let continues = self.open.as_ref().is_some_and(|open| open.exchange == *exchange && open.key == *key);
        let names = exchange.as_str().len() + key.as_str().len();
        let added = PublishBuilder::message_length(properties, body)
            + if continues { 0 } else { BATCH_FIXED + names };
        let limit = length(limits.message_frame()).saturating_sub(reserved);
        let is_full = self.messages >= TRANSACTION_MESSAGES_MAX as u64 || self.length() + added > limit;
        if is_full {
            return Err(TransactionError::Full { messages: self.messages, bytes: self.length(), limit });
        }
        if !continues {
            self.close();
            let builder = PublishBuilder::new(self.producer, self.messages + 1, 1, exchange, key);
            self.open = Some(OpenBatch { exchange: exchange.clone(), key: key.clone(), builder });
        }
        let open = self.open.as_mut().expect("a batch was just opened");
        open.builder.push(properties, body, limits.message()).map_err(|error| match error {
            BatchError::TooLarge { length, limit } => TransactionError::TooLarge { length, limit },
            BatchError::Full => unreachable!("a transaction has no more messages than a batch may have"),
        })?;
        self.messages += 1;
        Ok(())
    }

    fn close(&mut self) {
        let Some(batch) = self.open.take().and_then(|open| open.builder.finish()) else { return };
        self.closed.put_u32_le(announce(batch.bytes().len()));
        self.closed.put_slice(batch.bytes());
    }

    /// The finished transaction, with every number below its own settled.
    pub fn finish(mut self) -> TransactionBody {
        self.close();
        let bytes = self.closed.freeze();
        let batches = split(self.producer, &bytes).expect("a transaction built from valid parts is valid");
        let (producer, number) = (self.producer, self.number);
        TransactionBody { producer, number, first_unsettled: number, bytes, batches }
    }
}

#[cfg(test)]
mod tests;
