//! The admin listener: a bounded number of connections, each of which has a bounded time for everything.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tower_service::Service;

use super::patient::Patient;
use super::{AdminState, router};
use crate::rarely::Rarely;
use crate::tls::Tls;

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Open connections.
    pub(super) connections: u16,
    /// Until a request's head is whole, from the connection's or the last answer's end on.
    pub(super) head: Duration,
    /// How long an answer may wait for whoever asked to take the next piece of it.
    pub(super) write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 256, head: Duration::from_secs(10), write: Duration::from_secs(30) }
    }
}

/// A request's head, and what is read ahead.
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
/// When the system has no file descriptor left, trying at once again would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the other end of `closing` is dropped; what was answered by then is written first.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    state: AdminState,
    closing: oneshot::Receiver<()>,
) {
    serve_within(Limits::default(), listener, tls, state, closing).await;
}

pub(super) async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    tls: Option<Tls>,
    state: AdminState,
    closing: oneshot::Receiver<()>,
) {
    let events = Arc::clone(&state.events);
    let router = router(state);
    let places = Arc::new(Semaphore::new(limits.connections.into()));
    let complaints = Rarely::default();
    let (end, ending) = watch::channel(());
    let mut closing = pin!(closing);
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut closing => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                complaints.warn("accept", || format!("cannot accept an operator: {error}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            complaints.warn("full", || {
                format!(
                    "operator {address} turned away: {} connections are open, which is the limit",
                    limits.connections
                )
            });
            if tls.is_none() {
                turn_away(&stream);
            }
            continue;
        };
        let (tls, router, ending) = (tls.clone(), router.clone(), ending.clone());
        tokio::spawn(async move {
            let end = handle(limits, stream, tls, address, router, ending).await;
            tracing::debug!("operator {address} disconnected: {end}");
            drop(place);
        });
    }
    drop(end);
    events.end();
    let _all = places.acquire_many(limits.connections.into()).await;
}

/// Says why, if that costs nothing.
fn turn_away(stream: &TcpStream) {
    let body =
        r#"{"code":"busy","message":"too many connections are open","next":["ask again in a second"]}"#;
    answer_at_once(stream, "503 Service Unavailable", body);
}

/// To whom speaks plain HTTP to a port with TLS, so that the mistake has a name.
fn ask_for_tls(stream: &TcpStream) {
    let body = r#"{"code":"tls-needed","message":"this port speaks TLS","next":["ask by https://","quorate --admin-tls-ca FILE …"]}"#;
    answer_at_once(stream, "400 Bad Request", body);
}

/// Whether what comes first begins a request of plain HTTP: its method. A handshake of TLS begins with 22.
async fn speaks_plain_http(stream: &TcpStream) -> bool {
    let mut first = [0];
    matches!(stream.peek(&mut first).await, Ok(1) if first[0].is_ascii_uppercase())
}

/// A whole answer, without a connection of HTTP.
fn answer_at_once(stream: &TcpStream, status: &str, body: &str) {
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close");
    let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    // Of a fresh socket the runtime does not know yet that it takes something, and would not try.
    let _ = SockRef::from(stream).send(answer.as_bytes());
}

async fn handle(
    limits: Limits,
    stream: TcpStream,
    tls: Option<Tls>,
    address: SocketAddr,
    router: Router,
    ending: watch::Receiver<()>,
) -> String {
    if let Err(error) = stream.set_nodelay(true) {
        return error.to_string();
    }
    let Some(tls) = tls else { return said(talk(limits, stream, address, router, ending).await) };
    let shaken = tokio::time::timeout(limits.head, async {
        if speaks_plain_http(&stream).await {
            ask_for_tls(&stream);
            // Closed with something unread, it would be reset, and the answer might never be seen.
            let (rest, mut end) = stream.into_split();
            let _ = end.shutdown().await;
            let _ = tokio::io::copy(&mut rest.take(HEAD_BYTES_MAX as u64), &mut tokio::io::sink()).await;
            return Err("plain HTTP, and this port speaks TLS".to_owned());
        }
        tls.acceptor().accept(stream).await.map_err(|error| format!("TLS: {error}"))
    });
    match shaken.await {
        Ok(Ok(stream)) => said(talk(limits, stream, address, router, ending).await),
        Ok(Err(error)) => error,
        Err(_) => "TLS: no handshake in time".to_owned(),
    }
}

fn said(end: Result<(), hyper::Error>) -> String {
    end.map_or_else(|error| error.to_string(), |()| "done".to_owned())
}

/// Answers one request after the other.
async fn talk<S>(
    limits: Limits,
    stream: S,
    address: SocketAddr,
    router: Router,
    mut ending: watch::Receiver<()>,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(address));
        // A router is always ready.
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(Patient::new(stream, limits.write)), service);
    let mut connection = pin!(connection);
    tokio::select! {
        done = connection.as_mut() => return done,
        _ = ending.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}
