//! What is kept about a sandbox between commands.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::exit::{Failure, Status};
use crate::process::{self, Ending};
use crate::settings::absolute;

const FILE: &str = "sandbox.json";
const CLUSTER_NAME: &str = "sandbox";

/// One broker of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// Its name.
    pub name: String,
    /// Where clients connect.
    pub client: String,
    /// Where brokers connect.
    pub cluster: String,
    /// Where operators connect.
    pub admin: String,
    /// The process started last; none before the first start.
    pub pid: Option<u32>,
}

/// A sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The program that its brokers run.
    pub quorated: PathBuf,
    /// Its brokers.
    pub brokers: Vec<Broker>,
    /// Where it is.
    #[serde(skip)]
    pub directory: PathBuf,
}

/// Where a sandbox is if nothing else is said.
pub fn usual_directory() -> PathBuf {
    let base = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local").join("state")));
    base.unwrap_or_else(std::env::temp_dir).join("quorate").join("sandbox")
}

impl State {
    /// Reads the sandbox in a directory.
    ///
    /// # Errors
    /// There is none, or what is there is not one.
    pub fn load(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join(FILE);
        let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                let text = format!("there is no sandbox in {}", directory.display());
                Failure::new(Status::Refused, "no-sandbox", text).next("quorate sandbox up --nodes 3")
            }
            _ => Failure::io(path.display(), &error),
        })?;
        let state: Self = serde_json::from_str(&text).map_err(|error| {
            Failure::new(Status::Refused, "no-sandbox", format!("{} is no sandbox: {error}", path.display()))
        })?;
        if let Some(broker) = state.brokers.iter().find(|broker| !is_plain(&broker.name)) {
            let text = format!("{} is no sandbox: broker name {:?}", path.display(), broker.name);
            return Err(Failure::new(Status::Refused, "no-sandbox", text));
        }
        Ok(Self { directory: directory.to_path_buf(), ..state })
    }

    /// Whether there is one in this directory.
    pub fn exists(directory: &Path) -> bool {
        directory.join(FILE).exists()
    }

    /// Writes it whole or not at all.
    ///
    /// # Errors
    /// The disk.
    pub fn save(&self) -> Result<(), Failure> {
        let (path, beside) = (self.directory.join(FILE), self.directory.join("sandbox.json.new"));
        let text = serde_json::to_string_pretty(self).expect("a sandbox has text keys only");
        fs::write(&beside, text)
            .and_then(|()| fs::rename(&beside, &path))
            .map_err(|error| Failure::io(path.display(), &error))
    }

    /// A broker by name.
    ///
    /// # Errors
    /// There is no such broker.
    pub fn broker(&self, name: &str) -> Result<&Broker, Failure> {
        self.brokers.iter().find(|broker| broker.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.brokers.iter().map(|broker| broker.name.as_str()).collect();
            Failure::usage(format!("the sandbox has no broker '{name}'; it has {}", names.join(", ")))
        })
    }

    /// Client addresses of all brokers, comma-separated.
    pub fn client_addresses(&self) -> String {
        self.joined(|broker| &broker.client)
    }

    /// Admin addresses of all brokers, comma-separated.
    pub fn admin_addresses(&self) -> String {
        self.joined(|broker| &broker.admin)
    }

    fn joined(&self, address: impl Fn(&Broker) -> &String) -> String {
        self.brokers.iter().map(|broker| address(broker).as_str()).collect::<Vec<_>>().join(",")
    }

    /// A broker's store.
    pub fn data_dir(&self, broker: &Broker) -> PathBuf {
        self.directory.join(&broker.name)
    }

    /// What a broker says.
    pub fn log_file(&self, broker: &Broker) -> PathBuf {
        self.directory.join(format!("{}.log", broker.name))
    }

    /// Written by a broker when its ports are open.
    pub fn ready_file(&self, broker: &Broker) -> PathBuf {
        self.directory.join(format!("{}.ready", broker.name))
    }

    /// The broker's process, if it runs.
    pub fn running(&self, broker: &Broker) -> Option<u32> {
        broker.pid.filter(|pid| process::is_broker_on(*pid, &self.data_dir(broker)))
    }

    /// The processes that run.
    pub fn live_pids(&self) -> Vec<u32> {
        self.brokers.iter().filter_map(|broker| self.running(broker)).collect()
    }

    /// Starts a broker, in a process group of its own so that Ctrl-C here does not reach it.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(&self, broker: &Broker) -> Result<Child, Failure> {
        let ready = self.ready_file(broker);
        match fs::remove_file(&ready) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::io(ready.display(), &error));
            }
            _ => {}
        }
        let path = self.log_file(broker);
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.map_err(|error| Failure::io(path.display(), &error))?;
        let both = |log: &File| log.try_clone().map_err(|error| Failure::io(path.display(), &error));
        let mut command = Command::new(&self.quorated);
        for (name, _) in std::env::vars_os() {
            // The sandbox is what it was told to be, whatever this shell has for other brokers.
            if name.to_string_lossy().starts_with("QUORATE_") {
                command.env_remove(name);
            }
        }
        command
            .args(["--name", &broker.name, "--cluster-name", CLUSTER_NAME])
            .arg("--data-dir")
            .arg(self.data_dir(broker))
            .args(["--cluster-peers", &self.joined(|broker| &broker.cluster)])
            .args(["--listen", &broker.client, "--cluster-listen", &broker.cluster])
            .args(["--admin-listen", &broker.admin])
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(both(&log)?)
            .stderr(log)
            .process_group(0);
        command.spawn().map_err(|error| {
            Failure::io(format_args!("cannot start {}", self.quorated.display()), &error)
                .next("quorate sandbox up --quorated PATH")
        })
    }

    /// Signals a broker's process, if it still is that; says whether it was.
    ///
    /// # Errors
    /// The system refuses.
    pub fn end(&self, broker: &Broker, ending: Ending) -> Result<bool, Failure> {
        let Some(pid) = broker.pid else { return Ok(false) };
        process::end_broker(pid, &self.data_dir(broker), ending)
            .map_err(|error| Failure::io(format_args!("cannot end {} (process {pid})", broker.name), &error))
    }

    /// Removes everything that belongs to the sandbox, and nothing else.
    ///
    /// # Errors
    /// The disk.
    pub fn remove(&self) -> Result<(), Failure> {
        let ignore_missing = |path: &Path, result: io::Result<()>| match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::io(path.display(), &error)),
            _ => Ok(()),
        };
        for broker in &self.brokers {
            let (data, log, ready) = (self.data_dir(broker), self.log_file(broker), self.ready_file(broker));
            ignore_missing(&data, fs::remove_dir_all(&data))?;
            ignore_missing(&log, fs::remove_file(&log))?;
            ignore_missing(&ready, fs::remove_file(&ready))?;
        }
        let path = self.directory.join(FILE);
        ignore_missing(&path, fs::remove_file(&path))?;
        // Only if nothing of somebody else is in it.
        let _ = fs::remove_dir(&self.directory);
        Ok(())
    }
}

/// A name that is one component of a path.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(directory: &Path) -> State {
        let broker = |number: u16| Broker {
            name: format!("b{number}"),
            client: format!("127.0.0.1:{number}1"),
            cluster: format!("127.0.0.1:{number}2"),
            admin: format!("127.0.0.1:{number}3"),
            pid: Some(std::process::id()),
        };
        State {
            quorated: "/no/quorated".into(),
            brokers: vec![broker(1), broker(2)],
            directory: directory.to_path_buf(),
        }
    }

    #[test]
    fn it_comes_back_as_it_was_kept_and_goes_whole() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("s");
        fs::create_dir(&place).unwrap();
        assert_eq!(State::load(&place).unwrap_err().code, "no-sandbox");
        let state = state(&place);
        state.save().unwrap();
        assert_eq!(State::load(&place).unwrap(), state);
        assert_eq!(state.client_addresses(), "127.0.0.1:11,127.0.0.1:21");
        fs::create_dir(place.join("b1")).unwrap();
        fs::write(place.join("mine"), "").unwrap();
        state.remove().unwrap();
        let left: Vec<_> = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["mine"]);
    }

    #[test]
    fn a_process_that_is_not_the_broker_is_neither_seen_nor_ended() {
        let directory = tempfile::tempdir().unwrap();
        let state = state(directory.path());
        assert_eq!(state.live_pids(), Vec::<u32>::new());
        assert!(!state.end(&state.brokers[0], Ending::AtOnce).unwrap());
        assert!(state.broker("b9").unwrap_err().message.contains("b1, b2"));
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_no_sandbox() {
        let directory = tempfile::tempdir().unwrap();
        let mut state = state(directory.path());
        state.brokers[0].name = "../x".into();
        state.save().unwrap();
        assert!(State::load(directory.path()).unwrap_err().message.contains("../x"));
    }
}
