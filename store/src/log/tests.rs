mod forged;
mod image;
mod power;
mod rot;
mod workload;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use self::workload::{Meaning, Naive, Step, any_step, meaning};
use super::segments::segment_name;
use super::*;
use crate::files::crash::{CrashFiles, Fault, Operation};
use crate::files::real::RealFiles;
use crate::record::{Batch, Entry, EntryKind, Record};
use crate::reserve::Reserve;

const DIR: &str = "/store/log";
const SMALL: u64 = 16 << 10;
const G1: GroupId = GroupId(1);

fn config() -> LogConfig {
    let store = StoreId(Uuid::from_u128(7));
    LogConfig { segment_bytes: SMALL, log_retain: 3 * SMALL, fill: false, ..LogConfig::new(store, 0x5a17) }
}

fn open_log(
    disk: &CrashFiles,
    stamp: Option<SyncedPoint>,
) -> Result<(LogWriter, LogReader, Recovered), LogError> {
    open(Arc::new(disk.clone()), Path::new(DIR), config(), stamp)
}

fn entries(group: u32, first: u64, term: u64, data: &[&[u8]]) -> Vec<Record> {
    let entry = |(index, data): (u64, &&[u8])| Entry {
        term: Term(term),
        index: Index(index),
        kind: EntryKind::Command,
        data: Bytes::copy_from_slice(data),
    };
    (first..).zip(data).map(|one| Record::Entry(GroupId(group), Epoch(1), entry(one))).collect()
}

/// One batch with one entry after the group's last.
fn append_entries(writer: &mut LogWriter, naive: &mut Naive, group: u32, size: usize) {
    let last = naive.groups.get(&GroupId(group)).map_or(0, |log| log.last().0);
    let data: Vec<u8> = format!("{group} {last} ").bytes().cycle().take(size).collect();
    let batch = Batch { records: entries(group, last + 1, 1 + last / 4, &[&data]) };
    batch.records.iter().for_each(|record| naive.apply(record));
    writer.append(&[&batch]).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_log_holds_what_a_naive_one_holds(steps in proptest::collection::vec(any_step(), 1..60)) {
        let disk = CrashFiles::new();
        let (mut writer, mut reader, _) = open_log(&disk, None).unwrap();
        let mut naive = Naive::default();
        for (number, step) in (1..).zip(steps) {
            match (step, meaning(step, &naive, number)) {
                (Step::Sync, _) => writer.sync().unwrap(),
                (Step::Reopen, _) => {
                    let point = writer.synced_point();
                    disk.kill();
                    let (new_writer, new_reader, recovered) = open_log(&disk, Some(point)).unwrap();
                    prop_assert_eq!(naive.difference(&recovered.groups, &new_reader), None);
                    prop_assert_eq!(recovered.torn, None);
                    prop_assert_eq!(recovered.log_bytes, new_writer.log_bytes());
                    (writer, reader) = (new_writer, new_reader);
                }
                (_, Meaning::Append(batch)) => {
                    writer.append(&[&batch]).unwrap();
                    batch.records.iter().for_each(|record| naive.apply(record));
                }
                (_, Meaning::Compact(group, index)) => {
                    writer.compact(group, index);
                    prop_assert!(writer.compaction_waits());
                    writer.append(&[]).unwrap();
                    naive.compact(group, index);
                }
                (_, Meaning::Nothing) => {}
            }
            prop_assert_eq!(naive.unreadable(&reader), None);
        }
    }

    #[test]
    fn any_bytes_as_a_segment_are_read_without_harm(
        noise in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40)
    ) {
        let disk = CrashFiles::new();
        let (mut writer, _, _) = open_log(&disk, None).unwrap();
        let mut naive = Naive::default();
        for size in [100, 700, 30] {
            append_entries(&mut writer, &mut naive, 1, size);
            writer.sync().unwrap();
        }
        let path = Path::new(DIR).join(segment_name(1));
        let mut bytes = disk.content(&path).unwrap();
        for (at, byte) in noise {
            let at = at.index(7000);
            bytes[at] = byte;
        }
        disk.replace(&path, &bytes);
        disk.kill();
        let opened = open_log(&disk, None);
        let harmless = matches!(opened, Ok(_) | Err(LogError::Damaged { .. }));
        prop_assert!(harmless, "{:?}", opened.err());
    }
}

#[test]
fn an_entry_costs_twelve_bytes_of_index() {
    assert_eq!(size_of::<index::Place>(), 12);
}

#[test]
fn reads_are_bounded_and_say_what_is_gone() {
    let disk = CrashFiles::new();
    let (mut writer, reader, recovered) = open_log(&disk, None).unwrap();
    assert_eq!((recovered.groups, recovered.log_bytes), (vec![], 0));
    assert!(disk.everything().is_empty(), "opening made a file");
    let data: [&[u8]; 4] = [b"aaaa", b"bbbb", b"cccc", b""];
    writer.append(&[&Batch { records: entries(1, 1, 3, &data) }]).unwrap();
    let count =
        |from, to, max_bytes| reader.read(G1, Index(from), Index(to), max_bytes).map(|entries| entries.len());
    assert_eq!(count(1, 5, usize::MAX).unwrap(), 4);
    assert_eq!(count(1, 5, 0).unwrap(), 1);
    assert_eq!(count(1, 5, 80).unwrap(), 2);
    assert_eq!(count(2, 4, 200).unwrap(), 2);
    assert_eq!(count(5, 9, 100).unwrap(), 0);
    assert_eq!(count(4, 2, 100).unwrap(), 0);
    assert!(matches!(
        reader.read(GroupId(9), Index(1), Index(2), 1),
        Err(LogError::UnknownGroup { group: GroupId(9) })
    ));
    writer.compact(G1, Index(2));
    assert_eq!(count(2, 5, 200).unwrap(), 3, "a compaction took effect before it was recorded");
    writer.append(&[]).unwrap();
    assert!(matches!(count(2, 5, 100), Err(LogError::Compacted { index: Index(2), .. })));
    assert_eq!(count(3, 5, 200).unwrap(), 2);
    assert_eq!(reader.term(G1, Index(2)), Some(Term(3)));
    assert_eq!(reader.term(G1, Index(1)), None);
}

#[test]
#[should_panic(expected = "asked to append what cannot be")]
fn a_gap_is_a_bug() {
    let disk = CrashFiles::new();
    let (mut writer, _, _) = open_log(&disk, None).unwrap();
    let _ = writer.append(&[&Batch { records: entries(1, 2, 1, &[b"x"]) }]);
}

#[test]
fn a_round_is_one_write_and_one_sync() {
    let disk = CrashFiles::new();
    let (mut writer, _, _) = open_log(&disk, None).unwrap();
    append_entries(&mut writer, &mut Naive::default(), 1, 10);
    writer.sync().unwrap();
    let before = disk.operations();
    let batches = [entries(1, 2, 1, &[b"a", b"b"]), entries(2, 1, 1, &[b"c"]), entries(3, 1, 1, &[b"d"])];
    let batches = batches.map(|records| Batch { records });
    writer.append(&batches.each_ref()).unwrap();
    writer.sync().unwrap();
    writer.sync().unwrap();
    writer.append(&[]).unwrap();
    assert_eq!(disk.operations() - before, 2);
}

#[test]
fn a_batch_larger_than_a_segment_gets_its_own() {
    let disk = CrashFiles::new();
    let (mut writer, reader, _) = open_log(&disk, None).unwrap();
    let mut naive = Naive::default();
    for size in [10, 100_000, 10, 50_000, 10] {
        append_entries(&mut writer, &mut naive, 1, size);
        writer.sync().unwrap();
    }
    assert_eq!(naive.unreadable(&reader), None);
    let lengths: Vec<usize> = disk.everything().values().map(Vec::len).collect();
    assert!(lengths.iter().any(|length| *length > 100_000) && lengths.contains(&(16 << 10)), "{lengths:?}");
    disk.crash(1);
    let (_, reader, recovered) = open_log(&disk, None).unwrap();
    assert_eq!(naive.difference(&recovered.groups, &reader), None);
}

#[test]
fn too_much_is_refused_before_anything_is_written() {
    let disk = CrashFiles::new();
    let (mut writer, _, _) = open_log(&disk, None).unwrap();
    let data = vec![0; MAX_ENTRY_BYTES + 1];
    let batch = Batch { records: entries(1, 1, 1, &[&data]) };
    assert!(matches!(writer.append(&[&batch]), Err(LogError::TooLarge { .. })));
    assert!(disk.everything().is_empty());
    writer.append(&[&Batch { records: entries(1, 1, 1, &[b"x"]) }]).unwrap();
}

#[test]
fn the_oldest_segment_is_due_and_goes_when_nobody_needs_it() {
    let disk = CrashFiles::new();
    let (mut writer, reader, _) = open_log(&disk, None).unwrap();
    let mut naive = Naive::default();
    append_entries(&mut writer, &mut naive, 2, 10);
    while writer.segment_due().is_none() {
        assert!(writer.log_bytes() <= 4 * SMALL, "nothing is due");
        append_entries(&mut writer, &mut naive, 1, 3000);
        writer.sync().unwrap();
    }
    assert_eq!(writer.segment_due(), None, "said twice");
    let bytes = writer.log_bytes();
    let highest = reader.bounds(G1).unwrap().1;
    // Both groups have something in it: it stays until both let go.
    for (group, index, freed) in [(G1, highest, 0), (GroupId(2), Index(1), bytes - SMALL)] {
        writer.compact(group, index);
        writer.append(&[]).unwrap();
        assert_eq!(writer.log_bytes(), bytes, "freed before the compaction was synced");
        writer.sync().unwrap();
        naive.compact(group, index);
        assert_eq!(writer.log_bytes(), bytes - freed, "after group {group}");
    }
    let spares = || {
        let names = disk.list(Path::new(DIR)).unwrap();
        let spares = names.iter().filter(|name| name.starts_with("spare-")).count();
        (names.len(), spares)
    };
    assert_eq!(spares(), (4, 3));
    assert!(writer.surplus(false).is_none());
    disk.crash(4);
    let (mut writer, reader, recovered) = open_log(&disk, None).unwrap();
    assert_eq!(naive.difference(&recovered.groups, &reader), None);
    // The spares are used again, whatever is in them.
    (0..20).for_each(|_| append_entries(&mut writer, &mut naive, 1, 3000));
    writer.sync().unwrap();
    assert!(disk.list(Path::new(DIR)).unwrap().iter().all(|name| !name.starts_with("spare-")));
    disk.crash(5);
    let (_, reader, recovered) = open_log(&disk, Some(writer.synced_point())).unwrap();
    assert_eq!(naive.difference(&recovered.groups, &reader), None);
}

#[test]
fn the_log_is_due_by_the_highest_index_of_each_group_in_its_oldest_segment() {
    let disk = CrashFiles::new();
    let (mut writer, _, _) = open_log(&disk, None).unwrap();
    let mut naive = Naive::default();
    for (group, count) in [(1, 2), (2, 1), (1, 100)] {
        for _ in 0..count {
            append_entries(&mut writer, &mut naive, group, 3000);
            writer.sync().unwrap();
            if let Some(due) = writer.segment_due() {
                // 16 KiB less the header's page hold three batches of 3,000 bytes.
                assert_eq!(due, [(G1, Index(2)), (GroupId(2), Index(1))]);
                return;
            }
        }
    }
    panic!("nothing was due");
}

#[test]
fn a_segment_that_is_read_is_not_used_again() {
    let disk = CrashFiles::new();
    let (mut writer, reader, _) = open_log(&disk, None).unwrap();
    let mut naive = Naive::default();
    let oldest = |reader: &LogReader| reader.shared_segments().first().cloned();
    append_entries(&mut writer, &mut naive, 1, 3000);
    let held = oldest(&reader).unwrap();
    let mut before = vec![0; usize::try_from(held.length).unwrap()];
    for _ in 0..60 {
        append_entries(&mut writer, &mut naive, 1, 3000);
        let last = reader.bounds(G1).unwrap().1;
        writer.compact(G1, last);
        naive.compact(G1, last);
        writer.append(&[]).unwrap();
        writer.sync().unwrap();
        if oldest(&reader).is_none_or(|segment| segment.generation != held.generation)
            && before.iter().all(|byte| *byte == 0)
        {
            held.file.read_at(0, &mut before).unwrap();
        }
    }
    let mut after = vec![0; before.len()];
    held.file.read_at(0, &mut after).unwrap();
    assert!(before == after && before.iter().any(|byte| *byte != 0), "written over while being read");
    assert!(writer.synced_point().generation > 10);
}

#[test]
fn readers_on_other_threads_see_whole_entries_while_segments_are_used_again() {
    let disk = CrashFiles::new();
    let (mut writer, reader, _) = open_log(&disk, None).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut reads = 0;
                while !done.load(relaxed) || reads == 0 {
                    let Some((first, last)) = reader.bounds(G1) else { continue };
                    match reader.read(G1, first, last.next(), 10_000) {
                        Ok(entries) => {
                            for (index, entry) in (first.0..).zip(entries) {
                                assert_eq!(entry.index, Index(index));
                                assert_eq!(entry.data, format!("entry {index} ").repeat(100));
                            }
                            reads += 1;
                        }
                        Err(LogError::Compacted { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        for index in 1..600 {
            let data = format!("entry {index} ").repeat(100);
            writer.append(&[&Batch { records: entries(1, index, 1, &[data.as_bytes()]) }]).unwrap();
            writer.sync().unwrap();
            if index % 7 == 0 {
                writer.compact(G1, Index(index - 3));
            }
        }
        done.store(true, relaxed);
    });
    assert!(writer.synced_point().generation > 20);
}

#[test]
fn a_full_disk_takes_the_reserve_then_smaller_segments_then_ends_the_writer() {
    let disk = CrashFiles::new();
    disk.create_dir(Path::new("/store")).unwrap();
    let reserve = Arc::new(Reserve::open(Arc::new(disk.clone()), PathBuf::from("/store"), SMALL).unwrap());
    let (mut writer, reader, _) = open_log(&disk, None).unwrap();
    writer.use_reserve(Arc::clone(&reserve));
    disk.set_capacity(2 * SMALL + 9000);
    assert!(reserve.restore().unwrap());
    let mut naive = Naive::default();
    while reserve.is_held() {
        append_entries(&mut writer, &mut naive, 1, 3000);
        writer.sync().unwrap();
    }
    assert_eq!(writer.log_bytes(), 2 * SMALL);
    // The usual size does not fit any more; a smaller segment does.
    while writer.log_bytes() == 2 * SMALL {
        append_entries(&mut writer, &mut naive, 1, 100);
        writer.sync().unwrap();
    }
    let error = loop {
        let last = reader.bounds(G1).unwrap().1;
        if let Err(error) = writer.append(&[&Batch { records: entries(1, last.0 + 1, 9, &[b"more"]) }]) {
            break error;
        }
    };
    assert!(matches!(error, LogError::File(FileError::Full { .. })), "{error}");
    assert!(matches!(writer.sync(), Err(LogError::Stopped(_))));
    let last = reader.bounds(G1).unwrap().1;
    disk.kill();
    let (_, reader, _) = open_log(&disk, None).unwrap();
    assert_eq!(reader.bounds(G1).unwrap().1, last);
}

#[test]
fn a_torn_batch_goes_as_a_whole_and_is_reported() {
    let disk = CrashFiles::new();
    let (mut writer, _, _) = open_log(&disk, None).unwrap();
    let mut naive = Naive::default();
    append_entries(&mut writer, &mut naive, 1, 100);
    writer.sync().unwrap();
    let end = writer.synced_point();
    let path = Path::new(DIR).join(segment_name(1));
    let records = [entries(1, 2, 1, &[&[1; 2000]]), entries(2, 1, 1, &[&[2; 2000]])].concat();
    writer.append(&[&Batch { records }]).unwrap();
    let mut bytes = disk.content(&path).unwrap();
    bytes[usize::try_from(end.offset).unwrap() + 3000] ^= 1;
    disk.replace(&path, &bytes);
    disk.kill();
    let (mut writer, reader, recovered) = open_log(&disk, Some(end)).unwrap();
    assert_eq!(naive.difference(&recovered.groups, &reader), None);
    let torn = recovered.torn.unwrap();
    assert_eq!((torn.generation, torn.offset), (1, end.offset));
    assert!(torn.bytes > 4000 && torn.to_string().contains("torn batch"), "{torn}");
    // What is written next takes its place.
    append_entries(&mut writer, &mut naive, 1, 100);
    writer.sync().unwrap();
    disk.kill();
    let (_, reader, recovered) = open_log(&disk, Some(end)).unwrap();
    assert_eq!((naive.difference(&recovered.groups, &reader), recovered.torn), (None, None));
    // The same tail, had the stamp said that it was synced, would have been damage.
    disk.replace(&path, &bytes);
    let after = SyncedPoint { offset: end.offset + 1, ..end };
    assert!(matches!(open_log(&disk, Some(after)), Err(LogError::Damaged { .. })));
}

#[test]
fn a_later_format_is_told_apart() {
    let disk = CrashFiles::new();
    let (mut writer, _, _) = open_log(&disk, None).unwrap();
    append_entries(&mut writer, &mut Naive::default(), 1, 100);
    let path = Path::new(DIR).join(segment_name(1));
    let mut bytes = disk.content(&path).unwrap();
    for format in [1, 3] {
        bytes[8] = format;
        bytes[64] ^= 1;
        disk.replace(&path, &bytes);
        assert!(
            matches!(open_log(&disk, None), Err(LogError::Damaged { .. })),
            "rot was taken for format {format}"
        );
        let crc = crc32fast::hash(&bytes[..64]).to_le_bytes();
        bytes[64..68].copy_from_slice(&crc);
        disk.replace(&path, &bytes);
        let opened = open_log(&disk, None).map(drop);
        assert!(
            matches!(opened, Err(LogError::OtherFormat { found, supported: 2 }) if found == u32::from(format)),
            "{opened:?}"
        );
    }
}

#[test]
fn a_failing_read_of_a_segment_is_damage() {
    let disk = CrashFiles::new();
    let (mut writer, _, _) = open_log(&disk, None).unwrap();
    append_entries(&mut writer, &mut Naive::default(), 1, 100);
    disk.fail_after(Operation::Read, 1, Fault::Io);
    assert!(matches!(open_log(&disk, None), Err(LogError::Damaged { .. })));
}

#[test]
fn inspecting_writes_nothing() {
    let disk = CrashFiles::new();
    let (mut writer, _, _) = open_log(&disk, None).unwrap();
    let mut naive = Naive::default();
    append_entries(&mut writer, &mut naive, 1, 100);
    let operations = disk.operations();
    let (reader, recovered) = inspect(&disk, Path::new(DIR), config().store, None).unwrap();
    assert_eq!(naive.difference(&recovered.groups, &reader), None);
    assert_eq!(disk.operations(), operations);
}

#[test]
fn the_log_on_the_real_disk() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("log");
    let mut naive = Naive::default();
    let mut point = None;
    for round in 0..4 {
        let (mut writer, reader, recovered) = open(Arc::new(RealFiles), &dir, config(), point).unwrap();
        assert_eq!(naive.difference(&recovered.groups, &reader), None, "round {round}");
        for number in 0..30 {
            append_entries(&mut writer, &mut naive, 1 + number % 2, 1000);
            writer.sync().unwrap();
        }
        let last = reader.bounds(G1).unwrap().1;
        writer.compact(G1, last);
        naive.compact(G1, last);
        let last = reader.bounds(GroupId(2)).unwrap().1;
        writer.compact(GroupId(2), Index(last.0 - 3));
        naive.compact(GroupId(2), Index(last.0 - 3));
        writer.append(&[]).unwrap();
        writer.sync().unwrap();
        assert_eq!(naive.unreadable(&reader), None);
        point = Some(writer.synced_point());
    }
    assert!(point.unwrap().generation > 5);
}

#[test]
fn an_ordered_spare_becomes_the_next_segment() {
    let disk = CrashFiles::new();
    let (mut writer, _, _) = open_log(&disk, None).unwrap();
    assert!(writer.order_spare().is_none(), "nothing is written before the first append");
    let mut naive = Naive::default();
    append_entries(&mut writer, &mut naive, 1, 3000);
    let order = writer.order_spare().expect("there is no spare");
    assert!(writer.order_spare().is_none(), "one is being made");
    order.make().unwrap();
    writer.spare_made(&order, true);
    assert!(writer.order_spare().is_none(), "one is there");
    for _ in 0..4 {
        append_entries(&mut writer, &mut naive, 1, 3000);
    }
    writer.sync().unwrap();
    assert!(writer.order_spare().is_some(), "the spare has become a segment");
    drop(writer);
    disk.kill();
    let (_, reader, recovered) = open_log(&disk, None).unwrap();
    assert_eq!(naive.difference(&recovered.groups, &reader), None);
}

#[test]
fn files_beyond_what_may_be_kept_are_removed_and_all_when_there_is_no_room() {
    let disk = CrashFiles::new();
    let (mut writer, _, _) = open_log(&disk, None).unwrap();
    let mut naive = Naive::default();
    let spares = || {
        let names = disk.list(Path::new(DIR)).unwrap();
        names.iter().filter(|name| name.starts_with("spare-")).count()
    };
    // Eight segments, all but the last retired at once.
    while writer.log_bytes() < 8 * SMALL {
        append_entries(&mut writer, &mut naive, 1, 3000);
    }
    let last = naive.groups[&G1].last();
    writer.compact(G1, last);
    writer.append(&[]).unwrap();
    writer.sync().unwrap();
    assert_eq!((writer.log_bytes(), spares()), (SMALL, 7));
    writer.surplus(false).expect("more than may be kept").remove().unwrap();
    assert_eq!(spares(), 4, "log_retain is three segments, two more may be kept, and one is in use");
    writer.surplus(true).expect("there is no room").remove().unwrap();
    assert_eq!(spares(), 0);
    append_entries(&mut writer, &mut naive, 10, 3000);
    writer.sync().unwrap();
}

#[test]
fn a_segment_begun_unfilled_is_left_for_a_spare_by_a_small_batch_and_not_used_again() {
    let disk = CrashFiles::new();
    let (mut writer, _, _) = {
        let files: Arc<dyn Files> = Arc::new(disk.clone());
        open(files, Path::new(DIR), LogConfig { fill: true, ..config() }, None).unwrap()
    };
    let mut naive = Naive::default();
    // The second segment is made without time to fill it.
    while writer.synced_point().generation < 2 {
        append_entries(&mut writer, &mut naive, 1, 3000);
        writer.sync().unwrap();
    }
    let order = writer.order_spare().expect("there is no spare");
    order.make().unwrap();
    writer.spare_made(&order, true);
    append_entries(&mut writer, &mut naive, 1, 10);
    writer.sync().unwrap();
    assert_eq!(writer.synced_point().generation, 3, "the spare is filled");
    let last = naive.groups[&G1].last();
    writer.compact(G1, last);
    writer.append(&[]).unwrap();
    writer.sync().unwrap();
    let surplus = writer.surplus(false).expect("a file with reserved blocks is not worth keeping");
    assert_eq!(format!("{surplus:?}"), "spares [2]");
    surplus.remove().unwrap();
    disk.crash(7);
    let (_, reader, recovered) = open_log(&disk, None).unwrap();
    naive.compact(G1, last);
    assert_eq!(naive.difference(&recovered.groups, &reader), None);
}

#[test]
fn a_spare_that_could_not_be_made_is_ordered_again() {
    let disk = CrashFiles::new();
    let (mut writer, _, _) = open_log(&disk, None).unwrap();
    append_entries(&mut writer, &mut Naive::default(), 1, 100);
    let order = writer.order_spare().unwrap();
    disk.set_capacity(0);
    assert!(order.make().is_err());
    writer.spare_made(&order, false);
    assert!(writer.order_spare().is_some());
}

#[test]
fn an_idle_segment_is_named_once_and_before_one_that_is_due() {
    let disk = CrashFiles::new();
    let usual = config();
    let keep = LogConfig { log_keep: usual.segment_bytes, log_retain: usual.segment_bytes * 3, ..usual };
    let files: Arc<dyn Files> = Arc::new(disk);
    let (mut writer, _, _) = open(Arc::clone(&files), Path::new("/log"), keep, None).unwrap();
    let mut naive = Naive::default();
    while writer.log_bytes() <= keep.log_keep {
        append_entries(&mut writer, &mut naive, 1, 3000);
    }
    assert!(writer.segment_idle().is_some());
    assert!(writer.segment_idle().is_none(), "said once");
    assert!(writer.segment_due().is_none(), "not due yet");
    while writer.log_bytes() <= keep.log_retain {
        append_entries(&mut writer, &mut naive, 1, 3000);
    }
    assert!(writer.segment_due().is_some());
}
