//! Fuzzes the targets that need no RocksDB.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate_fuzz::program::main(&quorate_fuzz::targets::TARGETS)
}
