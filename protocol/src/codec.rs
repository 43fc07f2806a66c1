//! Frames to bytes and bytes to frames, incrementally.
//!
//! A frame is `length u32 | kind u8 | flags u8 | channel u16 | payload`; `length` counts the payload. Nothing is
//! allocated by what a length announces: the caller's buffer grows only as bytes arrive, and a length beyond the
//! limit is refused as soon as the header is there.

use std::marker::PhantomData;

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use crate::fault::FaultCode;
use crate::frame::{ClientFrame, FLAG_MAY_SKIP, Frame, ServerFrame};
use crate::limits::{FRAME_LIMIT_BEFORE_LOGIN, HEADER_LENGTH, Limits};
use crate::wire::{Field, Malformed, Measure, Reader, Sink, announce, length};

/// What a broker reads its clients with.
pub type BrokerDecoder = Decoder<ClientFrame>;
/// What a client reads its broker with.
pub type ClientDecoder = Decoder<ServerFrame>;

/// Takes frames of one direction off the front of a buffer.
#[derive(Debug)]
pub struct Decoder<F> {
    limits: Limits,
    logged_in: bool,
    /// Bytes still to be thrown away of a frame that may be skipped.
    skip: usize,
    /// What ended the stream; there is no place to go on from.
    broken: Option<DecodeError>,
    frames: PhantomData<fn() -> F>,
}

/// Why the connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Longer than the limit in force.
    #[error("a frame of kind {kind:#04x} announces {length} bytes, the limit is {limit}")]
    TooLarge {
        /// Its kind.
        kind: u8,
        /// What it announces.
        length: u32,
        /// What is allowed now.
        limit: u32,
    },
    /// Neither known nor skippable.
    #[error("a frame of the unknown kind {kind:#04x}, which may not be skipped")]
    UnknownKind {
        /// Its kind.
        kind: u8,
    },
    /// Header flags without meaning.
    #[error("a frame of kind {kind:#04x} has the unknown flags {flags:#04x}")]
    UnknownFlags {
        /// Its kind.
        kind: u8,
        /// Its flags.
        flags: u8,
    },
    /// About the connection, but not on channel 0.
    #[error("a frame of kind {kind:#04x} belongs to channel 0, not to {channel}")]
    WrongChannel {
        /// Its kind.
        kind: u8,
        /// Its channel.
        channel: u16,
    },
    /// The payload is not what its kind says.
    #[error("{frame}: {problem}")]
    Malformed {
        /// The kind's name.
        frame: &'static str,
        /// What is wrong.
        problem: Malformed,
    },
}

impl DecodeError {
    /// The code to close the connection with.
    pub fn fault(&self) -> FaultCode {
        match self {
            Self::TooLarge { .. } => FaultCode::FrameTooLarge,
            Self::UnknownKind { .. } => FaultCode::UnknownFrame,
            Self::UnknownFlags { .. } | Self::WrongChannel { .. } => FaultCode::MalformedFrame,
            Self::Malformed { problem, .. } => problem.fault(),
        }
    }
}

struct Header {
    length: u32,
    kind: u8,
    flags: u8,
    channel: u16,
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let ([kind, flags], rest) = rest.split_first_chunk()?;
        let (channel, _) = rest.split_first_chunk()?;
        let (length, channel) = (u32::from_le_bytes(*length), u16::from_le_bytes(*channel));
        Some(Self { length, kind: *kind, flags: *flags, channel })
    }

    fn put(&self, sink: &mut impl Sink) {
        self.length.put(sink);
        self.kind.put(sink);
        self.flags.put(sink);
        self.channel.put(sink);
    }
}

impl<F: Frame> Decoder<F> {
    /// A decoder for a new connection. Until [`Self::logged_in`] no frame may be longer than 4 KiB.
    pub fn new(limits: Limits) -> Self {
        Self { limits, logged_in: false, skip: 0, broken: None, frames: PhantomData }
    }

    /// Replaces the limits: a client learns them from HelloOk.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// From the next frame on, the limits after login are in force.
    pub fn logged_in(&mut self) {
        self.logged_in = true;
    }

    /// Takes the next frame and its channel off the buffer; none if it is not complete yet. Payloads share the
    /// buffer's memory. After an error every further call gives the same error.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<(u16, F)>, DecodeError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        let decoded = self.next(buffer);
        if let Err(error) = &decoded {
            self.broken = Some(*error);
        }
        decoded
    }

    fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<(u16, F)>, DecodeError> {
        loop {
            let thrown_away = self.skip.min(buffer.len());
            buffer.advance(thrown_away);
            self.skip -= thrown_away;
            if self.skip > 0 {
                return Ok(None);
            }
            let Some(header) = Header::read(buffer) else {
                return Ok(None);
            };
            let Some(name) = self.admit(&header)? else {
                buffer.advance(HEADER_LENGTH);
                self.skip = length(header.length);
                continue;
            };
            let payload_length = length(header.length);
            if buffer.len() - HEADER_LENGTH < payload_length {
                return Ok(None);
            }
            buffer.advance(HEADER_LENGTH);
            let payload = buffer.split_to(payload_length).freeze();
            let frame = read_payload(header.kind, payload)
                .map_err(|problem| DecodeError::Malformed { frame: name, problem })?;
            return Ok(Some((header.channel, frame)));
        }
    }

    /// Checks a header; gives the kind's name, none if the frame is to be skipped.
    fn admit(&self, header: &Header) -> Result<Option<&'static str>, DecodeError> {
        let kind = header.kind;
        let limit = self.limit(kind);
        if header.length > limit {
            return Err(DecodeError::TooLarge { kind, length: header.length, limit });
        }
        let unknown_flags = header.flags & !FLAG_MAY_SKIP;
        if unknown_flags != 0 {
            return Err(DecodeError::UnknownFlags { kind, flags: unknown_flags });
        }
        let Some((_, name)) = F::KINDS.iter().find(|(known, _)| *known == kind) else {
            let may_skip = header.flags & FLAG_MAY_SKIP != 0;
            return if may_skip { Ok(None) } else { Err(DecodeError::UnknownKind { kind }) };
        };
        if F::is_about_connection(kind) && header.channel != 0 {
            return Err(DecodeError::WrongChannel { kind, channel: header.channel });
        }
        Ok(Some(name))
    }

    fn limit(&self, kind: u8) -> u32 {
        if !self.logged_in {
            FRAME_LIMIT_BEFORE_LOGIN
        } else if F::carries_messages(kind) {
            self.limits.message_frame()
        } else {
            self.limits.frame()
        }
    }
}

fn read_payload<F: Frame>(kind: u8, payload: Bytes) -> Result<F, Malformed> {
    let mut reader = Reader::new(payload);
    let frame = F::get_payload(kind, &mut reader).expect("kinds are looked up in the set's own table")?;
    reader.finish()?;
    Ok(frame)
}

/// Appends a frame to a buffer, copying everything once.
pub fn encode<F: Frame>(frame: &F, channel: u16, buffer: &mut BytesMut) {
    let payload_length = frame.payload_length();
    buffer.reserve(HEADER_LENGTH + payload_length);
    put_frame(frame, channel, payload_length, buffer);
}

fn put_frame<F: Frame>(frame: &F, channel: u16, payload_length: usize, sink: &mut impl Sink) {
    Header { length: announce(payload_length), kind: frame.kind(), flags: 0, channel }.put(sink);
    frame.put_payload(sink);
}

/// Bytes to write, as pieces: short ones are gathered, long message bodies stay where they are and are shared.
#[derive(Debug, Default)]
pub struct Segments {
    done: Vec<Bytes>,
    tail: BytesMut,
    length: usize,
}

/// Below this a copy is cheaper than one more piece to write.
const SHARE_FROM: usize = 4 << 10;

impl Segments {
    /// Nothing to write.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a frame.
    pub fn push<F: Frame>(&mut self, frame: &F, channel: u16) {
        put_frame(frame, channel, frame.payload_length(), self);
    }

    /// How many bytes there are to write.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes the pieces out, to be written one after the other.
    pub fn take(&mut self) -> Vec<Bytes> {
        self.cut();
        self.length = 0;
        std::mem::take(&mut self.done)
    }

    fn cut(&mut self) {
        if !self.tail.is_empty() {
            self.done.push(self.tail.split().freeze());
        }
    }
}

impl Sink for Segments {
    fn put(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        self.tail.extend_from_slice(bytes);
    }

    fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARE_FROM {
            self.put(bytes);
        } else {
            self.cut();
            self.length += bytes.len();
            self.done.push(bytes.clone());
        }
    }
}

/// How many bytes a frame takes, header included.
pub fn encoded_length<F: Frame>(frame: &F) -> usize {
    let mut measure = Measure::default();
    put_frame(frame, 0, 0, &mut measure);
    measure.0
}

#[cfg(test)]
mod tests;
