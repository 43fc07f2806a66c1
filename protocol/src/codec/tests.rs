use proptest::prelude::*;

use super::*;
use crate::frame::{
    Ack, Bind, Binding, Cancel, Close, Consume, Credit, DeclareQueue, Deliver, Delivery, Durability,
    Heartbeat, Hello, HelloOk, ListBindings, Login, Nack, NumberRange, ProducerId, PublishRefused,
    QueueEntry, QueueList, SyncPolicy,
};
use crate::frame::{Argument, Confirm, Failed, PeekOk, Peeked, PurgeQueue, Refused, Settled, Unblocked};
use crate::limits::{
    ARGUMENT_LENGTH_MAX, ARGUMENTS_MAX, FRAME_LIMIT_MIN, MESSAGE_FRAME_ROOM, TEXT_LENGTH_MAX,
};
use crate::message::Properties;
use crate::name::{ExchangeName, QueueName, RoutingKey, VhostName};
use crate::publish::{PublishBody, PublishBuilder};
use crate::version::VersionRange;

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9.*#/ äß漢]{1,20}"
}

fn queue() -> impl Strategy<Value = QueueName> {
    text().prop_map(|text| QueueName::new(&text).unwrap())
}

fn exchange() -> impl Strategy<Value = ExchangeName> {
    prop_oneof![Just(String::new()), text()].prop_map(|text| ExchangeName::new(&text).unwrap())
}

fn key() -> impl Strategy<Value = RoutingKey> {
    prop_oneof![Just(String::new()), text()].prop_map(|text| RoutingKey::new(&text).unwrap())
}

fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from)
}

fn range() -> impl Strategy<Value = NumberRange> {
    (any::<u64>(), any::<u64>()).prop_map(|(a, b)| NumberRange::new(a.min(b), a.max(b)).unwrap())
}

fn ranges() -> impl Strategy<Value = Vec<NumberRange>> {
    prop::collection::vec(range(), 0..5)
}

fn binding() -> impl Strategy<Value = Binding> {
    (exchange(), queue(), key()).prop_map(|(exchange, queue, key)| Binding { exchange, queue, key })
}

fn code() -> impl Strategy<Value = FaultCode> {
    any::<u16>().prop_map(FaultCode::from_number)
}

fn properties() -> impl Strategy<Value = Properties> {
    prop::collection::vec((text(), prop::collection::vec(any::<u8>(), 0..20)), 0..4).prop_map(|pairs| {
        Properties::new(pairs.iter().map(|(name, value)| (name.as_str(), value.as_slice()))).unwrap()
    })
}

fn publish() -> impl Strategy<Value = PublishBody> {
    let messages = prop::collection::vec((properties(), bytes(60)), 1..6);
    (any::<u128>(), 1..u64::MAX / 2, any::<u64>(), exchange(), key(), messages).prop_map(
        |(producer, first, settled, exchange, key, messages)| {
            let first_unsettled = settled % first + 1;
            let mut builder =
                PublishBuilder::new(ProducerId(producer), first, first_unsettled, &exchange, &key);
            for (properties, body) in &messages {
                builder.push(properties, body, 1000).unwrap();
            }
            builder.finish().unwrap()
        },
    )
}

fn client_frame() -> impl Strategy<Value = ClientFrame> {
    let hello = (any::<u16>(), any::<u16>(), text()).prop_map(|(a, b, client_name)| {
        Hello { versions: VersionRange::new(a.min(b), a.max(b)).unwrap(), client_name }.into()
    });
    let login = (text(), text(), text(), bytes(40), any::<u32>()).prop_map(
        |(vhost, mechanism, user, secret, heartbeat_ms)| {
            let vhost = VhostName::new(&vhost).unwrap();
            Login { vhost, mechanism, user, secret, heartbeat_ms }.into()
        },
    );
    let arguments =
        prop::collection::vec((text(), bytes(20)).prop_map(|(name, value)| Argument { name, value }), 0..3);
    let declare = (any::<u32>(), queue(), any::<bool>(), any::<u64>(), arguments).prop_map(
        |(request, queue, passive, max_length, arguments)| {
            DeclareQueue { request, queue, passive, max_length, arguments }.into()
        },
    );
    let list = (any::<u32>(), prop::option::of(exchange()), prop::option::of(binding()), any::<u32>())
        .prop_map(|(request, exchange, after, limit)| {
            ListBindings { request, exchange, after, limit }.into()
        });
    let consume = (any::<u32>(), any::<u32>(), queue(), any::<u32>(), any::<bool>(), any::<bool>()).prop_map(
        |(request, consumer, queue, credit, no_ack, exclusive)| {
            Consume { request, consumer, queue, credit, no_ack, exclusive }.into()
        },
    );
    prop_oneof![
        hello,
        login,
        declare,
        list,
        consume,
        publish().prop_map(ClientFrame::from),
        (any::<u32>(), queue()).prop_map(|(request, queue)| PurgeQueue { request, queue }.into()),
        (any::<u32>(), binding()).prop_map(|(request, binding)| Bind { request, binding }.into()),
        (any::<u32>(), any::<u32>()).prop_map(|(consumer, add)| Credit { consumer, add }.into()),
        (any::<u32>(), any::<u32>()).prop_map(|(request, consumer)| Cancel { request, consumer }.into()),
        (any::<u32>(), any::<u32>(), ranges()).prop_map(|(request, consumer, ranges)| Ack {
            request,
            consumer,
            ranges
        }
        .into()),
        (any::<u32>(), any::<u32>(), any::<bool>(), ranges()).prop_map(
            |(request, consumer, requeue, ranges)| Nack { request, consumer, requeue, ranges }.into()
        ),
        Just(Heartbeat {}.into()),
        (prop::option::of(code()), text(), text()).prop_map(|(code, text, leader_address)| Close {
            code,
            text,
            leader_address
        }
        .into()),
    ]
}

fn durability() -> impl Strategy<Value = Durability> {
    let policy = || prop::sample::select(vec![SyncPolicy::Sync, SyncPolicy::WriteNoSync, SyncPolicy::NoSync]);
    (policy(), policy()).prop_map(|(leader, replicas)| Durability { leader, replicas })
}

fn server_frame() -> impl Strategy<Value = ServerFrame> {
    let entry = (queue(), any::<u64>(), any::<u64>(), any::<u32>(), any::<u64>(), text()).prop_map(
        |(queue, ready, unacknowledged, consumers, bytes, leader)| QueueEntry {
            queue,
            ready,
            unacknowledged,
            consumers,
            bytes,
            leader,
        },
    );
    let delivery = (any::<u64>(), any::<bool>(), bytes(9000))
        .prop_map(|(seq, redelivered, message)| Delivery { seq, redelivered, message });
    let peeked = (any::<u64>(), any::<bool>(), exchange(), key(), bytes(90)).prop_map(
        |(seq, redelivered, exchange, key, message)| Peeked { seq, redelivered, exchange, key, message },
    );
    let hello = (any::<u16>(), text(), text(), any::<[u32; 3]>()).prop_map(
        |(version, server_name, cluster_name, [frame_limit, message_limit, heartbeat_ms])| {
            HelloOk { version, server_name, cluster_name, frame_limit, message_limit, heartbeat_ms }.into()
        },
    );
    let confirm =
        (any::<u128>(), ranges(), any::<[u32; 2]>(), any::<[u64; 2]>(), durability(), any::<[bool; 2]>())
            .prop_map(|(producer, ranges, [group, epoch], [term, index], durability, flags)| {
                let producer = ProducerId(producer);
                let [under_override, duplicate] = flags;
                Confirm { producer, ranges, group, epoch, term, index, durability, under_override, duplicate }
                    .into()
            });
    prop_oneof![
        hello,
        confirm,
        (code(), text(), text(), any::<u32>()).prop_map(|(code, text, leader_address, retry_after_ms)| {
            Refused { code, text, leader_address, retry_after_ms }.into()
        }),
        (any::<u32>(), code(), text())
            .prop_map(|(request, code, text)| Failed { request, code, text }.into()),
        (any::<u32>(), prop::collection::vec(entry, 0..4), any::<bool>())
            .prop_map(|(request, entries, more)| QueueList { request, entries, more }.into()),
        (any::<u32>(), prop::collection::vec(peeked, 0..4), any::<bool>())
            .prop_map(|(request, messages, more)| PeekOk { request, messages, more }.into()),
        (any::<u32>(), exchange(), key(), prop::collection::vec(delivery, 0..4)).prop_map(
            |(consumer, exchange, key, messages)| Deliver { consumer, exchange, key, messages }.into()
        ),
        (any::<u128>(), range(), code(), any::<bool>(), text()).prop_map(
            |(producer, range, code, retryable, text)| {
                PublishRefused { producer: ProducerId(producer), range, code, retryable, text }.into()
            }
        ),
        (any::<u32>(), any::<u64>()).prop_map(|(request, settled)| Settled { request, settled }.into()),
        Just(Unblocked {}.into()),
    ]
}

fn encoded<F: Frame>(frame: &F, channel: u16) -> BytesMut {
    let mut buffer = BytesMut::new();
    encode(frame, channel, &mut buffer);
    buffer
}

fn channel_of<F: Frame>(frame: &F, channel: u16) -> u16 {
    if F::is_about_connection(frame.kind()) { 0 } else { channel }
}

fn ready<F: Frame>() -> Decoder<F> {
    let mut decoder = Decoder::new(Limits::default());
    decoder.logged_in();
    decoder
}

/// Decodes `wire` cut into pieces of `step` bytes.
fn decode_all<F: Frame>(wire: &[u8], step: usize) -> Result<Vec<(u16, F)>, DecodeError> {
    let (mut decoder, mut buffer, mut seen) = (ready(), BytesMut::new(), Vec::new());
    for piece in wire.chunks(step) {
        buffer.extend_from_slice(piece);
        while let Some(frame) = decoder.decode(&mut buffer)? {
            seen.push(frame);
        }
    }
    Ok(seen)
}

/// Round trip, equal encodings by both ways, and no shorter payload is accepted as the same frame.
fn check<F: Frame + Clone + PartialEq + std::fmt::Debug>(
    frame: &F,
    channel: u16,
) -> Result<(), TestCaseError> {
    let channel = channel_of(frame, channel);
    let wire = encoded(frame, channel);
    prop_assert_eq!(wire.len(), encoded_length(frame));
    let mut segments = Segments::new();
    segments.push(frame, channel);
    prop_assert_eq!(segments.length(), wire.len());
    prop_assert_eq!(segments.take().concat(), wire.to_vec());
    prop_assert!(segments.is_empty());
    let seen = decode_all::<F>(&wire, wire.len());
    prop_assert_eq!(seen, Ok(vec![(channel, frame.clone())]));
    for shorter in 0..wire.len().min(300) {
        prop_assert_eq!(decode_all::<F>(&wire[..shorter], 7), Ok(Vec::new()), "cut to {}", shorter);
    }
    let payload = Bytes::copy_from_slice(&wire[HEADER_LENGTH..]);
    for shorter in 0..payload.len().min(300) {
        let cut = read_payload::<F>(frame.kind(), payload.slice(..shorter));
        prop_assert!(cut.is_err(), "{} bytes of {:?} make {:?}", shorter, frame, cut);
    }
    Ok(())
}

proptest! {
    #[test]
    fn client_frames_come_back(frame in client_frame(), channel: u16) {
        check(&frame, channel)?;
    }

    #[test]
    fn server_frames_come_back(frame in server_frame(), channel: u16) {
        check(&frame, channel)?;
    }

    #[test]
    fn frames_come_back_however_they_are_cut(
        frames in prop::collection::vec(client_frame(), 0..5),
        step in 1_usize..40,
    ) {
        let mut wire = BytesMut::new();
        for frame in &frames {
            encode(frame, 0, &mut wire);
        }
        let seen = decode_all::<ClientFrame>(&wire, step).unwrap();
        prop_assert_eq!(seen.into_iter().map(|(_, frame)| frame).collect::<Vec<_>>(), frames);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_all::<ClientFrame>(&bytes, 50);
        let _ = decode_all::<ServerFrame>(&bytes, 50);
        let bytes = Bytes::from(bytes);
        for (kind, _) in ClientFrame::KINDS {
            let _ = read_payload::<ClientFrame>(*kind, bytes.clone());
        }
        for (kind, _) in ServerFrame::KINDS {
            let _ = read_payload::<ServerFrame>(*kind, bytes.clone());
        }
    }

    #[test]
    fn damaged_frames_never_panic(frame in client_frame(), at: prop::sample::Index, flip in 1_u8..) {
        let mut wire = encoded(&frame, 0);
        let at = at.index(wire.len());
        wire[at] ^= flip;
        let _ = decode_all::<ClientFrame>(&wire, 64);
    }
}

fn header(length: u32, kind: u8, flags: u8, channel: u16) -> BytesMut {
    let mut buffer = BytesMut::new();
    Header { length, kind, flags, channel }.put(&mut buffer);
    buffer
}

#[test]
fn a_hostile_length_is_refused_by_its_header_and_stays_refused() {
    for kind in [0x10, 0x14, 0x01, 0xee] {
        let mut decoder = ready::<ClientFrame>();
        let mut buffer = header(u32::MAX, kind, FLAG_MAY_SKIP, 0);
        let capacity = buffer.capacity();
        let error = decoder.decode(&mut buffer).unwrap_err();
        assert_eq!(error.fault(), FaultCode::FrameTooLarge);
        assert_eq!(buffer.capacity(), capacity, "nothing is allocated by what a length announces");
        assert_eq!(decoder.decode(&mut encoded(&ClientFrame::from(Heartbeat {}), 0)), Err(error));
    }
}

#[test]
fn hostile_counts_and_lengths_inside_a_frame_allocate_nothing() {
    // An Ack that announces 2^32 - 1 ranges, a QueueList as many entries, a Login a 4 GiB secret.
    let mut ack = BytesMut::from(&[0; 8][..]);
    ack.extend_from_slice(&u32::MAX.to_le_bytes());
    let problem = read_payload::<ClientFrame>(0x14, ack.freeze()).unwrap_err();
    assert_eq!(problem.field, "ranges");
    let mut list = BytesMut::from(&[0; 4][..]);
    list.extend_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(read_payload::<ServerFrame>(0x46, list.freeze()).unwrap_err().field, "entries");
    let login = b"\x01\x00/\x05\x00PLAIN\x00\x00\xff\xff\xff\xff";
    let problem = read_payload::<ClientFrame>(0x02, Bytes::from_static(login)).unwrap_err();
    assert_eq!(problem.field, "secret");
}

#[test]
fn limits_depend_on_login_and_kind() {
    let longest = |mut decoder: BrokerDecoder, kind| {
        let mut limit = None;
        if let Err(DecodeError::TooLarge { limit: found, .. }) =
            decoder.decode(&mut header(u32::MAX, kind, 0, 0))
        {
            limit = Some(found);
        }
        limit
    };
    let limits = Limits::new(FRAME_LIMIT_MIN, 1 << 20);
    let after = || {
        let mut decoder = Decoder::new(limits);
        decoder.logged_in();
        decoder
    };
    assert_eq!(longest(Decoder::new(limits), 0x10), Some(4096));
    assert_eq!(longest(Decoder::new(limits), 0x14), Some(4096));
    assert_eq!(longest(after(), 0x14), Some(FRAME_LIMIT_MIN));
    assert_eq!(longest(after(), 0x10), Some((1 << 20) + MESSAGE_FRAME_ROOM));
    let mut exactly = header(4096, 0x01, 0, 0);
    assert_eq!(BrokerDecoder::new(limits).decode(&mut exactly), Ok(None), "the limit itself is allowed");
}

#[test]
fn unknown_kinds_are_skipped_only_if_they_say_so() {
    let mut wire = header(3, 0x33, FLAG_MAY_SKIP, 9);
    wire.extend_from_slice(b"new");
    encode(&ClientFrame::from(Heartbeat {}), 0, &mut wire);
    for step in 1..wire.len() {
        assert_eq!(decode_all::<ClientFrame>(&wire, step), Ok(vec![(0, Heartbeat {}.into())]));
    }
    let error = ready::<ClientFrame>().decode(&mut header(3, 0x33, 0, 9)).unwrap_err();
    assert_eq!(error, DecodeError::UnknownKind { kind: 0x33 });
    // A server's frame is unknown to a server.
    assert!(ready::<ClientFrame>().decode(&mut header(0, 0x44, 0, 0)).is_err());
}

#[test]
fn a_skipped_frame_is_not_kept_in_memory() {
    let mut decoder = ready::<ClientFrame>();
    let mut buffer = header(1 << 20, 0x33, FLAG_MAY_SKIP, 0);
    for _ in 0..256 {
        assert_eq!(decoder.decode(&mut buffer), Ok(None));
        assert!(buffer.is_empty());
        buffer.extend_from_slice(&[0; 4096]);
    }
    encode(&ClientFrame::from(Heartbeat {}), 0, &mut buffer);
    assert_eq!(decoder.decode(&mut buffer), Ok(Some((0, Heartbeat {}.into()))));
}

#[test]
fn unknown_flags_wrong_channels_and_trailing_bytes_are_refused() {
    let refusal = |mut wire: BytesMut| ready::<ClientFrame>().decode(&mut wire).unwrap_err();
    assert_eq!(refusal(header(0, 0x70, 0x01, 0)), DecodeError::UnknownFlags { kind: 0x70, flags: 1 });
    assert_eq!(refusal(header(0, 0x70, 0, 4)), DecodeError::WrongChannel { kind: 0x70, channel: 4 });
    let mut trailing = header(1, 0x70, 0, 0);
    trailing.extend_from_slice(&[0]);
    assert_eq!(refusal(trailing).fault(), FaultCode::MalformedFrame);
}

#[test]
fn hello_may_go_on_and_must_begin_with_its_magic() {
    let hello =
        ClientFrame::from(Hello { versions: VersionRange::new(1, 2).unwrap(), client_name: "c".into() });
    let payload = encoded(&hello, 0).split_off(HEADER_LENGTH);
    let mut longer = payload.clone();
    longer.extend_from_slice(b"what version 9 adds");
    assert_eq!(read_payload::<ClientFrame>(0x01, longer.freeze()), Ok(hello));
    let mut other = payload;
    other[0] = b'H';
    assert_eq!(
        read_payload::<ClientFrame>(0x01, other.freeze()).unwrap_err().fault(),
        FaultCode::WrongProtocol
    );
}

#[test]
fn a_bad_name_has_its_own_fault_and_names_the_field() {
    let mut payload = BytesMut::new();
    payload.extend_from_slice(&[1, 0, 0, 0, 2, 0, b'a', b'\n']);
    let problem = read_payload::<ClientFrame>(0x05, payload.freeze()).unwrap_err();
    assert_eq!((problem.fault(), problem.field), (FaultCode::InvalidName, "queue"));
}

#[test]
fn arguments_are_bounded() {
    let declare = |count, length| {
        let argument = Argument { name: "a".into(), value: Bytes::from(vec![0; length]) };
        let arguments = vec![argument; count];
        let queue = QueueName::new("q").unwrap();
        let frame = DeclareQueue { request: 1, queue, passive: false, max_length: 0, arguments };
        decode_all::<ClientFrame>(&encoded(&ClientFrame::from(frame), 1), 1 << 20)
    };
    assert!(declare(ARGUMENTS_MAX, ARGUMENT_LENGTH_MAX).is_ok());
    assert!(declare(ARGUMENTS_MAX + 1, 0).is_err());
    assert!(declare(1, ARGUMENT_LENGTH_MAX + 1).is_err());
}

#[test]
fn long_texts_are_cut_at_a_character() {
    let text = format!("{}ä", "x".repeat(TEXT_LENGTH_MAX - 1));
    let frame = ServerFrame::from(Failed { request: 1, code: FaultCode::Internal, text });
    let seen = decode_all::<ServerFrame>(&encoded(&frame, 3), 4096).unwrap();
    let expected = Failed { request: 1, code: FaultCode::Internal, text: "x".repeat(TEXT_LENGTH_MAX - 1) };
    assert_eq!(seen, vec![(3, expected.into())]);
}

#[test]
fn long_bodies_are_shared_and_short_ones_gathered() {
    let long = Bytes::from(vec![7; SHARE_FROM]);
    let short = Bytes::from(vec![8; SHARE_FROM - 1]);
    let delivery = |message: &Bytes| Delivery { seq: 1, redelivered: false, message: message.clone() };
    let (exchange, key) = (ExchangeName::default(), RoutingKey::default());
    let messages = vec![delivery(&short), delivery(&long), delivery(&short)];
    let frame = ServerFrame::from(Deliver { consumer: 1, exchange, key, messages });
    let mut segments = Segments::new();
    segments.push(&frame, 0);
    let pieces = segments.take();
    assert_eq!(pieces.len(), 3);
    assert_eq!(pieces[1].as_ptr(), long.as_ptr(), "the long body was copied");
}

#[test]
fn a_decoded_batch_shares_the_buffer() {
    let mut builder =
        PublishBuilder::new(ProducerId(1), 1, 1, &ExchangeName::default(), &RoutingKey::default());
    builder.push(&Properties::NONE, &[9; 5000], 10_000).unwrap();
    let mut wire = encoded(&ClientFrame::from(builder.finish().unwrap()), 0);
    let payload_at = wire.as_ptr() as usize + HEADER_LENGTH;
    let Ok(Some((_, ClientFrame::Publish(body)))) = ready().decode(&mut wire) else {
        panic!("the batch was not decoded");
    };
    assert_eq!(body.bytes().as_ptr() as usize, payload_at);
}

#[test]
fn secrets_do_not_show() {
    let secret = Bytes::from_static(b"hunter2");
    let vhost = VhostName::new("/").unwrap();
    let login = Login { vhost, mechanism: "PLAIN".into(), user: "u".into(), secret, heartbeat_ms: 0 };
    assert!(!format!("{login:?}").contains("hunter2"));
}
