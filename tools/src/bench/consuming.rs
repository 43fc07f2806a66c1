//! Consumers: each keeps at most a window of messages unsettled, acknowledges them, and checks them off in the ledger.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use quorate_client::{Client, ConsumeOptions, Consumer, Delivery, Error, Settled};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::account::Account;
use super::ledger::{Ledger, Seen};
use super::mark::Marks;
use super::measure::{Latencies, Measured, to_float};
use super::publishing::ended_badly;
use crate::exit::Failure;

/// What all consumers of a cell have in common.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Messages unsettled at one time, of each.
    pub window: usize,
    /// Latencies are from when a message was due to its delivery, instead of from delivery to confirmed ack.
    pub end_to_end: bool,
    /// How many publishers there are.
    pub publishers: usize,
    /// What the marks of messages count their time from.
    pub epoch: Instant,
    /// How long to wait without progress.
    pub timeout: Duration,
    /// How long to go on, if there is as much as that; none: until all is consumed.
    pub time: Option<Duration>,
}

/// What consumers did.
pub struct Consumed {
    /// How fast.
    pub measured: Measured,
    /// What was delivered.
    pub account: Account,
    /// The time was over first: what was not delivered is none of their faults.
    pub is_cut: bool,
}

/// What consumers counted.
#[derive(Default)]
struct Tally {
    latencies: Latencies,
    delivered: u64,
    twice: u64,
    unmarked: u64,
    unexpected: u64,
    acked: u64,
    /// Acks of which nobody knows whether they had an effect, and those whose connection ended first.
    unsettled: u64,
    /// The first delivery, and the last answer.
    began: Option<Instant>,
    ended: Option<Instant>,
    /// The last delivery or answer.
    progress: Option<Instant>,
}

/// Consumers at work; they end when dropped.
pub struct Consuming {
    lanes: JoinSet<Result<(), Failure>>,
    tally: Arc<Mutex<Tally>>,
    ledger: Arc<Ledger>,
    done: Arc<watch::Sender<bool>>,
    job: Job,
}

impl Consuming {
    /// Every client consumes a queue of its own turn; returns when all of them do. The time that is measured begins with
    /// the first delivery.
    ///
    /// # Errors
    /// One of them cannot.
    pub async fn start(
        clients: &[Client],
        queues: &[String],
        job: Job,
        ledger: &Arc<Ledger>,
    ) -> Result<Self, Failure> {
        let (done, _) = watch::channel(false);
        let mut consuming = Self {
            lanes: JoinSet::new(),
            tally: Arc::default(),
            ledger: Arc::clone(ledger),
            done: Arc::new(done),
            job,
        };
        let (ready, mut begun) = mpsc::channel(clients.len().max(1));
        for (client, queue) in clients.iter().zip(queues.iter().cycle()) {
            let lane = Lane {
                job,
                marks: Marks::new(job.publishers),
                tally: Arc::clone(&consuming.tally),
                ledger: Arc::clone(ledger),
                done: Arc::clone(&consuming.done),
                acks: VecDeque::new(),
            };
            consuming.lanes.spawn(lane.begin(client.clone(), queue.clone(), ready.clone()));
        }
        drop(ready);
        for _ in clients {
            if begun.recv().await.is_none() {
                // One has ended before it began; it says why.
                consuming.join().await?;
            }
        }
        Ok(consuming)
    }

    /// Waits until all that was confirmed is delivered and acknowledged, the time is over, or nothing has come for too
    /// long. The ledger is closed by then.
    ///
    /// # Errors
    /// A consumer has ended.
    pub async fn finish(mut self) -> Result<Consumed, Failure> {
        let began = Instant::now();
        let cut = self.job.time.and_then(|time| began.checked_add(time)).map(tokio::time::Instant::from);
        let mut is_cut = false;
        loop {
            let progress = self.progress();
            let given_up = progress.unwrap_or(began).max(began) + self.job.timeout;
            if self.ledger.is_drained() {
                break;
            }
            tokio::select! {
                joined = self.join() => {
                    joined?;
                    break;
                }
                () = tokio::time::sleep_until(cut.unwrap_or_else(tokio::time::Instant::now)), if cut.is_some() => {
                    is_cut = true;
                    break;
                }
                () = tokio::time::sleep_until(given_up.into()) => {
                    if self.progress() == progress {
                        break;
                    }
                }
            }
        }
        // Whoever has waited in vain has waited for so long, too.
        let waited = Some(Instant::now()).filter(|_| !self.ledger.is_drained());
        self.done.send_replace(true);
        self.join().await?;
        let tally = lock(&self.tally);
        let took = tally.ended.max(waited).zip(tally.began);
        let took = took.map(|(ended, began)| ended.saturating_duration_since(began));
        let mut measured = Measured::new(tally.acked, took.unwrap_or_default(), &tally.latencies);
        let settled = tally.acked + tally.unsettled;
        if settled > 0 {
            measured.unknown_percent = 100.0 * to_float(tally.unsettled) / to_float(settled);
        }
        let account = Account {
            delivered: Some(tally.delivered),
            delivered_twice: Some(tally.twice),
            unmarked: Some(tally.unmarked),
            unexpected: Some(tally.unexpected),
            ..Account::default()
        };
        drop(tally);
        Ok(Consumed { measured, account, is_cut: is_cut && !self.ledger.is_drained() })
    }

    async fn join(&mut self) -> Result<(), Failure> {
        while let Some(ended) = self.lanes.join_next().await {
            ended.map_err(|error| ended_badly("consumer", &error))??;
        }
        Ok(())
    }

    fn progress(&self) -> Option<Instant> {
        lock(&self.tally).progress
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One consumer.
struct Lane {
    job: Job,
    marks: Marks,
    tally: Arc<Mutex<Tally>>,
    ledger: Arc<Ledger>,
    done: Arc<watch::Sender<bool>>,
    acks: VecDeque<(Instant, Settled)>,
}

impl Lane {
    async fn begin(self, client: Client, queue: String, ready: mpsc::Sender<()>) -> Result<(), Failure> {
        let credit = u32::try_from(self.job.window).unwrap_or(u32::MAX);
        let options = ConsumeOptions { credit, ..ConsumeOptions::default() };
        let consumer = client.consume(&queue, options).await?;
        // If nobody waits for it, the run is over, and so is this task.
        let _ = ready.send(()).await;
        self.run(consumer).await
    }

    async fn run(mut self, mut consumer: Consumer) -> Result<(), Failure> {
        let mut done = self.done.subscribe();
        while !*done.borrow_and_update() {
            tokio::select! {
                biased;
                (since, result) = next_ack(&mut self.acks) => self.answered(since, &result),
                delivery = consumer.next() => {
                    let Some(delivery) = delivery else { break };
                    self.delivered(delivery?);
                }
                changed = done.changed() => if changed.is_err() { break },
            }
        }
        while !self.acks.is_empty() {
            let answer = tokio::time::timeout(self.job.timeout, next_ack(&mut self.acks)).await;
            if let Ok((since, result)) = answer {
                self.answered(since, &result);
            } else {
                self.give_up();
            }
        }
        consumer.cancel().await?;
        Ok(())
    }

    fn delivered(&mut self, delivery: Delivery) {
        let now = Instant::now();
        let mark = self.marks.read(delivery.body());
        let seen = self.ledger.deliver(mark);
        {
            let mut tally = lock(&self.tally);
            tally.began.get_or_insert(now);
            tally.progress = Some(now);
            match seen {
                Seen::First => tally.delivered += 1,
                Seen::Again => {
                    tally.twice += 1;
                    tally.unmarked += u64::from(!delivery.is_redelivered());
                }
                Seen::Stranger => tally.unexpected += 1,
            }
            if let Some(mark) = mark.filter(|_| self.job.end_to_end && seen == Seen::First) {
                tally.latencies.add(mark.age(now.saturating_duration_since(self.job.epoch)));
            }
        }
        self.acks.push_back((now, delivery.ack()));
        if self.ledger.is_drained() {
            self.done.send_replace(true);
        }
    }

    /// Counts an answer to an ack, and all that are there after it.
    fn answered(&mut self, since: Instant, result: &Result<(), Error>) {
        let mut tally = lock(&self.tally);
        let now = Instant::now();
        self.count(&mut tally, since, now, result.is_ok());
        while let Some((since, result)) = next_ack(&mut self.acks).now_or_never() {
            self.count(&mut tally, since, now, result.is_ok());
        }
        tally.ended = Some(now);
        tally.progress = Some(now);
    }

    /// No answer came for too long.
    fn give_up(&mut self) {
        let now = Instant::now();
        let mut tally = lock(&self.tally);
        for (since, _) in std::mem::take(&mut self.acks) {
            self.count(&mut tally, since, now, false);
        }
        tally.ended = Some(now);
    }

    /// An ack without success has waited at least so long, and a latency without it would flatter.
    fn count(&self, tally: &mut Tally, since: Instant, now: Instant, is_settled: bool) {
        let count = if is_settled { &mut tally.acked } else { &mut tally.unsettled };
        *count += 1;
        if !self.job.end_to_end {
            tally.latencies.add(now.saturating_duration_since(since));
        }
    }
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
