//! A message's bytes apart from its entry: how a spilled body is written, and how one is cut out of an entry.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_protocol::message::Message;
use quorate_protocol::publish::PublishHeader;

use crate::codec::{CodecError, Reader, put_text};
use crate::machine::SlotView;

/// One message with where it was published to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// The exchange; empty for straight to a queue.
    pub exchange: String,
    /// The routing key.
    pub key: String,
    /// Properties and body, as published.
    pub message: Bytes,
}

impl Body {
    /// The message of this slot in its entry's data; `None` if the slot does not fit the entry, which only damage
    /// can bring about.
    pub fn cut(data: &Bytes, slot: &SlotView) -> Option<Self> {
        let message = cut_message(data, slot)?;
        let (exchange, key) = routed(data, slot)?;
        Some(Self { exchange: exchange.to_owned(), key: key.to_owned(), message })
    }

    /// The value in the state store.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(4 + self.exchange.len() + self.key.len() + self.message.len());
        put_text(&mut out, &self.exchange);
        put_text(&mut out, &self.key);
        out.put_slice(&self.message);
        out.freeze()
    }

    /// From the value in the state store.
    ///
    /// # Errors
    /// It is no message.
    pub fn decode(value: Bytes) -> Result<Self, CodecError> {
        let mut reader = Reader::new(value);
        let body =
            Self { exchange: reader.text("exchange")?, key: reader.text("key")?, message: reader.rest() };
        Message::parse(&body.message).map_err(|_| CodecError::Unknown("message"))?;
        Ok(body)
    }
}

/// Only the message's bytes, shared with the entry.
pub(crate) fn cut_message(data: &Bytes, slot: &SlotView) -> Option<Bytes> {
    let start = usize::try_from(slot.message_offset).ok()?;
    let end = start.checked_add(usize::try_from(slot.length).ok()?)?;
    if end > data.len() {
        return None;
    }
    Some(data.slice(start..end))
}

/// Exchange and key of the batch that a slot belongs to.
pub(crate) fn routed<'a>(data: &'a Bytes, slot: &SlotView) -> Option<(&'a str, &'a str)> {
    let batch = data.get(usize::try_from(slot.batch_offset).ok()?..)?;
    let header = PublishHeader::parse(batch).ok()?;
    Some((header.exchange, header.key))
}
