//! Updates while other things happen: acceptance C7, C8, D2.

use std::time::{Duration, Instant};

use quorate_tests::process::outage::report;
use quorate_tests::process::{Cluster, ClusterPlan, Status, messages, programs, wait_for};
use serde_json::Value;

use crate::stream::{QUEUE, Stream, check_content};

/// What is asked of the longest gap between two confirms on a busy test machine; the product's figure is 100 ms more
/// than without an update, on a quiet one.
const GAP_MORE_MAX: Duration = Duration::from_secs(2);

/// What the offline tool says of all the stores.
fn inspected(cluster: &Cluster) -> Value {
    let mut command = programs::command("quorate");
    command.args(["store", "inspect", "-o", "json"]);
    let output = command.args((0..cluster.size()).map(|number| cluster.data(number))).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The last complete one is recognised, whoever it comes back with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_c7_the_last_complete_one_is_the_source_after_all_died_during_an_update() {
    let mut cluster = ClusterPlan::of(3).wait_for(2).quick().start();
    let client = messages::connect_with_queue(&cluster.url(), "c7").await;
    let publisher = client.publisher().unwrap();
    let mut number = 0;
    let (mut complete, mut rounds) = (0, [true, false, true].into_iter().peekable());
    while let Some(with_updatee) = rounds.peek().copied() {
        let leader = cluster.wait_equal();
        let [updatee, other] = [cluster.others(leader)[0], cluster.others(leader)[1]];
        cluster[updatee].kill();
        messages::confirmed(messages::publish(&publisher, "c7", number..number + 20_000, 1000).await).await;
        number += 20_000;
        // It led `system` perhaps. Were it to lead that again, none of the three would be the latest in both groups.
        let two = [leader, other].map(|number| cluster[number].name().to_owned());
        let led_by_the_two =
            |status: &Status| status.leader("system").is_some_and(|name| two.iter().any(|one| one == name));
        cluster[leader].wait_until("knows who leads system", led_by_the_two);
        cluster[updatee].start();
        cluster[updatee].wait_until("knows the cluster", led_by_the_two);
        cluster[updatee].freeze();
        cluster[other].kill();
        cluster[leader].kill();
        cluster[updatee].kill();
        let report = inspected(&cluster);
        let is = |path: &Value, number: usize| *path == cluster.data(number).display().to_string();
        let mut ties = report["ties"].as_array().unwrap().iter().map(|tie| tie.as_array().unwrap());
        if ties.any(|tie| tie.iter().any(|path| is(path, updatee))) {
            // It had everything before it was frozen: once more.
            complete += 1;
            assert!(complete < 20, "an update of 20,000 messages is always over at once");
        } else {
            rounds.next();
            assert!([leader, other].iter().any(|of| is(&report["latest"], *of)), "{report:#}");
        }
        cluster.start_these(&[if with_updatee { updatee } else { other }, leader]);
        cluster.wait_active();
        assert_eq!(messages::held(&client, "c7").await.unwrap(), number);
        cluster.start_all();
    }
    cluster.wait_equal();
    assert_eq!(messages::drain(&client, "c7").await.unwrap(), (0..number).collect::<Vec<_>>());
}

/// The longest time between two confirms, from one moment to another.
fn longest_gap(times: &[Instant], from: Instant, to: Instant) -> Duration {
    let within: Vec<Instant> =
        std::iter::once(from).chain(times.iter().copied().filter(|at| (from..to).contains(at))).collect();
    within.windows(2).map(|pair| pair[1] - pair[0]).max().expect("there were confirms")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_c8_an_update_under_load_hardly_delays_confirms_and_ends_equal() {
    let mut cluster = ClusterPlan::of(3).wait_for(2).prepare();
    cluster.start_these(&[0, 1]);
    cluster.wait_active();
    let (client, publisher) = messages::connect_and_publish(&cluster.url(), "bulk", 0..50_000, 1000).await;
    client.declare_queue(QUEUE, quorate_client::QueueOptions::default()).await.unwrap();
    let mut stream = Stream::start(publisher);
    stream.confirmed_more(2000).await;
    let quiet = Instant::now();
    stream.confirmed_more(20_000).await;
    let begun = Instant::now();
    cluster[2].start();
    cluster[2].wait_log("update of virtual host /");
    let leader = cluster.wait_active();
    cluster[leader].wait_until("counts the third", |status| {
        status.member("b3").is_some_and(|member| member["voter"] == true && member["present"] == true)
    });
    let ended = Instant::now();
    stream.confirmed_more(2000).await;
    let (count, outcomes) = stream.finish().await;
    let times: Vec<Instant> =
        outcomes.iter().filter(|outcome| outcome.confirmed).map(|outcome| outcome.at).collect();
    let (before, during) = (longest_gap(&times, quiet, begun), longest_gap(&times, begun, ended));
    println!(
        "update under load: the longest gap between confirms was {before:?} in the {:?} before and {during:?} in the {:?} of the update",
        begun - quiet,
        ended - begun
    );
    assert!(during < before + GAP_MORE_MAX, "{before:?} before, {during:?} during the update");
    cluster.wait_equal();
    // It holds all of it: one of the two sources goes.
    let leader = cluster.wait_active();
    cluster[usize::from(leader == 0)].kill();
    check_content(&messages::drain(&client, QUEUE).await.unwrap(), count, &outcomes);
    assert_eq!(messages::drain(&client, "bulk").await.unwrap(), (0..50_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_d2_who_is_updated_while_the_cluster_is_shut_down_is_not_clean() {
    let mut cluster = ClusterPlan::of(4).wait_for(3).flags(&["--update-rate", "64KiB"]).quick().prepare();
    cluster.start_these(&[0, 1, 2]);
    cluster.wait_active();
    let (client, _publisher) = messages::connect_and_publish(&cluster.url(), "d2", 0..5000, 1000).await;
    // Five megabytes at 64 KiB a second: it is updated for as long as this test takes.
    cluster[3].start();
    cluster[3].wait_until("is updated", |status| {
        status.role("/") == "learner" && status.role("system") == "learner"
    });
    let (_, report) = report(cluster.begin_shutdown(0));
    cluster.wait_stopped(&[0, 1, 2]);
    // It ends too if it had got as far as the shutdown; else it waits for the cluster to come back.
    if cluster[3].is_running() {
        cluster[3].kill();
    }
    for member in report["members"].as_array().unwrap() {
        assert_eq!(member["clean"] == true, member["name"] != "b4", "{report:#}");
    }
    let ids: Vec<_> = (0..3).map(|number| cluster.shutdown_id(number)).collect();
    assert!(ids[0].is_some() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(cluster.shutdown_id(3), None);
    for number in 0..4 {
        cluster[number].remove_flag("--update-rate");
    }
    // The half updated one is here first; nothing comes from it.
    cluster.start_these(&[3, 2, 1, 0]);
    cluster.wait_equal();
    wait_for("the fourth to vote", || {
        let status = cluster[0].status()?;
        let votes = status.member("b4").is_some_and(|member| member["voter"] == true);
        if votes { Ok(()) } else { Err(status.0.to_string()) }
    });
    assert_eq!(messages::drain(&client, "d2").await.unwrap(), (0..5000).collect::<Vec<_>>());
}
