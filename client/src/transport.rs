//! One attempt: from an address to a logged-in connection.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use quorate_protocol::codec::{ClientDecoder, Segments};
use quorate_protocol::frame::ClientFrame;
use quorate_protocol::limits::Limits;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::address::Address;
use crate::error::Error;
use crate::handshake::{Credentials, Established, Handshake, Refusal, Step};
use crate::tls::Connector;

/// How to make a connection.
#[derive(Clone)]
pub(crate) struct Transport {
    pub(crate) credentials: Credentials,
    pub(crate) tls: Option<Connector>,
    pub(crate) connect_timeout: Duration,
    /// For TLS and login together, once the connection stands.
    pub(crate) handshake_timeout: Duration,
}

/// Both directions of a connection.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A logged-in connection.
pub(crate) struct Connected {
    pub(crate) wire: Box<dyn Wire>,
    /// What is written has to be flushed.
    pub(crate) is_buffered: bool,
    pub(crate) decoder: ClientDecoder,
    /// What was read beyond the login.
    pub(crate) buffer: BytesMut,
    pub(crate) established: Established,
}

impl Transport {
    /// Connects and logs in. The address comes back with either result.
    pub(crate) async fn attempt(self, address: Address) -> (Address, Result<Connected, Refusal>) {
        let result = self.connect(&address).await;
        (address, result)
    }

    async fn connect(&self, address: &Address) -> Result<Connected, Refusal> {
        let stream = self.reach(address).await.map_err(|error| Error::lost(address, error.to_string()))?;
        // Frames are written whole: waiting for more would only delay them.
        stream.set_nodelay(true).map_err(|error| Error::lost(address, error.to_string()))?;
        timeout(self.handshake_timeout, self.log_in(address, stream)).await.unwrap_or_else(|_| {
            let text = format!("connected, but no login within {:?}", self.handshake_timeout);
            Err(Error::lost(address, text).into())
        })
    }

    async fn reach(&self, address: &Address) -> io::Result<TcpStream> {
        let resolve = lookup_host((address.host(), address.port()));
        let resolved = timeout(self.connect_timeout, resolve).await.map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, "the name could not be resolved in time")
        })??;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for socket in resolved {
            match timeout(self.connect_timeout, TcpStream::connect(socket)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => {
                    let text = format!("no answer within {:?}", self.connect_timeout);
                    last = io::Error::new(io::ErrorKind::TimedOut, text);
                }
            }
        }
        Err(last)
    }

    async fn log_in(&self, address: &Address, stream: TcpStream) -> Result<Connected, Refusal> {
        let mut wire: Box<dyn Wire> = match &self.tls {
            None => Box::new(stream),
            Some(connector) => {
                let name = connector.name_for(address.host())?;
                let stream = connector
                    .tls
                    .connect(name, stream)
                    .await
                    .map_err(|error| tls_or_lost(address, &error))?;
                Box::new(stream)
            }
        };
        let (mut handshake, hello) = Handshake::new(&self.credentials, address.clone());
        let mut decoder = ClientDecoder::new(Limits::default());
        let mut buffer = BytesMut::new();
        let lost = |error: io::Error| Refusal::from(Error::lost(address, error.to_string()));
        write_frame(&mut wire, &hello).await.map_err(lost)?;
        loop {
            let frame = decoder
                .decode(&mut buffer)
                .map_err(|error| Error::protocol(format!("{address}: {error}")))?;
            let Some((_, frame)) = frame else {
                if wire.read_buf(&mut buffer).await.map_err(lost)? == 0 {
                    return Err(Error::lost(address, "closed before the login").into());
                }
                continue;
            };
            match handshake.handle(frame)? {
                Step::Send(frame) => write_frame(&mut wire, &frame).await.map_err(lost)?,
                Step::Wait => {}
                Step::Done(established) => {
                    decoder.set_limits(established.limits);
                    decoder.logged_in();
                    let is_buffered = self.tls.is_some();
                    return Ok(Connected { wire, is_buffered, decoder, buffer, established });
                }
            }
        }
    }
}

async fn write_frame(wire: &mut Box<dyn Wire>, frame: &ClientFrame) -> io::Result<()> {
    let mut segments = Segments::new();
    segments.push(frame, 0);
    for piece in segments.take() {
        wire.write_all(&piece).await?;
    }
    wire.flush().await
}

fn tls_or_lost(address: &Address, error: &io::Error) -> Error {
    // rustls reports what it does not accept as invalid data; everything else is the network's.
    match error.kind() {
        io::ErrorKind::InvalidData => Error::Tls(format!("{address}: {error}").into()),
        _ => Error::lost(address, error.to_string()),
    }
}
