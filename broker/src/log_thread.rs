//! The thread that owns the log's writing end: all batches that wait become one write and one sync.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use quorate_core::io::{Input, Ticket};
use quorate_store::ids::{GroupId, Index};
use quorate_store::log::{LogWriter, SpareOrder, SyncedPoint};
use quorate_store::record::{Batch, Record};
use quorate_store::reserve::{Reserve, SpaceGuard, SpaceLimits};

use crate::counters::Counters;
use crate::exit::die_of_io;
use crate::inbox::Inbox;
use crate::keeper::{KeepOrder, Keeper};

/// Bytes gathered into one write at most; more would make the first of them wait for the last.
const WRITE_BYTES_MAX: usize = 32 << 20;
/// How often the free space is looked at.
const SPACE_INTERVAL: Duration = Duration::from_secs(2);

/// What the core asks of the log.
#[derive(Debug)]
pub enum LogWork {
    /// See `Output::Persist`.
    Persist(Ticket, Batch),
    /// See `Output::Compact`.
    Compact(GroupId, Index),
    /// See `Output::Quarantine`.
    Keep(KeepOrder),
}

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

/// Gives work to the thread.
#[derive(Debug)]
pub struct LogThread {
    work: Option<Sender<LogWork>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl LogThread {
    /// Starts the thread.
    pub fn start(owner: LogOwner) -> std::io::Result<Self> {
        let (work, receiver) = channel();
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || {
            let guard = SpaceGuard::new(SpaceLimits::default());
            let (spare_made, spares) = channel();
            Running {
                owner,
                guard,
                low: false,
                told_bytes: None,
                written: false,
                space_due: Instant::now(),
                spare_made,
                spares,
            }
            .run(&receiver);
        })?;
        Ok(Self { work: Some(work), thread: Some(thread) })
    }

    /// Adds work behind what is there.
    pub fn give(&self, work: LogWork) {
        if let Some(sender) = &self.work {
            // The thread ends only with the process or after `finish`.
            let _ = sender.send(work);
        }
    }

    /// Does what is there and ends the thread.
    pub fn finish(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has ended the process already.
            let _ = thread.join();
        }
    }
}

struct Running {
    owner: LogOwner,
    guard: SpaceGuard,
    /// What the core was told last.
    low: bool,
    told_bytes: Option<u64>,
    /// Something was written in this run.
    written: bool,
    space_due: Instant,
    spare_made: Sender<(SpareOrder, bool)>,
    spares: Receiver<(SpareOrder, bool)>,
}

impl Running {
    fn run(mut self, receiver: &Receiver<LogWork>) {
        loop {
            self.look_after_space();
            let timeout = self.space_due.saturating_duration_since(Instant::now());
            let first = match receiver.recv_timeout(timeout) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut tickets = Vec::new();
            let mut batches = Vec::new();
            let mut compactions = Vec::new();
            let mut orders = Vec::new();
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(work) = next {
                match work {
                    LogWork::Persist(ticket, batch) => {
                        bytes += size(&batch);
                        tickets.push(ticket);
                        batches.push(batch);
                    }
                    LogWork::Compact(group, index) => compactions.push((group, index)),
                    LogWork::Keep(order) => orders.push(order),
                }
                next = if bytes < WRITE_BYTES_MAX { receiver.try_recv().ok() } else { None };
            }
            if !batches.is_empty() {
                self.write(&batches, bytes);
            }
            if let Some(last) = tickets.last() {
                self.owner.inbox.input(Input::Persisted { ticket: *last });
            }
            for order in orders {
                self.keep(order);
            }
            // After the batches: what is let go of may have been appended, or begun anew, just before.
            for (group, index) in compactions {
                self.owner.writer.compact(group, index);
            }
            if self.owner.writer.compaction_waits() {
                self.write(&[], 0);
            }
            self.look_after_segments();
            self.look_after_spares();
        }
    }

    /// The log's part of an image of the store, made between two batches; the state's thread makes the rest.
    fn keep(&mut self, order: KeepOrder) {
        let ticket = order.ticket;
        let begun = match &self.owner.keeper {
            Some(keeper) => keeper.begin(order, &mut self.owner.writer, &self.owner.quarantine_bytes),
            None => Err("a transient broker keeps nothing".to_owned()),
        };
        if let Err(why) = begun {
            self.owner.inbox.input(Input::NotKept { ticket, why });
        }
    }

    /// One write, one sync. Nothing is confirmed if either fails: the process ends.
    fn write(&mut self, batches: &[Batch], bytes: usize) {
        let LogOwner { writer, counters, synced, .. } = &mut self.owner;
        let references: Vec<&Batch> = batches.iter().collect();
        writer.append(&references).unwrap_or_else(|error| die_of_io("write to the log", &error));
        let begun = Instant::now();
        writer.sync().unwrap_or_else(|error| die_of_io("sync of the log", &error));
        synced.set(writer.synced_point());
        if !self.written {
            // The reserve is made now, while there is likely room for it.
            self.written = true;
            self.space_due = Instant::now();
        }
        counters.log_sync_nanos.add_time(begun.elapsed());
        counters.log_syncs.add(1);
        counters.log_writes.add(1);
        counters.log_written_bytes.add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    fn look_after_segments(&mut self) {
        let LogOwner { writer, inbox, counters, quarantine_bytes, .. } = &mut self.owner;
        if let Some(up_to) = writer.segment_due() {
            inbox.input(Input::SegmentDue { up_to });
        }
        if let Some(up_to) = writer.segment_idle() {
            inbox.input(Input::SegmentIdle { up_to });
        }
        let log_bytes = writer.log_bytes();
        if self.told_bytes != Some(log_bytes) {
            self.told_bytes = Some(log_bytes);
            counters.log_bytes.set(log_bytes);
            let quarantine_bytes = quarantine_bytes.load(Ordering::Relaxed);
            counters.quarantine_bytes.set(quarantine_bytes);
            inbox.input(Input::Usage { log_bytes, quarantine_bytes });
        }
    }

    /// The next segment's file is made ready before it is needed, by a thread that has the time.
    fn look_after_spares(&mut self) {
        let writer = &mut self.owner.writer;
        while let Ok((order, made)) = self.spares.try_recv() {
            writer.spare_made(&order, made);
        }
        if let Some(surplus) = writer.surplus(self.low) {
            let named = format!("{surplus:?}");
            let work = move || {
                if let Err(error) = surplus.remove() {
                    tracing::warn!("{named} of the log not removed: {error}");
                }
            };
            // Without a thread they are dropped here: their files stay until the next start.
            let _ = thread::Builder::new().name("spare".to_owned()).spawn(work);
        }
        // On a full disk, and in memory, the log makes what it needs when it needs it.
        if self.owner.reserve.is_none() || self.low {
            return;
        }
        let Some(order) = writer.order_spare() else { return };
        let answer = self.spare_made.clone();
        let failed = order.clone();
        let work = move || {
            let made = match order.make() {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!("no file was made ready for the log's next segment: {error}");
                    false
                }
            };
            // The log's thread may have ended with the process.
            let _ = answer.send((order, made));
        };
        if thread::Builder::new().name("spare".to_owned()).spawn(work).is_err() {
            writer.spare_made(&failed, false);
        }
    }

    fn look_after_space(&mut self) {
        let now = Instant::now();
        // A broker that waits leaves its store as it was: the reserve is made after the first write.
        if now < self.space_due {
            return;
        }
        self.space_due = now + SPACE_INTERVAL;
        if self.told_bytes.is_none() {
            self.look_after_segments();
        }
        let Some(reserve) = self.owner.reserve.as_ref().filter(|_| self.written) else { return };
        let low =
            self.guard.check(reserve).unwrap_or_else(|error| die_of_io("free space of the store", &error));
        if low != self.low {
            self.low = low;
            self.owner.inbox.input(Input::Space { low });
        }
    }
}

/// About how many bytes a batch takes in the log.
fn size(batch: &Batch) -> usize {
    const RECORD: usize = 48;
    let data = |record: &Record| match record {
        Record::Entry(_, _, entry) => entry.data.len(),
        Record::HardState(..) | Record::Reset(..) | Record::Remove(_) => 0,
    };
    batch.records.iter().map(|record| RECORD + data(record)).sum()
}
