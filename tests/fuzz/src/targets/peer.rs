//! What another broker sends: frames, handshake, messages, and what the core makes of the messages.
//!
//! The first byte of an input says how: bit 0, before the handshake is done (else after it); bits 1 to 7, in pieces of so
//! many bytes. The rest is the link's bytes.

use bytes::{Bytes, BytesMut};
use quorate_core::io::Input;
use quorate_core::peer::PeerMessage;
use quorate_protocol::name::{Address, BrokerName, ClusterName};
use quorate_protocol::peer_frame::{PEER_HEADER_LENGTH, PeerDecodeError, PeerDecoder, PeerFrame};
use quorate_protocol::peer_hello::{PeerAcceptor, PeerConfig, PeerDialer, PeerHello, PeerSecret, Progress};
use uuid::Uuid;

use super::{mode, vectors};
use crate::allocator::Allowance;
use crate::broker::World;
use crate::{Reached, Target};

/// See the module.
pub const TARGET: Target = Target {
    name: "peer",
    run,
    seeds,
    length_max: 8192,
    words: &[b"QRTP", b"quorate", b"quorate-peer-dialer"],
    text: false,
    smoke: 15_000,
};

const DECODE: Allowance = Allowance { each: 1, fixed: 64 << 10 };
/// A message in memory: a list of short texts is the widest.
const MESSAGE: Allowance = Allowance { each: 24, fixed: 64 << 10 };
/// What two brokers hold because of a message, until they rest.
const SERVE: Allowance = Allowance { each: 64, fixed: 1 << 20 };
/// Messages of one input that are given to the core.
const MESSAGES_MAX: usize = 32;

fn decode(bytes: &[u8], step: usize, authenticated: bool) -> (Vec<PeerFrame>, Option<PeerDecodeError>) {
    let mut decoder = PeerDecoder::default();
    if authenticated {
        decoder.authenticated();
    }
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for piece in bytes.chunks(step.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            let before = buffer.len();
            match decoder.decode(&mut buffer) {
                Ok(Some(frame)) => {
                    assert!(buffer.len() + PEER_HEADER_LENGTH <= before, "a frame without bytes");
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

fn config(number: u128, secret: &'static [u8]) -> PeerConfig {
    let hello = PeerHello {
        cluster_name: ClusterName::new("quorate").expect("a name"),
        store_id: Uuid::from_u128(number),
        run_id: Uuid::from_u128(number + 100),
        name: BrokerName::new("b").expect("a name"),
        cluster_address: Address::new("h:7421").expect("an address"),
        client_address: Address::new("h:7420").expect("an address"),
        admin_address: Address::new("h:7422").expect("an address"),
        transient: false,
    };
    PeerConfig::new(hello, PeerSecret::new(secret))
}

/// Both ends of a handshake, each told everything that the other end never said: neither is satisfied, since nobody here
/// knows the secret.
fn shake_hands(frames: &[PeerFrame]) {
    let mut acceptor = PeerAcceptor::new(config(1, b"secret"), [7; 32]);
    let (mut dialer, _) = PeerDialer::new(config(2, b"secret"), &[9; 32]);
    let over = |progress: &Progress| match progress {
        Progress::Linked(link) => panic!("linked without the secret: {link:?}"),
        Progress::Failed(_) => true,
        Progress::Pending => false,
    };
    // Each end stops where it says that it is over.
    let _ = frames.iter().any(|frame| over(&acceptor.handle(frame.clone()).progress));
    let _ = frames.iter().any(|frame| over(&dialer.handle(frame.clone()).progress));
}

fn run(input: &[u8]) -> Reached {
    let (mode, bytes) = mode(input);
    let (authenticated, step) = (mode & 1 == 0, usize::from(mode >> 1));
    let (frames, error) =
        DECODE.check(bytes.len() * 2, "decoding", || decode(bytes, usize::MAX, authenticated));
    assert_eq!(
        decode(bytes, step, authenticated),
        (frames.clone(), error),
        "frames do not depend on their pieces"
    );
    let mut again = BytesMut::new();
    for frame in &frames {
        frame.encode(&mut again);
    }
    assert!(bytes.starts_with(&again), "frames have one form: {frames:?}");
    if !authenticated {
        shake_hands(&frames);
        return Reached::accepted_if(!frames.is_empty());
    }
    let mut messages = Vec::new();
    for frame in frames {
        let PeerFrame::Message(payload) = frame else { continue };
        // The first message that cannot be read ends the link.
        let Some(message) = read_message(&payload) else { break };
        messages.push(message);
    }
    let reached = Reached::accepted_if(!messages.is_empty());
    if !messages.is_empty() {
        serve(messages);
    }
    reached
}

fn read_message(payload: &Bytes) -> Option<PeerMessage> {
    let decoded = MESSAGE.check(payload.len(), "a message", || PeerMessage::decode(payload.clone()));
    let message = decoded.ok()?;
    // A status of a later version may have more fields than are known here.
    let later = matches!(message, PeerMessage::Status(_)) && payload.get(1..3) != message.encode().get(1..3);
    if !later {
        assert_eq!(message.encode(), payload, "{message:?} has one form");
    }
    Some(message)
}

/// Two brokers that are a cluster; one of them is told all this by the other one.
fn serve(messages: Vec<PeerMessage>) {
    let mut world = World::new(2, false);
    let from = world.brokers[1].identity.key;
    let received: usize = messages.iter().map(|message| message.encode().len()).sum();
    SERVE.check(received, "two brokers", || {
        for message in messages.into_iter().take(MESSAGES_MAX) {
            world.give(0, Input::PeerMessage { from, message });
        }
        world.pass(300);
    });
    // Whatever it believes now, it answers its operator, unless it was told to go.
    if world.brokers[0].exit.is_none() {
        assert!(world.status(0).is_some(), "a broker that does not answer");
    }
}

fn frame_of(message: &PeerMessage) -> Vec<u8> {
    let mut wire = BytesMut::new();
    PeerFrame::Message(message.encode()).encode(&mut wire);
    [&[0][..], &wire].concat()
}

/// The wire document's frames, and what two brokers say to each other while they found a cluster: of each kind the
/// shortest and the longest.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = vectors("peer").iter().map(|frame| [&[1][..], frame].concat()).collect();
    let said = World::new(2, true).said.unwrap_or_default();
    let mut kinds: std::collections::BTreeMap<(u8, u8), [Vec<u8>; 2]> = std::collections::BTreeMap::new();
    for message in &said {
        let payload = message.encode();
        // Raft's own have kinds of their own after group and lineage.
        let kind =
            (payload[0], if payload[0] == 4 { payload.get(25).copied().unwrap_or_default() } else { 0 });
        let frame = frame_of(message);
        let [short, long] = kinds.entry(kind).or_insert_with(|| [frame.clone(), frame.clone()]);
        if frame.len() < short.len() {
            short.clone_from(&frame);
        }
        if frame.len() > long.len() && frame.len() < TARGET.length_max {
            *long = frame;
        }
    }
    seeds.extend(kinds.into_values().flatten());
    seeds
}
