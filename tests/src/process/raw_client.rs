//! A client that says whatever a test wants said.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quorate_protocol::codec::{ClientDecoder, encode};
use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::{
    ClientFrame, Close, Hello, HelloOk, Login, LoginOk, MECHANISM_ANONYMOUS, Refused, ServerFrame,
};
use quorate_protocol::limits::Limits;
use quorate_protocol::name::VhostName;
use quorate_protocol::version::{CLIENT_VERSIONS, VersionRange};

/// How long a broker may think before a test gives up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to a client port.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    decoder: ClientDecoder,
    buffer: BytesMut,
    /// What it says that it speaks.
    pub versions: VersionRange,
}

/// Why a broker ended the connection, if it said so.
pub type Farewell = Option<(FaultCode, String)>;

impl RawClient {
    /// Connects, says nothing.
    ///
    /// # Panics
    /// Nobody listens.
    pub fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).expect("a time limit for reading");
        stream.set_write_timeout(Some(ANSWER_TIMEOUT)).expect("a time limit for writing");
        stream.set_nodelay(true).expect("no delay");
        let decoder = ClientDecoder::new(Limits::default());
        Self { stream, decoder, buffer: BytesMut::new(), versions: CLIENT_VERSIONS }
    }

    /// Connects and logs in to the virtual host `/`, anonymously, without heartbeats of its own.
    ///
    /// # Panics
    /// The broker refuses.
    pub fn log_in(address: &str) -> Self {
        let mut client = Self::connect(address);
        let answer = client.try_log_in("/");
        answer.unwrap_or_else(|refused| panic!("{address} refused: {refused:?}"));
        client
    }

    /// Says hello and logs in; gives the refusal if the broker refuses.
    ///
    /// # Errors
    /// The broker's refusal.
    ///
    /// # Panics
    /// The broker says anything else.
    pub fn try_log_in(&mut self, vhost: &str) -> Result<LoginOk, Refused> {
        self.say_hello()?;
        self.send(&ClientFrame::from(Login {
            vhost: VhostName::new(vhost).expect("a name"),
            mechanism: MECHANISM_ANONYMOUS.to_owned(),
            user: String::new(),
            secret: Bytes::new(),
            heartbeat_ms: 0,
        }));
        match self.receive() {
            Some(ServerFrame::LoginOk(login)) => {
                self.decoder.logged_in();
                Ok(login)
            }
            Some(ServerFrame::Refused(refused)) => Err(refused),
            other => panic!("an answer to a login: {other:?}"),
        }
    }

    fn say_hello(&mut self) -> Result<HelloOk, Refused> {
        self.send(&ClientFrame::from(Hello { versions: self.versions, client_name: "test".to_owned() }));
        match self.receive() {
            Some(ServerFrame::HelloOk(hello)) => Ok(hello),
            Some(ServerFrame::Refused(refused)) => Err(refused),
            other => panic!("an answer to a hello: {other:?}"),
        }
    }

    /// Sends a frame on channel 0.
    pub fn send(&mut self, frame: &ClientFrame) {
        self.send_on(frame, 0);
    }

    /// Sends a frame.
    pub fn send_on(&mut self, frame: &ClientFrame, channel: u16) {
        let mut bytes = BytesMut::new();
        encode(frame, channel, &mut bytes);
        self.send_bytes(&bytes);
    }

    /// Sends bytes as they are; it is no failure if the broker has closed meanwhile.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next frame; none if the broker has closed.
    ///
    /// # Panics
    /// The broker says nothing for a long time, or something that is no frame.
    pub fn receive(&mut self) -> Option<ServerFrame> {
        loop {
            if let Some((_, frame)) =
                self.decoder.decode(&mut self.buffer).expect("a broker sends good frames")
            {
                return Some(frame);
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                    return None;
                }
                Err(error) => panic!("the broker neither answers nor closes: {error}"),
            }
        }
    }

    /// Reads until the broker closes; gives why, if it said so.
    ///
    /// # Panics
    /// It does not close.
    pub fn farewell(&mut self) -> Farewell {
        let mut said = None;
        while let Some(frame) = self.receive() {
            match frame {
                ServerFrame::Refused(Refused { code, text, .. }) => said = Some((code, text)),
                ServerFrame::Close(Close { code: Some(code), text, .. }) => said = Some((code, text)),
                _ => {}
            }
        }
        said
    }
}
