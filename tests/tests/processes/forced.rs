//! Fewer than a majority go on, by an operator's word or as the designated primary: acceptance F6 to F9.

use quorate_client::Receipt;
use quorate_tests::process::{Cluster, ClusterPlan, messages, programs};
use serde_json::Value;

use crate::controls::three;
use crate::operator::quorate;
use crate::stream::QUEUE;

/// As this broker knows it.
fn cluster_id(cluster: &mut Cluster, number: usize) -> String {
    let status = cluster[number].status().unwrap();
    status.cluster_id().expect("a cluster").to_owned()
}

/// Publishes these; their receipts.
async fn publish(cluster: &Cluster, queue: &str, numbers: std::ops::Range<u64>) -> Vec<Receipt> {
    let client = messages::connect_with_queue(&cluster.url(), queue).await;
    let publisher = client.publisher().unwrap();
    let mut receipts = Vec::new();
    for confirm in messages::publish(&publisher, queue, numbers, 100).await {
        receipts.push(confirm.await.expect("it is confirmed"));
    }
    client.close().await;
    receipts
}

fn go_on(cluster: &mut Cluster, number: usize, lease: &str) -> (i32, Value) {
    let (name, id) = (cluster[number].name().to_owned(), cluster_id(cluster, number));
    let set = ["--timeout", "20s", "group", "set", "--vhost", "/", "--required-nodes", "1", "--nodes", &name];
    let word = ["--lease", lease, "--confirm", &id, "--reason", "the others are lost"];
    quorate(cluster, &[&set[..], &word[..]].concat())
}

fn in_force(cluster: &mut Cluster) -> Option<String> {
    let (_, view) = quorate(cluster, &["group", "status", "--vhost", "/"]);
    view["groups"][0]["in_force"]["kind"].as_str().map(str::to_owned)
}

fn wait_over(cluster: &mut Cluster) {
    quorate_tests::process::wait_for("the end of what was forced", || match in_force(cluster) {
        None => Ok(()),
        Some(kind) => Err(format!("{kind} is in force")),
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_f6_the_last_of_three_serves_at_once_by_an_override_and_says_so() {
    let mut cluster = three();
    let receipts = publish(&cluster, QUEUE, 0..100).await;
    assert!(receipts.iter().all(|receipt| !receipt.under_override));
    let last = cluster.wait_equal();
    let (refused, report) = go_on(&mut cluster, last, "1h");
    assert_eq!((refused, report["code"].as_str()), (2, Some("GROUP_HAS_QUORUM")), "{report}");
    let others = cluster.others(last);
    for other in &others {
        cluster[*other].kill();
    }
    let (status, report) = go_on(&mut cluster, last, "1h");
    assert_eq!(status, 0, "{report}");
    cluster[last].wait_log("required nodes of virtual host / changed from a majority to 1");
    let receipts = publish(&cluster, QUEUE, 100..200).await;
    assert!(receipts.iter().all(|receipt| receipt.under_override), "every one is marked");
    // Asked again, the lease is longer: also that of the cluster's own group, which began with it.
    let (status, report) = go_on(&mut cluster, last, "5h");
    assert_eq!((status, report["groups"].as_array().map(Vec::len)), (0, Some(2)), "{report}");
    let (_, view) = quorate(&mut cluster, &["group", "status"]);
    for group in view["groups"].as_array().unwrap() {
        assert!(group["in_force"]["lease_left_ms"].as_u64() > Some(4 * 3_600_000), "{group:#}");
        assert!(
            group["loss_window"].as_str().unwrap().starts_with("all that is confirmed until"),
            "{group:#}"
        );
    }
    assert_eq!(in_force(&mut cluster).as_deref(), Some("override"));
    let (_, audit) = quorate(&mut cluster, &["group", "audit"]);
    let records = audit["records"].as_array().unwrap();
    assert!(records.iter().any(|record| record["reason"] == "the others are lost"), "{audit}");
    for other in others {
        cluster[other].start();
    }
    wait_over(&mut cluster);
    cluster.wait_equal();
    let receipts = publish(&cluster, QUEUE, 200..300).await;
    assert!(receipts.iter().all(|receipt| !receipt.under_override));
    let client = messages::connect(&cluster.url()).await;
    assert_eq!(messages::drain(&client, QUEUE).await.unwrap(), (0..300).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_f7_what_only_the_others_have_is_told_and_kept_when_they_come_back() {
    let mut cluster = three();
    publish(&cluster, QUEUE, 0..100).await;
    let leader = cluster.wait_equal();
    let others = cluster.others(leader);
    let behind = others[0];
    cluster[behind].kill();
    publish(&cluster, QUEUE, 100..150).await;
    // What is known to be committed is counted: that is in a log with the next entry.
    publish(&cluster, QUEUE, 150..151).await;
    for other in [leader, others[1]] {
        cluster[other].kill();
    }
    cluster[behind].start();
    let (status, report) = go_on(&mut cluster, behind, "1h");
    assert_eq!(status, 0, "{report}");
    publish(&cluster, QUEUE, 200..250).await;
    // The normal rule again: nobody is served before a majority has everything.
    let (status, report) = quorate(&mut cluster, &["group", "set", "--vhost", "/", "--required-nodes", "0"]);
    assert_eq!(status, 0, "{report}");
    let (status, view) = quorate(&mut cluster, &["group", "status", "--vhost", "/"]);
    assert_eq!(status, 1, "{view}");
    assert!(view["groups"][0]["gate"].as_str().unwrap().contains("lease is over"), "{view}");
    for other in [leader, others[1]] {
        cluster[other].start();
        cluster[other].wait_log(&format!("live messages by queue: {QUEUE}: 5"));
    }
    wait_over(&mut cluster);
    cluster.wait_equal();
    let client = messages::connect(&cluster.url()).await;
    let expected: Vec<u64> = (0..100).chain(200..250).collect();
    assert_eq!(messages::drain(&client, QUEUE).await.unwrap(), expected);
    let data = cluster.data(leader);
    let output = programs::command("quorate")
        .args(["-o", "json", "loss", "list", "--store", data.to_str().unwrap()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("\"vhost\":\"/\"") || text.contains("\"vhost\": \"/\""), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_virtual_host_that_nobody_who_goes_on_knew_is_kept_by_the_others_and_put_back() {
    let mut cluster = three();
    publish(&cluster, QUEUE, 0..10).await;
    let last = cluster.wait_equal();
    let others = cluster.others(last);
    cluster[last].kill();
    let create = ["--timeout", "20s", "vhost", "create", "orders"];
    let (status, report) = quorate(&mut cluster, &create);
    assert_eq!(status, 0, "{report}");
    let url = format!("{}/orders", cluster.url());
    let (client, _) = messages::connect_and_publish(&url, QUEUE, 0..30, 100).await;
    client.close().await;
    for other in &others {
        cluster[*other].kill();
    }
    cluster[last].start();
    let (status, report) = go_on(&mut cluster, last, "1h");
    assert_eq!(status, 0, "{report}");
    for other in &others {
        cluster[*other].start();
        cluster[*other].wait_log("node of virtual host orders deleted");
        let log = cluster[*other].log_text();
        assert!(log.lines().any(|line| line.contains("HA-1014") && line.contains("orders")), "{log}");
    }
    wait_over(&mut cluster);
    cluster.wait_equal();
    assert_eq!(quorate(&mut cluster, &create).0, 0);
    let data = cluster.data(others[0]).display().to_string();
    let (_, told) = quorate(&mut cluster, &["loss", "list", "--store", &data]);
    let losses = told["losses"].as_array().unwrap();
    let of_it: Vec<&Value> = losses.iter().filter(|loss| loss["vhost"] == "orders").collect();
    let [loss] = of_it[..] else { panic!("one loss: {told:#}") };
    let client = messages::connect_with_queue(&url, QUEUE).await;
    let urls = cluster.url();
    let recover = ["--url", &urls, "loss", "recover", loss["id"].as_str().unwrap(), "--store", &data];
    let (status, recovered) = quorate(&mut cluster, &recover);
    assert_eq!((status, recovered["recovered"].as_u64()), (0, Some(30)), "{recovered:#}");
    assert_eq!(messages::drain(&client, QUEUE).await.unwrap(), (0..30).collect::<Vec<_>>());
}

fn two() -> Cluster {
    let mut cluster = ClusterPlan::of(2).quick().wait_for(2).prepare();
    cluster.start_all();
    cluster.wait_equal();
    cluster
}

fn designate(cluster: &mut Cluster, name: &str) -> (i32, Value) {
    let set = ["--timeout", "5s", "group", "set", "--designated-primary", name, "--reason", "a test"];
    quorate(cluster, &set)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_f8_of_two_only_the_designated_primary_goes_on_alone() {
    let mut cluster = two();
    publish(&cluster, QUEUE, 0..50).await;
    // On neither.
    cluster[1].kill();
    cluster[0].wait_until("it waits", |status| status.verdict() == "waiting");
    let (status, report) = designate(&mut cluster, "b1");
    assert!(status != 0 && report["next"].to_string().contains("take-over"), "{status} {report}");
    cluster[1].start();
    cluster.wait_equal();
    // On the survivor.
    assert_eq!(designate(&mut cluster, "b1").0, 0);
    for number in 0..2 {
        cluster[number].wait_log("designated primary of virtual host system changed from nobody to b1");
    }
    cluster[1].kill();
    cluster.wait_active();
    let receipts = publish(&cluster, QUEUE, 50..100).await;
    assert!(receipts.iter().all(|receipt| receipt.under_override));
    assert_eq!(in_force(&mut cluster).as_deref(), Some("solo"));
    cluster[1].start();
    wait_over(&mut cluster);
    cluster.wait_equal();
    // On restart alone.
    cluster.kill_all();
    cluster[0].start();
    cluster.wait_active();
    publish(&cluster, QUEUE, 100..150).await;
    cluster[1].start();
    wait_over(&mut cluster);
    cluster.wait_equal();
    // The other one, alone, waits.
    cluster.kill_all();
    cluster[1].start();
    cluster[1].wait_until("it waits", |status| status.verdict() == "waiting");
    cluster[0].start();
    cluster.wait_equal();
    let client = messages::connect(&cluster.url()).await;
    assert_eq!(messages::drain(&client, QUEUE).await.unwrap(), (0..150).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_f9_both_are_never_designated_and_a_take_over_settles_who_gives_way() {
    let mut cluster = two();
    publish(&cluster, QUEUE, 0..50).await;
    let (status, report) = designate(&mut cluster, "b1,b2");
    assert_eq!(status, 2, "there is one, or none: {report}");
    assert_eq!(designate(&mut cluster, "b1").0, 0);
    // The designated one is gone: the other one goes on by an operator's word only.
    cluster[0].kill();
    let id = cluster_id(&mut cluster, 1);
    let take =
        ["--timeout", "20s", "group", "take-over", "--node", "b2", "--confirm", &id, "--reason", "fire"];
    let (status, report) = quorate(&mut cluster, &take);
    assert_eq!((status, report["code"].as_str()), (2, Some("NOT_CONFIRMED")), "{report}");
    let (status, report) = quorate(&mut cluster, &[&take[..], &["--other-is-stopped"]].concat());
    assert_eq!(status, 0, "{report}");
    publish(&cluster, QUEUE, 50..100).await;
    cluster[1].kill();
    // Started alone against that word, it serves: until they meet.
    cluster[0].start();
    cluster.wait_active();
    publish(&cluster, "only", 0..30).await;
    publish(&cluster, "last", 0..1).await;
    cluster[1].start();
    cluster[0].wait_log("only: 30");
    wait_over(&mut cluster);
    cluster.wait_equal();
    let client = messages::connect(&cluster.url()).await;
    assert_eq!(messages::drain(&client, QUEUE).await.unwrap(), (0..100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_of_a_transient_cluster_that_has_data_goes_on_as_it_says() {
    let mut cluster = ClusterPlan::of(3).transient().quick().prepare();
    cluster.start_all();
    publish(&cluster, QUEUE, 0..100).await;
    let last = cluster.wait_equal();
    for other in cluster.others(last) {
        cluster[other].kill();
    }
    for other in cluster.others(last) {
        cluster[other].start();
    }
    // New stores under the old names: those that voted never come back.
    let told = cluster[last].wait_until("it asks", |status| status.verdict() == "needs-operator");
    let name = cluster[last].name().to_owned();
    let advice = format!("--required-nodes 1 --nodes {name} ");
    assert!(told.0["next"].to_string().contains(&advice), "{}", told.0["next"]);
    let (status, report) = go_on(&mut cluster, last, "1h");
    assert_eq!(status, 0, "{report}");
    let receipts = publish(&cluster, QUEUE, 100..200).await;
    assert!(receipts.iter().all(|receipt| receipt.under_override));
    let client = messages::connect(&cluster.url()).await;
    assert_eq!(messages::drain(&client, QUEUE).await.unwrap(), (0..200).collect::<Vec<_>>());
}
