//! The admin port by TLS and tokens: who may ask, who may change something, and what becomes of those that were exchanged.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use quorate_tests::process::{Broker, Cluster, ClusterPlan, PATIENCE, Place, programs};
use serde_json::Value;

const ANN: &str = "ann-token-0123456789";
const PROM: &str = "prom-token-0123456789";

fn write_tokens(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn tokens() -> String {
    format!("# who may ask\nann {ANN} admin\nprom {PROM} read\n")
}

/// Asks a plain admin port with these further header lines.
fn asked(broker: &Broker, method: &str, path: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(broker.admin_address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{method} {path} HTTP/1.0\r\n{headers}\r\n").unwrap();
    stream
}

/// Status and body of the answer.
fn answer(broker: &Broker, method: &str, path: &str, token: Option<&str>) -> (u16, String) {
    let shown = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
    let headers = format!("{shown}Content-Type: application/json\r\nContent-Length: 0\r\n");
    let mut text = String::new();
    asked(broker, method, path, &headers).read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

fn alone(place: &Place) -> (Broker, PathBuf) {
    let path = place.path("tokens");
    write_tokens(&path, &tokens());
    let mut broker = Broker::single(&place.path(""), "b");
    broker.add_flags(&["--admin-token-file", &path.display().to_string()]);
    broker.start();
    (broker, path)
}

#[test]
fn a_token_file_is_enforced_on_loopback_and_read_again_at_sighup() {
    let place = Place::new();
    let (broker, path) = alone(&place);
    for (method, at, token, expected) in [
        ("GET", "/health/live", None, 200),
        ("GET", "/api/v1/status", None, 401),
        ("GET", "/metrics", None, 401),
        ("GET", "/nothing", None, 401),
        ("GET", "/api/v1/status", Some("ann-token-0123456780"), 401),
        ("GET", "/api/v1/status", Some(PROM), 200),
        ("GET", "/metrics", Some(PROM), 200),
        ("POST", "/api/v1/vhosts", Some(PROM), 403),
        ("POST", "/health/live", None, 401),
        ("POST", "/api/v1/vhosts", Some(ANN), 400),
    ] {
        let (status, body) = answer(&broker, method, at, token);
        assert_eq!(status, expected, "{method} {at} {token:?}: {body}");
        if status >= 400 {
            let error: Value = serde_json::from_str(&body).unwrap();
            assert!(error["code"].is_string() && error["next"].is_array(), "{body}");
        }
    }
    let listens = format!("Authorization: Bearer {PROM}\r\n");
    let mut stream = BufReader::new(asked(&broker, "GET", "/events", &listens)).lines();
    assert!(stream.by_ref().any(|line| line.unwrap().starts_with(": events of b")));

    // A file that others may read is not taken, and the tokens in force stay.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    broker.hang_up();
    let line = broker.wait_log("the old tokens stay");
    assert!(line.contains("chmod 600") && line.contains("--admin-token-file"), "{line}");
    assert_eq!(answer(&broker, "GET", "/api/v1/status", Some(PROM)).0, 200);

    write_tokens(&path, "ann ann-token-9876543210\n");
    broker.hang_up();
    broker.wait_log("1 tokens of operators read again");
    for token in [ANN, PROM] {
        assert_eq!(answer(&broker, "GET", "/api/v1/status", Some(token)).0, 401);
    }
    assert_eq!(answer(&broker, "GET", "/api/v1/status", Some("ann-token-9876543210")).0, 200);
    // Whoever listened by a token that is withdrawn listens no more.
    let rest: Vec<String> = stream.map_while(Result::ok).collect();
    assert!(rest.iter().any(|line| line.contains("was withdrawn")), "{rest:?}");
}

/// A cluster whose admin ports speak TLS and ask for tokens.
struct Guarded {
    cluster: Cluster,
    ca: PathBuf,
}

impl Guarded {
    fn start() -> Self {
        let mut cluster = ClusterPlan::of(3).prepare();
        let (ca, key, list) = (cluster.path("cert.pem"), cluster.path("key.pem"), cluster.path("tokens"));
        let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        fs::write(&ca, signed.cert.pem()).unwrap();
        fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
        write_tokens(&list, &tokens());
        let path = |path: &Path| path.display().to_string();
        for number in 0..cluster.size() {
            cluster[number].add_flags(&["--admin-tls-cert", &path(&ca), "--admin-tls-key", &path(&key)]);
            cluster[number].add_flags(&["--admin-token-file", &path(&list)]);
        }
        cluster.start_all();
        Self { cluster, ca }
    }

    /// Exit status and JSON of the tool at one broker, with this token.
    fn tool(&self, number: usize, token: &str, arguments: &[&str]) -> (i32, Value) {
        let mut command = programs::command("quorate");
        command.args(["-o", "json", "--admin", &self.cluster[number].admin_address()]).arg("--admin-tls-ca");
        command.arg(&self.ca).args(arguments).env("QUORATE_ADMIN_TOKEN", token);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        (output.status.code().unwrap(), serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

#[test]
fn the_tool_speaks_tls_shows_its_token_and_keeps_both_on_the_way_to_the_leader() {
    let guarded = Guarded::start();
    let (status, answer) = guarded.tool(0, ANN, &["cluster", "wait-active"]);
    assert_eq!(status, 0, "{answer}");
    // Whoever does not lead `system` names who does.
    for number in 0..3 {
        let name = format!("v{number}");
        let (status, answer) = guarded.tool(number, ANN, &["vhost", "create", &name]);
        assert_eq!((status, &answer["created"]), (0, &true.into()), "{answer}");
    }
    let (status, answer) = guarded.tool(1, PROM, &["cluster", "wait-active"]);
    assert_eq!(status, 0, "{answer}");
    for (token, code) in [(PROM, "forbidden"), ("no-token-of-this-one", "unauthorized")] {
        let (status, answer) = guarded.tool(1, token, &["vhost", "create", "other"]);
        assert_eq!((status, &answer["code"]), (2, &code.into()), "{answer}");
    }
    // Whoever asked for it is in the log.
    let (status, answer) = guarded.tool(2, ANN, &["cluster", "shutdown", "--reason", "a test", "--yes"]);
    assert_eq!(status, 0, "{answer}");
    let asked =
        (0..3).filter(|&number| guarded.cluster[number].log_text().contains("asked for by ann from 127."));
    assert_eq!(asked.count(), 1);
}

#[test]
fn without_its_certificate_or_in_plain_text_nobody_is_asked() {
    let guarded = Guarded::start();
    let address = guarded.cluster[0].admin_address();
    let mut plain = programs::command("quorate");
    plain.args(["--admin", &address, "--timeout", "1s", "cluster", "status"]);
    let output = plain.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("this port speaks TLS") && told.contains("--admin-tls-ca"), "{told}");
    let other = guarded.cluster.path("other.pem");
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(&other, signed.cert.pem()).unwrap();
    let mut untrusted = programs::command("quorate");
    untrusted
        .args(["--admin", &address, "--timeout", "1s", "cluster", "status"])
        .arg("--admin-tls-ca")
        .arg(&other);
    let output = untrusted.env("QUORATE_ADMIN_TOKEN", ANN).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ertificate"), "{output:?}");
}

#[test]
fn off_loopback_the_port_needs_both() {
    let place = Place::new();
    let mut broker = Broker::single(&place.path(""), "b");
    broker.set_flag("--admin-listen", "0.0.0.0:0");
    let ended = broker.run_to_end();
    assert_eq!(ended.status, Some(2), "{ended:?}");
    assert!(
        ended.log.contains("--admin-tls-cert and --admin-tls-key and --admin-token-file"),
        "{}",
        ended.log
    );
}
