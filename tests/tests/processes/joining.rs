//! Joining a cluster that is active: acceptance C.

use quorate_tests::process::{Cluster, ClusterPlan, messages, wait_for};

/// Starts the third broker, and waits until it counts and has the same content as the leader.
fn join_third(cluster: &mut Cluster) {
    cluster[2].start();
    let leader = cluster.wait_active();
    cluster[leader].wait_until("counts the third", |status| {
        status.member("b3").is_some_and(|member| member["voter"] == true && member["present"] == true)
    });
    wait_for("equal contents", || {
        let of = |number: usize| cluster[number].status().map(|status| status.digest("/"));
        let digests = [of(leader)?, of(2)?];
        if digests[0].is_some() && digests[0] == digests[1] { Ok(()) } else { Err(format!("{digests:?}")) }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_c1_an_empty_store_joins_is_updated_and_then_counts() {
    let mut cluster = ClusterPlan::of(3).wait_for(2).prepare();
    cluster[0].start();
    cluster[1].start();
    let leader = cluster.wait_active();
    let id = cluster[leader].status().unwrap().cluster_id().map(str::to_owned);
    let (client, publisher) = messages::connect_and_publish(&cluster.url(), "c1", 0..1000, 100).await;

    join_third(&mut cluster);
    assert_eq!(cluster[2].status().unwrap().cluster_id().map(str::to_owned), id);

    // It counts: with it, the cluster survives the loss of an older member.
    let leader = cluster.wait_active();
    let lost = usize::from(leader == 0);
    cluster[lost].kill();
    messages::confirmed(messages::publish(&publisher, "c1", 1000..1100, 100).await).await;
    assert_eq!(messages::drain(&client, "c1").await.unwrap(), (0..1100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_c1_an_empty_store_is_updated_by_snapshot_where_the_log_is_gone() {
    let mut cluster = ClusterPlan::of(3).wait_for(2).flags(&["--log-retain", "128MiB"]).prepare();
    cluster[0].start();
    cluster[1].start();
    let leader = cluster.wait_active();
    let (client, publisher) = messages::connect_and_publish(&cluster.url(), "kept", 0..20_000, 1000).await;
    // More than the log keeps, so that its beginning, with the messages above, is retired.
    client.declare_queue("gone", quorate_client::QueueOptions::default()).await.unwrap();
    let first = |cluster: &Cluster| {
        let facts = cluster[leader].status().unwrap();
        facts.0["log_bytes"].as_u64().unwrap()
    };
    let mut written = 0_u64;
    while written < 400 << 20 {
        messages::confirmed(messages::publish(&publisher, "gone", 0..2000, 10_000).await).await;
        client.purge_queue("gone").await.unwrap();
        written += 2000 * 10_000;
    }
    wait_for("the log's beginning to retire", || {
        let bytes = first(&cluster);
        if bytes < 300 << 20 { Ok(()) } else { Err(format!("the log has {bytes} bytes")) }
    });

    join_third(&mut cluster);
    cluster[2].wait_log("update of virtual host /");
    let leader = cluster.wait_active();
    let lost = usize::from(leader == 0);
    cluster[lost].kill();
    assert_eq!(messages::drain(&client, "kept").await.unwrap(), (0..20_000).collect::<Vec<_>>());
}
