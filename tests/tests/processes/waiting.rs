//! Fewer than are waited for, members that do not fit, and total outages: acceptance B11 to B13, J.

use std::time::{Duration, Instant};

use quorate_client::ConsumeOptions;
use quorate_tests::process::{Broker, ClusterPlan, Place, Snapshot, messages, programs, status};

/// From the start of the second of three brokers to the first message; the product's figure.
const CONSUMABLE_MAX: Duration = Duration::from_secs(5);
/// From the start of a broker with a million messages to the first of them; the product's figure.
const SERVED_MAX: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_b11_fewer_dirty_stores_than_n_wait_and_change_nothing() {
    let mut cluster = ClusterPlan::of(3).quick().start();
    let (client, _publisher) = messages::connect_and_publish(&cluster.url(), "b11", 0..100, 100).await;
    cluster.kill_all();
    let before = cluster.contents();
    cluster.start_these(&[0, 1]);
    for number in [0, 1] {
        let status = cluster[number].wait_until("waits for the third", |status| {
            status.verdict() == "waiting" && status.row() == "W1" && status.reason().contains("2 of 3")
        });
        assert!(status.reason().contains("b3"), "{}", status.reason());
    }
    cluster.assert_unchanged(&before);
    cluster[2].start();
    cluster.wait_equal();
    assert_eq!(messages::drain(&client, "b11").await.unwrap(), (0..100).collect::<Vec<_>>());
}

#[test]
fn acceptance_b12_transient_among_persistent_is_refused_below_n_and_at_n() {
    for here in [1, 2] {
        let mut cluster = ClusterPlan::of(3).quick().prepare();
        for number in 0..here {
            cluster[number].start();
            cluster[number].wait_until("waits", |status| status.verdict() == "waiting");
        }
        cluster[2].remove_flag("--data-dir");
        cluster[2].add_flags(&["--transient"]);
        let ended = cluster[2].run_to_end();
        assert_eq!(ended.status, Some(3), "{}", ended.log);
        assert!(ended.log.contains("R1") && ended.log.contains("transient"), "{}", ended.log);
        for number in 0..here {
            let status = cluster[number].status().unwrap();
            assert_eq!((status.verdict(), status.cluster_id()), ("waiting", None), "{}", status.0);
        }
    }
}

#[test]
fn acceptance_b13_of_different_numbers_to_wait_for_the_largest_holds_for_all() {
    let mut cluster = ClusterPlan::of(3).wait_for(2).quick().prepare();
    cluster[1].set_flag("--cluster-wait-for", "3");
    cluster.start_these(&[1, 0]);
    for number in [0, 1] {
        let status = cluster[number].wait_until("waits for three", |status| {
            status.verdict() == "waiting" && status.reason().contains("2 of 3")
        });
        assert_eq!(status.cluster_id(), None);
    }
    cluster[2].start();
    cluster.wait_active();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_j_one_of_three_waits_for_a_majority_and_two_serve_at_once() {
    const MESSAGES: u64 = 100_000;
    let mut cluster = ClusterPlan::of(3).wait_for(2).start();
    let (client, _publisher) = messages::connect_and_publish(&cluster.url(), "j", 0..MESSAGES, 1024).await;
    cluster.kill_all();
    client.close().await;
    let before = cluster.contents();
    cluster[1].start();
    let status =
        cluster[1].wait_until("waits", |status| status.verdict() == "waiting" && status.row() == "W1");
    assert!(status.reason().contains("b1") && status.reason().contains("b3"), "{}", status.reason());
    let admin = cluster[1].admin_address();
    for (path, code) in [("/health/startup", 200), ("/health/live", 200), ("/health/ready", 503)] {
        assert_eq!(status::get(&admin, path).unwrap().0, code, "{path}");
    }
    cluster.assert_unchanged(&before);

    let started = Instant::now();
    cluster[0].start();
    let client = messages::connect(&cluster.url()).await;
    let mut consumer = client.consume("j", ConsumeOptions::default()).await.unwrap();
    let first = tokio::time::timeout(CONSUMABLE_MAX * 4, consumer.next()).await.unwrap().unwrap().unwrap();
    let took = started.elapsed();
    println!("restart: the first message came {took:?} after the start of the second of three brokers");
    assert_eq!(messages::number(first.body()), 0);
    assert!(took < CONSUMABLE_MAX, "the first message came after {took:?}");
    drop((first, consumer));
    assert_eq!(messages::drain(&client, "j").await.unwrap(), (0..MESSAGES).collect::<Vec<_>>());
}

#[test]
fn acceptance_d5_asked_to_stop_a_broker_that_waits_leaves_all_as_it_was() {
    let place = Place::new();
    let mut broker = Broker::single(&place.path(""), "b");
    broker.start();
    broker.wait_leading();
    broker.kill();
    broker.set_flag("--recovery", "manual");
    let before = Snapshot::of(&place.path("b-data")).without("lock");
    broker.start();
    broker.wait_until("asks", |status| status.verdict() == "needs-operator");
    assert_eq!(broker.terminate().status, Some(0));
    let now = Snapshot::of(&place.path("b-data")).without("lock");
    assert_eq!(before.differences(&now), [""; 0]);
}

/// A million messages of 1 KiB; 12 s of publishing on two cores.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_j_a_million_messages_are_served_soon_after_a_clean_stop() {
    let mut cluster = ClusterPlan::of(1).start();
    let client = messages::connect_with_queue(&cluster.url(), "million").await;
    let publishing = programs::command("quorate")
        .args(["publish", "--queue", "million", "--count", "1000000", "--size", "1024"])
        .args(["--timeout", "60s", "--url", &cluster[0].client_address()])
        .output()
        .unwrap();
    assert!(publishing.status.success(), "{publishing:?}");
    client.close().await;
    assert_eq!(cluster.shut_down(0).0, 0);

    let started = Instant::now();
    cluster[0].start();
    let client = messages::connect(&cluster.url()).await;
    let mut consumer = client.consume("million", ConsumeOptions::default()).await.unwrap();
    tokio::time::timeout(SERVED_MAX * 3, consumer.next()).await.unwrap().unwrap().unwrap();
    let took = started.elapsed();
    println!("restart: a million messages were served {took:?} after the start");
    assert!(took < SERVED_MAX, "the first message came after {took:?}");
    assert_eq!(messages::held(&client, "million").await.unwrap(), 1_000_000);
}

/// What management reads of a broker that does not serve: H6.
fn shown(broker: &Broker) -> (String, String, Vec<String>, Vec<String>) {
    let status = broker.status().unwrap().0;
    let names = |field: &str| -> Vec<String> {
        let list = status[field].as_array().unwrap();
        list.iter().map(|one| one["name"].as_str().or(one.as_str()).unwrap().to_owned()).collect()
    };
    let present = status["members"].as_array().unwrap().iter().filter(|member| member["present"] == true);
    let present = present.map(|member| member["name"].as_str().unwrap().to_owned()).collect();
    assert!(!status["reason"].as_str().unwrap().is_empty() && !names("next").is_empty(), "{status}");
    let text = |field: &str| status[field].as_str().unwrap().to_owned();
    (text("row"), text("state"), present, names("missing"))
}

#[test]
fn acceptance_h6_who_waits_tells_why_for_whom_and_in_what_state_its_store_is() {
    let mut cluster = ClusterPlan::of(3).quick().prepare();
    cluster[0].start();
    cluster[0].wait_until("waits", |status| status.row() == "W1");
    let (_, state, present, missing) = shown(&cluster[0]);
    assert_eq!((state.as_str(), present), ("empty", vec!["b1".to_owned()]));
    let peers = cluster.peers();
    let mut others: Vec<&str> = peers.split(',').skip(1).collect();
    others.sort_unstable();
    assert_eq!(missing, others, "whose names nobody knows yet");

    cluster.start_all();
    cluster.wait_active();
    assert!(cluster[0].status().unwrap().0["missing"].as_array().unwrap().is_empty());
    cluster.kill_all();
    cluster[1].start();
    cluster[1].wait_until("waits", |status| status.row() == "W1");
    let (_, state, present, mut missing) = shown(&cluster[1]);
    missing.sort_unstable();
    assert_eq!((state.as_str(), present), ("dirty", vec!["b2".to_owned()]));
    assert_eq!(missing, ["b1", "b3"], "by name");
    cluster.kill_all();

    // As the design note asks, nobody goes on from stores that were not closed, and says so.
    for number in 0..3 {
        cluster[number].add_flags(&["--recovery", "manual"]);
        cluster[number].start();
    }
    let status = cluster[2].wait_until("asks", |status| status.verdict() == "needs-operator");
    assert_eq!(status.row(), "C2", "{}", status.0);
    let (_, state, present, missing) = shown(&cluster[2]);
    assert_eq!((state.as_str(), present.len(), missing.len()), ("dirty", 3, 0));
}
