//! What arrives at the admin port: a connection's bytes, answered by the broker's own router over a real core.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use quorate_broker::admin_desk::AdminDesk;
use quorate_broker::admin_http::{AdminState, serve};
use quorate_broker::event_log::EventLog;
use quorate_broker::inbox::{Arrival, Inbox};
use quorate_broker::pulse::Pulse;
use quorate_core::admin::{AdminReply, AdminRequest};
use quorate_core::io::Input;
use quorate_fuzz::allocator::Allowance;
use quorate_fuzz::broker::World;
use quorate_fuzz::{Reached, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// See the module.
pub const TARGET: Target = Target {
    name: "admin",
    run,
    seeds,
    length_max: 4096,
    words: &[
        b"GET ",
        b"POST ",
        b"HEAD ",
        b" HTTP/1.1\r\n",
        b" HTTP/1.0\r\n",
        b"Host: localhost\r\n",
        b"\r\n\r\n",
        b"Content-Type: application/json\r\n",
        b"Content-Length: ",
        b"Transfer-Encoding: chunked\r\n",
        b"/api/v1/status",
        b"/api/v1/explain",
        b"/api/v1/members",
        b"/api/v1/vhosts",
        b"/api/v1/losses",
        b"/api/v1/cluster/shutdown",
        b"/api/v1/groups/set",
        b"/api/v1/audit",
        b"/events",
        b"Last-Event-ID: ",
        b"Authorization: Bearer ",
        b"/health/ready",
        b"/metrics",
        b"?limit=",
        b"&code=",
        b"&after=",
        b"%00",
        b"{\"name\":\"",
        b"null",
        b"\"}",
    ],
    text: true,
    smoke: 3000,
};

/// The server's buffers for one connection, the answer (a status is some KiB), and the client's copy of it; what is sent
/// is at most some requests, each with an answer.
const SERVE: Allowance = Allowance { each: 1024, fixed: 4 << 20 };
/// An answer comes at once, or the connection is closed.
const PATIENCE: Duration = Duration::from_secs(5);

/// The admin port of a broker, and what its core was asked.
struct Port {
    runtime: Runtime,
    address: std::net::SocketAddr,
    asked: Receiver<AdminRequest>,
    pulse: Arc<Pulse>,
    _open: oneshot::Sender<()>,
}

thread_local! {
    static PORT: RefCell<Option<Port>> = const { RefCell::new(None) };
}

impl Port {
    fn open() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("its address");
        let (inbox, mut arrivals) = Inbox::new();
        let desk = AdminDesk::new(inbox);
        let (asked_sender, asked) = channel();
        let answers = desk.clone();
        std::thread::spawn(move || {
            let mut world = World::new(1, false);
            while let Some(arrival) = arrivals.blocking_recv() {
                let Arrival::Input(Input::Admin { id, request }, _) = arrival else { continue };
                let ends = matches!(request, AdminRequest::Shutdown { .. });
                // Whoever asks for the last time has gone.
                let _ = asked_sender.send(request.clone());
                let reply = world.ask(0, request);
                answers.answer(id, reply.unwrap_or_else(undecided));
                if ends || world.brokers[0].exit.is_some() {
                    world = World::new(1, false);
                }
            }
        });
        let pulse = Arc::<Pulse>::default();
        let events = Arc::new(EventLog::new("b1"));
        let state = AdminState::new(desk, Arc::default(), events, Arc::clone(&pulse));
        let (open, closing) = oneshot::channel();
        runtime.spawn(serve(listener, None, state, closing));
        Self { runtime, address, asked, pulse, _open: open }
    }
}

fn undecided() -> AdminReply {
    AdminReply::Failed {
        code: "UNDECIDED",
        message: "later".to_owned(),
        next: Vec::new(),
        leader_admin_address: None,
    }
}

/// How long the server may be silent before it is told that nothing more comes. (Told at once, it gives up what it is at.)
const SILENCE: Duration = Duration::from_millis(4);

/// Sends all of it, waits for answers, then says that nothing more comes, and takes what there is until the end.
async fn talk(address: std::net::SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("the port is open");
    let (mut reader, mut writer) = stream.split();
    let mut answer = Vec::new();
    let talking = async {
        // The server may have closed before it has all of it, here and below: then the rest is not part of the answer.
        let _ = writer.write_all(bytes).await;
        while let Ok(Ok(1..)) = tokio::time::timeout(SILENCE, reader.read_buf(&mut answer)).await {}
        let _ = writer.shutdown().await;
        loop {
            match tokio::time::timeout(SILENCE, reader.read_buf(&mut answer)).await {
                Ok(Ok(1..)) => {}
                Ok(_) => break,
                // A stream of events goes on until its listener goes.
                Err(_) if is_stream(&answer) => break,
                Err(_) => {}
            }
        }
    };
    assert!(tokio::time::timeout(PATIENCE, talking).await.is_ok(), "no end after {PATIENCE:?}");
    answer
}

fn is_stream(answer: &[u8]) -> bool {
    let kind = b"text/event-stream";
    answer.windows(kind.len()).any(|bytes| bytes == kind)
}

fn run(input: &[u8]) -> Reached {
    PORT.with_borrow_mut(|place| {
        let port = place.take().unwrap_or_else(Port::open);
        // The core has just run: it answers.
        port.pulse.beat();
        let answer =
            SERVE.check(input.len(), "the admin port", || port.runtime.block_on(talk(port.address, input)));
        let asked: Vec<AdminRequest> = port.asked.try_iter().collect();
        check(input, &answer, &asked);
        *place = Some(port);
        let good = answer.starts_with(b"HTTP/1.1 2") || answer.starts_with(b"HTTP/1.0 2");
        Reached::accepted_if(good || !asked.is_empty())
    })
}

/// No answer is a defect of the server, each error of the API has a code, and only POST changes anything.
fn check(input: &[u8], answer: &[u8], asked: &[AdminRequest]) {
    let text = String::from_utf8_lossy(answer);
    for head in text.split("HTTP/1.").skip(1) {
        let Some(status) = head.get(2..5).and_then(|digits| digits.parse::<u16>().ok()) else { continue };
        assert!(![500, 502, 504].contains(&status), "a defect: {text}");
    }
    if let Some((head, body)) = text.split_once("\r\n\r\n")
        && head.matches("HTTP/1.").count() == 1
        && head.starts_with("HTTP/1.1 4")
        && head.to_ascii_lowercase().contains("content-type: application/json")
        && !body.is_empty()
        && !body.contains("HTTP/1.")
    {
        let parsed: serde_json::Value = serde_json::from_str(body).expect("an error is JSON");
        assert!(parsed["code"].is_string() || parsed["error"].is_object(), "an error has a code: {body}");
    }
    if !input.windows(4).any(|four| four == b"POST") {
        let changes = asked.iter().find(|request| request.author().is_some());
        assert!(changes.is_none(), "changed without POST: {changes:?}");
    }
}

fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    if body.is_empty() {
        return format!("{head}\r\n").into_bytes();
    }
    format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = [
        "/health/startup",
        "/health/live",
        "/metrics",
        "/api/v1/status",
        "/api/v1/explain",
        "/api/v1/members",
        "/api/v1/vhosts",
        "/api/v1/openapi.json",
        "/api/v1/groups",
        "/api/v1/audit",
        "/api/v1/events?after=0&limit=2&code=HA-1001,verdict&vhost=/",
        "/events?after=0",
    ]
    .iter()
    .map(|path| request("GET", path, ""))
    .collect();
    for (path, body) in [
        ("/api/v1/vhosts", r#"{"name":"other"}"#),
        ("/api/v1/members/add", r#"{"name":"b2","address":"h2:7421"}"#),
        ("/api/v1/members/remove", r#"{"name":"b1"}"#),
        ("/api/v1/members/replace", r#"{"name":"b2"}"#),
        ("/api/v1/members/drain", r#"{"name":"b1"}"#),
        ("/api/v1/members/resume", r#"{"name":"b1"}"#),
        ("/api/v1/cluster/shutdown", r#"{"reason":"fuzz"}"#),
    ] {
        seeds.push(request("POST", path, body));
    }
    let chunked = "POST /api/v1/vhosts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
                   10\r\n{\"name\":\"other\"}\r\n0\r\n\r\n";
    seeds.push(chunked.as_bytes().to_vec());
    seeds
}
