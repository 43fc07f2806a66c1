//! Files of the log. What is checked here about checksums is written from `docs/internals/disk.md` alone.
//!
//! The first byte of an input says how: bit 0 clear, every checksum is put right first, and each batch is made the next of
//! the one before; bit 1, there are two segments, else one; bit 2, the stamp says that all of it was synced. Then, for each
//! segment: the 68 bytes of its header, a u16, and so many bytes of batches; what is missing up to a whole file is zeros.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use crc32fast::Hasher;
use quorate_store::files::Files;
use quorate_store::files::crash::CrashFiles;
use quorate_store::ids::{Epoch, GroupId, Index, StoreId, Term};
use quorate_store::log::{
    LOG_DIRECTORY, LogConfig, LogError, LogReader, RecoveredGroup, SyncedPoint, inspect, open,
};
use quorate_store::record::{Batch, Entry, EntryKind, HardState, Record};
use uuid::Uuid;

use super::mode;
use crate::allocator::Allowance;
use crate::{Reached, Target};

/// See the module.
pub const TARGET: Target = Target {
    name: "segment",
    run,
    seeds,
    length_max: 12 << 10,
    words: &[b"QRTELOG\n", b"QBAT", b"QEND"],
    text: false,
    smoke: 30_000,
};

const STORE: StoreId = StoreId(Uuid::from_u128(7));
const HEADER: usize = 68;
const PAGE: usize = 4096;
const FILE_MIN: usize = 16 << 10;
const FILE_MAX: usize = 64 << 10;
const BATCH_HEADER: usize = 24;
const FOOTER: usize = 32;
const RECORD: usize = 36;
const SECTOR: usize = 512;

/// The file is read whole; the index has an entry of some 100 bytes for each record, which has 36 bytes at least.
const READ: Allowance = Allowance { each: 8, fixed: 128 << 10 };

fn config() -> LogConfig {
    LogConfig { segment_bytes: 16 << 10, fill: false, reuse: false, ..LogConfig::new(STORE, 0x5a17) }
}

fn dir() -> PathBuf {
    Path::new("/store").join(LOG_DIRECTORY)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn crc(parts: &[&[u8]]) -> u32 {
    let mut hasher = Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// What the checksums continue with from one batch to the next.
#[derive(Default)]
struct Chain {
    sequence: u64,
    crc: u32,
}

/// Puts every checksum of a segment right, as far as lengths lead to whole batches and records.
fn seal(header: &mut [u8], batches: &mut [u8], chain: &mut Chain) {
    let fields = crc(&[&header[..64]]);
    header[64..68].copy_from_slice(&fields.to_le_bytes());
    // Salt, then generation: 8 bytes each, the other way round in the header.
    let base = [&header[24..32], &header[16..24]].concat();
    let mut at = 0;
    while let Some(length) = u64_at(batches, at + 16).and_then(|length| usize::try_from(length).ok()) {
        let whole = at.checked_add(length).and_then(|end| batches.get_mut(at..end));
        let Some(batch) = whole.filter(|batch| batch.len() >= BATCH_HEADER + FOOTER) else { return };
        let place = u64::try_from(PAGE + at).unwrap_or(u64::MAX).to_le_bytes();
        if chain.sequence > 0 {
            batch[8..16].copy_from_slice(&chain.sequence.wrapping_add(1).to_le_bytes());
        }
        chain.sequence = u64_at(batch, 8).unwrap_or_default();
        let head = crc(&[&base, &place, &batch[8..24]]);
        batch[4..8].copy_from_slice(&head.to_le_bytes());
        let end = batch.len() - FOOTER;
        let mut heads = Hasher::new();
        heads.update(&base);
        heads.update(&place);
        let (mut record, mut count) = (BATCH_HEADER, 0_u32);
        while let Some(payload) =
            u32_at(&batch[..end], record).and_then(|length| usize::try_from(length).ok())
        {
            let next = record.saturating_add(RECORD).saturating_add(payload);
            let Some(bytes) = batch[..end].get(record..next) else { break };
            let sum = crc(&[&base, &bytes[..4], &bytes[8..]]);
            batch[record + 4..record + 8].copy_from_slice(&sum.to_le_bytes());
            heads.update(&batch[record..record + RECORD]);
            (record, count) = (next, count + 1);
        }
        batch[end + 8..end + 12].copy_from_slice(&count.to_le_bytes());
        batch[end + 12..end + 16].copy_from_slice(&chain.crc.to_le_bytes());
        heads.update(&batch[..BATCH_HEADER]);
        heads.update(&batch[end + 8..]);
        chain.crc = heads.finalize();
        batch[end + 4..end + 8].copy_from_slice(&chain.crc.to_le_bytes());
        at = (at + length).next_multiple_of(SECTOR);
    }
}

/// One segment's file as an input has it; what follows it in the input.
fn segment<'a>(input: &'a [u8], sealed: bool, chain: &mut Chain) -> Option<(u64, Vec<u8>, &'a [u8])> {
    let (header, rest) = input.split_at_checked(HEADER)?;
    let (length, rest) = rest.split_first_chunk()?;
    let (batches, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    let (mut header, mut batches) = (header.to_vec(), batches.to_vec());
    if sealed {
        seal(&mut header, &mut batches, chain);
    }
    let announced = u64_at(&header, 32).and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    let length = if (PAGE..=FILE_MAX).contains(&announced) { announced } else { FILE_MIN };
    let generation = u64_at(&header, 16)?;
    let mut file = header;
    file.resize(PAGE, 0);
    file.extend_from_slice(&batches);
    file.resize(length.max(file.len()), 0);
    file.truncate(length.max(PAGE));
    Some((generation, file, rest))
}

/// Everything that a log has, read back.
type Content = Vec<(RecoveredGroup, Vec<Entry>)>;

fn content(reader: &LogReader, groups: &[RecoveredGroup]) -> Content {
    groups
        .iter()
        .map(|found| {
            let mut entries = Vec::new();
            if found.first <= found.last {
                entries = reader
                    .read(found.group, found.first, found.last.next(), usize::MAX)
                    .expect("what was found can be read");
            }
            let mut next = found.first;
            for entry in &entries {
                assert_eq!(entry.index, next, "entries follow each other");
                assert_eq!(reader.term(found.group, entry.index), Some(entry.term));
                next = next.next();
            }
            assert_eq!(next, found.last.next(), "every entry up to the last is there");
            (found.clone(), entries)
        })
        .collect()
}

fn is_verdict(error: &LogError) -> bool {
    matches!(error, LogError::Damaged { .. } | LogError::OtherFormat { .. })
}

fn run(input: &[u8]) -> Reached {
    let (mode, mut rest) = mode(input);
    let disk = CrashFiles::new();
    disk.create_dir(&dir()).expect("memory has room");
    let mut chain = Chain::default();
    let (mut bytes, mut last) = (0, 0);
    for _ in 0..=(mode >> 1 & 1) {
        let Some((generation, file, after)) = segment(rest, mode & 1 == 0, &mut chain) else { break };
        bytes += file.len();
        last = generation;
        disk.replace(&dir().join(format!("segment-{generation:016x}")), &file);
        rest = after;
    }
    let synced = (mode & 4 != 0).then_some(SyncedPoint { generation: last, offset: PAGE as u64 });
    let before = disk.everything();
    let looked = READ.check(bytes, "a log", || inspect(&disk, &dir(), STORE, synced));
    let files: Arc<dyn Files> = Arc::new(disk.clone());
    let opened = open(Arc::clone(&files), &dir(), config(), synced);
    assert_eq!(disk.everything(), before, "opening a log changes no byte");
    let (mut writer, reader, recovered) = match (opened, looked) {
        (Ok(opened), Ok((looking, seen))) => {
            assert_eq!(opened.2, seen, "looking and opening see the same");
            assert_eq!(content(&looking, &seen.groups), content(&opened.1, &seen.groups));
            opened
        }
        (Err(one), Err(other)) => {
            assert!(is_verdict(&one), "no answer about bytes: {one}");
            assert_eq!(one.to_string(), other.to_string(), "looking and opening say the same");
            return Reached::Refused;
        }
        (opened, looked) => panic!("opened: {:?}, looked at: {:?}", opened.err(), looked.err()),
    };
    let found = content(&reader, &recovered.groups);
    if found.is_empty() {
        return Reached::Refused;
    }
    // A valid state is one that goes on.
    let batch = Batch { records: recovered.groups.iter().flat_map(one_more).collect() };
    match writer.append(&[&batch]) {
        Ok(()) => {}
        // At the end of all numbers there is nothing to go on to.
        Err(LogError::Damaged { .. } | LogError::Stopped(_) | LogError::TooLarge { .. }) => {
            return Reached::Accepted;
        }
        Err(error) => panic!("a log that was opened is not written: {error}"),
    }
    writer.sync().expect("memory syncs");
    drop(writer);
    disk.crash(1);
    let (_, reader, again) = open(files, &dir(), config(), None).expect("what was written opens");
    for (group, entries) in found {
        let grown = again.groups.iter().find(|other| other.group == group.group).expect("the group is there");
        let mut all = entries;
        all.extend(one_more(&group).into_iter().filter_map(|record| match record {
            Record::Entry(_, _, entry) => Some(entry),
            _ => None,
        }));
        assert_eq!(content(&reader, std::slice::from_ref(grown))[0].1, all, "what was there, and one more");
    }
    Reached::Accepted
}

/// The next entry of a group, and a hard state.
fn one_more(group: &RecoveredGroup) -> Vec<Record> {
    let Some(index) = group.last.0.checked_add(1).filter(|index| *index < u64::MAX) else {
        return Vec::new();
    };
    let term = group.terms.last().map_or(Term(1), |(_, term)| *term);
    let entry =
        Entry { term, index: Index(index), kind: EntryKind::Command, data: Bytes::from_static(b"more") };
    let hard_state = HardState { term, vote: 1, commit: group.last };
    vec![
        Record::Entry(group.group, group.epoch, entry),
        Record::HardState(group.group, group.epoch, hard_state),
    ]
}

/// A log of two segments with every kind of record in it.
fn seeds() -> Vec<Vec<u8>> {
    let disk = CrashFiles::new();
    let files: Arc<dyn Files> = Arc::new(disk.clone());
    let (mut writer, _, _) = open(files, &dir(), config(), None).expect("an empty log opens");
    let entry = |group: u32, index, kind, data: &'static [u8]| {
        let entry = Entry { term: Term(2), index: Index(index), kind, data: Bytes::from_static(data) };
        Record::Entry(GroupId(group), Epoch(1), entry)
    };
    let hard_state = HardState { term: Term(2), vote: 1, commit: Index(1) };
    let batches = [
        vec![entry(1, 1, EntryKind::Command, b"one"), Record::HardState(GroupId(1), Epoch(1), hard_state)],
        vec![entry(1, 2, EntryKind::Membership, b"two"), entry(2, 1, EntryKind::Control, b"")],
        vec![Record::Reset(GroupId(3), Epoch(1), Term(2), Index(40)), entry(3, 41, EntryKind::Command, b"x")],
        vec![Record::Remove(GroupId(2)), entry(1, 2, EntryKind::Command, b"again")],
    ];
    let mut seeds = Vec::new();
    for records in batches {
        writer.append(&[&Batch { records }]).expect("memory takes it");
        writer.sync().expect("memory syncs");
        if seeds.len() < 4 {
            seeds.push(input_of(&disk, 0, &[1]));
        }
    }
    // A new segment, with a base for each group in its first batch; nothing in the one before is needed any more.
    writer.compact(GroupId(3), Index(41));
    for index in 3..9 {
        let data: &'static [u8] = &[7; 2000];
        writer.compact(GroupId(1), Index(index - 1));
        let records = vec![entry(1, index, EntryKind::Command, data)];
        writer.append(&[&Batch { records }]).expect("memory takes it");
        writer.sync().expect("memory syncs");
    }
    let names = disk.list(&dir()).expect("the directory is there");
    let number = |name: &String| u64::from_str_radix(name.strip_prefix("segment-")?, 16).ok();
    let last = names.iter().filter_map(number).max().expect("there is a segment");
    seeds.push(input_of(&disk, 4, &[last]));
    seeds
}

/// The input that stands for these segments of a disk.
fn input_of(disk: &CrashFiles, mode: u8, generations: &[u64]) -> Vec<u8> {
    let mut input = vec![mode];
    for generation in generations {
        let file =
            disk.content(&dir().join(format!("segment-{generation:016x}"))).expect("the segment is there");
        let batches = &file[PAGE..];
        let used = batches.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        input.extend_from_slice(&file[..HEADER]);
        input.extend_from_slice(&u16::try_from(used).expect("a short segment").to_le_bytes());
        input.extend_from_slice(&batches[..used]);
    }
    input
}
