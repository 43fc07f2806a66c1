//! Changes inputs: bits, numbers, pieces that move, words of the format, and values that the code asked for.

use std::ops::Range;

use crate::Target;
use crate::coverage::Comparison;
use crate::dice::Dice;

/// Numbers at which code changes its mind.
const NUMBERS: [u64; 18] = [
    0,
    1,
    2,
    7,
    8,
    15,
    16,
    127,
    128,
    255,
    256,
    1024,
    4096,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    i64::MAX as u64,
    u64::MAX,
];
/// Changes on top of each other, at most.
const CHANGES_MAX: usize = 6;
const PIECE_MAX: usize = 64;

/// Makes new inputs of old ones.
#[derive(Debug)]
pub struct Mutator<'a> {
    /// What happens.
    pub dice: Dice,
    /// Words of the format.
    pub words: &'a [&'a [u8]],
    /// Longest input.
    pub length_max: usize,
    /// Inputs are lines of text: lines and decimal numbers change, too.
    pub text: bool,
}

impl Mutator<'static> {
    /// For a target.
    pub fn new(target: &Target, seed: u64) -> Self {
        Self { dice: Dice::new(seed), words: target.words, length_max: target.length_max, text: target.text }
    }
}

impl Mutator<'_> {
    /// A changed copy of `input`; pieces may come from `others`, values from what was compared in the run before.
    pub fn change(&mut self, input: &[u8], others: &[Vec<u8>], compared: &[Comparison]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..=self.dice.below(CHANGES_MAX) {
            self.change_once(&mut bytes, others, compared);
        }
        bytes.truncate(self.length_max);
        bytes
    }

    fn change_once(&mut self, bytes: &mut Vec<u8>, others: &[Vec<u8>], compared: &[Comparison]) {
        if self.text && self.dice.below(2) == 0 {
            return self.change_text(bytes, others);
        }
        let at = self.dice.below(bytes.len());
        match self.dice.below(12) {
            0 | 1 => {
                let bit = self.dice.below(8);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            2 => {
                let value = self.dice.number().to_le_bytes()[0];
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            3 | 4 => {
                let number = self.dice.one_of(&NUMBERS).copied().unwrap_or_default();
                self.put_number(bytes, at, number);
            }
            5 => {
                let wide = 1 << self.dice.below(4);
                let Some(old) = bytes.get(at..).and_then(|rest| rest.get(..wide)) else { return };
                let mut value = [0; 8];
                value[..wide].copy_from_slice(old);
                let step = u64::try_from(self.dice.below(35)).unwrap_or(0);
                let number = u64::from_le_bytes(value).wrapping_add(step).wrapping_sub(17);
                bytes[at..at + wide].copy_from_slice(&number.to_le_bytes()[..wide]);
            }
            6 => {
                let end = (at + 1 + self.dice.below(PIECE_MAX)).min(bytes.len());
                bytes.drain(at.min(end)..end);
            }
            7 => {
                let end = (at + 1 + self.dice.below(PIECE_MAX)).min(bytes.len());
                let piece = bytes.get(at..end).unwrap_or_default().to_vec();
                let to = self.dice.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            8 => {
                let Some(other) = self.dice.one_of(others) else { return };
                let from = self.dice.below(other.len());
                let end = (from + 1 + self.dice.below(4 * PIECE_MAX)).min(other.len());
                let piece = other.get(from..end).unwrap_or_default().to_vec();
                if self.dice.below(2) == 0 {
                    bytes.splice(at..at, piece);
                } else {
                    let end = (at + piece.len()).min(bytes.len());
                    bytes.splice(at.min(end)..end, piece);
                }
            }
            9 => {
                let Some(word) = self.dice.one_of(self.words) else { return };
                let end = if self.dice.below(2) == 0 { at } else { (at + word.len()).min(bytes.len()) };
                bytes.splice(at.min(end)..end, word.iter().copied());
            }
            _ => self.give_what_was_asked_for(bytes, compared),
        }
    }

    fn put_number(&mut self, bytes: &mut [u8], at: usize, number: u64) {
        let wide = 1 << self.dice.below(4);
        if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.get_mut(..wide)) {
            place.copy_from_slice(&number.to_le_bytes()[..wide]);
        }
    }

    /// A line goes, comes twice, comes from elsewhere, or changes its place; a number becomes another one.
    fn change_text(&mut self, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
        let spans = lines_of(bytes);
        let Some(line) = self.dice.one_of(&spans).cloned() else { return };
        match self.dice.below(8) {
            0 => drop(bytes.drain(line)),
            1 => {
                let copy = bytes[line.clone()].to_vec();
                bytes.splice(line.start..line.start, copy);
            }
            2 => {
                let Some(other) = self.dice.one_of(others) else { return };
                let Some(theirs) = self.dice.one_of(&lines_of(other)).cloned() else { return };
                let end = if self.dice.below(2) == 0 { line.start } else { line.end };
                bytes.splice(line.start..end, other[theirs].to_vec());
            }
            3 => {
                let moved = bytes.drain(line).collect::<Vec<u8>>();
                let places = lines_of(bytes);
                let to = self.dice.one_of(&places).map_or(0, |place| place.start);
                bytes.splice(to..to, moved);
            }
            _ => {
                // A run of digits, wherever it is.
                let digits: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).collect();
                let Some(at) = self.dice.one_of(&digits).copied() else { return };
                let start = bytes[..at]
                    .iter()
                    .rposition(|byte| !byte.is_ascii_digit())
                    .map_or(0, |before| before + 1);
                let end = bytes[at..]
                    .iter()
                    .position(|byte| !byte.is_ascii_digit())
                    .map_or(bytes.len(), |rest| at + rest);
                let number = match self.dice.below(3) {
                    0 => u64::try_from(self.dice.below(10)).unwrap_or(0),
                    1 => self.dice.one_of(&NUMBERS).copied().unwrap_or_default(),
                    _ => self.dice.number(),
                };
                bytes.splice(start..end, number.to_string().into_bytes());
            }
        }
    }

    /// The code compared a value of the input with another one: the other one takes its place.
    fn give_what_was_asked_for(&mut self, bytes: &mut [u8], compared: &[Comparison]) {
        let Some(comparison) = self.dice.one_of(compared) else { return };
        let Comparison { bytes: wide, one, other } = *comparison;
        let (old, new) = if self.dice.below(2) == 0 { (one, other) } else { (other, one) };
        let (old, new) = (&old.to_le_bytes()[..wide], &new.to_le_bytes()[..wide]);
        let places: Vec<usize> = (0..bytes.len().saturating_sub(wide - 1))
            .filter(|place| bytes.get(*place..place + wide) == Some(old))
            .collect();
        if let Some(place) = self.dice.one_of(&places) {
            bytes[*place..place + wide].copy_from_slice(new);
        }
    }
}

/// Where each line is, with its end.
fn lines_of(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut start = 0;
    bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| {
            let span = start..start + line.len();
            start = span.end;
            span
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs_within_the_length() {
        let others = vec![b"another input".to_vec()];
        let words: [&[u8]; 1] = [b"WORD"];
        let run = || {
            let mut mutator = Mutator { dice: Dice::new(7), words: &words, length_max: 40, text: true };
            let mut input = b"an input".to_vec();
            (0..2000)
                .map(|_| {
                    input = mutator.change(&input, &others, &[]);
                    assert!(input.len() <= 40);
                    input.clone()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
        assert!(run().iter().any(|input| input.windows(4).any(|four| four == b"WORD")));
    }

    #[test]
    fn a_value_that_was_asked_for_is_given() {
        let mut mutator = Mutator { dice: Dice::new(1), words: &[], length_max: 40, text: true };
        let compared = [Comparison { bytes: 4, one: 0x4443_4241, other: 0x5a5a_5a5a }];
        let changed: Vec<_> = (0..200).map(|_| mutator.change(b"..ABCD..", &[], &compared)).collect();
        assert!(changed.iter().any(|input| input == b"..ZZZZ.."));
    }
}
