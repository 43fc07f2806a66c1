//! The offline tool on whatever may be in a directory's place: it ends with one of its statuses, within its time and its
//! memory, says nothing that steers a terminal, and changes nothing.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quorate_store::ids::GroupId;
use quorate_store::stamp::Stamp;
use quorate_tests::process::directory::{copy_in_use, stamp};
use quorate_tests::process::full_disk::SmallDisk;
use quorate_tests::process::probe::{self, Fingerprint, MEMORY_MAX, Ran, TIME_MAX};
use quorate_tests::process::{Broker, Place, messages, programs};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde_json::Value;

const READING: [&[&str]; 6] = [
    &["inspect"],
    &["inspect", "-o", "json"],
    &["facts"],
    &["facts", "-o", "table"],
    &["verify"],
    &["export", "--list"],
];

fn tool(words: &[&str], paths: &[&Path]) -> Command {
    let mut command = programs::command("quorate");
    command.env_remove("RUST_BACKTRACE").arg("store").args(words).args(paths);
    command
}

/// What holds whatever is there.
fn check(what: &str, ran: &Ran) {
    let about = format!("{what}: {ran:?}");
    assert!(matches!(ran.status, Some(0..=3)), "{about}");
    assert!(!ran.err.contains("panicked"), "{about}");
    assert!(ran.time < TIME_MAX && ran.peak <= MEMORY_MAX, "{about}");
    let steers = |letter: char| letter.is_control() && letter != '\n' && letter != '\t';
    assert!(!ran.out.chars().chain(ran.err.chars()).any(steers), "{about}");
}

/// Runs every command that reads on these paths; none may change anything below `root`. Gives what `inspect` said.
fn look(what: &str, root: &Path, paths: &[&Path]) -> Value {
    let before = Fingerprint::of(root);
    let mut report = Value::Null;
    for words in READING {
        let paths = if words[0] == "inspect" { paths } else { &paths[..1] };
        let ran = probe::run(tool(words, paths));
        check(&format!("{what}, {words:?}"), &ran);
        if words == READING[1] {
            report =
                serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{what}: {error}: {ran:?}"));
        }
    }
    assert_eq!(Fingerprint::of(root).differences(&before), [""; 0], "{what}");
    report
}

/// A store of a broker that was stopped, with so many messages.
async fn stopped(place: &Place, name: &str, count: u64, bytes: usize) -> PathBuf {
    let mut broker = Broker::single(&place.path(""), name);
    broker.start();
    broker.wait_leading();
    let client = messages::connect_with_queue(&format!("quorate://{}", broker.client_address()), "q").await;
    let publisher = client.publisher().unwrap();
    for first in (0..count).step_by(10_000) {
        let next = (first + 10_000).min(count);
        messages::confirmed(messages::publish(&publisher, "q", first..next, bytes).await).await;
    }
    client.close().await;
    broker.terminate();
    place.path(&format!("{name}-data"))
}

/// A copy without what makes it long to copy.
fn small_copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for name in ["log", "state"] {
        fs::create_dir(to.join(name)).unwrap();
        for entry in fs::read_dir(from.join(name)).unwrap() {
            let path = entry.unwrap().path();
            if !path.file_name().unwrap().to_string_lossy().starts_with("spare") {
                fs::copy(&path, to.join(name).join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    for name in ["lock", "store-id", "stamp.a", "stamp.b"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo runs").success());
}

fn hole(path: &Path, bytes: u64) {
    File::create(path).unwrap().set_len(bytes).unwrap();
}

/// The only file in a directory of the store whose name begins like this.
fn named(dir: &Path, beginning: &str) -> PathBuf {
    let mut paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(beginning);
    paths.find(is_it).unwrap_or_else(|| panic!("no {beginning} in {}", dir.display()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_store_is_said_to_be_none() {
    let place = Place::new();
    let path = |name: &str| place.path(name);
    fs::create_dir_all(path("empty")).unwrap();
    fs::create_dir_all(path("foreign/etc/deep")).unwrap();
    fs::write(path("foreign/etc/passwd"), "root").unwrap();
    fs::write(path("file"), "no facts").unwrap();
    symlink("loop", path("loop")).unwrap();
    symlink(path("empty"), path("link")).unwrap();
    symlink("/dev/zero", path("zero")).unwrap();
    fifo(&path("fifo"));
    let _listener = UnixListener::bind(path("socket")).unwrap();
    hole(&path("hole"), 1 << 40);
    fs::create_dir_all(path("many/log")).unwrap();
    for number in 0..20_000 {
        File::create(path(&format!("many/log/segment-{number:016x}"))).unwrap();
    }
    for name in
        ["empty", "foreign", "missing", "file", "loop", "link", "zero", "fifo", "socket", "hole", "many"]
    {
        let report = look(name, &path(name), &[&path(name)]);
        assert_ne!(report["verdict"], "safe-set", "{name}: {report:#}");
    }
}

type Hurt = (&'static str, fn(&Path));

/// What a hostile or broken machine may put in the place of a store's file.
const HURTS: &[Hurt] = &[
    ("pipes for files", |dir| {
        for name in ["store-id", "stamp.a", "stamp.b", "lock"] {
            fs::remove_file(dir.join(name)).unwrap();
            fifo(&dir.join(name));
        }
    }),
    ("a pipe for a segment", |dir| {
        let segment = named(&dir.join("log"), "segment-");
        fs::remove_file(&segment).unwrap();
        fifo(&segment);
    }),
    ("a pipe for the manifest", |dir| {
        let manifest = named(&dir.join("state"), "MANIFEST");
        fs::remove_file(&manifest).unwrap();
        fifo(&manifest);
    }),
    ("a pipe for the log", |dir| {
        fs::remove_dir_all(dir.join("log")).unwrap();
        fifo(&dir.join("log"));
    }),
    ("a pipe for the state", |dir| {
        fs::remove_dir_all(dir.join("state")).unwrap();
        fifo(&dir.join("state"));
    }),
    ("a pipe for what a restore leaves", |dir| fifo(&dir.join("restoring"))),
    ("a socket for a stamp", |dir| {
        fs::remove_file(dir.join("stamp.a")).unwrap();
        drop(UnixListener::bind(dir.join("stamp.a")).unwrap());
    }),
    ("devices for files", |dir| {
        for name in ["store-id", "stamp.a", "stamp.b"] {
            fs::remove_file(dir.join(name)).unwrap();
            symlink("/dev/zero", dir.join(name)).unwrap();
        }
    }),
    ("a device for CURRENT", |dir| {
        fs::remove_file(dir.join("state/CURRENT")).unwrap();
        symlink("/dev/zero", dir.join("state/CURRENT")).unwrap();
    }),
    ("links that lead to themselves", |dir| {
        for name in ["store-id", "stamp.a", "stamp.b"] {
            fs::remove_file(dir.join(name)).unwrap();
            symlink(name, dir.join(name)).unwrap();
        }
    }),
    ("a link for the whole log", |dir| {
        fs::remove_dir_all(dir.join("log")).unwrap();
        symlink("/", dir.join("log")).unwrap();
    }),
    ("directories for files", |dir| {
        for name in ["store-id", "stamp.a", "stamp.b"] {
            fs::remove_file(dir.join(name)).unwrap();
            fs::create_dir(dir.join(name)).unwrap();
        }
    }),
    ("endless stamps", |dir| {
        hole(&dir.join("stamp.a"), 1 << 40);
        hole(&dir.join("stamp.b"), 1 << 40);
    }),
    ("an endless store id", |dir| hole(&dir.join("store-id"), 1 << 40)),
    ("an endless segment", |dir| hole(&named(&dir.join("log"), "segment-"), 1 << 40)),
    ("a segment as long as one may be", |dir| hole(&named(&dir.join("log"), "segment-"), 2 << 30)),
    ("a segment as long as the memory", |dir| hole(&named(&dir.join("log"), "segment-"), 256 << 20)),
    ("an endless CURRENT", |dir| hole(&dir.join("state/CURRENT"), 1 << 40)),
    ("an endless manifest", |dir| hole(&named(&dir.join("state"), "MANIFEST"), 1 << 40)),
    ("an endless log of RocksDB", |dir| hole(&dir.join("state/000999.log"), 1 << 40)),
    ("an endless table", |dir| hole(&dir.join("state/000999.sst"), 1 << 40)),
    ("endless settings", |dir| hole(&dir.join("state/OPTIONS-000999"), 1 << 40)),
    ("CURRENT leads out", |dir| {
        fs::write(dir.join("state/CURRENT"), "MANIFEST-000005/../../../etc\n").unwrap();
    }),
    ("a deep quarantine", |dir| {
        let mut deep = dir.join("quarantine");
        for _ in 0..200 {
            deep.push("deeper");
        }
        fs::create_dir_all(&deep).unwrap();
        symlink(dir, dir.join("quarantine/round")).unwrap();
    }),
    ("names that are no text", |dir| {
        use std::os::unix::ffi::OsStrExt;
        for part in ["log", "state", ""] {
            File::create(dir.join(part).join(std::ffi::OsStr::from_bytes(b"segment-\xff\xfe\x1b[2J")))
                .unwrap();
        }
    }),
    ("random bytes for a segment", |dir| noise(&named(&dir.join("log"), "segment-"), 4096)),
    ("random bytes from the first page on", |dir| noise(&named(&dir.join("log"), "segment-"), 0)),
    ("no text in stamps", |dir| {
        noise(&dir.join("stamp.a"), 20);
        noise(&dir.join("stamp.b"), 20);
    }),
];

/// Overwrites a file from a place on, as long as it is, 8 MiB at most.
fn noise(path: &Path, from: usize) {
    let mut content = fs::read(path).unwrap();
    let end = content.len().min(8 << 20);
    ChaCha8Rng::seed_from_u64(7).fill_bytes(&mut content[from..end]);
    fs::write(path, content).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_a4_nothing_in_a_files_place_stops_the_tool_or_is_changed_by_it() {
    let place = Place::new();
    let whole = stopped(&place, "b1", 200, 100).await;
    let hurt = place.path("hurt");
    for (what, act) in HURTS {
        small_copy(&whole, &hurt);
        act(&hurt);
        let report = look(what, &hurt, &[&hurt]);
        assert_eq!(report["stores"].as_array().unwrap().len(), 1, "{what}: {report:#}");
        println!("{what}: {} {}", report["verdict"], report["stores"][0]["state"]);
    }
    // Beside a sound store, each is one that cannot be read, and the sound one still is.
    small_copy(&whole, &hurt);
    hole(&hurt.join("state/CURRENT"), 1 << 40);
    let report = look("beside a sound one", &place.path(""), &[&whole, &hurt]);
    assert_eq!(report["stores"][0]["messages"], 200, "{report:#}");
}

type Change<'a> = (&'static str, &'a dyn Fn(&mut Stamp));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_hostile_stamp_says_does_not_steer_the_terminal() {
    let place = Place::new();
    let whole = stopped(&place, "b1", 20, 100).await;
    let hostile = place.path("hostile");
    let evil = "\u{1b}]0;x\u{7}\u{1b}[2J\r\nSAFE SET: \u{9b}31m\u{202e}all is well\n";
    let many = |stamp: &mut Stamp| {
        let member = stamp.members[0].clone();
        stamp.members = (0..1000).map(|_| member.clone()).collect();
    };
    let hurts: [Change<'_>; 5] = [
        ("the broker's name", &|stamp| stamp.broker_name = evil.to_owned()),
        ("the cluster's name", &|stamp| stamp.cluster_name = evil.to_owned()),
        ("a virtual host's name", &|stamp| {
            stamp.groups.iter_mut().for_each(|group| group.vhost = evil.to_owned());
        }),
        ("a member's name", &|stamp| {
            stamp.members.iter_mut().for_each(|member| member.name = evil.repeat(10));
        }),
        ("many of everything", &|stamp| {
            many(stamp);
            let group = stamp.groups[0].clone();
            stamp.groups = (0..500_u32).map(|_| group.clone()).collect();
            for (number, group) in (0..).zip(&mut stamp.groups) {
                group.group = GroupId(number);
            }
            stamp.boot_id = evil.to_owned();
        }),
    ];
    for (what, hurt) in hurts {
        small_copy(&whole, &hostile);
        let mut said = stamp(&hostile).expect("a stamp");
        hurt(&mut said);
        let mut raw = said.encode().unwrap_or_else(|error| panic!("{what}: {error}"));
        raw.resize(raw.len().next_multiple_of(4096), 0);
        for slot in ["stamp.a", "stamp.b"] {
            fs::write(hostile.join(slot), &raw).unwrap();
        }
        look(what, &hostile, &[&hostile, &whole]);
    }
    // A name of a directory may be as bad.
    let named = place.path("\u{1b}[2Jname\nOK: all is well");
    small_copy(&whole, &named);
    look("the directory's name", &named, &[&named]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_a4_bits_turned_anywhere_give_a_row() {
    let place = Place::new();
    let whole = stopped(&place, "b1", 3000, 1000).await;
    let hurt = place.path("hurt");
    small_copy(&whole, &hurt);
    let mut files = Vec::new();
    for part in ["", "log", "state"] {
        for entry in fs::read_dir(hurt.join(part)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && fs::metadata(&path).unwrap().len() > 0 {
                files.push(path);
            }
        }
    }
    files.sort();
    let contents: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).collect();
    let mut random = ChaCha8Rng::seed_from_u64(20_261_121);
    let mut states = std::collections::BTreeMap::new();
    for number in 0..300_usize {
        let path = &files[number % files.len()];
        let content = &contents[number % files.len()];
        let used = content.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
        let at = usize::try_from(random.next_u64()).unwrap() % used;
        let file = OpenOptions::new().write(true).open(path).unwrap();
        let mut truncated = false;
        let mut wrong = content[at..used.min(at + 512)].to_vec();
        match random.next_u32() % 8 {
            0..=4 => wrong[0] ^= 1 << (random.next_u32() % 8),
            5 => {
                truncated = true;
                file.set_len(at as u64).unwrap();
            }
            6 => wrong.fill(0),
            _ => random.fill_bytes(&mut wrong),
        }
        if !truncated {
            file.write_all_at(&wrong, at as u64).unwrap();
        }
        let what = format!("number {number}: {} at {at}", path.display());
        let words = READING[if number % 4 == 0 { (number / 4) % READING.len() } else { 2 }];
        let before = Fingerprint::quick(&hurt);
        let ran = probe::run(tool(words, &[&hurt]));
        check(&format!("{what}, {words:?}"), &ran);
        assert_eq!(Fingerprint::quick(&hurt).differences(&before), [""; 0], "{what}");
        if words == READING[2] {
            let facts: Value =
                serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{what}: {error}"));
            *states.entry(facts["state"].to_string()).or_insert(0) += 1;
        }
        file.set_len(content.len() as u64).unwrap();
        let end = if truncated { content.len() } else { at + wrong.len() };
        file.write_all_at(&content[at..end], at as u64).unwrap();
    }
    assert_eq!(contents, files.iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>());
    println!("{} files, 300 mutations: {states:?}", files.len());
    assert!(states.get("\"damaged\"").is_some_and(|count| *count > 40), "{states:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_running_brokers_store_can_be_looked_at() {
    let place = Place::new();
    let mut broker = Broker::single(&place.path(""), "b1");
    broker.start();
    broker.wait_leading();
    let client = messages::connect_with_queue(&format!("quorate://{}", broker.client_address()), "q").await;
    let stop = Arc::new(AtomicBool::new(false));
    let publishing = tokio::spawn({
        let (client, stop) = (client.clone(), Arc::clone(&stop));
        async move {
            let publisher = client.publisher().unwrap();
            let mut first = 0;
            while !stop.load(Ordering::Relaxed) {
                messages::confirmed(messages::publish(&publisher, "q", first..first + 20, 200).await).await;
                first += 20;
            }
            first
        }
    });
    for number in 0..2 {
        let taken = place.path(&format!("copy-{number}"));
        tokio::task::block_in_place(|| {
            copy_in_use(&place.path("b1-data"), &taken);
            look(&format!("copy {number}"), &taken, &[&taken]);
            // The store itself changes, so only the tool's end is looked at.
            check(
                "the running one",
                &probe::run(tool(&["inspect", "-o", "json"], &[&place.path("b1-data"), &taken])),
            );
            fs::remove_dir_all(&taken).unwrap();
        });
    }
    stop.store(true, Ordering::Relaxed);
    let published = publishing.await.unwrap();
    assert_eq!(messages::held(&client, "q").await.unwrap(), published, "the broker noticed nothing");
    broker.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_be_written_is_read() {
    let place = Place::new();
    let whole = stopped(&place, "b1", 50, 100).await;
    match SmallDisk::mount(&place.path("disk"), 256) {
        Err(why) => println!("SKIPPED: a file system cannot be mounted here: {why}"),
        Ok(disk) => {
            let data = disk.path().join("data");
            small_copy(&whole, &data);
            let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(disk.path()).status();
            assert!(remounted.expect("mount runs").success());
            assert!(File::create(disk.path().join("new")).is_err(), "it is read-only");
            let report = look("read-only", &data, &[&data]);
            assert_eq!(
                (&report["verdict"], &report["stores"][0]["messages"]),
                (&"safe-set".into(), &50.into())
            );
        }
    }
    // Without any right to write, as another user.
    let data = place.path("data");
    small_copy(&whole, &data);
    fs::create_dir_all(data.join("quarantine/closed")).unwrap();
    for (name, mode) in [("", 0o555), ("log", 0o555), ("state", 0o555), ("quarantine/closed", 0)] {
        fs::set_permissions(data.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let as_nobody = |words: &[&str]| {
        let tool = tool(words, &[&data]);
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        command.arg(tool.get_program()).args(tool.get_args());
        command
    };
    let works = as_nobody(&["inspect", "--help"]).output().is_ok_and(|output| output.status.success());
    if !works {
        println!("SKIPPED: the tool cannot be run as another user here");
        return;
    }
    let before = Fingerprint::of(&data);
    for words in READING {
        let ran = probe::run(as_nobody(words));
        check("another user", &ran);
        assert!(matches!(ran.status, Some(0 | 1)), "{words:?}: {ran:?}");
    }
    // And what may not even be read is no empty store.
    fs::set_permissions(data.join("log"), fs::Permissions::from_mode(0o000)).unwrap();
    let ran = probe::run(as_nobody(&["facts"]));
    check("a closed log", &ran);
    let facts: Value = serde_json::from_str(&ran.out).unwrap();
    assert!(ran.status == Some(1) && facts["unread"].is_string(), "{facts:#}");
    fs::set_permissions(data.join("log"), fs::Permissions::from_mode(0o555)).unwrap();
    assert_eq!(Fingerprint::of(&data).contents_changed(&before), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_files_of_any_content_and_foreign_stores_together() {
    let place = Place::new();
    let (one, other) = (stopped(&place, "b1", 20, 100).await, stopped(&place, "b2", 20, 100).await);
    let ran = probe::run(tool(&["facts"], &[&one]));
    let whole = ran.out.into_bytes();
    let file = place.path("file.facts");
    fs::write(&file, &whole).unwrap();
    let report = look("foreign", &place.path(""), &[&one, &other, &file]);
    assert_eq!(report["verdict"], "different-clusters", "{report:#}");

    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut read = 0;
    for number in 0..150 {
        let mut wrong = whole.clone();
        let at = usize::try_from(random.next_u64()).unwrap() % wrong.len();
        match number % 5 {
            0 => wrong.truncate(at),
            1 => wrong[at] ^= 1 << (random.next_u32() % 8),
            2 => drop(wrong.splice(at..at, *b"\x1b[2J\",[{")),
            3 => drop(wrong.splice(at..(at + 20).min(whole.len()), [])),
            _ => wrong[at] = b"0123456789\"{}[],-e"[usize::try_from(random.next_u32()).unwrap() % 18],
        }
        fs::write(&file, &wrong).unwrap();
        let ran = probe::run(tool(&["inspect", "-o", "json"], &[&file]));
        check(&format!("mutation {number} at {at}"), &ran);
        let report: Value = serde_json::from_str(&ran.out).unwrap();
        read += usize::from(report["stores"][0]["state"] != "unread");
    }
    // A change of blanks, or back to the same, is none.
    assert!(read < 15, "{read} of 150 changed documents were believed");
    let long =
        |piece: &str| format!("{{\"facts_format\":2,\"x\":[{}0]}}", piece.repeat((5 << 20) / piece.len()));
    for text in ["[".repeat(1 << 20), long("0,"), long("[],"), long("{\"a\":1},"), "\u{0}".repeat(6 << 20)] {
        fs::write(&file, &text).unwrap();
        look(&text[..30], &file, &[&file]);
        fs::write(&file, &text[..(4 << 20).min(text.len())]).unwrap();
        look(&text[..30], &file, &[&file]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acceptance_a_million_messages_are_looked_at_within_memory_and_time() {
    let place = Place::new();
    let data = stopped(&place, "b1", 1_000_000, 1024).await;
    let before = Fingerprint::of(&data);
    for words in [&["inspect"][..], &["facts"], &["verify"], &["export", "--list"]] {
        let ran = probe::run(tool(words, &[&data]));
        check("a million", &ran);
        assert_eq!(ran.status, Some(0), "{words:?}: {ran:?}");
        println!("1000000 messages of 1 KiB, {}: {} MiB, {:.1?}", words[0], ran.peak >> 20, ran.time);
    }
    assert_eq!(Fingerprint::of(&data).differences(&before), [""; 0]);
}
