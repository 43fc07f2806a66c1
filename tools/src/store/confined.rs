//! Reading in a process of its own. Checksums prove that bytes are what was written, not who wrote them, and RocksDB reads
//! its files by rules of its own: whatever a directory holds, at worst it ends a process that has nothing else to do, by
//! the limits below or by itself, and whoever waits for it says so.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, getrlimit, pidfd_open, set_parent_process_death_signal,
    setrlimit,
};

use crate::settings::Environment;
use crate::units::Size;

/// Tells a process of this program that it is one of these.
pub const VARIABLE: &str = "QUORATE_CONFINED";
/// Of the memory allowed, for the program itself, its stacks, and what waits for it.
const APART: u64 = 32 << 20;
/// The program needs so much to say anything at all.
const LEAST: u64 = 32 << 20;
/// Between two questions whether it has ended, where the kernel cannot tell by itself.
const ASK_AGAIN: Duration = Duration::from_millis(10);
/// Status of a Rust program that panicked.
const PANICKED: i32 = 101;

/// Another process of this program, within limits.
#[derive(Clone, Debug)]
pub struct Confined<'a> {
    /// The program.
    pub program: &'a Path,
    /// Its arguments.
    pub words: Vec<OsString>,
    /// Memory it may take, for what is said if it takes more; it sets the limit itself.
    pub memory: u64,
    /// How long it and whoever waits for it may take.
    pub time: Duration,
}

/// Limits this process for good, and ends it with the one that waits for it.
///
/// # Errors
/// The system refuses.
pub fn confine(memory: u64) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    limit(Resource::Data, memory.saturating_sub(APART).max(LEAST))?;
    limit(Resource::Core, 0)
}

fn limit(resource: Resource, value: u64) -> io::Result<()> {
    let most = getrlimit(resource).maximum.map_or(value, |most| most.min(value));
    Ok(setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?)
}

impl Confined<'_> {
    /// Runs it and gives its exit status and what it wrote to standard output, up to `most` bytes.
    ///
    /// # Errors
    /// Why there is no answer: it was ended by a limit, or ended itself, or wrote more.
    pub fn answer(&self, most: u64) -> Result<(i32, Vec<u8>), String> {
        let deadline = self.deadline();
        let mut child = self
            .command()
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| self.not_started(&error))?;
        let (sender, output) = channel();
        if let Some(pipe) = child.stdout.take() {
            // Not waited for if the process cannot even be killed, as on a medium that hangs.
            thread::spawn(move || {
                let mut bytes = Vec::new();
                let read = pipe.take(most.saturating_add(1)).read_to_end(&mut bytes).map(|_| bytes);
                let _ = sender.send(read);
            });
        }
        let code = self.wait(&mut child, deadline)?;
        let bytes = output.recv().map_err(|_| "the process that read it gave no answer".to_owned())?;
        let bytes = bytes.map_err(|error| format!("the process that read it gave no answer: {error}"))?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length <= most) {
            return Ok((code, bytes));
        }
        Err(format!("there is more to say of it than {}", Size(most)))
    }

    /// Runs it in the place of this process, with its streams, and gives its exit status.
    ///
    /// # Errors
    /// As for [`Self::answer`].
    pub fn stand_in(&self) -> Result<i32, String> {
        let deadline = self.deadline();
        let mut child = self.command().spawn().map_err(|error| self.not_started(&error))?;
        self.wait(&mut child, deadline)
    }

    /// Some of the time is for saying that it was over.
    fn deadline(&self) -> Option<Instant> {
        Instant::now().checked_add(self.time.saturating_sub(self.time / 24))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command.args(&self.words).env(VARIABLE, "1").env("RUST_BACKTRACE", "0").stdin(Stdio::null());
        command
    }

    fn not_started(&self, error: &io::Error) -> String {
        format!("{} cannot be started to read it: {error}", self.program.display())
    }

    fn wait(&self, child: &mut Child, deadline: Option<Instant>) -> Result<i32, String> {
        if !has_ended(child, deadline).map_err(|error| format!("it cannot be waited for: {error}"))? {
            // It may have ended in this moment.
            let _ = child.kill();
            return Err(format!("it could not be read within {:?}: give more with --time", self.time));
        }
        let status = child.wait().map_err(|error| format!("it cannot be waited for: {error}"))?;
        match (status.code(), status.signal()) {
            (Some(code), _) if code != PANICKED => Ok(code),
            (Some(_), _) => Err("what it holds broke the process that read it".to_owned()),
            (None, signal) => Err(format!(
                "the process that read it was ended by signal {}: it takes more than {}, which --memory raises, or \
                 what it holds broke the process",
                signal.unwrap_or_default(),
                Size(self.memory)
            )),
        }
    }
}

/// Waits until a child has ended; false if the time was over before.
fn has_ended(child: &mut Child, deadline: Option<Instant>) -> io::Result<bool> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => handle,
        // An old kernel, or a container that does not know the call yet.
        Err(Errno::NOSYS | Errno::PERM) => loop {
            match (child.try_wait()?, left()) {
                (Some(_), _) => return Ok(true),
                (None, Some(Duration::ZERO)) => return Ok(false),
                (None, _) => thread::sleep(ASK_AGAIN),
            }
        },
        Err(error) => return Err(error.into()),
    };
    loop {
        let left = left().and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut [PollFd::new(&handle, PollFlags::IN)], left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// How this process was started.
#[derive(Clone, Copy, Debug)]
pub struct Invocation<'a> {
    /// With what around it.
    pub environment: &'a Environment,
    /// With these arguments, the program's name left out.
    pub words: &'a [OsString],
}

/// How stores are read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Bytes for one store.
    pub memory: u64,
    /// Time for one store.
    pub time: Duration,
    /// This program, to read each store in a process of its own; none to read it in this one.
    pub program: Option<PathBuf>,
}

impl Reading {
    /// The process that carries out a command of `quorate store` on these paths, answering in JSON.
    pub fn confined<'a>(&self, program: &'a Path, command: &str, paths: &[&Path]) -> Confined<'a> {
        let (memory, time) = (self.memory.to_string(), format!("{}ms", self.time.as_millis()));
        let words = ["store", command, "-o", "json", "--memory", &memory, "--time", &time, "--"];
        let words = words.iter().map(OsStr::new).chain(paths.iter().map(|path| path.as_os_str()));
        Confined {
            program,
            words: words.map(OsStr::to_os_string).collect(),
            memory: self.memory,
            time: self.time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Confined<'static> {
        let words = ["-c", script].map(OsString::from).to_vec();
        Confined { program: Path::new("/bin/sh"), words, memory: 1 << 20, time: Duration::from_mins(1) }
    }

    #[test]
    fn an_answer_is_taken_with_its_status_and_up_to_its_length() {
        assert_eq!(shell("printf abc; exit 2").answer(3), Ok((2, b"abc".to_vec())));
        assert!(shell("printf abcd").answer(3).unwrap_err().contains("more to say"));
        // More than a pipe holds, to nobody.
        assert!(shell("cat /dev/zero").answer(1 << 20).is_err());
    }

    #[test]
    fn whoever_is_ended_or_ends_itself_is_no_answer() {
        assert!(shell("kill -ABRT $$").answer(10).unwrap_err().contains("--memory"));
        assert!(shell("exit 101").answer(10).unwrap_err().contains("broke"));
        let late = Confined { time: Duration::from_millis(50), ..shell("exec sleep 60") };
        assert!(late.answer(10).unwrap_err().contains("--time"));
        assert!(late.stand_in().unwrap_err().contains("--time"));
    }
}
