//! The committed corpora again, then so many mutations of them: what the gate does of fuzzing. `make fuzz` goes on.

use quorate_fuzz::engine::gate;
use quorate_fuzz_programs::{admin, configuration};

#[test]
fn admin() {
    gate(&admin::TARGET);
}

#[test]
fn configuration() {
    gate(&configuration::TARGET);
}
