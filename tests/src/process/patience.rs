//! Waiting for something to become so, with a deadline.

use std::time::{Duration, Instant};

/// Long enough for anything that a healthy cluster does by itself on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks until there is an answer, and gives it.
///
/// # Panics
/// There is none within `limit`; says what was waited for and why it was not so the last time.
pub fn wait_within<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(why) => assert!(Instant::now() < deadline, "waited {limit:?} for {what}: {why}"),
        }
        std::thread::sleep(PAUSE);
    }
}

/// As [`wait_within`], with [`PATIENCE`].
pub fn wait_for<T>(what: &str, ask: impl FnMut() -> Result<T, String>) -> T {
    wait_within(PATIENCE, what, ask)
}
