//! A small file system in memory, for a test that fills a disk.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

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

    /// Writes a file of as many bytes as there is room for; gives its path.
    ///
    /// # Panics
    /// It cannot be written for another reason than that the disk is full.
    pub fn fill(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        let mut file = File::create(&path).expect("a file on the small disk");
        let chunk = vec![0x5a; 1 << 20];
        let mut length = chunk.len();
        // Down to the last page.
        while length >= 4096 {
            match file.write_all(&chunk[..length]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => length /= 2,
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is ending may still have a file open there.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
