//! Frames in pieces, and brokers that are none.

use bytes::BytesMut;
use quorate_client::{Blame, Client, ConnectionEvent};
use quorate_protocol::codec::encode;
use quorate_protocol::frame::{ConsumeOk, Frame, Heartbeat, ServerFrame};

use crate::broker::{Broker, confirm};
use crate::{options, soon};

#[tokio::test]
async fn frames_arrive_in_any_pieces() {
    let broker = Broker::new().await;
    let (client, peer) = tokio::join!(Client::open(options(&[&broker])), broker.serve());
    let (client, mut peer) = (client.unwrap(), peer);
    let publisher = client.publisher().unwrap();
    let pending = publisher.publish("", "q", "x").await.unwrap();
    let body = peer.hears_publish().await;
    let mut bytes = BytesMut::new();
    encode(&ServerFrame::from(Heartbeat {}), 0, &mut bytes);
    encode(&ServerFrame::from(confirm(&body)), 0, &mut bytes);
    for byte in &bytes {
        peer.say_bytes(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    assert!(soon("the confirm", pending).await.is_ok());
}

#[tokio::test]
async fn nonsense_ends_the_connection_and_not_the_client() {
    let broker = Broker::new().await;
    let (client, peer) = tokio::join!(Client::open(options(&[&broker])), broker.serve());
    let (client, mut peer) = (client.unwrap(), peer);
    let mut events = client.events();
    let publisher = client.publisher().unwrap();
    let pending = publisher.publish("", "q", "x").await.unwrap();
    let mut never_asked = BytesMut::new();
    encode(&ServerFrame::from(ConsumeOk { request: 77 }), 0, &mut never_asked);
    let confirm_kind =
        ServerFrame::KINDS.iter().find(|(_, name)| *name == "Confirm").map(|(kind, _)| *kind).unwrap();
    let nonsense: [&[u8]; 5] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        // Four gigabytes are announced; none of them may be allocated.
        &[0xff, 0xff, 0xff, 0xff, confirm_kind, 0, 0, 0],
        // A kind that no version may skip.
        &[0, 0, 0, 0, 0x3f, 0, 0, 0],
        // A confirm of three bytes.
        &[3, 0, 0, 0, confirm_kind, 0, 0, 0, 1, 2, 3],
        &never_asked,
    ];
    for bytes in nonsense {
        let body = peer.hears_publish().await;
        assert_eq!(body.first(), 1, "nothing is lost by a broker's nonsense");
        peer.say_bytes(bytes).await;
        let event = soon("an event", events.next()).await;
        let Some(ConnectionEvent::Reconnecting { error }) = event else {
            panic!("it should hang up: {event:?}")
        };
        assert_eq!(error.blame(), Blame::Peer, "{error}");
        peer = broker.serve().await;
        assert!(matches!(soon("an event", events.next()).await, Some(ConnectionEvent::Connected { .. })));
    }
    let body = peer.hears_publish().await;
    peer.say(confirm(&body)).await;
    assert!(soon("the confirm", pending).await.is_ok());
}

#[tokio::test]
async fn what_is_no_broker_is_said_so() {
    let broker = Broker::new().await;
    let (result, ()) = tokio::join!(soon("the connect", Client::open(options(&[&broker]))), async {
        let mut peer = broker.accept().await;
        peer.say_bytes(b"SSH-2.0-OpenSSH_9.2\r\n").await;
    });
    let error = result.unwrap_err();
    assert_eq!(error.blame(), Blame::Peer, "{error}");
    assert!(!error.is_retryable());
}
