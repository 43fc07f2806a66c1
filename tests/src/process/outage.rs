//! All of a cluster at once: stopped, killed, shut down, started again.

use std::process::{Child, Stdio};

use quorate_store::stamp::{Stamp, StampState};
use serde_json::{Value, json};
use uuid::Uuid;

use super::cluster::{Cluster, ClusterPlan};
use super::directory::{Snapshot, stamp};
use super::patience::wait_for;
use super::programs;
use super::status::post;

/// Every order of three brokers.
pub const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// Short times, so that a test may stop and start often.
const QUICK: [&str; 4] = ["--election-timeout", "300ms", "--heartbeat", "50ms"];

impl ClusterPlan {
    /// The same with short election timeouts.
    #[must_use]
    pub fn quick(self) -> Self {
        self.flags(&QUICK)
    }
}

impl Cluster {
    /// Starts the brokers of these numbers, in this order.
    pub fn start_these(&mut self, numbers: &[usize]) {
        for number in numbers {
            self[*number].start();
        }
    }

    /// Ends every running process as `kill -9` does.
    pub fn kill_all(&mut self) {
        for number in 0..self.size() {
            if self[number].is_running() {
                self[number].kill();
            }
        }
    }

    /// Asks every running process to stop (SIGTERM), then waits for all of them.
    ///
    /// # Panics
    /// One does not, or ends with another status than 0.
    pub fn terminate_all(&mut self) {
        let running: Vec<usize> = (0..self.size()).filter(|number| self[*number].is_running()).collect();
        for number in &running {
            self[*number].ask_to_stop();
        }
        self.wait_stopped(&running);
    }

    /// Waits until these processes have ended with status 0.
    ///
    /// # Panics
    /// One does not.
    pub fn wait_stopped(&mut self, numbers: &[usize]) {
        for number in numbers {
            let ended = self[*number].wait_end(super::PATIENCE);
            assert_eq!(ended.status, Some(0), "{}: {}", self[*number].name(), ended.log);
        }
    }

    /// Begins `quorate cluster shutdown` at one member.
    ///
    /// # Panics
    /// The tool cannot be started.
    pub fn begin_shutdown(&self, at: usize) -> Child {
        let mut command = programs::command("quorate");
        command.args(["cluster", "shutdown", "--reason", "test", "--yes", "-o", "json"]);
        command.args(["--admin", &self[at].admin_address()]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the tool runs")
    }

    /// Shuts the cluster down at one member, and waits until those running have ended; gives the command's exit status
    /// and report.
    ///
    /// # Panics
    /// The report is none, or a broker ends with another status than 0.
    pub fn shut_down(&mut self, at: usize) -> (i32, Value) {
        let running: Vec<usize> = (0..self.size()).filter(|number| self[*number].is_running()).collect();
        // Whoever was killed just before may have led.
        let answer = wait_for("a quorum to shut down by", || match report(self.begin_shutdown(at)) {
            (_, value) if value["code"] == "NO_QUORUM" => Err(value.to_string()),
            answer => Ok(answer),
        });
        self.wait_stopped(&running);
        answer
    }

    /// What the stamp of a store says.
    ///
    /// # Panics
    /// There is none.
    pub fn stamp(&self, number: usize) -> Stamp {
        stamp(&self.data(number)).unwrap_or_else(|| panic!("b{} has no stamp", number + 1))
    }

    /// The shutdown by which a store is clean; none if it is not.
    pub fn shutdown_id(&self, number: usize) -> Option<Uuid> {
        match self.stamp(number).state {
            StampState::Clean { shutdown } => Some(shutdown),
            _ => None,
        }
    }

    /// What is in all directories, but for the lock files.
    pub fn contents(&self) -> Vec<Snapshot> {
        (0..self.size()).map(|number| Snapshot::of(&self.data(number)).without("lock")).collect()
    }

    /// Checks that no file of any store has changed.
    ///
    /// # Panics
    /// One has.
    pub fn assert_unchanged(&self, before: &[Snapshot]) {
        for (number, (before, now)) in before.iter().zip(self.contents()).enumerate() {
            assert_eq!(before.differences(&now), [""; 0], "files of b{} have changed", number + 1);
        }
    }

    /// The brokers in the order in which `system` and `/` prefer them while nobody has set anything: by their store ids.
    pub fn preferred(&self) -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..self.size()).collect();
        let store = |number: usize| self[number].status().expect("it answers").0["store_id"].to_string();
        numbers.sort_by_key(|number| std::cmp::Reverse(store(*number)));
        numbers
    }

    /// As [`Self::wait_equal`], of a cluster whose controls nobody has changed: the one that is preferred leads `/`, asked to
    /// if another one was elected. Leadership does not move any more by itself.
    pub fn wait_settled(&mut self) -> usize {
        self.wait_active();
        let first = self.preferred()[0];
        let asked = json!({ "vhost": "/", "to": self[first].name(), "reason": "a test" });
        wait_for("the preferred leader", || {
            let leader = self.is_active()?;
            if leader == first {
                return Ok(());
            }
            let (_, answer) = post(&self[leader].admin_address(), "/api/v1/groups/transfer", &asked)?;
            Err(answer)
        });
        assert_eq!(self.wait_equal(), first);
        first
    }

    /// Waits until all running brokers have applied the same of `/`, and hold the same; gives the leader.
    ///
    /// # Panics
    /// They do not.
    pub fn wait_equal(&mut self) -> usize {
        let leader = self.wait_active();
        wait_for("equal contents", || {
            let mut digests = Vec::new();
            for number in 0..self.size() {
                if self[number].is_running() {
                    digests.push(self[number].status()?.digest("/"));
                }
            }
            let equal = digests.iter().all(|digest| digest.is_some() && *digest == digests[0]);
            if equal { Ok(()) } else { Err(format!("{digests:?}")) }
        });
        leader
    }
}

/// Waits for a command that was begun with [`Cluster::begin_shutdown`]; gives its exit status and report.
///
/// # Panics
/// It was killed, or printed no JSON.
pub fn report(command: Child) -> (i32, Value) {
    let output = command.wait_with_output().expect("the tool ends");
    let text = String::from_utf8_lossy(&output.stdout);
    let report = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().expect("it was not killed"), report)
}
