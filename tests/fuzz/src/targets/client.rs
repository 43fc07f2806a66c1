//! What a client sends, up to what the session makes of it.
//!
//! The first byte of an input says how: bit 0, before login (else after it); bits 1 to 7, in pieces of so many bytes. The
//! rest is the connection's bytes.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use quorate_core::io::{Input, SessionId};
use quorate_protocol::codec::{BrokerDecoder, DecodeError, encode, encoded_length};
use quorate_protocol::frame::{ClientFrame, FLAG_MAY_SKIP, Frame, ServerFrame};
use quorate_protocol::limits::Limits;

use super::{mode, vectors};
use crate::allocator::Allowance;
use crate::broker::World;
use crate::{Reached, Target};

/// See the module.
pub const TARGET: Target = Target {
    name: "client",
    run,
    seeds,
    length_max: 4096,
    words: &[
        b"QRTE",
        b"orders",
        b"eu.#",
        b"trade",
        b"amq",
        b"quorate.system",
        b"ANONYMOUS",
        b"PLAIN",
        b"content-type",
    ],
    text: false,
    smoke: 100_000,
};

/// A frame's values beside its bytes: an argument takes 6 bytes on the wire and 56 in memory, a range 16 and 16.
const DECODE: Allowance = Allowance { each: 12, fixed: 64 << 10 };
/// What the whole broker holds after a client's bytes: the session, the queues that it declared, replicated and answered.
const SERVE: Allowance = Allowance { each: 512, fixed: 1 << 20 };

const HEADER: usize = 8;

fn limits() -> Limits {
    Limits::new(1 << 20, 1 << 20)
}

/// Decodes all of it, in pieces; the frames, and how it ended.
fn decode(bytes: &[u8], step: usize, logged_in: bool) -> (Vec<(u16, ClientFrame)>, Option<DecodeError>) {
    let mut decoder = BrokerDecoder::new(limits());
    if logged_in {
        decoder.logged_in();
    }
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for piece in bytes.chunks(step.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            let before = buffer.len();
            match decoder.decode(&mut buffer) {
                Ok(Some(frame)) => {
                    assert!(buffer.len() + HEADER <= before, "a frame without bytes");
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.decode(&mut buffer), Err(error), "an error that does not stay");
                    return (frames, Some(error));
                }
            }
        }
    }
    (frames, None)
}

/// A frame's bytes are the only ones that mean it: walks the whole input beside the frames that came of it.
fn check_canonical(bytes: &[u8], frames: &[(u16, ClientFrame)]) {
    let mut rest = bytes;
    for (channel, frame) in frames {
        let mut again = BytesMut::new();
        encode(frame, *channel, &mut again);
        assert_eq!(again.len(), encoded_length(frame), "{frame:?} is as long as it says");
        loop {
            let length = rest.first_chunk().map_or(0, |length| u32::from_le_bytes(*length));
            let whole = HEADER + usize::try_from(length).expect("a frame that was there");
            let (mut sent, after) = (rest[..whole].to_vec(), &rest[whole..]);
            rest = after;
            let known = ClientFrame::KINDS.iter().any(|(kind, _)| *kind == sent[4]);
            if !known {
                assert_ne!(sent[5] & FLAG_MAY_SKIP, 0, "an unknown frame was skipped");
                continue;
            }
            // Whoever knows the frame does not look at the flag; bytes after Hello's last field belong to later versions.
            sent[5] &= !FLAG_MAY_SKIP;
            if matches!(frame, ClientFrame::Hello(_)) {
                let fields = again.len().min(sent.len());
                assert_eq!(&sent[4..fields], &again[4..], "Hello has one form");
            } else {
                assert_eq!(sent, again, "{frame:?} has one form");
            }
            break;
        }
        let (decoded, error) = decode(&again, usize::MAX, true);
        assert_eq!((decoded, error), (vec![(*channel, frame.clone())], None), "what is encoded is decoded");
    }
}

/// The broker with the client's connection, and the number of inputs it has served.
struct Served {
    world: World,
    session: u64,
}

/// So many connections are served by one broker: a new one for each would be most of the time.
const CONNECTIONS: u64 = 64;

thread_local! {
    static SERVED: RefCell<Option<Served>> = const { RefCell::new(None) };
}

fn run(input: &[u8]) -> Reached {
    let (mode, bytes) = mode(input);
    let (logged_in, step) = (mode & 1 == 0, usize::from(mode >> 1));
    let (frames, error) = DECODE.check(bytes.len(), "decoding", || decode(bytes, usize::MAX, logged_in));
    let pieces = decode(bytes, step, logged_in);
    assert_eq!(pieces, (frames.clone(), error), "frames do not depend on how their bytes arrive");
    check_canonical(bytes, &frames);
    if frames.is_empty() {
        return Reached::Refused;
    }
    SERVED.with_borrow_mut(|served| {
        let mut now = match served.take() {
            Some(served) if served.session < CONNECTIONS => served,
            _ => Served { world: World::new(1, false), session: 0 },
        };
        now.session += 1;
        serve(&mut now, frames, logged_in);
        // A broker that panicked is not put back.
        *served = Some(now);
    });
    Reached::Accepted
}

/// The request number that a frame of the client asks an answer for, and that a frame of the broker answers.
fn request_of(frame: &ClientFrame) -> Option<u32> {
    match frame {
        ClientFrame::DeclareQueue(frame) => Some(frame.request),
        ClientFrame::DeleteQueue(frame) => Some(frame.request),
        ClientFrame::PurgeQueue(frame) => Some(frame.request),
        ClientFrame::ListQueues(frame) => Some(frame.request),
        ClientFrame::PeekQueue(frame) => Some(frame.request),
        ClientFrame::DeclareExchange(frame) => Some(frame.request),
        ClientFrame::DeleteExchange(frame) => Some(frame.request),
        ClientFrame::ListExchanges(frame) => Some(frame.request),
        ClientFrame::Bind(frame) => Some(frame.request),
        ClientFrame::Unbind(frame) => Some(frame.request),
        ClientFrame::ListBindings(frame) => Some(frame.request),
        ClientFrame::Consume(frame) => Some(frame.request),
        ClientFrame::Cancel(frame) => Some(frame.request),
        ClientFrame::Ack(frame) => Some(frame.request).filter(|request| *request != 0),
        ClientFrame::Nack(frame) => Some(frame.request).filter(|request| *request != 0),
        ClientFrame::Commit(frame) => Some(frame.request),
        ClientFrame::Resolve(frame) => Some(frame.request),
        _ => None,
    }
}

fn answer_of(frame: &ServerFrame) -> Option<u32> {
    match frame {
        ServerFrame::Failed(frame) => Some(frame.request),
        ServerFrame::Done(frame) => Some(frame.request),
        ServerFrame::QueueOk(frame) => Some(frame.request),
        ServerFrame::QueueList(frame) => Some(frame.request),
        ServerFrame::PeekOk(frame) => Some(frame.request),
        ServerFrame::ExchangeList(frame) => Some(frame.request),
        ServerFrame::BindingList(frame) => Some(frame.request),
        ServerFrame::ConsumeOk(frame) => Some(frame.request),
        ServerFrame::CancelOk(frame) => Some(frame.request),
        ServerFrame::Settled(frame) => Some(frame.request),
        ServerFrame::Committed(frame) => Some(frame.request),
        _ => None,
    }
}

/// The session's side: it panics at nothing, answers each request once, gives back what the frames cost, and leaves a
/// broker that serves.
fn serve(served: &mut Served, frames: Vec<(u16, ClientFrame)>, logged_in: bool) {
    let Served { world, session } = served;
    let session = SessionId(*session);
    world.brokers[0].written.clear();
    world.brokers[0].closed.clear();
    world.brokers[0].released = 0;
    world.connect(0, session, logged_in);
    let received: usize = frames.iter().map(|(_, frame)| encoded_length(frame)).sum();
    let mut asked: BTreeMap<(u16, u32), i64> = BTreeMap::new();
    let mut cost: u64 = 0;
    SERVE.check(received, "the broker", || {
        for (channel, frame) in frames {
            if !world.brokers[0].closed.is_empty() {
                break;
            }
            if let Some(request) = request_of(&frame) {
                *asked.entry((channel, request)).or_default() += 1;
            }
            let costs = u32::try_from(encoded_length(&frame)).unwrap_or(u32::MAX);
            cost += u64::from(costs);
            world.frame(0, session, channel, frame, costs);
        }
        world.pass(200);
    });
    let mut wire = BytesMut::new();
    for (to, channel, frame) in &world.brokers[0].written {
        assert_eq!(*to, session, "nobody else is connected");
        encode(frame, *channel, &mut wire);
        if let Some(answered) = answer_of(frame) {
            let open = asked.entry((*channel, answered)).or_default();
            *open -= 1;
            assert!(*open >= 0, "an answer that nobody asked for: {frame:?}");
        }
    }
    if world.brokers[0].closed.is_empty() {
        assert!(asked.values().all(|open| *open == 0), "requests without an answer: {asked:?}");
        assert_eq!(world.brokers[0].released, cost, "what frames cost is given back");
    }
    world.give(0, Input::SessionClosed { session });
    assert_eq!(world.brokers[0].exit, None, "no client ends a broker");
    assert_eq!(world.leader(), Some(0), "no client unseats a leader");
    let mut decoder = quorate_protocol::codec::ClientDecoder::new(limits());
    decoder.logged_in();
    let mut count = 0;
    while let Some((_, frame)) = decoder.decode(&mut wire).expect("what a broker writes, a client reads") {
        assert_eq!(world.brokers[0].written[count].2, frame);
        count += 1;
    }
    assert_eq!(count, world.brokers[0].written.len());
}

/// A whole conversation: what follows declares, publishes to it, consumes, acknowledges.
fn seeds() -> Vec<Vec<u8>> {
    let with = |mode: u8, bytes: &[u8]| [&[mode], bytes].concat();
    let frames = vectors("client");
    let kind = |bytes: &[u8]| bytes.get(4).copied().unwrap_or_default();
    let mut seeds: Vec<Vec<u8>> = frames.iter().map(|frame| with(0, frame)).collect();
    let opening: Vec<u8> =
        frames.iter().filter(|frame| kind(frame) <= 2).flat_map(|frame| frame.iter().copied()).collect();
    seeds.push(with(1, &opening));
    let orders = [
        &[3, 8, 0x0b, 0x10, 0x11, 0x12, 0x14, 6, 7, 10, 13][..],
        &[3, 0x11, 0x10, 0x15, 0x13, 5, 12, 9, 4],
        &[3, 8, 0x0b, 0x10, 0x10, 0x10, 0x11, 0x12, 0x16, 0x17, 0x16],
        &[3, 0x17, 0x16, 0x16],
    ];
    for order in orders {
        let talk: Vec<Bytes> = order
            .iter()
            .filter_map(|wanted| frames.iter().find(|frame| kind(frame) == *wanted))
            .map(|frame| Bytes::from(frame.clone()))
            .collect();
        seeds.push(with(6, &talk.concat()));
    }
    seeds
}
