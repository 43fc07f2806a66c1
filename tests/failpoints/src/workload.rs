//! Everything by which a broker keeps something: first its own threads, told what to do as the core tells them, then what
//! operators do to a store that nobody has open.
//!
//! It says `confirmed …` for what the core was told to be durable, and what phase it is in.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use clap::Parser;
use quorate_broker::config::Config;
use quorate_broker::counters::Counters;
use quorate_broker::exit::{Exit, Then};
use quorate_broker::flags::Flags;
use quorate_broker::inbox::{Arrival, Arrivals, Inbox};
use quorate_broker::keeper::{KeepOrder, Keeper};
use quorate_broker::log_thread::Round;
use quorate_broker::log_worker::{LogOwner, Synced};
use quorate_broker::open_store::{Opened, open_store_on};
use quorate_broker::stamp_thread::StampFiles;
use quorate_broker::state_thread::{StateThread, StateWork};
use quorate_broker::storage::Storage;
use quorate_core::io::{Input, Point, Ticket};
use quorate_store::files::Files;
use quorate_store::files::real::RealFiles;
use quorate_store::identity::LOCK_NAME;
use quorate_store::ids::{Epoch, GroupId, Incarnation, Index, Position, RunId, StoreId, Term};
use quorate_store::log::{LogConfig, SyncedPoint};
use quorate_store::panic::{PanicCause, PanicRecord};
use quorate_store::quarantine::{self, Act, Note, Parts};
use quorate_store::record::{Batch, Entry, EntryKind, HardState, Record};
use quorate_store::stamp::{RecoveryMode, Stamp, StampFile, StampFound, StampState};
use quorate_store::state::{Family, StateBatch, StateWrite, ViewId};
use uuid::Uuid;

use crate::files::FailFiles;
use crate::state::FailState;
use crate::trigger::{Trigger, say};

/// The group whose entries are counted.
pub const GROUP: GroupId = GroupId(1);
const OTHER: GroupId = GroupId(2);
/// The key that is flushed.
pub const KEY: &[u8] = b"\0\0\0\x01key";
const ENTRY_BYTES: usize = 20 << 10;
const SEGMENT_BYTES: u64 = 64 << 10;

/// What the entry at an index holds.
pub fn data_of(index: u64) -> Bytes {
    format!("entry {index} ").into_bytes().into_iter().cycle().take(ENTRY_BYTES).collect()
}

/// The configuration of a broker with its store in `dir`.
pub fn config(dir: &Path) -> Config {
    let dir = dir.display().to_string();
    let flags =
        Flags::parse_from(["quorated", "--name", "b1", "--data-dir", &dir, "--rocksdb-memory", "8MiB"]);
    Config::load(&flags).expect("a good configuration")
}

/// Small segments, so that they are made, filled, retired and used again.
pub fn sizes(log: LogConfig) -> LogConfig {
    LogConfig {
        segment_bytes: SEGMENT_BYTES,
        log_retain: 6 * SEGMENT_BYTES,
        log_keep: 4 * SEGMENT_BYTES,
        ..log
    }
}

/// Does everything, with a point that fails.
pub fn run(dir: &Path, trigger: Trigger) -> ExitCode {
    let trigger = Arc::new(trigger);
    let fail = FailFiles::new(Arc::new(RealFiles), dir, Arc::clone(&trigger));
    let files: Arc<dyn Files> = Arc::new(fail.clone());
    let done = online(dir, &fail, &files, &trigger).and_then(|()| {
        offline(dir, &files).map_err(|error| Exit { status: 5, reason: error, then: Then::End })
    });
    trigger.report();
    match done {
        Ok(()) => {
            say("phase over");
            ExitCode::SUCCESS
        }
        Err(exit) => {
            say(&format!("failed {exit}"));
            ExitCode::from(exit.status)
        }
    }
}

/// The broker's threads and what they report.
struct Threads {
    storage: Storage,
    state: StateThread,
    arrivals: Arrivals,
    files: FailFiles,
    next: u64,
}

impl Threads {
    fn ticket(&mut self) -> Ticket {
        self.next += 1;
        Ticket(self.next)
    }

    /// Waits until the core would be told that this is durable; false if it is told that it is not.
    fn wait(&mut self, ticket: Ticket) -> bool {
        loop {
            match self.arrivals.blocking_recv().expect("the threads hold senders") {
                Arrival::Input(Input::Persisted { ticket: told }, _) if told == ticket => return true,
                Arrival::Input(Input::NotKept { ticket: told, why }, _) if told == ticket => {
                    say(&format!("not-kept {why}"));
                    return false;
                }
                _ => {}
            }
        }
    }

    /// Appends and waits.
    fn persist(&mut self, records: Vec<Record>) {
        let ticket = self.ticket();
        self.storage.persist(Round { ticket, batch: Batch { records }, point: Point::Synced });
        // By this thread if it may, and by the log's.
        if ticket.0.is_multiple_of(2) {
            self.storage.write_held();
        } else {
            self.storage.give_held();
        }
        assert!(self.wait(ticket));
    }

    fn entries(&mut self, from: u64, to: u64) {
        for index in from..=to {
            let entry =
                Entry { term: Term(1), index: Index(index), kind: EntryKind::Command, data: data_of(index) };
            let hard_state = HardState { term: Term(1), vote: 1, commit: Index(index - 1) };
            self.persist(vec![
                Record::Entry(GROUP, Epoch(1), entry),
                Record::HardState(GROUP, Epoch(1), hard_state),
            ]);
            assert!(!self.files.may_lose(index), "entry {index} was confirmed before it was durable");
            say(&format!("confirmed entry {index}"));
        }
    }

    fn stamp(&mut self, stamp: &Stamp) {
        let ticket = self.ticket();
        self.storage.write_stamp(ticket, Box::new(stamp.clone()));
        assert!(self.wait(ticket));
        let undurable = self.files.undurable("stamp.");
        assert!(undurable.is_empty(), "confirmed before it is durable: {undurable:?}");
        say("confirmed stamp");
    }

    fn write_state(&mut self, writes: Vec<StateWrite>, flush: bool, open_view: Option<ViewId>) {
        let ticket = self.ticket();
        self.state.give(StateWork::Write { ticket, batch: StateBatch { writes }, flush, open_view });
        assert!(self.wait(ticket));
    }
}

fn put(value: &'static [u8]) -> StateWrite {
    StateWrite::Put(Family::State, Bytes::from_static(KEY), Bytes::from_static(value))
}

fn online(dir: &Path, fail: &FailFiles, files: &Arc<dyn Files>, trigger: &Arc<Trigger>) -> Result<(), Exit> {
    say("phase online");
    let config = config(dir);
    let Opened { lock, found, writer, reader, stamp, panic, reserve, state, quarantine_bytes } =
        open_store_on(files, &config, sizes)?;
    say("confirmed id");
    let store = found.store;
    let (inbox, arrivals) = Inbox::new();
    let counters = Arc::<Counters>::default();
    let internal = |error: std::io::Error| Exit { status: 70, reason: error.to_string(), then: Then::End };
    let state = FailState::new(state, Arc::clone(trigger));
    let state =
        StateThread::start(Box::new(state), inbox.clone(), Arc::clone(&counters)).map_err(internal)?;
    let keeper = state.entrance().map(|entrance| Keeper {
        files: Arc::clone(files),
        dir: dir.to_owned(),
        bytes_max: config.quarantine_max.0,
        state: entrance,
    });
    let synced = Synced::new(writer.synced_point());
    let quarantine_bytes = Arc::new(quarantine_bytes.into());
    let owner = LogOwner { writer, reserve, quarantine_bytes, inbox, counters, synced, keeper };
    let storage = Storage::start(owner, &reader, StampFiles { stamp, panic }).map_err(internal)?;
    let mut threads = Threads { storage, state, arrivals, files: fail.clone(), next: 0 };

    let dirty = sample(store);
    threads.stamp(&dirty);
    threads.stamp(&dirty);
    threads.entries(1, 10);
    // What begins a group's state, and what ends it.
    let other = Entry {
        term: Term(1),
        index: Index(41),
        kind: EntryKind::Command,
        data: Bytes::from_static(b"other"),
    };
    threads.persist(vec![
        Record::Reset(OTHER, Epoch(1), Term(1), Index(40)),
        Record::Entry(OTHER, Epoch(1), other),
    ]);
    threads.write_state(vec![put(b"old")], false, None);
    threads.write_state(vec![put(b"new")], true, Some(ViewId(1)));
    say("confirmed state");
    threads.state.give(StateWork::CloseView(ViewId(1)));
    threads.persist(vec![Record::Remove(OTHER)]);
    let discard = StateWrite::DeleteRange(
        Family::State,
        Bytes::from_static(&[0, 0, 0, 2]),
        Bytes::from_static(&[0, 0, 0, 3]),
    );
    threads.write_state(vec![discard], true, None);
    // The segments of the first ones retire, are used again, or go.
    threads.storage.compact(GROUP, Index(9));
    threads.entries(11, 22);
    keep(&mut threads, &dirty);
    threads.storage.compact(GROUP, Index(18));
    threads.entries(23, 40);
    threads.stamp(&dirty);
    panic_and_clear(&mut threads, &dirty);
    let Threads { mut storage, mut state, .. } = threads;
    storage.finish();
    state.finish();
    wait_for_spares();
    drop(lock);
    Ok(())
}

/// A broker's process ends with the thread that makes the next segment's file ready; here the operator comes in the same
/// process, and must not meet it.
fn wait_for_spares() {
    let is_spare = |task: std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "spare")
    };
    while std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.flatten().any(is_spare)) {
        std::thread::yield_now();
    }
}

/// An image of the open store.
fn keep(threads: &mut Threads, stamp: &Stamp) {
    let ticket = threads.ticket();
    let order = KeepOrder {
        ticket,
        reason: "the failpoints".to_owned(),
        groups: vec![GROUP],
        diverged: None,
        stamp: Box::new(stamp.clone()),
    };
    threads.storage.keep(order);
    if threads.wait(ticket) {
        let undurable = threads.files.undurable_images();
        assert!(undurable.is_empty(), "kept before it is durable: {undurable:?}");
        say("confirmed image");
    }
}

/// The broker panics, and an operator clears that.
fn panic_and_clear(threads: &mut Threads, stamp: &Stamp) {
    let record = PanicRecord {
        cluster_id: None,
        store_id: stamp.store_id,
        own: stamp.identity(),
        cause: PanicCause::SecondWriter,
        found_number: 2,
        found: "the failpoints".to_owned(),
        when_ms: 1,
    };
    let ticket = threads.ticket();
    threads.storage.panic(ticket, Some(Box::new(record)));
    if threads.wait(ticket) {
        let undurable = threads.files.undurable("panic");
        assert!(undurable.is_empty(), "kept before it is durable: {undurable:?}");
    }
    let ticket = threads.ticket();
    threads.storage.clear_panic(ticket);
    threads.wait(ticket);
}

/// What operators do: a mark, taken back; an image put back; the store that was there, purged; the store set aside.
fn offline(dir: &Path, files: &Arc<dyn Files>) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    say("phase marking");
    let lock = files.lock(&dir.join(LOCK_NAME), std::process::id()).map_err(|error| text(&error))?;
    let note =
        |act, why: &str| Note { act, why: why.to_owned(), groups: Vec::new(), diverged: None, when_ms: 1 };
    for state in [StampState::Recovered { recovery: Uuid::from_u128(5) }, StampState::Dirty] {
        let kept =
            quarantine::keep_closed(files, dir, lock.as_ref(), note(Act::Mark, "a mark"), Parts::Stamp);
        kept.map_err(|error| text(&error))?;
        let (mut file, found) =
            StampFile::open(Arc::clone(files), dir.to_owned()).map_err(|error| text(&error))?;
        let StampFound::Stamp(stamp) = found else { return Err(format!("no stamp: {found:?}")) };
        file.write(Stamp { state, ..*stamp }).map_err(|error| text(&error))?;
        say("confirmed stamp");
    }
    let images = quarantine::list(files.as_ref(), dir).map_err(|error| text(&error))?;
    let image = images.into_iter().flatten().find(|image| image.note.act == Act::Update);
    if let Some(image) = image {
        say(&format!("phase restoring {}", image.number));
        let present = quarantine::restore(files.as_ref(), dir, lock.as_ref(), image.number, "back", 2)
            .map_err(|error| text(&error))?;
        say("phase restored");
        quarantine::purge(files.as_ref(), dir, lock.as_ref(), present.number)
            .map_err(|error| text(&error))?;
    }
    say("phase setting-aside");
    quarantine::set_aside(files, dir, lock.as_ref(), note(Act::Damage, "given up"))
        .map_err(|error| text(&error))?;
    say("phase set-aside");
    Ok(())
}

/// A stamp of a broker in use.
fn sample(store: StoreId) -> Stamp {
    Stamp {
        sequence: 0,
        store_id: store,
        cluster_id: None,
        cluster_name: "quorate".to_owned(),
        broker_name: "b1".to_owned(),
        incarnation: Incarnation(1),
        run_id: RunId(Uuid::from_u128(4)),
        state: StampState::Dirty,
        forming: None,
        groups: Vec::new(),
        members: Vec::new(),
        members_position: Position::default(),
        possible_members: Vec::new(),
        witnessed: Vec::new(),
        refilling: Vec::new(),
        wait_for: 1,
        recovery: RecoveryMode::Automatic,
        boot_id: String::new(),
        safety_number: 0,
        wall_clock_ms: 0,
        log_synced: SyncedPoint::default(),
    }
}
