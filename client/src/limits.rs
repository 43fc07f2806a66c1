//! Every bound of the client, in one place.

use std::time::Duration;

/// The port of a broker's client listener when an address names none.
pub(crate) const DEFAULT_PORT: u16 = 7420;
/// Most addresses in one URL.
pub(crate) const ADDRESSES: usize = 64;
/// Longest URL that is parsed, in bytes.
pub(crate) const URL_BYTES: usize = 8 * 1024;
/// Most redirects followed between two back-offs, so that brokers that point at each other cannot keep a client
/// busy.
pub(crate) const REDIRECTS_PER_PASS: usize = 8;

/// Where a batch of published messages is closed and the next one begun, in bytes.
pub(crate) const BATCH_BYTES: usize = 128 * 1024;
/// Most messages in a batch.
pub(crate) const BATCH_MESSAGES: u32 = 16 * 1024;
/// Unanswered batches beyond which a small one waits for company: for a confirm, for [`LINGER`] or until it is full.
pub(crate) const EAGER_BATCHES: usize = 2;
/// The longest that a small batch waits for company.
pub(crate) const LINGER: Duration = Duration::from_millis(1);
/// Most messages of one publisher without an outcome, unless asked otherwise. A broker may refuse more.
pub(crate) const WINDOW_MESSAGES: usize = 32 * 1024;
/// Most bytes of one publisher's messages without an outcome, unless asked otherwise.
pub(crate) const WINDOW_BYTES: usize = 64 * 1024 * 1024;

/// Messages a consumer may hold unsettled, unless asked otherwise.
pub(crate) const CREDIT: u32 = 1000;
/// Most ranges of settled deliveries in one frame.
pub(crate) const RANGES_PER_SETTLE: usize = 2048;
/// Unanswered settle frames of one consumer beyond which further settlements wait for company.
pub(crate) const EAGER_SETTLES: usize = 2;

/// Requests waiting in the channel to the connection's task; callers wait beyond it.
pub(crate) const COMMANDS: usize = 1024;
/// Requests sent and not answered at one time; more wait in line.
pub(crate) const REQUESTS_IN_FLIGHT: usize = 256;
/// Connection events a subscriber may leave unread; then the oldest are dropped.
pub(crate) const EVENTS: usize = 256;

/// Bytes read from the socket at a time.
pub(crate) const READ_BYTES: usize = 128 * 1024;
/// Bytes waiting to be written beyond which no more batches are taken from the publishers.
pub(crate) const WRITE_BYTES: usize = 512 * 1024;
/// Pieces handed to one vectored write.
pub(crate) const WRITE_PIECES: usize = 64;

/// Longest wait between two passes over the addresses, whatever a broker asks for.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
/// Longest wait for the rest of a refused run of batches before it is sent again.
pub(crate) const REFUSAL_GATHER: Duration = Duration::from_secs(1);
/// First wait before a refused batch is sent again.
pub(crate) const REFUSAL_RETRY_MIN: Duration = Duration::from_millis(20);
/// Longest wait before a refused batch is sent again.
pub(crate) const REFUSAL_RETRY_MAX: Duration = Duration::from_secs(1);
/// Wait before a consumer refused for a passing reason asks again.
pub(crate) const CONSUME_RETRY: Duration = Duration::from_millis(100);

const _: () = assert!(WRITE_BYTES >= BATCH_BYTES, "a full batch fits the write queue");
const _: () = assert!(WINDOW_BYTES >= BATCH_BYTES, "a full batch fits the window");
const _: () = assert!(WINDOW_MESSAGES >= BATCH_MESSAGES as usize, "a full batch fits the window");
