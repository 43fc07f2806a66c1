//! A leader's append to a follower, as bytes and back. Criterion, on the wall clock.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quorate_bench::messages::{append, entry};
use quorate_core::peer::PeerMessage;

fn appends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append to a peer");
    for (entries, size) in [(0, 0), (1, 1 << 10), (1, 64 << 10), (16, 64 << 10), (64, 1 << 10)] {
        let data = Bytes::from(vec![0x5a; size]);
        let message = append(999, (1000..1000 + entries).map(|index| entry(index, data.clone())).collect());
        let wire = message.encode();
        let which = format!("{entries}x{size}");
        group.throughput(Throughput::Bytes(wire.len() as u64));
        group.bench_function(BenchmarkId::new("encode", &which), |bencher| {
            bencher.iter(|| black_box(&message).encode_pieces());
        });
        group.bench_function(BenchmarkId::new("decode", &which), |bencher| {
            bencher.iter(|| PeerMessage::decode(black_box(&wire).clone()).expect("it is sound"));
        });
    }
    group.finish();
}

criterion_group!(benches, appends);
criterion_main!(benches);
