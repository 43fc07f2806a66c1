//! The committed corpora again, then so many mutations of them: what the gate does of fuzzing. `make fuzz` goes on.

use quorate_fuzz::corpus;
use quorate_fuzz::engine::gate;
use quorate_fuzz::targets::{chunk, client, peer, segment, stamp};

/// Bytes of all corpora together.
const CORPORA_BYTES_MAX: usize = 1 << 20;

#[test]
fn client() {
    gate(&client::TARGET);
}

#[test]
fn peer() {
    gate(&peer::TARGET);
}

#[test]
fn stamp() {
    gate(&stamp::TARGET);
}

#[test]
fn segment() {
    gate(&segment::TARGET);
}

#[test]
fn chunk() {
    gate(&chunk::TARGET);
}

#[test]
fn corpora_are_small() {
    let mut bytes = 0;
    for dir in std::fs::read_dir(corpus::root()).expect("tests/corpus is there") {
        let inputs = corpus::read(&dir.expect("an entry").path()).expect("a corpus can be read");
        bytes += inputs.values().map(Vec::len).sum::<usize>();
    }
    assert!(bytes < CORPORA_BYTES_MAX, "{bytes} bytes of corpora: minimise them with --save");
}
