//! `quorate binding`.

use clap::{Args, Subcommand};
use quorate_client::{Binding, Client};
use serde_json::{Value, json};

use crate::connection::with_client;
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::settings::Settings;

/// What to do with bindings.
#[derive(Debug, Subcommand)]
pub enum BindingCommand {
    /// List the bindings of one exchange or of all
    #[command(after_help = "Examples:\n  quorate binding list\n  quorate binding list events")]
    List {
        /// Only of this exchange
        exchange: Option<String>,
    },
    /// Make sure that what an exchange receives with a fitting key goes to a queue
    #[command(
        visible_alias = "create",
        after_help = "Examples:\n  quorate binding declare events orders 'order.*'\n  \
                                                      quorate binding declare everybody orders"
    )]
    Declare(Ends),
    /// Remove a binding
    #[command(after_help = "Example:\n  quorate binding delete events orders 'order.*'")]
    Delete(Ends),
}

/// From where to where.
#[derive(Debug, Args)]
pub struct Ends {
    /// The exchange
    exchange: String,
    /// The queue
    queue: String,
    /// The key, or the pattern on a topic exchange [default: empty]
    key: Option<String>,
    /// The same, by name
    #[arg(long = "key", value_name = "KEY", conflicts_with = "key", id = "key-by-name")]
    key_by_name: Option<String>,
}

impl Ends {
    fn key(&self) -> &str {
        self.key.as_deref().or(self.key_by_name.as_deref()).unwrap_or_default()
    }

    fn json(&self) -> Value {
        json!({ "exchange": self.exchange, "queue": self.queue, "key": self.key() })
    }
}

/// Carries it out.
///
/// # Errors
/// As the broker says.
pub fn run(command: BindingCommand, settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    match command {
        BindingCommand::List { exchange } => list(exchange.as_deref(), settings, console),
        BindingCommand::Declare(ends) => declare(&ends, settings, console),
        BindingCommand::Delete(ends) => delete(&ends, settings, console),
    }
}

async fn all(client: &Client, exchange: Option<&str>) -> Result<Vec<Binding>, Failure> {
    let mut entries: Vec<Binding> = Vec::new();
    loop {
        let page = client.list_bindings(exchange, entries.last(), 0).await?;
        let more = page.more && !page.entries.is_empty();
        entries.extend(page.entries);
        if !more {
            return Ok(entries);
        }
    }
}

fn list(exchange: Option<&str>, settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    let entries =
        with_client(settings, "quorate binding list", |client| async move { all(&client, exchange).await })?;
    if console.is_json() {
        let entries = entries.iter().map(|binding| {
            json!({
                "exchange": binding.exchange.as_str(), "queue": binding.queue.as_str(), "key": binding.key.as_str(),
            })
        });
        console.json(&entries.collect::<Vec<_>>())?;
        return Ok(Status::Done);
    }
    console.verdict(Status::Done, "OK", format_args!("{} bindings", entries.len()))?;
    if !entries.is_empty() {
        let rows = entries.iter().map(|binding| {
            [binding.exchange.as_str(), binding.queue.as_str(), binding.key.as_str()]
                .map(str::to_owned)
                .to_vec()
        });
        console.table(&["exchange", "queue", "key"], rows.collect())?;
    }
    Ok(Status::Done)
}

fn declare(ends: &Ends, settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    let created = with_client(settings, "quorate binding declare", |client| async move {
        Ok(client.bind(&ends.exchange, &ends.queue, ends.key()).await?)
    })?;
    if console.is_json() {
        let mut value = ends.json();
        value["created"] = created.into();
        console.json(&value)?;
    } else {
        let what = if created { "bound" } else { "was bound already" };
        let (exchange, queue, key) = (&ends.exchange, &ends.queue, ends.key());
        console.verdict(Status::Done, "OK", format_args!("{queue} {what} to {exchange} with key '{key}'"))?;
    }
    Ok(Status::Done)
}

fn delete(ends: &Ends, settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    with_client(settings, "quorate binding delete", |client| async move {
        Ok(client.unbind(&ends.exchange, &ends.queue, ends.key()).await?)
    })?;
    if console.is_json() {
        let mut value = ends.json();
        value["deleted"] = true.into();
        console.json(&value)?;
    } else {
        let (exchange, queue, key) = (&ends.exchange, &ends.queue, ends.key());
        console.verdict(
            Status::Done,
            "OK",
            format_args!("{queue} is not bound to {exchange} with key '{key}' any more"),
        )?;
    }
    Ok(Status::Done)
}
