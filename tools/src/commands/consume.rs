//! `quorate consume`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use quorate_client::ConsumeOptions;
use serde::Serialize;

use super::consumption::Consumption;
use super::sink::Sink;
use crate::connection::{block_on, connect};
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::settings::Settings;
use crate::units::{Span, grouped};

/// Most messages held at one time.
const CREDIT: u32 = 1000;

/// What to consume, and what to do with it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate consume --queue orders --until-empty --output orders.txt
  quorate consume --queue orders --count 10
  quorate consume --queue orders --idle-timeout 5s --output-format json
  quorate queue peek orders                      (looks without removing)

Bodies go to --output, each followed by a newline, before their messages are acknowledged; the command ends after
its acks are confirmed. A file is appended to. Without --output they go to standard output, or with -o json into
the result's list \"messages\".

Without --count, --idle-timeout or --until-empty it waits for messages until Ctrl-C; with --count alone it waits until
so many have come. --timeout is not about messages: it bounds the search for a leader, at the beginning and after a
failure (exit status 3).")]
pub struct ConsumeArguments {
    /// From this queue
    #[arg(long, value_name = "QUEUE")]
    pub(super) queue: String,
    /// Stop after so many messages; no more are taken from the queue
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
    /// Acknowledge what was written; this is the default
    #[arg(long, conflicts_with = "no_ack")]
    ack: bool,
    /// Messages are removed as they are delivered, before they are written: what is on its way when something fails is lost
    #[arg(long)]
    pub(super) no_ack: bool,
    /// Append bodies to this file; - is standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Bodies alone, or JSON with headers, position and redelivered
    #[arg(long, value_enum, default_value_t = OutputFormat::Raw, value_name = "FORMAT")]
    pub(super) output_format: OutputFormat,
    /// Stop after so long without a message (exit status 1)
    #[arg(long, value_name = "TIME")]
    pub(super) idle_timeout: Option<Span>,
    /// Stop when the queue has nothing ready and nothing unacknowledged
    #[arg(long)]
    pub(super) until_empty: bool,
}

/// What is written for each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    /// The body
    Raw,
    /// A JSON object on one line
    Json,
}

/// Why the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Ended {
    Count,
    Idle,
    Empty,
    Interrupted,
    Failed,
}

/// What was done.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) received: u64,
    pub(super) redelivered: u64,
    pub(super) acked: u64,
    pub(super) seconds: f64,
    pub(super) ended: Ended,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<Failure>,
}

impl Report {
    fn status(&self) -> Status {
        match (&self.error, self.ended) {
            (Some(failure), _) => failure.status,
            (None, Ended::Idle) => Status::Warning,
            (None, _) => Status::Done,
        }
    }
}

/// Consumes.
///
/// # Errors
/// Nothing was consumed at all.
pub fn run(
    arguments: ConsumeArguments,
    settings: &Settings,
    console: &mut Console,
) -> Result<Status, Failure> {
    let work = async {
        let client = connect(settings, "quorate consume").await?;
        let options = ConsumeOptions {
            credit: arguments.count.and_then(|count| u32::try_from(count).ok()).unwrap_or(CREDIT).min(CREDIT),
            no_ack: arguments.no_ack,
            exclusive: false,
            // What was delivered beyond the count would be lost without acks, and come back marked with them.
            limit: arguments.count,
        };
        let consumer = client.consume(&arguments.queue, options).await?;
        let sink = Sink::open(arguments.output.as_deref(), console)?;
        let mut consumption = Consumption::new(client, sink, arguments, settings.timeout, console);
        let report = consumption.run(consumer).await;
        Ok((report, consumption.into_sink()))
    };
    let (mut report, sink) = block_on(work)?;
    let (in_document, output_taken) = (sink.is_document(), sink.is_output());
    if let Err(failure) = sink.close() {
        report.error.get_or_insert(failure);
    }
    say(&report, in_document, output_taken, console)?;
    Ok(report.status())
}

fn say(report: &Report, in_document: bool, output_taken: bool, console: &mut Console) -> Result<(), Failure> {
    if console.is_json() {
        if !in_document {
            return console.json(report);
        }
        let text = serde_json::to_string(report).expect("the report has text keys only");
        return console.line(format_args!("],{}", text.trim_start_matches('{')));
    }
    let status = report.status();
    let unread = report.error.as_ref().is_some_and(Failure::is_closed_output);
    let why = match report.ended {
        Ended::Count => "the count is reached",
        Ended::Idle => "no message came for the idle timeout",
        Ended::Empty => "the queue is empty",
        Ended::Interrupted => "interrupted",
        Ended::Failed if unread => "nobody reads standard output any more",
        Ended::Failed => "it failed",
    };
    let [received, redelivered, acked] = [report.received, report.redelivered, report.acked].map(grouped);
    let seconds = report.seconds;
    let text =
        format!("{received} received, {redelivered} redelivered, {acked} acked in {seconds:.1} s: {why}");
    if output_taken {
        console.note(format_args!("{}: {text}", status.word()));
        if let Some(failure) = report.error.as_ref().filter(|_| !unread) {
            console.note(format_args!("  {}", failure.message));
        }
        return Ok(());
    }
    console.verdict(status, status.word(), text)?;
    if let Some(failure) = &report.error {
        console.line(format_args!("  {}", failure.message))?;
        console.next(&failure.next)?;
    }
    Ok(())
}
