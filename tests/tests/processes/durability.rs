//! Durability policies with real processes: what SIGKILL of all brokers takes, and who is asked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_client::{Confirm, Publisher, SyncPolicy};
use quorate_store::stamp::Durability;
use quorate_tests::process::held_sync::{HeldSync, Hold};
use quorate_tests::process::programs::quorate;
use quorate_tests::process::status::get;
use quorate_tests::process::{Cluster, ClusterPlan, PATIENCE, messages, wait_for};

/// Whatever is not confirmed after this waits for the sync that is held.
const WAITS: Duration = Duration::from_millis(300);
/// Nobody is elected anew, and nothing else is written, while syncs are held.
const CALM: [&str; 4] = ["--election-timeout", "20s", "--safety-interval", "10m"];

fn admin(cluster: &Cluster) -> String {
    (0..3).map(|number| cluster[number].admin_address()).collect::<Vec<_>>().join(",")
}

/// Sets a policy, and waits until every stamp has it.
fn set(cluster: &Cluster, policy: &str) {
    let set = ["--admin", &admin(cluster), "group", "set", "--vhost", "/", "--reason", "a test"];
    let (status, report) = quorate(&[&set[..], &["--durability", policy]].concat());
    assert_eq!(status, 0, "{report}");
    for number in 0..3 {
        cluster[number].wait_until("shows the policy", |status| {
            status.group("/").is_some_and(|group| group["durability_here"] == policy)
        });
    }
}

/// Sets a policy by which leader and replicas do the same, and waits until every stamp admits it.
fn weaken(cluster: &Cluster, policy: &str, weakest: Durability) {
    set(cluster, policy);
    for number in 0..3 {
        let status = cluster[number].status().expect("a status");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_write_no_sync_they_restart_by_themselves() {
    let mut cluster = killed("write-no-sync,write-no-sync", Durability::WriteNoSync).await;
    cluster.start_all();
    cluster.wait_active();
    assert_eq!(messages::drained(&cluster.url(), "orders").await, (0..500).collect::<Vec<_>>());
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
    let found = messages::drained(&cluster.url(), "orders").await;
    assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_marked_for_the_virtual_host_that_waits_while_all_else_goes_on() {
    let mut cluster = killed("no-sync,no-sync", Durability::NoSync).await;
    cluster.start_all();
    for number in 0..3 {
        cluster[number].wait_until("asks for an operator", |status| status.row() == "N1");
    }
    let paths: Vec<String> = (0..3).map(|number| cluster.data(number).display().to_string()).collect();
    let (_, report) = quorate(&["store", "inspect", &paths[0], &paths[1], &paths[2]]);
    let latest = paths.iter().position(|path| report["latest"] == path.as_str());
    let latest = latest.unwrap_or_else(|| panic!("{report:#}"));
    cluster[latest].terminate();
    // The others go on with all else, and its store falls behind there.
    let others = cluster.others(latest);
    let admin: Vec<String> = others.iter().map(|number| cluster[*number].admin_address()).collect();
    let (status, answer) = quorate(&["--admin", &admin.join(","), "vhost", "create", "more"]);
    assert_eq!(status, 0, "{answer:#}");
    let mut mark = vec!["store", "mark-clean", &paths[latest], "--reason", "a test", "--yes", "--against"];
    mark.extend(others.iter().map(|number| paths[*number].as_str()));
    let (status, answer) = quorate(&mark);
    assert_eq!((status, &answer["vhosts"]), (0, &serde_json::json!(["/"])), "{answer:#}");
    cluster[latest].start();
    cluster.wait_active();
    let found = messages::drained(&cluster.url(), "orders").await;
    assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>());
    for number in 0..3 {
        cluster[number].wait_until("has both", |status| {
            status.verdict() == "active" && status.group("/").is_some() && status.group("more").is_some()
        });
    }
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
        cluster[number].wait_end(Duration::from_secs(20));
    }
    cluster.start_all();
    cluster.wait_active();
    assert_eq!(messages::drained(&cluster.url(), "orders").await, (0..500).collect::<Vec<_>>());
}

/// Three brokers whose syncs of the log a test may hold.
fn held(flags: &[&str]) -> (Cluster, Vec<HeldSync>) {
    let mut cluster = ClusterPlan::of(3).flags(flags).prepare();
    let directory = cluster.path("");
    let gates = (0..3).map(|number| HeldSync::of(&mut cluster[number], &directory)).collect();
    cluster.start_all();
    cluster.wait_active();
    (cluster, gates)
}

/// Waits until nothing waits for a sync anywhere.
fn rest(cluster: &Cluster) {
    wait_for("everything to be synced", || {
        let unsynced = |number: usize| -> Result<(), String> {
            let (_, text) = get(&cluster[number].admin_address(), "/metrics")?;
            let synced = ["/", "system"]
                .iter()
                .all(|vhost| text.contains(&format!("quorate_unsynced_entries{{vhost=\"{vhost}\"}} 0\n")));
            if synced { Ok(()) } else { Err(format!("broker {number}: {text}")) }
        };
        (0..3).try_for_each(unsynced)
    });
}

/// A message that is confirmed although these syncs are held; or only once they are not, if it must wait for them.
async fn confirmed_at(publisher: &Publisher, gates: &[&HeldSync], waits: bool, policy: [&str; 2]) {
    let before: Vec<u64> = gates.iter().map(|gate| gate.begun()).collect();
    let holds: Vec<Hold> = gates.iter().map(|gate| gate.hold()).collect();
    let confirm: Confirm = publisher.publish("", "orders", messages::body(1, 100)).await.expect("it lives");
    tokio::pin!(confirm);
    if waits {
        wait_for("the syncs", || {
            let begun = gates.iter().zip(&before).all(|(gate, before)| gate.begun() > *before);
            if begun { Ok(()) } else { Err("not all have begun".to_owned()) }
        });
        let early = tokio::time::timeout(WAITS, &mut confirm).await;
        assert!(early.is_err(), "{policy:?}: confirmed before its sync: {early:?}");
        drop(holds);
    }
    let receipt = tokio::time::timeout(PATIENCE, &mut confirm).await.expect("in time").expect("confirmed");
    let named = [receipt.policy.leader, receipt.policy.replicas].map(|part| match part {
        SyncPolicy::Sync => "sync",
        SyncPolicy::WriteNoSync => "write-no-sync",
        SyncPolicy::NoSync => "no-sync",
    });
    assert_eq!(named, policy, "the receipt says what was in force");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_f2_a_confirm_waits_for_the_syncs_of_its_policy_and_for_no_others() {
    const ALL: [&str; 3] = ["sync", "write-no-sync", "no-sync"];
    let (mut cluster, gates) = held(&CALM);
    // Whoever leads because an operator says so hands over to nobody by itself.
    for name in ["b2", "b1"] {
        let to = ["--admin", &admin(&cluster), "group", "transfer", "--vhost", "/", "--to", name];
        let (status, report) = quorate(&to);
        assert!(status == 0 || report["code"] == "MEMBER_LEADS", "{report}");
    }
    let leader = 0;
    for number in 0..3 {
        cluster[number].wait_until("follows b1", |status| status.leader("/") == Some("b1"));
    }
    let others: Vec<&HeldSync> = cluster.others(leader).into_iter().map(|number| &gates[number]).collect();
    let client = messages::connect_with_queue(&cluster.url(), "orders").await;
    let publisher = client.publisher().expect("the client lives");
    for leads in ALL {
        for replicas in ALL {
            set(&cluster, &format!("{leads},{replicas}"));
            rest(&cluster);
            confirmed_at(&publisher, &[&gates[leader]], leads == "sync", [leads, replicas]).await;
            rest(&cluster);
            confirmed_at(&publisher, &others, replicas == "sync", [leads, replicas]).await;
        }
    }
    client.close().await;
    assert_eq!(cluster.wait_active(), leader, "nobody else led meanwhile");
    assert_eq!(messages::drained(&cluster.url(), "orders").await.len(), 18);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_f2_a_sync_that_fails_ends_the_broker_and_loses_nothing_under_any_policy() {
    for policy in ["sync,sync", "sync,no-sync", "write-no-sync,write-no-sync", "no-sync,no-sync"] {
        let (mut cluster, gates) = held(&["--election-timeout", "300ms", "--heartbeat", "50ms"]);
        set(&cluster, policy);
        let leader = cluster.wait_active();
        let (client, publisher) = messages::connect_and_publish(&cluster.url(), "orders", 0..100, 100).await;
        gates[leader].fail();
        let confirms = messages::publish(&publisher, "orders", 100..200, 100).await;
        let ended = cluster[leader].wait_end(PATIENCE);
        assert_eq!(ended.status, Some(5), "{policy}: {}", ended.log);
        messages::confirmed(confirms).await;
        client.close().await;
        assert_eq!(
            messages::drained(&cluster.url(), "orders").await,
            (0..200).collect::<Vec<_>>(),
            "{policy}"
        );
    }
}
