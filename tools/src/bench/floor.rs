//! The floor: the least that a majority's sync can cost on these disks, without network, consensus or queues.
//!
//! One process has three files, preallocated, written through once and then written over and over, as the segments of a
//! log are, and one writer thread for each. Producers keep `window` messages on their way: whenever one is done, the
//! next one waits. All that waits goes into one batch (header, each message with its length, CRC-32 over all, padded to
//! 512 bytes), the batch goes to all three writers, and is done when two of them have written and synced it
//! (`fdatasync`). A writer that has fallen behind writes all that waits for it with one call and one sync.
//!
//! A cluster's publishing at the same window and size cannot be faster on the same disks than this by more than noise;
//! how near it comes says what everything else costs.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::measure::{Latencies, Measured};
use super::plan::Limit;

/// How many files, and of how many a batch is done.
const FILES: usize = 3;
const MAJORITY: usize = 2;
/// Length of each file.
const FILE_BYTES: u64 = 64 << 20;
/// Batches begin at multiples of this.
const ALIGNMENT: usize = 512;
/// Batches a writer may fall behind.
const BEHIND: usize = 64;
/// A writer writes at most so much with one call.
const WRITE_BYTES: usize = 8 << 20;

/// Magic, bytes that follow the header, messages, CRC-32 of what follows, number of the batch.
const HEADER: usize = 4 + 4 + 4 + 4 + 8;
const MAGIC: [u8; 4] = *b"FLR1";

/// Three files with a writer each; removed when dropped.
pub struct Floor {
    writers: Vec<Writer>,
    done: Receiver<io::Result<u64>>,
    next_batch: u64,
    paths: Vec<PathBuf>,
}

struct Writer {
    batches: Option<SyncSender<Batch>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Batch {
    number: u64,
    bytes: Arc<[u8]>,
}

impl Floor {
    /// Makes the files in this directory and starts their writers.
    ///
    /// # Errors
    /// The directory is not there, or the disk is full or fails.
    pub fn new(directory: &Path) -> io::Result<Self> {
        let (sender, done) = channel();
        let mut floor = Self { writers: Vec::new(), done, next_batch: 1, paths: Vec::new() };
        for number in 0..FILES {
            let path = directory.join(format!(".quorate-floor-{}-{number}", std::process::id()));
            let options = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
            let file = options
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
            floor.paths.push(path);
            fill(&file)?;
            let (batches, waiting) = sync_channel(BEHIND);
            let sender = sender.clone();
            let thread = thread::Builder::new().name(format!("floor-{number}"));
            let thread = thread.spawn(move || write_batches(&file, &waiting, &sender))?;
            floor.writers.push(Writer { batches: Some(batches), thread: Some(thread) });
        }
        Ok(floor)
    }

    /// Keeps `window` messages of `size` bytes on their way until the limit is reached, or somebody says stop.
    ///
    /// # Errors
    /// The disk.
    pub fn run(
        &mut self,
        size: usize,
        window: usize,
        limit: Limit,
        stop: &AtomicBool,
    ) -> io::Result<Measured> {
        let mut latencies = Latencies::default();
        let mut messages = 0_u64;
        let began = Instant::now();
        let mut body = vec![b'x'; size];
        while !limit.is_reached(messages, began.elapsed()) && !stop.load(Ordering::Relaxed) {
            // All of the window was done with the last batch, so all of it waits now.
            let count = limit.room(messages, window);
            let waits_since = Instant::now();
            let bytes = encode(self.next_batch, &mut body, messages, count);
            self.commit(bytes)?;
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            latencies.add_many(waits_since.elapsed(), count);
            messages += count;
        }
        Ok(Measured::new(messages, began.elapsed(), &latencies))
    }

    /// Hands a batch to all writers and returns when two of them have synced it.
    fn commit(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        let batch = Batch { number: self.next_batch, bytes: bytes.into() };
        self.next_batch += 1;
        for writer in &self.writers {
            let batches = writer.batches.as_ref().expect("writers have their channel until the end");
            batches.send(batch.clone()).map_err(|_| self.why_ended())?;
        }
        let mut synced = 0;
        while synced < MAJORITY {
            let number =
                self.done.recv().map_err(|_| io::Error::other("the floor's writers have ended"))??;
            // What a slow writer says about earlier batches does not count for this one.
            synced += usize::from(number == batch.number);
        }
        Ok(())
    }

    fn why_ended(&self) -> io::Error {
        let said = self.done.try_iter().find_map(Result::err);
        said.unwrap_or_else(|| io::Error::other("a writer of the floor has ended"))
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        for writer in &mut self.writers {
            writer.batches = None;
            if let Some(thread) = writer.thread.take() {
                // It ends because its channel does; if it panicked, that was said already.
                let _ = thread.join();
            }
        }
        for path in &self.paths {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Writes the whole file once, so that later writes change no allocation: the state of a recycled segment.
fn fill(file: &File) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < FILE_BYTES {
        file.write_all_at(&zeros, offset)?;
        offset += zeros.len() as u64;
    }
    file.sync_all()
}

/// One batch: header, each message behind its length, padding. The first bytes of each message are its number.
fn encode(number: u64, body: &mut [u8], first: u64, count: usize) -> Vec<u8> {
    let length = HEADER + count * (4 + body.len());
    let mut bytes = Vec::with_capacity(length.next_multiple_of(ALIGNMENT));
    bytes.resize(HEADER, 0);
    let size = u32::try_from(body.len()).unwrap_or(u32::MAX);
    for message in (first..).take(count) {
        let mark = message.to_le_bytes();
        for (to, from) in body.iter_mut().zip(mark) {
            *to = from;
        }
        bytes.extend_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(body);
    }
    let payload = bytes.get(HEADER..).unwrap_or_default();
    let crc = crc32fast::hash(payload);
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    header.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
    header.extend_from_slice(&crc.to_le_bytes());
    header.extend_from_slice(&number.to_le_bytes());
    bytes.splice(..HEADER, header);
    bytes.resize(length.next_multiple_of(ALIGNMENT), 0);
    bytes
}

/// A writer: takes what waits, writes it in one piece, syncs, says which batches are done.
fn write_batches(file: &File, waiting: &Receiver<Batch>, done: &Sender<io::Result<u64>>) {
    let mut offset = 0_u64;
    while let Ok(first) = waiting.recv() {
        let mut bytes = first.bytes.len();
        let mut batches = vec![first];
        while bytes < WRITE_BYTES
            && let Ok(next) = waiting.try_recv()
        {
            bytes += next.bytes.len();
            batches.push(next);
        }
        let written = write_once(file, &mut offset, &batches, bytes);
        let failed = written.is_err();
        if let Err(error) = written {
            let _ = done.send(Err(error));
        } else {
            // If nobody listens any more, the cell is over.
            let _ = batches.iter().try_for_each(|batch| done.send(Ok(batch.number)));
        }
        if failed {
            return;
        }
    }
}

fn write_once(file: &File, offset: &mut u64, batches: &[Batch], bytes: usize) -> io::Result<()> {
    let length = bytes as u64;
    if *offset + length > FILE_BYTES {
        *offset = 0;
    }
    match batches {
        [one] => file.write_all_at(&one.bytes, *offset)?,
        many => {
            let mut together = Vec::with_capacity(bytes);
            for batch in many {
                together.extend_from_slice(&batch.bytes);
            }
            file.write_all_at(&together, *offset)?;
        }
    }
    *offset += length;
    file.sync_data()
}

/// The largest `window × size` that fits the files.
pub const LARGEST_BATCH: u64 = FILE_BYTES / 2;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn number(bytes: &[u8]) -> u64 {
        u64::from_le_bytes(bytes.try_into().unwrap())
    }

    fn small(bytes: &[u8]) -> usize {
        usize::try_from(u32::from_le_bytes(bytes.try_into().unwrap())).unwrap()
    }

    #[test]
    fn a_batch_holds_its_messages_under_its_checksum() {
        let bytes = encode(7, &mut [b'x'; 20], 100, 3);
        assert_eq!(bytes.len() % ALIGNMENT, 0);
        assert_eq!(&bytes[..4], &MAGIC);
        let payload = &bytes[HEADER..HEADER + small(&bytes[4..8])];
        assert_eq!((small(&bytes[8..12]), number(&bytes[16..24])), (3, 7));
        assert_eq!(u32::from_le_bytes(bytes[12..16].try_into().unwrap()), crc32fast::hash(payload));
        assert_eq!(payload.len(), 3 * 24);
        assert_eq!((small(&payload[..4]), number(&payload[4..12])), (20, 100));
        assert_eq!(number(&payload[52..60]), 102);
        assert!(bytes[HEADER + payload.len()..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn every_message_is_on_two_of_three_files_and_the_files_go() {
        let directory = tempfile::tempdir().unwrap();
        let mut floor = Floor::new(directory.path()).unwrap();
        let measured = floor.run(100, 4, Limit::Messages(10), &AtomicBool::new(false)).unwrap();
        assert_eq!(measured.messages, 10);
        assert!(
            measured.latency.p50_us > 0.0 && measured.latency.p50_us <= measured.latency.max_us,
            "{measured:?}"
        );
        // Batches of 4, 4 and 2: what is left of the limit, not more.
        assert_eq!(floor.next_batch, 4);
        let holding = floor.paths.iter().filter(|path| {
            let content = std::fs::read(path).unwrap();
            let step = encode(1, &mut [b'x'; 100], 0, 4).len();
            [(0, 0), (step, 4), (2 * step, 8)].iter().all(|(offset, first)| {
                let batch = &content[*offset..];
                let payload = &batch[HEADER..HEADER + small(&batch[4..8])];
                batch[..4] == MAGIC
                    && u32::from_le_bytes(batch[12..16].try_into().unwrap()) == crc32fast::hash(payload)
                    && number(&payload[4..12]) == *first
            })
        });
        assert!(holding.count() >= MAJORITY);
        drop(floor);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_time_limit_ends_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut floor = Floor::new(directory.path()).unwrap();
        let measured =
            floor.run(16, 1, Limit::Time(Duration::from_millis(20)), &AtomicBool::new(false)).unwrap();
        assert!(measured.messages > 0 && measured.seconds >= 0.02, "{measured:?}");
        assert!(Floor::new(Path::new("/no/such/directory")).is_err());
    }
}
