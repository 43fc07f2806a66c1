//! Where the programs under test are.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Names the folder of the programs; without it they are looked for beside the test's own folder.
pub const DIRECTORY_VARIABLE: &str = "QUORATE_BIN_DIR";

/// The path of one of the programs.
///
/// # Panics
/// It is not there; says what to do.
pub fn path(name: &str) -> PathBuf {
    let directory = std::env::var_os(DIRECTORY_VARIABLE).map_or_else(beside_this_test, PathBuf::from);
    let path = directory.join(name);
    assert!(
        path.is_file(),
        "the program {name} is not in {}: build it with `cargo build --release -p quorate-broker -p quorate-tools`, or \
         name its folder in {DIRECTORY_VARIABLE}",
        directory.display()
    );
    path
}

/// This test, target/release/deps/processes-0123, stands below target/release/quorated.
fn beside_this_test() -> PathBuf {
    let own = std::env::current_exe().expect("a test knows its own path");
    own.ancestors().nth(2).expect("a test's program is in a folder of a folder").to_owned()
}

/// One of the programs, ready to be given arguments: no input, and nothing of this process's settings.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(path(name));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("QUORATE_") {
            command.env_remove(variable);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs the tool; gives its exit status and the JSON that it printed.
///
/// # Panics
/// It was killed, or printed no JSON.
pub fn answer(mut command: Command) -> (i32, Value) {
    let output = command.output().expect("the tool runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{command:?}: {error}: {text}{}", String::from_utf8_lossy(&output.stderr))
    });
    (output.status.code().expect("it was not killed"), value)
}

/// As [`answer`], of `quorate -o json` with these words.
///
/// # Panics
/// As [`answer`].
pub fn quorate(words: &[&str]) -> (i32, Value) {
    let mut command = command("quorate");
    command.args(["-o", "json"]).args(words);
    answer(command)
}
