//! RocksDB's own files with one thing in them changed at a time: the state store is what it was, or it is refused, or,
//! where the end of its manifest is gone, what it was after an earlier flush, which is one edit of the manifest. It is never
//! something else.
//!
//! That it is an earlier one is seen beside the log: what comes after it is there, and repeated, or the log begins later,
//! and the store is damaged.
//!
//! `QUORATE_CORRUPTION_SEED` draws other bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use quorate_store::state::{Family, Pair, StateBatch, StateError, StateStore, StateWrite};
use quorate_store_rocks::{RocksConfig, RocksReader, RocksStore};
use tempfile::TempDir;

const FAMILIES: [Family; 3] = [Family::Node, Family::State, Family::Body];
const CONFIG: RocksConfig = RocksConfig { memory: 8 << 20 };

type Content = Vec<Vec<Pair>>;
type Directory = BTreeMap<String, Vec<u8>>;

/// The same numbers every time (splitmix64).
struct Dice(u64);

impl Dice {
    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).expect("below 256")
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound.max(1) as u64).expect("below the bound")
    }
}

fn batch(round: u64) -> StateBatch {
    let mut dice = Dice(round);
    let mut writes = Vec::new();
    for number in 0..60_u64 {
        let key = |tag: u8| Bytes::from([&[tag][..], &(round * 1000 + number).to_be_bytes()].concat());
        let value = Bytes::from((0..50).map(|_| dice.byte()).collect::<Vec<_>>());
        writes.push(StateWrite::Put(Family::Body, key(1), value.clone()));
        writes.push(StateWrite::Put(Family::State, Bytes::from(format!("state {number}")), value));
        if round > 0 && number % 3 == 0 {
            let older = [&[1][..], &((round - 1) * 1000 + number).to_be_bytes()].concat();
            writes.push(StateWrite::Delete(Family::Body, Bytes::from(older)));
        }
    }
    writes.push(StateWrite::Put(
        Family::Node,
        Bytes::from_static(b"applied"),
        Bytes::from(format!("{round}")),
    ));
    StateBatch { writes }
}

fn everything(scan: impl Fn(Family) -> Result<Vec<Pair>, StateError>) -> Result<Content, StateError> {
    FAMILIES.into_iter().map(scan).collect()
}

/// As a broker that waits looks at it.
fn look(dir: &Path) -> Result<Content, StateError> {
    if RocksReader::is_unmade(dir)? {
        return Ok(vec![Vec::new(); 3]);
    }
    let reader = RocksReader::open(dir)?;
    everything(|family| reader.scan(family, b"", &[0xff; 40], usize::MAX))
}

/// As a broker that begins to write opens it.
fn open(dir: &Path) -> Result<Content, StateError> {
    let store = RocksStore::open(dir, CONFIG)?;
    everything(|family| store.scan(family, b"", &[0xff; 40], usize::MAX, None))
}

/// The files that are read.
fn files(dir: &Path) -> Directory {
    let entries =
        fs::read_dir(dir).expect("the disk is sound").map(|entry| entry.expect("the disk is sound"));
    let named =
        entries.map(|entry| (entry.file_name().into_string().expect("the disk is sound"), entry.path()));
    let read = named.filter(|(name, _)| name != "LOCK" && !name.starts_with("LOG"));
    read.map(|(name, path)| (name, fs::read(path).expect("the disk is sound"))).collect()
}

fn written(directory: &Directory) -> TempDir {
    let dir = tempfile::tempdir().expect("the disk is sound");
    for (name, content) in directory {
        fs::write(dir.path().join(name), content).expect("the disk is sound");
    }
    dir
}

/// What is done to one file; none removes it.
fn changes(
    name: &str,
    golden: &Directory,
    older: &Directory,
    dice: &mut Dice,
) -> Vec<(String, Option<Vec<u8>>)> {
    let bytes = &golden[name];
    let mut all = vec![("missing".to_owned(), None)];
    let mut add = |what: String, changed: Vec<u8>| {
        if changed != *bytes {
            all.push((what, Some(changed)));
        }
    };
    // The engine rewrites options and identity and asks for neither: a few changes show it.
    let is_read = !name.starts_with("OPTIONS") && name != "IDENTITY";
    let few = match bytes.len() {
        _ if !is_read => 4,
        length @ ..=256 => length,
        _ => 64,
    };
    for number in 0..few {
        let at = if few >= bytes.len() { number } else { dice.below(bytes.len()) };
        for byte in [bytes[at] ^ (1 << dice.below(8)), 0, 0xff] {
            let mut changed = bytes.clone();
            changed[at] = byte;
            add(format!("byte {at} is {byte:#04x}"), changed);
        }
    }
    for cut in [
        0,
        1,
        bytes.len() / 2,
        bytes.len().saturating_sub(1),
        dice.below(bytes.len()),
        dice.below(bytes.len()),
    ] {
        add(format!("cut off at {cut}"), bytes[..cut.min(bytes.len())].to_vec());
    }
    for block in 0..bytes.len().div_ceil(4096) {
        let mut changed = bytes.clone();
        let end = bytes.len().min((block + 1) * 4096);
        changed[block * 4096..end].fill(0);
        add(format!("block {block} zeroed"), changed);
    }
    if let Some(older) = older.get(name) {
        add("as it was before".to_owned(), older.clone());
    }
    let kind = |name: &str| name.split(['.', '-']).next_back().map(str::to_owned);
    for (other, content) in golden.iter().filter(|(other, _)| *other != name && kind(other) == kind(name)) {
        add(format!("the content of {other}"), content.clone());
    }
    all
}

#[test]
fn a_state_store_with_anything_changed_is_the_same_or_refused() {
    let begun = Instant::now();
    let dir = tempfile::tempdir().expect("the disk is sound");
    let mut older = Directory::new();
    let mut earlier = Vec::new();
    for round in 0..4 {
        // Each life leaves a manifest of its own.
        let mut store = RocksStore::open(dir.path(), CONFIG).expect("the disk is sound");
        store.write(&batch(round)).expect("the disk is sound");
        store.flush().expect("the disk is sound");
        drop(store);
        earlier.push(look(dir.path()).expect("the disk is sound"));
        if round == 2 {
            older = files(dir.path());
        }
    }
    let (golden, content) = (files(dir.path()), look(dir.path()).expect("the disk is sound"));
    assert!(content.iter().all(|family| !family.is_empty()));
    let seed = std::env::var("QUORATE_CORRUPTION_SEED").ok();
    let seed = seed.map_or(11, |text| text.parse().expect("QUORATE_CORRUPTION_SEED is a number"));
    let mut dice = Dice(seed);
    let mut counts: BTreeMap<(String, &str), u64> = BTreeMap::new();
    let mut failures = Vec::new();
    for name in golden.keys() {
        for (number, (what, changed)) in changes(name, &golden, &older, &mut dice).into_iter().enumerate() {
            let mut directory = golden.clone();
            match changed {
                Some(changed) => directory.insert(name.clone(), changed),
                None => directory.remove(name),
            };
            let place = written(&directory);
            let mut looks = vec![("look", look(place.path()))];
            if number % 16 == 0 {
                looks.push(("start", open(place.path())));
            }
            for (way, found) in looks {
                let verdict = match found {
                    Err(StateError::Corrupt(_)) => "refused as damaged",
                    Err(_) => "refused",
                    Ok(found) if found == content => "same",
                    Ok(found) if name.starts_with("MANIFEST") && earlier.contains(&found) => "earlier",
                    Ok(_) => {
                        failures.push(format!("{name}, {what}: a {way} finds other content"));
                        "different"
                    }
                };
                let kind = name.trim_matches(|c: char| c.is_ascii_digit() || c == '-' || c == '.').to_owned();
                *counts.entry((kind, verdict)).or_default() += 1;
            }
        }
    }
    // Whatever is found the same may be bytes that nobody reads: that is no case.
    let cases: u64 =
        counts.iter().filter(|((_, verdict), _)| *verdict != "same").map(|(_, count)| count).sum();
    println!("{cases} looks at a changed state store in {:?}: {counts:?}", begun.elapsed());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(cases >= 1000, "{cases}: {counts:?}");
}
