//! Finding the leader, losing it, finding it again.

use std::time::{Duration, Instant};

use quorate_client::{Client, ConnectionEvent, Error, FaultCode, Options};
use quorate_protocol::frame::ClientFrame;

use crate::broker::{Broker, Peer};
use crate::{options, soon};

async fn connect(options: Options, peer: impl Future<Output = Peer>) -> (Client, Peer) {
    let (client, peer) = tokio::join!(soon("the connect", Client::open(options)), peer);
    (client.unwrap(), peer)
}

#[tokio::test]
async fn a_redirect_leads_to_a_broker_that_nobody_configured() {
    let (replica, leader) = (Broker::new().await, Broker::new().await);
    let redirected = async {
        replica.refuse(FaultCode::NotLeader, Some(leader.address())).await;
        leader.serve().await
    };
    let (client, peer) = connect(options(&[&replica]), redirected).await;
    let mut events = client.events();

    // The leader steps down and names another one: that is the first to be asked.
    let next = Broker::new().await;
    peer.close(Some(&next.address())).await;
    let _peer = next.serve().await;
    assert!(matches!(soon("an event", events.next()).await, Some(ConnectionEvent::Reconnecting { .. })));
    let Some(ConnectionEvent::Connected { address, leader }) = soon("an event", events.next()).await else {
        panic!("connected again")
    };
    assert_eq!((address, leader.as_str()), (next.address(), "b"));
}

#[tokio::test]
async fn an_election_is_waited_out() {
    let (one, two) = (Broker::new().await, Broker::new().await);
    let election = async {
        let follower = async {
            loop {
                one.refuse(FaultCode::NotLeader, None).await;
            }
        };
        let candidate = async {
            for _ in 0..3 {
                two.refuse(FaultCode::NoQuorum, None).await;
            }
            two.serve().await
        };
        tokio::select! {
            peer = candidate => peer,
            () = follower => unreachable!("it refuses for ever"),
        }
    };
    connect(options(&[&one, &two]), election).await;
}

#[tokio::test]
async fn a_hanging_address_does_not_delay() {
    // The first one accepts connections, as the operating system does for a stopped process, and never answers.
    let (hanging, leader) = (Broker::new().await, Broker::new().await);
    let begun = Instant::now();
    connect(options(&[&hanging, &leader]), leader.serve()).await;
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_login_refused_for_good_is_not_repeated() {
    // Another broker that might let it in later changes nothing.
    let (broker, waiting) = (Broker::new().await, Broker::new().await);
    let refusing = async {
        tokio::join!(broker.refuse(FaultCode::LoginFailed, None), async {
            loop {
                waiting.refuse(FaultCode::Waiting, None).await;
            }
        })
    };
    let url = format!("quorate://anna:hush@{},{}/orders", waiting.address(), broker.address());
    let result = tokio::select! {
        result = soon("the connect", Client::connect(&url)) => result,
        _ = refusing => unreachable!("it refuses for ever"),
    };
    let error = result.unwrap_err();
    assert_eq!(error.code(), Some(FaultCode::LoginFailed));
    assert!(!error.is_retryable() && !error.to_string().contains("hush"), "{error}");
}

#[tokio::test]
async fn the_first_connect_gives_up_and_says_what_it_met() {
    let broker = Broker::new().await;
    let address = broker.address();
    let wait = Duration::from_millis(200);
    let refusing = async {
        loop {
            broker.refuse(FaultCode::Waiting, None).await;
        }
    };
    let error = tokio::select! {
        result = Client::open(options(&[&broker]).wait(wait)) => result.unwrap_err(),
        () = refusing => unreachable!("it refuses for ever"),
    };
    assert!(matches!(error, Error::Unreachable(_)) && error.is_retryable());
    assert!(
        error.to_string().contains(&address.to_string()) && error.to_string().contains("WAITING"),
        "{error}"
    );
}

#[tokio::test]
async fn a_silent_leader_is_left_for_another_one() {
    let (hung, next) = (Broker::new().await, Broker::new().await);
    let heartbeat = Duration::from_millis(100);
    let options = options(&[&hung, &next]).heartbeat(heartbeat);
    let login = async {
        let mut peer = hung.accept().await;
        peer.log_in(100).await;
        peer
    };
    let (client, _silent) = connect(options, login).await;
    let mut events = client.events();
    let peer = async {
        let mut peer = next.accept().await;
        peer.log_in(0).await;
        peer
    };
    let (_peer, event) = tokio::join!(peer, soon("an event", events.next()));
    let Some(ConnectionEvent::Reconnecting { error }) = event else {
        panic!("reconnecting comes first: {event:?}")
    };
    assert!(error.to_string().contains("silent"), "{error}");
}

#[tokio::test]
async fn a_lively_leader_is_kept_and_hears_heartbeats() {
    let broker = Broker::new().await;
    let login = async {
        let mut peer = broker.accept().await;
        peer.log_in(500).await;
        peer
    };
    let (client, mut peer) = connect(options(&[&broker]).heartbeat(Duration::from_millis(500)), login).await;
    let mut events = client.events();
    let begun = Instant::now();
    let mut heard = 0;
    while begun.elapsed() < Duration::from_millis(1200) {
        let frame = soon("a heartbeat", peer.next()).await;
        assert!(matches!(frame, Some(ClientFrame::Heartbeat(_))), "{frame:?}");
        peer.say(quorate_protocol::frame::Heartbeat {}).await;
        heard += 1;
    }
    assert!(heard >= 3, "{heard}");
    client.close().await;
    assert!(matches!(events.next().await, Some(ConnectionEvent::Closed { .. })), "nothing else happened");
}

#[tokio::test]
async fn dropping_everything_ends_the_connection() {
    let broker = Broker::new().await;
    let (client, mut peer) = connect(options(&[&broker]), broker.serve()).await;
    let publisher = client.publisher().unwrap();
    let ((), consumer) = tokio::join!(
        async {
            peer.starts_consumer().await;
        },
        client.consume("q", quorate_client::ConsumeOptions::default())
    );
    let consumer = consumer.unwrap();
    let other = client.clone();
    drop((client, publisher, consumer));
    assert!(other.ended().is_none());
    let ClientFrame::Cancel(cancel) = peer.hears().await else { panic!("the consumer is stopped") };
    peer.say(quorate_protocol::frame::CancelOk { request: cancel.request }).await;
    drop(other);
    let last = peer.end().await;
    assert!(matches!(&last[..], [ClientFrame::Close(close)] if close.code.is_none()), "{last:?}");
}
