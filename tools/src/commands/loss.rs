//! `quorate loss`: what a store that was filled again held, and the cluster does not have.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use quorate_core::node::offline::StoredGroup;
use quorate_store::files::real::RealFiles;
use quorate_store::quarantine::{self, Loss};
use serde_json::{Value, json};

use super::loss_recover::{self, RecoverArguments};
use crate::admin::{Admin, Answer, Silent};
use crate::commands::store::{Effort, must_be_store};
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::settings::Settings;
use crate::store::inspect::quoted;
use crate::store::loss::{Surplus, beyond};
use crate::store::recover::damage_in;
use crate::store::subject::OpenSubject;
use crate::units::grouped;

/// Message ids and runs of positions shown of a queue, unless in JSON.
const SHOWN: usize = 5;

/// What to do with losses.
#[derive(Debug, Subcommand)]
pub enum LossCommand {
    /// The losses that brokers keep in quarantine; or those of one store, offline
    #[command(after_help = "Examples:
  quorate loss list
  quorate --admin h1:7422,h2:7422,h3:7422 loss list -o json
  quorate loss list --store /var/lib/quorate

Without --store all brokers given with --admin are asked, and the other members that they know.
Exit status: 0 none, 1 some, or some broker does not answer, 3 nobody answers.")]
    List {
        /// This data directory, instead of asking brokers
        #[arg(long, value_name = "DIR")]
        store: Option<PathBuf>,
    },
    /// The messages of one loss: which queues, how many, positions, message ids; reads only
    #[command(after_help = "Examples:
  quorate loss show 66c01d2e-1-1.4.90210 --store /var/lib/quorate

On the host that keeps it, whether its broker runs or not. Counted is what was in the queues and not consumed, with
everything in that store's log applied, committed or not.
Exit status: 0 shown, 2 there is no such loss, or it is damaged.")]
    Show {
        /// Which, as `list` and HA-1014 name it
        #[arg(value_name = "LOSS")]
        id: String,
        /// The data directory of the broker that keeps it
        #[arg(long, value_name = "DIR")]
        store: Option<PathBuf>,
        /// How much it may take.
        #[command(flatten)]
        effort: Effort,
    },
    /// Publish the messages of a loss again; running it twice makes no second copy
    Recover(RecoverArguments),
}

/// Carries it out.
///
/// # Errors
/// There is no such loss, it cannot be read, or nobody answers.
pub fn run(command: &LossCommand, settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    match command {
        LossCommand::List { store: None } => list(&Admin::new(settings)?, console),
        LossCommand::List { store: Some(dir) } => list_in(dir, console),
        LossCommand::Show { id, store: Some(dir), effort } => show(id, dir, *effort, console),
        LossCommand::Show { id, store: None, .. } => whereabouts(id, &Admin::new(settings)?, console),
        LossCommand::Recover(arguments) => loss_recover::run(arguments, settings, console),
    }
}

/// A loss, opened.
pub(super) struct OpenLoss {
    pub(super) loss: Loss,
    pub(super) subject: OpenSubject,
}

impl OpenLoss {
    /// Finds it in a data directory and reads its image.
    pub(super) fn open(id: &str, dir: &Path, effort: Effort) -> Result<Self, Failure> {
        let found = in_directory(dir)?.into_iter().find(|loss| loss.id == id);
        let loss = found.ok_or_else(|| not_there(id, &dir.display().to_string()))?;
        let subject = OpenSubject::open(&loss.directory, effort.for_reading_all())?;
        if let Some(damage) = damage_in(&subject.store.status) {
            let text = format!("the image {} is damaged: {damage}", loss.directory.display());
            let next = format!("quorate store verify {}", directory_text(&loss.directory));
            return Err(Failure::new(Status::Refused, "damaged", text).next(next));
        }
        Ok(Self { loss, subject })
    }

    /// The group that it is about.
    pub(super) fn group(&self) -> Result<&StoredGroup, Failure> {
        let group = self.subject.store.groups.iter().find(|group| group.group == self.loss.group);
        group.ok_or_else(|| {
            let text = format!("the image {} lacks its group", self.loss.directory.display());
            Failure::new(Status::Refused, "damaged", text)
        })
    }
}

fn not_there(id: &str, place: &str) -> Failure {
    Failure::new(Status::Refused, "not-found", format!("{place} keeps no loss {id}"))
        .next("quorate loss list")
}

fn directory_text(dir: &Path) -> String {
    quoted(&dir.display().to_string())
}

fn in_directory(dir: &Path) -> Result<Vec<Loss>, Failure> {
    must_be_store(dir)?;
    let failed = |error: quorate_store::files::FileError| {
        Failure::new(Status::Unknown, "io", error.to_string()).next("quorate loss list --store DIR")
    };
    quarantine::losses(&RealFiles, dir).map_err(failed)
}

fn list_in(dir: &Path, console: &mut Console) -> Result<Status, Failure> {
    let row = |loss: Loss| {
        let mut row = json!(loss);
        row["data_dir"] = dir.display().to_string().into();
        row["broker"] = Value::Null;
        row
    };
    let losses: Vec<Value> = in_directory(dir)?.into_iter().map(row).collect();
    tell_list(&losses, &[], &dir.display().to_string(), console)
}

/// Asks everybody whose address is known.
fn list(admin: &Admin, console: &mut Console) -> Result<Status, Failure> {
    let Everybody { losses, asked, silent } = Everybody::ask(admin)?;
    tell_list(&losses, &silent, &asked.join(", "), console)
}

/// What all brokers that could be found say.
struct Everybody {
    losses: Vec<Value>,
    asked: Vec<String>,
    silent: Vec<Silent>,
}

impl Everybody {
    fn ask(admin: &Admin) -> Result<Self, Failure> {
        let mut addresses = admin.addresses().to_vec();
        if let Ok(value) = admin.get_any("/api/v1/members") {
            let members = value["members"].as_array().map_or(&[][..], Vec::as_slice);
            for address in members.iter().filter_map(|member| member["admin_address"].as_str()) {
                if !address.is_empty() && !addresses.iter().any(|known| known == address) {
                    addresses.push(address.to_owned());
                }
            }
        }
        let mut everybody = Self { losses: Vec::new(), asked: Vec::new(), silent: Vec::new() };
        let mut stores: Vec<String> = Vec::new();
        for address in addresses {
            everybody.ask_one(admin, &address, &mut stores)?;
        }
        if everybody.asked.is_empty() {
            return Err(crate::admin::unreachable(&everybody.silent));
        }
        Ok(everybody)
    }

    /// Page after page.
    fn ask_one(&mut self, admin: &Admin, address: &str, stores: &mut Vec<String>) -> Result<(), Failure> {
        let mut after = 0;
        loop {
            let answer = match admin.get(address, &format!("/api/v1/losses?after={after}")) {
                Ok(answer) => answer,
                Err(silent) => {
                    self.silent.push(silent);
                    return Ok(());
                }
            };
            if answer.status >= 300 {
                return Err(crate::admin::refused(&answer));
            }
            let Answer { body, .. } = answer;
            let store = body["store_id"].as_str().unwrap_or_default().to_owned();
            if after == 0 {
                // One broker under two addresses.
                if stores.contains(&store) {
                    return Ok(());
                }
                stores.push(store);
                self.asked.push(body["name"].as_str().unwrap_or("-").to_owned());
            }
            let page = body["losses"].as_array().map_or(&[][..], Vec::as_slice);
            for loss in page {
                let mut loss = loss.clone();
                loss["broker"] = body["name"].clone();
                loss["data_dir"] = body["data_dir"].clone();
                self.losses.push(loss);
            }
            let last = page.last().and_then(|loss| loss["image"].as_u64());
            match last.filter(|last| body["more"] == true && *last > after) {
                Some(last) => after = last,
                None => return Ok(()),
            }
        }
    }
}

fn tell_list(
    losses: &[Value],
    silent: &[Silent],
    whom: &str,
    console: &mut Console,
) -> Result<Status, Failure> {
    let status = if losses.is_empty() && silent.is_empty() { Status::Done } else { Status::Warning };
    if console.is_json() {
        let silent: Vec<Value> =
            silent.iter().map(|one| json!({ "address": one.address, "error": one.error })).collect();
        console.json(&json!({ "losses": losses, "unreachable": silent }))?;
        return Ok(status);
    }
    if losses.is_empty() {
        console.verdict(status, status.word(), format_args!("no loss is kept by {whom}"))?;
    } else {
        let count = losses.len();
        let text = format!("{count} histories were given up, and are kept in quarantine (asked: {whom})");
        console.verdict(status, "LOST", text)?;
        let cells = |loss: &Value| {
            ["id", "broker", "vhost", "fork", "image", "bytes", "directory"]
                .iter()
                .map(|field| super::cluster::text(loss, field))
                .collect()
        };
        let header = ["loss", "broker", "vhost", "after", "image", "bytes", "directory"];
        console.table(&header, losses.iter().map(cells).collect())?;
    }
    for one in silent {
        console.line(format_args!("  {} does not answer: {}", one.address, one.error))?;
    }
    // That of the cluster's own group holds no message.
    let first = losses.iter().find(|loss| loss["vhost"] != super::group::SYSTEM).or(losses.first());
    let next: Vec<String> = first.map(next_show).into_iter().collect();
    console.next(&next).map(|()| status)
}

fn next_show(loss: &Value) -> String {
    let id = loss["id"].as_str().unwrap_or("LOSS");
    let dir = loss["data_dir"].as_str().map_or_else(|| "DIR".to_owned(), quoted);
    let host =
        loss["broker"].as_str().map_or_else(String::new, |name| format!("    (on the host of {name})"));
    format!("quorate loss show {id} --store {dir}{host}")
}

/// The messages lie on one host: says which.
fn whereabouts(id: &str, admin: &Admin, console: &mut Console) -> Result<Status, Failure> {
    let Everybody { losses, asked, .. } = Everybody::ask(admin)?;
    let found: Vec<Value> = losses.into_iter().filter(|loss| loss["id"] == id).collect();
    if found.is_empty() {
        return Err(not_there(id, &asked.join(", ")));
    }
    tell_list(&found, &[], &asked.join(", "), console)
}

fn show(id: &str, dir: &Path, effort: Effort, console: &mut Console) -> Result<Status, Failure> {
    console.progress("reading");
    let open = OpenLoss::open(id, dir, effort)?;
    let path = open.loss.directory.display().to_string();
    let surplus = beyond(&open.subject, open.group()?, open.loss.fork.index, &path)
        .map_err(|why| Failure::new(Status::Refused, "damaged", why))?;
    if console.is_json() {
        let value = json!({ "id": id, "fork": open.loss.fork.to_string(), "surplus": surplus });
        console.json(&value)?;
        return Ok(Status::Done);
    }
    tell(&open.loss, &surplus, dir, console)?;
    Ok(Status::Done)
}

fn tell(loss: &Loss, surplus: &Surplus, dir: &Path, console: &mut Console) -> Result<(), Failure> {
    let word = if surplus.messages == 0 { Status::Done.word() } else { "LOST" };
    console.verdict(
        Status::Done,
        word,
        format_args!(
            "{} messages of virtual host {} that the cluster does not have, in {} queues ({} entries after {})",
            grouped(surplus.messages),
            loss.vhost,
            surplus.queues.len(),
            grouped(surplus.entries),
            loss.fork
        ),
    )?;
    let dir = directory_text(dir);
    if surplus.messages == 0 {
        return console.next(&[format!("quorate store quarantine purge {dir} {}", loss.image)]);
    }
    let rows = surplus.queues.iter().map(|queue| {
        let runs = queue
            .positions
            .iter()
            .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}..{last}") });
        let ids = queue.message_ids.iter().cloned();
        vec![
            queue.queue.clone(),
            grouped(queue.messages),
            shortened(runs.collect()),
            shortened(ids.collect()),
        ]
    });
    console.table(&["queue", "messages", "positions", "message ids"], rows.collect())?;
    console.next(&[
        format!("quorate loss recover {} --store {dir}", loss.id),
        format!("quorate -o json loss show {} --store {dir}    (all positions and ids)", loss.id),
    ])
}

fn shortened(mut list: Vec<String>) -> String {
    let more = list.len() > SHOWN;
    list.truncate(SHOWN);
    if more {
        list.push("…".to_owned());
    }
    if list.is_empty() { "-".to_owned() } else { list.join(", ") }
}
