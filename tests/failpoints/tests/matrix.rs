//! Each point with each action: one process for each, then what it left is opened again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use quorate_broker::open_store::{Opened, open_store_on};
use quorate_core::io::FoundStamp;
use quorate_failpoints::points::{POINTS, Rule};
use quorate_failpoints::trigger::Action;
use quorate_failpoints::workload::{GROUP, KEY, config, data_of, sizes};
use quorate_store::files::Files;
use quorate_store::files::real::RealFiles;
use quorate_store::identity::LOCK_NAME;
use quorate_store::ids::{Epoch, Index, Term};
use quorate_store::log::{LOG_DIRECTORY, LogReader};
use quorate_store::quarantine::{self, Act, Note};
use quorate_store::record::{Batch, Entry, EntryKind, Record};
use quorate_store::state::Family;

/// Processes at a time.
const AT_ONCE: usize = 4;
/// How often a point is tried that a run does not come to.
const TRIES: usize = 20;
/// A point that is touched so often is tried once more, later.
const OFTEN: u64 = 8;
/// Then: of the names in the store's directory the second slot of the stamp, not yet the reserve, which may fail.
const LATER: u64 = 3;
/// SIGABRT.
const ABORTED: i32 = 6;

/// What a process did.
struct Ran {
    status: ExitStatus,
    lines: Vec<String>,
    errors: String,
}

impl Ran {
    fn said<'a>(&'a self, word: &'a str) -> impl Iterator<Item = &'a str> {
        self.lines.iter().filter_map(move |line| line.strip_prefix(word)?.strip_prefix(' '))
    }

    fn phase(&self) -> &str {
        self.said("phase").last().unwrap_or("none")
    }

    /// The highest index that was confirmed.
    fn last_entry(&self) -> u64 {
        self.said("confirmed entry").filter_map(|index| index.parse().ok()).max().unwrap_or(0)
    }

    fn confirmed(&self, what: &str) -> usize {
        self.said("confirmed").filter(|said| *said == what).count()
    }

    /// The points that were touched, and how often.
    fn points(&self) -> BTreeMap<String, u64> {
        let point = |line: &str| {
            let (point, times) = line.split_once(' ')?;
            Some((point.to_owned(), times.parse().ok()?))
        };
        self.said("point").filter_map(point).collect()
    }
}

/// Memory, if there is a file system for it: what is not there after a kill was never written, on any disk.
fn place() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary directory")
}

fn run(dir: &Path, chosen: Option<(&str, Action, u64)>) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_failpoint-child"));
    command.arg(dir);
    if let Some((point, action, time)) = chosen {
        command.args([point, action.name(), &time.to_string()]);
    }
    let output = command.env("RUST_BACKTRACE", "0").output().expect("the child starts");
    Ran {
        status: output.status,
        lines: String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn the_list_of_points_is_what_the_product_does() {
    let listed: BTreeSet<String> = POINTS.iter().map(|(point, _)| (*point).to_owned()).collect();
    assert_eq!(listed.len(), POINTS.len(), "a point is listed twice");
    let mut touched = BTreeSet::new();
    // Whether an image gets a spare file is a matter of two threads' luck.
    for _ in 0..TRIES {
        let place = place();
        let ran = run(&place.path().join("data"), None);
        assert!(ran.status.success(), "{}", ran.errors);
        assert_eq!(ran.phase(), "over");
        touched.extend(ran.points().into_keys());
        if touched.is_superset(&listed) {
            break;
        }
    }
    let new: Vec<_> = touched.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&touched).collect();
    assert!(new.is_empty() && gone.is_empty(), "not listed: {new:?}\nnot touched: {gone:?}");
}

/// One cell: an error, or nothing to say.
fn cell(point: &str, rule: Rule, action: Action, time: u64) -> Result<(), String> {
    let (mut place, mut ran);
    let mut tries = 0;
    loop {
        place = self::place();
        ran = run(&place.path().join("data"), Some((point, action, time)));
        tries += 1;
        // How many spare files there are is a matter of two threads' luck.
        if ran.said("hit").next().is_some() || tries == TRIES {
            break;
        }
    }
    let dir = place.path().join("data");
    let told = || format!("{} in phase {}; {:?}\n{}", ran.status, ran.phase(), ran.lines.last(), ran.errors);
    if ran.said("hit").next() != Some(&format!("{point} {}", action.name())) {
        return Err(format!("not hit: {}", told()));
    }
    if let Some(thing) = ran.said("retried").next() {
        return Err(format!("{thing} was synced again after its sync had failed"));
    }
    let ended = match (action, rule) {
        (Action::Abort, _) => ran.status.signal() == Some(ABORTED),
        (Action::Panic, _) => ran.status.code() == Some(70),
        (Action::Delay, _) => ran.status.success() && ran.phase() == "over",
        (_, Rule::GoesOn) | (Action::Full, Rule::StopsUnlessFull) => {
            ran.status.success() && ran.phase() == "over"
        }
        (Action::Io | Action::Full, Rule::Stops | Rule::StopsUnlessFull) => ran.status.code() == Some(5),
    };
    if !ended {
        return Err(format!("the end is not what {rule:?} says: {}", told()));
    }
    // Nothing that waited for what failed is confirmed. What may still be is an entry that was durable before: the log's
    // thread tells so, and then comes to the failing step with something else in hand (the reserve, a compaction), while
    // the thread that was told has not said it yet. Stamps, states and images have no such work behind them.
    if ran.status.code() == Some(5) {
        let durable: BTreeSet<&str> = ran.said("durable").collect();
        let after = ran.lines.iter().skip_while(|line| !line.starts_with("hit"));
        let too_late: Vec<&str> = after
            .filter_map(|line| line.strip_prefix("confirmed "))
            .filter(|what| !durable.contains(what))
            .collect();
        if !too_late.is_empty() {
            return Err(format!("confirmed after the disk had failed, and not durable before: {too_late:?}"));
        }
    }
    check(&dir, &ran).map_err(|why| format!("{why}: {}", told()))
}

/// Everything confirmed is there, and the store goes on.
fn check(dir: &Path, ran: &Ran) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let files: std::sync::Arc<dyn Files> = std::sync::Arc::new(RealFiles);
    let phase: Vec<&str> = ran.phase().split(' ').collect();
    let lock = || files.lock(&dir.join(LOCK_NAME), 1).map_err(|error| text(&error));
    match phase.as_slice() {
        ["restoring", number] => {
            let number = number.parse().map_err(|_| "a number".to_owned())?;
            let again = quarantine::restore(files.as_ref(), dir, lock()?.as_ref(), number, "back", 2);
            match again {
                Ok(_) => {}
                // It was over, and the image is in place, when the process ended.
                Err(quarantine::QuarantineError::NoImage { .. }) => {}
                Err(error) => return Err(format!("putting back does not go on: {error}")),
            }
            opens(dir, ran, IMAGE_FROM, true)
        }
        ["restored"] => opens(dir, ran, IMAGE_FROM, true),
        ["setting-aside"] => {
            let note = Note {
                act: Act::Damage,
                why: "again".to_owned(),
                groups: Vec::new(),
                diverged: None,
                when_ms: 3,
            };
            quarantine::set_aside(&files, dir, lock()?.as_ref(), note)
                .map_err(|error| format!("setting aside does not go on: {error}"))?;
            aside(dir, ran)
        }
        ["set-aside" | "over"] => aside(dir, ran),
        _ => opens(dir, ran, ran.last_entry(), false),
    }
}

/// The image is made after this entry.
const IMAGE_FROM: u64 = 22;

/// A broker opens it: nothing confirmed is missing, and it takes one more.
fn opens(dir: &Path, ran: &Ran, last_confirmed: u64, is_image: bool) -> Result<(), String> {
    let files: std::sync::Arc<dyn Files> = std::sync::Arc::new(RealFiles);
    let Opened { found, mut writer, reader, state, lock, .. } =
        open_store_on(&files, &config(dir), sizes).map_err(|exit| format!("it does not open: {exit}"))?;
    let stamps = ran.confirmed("stamp");
    match &found.stamp {
        FoundStamp::Stamp(stamp) if is_image || stamp.sequence >= u64::try_from(stamps).unwrap_or(0) => {}
        FoundStamp::Empty if stamps == 0 => {}
        other => return Err(format!("{stamps} stamps were confirmed, found {other:?}")),
    }
    let group = found.groups.iter().find(|group| group.group == GROUP);
    let last = group.map_or(0, |group| group.last.0);
    if last < last_confirmed {
        return Err(format!("entry {last_confirmed} was confirmed, the log ends at {last}"));
    }
    if let Some(group) = group {
        read_entries(&reader, group.first.0, last)?;
    }
    if ran.confirmed("state") > 0 {
        let value = state.get(Family::State, KEY).map_err(|error| error.to_string())?;
        if value.as_deref() != Some(&b"new"[..]) {
            return Err(format!("a state was flushed, found {value:?}"));
        }
    }
    let entry = Entry {
        term: Term(2),
        index: Index(last + 1),
        kind: EntryKind::Command,
        data: Bytes::from_static(b"more"),
    };
    let batch = Batch { records: vec![Record::Entry(GROUP, Epoch(1), entry)] };
    writer
        .append(&[&batch])
        .and_then(|()| writer.sync())
        .map_err(|error| format!("it does not go on: {error}"))?;
    drop(lock);
    Ok(())
}

fn read_entries(reader: &LogReader, first: u64, last: u64) -> Result<(), String> {
    let mut next = first;
    while next <= last {
        let entries = reader
            .read(GROUP, Index(next), Index(last + 1), 1 << 20)
            .map_err(|error| format!("entry {next} cannot be read: {error}"))?;
        for entry in entries {
            if entry.index.0 != next || entry.data != data_of(next) {
                return Err(format!("entry {next} is not what was written"));
            }
            next += 1;
        }
    }
    Ok(())
}

/// The store is set aside: an empty one is in its place, and the image has what was put back before.
fn aside(dir: &Path, ran: &Ran) -> Result<(), String> {
    let files = RealFiles;
    let images = quarantine::list(&files, dir).map_err(|error| error.to_string())?;
    let image = images
        .into_iter()
        .flatten()
        .filter(|image| image.note.act == Act::Damage)
        .min_by_key(|image| image.number)
        .ok_or("nothing was kept")?;
    let kept = dir.join(quarantine::QUARANTINE_DIRECTORY).join(&image.name);
    let store = quorate_store::identity::read_store_id(&files, &kept).map_err(|error| error.to_string())?;
    let store = store.ok_or("the image has no id")?;
    let (reader, recovered) = quorate_store::log::inspect(&files, &kept.join(LOG_DIRECTORY), store, None)
        .map_err(|error| format!("the image's log: {error}"))?;
    let group =
        recovered.groups.iter().find(|group| group.group == GROUP).ok_or("the image has no entries")?;
    let expected =
        if ran.said("phase").any(|phase| phase == "restored") { IMAGE_FROM } else { ran.last_entry() };
    if group.last.0 < expected {
        return Err(format!("the image ends at {}, not at {expected}", group.last));
    }
    read_entries(&reader, group.first.0, group.last.0)?;
    let files: std::sync::Arc<dyn Files> = std::sync::Arc::new(RealFiles);
    let empty =
        open_store_on(&files, &config(dir), sizes).map_err(|exit| format!("no empty store: {exit}"))?;
    if matches!(empty.found.stamp, FoundStamp::Empty) {
        Ok(())
    } else {
        Err("the store is not empty".to_owned())
    }
}

#[test]
fn every_point_with_every_action() {
    let begun = Instant::now();
    let touched = run(&place().path().join("data"), None).points();
    let often = |point: &str| touched.get(point).is_some_and(|times| *times >= OFTEN);
    let mut cells = Vec::new();
    for (point, rule) in POINTS {
        let times: &[u64] = if often(point) { &[1, LATER] } else { &[1] };
        for time in times {
            // What the broker survives at first, an operator's act may meet later, where it is an error.
            if *time == 1 || *rule == Rule::Stops {
                cells.extend(Action::ALL.map(|action| (*point, *rule, action, *time)));
            }
        }
    }
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((point, rule, action, time)) = cells.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    if let Err(why) = cell(point, *rule, *action, *time) {
                        let mut wrong = wrong.lock().expect("no thread panics while it holds this");
                        wrong.insert(format!("{point} {} {time}", action.name()), why);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("no thread panics while it holds this");
    let mut report = String::new();
    for (cell, why) in &wrong {
        writeln!(report, "{cell}: {why}").expect("a string has room");
    }
    println!(
        "{} points, {} actions, {} cells, {} wrong, {} s",
        POINTS.len(),
        Action::ALL.len(),
        cells.len(),
        wrong.len(),
        begun.elapsed().as_secs()
    );
    assert!(wrong.is_empty(), "{report}");
    assert!(cells.len() >= POINTS.len() * Action::ALL.len());
}
