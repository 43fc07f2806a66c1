//! `quorate bench` against real brokers: what it counts, that it cleans up, and that its reports can be compared.

use std::path::Path;
use std::process::{Child, Stdio};

use quorate_tests::process::{ClusterPlan, Place, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::operator::{Operator, leading};

fn queues(operator: &Operator) -> usize {
    let (status, list) = operator.runs(&["queue", "list"]);
    assert_eq!(status, 0, "{list}");
    list.as_array().expect("a list of queues").len()
}

#[test]
fn every_message_of_many_publishers_reaches_one_of_many_consumers_once() {
    let cluster = ClusterPlan::of(3).start();
    let operator = Operator::of(&cluster);
    for together in [&["--together"][..], &[]] {
        let arguments =
            [
                &[
                    "bench",
                    "both",
                    "--messages",
                    "1003",
                    "--sizes",
                    "8,64",
                    "--windows",
                    "16",
                    "--rounds",
                    "2",
                ][..],
                &["--queues", "3", "--publishers", "7", "--consumers", "5", "--warm-up", "50ms"],
                together,
            ]
            .concat();
        let (status, report) = operator.runs(&arguments);
        assert_eq!(status, 0, "{report}");
        // Two sizes, two rounds.
        let all = 4 * 1003;
        for (count, expected) in
            [("published", all), ("confirmed", all), ("delivered", all), ("lost", 0), ("delivered_twice", 0)]
        {
            assert_eq!(report["messages"][count], expected, "{count} in {}", report["messages"]);
        }
        let cell = &report["cells"][1];
        assert_eq!((&cell["size"], &cell["rounds"][1]["consume"]["messages"]), (&64.into(), &1003.into()));
        let histogram = cell["rounds"][0]["publish"]["histogram"].as_str().unwrap();
        assert!(histogram.starts_with("HISTFAAA"), "{histogram}");
        assert!(cell["publish_cost"]["syncs_per_message"].as_f64().unwrap() > 0.0, "{cell}");
    }
    assert_eq!(queues(&operator), 0);
}

#[test]
fn an_open_loop_sends_what_is_due_and_says_when_the_cluster_does_not_keep_up() {
    let place = Place::new();
    let broker = leading(&place);
    let operator = Operator::at(&broker);
    let common = ["bench", "both", "--together", "--sizes", "64", "--warm-up", "0s"];
    let slow = ["--rate", "300", "--publishers", "3", "--messages", "300"];
    let (_, slow) = operator.runs(&[&common[..], &slow].concat());
    let publish = &slow["cells"][0]["rounds"][0]["publish"];
    assert_eq!((&publish["messages"], &slow["messages"]["delivered"]), (&300.into(), &300.into()), "{slow}");
    let open = &publish["open_loop"];
    assert_eq!((&open["scheduled"], &open["unsent"]), (&300.into(), &0.into()), "{open}");
    // The last one is due a 300th of a second before the end.
    assert!(publish["seconds"].as_f64().unwrap() > 0.99, "{publish}");
    assert!(open["service"]["p50_us"].as_f64() <= publish["p50_us"].as_f64(), "{publish}");

    // One message on its way at a time is never a million a second.
    let fast = ["--rate", "1000000", "--windows", "1", "--seconds", "1"];
    let (status, fast) = operator.runs(&[&common[..], &fast].concat());
    let publish = &fast["cells"][0]["rounds"][0]["publish"];
    let open = &publish["open_loop"];
    assert_eq!((status, &open["kept_up"]), (1, &false.into()), "{fast}");
    let (sent, unsent) = (publish["messages"].as_u64().unwrap(), open["unsent"].as_u64().unwrap());
    assert_eq!(sent + unsent, 1_000_000, "{publish}");
    // The clock of a message runs from when it was due, also of those that were never sent.
    assert!(publish["p50_us"].as_f64().unwrap() > 100_000.0, "{publish}");
    assert!(open["service"]["p50_us"].as_f64() < publish["p50_us"].as_f64(), "{publish}");
    assert_eq!((fast["messages"]["delivered"].as_u64(), &fast["messages"]["lost"]), (Some(sent), &0.into()));
    assert_eq!(queues(&operator), 0);
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process's number");
    kill_process(pid, signal).unwrap();
}

#[test]
fn interrupted_it_deletes_its_queues_and_killed_it_leaves_them_under_its_name() {
    let place = Place::new();
    let broker = leading(&place);
    let operator = Operator::at(&broker);
    let running = ["bench", "both", "--together", "--queues", "2", "--seconds", "3600"];
    for (how, status, left) in
        [(Signal::INT, Some(3), 0), (Signal::TERM, Some(3), 0), (Signal::KILL, None, 2)]
    {
        let mut bench = operator.command(&running);
        let bench = bench.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for("queues of the bench", || match queues(&operator) {
            2 => Ok(()),
            count => Err(format!("{count} queues")),
        });
        signal(&bench, how);
        let ended = bench.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), queues(&operator)), (status, left), "{how:?}");
    }
    let (_, list) = operator.runs(&["queue", "list"]);
    let is_named = |queue: &Value| queue["name"].as_str().unwrap().starts_with("quorate-bench-");
    assert!(list.as_array().unwrap().iter().all(is_named), "{list}");
}

#[test]
fn interrupted_it_shows_the_cells_that_were_measured_and_they_are_not_compared() {
    let place = Place::new();
    let broker = leading(&place);
    let operator = Operator::at(&broker);
    // A fifth of a second, and a minute.
    let arguments = ["bench", "publish", "--rate", "300,1", "--messages", "60", "--sizes", "8"];
    let bench = { operator.command(&[&arguments[..], &["--warm-up", "0s"]].concat()) }
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the queue of the second cell", || {
        let (_, list) = operator.runs(&["queue", "list"]);
        let is_second = list[0]["name"].as_str().is_some_and(|name| name.ends_with("-2-1"));
        if is_second { Ok(()) } else { Err(list.to_string()) }
    });
    signal(&bench, Signal::INT);
    let ended = bench.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((ended.status.code(), queues(&operator)), (Some(3), 0), "{report}");
    assert_eq!(report["incomplete"]["code"], "interrupted", "{report}");
    let cells = report["cells"].as_array().unwrap();
    assert_eq!((cells.len(), &cells[0]["publish"]["messages"]), (1, &60.into()), "{report}");
    let path = place.path("cut");
    std::fs::write(&path, &ended.stdout).unwrap();
    let path = path.display().to_string();
    assert_eq!(operator.runs(&["bench", "compare", &path, &path]).0, 2);
}

#[test]
fn consuming_ends_with_its_time_and_leaves_the_rest() {
    let place = Place::new();
    let broker = leading(&place);
    let operator = Operator::at(&broker);
    let arguments = ["bench", "consume", "--windows", "1", "--sizes", "8", "--warm-up", "0s"];
    // At one message at a time, those that are filled in take far longer.
    let (status, report) = operator.runs(&[&arguments[..], &["--seconds", "0.2"]].concat());
    let count = |name: &str| report["messages"][name].as_u64().unwrap();
    assert_eq!((status, count("confirmed"), count("lost")), (0, 50_000, 0), "{report}");
    assert_eq!(count("delivered") + count("left"), 50_000, "{report}");
    assert!(report["cells"][0]["consume"]["seconds"].as_f64().unwrap() < 5.0, "{report}");
    assert_eq!(queues(&operator), 0);
}

#[test]
fn what_nobody_answers_is_unknown_and_its_waiting_is_in_the_latencies() {
    let place = Place::new();
    let broker = leading(&place);
    let operator = Operator::at(&broker);
    let arguments = ["bench", "publish", "--windows", "4", "--sizes", "8", "--seconds", "3600"];
    let bench = operator.command(&[&arguments[..], &["--warm-up", "0s", "--timeout", "500ms"]].concat());
    let bench = { bench }.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("messages of the bench", || match operator.runs(&["queue", "list"]).1[0]["ready"].as_u64() {
        Some(1..) => Ok(()),
        _ => Err("none yet".to_owned()),
    });
    broker.freeze();
    let ended = bench.wait_with_output().unwrap();
    broker.thaw();
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let [published, confirmed] = ["published", "confirmed"].map(|count| report["messages"][count].as_u64());
    assert_eq!((ended.status.code(), published), (Some(1), confirmed.map(|count| count + 4)), "{report}");
    let publish = &report["cells"][0]["rounds"][0]["publish"];
    assert!(publish["max_us"].as_f64().unwrap() >= 500_000.0, "{publish}");
}

/// Writes a report; gives its path.
fn report(operator: &Operator, path: &Path, more: &[&str]) -> String {
    let arguments =
        ["bench", "publish", "--messages", "200", "--sizes", "64", "--windows", "8", "--warm-up", "0s"];
    let (status, report) = operator.runs(&[&arguments[..], more].concat());
    assert_eq!(status, 0, "{report}");
    std::fs::write(path, report.to_string()).unwrap();
    path.display().to_string()
}

#[test]
fn reports_are_compared_without_a_cluster() {
    let place = Place::new();
    let mut broker = leading(&place);
    let operator = Operator::at(&broker);
    let one = report(&operator, &place.path("one"), &["--rounds", "3"]);
    let fan_in = report(&operator, &place.path("two"), &["--rounds", "3", "--publishers", "2"]);
    let single = report(&operator, &place.path("once"), &[]);
    broker.kill();
    let (status, same) = operator.runs(&["bench", "compare", &one, &one]);
    assert_eq!((status, &same["slower"], &same["faster"]), (0, &0.into(), &0.into()), "{same}");
    // Rate, two latencies, syncs and bytes of the log; processor time needs --pid.
    assert_eq!(same["same"], 5, "{same}");
    for (other, names) in [(&fan_in, "publishers: 1 and 2"), (&single, "measured 1 times")] {
        let (status, refused) = operator.runs(&["bench", "compare", &one, other]);
        assert_eq!((status, &refused["code"]), (2, &"not-comparable".into()), "{refused}");
        assert!(refused["message"].as_str().unwrap().contains(names), "{refused}");
        let (_, shown) =
            operator.runs(&["bench", "compare", &one, other, "--anyway", "--tolerance", "1000%"]);
        assert_eq!(shown["lines"].as_array().unwrap().len(), 5, "{shown}");
    }
    // The same report with every rate a thousandth of what it was.
    let mut slower: Value = serde_json::from_str(&std::fs::read_to_string(&one).unwrap()).unwrap();
    for round in slower["cells"][0]["rounds"].as_array_mut().unwrap() {
        round["publish"]["rate"] = (round["publish"]["rate"].as_f64().unwrap() / 1000.0).into();
    }
    let path = place.path("slower");
    std::fs::write(&path, slower.to_string()).unwrap();
    let (status, compared) = operator.runs(&["bench", "compare", &one, &path.display().to_string()]);
    assert_eq!((status, &compared["beyond_tolerance"]), (1, &1.into()), "{compared}");
}
