//! `quorate loss recover`: messages of a loss, published again.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use quorate_client::{Client, Confirm, Error, Receipt};
use quorate_core::machine::{Queue, VhostMachine};
use quorate_protocol::message::Message as StoredMessage;
use quorate_store::ids::Index;
use serde::Serialize;

use super::loss::OpenLoss;
use super::outcome::Outcome;
use crate::commands::store::Effort;
use crate::connection::{block_on, connect_with, options};
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::settings::Settings;
use crate::store::inspect::quoted;
use crate::store::loss::saved;
use crate::units::grouped;

/// Says of a message, in its properties, which loss it was recovered from.
const RECOVERED: &str = "quorate-recovered";
/// Says that a consumer may have had it before.
const MAYBE_DELIVERED: &str = "quorate-maybe-delivered";
/// Messages on their way at most, whose confirms are waited for one after the other.
const ON_THEIR_WAY: usize = 4096;

/// Which loss, and where to.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate loss recover 66c01d2e-1-1.4.90210 --store /var/lib/quorate
  quorate loss recover 66c01d2e-1-1.4.90210 --store /var/lib/quorate --queue orders --to orders-recovered

Each message goes back to the queue that it was in, or to --to, in its old order, with its own properties and message
id, and two more: `quorate-recovered`, which names the loss, and, if a consumer may have had it, `quorate-maybe-delivered`.
Publishing is numbered after the loss, so that a command that was cut short can be run again: what the cluster has from
it already is recognised, as long as no 65,536 other publishers came since. What its publishers themselves sent again
after the outage is not recognised: compare message ids.
Exit status: 0 all confirmed, 2 some refused or unreadable, 3 not known.")]
pub struct RecoverArguments {
    /// Which, as `list` and HA-1014 name it
    #[arg(value_name = "LOSS")]
    id: String,
    /// The data directory of the broker that keeps it
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// Only of this queue
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Into this queue instead of where they were
    #[arg(long, value_name = "QUEUE", requires = "queue")]
    to: Option<String>,
    /// How much reading may take.
    #[command(flatten)]
    effort: Effort,
}

/// What became of them.
#[derive(Clone, Debug, Default, Serialize)]
struct Counts {
    queue: String,
    to: String,
    /// Published, and confirmed for the first time.
    recovered: u64,
    /// Confirmed as there already, by an earlier run of this command.
    duplicates: u64,
    refused: u64,
    unknown: u64,
    /// Not where they should be in the image.
    unreadable: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
}

impl Counts {
    fn add(&mut self, outcome: Result<Receipt, Error>) {
        let (count, failure) = match outcome.into() {
            Outcome::Confirmed { duplicate: true } => (&mut self.duplicates, None),
            Outcome::Confirmed { duplicate: false } => (&mut self.recovered, None),
            Outcome::Unknown(failure) => (&mut self.unknown, Some(failure)),
            Outcome::Refused(failure) => (&mut self.refused, Some(failure)),
        };
        *count += 1;
        self.error = self.error.take().or(failure);
    }

    fn status(&self) -> Status {
        if self.refused > 0 || self.unreadable > 0 {
            Status::Refused
        } else if self.unknown > 0 {
            Status::Unknown
        } else {
            Status::Done
        }
    }
}

/// Publishes them.
///
/// # Errors
/// There is no such loss or queue, it cannot be read, or no leader was found.
pub(super) fn run(
    arguments: &RecoverArguments,
    settings: &Settings,
    console: &mut Console,
) -> Result<Status, Failure> {
    console.progress("reading");
    let open = OpenLoss::open(&arguments.id, &arguments.store, arguments.effort)?;
    let group = open.group()?;
    let queues: Vec<&Queue> = group
        .machine()
        .into_iter()
        .flat_map(VhostMachine::queues)
        .filter(|queue| arguments.queue.as_ref().is_none_or(|name| name == queue.name().as_str()))
        .filter(|queue| queue.live_from(0).any(|(_, slot)| slot.index > open.loss.fork.index))
        .collect();
    if queues.is_empty() && arguments.queue.is_some() {
        let text = format!("loss {} has no message of that queue", arguments.id);
        let next = format!(
            "quorate loss show {} --store {}",
            arguments.id,
            quoted(&arguments.store.display().to_string())
        );
        return Err(Failure::new(Status::Refused, "not-found", text).next(next));
    }
    let all = block_on(async {
        let options = options(settings, "quorate loss recover")?.vhost(open.loss.vhost.clone());
        let client = connect_with(options, settings).await?;
        let mut all = Vec::new();
        for queue in queues {
            all.push(recover(&open, queue, arguments, &client, settings.timeout, console).await?);
        }
        if all.iter().all(|counts: &Counts| counts.unknown == 0) {
            client.close().await;
        }
        Ok(all)
    })?;
    tell(arguments, &open, &all, console)
}

async fn recover(
    open: &OpenLoss,
    queue: &Queue,
    arguments: &RecoverArguments,
    client: &Client,
    timeout: Duration,
    console: &mut Console,
) -> Result<Counts, Failure> {
    let group = open.group()?;
    let name = queue.name().to_string();
    let to = arguments.to.clone().unwrap_or_else(|| name.clone());
    let mut counts = Counts { queue: name.clone(), to: to.clone(), ..Counts::default() };
    // The image does not change, so a message has the same number each time.
    let publisher = client.publisher_named(numbering(open, &name, &to));
    let mut waiting: VecDeque<Confirm> = VecDeque::new();
    let fork: Index = open.loss.fork.index;
    for saved in saved(&open.subject, group, queue, fork) {
        let Some(content) = &saved.content else {
            counts.unreadable += 1;
            continue;
        };
        let message = marked(&content.message, &open.loss.id, saved.maybe_delivered);
        waiting.push_back(publisher.publish("", &to, message).await?);
        if waiting.len() >= ON_THEIR_WAY
            && let Some(confirm) = waiting.pop_front()
        {
            counts.add(confirm.within(timeout).await);
            console.progress(format_args!("{name}: {} messages", grouped(counts.recovered)));
        }
        if counts.error.is_some() {
            break;
        }
    }
    for confirm in waiting {
        if counts.error.is_some() {
            // What can be said of the rest is said without waiting for each.
            publisher.withdraw();
        }
        counts.add(confirm.within(timeout).await);
    }
    Ok(counts)
}

/// The message with its own properties, and where it comes from. Properties that leave no room for that stay as they are.
fn marked(stored: &StoredMessage, loss: &str, maybe_delivered: bool) -> quorate_client::Message {
    let own: Vec<(&str, &[u8])> = stored.properties().iter().collect();
    let mut pairs = own.clone();
    pairs.push((RECOVERED, loss.as_bytes()));
    if maybe_delivered {
        pairs.push((MAYBE_DELIVERED, b"yes"));
    }
    let plain = quorate_client::Message::new(stored.body().clone());
    let marked = plain.clone().with_properties(pairs);
    marked.or_else(|_| plain.clone().with_properties(own)).unwrap_or(plain)
}

/// The publisher's number for these messages: the store's own random id, and what is done with them.
fn numbering(open: &OpenLoss, queue: &str, to: &str) -> u128 {
    let store = open.subject.look.id().map_or(0, |id| id.0.as_u128());
    // FNV-1a, 128 bits.
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for text in [&open.loss.id, queue, to] {
        for byte in text.bytes().chain([0xff]) {
            hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
    hash ^ store
}

fn tell(
    arguments: &RecoverArguments,
    open: &OpenLoss,
    all: &[Counts],
    console: &mut Console,
) -> Result<Status, Failure> {
    let status = [Status::Refused, Status::Unknown]
        .into_iter()
        .find(|bad| all.iter().any(|counts| counts.status() == *bad))
        .unwrap_or(Status::Done);
    let sum = |field: fn(&Counts) -> u64| all.iter().map(field).fold(0, u64::saturating_add);
    if console.is_json() {
        console.json(&serde_json::json!({
            "loss": open.loss.id,
            "vhost": open.loss.vhost,
            "recovered": sum(|counts| counts.recovered),
            "duplicates": sum(|counts| counts.duplicates),
            "refused": sum(|counts| counts.refused),
            "unknown": sum(|counts| counts.unknown),
            "unreadable": sum(|counts| counts.unreadable),
            "queues": all,
        }))?;
        return Ok(status);
    }
    let word = if status == Status::Done { "RECOVERED" } else { status.word() };
    console.verdict(
        status,
        word,
        format_args!(
            "{} messages published again, {} were there from an earlier run, {} refused, {} unknown, {} unreadable",
            grouped(sum(|counts| counts.recovered)),
            grouped(sum(|counts| counts.duplicates)),
            grouped(sum(|counts| counts.refused)),
            grouped(sum(|counts| counts.unknown)),
            grouped(sum(|counts| counts.unreadable)),
        ),
    )?;
    let row = |counts: &Counts| {
        vec![
            counts.queue.clone(),
            counts.to.clone(),
            grouped(counts.recovered),
            grouped(counts.duplicates),
            grouped(counts.refused),
            grouped(counts.unknown),
        ]
    };
    if !all.is_empty() {
        console.table(
            &["queue", "to", "recovered", "there before", "refused", "unknown"],
            all.iter().map(row).collect(),
        )?;
    }
    if let Some(failure) = all.iter().find_map(|counts| counts.error.as_ref()) {
        console.line(format_args!("  first: {}", failure.message))?;
        let again = format!(
            "quorate loss recover {} --store {}    (again)",
            open.loss.id,
            quoted(&arguments.store.display().to_string())
        );
        let mut next = failure.next.clone();
        next.push(again);
        console.next(&next)?;
    } else {
        console.next(&["quorate queue list".to_owned()])?;
    }
    Ok(status)
}
