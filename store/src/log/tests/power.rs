//! Power cuts at every file operation.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::workload::{Meaning, Naive, meaning, rolled_step};
use super::{SMALL, config, open_log};
use crate::files::crash::{CrashFiles, Fault, Operation};
use crate::log::Surplus;
use crate::log::{LogError, LogWriter, SyncedPoint};
use crate::record::Batch;

/// What a run of the workload came to.
struct Run {
    /// What the log must hold after each append that was started, the empty log first.
    states: Vec<Naive>,
    /// The latest of them that was synced.
    synced: usize,
    /// What the stamp would say.
    point: SyncedPoint,
    failed: bool,
}

/// Appends (sometimes several batches), compacts and syncs after each append, until something fails.
fn work(writer: &mut LogWriter, start: Naive, steps: u64, seed: u64) -> Run {
    let dice = &mut ChaCha8Rng::seed_from_u64(seed);
    let mut naive = start;
    let mut run = Run { states: vec![naive.clone()], synced: 0, point: writer.synced_point(), failed: false };
    for number in 0..steps {
        let mut batches = Vec::new();
        for _ in 0..=dice.next_u64() % 2 {
            match meaning(rolled_step(dice), &naive, seed * 1000 + number) {
                Meaning::Append(batch) => {
                    batch.records.iter().for_each(|record| naive.apply(record));
                    batches.push(batch);
                }
                // Only what was there before this round: its record goes first.
                Meaning::Compact(group, index) if batches.is_empty() => {
                    writer.compact(group, index);
                    naive.compact(group, index);
                }
                Meaning::Compact(..) | Meaning::Nothing => {}
            }
        }
        run.states.push(naive.clone());
        let batches: Vec<&Batch> = batches.iter().collect();
        if writer.append(&batches).and_then(|()| writer.sync()).is_err() {
            run.failed = true;
            return run;
        }
        run.synced = run.states.len() - 1;
        run.point = writer.synced_point();
        // What stays is a spare of the next run; if the medium failed, the next write tells.
        let _ = writer.surplus(dice.next_u64() % 16 == 0).map(Surplus::remove);
    }
    run
}

/// Opens after a crash and says which of the run's states is there. Panics if it is none that may be.
fn recover(disk: &CrashFiles, run: &Run, stamp: Option<SyncedPoint>, what: &str) -> (LogWriter, Naive) {
    let (writer, reader, recovered) = open_log(disk, stamp).unwrap_or_else(|error| panic!("{what}: {error}"));
    let possible = run.states.iter().enumerate().skip(run.synced);
    let mut differences = Vec::new();
    for (number, state) in possible {
        match state.difference(&recovered.groups, &reader) {
            None => {
                assert!(
                    number == run.synced || recovered.torn.is_none(),
                    "{what}: the last batch is there, and {:?} was cut",
                    recovered.torn
                );
                return (writer, state.clone());
            }
            Some(difference) => differences.push(difference),
        }
    }
    panic!("{what}: {differences:#?}")
}

#[test]
fn at_every_operation_and_again_in_what_follows() {
    let (mut states, mut torn) = (0, 0);
    for cut in 1.. {
        let disk = CrashFiles::new();
        let (mut writer, _, _) = open_log(&disk, None).unwrap();
        disk.cut_power_at(cut);
        let run = work(&mut writer, Naive::default(), 95, 1);
        if !run.failed {
            assert!(cut > 300, "only {cut} operations");
            break;
        }
        for seed in 0..5 {
            let what = format!("cut {cut} seed {seed}");
            let disk = disk.fork();
            disk.crash(seed);
            let stamp = (seed % 2 == 0).then_some(run.point);
            torn +=
                usize::from(open_log(&disk.fork(), stamp).is_ok_and(|(_, _, found)| found.torn.is_some()));
            // Power may go again while the log is being opened: nothing that was there may go with it.
            disk.cut_power_at(1 + seed % 3);
            drop(open_log(&disk, stamp));
            disk.crash(seed + 100);
            let (mut writer, start) = recover(&disk, &run, stamp, &what);
            disk.cut_power_at(1 + (cut * 7 + seed * 3) % 40);
            let again = work(&mut writer, start, 12, cut + seed);
            disk.crash(seed + 200);
            recover(&disk, &again, Some(again.point), &format!("{what}, again"));
            states += 1;
        }
    }
    assert!(states > 1500 && torn > 50, "only {states} states, {torn} with a torn tail");
}

#[test]
fn a_killed_process_loses_nothing_and_what_follows_is_durable() {
    for seed in 0..40 {
        let disk = CrashFiles::new();
        let (mut writer, _, _) = open_log(&disk, None).unwrap();
        let mut run = work(&mut writer, Naive::default(), 20, seed);
        // Appended, never synced, read from the cache by the next process, which may acknowledge it.
        let next = Naive::default();
        let batch = loop {
            let step = rolled_step(&mut ChaCha8Rng::seed_from_u64(seed + 5000 + run.states.len() as u64));
            if let Meaning::Append(batch) = meaning(step, run.states.last().unwrap_or(&next), 9) {
                break batch;
            }
            run.states.push(run.states.last().unwrap().clone());
        };
        let mut last = run.states.last().unwrap().clone();
        batch.records.iter().for_each(|record| last.apply(record));
        writer.append(&[&batch]).unwrap();
        disk.kill();
        run.states = vec![last];
        run.synced = 0;
        recover(&disk, &run, Some(run.point), "after the kill");
        disk.crash(seed);
        recover(&disk, &run, Some(run.point), "after the crash");
    }
}

#[test]
fn after_a_failed_sync_nothing_is_tried_and_the_next_process_writes_the_tail_again() {
    for seed in 0..40 {
        let disk = CrashFiles::new();
        let (mut writer, _, _) = open_log(&disk, None).unwrap();
        let run = work(&mut writer, Naive::default(), 10, seed);
        let mut last = run.states.last().unwrap().clone();
        let Meaning::Append(batch) =
            meaning(super::workload::Step::HardState { group: 1, commit: 7 }, &last, 99)
        else {
            unreachable!()
        };
        batch.records.iter().for_each(|record| last.apply(record));
        writer.append(&[&batch]).unwrap();
        disk.fail_after(Operation::Sync, 0, Fault::Io);
        assert!(matches!(writer.sync(), Err(LogError::File(_))));
        assert!(matches!(writer.sync(), Err(LogError::Stopped(_))));
        assert!(matches!(writer.append(&[&batch]), Err(LogError::Stopped(_))));
        // The cache still shows the batch, although the medium never got it and believes to be synced.
        disk.kill();
        let run = Run { states: vec![last], synced: 0, ..run };
        recover(&disk, &run, Some(run.point), "after the failed sync");
        disk.crash(seed);
        recover(&disk, &run, Some(run.point), "after the crash");
    }
}

#[test]
fn a_segment_whose_name_was_not_durable_is_not_built_upon() {
    for seed in 0..40 {
        let disk = CrashFiles::new();
        let (mut writer, _, _) = open_log(&disk, None).unwrap();
        // The first makes segment 1, the second is of segment 2 or of a retirement.
        disk.fail_after(Operation::SyncDir, 1, Fault::Io);
        let run = work(&mut writer, Naive::default(), 60, seed);
        assert!(run.failed);
        disk.kill();
        let (mut writer, start) = recover(&disk, &run, Some(run.point), "after the kill");
        let run = work(&mut writer, start, 3, seed + 1);
        disk.crash(seed);
        recover(&disk, &run, Some(run.point), "after the crash");
    }
}

#[test]
fn a_failure_of_any_operation_stops_the_writer_and_loses_nothing_synced() {
    let kinds = [
        Operation::Write,
        Operation::Sync,
        Operation::Preallocate,
        Operation::Create,
        Operation::Rename,
        Operation::Remove,
        Operation::SyncDir,
        Operation::CreateDir,
    ];
    let mut failures = 0;
    for kind in kinds {
        for after in 0..12 {
            let disk = CrashFiles::new();
            let (mut writer, _, _) = open_log(&disk, None).unwrap();
            let fault = if after % 2 == 0 { Fault::Io } else { Fault::Full };
            disk.fail_after(kind, after, fault);
            let run = work(&mut writer, Naive::default(), 60, 3);
            if !run.failed {
                continue;
            }
            failures += 1;
            assert!(matches!(writer.append(&[]), Err(LogError::Stopped(_))));
            disk.crash(after);
            recover(&disk, &run, Some(run.point), &format!("{kind:?} {after}"));
        }
    }
    assert!(failures > 40, "only {failures} failures");
}

/// Appends one hard state, which the states follow; not synced.
fn append_one(writer: &mut LogWriter, states: &mut Vec<Naive>, commit: u64) {
    let step = super::workload::Step::HardState { group: 1, commit };
    let mut next = states.last().unwrap().clone();
    let Meaning::Append(batch) = meaning(step, &next, commit) else { unreachable!() };
    batch.records.iter().for_each(|record| next.apply(record));
    writer.append(&[&batch]).unwrap();
    states.push(next);
}

/// A loss of power takes any of the batches that none was synced of; those behind the first that is gone count for nothing,
/// and never come back, whatever is written in its place.
#[test]
fn unsynced_appends_end_as_a_prefix() {
    let (mut whole, mut cut) = (0, 0);
    for seed in 0..300 {
        let disk = CrashFiles::new();
        let (mut writer, _, _) = open_log(&disk, None).unwrap();
        let run = work(&mut writer, Naive::default(), 5, seed);
        let mut states = vec![run.states.last().unwrap().clone()];
        (0..3).for_each(|commit| append_one(&mut writer, &mut states, commit));
        disk.crash(seed);
        let (mut writer, reader, recovered) = open_log(&disk, Some(run.point)).unwrap();
        let found = states.iter().position(|state| state.difference(&recovered.groups, &reader).is_none());
        let found = found.expect("what is found is a prefix");
        if found == 3 {
            whole += 1;
        } else if recovered.torn.is_some() {
            cut += 1;
        }
        // As many bytes in the place of what was cut, and the power goes again.
        states.truncate(found + 1);
        append_one(&mut writer, &mut states, 7);
        writer.sync().unwrap();
        let synced = states.len() - 1;
        append_one(&mut writer, &mut states, 8);
        disk.crash(seed + 1000);
        let (_, reader, recovered) = open_log(&disk, Some(run.point)).unwrap();
        let left = states.split_off(synced);
        assert!(left.iter().any(|state| state.difference(&recovered.groups, &reader).is_none()), "{seed}");
    }
    assert!(whole > 30 && cut > 30, "{whole} whole, {cut} cut");
}

/// What a process wrote and did not sync outlives it.
#[test]
fn unsynced_appends_outlive_the_process() {
    let disk = CrashFiles::new();
    let (mut writer, _, _) = open_log(&disk, None).unwrap();
    let run = work(&mut writer, Naive::default(), 5, 1);
    let mut states = vec![run.states.last().unwrap().clone()];
    (0..3).for_each(|commit| append_one(&mut writer, &mut states, commit));
    disk.kill();
    let (_, reader, recovered) = open_log(&disk, Some(run.point)).unwrap();
    assert_eq!(states.last().unwrap().difference(&recovered.groups, &reader), None);
    // What was found is synced by then.
    disk.crash(1);
    let (_, reader, recovered) = open_log(&disk, Some(run.point)).unwrap();
    assert_eq!(states.last().unwrap().difference(&recovered.groups, &reader), None);
}

#[test]
fn a_workload_recycles_its_segments() {
    let disk = CrashFiles::new();
    let (mut writer, _, _) = open_log(&disk, None).unwrap();
    let run = work(&mut writer, Naive::default(), 200, 1);
    assert!(!run.failed && run.point.generation > 8, "only {} segments", run.point.generation);
    assert!(disk.everything().len() < 8, "{:?}", disk.everything().keys());
    assert_eq!(config().segment_bytes, SMALL);
}
