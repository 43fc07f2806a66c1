//! Client connections: accept, read frames, write frames. What frames mean is the core's business.
//!
//! ```text
//!   socket -> reading (decode, budget) -> inbox -> core -> outlet -> writing (gather, write) -> socket
//! ```

mod budget;
mod connection;
mod outlet;
mod writing;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quorate_core::io::SessionId;
use quorate_protocol::codec;
use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::{Refused, ServerFrame};
use quorate_protocol::limits::Limits;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use budget::{GLOBAL_BYTES, SESSION_BYTES};
pub use outlet::SessionOutlet;
pub(crate) use writing::write_pieces;

use crate::counters::Counters;
use crate::inbox::Inbox;
use crate::rarely::Rarely;
use crate::tls::Tls;

/// Open client connections, logged in or not.
const CONNECTIONS_MAX: usize = 4096;
/// From the accepted connection to the login.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to write what is left when it closes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a closed connection is still read, so that the client sees the reason instead of a reset.
const LINGER: Duration = Duration::from_secs(1);
/// When the system has no file descriptor left, trying at once again would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Everything that connections share.
pub struct Clients {
    /// To the core.
    pub inbox: Inbox,
    /// The process's numbers.
    pub counters: Arc<Counters>,
    /// Announced in HelloOk by the core; enforced here.
    pub limits: Limits,
    /// None: plain TCP.
    pub tls: Option<Tls>,
    /// Logins without credentials are acceptable from everywhere.
    pub insecure: bool,
    /// Who is here.
    pub places: Places,
}

/// How many connections there may be, and whether there is any. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(CONNECTIONS_MAX)))
    }
}

impl Places {
    fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }

    /// Waits until all connections have ended.
    pub async fn all_free(&self) {
        let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
        let _all = self.0.acquire_many(all).await;
    }
}

/// What every connection task holds on to.
struct Shared {
    clients: Clients,
    /// Bytes of all sessions' frames that the core still holds.
    bytes: Arc<Semaphore>,
}

impl Clients {
    /// Accepts connections until the runtime ends.
    pub async fn serve(self, listener: TcpListener) {
        let places = self.places.clone();
        let shared = Arc::new(Shared { clients: self, bytes: Arc::new(Semaphore::new(GLOBAL_BYTES)) });
        let complaints = Rarely::default();
        let mut last = 0;
        loop {
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    complaints.warn("accept", || format!("cannot accept a client: {error}"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let counters = &shared.clients.counters;
            let Some(place) = places.take() else {
                counters.sessions_rejected.add(1);
                complaints.warn("full", || {
                    format!("client {address} turned away: {CONNECTIONS_MAX} connections are open, which is the limit")
                });
                turn_away(&stream, shared.clients.tls.is_some());
                continue;
            };
            counters.sessions_accepted.add(1);
            last += 1;
            let shared = Arc::clone(&shared);
            tokio::spawn(shared.handle(stream, address, SessionId(last), place));
        }
    }
}

/// Says why, if that costs nothing.
fn turn_away(stream: &TcpStream, tls: bool) {
    if tls {
        return;
    }
    let refused = Refused {
        code: FaultCode::TooManySessions,
        text: format!(
            "the broker has {CONNECTIONS_MAX} connections, which is its limit; close some, or use another broker"
        ),
        leader_address: String::new(),
        retry_after_ms: 1000,
    };
    let mut bytes = bytes::BytesMut::new();
    codec::encode(&ServerFrame::from(refused), 0, &mut bytes);
    // A fresh socket takes this at once, which the runtime does not know of it yet; if not, the client sees a closed
    // connection.
    let _ = socket2::SockRef::from(stream).send(&bytes);
}

impl Shared {
    async fn handle(
        self: Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        session: SessionId,
        _place: OwnedSemaphorePermit,
    ) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("client {address}: {error}");
            return;
        }
        let counters = Arc::clone(&self.clients.counters);
        counters.sessions.add(1);
        let deadline = tokio::time::Instant::now() + LOGIN_TIMEOUT;
        let secure =
            address.ip().to_canonical().is_loopback() || self.clients.tls.is_some() || self.clients.insecure;
        let end = match &self.clients.tls {
            None => {
                let (reader, writer) = stream.into_split();
                connection::run(&self, session, address, secure, deadline, reader, writer).await
            }
            Some(tls) => match tokio::time::timeout_at(deadline, tls.acceptor().accept(stream)).await {
                Ok(Ok(stream)) => {
                    let (reader, writer) = tokio::io::split(stream);
                    connection::run(&self, session, address, secure, deadline, reader, writer).await
                }
                Ok(Err(error)) => format!("TLS: {error}"),
                Err(_) => "TLS: no handshake in time".to_owned(),
            },
        };
        counters.sessions.subtract(1);
        tracing::debug!(session = session.0, "client {address} disconnected: {end}");
    }
}

#[cfg(test)]
mod tests;
