//! Down to one member, up again, down to another: acceptance D6.

use std::fs;
use std::time::Duration;

use quorate_tests::process::{Cluster, ClusterPlan, messages, programs, wait_for};

fn member(cluster: &mut Cluster, act: &str, name: &str) {
    let running: Vec<usize> = (0..cluster.size()).filter(|number| cluster[*number].is_running()).collect();
    let admins: Vec<String> = running.iter().map(|number| cluster[*number].admin_address()).collect();
    wait_for(&format!("{act} {name}"), || {
        let mut command = programs::command("quorate");
        command.args(["-o", "json", "--admin", &admins.join(","), "member", act, "--name", name]);
        if act == "remove" {
            command.arg("--yes");
        }
        let output = command.output().unwrap();
        if output.status.success() { Ok(()) } else { Err(format!("{output:?}")) }
    });
}

/// Takes one out; it ends by itself, and says why.
fn remove(cluster: &mut Cluster, number: usize) {
    let name = cluster[number].name().to_owned();
    member(cluster, "remove", &name);
    let ended = cluster[number].wait_end(Duration::from_mins(1));
    assert_eq!(ended.status, Some(3), "{}", ended.log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_d6_shrunk_to_one_grown_and_shrunk_to_another_the_last_one_is_the_source() {
    let mut cluster = ClusterPlan::of(3).wait_for(2).quick().start();
    let (client, publisher) = messages::connect_and_publish(&cluster.url(), "d6", 0..100, 100).await;
    remove(&mut cluster, 1);
    remove(&mut cluster, 2);
    cluster.wait_active();
    messages::confirmed(messages::publish(&publisher, "d6", 100..200, 100).await).await;

    // It comes back with nothing, by the operator's word.
    fs::remove_dir_all(cluster.data(1)).unwrap();
    cluster[1].start();
    member(&mut cluster, "add", "b2");
    cluster.wait_equal();
    messages::confirmed(messages::publish(&publisher, "d6", 200..300, 100).await).await;
    remove(&mut cluster, 0);
    cluster.wait_active();
    messages::confirmed(messages::publish(&publisher, "d6", 300..400, 100).await).await;
    cluster.kill_all();

    // Whoever was taken out may be first: it is refused once it meets the last one, which goes on by itself.
    cluster[1].start();
    cluster.wait_active();
    for number in [0, 2] {
        let ended = cluster[number].run_to_end();
        assert_eq!(ended.status, Some(3), "{}", ended.log);
        assert!(ended.log.contains("removed from the cluster"), "{}", ended.log);
    }
    assert_eq!(cluster.wait_active(), 1);
    assert_eq!(messages::drain(&client, "d6").await.unwrap(), (0..400).collect::<Vec<_>>());
}
