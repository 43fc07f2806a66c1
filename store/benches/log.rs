//! The log on a real disk: where `TMPDIR` says. Criterion, on the wall clock.
//!
//! Segments are made, filled and recycled as a broker does it, outside of what is timed.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quorate_store::files::real::RealFiles;
use quorate_store::ids::{Epoch, GroupId, Index, StoreId, Term};
use quorate_store::log::{LogConfig, LogWriter, open};
use quorate_store::record::{Batch, Entry, EntryKind, Record};
use uuid::Uuid;

const GROUP: GroupId = GroupId(1);
/// The log is let go of when it has grown by so many bytes: a few segments on disk are enough.
const COMPACT_EVERY: u64 = 48 << 20;
/// What was appended without a sync reaches the disk when it has come to so many bytes, before the system begins to
/// write it back by itself.
const SYNC_EVERY: u64 = 16 << 20;
/// Entries of a batch, and bytes of each: one publish of small messages, a busy round, a round of large batches.
const BATCHES: [(u64, usize); 4] = [(1, 1 << 10), (1, 64 << 10), (16, 64 << 10), (64, 16 << 10)];

/// A log that goes on for as long as it is asked to.
struct Endless {
    writer: LogWriter,
    next: u64,
    since_compaction: u64,
    since_sync: u64,
    data: Bytes,
    entries: u64,
}

impl Endless {
    fn new(dir: &Path, entries: u64, size: usize) -> Self {
        let config = LogConfig { log_keep: 0, ..LogConfig::new(StoreId(Uuid::from_u128(1)), 7) };
        let (writer, _, _) = open(Arc::new(RealFiles), dir, config, None).expect("the log opens");
        let data = Bytes::from(vec![0x5a; size]);
        let mut log = Self { writer, next: 1, since_compaction: 0, since_sync: 0, data, entries };
        // The first segment is made by the first append.
        log.append(&log.batch());
        log.sync();
        log.prepare();
        log
    }

    fn batch(&self) -> Batch {
        let entry = |index| Entry {
            term: Term(1),
            index: Index(index),
            kind: EntryKind::Command,
            data: self.data.clone(),
        };
        let records = (self.next..self.next + self.entries)
            .map(|index| Record::Entry(GROUP, Epoch(1), entry(index)))
            .collect();
        Batch { records }
    }

    /// What is done between two appends and not timed.
    fn prepare(&mut self) -> Batch {
        if self.since_sync >= SYNC_EVERY {
            self.sync();
        }
        if self.since_compaction >= COMPACT_EVERY {
            self.since_compaction = 0;
            self.sync();
            self.writer.compact(GROUP, Index(self.next - 1));
            self.writer.append(&[]).expect("the disk works");
            self.sync();
        }
        if let Some(order) = self.writer.order_spare() {
            order.make().expect("the disk has room");
            self.writer.spare_made(&order, true);
        }
        self.batch()
    }

    fn append(&mut self, batch: &Batch) {
        self.writer.append(&[batch]).expect("the disk works");
        self.next += self.entries;
        let bytes = self.entries * self.data.len() as u64;
        self.since_compaction += bytes;
        self.since_sync += bytes;
    }

    fn sync(&mut self) {
        self.writer.sync().expect("the disk works");
        self.since_sync = 0;
    }
}

fn append(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory for the log");
    let mut group = criterion.benchmark_group("log");
    for (entries, size) in BATCHES {
        let which = format!("{entries}x{size}");
        group.throughput(Throughput::Bytes(entries * size as u64));
        for (kind, synced) in [("append", false), ("append and sync", true)] {
            let path = dir.path().join(format!("{which} {synced}"));
            // Made when it is wanted: a filter leaves most of them out.
            let log: RefCell<Option<Endless>> = RefCell::default();
            group.bench_function(BenchmarkId::new(kind, &which), |bencher| {
                log.borrow_mut().get_or_insert_with(|| Endless::new(&path, entries, size));
                bencher.iter_batched(
                    || log.borrow_mut().as_mut().expect("it is open").prepare(),
                    |batch| {
                        let mut log = log.borrow_mut();
                        let log = log.as_mut().expect("it is open");
                        log.append(&batch);
                        if synced {
                            log.sync();
                        }
                    },
                    BatchSize::PerIteration,
                );
            });
            drop(log);
            let _ = std::fs::remove_dir_all(&path);
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    // A sync takes milliseconds, and what is appended without one has to go to the disk all the same.
    config = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = append
}
criterion_main!(benches);
