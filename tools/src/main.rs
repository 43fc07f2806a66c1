//! The quorate command: the operator's tool.

use std::process::ExitCode;

use quorate_tools::{Console, Environment};

fn main() -> ExitCode {
    let environment = Environment::of_this_process();
    ExitCode::from(quorate_tools::run(std::env::args_os(), &environment, Console::of_this_process()))
}
