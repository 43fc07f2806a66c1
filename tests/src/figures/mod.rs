//! What a start, a restart and a full update take, each beside its bound, and what durability policies cost. Real brokers; see [`crate::process`].

pub mod durability;
pub mod floor;
pub mod gap;
pub mod outage;
pub mod restart;
pub mod update;

use std::time::{Duration, Instant};

use quorate_client::{Client, ConsumeOptions};

use crate::process::{Cluster, ClusterPlan, messages};

/// The queue that is filled.
const QUEUE: &str = "figures";
/// Messages on their way at one time while it is filled.
const FILL_STEP: u64 = 10_000;

/// How much is stored, and how often it is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Messages in the queue.
    pub messages: u64,
    /// Bytes of each.
    pub size: usize,
    /// Measurements.
    pub rounds: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self { messages: 1_000_000, size: 1024, rounds: 1 }
    }
}

impl Plan {
    /// Bytes of all bodies.
    pub fn bytes(&self) -> u64 {
        self.messages.saturating_mul(self.size as u64)
    }

    /// Puts the messages into the queue; each is confirmed.
    async fn fill(&self, url: &str) {
        let client = messages::connect_with_queue(url, QUEUE).await;
        let publisher = client.publisher().expect("a publisher");
        let mut first = 0;
        while first < self.messages {
            let next = first.saturating_add(FILL_STEP).min(self.messages);
            let mut confirms = Vec::new();
            for number in first..next {
                let body = body(number, self.size);
                confirms.push(publisher.publish("", QUEUE, body).await.expect("the client lives"));
            }
            messages::confirmed(confirms).await;
            first = next;
        }
        client.close().await;
    }
}

/// Two of three brokers, active; the third was never started.
fn two_of_three() -> Cluster {
    let mut cluster = ClusterPlan::of(3).wait_for(2).prepare();
    cluster.start_these(&[0, 1]);
    cluster.wait_active();
    cluster
}

/// A body that begins with a number. What follows cannot be compressed, or the state store would write less than it is
/// given.
fn body(number: u64, size: usize) -> Vec<u8> {
    let mut body = messages::body(number, 0);
    let mut state = number;
    while body.len() < size {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        body.extend_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    body.truncate(size.max(number.to_string().len() + 1));
    body
}

/// Waits for the first message of the queue, however long nobody answers; gives when it was there.
async fn first_message(url: &str) -> (Client, Instant) {
    let client = messages::connect(url).await;
    let mut consumer = client.consume(QUEUE, ConsumeOptions::default()).await.expect("a consumer");
    let delivery = consumer.next().await.expect("the queue holds messages").expect("a delivery");
    let at = Instant::now();
    assert_eq!(messages::number(delivery.body()), 0, "the oldest message comes first");
    (client, at)
}

fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

/// Bytes over time, in MiB a second.
#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn rate(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / f64::from(1 << 20) / time.as_secs_f64()
}

/// Says a measured value beside its bound; gives whether it holds.
fn verdict(what: &str, value: f64, bound: f64, unit: &str, at_most: bool) -> bool {
    let holds = if at_most { value <= bound } else { value >= bound };
    let relation = if at_most { "at most" } else { "at least" };
    let word = if holds { "holds" } else { "DOES NOT HOLD" };
    println!("{what}: {value:.3}{unit}, {relation} {bound}{unit}: {word}");
    holds
}
