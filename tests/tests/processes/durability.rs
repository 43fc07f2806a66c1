//! Durability policies with real processes: what SIGKILL of all brokers takes, and who is asked.

use std::path::{Path, PathBuf};

use quorate_store::stamp::Durability;
use quorate_tests::process::{Cluster, ClusterPlan, messages, programs, wait_for};
use serde_json::Value;

/// Runs `quorate`; gives its exit status and the JSON that it printed.
fn quorate(words: &[&str]) -> (i32, Value) {
    let output =
        programs::command("quorate").args(["-o", "json"]).args(words).output().expect("the tool runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{words:?}: {error}: {text}{}", String::from_utf8_lossy(&output.stderr))
    });
    (output.status.code().expect("it was not killed"), value)
}

/// Sets a policy, and waits until every stamp admits it.
fn weaken(cluster: &Cluster, policy: &str, weakest: Durability) {
    let admin = (0..3).map(|number| cluster[number].admin_address()).collect::<Vec<_>>().join(",");
    let set =
        ["--admin", &admin, "group", "set", "--vhost", "/", "--durability", policy, "--reason", "a test"];
    let (status, report) = quorate(&set);
    assert_eq!((status, &report["changed"]), (0, &true.into()), "{report}");
    for number in 0..3 {
        let status = cluster[number].wait_until("shows the policy", |status| {
            status.group("/").is_some_and(|group| group["durability_here"] == policy)
        });
        assert!(status.group("/").unwrap()["loss_window"].as_str().unwrap().contains("1000 entries"));
    }
    wait_for("stamps", || {
        let stamped = |number: usize| {
            let groups = cluster.stamp(number).groups;
            groups.iter().find(|group| group.vhost == "/").map(|group| group.weakest)
        };
        let found: Vec<_> = (0..3).map(stamped).collect();
        if found.iter().all(|found| *found == Some(weakest)) { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

/// Three brokers under this policy, that confirmed the numbers up to 500 and were killed at once.
async fn killed(policy: &str, weakest: Durability) -> Cluster {
    let mut cluster = ClusterPlan::of(3).quick().start();
    cluster.wait_active();
    weaken(&cluster, policy, weakest);
    let (client, _publisher) = messages::connect_and_publish(&cluster.url(), "orders", 0..500, 100).await;
    for number in 0..3 {
        cluster[number].strike();
    }
    client.close().await;
    for number in 0..3 {
        cluster[number].kill();
    }
    cluster
}

async fn drained(url: &str) -> Vec<u64> {
    let client = messages::connect(url).await;
    let mut numbers = messages::drain(&client, "orders").await.expect("the queue can be read");
    client.close().await;
    numbers.sort_unstable();
    numbers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_write_no_sync_they_restart_by_themselves() {
    let mut cluster = killed("write-no-sync,write-no-sync", Durability::WriteNoSync).await;
    cluster.start_all();
    cluster.wait_active();
    assert_eq!(drained(&cluster.url()).await, (0..500).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_no_sync_they_ask_the_operator() {
    let mut cluster = killed("no-sync,no-sync", Durability::NoSync).await;
    cluster.start_all();
    for number in 0..3 {
        let status = cluster[number].wait_until("asks for an operator", |status| {
            status.verdict() == "needs-operator" && status.row() == "N1"
        });
        assert!(status.reason().contains("may lack what it acknowledged"), "{}", status.reason());
        assert!(status.group("/").unwrap()["may_lack"].as_str().unwrap().contains("not synced"));
    }
    for number in 0..3 {
        cluster[number].terminate();
    }
    let data: Vec<PathBuf> = (0..3).map(|number| cluster.data(number)).collect();
    let paths: Vec<String> = data.iter().map(|path| path.display().to_string()).collect();
    let (_, report) = quorate(&["store", "inspect", &paths[0], &paths[1], &paths[2]]);
    let latest = report["latest"].as_str().map_or_else(|| panic!("{report:#}"), Path::new);
    let latest = data.iter().position(|path| path == latest).unwrap();
    let mut mark = vec!["store", "mark-clean", &paths[latest], "--reason", "a test", "--yes", "--against"];
    mark.extend(cluster.others(latest).into_iter().map(|number| paths[number].as_str()));
    let (status, answer) = quorate(&mark);
    assert_eq!(status, 0, "{answer:#}");
    cluster.start_all();
    cluster.wait_active();
    // What is there is where it was, without a gap: the end may be missing.
    let found = drained(&cluster.url()).await;
    assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_in_order_they_restart_by_themselves_under_any_policy() {
    let mut cluster = ClusterPlan::of(3).quick().start();
    cluster.wait_active();
    weaken(&cluster, "no-sync,no-sync", Durability::NoSync);
    let (client, _publisher) = messages::connect_and_publish(&cluster.url(), "orders", 0..500, 100).await;
    client.close().await;
    for number in 0..3 {
        cluster[number].ask_to_stop();
    }
    for number in 0..3 {
        cluster[number].wait_end(std::time::Duration::from_secs(20));
    }
    cluster.start_all();
    cluster.wait_active();
    assert_eq!(drained(&cluster.url()).await, (0..500).collect::<Vec<_>>());
}
