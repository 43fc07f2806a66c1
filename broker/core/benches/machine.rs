//! The machine of a virtual host and what is delivered from it: entries applied, messages given and settled, a
//! checkpoint. Criterion, on the wall clock.

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quorate_core::delivery::{ConsumerKey, ConsumerOptions, Delivery};
use quorate_core::io::SessionId;
use quorate_core::machine::{Command, QueueDefinition, QueueId, Range, VhostMachine};
use quorate_protocol::frame::ProducerId;
use quorate_protocol::limits::MESSAGE_LIMIT_MAX;
use quorate_protocol::message::Properties;
use quorate_protocol::name::{ExchangeName, QueueName, RoutingKey};
use quorate_protocol::publish::PublishBuilder;
use quorate_store::ids::{GroupId, Index};

const QUEUE: QueueId = QueueId(1);
const CONSUMER: ConsumerKey = ConsumerKey { session: SessionId(1), channel: 1, consumer: 1 };

/// One virtual host on its leader, with the queue `orders`.
struct Leader {
    machine: VhostMachine,
    delivery: Delivery,
    index: u64,
    published: u64,
}

fn data(command: &Command) -> Bytes {
    let mut out = Vec::new();
    command.encode(&mut out);
    out.into()
}

fn batch(first: u64, count: u64, size: usize) -> Command {
    let exchange = ExchangeName::new("").expect("a name");
    let key = RoutingKey::new("orders").expect("a key");
    let mut builder = PublishBuilder::new(ProducerId(7), first, first, &exchange, &key);
    let body = vec![0x5a; size];
    for _ in 0..count {
        builder.push(&Properties::NONE, &body, MESSAGE_LIMIT_MAX).expect("there is room");
    }
    Command::Publish(builder.finish().expect("it has messages").into_bytes())
}

/// Every second message: no two of them in one range.
fn gaps(first: u64, count: u64) -> Vec<Range> {
    (0..count / 2).map(|number| Range::one(first + 2 * number)).collect()
}

impl Leader {
    fn new() -> Self {
        let mut machine = VhostMachine::new();
        let name = QueueName::new("orders").expect("a name");
        let declare = Command::DeclareQueue { name, definition: QueueDefinition::default() };
        machine.apply(Index(1), &data(&declare));
        let delivery = Delivery::new(&machine);
        Self { machine, delivery, index: 1, published: 0 }
    }

    fn with_messages(count: u64) -> Self {
        let mut leader = Self::new();
        while leader.published < count {
            leader.publish(400.min(count - leader.published), 128);
        }
        leader
    }

    fn with_consumer(count: u64) -> Self {
        let mut leader = Self::with_messages(count);
        let options = ConsumerOptions { credit: u32::MAX, ..ConsumerOptions::default() };
        leader.delivery.attach(&leader.machine, CONSUMER, QUEUE, options).expect("the queue exists");
        leader.expose();
        leader
    }

    fn apply(&mut self, data: &Bytes) {
        self.index += 1;
        let outcomes = self.machine.apply(Index(self.index), data);
        assert!(!outcomes.is_empty());
        let touched = self.machine.take_touched();
        self.delivery.touched(&self.machine, &touched);
    }

    fn publish(&mut self, count: u64, size: usize) {
        let command = batch(self.published + 1, count, size);
        self.published += count;
        self.apply(&data(&command));
    }

    fn expose(&mut self) {
        for (queue, to) in self.delivery.take_expose_requests(&self.machine) {
            self.apply(&data(&Command::Expose { queue, to }));
        }
    }

    /// Gives so many messages to the consumer, which is done with them at once.
    fn deliver_and_settle(&mut self, count: usize) {
        let given = self.delivery.assign(&self.machine, count, usize::MAX);
        assert_eq!(given.len(), count);
        let held = Range::collect(given.iter().map(|assignment| assignment.seq));
        let settled = self.delivery.settle(CONSUMER, &held).expect("it consumes");
        let ranges = settled.ranges.clone();
        self.apply(&data(&Command::Ack { queue: settled.queue, ranges: settled.ranges }));
        self.delivery.confirm_settled(QUEUE, &ranges);
        self.expose();
    }
}

fn publishes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply publish");
    for count in [1, 64, 400] {
        let entry = data(&batch(10_001, count, 1 << 10));
        let before = Leader::with_messages(10_000);
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter_batched_ref(
                || before.machine.clone(),
                |machine| machine.apply(Index(before.index + 1), &entry),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn settlements(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply ack");
    let before = Leader::with_messages(10_000);
    for count in [1, 64, 400] {
        let whole = vec![Range::new(1, count).expect("a range")];
        for (kind, ranges) in [("in order", whole), ("with gaps", gaps(1, 2 * count))] {
            let entry = data(&Command::Ack { queue: QUEUE, ranges });
            group.throughput(Throughput::Elements(count));
            group.bench_function(BenchmarkId::new(kind, count), |bencher| {
                bencher.iter_batched_ref(
                    || before.machine.clone(),
                    |machine| machine.apply(Index(before.index + 1), &entry),
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

fn deliveries(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("consume and ack");
    for (count, depth) in [(1, 1000), (64, 1000), (400, 1000), (64, 100_000)] {
        let mut leader = Leader::with_consumer(depth);
        let entry_size = 128;
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::new(format!("{depth} waiting"), count), |bencher| {
            bencher.iter(|| {
                leader.publish(count, entry_size);
                leader.deliver_and_settle(usize::try_from(count).expect("a few"));
            });
        });
    }
    group.finish();
}

fn checkpoints(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checkpoint");
    group.sample_size(20);
    for depth in [10_000, 1_000_000] {
        let mut whole = Leader::with_messages(depth);
        group.throughput(Throughput::Elements(depth));
        group.bench_function(BenchmarkId::new("first", depth), |bencher| {
            bencher.iter_batched_ref(
                || whole.machine.clone(),
                |machine| machine.checkpoint(GroupId(1), Bytes::new()),
                BatchSize::NumIterations(1),
            );
        });
        whole.machine.checkpoint(GroupId(1), Bytes::new());
        whole.publish(400, 128);
        group.throughput(Throughput::Elements(400));
        group.bench_function(BenchmarkId::new("400 more on", depth), |bencher| {
            bencher.iter_batched_ref(
                || whole.machine.clone(),
                |machine| machine.checkpoint(GroupId(1), Bytes::new()),
                BatchSize::NumIterations(1),
            );
        });
    }
    group.finish();
}

criterion_group!(benches, publishes, settlements, deliveries, checkpoints);
criterion_main!(benches);
