//! Whatever arrives at a port: a clear error, no memory, no loss, and everybody else is served.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use quorate_client::{ConsumeOptions, Error, FaultCode, QueueOptions};
use quorate_protocol::frame::{ClientFrame, MAGIC, ProducerId, ServerFrame};
use quorate_protocol::message::Properties;
use quorate_protocol::name::{ExchangeName, RoutingKey};
use quorate_protocol::publish::PublishBuilder;
use quorate_tests::process::{
    Broker, ClusterPlan, PATIENCE, Place, RawClient, Snapshot, messages, status, wait_for,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// What bad input may leave behind in memory.
const LEFT_BEHIND_MAX: u64 = 32 << 20;

/// A broker that serves, and what it had before it was mistreated.
struct Victim {
    broker: Broker,
    _place: Place,
    resident: u64,
}

impl Victim {
    async fn new() -> Self {
        let place = Place::new();
        let mut broker = Broker::single(&place.path(""), "b");
        broker.start();
        broker.wait_leading();
        let client =
            messages::connect_with_queue(&format!("quorate://{}", broker.client_address()), "q").await;
        let publisher = client.publisher().unwrap();
        messages::confirmed(messages::publish(&publisher, "q", 0..100, 100).await).await;
        client.close().await;
        let resident = broker.resident_bytes();
        Self { broker, _place: place, resident }
    }

    fn client_address(&self) -> String {
        self.broker.client_address()
    }

    /// It lost nothing, it serves, and it is no bigger than before.
    async fn check_unharmed(&mut self) {
        let resident = wait_for("memory to be given back", || {
            let resident = self.broker.resident_bytes();
            if resident < self.resident + LEFT_BEHIND_MAX {
                Ok(resident)
            } else {
                Err(format!("{resident} bytes"))
            }
        });
        println!("resident: {} KiB before, {} KiB after", self.resident >> 10, resident >> 10);
        let client = messages::connect(&format!("quorate://{}", self.client_address())).await;
        let publisher = client.publisher().unwrap();
        messages::confirmed(messages::publish(&publisher, "q", 100..200, 100).await).await;
        assert_eq!(messages::drain(&client, "q").await.unwrap(), (0..200).collect::<Vec<_>>());
        assert!(self.broker.is_running());
    }
}

fn header(length: u32, kind: u8, channel: u16) -> BytesMut {
    let mut bytes = BytesMut::new();
    bytes.put_u32_le(length);
    bytes.put_u8(kind);
    bytes.put_u8(0);
    bytes.put_u16_le(channel);
    bytes
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> BytesMut {
    let mut bytes = header(u32::try_from(payload.len()).unwrap(), kind, channel);
    bytes.put_slice(payload);
    bytes
}

const HELLO: u8 = 0x01;
const DECLARE_QUEUE: u8 = 0x03;
const PUBLISH: u8 = 0x10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_input_a_frame_of_4_gib_is_refused_by_its_header() {
    let mut victim = Victim::new().await;
    for round in 0..50 {
        let mut stranger = RawClient::connect(&victim.client_address());
        stranger.send_bytes(&header(u32::MAX, HELLO, 0));
        let (code, text) = stranger.farewell().expect("it says why");
        assert_eq!(code, FaultCode::FrameTooLarge, "round {round}: {text}");
        assert!(text.contains("4294967295"), "{text}");
        let mut guest = RawClient::log_in(&victim.client_address());
        guest.send_bytes(&header(u32::MAX, PUBLISH, 1));
        assert_eq!(guest.farewell().expect("it says why").0, FaultCode::FrameTooLarge);
    }
    // Brokers' and operators' ports.
    for address in [victim.broker.cluster_address(), victim.broker.admin_address()] {
        let mut stranger = TcpStream::connect(&address).unwrap();
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        stranger.write_all(&header(u32::MAX, HELLO, 0)).unwrap();
        stranger.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = stranger.read_to_end(&mut Vec::new());
    }
    victim.check_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_input_random_bytes_are_refused() {
    let mut victim = Victim::new().await;
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let ports = [victim.client_address(), victim.broker.cluster_address(), victim.broker.admin_address()];
    for round in 0..150 {
        let mut noise = vec![0; 1 + usize::try_from(random.next_u32() % 20_000).unwrap()];
        random.fill_bytes(&mut noise);
        let mut stranger = TcpStream::connect(&ports[round % 3]).unwrap();
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stranger.write_all(&noise);
        let _ = stranger.shutdown(std::net::Shutdown::Write);
        // Either end may cut the connection; it must come to an end.
        let mut answer = Vec::new();
        if let Err(error) = stranger.read_to_end(&mut answer) {
            assert_ne!(
                error.kind(),
                std::io::ErrorKind::WouldBlock,
                "round {round}: the connection stays open"
            );
        }
    }
    // After a login too, where a known kind makes the bytes be looked at.
    for round in 0..100 {
        let mut noise = vec![0; usize::try_from(random.next_u32() % 5000).unwrap()];
        random.fill_bytes(&mut noise);
        let kind = u8::try_from(random.next_u32() % 0x20).unwrap();
        let mut guest = RawClient::log_in(&victim.client_address());
        guest.send_bytes(&frame(kind, u16::from(kind > 2), &noise));
        guest.send_bytes(&header(u32::MAX, 0x55, 0));
        assert!(guest.farewell().is_some(), "round {round}, kind {kind:#04x}");
    }
    victim.check_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_input_a_frame_that_stalls_is_cut_off() {
    let mut victim = Victim::new().await;
    // Before the login there is a limit in time.
    let mut strangers: Vec<RawClient> = (0..50)
        .map(|_| {
            let mut stranger = RawClient::connect(&victim.client_address());
            stranger.send_bytes(&header(4000, HELLO, 0));
            stranger.send_bytes(b"QRTE");
            stranger
        })
        .collect();
    // After it, silence is noticed: half a frame is no heartbeat.
    let mut guests: Vec<RawClient> = (0..20)
        .map(|_| {
            let mut guest = RawClient::log_in(&victim.client_address());
            guest.send_bytes(&header(16 << 20, PUBLISH, 1));
            guest.send_bytes(&[0; 1000]);
            guest
        })
        .collect();
    assert!(victim.broker.resident_bytes() < victim.resident + LEFT_BEHIND_MAX, "a length was believed");
    for stranger in &mut strangers {
        let (code, text) = stranger.farewell().expect("it says why");
        assert_eq!(code, FaultCode::LoginTimeout, "{text}");
    }
    for guest in &mut guests {
        let (code, text) = guest.farewell().expect("it says why");
        assert_eq!(code, FaultCode::HeartbeatMissed, "{text}");
    }
    victim.check_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_input_unknown_versions_are_refused_with_both_named() {
    let mut victim = Victim::new().await;
    let mut hello = BytesMut::from(&MAGIC[..]);
    hello.put_u16_le(900);
    hello.put_u16_le(999);
    hello.put_u16_le(4);
    hello.put_slice(b"test");
    let mut stranger = RawClient::connect(&victim.client_address());
    stranger.send_bytes(&frame(HELLO, 0, &hello));
    let (code, text) = stranger.farewell().expect("it says why");
    assert_eq!(code, FaultCode::UnsupportedVersion);
    assert!(text.contains("900") && text.contains("999") && text.contains('1'), "{text}");

    let mut stranger = RawClient::connect(&victim.client_address());
    stranger.send_bytes(&frame(HELLO, 0, b"HTTP/1.1 200 OK\r\n"));
    assert_eq!(stranger.farewell().expect("it says why").0, FaultCode::WrongProtocol);

    let mut guest = RawClient::log_in(&victim.client_address());
    guest.send_bytes(&frame(0x66, 1, b"of a later version"));
    assert_eq!(guest.farewell().expect("it says why").0, FaultCode::UnknownFrame);
    victim.check_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_input_a_wrong_cluster_secret_keeps_a_broker_out() {
    let mut cluster = ClusterPlan::of(3).wait_for(2).prepare();
    for number in 0..3 {
        let secret = cluster.path(&format!("secret{number}"));
        std::fs::write(
            &secret,
            if number < 2 { "the secret of this cluster\n" } else { "another one, not this one\n" },
        )
        .unwrap();
        cluster[number].add_flags(&["--cluster-secret-file", &secret.display().to_string()]);
        cluster[number].start();
    }
    let line = cluster[2].wait_log("secret");
    assert!(line.contains("WARN") || line.contains("ERROR"), "{line}");
    // Two of three are enough, and the third is no member of anything.
    let of_members =
        |number: usize| cluster[number].wait_until("is active", |status| status.verdict() == "active");
    let id = of_members(0).cluster_id().map(str::to_owned);
    assert_eq!(of_members(1).cluster_id().map(str::to_owned), id);
    let outside = cluster[2].status().unwrap();
    assert_eq!((outside.verdict(), outside.cluster_id()), ("waiting", None), "{}", outside.0);
    assert_eq!(Snapshot::of(&cluster.data(2)).without("lock").names(), ["store-id"]);
    let _connected = messages::connect_and_publish(&cluster.url(), "q", 0..100, 100).await;
}

fn declare(name: &[u8]) -> BytesMut {
    let mut payload = BytesMut::new();
    payload.put_u32_le(1);
    payload.put_u16_le(u16::try_from(name.len()).unwrap());
    payload.put_slice(name);
    payload.put_u8(0);
    payload.put_u64_le(0);
    payload.put_u32_le(0);
    frame(DECLARE_QUEUE, 1, &payload)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_input_names_that_are_none_are_refused() {
    let mut victim = Victim::new().await;
    let long = "n".repeat(10_000);
    let bad: [&[u8]; 6] = [b"", b"two\nlines", b"bell\x07", b"nul\0", b"\xff\xfe", long.as_bytes()];
    for name in bad {
        // By the library, before anything is sent.
        let client = messages::connect(&format!("quorate://{}", victim.client_address())).await;
        if let Ok(text) = std::str::from_utf8(name) {
            let error = client.declare_queue(text, QueueOptions::default()).await.unwrap_err();
            assert!(matches!(error, Error::Invalid(_)), "{error:?}");
        }
        // By the broker, from whoever sends them nevertheless.
        let mut guest = RawClient::log_in(&victim.client_address());
        guest.send_bytes(&declare(name));
        guest.send_bytes(&header(u32::MAX, 0x55, 0));
        let answer = guest.receive().expect("it says something");
        let code = match answer {
            ServerFrame::Failed(failed) => failed.code,
            ServerFrame::Close(close) => close.code.expect("a reason"),
            other => panic!("{name:?}: {other:?}"),
        };
        assert_eq!(code, FaultCode::InvalidName, "{:?}", String::from_utf8_lossy(name));
        // And for a virtual host, over HTTP.
        let Ok(text) = std::str::from_utf8(name) else { continue };
        let body = serde_json::json!({ "name": text });
        let (code, answer) = status::post(&victim.broker.admin_address(), "/api/v1/vhosts", &body).unwrap();
        assert_eq!(code, 400, "{answer}");
        assert!(answer.contains("\"next\""), "{answer}");
    }
    // A well-formed one in the same bytes is taken, so the others were refused for their names.
    let mut guest = RawClient::log_in(&victim.client_address());
    guest.send_bytes(&declare("größer".as_bytes()));
    assert!(matches!(guest.receive(), Some(ServerFrame::QueueOk(_))));
    for name in ["two\nlines", &long] {
        let place = Place::new();
        let mut broker = Broker::new(&place.path(""), "b", &["--cluster-name", name]);
        let ended = broker.run_to_end();
        assert_eq!(ended.status, Some(2), "{}", ended.log);
        assert!(ended.log.contains("--cluster-name"), "{}", ended.log);
    }
    victim.check_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_input_a_message_over_the_limit_is_refused() {
    let mut victim = Victim::new().await;
    let client = messages::connect(&format!("quorate://{}", victim.client_address())).await;
    let publisher = client.publisher().unwrap();
    let error = publisher.publish("", "q", vec![0; (16 << 20) + 1]).await.unwrap_err();
    assert!(matches!(error, Error::MessageTooLarge { limit: 0x0100_0000, .. }), "{error:?}");
    assert!(!error.is_retryable());

    // From a client that does not keep to the limit: as long as a frame may be, and too long for a message.
    let mut guest = RawClient::log_in(&victim.client_address());
    let (exchange, key) = (ExchangeName::new("").unwrap(), RoutingKey::new("q").unwrap());
    let mut builder = PublishBuilder::new(ProducerId(77), 1, 1, &exchange, &key);
    builder.push(&Properties::NONE, &vec![0; (16 << 20) + 1000], u32::MAX).unwrap();
    guest.send_on(&ClientFrame::from(builder.finish().unwrap()), 1);
    let (code, text) = guest.farewell().expect("it says why");
    assert_eq!(code, FaultCode::MessageTooLarge, "{text}");
    assert!(text.contains("16778216") && text.contains("16777216"), "{text}");
    // What does not even fit a frame.
    let mut guest = RawClient::log_in(&victim.client_address());
    guest.send_bytes(&header(20 << 20, PUBLISH, 1));
    assert_eq!(guest.farewell().expect("it says why").0, FaultCode::FrameTooLarge);
    // The longest allowed one is taken.
    let longest = publisher.publish("", "q", Bytes::from(messages::body(100, 16 << 20))).await.unwrap();
    messages::confirmed(vec![longest]).await;
    let mut seen = client.consume("q", ConsumeOptions::default()).await.unwrap();
    for expected in 0..=100 {
        let delivery = tokio::time::timeout(PATIENCE, seen.next()).await.expect("in time").unwrap().unwrap();
        assert_eq!(messages::number(delivery.body()), expected);
        if expected == 100 {
            assert_eq!(delivery.body().len(), 16 << 20);
            delivery.ack().await.unwrap();
        }
    }
    drop(seen);
    client.close().await;
    victim.check_unharmed().await;
}

#[test]
fn acceptance_input_silent_connections_are_closed() {
    let place = Place::new();
    let mut broker = Broker::single(&place.path(""), "b");
    broker.start();
    broker.wait_leading();
    let mut silent = RawClient::connect(&broker.client_address());
    let begun = std::time::Instant::now();
    assert_eq!(silent.farewell().expect("it says why").0, FaultCode::LoginTimeout);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
