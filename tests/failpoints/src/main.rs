//! One cell of the matrix: does everything by which a broker keeps something, with one point that fails.
//!
//! `failpoint-child DIR [POINT ACTION TIME]`; what it says is read by `tests/matrix.rs`.

use std::path::PathBuf;
use std::process::ExitCode;

use quorate_failpoints::trigger::{Choice, Trigger};
use quorate_failpoints::workload;

fn main() -> ExitCode {
    quorate_broker::exit::end_process_on_panic();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (dir, chosen) = match arguments.as_slice() {
        [dir] => (dir, None),
        [dir, point, action, time] => {
            if let (Ok(action), Ok(time)) = (action.parse(), time.parse()) {
                (dir, Some(Choice { point: point.clone(), action, time }))
            } else {
                eprintln!("failpoint-child: no such action, or not a number: {action} {time}");
                return ExitCode::from(2);
            }
        }
        _ => {
            eprintln!("failpoint-child DIR [POINT ACTION TIME]");
            return ExitCode::from(2);
        }
    };
    workload::run(&PathBuf::from(dir), Trigger::new(chosen))
}
