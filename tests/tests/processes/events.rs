//! The operational log from outside: stream, pages, counters, log lines and the tool say the same. Acceptance H4, as far as
//! its events can happen.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use quorate_tests::process::status::{get, post};
use quorate_tests::process::{Broker, ClusterPlan, PATIENCE, Place, programs};
use serde_json::{Value, json};

use crate::operator::{Operator, leading};

/// Somebody who listens to `/events`.
struct Listener(BufReader<TcpStream>);

impl Listener {
    /// Connected, and greeted: what happens from now on is told.
    fn to(broker: &Broker, query: &str, last: Option<u64>) -> Self {
        let stream = TcpStream::connect(broker.admin_address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let resumed = last.map_or(String::new(), |last| format!("Last-Event-ID: {last}\r\n"));
        // HTTP/1.0 has no chunks, so that each line is a line of the stream.
        write!(&stream, "GET /events{query} HTTP/1.0\r\n{resumed}\r\n").unwrap();
        let mut listener = Self(BufReader::new(stream));
        listener.line_with(": events of ");
        listener
    }

    fn line_with(&mut self, start: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream ended before {start:?}");
            if let Some(rest) = line.strip_prefix(start) {
                return rest.trim_end().to_owned();
            }
        }
    }

    fn event(&mut self) -> Value {
        let id: u64 = self.line_with("id: ").parse().unwrap();
        let event: Value = serde_json::from_str(&self.line_with("data: ")).unwrap();
        assert_eq!(event["sequence"], id, "{event}");
        event
    }

    /// The next event that is so.
    fn wait(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.event();
            if wanted(&event) {
                return event;
            }
        }
    }
}

fn counted(broker: &Broker, code: &str) -> u64 {
    let (_, text) = get(&broker.admin_address(), "/metrics").unwrap();
    let start = format!("quorate_events_total{{code=\"{code}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&start)).expect("every code is counted").parse().unwrap()
}

fn create(broker: &Broker, vhost: &str) {
    let (status, answer) =
        post(&broker.admin_address(), "/api/v1/vhosts", &json!({ "name": vhost })).unwrap();
    assert_eq!(status, 201, "{answer}");
}

#[test]
fn acceptance_h4_a_fail_over_is_told_once_by_stream_counters_and_log() {
    let mut cluster = ClusterPlan::of(3).flags(&["--log-format", "json"]).start();
    let leader = cluster.wait_settled();
    let others = cluster.others(leader);
    let mut listeners: Vec<_> = others.iter().map(|&other| Listener::to(&cluster[other], "", None)).collect();
    let lost_before = counted(&cluster[others[0]], "HA-1006");
    let gone = cluster[leader].name().to_owned();
    cluster[leader].kill();
    for (listener, &other) in listeners.iter_mut().zip(&others) {
        let lost = listener.wait(|event| event["code"] == "HA-1006");
        assert_eq!((&lost["fields"]["member"], &lost["level"]), (&json!(gone), &json!("warn")), "{lost}");
        assert_eq!(lost["text"], format!("contact with {gone} lost"));
        assert_eq!(lost["broker"], cluster[other].name());
    }
    let new = cluster.wait_active();
    let at = others.iter().position(|&other| other == new).unwrap();
    let role = listeners[at].wait(|event| event["code"] == "HA-1010" && event["fields"]["new"] == "leader");
    // The same in the log, once, with its code and its text, and in the counters.
    let broker = &cluster[new];
    let lines: Vec<Value> =
        broker.log_text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let said = |event: &Value| {
        lines.iter().filter(|line| line["code"] == event["code"] && line["message"] == event["text"]).count()
    };
    assert_eq!(said(&role), 1, "{role}: {lines:?}");
    assert_eq!(counted(&cluster[others[0]], "HA-1006"), lost_before + 1);
    assert_eq!(counted(broker, "HA-1002"), 0);
    for code in ["HA-1001", "HA-1005", "HA-1006", "HA-1010"] {
        let told = lines.iter().filter(|line| line["code"] == code).count() as u64;
        assert_eq!((told > 0, told), (true, counted(broker, code)), "{code}");
    }
}

#[test]
fn a_listener_goes_on_where_it_was_and_hears_only_what_it_asked_for() {
    let place = Place::new();
    let broker = leading(&place);
    let mut listener = Listener::to(&broker, "?code=HA-1001", None);
    create(&broker, "one");
    let first = listener.event();
    assert_eq!((&first["code"], &first["fields"]), (&json!("HA-1001"), &json!({"vhost": "one"})), "{first}");
    drop(listener);
    create(&broker, "two");
    let mut again = Listener::to(&broker, "?code=HA-1001", first["sequence"].as_u64());
    assert_eq!(again.event()["fields"], json!({"vhost": "two"}));
    let mut all = Listener::to(&broker, "?vhost=two&after=0", None);
    assert!((0..2).map(|_| all.event()).all(|event| event["fields"]["vhost"] == "two"));
    // What this process cannot know is said.
    let mut stranger = Listener::to(&broker, "", Some(7));
    assert_eq!(stranger.line_with("event: "), "missed");
    let missed: Value = serde_json::from_str(&stranger.line_with("data: ")).unwrap();
    assert_eq!(missed["missed"], Value::Null, "{missed}");
    assert!(stranger.event()["sequence"].as_u64() > Some(7));
    let (status, wrong) = get(&broker.admin_address(), "/events?code=HA-9999").unwrap();
    assert!(status == 400 && wrong.contains("HA-9999"), "{status}: {wrong}");
}

#[test]
fn too_many_listeners_are_refused_and_the_rest_of_the_port_is_not() {
    let place = Place::new();
    let mut broker = leading(&place);
    let listeners: Vec<_> = (0..64).map(|_| Listener::to(&broker, "", None)).collect();
    let (status, refused) = get(&broker.admin_address(), "/events").unwrap();
    assert!(status == 503 && refused.contains("busy"), "{status}: {refused}");
    assert_eq!(get(&broker.admin_address(), "/health/ready").unwrap().0, 200);
    // They do not hold the broker up when it stops.
    assert_eq!(broker.terminate().status, Some(0));
    drop(listeners);
}

#[test]
fn the_tool_prints_what_happened_and_what_happens() {
    let place = Place::new();
    let broker = leading(&place);
    let operator = Operator::at(&broker);
    let output = operator.command(&["cluster", "events", "--code", "HA-1010,verdict"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let events: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(events.iter().any(|event| event["code"] == "verdict"), "{events:?}");
    assert!(
        events.iter().any(|event| event["code"] == "HA-1010" && event["fields"]["new"] == "leader"),
        "{events:?}"
    );
    let (status, wrong) = operator.runs(&["cluster", "events", "--code", "HA-9"]);
    assert_eq!((status, &wrong["code"]), (2, &json!("invalid")), "{wrong}");

    let mut command: Command = programs::command("quorate");
    let nobody = quorate_tests::process::ports::ReservedPort::any();
    let addresses = format!("{},{}", broker.admin_address(), nobody.address());
    command.args(["--admin", &addresses, "cluster", "events", "--follow", "--vhost", "new"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut follower = Follower(child);
    let mut lines = BufReader::new(follower.0.stdout.take().unwrap()).lines();
    // It tells when it has begun by what it says of a broker that is not there.
    let mut notes = BufReader::new(follower.0.stderr.take().unwrap()).lines();
    let note = notes.next().unwrap().unwrap();
    assert!(note.contains("does not answer"), "{note}");
    create(&broker, "new");
    let line = lines.next().unwrap().unwrap();
    assert!(line.contains(" b HA-1001 info  node of virtual host new created"), "{line}");
}

/// A process that is ended with the test.
struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
