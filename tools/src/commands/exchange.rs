//! `quorate exchange`.

use clap::{Args, Subcommand, ValueEnum};
use quorate_client::{Client, ExchangeEntry, ExchangeKind};
use serde_json::json;

use crate::connection::with_client;
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::settings::Settings;

/// What to do with exchanges.
#[derive(Debug, Subcommand)]
pub enum ExchangeCommand {
    /// List all exchanges
    #[command(after_help = "Example:\n  quorate exchange list")]
    List,
    /// Make sure that an exchange exists
    #[command(
        visible_alias = "create",
        after_help = "Examples:\n  quorate exchange declare events --kind topic\n  \
                                                      quorate exchange declare everybody --kind fanout"
    )]
    Declare(Declare),
    /// Delete an exchange and its bindings
    #[command(after_help = "Example:\n  quorate exchange delete events --if-unused")]
    Delete(Delete),
}

/// How an exchange routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// To bindings whose key equals the message's
    Direct,
    /// To every binding
    Fanout,
    /// To bindings whose pattern matches the message's key
    Topic,
}

/// How to declare an exchange.
#[derive(Debug, Args)]
pub struct Declare {
    /// The exchange
    name: String,
    /// How it routes
    #[arg(long, visible_alias = "type", value_enum, default_value_t = Kind::Direct)]
    kind: Kind,
}

/// How to delete an exchange.
#[derive(Debug, Args)]
pub struct Delete {
    /// The exchange
    name: String,
    /// Not if it has bindings
    #[arg(long)]
    if_unused: bool,
}

fn word(kind: ExchangeKind) -> &'static str {
    match kind {
        ExchangeKind::Direct => "direct",
        ExchangeKind::Fanout => "fanout",
        ExchangeKind::Topic => "topic",
    }
}

/// Carries it out.
///
/// # Errors
/// As the broker says.
pub fn run(command: ExchangeCommand, settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    match command {
        ExchangeCommand::List => list(settings, console),
        ExchangeCommand::Declare(declare) => declare_exchange(&declare, settings, console),
        ExchangeCommand::Delete(delete) => delete_exchange(&delete, settings, console),
    }
}

async fn all(client: &Client) -> Result<Vec<ExchangeEntry>, Failure> {
    let mut entries: Vec<ExchangeEntry> = Vec::new();
    loop {
        let after = entries.last().map(|entry| entry.exchange.as_str().to_owned());
        let page = client.list_exchanges(after.as_deref(), 0).await?;
        let more = page.more && !page.entries.is_empty();
        entries.extend(page.entries);
        if !more {
            return Ok(entries);
        }
    }
}

fn list(settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    let entries = with_client(settings, "quorate exchange list", |client| async move { all(&client).await })?;
    if console.is_json() {
        let entries = entries.iter().map(|entry| {
            json!({ "name": entry.exchange.as_str(), "kind": word(entry.kind), "bindings": entry.bindings })
        });
        console.json(&entries.collect::<Vec<_>>())?;
        return Ok(Status::Done);
    }
    console.verdict(Status::Done, "OK", format_args!("{} exchanges", entries.len()))?;
    if entries.is_empty() {
        console.next(&["quorate exchange declare NAME --kind topic".to_owned()])?;
    } else {
        let rows = entries.iter().map(|entry| {
            vec![entry.exchange.as_str().to_owned(), word(entry.kind).to_owned(), entry.bindings.to_string()]
        });
        console.table(&["exchange", "kind", "bindings"], rows.collect())?;
    }
    Ok(Status::Done)
}

fn declare_exchange(
    declare: &Declare,
    settings: &Settings,
    console: &mut Console,
) -> Result<Status, Failure> {
    let kind = match declare.kind {
        Kind::Direct => ExchangeKind::Direct,
        Kind::Fanout => ExchangeKind::Fanout,
        Kind::Topic => ExchangeKind::Topic,
    };
    let name = &declare.name;
    let created = with_client(settings, "quorate exchange declare", |client| async move {
        Ok(client.declare_exchange(name, kind).await?)
    })?;
    if console.is_json() {
        console.json(&json!({ "name": name, "kind": word(kind), "created": created }))?;
    } else {
        let what = if created { "created" } else { "exists already" };
        console.verdict(Status::Done, "OK", format_args!("{} exchange {name} {what}", word(kind)))?;
    }
    Ok(Status::Done)
}

fn delete_exchange(delete: &Delete, settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    let Delete { name, if_unused } = delete;
    with_client(settings, "quorate exchange delete", |client| async move {
        Ok(client.delete_exchange(name, *if_unused).await?)
    })?;
    if console.is_json() {
        console.json(&json!({ "name": name, "deleted": true }))?;
    } else {
        console.verdict(Status::Done, "OK", format_args!("exchange {name} deleted"))?;
    }
    Ok(Status::Done)
}
