//! What is done with the log's writing end, by whichever thread has it: write, sync, look after files and space.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use quorate_core::io::Input;
use quorate_store::ids::{GroupId, Index};
use quorate_store::log::{LogWriter, SyncedPoint};
use quorate_store::record::{Batch, Record};
use quorate_store::reserve::{Reserve, SpaceLimits};

use crate::counters::Counters;
use crate::exit::die_of_io;
use crate::inbox::Inbox;
use crate::keeper::{KeepOrder, Keeper};
use crate::room::Room;

/// A batch that is written at once has no more bytes than this.
const AT_ONCE_BYTES: usize = 32 << 10;
/// A disk whose last sync took longer than this is not waited for by the core.
const QUICK: Duration = Duration::from_millis(2);
/// So long after a slow sync.
const MISTRUST: Duration = Duration::from_secs(1);

/// How much of the log is synced, for the stamp.
#[derive(Clone, Debug, Default)]
pub struct Synced(Arc<Mutex<SyncedPoint>>);

impl Synced {
    /// Everything before this place was durable when the log was opened.
    pub fn new(point: SyncedPoint) -> Self {
        Self(Arc::new(Mutex::new(point)))
    }

    /// Everything before this place is durable.
    pub fn get(&self) -> SyncedPoint {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, point: SyncedPoint) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = point;
    }
}

/// What the thread works with.
pub struct LogOwner {
    /// The log.
    pub writer: LogWriter,
    /// Room for a full disk; none for a transient broker, whose disk is memory.
    pub reserve: Option<Arc<Reserve>>,
    /// Bytes in quarantine.
    pub quarantine_bytes: Arc<AtomicU64>,
    /// To the core.
    pub inbox: Inbox,
    /// The process's numbers.
    pub counters: Arc<Counters>,
    /// Told to the stamp's thread.
    pub synced: Synced,
    /// Where images of the store go; none for a transient broker.
    pub keeper: Option<Keeper>,
}

/// The log's writing end with everything that is done for it.
pub struct LogWorker {
    owner: LogOwner,
    room: Room,
    /// What the core was told last: of the log, and in quarantine.
    told_bytes: Option<(u64, u64)>,
    /// Something was written in this run.
    written: bool,
    /// The disk was slow a moment ago.
    mistrusted_until: Instant,
}

impl LogWorker {
    /// Nothing was written yet.
    pub fn new(owner: LogOwner) -> Self {
        let room = Room::new(owner.reserve.clone(), SpaceLimits::default());
        Self { owner, room, told_bytes: None, written: false, mistrusted_until: Instant::now() }
    }

    /// Waits for the threads that still touch the log's files: nobody does after this.
    pub fn finish(&mut self) {
        self.room.finish();
    }

    /// Whether a batch may be written by a thread that has other things to do: a small one that the current segment has
    /// room for, that frees nothing, on a disk that was quick lately.
    pub fn may_write_at_once(&self, batch: &Batch) -> bool {
        let bytes = size(batch);
        let plain = |record: &Record| matches!(record, Record::Entry(..) | Record::HardState(..));
        bytes <= AT_ONCE_BYTES
            && self.written
            && batch.records.iter().all(plain)
            && !self.owner.writer.compaction_waits()
            && self.owner.writer.has_room(bytes as u64)
            && Instant::now() >= self.mistrusted_until
    }

    /// When [`LogWorker::look_after_space`] has something to do next.
    pub fn space_due(&self) -> Instant {
        self.room.due()
    }

    /// Everything of a group up to an index may leave the log; written with the next batches.
    pub fn compact(&mut self, compactions: Vec<(GroupId, Index)>) {
        for (group, index) in compactions {
            self.owner.writer.compact(group, index);
        }
        if self.owner.writer.compaction_waits() {
            self.append(&[]);
            self.sync();
        }
    }

    /// The log's part of an image of the store, made between two batches; the state's thread makes the rest.
    pub fn keep(&mut self, order: KeepOrder) {
        let ticket = order.ticket;
        let begun = match &self.owner.keeper {
            Some(keeper) => keeper.begin(order, &mut self.owner.writer, &self.owner.quarantine_bytes),
            None => Err("a transient broker keeps nothing".to_owned()),
        };
        if let Err(why) = begun {
            self.owner.inbox.input(Input::NotKept { ticket, why });
        }
    }

    /// One write. Nothing is confirmed if it fails: the process ends.
    pub fn append(&mut self, batches: &[Batch]) {
        let LogOwner { writer, counters, .. } = &mut self.owner;
        let references: Vec<&Batch> = batches.iter().collect();
        writer.append(&references).unwrap_or_else(|error| die_of_io("write to the log", &error));
        counters.log_writes.add(1);
        let bytes = u64::try_from(batches.iter().map(size).sum::<usize>()).unwrap_or(u64::MAX);
        counters.log_written_bytes.add(bytes);
        self.room.wrote(bytes);
    }

    /// One sync, of everything that was appended. Nothing is confirmed if it fails: the process ends.
    pub fn sync(&mut self) {
        let LogOwner { writer, counters, synced, .. } = &mut self.owner;
        let begun = Instant::now();
        writer.sync().unwrap_or_else(|error| die_of_io("sync of the log", &error));
        synced.set(writer.synced_point());
        if !self.written {
            // The reserve is made now, while there is likely room for it.
            self.written = true;
            self.room.look_soon();
        }
        let took = begun.elapsed();
        if took > QUICK {
            self.mistrusted_until = Instant::now() + MISTRUST;
        }
        counters.log_sync_nanos.add_time(took);
        counters.log_syncs.add(1);
    }

    /// The core is told of segments that it should free, and of the log's size.
    pub fn look_after_segments(&mut self) {
        let LogOwner { writer, inbox, counters, quarantine_bytes, .. } = &mut self.owner;
        if let Some(up_to) = writer.segment_due() {
            inbox.input(Input::SegmentDue { up_to });
        }
        if let Some(up_to) = writer.segment_idle() {
            inbox.input(Input::SegmentIdle { up_to });
        }
        let (log_bytes, quarantine_bytes) = (writer.log_bytes(), quarantine_bytes.load(Ordering::Relaxed));
        if self.told_bytes != Some((log_bytes, quarantine_bytes)) {
            self.told_bytes = Some((log_bytes, quarantine_bytes));
            counters.log_bytes.set(log_bytes);
            counters.quarantine_bytes.set(quarantine_bytes);
            inbox.input(Input::Usage { log_bytes, quarantine_bytes });
        }
    }

    /// The next segment's file is made ready before it is needed, and what is not needed goes.
    pub fn look_after_spares(&mut self) {
        self.room.look_after_files(&mut self.owner.writer);
    }

    /// Looks at the free space, now and then.
    pub fn look_after_space(&mut self) {
        if Instant::now() < self.room.due() {
            return;
        }
        if self.told_bytes.is_none() {
            self.look_after_segments();
        }
        // A broker that waits leaves its store as it was: the reserve is made after the first write.
        let changed = self.room.look(&mut self.owner.writer, self.written);
        if let Some(low) = changed.unwrap_or_else(|error| die_of_io("free space of the store", &error)) {
            self.owner.inbox.input(Input::Space { low });
        }
    }
}

/// About how many bytes a batch takes in the log.
pub fn size(batch: &Batch) -> usize {
    const RECORD: usize = 48;
    let data = |record: &Record| match record {
        Record::Entry(_, _, entry) => entry.data.len(),
        Record::HardState(..) | Record::Reset(..) | Record::Remove(_) => 0,
    };
    batch.records.iter().map(|record| RECORD + data(record)).sum()
}
