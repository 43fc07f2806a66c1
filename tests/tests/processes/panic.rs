//! Who may write: a second process on a store, and what a broker does that finds it; and that nothing else looks like it.

use std::fs;
use std::path::Path;

use quorate_store::files::real::RealFiles;
use quorate_store::panic::{self, PanicCause, PanicFound};
use quorate_tests::process::status::get;
use quorate_tests::process::{Broker, Cluster, ClusterPlan, messages, wait_for};
use serde_json::Value;

use crate::operator::Operator;

const FAST: [&str; 2] = ["--safety-interval", "2s"];

/// A store whose stamp is written only with the safety number, so that a second process comes in between.
fn alone() -> Cluster {
    let mut cluster =
        ClusterPlan::of(1).flags(&FAST).flags(&["--store-stamp-interval", "1h"]).quick().prepare();
    cluster.start_all();
    cluster.wait_active();
    cluster
}

/// What keeps a second process out goes; who has it open keeps it, and nobody else sees that.
fn forget_locks(data: &Path) {
    for lock in ["lock", "state/LOCK"] {
        fs::remove_file(data.join(lock)).unwrap();
    }
}

/// Waits for the next safety number.
fn renewed(broker: &Broker) {
    let number = |broker: &Broker| Ok::<_, String>(broker.status()?.0["safety_number"].clone());
    let before = wait_for("a safety number", || {
        number(broker)?.as_str().map(str::to_owned).ok_or_else(|| "none yet".to_owned())
    });
    wait_for("the next safety number", || {
        let now = number(broker)?;
        if now == before.as_str() { Err("the same".to_owned()) } else { Ok(()) }
    });
}

fn panicked(broker: &Broker) {
    broker.wait_until("panicked", |status| (status.verdict(), status.row()) == ("panicked", "S1"));
}

/// A broker that writes to the store of the first, for which it finds no lock, from now on.
fn second_process(cluster: &Cluster) -> Broker {
    forget_locks(&cluster.data(0));
    fs::create_dir_all(cluster.path("second")).unwrap();
    let mut second = Broker::single_on(&cluster.path("second"), "b1", &cluster.data(0));
    second.add_flags(&FAST);
    renewed(&cluster[0]);
    second.start();
    second.wait_leading();
    second
}

#[test]
fn a_broker_that_finds_a_second_process_on_its_store_panics_until_an_operator_clears_it() {
    let mut cluster = alone();
    let cluster_id = cluster[0].status().unwrap().cluster_id().unwrap().to_owned();
    let mut second = second_process(&cluster);
    panicked(&cluster[0]);
    let line = cluster[0].wait_log("SAFE-2001");
    assert!(line.contains("its safety number is ") && line.contains("likely cause: "), "{line}");
    assert_eq!(cluster[0].log_text().matches("SAFE-2001").count(), 1, "once");
    assert!(cluster[0].is_running());

    let admin = cluster[0].admin_address();
    let (code, body) = get(&admin, "/health/ready").unwrap();
    assert_eq!(
        (code, serde_json::from_str::<Value>(&body).unwrap()["code"].as_str()),
        (503, Some("panicked"))
    );
    assert_eq!(get(&admin, "/health/live").unwrap().0, 200);
    let operator = Operator::at(&cluster[0]);
    let (status, shown) = operator.runs(&["cluster", "panic", "show"]);
    let told = &shown["brokers"][0];
    assert_eq!((status, &told["cause"]), (2, &Value::from("second-writer")), "{shown}");
    assert!(told["own_number"].is_string() && told["found_number"].is_string(), "{shown}");
    assert_eq!(operator.runs(&["cluster", "status"]).0, 2);
    let PanicFound::Panic(record) = panic::read(&RealFiles, &cluster.data(0)).unwrap() else {
        panic!("there is no panic file")
    };
    assert_eq!(record.cause, PanicCause::SecondWriter);
    // The later one goes on.
    assert_eq!(second.status().unwrap().verdict(), "active");
    second.terminate();

    // It survives a restart, and no other word clears it.
    cluster[0].kill();
    cluster[0].start();
    panicked(&cluster[0]);
    assert_eq!(operator.runs(&["cluster", "panic", "clear", "--confirm", "yes"]).0, 2);
    panicked(&cluster[0]);
    let (status, cleared) =
        operator.runs(&["cluster", "panic", "clear", "--confirm", &cluster_id, "--reason", "copy stopped"]);
    assert_eq!((status, &cleared["cleared"]), (0, &Value::Bool(true)), "{cleared}");
    cluster.wait_active();
    assert_eq!(panic::read(&RealFiles, &cluster.data(0)).unwrap(), PanicFound::None);
    assert_eq!(operator.runs(&["cluster", "panic", "show"]).0, 0);
    assert_eq!(operator.runs(&["cluster", "panic", "clear", "--confirm", &cluster_id]).1["cleared"], false);
    assert!(cluster[0].log_text().contains("copy stopped"));
}

#[test]
fn a_damaged_panic_file_counts_as_panicked() {
    let mut cluster = alone();
    cluster[0].kill();
    fs::write(cluster.data(0).join("panic"), "something").unwrap();
    cluster[0].start();
    panicked(&cluster[0]);
    assert_eq!(cluster[0].terminate().status, Some(0));
    assert_eq!(fs::read_to_string(cluster.data(0).join("panic")).unwrap(), "something", "it is left alone");
}

/// In a cluster the others know who is there: the second process is held, and neither of the two panics.
#[test]
fn a_second_process_on_a_members_store_is_held_and_named_by_all() {
    let mut cluster = ClusterPlan::of(3).flags(&["--safety-interval", "500ms"]).quick().prepare();
    cluster.start_all();
    cluster.wait_active();
    forget_locks(&cluster.data(2));
    fs::create_dir_all(cluster.path("second")).unwrap();
    let mut second = Broker::single_on(&cluster.path("second"), "b3", &cluster.data(2));
    second.set_flag("--cluster-wait-for", "3");
    second.add_flags(&["--cluster-peers", &cluster.peers(), "--safety-interval", "500ms"]);
    second.start();
    for number in [0, 1] {
        cluster[number].wait_log("SAFE-2002");
    }
    // Held at first, and then it sees that the stamp beside it goes on.
    second.wait_until("takes no part", |status| ["held", "panicked"].contains(&status.verdict()));
    cluster.wait_active();
    assert!(!cluster[2].log_text().contains("SAFE-2001"));
    assert!(!cluster.data(2).join("panic").exists(), "whoever is held keeps nothing");
    second.terminate();
    cluster.wait_active();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stood_still_for_intervals_panics_nobody() {
    let flags = ["--safety-interval", "300ms"];
    let mut cluster = ClusterPlan::of(3).wait_for(2).flags(&flags).quick().start();
    let (client, publisher) = messages::connect_and_publish(&cluster.url(), "still", 0..50, 50).await;
    for _ in 0..3 {
        let frozen = cluster.wait_active();
        cluster[frozen].freeze();
        let other = cluster.others(frozen)[0];
        let renewals = || {
            let status = cluster[other].status()?;
            status.0["safety_renewals"].as_u64().ok_or_else(|| "none".to_owned())
        };
        let before = wait_for("a number", renewals);
        wait_for("three intervals and an election", || match renewals()? {
            now if now >= before + 4 => Ok(()),
            now => Err(format!("{now} after {before}")),
        });
        cluster[frozen].thaw();
        cluster.wait_active();
    }
    messages::confirmed(messages::publish(&publisher, "still", 50..100, 50).await).await;
    for number in 0..3 {
        assert!(!cluster[number].log_text().contains("SAFE-200"), "b{}", number + 1);
    }
    assert_eq!(messages::drain(&client, "still").await.unwrap(), (0..100).collect::<Vec<_>>());
}
