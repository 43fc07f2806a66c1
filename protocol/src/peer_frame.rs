//! Frames of the link between two brokers.
//!
//! A frame is `length u32 | kind u8 | 3 zero bytes | payload`; `length` counts the payload. The payloads of the
//! handshake stay as they came, since both sides prove that they saw the same bytes: [`crate::peer_hello`] reads them.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use crate::fault::FaultCode;
use crate::limits::{PEER_FRAME_LIMIT_BEFORE_AUTH, PEER_FRAME_LIMIT_DEFAULT};
use crate::wire::{Field, Malformed, Problem, Reader, Sink, announce, fields, length};

/// A peer frame's header: length, kind, three zero bytes.
pub const PEER_HEADER_LENGTH: usize = 8;

/// What goes over a peer link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerFrame {
    /// The dialer opens the handshake.
    Hello(Bytes),
    /// The acceptor answers and proves itself.
    HelloOk(Bytes),
    /// The dialer proves itself: 32 bytes.
    Auth(Bytes),
    /// The acceptor is satisfied: messages may follow.
    AuthOk,
    /// Either side ends the handshake.
    Refused(PeerRefused),
    /// From the dialer, after the handshake: opaque here.
    Message(Bytes),
    /// From the dialer, after the handshake: still here.
    Heartbeat,
}

fields! {
    /// Why a broker does not link with the other.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PeerRefused {
        /// Why.
        pub code: FaultCode,
        /// For people: what, and what to do next.
        pub text: String,
    }
}

const HELLO: u8 = 1;
const HELLO_OK: u8 = 2;
const AUTH: u8 = 3;
const AUTH_OK: u8 = 4;
const REFUSED: u8 = 5;
const MESSAGE: u8 = 6;
const HEARTBEAT: u8 = 7;

impl PeerFrame {
    /// The kind's number on the wire.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => HELLO,
            Self::HelloOk(_) => HELLO_OK,
            Self::Auth(_) => AUTH,
            Self::AuthOk => AUTH_OK,
            Self::Refused(_) => REFUSED,
            Self::Message(_) => MESSAGE,
            Self::Heartbeat => HEARTBEAT,
        }
    }

    /// The kind's name in documents and messages.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "Hello",
            Self::HelloOk(_) => "HelloOk",
            Self::Auth(_) => "Auth",
            Self::AuthOk => "AuthOk",
            Self::Refused(_) => "Refused",
            Self::Message(_) => "Message",
            Self::Heartbeat => "Heartbeat",
        }
    }

    /// Appends the frame to a buffer. For long messages see [`message_header`].
    pub fn encode(&self, buffer: &mut BytesMut) {
        let mut refusal = BytesMut::new();
        let payload: &[u8] = match self {
            Self::Hello(payload) | Self::HelloOk(payload) | Self::Auth(payload) | Self::Message(payload) => {
                payload
            }
            Self::AuthOk | Self::Heartbeat => &[],
            Self::Refused(refused) => {
                refused.put(&mut refusal);
                &refusal
            }
        };
        buffer.reserve(PEER_HEADER_LENGTH + payload.len());
        put_header(payload.len(), self.kind(), buffer);
        buffer.put(payload);
    }
}

fn put_header(payload_length: usize, kind: u8, sink: &mut impl Sink) {
    announce(payload_length).put(sink);
    sink.put(&[kind, 0, 0, 0]);
}

/// The header of a Message frame whose payload, of this length in all, is written after it in pieces.
pub fn message_header(payload_length: usize) -> Bytes {
    let mut header = BytesMut::with_capacity(PEER_HEADER_LENGTH);
    put_header(payload_length, MESSAGE, &mut header);
    header.freeze()
}

/// Why a peer link cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PeerDecodeError {
    /// Longer than the limit in force.
    #[error("a peer frame of kind {kind} announces {length} bytes, the limit is {limit}")]
    TooLarge {
        /// Its kind.
        kind: u8,
        /// What it announces.
        length: u32,
        /// What is allowed now.
        limit: u32,
    },
    /// Not a kind, or bytes that must be zero are not.
    #[error("a peer frame begins with {0:?}, which is no kind this version knows")]
    UnknownKind([u8; 4]),
    /// The payload is not what its kind says.
    #[error("peer frame {frame}: {problem}")]
    Malformed {
        /// The kind's name.
        frame: &'static str,
        /// What is wrong.
        problem: Malformed,
    },
}

impl PeerDecodeError {
    /// The code to refuse with.
    pub fn fault(&self) -> FaultCode {
        match self {
            Self::TooLarge { .. } => FaultCode::FrameTooLarge,
            Self::UnknownKind(_) => FaultCode::UnknownFrame,
            Self::Malformed { problem, .. } => problem.fault(),
        }
    }
}

/// Takes peer frames off the front of a buffer.
#[derive(Debug)]
pub struct PeerDecoder {
    limit: u32,
    authenticated: bool,
    broken: Option<PeerDecodeError>,
}

impl Default for PeerDecoder {
    fn default() -> Self {
        Self::new(PEER_FRAME_LIMIT_DEFAULT)
    }
}

impl PeerDecoder {
    /// A decoder for a new link; `limit` is the largest payload once the handshake is done.
    pub fn new(limit: u32) -> Self {
        Self { limit, authenticated: false, broken: None }
    }

    /// The handshake is done: from the next frame on, long frames are allowed.
    pub fn authenticated(&mut self) {
        self.authenticated = true;
    }

    /// Takes the next frame off the buffer; none if it is not complete yet. Payloads share the buffer's memory.
    /// After an error every further call gives the same error.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<PeerFrame>, PeerDecodeError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        let decoded = self.next(buffer);
        if let Err(error) = &decoded {
            self.broken = Some(*error);
        }
        decoded
    }

    fn next(&self, buffer: &mut BytesMut) -> Result<Option<PeerFrame>, PeerDecodeError> {
        let Some((announced, rest)) = buffer.split_first_chunk() else {
            return Ok(None);
        };
        let Some(&[kind, zeros @ ..]) = rest.first_chunk::<4>() else {
            return Ok(None);
        };
        let announced = u32::from_le_bytes(*announced);
        if zeros != [0; 3] || !(HELLO..=HEARTBEAT).contains(&kind) {
            let [first, second, third] = zeros;
            return Err(PeerDecodeError::UnknownKind([kind, first, second, third]));
        }
        let limit = if self.authenticated { self.limit } else { PEER_FRAME_LIMIT_BEFORE_AUTH };
        if announced > limit {
            return Err(PeerDecodeError::TooLarge { kind, length: announced, limit });
        }
        let payload_length = length(announced);
        if buffer.len() - PEER_HEADER_LENGTH < payload_length {
            return Ok(None);
        }
        buffer.advance(PEER_HEADER_LENGTH);
        read_payload(kind, take_payload(buffer, payload_length)).map(Some)
    }
}

/// Payloads of up to so many bytes are copied out of the buffer that they came in.
const COPIED_PAYLOAD: usize = 4096;

/// Part of a buffer holds all of it for as long as it lives: an entry of a few bytes, kept for followers that lag, would
/// hold the status of a thousand groups that came before it.
fn take_payload(buffer: &mut BytesMut, length: usize) -> Bytes {
    let payload = buffer.split_to(length);
    if length <= COPIED_PAYLOAD { Bytes::copy_from_slice(&payload) } else { payload.freeze() }
}

fn read_payload(kind: u8, payload: Bytes) -> Result<PeerFrame, PeerDecodeError> {
    let nothing = |frame: PeerFrame, payload: Bytes| {
        let finished = Reader::new(payload).finish();
        finished
            .map_err(|problem| PeerDecodeError::Malformed { frame: frame.kind_name(), problem })
            .map(|()| frame)
    };
    match kind {
        HELLO => Ok(PeerFrame::Hello(payload)),
        HELLO_OK => Ok(PeerFrame::HelloOk(payload)),
        AUTH => Ok(PeerFrame::Auth(payload)),
        AUTH_OK => nothing(PeerFrame::AuthOk, payload),
        REFUSED => {
            let mut reader = Reader::new(payload);
            let refused = PeerRefused::get(&mut reader).and_then(|refused| reader.finish().map(|()| refused));
            refused
                .map(PeerFrame::Refused)
                .map_err(|problem| PeerDecodeError::Malformed { frame: "Refused", problem })
        }
        MESSAGE => Ok(PeerFrame::Message(payload)),
        HEARTBEAT => nothing(PeerFrame::Heartbeat, payload),
        other => Err(PeerDecodeError::Malformed { frame: "?", problem: Problem::Value(other.into()).into() }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_frame() -> impl Strategy<Value = PeerFrame> {
        let payload = || prop::collection::vec(any::<u8>(), 0..80).prop_map(Bytes::from);
        prop_oneof![
            payload().prop_map(PeerFrame::Hello),
            payload().prop_map(PeerFrame::HelloOk),
            payload().prop_map(PeerFrame::Auth),
            Just(PeerFrame::AuthOk),
            (any::<u16>(), ".{0,40}").prop_map(|(number, text)| {
                PeerFrame::Refused(PeerRefused { code: FaultCode::from_number(number), text })
            }),
            payload().prop_map(PeerFrame::Message),
            Just(PeerFrame::Heartbeat),
        ]
    }

    fn encoded(frame: &PeerFrame) -> BytesMut {
        let mut buffer = BytesMut::new();
        frame.encode(&mut buffer);
        buffer
    }

    proptest! {
        #[test]
        fn frames_come_back_however_they_are_cut(frames in prop::collection::vec(any_frame(), 0..6), step in 1_usize..9) {
            let mut wire = BytesMut::new();
            for frame in &frames {
                frame.encode(&mut wire);
            }
            let (mut decoder, mut buffer, mut seen) = (PeerDecoder::default(), BytesMut::new(), Vec::new());
            for piece in wire.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = decoder.decode(&mut buffer).unwrap() {
                    seen.push(frame);
                }
            }
            prop_assert_eq!(seen, frames);
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0_u8..9) {
            let mut decoder = PeerDecoder::default();
            while let Ok(Some(_)) = decoder.decode(&mut BytesMut::from(&bytes[..])) {}
            let _ = read_payload(kind, bytes.into());
        }
    }

    #[test]
    fn long_frames_need_authentication() {
        let mut long = encoded(&PeerFrame::Message(Bytes::from(vec![7; 4097])));
        let error = PeerDecoder::default().decode(&mut long.clone()).unwrap_err();
        assert_eq!(error, PeerDecodeError::TooLarge { kind: MESSAGE, length: 4097, limit: 4096 });
        let mut decoder = PeerDecoder::default();
        decoder.authenticated();
        assert!(matches!(decoder.decode(&mut long), Ok(Some(PeerFrame::Message(_)))));
    }

    #[test]
    fn a_hostile_length_is_refused_by_its_header_and_stays_refused() {
        let mut decoder = PeerDecoder::new(1 << 20);
        decoder.authenticated();
        let mut buffer = BytesMut::from(&[0xff, 0xff, 0xff, 0xff, MESSAGE, 0, 0, 0][..]);
        let capacity = buffer.capacity();
        let error = decoder.decode(&mut buffer).unwrap_err();
        assert_eq!(error.fault(), FaultCode::FrameTooLarge);
        assert_eq!(buffer.capacity(), capacity, "nothing is allocated by what a length announces");
        assert_eq!(decoder.decode(&mut encoded(&PeerFrame::Heartbeat)), Err(error));
    }

    #[test]
    fn a_small_payload_does_not_hold_the_buffer_it_came_in() {
        let mut buffer = encoded(&PeerFrame::Message(vec![1; 1 << 20].into()));
        buffer.unsplit(encoded(&PeerFrame::Message(vec![2; 100].into())));
        let at = buffer.as_ptr_range();
        let mut decoder = PeerDecoder::new(u32::MAX);
        decoder.authenticated();
        let Ok(Some(PeerFrame::Message(large))) = decoder.decode(&mut buffer) else { panic!("a large one") };
        let Ok(Some(PeerFrame::Message(small))) = decoder.decode(&mut buffer) else { panic!("a small one") };
        assert!(at.contains(&large.as_ptr()) && !at.contains(&small.as_ptr()));
        assert_eq!(small, vec![2; 100]);
    }

    #[test]
    fn reserved_bytes_and_unknown_kinds_are_refused() {
        for header in [[0, 0, 0, 0, HEARTBEAT, 0, 1, 0], [0, 0, 0, 0, 8, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]] {
            let error = PeerDecoder::default().decode(&mut BytesMut::from(&header[..])).unwrap_err();
            assert_eq!(error.fault(), FaultCode::UnknownFrame);
        }
        let mut heartbeat = BytesMut::from(&[1, 0, 0, 0, HEARTBEAT, 0, 0, 0, 9][..]);
        let error = PeerDecoder::default().decode(&mut heartbeat).unwrap_err();
        assert_eq!(error.fault(), FaultCode::MalformedFrame);
    }

    #[test]
    fn a_message_in_pieces_is_the_same_bytes() {
        let payload = Bytes::from_static(b"entries");
        let mut pieces = BytesMut::from(&message_header(payload.len())[..]);
        pieces.extend_from_slice(&payload);
        assert_eq!(pieces, encoded(&PeerFrame::Message(payload)));
    }
}
