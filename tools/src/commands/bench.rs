//! `quorate bench`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use quorate_client::{Client, DeleteOptions, QueueOptions};
use tokio::sync::watch;

use super::cluster::ask;
use crate::admin::Admin;
use crate::bench::cost::Meter;
use crate::bench::floor::{Floor, LARGEST_BATCH};
use crate::bench::measure::Measured;
use crate::bench::report::{Cell, Report, Round};
use crate::bench::workload::{Limit, SMALLEST, Workload};
use crate::connection::{block_on, connect_with, options};
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::settings::Settings;
use crate::units::{Size, Span};

/// What is in a queue before `bench consume` measures, at most.
const PREFILL_MESSAGES: u64 = 50_000;
const PREFILL_BYTES: u64 = 256 << 20;
/// With how many messages on their way a queue is filled.
const PREFILL_WINDOW: usize = 1024;

/// What to measure.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate --context sandbox bench both --seconds 5 --rounds 3
  quorate bench publish --windows 1,64,1024 --sizes 128,1KiB,16KiB --floor-dir /var/lib/quorate -o json
  quorate bench consume --messages 100000 --pid 4711,4712,4713

--floor-dir names a directory on the disk of the stores: next to each cluster cell the same is measured with one
process and three files there, each batch done when two of three have it synced. In each round the cells follow
each other, the floor and the cluster in turn, so that both see the same disk; the tables show medians.
`both` publishes, then consumes what was published; with --together at the same time.")]
pub struct BenchArguments {
    /// What to do to the cluster
    #[arg(value_enum)]
    mode: Mode,
    /// Messages on their way at one time
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,64,1024", value_parser = parse_window)]
    windows: Vec<usize>,
    /// Bytes of each message
    #[arg(long, value_name = "SIZE,...", value_delimiter = ',', default_value = "128,1KiB,16KiB")]
    sizes: Vec<Size>,
    /// How long each cell takes, in seconds or as a time [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = parse_seconds, conflicts_with = "messages")]
    seconds: Option<Duration>,
    /// How many messages each cell has, instead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// How often everything is measured
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Measure the floor in this directory, on the disk of the stores
    #[arg(long, value_name = "DIR")]
    floor_dir: Option<PathBuf>,
    /// The brokers' processes, for processor time and bytes written [default: the sandbox's, with its context]
    #[arg(long, value_name = "PID,...", value_delimiter = ',')]
    pid: Vec<u32>,
    /// Publish for so long before anything is measured
    #[arg(long, value_name = "TIME", default_value = "1s")]
    warm_up: Span,
    /// Publish and consume at the same time; latencies of consuming are then from publish to delivery
    #[arg(long)]
    together: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Publish, and wait for confirms
    Publish,
    /// Consume a filled queue, and acknowledge
    Consume,
    /// Publish, then consume
    Both,
}

fn parse_window(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(window @ 1..=1_000_000) => Ok(window),
        _ => Err("not a number from 1 to 1000000".to_owned()),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let time = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?,
        Err(_) => text.parse::<Span>().map_err(|error| error.to_string())?.0,
    };
    if time.is_zero() { Err("a cell needs some time".to_owned()) } else { Ok(time) }
}

/// Measures.
///
/// # Errors
/// There is no cluster, or the floor's directory cannot be used.
pub fn run(
    arguments: &BenchArguments,
    settings: &Settings,
    console: &mut Console,
) -> Result<Status, Failure> {
    if arguments.together && arguments.mode != Mode::Both {
        return Err(Failure::usage("--together goes with `bench both`"));
    }
    if let Some(small) = arguments.sizes.iter().find(|size| size.0 < SMALLEST as u64) {
        return Err(Failure::usage(format!(
            "--sizes {small}: a message carries its time, so it has at least {SMALLEST} B"
        )));
    }
    let largest = arguments.sizes.iter().map(|size| size.0).max().unwrap_or(0);
    let widest = arguments.windows.iter().copied().max().unwrap_or(1);
    let most = largest.saturating_add(1 << 10).saturating_mul(widest as u64);
    if most > LARGEST_BATCH {
        let text = format!(
            "a window of {widest} messages of {} is more than {}",
            Size(largest),
            Size(LARGEST_BATCH)
        );
        return Err(Failure::usage(format!("{text}; choose smaller --windows or --sizes")));
    }
    let report = block_on(measure(arguments, settings, console))?;
    say(&report, console)
}

fn say(report: &Report, console: &mut Console) -> Result<Status, Failure> {
    let status = if report.is_clean() { Status::Done } else { Status::Warning };
    if console.is_json() {
        console.json(report)?;
        return Ok(status);
    }
    let cells = report.cells.len();
    let rounds = report.rounds;
    let floor = report.floor_directory.as_ref().map_or_else(
        || "no floor was measured: --floor-dir DIR on the disk of the stores".to_owned(),
        |directory| format!("the floor is in {directory}"),
    );
    console.verdict(
        status,
        status.word(),
        format_args!("{cells} cells, medians of {rounds} rounds; {floor}"),
    )?;
    let latency = match report.consume_latency {
        "end-to-end" => "latency from publish to delivery",
        _ => "latency from delivery to confirmed ack",
    };
    let tables = [
        ("Publish (latency from publish to confirm)".to_owned(), report.publish_table()),
        (format!("Consume ({latency})"), report.consume_table()),
        (format!("Cost, {} brokers together", report.brokers), report.cost_table()),
    ];
    for (title, table) in tables {
        if let Some(table) = table {
            console.line(format_args!("\n{title}\n\n{table}"))?;
        }
    }
    Ok(status)
}

/// One run.
struct Run<'a> {
    arguments: &'a BenchArguments,
    workload: Workload,
    meter: Meter,
    floor: Option<Floor>,
    limit: Limit,
}

async fn measure(
    arguments: &BenchArguments,
    settings: &Settings,
    console: &mut Console,
) -> Result<Report, Failure> {
    let floor = arguments.floor_dir.as_ref().map(|directory| {
        Floor::new(directory)
            .map_err(|error| Failure::usage(format!("--floor-dir {}: {error}", directory.display())))
    });
    let floor = floor.transpose()?;
    let widest = arguments.windows.iter().copied().max().unwrap_or(1).max(32 * 1024);
    let room = usize::try_from(2 * LARGEST_BATCH).unwrap_or(usize::MAX);
    let client = connect_with(options(settings, "quorate bench")?.window(widest, room), settings).await?;
    let (brokers, pids) = brokers(arguments, settings);
    let meter = Meter::new(Admin::new(settings), brokers.clone(), pids.clone());
    let queue = format!("quorate-bench-{}", uuid::Uuid::new_v4().simple());
    client.declare_queue(&queue, QueueOptions::default()).await?;
    let workload = Workload {
        client: client.clone(),
        queue: queue.clone(),
        epoch: Instant::now(),
        timeout: settings.timeout,
    };
    let limit = match (arguments.messages, arguments.seconds) {
        (Some(messages), _) => Limit::Messages(messages),
        (None, seconds) => Limit::Time(seconds.unwrap_or(Duration::from_secs(5))),
    };
    let mut run = Run { arguments, workload, meter, floor, limit };
    let cells = tokio::select! {
        cells = run.all(console) => cells,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Status::Unknown, "interrupted", "interrupted before the end")),
    };
    // The queue was made for this, and goes with it, whatever happened.
    remove(&client, &queue, console).await;
    Ok(Report {
        mode: match arguments.mode {
            Mode::Publish => "publish",
            Mode::Consume => "consume",
            Mode::Both => "both",
        },
        consume_latency: if arguments.together { "end-to-end" } else { "ack" },
        rounds: usize::from(arguments.rounds),
        floor_directory: arguments.floor_dir.as_ref().map(|directory| directory.display().to_string()),
        brokers: brokers.len().max(pids.len()),
        cells: cells?,
    })
}

async fn remove(client: &Client, queue: &str, console: &mut Console) {
    let deleted = client.delete_queue(queue, DeleteOptions::default()).await;
    if let Err(error) = deleted {
        console.note(format_args!(
            "queue {queue} could not be deleted: {error}\nNext: quorate queue delete {queue} --yes"
        ));
    }
    client.close().await;
}

/// Admin addresses of the cluster's brokers, and their processes as far as they are known.
fn brokers(arguments: &BenchArguments, settings: &Settings) -> (Vec<String>, Vec<u32>) {
    let admin = Admin::new(settings);
    let members = ask(&admin).map(|(view, _)| view.members().to_vec()).unwrap_or_default();
    let present = members.iter().filter(|member| member["present"] == true);
    let addresses: Vec<String> = present
        .filter_map(|member| member["admin_address"].as_str())
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .collect();
    let pids = if arguments.pid.is_empty() { settings.pids.clone() } else { arguments.pid.clone() };
    (addresses, pids)
}

impl Run<'_> {
    async fn all(&mut self, console: &mut Console) -> Result<Vec<Cell>, Failure> {
        if !self.arguments.warm_up.0.is_zero() {
            console.progress("warming up");
            self.workload.publish(128, 64, Limit::Time(self.arguments.warm_up.0)).await?;
            self.purge().await?;
        }
        let places: Vec<(Size, usize)> = self
            .arguments
            .sizes
            .iter()
            .flat_map(|size| self.arguments.windows.iter().map(|window| (*size, *window)))
            .collect();
        let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); places.len()];
        for number in 1..=self.arguments.rounds {
            for ((size, window), rounds) in places.iter().zip(&mut rounds) {
                let count = self.arguments.rounds;
                console.progress(format_args!("round {number} of {count}: {size}, window {window}"));
                // Who comes first alternates, so that neither always finds the disk as the other left it.
                rounds.push(self.cell(*size, *window, number % 2 == 1).await?);
            }
        }
        let cells = places.into_iter().zip(rounds);
        Ok(cells.map(|((size, window), rounds)| Cell::new(size.0, window, rounds)).collect())
    }

    async fn cell(&mut self, size: Size, window: usize, floor_first: bool) -> Result<Round, Failure> {
        let bytes =
            usize::try_from(size.0).map_err(|_| Failure::usage(format!("--sizes {size}: too large")))?;
        let floor = if floor_first { self.floor(bytes, window)? } else { None };
        let mut round = match self.arguments.mode {
            Mode::Publish => {
                let mut round = Round::default();
                self.publish(bytes, window, &mut round).await?;
                round
            }
            Mode::Consume => {
                let messages = self
                    .arguments
                    .messages
                    .unwrap_or(PREFILL_MESSAGES.min(PREFILL_BYTES / size.0.max(1)).max(1));
                let filled = self.workload.publish(bytes, PREFILL_WINDOW, Limit::Messages(messages)).await?;
                let mut round = Round::default();
                self.consume(bytes, window, filled.messages, &mut round).await?;
                round
            }
            Mode::Both if self.arguments.together => self.together(bytes, window).await?,
            Mode::Both => {
                let mut round = Round::default();
                let published = self.publish(bytes, window, &mut round).await?;
                self.consume(bytes, window, published, &mut round).await?;
                round
            }
        };
        self.purge().await?;
        round.floor = if floor_first { floor } else { self.floor(bytes, window)? };
        Ok(round)
    }

    fn floor(&mut self, size: usize, window: usize) -> Result<Option<Measured>, Failure> {
        // The floor is what publishing is compared with.
        let floor = self.floor.as_mut().filter(|_| self.arguments.mode != Mode::Consume);
        let limit = self.limit;
        let measured = floor.map(|floor| tokio::task::block_in_place(|| floor.run(size, window, limit)));
        measured.transpose().map_err(|error| Failure::io("the floor", &error))
    }

    async fn publish(&self, size: usize, window: usize, round: &mut Round) -> Result<u64, Failure> {
        let before = self.read();
        let measured = self.workload.publish(size, window, self.limit).await?;
        let messages = measured.messages;
        round.publish_cost = Some(self.meter.cost(&before, &self.read(), messages, messages * size as u64));
        round.publish = Some(measured);
        Ok(messages)
    }

    async fn consume(
        &self,
        size: usize,
        window: usize,
        expected: u64,
        round: &mut Round,
    ) -> Result<(), Failure> {
        let before = self.read();
        let (_keep, expected) = watch::channel(Some(expected));
        let measured = self.workload.consume(window, expected, false).await?;
        let messages = measured.messages;
        round.consume_cost = Some(self.meter.cost(&before, &self.read(), messages, messages * size as u64));
        round.consume = Some(measured);
        Ok(())
    }

    async fn together(&self, size: usize, window: usize) -> Result<Round, Failure> {
        let before = self.read();
        let (tell, expected) = watch::channel(None);
        let workload = self.workload.clone();
        let consuming = tokio::spawn(async move { workload.consume(window, expected, true).await });
        let published = self.workload.publish(size, window, self.limit).await?;
        tell.send_replace(Some(published.messages));
        let consumed = consuming.await.map_err(|error| {
            Failure::new(Status::Unknown, "internal", format!("the consumer's task ended: {error}"))
        })??;
        let messages = published.messages;
        let cost = self.meter.cost(&before, &self.read(), messages, messages * size as u64);
        Ok(Round {
            publish: Some(published),
            publish_cost: Some(cost),
            consume: Some(consumed),
            ..Round::default()
        })
    }

    fn read(&self) -> crate::bench::cost::Reading {
        tokio::task::block_in_place(|| self.meter.read())
    }

    async fn purge(&self) -> Result<(), Failure> {
        self.workload.client.purge_queue(&self.workload.queue).await?;
        Ok(())
    }
}
