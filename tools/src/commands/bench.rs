//! `quorate bench`.

use std::collections::BTreeSet;
use std::iter;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::bench_compare::{self, CompareArguments};
use super::cluster::ask;
use crate::admin::Admin;
use crate::bench::cost::Meter;
use crate::bench::crew::Crew;
use crate::bench::floor::{Floor, LARGEST_BATCH};
use crate::bench::plan::{MOST, MOST_RATE, Mode, Plan};
use crate::bench::report::Report;
use crate::bench::run::Run;
use crate::connection::{block_on, connect_with, options};
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::process;
use crate::settings::Settings;
use crate::units::{Size, Span};

/// Windows of a closed loop, if nothing is said.
const WINDOWS: [usize; 3] = [1, 64, 1024];
/// That of an open loop: its latencies do not depend on it, as long as the cluster keeps up.
const OPEN_WINDOW: usize = 1024;
/// The client library's own window, at least.
const CLIENT_WINDOW: usize = 32 * 1024;

/// What to measure, or to compare.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate --context sandbox bench both --seconds 5 --rounds 3
  quorate bench publish --windows 1,64,1024 --sizes 128,1KiB,16KiB --floor-dir /var/lib/quorate -o json
  quorate bench consume --messages 100000 --pid 4711,4712,4713
  quorate bench both --together --rate 20000 --sizes 1KiB
  quorate bench both --queues 8 --publishers 32 --consumers 16 --windows 64 --sizes 1KiB
  quorate bench both --rounds 5 -o json > new.json; quorate bench compare old.json new.json

Closed loop (the default): each publisher keeps a window of messages on their way, so the rate is what the cluster
takes. Open loop (--rate): messages are due at even distances whatever the cluster does, and the latency of each counts
from when it was due, also while it waits to be sent (as in wrk2); the service time, from send to confirm, is shown
beside it. What could not be sent by the end counts as never sent.
Publishers and consumers have a connection each, opened before anything is measured. The first publisher and the first
consumer take the first queue, the second ones the second, and so on, round and round.
--floor-dir names a directory on the disk of the stores: next to each cluster cell the same is measured with one
process and three files there, each batch done when two of three have it synced. In each round the cells follow
each other, the floor and the cluster in turn, so that both see the same disk; the tables show medians.
`both` publishes, then consumes what was published; with --together at the same time. `consume` first fills the queues,
unmeasured, with --messages, or with 50000 messages or 256 MiB, whichever is less.
The queues are called quorate-bench-…; they are deleted at the end, and at Ctrl-C.

Exit status: 0 all well, 1 messages refused, unknown or delivered twice, or the cluster did not keep up with --rate,
2 messages lost, delivered twice without the mark of redelivery, or that nobody published, 3 interrupted or unreachable;
what was measured by then is shown.")]
pub struct BenchArguments {
    #[command(subcommand)]
    command: BenchCommand,
}

/// What is done to the cluster; comparing needs none.
#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Publish, and wait for confirms
    #[command(after_help = "Examples:
  quorate bench publish --windows 1,64,1024 --sizes 128,1KiB,16KiB --floor-dir /var/lib/quorate -o json
  quorate bench publish --rate 20000 --sizes 1KiB
More, and what the numbers mean: quorate bench --help")]
    Publish(MeasureArguments),
    /// Consume filled queues, and acknowledge
    #[command(after_help = "Examples:
  quorate bench consume --messages 100000 --pid 4711,4712,4713
  quorate bench consume --queues 8 --consumers 16 --windows 64
More, and what the numbers mean: quorate bench --help")]
    Consume(MeasureArguments),
    /// Publish, then consume what was published; or both at the same time
    #[command(after_help = "Examples:
  quorate bench both --seconds 5 --rounds 3
  quorate bench both --together --rate 20000 --sizes 1KiB
  quorate bench both --queues 8 --publishers 32 --consumers 16 --windows 64 --sizes 1KiB
More, and what the numbers mean: quorate bench --help")]
    Both(MeasureArguments),
    /// Compare two runs: what is faster, slower, the same
    #[command(after_help = "Examples:
  quorate bench both --rounds 5 -o json > old.json
  quorate bench compare old.json new.json
  quorate bench compare old.json new.json --tolerance 5% -o json

A number is slower if every round of the new run is worse than every round of the old one, faster if every one is
better, and the same if the ranges touch or the medians differ by less than 1 %. The ratio shown is that of the medians.
Exit status: 0, or 1 if something is slower by more than the tolerance; 2 if the runs cannot be compared.")]
    Compare(CompareArguments),
}

#[derive(Debug, Args)]
struct MeasureArguments {
    /// Messages on their way of each publisher, and unsettled at each consumer, at one time [default: 1,64,1024; with --rate: 1024; less if that would take too much memory]
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = parse_window)]
    windows: Vec<usize>,
    /// Bytes of each message
    #[arg(long, value_name = "SIZE,...", value_delimiter = ',', default_value = "128,1KiB,16KiB")]
    sizes: Vec<Size>,
    /// Open loop: publish so many messages a second, in sum over the publishers
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=MOST_RATE))]
    rate: Vec<u64>,
    /// Connections that publish [default: one for each queue]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST)))]
    publishers: Option<u16>,
    /// Connections that consume [default: one for each queue]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST)))]
    consumers: Option<u16>,
    /// Queues, over which publishers and consumers are spread round robin
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST)))]
    queues: u16,
    /// How long each cell takes, in seconds or as a time; `consume` ends sooner if the queues are empty [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = parse_seconds, conflicts_with = "messages")]
    seconds: Option<Duration>,
    /// How many messages each cell has in sum, instead
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

/// The windows if none is given: of the usual ones those that fit, so that nobody is told to make smaller what they did
/// not choose.
fn usual_windows(plan: &Plan) -> Vec<usize> {
    if plan.rates.is_empty() {
        return WINDOWS.into_iter().filter(|window| *window == 1 || plan.fits(*window)).collect();
    }
    let halves = iter::successors(Some(OPEN_WINDOW), |window| Some(window / 2).filter(|half| *half > 0));
    vec![halves.into_iter().find(|window| plan.fits(*window)).unwrap_or(1)]
}

impl BenchArguments {
    /// Whether no cluster is needed.
    pub fn is_local(&self) -> bool {
        matches!(self.command, BenchCommand::Compare(_))
    }
}

impl MeasureArguments {
    fn plan(&self, mode: Mode, settings: &Settings) -> Result<Plan, Failure> {
        for (flag, given, useless) in
            [("--publishers", self.publishers, Mode::Consume), ("--consumers", self.consumers, Mode::Publish)]
        {
            if given.is_some() && mode == useless {
                let name = mode.name();
                return Err(Failure::usage(format!(
                    "{flag} does nothing in `bench {name}`; it goes with `bench both`"
                )));
            }
        }
        let consumers = usize::from(self.consumers.unwrap_or(self.queues));
        let seconds = self.seconds.unwrap_or(Duration::from_secs(5)).as_secs_f64();
        let mut plan = Plan {
            mode,
            sizes: self.sizes.iter().map(|size| size.0).collect(),
            windows: self.windows.clone(),
            rates: self.rate.clone(),
            seconds: if self.messages.is_some() { None } else { Some(seconds) },
            messages: self.messages,
            publishers: usize::from(self.publishers.unwrap_or(self.queues)),
            consumers: if mode == Mode::Publish { 0 } else { consumers },
            queues: usize::from(self.queues),
            together: self.together,
            rounds: self.rounds,
            warm_up_seconds: self.warm_up.0.as_secs_f64(),
            floor_dir: self.floor_dir.as_ref().map(|directory| directory.display().to_string()),
            timeout_seconds: settings.timeout.as_secs_f64(),
        };
        if plan.windows.is_empty() {
            plan.windows = usual_windows(&plan);
        }
        plan.check().map_err(Failure::usage)?;
        Ok(plan)
    }
}

/// Measures, or compares.
///
/// # Errors
/// There is no cluster, the floor's directory cannot be used, or there is nothing to compare.
pub fn run(
    arguments: &BenchArguments,
    settings: &Settings,
    console: &mut Console,
) -> Result<Status, Failure> {
    let (mode, arguments) = match &arguments.command {
        BenchCommand::Publish(arguments) => (Mode::Publish, arguments),
        BenchCommand::Consume(arguments) => (Mode::Consume, arguments),
        BenchCommand::Both(arguments) => (Mode::Both, arguments),
        BenchCommand::Compare(arguments) => return bench_compare::run(arguments, console),
    };
    let plan = arguments.plan(mode, settings)?;
    let report = block_on(measure(arguments, plan, settings, console))?;
    say(&report, console)
}

fn say(report: &Report, console: &mut Console) -> Result<Status, Failure> {
    let status = report.status();
    if console.is_json() {
        console.json(report)?;
        return Ok(status);
    }
    let (cells, rounds) = (report.cells.len(), report.rounds);
    let cells = if cells == 1 { "1 cell".to_owned() } else { format!("{cells} cells") };
    let rounds = if rounds == 1 { "1 round".to_owned() } else { format!("medians of {rounds} rounds") };
    let floor = report.floor_directory.as_ref().map_or_else(
        || "no floor was measured: --floor-dir DIR on the disk of the stores".to_owned(),
        |directory| format!("the floor is in {directory}"),
    );
    let incomplete = report.incomplete.as_ref();
    let ended = incomplete
        .map_or_else(String::new, |failure| format!("{}; what was measured by then: ", failure.message));
    console.verdict(status, status.word(), format_args!("{ended}{cells}, {rounds}; {floor}"))?;
    console.entry(format_args!("messages: {}", report.messages.line()))?;
    for not_kept in report.cells.iter().filter_map(crate::bench::report::Cell::not_kept) {
        console.entry(not_kept)?;
    }
    for (title, table) in report.tables() {
        console.line(format_args!("\n{title}\n\n{table}"))?;
    }
    if let Some(failure) = incomplete.filter(|failure| !failure.next.is_empty()) {
        console.line("")?;
        console.next(&failure.next)?;
    }
    Ok(status)
}

async fn measure(
    arguments: &MeasureArguments,
    plan: Plan,
    settings: &Settings,
    console: &mut Console,
) -> Result<Report, Failure> {
    let mut interrupts = Interrupts::new()?;
    let pids = pids(arguments, settings)?;
    let floor = arguments.floor_dir.as_ref().map(|directory| {
        Floor::new(directory)
            .map_err(|error| Failure::usage(format!("--floor-dir {}: {error}", directory.display())))
    });
    let floor = floor.transpose()?;
    let widest = plan.windows.iter().copied().max().unwrap_or(1).max(CLIENT_WINDOW);
    let room = usize::try_from(2 * LARGEST_BATCH).unwrap_or(usize::MAX);
    let options = options(settings, "quorate bench")?.window(widest, room);
    let connected = async {
        let addresses = addresses(settings).await;
        let control = connect_with(options.clone(), settings).await?;
        let crew = Crew::connect(&options, settings, plan.publishers, plan.consumers).await?;
        Ok::<_, Failure>((addresses, control, crew))
    };
    let (brokers, control, crew) = tokio::select! {
        connected = connected => connected?,
        () = interrupts.next() => return Err(interrupted()),
    };
    let count = brokers.len().max(pids.len());
    let meter = Meter::new(Admin::new(settings)?, brokers, pids);
    let mut run = Run::new(&plan, settings, crew, control.clone(), meter, floor);
    let ended = tokio::select! {
        ended = run.all(console) => ended,
        () = interrupts.next() => Err(interrupted()),
    };
    // The queues were made for this, and go with it, whatever happened.
    let cleaned = tokio::select! {
        cleaned = run.clean_up() => cleaned,
        () = interrupts.again() => Err(interrupted()),
    };
    if let Err(error) = cleaned
        && let [first, others @ ..] = run.queues()
    {
        console.note(format_args!(
            "{} queues could not be deleted: {error}\nNext: quorate queue delete {first} --yes",
            others.len() + 1
        ));
    }
    control.close().await;
    match (ended, run.cells()) {
        (Err(failure), cells) if cells.is_empty() => Err(failure),
        (ended, cells) => Ok(Report::new(plan.clone(), count, cells, ended.err())),
    }
}

/// Signals that come within this time mean the same: one may reach a process by several ways.
const SAME_WISH: Duration = Duration::from_millis(500);

/// What asks this process to end.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    /// When it was asked first.
    first: Option<Instant>,
}

impl Interrupts {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::io("cannot listen for signals", &error));
        let (interrupt, terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, first: None })
    }

    /// Somebody asks.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        self.first.get_or_insert_with(Instant::now);
    }

    /// Somebody asks once more, whether the first time was before this or not.
    async fn again(&mut self) {
        loop {
            let first = self.first;
            self.next().await;
            if first.is_some_and(|first| first.elapsed() >= SAME_WISH) {
                return;
            }
        }
    }
}

fn interrupted() -> Failure {
    Failure::new(Status::Unknown, "interrupted", "interrupted before the end")
}

/// The brokers' processes, each once.
fn pids(arguments: &MeasureArguments, settings: &Settings) -> Result<Vec<u32>, Failure> {
    if arguments.pid.is_empty() {
        return Ok(settings.pids.clone());
    }
    if let Some(gone) = arguments.pid.iter().find(|pid| process::processor_time(**pid).is_none()) {
        return Err(Failure::usage(format!("--pid {gone}: this machine has no such process")));
    }
    let each: BTreeSet<u32> = arguments.pid.iter().copied().collect();
    Ok(each.into_iter().collect())
}

/// Admin addresses of the cluster's brokers, as far as somebody says.
async fn addresses(settings: &Settings) -> Vec<String> {
    let Ok(admin) = Admin::new(settings) else { return Vec::new() };
    let answer = tokio::task::spawn_blocking(move || ask(&admin)).await;
    let members = answer.ok().and_then(Result::ok).map(|(view, _)| view.members().to_vec());
    let members = members.unwrap_or_default();
    let present = members.iter().filter(|member| member["present"] == true);
    present
        .filter_map(|member| member["admin_address"].as_str())
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .collect()
}
