//! Publishers: each keeps at most a window of messages on their way, in a closed loop or by a schedule.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use quorate_client::{Client, Confirm, Error, Publisher, Receipt};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::account::Account;
use super::ledger::Ledger;
use super::mark::Marks;
use super::measure::{Latencies, Measured, OpenLoop, Percentiles, to_float};
use super::pacer::Pacer;
use super::plan::{Limit, Point};
use super::schedule::{Lateness, Schedule};
use crate::exit::{Failure, Status};

/// What all publishers of a cell have in common.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Size, window of each publisher, rate of all together.
    pub point: Point,
    /// In sum over the publishers.
    pub limit: Limit,
    /// What the marks of messages count their time from.
    pub epoch: Instant,
    /// How long to wait without progress.
    pub timeout: Duration,
}

/// What publishers counted.
#[derive(Default)]
struct Tally {
    latencies: Latencies,
    /// In an open loop: from send to confirm.
    service: Option<Latencies>,
    account: Account,
    late: u64,
    late_by_client: u64,
    unsent: u64,
}

impl Tally {
    fn waited(&mut self, message: &OnItsWay, now: Duration) {
        self.latencies.add(now.saturating_sub(message.due));
        if let Some(service) = &mut self.service {
            service.add(now.saturating_sub(message.sent));
        }
    }

    /// Nobody answered: it has waited at least so long, and a latency without it would flatter.
    fn unknown(&mut self, message: &OnItsWay, now: Duration) {
        self.account.unknown += 1;
        self.waited(message, now);
    }
}

/// Publishes from every client, each to a queue of its own turn, until the limit is reached and the last confirm is
/// there. The latency is from the call of publish to the confirm; with a rate, from when the message was due. A message that
/// was never answered has the time that was waited for its answer.
///
/// # Errors
/// A client has ended.
pub async fn publish(
    clients: &[Client],
    queues: &[String],
    job: Job,
    ledger: &Arc<Ledger>,
) -> Result<(Measured, Account), Failure> {
    let publishers = clients.iter().map(Client::publisher).collect::<Result<Vec<_>, _>>()?;
    let schedule = job.point.rate.map(|rate| Schedule::new(rate, job.limit, clients.len()));
    let service = schedule.map(|_| Latencies::default());
    let tally = Arc::new(Mutex::new(Tally { service, ..Tally::default() }));
    let began = Instant::now();
    let pacer = schedule.map(|schedule| Pacer::start(schedule, clients.len(), began)).transpose();
    let pacer = pacer.map_err(|error| Failure::io("a thread that keeps time", &error))?;
    let mut lanes = JoinSet::new();
    for (number, (publisher, queue)) in publishers.into_iter().zip(queues.iter().cycle()).enumerate() {
        let lane = Lane {
            publisher,
            queue: queue.clone(),
            number,
            job,
            limit: job.limit.part(number, clients.len()),
            schedule: schedule.zip(pacer.as_ref().map(|pacer| pacer.turn(number))),
            marks: Marks::new(clients.len()),
            ledger: Arc::clone(ledger),
            tally: Arc::clone(&tally),
            began,
            sent: 0,
            room_since: Duration::ZERO,
        };
        lanes.spawn(lane.run());
    }
    while let Some(ended) = lanes.join_next().await {
        ended.map_err(|error| ended_badly("publisher", &error))??;
    }
    let took = began.elapsed();
    let tally = lock(&tally);
    Ok((measured(&tally, schedule, took), tally.account))
}

/// A task that panicked.
pub(super) fn ended_badly(who: &str, error: &tokio::task::JoinError) -> Failure {
    Failure::new(Status::Unknown, "internal", format!("the {who}'s task ended: {error}"))
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

fn measured(tally: &Tally, schedule: Option<Schedule>, took: Duration) -> Measured {
    let account = tally.account;
    let mut measured = Measured::new(account.confirmed, took, &tally.latencies);
    measured.refused = account.refused;
    if account.published > 0 {
        measured.unknown_percent = 100.0 * to_float(account.unknown) / to_float(account.published);
    }
    measured.open_loop = schedule.map(|schedule| OpenLoop {
        wanted_rate: to_float(schedule.rate()),
        scheduled: schedule.total(),
        late: tally.late,
        late_by_client: tally.late_by_client,
        unsent: tally.unsent,
        kept_up: schedule.is_kept(took, tally.unsent),
        service: Percentiles::new(tally.service.as_ref().unwrap_or(&Latencies::default())),
    });
    measured
}

/// One publisher.
struct Lane {
    publisher: Publisher,
    queue: String,
    number: usize,
    job: Job,
    /// This one's part.
    limit: Limit,
    schedule: Option<(Schedule, Arc<Notify>)>,
    marks: Marks,
    ledger: Arc<Ledger>,
    tally: Arc<Mutex<Tally>>,
    began: Instant,
    sent: u64,
    /// When the window was last found to have room again.
    room_since: Duration,
}

/// A message without its outcome.
struct OnItsWay {
    number: u64,
    /// From the beginning; in a closed loop when it was sent.
    due: Duration,
    sent: Duration,
    confirm: Confirm,
}

/// Whether there is something to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Yes, and it was due then.
    Now(Duration),
    /// The next message is not due yet.
    Later,
    /// Nothing more is sent.
    Over,
}

impl Lane {
    async fn run(mut self) -> Result<(), Failure> {
        let window = self.job.point.window;
        let mut waiting: VecDeque<OnItsWay> = VecDeque::with_capacity(window.min(1 << 16));
        let turns = self.schedule.as_ref().map(|(_, turn)| Arc::clone(turn)).unwrap_or_default();
        let mut progress = Instant::now();
        loop {
            if waiting.is_empty() {
                progress = Instant::now();
            }
            let turn = self.send(&mut waiting).await?;
            if waiting.is_empty() && turn == Turn::Over {
                break;
            }
            tokio::select! {
                biased;
                (message, outcome) = first(&mut waiting) => {
                    progress = Instant::now();
                    self.answered(&message, outcome, &mut waiting);
                }
                () = turns.notified(), if turn == Turn::Later => {}
                () = tokio::time::sleep_until((progress + self.job.timeout).into()), if !waiting.is_empty() => {
                    self.give_up(&mut waiting);
                    break;
                }
            }
        }
        self.finish();
        Ok(())
    }

    /// Sends all that may be sent now; says what comes next.
    async fn send(&mut self, waiting: &mut VecDeque<OnItsWay>) -> Result<Turn, Failure> {
        loop {
            let now = self.began.elapsed();
            let due = match self.turn(now) {
                Turn::Now(_) if waiting.len() >= self.job.point.window => return Ok(Turn::Now(now)),
                Turn::Now(due) => due,
                other => return Ok(other),
            };
            let number = self.sent;
            self.ledger.publish(self.number, number);
            let confirm = self.publisher.publish("", &self.queue, self.body(number, due)).await?;
            self.sent += 1;
            if self.schedule.is_some() {
                self.note_lateness(due, now);
            }
            waiting.push_back(OnItsWay { number, due, sent: now, confirm });
        }
    }

    fn turn(&self, now: Duration) -> Turn {
        if self.sent >= self.marks.most() {
            return Turn::Over;
        }
        let Some((schedule, _)) = &self.schedule else {
            return if self.limit.is_reached(self.sent, now) { Turn::Over } else { Turn::Now(now) };
        };
        let is_past = matches!(self.limit, Limit::Time(_)) && now > schedule.length() + schedule.grace();
        match schedule.due_of(self.number, self.sent) {
            Some(due) if due <= now && !is_past => Turn::Now(due),
            Some(_) if !is_past => Turn::Later,
            _ => Turn::Over,
        }
    }

    fn note_lateness(&self, due: Duration, sent: Duration) {
        match Lateness::of(due, sent, self.room_since) {
            Lateness::OnTime => {}
            whose => {
                let mut tally = lock(&self.tally);
                tally.late += 1;
                tally.late_by_client += u64::from(whose == Lateness::Client);
            }
        }
    }

    fn body(&self, number: u64, due: Duration) -> Vec<u8> {
        let mut body = vec![b'x'; usize::try_from(self.job.point.size).unwrap_or(0)];
        let since_epoch = self.began.saturating_duration_since(self.job.epoch) + due;
        self.marks.write(&mut body, self.number, number, since_epoch);
        body
    }

    /// Counts an outcome, and all that are known after it.
    fn answered(
        &mut self,
        message: &OnItsWay,
        outcome: Result<Receipt, Error>,
        waiting: &mut VecDeque<OnItsWay>,
    ) {
        let now = self.began.elapsed();
        // This one was part of the window.
        if waiting.len() + 1 >= self.job.point.window {
            self.room_since = now;
        }
        let mut tally = lock(&self.tally);
        self.count(&mut tally, message, now, outcome);
        while let Some(outcome) = waiting.front().and_then(|message| message.confirm.try_get()) {
            if let Some(message) = waiting.pop_front() {
                self.count(&mut tally, &message, now, outcome);
            }
        }
    }

    fn count(&self, tally: &mut Tally, message: &OnItsWay, now: Duration, outcome: Result<Receipt, Error>) {
        match outcome {
            Ok(_) => {
                self.ledger.confirm(self.number, message.number);
                tally.account.confirmed += 1;
                tally.waited(message, now);
            }
            Err(error) if error.is_outcome_unknown() => tally.unknown(message, now),
            Err(error) => {
                tally.account.refused += 1;
                // Taken back after it had waited in vain; what a broker refuses has its answer.
                if matches!(error, Error::TimedOut(_)) {
                    tally.waited(message, now);
                }
            }
        }
    }

    /// No answer came for too long: what was never sent is taken back, the rest is unknown.
    fn give_up(&mut self, waiting: &mut VecDeque<OnItsWay>) {
        self.publisher.withdraw();
        let now = self.began.elapsed();
        let mut tally = lock(&self.tally);
        for message in waiting.drain(..) {
            match message.confirm.try_get() {
                Some(outcome) => self.count(&mut tally, &message, now, outcome),
                None => tally.unknown(&message, now),
            }
        }
    }

    fn finish(&self) {
        let mut tally = lock(&self.tally);
        tally.account.published += self.sent;
        if let Some((schedule, _)) = &self.schedule {
            for (waited, count) in schedule.waited(self.number, self.sent, self.began.elapsed()) {
                tally.latencies.add_many(waited, count);
                tally.unsent += count;
                tally.late += count;
            }
        }
    }
}

/// The outcome of the oldest message on its way; never, if there is none. May be dropped and called again.
async fn first(waiting: &mut VecDeque<OnItsWay>) -> (OnItsWay, Result<Receipt, Error>) {
    poll_fn(|context| {
        let Some(message) = waiting.front_mut() else { return Poll::Pending };
        let Poll::Ready(outcome) = Future::poll(Pin::new(&mut message.confirm), context) else {
            return Poll::Pending;
        };
        waiting.pop_front().map_or(Poll::Pending, |message| Poll::Ready((message, outcome)))
    })
    .await
}
