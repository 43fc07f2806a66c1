//! A store that the product wrote, with one thing in it changed at a time: it is refused, or it is what it was. It is
//! never something else.
//!
//! `QUORATE_CORRUPTION_SEED` draws other bits and another store. As many cases are asked of every seed.

use std::path::Path;
use std::time::Instant;

use quorate_tests::corruption::cases::{Reach, Tally, examine, examine_both_slots};
use quorate_tests::corruption::golden::Golden;
use quorate_tests::corruption::verdict::Verdict;

/// How many cases each test tries at least: each another one, and of bytes that mean something.
const CLOSED: u64 = 80_000;
const QUARANTINE: u64 = 65_000;
const IN_USE: u64 = 6_000;
const BOTH_SLOTS: u64 = 7_000;
const _: () = assert!(CLOSED + QUARANTINE + IN_USE + BOTH_SLOTS >= 150_000, "the layer tries too little");

fn seed() -> u64 {
    let set = std::env::var("QUORATE_CORRUPTION_SEED").ok();
    set.map_or(11, |text| text.parse().expect("QUORATE_CORRUPTION_SEED is a number"))
}

fn run(golden: &Golden, reach: Reach, wanted: impl Fn(&Path) -> bool) -> Tally {
    let begun = Instant::now();
    let tally = examine(golden, seed(), reach, wanted);
    println!("golden store of seed {}: {tally} in {:?}", seed(), begun.elapsed());
    assert!(tally.failures.is_empty(), "{}", tally.failures.join("\n"));
    tally
}

fn in_quarantine(path: &Path) -> bool {
    path.to_string_lossy().contains("/quarantine/")
}

#[test]
fn a_closed_store_with_anything_changed_is_the_same_or_refused() {
    let golden = Golden::closed(seed());
    assert!(golden.segments().len() >= 3, "{:?}", golden.segments());
    let tally = run(&golden, Reach::Blocks, |path| !in_quarantine(path));
    assert_eq!(tally.came_to(Verdict::TailDropped), 0, "everything in it was reported durable: {tally}");
    assert!(tally.cases() >= CLOSED, "{tally}");
}

#[test]
fn an_image_in_quarantine_with_anything_changed_is_the_same_or_refused() {
    let tally = run(&Golden::closed(seed()), Reach::Blocks, in_quarantine);
    assert!(tally.cases() >= QUARANTINE, "{tally}");
}

#[test]
fn a_store_in_use_loses_at_most_the_batch_that_was_never_acknowledged() {
    let golden = Golden::in_use(seed());
    let last = golden.segments().pop().expect("a segment");
    // What hits the last two batches at once looks like a log that ended before them. The peers remember what was
    // acknowledged to them; the store alone cannot.
    let tally = run(&golden, Reach::WithinBatch, |path| path == last);
    assert!(tally.came_to(Verdict::TailDropped) > 0 && tally.cases() >= IN_USE, "{tally}");
}

#[test]
fn a_stamp_that_is_unreadable_twice_is_never_taken_for_none() {
    let mut cases = 0;
    for golden in [Golden::forming(seed()), Golden::closed(seed())] {
        let tally = examine_both_slots(&golden, seed());
        println!("both slots of golden store of seed {}: {tally}", seed());
        assert!(tally.failures.is_empty(), "{}", tally.failures.join("\n"));
        assert_eq!(tally.came_to(Verdict::Refused), tally.cases() + tally.filling(), "{tally}");
        cases += tally.cases();
    }
    assert!(cases >= BOTH_SLOTS, "{cases} cases");
}
