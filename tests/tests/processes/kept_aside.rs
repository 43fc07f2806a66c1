//! What an update replaces is in quarantine, whole and listed: acceptance B4 and C3.

use std::fs;
use std::path::Path;

use quorate_tests::process::directory::copy;
use quorate_tests::process::{Cluster, ClusterPlan, messages, programs};
use serde_json::Value;

/// What the tool lists of a store's quarantine.
fn images(store: &Path) -> Vec<Value> {
    let mut command = programs::command("quorate");
    let output = command.args(["-o", "json", "store", "quarantine", "list"]).arg(store).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice::<Value>(&output.stdout).unwrap().as_array().unwrap().clone()
}

/// Numbers in a queue of a store that no broker has open.
fn exported(store: &str, queue: &str) -> usize {
    let mut command = programs::command("quorate");
    let output = command.args(["-o", "json", "store", "export", store, "--queue", queue]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains("\"body\"")).count()
}

async fn publish(cluster: &Cluster, queue: &str, numbers: std::ops::Range<u64>) {
    let client = messages::connect_with_queue(&cluster.url(), queue).await;
    let publisher = client.publisher().unwrap();
    messages::confirmed(messages::publish(&publisher, queue, numbers, 100).await).await;
    client.close().await;
}

/// The store of b3 is put back to what it was, so that an update has something to replace.
fn put_back(cluster: &Cluster, earlier: &Path) {
    fs::remove_dir_all(cluster.data(2)).unwrap();
    fs::rename(earlier, cluster.data(2)).unwrap();
}

async fn check(cluster: &mut Cluster, queue: &str, held: usize, all: u64) {
    cluster.wait_equal();
    let images = images(&cluster.data(2));
    assert!(!images.is_empty(), "what was replaced is listed");
    for image in &images {
        assert_eq!(image["damage"], Value::Null, "{image}");
        assert!(image["why"].as_str().is_some_and(|why| !why.is_empty()), "{image}");
        assert!(image["bytes"].as_u64() > Some(0), "{image}");
    }
    // Not only after the next start.
    cluster[2].wait_until("it is counted", |status| status.0["quarantine_bytes"].as_u64() > Some(0));
    let path = images[0]["path"].as_str().unwrap();
    assert_eq!(exported(path, queue), held, "the image holds what the store held");
    let client = messages::connect(&cluster.url()).await;
    assert_eq!(messages::drain(&client, queue).await.unwrap(), (0..all).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_b4_what_the_dirty_store_held_is_kept_aside() {
    let mut cluster = ClusterPlan::of(3).quick().start();
    publish(&cluster, "b4", 0..100).await;
    cluster.wait_equal();
    cluster[2].kill();
    let earlier = cluster.path("earlier");
    copy(&cluster.data(2), &earlier);
    cluster[2].start();
    cluster.wait_equal();
    publish(&cluster, "b4", 100..200).await;
    cluster.wait_equal();
    cluster[2].kill();
    cluster.wait_active();
    cluster.shut_down(0);
    assert!(cluster.shutdown_id(0).is_some() && cluster.shutdown_id(0) == cluster.shutdown_id(1));
    put_back(&cluster, &earlier);
    assert_eq!(cluster.shutdown_id(2), None);
    cluster.start_these(&[2, 0, 1]);
    check(&mut cluster, "b4", 100, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_c3_what_the_clean_store_of_another_shutdown_held_is_kept_aside() {
    let mut cluster = ClusterPlan::of(3).wait_for(2).quick().start();
    publish(&cluster, "c3", 0..100).await;
    cluster.shut_down(0);
    let earlier = cluster.path("earlier");
    copy(&cluster.data(2), &earlier);
    cluster.start_all();
    cluster.wait_equal();
    publish(&cluster, "c3", 100..200).await;
    cluster.wait_equal();
    cluster.shut_down(0);
    let latest = cluster.shutdown_id(0).expect("clean");
    put_back(&cluster, &earlier);
    let other = cluster.shutdown_id(2).expect("clean");
    assert_ne!(other, latest);
    cluster.start_these(&[0, 1]);
    cluster.wait_active();
    cluster[2].start();
    check(&mut cluster, "c3", 100, 200).await;
}
