//! Fuzzes the targets that need the programs.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate_fuzz::program::main(&quorate_fuzz_programs::TARGETS)
}
