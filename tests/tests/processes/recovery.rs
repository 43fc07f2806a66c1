//! Recovery by an operator: acceptance E4 to E7.

use std::fs;
use std::path::{Path, PathBuf};

use quorate_tests::process::directory::copy;
use quorate_tests::process::status::get;
use quorate_tests::process::{Broker, Cluster, ClusterPlan, Place, Snapshot, messages, programs, wait_for};
use serde_json::Value;

/// Runs `quorate store …`; gives its exit status and what it printed as JSON.
fn store(words: &[&str]) -> (i32, Value) {
    let output = programs::command("quorate")
        .args(["-o", "json", "store"])
        .args(words)
        .output()
        .expect("the tool runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{words:?}: {error}: {text}{}", String::from_utf8_lossy(&output.stderr))
    });
    (output.status.code().expect("it was not killed"), value)
}

/// Marks a store, or not.
fn mark(target: &Path, against: &[&Path], flags: &[&str]) -> (i32, Value) {
    let text = |path: &Path| path.display().to_string();
    let mut words = vec!["mark-clean".to_owned(), text(target), "--reason".to_owned(), "test".to_owned()];
    if !against.is_empty() {
        words.push("--against".to_owned());
        words.extend(against.iter().map(|path| text(path)));
    }
    words.extend(flags.iter().map(|&flag| flag.to_owned()));
    store(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

#[track_caller]
fn assert_refused((status, answer): (i32, Value), code: &str) {
    assert_eq!((status, &answer["code"]), (2, &code.into()), "{answer:#}");
    assert!(answer["message"].as_str().is_some_and(|text| !text.is_empty()), "{answer:#}");
}

#[track_caller]
fn assert_marked((status, answer): (i32, Value)) -> Value {
    assert_eq!(status, 0, "{answer:#}");
    answer
}

async fn publish(url: &str, numbers: std::ops::Range<u64>) {
    let (client, _publisher) = messages::connect_and_publish(url, "orders", numbers, 100).await;
    client.close().await;
}

/// Three stores: all of them hold 20 messages, two of them 30 more. All down; gives the number of the one behind.
async fn one_behind(plan: &ClusterPlan) -> (Cluster, usize) {
    let mut cluster = plan.start();
    publish(&cluster.url(), 0..20).await;
    let leader = cluster.wait_active();
    let behind = cluster.others(leader)[0];
    cluster[behind].kill();
    cluster.wait_active();
    publish(&cluster.url(), 20..50).await;
    for number in cluster.others(behind) {
        cluster[number].kill();
    }
    (cluster, behind)
}

/// Waits until all brokers hold the same of `/`.
fn wait_equal(cluster: &mut Cluster) {
    cluster.wait_active();
    wait_for("equal digests", || {
        let digests: Vec<_> = (0..cluster.size())
            .map(|number| cluster[number].status().map(|status| status.digest("/")))
            .collect();
        if digests.iter().all(|digest| matches!(digest, Ok(Some(_))) && *digest == digests[0]) {
            return Ok(());
        }
        Err(format!("{digests:?}"))
    });
}

/// The image in a store's quarantine that was made before its `/` was filled again.
fn image(data: &Path) -> PathBuf {
    wait_for("the image", || {
        let (status, list) = store(&["quarantine", "list", &data.display().to_string()]);
        assert_eq!(status, 0, "{list:#}");
        let is_it = |image: &&Value| {
            image["act"] == "update" && image["why"].as_str().is_some_and(|why| why.contains("host / "))
        };
        let found = list.as_array().and_then(|images| images.iter().find(is_it));
        found.map(|image| PathBuf::from(image["path"].as_str().unwrap())).ok_or_else(|| list.to_string())
    })
}

fn saved(directory: &Path, place: &Path) -> usize {
    let output = programs::command("quorate")
        .args(["store", "export"])
        .arg(directory)
        .arg("--output")
        .arg(place)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    fs::read_to_string(place).unwrap().lines().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_e4_all_dirty_the_latest_is_marked_and_all_have_its_content() {
    let (mut cluster, behind) = one_behind(&ClusterPlan::of(3).flags(&["--recovery", "manual"])).await;
    cluster.start_all();
    for number in 0..3 {
        cluster[number].wait_until("asks for an operator", |status| {
            status.verdict() == "needs-operator" && status.row() == "C2"
        });
    }
    for number in 0..3 {
        cluster[number].terminate();
    }
    let data: Vec<PathBuf> = (0..3).map(|number| cluster.data(number)).collect();
    let paths: Vec<String> = data.iter().map(|path| path.display().to_string()).collect();
    let (_, report) = store(&["inspect", &paths[0], &paths[1], &paths[2]]);
    let latest =
        data.iter().position(|path| path.as_path() == Path::new(report["latest"].as_str().unwrap())).unwrap();
    assert_ne!(latest, behind, "{report:#}");
    let others: Vec<&Path> =
        cluster.others(latest).into_iter().map(|number| data[number].as_path()).collect();
    assert_marked(mark(&data[latest], &others, &["--yes"]));
    cluster.start_all();
    wait_equal(&mut cluster);
    assert_eq!(messages::drained(&cluster.url(), "orders").await, (0..50).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_e5_what_is_not_marked_and_what_gives_way_to_force() {
    let mut cluster = ClusterPlan::of(3).start();
    publish(&cluster.url(), 0..20).await;
    let leader = cluster.wait_active();
    let id = cluster[leader].status().unwrap().cluster_id().unwrap().to_owned();
    let force = ["--force", "--confirm", &id];
    let behind = cluster.others(leader)[0];
    cluster[behind].kill();
    cluster.wait_active();
    publish(&cluster.url(), 20..50).await;
    // In use: whatever is said.
    assert_refused(mark(&cluster.data(leader), &[], &["--yes"]), "in-use");
    assert_refused(mark(&cluster.data(leader), &[], &force), "in-use");
    for number in cluster.others(behind) {
        cluster[number].kill();
    }
    let ahead = cluster.others(behind);
    let (one, two, old) = (cluster.data(ahead[0]), cluster.data(ahead[1]), cluster.data(behind));
    // Of the two ahead one may be an entry beyond the other, if the leader died before it told.
    let text = |path: &Path| path.display().to_string();
    let (_, report) = store(&["inspect", &text(&one), &text(&two)]);
    let (one, two) = if report["latest"] == text(&two) { (two, one) } else { (one, two) };

    // Damaged and empty: whatever is said.
    let damaged = cluster.path("damaged");
    copy(&one, &damaged);
    for slot in ["stamp.a", "stamp.b"] {
        fs::write(damaged.join(slot), vec![0; 4096]).unwrap();
    }
    let empty = empty_store(&cluster);
    for (directory, ground) in [(&damaged, "damaged"), (&empty, "empty")] {
        let before = Snapshot::of(directory);
        assert_refused(mark(directory, &[], &["--yes"]), ground);
        assert_refused(mark(directory, &[], &force), ground);
        assert_eq!(Snapshot::of(directory).without("lock").differences(&before.without("lock")), [""; 0]);
    }

    // Refused, and nothing is written; another id does not help; the cluster's own does.
    let before = [&one, &two, &old].map(|path| Snapshot::of(path).without("lock"));
    let cases: [(&Path, &[&Path], &str); 3] = [
        (&old, &[&one, &two], "not-the-latest"),
        (&one, &[&two, &old], "could-start"),
        (&one, &[], "others-could-start"),
    ];
    for (target, against, ground) in cases {
        assert_refused(mark(target, against, &["--yes"]), ground);
        let (status, answer) = mark(target, against, &["--force", "--confirm", "another"]);
        assert_eq!((status, &answer["code"]), (64, &"not-confirmed".into()), "{answer:#}");
        let after = [&one, &two, &old].map(|path| Snapshot::of(path).without("lock"));
        assert_eq!(after, before, "{ground}");
    }
    for (target, against, ground) in cases {
        let answer = assert_marked(mark(target, against, &force));
        assert!(answer["overridden"].as_array().unwrap().contains(&ground.into()), "{answer:#}");
        // It stands in the store itself, too.
        let (_, facts) = store(&["facts", &text(target)]);
        assert!(facts.to_string().contains(ground), "{facts:#}");
        assert_refused(mark(target, against, &force), "already-marked");
        let (status, answer) = store(&["unmark", &text(target), "--yes"]);
        assert_eq!(status, 0, "{answer:#}");
    }
    assert_marked(mark(&old, &[], &force));
    assert_refused(mark(&one, &[&two, &old], &["--yes"]), "another-is-marked");
    let answer = assert_marked(mark(&one, &[&two, &old], &force));
    assert!(answer["overridden"].as_array().unwrap().contains(&"another-is-marked".into()), "{answer:#}");
}

/// The store of a broker that waited for others, and never met them.
fn empty_store(cluster: &Cluster) -> PathBuf {
    let place = Place::new();
    let data = cluster.path("empty");
    let mut waiting = Broker::single_on(&place.path(""), "waiting", &data);
    waiting.add_flags(&["--cluster-id", "00000000-0000-4000-8000-000000000001"]);
    waiting.start();
    waiting.wait_until("waits", |status| status.verdict() == "waiting");
    waiting.terminate();
    data
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_e6_of_two_clean_stores_that_fork_neither_is_chosen_until_one_is_marked_against_the_other()
{
    let mut cluster = ClusterPlan::of(3).start();
    publish(&cluster.url(), 0..20).await;
    let leader = cluster.wait_active();
    let id = cluster[leader].status().unwrap().cluster_id().unwrap().to_owned();
    for number in 0..3 {
        cluster[number].kill();
    }
    // Each is told, without the other, to go on; each is shut down properly.
    for number in 0..2 {
        assert_marked(mark(&cluster.data(number), &[], &["--alone", "--force", "--confirm", &id]));
        cluster[number].start();
        cluster[number].wait_leading();
        let first = 100 * (u64::try_from(number).unwrap() + 1);
        publish(&format!("quorate://{}", cluster.client_address(number)), first..first + 10).await;
        let output = programs::command("quorate")
            .args(["--admin", &cluster[number].admin_address(), "cluster", "shutdown"])
            .args(["--reason", "test", "--yes"])
            .output()
            .unwrap();
        // 1: the others were not there.
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(cluster[number].wait_end(quorate_tests::process::PATIENCE).status, Some(0));
    }
    let (first, second) = (cluster.data(0), cluster.data(1));
    let (status, report) = store(&["inspect", &first.display().to_string(), &second.display().to_string()]);
    assert_eq!((status, &report["verdict"]), (2, &"forked".into()), "{report:#}");
    for store in report["stores"].as_array().unwrap() {
        assert_eq!(store["state"], "clean", "{store:#}");
    }

    // Without a mark: the first is its own majority and goes on, the second asks what is to become of its messages.
    cluster[0].start();
    cluster[0].wait_leading();
    cluster[1].start();
    // Its part of `system`, which holds nothing of clients, is given up and filled again: for a moment there is none.
    let status = cluster[1].wait_until("asks what is to become of its messages only", |status| {
        let system = status.group("system").is_some_and(|system| system["verdict"] != "needs-operator");
        status.verdict() == "needs-operator" && status.row() == "J1" && system
    });
    assert!(status.reason().contains("virtual host /"), "{status:?}");
    let group = status.group("/").expect("it has the virtual host");
    assert_eq!((&group["verdict"], &group["row"]), (&"needs-operator".into(), &"J1".into()), "{group:#}");
    let output = programs::command("quorate")
        .args(["--admin", &cluster[1].admin_address(), "cluster", "status"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("NEEDS-OPERATOR") && text.contains("store export"), "{text}");
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(get(&cluster[1].admin_address(), "/health/ready").unwrap().0, 503);

    // With one: the second is updated, and what only it holds is kept and told.
    cluster[0].terminate();
    cluster[1].terminate();
    assert_marked(mark(&first, &[&second], &["--alone", "--force", "--confirm", &id]));
    cluster[0].start();
    cluster[1].start();
    let line = cluster[1].wait_log("of virtual host / after");
    assert!(line.contains("HA-1014") && line.contains("quarantine"), "{line}");
    for number in 0..2 {
        cluster[number].wait_until("is an active voter", |status| {
            status.verdict() == "active" && matches!(status.role("/"), "leader" | "replica")
        });
    }
    assert_eq!(
        messages::drained(&cluster.url(), "orders").await,
        (0..20).chain(100..110).collect::<Vec<_>>()
    );
    let place = cluster.path("saved.json");
    assert_eq!(saved(&image(&second), &place), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_e7_an_older_store_marked_by_force_updates_the_newer_ones_and_each_says_what_it_lost() {
    let (mut cluster, behind) = one_behind(&ClusterPlan::of(3)).await;
    let others = cluster.others(behind);
    let data: Vec<PathBuf> = others.iter().map(|number| cluster.data(*number)).collect();
    let old = cluster.data(behind);
    let (_, report) = store(&["inspect", &old.display().to_string()]);
    let id = report["cluster_id"].as_str().unwrap().to_owned();
    let against: Vec<&Path> = data.iter().map(PathBuf::as_path).collect();
    let answer = assert_marked(mark(&old, &against, &["--force", "--confirm", &id]));
    assert!(answer["overridden"].as_array().unwrap().contains(&"not-the-latest".into()), "{answer:#}");
    cluster.start_all();
    for (number, data) in others.iter().zip(&data) {
        let line = cluster[*number].wait_log("of virtual host / after");
        assert!(line.contains("HA-1014") && line.contains("quarantine"), "{line}");
        let place = cluster.path(&format!("saved-{number}.json"));
        assert_eq!(saved(&image(data), &place), 50);
    }
    wait_equal(&mut cluster);
    recover_loss(&cluster, behind, &data);
    assert_eq!(
        messages::drained(&cluster.url(), "orders").await,
        (0..50).collect::<Vec<_>>(),
        "put back, and once"
    );
}

/// Two brokers keep the same lost history of `/`: it is listed, shown, and put back from one of them, twice without harm.
fn recover_loss(cluster: &Cluster, asked: usize, data: &[PathBuf]) {
    let loss = |words: &[&str]| {
        let output = programs::command("quorate")
            .args(["-o", "json", "--admin", &cluster[asked].admin_address(), "--url", &cluster.url(), "loss"])
            .args(words)
            .output()
            .expect("the tool runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!("{words:?}: {error}: {text}{}", String::from_utf8_lossy(&output.stderr))
        });
        (output.status.code().expect("it was not killed"), value)
    };
    let (status, list) = loss(&["list"]);
    let of_vhost = |list: &Value| -> Vec<Value> {
        let all = list["losses"].as_array().expect("losses");
        all.iter().filter(|loss| loss["vhost"] == "/").cloned().collect()
    };
    let listed = of_vhost(&list);
    assert_eq!((status, listed.len()), (1, 2), "{list:#}");
    assert_eq!(listed[0]["fork"], listed[1]["fork"], "{list:#}");
    let dir = data[0].display().to_string();
    let (_, here) = loss(&["list", "--store", &dir]);
    let here = of_vhost(&here);
    let [only] = here.as_slice() else { panic!("{here:#?}") };
    let id = only["id"].as_str().expect("an id");
    assert!(listed.iter().any(|loss| loss["id"] == id && loss["directory"] == only["directory"]), "{list:#}");

    let (status, shown) = loss(&["show", id, "--store", &dir]);
    assert_eq!((status, &shown["surplus"]["messages"]), (0, &30.into()), "{shown:#}");
    assert_eq!(shown["surplus"]["queues"][0]["queue"], "orders", "{shown:#}");
    assert_eq!(loss(&["show", "none-1-1.1.1", "--store", &dir]).0, 2);
    assert_eq!(loss(&["show", id]).1["losses"][0]["id"], id, "it is said where it is");

    let counts = |value: &Value| {
        ["recovered", "duplicates", "refused", "unknown", "unreadable"]
            .map(|field| value[field].as_u64().unwrap())
    };
    let (status, first) = loss(&["recover", id, "--store", &dir]);
    assert_eq!((status, counts(&first)), (0, [30, 0, 0, 0, 0]), "{first:#}");
    let (status, again) = loss(&["recover", id, "--store", &dir]);
    assert_eq!((status, counts(&again)), (0, [0, 30, 0, 0, 0]), "{again:#}");

    // Into a queue that is not there yet: nothing is published, and once it is declared as was said, everything is.
    let aside = ["recover", id, "--store", &dir, "--queue", "orders", "--to", "aside"];
    for _ in 0..2 {
        let (status, nowhere) = loss(&aside);
        assert_eq!((status, &nowhere["code"]), (2, &"QUEUE_NOT_FOUND".into()), "{nowhere:#}");
        assert!(nowhere["message"].as_str().unwrap().contains("aside"), "{nowhere:#}");
        let next = format!("quorate --url {}/%2F queue declare aside", cluster.url());
        assert_eq!(nowhere["next"][0], next, "{nowhere:#}");
    }
    let declare = ["--url", &format!("{}/%2F", cluster.url()), "queue", "declare", "aside"];
    let output = programs::command("quorate").args(declare).output().expect("the tool runs");
    assert!(output.status.success(), "{output:?}");
    for expected in [[30, 0, 0, 0, 0], [0, 30, 0, 0, 0]] {
        let (status, there) = loss(&aside);
        assert_eq!((status, counts(&there)), (0, expected), "{there:#}");
    }
}
