//! The whole command, without a cluster: what it says and how it ends.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use clap::CommandFactory;
use serde_json::Value;

use super::*;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// What is left of a pipe whose reader has closed its end, or of a full disk.
struct Broken(io::ErrorKind);

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(self.0.into())
    }
}

/// Exit status and standard error of a command whose standard output is broken.
fn unheard(kind: io::ErrorKind, words: &[&str]) -> (u8, String) {
    let err = Captured::default();
    let console = Console::captured(Box::new(Broken(kind)), Box::new(err.clone()));
    let words = ["quorate"].iter().chain(words).map(OsString::from);
    let code = run(words, &Environment::default(), console);
    (code, err.text())
}

/// Exit status, standard output, standard error.
fn quorate(words: &[&str]) -> (u8, String, String) {
    let (out, err) = (Captured::default(), Captured::default());
    let console = Console::captured(Box::new(out.clone()), Box::new(err.clone()));
    let words = ["quorate"].iter().chain(words).map(OsString::from);
    let code = run(words, &Environment::default(), console);
    (code, out.text(), err.text())
}

/// An address where nobody listens: it was given by the kernel and is free again.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_help_with_examples() {
    fn check(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        assert!(command.get_about().is_some(), "{path} says nothing about itself");
        command.get_subcommands().for_each(|sub| check(sub, &path));
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(after.contains("Example") && after.contains("quorate "), "{path} has no examples");
    }
    let mut command = Cli::command();
    command.build();
    check(&command, "");
}

#[test]
fn usage_errors_are_64_and_say_what_is_wrong() {
    for (words, says) in [
        (&["nonsense"][..], "unrecognized subcommand 'nonsense'"),
        (&["queue", "show"], "<NAME>"),
        (&["publish", "--queue", "q"], "--lines <FILE|->"),
        (&["publish", "--count", "1"], "--queue <QUEUE>"),
        (&["publish", "--queue", "q", "--count", "1", "--body", "x"], "cannot be used with"),
        (&["publish", "--queue", "q", "--body", "x", "--size", "1"], "cannot be used with"),
        (&["publish", "--queue", "q", "--count", "1", "--size", "1x"], "not a size"),
        (&["publish", "--queue", "q", "--lines", "/no/such/file"], "/no/such/file"),
        (&["consume", "--queue", "q", "--ack", "--no-ack"], "cannot be used with"),
        (&["consume", "--queue", "q", "--idle-timeout", "5"], "write 5ms or 5s"),
        (&["cluster", "status", "--timeout", "soon"], "not a time"),
        (&["cluster", "status", "--admin", "h:x"], "expected HOST:PORT"),
        (&["queue", "list", "--url", "amqp://h"], "--url"),
        (&["queue", "list", "-o", "xml"], "table, json"),
        (&["bench", "both", "--windows", "0"], "not a number"),
        (&["bench", "publish", "--together"], "bench both"),
        (&["bench", "consume", "--rate", "5"], "--rate"),
        (&["bench", "both", "--rate", "0"], "1..=10000000"),
        (&["bench", "both", "--rate", "5", "--floor-dir", "/"], "exclude each other"),
        (&["bench", "both", "--publishers", "1001"], "1..=1000"),
        (&["bench", "both", "--queues", "2", "--consumers", "1"], "2 queues need 2"),
        (&["bench", "publish", "--consumers", "2"], "does nothing"),
        (&["bench", "both", "--sizes", "7"], "at least 8 B"),
        (&["bench", "compare", "a.json"], "<NEW.json>"),
        (&["bench", "compare", "a.json", "b.json", "--tolerance", "much"], "write percent"),
        (&["bench", "nonsense"], "unrecognized subcommand"),
        (&["bench", "both", "--windows", "1024", "--sizes", "1MiB"], "choose smaller"),
        (&["sandbox", "up", "--nodes", "10"], "1..=9"),
        (&["cluster", "status", "--context", "no-such"], "no context 'no-such'"),
    ] {
        let (code, out, err) = quorate(words);
        assert_eq!(code, 64, "{words:?}: {err}");
        assert_eq!(out, "", "{words:?}");
        assert!(err.starts_with("USAGE: ") && err.contains(says), "{words:?}: {err}");
    }
}

#[test]
fn without_a_command_the_commands_are_listed() {
    for (words, lists) in [(&[][..], "sandbox"), (&["queue"], "peek"), (&["bench"], "compare")] {
        let (code, out, err) = quorate(words);
        assert_eq!((code, out.as_str()), (64, ""), "{words:?}");
        assert!(err.ends_with("USAGE: a command is missing\n"), "{err}");
        assert!(err.contains(lists), "{err}");
    }
}

#[test]
fn with_json_wanted_errors_are_json_on_standard_output() {
    let nobody = nobody();
    let address = nobody.as_str();
    for (words, code, name) in [
        (&["nonsense", "-o", "json"][..], 64, "usage"),
        (&["--format=json", "publish"], 64, "usage"),
        (&["-o", "json", "cluster", "status", "--admin", address, "--timeout", "1s"], 3, "unreachable"),
        (&["queue", "list", "-o", "json", "--url", address, "--timeout", "300ms"], 3, "unreachable"),
        (&["store", "facts", "/no/such/directory", "-o", "json"], 3, "no-store"),
    ] {
        let (status, out, err) = quorate(words);
        assert_eq!(status, code, "{words:?}: {out} {err}");
        let value: Value =
            serde_json::from_str(&out).unwrap_or_else(|error| panic!("{words:?}: {error}: {out}"));
        assert_eq!(value["code"], name, "{words:?}");
        assert!(!value["message"].as_str().unwrap().is_empty(), "{words:?}");
    }
}

#[test]
fn global_options_are_accepted_before_and_after_any_command() {
    let address = nobody();
    let options = ["--url", &address, "--admin", &address, "--timeout", "200ms", "-o", "json"];
    for command in
        [&["queue", "list"][..], &["cluster", "members"], &["cluster", "wait-active"], &["vhost", "list"]]
    {
        let before: Vec<&str> = options.iter().chain(command).copied().collect();
        let after: Vec<&str> = command.iter().chain(&options).copied().collect();
        assert_eq!((quorate(&before).0, quorate(&after).0), (3, 3), "{command:?}");
    }
}

#[test]
fn help_and_version_are_answers() {
    for words in [&["--help"][..], &["publish", "--help"], &["--version"], &["sandbox", "up", "-h"]] {
        let (code, out, err) = quorate(words);
        assert_eq!((code, err.as_str()), (0, ""), "{words:?}");
        assert!(!out.is_empty());
    }
}

#[test]
fn what_works_on_this_machine_alone_needs_no_context() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().to_str().unwrap();
    for (words, code) in [(&["completion", "bash"][..], 0), (&["sandbox", "status", "--dir", dir], 2)] {
        let words: Vec<&str> = words.iter().copied().chain(["--context", "no-such"]).collect();
        let (status, _, err) = quorate(&words);
        assert_eq!(status, code, "{words:?}: {err}");
    }
}

#[test]
fn comparing_needs_no_cluster_and_says_what_is_wrong_with_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.json");
    std::fs::write(&path, "{\"format\":").unwrap();
    let file = path.to_str().unwrap();
    let words = ["bench", "-o", "json", "compare", file, file, "--context", "no-such"];
    let (code, out, err) = quorate(&words);
    let value: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out} {err}"));
    assert_eq!((code, &value["code"]), (2, &"not-a-report".into()), "{out}");
    let (code, _, err) = quorate(&["bench", "compare", file, "/no/such/file"]);
    assert_eq!(code, 2);
    assert!(err.contains("not a report of `quorate bench -o json`"), "{err}");
}

#[test]
fn completion_knows_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = quorate(&["completion", shell]);
        assert_eq!(code, 0);
        assert!(out.contains("wait-active"), "{shell}");
    }
}

#[test]
fn nobody_there_names_the_address_and_the_next_command() {
    let address = nobody();
    let (code, _, err) = quorate(&["cluster", "status", "--admin", &address, "--timeout", "1s"]);
    assert_eq!(code, 3);
    assert!(
        err.starts_with("UNKNOWN: no broker answered") && err.contains(&address) && err.contains("\nNext: "),
        "{err}"
    );
}

/// An admin port that gives these answers, one after the other, to whoever asks: HTTP status and body, in which `ADDRESS`
/// stands for its own.
fn admin_port(answers: Vec<(u16, &'static str)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let own = address.clone();
    std::thread::spawn(move || {
        for (status, body) in answers {
            let (stream, _) = listener.accept().unwrap();
            let mut request = BufReader::new(&stream);
            let mut length = 0;
            loop {
                let mut line = String::new();
                request.read_line(&mut line).unwrap();
                let line = line.trim().to_ascii_lowercase();
                if line.is_empty() {
                    break;
                }
                if let Some(text) = line.strip_prefix("content-length:") {
                    length = text.trim().parse().unwrap();
                }
            }
            request.read_exact(&mut vec![0; length]).unwrap();
            let body = body.replace("ADDRESS", &own);
            let head = format!(
                "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            (&stream).write_all(format!("{head}{body}").as_bytes()).unwrap();
        }
    });
    address
}

#[test]
fn what_a_leader_did_before_it_handed_over_counts_as_done() {
    const SO_ALREADY: &str = r#"{"name":"b1","store_id":null,"changed":false,"complete":true,"detail":"b1 leads nothing and votes on"}"#;
    let moved = |code: &str| -> &'static str {
        format!(r#"{{"code":"{code}","message":"x","next":[],"leader_admin_address":"ADDRESS"}}"#).leak()
    };
    let drain = |answers, more: &[&str]| {
        let address = admin_port(answers);
        let words = ["--admin", &address, "member", "drain", "--name", "b1"];
        quorate(&[more, &words].concat())
    };
    for (code, word, changed) in [
        ("LEADER_CHANGED", "DONE", Value::Bool(true)),
        ("UNDECIDED", "DONE", Value::Null),
        ("NOT_LEADER", "NOTHING TO DO", Value::Bool(false)),
    ] {
        let answers = vec![(421, moved(code)), (200, SO_ALREADY)];
        let (status, text, error) = drain(answers.clone(), &[]);
        assert_eq!((status, text.starts_with(word)), (0, true), "{code}: {text}{error}");
        let (status, text, error) = drain(answers, &["-o", "json"]);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, &value["changed"]), (0, &changed), "{code}: {text}{error}");
    }
}

/// An admin port of a broker that hangs: the kernel takes connections for it, and nobody answers.
fn hung_port() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[test]
fn a_hung_broker_that_is_named_first_keeps_no_command_from_the_others() {
    const ALIVE: (u16, &str) = (200, "{}");
    const DRAINED: &str = r#"{"name":"b1","store_id":null,"changed":true,"complete":true,"detail":"b1 leads nothing and votes on"}"#;
    const DOWN: &str = r#"{"complete":true,"members":[],"reason":"x","cluster_id":"x","detail":"x"}"#;
    let (hung, first) = hung_port();
    let second = admin_port(vec![ALIVE, (200, DRAINED)]);
    let both = ["--admin", &format!("{first},{second}")];
    let (status, text, error) = quorate(&[&both[..], &["member", "drain", "--name", "b1"]].concat());
    assert_eq!((status, text.starts_with("DONE")), (0, true), "{text}{error}");
    // Who leads is the one that hangs: it is not waited for all the time there is, and nothing was sent to it.
    let directed =
        format!(r#"{{"code":"NOT_LEADER","message":"x","next":[],"leader_admin_address":"{first}"}}"#);
    let second = admin_port(vec![ALIVE, (421, directed.leak()), ALIVE, (200, DRAINED)]);
    let both = ["--admin", &format!("{second},{first}")];
    let (status, text, error) = quorate(&[&both[..], &["member", "drain", "--name", "b1"]].concat());
    assert_eq!((status, text.starts_with("DONE")), (0, true), "{text}{error}");
    // What is asked only once.
    let second = admin_port(vec![(200, r#"{"verdict":"active"}"#), ALIVE, (200, DOWN)]);
    let both = ["--admin", &format!("{first},{second}")];
    let (_, text, error) =
        quorate(&[&both[..], &["-o", "json", "cluster", "shutdown", "--reason", "x", "--yes"]].concat());
    let answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{error}"));
    assert_eq!(answer["complete"], true, "{text}{error}");
    // Every connection to the one that hangs was a question, never a command: one for each of the three, and the status.
    hung.set_nonblocking(true).unwrap();
    let mut asked = Vec::new();
    while let Ok((mut stream, _)) = hung.accept() {
        stream.set_nonblocking(false).unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        asked.push(heard.lines().next().unwrap_or_default().to_owned());
    }
    let [live, status] = ["/health/live", "/api/v1/status"].map(|path| format!("GET {path} HTTP/1.1"));
    assert_eq!(asked, [&live, &live, &status, &live].map(String::as_str));
}

#[test]
fn a_reader_that_closes_the_pipe_changes_nothing_and_hears_no_complaint() {
    let nothing = tempfile::tempdir().unwrap();
    let nowhere = nothing.path().display().to_string();
    let commands: [&[&str]; 5] = [
        &["--help"],
        &["completion", "bash"],
        &["store", "inspect", &nowhere],
        &["-o", "json", "store", "inspect", &nowhere],
        &["-o", "json", "store", "verify", &nowhere],
    ];
    for words in commands {
        let (code, _, _) = quorate(words);
        assert_eq!(unheard(io::ErrorKind::BrokenPipe, words), (code, String::new()), "{words:?}");
    }
    // What cannot be written for another reason is a failure.
    let (code, error) = unheard(io::ErrorKind::StorageFull, &["completion", "bash"]);
    assert_eq!(code, 2);
    assert!(error.contains("cannot write to standard output"), "{error}");
}
