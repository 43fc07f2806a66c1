//! Numbered messages, in and out.

use std::time::Duration;

use quorate_client::{Client, Confirm, ConsumeOptions, Error, Options, Publisher, QueueOptions};

use super::patience::PATIENCE;

/// How long a client that is closed waits for what has no outcome.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A client of the brokers of this URL.
///
/// # Panics
/// It finds no leader.
pub async fn connect(url: &str) -> Client {
    let options = Options::from_url(url)
        .expect("a URL")
        .wait(PATIENCE)
        .request_timeout(PATIENCE)
        .close_timeout(CLOSE_TIMEOUT);
    Client::open(options).await.unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// A client, and a queue that exists.
///
/// # Panics
/// It cannot be declared.
pub async fn connect_with_queue(url: &str, queue: &str) -> Client {
    let client = connect(url).await;
    client.declare_queue(queue, QueueOptions::default()).await.expect("the queue can be declared");
    client
}

/// Publishes messages with the numbers of a range as bodies, filled up to so many bytes; gives their confirms.
///
/// # Panics
/// The client has ended.
pub async fn publish(
    publisher: &Publisher,
    queue: &str,
    numbers: std::ops::Range<u64>,
    bytes: usize,
) -> Vec<Confirm> {
    let mut confirms = Vec::new();
    for number in numbers {
        let confirm = publisher.publish("", queue, body(number, bytes)).await.expect("the client lives");
        confirms.push(confirm);
    }
    confirms
}

/// Waits until all are confirmed.
///
/// # Panics
/// One is not.
pub async fn confirmed(confirms: Vec<Confirm>) {
    for confirm in confirms {
        let number = confirm.number();
        let outcome = tokio::time::timeout(PATIENCE, confirm).await;
        outcome.expect("a confirm in time").unwrap_or_else(|error| panic!("message {number}: {error}"));
    }
}

/// A client, the publisher that published messages with the numbers of a range to a queue, all of them confirmed.
///
/// # Panics
/// It finds no leader, or one is not confirmed.
pub async fn connect_and_publish(
    url: &str,
    queue: &str,
    numbers: std::ops::Range<u64>,
    bytes: usize,
) -> (Client, Publisher) {
    let client = connect_with_queue(url, queue).await;
    let publisher = client.publisher().expect("the client lives");
    confirmed(publish(&publisher, queue, numbers, bytes).await).await;
    (client, publisher)
}

/// A body that begins with a number.
pub fn body(number: u64, bytes: usize) -> Vec<u8> {
    let mut body = number.to_string().into_bytes();
    body.push(b' ');
    body.resize(body.len().max(bytes), b'.');
    body
}

/// The number that a body begins with.
///
/// # Panics
/// It does not.
pub fn number(body: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(body);
    text.split(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no number in {text:?}"))
}

/// How long a queue must be silent before it is asked whether it is empty.
const SILENCE: Duration = Duration::from_millis(200);

/// All that a queue holds, by a client of its own, as [`drain`] gives it; in the order of the numbers.
///
/// # Panics
/// The cluster cannot be reached, or the queue not be read.
pub async fn drained(url: &str, queue: &str) -> Vec<u64> {
    let client = connect(url).await;
    let mut numbers = drain(&client, queue).await.expect("the queue can be read");
    client.close().await;
    numbers.sort_unstable();
    numbers
}

/// Takes and acknowledges messages until the queue holds none any more; gives their numbers, in the order of arrival. What
/// comes again, marked as redelivered, because a connection ended before its acknowledgement was answered, counts once.
///
/// # Errors
/// The consumer has ended.
///
/// # Panics
/// It takes too long.
pub async fn drain(client: &Client, queue: &str) -> Result<Vec<u64>, Error> {
    let mut numbers = Vec::new();
    let mut acks = Vec::new();
    let mut consumer = client.consume(queue, ConsumeOptions::default()).await?;
    loop {
        match tokio::time::timeout(SILENCE, consumer.next()).await {
            Ok(Some(delivery)) => {
                let delivery = delivery?;
                let number = number(delivery.body());
                if !(delivery.is_redelivered() && numbers.contains(&number)) {
                    numbers.push(number);
                }
                acks.push(delivery.ack());
            }
            Ok(None) => return Ok(numbers),
            Err(_) => {
                for ack in acks.drain(..) {
                    match tokio::time::timeout(PATIENCE, ack).await.expect("an ack is answered in time") {
                        Ok(()) | Err(Error::UnknownOutcome(_) | Error::WillBeRedelivered) => {}
                        Err(error) => return Err(error),
                    }
                }
                if held(client, queue).await? == 0 {
                    return Ok(numbers);
                }
            }
        }
    }
}

/// How many messages a queue holds, delivered ones included.
///
/// # Errors
/// The brokers do not say.
pub async fn held(client: &Client, queue: &str) -> Result<u64, Error> {
    let mut after: Option<String> = None;
    loop {
        let page = client.list_queues(after.as_deref(), 0).await?;
        if let Some(entry) = page.entries.iter().find(|entry| entry.queue.as_str() == queue) {
            return Ok(entry.ready + entry.unacknowledged);
        }
        match page.entries.last() {
            Some(last) if page.more => after = Some(last.queue.as_str().to_owned()),
            _ => return Ok(0),
        }
    }
}
