//! What everybody takes for granted of a queue.

use quorate_client::{ConsumeOptions, Error, FaultCode, QueueOptions};
use quorate_tests::process::{Broker, Cluster, ClusterPlan, PATIENCE, Place, messages, programs, wait_for};
use serde_json::Value;

fn single(place: &Place) -> (Broker, String) {
    let mut broker = Broker::single(&place.path(""), "b");
    broker.start();
    broker.wait_leading();
    let url = format!("quorate://{}", broker.client_address());
    (broker, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_basic_publishing_to_a_missing_queue_is_refused() {
    let place = Place::new();
    let (_broker, url) = single(&place);
    let client = messages::connect(&url).await;
    let publisher = client.publisher().unwrap();
    for key in ["missing", ""] {
        let error = publisher.publish("", key, "lost?").await.unwrap().within(PATIENCE).await.unwrap_err();
        assert!(matches!(error, Error::Failed { .. }) && !error.is_retryable(), "{error:?}");
        assert!(matches!(error.code(), Some(FaultCode::Unroutable | FaultCode::QueueNotFound)), "{error:?}");
    }
    let error = publisher.publish("nowhere", "k", "lost?").await.unwrap().within(PATIENCE).await.unwrap_err();
    assert_eq!(error.code(), Some(FaultCode::ExchangeNotFound), "{error:?}");
    // A publisher that was refused goes on.
    client.declare_queue("there", QueueOptions::default()).await.unwrap();
    messages::confirmed(messages::publish(&publisher, "there", 0..10, 10).await).await;
    assert_eq!(messages::drain(&client, "there").await.unwrap(), (0..10).collect::<Vec<_>>());
    let consumed = client.consume("missing", ConsumeOptions::default()).await;
    assert_eq!(consumed.unwrap_err().code(), Some(FaultCode::QueueNotFound));
}

/// The queue as `quorate queue list` shows it.
fn listed(address: &str, queue: &str) -> Result<Value, String> {
    let output = programs::command("quorate")
        .args(["--url", address, "-o", "json", "queue", "list"])
        .output()
        .expect("the tool runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let list: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {output:?}"))?;
    let found = list.as_array().into_iter().flatten().find(|entry| entry["name"] == queue);
    found.cloned().ok_or_else(|| text.to_string())
}

fn wait_listed(address: &str, expected: &Value) {
    let name = expected["name"].as_str().unwrap();
    wait_for(&format!("{expected} in the list"), || {
        let found = listed(address, name)?;
        let same = expected.as_object().unwrap().iter().all(|(key, value)| found[key] == *value);
        if same { Ok(()) } else { Err(found.to_string()) }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_basic_queue_list_counts_ready_unacknowledged_consumers_and_bytes() {
    let place = Place::new();
    let (broker, url) = single(&place);
    let address = broker.client_address();
    let client = messages::connect_with_queue(&url, "q").await;
    let entry = |ready: u64, unacknowledged: u64, consumers: u32| serde_json::json!({"name": "q", "ready": ready, "unacknowledged": unacknowledged, "consumers": consumers, "leader": "b"});
    wait_listed(&address, &entry(0, 0, 0));
    let publisher = client.publisher().unwrap();
    messages::confirmed(messages::publish(&publisher, "q", 0..10, 1000).await).await;
    wait_listed(&address, &entry(10, 0, 0));
    let bytes = listed(&address, "q").unwrap()["bytes"].as_u64().unwrap();
    assert!((10_000..11_000).contains(&bytes), "{bytes} bytes of 10 messages of 1000");
    let mut consumer = client.consume("q", ConsumeOptions { credit: 4, ..Default::default() }).await.unwrap();
    wait_listed(&address, &entry(6, 4, 1));
    let first = consumer.next().await.unwrap().unwrap();
    first.ack().await.unwrap();
    wait_listed(&address, &entry(5, 4, 1));
    drop(consumer);
    wait_listed(&address, &entry(9, 0, 0));
    assert_eq!(client.purge_queue("q").await.unwrap(), 9);
    wait_listed(&address, &entry(0, 0, 0));
    assert_eq!(listed(&address, "q").unwrap()["bytes"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_basic_a_requeued_message_returns_to_its_old_place() {
    let place = Place::new();
    let (_broker, url) = single(&place);
    let (client, _publisher) = messages::connect_and_publish(&url, "q", 0..6, 10).await;
    let mut consumer = client.consume("q", ConsumeOptions { credit: 3, ..Default::default() }).await.unwrap();
    let mut held = Vec::new();
    for expected in 0..3 {
        let delivery = consumer.next().await.unwrap().unwrap();
        assert_eq!((messages::number(delivery.body()), delivery.is_redelivered()), (expected, false));
        held.push(delivery);
    }
    let seq = held[1].seq();
    held.remove(1).nack(true).await.unwrap();
    // Before 3, 4 and 5, which were never delivered.
    let back = consumer.next().await.unwrap().unwrap();
    assert_eq!((messages::number(back.body()), back.is_redelivered(), back.seq()), (1, true, seq));
    // Given up by a consumer that ends: all of them, in their order.
    drop((back, held, consumer));
    let mut consumer = client.consume("q", ConsumeOptions::default()).await.unwrap();
    for expected in 0..6 {
        let delivery = consumer.next().await.unwrap().unwrap();
        assert_eq!((messages::number(delivery.body()), delivery.is_redelivered()), (expected, expected < 3));
        delivery.ack().await.unwrap();
    }
    assert_eq!(messages::held(&client, "q").await.unwrap(), 0);
}

fn kill_all(cluster: &mut Cluster) {
    for number in 0..cluster.size() {
        cluster[number].kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_basic_killed_all_at_once_the_cluster_keeps_what_was_not_consumed() {
    let mut cluster = ClusterPlan::of(3).start();
    let (client, _publisher) = messages::connect_and_publish(&cluster.url(), "q", 0..1000, 100).await;
    let mut consumer =
        client.consume("q", ConsumeOptions { credit: 500, ..Default::default() }).await.unwrap();
    let mut acks = Vec::new();
    for expected in 0..300 {
        let delivery = consumer.next().await.unwrap().unwrap();
        assert_eq!(messages::number(delivery.body()), expected);
        acks.push(delivery.ack());
    }
    for ack in acks {
        ack.await.unwrap();
    }
    let id = cluster[0].status().unwrap().cluster_id().map(str::to_owned);
    for _ in 0..2 {
        kill_all(&mut cluster);
        cluster.start_all();
        cluster.wait_active();
        assert_eq!(cluster[0].status().unwrap().cluster_id().map(str::to_owned), id);
    }
    drop(consumer);
    let client = messages::connect(&cluster.url()).await;
    let mut consumer = client.consume("q", ConsumeOptions::default()).await.unwrap();
    for expected in 300..1000 {
        let delivery =
            tokio::time::timeout(PATIENCE, consumer.next()).await.expect("in time").unwrap().unwrap();
        assert_eq!(messages::number(delivery.body()), expected);
        if expected < 500 {
            assert!(delivery.is_redelivered(), "{expected} was delivered before");
        }
        delivery.ack();
    }
    client.close().await;
    let client = messages::connect(&cluster.url()).await;
    assert_eq!(messages::held(&client, "q").await.unwrap(), 0);
}
