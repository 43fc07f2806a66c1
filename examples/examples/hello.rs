//! One message there and back.
//!
//! `cargo run -p quorate-examples --example hello [URL]`

use anyhow::Context;
use quorate_client::{Client, ConsumeOptions, Message, QueueOptions, property};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::connect(&quorate_examples::url()).await?;
    client.declare_queue("hello", QueueOptions::default()).await?;

    // The default exchange, "", routes to the queue named by the key.
    let publisher = client.publisher()?;
    let message =
        Message::from("Hello, quorum!").with_properties([(property::CONTENT_TYPE, "text/plain")])?;
    let confirm = publisher.publish("", "hello", message).await?;
    // The confirm resolves when a majority keeps the message; its receipt says where and how.
    let receipt = confirm.await?;
    println!("confirmed: {receipt}, policy {:?}", receipt.policy);

    let mut consumer = client.consume("hello", ConsumeOptions::default()).await?;
    let delivery = consumer.next().await.context("the consumer ended")??;
    println!("received:  {}", String::from_utf8_lossy(delivery.body()));
    // Once this resolves, the message never comes back.
    delivery.ack().await?;

    consumer.cancel().await?;
    client.close().await;
    Ok(())
}
