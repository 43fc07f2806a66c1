//! The thread that owns the state store: writes, flushes, views, scans, in the order in which the core asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use bytes::{BufMut, Bytes, BytesMut};
use quorate_core::io::{Input, Ticket};
use quorate_store::state::{Family, Pair, StateBatch, StateError, StateStore, ViewId};

use crate::counters::Counters;
use crate::exit::die_of_io;
use crate::inbox::Inbox;
use crate::keeper::Begun;

/// What the core asks of the state store.
#[derive(Debug)]
pub enum StateWork {
    /// See `Output::WriteState`.
    Write {
        /// Names it.
        ticket: Ticket,
        /// What to write.
        batch: StateBatch,
        /// Make it durable before answering.
        flush: bool,
        /// Open this view afterwards.
        open_view: Option<ViewId>,
    },
    /// See `Output::Scan`.
    Scan {
        /// Names it.
        ticket: Ticket,
        /// Column family.
        family: Family,
        /// First key.
        from: Bytes,
        /// First key no longer wanted.
        to: Bytes,
        /// About so many bytes.
        max_bytes: usize,
        /// From this view.
        view: Option<ViewId>,
    },
    /// The view is not needed any more.
    CloseView(ViewId),
    /// End an image whose log is linked.
    Keep(Box<Begun>),
}

/// Gives work to the thread.
#[derive(Debug)]
pub struct StateThread {
    work: Option<Sender<StateWork>>,
    fenced: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl StateThread {
    /// Starts the thread over an open store.
    pub fn start(store: Box<dyn StateStore>, inbox: Inbox, counters: Arc<Counters>) -> std::io::Result<Self> {
        let (work, receiver) = channel();
        let fenced = Arc::<AtomicBool>::default();
        let owner = Owner { store, inbox, counters, fenced: Arc::clone(&fenced), views: BTreeMap::new() };
        let thread = thread::Builder::new().name("state".to_owned()).spawn(move || owner.run(&receiver))?;
        Ok(Self { work: Some(work), fenced, thread: Some(thread) })
    }

    /// Another way in, for whoever gives it work besides the core.
    pub fn entrance(&self) -> Option<Sender<StateWork>> {
        self.work.clone()
    }

    /// Adds work behind what is there.
    pub fn give(&self, work: StateWork) {
        if let Some(sender) = &self.work {
            // The thread ends only with the process or after `finish`.
            let _ = sender.send(work);
        }
    }

    /// Writes nothing more: whatever waits is dropped.
    pub fn fence(&self) {
        self.fenced.store(true, Ordering::Release);
    }

    /// Does what is there, closes the store, ends the thread.
    pub fn finish(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has ended the process already.
            let _ = thread.join();
        }
    }
}

/// Writes that are flushed together have at most about so many bytes.
const WRITE_BYTES_MAX: usize = 16 << 20;

/// See [`StateWork::Write`].
struct Write {
    ticket: Ticket,
    batch: StateBatch,
    flush: bool,
    open_view: Option<ViewId>,
}

struct Owner {
    store: Box<dyn StateStore>,
    inbox: Inbox,
    counters: Arc<Counters>,
    fenced: Arc<AtomicBool>,
    /// The core's name of a view to the store's.
    views: BTreeMap<ViewId, ViewId>,
}

impl Owner {
    fn run(mut self, receiver: &Receiver<StateWork>) {
        let mut next = receiver.recv().ok();
        while let Some(work) = next.take() {
            match work {
                StateWork::Write { .. } | StateWork::Keep(_) if self.fenced.load(Ordering::Acquire) => {}
                StateWork::Write { ticket, batch, flush, open_view } => {
                    let first = Write { ticket, batch, flush, open_view };
                    next = self.write_all(first, receiver);
                }
                StateWork::Scan { ticket, family, from, to, max_bytes, view } => {
                    self.scan(ticket, family, &from, &to, max_bytes, view);
                }
                StateWork::Keep(begun) => {
                    let ticket = begun.ticket;
                    self.inbox.input(match begun.end(self.store.as_mut()) {
                        Ok(()) => Input::Persisted { ticket },
                        Err(why) => Input::NotKept { ticket, why },
                    });
                }
                StateWork::CloseView(view) => {
                    if let Some(opened) = self.views.remove(&view) {
                        self.store.close_view(opened);
                    }
                }
            }
            next = next.or_else(|| receiver.recv().ok());
        }
    }

    /// Writes what waits to be written, and flushes once: checkpoints of many virtual hosts that come together take one
    /// flush. What comes next that is no write, if something is there.
    fn write_all(&mut self, first: Write, receiver: &Receiver<StateWork>) -> Option<StateWork> {
        let (mut tickets, mut flush, mut bytes) = (Vec::new(), false, 0);
        let mut write = first;
        let next = loop {
            flush |= write.flush;
            bytes += write.batch.bytes();
            tickets.push(write.ticket);
            self.write(&write.batch, write.open_view);
            if bytes >= WRITE_BYTES_MAX {
                break None;
            }
            match receiver.try_recv() {
                Ok(StateWork::Write { ticket, batch, flush, open_view }) => {
                    write = Write { ticket, batch, flush, open_view };
                }
                other => break other.ok(),
            }
        };
        if flush {
            self.store.flush().unwrap_or_else(|error| die_of_io("flush of the state store", &error));
            self.counters.state_flushes.add(1);
        }
        for ticket in tickets {
            self.inbox.input(Input::Persisted { ticket });
        }
        next
    }

    fn write(&mut self, batch: &StateBatch, open_view: Option<ViewId>) {
        self.store.write(batch).unwrap_or_else(|error| die_of_io("write to the state store", &error));
        self.counters.state_writes.add(1);
        if let Some(view) = open_view {
            let opened =
                self.store.open_view().unwrap_or_else(|error| die_of_io("view of the state store", &error));
            self.views.insert(view, opened);
        }
    }

    fn scan(
        &self,
        ticket: Ticket,
        family: Family,
        from: &[u8],
        to: &[u8],
        max_bytes: usize,
        view: Option<ViewId>,
    ) {
        // A view that is gone is a transfer that was given up: it is told the end of a range it does not use.
        let view = match view {
            Some(view) => match self.views.get(&view) {
                Some(opened) => Some(*opened),
                None => {
                    return self.inbox.input(Input::Scanned { ticket, pairs: Vec::new(), complete: true });
                }
            },
            None => None,
        };
        let (pairs, complete) = self
            .scan_range(family, from, to, max_bytes, view)
            .unwrap_or_else(|error| die_of_io("scan of the state store", &error));
        self.inbox.input(Input::Scanned { ticket, pairs, complete });
    }

    fn scan_range(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        max_bytes: usize,
        view: Option<ViewId>,
    ) -> Result<(Vec<Pair>, bool), StateError> {
        let pairs = self.store.scan(family, from, to, max_bytes, view)?;
        let bytes: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        let complete = match pairs.last() {
            None => true,
            Some(_) if bytes < max_bytes => true,
            // It stopped for its size, perhaps just at the end: the next pair tells.
            Some((last, _)) => {
                let mut next = BytesMut::with_capacity(last.len() + 1);
                next.put_slice(last);
                next.put_u8(0);
                self.store.scan(family, &next, to, 1, view)?.is_empty()
            }
        };
        Ok((pairs, complete))
    }
}

#[cfg(test)]
mod tests {
    use quorate_store::model::StateModel;
    use quorate_store::state::StateWrite;

    use super::*;
    use crate::inbox::Arrival;

    fn write(number: u8, size: usize, flush: bool) -> StateWork {
        let put = StateWrite::Put(Family::State, Bytes::from(vec![number]), Bytes::from(vec![number; size]));
        let batch = StateBatch { writes: vec![put] };
        StateWork::Write { ticket: Ticket(number.into()), batch, flush, open_view: None }
    }

    /// Does this work, all of which is there at once: flushes, and what the core hears, `None` for a scan.
    fn done(work: Vec<StateWork>) -> (u64, Vec<Option<u64>>) {
        let (sender, receiver) = channel();
        for work in work {
            sender.send(work).unwrap();
        }
        drop(sender);
        let (inbox, mut arrivals) = Inbox::new();
        let counters = Arc::new(Counters::default());
        let store = Box::new(StateModel::new());
        let fenced = Arc::default();
        Owner { store, inbox, counters: Arc::clone(&counters), fenced, views: BTreeMap::new() }
            .run(&receiver);
        let mut heard = Vec::new();
        while let Ok(Arrival::Input(input, _)) = arrivals.try_recv() {
            heard.push(match input {
                Input::Persisted { ticket } => Some(ticket.0),
                _ => None,
            });
        }
        (counters.state_flushes.get(), heard)
    }

    #[test]
    fn writes_that_wait_together_are_flushed_once_and_answered_in_order() {
        let scan = StateWork::Scan {
            ticket: Ticket(9),
            family: Family::State,
            from: Bytes::new(),
            to: Bytes::from_static(b"\xff"),
            max_bytes: 100,
            view: None,
        };
        let work = vec![write(1, 1, true), write(2, 1, false), write(3, 1, true), scan, write(4, 1, false)];
        assert_eq!(done(work), (1, vec![Some(1), Some(2), Some(3), None, Some(4)]));
        let large = vec![write(1, WRITE_BYTES_MAX, true), write(2, 1, true)];
        assert_eq!(done(large), (2, vec![Some(1), Some(2)]));
    }
}
