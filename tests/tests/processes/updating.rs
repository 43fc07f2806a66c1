//! Members that come back with something: acceptance C2 to C6.

use quorate_tests::process::outage::ORDERS;
use quorate_tests::process::{Broker, ClusterPlan, Place, Snapshot, messages};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_c2_a_dirty_member_is_updated_and_counts() {
    let mut cluster = ClusterPlan::of(3).quick().start();
    let (client, publisher) = messages::connect_and_publish(&cluster.url(), "c2", 0..1000, 100).await;
    let leader = cluster.wait_active();
    let [stale, other] = [cluster.others(leader)[0], cluster.others(leader)[1]];
    cluster[stale].kill();
    messages::confirmed(messages::publish(&publisher, "c2", 1000..5000, 100).await).await;
    cluster[stale].start();
    cluster.wait_equal();
    cluster[other].kill();
    messages::confirmed(messages::publish(&publisher, "c2", 5000..5100, 100).await).await;
    assert_eq!(messages::drain(&client, "c2").await.unwrap(), (0..5100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_c3_a_clean_store_of_an_earlier_shutdown_is_updated() {
    let mut cluster = ClusterPlan::of(3).wait_for(2).quick().start();
    let (client, publisher) = messages::connect_and_publish(&cluster.url(), "c3", 0..100, 100).await;
    cluster.shut_down(0);
    let earlier = cluster.shutdown_id(2).expect("clean");
    cluster.start_these(&[0, 1]);
    cluster.wait_active();
    messages::confirmed(messages::publish(&publisher, "c3", 100..200, 100).await).await;
    cluster.shut_down(0);
    assert_ne!(cluster.shutdown_id(0), Some(earlier));
    cluster.start_these(&[0, 1]);
    cluster.wait_active();
    assert_eq!(cluster.shutdown_id(2), Some(earlier), "it has not run since");
    cluster[2].start();
    cluster.wait_equal();
    assert_eq!(cluster.shutdown_id(2), None, "whoever runs is dirty");
    cluster[0].kill();
    assert_eq!(messages::drain(&client, "c3").await.unwrap(), (0..200).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_c4_a_store_of_another_cluster_is_refused_and_nothing_else_changes() {
    let mut cluster = ClusterPlan::of(3).wait_for(2).quick().prepare();
    let elsewhere = Place::new();
    let mut alone = Broker::single_on(&elsewhere.path(""), "alone", &cluster.data(2));
    alone.start();
    alone.wait_leading();
    alone.terminate();
    cluster.start_these(&[0, 1]);
    let leader = cluster.wait_active();
    let term = cluster[leader].status().unwrap().group("/").unwrap()["term"].clone();
    let before = Snapshot::of(&cluster.data(2)).without("lock");
    let ended = cluster[2].run_to_end();
    assert_eq!(ended.status, Some(3), "{}", ended.log);
    assert!(ended.log.contains("R3") && ended.log.contains("b3"), "{}", ended.log);
    assert_eq!(before.differences(&Snapshot::of(&cluster.data(2)).without("lock")), [""; 0]);
    assert_eq!(cluster.wait_active(), leader);
    assert_eq!(cluster[leader].status().unwrap().group("/").unwrap()["term"], term);
}

/// A formerly clean member is killed while it is updated, then everybody; whoever of a majority starts first, nothing is
/// missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_c5_killed_while_it_was_updated_a_member_is_no_source() {
    let mut cluster = ClusterPlan::of(3).wait_for(2).quick().start();
    let client = messages::connect_with_queue(&cluster.url(), "c5").await;
    let publisher = client.publisher().unwrap();
    cluster.shut_down(0);
    let mut number = 0;
    for [updated, other, leaving] in ORDERS.into_iter().filter(|order| order[1] < order[2]) {
        cluster.start_these(&[other, leaving]);
        cluster.wait_active();
        messages::confirmed(messages::publish(&publisher, "c5", number..number + 3000, 1000).await).await;
        number += 3000;
        cluster[updated].start();
        cluster[updated].wait_until("knows the cluster", |status| status.leader("system").is_some());
        cluster[updated].kill();
        cluster.kill_all();
        assert_eq!(cluster.shutdown_id(updated), None, "half updated is not clean");
        cluster.start_these(&[updated, other]);
        cluster.wait_active();
        assert_eq!(messages::held(&client, "c5").await.unwrap(), number);
        cluster.start_all();
        cluster.wait_equal();
        cluster.shut_down(updated);
    }
    cluster.start_all();
    assert_eq!(messages::drain(&client, "c5").await.unwrap(), (0..number).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_c6_when_its_source_dies_a_member_is_updated_from_another() {
    let mut cluster = ClusterPlan::of(3).quick().start();
    let client = messages::connect_with_queue(&cluster.url(), "c6").await;
    let publisher = client.publisher().unwrap();
    let leader = cluster.wait_settled();
    let [updated, other] = [cluster.others(leader)[0], cluster.others(leader)[1]];
    cluster[updated].kill();
    messages::confirmed(messages::publish(&publisher, "c6", 0..20_000, 1000).await).await;
    cluster[updated].start();
    let source = cluster[leader].status().unwrap();
    assert_eq!(source.role("/"), "leader");
    cluster[leader].kill();
    let pid = cluster[updated].pid();
    assert_eq!(cluster.wait_equal(), other, "only it has everything");
    assert_eq!(cluster[updated].pid(), pid);
    assert_eq!(messages::drain(&client, "c6").await.unwrap(), (0..20_000).collect::<Vec<_>>());
}
