//! The targets that need no RocksDB. Those of the programs' own input are in the package `quorate-fuzz-programs`.

pub mod chunk;
pub mod client;
pub mod peer;
pub mod segment;
pub mod stamp;

use crate::Target;

/// All of them.
pub const TARGETS: [Target; 5] =
    [client::TARGET, peer::TARGET, stamp::TARGET, segment::TARGET, chunk::TARGET];

/// Bytes in hexadecimal with comments, as `docs/internals/wire-vectors.txt` has them: those of one side.
fn vectors(side: &str) -> Vec<Vec<u8>> {
    const VECTORS: &str = include_str!("../../../../docs/internals/wire-vectors.txt");
    let mut vectors: Vec<(bool, Vec<u8>)> = Vec::new();
    for line in VECTORS.lines() {
        let line = line.split('#').next().unwrap_or_default();
        if let Some(words) = line.strip_prefix("= ") {
            let mut words = words.split_whitespace();
            let wanted = words.next() == Some(side) && words.next() != Some("refused");
            vectors.push((wanted, Vec::new()));
        } else if let Some((_, bytes)) = vectors.last_mut() {
            let digits: Vec<char> = line.chars().filter(|letter| !letter.is_whitespace()).collect();
            bytes.extend(
                digits
                    .chunks(2)
                    .filter_map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).ok()),
            );
        }
    }
    vectors.into_iter().filter(|(wanted, _)| *wanted).map(|(_, bytes)| bytes).collect()
}

/// Takes the first byte off: what a target decides by it is not part of the format.
fn mode(input: &[u8]) -> (u8, &[u8]) {
    input.split_first().map_or((0, &[][..]), |(first, rest)| (*first, rest))
}
