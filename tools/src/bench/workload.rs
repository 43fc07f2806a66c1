//! What is done to the cluster in one cell.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use quorate_client::{Client, Confirm, ConsumeOptions, Error, Receipt, Settled};
use tokio::sync::watch;

use super::measure::{Latencies, Measured, to_float};
use crate::exit::Failure;

/// When a cell has measured enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// After so long.
    Time(Duration),
    /// After so many messages.
    Messages(u64),
}

impl Limit {
    /// Whether it has.
    pub fn is_reached(self, messages: u64, elapsed: Duration) -> bool {
        match self {
            Self::Time(limit) => elapsed >= limit,
            Self::Messages(limit) => messages >= limit,
        }
    }

    /// How many of `window` messages may still be begun.
    pub fn room(self, messages: u64, window: usize) -> usize {
        match self {
            Self::Time(_) => window,
            Self::Messages(limit) => {
                usize::try_from(limit.saturating_sub(messages)).unwrap_or(usize::MAX).min(window)
            }
        }
    }
}

/// Smallest message: it carries the time at which it was published.
pub const SMALLEST: usize = 8;

/// What the cells have in common.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The connection.
    pub client: Client,
    /// The queue, made for this.
    pub queue: String,
    /// What message times are counted from.
    pub epoch: Instant,
    /// How long to wait without progress.
    pub timeout: Duration,
}

/// The outcome of a publish cell.
struct Sending {
    latencies: Latencies,
    confirmed: u64,
    refused: u64,
    unknown: u64,
}

impl Sending {
    fn add(&mut self, began: Instant, now: Instant, outcome: Result<Receipt, Error>) {
        match outcome {
            Ok(_) => {
                self.confirmed += 1;
                self.latencies.add(now.saturating_duration_since(began));
            }
            Err(error) if error.is_outcome_unknown() => self.unknown += 1,
            Err(_) => self.refused += 1,
        }
    }
}

impl Workload {
    /// Keeps `window` messages of `size` bytes on their way until the limit is reached, and waits for the last confirm.
    /// The latency is from the call of publish to the confirm.
    ///
    /// # Errors
    /// The client has ended.
    pub async fn publish(&self, size: usize, window: usize, limit: Limit) -> Result<Measured, Failure> {
        let publisher = self.client.publisher()?;
        let mut waiting: VecDeque<(Instant, Confirm)> = VecDeque::with_capacity(window);
        let mut sending = Sending { latencies: Latencies::default(), confirmed: 0, refused: 0, unknown: 0 };
        let mut sent = 0;
        let began = Instant::now();
        loop {
            while waiting.len() < window && !limit.is_reached(sent, began.elapsed()) {
                let now = Instant::now();
                let confirm = publisher.publish("", &self.queue, self.body(size, now)).await?;
                waiting.push_back((now, confirm));
                sent += 1;
            }
            if waiting.is_empty() {
                break;
            }
            let Ok((since, outcome)) = tokio::time::timeout(self.timeout, first(&mut waiting)).await else {
                sending.unknown += waiting.len() as u64;
                break;
            };
            let now = Instant::now();
            sending.add(since, now, outcome);
            while let Some(outcome) = waiting.front().and_then(|(_, confirm)| confirm.try_get()) {
                if let Some((since, _)) = waiting.pop_front() {
                    sending.add(since, now, outcome);
                }
            }
        }
        let mut measured = Measured::new(sending.confirmed, began.elapsed(), &sending.latencies);
        measured.refused = sending.refused;
        measured.unknown_percent =
            if sent == 0 { 0.0 } else { 100.0 * to_float(sending.unknown) / to_float(sent) };
        Ok(measured)
    }

    fn body(&self, size: usize, now: Instant) -> Vec<u8> {
        let mut body = vec![b'x'; size.max(SMALLEST)];
        let nanos = u64::try_from(now.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX);
        for (to, from) in body.iter_mut().zip(nanos.to_le_bytes()) {
            *to = from;
        }
        body
    }

    fn published_at(&self, body: &[u8]) -> Option<Instant> {
        let nanos = u64::from_le_bytes(body.get(..SMALLEST)?.try_into().ok()?);
        self.epoch.checked_add(Duration::from_nanos(nanos))
    }

    /// Consumes and acknowledges with `window` messages unsettled, until as many acks are confirmed as `expected` says
    /// (it may not say so yet). The latency is from the delivery to the ack's confirmation, or, with `end_to_end`, from
    /// publish to delivery.
    ///
    /// # Errors
    /// The client, or the consumer, has ended.
    pub async fn consume(
        &self,
        window: usize,
        mut expected: watch::Receiver<Option<u64>>,
        end_to_end: bool,
    ) -> Result<Measured, Failure> {
        let credit = u32::try_from(window).unwrap_or(u32::MAX);
        let options = ConsumeOptions { credit, ..ConsumeOptions::default() };
        let mut consumer = self.client.consume(&self.queue, options).await?;
        let mut acks: VecDeque<(Instant, Settled)> = VecDeque::new();
        let mut latencies = Latencies::default();
        let (mut acked, mut unknown) = (0_u64, 0_u64);
        let mut answered = |began: Instant, result: Result<(), Error>, latencies: &mut Latencies| {
            if result.is_ok() {
                acked += 1;
                if !end_to_end {
                    latencies.add(began.elapsed());
                }
            } else {
                unknown += 1;
            }
            acked
        };
        let began = Instant::now();
        let mut done = 0;
        while expected.borrow_and_update().is_none_or(|expected| done < expected) {
            tokio::select! {
                biased;
                (began, result) = next_ack(&mut acks) => {
                    done = answered(began, result, &mut latencies);
                    while let Some((began, result)) = next_ack(&mut acks).now_or_never() {
                        done = answered(began, result, &mut latencies);
                    }
                }
                delivery = consumer.next() => {
                    let Some(delivery) = delivery else { break };
                    let delivery = delivery?;
                    let now = Instant::now();
                    if let Some(published) = self.published_at(delivery.body())
                        && end_to_end
                    {
                        latencies.add(now.saturating_duration_since(published));
                    }
                    acks.push_back((now, delivery.ack()));
                }
                changed = expected.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(self.timeout) => break,
            }
        }
        let mut measured = Measured::new(done, began.elapsed(), &latencies);
        if done + unknown > 0 {
            measured.unknown_percent = 100.0 * to_float(unknown) / to_float(done + unknown);
        }
        consumer.cancel().await?;
        Ok(measured)
    }
}

/// The outcome of the oldest message on its way. May be dropped and called again.
async fn first(waiting: &mut VecDeque<(Instant, Confirm)>) -> (Instant, Result<Receipt, Error>) {
    poll_fn(|context| {
        let (began, confirm) = waiting.front_mut().expect("asked only if something is on its way");
        let began = *began;
        Future::poll(Pin::new(confirm), context).map(|outcome| {
            waiting.pop_front();
            (began, outcome)
        })
    })
    .await
}

/// The answer to the oldest ack; never, if none is on its way. May be dropped and called again.
async fn next_ack(acks: &mut VecDeque<(Instant, Settled)>) -> (Instant, Result<(), Error>) {
    poll_fn(|context| {
        let Some((began, settled)) = acks.front_mut() else { return Poll::Pending };
        let began = *began;
        Future::poll(Pin::new(settled), context).map(|result| {
            acks.pop_front();
            (began, result)
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let messages = Limit::Messages(10);
        assert!(!messages.is_reached(9, Duration::MAX) && messages.is_reached(10, Duration::ZERO));
        assert_eq!((messages.room(8, 4), messages.room(0, 4), messages.room(11, 4)), (2, 4, 0));
        let time = Limit::Time(Duration::from_secs(1));
        assert!(
            !time.is_reached(u64::MAX, Duration::from_millis(999))
                && time.is_reached(0, Duration::from_secs(1))
        );
        assert_eq!(time.room(u64::MAX, 4), 4);
    }
}
