//! Several workers share a queue. One of them fails now and then: another one gets its job.
//!
//! `cargo run -p quorate-examples --example work_queue [URL]`

use std::collections::BTreeSet;

use anyhow::Context;
use quorate_client::{Client, ConsumeOptions, Delivery, QueueOptions};
use tokio::sync::mpsc;

const JOBS: usize = 40;
const WORKERS: usize = 4;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::connect(&quorate_examples::url()).await?;
    client.declare_queue("jobs", QueueOptions::default()).await?;
    client.purge_queue("jobs").await?;

    let (done, mut finished) = mpsc::channel(JOBS);
    for worker in 0..WORKERS {
        // A credit of one: a worker gets its next job when it is done with the last one, so slow jobs do not pile up
        // behind a slow worker.
        let options = ConsumeOptions { credit: 1, ..ConsumeOptions::default() };
        let mut jobs = client.consume("jobs", options).await?;
        let done = done.clone();
        tokio::spawn(async move {
            while let Some(Ok(delivery)) = jobs.next().await {
                if let Some(job) = work(worker, delivery).await
                    && done.send(job).await.is_err()
                {
                    return;
                }
            }
        });
    }

    // All jobs are on their way before the first confirm is awaited: they travel together.
    let publisher = client.publisher()?;
    let mut confirms = Vec::new();
    for job in 0..JOBS {
        confirms.push(publisher.publish("", "jobs", format!("job {job}")).await?);
    }
    for confirm in confirms {
        confirm.await?;
    }
    println!("{JOBS} jobs are safe");

    let mut jobs = BTreeSet::new();
    while jobs.len() < JOBS {
        jobs.insert(finished.recv().await.context("the workers ended")?);
    }
    println!("{JOBS} jobs are done");
    client.close().await;
    Ok(())
}

/// Does a job; none if it failed.
async fn work(worker: usize, delivery: Delivery) -> Option<String> {
    let job = String::from_utf8_lossy(delivery.body()).into_owned();
    if delivery.seq().is_multiple_of(7) && !delivery.is_redelivered() {
        println!("worker {worker} drops {job}");
        // Back to its place in the queue, for whoever is free.
        let _ = delivery.nack(true).await;
        return None;
    }
    println!("worker {worker} does {job}{}", if delivery.is_redelivered() { " (again)" } else { "" });
    // An error means that it may come again: jobs are done at least once, so they should bear being done twice.
    if let Err(error) = delivery.ack().await {
        println!("worker {worker}: {job}: {error}");
    }
    Some(job)
}
