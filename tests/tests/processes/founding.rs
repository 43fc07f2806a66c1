//! The status record and the founding: acceptance A and B.

use std::path::Path;
use std::process::Output;

use quorate_protocol::fault::FaultCode;
use quorate_store::stamp::{Stamp, StampState};
use quorate_tests::process::directory::stamp;
use quorate_tests::process::{Broker, ClusterPlan, Place, RawClient, Snapshot, messages, programs, status};
use serde_json::Value;

fn facts(directory: &Path) -> (Output, Value) {
    let output =
        programs::command("quorate").args(["store", "facts"]).arg(directory).output().expect("the tool runs");
    let facts = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)));
    (output, facts)
}

#[test]
fn acceptance_a1_killed_before_agreement_a_store_stays_empty() {
    let mut cluster = ClusterPlan::of(3).prepare();
    let mut before = None;
    for _ in 0..3 {
        cluster[0].start();
        let status = cluster[0].wait_until("waits", |status| status.verdict() == "waiting");
        assert_eq!(status.cluster_id(), None, "an identity was invented: {}", status.0);
        cluster[0].kill();
        let now = Snapshot::of(&cluster.data(0)).without("lock");
        assert_eq!(now.names(), ["store-id"], "a waiting broker writes its lock and its store id only");
        assert_eq!(*before.get_or_insert_with(|| now.clone()), now);
        let (_, facts) = facts(&cluster.data(0));
        assert_eq!((&facts["state"], &facts["cluster_id"]), (&"empty".into(), &Value::Null), "{facts}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_a2_dirty_is_on_disk_before_the_first_commit_returns() {
    let mut cluster = ClusterPlan::of(3).start();
    let leader = cluster.wait_active();
    let client = messages::connect_with_queue(&cluster.url(), "a2").await;
    let publisher = client.publisher().expect("a publisher");
    let receipt = publisher.publish("", "a2", "first").await.expect("published").await.expect("confirmed");
    let stamps: Vec<_> = (0..3).map(|number| stamp(&cluster.data(number))).collect();
    // Whoever holds the message has said that it is in use; a majority of them has it, and the leader always.
    let dirty = |stamp: &Option<Stamp>| {
        stamp.as_ref().is_some_and(|stamp| {
            stamp.state == StampState::Dirty && stamp.cluster_id.is_some() && stamp.incarnation.0 == 1
        })
    };
    assert!(dirty(&stamps[leader]), "the leader's stamp when {receipt} was confirmed: {:?}", stamps[leader]);
    assert!(stamps.iter().filter(|stamp| dirty(stamp)).count() >= 2, "{stamps:#?}");
}

#[test]
fn acceptance_a5_a_directory_in_use_is_refused_and_can_be_read() {
    let place = Place::new();
    let mut first = Broker::single(&place.path(""), "first");
    first.start();
    first.wait_leading();
    let data = place.path("first-data");
    let ended = Broker::single_on(&place.path(""), "second", &data).run_to_end();
    assert_eq!(ended.status, Some(4), "{}", ended.log);
    assert!(ended.log.contains("locked") && ended.log.contains("--data-dir"), "{}", ended.log);
    assert!(ended.log.contains(&first.pid().to_string()), "it names the process: {}", ended.log);
    first.wait_leading();

    let (output, facts) = facts(&data);
    assert_eq!(facts["state"], "dirty", "{facts}");
    assert_eq!(facts["in_use_by"], first.pid(), "{facts}");
    assert!(output.status.code().is_some_and(|status| status <= 1), "{output:?}");
}

#[test]
fn acceptance_b1_all_empty_become_one_cluster() {
    let mut cluster = ClusterPlan::of(3).start();
    let ids: Vec<_> =
        (0..3).map(|number| cluster[number].status().unwrap().cluster_id().map(str::to_owned)).collect();
    assert!(ids[0].is_some() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let leader = cluster.wait_active();
    let status = cluster[leader].status().unwrap();
    for name in ["b1", "b2", "b3"] {
        let member = status.member(name).unwrap_or_else(|| panic!("{name} is no member: {}", status.0));
        assert_eq!((&member["present"], &member["voter"]), (&true.into(), &true.into()), "{member}");
    }
}

#[test]
fn acceptance_b2_fewer_than_n_give_no_service_and_say_so() {
    for order in [[0, 1, 2], [2, 0, 1]] {
        let mut cluster = ClusterPlan::of(3).prepare();
        for (position, number) in order.into_iter().enumerate().take(2) {
            let seen = position + 1;
            cluster[number].start();
            for started in &order[..seen] {
                let status = cluster[*started].wait_until("counts who is there", |status| {
                    status.verdict() == "waiting" && status.reason().contains(&format!("{seen} of 3"))
                });
                assert_eq!(status.cluster_id(), None, "{}", status.0);
                let refused =
                    RawClient::connect(&cluster.client_address(*started)).try_log_in("/").unwrap_err();
                assert_eq!(refused.code, FaultCode::Waiting, "{refused:?}");
                assert!(refused.code.is_retryable());
                let (code, _) = status::get(&cluster[*started].admin_address(), "/health/ready").unwrap();
                assert_eq!(code, 503);
            }
        }
        cluster[order[2]].start();
        cluster.wait_active();
    }
}
