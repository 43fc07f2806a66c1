//! A broker by hand: accepts connections, reads frames, says what it is told to say.

use bytes::BytesMut;
use quorate_client::{Address, FaultCode};
use quorate_protocol::codec::{BrokerDecoder, encode};
use quorate_protocol::frame::{
    ClientFrame, Close, Confirm, ConsumeOk, Deliver, Delivery, Durability, HelloOk, LoginOk, NumberRange,
    Refused, ServerFrame,
};
use quorate_protocol::limits::{FRAME_LIMIT_DEFAULT, Limits, MESSAGE_LIMIT_DEFAULT};
use quorate_protocol::name::{ExchangeName, RoutingKey};
use quorate_protocol::publish::PublishBody;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::soon;

/// A listener on a port of its own.
pub(crate) struct Broker {
    listener: TcpListener,
}

impl Broker {
    pub(crate) async fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub(crate) fn address(&self) -> Address {
        self.listener.local_addr().unwrap().to_string().parse().unwrap()
    }

    pub(crate) async fn accept_stream(&self) -> TcpStream {
        soon("a connection", self.listener.accept()).await.unwrap().0
    }

    /// The next connection, before its hello.
    pub(crate) async fn accept(&self) -> Peer {
        Peer::new(self.accept_stream().await)
    }

    /// The next connection, logged in.
    pub(crate) async fn serve(&self) -> Peer {
        let mut peer = self.accept().await;
        peer.log_in(0).await;
        peer
    }

    /// Refuses the next connection.
    pub(crate) async fn refuse(&self, code: FaultCode, leader: Option<Address>) {
        let mut peer = self.accept().await;
        peer.greet().await;
        peer.say(Refused {
            code,
            text: "not here".to_owned(),
            leader_address: leader.map(|leader| leader.to_string()).unwrap_or_default(),
            retry_after_ms: 0,
        })
        .await;
    }
}

pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// One client's connection.
pub(crate) struct Peer {
    wire: Box<dyn Wire>,
    decoder: BrokerDecoder,
    buffer: BytesMut,
}

impl Peer {
    pub(crate) fn new(wire: impl Wire + 'static) -> Self {
        Self { wire: Box::new(wire), decoder: BrokerDecoder::new(Limits::default()), buffer: BytesMut::new() }
    }

    /// Hello and the client's login, not yet answered.
    pub(crate) async fn greet(&mut self) -> ClientFrame {
        assert!(matches!(self.hears().await, ClientFrame::Hello(_)));
        self.say(HelloOk {
            version: 1,
            server_name: "b".to_owned(),
            cluster_name: "quorate".to_owned(),
            frame_limit: FRAME_LIMIT_DEFAULT,
            message_limit: MESSAGE_LIMIT_DEFAULT,
            heartbeat_ms: 0,
        })
        .await;
        self.hears().await
    }

    pub(crate) async fn log_in(&mut self, heartbeat_ms: u32) {
        let ClientFrame::Login(login) = self.greet().await else { panic!("a login comes second") };
        self.decoder.logged_in();
        self.say(LoginOk { session: 1, vhost: login.vhost, leader_name: "b".to_owned(), heartbeat_ms }).await;
    }

    /// The next frame that is no heartbeat.
    pub(crate) async fn hears(&mut self) -> ClientFrame {
        loop {
            match soon("a frame", self.next()).await {
                Some(ClientFrame::Heartbeat(_)) => {}
                Some(frame) => return frame,
                None => panic!("the client hung up"),
            }
        }
    }

    /// The next frame; none at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<ClientFrame> {
        loop {
            if let Some((_, frame)) = self.decoder.decode(&mut self.buffer).unwrap() {
                return Some(frame);
            }
            if self.wire.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Until the client hangs up.
    pub(crate) async fn end(mut self) -> Vec<ClientFrame> {
        let mut frames = Vec::new();
        while let Some(frame) = soon("the end of the connection", self.next()).await {
            frames.push(frame);
        }
        frames
    }

    pub(crate) async fn hears_publish(&mut self) -> PublishBody {
        match self.hears().await {
            ClientFrame::Publish(body) => body,
            other => panic!("expected a publish, got {other:?}"),
        }
    }

    /// Starts the consumer that the client asks for; gives its number and credit.
    pub(crate) async fn starts_consumer(&mut self) -> (u32, u32) {
        match self.hears().await {
            ClientFrame::Consume(consume) => {
                self.say(ConsumeOk { request: consume.request }).await;
                (consume.consumer, consume.credit)
            }
            other => panic!("expected a consume, got {other:?}"),
        }
    }

    pub(crate) async fn say(&mut self, frame: impl Into<ServerFrame>) {
        let mut bytes = BytesMut::new();
        encode(&frame.into(), 0, &mut bytes);
        self.say_bytes(&bytes).await;
    }

    pub(crate) async fn say_bytes(&mut self, bytes: &[u8]) {
        // A client that was told nonsense may be gone already.
        let _ = self.wire.write_all(bytes).await;
        let _ = self.wire.flush().await;
    }

    pub(crate) async fn close(mut self, leader: Option<&Address>) {
        let leader_address = leader.map(ToString::to_string).unwrap_or_default();
        self.say(Close { code: Some(FaultCode::NotLeader), text: String::new(), leader_address }).await;
    }
}

pub(crate) fn confirm(body: &PublishBody) -> Confirm {
    Confirm {
        producer: body.producer(),
        ranges: vec![body.numbers()],
        group: 1,
        epoch: 2,
        term: 3,
        index: 4,
        durability: Durability::default(),
        under_override: false,
        duplicate: false,
    }
}

pub(crate) fn deliver(consumer: u32, seqs: std::ops::RangeInclusive<u64>) -> Deliver {
    let messages = seqs
        .map(|seq| {
            let mut message = vec![0, 0];
            message.extend_from_slice(format!("body {seq}").as_bytes());
            Delivery { seq, redelivered: false, message: message.into() }
        })
        .collect();
    Deliver { consumer, exchange: ExchangeName::default(), key: RoutingKey::new("q").unwrap(), messages }
}

pub(crate) fn range(first: u64, last: u64) -> NumberRange {
    NumberRange::new(first, last).unwrap()
}
