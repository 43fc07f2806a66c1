//! `quorate queue`.

use clap::{Args, Subcommand};
use quorate_client::{Client, DeleteOptions, PeekedMessage, QueueEntry, QueueOptions};
use serde_json::{Value, json};

use super::bodies::{Seen, excerpt};
use crate::connection::with_client;
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::settings::Settings;
use crate::units::{Size, grouped};

/// What to do with queues.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// List all queues with their messages and consumers
    #[command(
        after_help = "Examples:\n  quorate queue list\n  quorate queue list -o json | jq '.[] | select(.ready > 0)'"
    )]
    List,
    /// Make sure that a queue exists
    #[command(
        visible_alias = "create",
        after_help = "Examples:\n  quorate queue declare orders\n  \
                                                      quorate queue declare orders --max-length 1000000"
    )]
    Declare(Declare),
    /// Delete a queue with its messages and bindings
    #[command(
        after_help = "Examples:\n  quorate queue delete orders --if-empty\n  quorate queue delete orders --yes"
    )]
    Delete(Delete),
    /// Show one queue
    #[command(after_help = "Example:\n  quorate queue show orders")]
    Show {
        /// The queue
        name: String,
    },
    /// Drop the messages of a queue that wait for a consumer
    #[command(after_help = "Example:\n  quorate queue purge orders --yes")]
    Purge {
        /// The queue
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Look at messages of a queue without taking them
    #[command(
        after_help = "Examples:\n  quorate queue peek orders --limit 3\n  quorate queue peek orders --from 1000 -o json"
    )]
    Peek {
        /// The queue
        name: String,
        /// From this position on
        #[arg(long, default_value_t = 0, value_name = "POSITION")]
        from: u64,
        /// At most so many
        #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
}

/// How to declare a queue.
#[derive(Debug, Args)]
pub struct Declare {
    /// The queue
    name: String,
    /// The most messages it holds; publishers wait beyond it [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_length: Option<u64>,
}

/// How to delete a queue.
#[derive(Debug, Args)]
pub struct Delete {
    /// The queue
    name: String,
    /// Not if it holds messages
    #[arg(long)]
    if_empty: bool,
    /// Not if it has consumers
    #[arg(long)]
    if_unused: bool,
    /// Do not ask, even if messages are lost
    #[arg(long)]
    yes: bool,
}

/// Carries it out.
///
/// # Errors
/// As the broker says.
pub fn run(command: QueueCommand, settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    match command {
        QueueCommand::List => list(settings, console),
        QueueCommand::Declare(declare) => declare_queue(&declare, settings, console),
        QueueCommand::Delete(delete) => delete_queue(&delete, settings, console),
        QueueCommand::Show { name } => show(&name, settings, console),
        QueueCommand::Purge { name, yes } => purge(&name, yes, settings, console),
        QueueCommand::Peek { name, from, limit } => peek(&name, from, limit, settings, console),
    }
}

fn entry_json(entry: &QueueEntry) -> Value {
    json!({
        "name": entry.queue.as_str(),
        "ready": entry.ready,
        "unacknowledged": entry.unacknowledged,
        "consumers": entry.consumers,
        "bytes": entry.bytes,
        "leader": entry.leader,
    })
}

/// All queues by name.
async fn all(client: &Client) -> Result<Vec<QueueEntry>, Failure> {
    let mut entries: Vec<QueueEntry> = Vec::new();
    loop {
        let after = entries.last().map(|entry| entry.queue.as_str().to_owned());
        let page = client.list_queues(after.as_deref(), 0).await?;
        let more = page.more && !page.entries.is_empty();
        entries.extend(page.entries);
        if !more {
            return Ok(entries);
        }
    }
}

/// What a queue's list entry says; none if there is no such queue.
pub(super) async fn find(client: &Client, name: &str) -> Result<Option<QueueEntry>, Failure> {
    // A name's beginning sorts just before it, and few names lie between.
    let mut after = name.char_indices().next_back().map(|(last, _)| name[..last].to_owned());
    loop {
        let page = client.list_queues(after.as_deref().filter(|text| !text.is_empty()), 0).await?;
        let last = page.entries.last().map(|entry| entry.queue.as_str().to_owned());
        if let Some(entry) = page.entries.into_iter().find(|entry| entry.queue.as_str() == name) {
            return Ok(Some(entry));
        }
        match last {
            Some(last) if page.more && last.as_str() < name => after = Some(last),
            _ => return Ok(None),
        }
    }
}

async fn found(client: &Client, name: &str) -> Result<QueueEntry, Failure> {
    find(client, name).await?.ok_or_else(|| {
        Failure::new(Status::Refused, "QUEUE_NOT_FOUND", format!("there is no queue '{name}'"))
            .next("quorate queue list")
            .next(format!("quorate queue declare {name}"))
    })
}

fn list(settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    let entries = with_client(settings, "quorate queue list", |client| async move { all(&client).await })?;
    if console.is_json() {
        console.json(&entries.iter().map(entry_json).collect::<Vec<_>>())?;
        return Ok(Status::Done);
    }
    let ready: u64 = entries.iter().map(|entry| entry.ready).sum();
    console.verdict(
        Status::Done,
        "OK",
        format_args!("{} queues, {} messages ready", entries.len(), grouped(ready)),
    )?;
    if entries.is_empty() {
        console.next(&["quorate queue declare NAME".to_owned()])?;
    } else {
        let rows = entries.iter().map(|entry| {
            vec![
                entry.queue.as_str().to_owned(),
                grouped(entry.ready),
                grouped(entry.unacknowledged),
                entry.consumers.to_string(),
                Size(entry.bytes).to_string(),
                entry.leader.clone(),
            ]
        });
        console
            .table(&["queue", "ready", "unacknowledged", "consumers", "bytes", "leader"], rows.collect())?;
    }
    Ok(Status::Done)
}

fn declare_queue(declare: &Declare, settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    let options = QueueOptions { max_length: declare.max_length };
    let name = &declare.name;
    let state = with_client(settings, "quorate queue declare", |client| async move {
        Ok(client.declare_queue(name, options).await?)
    })?;
    if console.is_json() {
        console.json(&json!({
            "name": name, "created": state.created, "ready": state.ready, "consumers": state.consumers,
        }))?;
    } else {
        let what = if state.created { "created" } else { "exists already" };
        console.verdict(Status::Done, "OK", format_args!("queue {name} {what}"))?;
    }
    Ok(Status::Done)
}

fn delete_queue(delete: &Delete, settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    let name = &delete.name;
    if !delete.yes && !delete.if_empty {
        let entry =
            with_client(
                settings,
                "quorate queue delete",
                |client| async move { found(&client, name).await },
            )?;
        let messages = entry.ready + entry.unacknowledged;
        if messages > 0 {
            let count = grouped(messages);
            console.confirm(
                &format!("Queue {name} holds {count} messages; deleting it loses them. Go on?"),
                false,
            )?;
        }
    }
    let options = DeleteOptions { if_empty: delete.if_empty, if_unused: delete.if_unused };
    let messages = with_client(settings, "quorate queue delete", |client| async move {
        Ok(client.delete_queue(name, options).await?)
    })?;
    if console.is_json() {
        console.json(&json!({ "name": name, "deleted": true, "messages": messages }))?;
    } else {
        let count = grouped(messages);
        console.verdict(Status::Done, "OK", format_args!("queue {name} deleted, with {count} messages"))?;
    }
    Ok(Status::Done)
}

fn show(name: &str, settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    let entry =
        with_client(settings, "quorate queue show", |client| async move { found(&client, name).await })?;
    if console.is_json() {
        console.json(&entry_json(&entry))?;
        return Ok(Status::Done);
    }
    console.verdict(Status::Done, "OK", format_args!("queue {name}, led by {}", entry.leader))?;
    let row = |what: &str, value: String| vec![what.to_owned(), value];
    let rows = vec![
        row("ready", grouped(entry.ready)),
        row("unacknowledged", grouped(entry.unacknowledged)),
        row("consumers", entry.consumers.to_string()),
        row("bytes", Size(entry.bytes).to_string()),
    ];
    console.table(&["what", "value"], rows)?;
    Ok(Status::Done)
}

fn purge(name: &str, yes: bool, settings: &Settings, console: &mut Console) -> Result<Status, Failure> {
    let ready = if yes {
        0
    } else {
        with_client(settings, "quorate queue purge", |client| async move { found(&client, name).await })?
            .ready
    };
    if ready > 0 {
        let count = grouped(ready);
        console
            .confirm(&format!("Queue {name} has {count} messages ready; purging loses them. Go on?"), yes)?;
    }
    let messages =
        with_client(
            settings,
            "quorate queue purge",
            |client| async move { Ok(client.purge_queue(name).await?) },
        )?;
    if console.is_json() {
        console.json(&json!({ "name": name, "messages": messages }))?;
    } else {
        console.verdict(
            Status::Done,
            "OK",
            format_args!("{} messages dropped from {name}", grouped(messages)),
        )?;
    }
    Ok(Status::Done)
}

fn peek(
    name: &str,
    from: u64,
    limit: u32,
    settings: &Settings,
    console: &mut Console,
) -> Result<Status, Failure> {
    let (messages, more) = with_client(settings, "quorate queue peek", |client| async move {
        peeked(&client, name, from, limit).await
    })?;
    if console.is_json() {
        console.json(&messages.iter().map(|message| seen(message).json()).collect::<Vec<_>>())?;
        return Ok(Status::Done);
    }
    let tail = if more { ", and there are more" } else { "" };
    console.verdict(Status::Done, "OK", format_args!("{} messages of {name}{tail}", messages.len()))?;
    let rows = messages.iter().map(|peeked| {
        let body = peeked.message.body();
        let mark = if peeked.redelivered { "yes" } else { "" };
        let (seq, bytes) = (peeked.seq.to_string(), body.len().to_string());
        vec![seq, mark.to_owned(), peeked.exchange.clone(), peeked.key.clone(), bytes, excerpt(body, 60)]
    });
    if !messages.is_empty() {
        console.table(&["position", "redelivered", "exchange", "key", "bytes", "body"], rows.collect())?;
    }
    if let (true, Some(last)) = (more, messages.last()) {
        console.next(&[format!("quorate queue peek {name} --from {}", last.seq + 1)])?;
    }
    Ok(Status::Done)
}

async fn peeked(
    client: &Client,
    name: &str,
    from: u64,
    limit: u32,
) -> Result<(Vec<PeekedMessage>, bool), Failure> {
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut messages: Vec<PeekedMessage> = Vec::new();
    loop {
        let next = messages.last().map_or(from, |last| last.seq.saturating_add(1));
        let left = limit.saturating_sub(u32::try_from(messages.len()).unwrap_or(u32::MAX));
        let page = client.peek_queue(name, next, left).await?;
        let empty = page.entries.is_empty();
        messages.extend(page.entries);
        if !page.more || empty || messages.len() >= wanted {
            return Ok((messages, page.more));
        }
    }
}

fn seen(peeked: &PeekedMessage) -> Seen<'_> {
    Seen {
        seq: peeked.seq,
        redelivered: peeked.redelivered,
        exchange: &peeked.exchange,
        key: &peeked.key,
        properties: peeked.message.properties(),
        body: peeked.message.body(),
    }
}
