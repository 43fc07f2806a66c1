//! A topic exchange copies each message to every queue whose pattern fits its key.
//!
//! `cargo run -p quorate-examples --example fan_out [URL]`

use anyhow::Context;
use quorate_client::{Client, ConsumeOptions, ExchangeKind, QueueOptions};

/// Queue, pattern, and how many of the messages below fit.
const READERS: [(&str, &str, usize); 3] =
    [("everything", "#", 4), ("europe", "orders.eu.#", 2), ("cancelled", "orders.*.cancelled", 2)];

const KEYS: [&str; 4] = ["orders.eu.placed", "orders.eu.cancelled", "orders.us.cancelled", "invoices.us"];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::connect(&quorate_examples::url()).await?;
    client.declare_exchange("events", ExchangeKind::Topic).await?;
    for (queue, pattern, _) in READERS {
        client.declare_queue(queue, QueueOptions::default()).await?;
        client.purge_queue(queue).await?;
        client.bind("events", queue, pattern).await?;
    }

    let publisher = client.publisher()?;
    for key in KEYS {
        publisher.publish("events", key, format!("about {key}")).await?.await?;
    }

    for (queue, pattern, count) in READERS {
        let mut consumer = client.consume(queue, ConsumeOptions::default()).await?;
        println!("{queue} ({pattern}):");
        for _ in 0..count {
            let delivery = consumer.next().await.context("the consumer ended")??;
            println!("  {}", delivery.key());
            delivery.ack().await?;
        }
        consumer.cancel().await?;
    }
    client.close().await;
    Ok(())
}
