//! How long a cluster of three is gone after all of it was killed.

use std::time::Instant;

use super::{Plan, first_message, seconds, verdict};
use crate::process::ClusterPlan;

/// From the second process to the first message, in seconds.
const LIMIT: f64 = 5.0;

/// Kills three brokers at once, starts two again, and measures from the start of the second one's process to the first
/// message that is consumed; gives whether the bound holds.
///
/// # Panics
/// The cluster does not work.
pub async fn measure(plan: &Plan) -> bool {
    let mut cluster = ClusterPlan::of(3).wait_for(2).start();
    let url = cluster.url();
    plan.fill(&url).await;
    println!(
        "{} messages of {} bytes, three brokers killed at once, two started again",
        plan.messages, plan.size
    );
    let mut holds = true;
    for round in 1..=plan.rounds {
        cluster.kill_all();
        cluster[0].start();
        // It waits for messages before anybody can give any.
        let waiting = tokio::spawn({
            let url = url.clone();
            async move { first_message(&url).await }
        });
        cluster[0].wait_until("waits", |status| status.verdict() == "waiting");
        let began = Instant::now();
        cluster[1].spawn();
        let (client, at) = waiting.await.expect("the consumer ends");
        client.close().await;
        let taken = at.duration_since(began);
        cluster[1].wait_ports();
        println!(
            "  round {round}: {}, row {}",
            seconds(taken),
            cluster[0].status().map_or_else(|error| error, |status| status.row().to_owned())
        );
        holds &= verdict("  second process to first message", taken.as_secs_f64(), LIMIT, " s", true);
        cluster[2].start();
        cluster.wait_equal();
    }
    holds
}
