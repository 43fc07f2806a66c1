//! How fast an empty member is filled.

use std::time::{Duration, Instant};

use super::{Plan, floor, rate, seconds, two_of_three, verdict};
use crate::process::Cluster;
use crate::process::patience::wait_within;

/// The least part of the floor.
const OF_FLOOR: f64 = 0.5;
/// Nobody waits longer for an update of what these figures are about.
const LIMIT: Duration = Duration::from_mins(3);

/// Waits until the third broker holds what the leader holds.
///
/// # Panics
/// It takes too long.
pub fn wait_updated(cluster: &mut Cluster) {
    wait_within(LIMIT, "the update", || {
        let log = cluster[2].log_text();
        let is_installed = |line: &str| line.contains("virtual host /,") && line.contains("installed");
        if log.lines().any(is_installed) { Ok(()) } else { Err(log) }
    });
    cluster.wait_equal();
}

/// Fills an empty third member of a cluster, without a limit to the rate, and compares with synced appends before and
/// after; gives whether the bound holds.
///
/// # Panics
/// The cluster does not work.
pub fn measure(plan: &Plan) -> bool {
    let mut holds = true;
    for round in 1..=plan.rounds {
        let mut cluster = two_of_three();
        let url = cluster.url();
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(plan.fill(&url)));
        let before = floor::appends(&cluster.path("floor"), plan.bytes());
        let began = Instant::now();
        cluster[2].spawn();
        cluster[2].wait_ports();
        wait_updated(&mut cluster);
        let taken = began.elapsed();
        let after = floor::appends(&cluster.path("floor"), plan.bytes());
        println!("round {round}: {} messages of {} bytes", plan.messages, plan.size);
        for line in cluster[2].log_text().lines().filter(|line| line.contains("napshot")) {
            println!("  b3: {line}");
        }
        let (update, floor) = (rate(plan.bytes(), taken), rate(plan.bytes() * 2, before + after));
        println!("  from the start of the process to equal contents: {} ({update:.0} MiB/s)", seconds(taken));
        println!(
            "  1 MiB appends, each synced: {} before, {} after ({floor:.0} MiB/s)",
            seconds(before),
            seconds(after)
        );
        holds &= verdict("  update, of the floor", update / floor, OF_FLOOR, "", false);
    }
    holds
}
