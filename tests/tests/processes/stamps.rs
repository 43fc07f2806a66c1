//! The status record over kills, stops and changes: acceptance A.

use quorate_tests::process::{ClusterPlan, messages, wait_for};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_a6_a_clean_store_that_ran_on_is_no_longer_equal_to_one_that_did_not() {
    let mut cluster = ClusterPlan::of(3).wait_for(2).quick().start();
    let client = messages::connect_with_queue(&cluster.url(), "a6").await;
    let publisher = client.publisher().unwrap();
    messages::confirmed(messages::publish(&publisher, "a6", 0..100, 100).await).await;
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
