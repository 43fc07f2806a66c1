//! One client connection, from its first byte to its last.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use quorate_core::io::{Input, SessionId};
use quorate_protocol::codec::{BrokerDecoder, encoded_length};
use quorate_protocol::fault::FaultCode;
use quorate_protocol::frame::{Close, Heartbeat, ServerFrame};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, timeout, timeout_at};

use super::outlet::SessionShared;
use super::writing::write_frames;
use super::{CLOSE_TIMEOUT, LINGER, SessionOutlet, Shared};
use crate::inbox::{Arrival, Inbox};

/// Bytes read at once while little comes; an idle connection holds no more than this.
const READ_MIN: usize = 4 << 10;
/// Bytes read at once while much comes.
const READ_MAX: usize = 256 << 10;
/// A frame that has arrived only partly is accounted for in steps of this many bytes.
const PARTIAL_STEP: usize = 64 << 10;

/// The shortest silence that the core takes for the end of a client is longer than this.
const VOUCH_INTERVAL: Duration = Duration::from_millis(100);

/// Why reading ended.
enum ReadEnd {
    /// The client is gone.
    Gone(String),
    /// The client is to be told why before the connection closes.
    Tell(FaultCode, String),
}

/// Runs the connection to its end; returns why it ended, for the log.
pub(super) async fn run<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    shared: &Arc<Shared>,
    session: SessionId,
    address: SocketAddr,
    secure: bool,
    deadline: Instant,
    mut reader: R,
    mut writer: W,
) -> String {
    let inbox = &shared.clients.inbox;
    let counters = &shared.clients.counters;
    let (outlet, own, mut queue) = SessionOutlet::new(Arc::clone(&shared.bytes));
    inbox.arrive(Arrival::SessionOpened {
        session,
        address: address.to_string(),
        secure,
        outlet: outlet.clone(),
    });
    let end = {
        let writing = write_frames(session, &mut writer, &mut queue, inbox, counters);
        tokio::pin!(writing);
        let closing = tokio::select! {
            end = read_frames(shared, session, &own, deadline, &mut reader) => match end {
                ReadEnd::Gone(why) => Err(why),
                ReadEnd::Tell(code, text) => {
                    let why = format!("{}: {text}", code.name());
                    outlet.write(0, ServerFrame::from(Close { code: Some(code), text, leader_address: String::new() }));
                    outlet.close();
                    Ok(why)
                }
            },
            () = own.closing.notified() => Ok("closed by the broker".to_owned()),
            written = &mut writing => Err(written.err().map_or_else(|| "closed".to_owned(), |error| error.to_string())),
        };
        match closing {
            Err(why) => why,
            Ok(why) => match timeout(CLOSE_TIMEOUT, writing).await {
                Ok(Ok(())) => {
                    // Whatever comes is not looked at: closing with unread bytes would reset the connection and could
                    // take from the client what was just written.
                    let _ = timeout(LINGER, discard(&mut reader)).await;
                    why
                }
                Ok(Err(error)) => format!("{why} ({error})"),
                Err(_) => format!("{why} (without taking the rest)"),
            },
        }
    };
    inbox.input(Input::SessionClosed { session });
    end
}

async fn discard<R: AsyncRead + Unpin>(reader: &mut R) {
    let mut bytes = [0; 4096];
    while reader.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
}

/// Waits for the frame's share of memory. Meanwhile the client's own heartbeats wait behind it, unread: it is this broker
/// that is silent, so the core is told that the client is there.
async fn take_budget(session: SessionId, own: &SessionShared, inbox: &Inbox, bytes: usize) -> u32 {
    let taking = own.budget.take(bytes);
    tokio::pin!(taking);
    loop {
        match timeout(VOUCH_INTERVAL, &mut taking).await {
            Ok(cost) => return cost,
            Err(_) => {
                inbox.input(Input::SessionFrame { session, frame: Heartbeat {}.into(), channel: 0, cost: 0 });
            }
        }
    }
}

async fn read_frames<R: AsyncRead + Unpin>(
    shared: &Shared,
    session: SessionId,
    own: &SessionShared,
    deadline: Instant,
    reader: &mut R,
) -> ReadEnd {
    let inbox = &shared.clients.inbox;
    let counters = &shared.clients.counters;
    let mut decoder = BrokerDecoder::new(shared.clients.limits);
    let mut logged_in = false;
    let mut buffer = BytesMut::new();
    let mut read_size = READ_MIN;
    let mut partial = Vec::new();
    loop {
        if !logged_in && own.is_logged_in() {
            logged_in = true;
            decoder.logged_in();
        }
        match decoder.decode(&mut buffer) {
            Ok(Some((channel, frame))) => {
                partial.clear();
                let cost = take_budget(session, own, inbox, encoded_length(&frame)).await;
                inbox.input(Input::SessionFrame { session, frame, channel, cost });
                continue;
            }
            Ok(None) => {}
            Err(error) => return ReadEnd::Tell(error.fault(), error.to_string()),
        }
        while buffer.len() / PARTIAL_STEP > partial.len() {
            partial.extend(own.budget.hold(PARTIAL_STEP).await);
        }
        buffer.reserve(read_size);
        let read = reader.read_buf(&mut buffer);
        let read = if logged_in {
            read.await
        } else {
            match timeout_at(deadline, read).await {
                Ok(read) => read,
                // The login may have succeeded while nothing was read.
                Err(_) if own.is_logged_in() => continue,
                Err(_) => return ReadEnd::Tell(FaultCode::LoginTimeout, "no login within 10 s".to_owned()),
            }
        };
        match read {
            Ok(0) => return ReadEnd::Gone("closed by the client".to_owned()),
            Ok(count) => {
                counters.client_read_bytes.add(u64::try_from(count).unwrap_or(u64::MAX));
                read_size = if count >= read_size {
                    (read_size * 2).min(READ_MAX)
                } else {
                    (count * 2).clamp(READ_MIN, read_size)
                };
            }
            Err(error) => return ReadEnd::Gone(error.to_string()),
        }
    }
}
