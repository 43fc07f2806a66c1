//! Syncs of a broker's log that wait for a test, or fail: see `held_sync.c`.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};

use super::broker::Broker;

/// What is loaded into a broker.
const SOURCE: &str = include_str!("held_sync.c");

/// Where the syncs of one broker's log ask whether they may go on.
#[derive(Debug)]
pub struct HeldSync {
    gate: PathBuf,
}

/// As long as this lives, every sync that begins waits.
#[derive(Debug)]
pub struct Hold {
    _gate: File,
}

impl HeldSync {
    /// Has the broker's next process ask. What is made for that lies in `directory`.
    ///
    /// # Panics
    /// The C compiler that built the state store is gone.
    pub fn of(broker: &mut Broker, directory: &Path) -> Self {
        let library = directory.join("held_sync.so");
        if !library.exists() {
            let source = directory.join("held_sync.c");
            fs::write(&source, SOURCE).expect("the source can be written");
            let mut compiler = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
            compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]).arg(&library).arg(&source);
            let status = compiler.status().expect("a C compiler");
            assert!(status.success(), "{compiler:?}: {status}");
        }
        let gate = directory.join(format!("{}.syncs", broker.name()));
        File::create(&gate).expect("a gate");
        broker.set_variable("LD_PRELOAD", &library);
        broker.set_variable("HELD_SYNC", &gate);
        Self { gate }
    }

    /// Whatever sync begins from here on waits.
    ///
    /// # Panics
    /// The gate is gone.
    pub fn hold(&self) -> Hold {
        let gate = OpenOptions::new().read(true).open(&self.gate).expect("the gate is there");
        flock(&gate, FlockOperation::LockExclusive).expect("nobody else holds it for long");
        Hold { _gate: gate }
    }

    /// How many syncs have begun.
    ///
    /// # Panics
    /// The gate is gone.
    pub fn begun(&self) -> u64 {
        fs::metadata(&self.gate).expect("the gate is there").len()
    }

    /// Whatever sync begins, or waits, from here on fails.
    ///
    /// # Panics
    /// The directory is gone.
    pub fn fail(&self) {
        let mut name = self.gate.clone().into_os_string();
        name.push(".fail");
        File::create(PathBuf::from(name)).expect("a file beside the gate");
    }
}
