//! `quorate cluster`.

use std::thread;
use std::time::{Duration, Instant};

use clap::Subcommand;
use serde_json::{Value, json};

use super::cluster_events::{EventsArguments, events};
use super::cluster_explain::explain;
use super::cluster_panic::{self, PanicCommand};
use super::cluster_view::{View, best};
use crate::admin::{self, Admin, Answer, Silent};
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::settings::Settings;
use crate::units::{Size, grouped};

/// What to ask about the cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// What state the cluster is in, why, and what to do
    #[command(after_help = "Examples:\n  quorate cluster status\n  \
        quorate --admin h1:7422,h2:7422,h3:7422 cluster status -o json\n\n\
        All brokers given are asked; the answer of the one that knows most is shown.\n\
        Exit status: 0 active and complete, 1 waiting or degraded, 2 needs the operator, 3 nobody answers.")]
    Status,
    /// Why a broker starts, waits or asks, group by group: the row, the facts, the rows before it
    #[command(after_help = "Examples:\n  quorate cluster explain\n  \
        quorate --admin h2:7422 cluster explain --group orders\n  \
        quorate cluster explain -o json\n\n\
        The first broker of --admin that answers is shown: give one to see its view. What is decided is what the table\n\
        says to the facts of this moment; all brokers that see the same facts come to the same row.\n\
        Exit status: 0 every group goes on, 1 some group waits, 2 some group needs the operator, 3 nobody answers.")]
    Explain {
        /// Only this group: `system` or a virtual host
        #[arg(long, value_name = "NAME")]
        group: Option<String>,
    },
    /// Wait until every group is led with a quorum
    #[command(after_help = "Example:\n  quorate cluster wait-active --timeout 60s\n\n\
        Exit status: 0 active, 1 not active within --timeout, 3 nobody answered within --timeout.")]
    WaitActive,
    /// The members, and what each one's store is
    #[command(after_help = "Example:\n  quorate cluster members -o json")]
    Members,
    /// The operational log: what happened on the brokers given, and what happens
    #[command(after_help = "Examples:\n  quorate --admin h1:7422,h2:7422,h3:7422 cluster events\n  \
        quorate cluster events --follow --code HA-1009,HA-1010\n  \
        quorate cluster events -o json\n\n\
        Every broker tells what happened on it: give all of them in --admin to see all. A broker keeps its latest events in\n\
        memory; its log has the rest. With -o json each line is one object.\n\
        Exit status: 0 told by all brokers given, 1 by some of them, 2 refused, 3 nobody answers.")]
    Events(EventsArguments),
    /// Brokers that found somebody outside the cluster writing: show them, let one take part again
    #[command(after_help = "Examples:\n  quorate cluster panic show\n  \
        quorate --admin h2:7422 cluster panic clear --confirm 0198c0de-0000-7000-8000-000000000001")]
    Panic {
        /// What to do
        #[command(subcommand)]
        command: PanicCommand,
    },
    /// Shut the whole cluster down: every member's store becomes clean
    #[command(after_help = "Examples:\n  quorate cluster shutdown --reason 'new kernel'\n  \
        quorate cluster shutdown --reason maintenance --yes -o json\n\n\
        Clients are told, what is on its way is finished, and every broker that is complete closes its store as clean\n\
        and ends with status 0. Without a quorum nothing is done. Start all members again to go on.\n\
        Exit status: 0 all members clean, 1 stopped but some not clean, 2 refused, 3 not known.")]
    Shutdown {
        /// Why; it is written to the brokers' logs
        #[arg(long)]
        reason: String,
        /// Do it without asking
        #[arg(long)]
        yes: bool,
    },
}

const POLL: Duration = Duration::from_millis(100);

/// Asks.
///
/// # Errors
/// Nobody answers.
pub fn run(command: &ClusterCommand, settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    let admin = Admin::new(settings)?;
    match command {
        ClusterCommand::Status => {
            let (view, silent) = ask(&admin)?;
            show(&view, &silent, console)?;
            Ok(view.status())
        }
        ClusterCommand::Explain { group } => explain(&admin, group.as_deref(), console),
        ClusterCommand::Events(arguments) => events(arguments, &admin, settings, console),
        ClusterCommand::WaitActive => wait_active(&admin, settings.timeout, console),
        ClusterCommand::Members => {
            let (view, _) = ask(&admin)?;
            members(&view, console)
        }
        ClusterCommand::Panic { command } => cluster_panic::run(command, settings, console),
        ClusterCommand::Shutdown { reason, yes } => shutdown(&admin, reason, *yes, console),
    }
}

fn shutdown(admin: &Admin, reason: &str, yes: bool, console: &mut Console) -> Result<Status, Failure> {
    let (view, _) = ask(admin)?;
    let brokers: Vec<&str> =
        view.members().iter().filter(|member| member["present"] == true).map(name_in).collect();
    let question = format!(
        "Shut down cluster {} ({}): no client is served until they are started again.",
        text(&view.0, "cluster_name"),
        brokers.join(", ")
    );
    console.confirm(&question, yes)?;
    let answer = admin.post_once("/api/v1/cluster/shutdown", &json!({ "reason": reason }))?;
    if answer.status >= 300 {
        return Err(Failure { status: Status::Refused, ..admin::refused(&answer) });
    }
    let mut members = answer.body["members"].as_array().cloned().unwrap_or_default();
    members.sort_by_key(|member| text(member, "name"));
    let stopped = members.iter().filter(|member| member["stopped"] == true).count();
    let status = if stopped == members.len() { Status::Done } else { Status::Warning };
    if console.is_json() {
        console.json(&answer.body)?;
        return Ok(status);
    }
    if answer.body["transient"] == true {
        console.verdict(
            status,
            "SHUT DOWN",
            format_args!("{stopped} of {} brokers stopped", members.len()),
        )?;
    } else {
        let text = format!(
            "{stopped} of {} stores are clean ({})",
            members.len(),
            text(&answer.body, "shutdown_id")
        );
        console.verdict(status, "SHUT DOWN", text)?;
    }
    let rows = members.iter().map(|member| {
        let clean = if member["stopped"] == true { "yes" } else { "no" };
        vec![text(member, "name"), clean.to_owned(), text(member, "store_id"), text(member, "detail")]
    });
    let closed = if answer.body["transient"] == true { "stopped" } else { "clean" };
    console.table(&["member", closed, "store", "why not"], rows.collect())?;
    console.next(&["start quorated on every host again, in any order".to_owned()])?;
    Ok(status)
}

fn name_in(member: &Value) -> &str {
    member["name"].as_str().unwrap_or("-")
}

/// Asks all brokers, and gives the best answer and who gave none.
pub(super) fn ask(admin: &Admin) -> Result<(View, Vec<Silent>), Failure> {
    let mut views = Vec::new();
    let mut silent = Vec::new();
    let mut refusal = None;
    for answer in admin.get_all("/api/v1/status") {
        match answer {
            Ok(Answer { status: 200, body, .. }) => views.push(View(body)),
            Ok(answer) => refusal = Some(admin::refused(&answer)),
            Err(one) => silent.push(one),
        }
    }
    match best(views) {
        Some(view) => Ok((view, silent)),
        None => Err(refusal.unwrap_or_else(|| admin::unreachable(&silent))),
    }
}

/// Asks again and again until the answer is good enough or the time is over; gives the last answer and whether it is.
pub(super) fn wait_until(
    admin: &Admin,
    timeout: Duration,
    mut good: impl FnMut(&View) -> bool,
    mut meanwhile: impl FnMut(Option<&View>) -> Result<(), Failure>,
) -> Result<(View, bool), Failure> {
    let deadline = Instant::now() + timeout;
    loop {
        let asked = ask(admin);
        if let Ok((view, _)) = &asked
            && good(view)
        {
            return Ok((view.clone(), true));
        }
        meanwhile(asked.as_ref().ok().map(|(view, _)| view))?;
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return asked.map(|(view, _)| (view, false));
        }
        thread::sleep(POLL.min(left));
    }
}

fn wait_active(admin: &Admin, timeout: Duration, console: &mut Console) -> Result<Status, Failure> {
    let began = Instant::now();
    let mut last = String::new();
    let (view, active) = wait_until(admin, timeout, View::is_serving, |view| {
        let now = view.map_or_else(
            || "nobody answers yet".to_owned(),
            |view| format!("{}: {}", view.verdict(), view.reason()),
        );
        if now != last {
            console.note(format_args!("{:5.1} s  {now}", began.elapsed().as_secs_f64()));
            last = now;
        }
        Ok(())
    })?;
    let status = if active { Status::Done } else { view.status().max_warning() };
    if console.is_json() {
        let mut value = view.0;
        value["seconds"] = json!(began.elapsed().as_secs_f64());
        console.json(&value)?;
    } else if active {
        let seconds = began.elapsed().as_secs_f64();
        console.verdict(
            status,
            "ACTIVE",
            format_args!("every group is led with a quorum ({seconds:.1} s)"),
        )?;
    } else {
        show(&view, &[], console)?;
        console.note(format_args!("not active within {timeout:?}"));
    }
    Ok(status)
}

impl Status {
    /// Not good, at least: what is still waited for is a warning.
    fn max_warning(self) -> Self {
        if self == Self::Done { Self::Warning } else { self }
    }
}

pub(super) fn text(value: &Value, field: &str) -> String {
    match &value[field] {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.as_u64().map_or_else(|| number.to_string(), grouped),
        other => other.to_string(),
    }
}

fn row(value: &Value, fields: &[&str]) -> Vec<String> {
    fields.iter().map(|field| text(value, field)).collect()
}

pub(super) fn show(view: &View, silent: &[Silent], console: &mut Console) -> Result<(), Failure> {
    let value = &view.0;
    if console.is_json() {
        let mut value = value.clone();
        if !silent.is_empty() {
            value["unreachable"] =
                silent.iter().map(|one| json!({ "address": one.address, "error": one.error })).collect();
        }
        return console.json(&value);
    }
    let status = view.status();
    let (unled, absent, damaged, panicked) = (view.unled(), view.absent(), view.damaged(), view.panicked());
    let mut word = view.verdict().to_uppercase();
    if status == Status::Warning && view.verdict() == "active" {
        word.push_str(", DEGRADED");
    }
    let mut line = format!("{} (row {})", text(value, "cluster_name"), text(value, "row"));
    for (what, names) in [
        ("no quorum", unled),
        ("without a majority", view.forced()),
        ("absent", absent),
        ("damaged", damaged),
        ("panicked", panicked),
        ("needs an operator", view.asking()),
    ] {
        if !names.is_empty() {
            line = format!("{line}; {what}: {}", names.join(", "));
        }
    }
    if value["space_low"] == true {
        line.push_str("; disk nearly full, publishing waits");
    }
    console.verdict(status, &word, line)?;
    console.line(format_args!("  {}", view.reason()))?;
    let missing: Vec<&str> =
        value["missing"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !missing.is_empty() {
        console.line(format_args!("  missing: {}", missing.join(", ")))?;
    }
    for note in view.notes() {
        console.line(format_args!("  note: {note}"))?;
    }
    let bytes = |field: &str| Size(value[field].as_u64().unwrap_or(0)).to_string();
    console.line(format_args!(
        "  cluster {}  epoch {}  {}  wait-for {}  safety {}  log {}  quarantine {}{}",
        text(value, "cluster_id"),
        text(value, "epoch"),
        text(value, "kind"),
        text(value, "wait_for"),
        text(value, "safety_number"),
        bytes("log_bytes"),
        bytes("quarantine_bytes"),
        if value["insecure"] == true { "  INSECURE: plain text off loopback is permitted" } else { "" },
    ))?;
    member_table(view, console)?;
    group_table(view, console)?;
    for one in silent {
        console.line(format_args!("  {} does not answer: {}", one.address, one.error))?;
    }
    console.next(&view.next())
}

fn member_table(view: &View, console: &mut Console) -> Result<(), Failure> {
    if view.members().is_empty() {
        return Ok(());
    }
    let fields = ["name", "state", "present", "voter", "client_address", "address", "store_id"];
    let rows = view.members().iter().map(|member| row(&shown(member), &fields)).collect();
    console.table(&["broker", "state", "present", "voter", "clients", "cluster", "store"], rows)
}

/// A member whose broker panicked is nothing else before that.
fn shown(member: &Value) -> Value {
    let mut member = member.clone();
    if !member["panicked"].is_null() {
        member["state"] = json!("panicked");
    }
    member
}

fn group_table(view: &View, console: &mut Console) -> Result<(), Failure> {
    if view.groups().is_empty() {
        return Ok(());
    }
    let rows = view.groups().iter().map(|group| {
        let nodes: Vec<String> = group["nodes"]
            .as_array()
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .map(|node| match node["lag"].as_u64() {
                Some(lag) if lag > 0 => {
                    format!("{} {} (lag {})", text(node, "name"), text(node, "role"), grouped(lag))
                }
                _ => format!("{} {}", text(node, "name"), text(node, "role")),
            })
            .collect();
        let mut row = row(group, &["vhost", "leader", "quorum", "epoch", "term", "commit"]);
        row.insert(
            1,
            match group["row"].as_str() {
                Some(label) => format!("{} ({label})", text(group, "verdict")),
                None => "-".to_owned(),
            },
        );
        row.extend([text(group, "durability"), nodes.join(", ")]);
        row
    });
    console.table(
        &["group", "verdict", "leader", "quorum", "epoch", "term", "commit", "durability", "nodes"],
        rows.collect(),
    )?;
    for group in view.groups() {
        if group["durability"] != "sync,sync" {
            let (vhost, window) = (text(group, "vhost"), text(group, "loss_window"));
            console.line(format_args!("  {vhost} may lose: {window}"))?;
        }
        if let Some(why) = group["may_lack"].as_str() {
            console.line(format_args!("  {} may lack what it acknowledged: {why}", text(group, "vhost")))?;
        }
    }
    Ok(())
}

pub(super) fn members(view: &View, console: &mut Console) -> Result<Status, Failure> {
    let absent = view.members().iter().filter(|member| member["present"] != true).count();
    let (damaged, panicked) = (view.damaged().len(), view.panicked().len());
    let all_well = absent + damaged + panicked + view.asking().len() == 0;
    let status = if all_well { Status::Done } else { Status::Warning };
    if console.is_json() {
        console.json(&view.members())?;
        return Ok(status);
    }
    console.verdict(
        status,
        status.word(),
        format_args!(
            "{} members, {absent} absent, {damaged} damaged, {panicked} panicked",
            view.members().len()
        ),
    )?;
    let fields = [
        "name",
        "state",
        "present",
        "voter",
        "drained",
        "change",
        "incarnation",
        "client_address",
        "address",
        "admin_address",
        "store_id",
    ];
    let rows = view.members().iter().map(|member| row(&shown(member), &fields)).collect();
    let header = [
        "broker",
        "state",
        "present",
        "voter",
        "drained",
        "change",
        "incarnation",
        "clients",
        "cluster",
        "admin",
        "store",
    ];
    console.table(&header, rows)?;
    Ok(status)
}
