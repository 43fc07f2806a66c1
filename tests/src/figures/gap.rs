//! What publishers notice of an update: the longest time without a confirm.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::update::wait_updated;
use super::{Plan, QUEUE, body, two_of_three, verdict};
use crate::process::messages;

/// Between two messages.
const PACE: Duration = Duration::from_millis(2);
/// What an update may add to the longest gap, in milliseconds.
const ADDED_MAX: f64 = 100.0;
/// How long is measured without an update, before it.
const BEFORE: Duration = Duration::from_secs(15);

/// Publishes at a pace until told to stop.
struct Steady {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<(u64, Duration)>,
}

impl Steady {
    async fn start(url: &str, size: usize) -> Self {
        let client = messages::connect(url).await;
        let publisher = client.publisher().expect("a publisher");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let (sender, mut confirms) = tokio::sync::mpsc::unbounded_channel();
            let confirmed = tokio::spawn(async move {
                let mut count = 0_u64;
                let mut longest = Duration::ZERO;
                let mut last = Instant::now();
                while let Some(confirm) = confirms.recv().await {
                    messages::confirmed(vec![confirm]).await;
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                    count += 1;
                }
                (count, longest)
            });
            let mut pace = tokio::time::interval(PACE);
            while !stopped.load(Ordering::Relaxed) {
                pace.tick().await;
                let body = body(u64::MAX, size);
                let confirm = publisher.publish("", QUEUE, body).await.expect("the client lives");
                sender.send(confirm).expect("confirms are awaited");
            }
            drop(sender);
            let result = confirmed.await.expect("confirms are counted");
            client.close().await;
            result
        });
        Self { stop, task }
    }

    async fn stop(self) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the publisher ends")
    }
}

/// Measures the longest gap between confirms before, during and after the update of an empty third member; gives whether
/// the bound holds.
///
/// # Panics
/// The cluster does not work.
pub async fn measure(plan: &Plan) -> bool {
    let mut holds = true;
    for round in 1..=plan.rounds {
        let mut cluster = two_of_three();
        let url = cluster.url();
        plan.fill(&url).await;
        let steady = Steady::start(&url, plan.size).await;
        tokio::time::sleep(BEFORE).await;
        let before = steady.stop().await;
        let steady = Steady::start(&url, plan.size).await;
        let began = Instant::now();
        cluster[2].spawn();
        cluster[2].wait_ports();
        tokio::task::block_in_place(|| wait_updated(&mut cluster));
        let taken = began.elapsed();
        let during = steady.stop().await;
        let steady = Steady::start(&url, plan.size).await;
        tokio::time::sleep(taken).await;
        let after = steady.stop().await;
        println!("round {round}: {} messages of {} bytes, one more each {PACE:?}", plan.messages, plan.size);
        for (when, time, (count, longest)) in
            [("before", BEFORE, before), ("during", taken, during), ("after", taken, after)]
        {
            println!("  {when}: {:.1} s, {count} confirms, longest gap {longest:.1?}", time.as_secs_f64());
        }
        let without = before.1.max(after.1);
        let added = (during.1.as_secs_f64() - without.as_secs_f64()) * 1000.0;
        holds &= verdict("  added by the update", added, ADDED_MAX, " ms", true);
    }
    holds
}
