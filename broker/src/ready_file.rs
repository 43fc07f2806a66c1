//! The ready file: tells a script, or a test, which ports a broker got, once they are open.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

/// What the ready file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ready {
    /// The broker's process.
    pub pid: u32,
    /// Where it listens for clients.
    pub client: String,
    /// Where it listens for brokers.
    pub cluster: String,
    /// Where it serves HTTP.
    pub admin: String,
}

/// Removes what an earlier run left, so that nobody takes its ports for ours.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes the file whole or not at all: first under a name of this process, then renamed.
pub fn write(path: &Path, ready: &Ready) -> io::Result<()> {
    let temporary = temporary_name(path, ready.pid);
    let written = fs::File::create(&temporary).and_then(|mut file| {
        serde_json::to_writer(&mut file, ready)?;
        file.write_all(b"\n")
    });
    let result = written.and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn temporary_name(path: &Path, pid: u32) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{pid}.tmp"));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Ready {
        Ready {
            pid: 42,
            client: "127.0.0.1:1".into(),
            cluster: "127.0.0.1:2".into(),
            admin: "127.0.0.1:3".into(),
        }
    }

    #[test]
    fn the_file_is_replaced_whole_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ready.json");
        fs::write(&path, "left over").unwrap();
        write(&path, &ready()).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\"pid\":42,\"client\":\"127.0.0.1:1\",\"cluster\":\"127.0.0.1:2\",\"admin\":\"127.0.0.1:3\"}\n"
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        assert!(write(Path::new("/no/such/directory/ready"), &ready()).is_err());
    }
}
