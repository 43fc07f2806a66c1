//! `counts` lists what can be counted; `counts NAME` does one piece of it, and says for how many messages it was and what
//! it asked of the allocator: `messages calls bytes`. Instructions are counted from outside: see `scripts/bench-check`.

use std::process::ExitCode;

use quorate_bench::work::{ALL, named};

fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1) else {
        for work in ALL {
            println!("{}", work.name);
        }
        return ExitCode::SUCCESS;
    };
    let Some(work) = named(&name) else {
        eprintln!("counts: there is no `{name}`: without an argument it lists what there is");
        return ExitCode::from(64);
    };
    let measured = (work.run)();
    println!("{} {} {}", measured.messages, measured.allocations.calls, measured.allocations.bytes);
    ExitCode::SUCCESS
}
