//! What a broker that does not serve tells its operator: acceptance H6.

use std::sync::Arc;

use quorate_store::files::real::RealFiles;
use quorate_store::identity::create_store_id;
use quorate_store::ids::{Incarnation, Position, RunId, StoreId};
use quorate_store::log::SyncedPoint;
use quorate_store::stamp::{Ballot, FormingState, RecoveryMode, Stamp, StampFile, StampState};
use quorate_tests::process::directory::stamp;
use quorate_tests::process::{Broker, ClusterPlan, Status, programs};
use uuid::Uuid;

/// Name, store state, and whether it is here, of everybody that a broker speaks of.
fn members(status: &Status) -> Vec<(String, String, bool)> {
    let members = status.0["members"].as_array().unwrap();
    let mut members: Vec<_> = members
        .iter()
        .map(|member| {
            let text = |key: &str| member[key].as_str().unwrap().to_owned();
            (text("name"), text("state"), member["present"] == true)
        })
        .collect();
    members.sort();
    members
}

fn here(name: &str, state: &str) -> (String, String, bool) {
    (name.to_owned(), state.to_owned(), true)
}

fn gone(name: &str) -> (String, String, bool) {
    (name.to_owned(), "unknown".to_owned(), false)
}

/// There is a reason and a next command, and `quorate cluster status` says the same.
fn assert_told(status: &Status, admin: &str, words: &[&str]) {
    assert!(words.iter().all(|word| status.reason().contains(word)), "{words:?}: {}", status.reason());
    assert!(status.0["next"].as_array().is_some_and(|next| !next.is_empty()), "{}", status.0);
    let output = programs::command("quorate").args(["--admin", admin, "cluster", "status"]).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.contains(&status.verdict().to_uppercase()) && shown.contains(status.row()), "{shown}");
    assert!(words.iter().all(|word| shown.contains(word)), "{words:?}: {shown}");
}

#[test]
fn acceptance_h6_a_waiting_broker_names_who_is_here_and_who_is_missing() {
    let mut cluster = ClusterPlan::of(3).quick().prepare();
    cluster.start_these(&[0, 1]);
    let absent = cluster.peers().split(',').next_back().unwrap().to_owned();
    for number in [0, 1] {
        let status = cluster[number].wait_until("waits", |status| status.reason().contains("2 of 3"));
        assert_eq!((status.verdict(), status.row()), ("waiting", "W1"));
        assert_eq!(members(&status), [here("b1", "empty"), here("b2", "empty")]);
        assert_told(&status, &cluster[number].admin_address(), &["2 of 3", &absent]);
    }
    cluster[2].start();
    cluster.wait_active();
    cluster.kill_all();
    cluster[1].start();
    let status = cluster[1].wait_until("waits in row W1", |status| status.row() == "W1");
    assert_eq!(status.verdict(), "waiting");
    assert_eq!(members(&status), [gone("b1"), here("b2", "dirty"), gone("b3")]);
    assert_told(&status, &cluster[1].admin_address(), &["1 of 3", "b1", "b3"]);
}

#[test]
fn acceptance_h6_a_refused_broker_is_named_and_a_damaged_one_says_what_is_wrong() {
    let mut cluster = ClusterPlan::of(3).wait_for(2).quick().start();
    cluster[2].kill();
    for slot in ["stamp.a", "stamp.b"] {
        std::fs::write(cluster.data(2).join(slot), [0; 64]).unwrap();
    }
    cluster[2].start();
    let status = cluster[2].wait_until("is held", |status| status.verdict() == "needs-operator");
    assert_eq!(status.row(), "R2");
    assert_told(&status, &cluster[2].admin_address(), &["damaged"]);
    let seen = cluster[0].wait_until("sees the damage", |status| {
        status.member("b3").is_some_and(|b3| b3["state"] == "damaged")
    });
    assert_eq!(members(&seen), [here("b1", "dirty"), here("b2", "dirty"), here("b3", "damaged")]);
    cluster[2].kill();

    // Another one under a name that is taken is refused with a status of its own; those it met go on.
    let mut other = Broker::single(&cluster.path("other"), "b1");
    std::fs::create_dir_all(cluster.path("other")).unwrap();
    other.set_flag("--cluster-wait-for", "2");
    other.add_flags(&["--cluster-peers", &cluster.peers()]);
    let ended = other.run_to_end();
    assert_eq!(ended.status, Some(3), "{}", ended.log);
    assert!(ended.log.contains("R5") && ended.log.contains("b1"), "{}", ended.log);
}

fn forming(store: StoreId) -> Stamp {
    let promised = Some(Ballot { round: 1, store });
    Stamp {
        sequence: 0,
        store_id: store,
        cluster_id: None,
        cluster_name: "quorate".into(),
        broker_name: "b1".into(),
        incarnation: Incarnation(0),
        run_id: RunId(Uuid::from_u128(6)),
        state: StampState::Forming,
        forming: Some(FormingState { promised, accepted: None, decided: false }),
        groups: Vec::new(),
        members: Vec::new(),
        members_position: Position::default(),
        possible_members: Vec::new(),
        witnessed: Vec::new(),
        refilling: Vec::new(),
        wait_for: 3,
        recovery: RecoveryMode::Automatic,
        boot_id: String::new(),
        safety_number: 0,
        wall_clock_ms: 0,
        log_synced: SyncedPoint::default(),
    }
}

#[test]
fn acceptance_h6_a_forming_broker_says_that_it_is_forming() {
    let mut cluster = ClusterPlan::of(3).quick().prepare();
    // It promised a proposer its answer, and lost its power.
    let data = cluster.data(0);
    std::fs::create_dir_all(&data).unwrap();
    let store = StoreId(Uuid::from_u128(5));
    create_store_id(&RealFiles, &data, store).unwrap();
    let (mut file, _) = StampFile::open(Arc::new(RealFiles), data.clone()).unwrap();
    file.write(forming(store)).unwrap();
    drop(file);

    cluster[0].start();
    let status = cluster[0].wait_until("waits", |status| status.reason().contains("1 of 3"));
    assert_eq!((status.verdict(), status.cluster_id()), ("waiting", None));
    assert_eq!(members(&status), [here("b1", "forming")]);
    assert_told(&status, &cluster[0].admin_address(), &["1 of 3"]);
    assert_eq!(stamp(&data).unwrap().state, StampState::Forming);
    cluster.start_all();
    cluster.wait_active();
}
