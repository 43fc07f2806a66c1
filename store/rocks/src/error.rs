//! Which of the engine's errors mean damage and which mean trouble with the medium.

use quorate_store::state::StateError;
use rocksdb::{Error, ErrorKind};
use std::path::Path;

/// How RocksDB says that a file it counted on is not there when it wanted to read it. The same words about a file it
/// wanted to write mean that the directory is gone, which is not damage.
const MISSING: &str = "IO error: No such file or directory: While open";
const READING: [&str; 3] = ["for random read", "for sequentially read", "for sequentially reading"];

/// The engine failed while doing `what`.
///
/// Checksum errors, broken structure and missing files are [`StateError::Corrupt`]: reading once more will not help,
/// building the content again will. Everything else is [`StateError::Io`].
pub(crate) fn from_engine(what: &str, error: &Error) -> StateError {
    let message = error.as_ref();
    let missing = message.starts_with(MISSING) && READING.iter().any(|reading| message.contains(reading));
    if error.kind() == ErrorKind::Corruption || missing {
        StateError::Corrupt(format!("{what}: {message}"))
    } else {
        StateError::Io(format!("{what}: {message}"))
    }
}

/// The operating system failed while doing `what` to `path`.
pub(crate) fn from_system(what: &str, path: &Path, error: &std::io::Error) -> StateError {
    StateError::Io(format!("{what} {}: {error}", path.display()))
}
