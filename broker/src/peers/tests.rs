use std::net::SocketAddr;

use quorate_core::io::Input;
use quorate_core::peer::PeerMessage;
use quorate_protocol::name::{Address, BrokerName, ClusterName};
use quorate_protocol::peer_hello::PeerSecret;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::*;
use crate::inbox::{Arrival, Arrivals};

/// A broker with nobody inside but the test.
struct Broker {
    runtime: Runtime,
    peers: Peers,
    key: PeerKey,
    address: SocketAddr,
    arrivals: Arrivals,
}

fn broker(number: u128, secret: Option<&'static str>) -> Broker {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let told = Address::new(&address.to_string()).unwrap();
    let hello = PeerHello {
        cluster_name: ClusterName::new("test").unwrap(),
        store_id: Uuid::from_u128(number),
        run_id: Uuid::from_u128(number + 100),
        name: BrokerName::new(&format!("b{number}")).unwrap(),
        cluster_address: told.clone(),
        client_address: told.clone(),
        admin_address: told,
        transient: false,
    };
    let key = identity(&hello).key;
    let config = PeerConfig::new(hello, secret.and_then(|secret| PeerSecret::new(secret.as_bytes())));
    let (inbox, arrivals) = Inbox::new();
    let timing = LinkTiming::new(Duration::from_millis(50), Duration::from_secs(5));
    let peers = Peers::new(config, timing, inbox, Arc::default(), runtime.handle().clone());
    runtime.spawn(peers.clone().serve(listener));
    Broker { runtime, peers, key, address, arrivals }
}

impl Broker {
    fn linked(&mut self) -> (PeerIdentity, LinkOutlet, LinkId) {
        match self.arrivals.blocking_recv().unwrap() {
            Arrival::Linked { peer, outlet, link, .. } => (peer, outlet, link),
            other => panic!("{other:?}"),
        }
    }

    fn message(&mut self) -> (PeerKey, PeerMessage) {
        match self.arrivals.blocking_recv().unwrap() {
            Arrival::Input(Input::PeerMessage { from, message }, Some(_)) => (from, message),
            other => panic!("{other:?}"),
        }
    }
}

fn message(transfer: u64) -> PeerMessage {
    PeerMessage::SnapshotGone { transfer }
}

#[test]
fn a_link_carries_messages_in_order_and_its_end_is_told_at_both_ends() {
    let (mut one, mut two) = (broker(1, Some("a secret")), broker(2, Some("a secret")));
    one.peers.dial(&two.address.to_string());
    let (peer, outlet, link) = one.linked();
    assert_eq!((peer.key, peer.name.as_str()), (two.key, "b2"));
    for transfer in 0..1000 {
        outlet.send(message(transfer)).unwrap();
    }
    // Whoever is dialed dials back.
    let mut back = None;
    let mut expected = 0;
    while expected < 1000 || back.is_none() {
        match two.arrivals.blocking_recv().unwrap() {
            Arrival::Linked { peer, outlet, .. } => {
                assert_eq!(peer.key, one.key);
                back = Some(outlet);
            }
            Arrival::Input(Input::PeerMessage { from, message: seen }, Some(_)) => {
                assert_eq!((from, seen), (one.key, message(expected)));
                expected += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    // A link lasts as long as its outlet.
    let back = back.unwrap();
    back.send(message(7)).unwrap();
    assert_eq!(one.message(), (two.key, message(7)));

    outlet.stop();
    match one.arrivals.blocking_recv().unwrap() {
        Arrival::LinkEnded { link: ended, peer } => assert_eq!((ended, peer), (link, two.key)),
        other => panic!("{other:?}"),
    }
    match two.arrivals.blocking_recv().unwrap() {
        Arrival::InboundEnded { peer } => assert_eq!(peer, one.key),
        other => panic!("{other:?}"),
    }
    let (peer, outlet, again) = one.linked();
    assert_eq!(peer.key, two.key);
    assert_ne!(again, link);
    outlet.send(message(8)).unwrap();
    assert_eq!(two.message(), (one.key, message(8)));
}

#[test]
fn the_end_of_a_process_is_told_at_once() {
    let (mut one, two) = (broker(1, None), broker(2, None));
    one.peers.dial(&two.address.to_string());
    let (_, outlet, _) = one.linked();
    outlet.send(message(1)).unwrap();
    let gone = two.key;
    // Ends its tasks and closes its sockets.
    two.runtime.shutdown_background();
    let mut seen = (false, false);
    while seen != (true, true) {
        match one.arrivals.blocking_recv().unwrap() {
            Arrival::LinkEnded { peer, .. } if peer == gone => seen.0 = true,
            Arrival::InboundEnded { peer } if peer == gone => seen.1 = true,
            other => panic!("{other:?}"),
        }
        // It may have ended before it dialed back.
        if seen.0 && lock(&one.peers.0.inbound).is_empty() {
            break;
        }
    }
}

#[test]
fn an_address_that_leads_home_is_told() {
    let mut one = broker(1, None);
    let address = one.address.to_string();
    one.peers.dial(&address);
    match one.arrivals.blocking_recv().unwrap() {
        Arrival::Input(Input::PeerIsSelf { dialed }, None) => assert_eq!(dialed, address),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_second_address_of_a_peer_is_told_and_disturbs_nothing() {
    let (mut one, mut two) = (broker(1, None), broker(2, None));
    one.peers.dial(&two.address.to_string());
    let (_, outlet, _) = one.linked();
    let alias = format!("localhost:{}", two.address.port());
    one.peers.dial(&alias);
    match one.arrivals.blocking_recv().unwrap() {
        Arrival::Input(Input::PeerLinked { peer, dialed }, None) => {
            assert_eq!((peer.key, dialed), (two.key, alias));
        }
        other => panic!("{other:?}"),
    }
    outlet.send(message(3)).unwrap();
    let mut back = Vec::new();
    loop {
        match two.arrivals.blocking_recv().unwrap() {
            Arrival::Linked { outlet, .. } => back.push(outlet),
            Arrival::Input(Input::PeerMessage { message: seen, .. }, _) => {
                assert_eq!(seen, message(3));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn brokers_with_different_secrets_do_not_link() {
    let (one, mut two) = (broker(1, Some("a secret")), broker(2, Some("another")));
    let stream = one.runtime.block_on(tokio::net::TcpStream::connect(two.address)).unwrap();
    let (reader, mut writer) = stream.into_split();
    let mut reader = framing::FrameReader::new(reader);
    let (mut dialer, hello) =
        quorate_protocol::peer_hello::PeerDialer::new(one.peers.0.config.clone(), &nonce());
    let handshake = reader.handshake(&mut writer, Some(hello), |frame| dialer.handle(frame));
    let error = one.runtime.block_on(handshake).err().unwrap().to_string();
    assert!(error.contains("different cluster secrets"), "{error}");
    assert!(two.arrivals.try_recv().is_err());
}

#[test]
fn a_refused_link_is_told_to_the_core_with_its_reason() {
    let (mut one, two) = (broker(1, Some("a secret")), broker(2, Some("another")));
    let address = two.address.to_string();
    one.peers.dial(&address);
    match one.arrivals.blocking_recv().unwrap() {
        Arrival::Input(Input::PeerFailed { dialed, refused: Some(why) }, None) => {
            assert_eq!(dialed, address);
            assert!(why.contains("different cluster secrets"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_address_that_nobody_answers_at_is_told_once() {
    let (mut one, two) = (broker(1, None), broker(2, None));
    let address = two.address.to_string();
    drop(two);
    one.peers.dial(&address);
    match one.arrivals.blocking_recv().unwrap() {
        Arrival::Input(Input::PeerFailed { dialed, refused: None }, None) => assert_eq!(dialed, address),
        other => panic!("{other:?}"),
    }
}
