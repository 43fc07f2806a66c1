//! What a durability policy costs: the wait for a confirm, processor time and syncs of each, beside those of `sync,sync`.

use std::time::{Duration, Instant};

use super::{Plan, QUEUE, body};
use crate::process::status::get;
use crate::process::{Cluster, ClusterPlan, messages, programs};

/// What is compared, the one that all are compared with first.
const POLICIES: [&str; 5] =
    ["sync,sync", "sync,write-no-sync", "sync,no-sync", "write-no-sync,write-no-sync", "no-sync,no-sync"];
/// Confirms that are waited for one by one.
const ONE_BY_ONE: u64 = 1_000;
/// Messages on their way at one time otherwise.
const WINDOW: u64 = 1_024;

/// Of one policy in one round.
#[derive(Clone, Copy, Debug)]
struct Measured {
    /// Half of the confirms came sooner than this after their message was sent, one on its way at a time.
    half: Duration,
    /// Syncs of all three brokers a message, one on its way at a time.
    syncs_alone: f64,
    /// The same with many on their way.
    syncs: f64,
    /// Processor time of all three brokers a message, many on their way.
    cpu: Duration,
}

/// What the brokers' processes have used so far.
#[derive(Clone, Copy, Debug)]
struct Used {
    syncs: u64,
    cpu: Duration,
}

fn used(cluster: &Cluster) -> Used {
    let mut used = Used { syncs: 0, cpu: Duration::ZERO };
    for number in 0..3 {
        let (_, text) = get(&cluster[number].admin_address(), "/metrics").expect("metrics");
        let syncs = text.lines().find_map(|line| line.strip_prefix("quorate_log_syncs_total "));
        used.syncs += syncs.and_then(|syncs| syncs.parse::<u64>().ok()).expect("a count of syncs");
        used.cpu += cluster[number].cpu_time();
    }
    used
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn each(count: u64, messages: u64) -> f64 {
    count as f64 / messages as f64
}

fn set(cluster: &Cluster, policy: &str) {
    let output = programs::command("quorate")
        .args(["--admin", &cluster[0].admin_address(), "group", "set", "--vhost", "/"])
        .args(["--durability", policy, "--reason", "a measurement"])
        .output()
        .expect("the tool runs");
    assert!(output.status.success(), "{output:?}");
    for number in 0..3 {
        cluster[number].wait_until("shows the policy", |status| {
            status.group("/").is_some_and(|group| group["durability_here"] == policy)
        });
    }
}

async fn measured(cluster: &Cluster, plan: &Plan) -> Measured {
    let client = messages::connect_with_queue(&cluster.url(), QUEUE).await;
    let publisher = client.publisher().expect("a publisher");
    let before = used(cluster);
    let mut waits = Vec::new();
    for number in 0..ONE_BY_ONE {
        let body = body(number, plan.size);
        let sent = Instant::now();
        let confirm = publisher.publish("", QUEUE, body).await.expect("the client lives");
        messages::confirmed(vec![confirm]).await;
        waits.push(sent.elapsed());
    }
    let alone = used(cluster);
    let mut first = 0;
    while first < plan.messages {
        let next = first.saturating_add(WINDOW).min(plan.messages);
        let mut confirms = Vec::new();
        for number in first..next {
            confirms.push(publisher.publish("", QUEUE, body(number, plan.size)).await.expect("it lives"));
        }
        messages::confirmed(confirms).await;
        first = next;
    }
    let after = used(cluster);
    messages::drain(&client, QUEUE).await.expect("the queue can be read");
    client.close().await;
    waits.sort_unstable();
    Measured {
        half: waits[waits.len() / 2],
        syncs_alone: each(alone.syncs - before.syncs, ONE_BY_ONE),
        syncs: each(after.syncs - alone.syncs, plan.messages),
        cpu: after.cpu.saturating_sub(alone.cpu)
            / u32::try_from(plan.messages).expect("a number of messages"),
    }
}

/// The one in the middle.
fn middle<T: Copy + PartialOrd>(of: &[Measured], what: impl Fn(&Measured) -> T) -> T {
    let mut values: Vec<T> = of.iter().map(what).collect();
    values.sort_by(|a, b| a.partial_cmp(b).expect("figures are numbers"));
    values[values.len() / 2]
}

/// Measures each policy in turn, as often as there are rounds, and prints medians. There is no bound: it holds.
///
/// # Panics
/// The cluster does not work.
pub async fn measure(plan: &Plan) -> bool {
    let mut cluster = ClusterPlan::of(3).start();
    cluster.wait_active();
    let mut found = vec![Vec::new(); POLICIES.len()];
    for round in 0..=plan.rounds {
        for (policy, found) in POLICIES.iter().zip(&mut found) {
            set(&cluster, policy);
            let measured = measured(&cluster, plan).await;
            // The first round warms up.
            if round > 0 {
                found.push(measured);
            }
        }
    }
    println!("{} bytes, {} messages, medians of {} rounds", plan.size, plan.messages, plan.rounds);
    println!(
        "policy | window 1: p50 µs | of sync,sync | syncs/message | window {WINDOW}: CPU µs/message | of sync,sync | syncs/message"
    );
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let half = |of: &[Measured]| micros(middle(of, |measured| measured.half));
    let cpu = |of: &[Measured]| micros(middle(of, |measured| measured.cpu));
    let (half_synced, cpu_synced) = (half(&found[0]), cpu(&found[0]));
    for (policy, of) in POLICIES.iter().zip(&found) {
        println!(
            "{policy} | {:.0} | {:.2} | {:.2} | {:.1} | {:.2} | {:.4}",
            half(of),
            half(of) / half_synced,
            middle(of, |measured| measured.syncs_alone),
            cpu(of),
            cpu(of) / cpu_synced,
            middle(of, |measured| measured.syncs),
        );
    }
    true
}
