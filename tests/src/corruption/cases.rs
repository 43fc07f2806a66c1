//! The changes, one at a time, and what came of each.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_store::files::Files;
use quorate_store::files::crash::CrashFiles;
use quorate_store::model::StateModel;
use quorate_store::stamp::SLOT_NAMES;

use super::golden::Golden;
use super::layout::{Layout, layout};
use super::verdict::{Content, Look, Verdict, Verdicts, compare, look, start};
use crate::sim::dice::Dice;
use crate::sim::storage::{Medium, STORE_DIRECTORY};

/// What was tried, and what came of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// By kind of change.
    pub kinds: BTreeMap<&'static str, Verdicts>,
    /// By kind of change, of what only fills up: tried like the rest, and not counted among the cases.
    pub fillings: BTreeMap<&'static str, Verdicts>,
    /// Changes that had been tried before and were left out.
    pub repeats: u64,
    /// Starts of a broker among them.
    pub starts: u64,
    /// What must not have been.
    pub failures: Vec<String>,
}

impl Tally {
    /// How many changes of something that means something, each another one.
    pub fn cases(&self) -> u64 {
        self.kinds.values().flat_map(BTreeMap::values).sum()
    }

    /// How many changes of filling.
    pub fn filling(&self) -> u64 {
        self.fillings.values().flat_map(BTreeMap::values).sum()
    }

    /// How many changes of all came to this.
    pub fn came_to(&self, verdict: Verdict) -> u64 {
        self.kinds.values().chain(self.fillings.values()).filter_map(|kind| kind.get(&verdict)).sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cases ({} changes were a broker's start too, {} repeats were left out): {:?}; {} of filling: {:?}",
            self.cases(),
            self.starts,
            self.repeats,
            self.kinds,
            self.filling(),
            self.fillings
        )
    }
}

/// Every so many changes a broker starts from the store, too.
const START_EVERY: u64 = 8;
const BLOCK: usize = 4096;
const FAILURES_MAX: usize = 10;

/// How many bytes are compared at a time.
const PIECE: usize = 512;

/// How much one change may hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Single bytes, ends, whole files of which something else says that they were there.
    WithinBatch,
    /// Blocks as well, with every batch in them.
    Blocks,
}

struct Trial<'golden> {
    golden: &'golden Golden,
    reach: Reach,
    layouts: BTreeMap<&'golden Path, Layout>,
    contents: BTreeMap<PathBuf, Content>,
    /// Hashes of what was changed to what.
    tried: HashSet<u64>,
    tally: Tally,
    dice: Dice,
}

/// Tries every change of these files.
///
/// # Panics
/// If the store is not sound to begin with.
pub fn examine(golden: &Golden, seed: u64, reach: Reach, wanted: impl Fn(&Path) -> bool) -> Tally {
    let mut trial = Trial::new(golden, seed, reach);
    for (path, bytes) in &golden.files {
        if wanted(path) {
            let layout = trial.layouts[&**path].clone();
            trial.file(path, bytes, &layout);
        }
    }
    trial.tally
}

/// Tries the same change in both slots of the stamp: it has to be refused, never taken for a store without one.
///
/// # Panics
/// As [`examine`].
pub fn examine_both_slots(golden: &Golden, seed: u64) -> Tally {
    let mut trial = Trial::new(golden, seed, Reach::WithinBatch);
    let slots = SLOT_NAMES.map(|name| Path::new(STORE_DIRECTORY).join(name));
    let bytes = slots.each_ref().map(|slot| &golden.files[slot]);
    for at in 0..bytes[0].len().min(bytes[1].len()) {
        let bit = 1 << trial.dice.below(8);
        for change in [|byte, bit| byte ^ bit, |_, _| 0x00, |_, _| 0xff] as [fn(u8, u8) -> u8; 3] {
            let changed = bytes.map(|bytes| {
                let mut changed = bytes.clone();
                changed[at] = change(changed[at], bit);
                changed
            });
            if changed.iter().zip(bytes).all(|(changed, bytes)| changed != bytes) {
                let pair = [(&*slots[0], Some(&*changed[0])), (&*slots[1], Some(&*changed[1]))];
                trial.case("both slots", &slots[0], &pair, true, &|| format!("byte {at}"));
            }
        }
    }
    trial.tally
}

impl<'golden> Trial<'golden> {
    fn new(golden: &'golden Golden, seed: u64, reach: Reach) -> Self {
        let files: Arc<dyn Files> = Arc::new(golden.disk.clone());
        let homes = golden.files.keys().map(|path| golden.home(path));
        let contents = homes.map(|home| match look(&files, &home) {
            Look::Opened(content, notes) if notes.is_empty() => (home, *content),
            other => panic!("the golden store is not sound: {other:?}"),
        });
        let contents = contents.collect();
        let layouts = golden
            .files
            .iter()
            .map(|(path, bytes)| (&**path, layout(path, bytes).expect("only files that are read")));
        Trial {
            golden,
            reach,
            layouts: layouts.collect(),
            contents,
            tried: HashSet::new(),
            tally: Tally::default(),
            dice: Dice::new(seed, "corruption"),
        }
    }

    fn file(&mut self, path: &Path, bytes: &[u8], layout: &Layout) {
        for at in layout.heads.iter().cloned().flatten() {
            for bit in 0..8 {
                self.byte("one bit of a head", path, bytes, at, bytes[at] ^ (1 << bit));
            }
        }
        for at in layout.bodies.iter().cloned().flatten() {
            // Two of the eight, never the same.
            let bit = self.dice.below(8);
            for bit in [bit, (bit + 1 + self.dice.below(7)) % 8] {
                self.byte("one bit of a body", path, bytes, at, bytes[at] ^ (1 << bit));
            }
        }
        for at in layout.heads.iter().chain(&layout.bodies).cloned().flatten() {
            self.byte("a byte 0x00", path, bytes, at, 0);
            self.byte("a byte 0xff", path, bytes, at, 0xff);
        }
        for at in layout.fillings.iter().cloned().flatten() {
            let bit = self.dice.below(8);
            self.byte("one bit", path, bytes, at, bytes[at] ^ (1 << bit));
            self.byte("a byte 0xff", path, bytes, at, 0xff);
        }
        if self.reach == Reach::Blocks {
            self.blocks(path, bytes, layout);
        }
        let mut cuts: Vec<usize> =
            layout.borders.iter().flat_map(|at| [at.saturating_sub(1), *at, at + 1]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        for cut in cuts.into_iter().filter(|cut| *cut < bytes.len()) {
            self.case("cut off", path, &[(path, Some(&bytes[..cut]))], false, &|| format!("at {cut}"));
        }
        if self.reach == Reach::Blocks || self.is_proved(path) {
            self.case("missing", path, &[(path, None)], false, &String::new);
        }
        let others: Vec<_> = self
            .golden
            .files
            .iter()
            .filter(|(other, _)| {
                *other != path && other.parent() == path.parent() && is_segment(other) && is_segment(path)
            })
            .collect();
        for (other, content) in others {
            let told = || format!("content of {}", other.display());
            self.case("another's content", path, &[(path, Some(content))], false, &told);
        }
        if is_segment(path) {
            self.more_segments(path, bytes);
        }
    }

    /// Whether anything but a file itself says that it was there: of a segment the stamp, which was synced up to a place in
    /// it or behind it. What nobody says so of is every batch since that stamp.
    fn is_proved(&self, path: &Path) -> bool {
        let Some(generation) = generation(path) else { return true };
        let stamp = self.contents[&self.golden.home(path)].stamp.as_ref();
        stamp.is_some_and(|stamp| stamp.log_synced.generation >= generation)
    }

    /// A copy of a segment under the name of one that is not there.
    fn more_segments(&mut self, path: &Path, bytes: &[u8]) {
        let all: Vec<PathBuf> =
            self.golden.files.keys().filter(|other| other.parent() == path.parent()).cloned().collect();
        for step in [1_u64, 2] {
            for (up, of) in [(true, all.last()), (false, all.first())] {
                let place = of.and_then(|of| Some((of.parent()?, generation(of)?)));
                let Some((dir, generation)) = place else { continue };
                let generation = if up { generation + step } else { generation.saturating_sub(step) };
                let place = dir.join(format!("segment-{generation:016x}"));
                if !self.golden.files.contains_key(&place) {
                    let told = || format!("of {}", path.display());
                    self.case("one more", &place, &[(&place, Some(bytes))], false, &told);
                }
            }
        }
    }

    fn byte(&mut self, kind: &'static str, path: &Path, bytes: &[u8], at: usize, byte: u8) {
        if bytes[at] != byte {
            let mut changed = bytes.to_vec();
            changed[at] = byte;
            self.case(kind, path, &[(path, Some(&changed))], true, &|| format!("byte {at} is {byte:#04x}"));
        }
    }

    fn blocks(&mut self, path: &Path, bytes: &[u8], layout: &Layout) {
        let used = |block: usize| {
            let range = block * BLOCK..(block + 1) * BLOCK;
            layout
                .heads
                .iter()
                .chain(&layout.bodies)
                .any(|used| used.start < range.end && range.start < used.end)
        };
        let count = bytes.len().div_ceil(BLOCK);
        let put = |to: &mut Vec<u8>, block: usize, from: &[u8]| {
            let end = to.len().min((block + 1) * BLOCK);
            let place = &mut to[block * BLOCK..end];
            let length = place.len().min(from.len());
            place[..length].copy_from_slice(&from[..length]);
        };
        let piece = |bytes: &[u8], block: usize| bytes.chunks(BLOCK).nth(block).map(<[u8]>::to_vec);
        for block in (0..count).filter(|block| used(*block)) {
            let mut changes: Vec<(&'static str, Vec<u8>)> = Vec::new();
            let mut zeroed = bytes.to_vec();
            put(&mut zeroed, block, &[0; BLOCK]);
            changes.push(("a block zeroed", zeroed));
            for other in (0..count).filter(|other| *other != block) {
                let mut swapped = bytes.to_vec();
                if let (Some(one), Some(two)) = (piece(bytes, block), piece(bytes, other)) {
                    put(&mut swapped, block, &two);
                    put(&mut swapped, other, &one);
                    changes.push(("blocks swapped", swapped));
                }
            }
            for past in self.golden.older.get(path).into_iter().flatten() {
                if let Some(piece) = piece(past, block) {
                    let mut older = bytes.to_vec();
                    put(&mut older, block, &piece);
                    changes.push(("a block of the past", older));
                }
            }
            changes.retain(|(_, changed)| changed != bytes);
            changes.dedup();
            for (kind, changed) in changes {
                self.case(kind, path, &[(path, Some(&changed))], false, &|| format!("block {block}"));
            }
        }
    }

    /// What a change changes: a number that another change does not have, and whether any of it means something.
    fn what(&self, changes: &[(&Path, Option<&[u8]>)]) -> (u64, bool) {
        // A keyless hash, the same in each run. That two of a few hundred thousand have the same one, so that a case is
        // left out, does not come to pass in a life.
        let mut hasher = DefaultHasher::new();
        let mut means = false;
        for (path, content) in changes {
            path.hash(&mut hasher);
            let before = self.golden.files.get(*path);
            match (before, content) {
                (Some(before), Some(content)) => {
                    let different = difference(before, content);
                    means |=
                        different.iter().any(|(at, _)| *at >= before.len() || self.layouts[path].means(*at));
                    (content.len(), different).hash(&mut hasher);
                }
                (None, Some(content)) => {
                    means = true;
                    content.hash(&mut hasher);
                }
                (_, None) => means = true,
            }
        }
        (hasher.finish(), means)
    }

    /// One change: it is read, and has to be noticed if that is asked for.
    fn case(
        &mut self,
        kind: &'static str,
        path: &Path,
        changes: &[(&Path, Option<&[u8]>)],
        must_be_noticed: bool,
        told: &dyn Fn() -> String,
    ) {
        if self.tally.failures.len() >= FAILURES_MAX {
            return;
        }
        let (number, means) = self.what(changes);
        if !self.tried.insert(number) {
            self.tally.repeats += 1;
            return;
        }
        let home = self.golden.home(path);
        let disk = self.golden.disk.fork();
        for (path, content) in changes {
            match content {
                Some(content) => disk.replace(path, content),
                None => disk.remove(path).expect("a file of the store"),
            }
        }
        let turn = self.tally.cases() + self.tally.filling();
        let starts = home == Path::new(STORE_DIRECTORY) && turn.is_multiple_of(START_EVERY);
        let result = catch_unwind(AssertUnwindSafe(|| self.judge(&disk, &home, starts)));
        let result = result.unwrap_or_else(|_| Err("the product panicked".to_owned()));
        self.tally.starts += u64::from(starts);
        let result = match result {
            Ok(Verdict::Same) if must_be_noticed => Err("nothing was noticed".to_owned()),
            result => result,
        };
        match result {
            Ok(verdict) => {
                let kinds = if means { &mut self.tally.kinds } else { &mut self.tally.fillings };
                *kinds.entry(kind).or_default().entry(verdict).or_default() += 1;
            }
            Err(why) => {
                let failure = format!("change {turn}, {kind}, {} {}: {why}", path.display(), told());
                self.tally.failures.push(failure);
            }
        }
    }

    fn judge(&self, disk: &CrashFiles, home: &Path, starts: bool) -> Result<Verdict, String> {
        let golden = &self.contents[home];
        let files: Arc<dyn Files> = Arc::new(disk.clone());
        let possible = &self.golden.logs;
        let verdict = compare(golden, possible, &look(&files, home))?;
        if starts {
            let medium = Medium { files: disk.clone(), state: StateModel::new(), recorder: None };
            let started = compare(golden, possible, &start(&medium))?;
            let agree = match started {
                Verdict::Same => verdict != Verdict::Refused,
                started => started == verdict,
            };
            if !agree {
                return Err(format!("whoever looks finds {verdict:?}, a broker that starts {started:?}"));
            }
        }
        Ok(verdict)
    }
}

/// Each byte that is another one afterwards, or none any more.
fn difference(before: &[u8], after: &[u8]) -> Vec<(usize, Option<u8>)> {
    let longest = before.len().max(after.len());
    (0..longest)
        .step_by(PIECE)
        .map(|start| start..longest.min(start + PIECE))
        .filter(|piece| before.get(piece.clone()) != after.get(piece.clone()))
        .flatten()
        .filter(|at| before.get(*at) != after.get(*at))
        .map(|at| (at, after.get(at).copied()))
        .collect()
}

fn is_segment(path: &Path) -> bool {
    generation(path).is_some()
}

fn generation(path: &Path) -> Option<u64> {
    u64::from_str_radix(path.file_name()?.to_str()?.strip_prefix("segment-")?, 16).ok()
}
