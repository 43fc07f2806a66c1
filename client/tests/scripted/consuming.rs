//! Deliveries and their settlement.

use quorate_client::{Client, ConsumeOptions, Consumer, Error, FaultCode};
use quorate_protocol::frame::{CancelOk, ClientFrame, ConsumerClosed, Failed, Settled};

use crate::broker::{Broker, Peer, deliver, range};
use crate::{options, soon, waits};

async fn consuming(broker: &Broker, options_: ConsumeOptions) -> (Client, Consumer, Peer, u32) {
    let (client, peer) = tokio::join!(Client::open(options(&[broker])), broker.serve());
    let (client, mut peer) = (client.unwrap(), peer);
    let (consumer, (number, credit)) = tokio::join!(client.consume("q", options_), peer.starts_consumer());
    assert_eq!(credit, options_.credit);
    (client, consumer.unwrap(), peer, number)
}

async fn next(consumer: &mut Consumer) -> quorate_client::Delivery {
    soon("a delivery", consumer.next()).await.unwrap().unwrap()
}

async fn hears_ack(peer: &mut Peer) -> quorate_protocol::frame::Ack {
    loop {
        match peer.hears().await {
            ClientFrame::Ack(ack) => return ack,
            ClientFrame::Credit(_) => {}
            other => panic!("expected an ack, got {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_ack_resolves_when_the_broker_has_committed_it() {
    let broker = Broker::new().await;
    let (_client, mut consumer, mut peer, number) = consuming(&broker, ConsumeOptions::default()).await;
    peer.say(deliver(number, 1..=3)).await;
    let first = next(&mut consumer).await;
    assert_eq!((first.seq(), first.body(), first.key()), (1, &b"body 1"[..], "q"));
    assert!(!first.is_redelivered());
    let mut first = first.ack();
    let ack = hears_ack(&mut peer).await;
    assert_eq!((ack.consumer, &ack.ranges[..]), (number, &[range(1, 1)][..]));
    assert!(waits(&mut first).await);
    peer.say(Settled { request: ack.request, settled: 1 }).await;
    soon("the ack", first).await.unwrap();
    assert!(matches!(peer.hears().await, ClientFrame::Credit(credit) if credit.add == 1));

    // Forgotten is sent all the same.
    drop(next(&mut consumer).await.nack(true));
    let ClientFrame::Nack(nack) = peer.hears().await else { panic!("a nack") };
    assert_eq!((nack.requeue, &nack.ranges[..]), (true, &[range(2, 2)][..]));
}

#[tokio::test]
async fn after_a_reconnect_the_stream_goes_on_and_old_deliveries_come_again() {
    let broker = Broker::new().await;
    let (_client, mut consumer, mut peer, number) = consuming(&broker, ConsumeOptions::default()).await;
    peer.say(deliver(number, 1..=3)).await;
    let held = next(&mut consumer).await;
    drop(peer);

    let mut peer = broker.serve().await;
    let (number, _) = peer.starts_consumer().await;
    let error = soon("the ack", held.ack()).await.unwrap_err();
    assert!(matches!(error, Error::WillBeRedelivered), "{error}");
    // 2 and 3 of the first connection were taken, but not given to the application: they must not come twice.
    peer.say(deliver(number, 1..=3)).await;
    for seq in 1..=3 {
        assert_eq!(next(&mut consumer).await.seq(), seq);
    }
}

#[tokio::test]
async fn without_acks_credit_is_given_as_messages_are_taken() {
    let broker = Broker::new().await;
    let how = ConsumeOptions { credit: 4, no_ack: true, exclusive: true, limit: None };
    let (_client, mut consumer, mut peer, number) = consuming(&broker, how).await;
    peer.say(deliver(number, 1..=4)).await;
    let mut given = 0;
    for seq in 1..=4 {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.seq(), seq);
        soon("nothing", delivery.ack()).await.unwrap();
    }
    while given < 4 {
        match peer.hears().await {
            ClientFrame::Credit(credit) => given += credit.add,
            other => panic!("expected credit, got {other:?}"),
        }
    }
    assert_eq!(given, 4);
}

#[tokio::test]
async fn a_limited_consumer_gives_no_credit_beyond_its_limit_also_on_a_new_connection() {
    for no_ack in [false, true] {
        let broker = Broker::new().await;
        let how = ConsumeOptions { credit: 4, no_ack, limit: Some(6), ..ConsumeOptions::default() };
        let (client, mut consumer, mut peer, number) = consuming(&broker, how).await;
        peer.say(deliver(number, 1..=4)).await;
        for seq in 1..=4 {
            let delivery = next(&mut consumer).await;
            assert_eq!(delivery.seq(), seq);
            // Without acks these are nothing.
            let acked = delivery.ack();
            if no_ack {
                continue;
            }
            let ClientFrame::Ack(ack) = hears_but_credit(&mut peer).await else { panic!("an ack") };
            peer.say(Settled { request: ack.request, settled: 1 }).await;
            soon("the ack's answer", acked).await.unwrap();
        }
        drop(peer);
        let mut peer = broker.serve().await;
        let (number, credit) = peer.starts_consumer().await;
        assert_eq!(credit, 2, "no_ack: {no_ack}: 4 of 6 are out of the queue");
        peer.say(deliver(number, 5..=6)).await;
        for _ in 5..=6 {
            drop(next(&mut consumer).await.ack());
        }
        drop(consumer);
        drop(client);
        let credit = |frame: &ClientFrame| matches!(frame, ClientFrame::Credit(_));
        assert!(!peer.end().await.iter().any(credit), "no_ack: {no_ack}");
    }
}

/// The next frame that is no credit.
async fn hears_but_credit(peer: &mut Peer) -> ClientFrame {
    loop {
        match peer.hears().await {
            ClientFrame::Credit(_) => {}
            frame => return frame,
        }
    }
}

#[tokio::test]
async fn a_queue_that_is_not_there_is_said_at_once() {
    let broker = Broker::new().await;
    let (client, peer) = tokio::join!(Client::open(options(&[&broker])), broker.serve());
    let (client, mut peer) = (client.unwrap(), peer);
    let (consumer, ()) = tokio::join!(client.consume("q", ConsumeOptions::default()), async {
        let ClientFrame::Consume(consume) = peer.hears().await else { panic!("a consume") };
        let text = "no queue 'q'".to_owned();
        peer.say(Failed { request: consume.request, code: FaultCode::QueueNotFound, text }).await;
    });
    assert_eq!(consumer.unwrap_err().code(), Some(FaultCode::QueueNotFound));
}

#[tokio::test]
async fn a_consumer_that_the_broker_ends_says_why_and_is_over() {
    let broker = Broker::new().await;
    let (_client, mut consumer, mut peer, number) = consuming(&broker, ConsumeOptions::default()).await;
    peer.say(ConsumerClosed { consumer: number, code: FaultCode::QueueDeleted, text: String::new() }).await;
    let error = soon("the end", consumer.next()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(FaultCode::QueueDeleted));
    assert!(soon("the end", consumer.next()).await.is_none());
}

#[tokio::test]
async fn cancelling_ends_the_stream_after_its_last_acks() {
    let broker = Broker::new().await;
    let (_client, mut consumer, mut peer, number) = consuming(&broker, ConsumeOptions::default()).await;
    peer.say(deliver(number, 1..=1)).await;
    let acked = next(&mut consumer).await.ack();
    let (cancelled, ()) = tokio::join!(soon("the cancel", consumer.cancel()), async {
        let ack = hears_ack(&mut peer).await;
        peer.say(Settled { request: ack.request, settled: 1 }).await;
        loop {
            match peer.hears().await {
                ClientFrame::Cancel(cancel) => {
                    peer.say(CancelOk { request: cancel.request }).await;
                    break;
                }
                ClientFrame::Credit(_) => {}
                other => panic!("expected a cancel, got {other:?}"),
            }
        }
    });
    cancelled.unwrap();
    soon("the ack", acked).await.unwrap();
}
