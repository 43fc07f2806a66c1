//! Membership changed with the tool: acceptance G10, and a replaced disk.

use quorate_tests::process::{Cluster, ClusterPlan, messages, programs};
use serde_json::Value;

/// Runs `quorate member`; gives its exit status and the JSON that it printed.
fn member(cluster: &Cluster, arguments: &[&str]) -> (i32, Value) {
    let admins: Vec<String> = (0..cluster.size()).map(|number| cluster[number].admin_address()).collect();
    let mut command = programs::command("quorate");
    command.args(["-o", "json", "--admin", &admins.join(","), "member"]).args(arguments);
    programs::answer(command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_g10_members_are_drained_replaced_and_removed_with_the_tool() {
    let mut cluster = ClusterPlan::of(3).wait_for(2).prepare();
    cluster.start_all();
    let leader = cluster.wait_active();
    let (client, publisher) = messages::connect_and_publish(&cluster.url(), "q", 0..500, 100).await;

    assert_eq!(member(&cluster, &["remove", "--name", "nobody", "--yes"]).0, 2);
    let name = cluster[leader].name().to_owned();
    let (status, report) = member(&cluster, &["drain", "--name", &name]);
    assert_eq!((status, &report["changed"]), (0, &Value::from(true)), "{report}");
    assert_ne!(cluster.wait_active(), leader);
    let (_, list) = member(&cluster, &["list"]);
    let drained: Vec<&Value> =
        list.as_array().unwrap().iter().filter(|member| member["drained"] == true).collect();
    assert_eq!((drained.len(), &drained[0]["name"]), (1, &Value::from(name.as_str())), "{list}");
    assert_eq!(member(&cluster, &["resume", "--name", &name]).0, 0);

    // Its disk is lost: replaced, by an empty store under its name.
    assert_eq!(member(&cluster, &["replace", "--name", &name, "--yes"]).0, 2, "it is alive");
    cluster[leader].kill();
    std::fs::remove_dir_all(cluster.data(leader)).unwrap();
    cluster[leader].start();
    let (status, report) = member(&cluster, &["replace", "--name", &name, "--yes"]);
    assert_eq!((status, &report["complete"]), (0, &Value::from(true)), "{report}");
    messages::confirmed(messages::publish(&publisher, "q", 500..600, 100).await).await;

    // Removed, it ends by itself and stays out.
    let (status, report) = member(&cluster, &["remove", "--name", &name, "--yes"]);
    assert_eq!(status, 0, "{report}");
    let ended = cluster[leader].wait_end(std::time::Duration::from_secs(20));
    assert_eq!(ended.status, Some(3));
    let (_, list) = member(&cluster, &["list"]);
    let voters = list.as_array().unwrap().iter().filter(|member| member["voter"] == true).count();
    assert_eq!(voters, 2, "{list}");
    assert_eq!(messages::drain(&client, "q").await.unwrap(), (0..600).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_store_is_kept_and_filled_anew_in_the_same_process_once_it_is_replaced() {
    let mut cluster = ClusterPlan::of(3).wait_for(2).prepare();
    cluster.start_all();
    let leader = cluster.wait_active();
    let (client, publisher) = messages::connect_and_publish(&cluster.url(), "q", 0..500, 100).await;
    let held = (leader + 1) % 3;
    let name = cluster[held].name().to_owned();
    cluster[held].kill();
    for slot in ["stamp.a", "stamp.b"] {
        std::fs::write(cluster.data(held).join(slot), "nothing that anybody can read").unwrap();
    }
    cluster[held].start();
    let pid = cluster[held].pid();
    cluster[held].wait_until("row R2", |status| status.row() == "R2");
    let (status, report) = member(&cluster, &["replace", "--name", &name, "--yes"]);
    assert_eq!((status, &report["complete"]), (0, &Value::from(true)), "{report}");
    cluster[held].wait_until("it votes in both groups", |status| {
        ["system", "/"].iter().all(|vhost| status.role(vhost) == "replica")
    });
    assert_eq!(cluster[held].pid(), pid);
    messages::confirmed(messages::publish(&publisher, "q", 500..600, 100).await).await;
    // What it could not read is still there for whoever can.
    let quarantine = cluster.data(held).join("quarantine");
    let images: Vec<_> =
        std::fs::read_dir(quarantine).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(images, ["000001-damage"]);
    // It votes like any other: two of three go on.
    cluster[leader].kill();
    cluster.wait_active();
    assert_eq!(messages::drain(&client, "q").await.unwrap(), (0..600).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_g11_who_is_stopped_counts_still() {
    let mut cluster = ClusterPlan::of(3).start();
    let leader = cluster.wait_equal();
    let others = cluster.others(leader);
    cluster[others[0]].terminate();
    cluster[leader].wait_until("one of three away", |status| {
        let nodes =
            status.group("/").and_then(|group| group["nodes"].as_array().cloned()).unwrap_or_default();
        nodes.len() == 3 && nodes.iter().filter(|node| node["role"] == "unreachable").count() == 1
    });
    let status = cluster[leader].status().unwrap();
    assert_eq!(status.group("/").unwrap()["needed_voters"], 2, "{}", status.0);
    let (client, publisher) = messages::connect_and_publish(&cluster.url(), "q", 0..10, 100).await;
    // Two of three are stopped: one is no majority of those that are left.
    cluster[others[1]].terminate();
    let status = cluster[leader].wait_until("no quorum", |status| status.row() == "Q1");
    assert!(status.0["reason"].to_string().contains("1 of its 3 voters"), "{}", status.0);
    cluster[others[0]].start();
    messages::confirmed(messages::publish(&publisher, "q", 10..20, 100).await).await;
    client.close().await;
}
