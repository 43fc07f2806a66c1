//! One point that does one thing, once; and what is known of it afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a slow disk takes.
const DELAY: Duration = Duration::from_millis(60);

/// What happens at the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The process dies before the operation.
    Abort,
    /// The operation fails, and nobody knows what of it was done.
    Io,
    /// There is no room for it.
    Full,
    /// It takes long.
    Delay,
    /// A defect.
    Panic,
}

impl Action {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Abort, Self::Io, Self::Full, Self::Delay, Self::Panic];

    /// Its name in arguments and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Abort => "abort",
            Self::Io => "eio",
            Self::Full => "enospc",
            Self::Delay => "delay",
            Self::Panic => "panic",
        }
    }
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|action| action.name() == text).ok_or(format!("{text}: no such action"))
    }
}

/// Says something to whoever started this process, at once: it may be the last word.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody listens any more: then nothing is missed.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// What an operation does instead of what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// What it should.
    Nothing,
    /// Fails.
    Io,
    /// Finds no room.
    Full,
}

/// Which point does what, and when.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The point's name.
    pub point: String,
    /// What happens there.
    pub action: Action,
    /// At which of the times that it is touched, the first being 1.
    pub time: u64,
}

/// The point that was chosen, if any, and every point that was touched.
#[derive(Debug)]
pub struct Trigger {
    chosen: Option<Choice>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// With how often each was touched.
    points: BTreeMap<String, u64>,
    fired: bool,
    failed: BTreeSet<String>,
}

impl Trigger {
    /// None chosen: points are only noted.
    pub fn new(chosen: Option<Choice>) -> Self {
        Self { chosen, seen: Mutex::default() }
    }

    /// Says how often each point was touched.
    pub fn report(&self) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (point, times) in &seen.points {
            say(&format!("point {point} {times}"));
        }
    }

    /// An operation comes to this point, for this thing. If it is the one, it is told first which entries are durable by
    /// then: these only may be confirmed after it.
    ///
    /// # Panics
    /// That was chosen.
    pub fn reach(&self, point: &str, thing: &Path, durable: impl FnOnce() -> Vec<u64>) -> Instead {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let time = seen.points.entry(point.to_owned()).or_default();
        *time += 1;
        let time = *time;
        let thing = thing.display().to_string();
        let is_sync = point.split_once('.').is_some_and(|(_, how)| how == "sync");
        if is_sync && seen.failed.contains(&thing) {
            say(&format!("retried {thing}"));
        }
        let chosen = self.chosen.as_ref().filter(|chosen| chosen.point == point && chosen.time == time);
        let Some(Choice { action, .. }) = chosen.filter(|_| !seen.fired) else { return Instead::Nothing };
        seen.fired = true;
        if is_sync && *action == Action::Io {
            seen.failed.insert(thing);
        }
        drop(seen);
        for entry in durable() {
            say(&format!("durable entry {entry}"));
        }
        say(&format!("hit {point} {}", action.name()));
        match action {
            Action::Abort => std::process::abort(),
            Action::Io => Instead::Io,
            Action::Full => Instead::Full,
            Action::Delay => {
                std::thread::sleep(DELAY);
                Instead::Nothing
            }
            Action::Panic => panic!("the failpoint {point}"),
        }
    }
}
