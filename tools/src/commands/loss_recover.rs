//! `quorate loss recover`: messages of a loss, published again.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use quorate_client::{Client, Confirm, Error, FaultCode, Publisher, Receipt};
use quorate_core::machine::{Queue, VhostMachine};
use quorate_protocol::message::Message as StoredMessage;
use quorate_store::ids::Index;
use serde::Serialize;

use super::loss::OpenLoss;
use super::outcome::Outcome;
use super::queue::find;
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
/// Numberings that are tried one after the other. The brokers remember what they refused for good, and answer the same to
/// the same numbers for ever.
const NUMBERINGS: u32 = 16;
/// Missing queues that are named at most.
const NAMED: usize = 32;

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
The virtual host and the queues must be there: if one is missing, nothing is published, and it is said how to create it.
Exit status: 0 all confirmed, 2 some refused or unreadable, or a queue is missing, 3 not known.")]
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
            Outcome::Confirmed { duplicate: true, .. } => (&mut self.duplicates, None),
            Outcome::Confirmed { duplicate: false, .. } => (&mut self.recovered, None),
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
    if queues.is_empty() && (arguments.queue.is_some() || open.loss.vhost == super::group::SYSTEM) {
        let of_what =
            if arguments.queue.is_some() { " of that queue" } else { ": it is of the cluster's own group" };
        let text = format!("loss {} has no message{of_what}", arguments.id);
        let next = format!(
            "quorate loss show {} --store {}",
            arguments.id,
            quoted(&arguments.store.display().to_string())
        );
        return Err(Failure::new(Status::Refused, "not-found", text).next(next));
    }
    let all = block_on(async {
        let options = options(settings, "quorate loss recover")?.vhost(open.loss.vhost.clone());
        let client = connect_with(options, settings)
            .await
            .map_err(|failure| advised_on_vhost(failure, &open.loss.vhost, arguments))?;
        let missing = missing_queues(&client, &queues, arguments).await?;
        if !missing.is_empty() {
            client.close().await;
            return Err(nowhere_to_go(&missing, &open.loss.vhost, &settings.url, arguments));
        }
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

/// The queue that this one's messages go to.
fn target<'a>(queue: &'a Queue, arguments: &'a RecoverArguments) -> &'a str {
    arguments.to.as_deref().unwrap_or_else(|| queue.name().as_str())
}

/// The queues that messages would go to, and that are not there.
async fn missing_queues(
    client: &Client,
    queues: &[&Queue],
    arguments: &RecoverArguments,
) -> Result<Vec<String>, Failure> {
    let mut missing = Vec::new();
    for queue in queues {
        let name = target(queue, arguments);
        if find(client, name).await?.is_none() {
            missing.push(name.to_owned());
        }
    }
    Ok(missing)
}

/// Nothing is published before all of it has a place: what brokers refuse for good they refuse under the same numbers for
/// ever.
fn nowhere_to_go(missing: &[String], vhost: &str, url: &str, arguments: &RecoverArguments) -> Failure {
    let mut names = missing.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if let Some(more @ 1..) = missing.len().checked_sub(NAMED) {
        names = format!("{names}, and {more} more");
    }
    let text = format!(
        "nothing is published: virtual host {vhost} lacks {} of the queues that the messages go to: {names}",
        missing.len()
    );
    let url = quoted(&url_of(url, vhost));
    let mut failure = Failure::new(Status::Refused, "QUEUE_NOT_FOUND", text);
    for name in missing.iter().take(NAMED) {
        failure = failure.next(format!("quorate --url {url} queue declare {}", quoted(name)));
    }
    failure.next(again(arguments))
}

fn advised_on_vhost(failure: Failure, vhost: &str, arguments: &RecoverArguments) -> Failure {
    if failure.code != FaultCode::VhostNotFound.name() {
        return failure;
    }
    Failure { next: vec![format!("quorate vhost create {}", quoted(vhost)), again(arguments)], ..failure }
}

/// The URL in force with this virtual host, and without the secret.
fn url_of(url: &str, vhost: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("quorate", url));
    let (rest, query) = rest.split_once('?').map_or((rest, String::new()), |(a, b)| (a, format!("?{b}")));
    let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
    let authority = match authority.rsplit_once('@') {
        Some((login, hosts)) => {
            let user = login.split_once(':').map_or(login, |(user, _)| user);
            format!("{user}:SECRET@{hosts}")
        }
        None => authority.to_owned(),
    };
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let encoded = |byte: u8| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    let path: String = vhost.bytes().map(encoded).collect();
    format!("{scheme}://{authority}/{path}{query}")
}

/// The same command.
fn again(arguments: &RecoverArguments) -> String {
    let mut command = format!(
        "quorate loss recover {} --store {}",
        arguments.id,
        quoted(&arguments.store.display().to_string())
    );
    for (flag, value) in [("queue", &arguments.queue), ("to", &arguments.to)] {
        if let Some(value) = value {
            command = format!("{command} --{flag} {}", quoted(value));
        }
    }
    command
}

/// Publishes the first message, alone, under the first numbering of which the brokers do not remember that there was no
/// queue for it. As nothing else was ever sent under a numbering whose first message was refused, none of its messages
/// are there, and the next numbering makes no second copy of any.
async fn begin(
    client: &Client,
    numbering: impl Fn(u32) -> u128,
    to: &str,
    message: quorate_client::Message,
    timeout: Duration,
) -> Result<(Publisher, Result<Receipt, Error>), Failure> {
    let mut attempt = 1;
    loop {
        let publisher = client.publisher_named(numbering(attempt));
        let mut confirm = publisher.publish("", to, message.clone()).await?;
        let outcome = if let Ok(outcome) = tokio::time::timeout(timeout, &mut confirm).await {
            outcome
        } else {
            // The publisher tries again for ever what is refused for now: once it is withdrawn, the confirm says why.
            publisher.withdraw();
            confirm.within(timeout).await
        };
        let unroutable = matches!(&outcome, Err(error) if error.code() == Some(FaultCode::Unroutable));
        if !unroutable || attempt == NUMBERINGS || find(client, to).await?.is_none() {
            return Ok((publisher, outcome));
        }
        attempt += 1;
    }
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
    let to = target(queue, arguments).to_owned();
    let mut counts = Counts { queue: name.clone(), to: to.clone(), ..Counts::default() };
    let mut begun: Option<Publisher> = None;
    let mut waiting: VecDeque<Confirm> = VecDeque::new();
    let fork: Index = open.loss.fork.index;
    for saved in saved(&open.subject, group, queue, fork) {
        let Some(content) = &saved.content else {
            counts.unreadable += 1;
            continue;
        };
        let message = marked(&content.message, &open.loss.id, saved.maybe_delivered);
        // The image does not change, so a message has the same number each time.
        if let Some(publisher) = &begun {
            waiting.push_back(publisher.publish("", &to, message).await?);
        } else {
            let numbers = |attempt| numbering(open, &name, &to, attempt);
            let (publisher, outcome) = begin(client, numbers, &to, message, timeout).await?;
            counts.add(outcome);
            begun = Some(publisher);
        }
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
        if let Some(publisher) = begun.as_ref().filter(|_| counts.error.is_some()) {
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

/// The publisher's number for these messages: the store's own random id, what is done with them, and which try it is.
fn numbering(open: &OpenLoss, queue: &str, to: &str, attempt: u32) -> u128 {
    let store = open.subject.look.id().map_or(0, |id| id.0.as_u128());
    hashed(&[&open.loss.id, queue, to], attempt) ^ store
}

/// FNV-1a, 128 bits.
fn hashed(texts: &[&str], attempt: u32) -> u128 {
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let mut add = |byte: u8| {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    };
    texts.iter().flat_map(|text| text.bytes().chain([0xff])).for_each(&mut add);
    // The first try has no number.
    (1..attempt).for_each(|_| add(0xfe));
    hash
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
        let mut next = failure.next.clone();
        next.push(format!("{}    (again)", again(arguments)));
        console.next(&next)?;
    } else {
        console.next(&["quorate queue list".to_owned()])?;
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(queue: Option<&str>, to: Option<&str>) -> RecoverArguments {
        RecoverArguments {
            id: "66c01d2e-1-1.4.90210".into(),
            store: "/var/lib/quorate".into(),
            queue: queue.map(str::to_owned),
            to: to.map(str::to_owned),
            effort: Effort::default(),
        }
    }

    #[test]
    fn each_try_has_numbers_of_its_own() {
        let all: std::collections::BTreeSet<u128> = (1..=NUMBERINGS)
            .flat_map(|attempt| {
                [["l", "q", "q"], ["l", "q", "r"], ["l", "qq", ""]].map(|t| hashed(&t, attempt))
            })
            .collect();
        assert_eq!(all.len(), 3 * NUMBERINGS as usize);
        assert_eq!(hashed(&["l", "q", "q"], 1), hashed(&["l", "q", "q"], 1));
    }

    #[test]
    fn missing_queues_are_named_with_what_to_type() {
        let failure = nowhere_to_go(
            &["orders".into(), "it's".into()],
            "a/b",
            "quorate://me:p4ss@h1:7420,h2:7420/other?heartbeat=5s",
            &arguments(Some("x"), Some("it's")),
        );
        assert_eq!((failure.status, failure.code.as_str()), (Status::Refused, "QUEUE_NOT_FOUND"));
        assert!(
            failure.message.contains("virtual host a/b lacks 2") && failure.message.ends_with("orders, it's")
        );
        let url = "'quorate://me:SECRET@h1:7420,h2:7420/a%2Fb?heartbeat=5s'";
        assert_eq!(
            failure.next,
            [
                format!("quorate --url {url} queue declare orders"),
                format!(r"quorate --url {url} queue declare 'it'\''s'"),
                r"quorate loss recover 66c01d2e-1-1.4.90210 --store /var/lib/quorate --queue x --to 'it'\''s'"
                    .to_owned(),
            ]
        );
        let many: Vec<String> = (0..NAMED + 2).map(|number| format!("q{number}")).collect();
        let failure = nowhere_to_go(&many, "/", "h:1", &arguments(None, None));
        assert!(failure.message.ends_with("q31, and 2 more"), "{failure}");
        assert_eq!(failure.next.len(), NAMED + 1);
        assert_eq!(failure.next[0], "quorate --url quorate://h:1/%2F queue declare q0");
    }

    #[test]
    fn a_missing_virtual_host_is_to_be_created_first() {
        let failure = |code| {
            advised_on_vhost(
                Failure::new(Status::Refused, code, "x").next("y"),
                "billing",
                &arguments(None, None),
            )
        };
        assert_eq!(failure("NO_QUORUM").next, ["y"]);
        let next = failure("VHOST_NOT_FOUND").next;
        assert_eq!(next[0], "quorate vhost create billing");
        assert!(next[1].starts_with("quorate loss recover 66c01d2e"), "{next:?}");
    }
}
