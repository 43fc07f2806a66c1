//! What a broker costs.

use std::time::Instant;

use quorate_client::Client;
use quorate_tests::process::{Broker, ClusterPlan, Place, messages, wait_for};

const MEBIBYTE: u64 = 1 << 20;
const IDLE_MAX: u64 = 100 * MEBIBYTE;
/// What a million queued messages may cost beyond an idle broker.
const MILLION_MAX: u64 = 80 * MEBIBYTE;
const MILLION: u64 = 1_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_memory_of_an_idle_broker_and_of_a_million_messages() {
    let place = Place::new();
    let mut broker = Broker::single(&place.path(""), "b");
    broker.start();
    broker.wait_leading();
    let url = format!("quorate://{}", broker.client_address());
    cost_of_a_million(&url, &[&broker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_memory_of_a_million_messages_in_a_cluster_of_three() {
    let cluster = ClusterPlan::of(3).start();
    cost_of_a_million(&cluster.url(), &[&cluster[0], &cluster[1], &cluster[2]]).await;
}

/// Publishes a million messages; no broker may take more than its bound for them.
async fn cost_of_a_million(url: &str, brokers: &[&Broker]) {
    let client = messages::connect_with_queue(url, "q").await;
    let idle: Vec<u64> = brokers.iter().map(|broker| broker.resident_bytes()).collect();
    println!("idle: {:?} MiB resident", in_mebibytes(&idle));
    assert!(idle.iter().all(|bytes| *bytes < IDLE_MAX), "{idle:?} bytes");

    let begun = Instant::now();
    let publisher = client.publisher().unwrap();
    for part in 0..100 {
        let first = part * MILLION / 100;
        messages::confirmed(messages::publish(&publisher, "q", first..first + MILLION / 100, 1024).await)
            .await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(messages::held(&client, "q").await.unwrap(), MILLION);
    let peak: Vec<u64> = brokers.iter().map(|broker| broker.resident_bytes()).collect();
    // Buffers of the work just done go when it is done.
    let full = wait_for("the memory of a million messages to be in bounds", || {
        let full: Vec<u64> = brokers.iter().map(|broker| broker.resident_bytes()).collect();
        let in_bounds = full.iter().zip(&idle).all(|(full, idle)| *full < idle + MILLION_MAX);
        if in_bounds { Ok(full) } else { Err(format!("{:?} MiB resident", in_mebibytes(&full))) }
    });
    println!(
        "1000000 messages of 1 KiB: {:?} MiB resident, {:?} MiB just after; published in {seconds:.1} s",
        in_mebibytes(&full),
        in_mebibytes(&peak)
    );
    check_ends(&client).await;
}

fn in_mebibytes(bytes: &[u64]) -> Vec<u64> {
    bytes.iter().map(|bytes| bytes / MEBIBYTE).collect()
}

/// The oldest and the newest are there.
async fn check_ends(client: &Client) {
    let oldest = client.peek_queue("q", 0, 1).await.unwrap().entries.remove(0);
    assert_eq!(messages::number(oldest.message.body()), 0);
    let newest = client.peek_queue("q", oldest.seq + MILLION - 1, 1).await.unwrap().entries.remove(0);
    assert_eq!(messages::number(newest.message.body()), MILLION - 1);
}
