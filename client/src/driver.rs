//! The one task of a client: it finds the leader, carries bytes and time to the session, and starts anew when the
//! connection ends. It decides nothing.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, StreamExt};
use quorate_protocol::codec::ClientDecoder;
use quorate_protocol::frame::{ClientFrame, ServerFrame};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep_until, timeout};

use crate::address::Address;
use crate::consume::Mailbox;
use crate::dialer::{self, Dialer};
use crate::error::Error;
use crate::event::Subscribers;
use crate::handshake::Refusal;
use crate::limits;
use crate::session::{Commit, Ended, Notice, Output, Session, Wanted, lock_outbox};
use crate::signal::Signal;
use crate::transport::{Connected, Transport};

/// Where an answer goes.
pub(crate) type Reply = oneshot::Sender<Result<ServerFrame, Error>>;

/// What the application asks of the task.
pub(crate) enum Command {
    /// Ask the broker.
    Request(ClientFrame, Reply),
    /// Consume.
    Consume(Wanted, Arc<Mutex<Mailbox>>, Reply),
    /// Commit a transaction.
    Commit(Box<Commit>, Reply),
    /// Stop consuming.
    Cancel(u32, Reply),
    /// Finish what was begun, then end.
    Close(oneshot::Sender<()>),
}

/// Everything the task owns.
pub(crate) struct Driver {
    pub(crate) transport: Transport,
    pub(crate) dialer: Dialer,
    pub(crate) session: Session<Reply>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) signal: Arc<Signal>,
    pub(crate) subscribers: Arc<Subscribers>,
    /// Who waits for the first login, and until when.
    pub(crate) first: Option<(oneshot::Sender<Result<(), Error>>, Instant)>,
    pub(crate) closing: Option<Closing>,
    /// How long a closing client waits for what is still without an outcome.
    pub(crate) close_timeout: Duration,
}

/// The client is to end.
pub(crate) struct Closing {
    until: Instant,
    replies: Vec<oneshot::Sender<()>>,
}

impl Driver {
    /// Runs until the client is closed, dropped, or refused for good.
    pub(crate) async fn run(mut self) {
        let error = self.serve().await;
        self.finish(&error);
    }

    async fn serve(&mut self) -> Error {
        loop {
            let connected = match self.dial().await {
                Ok(connected) => connected,
                Err(error) => return error,
            };
            let address = connected.established.address.clone();
            let begun = Instant::now();
            match self.speak(connected).await {
                Ok(()) => return Error::Closed,
                Err(ended) if ended.error.is_final_refusal() => return ended.error,
                Err(ended) => {
                    let now = Instant::now();
                    self.dialer.lost(&address, now - begun, ended.leader.as_ref(), now, chance());
                    self.session.disconnected(ended.error, now);
                }
            }
        }
    }

    /// Looks for the leader until it is found.
    async fn dial(&mut self) -> Result<Connected, Error> {
        let mut attempts = FuturesUnordered::new();
        let mut failures: BTreeMap<Address, Error> = BTreeMap::new();
        loop {
            let now = Instant::now();
            self.take_notices(now);
            // Without a connection there is nothing that could end.
            let _ = self.session.tick(now);
            self.tell_outputs();
            if self.is_closed(now) {
                return Err(Error::Closed);
            }
            if let Some((_, until)) = &self.first
                && now >= *until
            {
                return Err(Error::Unreachable(summary(&failures).into()));
            }
            let wait = match self.dialer.next(now) {
                dialer::Step::Dial(address) => {
                    attempts.push(self.transport.clone().attempt(address));
                    continue;
                }
                dialer::Step::WaitUntil(at) => Some(at),
                dialer::Step::WaitForAttempt => None,
            };
            let deadlines = [wait, self.session.next_deadline(), self.own_deadline()];
            let deadline = deadlines.into_iter().flatten().min();
            tokio::select! {
                Some((address, result)) = attempts.next(), if !attempts.is_empty() => match result {
                    Ok(connected) => {
                        self.dialer.connected(&address);
                        return Ok(connected);
                    }
                    Err(refusal) => self.refused(&address, refusal, &mut failures)?,
                },
                command = self.commands.recv(), if self.accepts_commands() => self.command(command),
                () = self.signal.notified() => {}
                () = until(deadline) => {}
            }
        }
    }

    /// An attempt failed.
    fn refused(
        &mut self,
        address: &Address,
        refusal: Refusal,
        failures: &mut BTreeMap<Address, Error>,
    ) -> Result<(), Error> {
        let now = Instant::now();
        self.dialer.failed(address, now, refusal.retry_after, chance());
        if let Some(leader) = &refusal.leader
            && leader != address
        {
            self.dialer.redirect(leader, now);
        }
        if refusal.error.is_final_refusal() {
            return Err(refusal.error);
        }
        failures.insert(address.clone(), refusal.error.clone());
        let hopeless = self.first.is_some()
            && self
                .dialer
                .configured()
                .all(|address| failures.get(address).is_some_and(|it| !it.is_retryable()));
        if hopeless { Err(refusal.error) } else { Ok(()) }
    }

    /// Carries bytes and time until the connection ends; no error if the application closed the client.
    async fn speak(&mut self, connected: Connected) -> Result<(), Ended> {
        let Connected { wire, is_buffered, mut decoder, mut buffer, established } = connected;
        let address = established.address.clone();
        let (mut reader, mut writer) = tokio::io::split(wire);
        let mut queue = WriteQueue { flushes: is_buffered, ..WriteQueue::default() };
        let lost = |text: String| Ended::from(Error::lost(&address, text));
        let now = Instant::now();
        self.signal.set_limits(established.limits);
        self.session.connected(established, now);
        if let Some((reply, _)) = self.first.take() {
            // Whoever asked may be gone; then the commands' channel is closed as well.
            let _ = reply.send(Ok(()));
        }
        self.frames(&mut decoder, &mut buffer, now)?;
        let sleep = sleep_until(now.into());
        tokio::pin!(sleep);
        loop {
            let now = Instant::now();
            self.take_notices(now);
            self.session.tick(now)?;
            if queue.length < limits::WRITE_BYTES {
                self.session.gather(now);
                queue.extend(self.session.out().take());
            }
            self.tell_outputs();
            if self.is_closed(now) {
                self.session.say_goodbye();
                queue.extend(self.session.out().take());
                let goodbye = timeout(GOODBYE, queue.drain(&mut writer));
                // Polite, not necessary: the broker notices the end of the connection anyway.
                let _ = goodbye.await;
                return Ok(());
            }
            let deadline = [self.session.next_deadline(), self.own_deadline()].into_iter().flatten().min();
            if let Some(deadline) = deadline
                && sleep.deadline() != deadline.into()
            {
                sleep.as_mut().reset(deadline.into());
            }
            reserve(&mut buffer);
            tokio::select! {
                read = reader.read_buf(&mut buffer) => match read {
                    Ok(0) => return Err(lost("the broker closed the connection".to_owned())),
                    Ok(_) => {
                        let now = Instant::now();
                        self.session.received(now);
                        self.frames(&mut decoder, &mut buffer, now)?;
                    }
                    Err(error) => return Err(lost(error.to_string())),
                },
                written = queue.write_some(&mut writer), if !queue.is_done() => {
                    let count = written.map_err(|error| lost(error.to_string()))?;
                    queue.advance(count);
                }
                command = self.commands.recv(), if self.accepts_commands() => self.command(command),
                () = self.signal.notified() => {}
                () = sleep.as_mut(), if deadline.is_some() => {}
            }
        }
    }

    fn frames(
        &mut self,
        decoder: &mut ClientDecoder,
        buffer: &mut BytesMut,
        now: Instant,
    ) -> Result<(), Ended> {
        loop {
            let next = decoder.decode(buffer).map_err(|error| Error::protocol(error.to_string()))?;
            let Some((_, frame)) = next else { return Ok(()) };
            self.session.handle(frame, now)?;
        }
    }

    fn take_notices(&mut self, now: Instant) {
        for notice in self.signal.take() {
            self.session.notice(notice, now);
        }
    }

    fn tell_outputs(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                // Who asked may have stopped waiting.
                Output::Answer(reply, result) => drop(reply.send(result)),
                Output::Event(event) => self.subscribers.tell(&event),
            }
        }
    }

    fn accepts_commands(&self) -> bool {
        self.closing.is_none()
    }

    fn command(&mut self, command: Option<Command>) {
        let now = Instant::now();
        match command {
            Some(Command::Request(frame, reply)) => self.session.request(frame, reply, now),
            Some(Command::Consume(wanted, mailbox, reply)) => {
                self.session.consume(wanted, mailbox, reply, now);
            }
            Some(Command::Commit(commit, reply)) => self.session.commit(*commit, reply),
            Some(Command::Cancel(consumer, reply)) => self.session.cancel(consumer, Some(reply), now),
            Some(Command::Close(reply)) => self.close(Some(reply), now),
            // Client, publishers and consumers are all dropped.
            None => self.close(None, now),
        }
    }

    fn close(&mut self, reply: Option<oneshot::Sender<()>>, now: Instant) {
        let closing = self
            .closing
            .get_or_insert_with(|| Closing { until: now + self.close_timeout, replies: Vec::new() });
        closing.replies.extend(reply);
    }

    fn is_closed(&self, now: Instant) -> bool {
        self.closing.as_ref().is_some_and(|closing| now >= closing.until || self.session.is_idle())
    }

    fn own_deadline(&self) -> Option<Instant> {
        let first = self.first.as_ref().map(|(_, until)| *until);
        let closing = self.closing.as_ref().map(|closing| closing.until);
        first.into_iter().chain(closing).min()
    }

    /// Tells everybody that there will be no connection any more.
    fn finish(&mut self, error: &Error) {
        for notice in self.signal.end(error) {
            if let Notice::NewPublisher(outbox) = notice {
                lock_outbox(&outbox).end(error);
            }
        }
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Request(_, reply)
                | Command::Consume(_, _, reply)
                | Command::Commit(_, reply)
                | Command::Cancel(_, reply) => {
                    let _ = reply.send(Err(error.clone()));
                }
                Command::Close(reply) => self.close(Some(reply), Instant::now()),
            }
        }
        self.session.end(error);
        self.tell_outputs();
        self.subscribers.close();
        if let Some((first, _)) = self.first.take() {
            let _ = first.send(Err(error.clone()));
        }
        for reply in self.closing.take().into_iter().flat_map(|closing| closing.replies) {
            let _ = reply.send(());
        }
    }
}

/// How long a closing client tries to say goodbye.
const GOODBYE: Duration = Duration::from_millis(500);

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// A random number, or a constant one on a machine that has none: it only spreads retries.
fn chance() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

fn summary(failures: &BTreeMap<Address, Error>) -> String {
    if failures.is_empty() {
        return "no address answered in time".to_owned();
    }
    failures.values().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Makes room for a good read. Grows with what arrives, never by what a frame announces.
fn reserve(buffer: &mut BytesMut) {
    if buffer.capacity() - buffer.len() < limits::READ_BYTES / 4 {
        buffer.reserve(limits::READ_BYTES);
    }
}

/// Pieces on their way to the socket.
#[derive(Default)]
struct WriteQueue {
    pieces: VecDeque<Bytes>,
    length: usize,
    /// The writer has a buffer of its own (TLS), which is flushed once everything is written.
    flushes: bool,
    unflushed: bool,
}

impl WriteQueue {
    fn extend(&mut self, pieces: Vec<Bytes>) {
        self.length += pieces.iter().map(Bytes::len).sum::<usize>();
        self.pieces.extend(pieces);
    }

    fn is_done(&self) -> bool {
        self.pieces.is_empty() && !self.unflushed
    }

    /// Writes a part of it, or flushes. Says how much was written, for [`Self::advance`]; may be dropped half-way.
    async fn write_some(&self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<usize> {
        if self.pieces.is_empty() {
            writer.flush().await?;
            return Ok(0);
        }
        let mut slices = [IoSlice::new(&[]); limits::WRITE_PIECES];
        let count = self.pieces.len().min(slices.len());
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
        }
        match writer.write_vectored(&slices[..count]).await? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            written => Ok(written),
        }
    }

    fn advance(&mut self, mut count: usize) {
        self.unflushed = self.flushes && count > 0;
        self.length -= count;
        while let Some(piece) = self.pieces.front_mut() {
            if count < piece.len() {
                piece.advance(count);
                return;
            }
            count -= piece.len();
            self.pieces.pop_front();
        }
    }

    async fn drain(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        while !self.is_done() {
            let count = self.write_some(writer).await?;
            self.advance(count);
        }
        writer.shutdown().await
    }
}
