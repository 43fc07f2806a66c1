//! A host's disk and what the product's own code keeps on it.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quorate_core::io::{Found, FoundGroup, FoundStamp, Input, Point, Ticket};
use quorate_store::files::crash::CrashFiles;
use quorate_store::files::{FileLock, Files};
use quorate_store::identity::LOCK_NAME;
use quorate_store::ids::{GroupId, Index, RunId, StoreId};
use quorate_store::log::{self, LogConfig, LogError, LogReader, LogWriter, RecoveredGroup};
use quorate_store::model::StateModel;
use quorate_store::open::{OpenError, OpenLog, OpenOptions, open};
use quorate_store::panic::{self, PanicRecord};
use quorate_store::quarantine::{self, Act, Divergence, Draft, Note, QuarantineError};
use quorate_store::record::{Batch, Entry};
use quorate_store::stamp::{Stamp, StampError, StampFile, StampFound, StampIdentity};
use quorate_store::state::{Family, StateBatch, StateStore, ViewId};

use super::dice::Dice;
use super::record::{Note as Noted, Recorder};

/// Where every host keeps its store.
pub const STORE_DIRECTORY: &str = "/data/store";

/// Sizes of a simulated log: small, so that segments retire within a short run.
#[derive(Clone, Copy, Debug)]
pub struct LogSizes {
    /// Length of a segment in bytes.
    pub segment_bytes: u64,
    /// Above this many bytes the oldest segment is due.
    pub log_retain: u64,
}

impl Default for LogSizes {
    fn default() -> Self {
        Self { segment_bytes: 256 << 10, log_retain: 16 << 20 }
    }
}

/// The medium, which outlives processes.
#[derive(Clone)]
pub struct Medium {
    /// The files.
    pub files: CrashFiles,
    /// In place of RocksDB.
    pub state: StateModel,
    /// Writes down what is done to it, if somebody wants to know.
    pub recorder: Option<Recorder>,
}

impl Medium {
    /// Names of the images in quarantine.
    pub fn images(&self) -> Vec<String> {
        let listed = quarantine::list(&self.files, Path::new(STORE_DIRECTORY)).expect("the disk works");
        listed.into_iter().flatten().map(|image| image.name).collect()
    }

    /// Writes down from now on what is done to this medium.
    pub fn record(&mut self) -> Recorder {
        self.recorder.insert(Recorder::begin(&self.files)).clone()
    }

    fn note(&self, note: impl FnOnce() -> Noted) {
        if let Some(recorder) = &self.recorder {
            recorder.note(note());
        }
    }

    fn note_state(&self) {
        self.note(|| Noted::State(Box::new(self.state.clone())));
    }

    /// As the process does with a damaged store that an operator had replaced.
    pub fn set_aside(&mut self, why: String) -> Result<(), DiskFailed> {
        let files: Arc<dyn Files> = Arc::new(self.files.clone());
        let store = Path::new(STORE_DIRECTORY);
        let lock = files.lock(&store.join(LOCK_NAME), 1).expect("the process is gone");
        let note = Note { act: Act::Damage, why, groups: Vec::new(), diverged: None, when_ms: 0 };
        let done = quarantine::set_aside(&files, store, lock.as_ref(), note);
        let image = done.map_err(|error| DiskFailed(error.to_string()))?;
        self.note(|| Noted::Kept(image.name));
        self.state = StateModel::on(files);
        self.note(|| Noted::SetAside);
        self.note_state();
        Ok(())
    }

    /// An empty one.
    pub fn new() -> Self {
        let files = CrashFiles::new();
        let state = StateModel::on(Arc::new(files.clone()));
        Self { files, state, recorder: None }
    }

    /// A copy of the medium as it is now, as an administrator or a snapshot of the volume makes it.
    #[must_use]
    pub fn clone_now(&self) -> Self {
        let files = self.files.fork();
        let state = self.state.clone().moved_to(Arc::new(files.clone()));
        let mut copy = Self { files, state, recorder: None };
        copy.files.kill();
        copy.state.crash(0);
        copy
    }

    /// The process is gone; the operating system lives on. RocksDB runs without a log of its own, so what was not
    /// flushed is lost all the same.
    pub fn kill(&mut self, dice: &mut Dice) {
        self.files.kill();
        self.state.crash(dice.number());
        self.note_state();
    }

    /// The power is gone.
    pub fn cut_power(&mut self, dice: &mut Dice) {
        self.files.crash(dice.number());
        self.state.crash(dice.number());
    }

    /// Makes the stamp unreadable, as rot would.
    pub fn spoil_stamp(&self) {
        for name in quorate_store::stamp::SLOT_NAMES {
            let path = Path::new(STORE_DIRECTORY).join(name);
            if let Some(mut content) = self.files.content(&path) {
                content.iter_mut().take(200).for_each(|byte| *byte ^= 0x20);
                self.files.replace(&path, &content);
            }
        }
    }

    /// Turns a bit in the part of the log that the stamp says is synced, the number says which; false if there is none.
    pub fn rot(&self, place: u64) -> bool {
        let Some(synced) = self.stamp().map(|stamp| stamp.log_synced) else { return false };
        let number = format!("{:016x}", synced.generation);
        let is_it = |path: &PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
            path.parent() == Some(&Path::new(STORE_DIRECTORY).join(log::LOG_DIRECTORY))
                && log::is_segment_name(&name)
                && name.ends_with(&number)
        };
        let found = self.files.everything().into_iter().find(|(path, _)| is_it(path));
        let Some((path, mut content)) = found.filter(|_| synced.offset > 0) else { return false };
        let at = usize::try_from(place % synced.offset).ok();
        let Some(byte) = at.and_then(|at| content.get_mut(at)) else { return false };
        *byte ^= 1 << (place >> 56 & 7);
        self.files.replace(&path, &content);
        true
    }

    /// What the stamp says, if it can be read.
    pub fn stamp(&self) -> Option<Stamp> {
        let files: Arc<dyn Files> = Arc::new(self.files.clone());
        match StampFile::open(files, PathBuf::from(STORE_DIRECTORY)) {
            Ok((_, StampFound::Stamp(stamp))) => Some(*stamp),
            _ => None,
        }
    }

    /// Both slots of the stamp, byte for byte.
    pub fn stamp_content(&self) -> [Option<Vec<u8>>; 2] {
        quorate_store::stamp::SLOT_NAMES
            .map(|name| self.files.content(&Path::new(STORE_DIRECTORY).join(name)))
    }

    /// Puts older slots back, as a medium would that lost its latest writes.
    pub fn replace_stamp(&self, content: &[Option<Vec<u8>>; 2]) {
        for (name, content) in quorate_store::stamp::SLOT_NAMES.iter().zip(content) {
            if let Some(content) = content {
                self.files.replace(&Path::new(STORE_DIRECTORY).join(name), content);
            }
        }
    }

    /// Every file but the lock, to see whether a held broker changed any.
    pub fn fingerprint(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = self.files.everything();
        files.retain(|path, _| path.file_name().is_some_and(|name| name != LOCK_NAME));
        files
    }
}

impl Default for Medium {
    fn default() -> Self {
        Self::new()
    }
}

/// What the log's lane is asked to do.
#[derive(Debug)]
pub enum LogWork {
    /// Append, sync if it is to be, report.
    Persist(Ticket, Batch, Point),
    /// Let go.
    Compact(GroupId, Index),
    /// Keep an image of the store.
    Keep(KeepOrder),
}

/// See `Output::Quarantine`.
#[derive(Debug)]
pub struct KeepOrder {
    /// Names it.
    pub ticket: Ticket,
    /// Why.
    pub reason: String,
    /// Because of which groups.
    pub groups: Vec<GroupId>,
    /// What of it the cluster does not have.
    pub diverged: Option<Divergence>,
    /// What the image's stamp says.
    pub stamp: Box<Stamp>,
}

/// What the state store's lane is asked to do.
#[derive(Debug)]
pub enum StateWork {
    /// See `Output::WriteState`.
    Write {
        /// Names it.
        ticket: Ticket,
        /// What.
        batch: StateBatch,
        /// Make it durable.
        flush: bool,
        /// Open this view after the write.
        open_view: Option<ViewId>,
    },
    /// See `Output::Scan`.
    Scan {
        /// Names it.
        ticket: Ticket,
        /// Which family.
        family: Family,
        /// First key.
        from: Bytes,
        /// First key not wanted.
        to: Bytes,
        /// About so many bytes.
        max_bytes: usize,
        /// From this view.
        view: Option<ViewId>,
    },
    /// See `Output::CloseView`.
    CloseView(ViewId),
}

/// What the log's lane works on: written, and to be synced or not.
pub struct LogFlight {
    last: Option<Ticket>,
    compactions: Vec<(GroupId, Index)>,
    sync: bool,
}

/// What the log's lane has begun.
pub struct LogBegun {
    /// The last ticket that is written and waits for no sync.
    pub written: Option<Ticket>,
    /// What is written.
    pub batches: Vec<Batch>,
    /// Whether a sync follows.
    pub sync: bool,
}

/// Synced: the last ticket, the batches, and what the core is told besides.
pub type LogDone = (Option<Ticket>, Vec<Batch>, Vec<Input>);

/// A stamp was written for these tickets, or another process's was found in its place.
pub type StampDone = Result<Vec<Ticket>, StampIdentity>;

/// The disk failed: the process ends, or its power did.
#[derive(Debug)]
pub struct DiskFailed(pub String);

/// An open store: what a process holds.
pub struct Storage {
    /// For the process's life.
    _lock: Box<dyn FileLock>,
    /// Appends to the log.
    pub writer: LogWriter,
    /// Reads from the log.
    pub reader: LogReader,
    /// Writes the stamp; none if the store is held as damaged.
    pub stamp: Option<StampFile>,
    /// Waits for the log's lane.
    pub log_queue: VecDeque<LogWork>,
    /// What the log's lane works on: written, not synced.
    pub log_flight: Option<LogFlight>,
    /// Batches that are written and not synced.
    unsynced: Vec<Batch>,
    /// Images that wait for a moment between two batches.
    pub keep_queue: VecDeque<KeepOrder>,
    /// Waits for the stamp's lane.
    pub stamp_queue: VecDeque<(Ticket, Box<Stamp>)>,
    /// What the stamp's lane works on: nothing of it is written.
    pub stamp_flight: Option<(Vec<Ticket>, Box<Stamp>)>,
    /// Waits for the state store's lane.
    pub state_queue: VecDeque<StateWork>,
    /// What the state store's lane works on: written, not flushed.
    pub state_flight: Option<StateWork>,
    files: Arc<dyn Files>,
    views: BTreeMap<ViewId, ViewId>,
    /// What the core was told last of the log's size.
    pub told_bytes: Option<u64>,
    recorder: Option<Recorder>,
}

/// How a start found the store.
pub enum Opened {
    /// The process runs over this.
    Open(Box<Storage>, Found),
    /// The disk failed while it was opened.
    Failed(String),
}

/// Opens the store as the process does.
pub fn open_store(medium: &Medium, sizes: LogSizes, boot_id: &str, dice: &mut Dice) -> Opened {
    let files: Arc<dyn Files> = Arc::new(medium.files.clone());
    let run = RunId(dice.id());
    let fresh = StoreId(dice.id());
    let usual = LogConfig::new(fresh, dice.number());
    let (segment_bytes, log_retain) = (sizes.segment_bytes, sizes.log_retain);
    // Room for a segment to be idle before it is due.
    let log_keep = (log_retain / 2).max(segment_bytes);
    let log = LogConfig { segment_bytes, log_retain, log_keep, ..usual };
    let options = OpenOptions { process: 1, fresh_id: fresh, log, reserve_bytes: 64 << 10 };
    let store = match open(&files, Path::new(STORE_DIRECTORY), options) {
        Ok(store) => store,
        Err(OpenError::File(error)) => return Opened::Failed(error.to_string()),
        Err(error @ OpenError::OtherFormat(_)) => panic!("this version wrote what it cannot read: {error}"),
    };
    let (stamp, stamp_file, log) = match (store.stamp, store.log) {
        (StampFound::Stamp(stamp), Some(log)) => (FoundStamp::Stamp(stamp), Some(store.stamp_file), log),
        (StampFound::Absent, Some(log)) => (FoundStamp::Empty, Some(store.stamp_file), log),
        (StampFound::Damaged { reason, incarnation }, _) => {
            (FoundStamp::Damaged { reason, incarnation }, None, unused_log(store.id, dice))
        }
        (_, None) => panic!("a store without a log is damaged"),
    };
    let same_boot = matches!(&stamp, FoundStamp::Stamp(stamp) if stamp.is_of_boot(boot_id));
    let found = Found {
        run,
        store: store.id,
        stamp,
        groups: log.recovered.groups.into_iter().map(found_group).collect(),
        log_bytes: log.recovered.log_bytes,
        same_boot,
        panic: store.panic,
    };
    let storage = Storage {
        _lock: store.lock,
        writer: log.writer,
        reader: log.reader,
        stamp: stamp_file,
        log_queue: VecDeque::new(),
        log_flight: None,
        unsynced: Vec::new(),
        keep_queue: VecDeque::new(),
        stamp_queue: VecDeque::new(),
        stamp_flight: None,
        state_queue: VecDeque::new(),
        state_flight: None,
        files: Arc::new(medium.files.clone()),
        views: BTreeMap::new(),
        told_bytes: None,
        recorder: medium.recorder.clone(),
    };
    if !matches!(found.stamp, FoundStamp::Damaged { .. }) {
        storage.note(|| Noted::Opened(found.store));
    }
    Opened::Open(Box::new(storage), found)
}

/// A held broker writes nothing; should it try, then elsewhere.
fn unused_log(store: StoreId, dice: &mut Dice) -> OpenLog {
    let files: Arc<dyn Files> = Arc::new(CrashFiles::new());
    let config = LogConfig::new(store, dice.number());
    let (writer, reader, recovered) =
        log::open(files, Path::new("/log"), config, None).expect("an empty log opens");
    OpenLog { writer, reader, recovered }
}

fn found_group(group: RecoveredGroup) -> FoundGroup {
    let RecoveredGroup { group, hard_state, first, last, terms, epoch } = group;
    FoundGroup { group, hard_state, first, last, terms, epoch }
}

impl Storage {
    fn note(&self, note: impl FnOnce() -> Noted) {
        if let Some(recorder) = &self.recorder {
            recorder.note(note());
        }
    }

    /// Writes what waits for the log; none if nothing does.
    pub fn begin_log(&mut self) -> Result<Option<LogBegun>, DiskFailed> {
        if self.log_flight.is_some() || self.log_queue.is_empty() {
            return Ok(None);
        }
        let (mut last, mut written, mut sync) = (None, None, false);
        let (mut batches, mut compactions) = (Vec::new(), Vec::new());
        for work in self.log_queue.drain(..) {
            match work {
                LogWork::Persist(ticket, batch, point) => {
                    last = Some(ticket);
                    match point {
                        Point::Written => written = Some(ticket),
                        Point::Synced => sync = true,
                    }
                    batches.push(batch);
                }
                LogWork::Compact(group, index) => compactions.push((group, index)),
                LogWork::Keep(order) => self.keep_queue.push_back(order),
            }
        }
        let references: Vec<&Batch> = batches.iter().collect();
        if !references.is_empty() {
            self.note(|| Noted::Appending(batches.clone()));
            self.writer.append(&references).map_err(|error| DiskFailed(error.to_string()))?;
        }
        self.unsynced.extend(batches.iter().cloned());
        self.log_flight = Some(LogFlight { last, compactions, sync });
        sync |= written.is_none();
        Ok(Some(LogBegun { written, batches, sync }))
    }

    /// Syncs what was written, if it is to be: the tickets, the batches that are durable now, and what the core is told
    /// besides.
    pub fn end_log(&mut self) -> Result<LogDone, DiskFailed> {
        let failed = |error: LogError| DiskFailed(error.to_string());
        let LogFlight { last, compactions, sync } = self.log_flight.take().expect("the lane is at work");
        let mut batches = Vec::new();
        if sync && last.is_some() {
            self.writer.sync().map_err(failed)?;
            self.note(|| Noted::Synced);
            batches = std::mem::take(&mut self.unsynced);
        }
        for (group, index) in compactions {
            self.note(|| Noted::Compact(group, index));
            self.writer.compact(group, index);
        }
        if self.writer.compaction_waits() {
            self.note(|| Noted::Appending(Vec::new()));
            self.writer.append(&[]).map_err(failed)?;
            self.writer.sync().map_err(failed)?;
            self.note(|| Noted::Synced);
            batches.append(&mut self.unsynced);
        }
        let mut inputs = Vec::new();
        if let Some(up_to) = self.writer.segment_due() {
            inputs.push(Input::SegmentDue { up_to });
        }
        if let Some(up_to) = self.writer.segment_idle() {
            inputs.push(Input::SegmentIdle { up_to });
        }
        let log_bytes = self.writer.log_bytes();
        if self.told_bytes != Some(log_bytes) {
            self.told_bytes = Some(log_bytes);
            inputs.push(Input::Usage { log_bytes, quarantine_bytes: 0 });
        }
        Ok((last.filter(|_| sync), batches, inputs))
    }

    /// Makes the images that were asked for; their tickets.
    pub fn keep(&mut self, medium: &mut Medium) -> Result<Vec<Ticket>, DiskFailed> {
        let mut kept = Vec::new();
        for KeepOrder { ticket, reason, groups, diverged, stamp } in self.keep_queue.drain(..) {
            let files: Arc<dyn Files> = Arc::new(medium.files.clone());
            let note = Note { act: Act::Update, why: reason, groups, diverged, when_ms: 0 };
            let make = || -> Result<String, QuarantineError> {
                let draft = Draft::begin(Arc::clone(&files), Path::new(STORE_DIRECTORY), note)?;
                let tail = self.writer.link_into(&draft.log_dir())?;
                let end = tail.end();
                tail.copy(files.as_ref(), &draft.log_dir())?;
                medium.state.checkpoint(&draft.state_dir())?;
                Ok(draft.finish(Some(&Stamp { log_synced: end, ..*stamp }))?.name)
            };
            let name = make().map_err(|error| DiskFailed(error.to_string()))?;
            if let Some(recorder) = &self.recorder {
                recorder.note(Noted::Kept(name));
                // A checkpoint flushes.
                recorder.note(Noted::State(Box::new(medium.state.clone())));
            }
            kept.push(ticket);
        }
        Ok(kept)
    }

    /// Takes the latest of the stamps that wait; true if there is one.
    pub fn begin_stamp(&mut self) -> bool {
        if self.stamp_flight.is_some() {
            return false;
        }
        let mut tickets = Vec::new();
        let mut latest = None;
        for (ticket, stamp) in self.stamp_queue.drain(..) {
            tickets.push(ticket);
            latest = Some(stamp);
        }
        self.stamp_flight = latest.map(|stamp| (tickets, stamp));
        self.stamp_flight.is_some()
    }

    /// Writes it.
    pub fn end_stamp(&mut self, boot_id: &str, wall_clock_ms: u64) -> Result<StampDone, DiskFailed> {
        let (tickets, stamp) = self.stamp_flight.take().expect("the lane is at work");
        let log_synced = self.writer.synced_point();
        let stamp = Stamp { boot_id: boot_id.to_owned(), wall_clock_ms, log_synced, ..*stamp };
        let Some(file) = &mut self.stamp else { panic!("a broker held for damage wrote a stamp") };
        if let Some(recorder) = &self.recorder {
            // Sequences count on.
            let next = Stamp { sequence: file.sequence() + 1, ..stamp.clone() };
            recorder.note(Noted::Stamping(Box::new(next)));
        }
        match file.write(stamp) {
            Ok(_) => {}
            Err(StampError::Foreign { found, .. }) => return Ok(Err(found)),
            Err(error) => return Err(DiskFailed(error.to_string())),
        }
        self.note(|| Noted::Stamped);
        Ok(Ok(tickets))
    }

    /// See `Output::LookAtStamp`.
    pub fn look_at_stamp(&self) -> Option<StampIdentity> {
        match self.stamp.as_ref()?.foreign()? {
            StampError::Foreign { found, .. } => Some(found),
            _ => None,
        }
    }

    /// See `Output::Panic`.
    pub fn panic(&mut self, record: Option<&PanicRecord>) -> Result<(), DiskFailed> {
        self.log_queue.clear();
        self.keep_queue.clear();
        self.stamp_queue.clear();
        self.stamp_flight = None;
        self.state_queue.clear();
        self.stamp = None;
        let Some(record) = record else { return Ok(()) };
        panic::write(self.files.as_ref(), Path::new(STORE_DIRECTORY), record)
            .map_err(|error| DiskFailed(error.to_string()))
    }

    /// See `Output::ClearPanic`.
    pub fn clear_panic(&self) -> Result<(), DiskFailed> {
        panic::clear(self.files.as_ref(), Path::new(STORE_DIRECTORY))
            .map_err(|error| DiskFailed(error.to_string()))
    }

    /// Begins the next work of the state store; true if there is some.
    pub fn begin_state(&mut self, state: &mut StateModel) -> bool {
        if self.state_flight.is_some() {
            return false;
        }
        let Some(work) = self.state_queue.pop_front() else { return false };
        if let StateWork::Write { batch, open_view, .. } = &work {
            state.write(batch).expect("the model does not fail");
            if let Some(view) = open_view {
                let opened = state.open_view().expect("the model does not fail");
                self.views.insert(*view, opened);
            }
            self.note(|| Noted::State(Box::new(state.clone())));
        }
        self.state_flight = Some(work);
        true
    }

    /// Ends it; what the core is told.
    pub fn end_state(&mut self, state: &mut StateModel) -> Option<Input> {
        match self.state_flight.take().expect("the lane is at work") {
            StateWork::Write { ticket, flush, .. } => {
                if flush {
                    state.flush().expect("the model does not fail");
                    self.note(|| Noted::State(Box::new(state.clone())));
                }
                Some(Input::Persisted { ticket })
            }
            StateWork::Scan { ticket, family, from, to, max_bytes, view } => {
                let view = match view.map(|view| self.views.get(&view).copied()) {
                    Some(None) => return Some(Input::Scanned { ticket, pairs: Vec::new(), complete: true }),
                    Some(view) => view,
                    None => None,
                };
                let scan = |from: &[u8], bytes| {
                    state.scan(family, from, &to, bytes, view).expect("the model does not fail")
                };
                let pairs = scan(&from, max_bytes);
                let complete = pairs.last().is_none_or(|(last, _)| {
                    let mut next = BytesMut::from(&last[..]);
                    next.extend_from_slice(&[0]);
                    scan(&next, 1).is_empty()
                });
                Some(Input::Scanned { ticket, pairs, complete })
            }
            StateWork::CloseView(view) => {
                if let Some(opened) = self.views.remove(&view) {
                    state.close_view(opened);
                }
                None
            }
        }
    }

    /// Entries of a group; none if they have left the log since they were asked for.
    pub fn load(
        &self,
        group: GroupId,
        from: Index,
        to: Index,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, DiskFailed> {
        match self.reader.read(group, from, to, max_bytes) {
            Ok(entries) => Ok(entries),
            Err(LogError::Compacted { .. } | LogError::UnknownGroup { .. }) => Ok(Vec::new()),
            Err(error) => Err(DiskFailed(error.to_string())),
        }
    }
}
