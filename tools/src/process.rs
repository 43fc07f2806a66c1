//! Processes of this machine, as `/proc` shows them: whose they are, what they cost, how to end one for sure.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, getrlimit, pidfd_open, pidfd_send_signal, setrlimit,
};

/// The command line of a process; none if it has ended, also if nobody has collected its end yet.
pub fn command_line(pid: u32) -> Option<Vec<Vec<u8>>> {
    let text = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let text = text.strip_suffix(b"\0").unwrap_or(&text);
    if text.is_empty() { None } else { Some(text.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()) }
}

/// Whether the process is a broker on this store: a process id is used again sooner or later.
pub fn is_broker_on(pid: u32, data_dir: &Path) -> bool {
    command_line(pid).is_some_and(|words| names_broker_on(&words, data_dir))
}

fn names_broker_on(words: &[Vec<u8>], data_dir: &Path) -> bool {
    let program = words.first().map(|word| Path::new(OsStr::from_bytes(word)));
    let is_broker = program.and_then(Path::file_name) == Some(OsStr::new("quorated"));
    let dir = data_dir.as_os_str().as_bytes();
    is_broker
        && words.windows(2).any(|pair| matches!(pair, [flag, value] if flag == b"--data-dir" && value == dir))
}

/// How to end a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// SIGTERM: it may finish what it does.
    Orderly,
    /// SIGKILL.
    AtOnce,
}

/// Signals a process if it still is a broker on this store; says whether it was. The signal goes through a descriptor
/// that was taken before looking, so it cannot reach another process that got the number meanwhile.
///
/// # Errors
/// The system refuses, as for a process of another user.
pub fn end_broker(pid: u32, data_dir: &Path, ending: Ending) -> io::Result<bool> {
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(false) };
    let handle = match pidfd_open(number, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::SRCH) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if !is_broker_on(pid, data_dir) {
        return Ok(false);
    }
    let signal = if ending == Ending::AtOnce { Signal::KILL } else { Signal::TERM };
    match pidfd_send_signal(&handle, signal) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Processor time a process has used, user and system together; none if it cannot be read.
pub fn processor_time(pid: u32) -> Option<Duration> {
    let ticks = parse_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Some(Duration::from_nanos(ticks.checked_mul(1_000_000_000 / per_second)?))
}

/// `utime + stime`: the 14th and 15th field. The second one, the name, may contain anything, blanks and brackets too.
fn parse_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// Bytes a process caused to be written to storage; none if it cannot be read.
pub fn written_bytes(pid: u32) -> Option<u64> {
    parse_written(&fs::read_to_string(format!("/proc/{pid}/io")).ok()?)
}

fn parse_written(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("write_bytes:"))?.trim().parse().ok()
}

/// Lets this process have so many files and connections open, as far as it may decide that itself.
///
/// # Errors
/// It may not; gives how many it may have.
pub fn allow_open_files(wanted: u64) -> Result<(), u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Without a limit there is none to raise.
    let Some(now) = current.filter(|now| *now < wanted) else { return Ok(()) };
    let most = maximum.unwrap_or(u64::MAX);
    if most < wanted || setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_err() {
        return Err(if most < wanted { most } else { now });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Vec<u8>> {
        text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn only_a_broker_on_this_store_is_taken_for_it() {
        let dir = Path::new("/s/b1");
        assert!(names_broker_on(&words("/usr/bin/quorated --name b1 --data-dir /s/b1 --insecure"), dir));
        assert!(!names_broker_on(&words("/usr/bin/quorated --name b1 --data-dir /s/b2"), dir));
        assert!(!names_broker_on(&words("vi --data-dir /s/b1"), dir));
        assert!(!names_broker_on(&words("quorated"), dir));
    }

    #[test]
    fn this_process_is_no_broker_and_is_left_alone() {
        let own = std::process::id();
        assert!(command_line(own).is_some());
        assert!(!is_broker_on(own, Path::new("/s/b1")));
        assert!(!end_broker(own, Path::new("/s/b1"), Ending::AtOnce).unwrap());
        assert!(command_line(0).is_none());
    }

    #[test]
    fn more_open_files_than_the_system_allows_are_refused() {
        assert_eq!(allow_open_files(1), Ok(()));
        assert!(getrlimit(Resource::Nofile).maximum.is_none() || allow_open_files(u64::MAX).is_err());
    }

    #[test]
    fn the_fields_of_proc() {
        let stat = "42 (a ) b) S 1 1 1 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 100 1000 10";
        assert_eq!(parse_ticks(stat), Some(300));
        assert_eq!(parse_ticks("nonsense"), None);
        assert_eq!(parse_written("rchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 1\n"), Some(4096));
        assert!(processor_time(std::process::id()).is_some());
    }
}
