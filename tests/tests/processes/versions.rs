//! A broker of another protocol version: acceptance B15.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use bytes::BytesMut;
use quorate_protocol::name::{Address, BrokerName, ClusterName};
use quorate_protocol::peer_frame::{PeerDecoder, PeerFrame, PeerRefused};
use quorate_protocol::peer_hello::{PeerAcceptor, PeerConfig, PeerDialer, PeerHello, Progress};
use quorate_protocol::version::{PEER_VERSIONS, VersionRange};
use quorate_tests::process::{ClusterPlan, PATIENCE, messages};
use uuid::Uuid;

/// A broker of the next version, which speaks none of this one's.
fn stranger(address: &str) -> PeerConfig {
    let address = Address::new(address).unwrap();
    let hello = PeerHello {
        cluster_name: ClusterName::new("quorate").unwrap(),
        store_id: Uuid::from_u128(77),
        run_id: Uuid::from_u128(78),
        name: BrokerName::new("b3").unwrap(),
        cluster_address: address.clone(),
        client_address: address.clone(),
        admin_address: address,
        transient: false,
    };
    PeerConfig { versions: next_versions(), ..PeerConfig::new(hello, None) }
}

fn next_versions() -> VersionRange {
    let next = PEER_VERSIONS.max() + 1;
    VersionRange::new(next, next + 1).unwrap()
}

/// Says which versions both ends speak.
fn names_both(text: &str) -> bool {
    text.contains(&format!(" {PEER_VERSIONS}")) && text.contains(&next_versions().to_string())
}

fn send(stream: &mut TcpStream, frame: &PeerFrame) {
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes);
    stream.write_all(&bytes).unwrap();
}

/// The next frame; none at the connection's end.
fn receive(stream: &mut TcpStream, decoder: &mut PeerDecoder, buffer: &mut BytesMut) -> Option<PeerFrame> {
    loop {
        if let Some(frame) = decoder.decode(buffer).unwrap() {
            return Some(frame);
        }
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes).ok().filter(|read| *read > 0)?;
        buffer.extend_from_slice(&bytes[..read]);
    }
}

/// Dials a broker; gives what it refuses with.
fn refusal(address: &str) -> PeerRefused {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (_, hello) = PeerDialer::new(stranger(address), &[7; 32]);
    send(&mut stream, &hello);
    let (mut decoder, mut buffer) = (PeerDecoder::default(), BytesMut::new());
    match receive(&mut stream, &mut decoder, &mut buffer) {
        Some(PeerFrame::Refused(refused)) => {
            assert_eq!(receive(&mut stream, &mut decoder, &mut buffer), None, "and ends the connection");
            refused
        }
        other => panic!("it was not refused: {other:?}"),
    }
}

/// Answers every broker that dials, as the stranger does, for as long as the test runs.
fn answer_as_stranger(listener: TcpListener) {
    let own = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut acceptor = PeerAcceptor::new(stranger(&own), [9; 32]);
            let (mut decoder, mut buffer) = (PeerDecoder::default(), BytesMut::new());
            let Some(frame) = receive(&mut stream, &mut decoder, &mut buffer) else { continue };
            let reaction = acceptor.handle(frame);
            assert!(matches!(reaction.progress, Progress::Failed(_)), "{reaction:?}");
            if let Some(frame) = reaction.send {
                send(&mut stream, &frame);
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_b15_a_joiner_of_another_version_is_refused_and_nothing_else_changes() {
    let mut cluster = ClusterPlan::of(3).wait_for(2).quick().prepare();
    cluster.start_these(&[0, 1]);
    let leader = cluster.wait_active();
    let (client, publisher) = messages::connect_and_publish(&cluster.url(), "b15", 0..100, 100).await;
    let term = cluster[leader].status().unwrap().group("/").unwrap()["term"].clone();
    for number in [0, 1] {
        for _ in 0..20 {
            let refused = refusal(&cluster[number].cluster_address());
            assert!(names_both(&refused.text), "{}", refused.text);
            assert!(refused.text.contains(cluster[number].name()), "{}", refused.text);
        }
    }
    assert_eq!(cluster.wait_active(), leader);
    let status = cluster[leader].status().unwrap();
    assert_eq!(status.group("/").unwrap()["term"], term);
    assert!(status.member("b3").is_none(), "{}", status.0);
    messages::confirmed(messages::publish(&publisher, "b15", 100..200, 100).await).await;
    assert_eq!(messages::drain(&client, "b15").await.unwrap(), (0..200).collect::<Vec<_>>());
}

#[test]
fn acceptance_b15_forming_goes_on_without_a_broker_of_another_version_and_names_both() {
    for wait_for in [3, 2] {
        let mut cluster = ClusterPlan::of(3).wait_for(wait_for).quick().prepare();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().to_string();
        let peers: Vec<String> = cluster.peers().split(',').take(2).map(str::to_owned).chain([own]).collect();
        for number in [0, 1] {
            cluster[number].set_flag("--cluster-peers", &peers.join(","));
        }
        answer_as_stranger(listener);
        cluster.start_these(&[0, 1]);
        for number in [0, 1] {
            cluster[number]
                .wait_until("names both versions", |status| names_both(&status.0["notes"].to_string()));
        }
        if wait_for == 2 {
            cluster.wait_active();
            continue;
        }
        for number in [0, 1] {
            let status = cluster[number].wait_until("waits", |status| {
                status.verdict() == "waiting" && status.reason().contains("2 of 3")
            });
            assert_eq!(status.cluster_id(), None);
        }
    }
}
