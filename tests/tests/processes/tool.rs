//! The tool `quorate` against a real broker.

use std::process::Stdio;

use quorate_tests::process::{Place, programs};

use crate::operator::{Operator, leading};

#[test]
fn what_a_full_queue_never_took_is_refused_and_not_unknown() {
    let place = Place::new();
    let broker = leading(&place);
    let operator = Operator::at(&broker);
    assert_eq!(operator.runs(&["queue", "declare", "q", "--max-length", "3"]).0, 0);
    let (status, report) = operator.runs(&["publish", "--queue", "q", "--count", "10", "--timeout", "500ms"]);
    assert_eq!(
        (&report["sent"], &report["confirmed"], &report["refused"], &report["unknown"]),
        (&10.into(), &3.into(), &7.into(), &0.into()),
        "{report}"
    );
    assert_eq!((status, &report["error"]["code"]), (2, &"QUEUE_FULL".into()), "{report}");
    assert!(report["error"]["message"].as_str().unwrap().contains("queue q is full"), "{report}");
}

#[test]
fn a_counted_consumer_takes_its_count_and_leaves_the_rest_untouched() {
    let place = Place::new();
    let broker = leading(&place);
    let operator = Operator::at(&broker);
    assert_eq!(operator.runs(&["queue", "declare", "q"]).0, 0);
    assert_eq!(operator.runs(&["publish", "--queue", "q", "--count", "3000"]).0, 0);
    let out = place.path("out").display().to_string();
    for (mode, acked) in [("--no-ack", 0), ("--ack", 1200)] {
        let (status, report) =
            operator.runs(&["consume", "--queue", "q", "--count", "1200", mode, "--output", &out]);
        let wanted = (0, 1200.into(), 0.into(), acked.into());
        let [received, redelivered, acked] =
            ["received", "redelivered", "acked"].map(|field| report[field].clone());
        assert_eq!((status, received, redelivered, acked), wanted, "{report}");
    }
    let (_, rest) = operator.runs(&["consume", "--queue", "q", "--until-empty", "--output", &out]);
    assert_eq!((&rest["received"], &rest["redelivered"]), (&600.into(), &0.into()), "{rest}");
}

#[test]
fn a_consumer_that_has_lost_the_cluster_says_so_and_ends_with_3() {
    let place = Place::new();
    let mut broker = leading(&place);
    let operator = Operator::at(&broker);
    assert_eq!(operator.runs(&["queue", "declare", "q"]).0, 0);
    assert_eq!(operator.runs(&["publish", "--queue", "q", "--body", "x"]).0, 0);
    let out = place.path("out");
    let mut command = programs::command("quorate");
    command.args(["--url", &broker.client_address(), "--timeout", "500ms", "consume", "--queue", "q"]);
    let child = command.arg("--output").arg(&out).stderr(Stdio::piped()).spawn().unwrap();
    quorate_tests::process::wait_for("the message is taken", || match std::fs::read(&out) {
        Ok(bytes) if !bytes.is_empty() => Ok(()),
        _ => Err("nothing yet".to_owned()),
    });
    broker.kill();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{text}");
}

#[test]
fn a_virtual_host_that_exists_is_said_so() {
    let place = Place::new();
    let broker = leading(&place);
    let operator = Operator::at(&broker);
    for created in [true, false] {
        let (status, answer) = operator.runs(&["vhost", "create", "billing"]);
        assert_eq!((status, &answer["created"]), (0, &created.into()), "{answer}");
    }
}

#[test]
fn whoever_reads_the_messages_may_stop_and_the_rest_stays_in_the_queue() {
    let place = Place::new();
    let broker = leading(&place);
    let operator = Operator::at(&broker);
    assert_eq!(operator.runs(&["queue", "declare", "q"]).0, 0);
    assert_eq!(operator.runs(&["publish", "--queue", "q", "--count", "10"]).0, 0);
    let mut command = programs::command("quorate");
    command.args(["--url", &broker.client_address(), "consume", "--queue", "q"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(" 0 acked ") && text.contains("nobody reads standard output any more"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    let (_, list) = operator.runs(&["queue", "show", "q"]);
    assert_eq!(list["ready"], 10, "{list}");
}
