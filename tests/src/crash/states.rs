//! Goes through a recording, builds the states after each operation, and has each one judged.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use quorate_store::files::crash::{CrashFiles, Ending, FileOperation};

use super::expected::Expected;
use super::judge::{Recovered, judge};
use super::workload::{Recording, SIZES};
use crate::sim::dice::Dice;
use crate::sim::plan::cluster;
use crate::sim::record::{Moment, Note};
use crate::sim::run::drain;
use crate::sim::schedule::{MILLI, SECOND};
use crate::sim::storage::Medium;
use crate::sim::world::World;

/// How much is tried.
#[derive(Clone, Debug)]
pub struct Effort {
    /// Drawn states after each operation.
    pub drawn: u64,
    /// Random bytes at which a write is torn, besides every 512.
    pub torn: u64,
    /// Into every so many states' recovery power fails again.
    pub nested_every: u64,
    /// Every so many states' broker is run on to serve, and its queues are emptied.
    pub drained_every: u64,
    /// Only this state.
    pub only: Option<Place>,
}

/// Names one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// After so many operations.
    pub operation: usize,
    /// What the loss of power left.
    pub ending: Ending,
    /// In the recovery from that: again so many operations and what was left.
    pub then: Option<(usize, Ending)>,
}

fn word(ending: Ending) -> String {
    match ending {
        Ending::Everything => "everything".to_owned(),
        Ending::OnlySynced => "only-synced".to_owned(),
        Ending::Drawn(seed) => format!("drawn-{seed}"),
        Ending::Torn { kept, alone: false } => format!("torn-{kept}"),
        Ending::Torn { kept, alone: true } => format!("torn-alone-{kept}"),
        Ending::NamesLost => "names-lost".to_owned(),
        Ending::NamesFirst => "names-first".to_owned(),
    }
}

fn ending(word: &str) -> Option<Ending> {
    let number = |prefix| word.strip_prefix(prefix).and_then(|number: &str| number.parse().ok());
    match word {
        "everything" => Some(Ending::Everything),
        "only-synced" => Some(Ending::OnlySynced),
        "names-lost" => Some(Ending::NamesLost),
        "names-first" => Some(Ending::NamesFirst),
        _ => number("drawn-").map(|seed: usize| Ending::Drawn(seed as u64)).or_else(|| {
            let alone = number("torn-alone-").map(|kept| Ending::Torn { kept, alone: true });
            alone.or_else(|| number("torn-").map(|kept| Ending::Torn { kept, alone: false }))
        }),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.operation, word(self.ending))?;
        match self.then {
            Some((operation, ending)) => write!(f, " {operation} {}", word(ending)),
            None => Ok(()),
        }
    }
}

impl std::str::FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let pair = |number: &str, word: &str| Some((number.parse().ok()?, ending(word)?));
        let place = match *words {
            [number, word] => pair(number, word).map(|first| (first, None)),
            [number, word, next, second] => pair(number, word).zip(pair(next, second).map(Some)),
            _ => None,
        };
        let ((operation, ending), then) = place.ok_or_else(|| format!("no state is called {text}"))?;
        Ok(Self { operation, ending, then })
    }
}

/// What was tried.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// File operations of the workload.
    pub operations: usize,
    /// States, each different from every other in what is on the disk or in what had been reported by then.
    pub states: u64,
    /// Of them those whose disk was that of an earlier one, of which less had been reported.
    pub said_since: u64,
    /// Of them by kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// States in the middle of a recovery.
    pub nested: u64,
    /// States from which a broker was run on.
    pub brokers: u64,
    /// States from which a cluster went on, and every message was accounted for.
    pub drained: u64,
    /// What went wrong.
    pub failures: Vec<String>,
}

impl Tally {
    /// Adds what was tried of another workload.
    pub fn add(&mut self, other: Self) {
        self.operations += other.operations;
        self.states += other.states;
        self.said_since += other.said_since;
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        self.nested += other.nested;
        self.brokers += other.brokers;
        self.drained += other.drained;
        self.failures.extend(other.failures);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, states, said_since, kinds, nested, brokers, drained, failures } = self;
        let failures = failures.len();
        write!(
            f,
            "{operations} operations, {states} states ({said_since} on a disk of before) {kinds:?}, {nested} nested, {brokers} brokers run on, \
             {drained} drained, {failures} failures"
        )
    }
}

/// More failures than this say nothing more.
const FAILURES_MAX: usize = 5;

fn kind(ending: Ending) -> &'static str {
    match ending {
        Ending::Everything => "everything",
        Ending::OnlySynced => "only synced",
        Ending::Drawn(_) => "drawn",
        Ending::Torn { .. } => "torn",
        Ending::NamesLost => "names lost",
        Ending::NamesFirst => "names first",
    }
}

/// What a loss of power right after an operation may leave.
fn endings(operation: &FileOperation, unsynced: bool, effort: &Effort, dice: &mut Dice) -> Vec<Ending> {
    let mut endings = vec![Ending::Everything];
    if !unsynced {
        return endings;
    }
    endings.extend([Ending::OnlySynced, Ending::NamesLost, Ending::NamesFirst]);
    // A seed is told in a failure: short ones do.
    endings.extend((0..effort.drawn).map(|_| Ending::Drawn(dice.below(1 << 32))));
    if let Some((offset, length)) = operation.written() {
        let first = 512 - offset % 512;
        let mut kept: Vec<usize> = (first..length).step_by(512).collect();
        kept.extend((0..effort.torn).map(|_| dice.index(length)));
        for kept in kept {
            endings.extend([false, true].map(|alone| Ending::Torn { kept, alone }));
        }
    }
    endings
}

/// One state, and what must hold in it.
struct State<'walk> {
    place: Place,
    files: &'walk CrashFiles,
    /// There was such a disk before, and more has been reported since.
    said_since: bool,
    expected: &'walk Expected,
    possible: &'walk [Arc<super::expected::Logs>],
    /// The other hosts' media at this moment, and what clients had been told.
    peers: Option<(&'walk [Medium], &'walk Moment)>,
}

impl State<'_> {
    fn medium(&self, seed: u64) -> Medium {
        let files = self.files.fork();
        let mut state = self.expected.state.clone().moved_to(Arc::new(files.clone()));
        state.crash(seed);
        Medium { files, state, recorder: None }
    }
}

/// Calls `look` for each different state after each operation.
fn walk(
    recording: &Recording,
    effort: &Effort,
    only: Option<(usize, Ending)>,
    mut look: impl FnMut(&State<'_>) -> bool,
) {
    let disk = recording.disk.fork();
    let mut expected = recording.expected.clone();
    let mut notes = recording.notes.iter().peekable();
    let (mut seen, mut disks) = (HashSet::new(), HashSet::new());
    let mut said = 0_u64;
    for (number, operation) in recording.operations.iter().enumerate() {
        while let Some((_, note)) = notes.next_if(|(at, _)| *at <= number) {
            expected.take(note);
        }
        disk.replay(operation);
        let mut peers = None;
        while let Some((_, note)) = notes.next_if(|(at, _)| *at <= number + 1) {
            if let Note::Peers(media) = note {
                // What was told by then goes with them; later looks find the same disk.
                peers = Some((media.as_slice(), expected.told.clone()));
            } else {
                expected.take(note);
                said += u64::from(!matches!(note, Note::Told(_) | Note::State(_)));
            }
        }
        let mut dice = Dice::new(recording.seed, &format!("{} {number}", recording.name));
        let mut wanted = endings(operation, disk.has_unsynced(), effort, &mut dice);
        if let Some((at, ending)) = only {
            wanted = if at == number { vec![ending] } else { Vec::new() };
        }
        if wanted.is_empty() {
            continue;
        }
        let possible = expected.possible_logs();
        for ending in wanted {
            let files = disk.fork();
            files.end(ending);
            let digest = files.digest();
            if !seen.insert((digest, said)) {
                continue;
            }
            let place = Place { operation: number, ending, then: None };
            let state = State {
                place,
                files: &files,
                said_since: !disks.insert(digest),
                expected: &expected,
                possible: &possible,
                peers: peers.as_ref().map(|(media, told)| (*media, told)),
            };
            if !look(&state) {
                return;
            }
        }
    }
}

fn caught<T>(act: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", text.unwrap_or("without words")))
    })
}

/// Tries every state of a recording.
pub fn examine(recording: &Recording, effort: &Effort) -> Tally {
    let mut tally = Tally { operations: recording.operations.len(), ..Tally::default() };
    let only = effort.only.as_ref().map(|place| (place.operation, place.ending));
    walk(recording, effort, only, |state| {
        tally.states += 1;
        tally.said_since += u64::from(state.said_since);
        *tally.kinds.entry(kind(state.place.ending)).or_default() += 1;
        let mut place = state.place.clone();
        let result = caught(|| try_state(recording, effort, state, &mut tally, &mut place));
        if let Err(why) = result {
            let Recording { name, seed, operations, .. } = recording;
            let operation = &operations[place.operation];
            tally.failures.push(format!(
                "workload {name}, seed {seed}, operation {} of {} ({operation}), {}: {why}\n  again: QUORATE_CRASH_STATE='{place}' \
                 QUORATE_CRASH_SEED={seed} cargo nextest run --release -p quorate-tests --test crash {name}",
                place.operation,
                operations.len(),
                kind(place.ending),
            ));
        }
        tally.failures.len() < FAILURES_MAX
    });
    tally
}

fn try_state(
    recording: &Recording,
    effort: &Effort,
    state: &State<'_>,
    tally: &mut Tally,
    place: &mut Place,
) -> Result<(), String> {
    let number = tally.states;
    let due = |every: u64| effort.only.is_some() || number.is_multiple_of(every);
    let recovered = judge(&state.medium(number), SIZES, state.expected, state.possible, recording.seed)?;
    tally.brokers += 1;
    let drained = due(effort.drained_every);
    // A record of what recovery does costs little; what follows from it is looked at now and then.
    let recorded = run_broker(recording, state, number, drained)?;
    tally.drained += u64::from(drained && recording.hosts == 1);
    if let Some(peers) = state.peers
        && !state.expected.spoiled
    {
        go_on(recording, state, peers, number)?;
        tally.drained += 1;
    }
    if due(effort.nested_every) || effort.only.as_ref().is_some_and(|place| place.then.is_some()) {
        nested(recording, effort, state, &recovered, recorded, tally, place)?;
    }
    Ok(())
}

/// Runs a broker from a state: alone, or as one of several that finds nobody. Gives what it did to its disk.
fn run_broker(
    recording: &Recording,
    state: &State<'_>,
    number: u64,
    drained: bool,
) -> Result<Recording, String> {
    let mut configs = cluster(recording.hosts, SIZES);
    for config in &mut configs {
        config.wait_for = u32::try_from(recording.hosts / 2 + 1).expect("few");
    }
    let mut world = World::new(recording.seed, configs, false);
    let mut medium = state.medium(number);
    let disk = medium.files.fork();
    let model = medium.state.clone();
    let recorder = medium.record();
    world.replace_medium(recording.host, medium);
    world.restarts = false;
    world.start(recording.host);
    if recording.hosts == 1 {
        let mut leads = world.wait_for_leader(10 * SECOND).is_some();
        if drained {
            world.run_for(SECOND);
        }
        if world.hosts[recording.host].exit.as_ref().is_some_and(|exit| exit.0 == 0) {
            // It ended the shutdown that was under way. Whoever wants it back starts it again.
            world.start(recording.host);
            leads = world.wait_for_leader(10 * SECOND).is_some();
        }
        if !leads {
            return Err(format!(
                "the broker does not serve within 10 s: {:?} {:?}",
                world.statuses, world.hosts[0].exit
            ));
        }
    } else {
        world.run_for(30 * MILLI);
    }
    let (operations, notes) = recorder.end();
    world.hosts[recording.host].medium.recorder = None;
    if drained && recording.hosts == 1 {
        world.checker = recording.checker.as_of(&state.expected.told);
        drain(&mut world, recording.seed);
    }
    violations(&world)?;
    let mut expected = state.expected.clone();
    expected.state = model;
    Ok(Recording {
        name: recording.name,
        seed: recording.seed,
        hosts: recording.hosts,
        host: recording.host,
        disk,
        expected,
        operations,
        notes,
        checker: recording.checker.clone(),
    })
}

fn violations(world: &World) -> Result<(), String> {
    match world.checker.violations() {
        [] => Ok(()),
        violations => Err(violations.join("; ")),
    }
}

/// What a broker's verdict is while the cluster is shut down.
const CLOSING: &str = "shutting-down";

/// The whole cluster goes on: its members become equal, and every message is accounted for.
fn go_on(
    recording: &Recording,
    state: &State<'_>,
    (peers, told): (&[Medium], &Moment),
    number: u64,
) -> Result<(), String> {
    let mut configs = cluster(recording.hosts, SIZES);
    for config in &mut configs {
        config.wait_for = u32::try_from(recording.hosts / 2 + 1).expect("few");
    }
    let mut world = World::new(recording.seed, configs, false);
    for (host, peer) in peers.iter().enumerate() {
        let medium = if host == recording.host { state.medium(number) } else { peer.clone_now() };
        world.replace_medium(host, medium);
    }
    world.checker = recording.checker.as_of(told);
    world.start_all();
    let comes_back =
        |world: &mut World| world.wait_for_leader(15 * SECOND).is_some() && world.settle(60 * SECOND);
    let mut back = comes_back(&mut world);
    world.run_for(2 * SECOND);
    // Whoever goes on with the shutdown that was under way waits for the others, in vain if these know nothing of it.
    let is_closing = |world: &World| world.statuses.values().any(|status| status.verdict.word() == CLOSING);
    world.run_until(20 * SECOND, |world| !is_closing(world));
    if world.hosts.iter().any(|host| host.exit.as_ref().is_some_and(|exit| exit.0 == 0)) {
        // They ended the shutdown that was under way.
        world.start_all();
        back = comes_back(&mut world);
    }
    if !back {
        return Err(format!("the cluster does not come back: {:?}", world.statuses));
    }
    drain(&mut world, recording.seed);
    violations(&world)
}

/// Power fails again while the broker recovers: what it recovered to is found again.
fn nested(
    recording: &Recording,
    effort: &Effort,
    state: &State<'_>,
    recovered: &Recovered,
    mut inner: Recording,
    tally: &mut Tally,
    place: &mut Place,
) -> Result<(), String> {
    // What was found is what must be found again, and what the broker did since.
    inner.expected.store = state.expected.store;
    inner.expected.begin_again(recovered);
    let few = Effort { drawn: effort.drawn / 4 + 1, torn: 1, ..effort.clone() };
    let then = effort.only.as_ref().map(|place| place.then);
    let mut result = Ok(());
    walk(&inner, &few, then.flatten(), |again| {
        tally.nested += 1;
        place.then = Some((again.place.operation, again.place.ending));
        result = judge(&again.medium(tally.nested), SIZES, again.expected, again.possible, recording.seed)
            .map(drop);
        result.is_ok()
    });
    if result.is_ok() {
        place.then = None;
    }
    result.map_err(|why| format!("power lost again in recovery: {why}"))
}
