//! Writes frames to a socket: all that wait, gathered, message bodies uncopied.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use quorate_core::io::{Input, SessionId};
use quorate_protocol::codec::Segments;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::outlet::Outgoing;
use crate::counters::Counters;
use crate::inbox::Inbox;

/// Frames taken from the queue at once.
const FRAMES_AT_ONCE: usize = 256;
/// Bytes gathered before they are written, so that the core hears early of what was written.
const BYTES_AT_ONCE: usize = 256 << 10;
/// The core hears of what was written in steps of at least this: little beside what it lets wait here.
pub(super) const DRAINED_STEP: u64 = 64 << 10;
/// The system takes up to 1,024; more than a few dozen bring nothing.
const SLICES_AT_ONCE: usize = 64;

/// Writes until the queue says close, or ends, or the socket fails.
pub(super) async fn write_frames<W: AsyncWrite + Unpin>(
    session: SessionId,
    writer: &mut W,
    queue: &mut mpsc::UnboundedReceiver<Outgoing>,
    inbox: &Inbox,
    counters: &Counters,
) -> io::Result<()> {
    let mut waiting = Vec::with_capacity(16);
    let mut segments = Segments::new();
    let mut drained = 0;
    loop {
        if queue.recv_many(&mut waiting, FRAMES_AT_ONCE).await == 0 {
            return writer.shutdown().await;
        }
        let mut closing = false;
        for outgoing in waiting.drain(..) {
            match outgoing {
                Outgoing::Frame(channel, frame) if !closing => segments.push(&frame, channel),
                Outgoing::Frame(..) => {}
                Outgoing::Close => closing = true,
            }
            if segments.length() >= BYTES_AT_ONCE {
                drained += write_out(writer, &mut segments, counters).await?;
            }
        }
        drained += write_out(writer, &mut segments, counters).await?;
        if drained >= DRAINED_STEP {
            inbox.input(Input::SessionDrained { session, bytes: std::mem::take(&mut drained) });
        }
        if closing {
            return writer.shutdown().await;
        }
    }
}

async fn write_out<W: AsyncWrite + Unpin>(
    writer: &mut W,
    segments: &mut Segments,
    counters: &Counters,
) -> io::Result<u64> {
    if segments.is_empty() {
        return Ok(0);
    }
    let bytes = u64::try_from(segments.length()).unwrap_or(u64::MAX);
    write_pieces(writer, segments.take().into()).await?;
    writer.flush().await?;
    counters.client_written_bytes.add(bytes);
    Ok(bytes)
}

/// Writes all pieces, as many as possible in each system call.
pub(crate) async fn write_pieces<W: AsyncWrite + Unpin>(
    writer: &mut W,
    mut pieces: VecDeque<Bytes>,
) -> io::Result<()> {
    while !pieces.is_empty() {
        let slices: Vec<IoSlice<'_>> =
            pieces.iter().take(SLICES_AT_ONCE).map(|piece| IoSlice::new(piece)).collect();
        let mut written = writer.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(first) = pieces.front_mut() {
            if written < first.len() {
                first.advance(written);
                break;
            }
            written -= first.len();
            pieces.pop_front();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[test]
    fn pieces_arrive_whole_through_a_narrow_pipe() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let pieces: VecDeque<Bytes> =
                (0..200_u8).map(|n| Bytes::from(vec![n; usize::from(n) * 3])).collect();
            let expected: Vec<u8> = pieces.iter().flatten().copied().collect();
            let (mut near, mut far) = tokio::io::duplex(61);
            let writing = tokio::spawn(async move {
                write_pieces(&mut near, pieces).await.unwrap();
            });
            let mut seen = Vec::new();
            far.read_to_end(&mut seen).await.unwrap();
            writing.await.unwrap();
            assert_eq!(seen, expected);
        });
    }
}
