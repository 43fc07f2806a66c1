//! What the disk allows a receiver at best: a file that grows by appends of 1 MiB, each synced.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

const APPEND: usize = 1 << 20;

/// Appends so many bytes, with `fdatasync` after each MiB, and removes the file; gives how long the appends took.
///
/// # Panics
/// The disk is full or fails.
pub fn appends(path: &Path, bytes: u64) -> Duration {
    // Not zeros: nobody may get away with less than writing.
    let piece: Vec<u8> = (0..APPEND).map(|at| u8::try_from(at % 251).unwrap_or_default()).collect();
    let mut file = File::create_new(path).expect("a file for the floor");
    let began = Instant::now();
    let mut written = 0;
    while written < bytes {
        file.write_all(&piece).expect("an append");
        file.sync_data().expect("a sync");
        written += APPEND as u64;
    }
    let taken = began.elapsed();
    drop(file);
    std::fs::remove_file(path).expect("the floor's file can be removed");
    taken
}
