//! `quorate sandbox`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::cluster::wait_until;
use super::cluster_view::View;
use crate::admin::Admin;
use crate::approach::Approach;
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::process::Ending;
use crate::sandbox::{Broker, State, free_ports, usual_directory};
use crate::settings::Settings;

/// How often ports are chosen anew because somebody else took one between asking and listening.
const ATTEMPTS: usize = 3;
/// How long a broker may take to open its ports.
const START: Duration = Duration::from_secs(30);
/// How long a broker may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);

/// What to do with the sandbox.
#[derive(Debug, Subcommand)]
pub enum SandboxCommand {
    /// Start a cluster of real brokers on this machine, and wait until it is active
    #[command(after_help = "Examples:\n  quorate sandbox up --nodes 3\n  \
        quorate --context sandbox cluster status\n  quorate sandbox kill b1; quorate sandbox start b1\n  quorate sandbox down")]
    Up(Up),
    /// Which brokers run, and what state their cluster is in
    #[command(after_help = "Example:\n  quorate sandbox status -o json")]
    Status(Place),
    /// Kill a broker (SIGKILL)
    #[command(after_help = "Example:\n  quorate sandbox kill b2")]
    Kill(One),
    /// Start a broker again, on the same ports and the same store
    #[command(after_help = "Example:\n  quorate sandbox start b2")]
    Start(One),
    /// Stop all brokers and remove everything
    #[command(
        after_help = "Examples:\n  quorate sandbox down\n  quorate sandbox down --keep      (stores and logs stay)"
    )]
    Down(Down),
}

/// Where the sandbox is.
#[derive(Debug, Args)]
pub struct Place {
    /// The sandbox's directory [default: $XDG_STATE_HOME/quorate/sandbox]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Place {
    /// The directory, absolute: it is compared with what processes say.
    fn directory(&self) -> Result<PathBuf, Failure> {
        let directory = self.dir.clone().unwrap_or_else(usual_directory);
        std::path::absolute(&directory).map_err(|error| Failure::io(directory.display(), &error))
    }

    fn option(&self) -> String {
        self.dir.as_ref().map(|dir| format!(" --dir {}", dir.display())).unwrap_or_default()
    }
}

/// How to make a sandbox.
#[derive(Debug, Args)]
pub struct Up {
    /// How many brokers
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// The broker's program [default: beside this one, then on the PATH]
    #[arg(long, value_name = "PATH")]
    quorated: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

/// Which broker.
#[derive(Debug, Args)]
pub struct One {
    /// The broker: b1, b2, …
    name: String,
    #[command(flatten)]
    place: Place,
}

/// How to end a sandbox.
#[derive(Debug, Args)]
pub struct Down {
    /// Keep stores and logs
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    place: Place,
}

/// Carries it out.
///
/// # Errors
/// Brokers do not start, or there is no sandbox.
pub fn run(command: SandboxCommand, settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    match command {
        SandboxCommand::Up(up) => bring_up(&up, settings, console),
        SandboxCommand::Status(place) => status(&place, settings, console),
        SandboxCommand::Kill(one) => kill(&one, console),
        SandboxCommand::Start(one) => start_again(&one, console),
        SandboxCommand::Down(down) => take_down(&down, console),
    }
}

fn find_program(given: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = given {
        return std::path::absolute(path).map_err(|error| Failure::io(path.display(), &error));
    }
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("quorated"));
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&on_path).map(|dir| dir.join("quorated"));
    beside.into_iter().chain(on_path).find(|path| path.is_file()).ok_or_else(|| {
        let text = "the broker's program, quorated, is neither beside this one nor on the PATH";
        Failure::new(Status::Refused, "no-quorated", text).next("quorate sandbox up --quorated PATH")
    })
}

fn bring_up(up: &Up, settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    let directory = up.place.directory()?;
    let option = up.place.option();
    if State::exists(&directory) {
        let text = format!("there is a sandbox in {} already", directory.display());
        let failure = Failure::new(Status::Refused, "sandbox-exists", text);
        return Err(failure
            .next(format!("quorate sandbox status{option}"))
            .next(format!("quorate sandbox down{option}")));
    }
    let quorated = find_program(up.quorated.as_deref())?;
    fs::create_dir_all(&directory).map_err(|error| Failure::io(directory.display(), &error))?;
    let began = Instant::now();
    let mut attempt = 1;
    let state = loop {
        let mut state =
            State { quorated: quorated.clone(), brokers: choose(up.nodes)?, directory: directory.clone() };
        match start_all(&mut state) {
            Ok(()) => break state,
            Err(failure) => {
                let taken = failure.code == "port-taken" && attempt < ATTEMPTS;
                for broker in &state.brokers {
                    state.end(broker, Ending::AtOnce)?;
                    wait_for_end(&state, broker, STOP);
                }
                if taken {
                    attempt += 1;
                    state.remove()?;
                    fs::create_dir_all(&directory)
                        .map_err(|error| Failure::io(directory.display(), &error))?;
                    continue;
                }
                // The logs stay, for whoever wants to know more.
                return Err(failure.next(format!("quorate sandbox down{option}")));
            }
        }
    };
    let admin = Admin::new(&Settings {
        admin: state.brokers.iter().map(|broker| broker.admin.clone()).collect(),
        approach: Approach::default(),
        ..settings.clone()
    })?;
    let nodes = state.brokers.len();
    let (view, active) = wait_until(
        &admin,
        settings.timeout,
        |view| view.is_complete(nodes),
        |view| {
            let now = view.map_or_else(
                || "no answer yet".to_owned(),
                |view| format!("{}: {}", view.verdict(), view.reason()),
            );
            console.progress(now);
            Ok(())
        },
    )?;
    let status = if active { Status::Done } else { Status::Warning };
    if console.is_json() {
        console.json(&describe(&state, Some(&view)))?;
        return Ok(status);
    }
    let seconds = began.elapsed().as_secs_f64();
    let word = if active { "ACTIVE" } else { "WAITING" };
    console.verdict(
        status,
        word,
        format_args!("{nodes} brokers in {} ({seconds:.1} s)", directory.display()),
    )?;
    table(&state, Some(&view), console)?;
    if option.is_empty() {
        console.next(&[
            "quorate --context sandbox queue declare orders".to_owned(),
            "quorate --context sandbox bench both --seconds 2".to_owned(),
            "quorate sandbox kill b1".to_owned(),
        ])?;
    } else {
        let (url, admins) = (state.client_addresses(), state.admin_addresses());
        console.next(&[format!("export QUORATE_URL={url} QUORATE_ADMIN={admins}")])?;
    }
    Ok(status)
}

fn choose(nodes: u16) -> Result<Vec<Broker>, Failure> {
    let ports = free_ports(usize::from(nodes) * 3).map_err(|error| Failure::io("no free ports", &error))?;
    let address = |port: u16| format!("127.0.0.1:{port}");
    let brokers = ports.chunks_exact(3).zip(1..).map(|(ports, number)| match *ports {
        [client, cluster, admin] => Broker {
            name: format!("b{number}"),
            client: address(client),
            cluster: address(cluster),
            admin: address(admin),
            pid: None,
        },
        _ => unreachable!("chunks of three have three"),
    });
    Ok(brokers.collect())
}

/// Starts every broker and waits until its ports are open. The state is kept after each start, so that no process of
/// ours is ever unknown.
fn start_all(state: &mut State) -> Result<(), Failure> {
    (0..state.brokers.len()).try_for_each(|number| start(state, number))
}

fn start(state: &mut State, number: usize) -> Result<(), Failure> {
    let broker = &state.brokers[number];
    let mut child = state.spawn(broker)?;
    state.brokers[number].pid = Some(child.id());
    state.save()?;
    let broker = &state.brokers[number];
    wait_for_ports(&mut child, state, broker)
}

fn wait_for_ports(child: &mut Child, state: &State, broker: &Broker) -> Result<(), Failure> {
    let deadline = Instant::now() + START;
    let (name, log) = (&broker.name, state.log_file(broker));
    while !state.ready_file(broker).exists() {
        let ended =
            child.try_wait().map_err(|error| Failure::io(format_args!("cannot watch {name}"), &error))?;
        if let Some(status) = ended {
            let said = last_lines(&log);
            let code = if said.to_lowercase().contains("in use") { "port-taken" } else { "not-started" };
            let text =
                format!("{name} ended at once ({status}); its log {} ends with:\n{said}", log.display());
            return Err(Failure::new(Status::Refused, code, text));
        }
        if Instant::now() >= deadline {
            let text = format!("{name} did not open its ports within {START:?}; see {}", log.display());
            return Err(Failure::new(Status::Refused, "not-started", text));
        }
        thread::sleep(POLL);
    }
    Ok(())
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(8)..).unwrap_or_default().join("\n")
}

/// Whether the broker's process has ended.
fn wait_for_end(state: &State, broker: &Broker, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while state.running(broker).is_some() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL);
    }
    true
}

fn describe(state: &State, view: Option<&View>) -> Value {
    let brokers: Vec<Value> = state
        .brokers
        .iter()
        .map(|broker| {
            json!({
                "name": broker.name,
                "pid": state.running(broker),
                "running": state.running(broker).is_some(),
                "client": broker.client,
                "cluster": broker.cluster,
                "admin": broker.admin,
                "data_dir": state.data_dir(broker),
                "log": state.log_file(broker),
            })
        })
        .collect();
    json!({
        "directory": state.directory,
        "url": state.client_addresses(),
        "admin": state.admin_addresses(),
        "brokers": brokers,
        "status": view.map(|view| view.0.clone()),
    })
}

fn table(state: &State, view: Option<&View>, console: &mut Console) -> Result<(), Failure> {
    let leader = view.and_then(|view| {
        let group = view.groups().iter().find(|group| group["vhost"] == "/")?;
        group["leader"].as_str()
    });
    let rows = state.brokers.iter().map(|broker| {
        let running = state.running(broker);
        let role = match running {
            None => "stopped",
            Some(_) if leader == Some(broker.name.as_str()) => "leader",
            Some(_) => "",
        };
        vec![
            broker.name.clone(),
            running.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            role.to_owned(),
            broker.client.clone(),
            broker.admin.clone(),
            state.log_file(broker).display().to_string(),
        ]
    });
    console.table(&["broker", "process", "role", "clients", "admin", "log"], rows.collect())
}

fn status(place: &Place, settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    let state = State::load(&place.directory()?)?;
    let admin = Admin::new(&Settings {
        admin: state.brokers.iter().map(|broker| broker.admin.clone()).collect(),
        approach: Approach::default(),
        ..settings.clone()
    })?;
    let view = super::cluster::ask(&admin).ok().map(|(view, _)| view);
    let stopped = state.brokers.iter().filter(|broker| state.running(broker).is_none()).count();
    let status = match &view {
        _ if stopped == state.brokers.len() => Status::Refused,
        None => Status::Unknown,
        Some(view) if stopped == 0 => view.status(),
        Some(view) => {
            if view.status() == Status::Done {
                Status::Warning
            } else {
                view.status()
            }
        }
    };
    if console.is_json() {
        console.json(&describe(&state, view.as_ref()))?;
        return Ok(status);
    }
    let running = state.brokers.len() - stopped;
    let word = view.as_ref().map_or_else(|| "STOPPED".to_owned(), |view| view.verdict().to_uppercase());
    let text = format!("{running} of {} brokers run in {}", state.brokers.len(), state.directory.display());
    console.verdict(status, &word, text)?;
    table(&state, view.as_ref(), console)?;
    if let Some(broker) = state.brokers.iter().find(|broker| state.running(broker).is_none()) {
        console.next(&[format!("quorate sandbox start {}{}", broker.name, place.option())])?;
    }
    Ok(status)
}

fn done(what: &str, broker: &Broker, console: &mut Console) -> Result<Status, Failure> {
    if console.is_json() {
        console.json(&json!({ "name": broker.name, "pid": broker.pid, "done": what }))?;
    } else {
        let process = broker.pid.unwrap_or_default();
        console.verdict(Status::Done, "OK", format_args!("{} {what} (process {process})", broker.name))?;
    }
    Ok(Status::Done)
}

fn kill(one: &One, console: &mut Console) -> Result<Status, Failure> {
    let state = State::load(&one.place.directory()?)?;
    let broker = state.broker(&one.name)?;
    if !state.end(broker, Ending::AtOnce)? {
        let text = format!("{} does not run", one.name);
        let next = format!("quorate sandbox start {}{}", one.name, one.place.option());
        return Err(Failure::new(Status::Refused, "not-running", text).next(next));
    }
    if !wait_for_end(&state, broker, STOP) {
        let text = format!("{} was sent SIGKILL and still runs", one.name);
        return Err(Failure::new(Status::Unknown, "still-running", text));
    }
    done("killed", broker, console)
}

fn start_again(one: &One, console: &mut Console) -> Result<Status, Failure> {
    let mut state = State::load(&one.place.directory()?)?;
    let broker = state.broker(&one.name)?;
    if let Some(pid) = state.running(broker) {
        let text = format!("{} runs already (process {pid})", one.name);
        return Err(Failure::new(Status::Refused, "running", text));
    }
    let number =
        state.brokers.iter().position(|known| known.name == one.name).expect("the broker was just found");
    start(&mut state, number)?;
    done("started", &state.brokers[number], console)
}

fn take_down(down: &Down, console: &mut Console) -> Result<Status, Failure> {
    let state = State::load(&down.place.directory()?)?;
    let mut stopped = 0_usize;
    for broker in &state.brokers {
        stopped += usize::from(state.end(broker, Ending::Orderly)?);
    }
    let mut killed = Vec::new();
    let deadline = Instant::now() + STOP;
    for broker in &state.brokers {
        if !wait_for_end(&state, broker, deadline.saturating_duration_since(Instant::now())) {
            state.end(broker, Ending::AtOnce)?;
            if !wait_for_end(&state, broker, STOP) {
                let text = format!("{} was sent SIGKILL and still runs: nothing was removed", broker.name);
                return Err(Failure::new(Status::Unknown, "still-running", text));
            }
            killed.push(broker.name.clone());
        }
    }
    if !down.keep {
        state.remove()?;
    }
    if console.is_json() {
        console.json(&json!({ "stopped": stopped, "killed": killed, "removed": !down.keep }))?;
        return Ok(Status::Done);
    }
    let rest = if down.keep { "kept" } else { "removed" };
    let place = state.directory.display();
    console.verdict(Status::Done, "OK", format_args!("{stopped} brokers stopped; {place} {rest}"))?;
    if !killed.is_empty() {
        console
            .line(format_args!("  did not stop within {STOP:?} and were killed: {}", killed.join(", ")))?;
    }
    Ok(Status::Done)
}
