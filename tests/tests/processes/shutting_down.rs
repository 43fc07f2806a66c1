//! Stopping, shutting down, and being cut off: acceptance D.

use std::collections::BTreeSet;

use quorate_store::stamp::StampState;
use quorate_tests::process::outage::{ORDERS, report};
use quorate_tests::process::{Broker, Cluster, ClusterPlan, RawClient, Snapshot, messages, status, wait_for};
use serde_json::Value;

fn clean(report: &Value) -> Vec<(String, bool)> {
    let members = report["members"].as_array().unwrap();
    let mut clean: Vec<_> = members
        .iter()
        .map(|member| (member["name"].as_str().unwrap().to_owned(), member["clean"] == true))
        .collect();
    clean.sort();
    clean
}

fn named(clean: [bool; 3]) -> Vec<(String, bool)> {
    ["b1", "b2", "b3"].iter().map(|name| (*name).to_owned()).zip(clean).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_d1_a_shutdown_at_any_member_makes_all_clean_with_one_new_id() {
    let mut cluster = ClusterPlan::of(3).quick().start();
    let client = messages::connect_with_queue(&cluster.url(), "d1").await;
    let publisher = client.publisher().unwrap();
    let mut ids = BTreeSet::new();
    for at in 0..3 {
        messages::confirmed(messages::publish(&publisher, "d1", at * 100..(at + 1) * 100, 100).await).await;
        let (code, report) = cluster.shut_down(usize::try_from(at).unwrap());
        assert_eq!((code, clean(&report)), (0, named([true; 3])), "{report:#}");
        let found = [0, 1, 2].map(|number| cluster.shutdown_id(number));
        assert!(found.iter().all(|id| *id == found[0]), "{found:?}");
        let id = found[0].expect("clean").to_string();
        assert_eq!(report["shutdown_id"], *id);
        assert!(ids.insert(id), "an id was used twice");
        cluster.start_all();
        cluster.wait_active();
    }
    assert_eq!(messages::drain(&client, "d1").await.unwrap(), (0..300).collect::<Vec<_>>());
}

/// A broker of three that leads neither of the two groups: it may stand still without anybody noticing.
fn idle(cluster: &Cluster) -> usize {
    let led = cluster[0].wait_until("led", |status| {
        status.0["groups"]
            .as_array()
            .is_some_and(|groups| groups.iter().all(|group| group["leader"].is_string()))
    });
    let leads = |number: usize| {
        let name = format!("b{}", number + 1);
        led.0["groups"]
            .as_array()
            .is_some_and(|groups| groups.iter().any(|group| group["leader"] == name.as_str()))
    };
    (0..3).find(|number| !leads(*number)).expect("two groups have two leaders at most")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_d3_one_that_dies_during_a_shutdown_is_updated_afterwards() {
    let mut cluster = ClusterPlan::of(3).quick().start();
    let (client, _publisher) = messages::connect_and_publish(&cluster.url(), "d3", 0..100, 100).await;
    let leader = cluster.wait_active();
    let dying = idle(&cluster);
    let asked = (0..3).find(|number| ![leader, dying].contains(number)).expect("a third");
    // It stands still, so that the end surely comes before it could be clean.
    cluster[dying].freeze();
    let command = cluster.begin_shutdown(asked);
    cluster[asked].wait_until("is shutting down", |status| status.verdict() == "shutting-down");
    cluster[dying].kill();
    let (_, report) = report(command);
    cluster.wait_stopped(&[leader, asked]);
    for (number, (name, clean)) in clean(&report).into_iter().enumerate() {
        assert_eq!(clean, number != dying, "{name}: {report:#}");
    }
    assert_eq!(cluster.shutdown_id(dying), None);
    assert!(cluster.shutdown_id(leader).is_some());
    cluster.start_these(&[dying, leader, asked]);
    cluster.wait_equal();
    assert_eq!(messages::drain(&client, "d3").await.unwrap(), (0..100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_d4_killed_before_its_mark_a_store_is_dirty() {
    let mut cluster = ClusterPlan::of(3).quick().start();
    let (client, _publisher) = messages::connect_and_publish(&cluster.url(), "d4", 0..100, 100).await;
    let leader = cluster.wait_active();
    let other = idle(&cluster);
    let one = (0..3).find(|number| ![leader, other].contains(number)).expect("a third");
    // Nobody closes while one stands still: the others are killed before they have.
    cluster[other].freeze();
    let command = cluster.begin_shutdown(leader);
    cluster[one].wait_until("is shutting down", |status| status.verdict() == "shutting-down");
    cluster.kill_all();
    drop(command.wait_with_output());
    for number in 0..3 {
        assert_eq!(cluster.stamp(number).state, StampState::Dirty);
    }
    cluster.start_all();
    cluster.wait_equal();
    assert_eq!(messages::drain(&client, "d4").await.unwrap(), (0..100).collect::<Vec<_>>());
}

/// Stops three brokers one by one in an order, starts them in every order; each time with something that only those who
/// went on can know.
async fn one_by_one(stopping: [usize; 3]) {
    let mut cluster = ClusterPlan::of(3).wait_for(2).quick().start();
    let client = messages::connect_with_queue(&cluster.url(), "d5").await;
    let publisher = client.publisher().unwrap();
    let mut number = 0;
    for starting in ORDERS {
        messages::confirmed(messages::publish(&publisher, "d5", number..number + 10, 100).await).await;
        assert_eq!(cluster[stopping[0]].terminate().status, Some(0));
        messages::confirmed(messages::publish(&publisher, "d5", number + 10..number + 20, 100).await).await;
        number += 20;
        for last in &stopping[1..] {
            assert_eq!(cluster[*last].terminate().status, Some(0));
        }
        assert_eq!([0, 1, 2].map(|number| cluster.stamp(number).state), [StampState::Dirty; 3]);
        cluster.start_these(&starting);
        cluster.wait_active();
        assert_eq!(messages::held(&client, "d5").await.unwrap(), number, "{stopping:?} {starting:?}");
    }
    cluster.wait_equal();
    assert_eq!(messages::drain(&client, "d5").await.unwrap(), (0..number).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_d5_stopped_one_by_one_1_2_3_they_come_back_in_every_order() {
    one_by_one([0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_d5_stopped_one_by_one_1_3_2_they_come_back_in_every_order() {
    one_by_one([0, 2, 1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_d5_stopped_one_by_one_2_1_3_they_come_back_in_every_order() {
    one_by_one([1, 0, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_d5_stopped_one_by_one_2_3_1_they_come_back_in_every_order() {
    one_by_one([1, 2, 0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_d5_stopped_one_by_one_3_1_2_they_come_back_in_every_order() {
    one_by_one([2, 0, 1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_d5_stopped_one_by_one_3_2_1_they_come_back_in_every_order() {
    one_by_one([2, 1, 0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_d5_stopped_all_at_once_they_come_back_unattended() {
    let mut cluster = ClusterPlan::of(3).quick().start();
    let client = messages::connect_with_queue(&cluster.url(), "d5").await;
    let publisher = client.publisher().unwrap();
    for turn in 0..3 {
        messages::confirmed(messages::publish(&publisher, "d5", turn * 100..(turn + 1) * 100, 100).await)
            .await;
        cluster.terminate_all();
        cluster.start_all();
        cluster.wait_active();
    }
    assert_eq!(messages::drain(&client, "d5").await.unwrap(), (0..300).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_d7_cut_off_from_the_other_of_two_nobody_serves_or_becomes_clean() {
    let mut cluster = ClusterPlan::of(2).quick().start();
    let (client, _publisher) = messages::connect_and_publish(&cluster.url(), "d7", 0..100, 100).await;
    cluster[1].freeze();
    cluster[0]
        .wait_until("has no quorum", |status| status.verdict() == "waiting" && status.leader("/").is_none());
    // The end of the link says so first; from the moment when the leader steps down, clients are refused.
    cluster[0].wait_log("quorum of virtual host / lost");
    let refused = RawClient::connect(&cluster.client_address(0)).try_log_in("/").unwrap_err();
    assert!(refused.code.is_retryable(), "{refused:?}");
    assert_eq!(status::get(&cluster[0].admin_address(), "/health/ready").unwrap().0, 503);
    assert_eq!(cluster[0].terminate().status, Some(0));
    assert_eq!([cluster.stamp(0).state, cluster.stamp(1).state], [StampState::Dirty; 2]);
    cluster[1].thaw();
    cluster[0].start();
    cluster.wait_equal();
    assert_eq!(messages::drain(&client, "d7").await.unwrap(), (0..100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_d8_a_transient_cluster_begins_empty_again_and_writes_nothing() {
    let mut cluster = ClusterPlan::of(3).transient().quick().prepare();
    let mut ids = Vec::new();
    for _ in 0..2 {
        cluster.start_all();
        let leader = cluster.wait_active();
        ids.push(cluster[leader].status().unwrap().cluster_id().map(str::to_owned));
        let client = messages::connect_with_queue(&cluster.url(), "d8").await;
        assert_eq!(messages::held(&client, "d8").await.unwrap(), 0);
        let publisher = client.publisher().unwrap();
        messages::confirmed(messages::publish(&publisher, "d8", 0..100, 100).await).await;
        cluster.terminate_all();
    }
    assert!(ids[0].is_some() && ids[0] != ids[1], "{ids:?}");
    let mut names = Snapshot::of(&cluster.path("")).names();
    names.sort();
    let own = ["b1.log", "b1.ready", "b2.log", "b2.ready", "b3.log", "b3.ready"];
    assert!(names.iter().all(|name| own.contains(&name.as_str())), "{names:?}");
}

#[test]
fn acceptance_d1_a_cluster_of_one_is_shut_down_and_comes_back() {
    let mut cluster = ClusterPlan::of(1).quick().start();
    assert_eq!(cluster.shut_down(0).0, 0);
    assert!(cluster.shutdown_id(0).is_some());
    cluster.start_all();
    let broker: &Broker = &cluster[0];
    wait_for("dirty again", || {
        broker.status()?;
        if cluster.shutdown_id(0).is_none() { Ok(()) } else { Err("clean".to_owned()) }
    });
    cluster.wait_active();
}
