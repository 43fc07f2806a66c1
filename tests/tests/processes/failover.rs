//! Losing brokers while clients work: acceptance F.

use std::time::{Duration, Instant};

use quorate_client::{Client, ConnectionEvent, FaultCode};
use quorate_tests::process::{Cluster, ClusterPlan, PATIENCE, RawClient, messages};

use crate::stream::{QUEUE, Stream, check_content};

/// The text of HA-1009 for the virtual host of the queue.
const QUORUM_LOST: &str = "quorum of virtual host / lost";
/// What is asked of a fail-over on a busy test machine; the product's figure is 1 s.
const FAILOVER_MAX: Duration = Duration::from_secs(5);

async fn streaming(cluster: &mut Cluster) -> (Client, Stream, usize) {
    let leader = cluster.wait_settled();
    let client = messages::connect_with_queue(&cluster.url(), QUEUE).await;
    let mut stream = Stream::start(client.publisher().expect("a publisher"));
    stream.confirmed_more(2000).await;
    (client, stream, leader)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_f1_everything_confirmed_outlives_the_leader() {
    let mut cluster = ClusterPlan::of(3).start();
    let (client, mut stream, leader) = streaming(&mut cluster).await;
    let killed = Instant::now();
    cluster[leader].kill();
    stream.confirmed_more(20_000).await;
    let (published, outcomes) = stream.finish().await;
    assert!(outcomes.iter().all(|outcome| outcome.confirmed), "a living client gets every message confirmed");
    let old_term = outcomes.first().expect("there were confirms before the kill").term;
    let by_the_new =
        outcomes.iter().find(|outcome| outcome.term > old_term).expect("another leader confirmed");
    let failover = by_the_new.at - killed;
    println!("fail-over: the new leader's first confirm came {failover:?} after kill -9 of the old one");
    let found = messages::drain(&client, QUEUE).await.expect("the queue can be read");
    check_content(&found, published, &outcomes);
    assert_eq!(found.len() as u64, published, "everything was confirmed, so everything is there");
    assert!(failover < FAILOVER_MAX, "{failover:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_f3_without_a_majority_nothing_is_confirmed() {
    let mut cluster = ClusterPlan::of(3).start();
    let (client, stream, leader) = streaming(&mut cluster).await;
    let mut events = client.events();
    for other in cluster.others(leader) {
        cluster[other].kill();
    }
    let alone = Instant::now();
    let log = cluster[leader].wait_log(QUORUM_LOST);
    println!("quorum lost: noticed {:?} after the second kill -9", alone.elapsed());
    assert!(log.contains("HA-1009") && log.contains("1 of 2"), "{log}");
    // Clients are told and disconnected.
    let told = tokio::time::timeout(PATIENCE, async {
        loop {
            match events.next().await {
                Some(ConnectionEvent::Reconnecting { error }) => return error,
                Some(_) => {}
                None => panic!("the client ended by itself"),
            }
        }
    });
    let error = told.await.expect("the client is disconnected");
    assert_eq!(error.code(), Some(FaultCode::NoQuorum), "{error}");
    assert!(error.is_retryable());
    // New ones are refused.
    let refused = RawClient::connect(&cluster.client_address(leader)).try_log_in("/").unwrap_err();
    assert_eq!(refused.code, FaultCode::NoQuorum, "{refused:?}");
    let status = cluster[leader].status().expect("it answers");
    assert_eq!((status.verdict(), status.row()), ("waiting", "Q1"), "{}", status.0);

    client.close().await;
    let (published, outcomes) = stream.finish().await;
    // A confirm that was on its way when the second broker died may arrive; nothing after that.
    let late =
        outcomes.iter().filter(|outcome| outcome.confirmed && outcome.at > alone + Duration::from_secs(1));
    assert_eq!(late.count(), 0, "confirmed without a majority");
    assert!(outcomes.iter().any(|outcome| !outcome.confirmed), "some were under way");

    cluster.start_all();
    cluster.wait_active();
    let client = messages::connect(&cluster.url()).await;
    check_content(
        &messages::drain(&client, QUEUE).await.expect("the queue can be read"),
        published,
        &outcomes,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_f5_a_leader_that_idles_notices_that_it_has_no_quorum() {
    let mut cluster = ClusterPlan::of(3).start();
    let leader = cluster.wait_equal();
    let client = messages::connect_with_queue(&cluster.url(), QUEUE).await;
    let mut events = client.events();
    // Their kernels still take what is sent, and nobody sends anything.
    for other in cluster.others(leader) {
        cluster[other].freeze();
    }
    let alone = Instant::now();
    cluster[leader].wait_log(QUORUM_LOST);
    println!("idle: noticed after {:?}", alone.elapsed());
    // Two election timeouts, and what a busy machine adds.
    assert!(alone.elapsed() < Duration::from_secs(6), "{:?}", alone.elapsed());
    let told = tokio::time::timeout(PATIENCE, events.next()).await.expect("the client is told");
    assert!(told.is_some(), "its connection is gone, not the client");
    for other in cluster.others(leader) {
        cluster[other].thaw();
    }
    cluster.wait_active();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_f4_a_majority_that_returns_serves_with_everything_confirmed() {
    let mut cluster = ClusterPlan::of(3).start();
    let (client, mut stream, leader) = streaming(&mut cluster).await;
    let replica = cluster.others(leader)[0];
    cluster[leader].kill();
    cluster[replica].kill();
    let survivor = 3 - leader - replica;
    cluster[survivor].wait_log(QUORUM_LOST);
    let before = *stream.confirmed.borrow();
    // The leader of before first: it comes back as whatever the election makes of it.
    cluster[leader].start();
    cluster[replica].start();
    cluster.wait_active();
    assert!(stream.confirmed_more(2000).await > before, "the same client goes on");
    let (published, outcomes) = stream.finish().await;
    assert!(outcomes.iter().all(|outcome| outcome.confirmed));
    let found = messages::drain(&client, QUEUE).await.expect("the queue can be read");
    check_content(&found, published, &outcomes);
    assert_eq!(found.len() as u64, published);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_f4_a_majority_that_stood_still_serves_again() {
    let mut cluster = ClusterPlan::of(3).start();
    let (client, mut stream, leader) = streaming(&mut cluster).await;
    let others = cluster.others(leader);
    for other in &others {
        cluster[*other].freeze();
    }
    let alone = Instant::now();
    cluster[leader].wait_log(QUORUM_LOST);
    println!("quorum lost: noticed {:?} after the others stood still", alone.elapsed());
    for other in &others {
        cluster[*other].thaw();
    }
    cluster.wait_active();
    stream.confirmed_more(2000).await;
    let (published, outcomes) = stream.finish().await;
    assert!(outcomes.iter().all(|outcome| outcome.confirmed));
    let found = messages::drain(&client, QUEUE).await.expect("the queue can be read");
    check_content(&found, published, &outcomes);
    assert_eq!(found.len() as u64, published);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_f4_a_leader_that_stood_still_finds_another_in_its_place() {
    let mut cluster = ClusterPlan::of(3).start();
    let (client, mut stream, leader) = streaming(&mut cluster).await;
    cluster[leader].freeze();
    let frozen = Instant::now();
    // Its kernel still takes what is sent: only silence tells the client.
    stream.confirmed_more(40_000).await;
    println!("a frozen leader: 40000 more confirms after {:?}", frozen.elapsed());
    cluster[leader].thaw();
    // It may be the preferred one, and then leads again as soon as it has what it missed.
    cluster.wait_active();
    let (published, outcomes) = stream.finish().await;
    let old_term = outcomes.first().expect("there were confirms before").term;
    assert!(outcomes.iter().any(|outcome| outcome.term > old_term), "another leader confirmed");
    let found = messages::drain(&client, QUEUE).await.expect("the queue can be read");
    check_content(&found, published, &outcomes);
    assert_eq!(found.len() as u64, published);
}
