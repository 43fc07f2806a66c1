//! A small file system in memory, for a test that fills a disk.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

/// A file system of a fixed size, unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many MiB at this path.
    ///
    /// # Errors
    /// It cannot be mounted here, which needs the rights of root: says why.
    pub fn mount(path: &Path, mebibytes: u32) -> Result<Self, String> {
        std::fs::create_dir_all(path).map_err(|error| error.to_string())?;
        let size = format!("size={mebibytes}m");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "quorate-test"])
            .arg(path)
            .output()
            .map_err(|error| format!("mount: {error}"))?;
        if output.status.success() {
            Ok(Self { path: path.to_owned() })
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a file of as many bytes as there is room for; gives its path. At once: what the broker gives up when its
    /// disk is full stays its own.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn fill(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        let file = File::create(&path).expect("a file on the small disk");
        loop {
            let free = statvfs(&self.path).expect("the space of the small disk");
            match fallocate(&file, FallocateFlags::empty(), 0, free.f_bavail * free.f_frsize) {
                Ok(()) => return path,
                // Somebody was quicker.
                Err(Errno::NOSPC) => {}
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is ending may still have a file open there.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
