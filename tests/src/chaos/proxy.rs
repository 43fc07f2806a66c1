//! Between brokers: one listener for each broker, which the others know as its address.
//!
//! Who dials is told by the first frame (the peer link's Hello names the broker), so that each direction between two
//! brokers has its own rule although brokers tell each other one address only. A rule is of the bytes that one broker
//! sends to another: on the connection that it dialed, and in its answers on the connection that the other one dialed.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::limits::PEER_FRAME_LIMIT_BEFORE_AUTH;
use quorate_protocol::peer_frame::PEER_HEADER_LENGTH;
use quorate_protocol::peer_hello::PEER_MAGIC;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::links::{Links, Rule};

/// Read at once.
const CHUNK: usize = 64 << 10;
/// As long as a broker itself waits for a handshake.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// The listener in front of one broker. Ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Listens for connections to the broker of number `to`, which listens at `target`.
    ///
    /// # Panics
    /// There is no free port.
    pub async fn start(links: Arc<Links>, to: usize, target: String) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port on loopback");
        let address = listener.local_addr().expect("the address of a bound socket").to_string();
        let task = tokio::spawn(async move {
            loop {
                // Without descriptors, say: the dialer tries again.
                let Ok((dialer, _)) = listener.accept().await else { continue };
                let (links, target) = (Arc::clone(&links), target.clone());
                tokio::spawn(async move {
                    // What ends a connection here ends it for both.
                    let _ = carry(&links, dialer, to, &target).await;
                });
            }
        });
        Self { address, task }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// How a connection is to end.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// As it ended by itself.
    Close,
    /// With a reset.
    Reset,
}

async fn carry(links: &Links, mut dialer: TcpStream, to: usize, target: &str) -> io::Result<()> {
    dialer.set_nodelay(true)?;
    let first = timeout(HELLO_TIMEOUT, first_frame(&mut dialer)).await.map_err(io::Error::from)??;
    let from = dialer_of(&first).unwrap_or(to);
    if is_cut(links, from, to) {
        return reset(&dialer);
    }
    let Ok(mut acceptor) = TcpStream::connect(target).await else { return reset(&dialer) };
    acceptor.set_nodelay(true)?;
    links.connected();
    let (dialer_reads, dialer_writes) = dialer.split();
    let (acceptor_reads, acceptor_writes) = acceptor.split();
    let there = Direction::new(links, from, to);
    let back = Direction::new(links, to, from);
    let (mut cut_there, mut cut_back) = (links.watch(from, to), links.watch(to, from));
    let end = tokio::select! {
        end = async {
            let both = tokio::try_join!(
                there.pump(&first, dialer_reads, acceptor_writes),
                back.pump(&[], acceptor_reads, dialer_writes),
            );
            both.err().unwrap_or(End::Close)
        } => end,
        _ = cut_there.wait_for(|rule| *rule == Rule::Cut) => End::Reset,
        _ = cut_back.wait_for(|rule| *rule == Rule::Cut) => End::Reset,
    };
    if end == End::Reset {
        reset(&dialer)?;
        reset(&acceptor)?;
    }
    Ok(())
}

fn is_cut(links: &Links, from: usize, to: usize) -> bool {
    [(from, to), (to, from)].iter().any(|(from, to)| *links.watch(*from, *to).borrow() == Rule::Cut)
}

/// Has the kernel send a reset when the socket is dropped.
fn reset(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// The first frame, as it came.
async fn first_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; PEER_HEADER_LENGTH];
    stream.read_exact(&mut frame).await?;
    let length = payload_length(&frame).filter(|length| *length <= PEER_FRAME_LIMIT_BEFORE_AUTH);
    let length = length.ok_or_else(|| io::Error::other("no broker begins like this"))?;
    let mut payload = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    stream.read_exact(&mut payload).await?;
    frame.append(&mut payload);
    Ok(frame)
}

fn payload_length(header: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*header.first_chunk()?))
}

/// The number of the broker whose Hello this is: b1 is 0. As [the wire's page](../../../docs/internals/wire.md) says it.
fn dialer_of(frame: &[u8]) -> Option<usize> {
    fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
        let (length, rest) = bytes.split_first_chunk()?;
        rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
    }
    let hello = frame.get(PEER_HEADER_LENGTH..)?.strip_prefix(&PEER_MAGIC)?;
    // Two versions and whether there is a secret; the cluster's name; the ids of store and run; then the broker's name.
    let (_, rest) = text(hello.get(2 + 2 + 1..)?)?;
    let (name, _) = text(rest.get(16 + 16..)?)?;
    std::str::from_utf8(name).ok()?.strip_prefix('b')?.parse::<usize>().ok()?.checked_sub(1)
}

/// Bytes of one direction of one connection.
struct Direction<'a> {
    links: &'a Links,
    from: usize,
    to: usize,
    rule: watch::Receiver<Rule>,
    frames: Frames,
    /// Bytes have vanished.
    gap: bool,
}

impl<'a> Direction<'a> {
    fn new(links: &'a Links, from: usize, to: usize) -> Self {
        Self { links, from, to, rule: links.watch(from, to), frames: Frames::default(), gap: false }
    }

    async fn pump(
        mut self,
        first: &[u8],
        mut reader: impl AsyncRead + Unpin,
        mut writer: impl AsyncWrite + Unpin,
    ) -> Result<(), End> {
        self.pass(first, &mut writer).await?;
        let mut chunk = vec![0; CHUNK];
        loop {
            let rule = self.passable().await?;
            let length = tokio::select! {
                length = reader.read(&mut chunk) => length.map_err(|_| End::Reset)?,
                _ = self.rule.changed() => continue,
            };
            if length == 0 {
                // The other direction may have something to say still, such as why.
                let _ = writer.shutdown().await;
                return Ok(());
            }
            if let Rule::Delay(time) = rule {
                tokio::time::sleep(time).await;
            }
            self.pass(chunk.get(..length).unwrap_or_default(), &mut writer).await?;
        }
    }

    /// Waits until bytes are no longer held back.
    async fn passable(&mut self) -> Result<Rule, End> {
        loop {
            let rule = *self.rule.borrow_and_update();
            if self.gap && rule != Rule::Vanish {
                return Err(End::Reset);
            }
            if rule != Rule::Stall {
                return Ok(rule);
            }
            self.rule.changed().await.map_err(|_| End::Close)?;
        }
    }

    /// Writes bytes as far as the rule of this moment lets them through.
    async fn pass(&mut self, mut bytes: &[u8], writer: &mut (impl AsyncWrite + Unpin)) -> Result<(), End> {
        while !bytes.is_empty() {
            let rule = self.passable().await?;
            if rule == Rule::Vanish {
                self.gap = true;
                return Ok(());
            }
            let (piece, rest) = bytes.split_at(self.frames.piece(bytes));
            if let Rule::MiddleOfFrame(share) = rule
                && let Some(within) = self.frames.cut(piece, share)
            {
                let _ = writer.write_all(piece.get(..within).unwrap_or_default()).await;
                let _ = writer.flush().await;
                self.links.cut_in_the_middle(self.from, self.to);
                // No reset: that might overtake the part of the frame.
                return Err(End::Close);
            }
            writer.write_all(piece).await.map_err(|_| End::Reset)?;
            self.frames.passed(piece);
            bytes = rest;
        }
        Ok(())
    }
}

/// Where in a frame a stream is.
#[derive(Debug, Default)]
struct Frames {
    header: Vec<u8>,
    /// Bytes of the payload that have not passed yet.
    left: u64,
    /// Bytes of this frame that have passed.
    passed: u64,
    /// Once a frame is to be cut: after so many of its bytes.
    cut_at: Option<u64>,
}

impl Frames {
    /// How many of these bytes belong to the same frame's header, or to the same frame's payload.
    fn piece(&self, bytes: &[u8]) -> usize {
        let wanted = if self.left > 0 {
            usize::try_from(self.left).unwrap_or(usize::MAX)
        } else {
            PEER_HEADER_LENGTH - self.header.len()
        };
        bytes.len().min(wanted)
    }

    fn passed(&mut self, piece: &[u8]) {
        self.passed += piece.len() as u64;
        if self.left > 0 {
            self.left -= piece.len() as u64;
        } else {
            self.header.extend_from_slice(piece);
            if self.header.len() < PEER_HEADER_LENGTH {
                return;
            }
            self.left = payload_length(&self.header).map_or(0, u64::from);
        }
        if self.left == 0 {
            *self = Self::default();
        } else {
            self.header.clear();
        }
    }

    /// How many bytes of this piece pass before the cut, if it is in this piece. Never between two frames.
    fn cut(&mut self, piece: &[u8], share: u32) -> Option<usize> {
        let at = match self.cut_at {
            Some(at) => at,
            // In the middle of a frame already: it may end, and the next one is cut.
            None if self.passed > 0 => return None,
            None => {
                let payload = if piece.len() == PEER_HEADER_LENGTH { payload_length(piece)? } else { 0 };
                let at = 1 + u64::from(share) % (PEER_HEADER_LENGTH as u64 + u64::from(payload) - 1);
                self.cut_at = Some(at);
                at
            }
        };
        let within = at.checked_sub(self.passed)?;
        usize::try_from(within).ok().filter(|within| *within < piece.len())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    /// A Hello as broker b2 sends it, then a frame of 20 bytes.
    fn stream() -> (Vec<u8>, Vec<u8>) {
        let mut hello = PEER_MAGIC.to_vec();
        hello.extend_from_slice(&[1, 0, 1, 0, 0, 1, 0, b'q']);
        hello.extend_from_slice(&[7; 32]);
        hello.extend_from_slice(&[2, 0, b'b', b'2', 0, 0]);
        let mut first = vec![u8::try_from(hello.len()).unwrap(), 0, 0, 0, 1, 0, 0, 0];
        first.append(&mut hello);
        let mut second = vec![12, 0, 0, 0, 6, 0, 0, 0];
        second.extend_from_slice(b"hello, world");
        (first, second)
    }

    struct Bench {
        links: Arc<Links>,
        acceptor: TcpListener,
        proxy: Proxy,
    }

    impl Bench {
        async fn new() -> Self {
            let links = Arc::new(Links::new(3));
            let acceptor = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let target = acceptor.local_addr().unwrap().to_string();
            let proxy = Proxy::start(Arc::clone(&links), 0, target).await;
            Self { links, acceptor, proxy }
        }

        /// Broker b2's connection to b1, greeted: what b2 holds, what b1 holds.
        async fn linked(&self) -> (TcpStream, TcpStream) {
            let mut dialer = TcpStream::connect(self.proxy.address()).await.unwrap();
            dialer.write_all(&stream().0).await.unwrap();
            let mut acceptor = self.acceptor.accept().await.unwrap().0;
            let mut greeted = vec![0; stream().0.len()];
            acceptor.read_exact(&mut greeted).await.unwrap();
            assert_eq!(greeted, stream().0);
            (dialer, acceptor)
        }
    }

    async fn all(stream: &mut TcpStream) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let ended = stream.read_to_end(&mut bytes).await;
        (bytes, ended.is_ok())
    }

    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn each_direction_has_its_own_rule() {
        let bench = Bench::new().await;
        let (mut dialer, mut acceptor) = bench.linked().await;
        let mut byte = [0];
        for rule in [Rule::Stall, Rule::Delay(SHORT)] {
            bench.links.set(1, 0, rule);
            bench.links.set(2, 0, Rule::Cut);
            dialer.write_all(b"x").await.unwrap();
            acceptor.write_all(b"y").await.unwrap();
            dialer.read_exact(&mut byte).await.unwrap();
            if rule == Rule::Stall {
                assert!(timeout(SHORT, acceptor.read_exact(&mut byte)).await.is_err(), "{rule:?}");
                bench.links.heal();
            }
            acceptor.read_exact(&mut byte).await.unwrap();
        }
        bench.links.set(1, 0, Rule::Vanish);
        dialer.write_all(b"x").await.unwrap();
        acceptor.write_all(b"y").await.unwrap();
        dialer.read_exact(&mut byte).await.unwrap();
        assert!(timeout(SHORT, acceptor.read_exact(&mut byte)).await.is_err());
        bench.links.heal();
        assert_eq!(all(&mut acceptor).await, (Vec::new(), false), "what follows a gap is no stream");
        let (mut dialer, mut acceptor) = bench.linked().await;
        bench.links.set(0, 1, Rule::Cut);
        assert_eq!((all(&mut dialer).await.1, all(&mut acceptor).await.1), (false, false));
        let mut refused = TcpStream::connect(bench.proxy.address()).await.unwrap();
        refused.write_all(&stream().0).await.unwrap();
        assert_eq!(all(&mut refused).await, (Vec::new(), false));
    }

    #[tokio::test]
    async fn a_frame_is_cut_in_its_middle_wherever_that_is() {
        let (_, frame) = stream();
        for share in 0..u32::try_from(frame.len()).unwrap() + 3 {
            for begun in [0, 3, 8, 11] {
                let bench = Bench::new().await;
                let (mut dialer, acceptor) = bench.linked().await;
                dialer.write_all(&frame[..begun]).await.unwrap();
                let mut whole = vec![0; begun];
                let mut acceptor = acceptor;
                acceptor.read_exact(&mut whole).await.unwrap();
                bench.links.set(1, 0, Rule::MiddleOfFrame(share));
                dialer.write_all(&frame[begun..]).await.unwrap();
                dialer.write_all(&frame).await.unwrap();
                whole.extend(all(&mut acceptor).await.0);
                let mut sent = frame.clone();
                sent.extend_from_slice(&frame);
                assert!(sent.starts_with(&whole), "{share} {begun} {whole:?}");
                assert_ne!(whole.len() % frame.len(), 0, "{share} {begun} {whole:?}");
                assert_eq!(bench.links.middles(), 1);
                assert_eq!(*bench.links.watch(1, 0).borrow(), Rule::Cut);
            }
        }
    }

    #[test]
    fn a_cut_is_never_between_two_frames() {
        let (_, frame) = stream();
        for share in 0..100 {
            let mut frames = Frames::default();
            let header = frames.cut(&frame[..8], share);
            let at = header.unwrap_or_else(|| {
                frames.passed(&frame[..8]);
                8 + frames.cut(&frame[8..], share).expect("somewhere in the payload")
            });
            assert!((1..frame.len()).contains(&at), "{share}: {at}");
        }
        assert_eq!(Frames::default().cut(&[0, 0, 0, 0, 7, 0, 0, 0], 6), Some(7), "a heartbeat");
        assert_eq!(dialer_of(&stream().0), Some(1));
        assert_eq!(dialer_of(&stream().1), None);
    }
}
