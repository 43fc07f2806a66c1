//! The whole client over real sockets, against a broker that does exactly what each test says.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod broker;
mod connecting;
mod consuming;
mod publishing;
mod secure;
mod trouble;

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use quorate_client::Options;

use broker::Broker;

/// Nothing in these tests takes this long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Options for these brokers, in this order, without heartbeats unless a test wants them.
fn options(brokers: &[&Broker]) -> Options {
    Options::new(brokers.iter().map(|broker| broker.address())).heartbeat(Duration::ZERO).wait(PATIENCE)
}

/// Fails instead of hanging.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(PATIENCE, future).await else { panic!("it takes too long: {what}") };
    value
}

/// Whether a future is not ready yet.
async fn waits<T>(mut future: impl Future<Output = T> + Unpin) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut future).poll(cx).is_pending())).await
}
