//! Bytes that change by themselves.

use std::path::{Path, PathBuf};

use super::workload::Naive;
use super::{DIR, append_entries, entries, open_log};
use crate::files::Files;
use crate::files::crash::{CrashFiles, Fault, Operation};
use crate::log::segments::segment_name;
use crate::log::{LogError, SyncedPoint};
use crate::record::Batch;

/// A log of several segments, with what it must hold, and held before its last batch.
struct Golden {
    disk: CrashFiles,
    point: SyncedPoint,
    whole: Naive,
    before_last: Naive,
    last_batch: SyncedPoint,
}

fn golden() -> Golden {
    let disk = CrashFiles::new();
    let (mut writer, _, _) = open_log(&disk, None).unwrap();
    let mut whole = Naive::default();
    let (mut before_last, mut last_batch) = (whole.clone(), writer.synced_point());
    for number in 0..16 {
        before_last = whole.clone();
        last_batch = writer.synced_point();
        append_entries(&mut writer, &mut whole, u32::try_from(number % 2).unwrap(), 1500 + number);
        writer.sync().unwrap();
    }
    let point = writer.synced_point();
    assert!(point.generation == 3 && last_batch.generation == 3);
    disk.kill();
    Golden { disk, point, whole, before_last, last_batch }
}

enum Found {
    Same,
    WithoutLast,
    Damaged,
}

/// What a log is found to be; anything but the same, a cut last batch, or damage is silent corruption.
fn look(golden: &Golden, disk: &CrashFiles, stamp: Option<SyncedPoint>, what: &str) -> Found {
    match open_log(disk, stamp) {
        Err(LogError::Damaged { .. }) => Found::Damaged,
        Err(error) => panic!("{what}: {error}"),
        Ok((_, reader, recovered)) => {
            if golden.whole.difference(&recovered.groups, &reader).is_none() {
                return Found::Same;
            }
            let difference = golden.before_last.difference(&recovered.groups, &reader);
            assert_eq!(difference, None, "{what}: opened with other content");
            Found::WithoutLast
        }
    }
}

fn path(generation: u64) -> PathBuf {
    Path::new(DIR).join(segment_name(generation))
}

#[test]
fn a_flipped_bit_in_the_synced_part_is_damage() {
    let golden = golden();
    let mut damages = 0;
    for generation in 1..=3 {
        let content = golden.disk.content(&path(generation)).unwrap();
        let end = if generation == 3 { golden.point.offset } else { content.len() as u64 };
        // Every byte where the structure is, some of the payloads.
        let places = (0..100).chain(4096..4300).chain((4300..end).step_by(13));
        for at in places.chain(golden.last_batch.offset..golden.last_batch.offset + 100) {
            let what = format!("segment {generation} byte {at}");
            let disk = golden.disk.fork();
            let mut bytes = content.clone();
            bytes[usize::try_from(at).unwrap()] ^= 1 << (at % 8);
            disk.replace(&path(generation), &bytes);
            let before = disk.everything();
            match look(&golden, &disk, Some(golden.point), &what) {
                Found::Same => {}
                Found::Damaged => damages += 1,
                Found::WithoutLast => panic!("{what}: a synced batch was cut"),
            }
            assert_eq!(disk.everything(), before, "{what}: opening changed a byte");
            // Without a stamp only the very last batch can be taken for torn.
            let is_last = generation == 3 && at >= golden.last_batch.offset;
            if let Found::WithoutLast = look(&golden, &disk, None, &what) {
                assert!(is_last, "{what}: a batch that others follow was cut");
            }
        }
    }
    assert!(damages > 2500, "only {damages} damages");
}

/// The next segment's header alone says that the segment was synced to its end.
#[test]
fn a_bad_last_batch_of_a_closed_segment_is_damage() {
    let disk = CrashFiles::new();
    let (mut writer, _, _) = open_log(&disk, None).unwrap();
    let mut naive = Naive::default();
    for _ in 0..3 {
        append_entries(&mut writer, &mut naive, 1, 3000);
        writer.sync().unwrap();
    }
    let end = usize::try_from(writer.synced_point().offset).unwrap();
    // Before the batch, segment 2 gets its header.
    disk.fail_after(Operation::Write, 1, Fault::Io);
    assert!(writer.append(&[&Batch { records: entries(1, 4, 1, &[&[7; 3000]]) }]).is_err());
    disk.kill();
    let (_, reader, recovered) = open_log(&disk, None).unwrap();
    assert_eq!((naive.difference(&recovered.groups, &reader), recovered.end.generation), (None, 2));
    for at in [end - 3500, end - 1000] {
        let disk = disk.fork();
        let mut bytes = disk.content(&path(1)).unwrap();
        bytes[at] ^= 1;
        disk.replace(&path(1), &bytes);
        assert!(matches!(open_log(&disk, None), Err(LogError::Damaged { generation: 1, .. })), "byte {at}");
    }
}

#[test]
fn blocks_that_are_lost_or_misplaced_are_damage() {
    let golden = golden();
    let block = 4096;
    for generation in 1..=3_u64 {
        let content = golden.disk.content(&path(generation)).unwrap();
        let blocks = content.len() / block;
        for target in 0..blocks {
            let mut sources: Vec<Vec<u8>> = vec![vec![0; block], vec![0xff; block]];
            sources.extend((0..blocks).map(|source| content[source * block..(source + 1) * block].to_vec()));
            let other = golden.disk.content(&path(generation % 3 + 1)).unwrap();
            sources.push(other[target * block..(target + 1) * block].to_vec());
            for (number, source) in sources.iter().enumerate() {
                let disk = golden.disk.fork();
                let mut bytes = content.clone();
                bytes[target * block..(target + 1) * block].copy_from_slice(source);
                disk.replace(&path(generation), &bytes);
                let what = format!("segment {generation} block {target} source {number}");
                let found = look(&golden, &disk, Some(golden.point), &what);
                assert!(!matches!(found, Found::WithoutLast), "{what}: a synced batch was cut");
            }
        }
    }
}

#[test]
fn files_that_are_missing_cut_swapped_or_doubled_are_damage() {
    let golden = golden();
    let damaged = |disk: &CrashFiles, what: &str| {
        assert!(matches!(look(&golden, disk, Some(golden.point), what), Found::Damaged), "{what}");
    };
    for generation in 1..=3_u64 {
        let content = golden.disk.content(&path(generation)).unwrap();
        let disk = golden.disk.fork();
        disk.remove(&path(generation)).unwrap();
        damaged(&disk, &format!("segment {generation} is missing"));
        for length in [0, 1, 511, 4096, content.len() - 4096, content.len() - 1] {
            let disk = golden.disk.fork();
            disk.replace(&path(generation), &content[..length]);
            damaged(&disk, &format!("segment {generation} is cut to {length}"));
        }
        let other = golden.disk.content(&path(generation % 3 + 1)).unwrap();
        let disk = golden.disk.fork();
        disk.replace(&path(generation), &other);
        damaged(&disk, &format!("segment {generation} is another"));
    }
    let disk = golden.disk.fork();
    disk.replace(&path(4), &golden.disk.content(&path(3)).unwrap());
    damaged(&disk, "a copy of segment 3 as segment 4");
    let disk = golden.disk.fork();
    (1..=3).for_each(|generation| disk.remove(&path(generation)).unwrap());
    damaged(&disk, "nothing is left");
}

#[test]
fn a_bad_record_is_found_when_it_is_read_too() {
    let golden = golden();
    let disk = golden.disk.fork();
    let (mut writer, reader, _) = open_log(&disk, Some(golden.point)).unwrap();
    writer.append(&[&Batch { records: entries(5, 1, 1, &[b"needle in the log"]) }]).unwrap();
    let mut bytes = disk.content(&path(3)).unwrap();
    let at = bytes.windows(6).position(|window| window == b"needle").unwrap();
    bytes[at] ^= 1;
    disk.replace(&path(3), &bytes);
    let read = reader.read(crate::ids::GroupId(5), crate::ids::Index(1), crate::ids::Index(2), 100);
    assert!(matches!(read, Err(LogError::Damaged { generation: 3, .. })), "{read:?}");
}

#[test]
fn an_earlier_state_of_the_newest_segment_is_noticed_by_the_stamp() {
    let golden = golden();
    let disk = golden.disk.fork();
    let mut bytes = disk.content(&path(3)).unwrap();
    let from = usize::try_from(golden.last_batch.offset).unwrap();
    bytes[from..].fill(0);
    disk.replace(&path(3), &bytes);
    assert!(matches!(look(&golden, &disk, None, "no stamp"), Found::WithoutLast));
    assert!(matches!(look(&golden, &disk, Some(golden.point), "with a stamp"), Found::Damaged));
}
