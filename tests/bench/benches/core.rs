//! Whole cores in memory, without sockets and disks: a batch in, its confirm out; messages to a consumer and back. What
//! the world around the cores does is in the time. Criterion, on the wall clock.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quorate_bench::cluster::Cluster;
use quorate_bench::messages::batch;

/// A cluster keeps everything that was published: another one is taken after so many bytes.
const BYTES_MAX: u64 = 64 << 20;

/// Times `act` with a cluster and the number of the next message; it is made anew now and then, outside of the time.
fn with_clusters(
    make: impl Fn() -> Cluster,
    (count, size): (u64, usize),
    times: u64,
    mut act: impl FnMut(&mut Cluster, u64) -> Duration,
) -> Duration {
    let each = (BYTES_MAX / (count * (size as u64 + 64))).max(1);
    let mut cluster = make();
    let mut total = Duration::ZERO;
    let mut done = 0;
    for _ in 0..times {
        if done == each {
            cluster = make();
            done = 0;
        }
        total += act(&mut cluster, 1 + done * count);
        done += 1;
    }
    total
}

fn rounds(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("round");
    group.sample_size(30);
    for brokers in [1, 3] {
        for shape in [(1, 1 << 10), (64, 128), (64, 1 << 10), (400, 1 << 10), (32, 16 << 10)] {
            let (count, size) = shape;
            group.throughput(Throughput::Elements(count));
            group.bench_function(
                BenchmarkId::new(format!("brokers {brokers}"), format!("{count}x{size}")),
                |it| {
                    it.iter_custom(|times| {
                        with_clusters(
                            || Cluster::new(brokers),
                            shape,
                            times,
                            |cluster, first| {
                                let body = batch(first, count, size);
                                let begun = Instant::now();
                                let confirmed = cluster.publish(body);
                                let took = begun.elapsed();
                                assert_eq!(confirmed, count, "not confirmed");
                                took
                            },
                        )
                    });
                },
            );
        }
    }
    group.finish();
}

fn consuming(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish, deliver and ack");
    group.sample_size(30);
    for brokers in [1, 3] {
        for shape in [(1, 1 << 10), (64, 1 << 10), (400, 1 << 10)] {
            let (count, size) = shape;
            let make = || {
                let mut cluster = Cluster::new(brokers);
                cluster.consume();
                cluster
            };
            group.throughput(Throughput::Elements(count));
            group.bench_function(
                BenchmarkId::new(format!("brokers {brokers}"), format!("{count}x{size}")),
                |it| {
                    it.iter_custom(|times| {
                        with_clusters(make, shape, times, |cluster, first| {
                            let body = batch(first, count, size);
                            let begun = Instant::now();
                            cluster.publish(body);
                            let taken = cluster.take(u32::try_from(count).expect("a few"));
                            let settled = cluster.settle(taken);
                            let took = begun.elapsed();
                            assert_eq!(settled, count, "not settled");
                            took
                        })
                    });
                },
            );
        }
    }
    group.finish();
}

criterion_group!(benches, rounds, consuming);
criterion_main!(benches);
