//! The tool on a directory that may be anything: how it ended, what it took, and whether it touched anything.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::hash::Hasher;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What a look at one store may take.
pub const TIME_MAX: Duration = Duration::from_mins(1);
/// Likewise, in bytes: resident, the processes that it starts included.
pub const MEMORY_MAX: u64 = 256 << 20;
/// Between two looks at a process's memory.
const LOOK: Duration = Duration::from_millis(2);
/// Longer files are told apart by everything but their content: they are holes.
const CONTENT_MAX: u64 = 4 << 30;

/// A command that has ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its exit status; none if a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// How long it took.
    pub time: Duration,
    /// The most that was resident, as the kernel kept it up to 2 ms before the end: of the process, and of the largest
    /// that it started.
    pub peak: u64,
}

/// Runs a command, and ends it if it takes too long.
///
/// # Panics
/// It cannot be started, or does not end in time.
pub fn run(mut command: Command) -> Ran {
    let began = Instant::now();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command can be started");
    let (mut out, mut err) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    let out = thread::spawn(move || {
        let mut bytes = Vec::new();
        out.read_to_end(&mut bytes).map(|_| bytes)
    });
    let err = thread::spawn(move || {
        let mut bytes = Vec::new();
        err.read_to_end(&mut bytes).map(|_| bytes)
    });
    let (mut own, mut started) = (0, 0);
    let status = loop {
        own = own.max(high_water(child.id()));
        started = children(child.id()).into_iter().map(high_water).fold(started, u64::max);
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        if began.elapsed() > TIME_MAX {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{command:?} did not end within {TIME_MAX:?}");
        }
        thread::sleep(LOOK);
    };
    let text = |bytes: thread::JoinHandle<std::io::Result<Vec<u8>>>| {
        let bytes = bytes.join().expect("a reader").expect("a pipe can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ran { status: status.code(), out: text(out), err: text(err), time: began.elapsed(), peak: own + started }
}

/// The most memory that a process ever had resident; 0 if it has ended.
fn high_water(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) << 10
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Everything at and below a path: what kind of thing, its permissions, its length, a hash of its content, and when it was
/// changed last. Opens nothing but files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    things: BTreeMap<PathBuf, String>,
}

impl Fingerprint {
    /// What is there now.
    ///
    /// # Panics
    /// Something cannot be read.
    pub fn of(root: &Path) -> Self {
        Self::with(root, hash)
    }

    /// The same without the content, of which the time of the last change tells.
    ///
    /// # Panics
    /// Something cannot be read.
    pub fn quick(root: &Path) -> Self {
        Self::with(root, |_| 0)
    }

    fn with(root: &Path, hash: impl Fn(&Path) -> u64) -> Self {
        let mut things = BTreeMap::new();
        let mut open = vec![root.to_owned()];
        while let Some(path) = open.pop() {
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            let kind = metadata.file_type();
            let content = if kind.is_symlink() {
                fs::read_link(&path).expect("a link can be read").display().to_string()
            } else if kind.is_file() && metadata.len() <= CONTENT_MAX {
                format!("{:016x}", hash(&path))
            } else {
                format!("{} {}", kind.is_fifo(), kind.is_socket())
            };
            if kind.is_dir() {
                let entries = fs::read_dir(&path).expect("a directory can be listed");
                open.extend(entries.map(|entry| entry.expect("an entry").path()));
            }
            let thing = format!(
                "mode {:o}, {} bytes, changed {}.{}, {content}",
                metadata.mode(),
                metadata.size(),
                metadata.ctime(),
                metadata.ctime_nsec()
            );
            things.insert(path, thing);
        }
        Self { things }
    }

    /// What differs from another one.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let paths: BTreeSet<&PathBuf> = self.things.keys().chain(other.things.keys()).collect();
        let different = paths.into_iter().filter(|path| self.things.get(*path) != other.things.get(*path));
        different
            .map(|path| {
                format!("{}: {:?}, {:?}", path.display(), self.things.get(path), other.things.get(path))
            })
            .collect()
    }

    /// The same without the times: permissions that were changed and changed back are no difference.
    pub fn contents_changed(&self, other: &Self) -> Vec<String> {
        let timeless = |one: &Self| Self {
            things: one.things.iter().map(|(path, thing)| (path.clone(), without_time(thing))).collect(),
        };
        timeless(self).differences(&timeless(other))
    }
}

fn without_time(thing: &str) -> String {
    thing.split(", ").filter(|part| !part.starts_with("changed ")).collect::<Vec<_>>().join(", ")
}

fn hash(path: &Path) -> u64 {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut hasher = DefaultHasher::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece).unwrap_or_else(|error| panic!("{}: {error}", path.display())) {
            0 => return hasher.finish(),
            length => hasher.write(&piece[..length]),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn whatever_is_changed_is_seen() {
        let place = crate::process::Place::new();
        let root = place.path("");
        fs::write(root.join("file"), "content").unwrap();
        let before = Fingerprint::of(&root);
        assert_eq!(Fingerprint::of(&root).contents_changed(&before), [""; 0]);
        fs::write(root.join("file"), "Content").unwrap();
        assert_eq!(Fingerprint::of(&root).contents_changed(&before).len(), 1);
        assert_eq!(Fingerprint::quick(&root).contents_changed(&Fingerprint::quick(&root)), [""; 0]);
        fs::write(root.join("file"), "content").unwrap();
        fs::set_permissions(root.join("file"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Fingerprint::of(&root).contents_changed(&before).len(), 1);
        fs::write(root.join("new"), "").unwrap();
        assert!(Fingerprint::of(&root).differences(&before).len() >= 3, "the directory and both files");
    }

    #[test]
    fn what_a_process_takes_is_seen_with_what_it_starts() {
        let mut shell = Command::new("/bin/sh");
        // A process that starts another one, which has read 64 MiB at once.
        shell.args(["-c", "head -c 100 /dev/zero; dd if=/dev/zero of=/dev/null bs=64M count=3; exit 3"]);
        let ran = run(shell);
        assert_eq!((ran.status, ran.out.len()), (Some(3), 100));
        assert!(ran.peak > 60 << 20, "{} bytes", ran.peak);
    }
}
