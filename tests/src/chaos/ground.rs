//! Three brokers with what stands between them, and where they keep things.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::history::{Event, History};
use super::links::Links;
use super::proxy::Proxy;
use crate::process::directory::copy_in_use;
use crate::process::full_disk::SmallDisk;
use crate::process::patience::wait_within;
use crate::process::ports::ReservedPort;
use crate::process::{Broker, Place, Status};

/// Brokers.
pub const BROKERS: usize = 3;
/// The broker whose store is on the small disk, if there is one.
pub const ON_SMALL_DISK: usize = 2;
/// Room for the log, the reserve, what is kept of earlier histories, and the free space below which publishing stops.
const DISK_MEBIBYTES: u32 = 900;
/// Times as on a fast network, so that a run sees many elections.
const FLAGS: [&str; 6] =
    ["--election-timeout", "300ms", "--heartbeat", "50ms", "--log-level", "info,quorate_core=debug"];
/// How long three brokers that nothing ails may take to serve with all of their votes, updates included.
pub const ACTIVE_LIMIT: Duration = Duration::from_secs(90);

/// Whether a broker has a process, and whether that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No process.
    Down,
    /// It stands still.
    Frozen,
    /// It runs.
    Running,
}

/// The brokers and their surroundings. If the test fails, directories, logs and the history stay.
#[derive(Debug)]
pub struct Ground {
    brokers: Vec<Broker>,
    standing: [Standing; BROKERS],
    ports: Vec<[ReservedPort; 3]>,
    /// What passes between the brokers.
    pub links: Arc<Links>,
    proxies: Vec<Proxy>,
    /// Why there is no small disk, if there is none.
    pub disk: Result<SmallDisk, String>,
    history: History,
    /// How to play this run again.
    again: String,
    place: Place,
}

impl Ground {
    /// Everything in its place, no broker started.
    pub async fn prepare(history: &History, again: &str) -> Self {
        let place = Place::new();
        let ports: Vec<[ReservedPort; 3]> =
            (0..BROKERS).map(|_| std::array::from_fn(|_| ReservedPort::any())).collect();
        let links = Arc::new(Links::new(BROKERS));
        let mut proxies = Vec::new();
        for (number, [_, cluster, _]) in ports.iter().enumerate() {
            proxies.push(Proxy::start(Arc::clone(&links), number, cluster.address()).await);
        }
        let disk = SmallDisk::mount(&place.path("small-disk"), DISK_MEBIBYTES);
        let mut ground = Self {
            brokers: Vec::new(),
            standing: [Standing::Down; BROKERS],
            ports,
            links,
            proxies,
            disk,
            history: history.clone(),
            again: again.to_owned(),
            place,
        };
        let peers: Vec<&str> = ground.proxies.iter().map(Proxy::address).collect();
        let mut brokers = Vec::new();
        for number in 0..BROKERS {
            let mut broker = Broker::new(&ground.place.path(""), &format!("b{}", number + 1), &FLAGS);
            broker.add_flags(&["--data-dir", &ground.data(number).display().to_string()]);
            broker.add_flags(&["--cluster-peers", &peers.join(","), "--cluster-advertise", peers[number]]);
            let listens = ["--listen", "--cluster-listen", "--admin-listen"];
            for (flag, port) in listens.iter().zip(&ground.ports[number]) {
                broker.add_flags(&[flag, &port.address()]);
            }
            brokers.push(broker);
        }
        ground.brokers = brokers;
        ground
    }

    /// A broker's data directory.
    pub fn data(&self, number: usize) -> PathBuf {
        let name = format!("b{}-data", number + 1);
        match &self.disk {
            Ok(disk) if number == ON_SMALL_DISK => disk.path().join(name),
            _ => self.place.path(&name),
        }
    }

    /// As the client library takes it.
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.ports.iter().map(|[clients, _, _]| clients.address()).collect();
        format!("quorate://{}", addresses.join(","))
    }

    /// Where a broker takes operators.
    pub fn admin(&self, number: usize) -> String {
        self.ports[number][2].address()
    }

    /// Notes what the schedule does, beside what clients see of it.
    pub fn note(&self, text: String) {
        self.history.note(Event::Note(text));
    }

    /// How a broker is.
    pub fn standing(&self, number: usize) -> Standing {
        self.standing[number]
    }

    /// Those that are so.
    pub fn all(&self, test: impl Fn(Standing) -> bool) -> Vec<usize> {
        (0..BROKERS).filter(|number| test(self.standing[*number])).collect()
    }

    /// From its next start on, a broker joins this cluster or none.
    pub fn join_only(&mut self, number: usize, cluster: &str) {
        self.brokers[number].set_flag("--cluster-id", cluster);
    }

    /// Starts a broker that is down, and waits for nothing.
    pub fn start(&mut self, number: usize) {
        if self.standing[number] == Standing::Down {
            self.note(format!("start b{}", number + 1));
            self.brokers[number].spawn();
            self.standing[number] = Standing::Running;
        }
    }

    /// `kill -9` of these, at one instant as far as one process can.
    pub fn kill(&mut self, numbers: &[usize]) {
        let names: Vec<String> = numbers.iter().map(|number| format!("b{}", number + 1)).collect();
        self.note(format!("kill {}", names.join(" ")));
        for number in numbers {
            self.brokers[*number].strike();
        }
        for number in numbers {
            self.brokers[*number].kill();
            self.standing[*number] = Standing::Down;
        }
    }

    /// SIGSTOP.
    pub fn freeze(&mut self, number: usize) {
        self.note(format!("freeze b{}", number + 1));
        self.brokers[number].freeze();
        self.standing[number] = Standing::Frozen;
    }

    /// SIGCONT, if it stands still.
    pub fn thaw(&mut self, number: usize) {
        if self.standing[number] == Standing::Frozen {
            self.note(format!("thaw b{}", number + 1));
            self.brokers[number].thaw();
            self.standing[number] = Standing::Running;
        }
    }

    /// SIGTERM of a running broker; gives its exit status.
    ///
    /// # Panics
    /// It does not end.
    pub fn terminate(&mut self, number: usize) -> Option<i32> {
        self.note(format!("terminate b{}", number + 1));
        self.brokers[number].ask_to_stop();
        self.ended(number)
    }

    fn ended(&mut self, number: usize) -> Option<i32> {
        let ended = self.brokers[number].wait_end(crate::process::PATIENCE);
        self.standing[number] = Standing::Down;
        ended.status
    }

    /// SIGTERM of all at once; all of them run.
    ///
    /// # Panics
    /// One does not end, or with another status than 0.
    pub fn terminate_all(&mut self) {
        self.note("terminate all".to_owned());
        for broker in &self.brokers {
            broker.ask_to_stop();
        }
        for number in 0..BROKERS {
            self.wait_stopped(number);
        }
    }

    /// Waits until a broker has ended with status 0.
    ///
    /// # Panics
    /// It does not.
    pub fn wait_stopped(&mut self, number: usize) {
        assert_eq!(self.ended(number), Some(0), "b{} was asked to stop", number + 1);
    }

    /// A broker that ended by itself though nobody asked it to, with its exit status.
    pub fn ended_by_itself(&mut self) -> Option<(usize, Option<i32>)> {
        for number in 0..BROKERS {
            if self.standing[number] != Standing::Down
                && let Some(ended) = self.brokers[number].poll_end()
            {
                self.standing[number] = Standing::Down;
                return Some((number, ended.status));
            }
        }
        None
    }

    /// # Panics
    /// One did.
    pub fn assert_nobody_ended(&mut self) {
        if let Some((number, status)) = self.ended_by_itself() {
            panic!("b{} ended by itself with status {status:?}", number + 1);
        }
    }

    /// Who leads `/`, as far as a running broker says.
    pub fn leader(&self) -> Option<usize> {
        self.all(|standing| standing == Standing::Running)
            .into_iter()
            .find(|number| Status::ask(&self.admin(*number)).is_ok_and(|status| status.role("/") == "leader"))
    }

    /// Nothing is cut off, stands still or is down.
    pub fn mend(&mut self) {
        self.links.heal();
        for number in 0..BROKERS {
            self.thaw(number);
            self.start(number);
        }
    }

    /// Waits until all brokers are active, each as a voter of both groups, and agree on the leader of `/`.
    ///
    /// # Panics
    /// That does not happen in time, or one ends.
    pub fn wait_active(&mut self) {
        self.wait_active_of(&[0, 1, 2]);
    }

    /// The same of some brokers.
    ///
    /// # Panics
    /// As [`Self::wait_active`].
    pub fn wait_active_of(&mut self, numbers: &[usize]) {
        wait_within(ACTIVE_LIMIT, "an active cluster", || {
            self.assert_nobody_ended();
            let mut leaders = Vec::new();
            for number in numbers {
                let status = Status::ask(&self.admin(*number))?;
                let votes =
                    ["/", "system"].iter().all(|vhost| matches!(status.role(vhost), "leader" | "replica"));
                if status.verdict() != "active" || !votes || status.leader("/").is_none() {
                    return Err(format!("b{}: {}", number + 1, status.0));
                }
                leaders.push(status.leader("/").map(ToOwned::to_owned));
            }
            if leaders.windows(2).all(|pair| pair[0] == pair[1]) {
                Ok(())
            } else {
                Err(format!("the brokers name these leaders: {leaders:?}"))
            }
        });
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        self.links.heal();
        // The dead do not change what is kept.
        for number in self.all(|standing| standing != Standing::Down) {
            self.brokers[number].strike();
            self.brokers[number].kill();
        }
        if self.disk.is_ok() {
            let kept = self.place.path(&format!("b{}-data", ON_SMALL_DISK + 1));
            copy_in_use(&self.data(ON_SMALL_DISK), &kept);
        }
        let place = self.place.keep().to_owned();
        let history = place.join("history");
        let written = self.history.write(&history);
        eprintln!("--- directories and logs are kept in {}", place.display());
        match written {
            Ok(()) => eprintln!("--- the history is {}", history.display()),
            Err(error) => eprintln!("--- the history could not be written: {error}"),
        }
        eprintln!("--- the same schedule again: {}", self.again);
    }
}
