//! An image stays as it was, whatever the log does afterwards.

use super::*;
use crate::log::{inspect, link_closed};

const IMAGE: &str = "/store/quarantine/image";

/// What `dir` must hold, to the entry.
fn assert_holds(disk: &CrashFiles, dir: &str, naive: &Naive, end: SyncedPoint) {
    let (reader, recovered) = inspect(disk, Path::new(dir), config().store, Some(end)).unwrap();
    assert_eq!(naive.difference(&recovered.groups, &reader), None);
    assert_eq!((recovered.end, recovered.torn), (end, None));
}

/// Rounds of appending and compacting, so that segments retire and are used again.
fn go_on(writer: &mut LogWriter, naive: &mut Naive, rounds: u32) {
    for _ in 0..rounds {
        append_entries(writer, naive, 1, 3000);
        writer.sync().unwrap();
        let last = naive.groups[&G1].last().0;
        if last > 12 {
            writer.compact(G1, Index(last - 12));
            writer.append(&[]).unwrap();
            writer.sync().unwrap();
            naive.compact(G1, Index(last - 12));
        }
    }
}

fn take(
    disk: &CrashFiles,
    writer: &mut LogWriter,
    dir: &str,
    between: impl FnOnce(&mut LogWriter),
) -> SyncedPoint {
    let tail = writer.link_into(Path::new(dir)).unwrap();
    let end = tail.end();
    between(writer);
    tail.copy(disk, Path::new(dir)).unwrap();
    end
}

#[test]
fn an_image_stays_as_it_was_over_restarts_and_segments_used_again() {
    let disk = CrashFiles::new();
    let (mut writer, _, _) = open_log(&disk, None).unwrap();
    let mut naive = Naive::default();
    go_on(&mut writer, &mut naive, 30);
    let (first, mut later) = (naive.clone(), naive.clone());
    // The tail is copied only after the log went on, over the end of the segment.
    let first_end = take(&disk, &mut writer, "/store/quarantine/1", |writer| go_on(writer, &mut later, 9));
    naive = later;
    let second = naive.clone();
    let second_end = take(&disk, &mut writer, "/store/quarantine/2", |_| {});
    let generation = writer.synced_point().generation;
    for _ in 0..4 {
        go_on(&mut writer, &mut naive, 25);
        let point = writer.synced_point();
        drop(writer);
        disk.kill();
        let (opened, reader, recovered) = open_log(&disk, Some(point)).unwrap();
        assert_eq!(naive.difference(&recovered.groups, &reader), None);
        writer = opened;
        assert_holds(&disk, "/store/quarantine/1", &first, first_end);
        assert_holds(&disk, "/store/quarantine/2", &second, second_end);
    }
    assert!(writer.synced_point().generation > generation + 10, "no segment was used again");
}

#[test]
fn an_image_of_a_log_without_segments_has_none() {
    let disk = CrashFiles::new();
    let (mut writer, _, _) = open_log(&disk, None).unwrap();
    let end = take(&disk, &mut writer, IMAGE, |_| {});
    assert_eq!(end, SyncedPoint::default());
    assert_holds(&disk, IMAGE, &Naive::default(), end);
    link_closed(&disk, Path::new("/none"), Path::new("/none-either")).unwrap();
}

#[test]
fn what_fails_in_an_image_does_not_stop_the_log() {
    let disk = CrashFiles::new();
    let (mut writer, _, _) = open_log(&disk, None).unwrap();
    let mut naive = Naive::default();
    go_on(&mut writer, &mut naive, 30);
    disk.fail_after(Operation::Link, 1, Fault::Full);
    assert!(matches!(writer.link_into(Path::new(IMAGE)), Err(LogError::File(FileError::Full { .. }))));
    go_on(&mut writer, &mut naive, 5);
    disk.fail_after(Operation::Sync, 0, Fault::Io);
    append_entries(&mut writer, &mut naive, 1, 10);
    assert!(writer.link_into(Path::new("/store/quarantine/other")).is_err());
    assert!(matches!(writer.sync(), Err(LogError::Stopped(_))), "a failed sync was forgotten");
}

#[test]
fn an_image_of_a_closed_log_is_opened_and_written_without_touching_it() {
    let disk = CrashFiles::new();
    let (mut writer, _, _) = open_log(&disk, None).unwrap();
    let mut naive = Naive::default();
    go_on(&mut writer, &mut naive, 30);
    let point = writer.synced_point();
    drop(writer);
    disk.kill();
    link_closed(&disk, Path::new(DIR), Path::new(IMAGE)).unwrap();
    let kept = naive.clone();
    let (mut writer, _, _) = open_log(&disk, Some(point)).unwrap();
    go_on(&mut writer, &mut naive, 60);
    assert_holds(&disk, IMAGE, &kept, point);
}
