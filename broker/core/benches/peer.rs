//! A leader's append to a follower, as bytes and back. Criterion, on the wall clock.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quorate_core::peer::{LineageTag, PeerMessage};
use quorate_core::replica::wire::RaftMessage;
use quorate_store::ids::{Epoch, GroupId, Index, Term};
use quorate_store::record::{Entry, EntryKind};
use uuid::Uuid;

/// An append of so many entries of so many bytes each.
fn append(entries: u64, size: usize) -> PeerMessage {
    let data = Bytes::from(vec![0x5a; size]);
    let entry =
        |index| Entry { term: Term(3), index: Index(index), kind: EntryKind::Command, data: data.clone() };
    let message = RaftMessage {
        kind: 1,
        to: 2,
        from: 1,
        term: 3,
        log_term: 3,
        index: 999,
        entries: (1000..1000 + entries).map(entry).collect(),
        commit: 998,
        commit_term: 3,
        request_snapshot: 0,
        reject: false,
        reject_hint: 0,
        context: Bytes::new(),
        priority: 0,
    };
    let lineage = LineageTag { epoch: Epoch(1), id: Uuid::from_u128(5) };
    PeerMessage::Raft { group: GroupId(1), lineage, message: Box::new(message) }
}

fn appends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append to a peer");
    for (entries, size) in [(0, 0), (1, 1 << 10), (1, 64 << 10), (16, 64 << 10), (64, 1 << 10)] {
        let message = append(entries, size);
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
