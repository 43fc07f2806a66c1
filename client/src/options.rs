//! What a client is told before it connects.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::address::Address;
use crate::error::Error;
use crate::limits;
use crate::url;

/// How to reach a cluster and how to behave towards it.
///
/// Start from a URL or from a list of addresses, change what matters, and hand it to
/// [`Client::open`](crate::Client::open).
///
/// ```
/// use quorate_client::Options;
/// use std::time::Duration;
///
/// let options = Options::from_url("quorate://anna:secret@h1,h2:7420/orders?heartbeat=250ms")?
///     .name("billing")
///     .connect_timeout(Duration::from_millis(300));
/// # Ok::<(), quorate_client::Error>(())
/// ```
#[derive(Clone)]
pub struct Options {
    pub(crate) addresses: Vec<Address>,
    pub(crate) vhost: String,
    pub(crate) user: Option<String>,
    pub(crate) secret: Vec<u8>,
    pub(crate) name: String,
    pub(crate) tls: Option<Tls>,
    pub(crate) heartbeat: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) wait: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) window_messages: usize,
    pub(crate) window_bytes: usize,
    pub(crate) batch_bytes: usize,
    pub(crate) linger: Duration,
}

/// What TLS needs to know. The provider is `ring`; the server's certificate is always verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file of the authorities to trust; the system's bundle when there is none.
    pub ca: Option<PathBuf>,
    /// PEM file of the client's own certificate chain, and PEM file of its key, where the broker asks for them.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name to expect in the certificate, when it is not the host in the address.
    pub server_name: Option<String>,
}

impl Options {
    /// Options for brokers at these addresses, everything else as by default.
    ///
    /// The client finds the leader by itself; one address is enough, several survive the loss of one.
    pub fn new<I>(addresses: I) -> Self
    where
        I: IntoIterator<Item = Address>,
    {
        Self {
            addresses: addresses.into_iter().take(limits::ADDRESSES).collect(),
            vhost: "/".to_owned(),
            user: None,
            secret: Vec::new(),
            name: String::new(),
            tls: None,
            heartbeat: Duration::from_millis(500),
            connect_timeout: Duration::from_millis(500),
            wait: Duration::from_secs(30),
            request_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
            window_messages: limits::WINDOW_MESSAGES,
            window_bytes: limits::WINDOW_BYTES,
            batch_bytes: limits::BATCH_BYTES,
            linger: limits::LINGER,
        }
    }

    /// Options from a URL: `quorate://user:secret@h1:7420,h2:7420/vhost?key=value&…`, or just `h1:7420,h2:7420`.
    ///
    /// The scheme `quorates://` means TLS. User, secret, virtual host and values may be percent-encoded; no path, or an
    /// empty one, means the virtual host `/`. Keys: `name`, `heartbeat`, `connect_timeout`, `wait`, `request_timeout`, `close_timeout`,
    /// `window_messages`, `window_bytes`, `batch_bytes`, `linger`, and with TLS `ca`, `cert`, `key`, `server_name`. Times and sizes take
    /// units: `500ms`, `5s`, `64KiB`.
    ///
    /// # Errors
    /// The text is no such URL; an unknown key is an error too.
    pub fn from_url(text: &str) -> Result<Self, Error> {
        url::parse(text)
    }

    /// The virtual host to log in to; `/` by default.
    pub fn vhost(mut self, vhost: impl Into<String>) -> Self {
        self.vhost = vhost.into();
        self
    }

    /// User name and secret; without them the login is anonymous.
    pub fn credentials(mut self, user: impl Into<String>, secret: impl Into<Vec<u8>>) -> Self {
        self.user = Some(user.into());
        self.secret = secret.into();
        self
    }

    /// What the broker shows as this client's name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Speak TLS.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How often each side shows that it lives; a broker silent for two of these is taken for dead. 500 ms by default,
    /// zero turns it off. The broker may ask for a longer one.
    pub fn heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = heartbeat;
        self
    }

    /// How long a TCP connect to one address may take; 500 ms by default. Other addresses are tried meanwhile.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long the first connect looks for a leader before it gives up; 30 s by default. Once connected, the client
    /// looks for a leader for as long as it lives.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// How long a request (declare, bind, list, …) may take, reconnects included; 30 s by default.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long a closing client waits for what has no outcome yet; 5 s by default.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// The most messages and bytes of one publisher that have no outcome yet; `publish` waits beyond it.
    /// 32,768 and 64 MiB by default.
    pub fn window(mut self, messages: usize, bytes: usize) -> Self {
        self.window_messages = messages.max(1);
        self.window_bytes = bytes.max(1);
        self
    }

    /// Where a batch of published messages is closed, in bytes (128 KiB by default), and how long a small batch may
    /// wait for company while others are unanswered (1 ms by default).
    pub fn batch(mut self, bytes: usize, linger: Duration) -> Self {
        self.batch_bytes = bytes.clamp(1, limits::WRITE_BYTES);
        self.linger = linger;
        self
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("addresses", &self.addresses)
            .field("vhost", &self.vhost)
            .field("user", &self.user)
            .field("secret", &if self.secret.is_empty() { "none" } else { "(hidden)" })
            .field("name", &self.name)
            .field("tls", &self.tls)
            .field("heartbeat", &self.heartbeat)
            .field("connect_timeout", &self.connect_timeout)
            .field("wait", &self.wait)
            .field("request_timeout", &self.request_timeout)
            .field("close_timeout", &self.close_timeout)
            .field("window_messages", &self.window_messages)
            .field("window_bytes", &self.window_bytes)
            .field("batch_bytes", &self.batch_bytes)
            .field("linger", &self.linger)
            .finish()
    }
}
