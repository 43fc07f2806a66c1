//! The sending half: dial, prove, send, and dial again.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_core::io::{Input, PeerIdentity, PeerKey};
use quorate_protocol::peer_frame::{PeerFrame, message_header};
use quorate_protocol::peer_hello::PeerDialer;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::framing::{FrameReader, LinkError, write_frame};
use super::outlet::{LinkShared, Queued};
use super::{HANDSHAKE_TIMEOUT, LinkOutlet, Shared, identity, nonce};
use crate::clients::write_pieces;
use crate::counters::Counters;
use crate::inbox::Arrival;

/// Between two attempts: from, doubling, to.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A name that leads to ourselves may lead elsewhere one day.
const SELF_PAUSE: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Messages written at once.
const MESSAGES_AT_ONCE: usize = 256;
/// Sent bytes that nobody acknowledges for this many read timeouts end the link, and never sooner than this.
const UNACKNOWLEDGED_TIMEOUTS: u32 = 2;
const UNACKNOWLEDGED_MIN: Duration = Duration::from_secs(5);

/// How one attempt ended.
enum Attempt {
    /// There was a link; it has ended.
    Ended,
    /// There was none; why, if one of the two brokers does not want it.
    Failed(Option<String>),
    /// We reached ourselves.
    Itself,
    /// We reached a peer that we have a link to by another address.
    Linked(PeerKey),
}

impl Shared {
    pub(super) async fn dial_for_ever(self: Arc<Self>, address: String) {
        let mut pause = PAUSE_MIN;
        // What the core was told last of failures since the last link.
        let mut told = None;
        loop {
            let attempt = self.attempt(&address).await;
            if !matches!(attempt, Attempt::Failed(_)) {
                told = None;
            }
            match attempt {
                Attempt::Ended => pause = PAUSE_MIN,
                Attempt::Failed(refused) => {
                    if told.as_ref() != Some(&refused) {
                        told = Some(refused.clone());
                        self.inbox.input(Input::PeerFailed { dialed: address.clone(), refused });
                    }
                }
                Attempt::Itself => {
                    self.inbox.input(Input::PeerIsSelf { dialed: address.clone() });
                    pause = SELF_PAUSE;
                }
                Attempt::Linked(peer) => {
                    while self.is_linked(peer) {
                        sleep(PAUSE_MAX).await;
                    }
                }
            }
            sleep(pause).await;
            pause = if pause >= SELF_PAUSE { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
        }
    }

    async fn attempt(self: &Arc<Self>, address: &str) -> Attempt {
        let stream = match connect(address).await {
            Ok(stream) => stream,
            Err(error) => {
                self.complaints.warn(address, || format!("cannot reach peer {address}: {error}; trying on"));
                return Attempt::Failed(None);
            }
        };
        if let Err(error) = self.prepare(&stream) {
            self.complaints.warn(address, || format!("cannot use the connection to peer {address}: {error}"));
            return Attempt::Failed(None);
        }
        let (reader, mut writer) = stream.into_split();
        let mut reader = FrameReader::new(reader);
        let (mut dialer, hello) = PeerDialer::new(self.config.clone(), &nonce());
        let handshake = reader.handshake(&mut writer, Some(hello), |frame| dialer.handle(frame));
        let link = match timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(link)) => link,
            Ok(Err(error)) if error.is_self() => return Attempt::Itself,
            Ok(Err(error)) => {
                self.complaints.warn(address, || format!("no link to peer {address}: {error}"));
                let refused = matches!(error, LinkError::Refused(_)).then(|| error.to_string());
                return Attempt::Failed(refused);
            }
            Err(_) => {
                self.complaints.warn(address, || format!("no link to peer {address}: no handshake in time"));
                return Attempt::Failed(None);
            }
        };
        self.send_on(address, identity(&link.peer), reader, writer).await
    }

    /// Sends on a link until it ends.
    async fn send_on<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &self,
        address: &str,
        peer: PeerIdentity,
        mut reader: FrameReader<R>,
        mut writer: W,
    ) -> Attempt {
        let key = peer.key;
        let name = peer.name.clone();
        let Some(link) = self.claim(key) else {
            // The acceptor counts this connection for nothing, since it carried nothing.
            self.inbox.input(Input::PeerLinked { peer, dialed: address.to_owned() });
            return Attempt::Linked(key);
        };
        let (outlet, shared, mut queue) = LinkOutlet::new();
        self.inbox.arrive(Arrival::Linked { link, peer, dialed: address.to_owned(), outlet });
        let end = tokio::select! {
            end = write_messages(&mut writer, &mut queue, &shared, &self.counters, self.timing.heartbeat) => end,
            frame = reader.next() => frame.and_then(|frame| {
                Err(LinkError::Connection(format!("unexpected {} from the other broker", frame.kind_name())))
            }),
            () = shared.stop.notified() => Err(LinkError::Connection("closed by this broker".to_owned())),
        };
        // First the news, then the place: whoever takes it next is announced after it.
        self.inbox.arrive(Arrival::LinkEnded { link, peer: key });
        self.unclaim(key);
        if let Err(error) = end {
            tracing::debug!("the link to {name} at {address} ended: {error}");
        }
        Attempt::Ended
    }

    /// A peer that stopped without a word must not be waited for as long as the system's defaults say.
    fn prepare(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let limit = (self.timing.read_timeout * UNACKNOWLEDGED_TIMEOUTS).max(UNACKNOWLEDGED_MIN);
        SockRef::from(stream).set_tcp_user_timeout(Some(limit))
    }
}

/// Resolves the name anew and tries what it gives, in order.
async fn connect(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for candidate in timeout(CONNECT_TIMEOUT, lookup_host(address)).await?? {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(candidate)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

async fn write_messages<W: AsyncWrite + Unpin>(
    writer: &mut W,
    queue: &mut mpsc::UnboundedReceiver<Queued>,
    shared: &LinkShared,
    counters: &Counters,
    heartbeat: Duration,
) -> Result<PeerFrame, LinkError> {
    // The first frame tells the acceptor that this link is in use.
    write_frame(writer, &PeerFrame::Heartbeat).await?;
    let mut idle = interval(heartbeat);
    idle.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting = Vec::new();
    loop {
        let count = tokio::select! {
            biased;
            count = queue.recv_many(&mut waiting, MESSAGES_AT_ONCE) => count,
            _ = idle.tick() => {
                write_frame(writer, &PeerFrame::Heartbeat).await?;
                continue;
            }
        };
        if count == 0 {
            return Err(LinkError::Connection("closed by this broker".to_owned()));
        }
        let mut pieces: VecDeque<Bytes> = VecDeque::with_capacity(count * 2);
        let mut written = 0;
        for Queued { message, bytes } in waiting.drain(..) {
            let payload = message.encode_pieces();
            pieces.push_back(message_header(payload.iter().map(Bytes::len).sum()));
            pieces.extend(payload);
            written += bytes;
        }
        let total: usize = pieces.iter().map(Bytes::len).sum();
        write_pieces(writer, pieces).await?;
        shared.written(written);
        counters.peer_written_bytes.add(u64::try_from(total).unwrap_or(u64::MAX));
        idle.reset();
    }
}
