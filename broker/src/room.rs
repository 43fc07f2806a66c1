//! Room for the log: files made ready ahead of need, files given back, and the free space that both depend on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use quorate_store::files::FileResult;
use quorate_store::log::{LogWriter, SpareOrder};
use quorate_store::reserve::{Reserve, SpaceGuard, SpaceLimits};

/// How often the free space is looked at.
const INTERVAL: Duration = Duration::from_secs(2);
/// How often while files are being given back.
const SOON: Duration = Duration::from_millis(50);
/// So many written bytes later at the latest: a quick disk takes what is left between two looks.
const UNSEEN_BYTES: u64 = 32 << 20;

/// Looks after the log's files for its owner.
///
/// The log keeps files for later, and on a full disk those are the first to go. So that publishing need not stop for
/// what is free a moment later, their bytes count as free from the moment when their removal begins.
pub struct Room {
    /// None for a transient broker, whose disk is memory.
    reserve: Option<Arc<Reserve>>,
    /// Whether publishing must stop: judges what is free and what is coming back.
    publishing: SpaceGuard,
    /// Whether files may be kept for later: judges what is free now.
    keeping: SpaceGuard,
    /// Bytes of files that are being removed.
    returning: Arc<AtomicU64>,
    due: Instant,
    /// Bytes written since the free space was looked at.
    unseen: u64,
    /// A file could not be made: none is begun before this.
    refused_until: Instant,
    /// Threads that make and remove files.
    helpers: Vec<thread::JoinHandle<()>>,
    made: Sender<(SpareOrder, bool)>,
    answers: Receiver<(SpareOrder, bool)>,
}

impl Room {
    /// Nothing was looked at yet.
    pub fn new(reserve: Option<Arc<Reserve>>, limits: SpaceLimits) -> Self {
        let (made, answers) = channel();
        Self {
            reserve,
            publishing: SpaceGuard::new(limits),
            keeping: SpaceGuard::new(limits),
            returning: Arc::default(),
            due: Instant::now(),
            unseen: 0,
            refused_until: Instant::now(),
            helpers: Vec::new(),
            made,
            answers,
        }
    }

    /// When [`Room::look`] is worth calling.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// It is worth calling now.
    pub fn look_soon(&mut self) {
        self.due = Instant::now();
    }

    /// So many bytes went to the disk.
    pub fn wrote(&mut self, bytes: u64) {
        self.unseen = self.unseen.saturating_add(bytes);
        if self.unseen >= UNSEEN_BYTES {
            self.look_soon();
        }
    }

    /// Looks at the free space, unless nothing may be `written` yet. Says whether publishing must stop, if that has
    /// changed.
    ///
    /// # Errors
    /// Those of the medium.
    pub fn look(&mut self, writer: &mut LogWriter, written: bool) -> FileResult<Option<bool>> {
        self.due = Instant::now() + INTERVAL;
        self.unseen = 0;
        let Some(reserve) = self.reserve.clone().filter(|_| written) else { return Ok(None) };
        let free = reserve.free_space()?;
        // Read after it: what comes back between the two is missed rather than counted twice.
        let mut returning = self.returning.load(Ordering::Acquire);
        let missing = (!reserve.is_held()).then_some(reserve.bytes());
        self.keeping.observe(free, missing);
        if self.keeping.is_low() {
            self.hear(writer);
            returning += self.give_back(writer);
        }
        let before = self.publishing.is_low();
        let low = self.publishing.check(&reserve, free.saturating_add(returning))?;
        if returning > 0 || (low && !before) {
            self.due = Instant::now() + SOON;
        }
        Ok((low != before).then_some(low))
    }

    /// Removes what need not be kept, and makes the next file ready, if there is none and there is room.
    pub fn look_after_files(&mut self, writer: &mut LogWriter) {
        self.hear(writer);
        self.give_back(writer);
        // On a full disk, and in memory, the log makes what it needs when it needs it.
        if self.reserve.is_some() && !self.keeping.is_low() && self.refused_until <= Instant::now() {
            self.make_ready(writer);
        }
    }

    fn hear(&mut self, writer: &mut LogWriter) {
        while let Ok((order, made)) = self.answers.try_recv() {
            writer.spare_made(&order, made);
            if !made {
                self.refused_until = Instant::now() + INTERVAL;
                self.look_soon();
            }
        }
    }

    /// Begins to remove what need not be kept; its bytes.
    fn give_back(&mut self, writer: &mut LogWriter) -> u64 {
        let Some(surplus) = writer.surplus(self.keeping.is_low()) else { return 0 };
        let (named, bytes) = (format!("{surplus:?}"), surplus.bytes());
        let returning = Arc::clone(&self.returning);
        returning.fetch_add(bytes, Ordering::AcqRel);
        let work = move || {
            if let Err(error) = surplus.remove() {
                tracing::warn!("{named} of the log not removed: {error}");
            }
            returning.fetch_sub(bytes, Ordering::AcqRel);
        };
        if self.help(work) {
            return bytes;
        }
        // Dropped here: their files stay until the next start.
        self.returning.fetch_sub(bytes, Ordering::AcqRel);
        0
    }

    fn make_ready(&mut self, writer: &mut LogWriter) {
        let Some(order) = writer.order_spare() else { return };
        let (made, failed) = (self.made.clone(), order.clone());
        let work = move || {
            let result = order.make();
            if let Err(error) = &result {
                tracing::warn!("no file was made ready for the log's next segment: {error}");
            }
            // The log's owner may have ended with the process.
            let _ = made.send((order, result.is_ok()));
        };
        if !self.help(work) {
            writer.spare_made(&failed, false);
        }
    }

    /// Has a thread of its own do this; false if there can be none.
    fn help(&mut self, work: impl FnOnce() + Send + 'static) -> bool {
        self.helpers.retain(|helper| !helper.is_finished());
        let helper = thread::Builder::new().name("spare".to_owned()).spawn(work);
        let helps = helper.is_ok();
        self.helpers.extend(helper.ok());
        helps
    }

    /// Waits for the threads that still touch the log's files: nobody does after this.
    pub fn finish(&mut self) {
        for helper in self.helpers.drain(..) {
            // A panic there has ended the process already.
            let _ = helper.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;
    use quorate_store::files::Files;
    use quorate_store::files::crash::CrashFiles;
    use quorate_store::ids::{Epoch, GroupId, Index, StoreId, Term};
    use quorate_store::log::{LogConfig, open};
    use quorate_store::record::{Batch, Entry, EntryKind, Record};
    use uuid::Uuid;

    use super::*;

    const SEGMENT: u64 = 16 << 10;
    const RESERVE: u64 = 8 << 10;
    const LIMITS: SpaceLimits =
        SpaceLimits { low_bytes: SEGMENT, enough_bytes: 2 * SEGMENT, critical_bytes: 4 << 10 };
    const GROUP: GroupId = GroupId(1);

    struct World {
        disk: CrashFiles,
        writer: LogWriter,
        room: Room,
        written: u64,
    }

    impl World {
        fn new() -> Self {
            let disk = CrashFiles::new();
            let files: Arc<dyn Files> = Arc::new(disk.clone());
            let store = StoreId(Uuid::from_u128(7));
            let config = LogConfig { segment_bytes: SEGMENT, fill: false, ..LogConfig::new(store, 1) };
            let (mut writer, ..) = open(Arc::clone(&files), Path::new("/store/log"), config, None).unwrap();
            let reserve = Reserve::open(files, Path::new("/store").to_path_buf(), RESERVE).unwrap();
            let reserve = Arc::new(reserve);
            writer.use_reserve(Arc::clone(&reserve));
            Self { disk, writer, room: Room::new(Some(reserve), LIMITS), written: 0 }
        }

        fn fill_segments(&mut self, count: u64) {
            while self.writer.synced_point().generation < count {
                self.written += 1;
                let data = Bytes::from(vec![7; 3000]);
                let index = Index(self.written);
                let entry = Entry { term: Term(1), index, kind: EntryKind::Command, data };
                let batch = Batch { records: vec![Record::Entry(GROUP, Epoch(1), entry)] };
                self.writer.append(&[&batch]).unwrap();
                self.writer.sync().unwrap();
            }
        }

        fn spares(&self) -> usize {
            let names = self.disk.list(Path::new("/store/log")).unwrap();
            names.iter().filter(|name| name.starts_with("spare-")).count()
        }

        /// Everything but the current segment becomes spares.
        fn forget(&mut self) {
            self.writer.compact(GROUP, Index(self.written));
            self.writer.append(&[]).unwrap();
            self.writer.sync().unwrap();
        }

        fn set_free(&self, bytes: u64) {
            self.disk.set_capacity(u64::MAX);
            let used = u64::MAX - self.disk.free_space(Path::new("/store")).unwrap();
            self.disk.set_capacity(used + bytes);
        }

        fn look(&mut self) -> Option<bool> {
            self.room.look(&mut self.writer, true).unwrap()
        }
    }

    #[test]
    fn files_kept_for_later_go_before_publishing_stops() {
        let mut world = World::new();
        world.fill_segments(8);
        world.forget();
        assert_eq!((world.look(), world.spares()), (None, 7));
        world.set_free(SEGMENT - 1);
        assert_eq!(world.look(), None, "seven segments are coming back");
        world.room.finish();
        assert_eq!((world.look(), world.spares()), (None, 0));
        world.set_free(SEGMENT - 1);
        assert_eq!(world.look(), Some(true), "nothing more can come back");
        world.room.look_after_files(&mut world.writer);
        world.room.finish();
        assert_eq!(world.spares(), 0, "nothing is made for later on a full disk");
        world.set_free(3 * SEGMENT);
        assert_eq!(world.look(), Some(false));
    }

    #[test]
    fn a_file_that_could_not_be_made_has_the_space_looked_at_and_is_not_begun_again_at_once() {
        let mut world = World::new();
        world.fill_segments(1);
        assert_eq!(world.look(), None);
        world.set_free(SEGMENT / 2);
        world.room.look_after_files(&mut world.writer);
        world.room.finish();
        assert!(world.room.due() > Instant::now());
        world.room.look_after_files(&mut world.writer);
        assert!(world.room.due() <= Instant::now());
        assert!(world.room.helpers.is_empty(), "another was begun");
        assert_eq!(world.look(), Some(true));
    }

    #[test]
    fn what_is_written_between_two_looks_is_bounded() {
        let mut world = World::new();
        world.fill_segments(1);
        assert_eq!(world.look(), None);
        world.room.wrote(UNSEEN_BYTES - 1);
        assert!(world.room.due() > Instant::now());
        world.room.wrote(1);
        assert!(world.room.due() <= Instant::now());
    }

    #[test]
    fn a_store_that_nothing_was_written_to_gets_no_reserve() {
        let mut world = World::new();
        assert_eq!(world.room.look(&mut world.writer, false).unwrap(), None);
        assert!(world.disk.everything().is_empty());
    }
}
