//! `quorate publish`.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use clap::{ArgGroup, Args};
use quorate_client::{Confirm, Error, Events, Publisher, Receipt};
use serde::Serialize;

use super::lines::Source;
use super::outcome::Outcome;
use super::records::InputFormat;
use crate::connection::{block_on, connect, describe};
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::settings::Settings;
use crate::units::{Size, grouped};

/// How long what was given up may still take to be answered.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// What to publish, and where to.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("what").required(true).args(["lines", "count", "body"]),
    group = ArgGroup::new("where").required(true).multiple(true).args(["queue", "exchange"]),
    after_help = "Examples:
  quorate publish --queue orders --body 'one message'
  quorate publish --queue orders --lines orders.txt
  tail -f app.log | quorate publish --exchange logs --key app.web --lines -
  quorate publish --queue test --count 100000 --size 1KiB -o json
  quorate publish --queue orders --lines saved.json --input-format json
  quorate publish --queue test --count 1000 --rate 50

Exit status 0 only if every message was confirmed. Through a fail-over the unconfirmed are sent again and
de-duplicated. What the brokers refuse for now, as when a queue is full, is sent again too. Without any confirm for
--timeout the rest is given up: it counts as refused if the brokers refused it each time, else as unknown, since it
may or may not arrive. Ctrl-C stops reading and waits for what is on its way."
)]
pub struct PublishArguments {
    /// To this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// To this exchange instead of straight to a queue
    #[arg(long, value_name = "EXCHANGE")]
    exchange: Option<String>,
    /// With this key [default: the queue's name]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Each line of a file is a message; - is standard input
    #[arg(long, value_name = "FILE|-")]
    lines: Option<PathBuf>,
    /// What a line is: a body, or a JSON object as `quorate store export` and `quorate consume` write them
    #[arg(long, value_enum, default_value_t, requires = "lines", value_name = "FORMAT")]
    input_format: InputFormat,
    /// So many messages of --size bytes
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Bytes of each message of --count [default: 128]
    #[arg(long, value_name = "SIZE", requires = "count", conflicts_with_all = ["lines", "body"])]
    size: Option<Size>,
    /// At most so many messages a second [default: as fast as they are confirmed]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// This one message
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
}

/// What became of the messages.
#[derive(Clone, Debug, Default, Serialize)]
struct Counts {
    sent: u64,
    confirmed: u64,
    refused: u64,
    unknown: u64,
    seconds: f64,
    /// Confirmed as known already: sent again after a fail-over, there is no second copy.
    duplicates: u64,
    /// Confirmed in a forced epoch: can be missing if those left behind go on without it.
    under_override: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
}

impl Counts {
    fn add(&mut self, outcome: Result<Receipt, Error>) {
        let (count, failure) = match outcome.into() {
            Outcome::Confirmed { duplicate, forced } => {
                self.duplicates += u64::from(duplicate);
                self.under_override += u64::from(forced);
                (&mut self.confirmed, None)
            }
            Outcome::Unknown(failure) => (&mut self.unknown, Some(failure)),
            Outcome::Refused(failure) => (&mut self.refused, Some(failure)),
        };
        *count += 1;
        self.error = self.error.take().or(failure);
    }

    fn status(&self) -> Status {
        match &self.error {
            _ if self.refused > 0 => Status::Refused,
            _ if self.unknown > 0 => Status::Unknown,
            Some(failure) => failure.status,
            None => Status::Done,
        }
    }
}

/// Publishes.
///
/// # Errors
/// Nothing was published at all.
pub fn run(
    arguments: PublishArguments,
    settings: &Settings,
    console: &mut Console,
) -> Result<Status, Failure> {
    let source = match (&arguments.lines, arguments.count, arguments.body) {
        (Some(path), ..) => Source::lines(path)?,
        (None, Some(left), _) => {
            Source::Repeated { body: filler(arguments.size.unwrap_or(Size(128)))?, left }
        }
        (None, None, body) => Source::Repeated { body: body.unwrap_or_default().into_bytes(), left: 1 },
    };
    let exchange = arguments.exchange.unwrap_or_default();
    let key = arguments.key.or(arguments.queue).unwrap_or_default();
    let target = Target { exchange, key, rate: arguments.rate, format: arguments.input_format };
    let counts = block_on(publish(source, &target, settings, console))?;
    let status = counts.status();
    if console.is_json() {
        console.json(&counts)?;
        return Ok(status);
    }
    let Counts { sent, confirmed, refused, unknown, seconds, .. } = counts;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "for people"
    )]
    let rate = if seconds > 0.0 { (confirmed as f64 / seconds) as u64 } else { 0 };
    let text = format!(
        "{} sent, {} confirmed, {} refused, {} unknown in {seconds:.1} s ({}/s)",
        grouped(sent),
        grouped(confirmed),
        grouped(refused),
        grouped(unknown),
        grouped(rate)
    );
    console.verdict(status, status.word(), text)?;
    if counts.under_override > 0 {
        console.line(format_args!(
            "  {} were confirmed in a forced epoch: they can be missing if those left behind go on without it (quorate group \
             status)",
            grouped(counts.under_override)
        ))?;
    }
    if let Some(failure) = &counts.error {
        console.line(format_args!("  first: {}", failure.message))?;
        console.next(&failure.next)?;
    }
    Ok(status)
}

/// A body that is text, so that `--lines` tools can read it back.
fn filler(size: Size) -> Result<Vec<u8>, Failure> {
    const LARGEST: u64 = 1 << 30;
    let length = usize::try_from(size.0).ok().filter(|_| size.0 <= LARGEST);
    length.map(|length| vec![b'x'; length]).ok_or_else(|| Failure::usage(format!("--size {size}: too large")))
}

/// Where messages go, and how fast.
struct Target {
    exchange: String,
    key: String,
    rate: Option<u32>,
    format: InputFormat,
}

impl Target {
    /// When the message after so many others may go.
    fn due(&self, began: Instant, sent: u64) -> Option<Instant> {
        let second = u128::from(sent) * 1_000_000_000 / u128::from(self.rate?);
        began.checked_add(Duration::from_nanos(u64::try_from(second).unwrap_or(u64::MAX)))
    }
}

/// What is on its way, and what became of the rest.
struct Flight<'a> {
    waiting: VecDeque<Confirm>,
    counts: Counts,
    /// The input was read to its end.
    all_read: bool,
    progress: Instant,
    events: Events,
    timeout: Duration,
    console: &'a mut Console,
}

/// Why publishing stopped before the end.
enum Stop {
    /// No confirm for the timeout.
    Stuck,
    /// Ctrl-C.
    Asked,
    /// The input, or the client, failed.
    Failed(Failure),
}

async fn publish(
    mut source: Source,
    target: &Target,
    settings: &Settings,
    console: &mut Console,
) -> Result<Counts, Failure> {
    let client = connect(settings, "quorate publish").await?;
    let publisher = client.publisher()?;
    let began = Instant::now();
    let mut flight = Flight {
        waiting: VecDeque::new(),
        counts: Counts::default(),
        all_read: false,
        progress: began,
        events: client.events(),
        timeout: settings.timeout,
        console,
    };
    let stop = tokio::select! {
        stop = flight.all(&mut source, &publisher, target) => stop,
        _ = tokio::signal::ctrl_c() => Some(Stop::Asked),
    };
    let mut counts = flight.ended(stop, &publisher).await;
    counts.seconds = began.elapsed().as_secs_f64();
    if counts.unknown == 0 {
        client.close().await;
    }
    Ok(counts)
}

impl Flight<'_> {
    /// Publishes everything and waits for every outcome.
    async fn all(&mut self, source: &mut Source, publisher: &Publisher, target: &Target) -> Option<Stop> {
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        let mut number = 0;
        loop {
            let due = target.due(began, self.counts.sent);
            let next = async {
                if let Some(due) = due {
                    tokio::time::sleep_until(due.into()).await;
                }
                source.next().await
            };
            let body = tokio::select! {
                body = next => match body {
                    Ok(Some(body)) => body,
                    Ok(None) => break,
                    Err(failure) => return Some(Stop::Failed(failure)),
                },
                outcome = first(&mut self.waiting), if !self.waiting.is_empty() => { self.settle(outcome); continue }
                Some(event) = self.events.next() => { self.note(describe(&event)); continue }
                _ = tick.tick() => { if self.is_stuck() { return Some(Stop::Stuck) } continue }
            };
            number += 1;
            let message = match target.format.message(body, number) {
                Ok(message) => message,
                Err(failure) => return Some(Stop::Failed(failure)),
            };
            let mut publishing = pin!(publisher.publish(&target.exchange, &target.key, message));
            let accepted = loop {
                tokio::select! {
                    biased;
                    accepted = &mut publishing => break accepted,
                    outcome = first(&mut self.waiting), if !self.waiting.is_empty() => self.settle(outcome),
                    Some(event) = self.events.next() => self.note(describe(&event)),
                    _ = tick.tick() => if self.is_stuck() { return Some(Stop::Stuck) },
                }
            };
            match accepted {
                Ok(confirm) => {
                    if self.waiting.is_empty() {
                        // What was before does not count: there was nothing to wait for.
                        self.progress = Instant::now();
                    }
                    self.counts.sent += 1;
                    self.waiting.push_back(confirm);
                }
                Err(error @ Error::MessageTooLarge { .. }) => {
                    self.counts.sent += 1;
                    self.counts.add(Err(error));
                }
                Err(error) => return Some(Stop::Failed(error.into())),
            }
        }
        self.all_read = true;
        while !self.waiting.is_empty() {
            tokio::select! {
                outcome = first(&mut self.waiting) => self.settle(outcome),
                Some(event) = self.events.next() => self.note(describe(&event)),
                _ = tick.tick() => if self.is_stuck() { return Some(Stop::Stuck) },
            }
        }
        None
    }

    fn settle(&mut self, outcome: Result<Receipt, Error>) {
        self.waiting.pop_front();
        self.counts.add(outcome);
        while let Some(outcome) = self.waiting.front().and_then(Confirm::try_get) {
            self.waiting.pop_front();
            self.counts.add(outcome);
        }
        self.progress = Instant::now();
    }

    fn is_stuck(&mut self) -> bool {
        let Counts { sent, confirmed, .. } = self.counts;
        self.console.progress(format_args!("{} sent, {} confirmed", grouped(sent), grouped(confirmed)));
        !self.waiting.is_empty() && self.progress.elapsed() >= self.timeout
    }

    fn note(&mut self, text: Option<String>) {
        if let Some(text) = text {
            self.console.note(text);
        }
    }

    /// Waits for what is on its way, unless that was done already, then gives up the rest and counts what became of it.
    async fn ended(mut self, stop: Option<Stop>, publisher: &Publisher) -> Counts {
        let Some(stop) = stop else { return self.counts };
        if !matches!(stop, Stop::Stuck) {
            self.settle_rest(None).await;
        }
        if !self.waiting.is_empty() {
            publisher.withdraw();
            self.settle_rest(Some(LAST_ANSWERS.min(self.timeout))).await;
        }
        let left = self.waiting.len();
        self.counts.unknown += left as u64;
        let (unknown, timeout) = (self.counts.unknown, self.timeout);
        let failure = match stop {
            Stop::Failed(failure) => failure,
            Stop::Stuck if unknown > 0 => {
                let text = format!(
                    "no confirm for {timeout:?}: {unknown} messages given up, they may or may not arrive"
                );
                Failure::new(Status::Unknown, "timeout", text).next("quorate cluster status")
            }
            Stop::Stuck if self.all_read => return self.counts,
            Stop::Stuck => {
                let text = format!("no confirm for {timeout:?}: given up before everything was published");
                self.counts.error.get_or_insert_with(|| Failure::new(Status::Unknown, "timeout", text));
                return self.counts;
            }
            Stop::Asked if unknown == 0 => return self.counts,
            Stop::Asked => {
                let text =
                    format!("interrupted with {unknown} messages on their way: they may or may not arrive");
                Failure::new(Status::Unknown, "interrupted", text)
            }
        };
        if self.counts.refused > 0 {
            // What the brokers said comes first, as it does in the status.
            self.counts.error.get_or_insert(failure);
        } else {
            self.counts.error = Some(failure);
        }
        self.counts
    }

    /// Nothing more is published; what is on its way may still get its answer, for no longer than the limit or while
    /// some come, unless Ctrl-C says not to wait.
    async fn settle_rest(&mut self, limit: Option<Duration>) {
        let mut interrupt = Box::pin(tokio::signal::ctrl_c());
        let until = limit.map(|limit| Instant::now() + limit);
        let is_over = |flight: &mut Self| match until {
            Some(until) => Instant::now() >= until,
            None => flight.is_stuck(),
        };
        while !self.waiting.is_empty() && !is_over(self) {
            tokio::select! {
                outcome = first(&mut self.waiting) => self.settle(outcome),
                _ = &mut interrupt => return,
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
        }
    }
}

/// The outcome of the oldest message on its way. May be dropped and called again.
async fn first(waiting: &mut VecDeque<Confirm>) -> Result<Receipt, Error> {
    poll_fn(|context| {
        let confirm = waiting.front_mut().expect("asked only if something is on its way");
        Future::poll(Pin::new(confirm), context)
    })
    .await
}
