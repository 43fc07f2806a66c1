//! The page `docs/internals/wire.md` and its test vectors say what the code does.
#![allow(clippy::unwrap_used, reason = "helpers of tests are outside what the lint knows as tests")]

use std::collections::BTreeSet;
use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use quorate_protocol::codec::{Decoder, encode};
use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::*;
use quorate_protocol::limits::Limits;
use quorate_protocol::message::Properties;
use quorate_protocol::name::{
    Address, BrokerName, ClusterName, ExchangeName, QueueName, RoutingKey, VhostName,
};
use quorate_protocol::peer_frame::{PeerDecoder, PeerFrame, PeerRefused};
use quorate_protocol::peer_hello::{PeerAcceptor, PeerConfig, PeerDialer, PeerHello, PeerSecret, Progress};
use quorate_protocol::publish::{PublishBody, PublishBuilder};
use quorate_protocol::transaction::{TransactionBuilder, TransactionSettlement};
use quorate_protocol::version::VersionRange;
use uuid::Uuid;

const PAGE: &str = include_str!("../../docs/internals/wire.md");
const VECTORS: &str = include_str!("../../docs/internals/wire-vectors.txt");
const PRODUCER: ProducerId = ProducerId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);

/// One vector of the file: the words after `=`, and the bytes.
struct Vector {
    words: Vec<&'static str>,
    bytes: BytesMut,
}

fn vectors(side: &str) -> Vec<Vector> {
    let mut vectors: Vec<Vector> = Vec::new();
    for line in VECTORS.lines() {
        let line = line.split('#').next().unwrap_or_default();
        if let Some(words) = line.strip_prefix("= ") {
            vectors.push(Vector { words: words.split_whitespace().collect(), bytes: BytesMut::new() });
        } else if let Some(vector) = vectors.last_mut() {
            let digits: Vec<u8> = line.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
            for pair in digits.chunks(2) {
                let pair = std::str::from_utf8(pair).unwrap();
                vector
                    .bytes
                    .extend_from_slice(&[u8::from_str_radix(pair, 16).expect("two hexadecimal digits")]);
            }
        }
    }
    vectors.retain(|vector| vector.words.first() == Some(&side));
    vectors
}

fn queue() -> QueueName {
    QueueName::new("orders").unwrap()
}

fn exchange() -> ExchangeName {
    ExchangeName::new("trade").unwrap()
}

fn key() -> RoutingKey {
    RoutingKey::new("eu.de").unwrap()
}

fn binding() -> Binding {
    Binding { exchange: exchange(), queue: queue(), key: RoutingKey::new("eu.#").unwrap() }
}

fn range(first: u64, last: u64) -> NumberRange {
    NumberRange::new(first, last).unwrap()
}

fn publish() -> PublishBody {
    let mut builder = PublishBuilder::new(PRODUCER, 7, 5, &exchange(), &key());
    let properties = Properties::new([("content-type", &b"text/plain"[..])]).unwrap();
    builder.push(&properties, b"hello", 1 << 20).unwrap();
    builder.push(&Properties::NONE, b"", 1 << 20).unwrap();
    builder.finish().unwrap()
}

fn message(place: usize) -> Bytes {
    publish().messages().nth(place).unwrap().bytes
}

fn commit() -> Commit {
    let mut builder = TransactionBuilder::new(PRODUCER, 2);
    let default = (ExchangeName::default(), RoutingKey::new("orders").unwrap());
    let trade = (exchange(), key());
    for ((exchange, key), body) in [(&trade, b"a"), (&trade, b"b"), (&default, b"c")] {
        builder.push(exchange, key, (&Properties::NONE, body), Limits::default(), 0).unwrap();
    }
    let settlement = TransactionSettlement { consumer: 1, dropped: false, ranges: vec![range(1, 3)] };
    let transaction = builder.finish().with_first_unsettled(1);
    Commit { request: 18, settlements: vec![settlement], transaction }
}

/// What the client's vectors mean, in the order of the file.
fn client_samples() -> Vec<ClientFrame> {
    let argument = Argument { name: "note".into(), value: Bytes::from_static(b"hi") };
    let declare = |request, passive, max_length, arguments| {
        DeclareQueue { request, queue: queue(), passive, max_length, arguments }.into()
    };
    let login = Login {
        vhost: VhostName::new("/").unwrap(),
        mechanism: MECHANISM_PLAIN.into(),
        user: "alice".into(),
        secret: Bytes::from_static(b"s3cret"),
        heartbeat_ms: 5000,
    };
    vec![
        Hello { versions: VersionRange::new(1, 1).unwrap(), client_name: "example 1.0".into() }.into(),
        login.into(),
        declare(1, false, 100_000, vec![argument]),
        declare(2, true, 0, vec![]),
        DeleteQueue { request: 3, queue: queue(), if_empty: true, if_unused: false }.into(),
        PurgeQueue { request: 4, queue: queue() }.into(),
        ListQueues { request: 5, after: None, limit: 100 }.into(),
        ListQueues { request: 6, after: Some(queue()), limit: 0 }.into(),
        PeekQueue { request: 7, queue: queue(), from_seq: 0, limit: 10 }.into(),
        DeclareExchange { request: 8, exchange: exchange(), kind: ExchangeKind::Topic, passive: false }
            .into(),
        DeleteExchange { request: 9, exchange: exchange(), if_unused: true }.into(),
        ListExchanges { request: 10, after: Some(exchange()), limit: 0 }.into(),
        Bind { request: 11, binding: binding() }.into(),
        Unbind { request: 12, binding: binding() }.into(),
        ListBindings { request: 13, exchange: Some(exchange()), after: None, limit: 50 }.into(),
        ListBindings { request: 14, exchange: None, after: Some(binding()), limit: 0 }.into(),
        publish().into(),
        Consume { request: 15, consumer: 1, queue: queue(), credit: 256, no_ack: false, exclusive: true }
            .into(),
        Credit { consumer: 1, add: 128 }.into(),
        Cancel { request: 16, consumer: 1 }.into(),
        Ack { request: 17, consumer: 1, ranges: vec![range(1, 3), range(5, 5)] }.into(),
        Nack { request: 0, consumer: 1, requeue: true, ranges: vec![range(4, 4)] }.into(),
        commit().into(),
        Resolve { request: 19, producer: PRODUCER, number: 2, first_unsettled: 1 }.into(),
        Heartbeat {}.into(),
        Close { code: None, text: String::new(), leader_address: String::new() }.into(),
    ]
}

/// What the broker's vectors mean, in the order of the file.
fn server_samples() -> Vec<ServerFrame> {
    let elsewhere = || ("beta leads /".to_owned(), "10.0.0.2:7420".to_owned());
    let (text, leader_address) = elsewhere();
    let refused = Refused { code: FaultCode::NotLeader, text, leader_address, retry_after_ms: 0 };
    let (text, leader_address) = elsewhere();
    let close = Close { code: Some(FaultCode::NotLeader), text, leader_address };
    let durability = Durability { leader: SyncPolicy::Sync, replicas: SyncPolicy::NoSync };
    let peeked = Peeked { seq: 1, redelivered: false, exchange: exchange(), key: key(), message: message(0) };
    let hello_ok = HelloOk {
        version: 1,
        server_name: "alpha".into(),
        cluster_name: "quorate".into(),
        frame_limit: Limits::default().frame(),
        message_limit: Limits::default().message(),
        heartbeat_ms: 500,
    };
    let entry = QueueEntry {
        queue: queue(),
        ready: 2,
        unacknowledged: 1,
        consumers: 1,
        bytes: 4096,
        leader: "alpha".into(),
    };
    let confirm = Confirm {
        producer: PRODUCER,
        ranges: vec![range(7, 8)],
        group: 1,
        epoch: 1,
        term: 3,
        index: 42,
        durability,
        under_override: false,
        duplicate: false,
    };
    let publish_refused = PublishRefused {
        producer: PRODUCER,
        range: range(7, 8),
        code: FaultCode::Unroutable,
        retryable: false,
        text: "no binding fits".into(),
    };
    let deliver = Deliver {
        consumer: 1,
        exchange: exchange(),
        key: key(),
        messages: vec![
            Delivery { seq: 1, redelivered: false, message: message(0) },
            Delivery { seq: 2, redelivered: true, message: message(1) },
        ],
    };
    let committed = Committed {
        request: 18,
        group: 1,
        epoch: 1,
        term: 3,
        index: 42,
        durability,
        under_override: false,
        duplicate: false,
    };
    let trade = ExchangeEntry { exchange: exchange(), kind: ExchangeKind::Topic, bindings: 1 };
    let vhost = VhostName::new("/").unwrap();
    vec![
        hello_ok.into(),
        LoginOk { session: 3, vhost, leader_name: "alpha".into(), heartbeat_ms: 500 }.into(),
        refused.into(),
        Failed { request: 3, code: FaultCode::QueueNotFound, text: "no queue orders".into() }.into(),
        Done { request: 4, affected: 12 }.into(),
        QueueOk { request: 1, created: true, ready: 0, consumers: 0 }.into(),
        QueueList { request: 5, entries: vec![entry], more: false }.into(),
        PeekOk { request: 7, messages: vec![peeked], more: true }.into(),
        ExchangeList { request: 10, entries: vec![trade], more: false }.into(),
        BindingList { request: 13, entries: vec![binding()], more: false }.into(),
        confirm.into(),
        publish_refused.into(),
        Blocked { code: FaultCode::DiskLow, text: "disk low".into() }.into(),
        Unblocked {}.into(),
        ConsumeOk { request: 15 }.into(),
        CancelOk { request: 16 }.into(),
        deliver.into(),
        ConsumerClosed { consumer: 1, code: FaultCode::QueueDeleted, text: "orders was deleted".into() }
            .into(),
        Settled { request: 17, settled: 4 }.into(),
        committed.into(),
        Heartbeat {}.into(),
        close.into(),
    ]
}

fn decoder<F: Frame>() -> Decoder<F> {
    let mut decoder = Decoder::new(Limits::default());
    decoder.logged_in();
    decoder
}

fn compare<F: Frame + PartialEq + Debug>(side: &str, samples: &[F]) {
    let vectors = vectors(side).into_iter().filter(|vector| vector.words[1] != "refused");
    let vectors: Vec<_> = vectors.collect();
    assert_eq!(vectors.len(), samples.len(), "vectors and samples of the {side}");
    for (vector, sample) in vectors.into_iter().zip(samples) {
        assert_eq!(vector.words[1], sample.kind_name());
        let channel: u16 = vector.words[2].parse().unwrap();
        let mut encoded = BytesMut::new();
        encode(sample, channel, &mut encoded);
        assert_eq!(encoded, vector.bytes, "{sample:?}");
        let mut buffer = vector.bytes.clone();
        let decoded = decoder::<F>().decode(&mut buffer).unwrap().expect("a whole frame");
        assert_eq!((decoded.0, &decoded.1), (channel, sample));
        assert!(buffer.is_empty());
    }
    let shown: BTreeSet<_> = samples.iter().map(Frame::kind).collect();
    let known: BTreeSet<_> = F::KINDS.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(shown, known, "every kind of frame has a vector");
}

#[test]
fn the_clients_vectors_are_the_clients_frames() {
    compare("client", &client_samples());
}

#[test]
fn the_brokers_vectors_are_the_brokers_frames() {
    compare("server", &server_samples());
}

#[test]
fn refused_vectors_are_refused_with_their_fault() {
    let mut seen = 0;
    for mut vector in vectors("client").into_iter().filter(|vector| vector.words[1] == "refused") {
        let code: u16 = vector.words[2].parse().unwrap();
        let bytes = vector.bytes.clone();
        let error = decoder::<ClientFrame>().decode(&mut vector.bytes).expect_err("must be refused");
        assert_eq!(error.fault().number(), code, "{bytes:?}: {error}");
        seen += 1;
    }
    assert!(seen >= 10, "only {seen} refused vectors were found");
}

fn headings() -> Vec<(u8, &'static str)> {
    let headings = PAGE.lines().filter_map(|line| line.strip_prefix("### 0x"));
    headings
        .map(|heading| {
            let (number, name) = heading.split_once(' ').expect("number and name");
            (u8::from_str_radix(number, 16).unwrap(), name)
        })
        .collect()
}

#[test]
fn the_page_describes_every_kind_of_frame_once() {
    let expected: Vec<_> = ClientFrame::KINDS.iter().chain(ServerFrame::KINDS).copied().collect();
    assert_eq!(headings(), expected);
}

#[test]
fn the_page_has_the_registry_of_faults() {
    let section = PAGE.split("\n## Faults\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<_> =
        section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| code")).collect();
    let expected: Vec<_> = FaultCode::ALL
        .iter()
        .map(|code| {
            let retryable = if code.is_retryable() { "yes" } else { "no" };
            let (number, name, blame, text) = (code.number(), code.name(), code.blame(), code.text());
            format!("| {number} | {name} | {blame} | {retryable} | {text} |")
        })
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn every_fault_named_on_the_page_exists() {
    let names: BTreeSet<_> = FaultCode::ALL.iter().map(|code| code.name()).collect();
    let words = PAGE.split(|character: char| !character.is_ascii_uppercase() && character != '_');
    let unknown: Vec<_> =
        words.filter(|word| word.contains('_') && word.len() > 4 && !names.contains(word)).collect();
    assert_eq!(unknown, Vec::<&str>::new());
}

fn peer(number: u128, name: &str) -> PeerConfig {
    let address =
        |port| Address::new(&format!("10.0.0.{}:{port}", if name == "alpha" { 1 } else { 2 })).unwrap();
    let hello = PeerHello {
        cluster_name: ClusterName::new("quorate").unwrap(),
        store_id: Uuid::from_u128(number),
        run_id: Uuid::from_u128(number + 1),
        name: BrokerName::new(name).unwrap(),
        cluster_address: address(7421),
        client_address: address(7420),
        admin_address: Address::new("").unwrap(),
        transient: false,
    };
    PeerConfig::new(hello, PeerSecret::new("s3cret"))
}

#[test]
fn the_peer_vectors_are_a_whole_handshake() {
    let (mut dialer, hello) = PeerDialer::new(peer(0xa1, "alpha"), &[0x11; 32]);
    let mut acceptor = PeerAcceptor::new(peer(0xb1, "beta"), [0x22; 32]);
    let hello_ok = acceptor.handle(hello.clone()).send.unwrap();
    let auth = dialer.handle(hello_ok.clone()).send.unwrap();
    let accepted = acceptor.handle(auth.clone());
    assert!(matches!(accepted.progress, Progress::Linked(_)));
    let refused = PeerRefused { code: FaultCode::PeerSecretWrong, text: "no".into() };
    let frames = [
        hello,
        hello_ok,
        auth,
        accepted.send.unwrap(),
        PeerFrame::Refused(refused),
        PeerFrame::Message(Bytes::from_static(&[0xca, 0xfe])),
        PeerFrame::Heartbeat,
    ];
    let vectors = vectors("peer");
    assert_eq!(vectors.len(), frames.len());
    for (mut vector, frame) in vectors.into_iter().zip(frames) {
        assert_eq!(vector.words[1], frame.kind_name());
        let mut encoded = BytesMut::new();
        frame.encode(&mut encoded);
        assert_eq!(encoded, vector.bytes, "{frame:?}");
        assert_eq!(PeerDecoder::default().decode(&mut vector.bytes), Ok(Some(frame)));
    }
}
