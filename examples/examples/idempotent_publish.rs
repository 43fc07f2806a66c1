//! Publishing through fail-overs: nothing is lost and nothing is there twice.
//!
//! Run it against a cluster of three and kill the leader, or any broker, as often as you like while it runs:
//! `cargo run -p quorate-examples --example idempotent_publish quorate://h1:7420,h2:7420,h3:7420`

use std::collections::VecDeque;

use anyhow::ensure;
use quorate_client::{Client, Confirm, QueueOptions};

const MESSAGES: u64 = 200_000;
/// Confirms awaited together.
const PIPELINE: usize = 5000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::connect(&quorate_examples::url()).await?;
    let mut events = client.events();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            println!("{event:?}");
        }
    });
    client.declare_queue("once", QueueOptions::default()).await?;
    client.purge_queue("once").await?;

    // The publisher's random id and its numbers tell a broker what it has already taken. After a fail-over everything
    // without a confirm is sent again, in order, by the client itself.
    let publisher = client.publisher()?;
    let mut pending: VecDeque<Confirm> = VecDeque::new();
    let mut duplicates = 0;
    for number in 0..MESSAGES {
        pending.push_back(publisher.publish("", "once", number.to_string()).await?);
        if pending.len() >= PIPELINE
            && let Some(confirm) = pending.pop_front()
        {
            duplicates += u64::from(confirm.await?.duplicate);
        }
    }
    for confirm in pending {
        duplicates += u64::from(confirm.await?.duplicate);
    }
    println!(
        "{MESSAGES} confirmed, {duplicates} of them had arrived before the fail-over that hid their confirm"
    );

    let queue = client.inspect_queue("once").await?;
    println!("{} in the queue", queue.ready);
    ensure!(queue.ready == MESSAGES, "expected exactly {MESSAGES}");
    client.close().await;
    Ok(())
}
