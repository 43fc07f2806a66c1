//! A batch of messages as the client sends it, the leader logs it and replicas apply it: one piece of bytes.
//!
//! ```text
//! producer u128 | first u64 | first_unsettled u64 | exchange short | key short | count u32 | message*
//! message = length u32 | properties_length u16 | properties | body
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::frame::{NumberRange, ProducerId};
use crate::limits::{BATCH_MESSAGES_MAX, MESSAGE_LIMIT_MAX};
use crate::message::{self, Properties};
use crate::name::{self, ExchangeName, RoutingKey};
use crate::wire::{
    Field, Malformed, Problem, Reader, Sink, announce, length, put_short, too_long, truncated,
};

const FIRST_UNSETTLED_AT: usize = 24;
const MESSAGE_LENGTH_FIELD: usize = 4;

/// The fields before the messages; can be read without looking at the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishHeader<'a> {
    /// Who publishes.
    pub producer: ProducerId,
    /// The first message's number; the others follow by ones. Numbers begin at 1.
    pub first: u64,
    /// Every number below this is settled: the client will not send it again. May lag, never leads.
    pub first_unsettled: u64,
    /// Where to: a valid exchange name.
    pub exchange: &'a str,
    /// Routed by: a valid key.
    pub key: &'a str,
    /// How many messages; at least one.
    pub count: u32,
    /// Where the first message's length field is.
    pub messages_at: usize,
}

impl<'a> PublishHeader<'a> {
    /// Reads and checks the header of a batch; the messages are not looked at.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor { bytes, at: 0 };
        let producer = ProducerId(u128::from_le_bytes(cursor.array("producer")?));
        let first = u64::from_le_bytes(cursor.array("first")?);
        let first_unsettled = u64::from_le_bytes(cursor.array("first_unsettled")?);
        let exchange = cursor.name("exchange", ExchangeName::MAY_BE_EMPTY)?;
        let key = cursor.name("key", RoutingKey::MAY_BE_EMPTY)?;
        let count = u32::from_le_bytes(cursor.array("count")?);
        if first == 0 {
            return Err(Malformed::from(Problem::Value(first)).within("first"));
        }
        if first_unsettled == 0 || first_unsettled > first {
            return Err(Malformed::from(Problem::Value(first_unsettled)).within("first_unsettled"));
        }
        if count == 0 || first.checked_add(u64::from(count) - 1).is_none() {
            return Err(Malformed::from(Problem::Value(count.into())).within("count"));
        }
        if count > BATCH_MESSAGES_MAX {
            return Err(too_long(length(count), length(BATCH_MESSAGES_MAX)).within("count"));
        }
        Ok(Self { producer, first, first_unsettled, exchange, key, count, messages_at: cursor.at })
    }

    /// The messages' numbers.
    pub fn numbers(&self) -> NumberRange {
        let last = self.first + (u64::from(self.count) - 1);
        NumberRange::new(self.first, last).expect("a batch has at least one message")
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Malformed> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let array = rest.first_chunk::<N>().ok_or_else(|| truncated(N, rest.len()).within(field))?;
        self.at += N;
        Ok(*array)
    }

    fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], Malformed> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..length).ok_or_else(|| truncated(length, rest.len()).within(field))?;
        self.at += length;
        Ok(taken)
    }

    fn name(&mut self, field: &'static str, may_be_empty: bool) -> Result<&'a str, Malformed> {
        let length = u16::from_le_bytes(self.array(field)?);
        let bytes = self.take(length.into(), field)?;
        name::check(bytes, may_be_empty).map_err(|problem| Malformed::from(problem).within(field))
    }
}

/// A whole batch, checked once: counts, lengths, names, numbers and every message's properties are in order, so
/// that later stages can store and trust offsets into it. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishBody {
    bytes: Bytes,
    producer: ProducerId,
    first: u64,
    first_unsettled: u64,
    count: u32,
    exchange_length: u16,
    key_length: u16,
    messages_at: usize,
    largest_body: u32,
}

/// Where one message lies in its batch, without the length field before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageSpan {
    /// The message's first byte, counted from the beginning of the batch.
    pub offset: u32,
    /// How many bytes: properties and body, as [`crate::message::Message::parse`] takes them.
    pub length: u32,
}

/// One message of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchMessage {
    /// Its publisher's number for it.
    pub number: u64,
    /// Where it lies.
    pub span: MessageSpan,
    /// Its bytes, shared with the batch.
    pub bytes: Bytes,
}

impl PublishBody {
    /// Checks everything about a batch whose bytes may come from anywhere.
    pub fn parse(bytes: Bytes) -> Result<Self, Malformed> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(too_long(bytes.len(), length(u32::MAX)));
        }
        let header = PublishHeader::parse(&bytes)?;
        let mut cursor = Cursor { bytes: &bytes, at: header.messages_at };
        let mut largest_body = 0;
        for _ in 0..header.count {
            let announced = u32::from_le_bytes(cursor.array("message")?);
            let message = cursor.take(length(announced), "message")?;
            let body_at = message::check(message)?;
            largest_body = largest_body.max(announced.saturating_sub(announce(body_at)));
        }
        if cursor.at != bytes.len() {
            return Err(Problem::TrailingBytes(announce(bytes.len() - cursor.at).into()).into());
        }
        if largest_body > MESSAGE_LIMIT_MAX {
            return Err(too_long(length(largest_body), length(MESSAGE_LIMIT_MAX)).within("message"));
        }
        let short = |text: &str| u16::try_from(text.len()).expect("names are short");
        Ok(Self {
            producer: header.producer,
            first: header.first,
            first_unsettled: header.first_unsettled,
            count: header.count,
            exchange_length: short(header.exchange),
            key_length: short(header.key),
            messages_at: header.messages_at,
            largest_body,
            bytes,
        })
    }

    /// Who publishes.
    pub fn producer(&self) -> ProducerId {
        self.producer
    }

    /// The first message's number.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The last message's number.
    pub fn last(&self) -> u64 {
        self.numbers().last()
    }

    /// The messages' numbers.
    pub fn numbers(&self) -> NumberRange {
        NumberRange::new(self.first, self.first + (u64::from(self.count) - 1)).expect("a batch is not empty")
    }

    /// Every number below this is settled: see [`PublishHeader::first_unsettled`].
    pub fn first_unsettled(&self) -> u64 {
        self.first_unsettled
    }

    /// How many messages; at least one.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Where to: a valid exchange name.
    pub fn exchange(&self) -> &str {
        self.name_at(FIRST_UNSETTLED_AT + 8, self.exchange_length)
    }

    /// Routed by: a valid key.
    pub fn key(&self) -> &str {
        self.name_at(FIRST_UNSETTLED_AT + 8 + 2 + usize::from(self.exchange_length), self.key_length)
    }

    fn name_at(&self, length_field: usize, length: u16) -> &str {
        let start = length_field + 2;
        let bytes = self.bytes.get(start..start + usize::from(length)).expect("the batch was checked");
        std::str::from_utf8(bytes).expect("the batch's names were checked")
    }

    /// The length of the longest message body, to compare with the limit in force.
    pub fn largest_body(&self) -> u32 {
        self.largest_body
    }

    /// The batch as it came and as it is logged.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The batch as it came and as it is logged.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Where each message lies, in order; touches no reference counts.
    pub fn spans(&self) -> MessageSpans<'_> {
        MessageSpans { bytes: &self.bytes, at: self.messages_at, left: self.count }
    }

    /// Each message, in order, sharing the batch's bytes.
    pub fn messages(&self) -> impl ExactSizeIterator<Item = BatchMessage> {
        let mut number = self.first;
        self.spans().map(move |span| {
            let message = BatchMessage { number, span, bytes: self.slice(span) };
            number = number.wrapping_add(1);
            message
        })
    }

    /// The bytes of one message of this batch. A span of another batch gives what lies there, empty if nothing.
    pub fn slice(&self, span: MessageSpan) -> Bytes {
        let start = length(span.offset);
        let end = start.saturating_add(length(span.length));
        if end <= self.bytes.len() { self.bytes.slice(start..end) } else { Bytes::new() }
    }
}

impl Field for PublishBody {
    const MINIMUM: usize = 40;
    fn put(&self, sink: &mut impl Sink) {
        sink.put_shared(&self.bytes);
    }
    fn get(reader: &mut Reader) -> Result<Self, Malformed> {
        Self::parse(reader.take_rest())
    }
}

/// Goes over where the messages lie.
#[derive(Clone, Debug)]
pub struct MessageSpans<'a> {
    bytes: &'a [u8],
    at: usize,
    left: u32,
}

impl Iterator for MessageSpans<'_> {
    type Item = MessageSpan;

    fn next(&mut self) -> Option<MessageSpan> {
        self.left = self.left.checked_sub(1)?;
        let mut cursor = Cursor { bytes: self.bytes, at: self.at };
        let announced = u32::from_le_bytes(cursor.array("message").expect("the batch was checked"));
        let span = MessageSpan { offset: announce(cursor.at), length: announced };
        self.at = cursor.at + length(announced);
        Some(span)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (length(self.left), Some(length(self.left)))
    }
}

impl ExactSizeIterator for MessageSpans<'_> {}

/// Why a message does not go into a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    /// The batch has [`BATCH_MESSAGES_MAX`] messages, or its numbers would overflow: send it and begin another.
    #[error("the batch is full")]
    Full,
    /// The body is longer than the limit, which no batch can help.
    #[error("the message's body has {length} bytes, the limit is {limit}")]
    TooLarge {
        /// The body's length.
        length: usize,
        /// The limit.
        limit: u32,
    },
}

/// Puts a batch together.
#[derive(Debug)]
pub struct PublishBuilder {
    buffer: BytesMut,
    first: u64,
    count: u32,
    count_at: usize,
}

impl PublishBuilder {
    /// An empty batch. `first` is its first message's number; `first_unsettled` is the lowest number that the
    /// client might still send again, at most `first`. Numbers begin at 1.
    pub fn new(
        producer: ProducerId,
        first: u64,
        first_unsettled: u64,
        exchange: &ExchangeName,
        key: &RoutingKey,
    ) -> Self {
        assert!(1 <= first_unsettled && first_unsettled <= first, "numbers begin at 1 and settle in order");
        let mut buffer = BytesMut::new();
        producer.put(&mut buffer);
        Field::put(&first, &mut buffer);
        Field::put(&first_unsettled, &mut buffer);
        put_short(exchange.as_str().as_bytes(), &mut buffer);
        put_short(key.as_str().as_bytes(), &mut buffer);
        let count_at = buffer.len();
        buffer.put_u32_le(0);
        Self { buffer, first, count: 0, count_at }
    }

    /// How many messages are in it.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How many bytes the batch has by now.
    pub fn length(&self) -> usize {
        self.buffer.len()
    }

    /// How many bytes a message adds.
    pub fn message_length(properties: &Properties, body: &[u8]) -> usize {
        MESSAGE_LENGTH_FIELD + properties.encoded_length() + body.len()
    }

    /// Adds a message and gives its number. `limit` is the message limit of the connection.
    pub fn push(&mut self, properties: &Properties, body: &[u8], limit: u32) -> Result<u64, BatchError> {
        let limit = limit.min(MESSAGE_LIMIT_MAX);
        if body.len() > length(limit) {
            return Err(BatchError::TooLarge { length: body.len(), limit });
        }
        let number = self.first.checked_add(self.count.into()).ok_or(BatchError::Full)?;
        let added = Self::message_length(properties, body);
        let fits = self.buffer.len().checked_add(added).is_some_and(|total| u32::try_from(total).is_ok());
        if self.count >= BATCH_MESSAGES_MAX || !fits {
            return Err(BatchError::Full);
        }
        self.buffer.reserve(added);
        self.buffer.put_u32_le(announce(added - MESSAGE_LENGTH_FIELD));
        properties.put(&mut self.buffer);
        self.buffer.put_slice(body);
        self.count += 1;
        Ok(number)
    }

    /// The finished batch; none if it has no messages.
    pub fn finish(mut self) -> Option<PublishBody> {
        if self.count == 0 {
            return None;
        }
        let count = self.count.to_le_bytes();
        let field = self.buffer.get_mut(self.count_at..self.count_at + count.len());
        field.expect("the count's place was written first").copy_from_slice(&count);
        Some(PublishBody::parse(self.buffer.freeze()).expect("a batch built from valid parts is valid"))
    }
}

#[cfg(test)]
mod tests;
