//! A whole cluster that comes back: acceptance B3 to B10.

use std::fs;
use std::path::Path;

use quorate_store::files::real::RealFiles;
use quorate_store::identity::create_store_id;
use quorate_store::ids::StoreId;
use quorate_tests::process::outage::ORDERS;
use quorate_tests::process::{Cluster, ClusterPlan, messages, programs};
use uuid::Uuid;

const MODES: [&str; 2] = ["manual", "automatic"];

fn set_flag(cluster: &mut Cluster, flag: &str, value: &str) {
    for number in 0..cluster.size() {
        cluster[number].set_flag(flag, value);
    }
}

fn set_mode(cluster: &mut Cluster, mode: &str) {
    set_flag(cluster, "--recovery", mode);
}

async fn publish(cluster: &Cluster, queue: &str, numbers: std::ops::Range<u64>) {
    let client = messages::connect_with_queue(&cluster.url(), queue).await;
    let publisher = client.publisher().unwrap();
    messages::confirmed(messages::publish(&publisher, queue, numbers, 100).await).await;
    client.close().await;
}

async fn drained(cluster: &Cluster, queue: &str) -> Vec<u64> {
    let client = messages::connect(&cluster.url()).await;
    messages::drain(&client, queue).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_b3_clean_stores_restore_themselves_in_every_order() {
    let mut cluster = ClusterPlan::of(3).quick().start();
    publish(&cluster, "b3", 0..500).await;
    let leader = cluster.wait_equal();
    let id = cluster[leader].status().unwrap().cluster_id().map(str::to_owned);
    for (turn, order) in ORDERS.into_iter().enumerate() {
        set_mode(&mut cluster, MODES[turn % 2]);
        let (code, report) = cluster.shut_down(order[0]);
        assert_eq!(code, 0, "{report:#}");
        assert!([0, 1, 2].iter().all(|number| cluster.shutdown_id(*number).is_some()), "{report:#}");
        cluster.start_these(&order);
        let leader = cluster.wait_equal();
        for number in 0..3 {
            let log = cluster[number].log_text();
            assert!(!log.contains("update of virtual host"), "data was sent: {log}");
            assert!(
                cluster[number].wait_until("has its row", |s| s.row() != "").cluster_id() == id.as_deref()
            );
        }
        assert_eq!(cluster[leader].status().unwrap().cluster_id(), id.as_deref());
    }
    assert_eq!(drained(&cluster, "b3").await, (0..500).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_b4_clean_stores_restore_and_the_dirty_one_is_updated() {
    for mode in MODES {
        let mut cluster = ClusterPlan::of(3).quick().start();
        publish(&cluster, "b4", 0..100).await;
        cluster[2].kill();
        cluster.wait_active();
        publish(&cluster, "b4", 100..200).await;
        cluster.shut_down(0);
        let clean = [0, 1, 2].map(|number| cluster.shutdown_id(number).is_some());
        assert_eq!(clean, [true, true, false]);
        set_mode(&mut cluster, mode);
        cluster.start_these(&[2, 0, 1]);
        cluster.wait_equal();
        cluster[0].kill();
        assert_eq!(drained(&cluster, "b4").await, (0..200).collect::<Vec<_>>(), "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_b5_an_empty_fourth_never_gives_its_identity() {
    for fourth in [Uuid::from_u128(1), Uuid::from_u128(u128::MAX - 1)] {
        let mut cluster = ClusterPlan::of(4).wait_for(3).quick().prepare();
        cluster.start_these(&[0, 1, 2]);
        let leader = cluster.wait_active();
        let id = cluster[leader].status().unwrap().cluster_id().map(str::to_owned);
        publish(&cluster, "b5", 0..100).await;
        cluster[2].kill();
        cluster.shut_down(0);
        fs::create_dir_all(cluster.data(3)).unwrap();
        create_store_id(&RealFiles, &cluster.data(3), StoreId(fourth)).unwrap();
        cluster.start_these(&[3, 0, 1]);
        cluster.wait_active();
        cluster[2].start();
        cluster.wait_equal();
        for number in 0..4 {
            assert_eq!(cluster[number].status().unwrap().cluster_id(), id.as_deref());
        }
        assert_eq!(cluster.stamp(3).store_id, StoreId(fourth));
        assert_eq!(drained(&cluster, "b5").await, (0..100).collect::<Vec<_>>());
    }
}

/// Two shutdowns, the second without b3: b1 and b2 are clean by one id, b3 by another.
async fn two_shutdowns() -> (Cluster, [Uuid; 2]) {
    let mut cluster = ClusterPlan::of(3).wait_for(2).quick().start();
    publish(&cluster, "b6", 0..100).await;
    cluster.shut_down(0);
    cluster.start_these(&[0, 1]);
    cluster.wait_active();
    publish(&cluster, "b6", 100..200).await;
    cluster.shut_down(0);
    let ids = [cluster.shutdown_id(2).unwrap(), cluster.shutdown_id(0).unwrap()];
    assert_ne!(ids[0], ids[1]);
    (cluster, ids)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_b6_two_shutdown_ids_need_an_operator_or_the_proof_of_a_majority() {
    let (mut cluster, ids) = two_shutdowns().await;
    let before = cluster.contents();
    set_mode(&mut cluster, "manual");
    cluster.start_these(&[0, 2]);
    for number in [0, 2] {
        let status = cluster[number].wait_until("asks", |status| status.verdict() == "needs-operator");
        assert_eq!(status.row(), "C3", "{}", status.0);
        let reason = status.reason();
        assert!(ids.iter().all(|id| reason.contains(&id.to_string())), "{reason}");
        assert!(reason.contains("b1") && reason.contains("b3"), "{reason}");
        assert!(status.0["next"].to_string().contains("mark-clean"), "{}", status.0);
    }
    cluster.kill_all();
    cluster.assert_unchanged(&before);
    set_mode(&mut cluster, "automatic");
    cluster.start_these(&[2, 0]);
    cluster.wait_equal();
    assert_eq!(drained(&cluster, "b6").await, (0..200).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_b7_two_shutdown_ids_and_a_dirty_store_need_an_operator_or_the_proof() {
    let (mut cluster, ids) = two_shutdowns().await;
    let output = programs::command("quorate")
        .args(["store", "unmark", "--yes"])
        .arg(cluster.data(1))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(cluster.shutdown_id(1), None);
    let before = cluster.contents();
    set_mode(&mut cluster, "manual");
    // Two of them could go on by themselves: the dirty one is no further than the clean one of the last shutdown.
    set_flag(&mut cluster, "--cluster-wait-for", "3");
    cluster.start_all();
    for number in 0..3 {
        let status = cluster[number].wait_until("asks", |status| status.verdict() == "needs-operator");
        assert_eq!(status.row(), "C3", "{}", status.0);
        assert!(ids.iter().all(|id| status.reason().contains(&id.to_string())), "{}", status.reason());
    }
    cluster.kill_all();
    cluster.assert_unchanged(&before);
    set_mode(&mut cluster, "automatic");
    cluster.start_all();
    cluster.wait_equal();
    assert_eq!(drained(&cluster, "b6").await, (0..200).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_b8_a_store_of_another_cluster_is_named_and_the_majority_goes_on() {
    let mut other = ClusterPlan::of(1).quick().start();
    publish(&other, "foreign", 0..10).await;
    other.terminate_all();
    let mut cluster = ClusterPlan::of(3).quick().start();
    publish(&cluster, "b8", 0..100).await;
    cluster.terminate_all();
    let kept = cluster.path("kept");
    fs::rename(cluster.data(2), &kept).unwrap();
    fs::rename(other.data(0), cluster.data(2)).unwrap();
    for number in 0..3 {
        cluster[number].set_flag("--cluster-wait-for", "2");
    }
    let before = cluster.contents();
    cluster.start_these(&[0, 1]);
    cluster.wait_active();
    let ended = cluster[2].run_to_end();
    assert_eq!(ended.status, Some(3), "{}", ended.log);
    assert!(ended.log.contains("R3"), "{}", ended.log);
    assert_eq!(before[2].differences(&cluster.contents()[2]), [""; 0]);
    fs::rename(cluster.data(2), cluster.path("foreign")).unwrap();
    fs::rename(&kept, cluster.data(2)).unwrap();
    cluster[2].start();
    cluster.wait_equal();
    assert_eq!(drained(&cluster, "b8").await, (0..100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_b9_all_dirty_asks_in_manual_and_returns_in_automatic_mode() {
    let mut cluster = ClusterPlan::of(3).quick().start();
    publish(&cluster, "b9", 0..100).await;
    cluster.wait_equal();
    cluster.kill_all();
    let before = cluster.contents();
    set_mode(&mut cluster, "manual");
    cluster.start_all();
    for number in 0..3 {
        let status = cluster[number].wait_until("asks", |status| status.verdict() == "needs-operator");
        assert_eq!(status.row(), "C2", "{}", status.0);
        assert!(status.0["next"].to_string().contains("quorate store inspect"), "{}", status.0);
    }
    cluster.kill_all();
    cluster.assert_unchanged(&before);
    set_mode(&mut cluster, "automatic");
    cluster.start_all();
    cluster.wait_equal();
    assert_eq!(drained(&cluster, "b9").await, (0..100).collect::<Vec<_>>());
}

fn spoil_stamp(directory: &Path) {
    for slot in ["stamp.a", "stamp.b"] {
        fs::write(directory.join(slot), [0; 64]).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_b9_without_a_trusted_majority_nobody_restores() {
    let mut cluster = ClusterPlan::of(3).quick().start();
    publish(&cluster, "b9", 0..100).await;
    cluster.kill_all();
    spoil_stamp(&cluster.data(0));
    spoil_stamp(&cluster.data(1));
    let before = cluster.contents();
    for mode in MODES {
        set_mode(&mut cluster, mode);
        cluster.start_all();
        for number in [0, 1] {
            let status = cluster[number].wait_until("asks", |status| status.verdict() == "needs-operator");
            assert_eq!(status.row(), "R2", "{}", status.0);
        }
        cluster[2].wait_until("knows the damaged ones", |status| {
            ["b1", "b2"]
                .iter()
                .all(|name| status.reason().contains(name) || status.0.to_string().contains("damaged"))
                && matches!(status.verdict(), "waiting" | "needs-operator")
        });
        cluster.kill_all();
        cluster.assert_unchanged(&before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_b10_empty_stores_never_make_a_majority() {
    let mut cluster = ClusterPlan::of(3).wait_for(2).quick().start();
    publish(&cluster, "b10", 0..100).await;
    cluster.kill_all();
    for number in [1, 2] {
        fs::remove_dir_all(cluster.data(number)).unwrap();
    }
    let before = cluster.contents();
    for mode in MODES {
        set_mode(&mut cluster, mode);
        cluster.start_all();
        let status = cluster[0].wait_until("sees both", |status| {
            let members = status.0["members"].as_array().unwrap();
            let empty =
                members.iter().filter(|member| member["state"] == "empty" && member["present"] == true);
            empty.count() == 2 && matches!(status.verdict(), "waiting" | "needs-operator")
        });
        assert!(status.0["next"].to_string().contains("quorate store"), "{}", status.0);
        // The empty ones first: without the other they would be two of three that may found.
        for number in [1, 2, 0] {
            cluster[number].kill();
        }
        let now = cluster.contents();
        assert_eq!(before[0].differences(&now[0]), [""; 0], "{mode}");
        for empty in &now[1..] {
            assert_eq!(empty.names(), ["store-id"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_b10_an_empty_store_beside_two_dirty_ones_changes_nothing() {
    let mut cluster = ClusterPlan::of(3).quick().start();
    publish(&cluster, "b10", 0..100).await;
    let id = cluster[0].status().unwrap().cluster_id().map(str::to_owned);
    cluster.wait_equal();
    cluster.kill_all();
    fs::remove_dir_all(cluster.data(0)).unwrap();
    let before = cluster.contents();
    set_mode(&mut cluster, "manual");
    cluster.start_all();
    for number in [1, 2] {
        let status = cluster[number].wait_until("asks", |status| status.verdict() == "needs-operator");
        assert_eq!(status.row(), "C2", "{}", status.0);
    }
    cluster.kill_all();
    let now = cluster.contents();
    for number in [1, 2] {
        assert_eq!(before[number].differences(&now[number]), [""; 0]);
    }
    assert_eq!(now[0].names(), ["store-id"]);
    set_mode(&mut cluster, "automatic");
    cluster.start_all();
    for number in [1, 2] {
        cluster[number].wait_until("goes on", |status| {
            status.verdict() == "active"
                && status.cluster_id() == id.as_deref()
                && status.leader("/").is_some()
        });
    }
    assert_eq!(drained(&cluster, "b10").await, (0..100).collect::<Vec<_>>());
}
