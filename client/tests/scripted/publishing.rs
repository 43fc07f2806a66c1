//! Messages and their outcomes.

use std::time::Duration;

use quorate_client::{Client, ConnectionEvent, Error, FaultCode, Message, QueueOptions};
use quorate_protocol::frame::{Blocked, ClientFrame, PublishRefused, QueueList, QueueOk, Unblocked};
use quorate_protocol::message as wire;

use crate::broker::{Broker, Peer, confirm};
use crate::{options, soon, waits};

async fn connected(broker: &Broker) -> (Client, Peer) {
    let (client, peer) = tokio::join!(Client::open(options(&[broker])), broker.serve());
    (client.unwrap(), peer)
}

#[tokio::test]
async fn a_receipt_says_what_was_guaranteed() {
    let broker = Broker::new().await;
    let (client, mut peer) = connected(&broker).await;
    let publisher = client.publisher().unwrap();
    let message = Message::from("hello").with_properties([("type", "greeting")]).unwrap();
    let pending = publisher.publish("x", "k", message).await.unwrap();
    assert!(pending.try_get().is_none());
    let body = peer.hears_publish().await;
    assert_eq!((body.exchange(), body.key(), body.first(), body.count()), ("x", "k", 1, 1));
    assert_eq!(body.producer().0, publisher.id());
    let sent = wire::Message::parse(&body.messages().next().unwrap().bytes).unwrap();
    assert_eq!((&sent.body()[..], sent.properties().get("type")), (&b"hello"[..], Some(&b"greeting"[..])));
    peer.say(confirm(&body)).await;
    let receipt = soon("the confirm", pending).await.unwrap();
    assert_eq!((receipt.number, receipt.group, receipt.epoch, receipt.term, receipt.index), (1, 1, 2, 3, 4));
    assert_eq!(receipt.to_string(), "group 1 at 2.3.4");
}

#[tokio::test]
async fn what_was_unconfirmed_is_sent_again_in_order_with_its_numbers() {
    let broker = Broker::new().await;
    let (client, mut peer) = connected(&broker).await;
    let ((), declared) = tokio::join!(
        async {
            let ClientFrame::DeclareQueue(declare) = peer.hears().await else { panic!("a declaration") };
            peer.say(QueueOk { request: declare.request, created: true, ready: 0, consumers: 0 }).await;
        },
        client.declare_queue("q", QueueOptions::default())
    );
    assert!(declared.unwrap().created);
    let publisher = client.publisher().unwrap();
    let mut confirms = Vec::new();
    for key in ["a", "b", "c"] {
        confirms.push(publisher.publish("", key, "x").await.unwrap());
    }
    let first = peer.hears_publish().await;
    let second = peer.hears_publish().await;
    peer.say(confirm(&first)).await;
    let third = peer.hears_publish().await;
    drop(peer);

    let mut peer = broker.serve().await;
    let ClientFrame::DeclareQueue(declare) = peer.hears().await else {
        panic!("what was declared comes first")
    };
    peer.say(QueueOk { request: declare.request, created: false, ready: 0, consumers: 0 }).await;
    for before in [second, third] {
        let again = peer.hears_publish().await;
        assert_eq!(
            (again.producer(), again.numbers(), again.key()),
            (before.producer(), before.numbers(), before.key())
        );
        peer.say(quorate_protocol::frame::Confirm { duplicate: true, ..confirm(&again) }).await;
    }
    let mut duplicates = Vec::new();
    for pending in confirms {
        duplicates.push(soon("a confirm", pending).await.unwrap().duplicate);
    }
    assert_eq!(duplicates, [false, true, true]);
}

#[tokio::test]
async fn a_refusal_resolves_its_message_only() {
    let broker = Broker::new().await;
    let (client, mut peer) = connected(&broker).await;
    let publisher = client.publisher().unwrap();
    let lost = publisher.publish("", "nowhere", "x").await.unwrap();
    let kept = publisher.publish("", "q", "x").await.unwrap();
    let body = peer.hears_publish().await;
    peer.say(PublishRefused {
        producer: body.producer(),
        range: body.numbers(),
        code: FaultCode::Unroutable,
        retryable: false,
        text: "no queue 'nowhere'".to_owned(),
    })
    .await;
    let body = peer.hears_publish().await;
    peer.say(confirm(&body)).await;
    let error = soon("the refusal", lost).await.unwrap_err();
    assert_eq!(error.code(), Some(FaultCode::Unroutable));
    assert!(!error.is_outcome_unknown() && error.to_string().contains("nowhere"), "{error}");
    assert!(soon("the confirm", kept).await.is_ok());
}

#[tokio::test]
async fn a_full_queue_holds_the_publisher_and_loses_nothing() {
    let broker = Broker::new().await;
    let (client, mut peer) = connected(&broker).await;
    let mut events = client.events();
    let publisher = client.publisher().unwrap();
    let pending = publisher.publish("", "q", "x").await.unwrap();
    for attempt in 1..=3 {
        let body = peer.hears_publish().await;
        assert_eq!(body.first(), 1, "attempt {attempt}");
        peer.say(PublishRefused {
            producer: body.producer(),
            range: body.numbers(),
            code: FaultCode::QueueFull,
            retryable: true,
            text: String::new(),
        })
        .await;
    }
    let body = peer.hears_publish().await;
    peer.say(confirm(&body)).await;
    assert!(soon("the confirm", pending).await.is_ok());
    let event = soon("an event", events.next()).await;
    assert!(
        matches!(&event, Some(ConnectionEvent::Held { reason }) if reason.code() == Some(FaultCode::QueueFull)),
        "{event:?}"
    );
    client.close().await;
    assert!(matches!(events.next().await, Some(ConnectionEvent::Closed { .. })), "it is said once");
}

#[tokio::test]
async fn a_blocked_broker_is_asked_but_not_sent_messages() {
    let broker = Broker::new().await;
    let (client, mut peer) = connected(&broker).await;
    let mut events = client.events();
    peer.say(Blocked { code: FaultCode::DiskLow, text: "1 GiB left".to_owned() }).await;
    let Some(ConnectionEvent::Blocked { reason }) = soon("an event", events.next()).await else {
        panic!("blocked")
    };
    assert!(reason.contains("DISK_LOW") && reason.contains("1 GiB left"), "{reason}");
    let publisher = client.publisher().unwrap();
    let pending = publisher.publish("", "q", "x").await.unwrap();
    // A request made after the message arrives before it.
    let (list, ()) = tokio::join!(client.list_queues(None, 0), async {
        let ClientFrame::ListQueues(list) = peer.hears().await else { panic!("a list, not a message") };
        peer.say(QueueList { request: list.request, entries: Vec::new(), more: false }).await;
    });
    assert!(list.unwrap().entries.is_empty());
    peer.say(Unblocked {}).await;
    let body = peer.hears_publish().await;
    peer.say(confirm(&body)).await;
    assert!(soon("the confirm", pending).await.is_ok());
    assert!(matches!(soon("an event", events.next()).await, Some(ConnectionEvent::Unblocked)));
}

#[tokio::test]
async fn a_full_window_makes_the_publisher_wait() {
    let broker = Broker::new().await;
    let (client, peer) = tokio::join!(Client::open(options(&[&broker]).window(2, 1 << 20)), broker.serve());
    let (client, mut peer) = (client.unwrap(), peer);
    let publisher = client.publisher().unwrap();
    let first = publisher.publish("", "a", "x").await.unwrap();
    publisher.publish("", "b", "x").await.unwrap();
    assert!(publisher.try_publish("", "c", &Message::from("x")).unwrap().is_none());
    let mut third = Box::pin(publisher.publish("", "c", "x"));
    assert!(waits(&mut third).await);
    let body = peer.hears_publish().await;
    peer.say(confirm(&body)).await;
    assert_eq!(soon("room in the window", third).await.unwrap().number(), 3);
    assert!(soon("the confirm", first).await.is_ok());

    let mut settled = Box::pin(publisher.settled());
    assert!(waits(&mut settled).await);
    for _ in 0..2 {
        let body = peer.hears_publish().await;
        peer.say(confirm(&body)).await;
    }
    soon("every outcome", settled).await;
}

#[tokio::test]
async fn a_confirm_that_does_not_come_leaves_the_outcome_unknown() {
    let broker = Broker::new().await;
    let options = options(&[&broker]).close_timeout(Duration::from_millis(50));
    let (client, peer) = tokio::join!(Client::open(options), broker.serve());
    let (client, mut peer) = (client.unwrap(), peer);
    let publisher = client.publisher().unwrap();
    let first = publisher.publish("", "q", "x").await.unwrap();
    let body = peer.hears_publish().await;
    let error = first.within(Duration::from_millis(1)).await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error}");
    let second = publisher.publish("", "q", "x").await.unwrap();
    peer.hears_publish().await;
    peer.say(confirm(&body)).await;
    soon("the close", client.close()).await;
    assert!(soon("the confirm", second).await.unwrap_err().is_outcome_unknown());
    assert!(matches!(publisher.publish("", "q", "x").await, Err(Error::Closed)));
    assert!(matches!(client.list_queues(None, 0).await, Err(Error::Closed)));
    assert!(matches!(client.publisher().unwrap().publish("", "q", "x").await, Err(Error::Closed)));
}

#[tokio::test]
async fn closing_waits_for_confirms_on_their_way() {
    let broker = Broker::new().await;
    let (client, mut peer) = connected(&broker).await;
    let publisher = client.publisher().unwrap();
    let pending = publisher.publish("", "q", "x").await.unwrap();
    let ((), ()) = tokio::join!(soon("the close", client.close()), async {
        let body = peer.hears_publish().await;
        peer.say(confirm(&body)).await;
        assert!(matches!(peer.hears().await, ClientFrame::Close(_)));
    });
    assert!(soon("the confirm", pending).await.is_ok());
}

#[tokio::test]
async fn many_publishers_and_messages_all_get_their_outcomes() {
    let broker = Broker::new().await;
    let (client, mut peer) = connected(&broker).await;
    let serving = tokio::spawn(async move {
        let mut batches = 0u32;
        loop {
            match soon("a frame", peer.next()).await {
                Some(ClientFrame::Publish(body)) => {
                    batches += 1;
                    peer.say(confirm(&body)).await;
                }
                Some(_) => {}
                None => return batches,
            }
        }
    });
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let publisher = client.publisher().unwrap();
            tokio::spawn(async move {
                let mut confirms = Vec::new();
                for _ in 0..5000 {
                    confirms.push(publisher.publish("", "q", vec![7; 100]).await.unwrap());
                }
                for pending in confirms {
                    soon("a confirm", pending).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        soon("a publisher", task).await.unwrap();
    }
    client.close().await;
    let batches = soon("the broker", serving).await.unwrap();
    assert!(batches < 10_000, "messages travel together: {batches} batches for 20,000 messages");
}
