//! Taking messages, writing them, acknowledging them, until there is a reason to stop.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use quorate_client::{Client, ConnectionEvent, Consumer, Delivery, Error, Events, Settled};

use super::bodies::Seen;
use super::consume::{ConsumeArguments, Ended, OutputFormat, Report};
use super::queue;
use super::sink::Sink;
use crate::connection::describe;
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::units::grouped;

/// So many bytes of bodies are written together.
const PIECE_BYTES: usize = 1 << 20;
/// After so long without a delivery a queue may be empty.
const QUIET: Duration = Duration::from_millis(50);
/// After so long without its second delivery, a message whose ack got no answer is looked for in the queue.
const LOOK_FOR_LOST: Duration = Duration::from_secs(1);
/// The longest that a question about the queue keeps everything else waiting.
const ASK: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(25);

/// A message that was written and whose ack is not confirmed.
struct Written {
    /// Of its body, to know it again.
    checksum: u32,
    /// Acks on their way.
    acks: u32,
}

/// One run of the command.
pub(super) struct Consumption<'a> {
    client: Client,
    events: Events,
    sink: Sink,
    arguments: ConsumeArguments,
    timeout: Duration,
    console: &'a mut Console,
    received: u64,
    redelivered: u64,
    acked: u64,
    /// By position. A message that comes again because its ack was lost with a connection is not written twice.
    written: HashMap<u64, Written>,
    acks: VecDeque<(u64, Settled)>,
    last_delivery: Instant,
    /// Something was heard from a leader.
    last_sign: Instant,
    connected: bool,
}

impl<'a> Consumption<'a> {
    pub(super) fn new(
        client: Client,
        sink: Sink,
        arguments: ConsumeArguments,
        timeout: Duration,
        console: &'a mut Console,
    ) -> Self {
        let events = client.events();
        let now = Instant::now();
        Self {
            client,
            events,
            sink,
            arguments,
            timeout,
            console,
            received: 0,
            redelivered: 0,
            acked: 0,
            written: HashMap::new(),
            acks: VecDeque::new(),
            last_delivery: now,
            last_sign: now,
            connected: true,
        }
    }

    pub(super) async fn run(&mut self, mut consumer: Consumer) -> Report {
        let began = Instant::now();
        let result = self.consume(&mut consumer).await;
        let result = match result {
            Ok(ended) => self.settle(&mut consumer).await.map(|()| ended),
            Err(failure) => Err(failure),
        };
        // What is held and not settled goes back to the queue.
        let _ = tokio::time::timeout(Duration::from_secs(1).min(self.timeout), consumer.cancel()).await;
        let _ = tokio::time::timeout(Duration::from_secs(1).min(self.timeout), self.client.close()).await;
        let (ended, error) = match result {
            Ok(ended) => (ended, None),
            Err(failure) => (Ended::Failed, Some(failure)),
        };
        let (received, redelivered, acked) = (self.received, self.redelivered, self.acked);
        Report { received, redelivered, acked, seconds: began.elapsed().as_secs_f64(), ended, error }
    }

    pub(super) fn into_sink(self) -> Sink {
        self.sink
    }

    /// Takes messages until there is a reason to stop.
    async fn consume(&mut self, consumer: &mut Consumer) -> Result<Ended, Failure> {
        let mut interrupt = Box::pin(tokio::signal::ctrl_c());
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if self.arguments.count.is_some_and(|count| self.received >= count) {
                return Ok(Ended::Count);
            }
            tokio::select! {
                biased;
                _ = &mut interrupt => return Ok(Ended::Interrupted),
                Some(event) = self.events.next() => self.happened(&event),
                delivery = consumer.next() => {
                    self.take(delivery, consumer)?;
                    while let Some((seq, result)) = next_ack(&mut self.acks).now_or_never() {
                        self.answered(seq, result)?;
                    }
                }
                (seq, result) = next_ack(&mut self.acks) => self.answered(seq, result)?,
                _ = tick.tick() => if let Some(ended) = self.look_around().await? { return Ok(ended) },
            }
        }
    }

    /// Nothing happened for a moment: is this the end?
    async fn look_around(&mut self) -> Result<Option<Ended>, Failure> {
        self.console.progress(format_args!(
            "{} received, {} acked",
            grouped(self.received),
            grouped(self.acked)
        ));
        let quiet = self.last_delivery.elapsed();
        if self.connected && self.arguments.idle_timeout.is_some_and(|limit| quiet >= limit.0) {
            return Ok(Some(Ended::Idle));
        }
        self.check_leader()?;
        if quiet >= LOOK_FOR_LOST && self.connected {
            self.look_for_lost().await?;
        }
        if self.arguments.until_empty && quiet >= QUIET && self.connected && self.written.is_empty() {
            // In the middle of a fail-over there is no answer, and it is asked again later.
            let asked = queue::find(&self.client, &self.arguments.queue);
            let entry = match tokio::time::timeout(ASK, asked).await {
                Ok(Ok(entry)) => entry,
                Ok(Err(failure)) if failure.status == Status::Refused => return Err(failure),
                Ok(Err(_)) | Err(_) if self.last_sign.elapsed() < self.timeout => return Ok(None),
                Ok(Err(_)) | Err(_) => return Err(self.no_leader()),
            };
            let Some(entry) = entry else {
                let text = format!("queue '{}' was deleted meanwhile", self.arguments.queue);
                return Err(Failure::new(Status::Refused, "QUEUE_NOT_FOUND", text).next("quorate queue list"));
            };
            self.last_sign = Instant::now();
            if entry.ready == 0 && entry.unacknowledged == 0 {
                return Ok(Some(Ended::Empty));
            }
        }
        Ok(None)
    }

    /// Waits until every ack is confirmed, or cannot be.
    async fn settle(&mut self, consumer: &mut Consumer) -> Result<(), Failure> {
        let mut interrupt = Box::pin(tokio::signal::ctrl_c());
        let mut tick = tokio::time::interval(TICK);
        self.last_sign = Instant::now();
        while !self.written.is_empty() {
            tokio::select! {
                biased;
                _ = &mut interrupt => return Err(self.unsettled("interrupted")),
                (seq, result) = next_ack(&mut self.acks) => self.answered(seq, result)?,
                delivery = consumer.next() => self.take_again(delivery)?,
                Some(event) = self.events.next() => self.happened(&event),
                _ = tick.tick() => {
                    if self.last_sign.elapsed() >= self.timeout {
                        return Err(self.unsettled("no leader confirmed them in time"));
                    }
                    if self.connected && self.acks.is_empty() {
                        self.look_for_lost().await?;
                    }
                }
            }
        }
        Ok(())
    }

    fn unsettled(&self, why: &str) -> Failure {
        let count = self.written.len();
        let text =
            format!("{count} acks are not confirmed ({why}): these messages were written and may come again");
        Failure::new(Status::Unknown, "unknown-outcome", text).next("quorate cluster status")
    }

    fn check_leader(&self) -> Result<(), Failure> {
        if self.connected || self.last_sign.elapsed() < self.timeout {
            return Ok(());
        }
        Err(self.no_leader())
    }

    fn no_leader(&self) -> Failure {
        let text = format!("no leader answered for {:?}: the cluster is lost to this client", self.timeout);
        Failure::new(Status::Unknown, "unreachable", text).next("quorate cluster status")
    }

    fn happened(&mut self, event: &ConnectionEvent) {
        match event {
            ConnectionEvent::Connected { .. } => {
                self.connected = true;
                self.last_sign = Instant::now();
                self.last_delivery = Instant::now();
            }
            ConnectionEvent::Reconnecting { .. } => {
                self.connected = false;
                self.last_sign = Instant::now();
            }
            _ => {}
        }
        if let Some(text) = describe(event) {
            self.console.note(text);
        }
    }

    /// Takes what has arrived, up to a piece, writes it, then acknowledges it.
    fn take(
        &mut self,
        delivery: Option<Result<Delivery, Error>>,
        consumer: &mut Consumer,
    ) -> Result<(), Failure> {
        let mut next = delivery.ok_or_else(over)?;
        let mut records = Vec::new();
        let mut taken = Vec::new();
        loop {
            let delivery = next?;
            self.redelivered += u64::from(delivery.is_redelivered());
            let checksum = crc32fast::hash(delivery.body());
            if self.written.get(&delivery.seq()).is_none_or(|written| written.checksum != checksum) {
                self.write_record(&delivery, &mut records);
                self.received += 1;
            }
            taken.push((delivery, checksum));
            let enough = self.arguments.count.is_some_and(|count| self.received >= count);
            if enough || records.len() >= PIECE_BYTES {
                break;
            }
            match consumer.next().now_or_never() {
                Some(delivery) => next = delivery.ok_or_else(over)?,
                None => break,
            }
        }
        self.last_delivery = Instant::now();
        self.last_sign = self.last_delivery;
        self.sink.write(&records, self.console)?;
        self.acknowledge(taken);
        Ok(())
    }

    fn acknowledge(&mut self, taken: Vec<(Delivery, u32)>) {
        if self.arguments.no_ack {
            return;
        }
        for (delivery, checksum) in taken {
            let seq = delivery.seq();
            let written = self.written.entry(seq).or_insert(Written { checksum, acks: 0 });
            written.checksum = checksum;
            written.acks += 1;
            self.acks.push_back((seq, delivery.ack()));
        }
    }

    /// A message after the end: wanted only if its ack was lost.
    fn take_again(&mut self, delivery: Option<Result<Delivery, Error>>) -> Result<(), Failure> {
        let delivery = delivery.ok_or_else(over)??;
        let checksum = crc32fast::hash(delivery.body());
        if self.written.get(&delivery.seq()).is_some_and(|written| written.checksum == checksum) {
            self.redelivered += u64::from(delivery.is_redelivered());
            self.acknowledge(vec![(delivery, checksum)]);
        }
        Ok(())
    }

    fn answered(&mut self, seq: u64, result: Result<(), Error>) -> Result<(), Failure> {
        match result {
            Ok(()) => {
                self.acked += u64::from(self.written.remove(&seq).is_some());
                self.last_sign = Instant::now();
                Ok(())
            }
            Err(Error::WillBeRedelivered | Error::UnknownOutcome(_)) => {
                if let Some(written) = self.written.get_mut(&seq) {
                    written.acks = written.acks.saturating_sub(1);
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Acks that got no answer may have been carried out all the same: then their messages are in the queue no more.
    async fn look_for_lost(&mut self) -> Result<(), Failure> {
        let lost: Vec<u64> =
            self.written.iter().filter(|(_, written)| written.acks == 0).map(|(seq, _)| *seq).collect();
        for seq in lost {
            let asked = self.client.peek_queue(&self.arguments.queue, seq, 1);
            let page = match tokio::time::timeout(ASK, asked).await {
                Ok(Ok(page)) => page,
                Ok(Err(error)) if !error.is_retryable() => return Err(error.into()),
                Ok(Err(_)) | Err(_) => return Ok(()),
            };
            if page.entries.first().is_none_or(|entry| entry.seq != seq) {
                self.written.remove(&seq);
                self.acked += 1;
                self.last_sign = Instant::now();
            }
        }
        Ok(())
    }

    /// A message as it is written.
    fn write_record(&self, delivery: &Delivery, records: &mut Vec<u8>) {
        if self.arguments.output_format == OutputFormat::Json || self.sink.is_document() {
            let seen = Seen {
                seq: delivery.seq(),
                redelivered: delivery.is_redelivered(),
                exchange: delivery.exchange(),
                key: delivery.key(),
                properties: delivery.message().properties(),
                body: delivery.body(),
            };
            records.extend_from_slice(seen.json().to_string().as_bytes());
        } else {
            records.extend_from_slice(delivery.body());
        }
        records.push(b'\n');
    }
}

fn over() -> Failure {
    Failure::new(Status::Unknown, "closed", "the consumer has ended")
}

/// The answer to the oldest ack; never, if none is on its way. May be dropped and called again.
async fn next_ack(acks: &mut VecDeque<(u64, Settled)>) -> (u64, Result<(), Error>) {
    poll_fn(|context| {
        let Some((seq, settled)) = acks.front_mut() else { return Poll::Pending };
        let seq = *seq;
        match Future::poll(Pin::new(settled), context) {
            Poll::Ready(result) => {
                acks.pop_front();
                Poll::Ready((seq, result))
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
