//! The quorate command: the operator's tool.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(quorate_tools::run(std::env::args_os(), quorate_tools::Console::of_this_process()))
}
