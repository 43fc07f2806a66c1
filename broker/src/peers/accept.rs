//! The receiving half: peers dial us, prove themselves, and send.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_core::io::{Input, PeerIdentity, PeerKey};
use quorate_core::peer::PeerMessage;
use quorate_protocol::peer_frame::PeerFrame;
use quorate_protocol::peer_hello::PeerAcceptor;
use tokio::io::AsyncRead;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore};
use tokio::time::timeout;

use super::framing::{FrameReader, LinkError};
use super::{HANDSHAKE_TIMEOUT, INBOUND_BYTES, Peers, Shared, identity, lock, nonce};
use crate::inbox::Arrival;

/// When the system has no file descriptor left, trying at once again would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A peer's connection to us. There is one at a time: a new one takes the place of the old one, which may not have
/// noticed yet that it is dead.
pub(super) struct Inbound {
    number: u64,
    stop: Arc<Notify>,
    /// Held while messages are given to the core, so that those of two connections never mix.
    turn: Arc<AsyncMutex<()>>,
}

/// An authenticated connection.
struct Accepted {
    peer: PeerIdentity,
    reader: FrameReader<OwnedReadHalf>,
    /// Kept: dropping it would close this direction.
    _writer: OwnedWriteHalf,
}

impl Peers {
    /// Accepts connections of peers until the runtime ends.
    pub async fn serve(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    let Ok(place) = Arc::clone(&self.0.handshakes).try_acquire_owned() else {
                        self.0.complaints.warn("handshakes", || {
                            format!("cluster connection from {address} turned away: too many unfinished handshakes")
                        });
                        continue;
                    };
                    let shared = Arc::clone(&self.0);
                    tokio::spawn(async move {
                        let accepted = shared.accept(stream, address).await;
                        drop(place);
                        if let Some(accepted) = accepted {
                            shared.receive(accepted).await;
                        }
                    });
                }
                Err(error) => {
                    self.0
                        .complaints
                        .warn("accept", || format!("cannot accept a cluster connection: {error}"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Shared {
    /// The handshake.
    async fn accept(&self, stream: TcpStream, address: SocketAddr) -> Option<Accepted> {
        // The subject of a complaint is the host: its ports differ each time.
        let host = format!("from {}", address.ip());
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("cluster connection from {address}: {error}");
            return None;
        }
        let (reader, mut writer) = stream.into_split();
        let mut reader = FrameReader::new(reader);
        let mut acceptor = PeerAcceptor::new(self.config.clone(), nonce());
        let handshake = reader.handshake(&mut writer, None, |frame| acceptor.handle(frame));
        match timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(link)) => Some(Accepted { peer: identity(&link.peer), reader, _writer: writer }),
            Ok(Err(error)) => {
                match &error {
                    // Our own dialer found out; or somebody only looked whether the port is open.
                    LinkError::Refused(_) if error.is_self() => {}
                    LinkError::Connection(why) => tracing::debug!("cluster connection from {address}: {why}"),
                    LinkError::Refused(why) => {
                        self.complaints.warn(&host, || format!("no link from {address}: {why}"));
                    }
                }
                None
            }
            Err(_) => {
                self.complaints.warn(&host, || format!("no link from {address}: no handshake in time"));
                None
            }
        }
    }

    /// Gives the core what a peer sends until its connection ends.
    async fn receive(self: Arc<Self>, accepted: Accepted) {
        let Accepted { peer, mut reader, _writer } = accepted;
        // A peer that found us by two addresses proves itself twice and uses one: only the used one counts.
        let Ok(first) = reader.next_unless_silent(self.timing.read_timeout).await else { return };
        let key = peer.key;
        let (number, stop, turn) = self.take_place(key);
        let turn = turn.lock().await;
        if !self.is_linked(key) {
            self.dial(&peer.cluster_address);
        }
        let end = tokio::select! {
            end = self.deliver(key, first, &mut reader) => end,
            () = stop.notified() => LinkError::Connection("replaced by a newer connection".to_owned()),
        };
        drop(turn);
        tracing::debug!("the link from {} ended: {end}", peer.name);
        let mut inbound = lock(&self.inbound);
        if inbound.get(&key).is_some_and(|current| current.number == number) {
            inbound.remove(&key);
            // Still under the lock: a newer connection is announced after this.
            self.inbox.arrive(Arrival::InboundEnded { peer: key });
        }
    }

    /// Makes this connection the peer's one, and tells the one before to stop.
    fn take_place(&self, key: PeerKey) -> (u64, Arc<Notify>, Arc<AsyncMutex<()>>) {
        let number = self.next();
        let stop = Arc::new(Notify::new());
        let mut inbound = lock(&self.inbound);
        let turn = match inbound.remove(&key) {
            Some(before) => {
                before.stop.notify_one();
                before.turn
            }
            None => Arc::default(),
        };
        inbound.insert(key, Inbound { number, stop: Arc::clone(&stop), turn: Arc::clone(&turn) });
        (number, stop, turn)
    }

    async fn deliver<R: AsyncRead + Unpin>(
        &self,
        from: PeerKey,
        first: PeerFrame,
        reader: &mut FrameReader<R>,
    ) -> LinkError {
        let room = Arc::new(Semaphore::new(INBOUND_BYTES));
        let mut frame = first;
        loop {
            match frame {
                PeerFrame::Heartbeat => {}
                PeerFrame::Message(payload) => {
                    if let Err(error) = self.deliver_message(from, payload, &room).await {
                        return error;
                    }
                }
                other => return LinkError::Connection(format!("unexpected {}", other.kind_name())),
            }
            frame = match reader.next_unless_silent(self.timing.read_timeout).await {
                Ok(frame) => frame,
                Err(error) => return error,
            };
        }
    }

    async fn deliver_message(
        &self,
        from: PeerKey,
        payload: Bytes,
        room: &Arc<Semaphore>,
    ) -> Result<(), LinkError> {
        let bytes = payload.len();
        self.counters.peer_read_bytes.add(u64::try_from(bytes).unwrap_or(u64::MAX));
        let share = u32::try_from(bytes.min(INBOUND_BYTES)).unwrap_or(u32::MAX);
        let permit = Arc::clone(room).acquire_many_owned(share).await.ok();
        let message = PeerMessage::decode(payload).map_err(|error| {
            self.complaints
                .warn(&from.to_string(), || format!("a message of peer {from} cannot be read: {error}"));
            LinkError::Connection(error.to_string())
        })?;
        self.inbox.arrive(Arrival::Input(Input::PeerMessage { from, message }, permit));
        Ok(())
    }
}
