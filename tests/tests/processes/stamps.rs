//! The status record over kills, stops and changes: acceptance A.

use std::time::{Duration, Instant};

use quorate_store::stamp::StampState;
use quorate_tests::process::directory::stamp;
use quorate_tests::process::{Broker, ClusterPlan, Place, messages, wait_for};

/// Kills a process so long after its start.
fn kill_after(broker: &mut Broker, moment: Duration) {
    let moment = Instant::now() + moment;
    while Instant::now() < moment {
        std::thread::yield_now();
    }
    broker.kill();
}

#[test]
fn acceptance_b14_killed_at_any_moment_of_its_first_start_a_broker_comes_up() {
    for turn in 0..40 {
        let place = Place::new();
        let mut broker = Broker::single(&place.path(""), "b");
        broker.spawn();
        kill_after(&mut broker, Duration::from_millis(turn * 2));
        let data = place.path("b-data");
        let before = stamp(&data).and_then(|stamp| stamp.cluster_id);
        broker.start();
        broker.wait_leading();
        let after = stamp(&data).and_then(|stamp| stamp.cluster_id);
        assert!(after.is_some() && before.is_none_or(|before| Some(before) == after), "{before:?} {after:?}");
    }
}

#[test]
fn acceptance_a3_killed_at_any_moment_the_record_is_an_old_or_a_new_one() {
    let place = Place::new();
    let mut broker = Broker::single(&place.path(""), "b");
    broker.add_flags(&["--store-stamp-interval", "100ms"]);
    let data = place.path("b-data");
    let mut last = (0, 0);
    let mut cluster_id = None;
    for turn in 0..24_u64 {
        broker.spawn();
        // The moment moves through start, founding or restart, and the first rewrites.
        kill_after(&mut broker, Duration::from_millis(turn * 12));
        let Some(found) = stamp(&data) else { continue };
        assert!(matches!(found.state, StampState::Forming | StampState::Dirty), "{found:?}");
        let now = (found.sequence, found.incarnation.0);
        assert!(now.0 >= last.0 && now.1 >= last.1, "{last:?} before, {now:?} after");
        last = now;
        if let Some(id) = found.cluster_id {
            assert_eq!(*cluster_id.get_or_insert(id), id, "the identity has changed");
        }
    }
    broker.start();
    broker.wait_leading();
    assert_eq!(stamp(&data).unwrap().cluster_id, cluster_id.or(stamp(&data).unwrap().cluster_id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_a6_a_clean_store_that_ran_on_is_no_longer_equal_to_one_that_did_not() {
    let mut cluster = ClusterPlan::of(3).wait_for(2).quick().start();
    let (client, publisher) = messages::connect_and_publish(&cluster.url(), "a6", 0..100, 100).await;
    assert_eq!(cluster.shut_down(0).0, 0);
    let shutdown = cluster.shutdown_id(2);
    assert!(shutdown.is_some() && cluster.shutdown_id(0) == shutdown);

    cluster.start_these(&[0, 1]);
    cluster.wait_active();
    messages::confirmed(messages::publish(&publisher, "a6", 100..200, 100).await).await;
    cluster.kill_all();
    assert_eq!([0, 1, 2].map(|number| cluster.shutdown_id(number)), [None, None, shutdown]);

    // The clean one is the older: whichever majority starts, all is there.
    cluster.start_these(&[2, 0]);
    cluster.wait_active();
    cluster[1].start();
    cluster.wait_equal();
    assert_eq!(messages::drain(&client, "a6").await.unwrap(), (0..200).collect::<Vec<_>>());
}

#[test]
fn acceptance_a7_the_sequence_rises_by_the_clock_with_members_and_over_restarts() {
    let flags = ["--store-stamp-interval", "200ms"];
    let mut cluster = ClusterPlan::of(3).wait_for(2).flags(&flags).quick().prepare();
    cluster.start_these(&[0, 1]);
    cluster.wait_active();
    let sequence = |cluster: &quorate_tests::process::Cluster| cluster.stamp(0).sequence;
    let rises = |cluster: &quorate_tests::process::Cluster, above: u64| {
        wait_for("a later sequence", || {
            let now = sequence(cluster);
            if now > above { Ok(now) } else { Err(format!("{now}")) }
        })
    };
    let first = sequence(&cluster);
    let by_clock = rises(&cluster, first);
    assert_eq!(cluster.stamp(0).members.len(), 2);
    cluster[2].start();
    cluster.wait_active();
    wait_for("the third in the stamp", || {
        let members = cluster.stamp(0).members;
        if members.len() == 3 { Ok(()) } else { Err(format!("{members:?}")) }
    });
    let by_member = sequence(&cluster);
    assert!(by_member > by_clock);
    cluster.kill_all();
    let at_the_end = sequence(&cluster);
    assert!(at_the_end >= by_member);
    cluster.start_all();
    cluster.wait_active();
    assert!(sequence(&cluster) > at_the_end);
}

#[test]
fn acceptance_a7_without_a_clock_the_change_of_members_alone_raises_the_sequence() {
    let flags = ["--store-stamp-interval", "1h"];
    let mut cluster = ClusterPlan::of(3).wait_for(2).flags(&flags).quick().prepare();
    cluster.start_these(&[0, 1]);
    cluster.wait_active();
    let before = cluster.stamp(0).sequence;
    cluster[2].start();
    cluster.wait_active();
    wait_for("the third in the stamp", || {
        let stamp = cluster.stamp(0);
        if stamp.members.len() == 3 && stamp.sequence > before { Ok(()) } else { Err(format!("{stamp:?}")) }
    });
}
