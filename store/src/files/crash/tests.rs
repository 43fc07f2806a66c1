use std::collections::BTreeSet;

use super::*;

fn disk_with(name: &str, bytes: &[u8]) -> (CrashFiles, Arc<dyn OpenFile>) {
    let files = CrashFiles::new();
    files.create_dir(Path::new("/d")).unwrap();
    let file = files.create(&Path::new("/d").join(name)).unwrap();
    file.write_at(0, bytes).unwrap();
    file.sync().unwrap();
    files.sync_dir(Path::new("/d")).unwrap();
    (files, file)
}

#[test]
fn what_was_synced_survives_every_crash() {
    for seed in 0..200 {
        let (files, file) = disk_with("x", b"synced");
        file.write_at(6, &[7; 2000]).unwrap();
        files.crash(seed);
        let content = files.content(Path::new("/d/x")).unwrap();
        assert_eq!(&content[..6], b"synced", "seed {seed}");
        assert!(file.length().is_err(), "a handle of an earlier life works");
    }
}

#[test]
fn the_unsynced_ends_in_many_ways_and_the_same_way_for_the_same_seed() {
    let mut endings = BTreeSet::new();
    for seed in 0..200 {
        let (files, file) = disk_with("x", &[1; 3000]);
        file.write_at(100, &[2; 2500]).unwrap();
        let twin = files.fork();
        files.crash(seed);
        twin.crash(seed);
        assert_eq!(files.everything(), twin.everything(), "seed {seed}");
        endings.insert(files.content(Path::new("/d/x")).unwrap());
    }
    assert!(endings.contains(&vec![1; 3000]), "never lost whole");
    assert!(endings.iter().any(|content| content[100..2600] == [2; 2500]), "never kept whole");
    assert!(endings.iter().any(|content| content[100] == 1 && content[2599] == 2), "no hole in front");
    assert!(endings.len() > 20, "only {} endings", endings.len());
}

#[test]
fn names_become_durable_by_sync_dir_only() {
    let mut found = BTreeSet::new();
    for seed in 0..100 {
        let (files, _) = disk_with("old", b"1");
        files.rename(Path::new("/d/old"), Path::new("/d/new")).unwrap();
        let synced = files.fork();
        synced.sync_dir(Path::new("/d")).unwrap();
        synced.crash(seed);
        assert_eq!(synced.list(Path::new("/d")).unwrap(), ["new"]);
        files.crash(seed);
        found.insert(files.list(Path::new("/d")).unwrap());
    }
    assert_eq!(found, BTreeSet::from([vec!["old".to_owned()], vec!["new".to_owned()]]));
}

#[test]
fn a_failed_sync_is_forgotten_by_the_next() {
    let (files, file) = disk_with("x", b"old");
    file.write_at(0, b"new").unwrap();
    files.fail_after(Operation::Sync, 0, Fault::Io);
    assert!(matches!(file.sync(), Err(FileError::Io { .. })));
    file.sync().unwrap();
    assert_eq!(files.content(Path::new("/d/x")).unwrap(), b"new");
    files.crash(1);
    assert_eq!(files.content(Path::new("/d/x")).unwrap(), b"old");
}

#[test]
fn capacity_and_locks() {
    let (files, file) = disk_with("x", b"1234");
    files.set_capacity(10);
    assert_eq!(files.free_space(Path::new("/d")).unwrap(), 6);
    assert!(matches!(file.preallocate(11), Err(FileError::Full { .. })));
    file.preallocate(10).unwrap();
    files.set_capacity(20);
    let lock = files.lock(Path::new("/d/lock"), 9).unwrap();
    assert!(matches!(files.lock(Path::new("/d/lock"), 8), Err(FileError::Locked { holder: Some(9), .. })));
    drop(lock);
    let _lock = files.lock(Path::new("/d/lock"), 8).unwrap();
    files.kill();
    files.lock(Path::new("/d/lock"), 7).unwrap();
}

#[test]
fn a_cut_stops_everything() {
    let (files, file) = disk_with("x", b"1");
    files.cut_power_at(2);
    file.write_at(0, b"2").unwrap();
    assert!(file.sync().is_err());
    assert!(files.is_off() && file.length().is_err() && files.list(Path::new("/d")).is_err());
    files.crash(0);
    assert!(!files.is_off());
    files.open(Path::new("/d/x")).unwrap();
}

#[test]
fn a_link_is_another_name_of_the_same_file() {
    let files = CrashFiles::new();
    files.create_dir(Path::new("/d")).unwrap();
    crate::files::tests::links_and_directories(&files, Path::new("/d"));
}

#[test]
fn a_link_is_durable_after_sync_dir_only_and_shares_what_becomes_of_the_content() {
    let mut found = BTreeSet::new();
    for seed in 0..100 {
        let (files, file) = disk_with("x", b"1");
        files.create_dir(Path::new("/e")).unwrap();
        files.link(Path::new("/d/x"), Path::new("/e/y")).unwrap();
        let synced = files.fork();
        synced.sync_dir(Path::new("/e")).unwrap();
        synced.remove(Path::new("/d/x")).unwrap();
        synced.sync_dir(Path::new("/d")).unwrap();
        synced.crash(seed);
        assert_eq!(synced.content(Path::new("/e/y")).unwrap(), b"1");
        file.write_at(0, b"2").unwrap();
        files.crash(seed);
        let (x, y) = (files.content(Path::new("/d/x")), files.content(Path::new("/e/y")));
        assert!(y.is_none() || x == y, "one file has two contents");
        found.insert(y.is_some());
    }
    assert_eq!(found, BTreeSet::from([false, true]));
}

#[test]
fn a_directory_moves_whole_and_what_was_not_synced_in_it_may_still_be_lost() {
    let mut found = BTreeSet::new();
    for seed in 0..200 {
        let files = CrashFiles::new();
        files.create_dir(Path::new("/d/a")).unwrap();
        files.create(Path::new("/d/a/x")).unwrap();
        files.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
        let synced = files.fork();
        synced.sync_dir(Path::new("/d")).unwrap();
        synced.crash(seed);
        assert_eq!(synced.list(Path::new("/d")).unwrap(), ["b"]);
        found.insert(synced.list(Path::new("/d/b")).unwrap());
        files.crash(seed);
        assert_eq!(files.list(Path::new("/d")).unwrap().len(), 1);
    }
    assert_eq!(found, BTreeSet::from([vec![], vec!["x".to_owned()]]));
}
