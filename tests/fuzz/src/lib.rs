//! Fuzzing: what a decoder makes of bytes that nobody meant for it.
//!
//! ```text
//!   tests/corpus/<target>/  ──> corpus ──> mutator ──> Target::run(&[u8]) ──> panics, or not
//!                                 ▲                        │
//!                                 └── new coverage ◄───────┘   only where the compiler counts edges
//! ```
//!
//! A [`Target`] is one function of bytes, with the properties in it: it panics if one does not hold. Three drivers share
//! it: [`engine::replay`] runs the committed corpus, [`engine::smoke`] so many mutations of it from a fixed seed (both are
//! part of the gate), and the program `fuzz` goes on for as long as it is told, guided by coverage where
//! `tests/fuzz/instrumented` compiled the code under test.
//!
//! The two modules that the compiler and the standard library speak to, [`allocator`] and [`coverage`], are the only
//! unsafe code of the repository; nothing that ships contains them.

pub mod allocator;
pub mod broker;
pub mod corpus;
pub mod coverage;
pub mod dice;
pub mod engine;
pub mod mutator;
pub mod program;
pub mod targets;

/// One function of bytes.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Panics if a property does not hold; what it returns is how far the bytes came, for the report.
    pub run: fn(&[u8]) -> Reached,
    /// Real encodings to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Longest input, in bytes.
    pub length_max: usize,
    /// Words of the format.
    pub words: &'static [&'static [u8]],
    /// It is lines of text.
    pub text: bool,
    /// How many mutations the gate tries.
    pub smoke: u64,
}

/// How far an input came. A smoke run in which nothing is accepted tests little, so that is asserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Something of it was understood.
    Accepted,
    /// Refused with a typed error.
    Refused,
}

impl Reached {
    /// Accepted if this is true.
    pub fn accepted_if(accepted: bool) -> Self {
        if accepted { Self::Accepted } else { Self::Refused }
    }
}
