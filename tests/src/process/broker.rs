//! One broker: its settings, its process, its log.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::patience::{PATIENCE, wait_for, wait_within};
use super::programs;
use super::status::Status;

/// Lines of a broker's log that a failed test shows.
const LINES_SHOWN: usize = 80;

/// A process that ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status; none if a signal ended it.
    pub status: Option<i32>,
    /// What it wrote to standard error in this run.
    pub log: String,
}

/// A broker that can be started, killed, and started again. Ended when dropped; if the test fails, its log is shown.
#[derive(Debug)]
pub struct Broker {
    name: String,
    flags: Vec<String>,
    variables: BTreeMap<String, OsString>,
    log: PathBuf,
    /// Where this run's part of the log begins.
    log_start: u64,
    ready_file: PathBuf,
    process: Option<Child>,
    ready: Option<Value>,
}

impl Broker {
    /// A broker with these flags besides `--name` and `--ready-file`; its log is in `directory`. Not started yet.
    pub fn new(directory: &Path, name: &str, flags: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            variables: BTreeMap::new(),
            log: directory.join(format!("{name}.log")),
            log_start: 0,
            ready_file: directory.join(format!("{name}.ready")),
            process: None,
            ready: None,
        }
    }

    /// A broker that is a cluster by itself, on free ports, with its store in `directory`.
    pub fn single(directory: &Path, name: &str) -> Self {
        Self::single_on(directory, name, &directory.join(format!("{name}-data")))
    }

    /// As [`Self::single`], with its store somewhere else.
    pub fn single_on(directory: &Path, name: &str, data: &Path) -> Self {
        let mut broker = Self::new(directory, name, &["--cluster-wait-for", "1"]);
        for listen in ["--listen", "--cluster-listen", "--admin-listen"] {
            broker.add_flags(&[listen, "127.0.0.1:0"]);
        }
        broker.add_flags(&["--data-dir", &data.display().to_string()]);
        broker
    }

    /// Gives more flags to the next start.
    pub fn add_flags(&mut self, flags: &[&str]) {
        self.flags.extend(flags.iter().map(|&flag| flag.to_owned()));
    }

    /// Takes a flag and its value from the next start, if they were given.
    pub fn remove_flag(&mut self, flag: &str) {
        if let Some(at) = self.flags.iter().position(|given| given == flag) {
            self.flags.drain(at..(at + 2).min(self.flags.len()));
        }
    }

    /// Gives a flag another value at the next start.
    pub fn set_flag(&mut self, flag: &str, value: &str) {
        self.remove_flag(flag);
        self.add_flags(&[flag, value]);
    }

    /// Gives a variable of the environment to the next start.
    pub fn set_variable(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.variables.insert(name.to_owned(), value.as_ref().to_owned());
    }

    /// Its name in the cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts the process and waits until its ports are open.
    ///
    /// # Panics
    /// It ends instead.
    pub fn start(&mut self) {
        self.spawn();
        self.wait_ports();
    }

    /// Starts the process and waits until its ports are open, or it has ended.
    ///
    /// # Errors
    /// It has ended.
    ///
    /// # Panics
    /// It is running already, or does neither.
    pub fn try_start(&mut self) -> Result<(), Ended> {
        self.spawn();
        self.try_wait_ports()
    }

    /// Waits until the ports of a process that was spawned are open.
    ///
    /// # Panics
    /// It ends instead, or does neither.
    pub fn wait_ports(&mut self) {
        if let Err(ended) = self.try_wait_ports() {
            panic!("{} ended instead of starting: {ended:?}", self.name);
        }
    }

    fn try_wait_ports(&mut self) -> Result<(), Ended> {
        let ready_file = self.ready_file.clone();
        let found = wait_for(&format!("the ports of {}", self.name), || {
            if let Some(ended) = self.poll_end() {
                return Ok(Err(ended));
            }
            let text = fs::read_to_string(&ready_file).map_err(|error| error.to_string())?;
            serde_json::from_str(&text).map(Ok).map_err(|error| error.to_string())
        });
        self.ready = Some(found?);
        Ok(())
    }

    /// Starts the process and waits until it has ended by itself.
    ///
    /// # Panics
    /// It does not end.
    pub fn run_to_end(&mut self) -> Ended {
        self.spawn();
        self.wait_end(PATIENCE)
    }

    /// Starts the process, and waits for nothing.
    ///
    /// # Panics
    /// It is running already.
    pub fn spawn(&mut self) {
        assert!(self.process.is_none(), "{} is running", self.name);
        let _ = fs::remove_file(&self.ready_file);
        self.ready = None;
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("a log file");
        self.log_start = log.metadata().expect("the length of the log").len();
        let mut command = programs::command("quorated");
        command.args(["--name", &self.name]).arg("--ready-file").arg(&self.ready_file).args(&self.flags);
        command.envs(&self.variables);
        command.stdout(Stdio::null()).stderr(log);
        self.process = Some(command.spawn().expect("the broker can be started"));
    }

    /// Whether there is a process.
    pub fn is_running(&mut self) -> bool {
        self.process.is_some() && self.poll_end().is_none()
    }

    /// How the process ended by itself, if it did and nobody was told yet.
    pub fn poll_end(&mut self) -> Option<Ended> {
        let status = self.process.as_mut()?.try_wait().expect("a child can be waited for")?;
        Some(self.ended(status))
    }

    fn ended(&mut self, status: ExitStatus) -> Ended {
        self.process = None;
        Ended { status: status.code(), log: self.log_text() }
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Panics
    /// It does not.
    pub fn wait_end(&mut self, limit: Duration) -> Ended {
        wait_within(limit, &format!("the end of {}", self.name), || {
            self.poll_end().ok_or_else(|| "it is running".to_owned())
        })
    }

    /// The process's number.
    ///
    /// # Panics
    /// There is no process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().unwrap_or_else(|| panic!("{} is not running", self.name)).id()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process's number");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("signal to {}: {error}", self.name));
    }

    /// Ends the process as `kill -9` does, and waits until it is gone.
    ///
    /// # Panics
    /// There is no process.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let mut process = self.process.take().expect("it was running");
        process.wait().expect("a killed child ends");
    }

    /// Ends the process as `kill -9` does, and waits for nothing: [`Self::kill`] does, afterwards.
    ///
    /// # Panics
    /// There is no process.
    pub fn strike(&self) {
        self.signal(Signal::KILL);
    }

    /// Asks the process to stop (SIGTERM), and waits for nothing.
    ///
    /// # Panics
    /// There is no process.
    pub fn ask_to_stop(&self) {
        self.signal(Signal::TERM);
    }

    /// Asks the process to stop (SIGTERM), and waits until it has.
    ///
    /// # Panics
    /// It does not stop.
    pub fn terminate(&mut self) -> Ended {
        self.ask_to_stop();
        self.wait_end(PATIENCE)
    }

    /// Has the process read again what it reads while running (SIGHUP).
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Makes the process stand still (SIGSTOP).
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets the process go on (SIGCONT).
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn address(&self, which: &str) -> String {
        let ready = self.ready.as_ref().unwrap_or_else(|| panic!("{} is not ready", self.name));
        ready[which].as_str().expect("an address in the ready file").to_owned()
    }

    /// Where it takes clients.
    pub fn client_address(&self) -> String {
        self.address("client")
    }

    /// Where it takes brokers.
    pub fn cluster_address(&self) -> String {
        self.address("cluster")
    }

    /// Where it takes operators.
    pub fn admin_address(&self) -> String {
        self.address("admin")
    }

    /// What it says of itself now.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self) -> Result<Status, String> {
        Status::ask(&self.admin_address())
    }

    /// Waits until what it says of itself is as wanted; gives that.
    ///
    /// # Panics
    /// It does not become so.
    pub fn wait_until(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        wait_for(&format!("{}: {what}", self.name), || {
            let status = self.status()?;
            if wanted(&status) { Ok(status) } else { Err(status.0.to_string()) }
        })
    }

    /// Waits until it leads the virtual host `/`, and may be used.
    ///
    /// # Panics
    /// It does not.
    pub fn wait_leading(&self) -> Status {
        self.wait_until("leads", |status| {
            status.verdict() == "active"
                && status.leader("/") == Some(&self.name)
                && status.role("/") == "leader"
        })
    }

    /// What it wrote to standard error in this run.
    ///
    /// # Panics
    /// The log cannot be read.
    pub fn log_text(&self) -> String {
        let mut file = File::open(&self.log).expect("the log is there");
        file.seek(SeekFrom::Start(self.log_start)).expect("the log can be read");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("the log can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until a line of this run's log contains a text; gives the line.
    ///
    /// # Panics
    /// None does.
    pub fn wait_log(&self, text: &str) -> String {
        wait_for(&format!("{text:?} in the log of {}", self.name), || {
            let log = self.log_text();
            log.lines()
                .find(|line| line.contains(text))
                .map(ToOwned::to_owned)
                .ok_or_else(|| "no such line".to_owned())
        })
    }

    /// Processor time of the threads that it has.
    ///
    /// # Panics
    /// There is no process.
    pub fn cpu_time(&self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the process is there");
        let of = |thread: io::Result<fs::DirEntry>| {
            // One may end meanwhile.
            let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
        };
        threads.filter_map(of).sum()
    }

    /// Bytes of memory that the process holds.
    ///
    /// # Panics
    /// There is no process.
    pub fn resident_bytes(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process is there");
        let line =
            text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel counts memory");
        let kibibytes = line.trim().trim_end_matches(" kB");
        kibibytes.parse::<u64>().expect("a number of KiB") << 10
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Also when it stands still: SIGKILL needs no cooperation.
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking()
            && let Ok(bytes) = fs::read(&self.log)
        {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("--- log of {} (its last {LINES_SHOWN} lines)", self.name);
            for line in &lines[lines.len().saturating_sub(LINES_SHOWN)..] {
                eprintln!("{line}");
            }
        }
    }
}
