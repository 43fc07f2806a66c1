//! What runs targets: the corpus again, so many mutations of it, or as long as there is time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::coverage::{Comparison, trace_of};
use crate::mutator::Mutator;
use crate::{Reached, Target, corpus};

/// A run of one input that takes longer than this hangs.
const HANG: Duration = Duration::from_secs(10);

/// The input under test, for whoever finds that it never ends.
static NOW: Mutex<Option<(Instant, &'static str, Vec<u8>)>> = Mutex::new(None);

/// What a driver did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Inputs run.
    pub runs: u64,
    /// Of which something was understood.
    pub accepted: u64,
}

impl Tally {
    fn count(&mut self, reached: Reached) {
        self.runs += 1;
        self.accepted += u64::from(reached == Reached::Accepted);
    }
}

/// An input for which a property does not hold.
#[derive(Debug)]
pub struct Broken {
    /// Which target.
    pub target: &'static str,
    /// The input.
    pub input: Vec<u8>,
    /// What the panic said.
    pub why: String,
}

impl Broken {
    /// Keeps the input in `dir` and says how to run it again.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&self, dir: &Path) -> io::Result<String> {
        let path = corpus::write(dir, &self.input)?;
        let Self { target, input, why } = self;
        Ok(format!(
            "{target} is broken by {} bytes: {why}\n  run it again: cargo run --release -p quorate-fuzz --bin fuzz -- {target} --input {1}\n  \
             once mended, keep it: cp {1} tests/corpus/{target}/<what-it-found>",
            input.len(),
            path.display()
        ))
    }
}

/// Where inputs go that break something.
pub fn failures() -> PathBuf {
    std::env::temp_dir().join("quorate-fuzz-failures")
}

/// Runs one input.
///
/// # Errors
/// A property does not hold.
pub fn run_one(target: &Target, input: &[u8]) -> Result<Reached, Broken> {
    set_now(Some((Instant::now(), target.name, input.to_vec())));
    let reached = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    set_now(None);
    reached.map_err(|panic| {
        let why = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "a panic without text".to_owned());
        Broken { target: target.name, input: input.to_vec(), why }
    })
}

fn set_now(now: Option<(Instant, &'static str, Vec<u8>)>) {
    if let Ok(mut place) = NOW.lock() {
        *place = now;
    }
}

/// Ends the process, with the input in a file, should one never come to its end.
pub fn watch_for_hangs() {
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let Ok(now) = NOW.lock() else { return };
            if let Some((since, target, input)) = &*now
                && since.elapsed() > HANG
            {
                let why = format!("no end after {HANG:?}");
                let broken = Broken { target, input: input.clone(), why };
                eprintln!("{}", broken.keep(&failures()).unwrap_or_else(|error| error.to_string()));
                std::process::abort();
            }
        }
    });
}

/// Runs everything in the target's corpus, and its seeds.
///
/// # Panics
/// A property does not hold, or a file's name does not say what is in it, or the corpus is empty.
pub fn replay(target: &Target) -> Tally {
    watch_for_hangs();
    let mut tally = Tally::default();
    let inputs = corpus::read(&corpus::root().join(target.name)).expect("the corpus can be read");
    assert!(!inputs.is_empty(), "tests/corpus/{} is empty", target.name);
    for (name, input) in &inputs {
        if corpus::is_hash(name) {
            assert_eq!(*name, corpus::name_of(input), "{}/{name} is named by what is in it", target.name);
        }
        assert!(input.len() <= target.length_max, "{}/{name} is too long", target.name);
        match run_one(target, input) {
            Ok(reached) => tally.count(reached),
            Err(broken) => panic!("{}/{name}: {}", target.name, broken.why),
        }
    }
    let (mut seeds, mut understood) = (0, 0);
    for seed in (target.seeds)() {
        match run_one(target, &seed) {
            Ok(reached) => {
                seeds += 1;
                understood += u64::from(reached == Reached::Accepted);
                tally.count(reached);
            }
            Err(broken) => panic!("{}: a seed: {}", target.name, broken.why),
        }
    }
    assert!(understood * 2 > seeds, "{}: {understood} of {seeds} seeds are understood", target.name);
    tally
}

/// Runs the target's number of mutations of its corpus and seeds; the same ones each time.
///
/// # Panics
/// A property does not hold; the input is in a file then.
pub fn smoke(target: &Target) -> Tally {
    watch_for_hangs();
    let mut inputs: Vec<Vec<u8>> = corpus::read(&corpus::root().join(target.name))
        .expect("the corpus can be read")
        .into_values()
        .collect();
    inputs.extend((target.seeds)());
    assert!(!inputs.is_empty(), "tests/corpus/{} is empty", target.name);
    let mut mutator = Mutator::new(target, 0x51_0e5eed);
    let accepted: Vec<Vec<u8>> = inputs
        .iter()
        .filter(|input| matches!(run_one(target, input), Ok(Reached::Accepted)))
        .cloned()
        .collect();
    let mut tally = Tally::default();
    for number in 0..target.smoke {
        // What is understood leads further than what is refused at the door.
        let from = if number % 4 > 0 && !accepted.is_empty() { &accepted } else { &inputs };
        let base = mutator.dice.one_of(from).cloned().unwrap_or_default();
        let input = mutator.change(&base, &inputs, &[]);
        match run_one(target, &input) {
            Ok(reached) => tally.count(reached),
            Err(broken) => panic!("{}", broken.keep(&failures()).unwrap_or(broken.why)),
        }
    }
    tally
}

/// What the gate does with a target: everything known, then so many mutations.
///
/// # Panics
/// A property does not hold, or the mutations test too little.
pub fn gate(target: &Target) {
    let begun = Instant::now();
    let known = replay(target);
    let tried = smoke(target);
    println!(
        "{}: {} known inputs, {} mutations of which {} were understood, {} ms",
        target.name,
        known.runs,
        tried.runs,
        tried.accepted,
        begun.elapsed().as_millis()
    );
    assert_eq!(tried.runs, target.smoke, "every mutation was run");
    assert!(
        tried.accepted * 50 >= tried.runs,
        "too few mutations are understood to test what is behind the door"
    );
}

/// An input that covered something first.
#[derive(Clone, Debug)]
struct Find {
    input: Vec<u8>,
    compared: Vec<Comparison>,
}

/// What a long run came to.
#[derive(Debug, Default)]
pub struct Found {
    /// What was run.
    pub tally: Tally,
    /// Edges with counts that were covered.
    pub features: usize,
    /// Inputs that cover them.
    pub inputs: Vec<Vec<u8>>,
    /// The first input that broke something.
    pub broken: Option<Broken>,
    /// When something new was covered last.
    pub last_new: Duration,
}

/// Mutates what is in the corpus, and whatever covers something new, until the time is over.
pub fn explore(
    target: &Target,
    corpus: Vec<Vec<u8>>,
    time: Duration,
    seed: u64,
    mut report: impl FnMut(&Found, Duration),
) -> Found {
    watch_for_hangs();
    let begun = Instant::now();
    let mut covered: BTreeSet<u32> = BTreeSet::new();
    let mut finds: Vec<Find> = Vec::new();
    let mut found = Found::default();
    let mut accepted: Vec<usize> = Vec::new();
    let mut mutator = Mutator::new(target, seed);
    let mut waiting: Vec<Vec<u8>> = corpus;
    waiting.extend((target.seeds)());
    let mut next_report = Duration::from_secs(5);
    loop {
        let from_corpus = waiting.pop();
        let kept = from_corpus.is_some();
        let input = from_corpus.unwrap_or_else(|| {
            // What came last is changed most: it is where the frontier is. And what is understood leads further than what
            // is refused at the door.
            let latest = mutator.dice.below(finds.len()).max(mutator.dice.below(finds.len()));
            let understood = mutator.dice.below(3) > 0;
            let choice = mutator.dice.one_of(&accepted).copied().filter(|_| understood).unwrap_or(latest);
            finds.get(choice).map_or_else(Vec::new, |Find { input, compared }| {
                mutator.change(input, &found.inputs, compared)
            })
        });
        let (ran, trace) = trace_of(|| run_one(target, &input));
        let reached = match ran {
            Ok(reached) => reached,
            Err(broken) => {
                found.broken = Some(broken);
                return found;
            }
        };
        found.tally.count(reached);
        let before = covered.len();
        covered.extend(trace.features);
        if covered.len() > before || (kept && finds.is_empty()) {
            found.features = covered.len();
            found.last_new = begun.elapsed();
            found.inputs.push(input.clone());
            if reached == Reached::Accepted {
                accepted.push(finds.len());
            }
            finds.push(Find { input, compared: trace.comparisons });
        }
        let elapsed = begun.elapsed();
        if elapsed >= next_report {
            next_report += Duration::from_secs(5);
            report(&found, elapsed);
        }
        if elapsed >= time && waiting.is_empty() {
            return found;
        }
    }
}

/// The fewest and shortest of these inputs that cover what all cover, greedily: shortest first.
pub fn minimise(target: &Target, mut inputs: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    inputs.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
    inputs.dedup();
    let mut covered: BTreeMap<u32, usize> = BTreeMap::new();
    let mut traces = Vec::new();
    for (number, input) in inputs.iter().enumerate() {
        let (_, trace) = trace_of(|| run_one(target, input));
        // Only whether an edge is taken at all: how often would keep ten times as many.
        let edges: BTreeSet<u32> = trace.features.iter().map(|feature| feature >> 3).collect();
        for edge in &edges {
            covered.entry(*edge).or_insert(number);
        }
        traces.push(edges);
    }
    let needed: BTreeSet<usize> = covered.into_values().collect();
    // Backwards: what the rest covers as well is left out.
    let mut kept: Vec<usize> = needed.into_iter().collect();
    for number in kept.clone() {
        let others: BTreeSet<u32> = kept
            .iter()
            .filter(|other| **other != number)
            .flat_map(|other| &traces[*other])
            .copied()
            .collect();
        if traces[number].is_subset(&others) {
            kept.retain(|other| *other != number);
        }
    }
    kept.into_iter().map(|number| inputs[number].clone()).collect()
}

/// A shorter input that breaks the target, too: pieces are left out as long as that goes.
pub fn shrink(target: &Target, input: &[u8]) -> Vec<u8> {
    let mut best = input.to_vec();
    let mut piece = best.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < best.len() {
            let mut shorter = best.clone();
            shorter.drain(at..(at + piece).min(best.len()));
            if run_one(target, &shorter).is_err() {
                best = shorter;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn careless(input: &[u8]) -> Reached {
        assert!(!input.windows(3).any(|three| three == b"BUG"), "three letters");
        Reached::accepted_if(input.first() == Some(&b'B'))
    }

    const CARELESS: Target = Target {
        name: "careless",
        run: careless,
        seeds: || vec![b"B".to_vec()],
        length_max: 64,
        words: &[b"BUG"],
        text: false,
        smoke: 10,
    };

    #[test]
    fn what_breaks_a_target_is_found_and_shortened() {
        let found = explore(&CARELESS, Vec::new(), Duration::from_mins(1), 1, |_, _| {});
        let broken = found.broken.expect("the word is in its dictionary");
        assert_eq!(broken.why, "three letters");
        assert_eq!(shrink(&CARELESS, &broken.input), b"BUG");
    }
}
