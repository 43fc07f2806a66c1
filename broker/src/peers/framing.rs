//! Peer frames on a socket, and the handshake over them.

use std::time::Duration;

use bytes::BytesMut;
use quorate_protocol::fault::FaultCode;
use quorate_protocol::peer_frame::{PeerDecoder, PeerFrame};
use quorate_protocol::peer_hello::{HandshakeError, PeerLink, Progress, Reaction};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Bytes read at once at least.
const READ_SIZE: usize = 64 << 10;

/// Why a link did not come about or ended.
#[derive(Debug, Error)]
pub(super) enum LinkError {
    /// The connection closed or failed.
    #[error("{0}")]
    Connection(String),
    /// One of the two brokers does not want it.
    #[error("{0}")]
    Refused(HandshakeError),
}

impl LinkError {
    pub(super) fn is_self(&self) -> bool {
        matches!(self, Self::Refused(error) if error.code == FaultCode::PeerIsSelf)
    }
}

impl From<std::io::Error> for LinkError {
    fn from(error: std::io::Error) -> Self {
        Self::Connection(error.to_string())
    }
}

/// Reads frames off one half of a connection.
pub(super) struct FrameReader<R> {
    reader: R,
    decoder: PeerDecoder,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, decoder: PeerDecoder::default(), buffer: BytesMut::new() }
    }

    /// The next frame and how many bytes it took from the socket. Nothing is lost if this is given up while it waits.
    pub(super) async fn next(&mut self) -> Result<PeerFrame, LinkError> {
        self.next_unless_silent(Duration::MAX).await
    }

    /// The same; an error once nothing at all has come for so long. A large frame may take longer than that.
    pub(super) async fn next_unless_silent(&mut self, silence: Duration) -> Result<PeerFrame, LinkError> {
        loop {
            match self.decoder.decode(&mut self.buffer) {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(error) => return Err(LinkError::Connection(error.to_string())),
            }
            self.buffer.reserve(READ_SIZE);
            let read = timeout(silence, self.reader.read_buf(&mut self.buffer)).await;
            let silent = |_| LinkError::Connection(format!("silent for {silence:?}"));
            if read.map_err(silent)?? == 0 {
                return Err(LinkError::Connection("closed by the other broker".to_owned()));
            }
        }
    }

    /// Runs one side of the handshake to its end.
    pub(super) async fn handshake<W: AsyncWrite + Unpin>(
        &mut self,
        writer: &mut W,
        first: Option<PeerFrame>,
        mut handle: impl FnMut(PeerFrame) -> Reaction,
    ) -> Result<PeerLink, LinkError> {
        if let Some(frame) = first {
            write_frame(writer, &frame).await?;
        }
        loop {
            let reaction = handle(self.next().await?);
            if let Some(frame) = &reaction.send {
                write_frame(writer, frame).await?;
            }
            match reaction.progress {
                Progress::Pending => {}
                Progress::Linked(link) => {
                    self.decoder.authenticated();
                    return Ok(*link);
                }
                Progress::Failed(error) => {
                    // So that the other broker reads the reason before the end.
                    let _ = writer.shutdown().await;
                    return Err(LinkError::Refused(error));
                }
            }
        }
    }
}

pub(super) async fn write_frame<W: AsyncWrite + Unpin>(
    writer: &mut W,
    frame: &PeerFrame,
) -> Result<(), LinkError> {
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes);
    writer.write_all(&bytes).await?;
    Ok(())
}
