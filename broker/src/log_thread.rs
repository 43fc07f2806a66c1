//! The log's own thread: all batches that wait become one write and one sync. A small batch, when nothing waits, may be
//! written by the core's thread instead, which saves two hand-overs: see `docs/decisions/one-thread.md`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use quorate_core::io::{Input, Point, Ticket};
use quorate_store::ids::{GroupId, Index};
use quorate_store::record::Batch;

use crate::inbox::Inbox;
use crate::keeper::KeepOrder;
use crate::log_worker::{LogOwner, LogWorker, size};

/// Bytes gathered into one write at most; more would make the first of them wait for the last.
const WRITE_BYTES_MAX: usize = 32 << 20;

/// A round's batch: see `Output::Persist`.
#[derive(Debug)]
pub struct Round {
    /// Names it.
    pub ticket: Ticket,
    /// What to append.
    pub batch: Batch,
    /// How far to bring it.
    pub point: Point,
}

/// What is told of a batch that has come to this point.
fn told(ticket: Ticket, point: Point) -> Input {
    match point {
        Point::Written => Input::Written { ticket },
        Point::Synced => Input::Persisted { ticket },
    }
}

/// What the core asks of the log.
#[derive(Debug)]
pub enum LogWork {
    /// See `Output::Persist`.
    Persist(Round),
    /// See `Output::Compact`.
    Compact(GroupId, Index),
    /// See `Output::Quarantine`.
    Keep(KeepOrder),
}

/// Gives work to the thread.
#[derive(Debug)]
pub struct LogThread {
    /// None after [`LogThread::finish`].
    way: Option<Way>,
    thread: Option<thread::JoinHandle<()>>,
}

/// The way to the log, and back to the core.
#[derive(Debug)]
struct Way {
    work: Sender<LogWork>,
    inbox: Inbox,
    shared: Arc<Shared>,
}

struct Shared {
    worker: Mutex<LogWorker>,
    /// Given to the thread and not done yet. Zero means that whoever has the worker may write next.
    waiting: AtomicUsize,
    /// Nothing is written any more.
    fenced: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} waiting for the log", self.waiting.load(Ordering::Relaxed))
    }
}

impl LogThread {
    /// Starts the thread.
    pub fn start(owner: LogOwner) -> std::io::Result<Self> {
        let (work, receiver) = channel();
        let inbox = owner.inbox.clone();
        let shared = Arc::new(Shared {
            worker: Mutex::new(LogWorker::new(owner)),
            waiting: AtomicUsize::new(0),
            fenced: AtomicBool::new(false),
        });
        let running = Running { shared: Arc::clone(&shared), inbox: inbox.clone() };
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || running.run(&receiver))?;
        Ok(Self { way: Some(Way { work, inbox, shared }), thread: Some(thread) })
    }

    /// Adds work behind what is there.
    pub fn give(&self, work: LogWork) {
        if let Some(way) = &self.way {
            way.shared.waiting.fetch_add(1, Ordering::AcqRel);
            // The thread ends only with the process or after `finish`.
            let _ = way.work.send(work);
        }
    }

    /// Writes a batch, and syncs it if it is to be, here and now, if it is worth that and nothing is before it; otherwise gives it to the
    /// thread. Only for the one thread that gives work: nobody else may come before the batch meanwhile.
    pub fn write_at_once(&self, round: Round) {
        let idle = self.way.as_ref().and_then(|way| Some((way, way.idle_worker()?)));
        match idle {
            // A sync alone is nothing that the core is to wait for.
            Some((way, mut worker))
                if !round.batch.records.is_empty() && worker.may_write_at_once(&round.batch) =>
            {
                worker.append(&[round.batch]);
                if round.point == Point::Synced {
                    worker.sync();
                }
                drop(worker);
                way.inbox.input(told(round.ticket, round.point));
            }
            _ => self.give(LogWork::Persist(round)),
        }
    }

    /// Drops whatever waits and comes: a broker that panicked writes nothing more. What is being written now is the last.
    pub fn fence(&self) {
        if let Some(way) = &self.way {
            way.shared.fenced.store(true, Ordering::Release);
        }
    }

    /// Does what is there and ends the thread.
    pub fn finish(&mut self) {
        self.way = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has ended the process already.
            let _ = thread.join();
        }
    }
}

impl Way {
    /// The writing end, if nothing waits for it and nobody has it.
    fn idle_worker(&self) -> Option<MutexGuard<'_, LogWorker>> {
        if self.shared.waiting.load(Ordering::Acquire) > 0 {
            return None;
        }
        self.shared.worker.try_lock().ok()
    }
}

struct Running {
    shared: Arc<Shared>,
    inbox: Inbox,
}

impl Running {
    fn worker(&self) -> MutexGuard<'_, LogWorker> {
        self.shared.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(self, receiver: &Receiver<LogWork>) {
        let mut space_due = Instant::now();
        loop {
            if self.is_fenced() {
                // Until the process, or this life of the broker, ends.
                while receiver.recv().is_ok() {}
                return self.worker().finish();
            }
            if space_due <= Instant::now() {
                let mut worker = self.worker();
                worker.look_after_space();
                space_due = worker.space_due();
            }
            let timeout = space_due.saturating_duration_since(Instant::now());
            match receiver.recv_timeout(timeout) {
                Ok(first) => space_due = self.work(first, receiver),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.worker().finish(),
            }
        }
    }

    fn is_fenced(&self) -> bool {
        self.shared.fenced.load(Ordering::Acquire)
    }

    /// Does this and what else is there; when the free space is to be looked at next.
    fn work(&self, first: LogWork, receiver: &Receiver<LogWork>) -> Instant {
        let mut worker = self.worker();
        if self.is_fenced() {
            return worker.space_due();
        }
        let (mut last, mut batches) = (None, Vec::new());
        // The last of those that wait for no sync, and whether anything waits for one.
        let (mut written, mut sync) = (None, false);
        let (mut compactions, mut orders) = (Vec::new(), Vec::new());
        let (mut bytes, mut taken) = (0, 0);
        let mut next = Some(first);
        while let Some(work) = next {
            taken += 1;
            match work {
                LogWork::Persist(Round { ticket, batch, point }) => {
                    bytes += size(&batch);
                    last = Some(ticket);
                    match point {
                        Point::Written => written = Some(ticket),
                        Point::Synced => sync = true,
                    }
                    batches.push(batch);
                }
                LogWork::Compact(group, index) => compactions.push((group, index)),
                LogWork::Keep(order) => orders.push(order),
            }
            next = if bytes < WRITE_BYTES_MAX { receiver.try_recv().ok() } else { None };
        }
        if !batches.is_empty() {
            worker.append(&batches);
        }
        // Nobody who waits for no sync is to wait for the others'.
        if let Some(ticket) = written {
            self.inbox.input(told(ticket, Point::Written));
        }
        if let Some(ticket) = last.filter(|_| sync) {
            worker.sync();
            self.inbox.input(told(ticket, Point::Synced));
        }
        for order in orders {
            worker.keep(order);
        }
        // After the batches: what is let go of may have been appended, or begun anew, just before.
        worker.compact(compactions);
        worker.look_after_segments();
        worker.look_after_spares();
        self.shared.waiting.fetch_sub(taken, Ordering::AcqRel);
        worker.space_due()
    }
}
