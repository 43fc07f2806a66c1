//! Frames: bytes into values and values into bytes. Criterion, on the wall clock.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quorate_protocol::codec::{BrokerDecoder, ClientDecoder, Segments, encode};
use quorate_protocol::frame::{
    ClientFrame, Confirm, Deliver, Delivery, Durability, NumberRange, ProducerId, ServerFrame, SyncPolicy,
};
use quorate_protocol::limits::{FRAME_LIMIT_MAX, Limits, MESSAGE_LIMIT_MAX};
use quorate_protocol::message::Properties;
use quorate_protocol::name::{ExchangeName, RoutingKey};
use quorate_protocol::peer_frame::{PeerDecoder, PeerFrame};
use quorate_protocol::publish::{PublishBody, PublishBuilder};

/// Messages in a batch.
const COUNTS: [u32; 3] = [1, 64, 400];
/// Bytes of a body.
const SIZES: [usize; 3] = [128, 1 << 10, 16 << 10];

fn name(text: &str) -> (ExchangeName, RoutingKey) {
    (ExchangeName::new("").expect("a name"), RoutingKey::new(text).expect("a key"))
}

fn batch(count: u32, size: usize) -> PublishBody {
    let (exchange, key) = name("orders");
    let mut builder = PublishBuilder::new(ProducerId(7), 1, 1, &exchange, &key);
    let body = vec![0x5a; size];
    for _ in 0..count {
        builder.push(&Properties::NONE, &body, MESSAGE_LIMIT_MAX).expect("there is room");
    }
    builder.finish().expect("it has messages")
}

fn deliver(count: u32, size: usize) -> ServerFrame {
    let (exchange, key) = name("orders");
    let messages = batch(count, size)
        .messages()
        .map(|message| Delivery { seq: message.number, redelivered: false, message: message.bytes })
        .collect();
    Deliver { consumer: 1, exchange, key, messages }.into()
}

fn confirm(ranges: u64) -> ServerFrame {
    let both = Durability { leader: SyncPolicy::Sync, replicas: SyncPolicy::Sync };
    Confirm {
        producer: ProducerId(7),
        ranges: (0..ranges).map(|number| NumberRange::one(2 * number + 1)).collect(),
        group: 1,
        epoch: 1,
        term: 3,
        index: 1000,
        durability: both,
        under_override: false,
        duplicate: false,
    }
    .into()
}

fn limits() -> Limits {
    Limits::new(FRAME_LIMIT_MAX, MESSAGE_LIMIT_MAX)
}

/// Inputs of a batch of criterion's are all in memory at once.
fn at_once(bytes: usize) -> BatchSize {
    if bytes <= 64 << 10 { BatchSize::SmallInput } else { BatchSize::NumIterations(16) }
}

fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish");
    for count in COUNTS {
        for size in SIZES {
            let body = batch(count, size);
            let mut wire = BytesMut::new();
            encode(&ClientFrame::Publish(body.clone()), 1, &mut wire);
            let which = format!("{count}x{size}");
            group.throughput(Throughput::Elements(count.into()));
            group.bench_function(BenchmarkId::new("decode", &which), |bencher| {
                bencher.iter_batched_ref(
                    || wire.clone(),
                    |buffer| {
                        let mut decoder = BrokerDecoder::new(limits());
                        decoder.logged_in();
                        decoder.decode(buffer).expect("it is whole")
                    },
                    at_once(wire.len()),
                );
            });
            group.bench_function(BenchmarkId::new("build", &which), |bencher| {
                bencher.iter(|| batch(black_box(count), black_box(size)));
            });
            let frame = ClientFrame::Publish(body);
            group.bench_function(BenchmarkId::new("encode", &which), |bencher| {
                bencher.iter(|| {
                    let mut segments = Segments::new();
                    segments.push(black_box(&frame), 1);
                    segments.take()
                });
            });
        }
    }
    group.finish();
}

fn answers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("answer");
    let frames = COUNTS.into_iter().flat_map(|count| {
        let delivers = SIZES
            .into_iter()
            .map(move |size| (format!("deliver {count}x{size}"), count, deliver(count, size)));
        delivers.chain([(format!("confirm {count} ranges"), count, confirm(count.into()))])
    });
    for (which, count, frame) in frames {
        let mut wire = BytesMut::new();
        encode(&frame, 1, &mut wire);
        group.throughput(Throughput::Elements(count.into()));
        group.bench_function(BenchmarkId::new("encode", &which), |bencher| {
            bencher.iter(|| {
                let mut segments = Segments::new();
                segments.push(black_box(&frame), 1);
                segments.take()
            });
        });
        group.bench_function(BenchmarkId::new("decode", &which), |bencher| {
            bencher.iter_batched_ref(
                || wire.clone(),
                |buffer| {
                    let mut decoder = ClientDecoder::new(limits());
                    decoder.logged_in();
                    decoder.decode(buffer).expect("it is whole")
                },
                at_once(wire.len()),
            );
        });
    }
    group.finish();
}

fn peer_frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("peer frame");
    for size in [200, 64 << 10, 1 << 20] {
        let frame = PeerFrame::Message(Bytes::from(vec![0x5a; size]));
        let mut wire = BytesMut::new();
        frame.encode(&mut wire);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("encode", size), |bencher| {
            bencher.iter(|| {
                let mut buffer = BytesMut::new();
                black_box(&frame).encode(&mut buffer);
                buffer
            });
        });
        group.bench_function(BenchmarkId::new("decode", size), |bencher| {
            bencher.iter_batched_ref(
                || wire.clone(),
                |buffer| {
                    let mut decoder = PeerDecoder::default();
                    decoder.authenticated();
                    decoder.decode(buffer).expect("it is whole")
                },
                at_once(wire.len()),
            );
        });
    }
    group.finish();
}

criterion_group!(benches, publish, answers, peer_frames);
criterion_main!(benches);
