//! A connection to a cluster, as the application sees it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quorate_protocol::frame::{ClientFrame, ProducerId, ServerFrame};
use quorate_protocol::name::QueueName;
use tokio::sync::{mpsc, oneshot};

use crate::consume::Mailbox;
use crate::consumer::{ConsumeOptions, Consumer, Handle, StopOnDrop, TOLD_TOGETHER};
use crate::dialer::Dialer;
use crate::driver::{Command, Driver, Reply};
use crate::error::Error;
use crate::event::{Events, Subscribers};
use crate::handshake::Credentials;
use crate::limits;
use crate::options::Options;
use crate::publish::Window;
use crate::publisher::{Publisher, random_id};
use crate::session::{Session, Wanted};
use crate::signal::Signal;
use crate::tls::Connector;
use crate::transactor::Transactor;
use crate::transport::Transport;

/// A client of one virtual host: finds its leader, stays with it, follows it.
///
/// Cloning is cheap and shares the connection. The connection ends when [`close`](Self::close) is called, or when the
/// last client, publisher and consumer is dropped; either way what was published is first given
/// [some time](Options::close_timeout) to be confirmed.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

/// What everything that belongs to one client shares.
pub(crate) struct Shared {
    commands: mpsc::Sender<Command>,
    pub(crate) signal: Arc<Signal>,
    subscribers: Arc<Subscribers>,
    pub(crate) window: Window,
    losses: Arc<AtomicU64>,
}

impl Shared {
    /// Asks the connection's task, and waits for its answer.
    pub(crate) async fn ask(&self, command: impl FnOnce(Reply) -> Command) -> Result<ServerFrame, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| self.why_ended())?;
        answer.await.map_err(|_| self.why_ended())?
    }

    /// Connections that ended.
    pub(crate) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    fn why_ended(&self) -> Error {
        self.signal.ended().unwrap_or(Error::Closed)
    }
}

impl Client {
    /// Connects to the leader of a virtual host: `quorate://user:secret@h1:7420,h2:7420/vhost?key=value`; see
    /// [`Options::from_url`]. Needs a tokio runtime with time and I/O.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), quorate_client::Error> {
    /// let client = quorate_client::Client::connect("quorate://127.0.0.1:7420,127.0.0.1:7430").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The URL is not one, certificates cannot be read, the login is refused for good, or no leader is found in time
    /// (30 s, if the options do not say otherwise).
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::open(Options::from_url(url)?).await
    }

    /// Connects as [`Self::connect`], with options instead of a URL.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn open(options: Options) -> Result<Self, Error> {
        if options.addresses.is_empty() {
            return Err(Error::Invalid("no address to connect to".into()));
        }
        let credentials = Credentials::new(&options)?;
        let tls = options.tls.as_ref().map(Connector::new).transpose()?;
        let handshake_timeout = HANDSHAKE.max(options.connect_timeout).max(options.heartbeat * 2);
        let (commands, received) = mpsc::channel(limits::COMMANDS);
        let (first, connected) = oneshot::channel();
        let signal = Arc::new(Signal::default());
        let subscribers = Arc::new(Subscribers::default());
        let session = Session::new(options.request_timeout);
        let losses = session.losses_shared();
        let driver = Driver {
            transport: Transport {
                credentials,
                tls,
                connect_timeout: options.connect_timeout,
                handshake_timeout,
            },
            dialer: Dialer::new(&options.addresses),
            session,
            commands: received,
            signal: Arc::clone(&signal),
            subscribers: Arc::clone(&subscribers),
            first: Some((first, Instant::now() + options.wait)),
            closing: None,
            close_timeout: options.close_timeout,
        };
        let window = Window {
            messages: options.window_messages,
            bytes: options.window_bytes,
            batch_bytes: options.batch_bytes,
            linger: options.linger,
        };
        let client = Self { shared: Arc::new(Shared { commands, signal, subscribers, window, losses }) };
        tokio::spawn(driver.run());
        connected.await.unwrap_or(Err(Error::Closed))?;
        Ok(client)
    }

    /// What happens to the connection from now on.
    pub fn events(&self) -> Events {
        self.shared.subscribers.subscribe()
    }

    /// A new publisher, with a random id, a numbering and a window of its own.
    ///
    /// # Errors
    /// The system has no randomness. If the client has ended, publishing says so.
    pub fn publisher(&self) -> Result<Publisher, Error> {
        Publisher::new(Arc::clone(&self.shared))
    }

    /// A publisher by a name of the caller's, for what is published once and may be begun again: the same messages in the
    /// same order under the same `id` are recognised as sent before, as long as the virtual host remembers the publisher
    /// (65,536 others may have published since). What was refused is refused again; [`Error::UnknownOutcome`] says of a number
    /// that too much was refused since to know. Whoever uses an id for other messages loses them: they pass for the first
    /// ones.
    pub fn publisher_named(&self, id: u128) -> Publisher {
        Publisher::with_id(Arc::clone(&self.shared), ProducerId(id))
    }

    /// Begins transactions, under a random id.
    ///
    /// # Errors
    /// The system has no randomness. If the client has ended, committing says so.
    pub fn transactor(&self) -> Result<Transactor, Error> {
        Ok(Transactor::new(Arc::clone(&self.shared), random_id()?))
    }

    /// Begins transactions under an id of the caller's, for what is done once and may be begun again: the same transactions
    /// in the same order are recognised as committed before, as [messages](Self::publisher_named) are. What was refused or
    /// rolled back is so again, and whatever never left the process used no number up: the process has to do what it did
    /// before, after a refusal too. The id is nobody else's, no publisher's either. Not for transactions that settle
    /// deliveries: which ones come first is not the same again.
    pub fn transactor_named(&self, id: u128) -> Transactor {
        Transactor::new(Arc::clone(&self.shared), ProducerId(id))
    }

    /// Starts consuming a queue.
    ///
    /// # Errors
    /// The name is not one, there is no such queue, somebody consumes it exclusively, or it could not begin in time.
    pub async fn consume(&self, queue: &str, options: ConsumeOptions) -> Result<Consumer, Error> {
        let queue = QueueName::new(queue)?;
        let ConsumeOptions { credit, no_ack, exclusive, limit } = options;
        let mailbox = Arc::new(Mutex::new(Mailbox::new(credit, no_ack, limit, self.shared.window.linger)));
        let told_together = if limit.is_some() { 1 } else { TOLD_TOGETHER };
        let handle = Handle::new(Arc::clone(&mailbox), Arc::clone(&self.shared), no_ack);
        let guard = StopOnDrop(handle);
        let wanted = Wanted { queue, no_ack, exclusive };
        self.shared.ask(|reply| Command::Consume(wanted, mailbox, reply)).await?;
        Ok(Consumer::new(guard, told_together))
    }

    /// Ends the client: waits, but [not for ever](Options::close_timeout), until what was asked, published and settled has its outcome, then
    /// says goodbye to the broker. What has no outcome by then resolves as unknown.
    pub async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.shared.commands.send(Command::Close(reply)).await.is_ok() {
            // An error says that it has ended meanwhile.
            let _ = done.await;
        }
    }

    /// Why the client has ended, if it has: it was closed, or refused for good.
    pub fn ended(&self) -> Option<Error> {
        self.shared.signal.ended()
    }

    pub(crate) async fn request(&self, frame: impl Into<ClientFrame>) -> Result<ServerFrame, Error> {
        let frame = frame.into();
        self.shared.ask(|reply| Command::Request(frame, reply)).await
    }
}

/// The least time that TLS and login may take, once a connection stands.
const HANDSHAKE: Duration = Duration::from_secs(2);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("ended", &self.ended()).finish_non_exhaustive()
    }
}
