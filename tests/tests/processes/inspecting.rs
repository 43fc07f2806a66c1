//! The offline tool: acceptance E1 to E3, A4, and that it changes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use quorate_tests::process::directory::copy;
use quorate_tests::process::{Broker, ClusterPlan, Place, Snapshot, messages, programs};
use serde_json::Value;

/// Exit status, what was said as JSON, and what went to standard error.
fn inspect(paths: &[&Path]) -> (i32, Value, String) {
    let output = programs::command("quorate")
        .args(["store", "inspect", "-o", "json"])
        .args(paths)
        .output()
        .expect("the tool runs");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = String::from_utf8_lossy(&output.stdout);
    let report = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text} {errors}"));
    (output.status.code().expect("it was not killed"), report, errors)
}

async fn publish(url: &str, queue: &str, numbers: std::ops::Range<u64>) {
    let client = messages::connect_with_queue(url, queue).await;
    let publisher = client.publisher().expect("a publisher");
    messages::confirmed(messages::publish(&publisher, queue, numbers, 100).await).await;
    client.close().await;
}

fn names(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_e1_stores_are_compared_and_nothing_is_changed() {
    let mut cluster = ClusterPlan::of(3).start();
    publish(&cluster.url(), "orders", 0..20).await;
    let leader = cluster.wait_active();
    let behind = cluster.others(leader)[0];
    cluster[behind].kill();
    cluster.wait_active();
    publish(&cluster.url(), "orders", 20..50).await;
    for number in cluster.others(behind) {
        cluster[number].kill();
    }
    let data: Vec<PathBuf> = (0..3).map(|number| cluster.data(number)).collect();
    let before: Vec<Snapshot> = data.iter().map(|dir| Snapshot::of(dir)).collect();
    let paths: Vec<&Path> = data.iter().map(PathBuf::as_path).collect();

    let (status, report, _) = inspect(&paths);
    assert_eq!((status, &report["verdict"]), (0, &"safe-set".into()), "{report:#}");
    assert_eq!(report["same_cluster"], true);
    let latest = report["latest"].as_str().unwrap();
    assert_ne!(Path::new(latest), data[behind], "{report:#}");
    assert_eq!(report["loss"]["confirmed"], "none", "{report:#}");
    for (number, store) in report["stores"].as_array().unwrap().iter().enumerate() {
        assert_eq!((&store["state"], &store["queues"]), (&"dirty".into(), &1.into()), "{store:#}");
        assert_eq!(store["messages"], if number == behind { 20 } else { 50 }, "{store:#}");
        assert!(
            store["sequence"].as_u64().unwrap() > 0 && store["positions"]["/"]["index"].as_u64().is_some()
        );
        assert_eq!(store["members"].as_array().unwrap().len(), 3);
    }

    // Any two of them are safe, one is not.
    let (status, two, _) = inspect(&[paths[leader], paths[behind]]);
    assert_eq!((status, &two["verdict"]), (0, &"safe-set".into()), "{two:#}");
    let (status, one, _) = inspect(&[paths[behind]]);
    assert_eq!(
        (status, &one["verdict"], &one["loss"]["confirmed"]),
        (2, &"no-safe-set".into(), &"unknown".into())
    );
    assert_eq!(names(&one["loss"]["not_given"]).len(), 2, "{one:#}");
    assert!(names(&one["next"]).iter().any(|next| next.contains("mark-clean")), "{one:#}");

    // The same from facts files.
    let files: Vec<PathBuf> = (0..3).map(|number| cluster.path(&format!("{number}.facts"))).collect();
    for (dir, file) in data.iter().zip(&files) {
        let mut command = programs::command("quorate");
        let output = command.args(["store", "facts"]).arg(dir).arg("--output").arg(file).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(fs::metadata(file).unwrap().len() < 16 << 10);
    }
    let (status, of_files, _) = inspect(&files.iter().map(PathBuf::as_path).collect::<Vec<_>>());
    assert_eq!((status, &of_files["verdict"]), (0, &"safe-set".into()), "{of_files:#}");
    assert_eq!(of_files["stores"][0]["positions"], report["stores"][0]["positions"]);

    // A store of another cluster among them is said to be one.
    let mut foreign = Broker::single(&cluster.path(""), "foreign");
    foreign.start();
    foreign.wait_leading();
    let running = cluster.path("foreign-data");
    let (status, alone, _) = inspect(&[&running]);
    assert_eq!((status, &alone["stores"][0]["in_use_by"]), (0, &foreign.pid().into()), "{alone:#}");
    foreign.kill();
    let (status, mixed, _) = inspect(&[paths[0], paths[1], &running]);
    assert_eq!((status, &mixed["same_cluster"]), (2, &false.into()), "{mixed:#}");
    assert_eq!(mixed["verdict"], "different-clusters");

    let table = programs::command("quorate").args(["store", "inspect"]).args(&paths).output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.starts_with("SAFE SET: ") && table.contains("Next: quorated"), "{table}");
    for (dir, before) in data.iter().zip(&before) {
        assert_eq!(Snapshot::of(dir).differences(before), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_e2_e3_equal_stores_are_a_tie_and_copies_that_went_on_are_ambiguous() {
    let place = Place::new();
    let mut broker = Broker::single(&place.path(""), "b1");
    broker.start();
    broker.wait_leading();
    publish(&format!("quorate://{}", broker.client_address()), "orders", 0..5).await;
    broker.terminate();
    let (original, twin, old) = (place.path("b1-data"), place.path("twin"), place.path("old"));
    copy(&original, &twin);
    copy(&original, &old);

    let (status, report, _) = inspect(&[&original, &twin]);
    assert_eq!((status, &report["verdict"]), (1, &"safe-set".into()), "{report:#}");
    assert_eq!(names(&report["ties"][0]).len(), 2, "{report:#}");
    assert!(report["stores"][1]["remarks"].to_string().contains("holds the same"), "{report:#}");

    for (directory, number) in [(&original, 100), (&twin, 200)] {
        let mut one = Broker::single_on(&place.path(""), "b1", directory);
        one.start();
        one.wait_leading();
        publish(&format!("quorate://{}", one.client_address()), "orders", number..number + 1).await;
        one.terminate();
    }
    let before = [Snapshot::of(&original), Snapshot::of(&twin)];
    let (status, report, _) = inspect(&[&original, &twin]);
    assert_eq!((status, &report["verdict"]), (2, &"ambiguous".into()), "{report:#}");
    assert_eq!(report["latest"], Value::Null, "{report:#}");
    let surplus = report["loss"]["only_elsewhere"].as_array().unwrap();
    let messages = |path: &Path| {
        let of_path = |one: &&Value| one["path"] == path.display().to_string() && one["vhost"] == "/";
        surplus.iter().find(of_path).map(|one| one["queues"][0].clone())
    };
    for path in [&original, &twin] {
        let queue = messages(path).unwrap_or_else(|| panic!("{report:#}"));
        assert_eq!((&queue["queue"], &queue["messages"]), (&"orders".into(), &1.into()), "{report:#}");
        assert_eq!(queue["positions"][0], serde_json::json!([6, 6]), "{report:#}");
    }
    assert_eq!([Snapshot::of(&original), Snapshot::of(&twin)], before);

    // An older copy is told from a separate one.
    let (_, report, _) = inspect(&[&original, &old]);
    assert_eq!(report["latest"], original.display().to_string(), "{report:#}");
    assert!(report["stores"][1]["remarks"].to_string().contains("rolled back"), "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_a4_whatever_is_done_to_a_file_gives_a_row_and_never_a_panic() {
    let place = Place::new();
    let mut broker = Broker::single(&place.path(""), "b1");
    broker.start();
    broker.wait_leading();
    publish(&format!("quorate://{}", broker.client_address()), "orders", 0..200).await;
    broker.terminate();
    let whole = place.path("b1-data");
    let hurt = place.path("hurt");
    copy(&whole, &hurt);
    let before = Snapshot::of(&hurt);
    let mut damaged = 0;
    let counts = |name: &&String| *name != "lock" && *name != "reserve" && !name.contains("spare");
    for name in before.names().iter().filter(counts) {
        let content = fs::read(whole.join(name)).unwrap();
        let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let mut flipped = content.clone();
        if let Some(byte) = flipped.get_mut(used / 2) {
            *byte ^= 0x10;
        }
        for wrong in [Vec::new(), content[..used / 2].to_vec(), vec![0; content.len()], flipped] {
            fs::write(hurt.join(name), wrong).unwrap();
            let (status, report, errors) = inspect(&[&hurt]);
            assert!((0..=3).contains(&status) && !errors.contains("panicked"), "{name}: {status} {errors}");
            assert_eq!(report["stores"].as_array().unwrap().len(), 1, "{name}: {report:#}");
            damaged += usize::from(report["stores"][0]["state"] == "damaged");
        }
        fs::write(hurt.join(name), content).unwrap();
    }
    assert_eq!(Snapshot::of(&hurt).differences(&before), Vec::<String>::new());
    assert!(damaged >= 8, "only {damaged} were noticed");
    // Both stamps gone: never empty.
    for name in ["stamp.a", "stamp.b"] {
        fs::write(hurt.join(name), vec![0; 4096]).unwrap();
    }
    let (status, report, _) = inspect(&[&hurt]);
    assert_eq!((status, &report["stores"][0]["state"]), (2, &"damaged".into()), "{report:#}");
    assert!(report["stores"][0]["damage"].to_string().contains("stamp"), "{report:#}");
}

fn store(words: &[&str], directory: &Path) -> std::process::Output {
    let (command, flags) = words.split_first().unwrap();
    programs::command("quorate")
        .args(["store", command])
        .arg(directory)
        .args(flags)
        .output()
        .expect("the tool runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_store_is_verified_exported_marked_and_unmarked() {
    let place = Place::new();
    let mut broker = Broker::single(&place.path(""), "b1");
    broker.start();
    broker.wait_leading();
    let url = format!("quorate://{}", broker.client_address());
    publish(&url, "orders", 0..50).await;
    let data = place.path("b1-data");

    // Nobody marks a store that is in use, whatever they say.
    let output = store(&["mark-clean", "--reason", "test", "--yes"], &data);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(&broker.pid().to_string()), "{output:?}");
    broker.terminate();

    let before = Snapshot::of(&data);
    let output = store(&["verify", "-o", "json"], &data);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["messages"]), (Some(0), &50.into()), "{report:#}");
    let saved = place.path("saved.json");
    let output = store(&["export", "--output", &saved.display().to_string()], &data);
    assert!(output.status.success(), "{output:?}");
    let lines: Vec<Value> =
        fs::read_to_string(&saved).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["queue"], &lines[0]["position"]), (50, &"orders".into(), &1.into()));
    assert_eq!(Snapshot::of(&data).differences(&before), Vec::<String>::new());

    // It could simply be started: no mark without force, no force without the cluster's id.
    let output = store(&["mark-clean", "--reason", "test", "--yes"], &data);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let output = store(&["mark-clean", "--reason", "x", "--force", "--confirm", "no"], &data);
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    assert_eq!(
        Snapshot::of(&data).without("lock").differences(&before.clone().without("lock")),
        Vec::<String>::new()
    );
    let (_, report, _) = inspect(&[&data]);
    let cluster = report["cluster_id"].as_str().unwrap();
    let output = store(&["mark-clean", "--reason", "test", "--force", "--confirm", cluster], &data);
    assert!(output.status.success(), "{output:?}");
    let (_, marked, _) = inspect(&[&data]);
    assert_eq!(marked["stores"][0]["state"], "clean", "{marked:#}");
    assert!(marked["stores"][0]["recovery_id"].is_string(), "{marked:#}");
    // A second mark, and no answer to the question.
    let output = store(&["mark-clean", "--reason", "test", "--yes"], &data);
    assert!(String::from_utf8_lossy(&output.stderr).contains("marked already"), "{output:?}");
    assert_eq!(store(&["unmark"], &data).status.code(), Some(64));
    let output = store(&["unmark", "--yes"], &data);
    assert!(output.status.success(), "{output:?}");
    let (_, unmarked, _) = inspect(&[&data]);
    assert_eq!(unmarked["stores"][0]["state"], "dirty", "{unmarked:#}");
    assert_eq!(unmarked["stores"][0]["positions"], report["stores"][0]["positions"]);
    assert_eq!(store(&["unmark", "--yes"], &data).status.code(), Some(2));

    // As before: it starts, holds what it held, and takes what was saved.
    broker.start();
    broker.wait_leading();
    let url = format!("quorate://{}", broker.client_address());
    let client = messages::connect_with_queue(&url, "again").await;
    assert_eq!(messages::drain(&client, "orders").await.unwrap().len(), 50);
    let output = programs::command("quorate")
        .args(["publish", "--url", &broker.client_address(), "--queue", "again", "--input-format", "json"])
        .arg("--lines")
        .arg(&saved)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(messages::drain(&client, "again").await.unwrap(), (0..50).collect::<Vec<_>>());
    // Not a byte was lost on the way, and a flipped one is noticed.
    broker.terminate();
    let segment = data.join("log").join("segment-0000000000000001");
    let mut content = fs::read(&segment).unwrap();
    content[8192] ^= 1;
    fs::write(&segment, content).unwrap();
    let output = store(&["verify"], &data);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("segment 1 at byte"), "{output:?}");
}
