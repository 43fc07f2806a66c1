//! Several brokers that know each other.

use std::ops::{Index, IndexMut};
use std::path::PathBuf;

use super::broker::Broker;
use super::directory::Place;
use super::patience::wait_for;
use super::ports::ReservedPort;

/// How a cluster is to be.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// Brokers; each lists all of them as peers.
    pub size: usize,
    /// `--cluster-wait-for`.
    pub wait_for: usize,
    /// They keep nothing on disk.
    pub transient: bool,
    /// Further flags of every broker.
    pub flags: Vec<String>,
}

/// Brokers `b1`, `b2`, … with ports that they keep over restarts, and directories of their own.
#[derive(Debug)]
pub struct Cluster {
    brokers: Vec<Broker>,
    ports: Vec<[ReservedPort; 3]>,
    place: Place,
}

impl ClusterPlan {
    /// So many brokers, all of which are waited for.
    pub fn of(size: usize) -> Self {
        Self { size, wait_for: size, transient: false, flags: Vec::new() }
    }

    /// Brokers that keep nothing on disk.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.transient = true;
        self
    }

    /// Another number to wait for.
    #[must_use]
    pub fn wait_for(mut self, count: usize) -> Self {
        self.wait_for = count;
        self
    }

    /// Further flags of every broker.
    #[must_use]
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    /// The cluster, with no broker started.
    pub fn prepare(&self) -> Cluster {
        let place = Place::new();
        let ports: Vec<[ReservedPort; 3]> =
            (0..self.size).map(|_| std::array::from_fn(|_| ReservedPort::any())).collect();
        let peers: Vec<String> = ports.iter().map(|[_, cluster, _]| cluster.address()).collect();
        let mut cluster = Cluster { brokers: Vec::new(), ports, place };
        for number in 0..self.size {
            let mut broker = Broker::new(&cluster.place.path(""), &format!("b{}", number + 1), &[]);
            let data = cluster.data(number).display().to_string();
            let storage = ["--data-dir", &data];
            broker.add_flags(if self.transient { &["--transient"] } else { &storage });
            broker.add_flags(&["--cluster-peers", &peers.join(",")]);
            broker.add_flags(&["--cluster-wait-for", &self.wait_for.to_string()]);
            for (flag, port) in
                ["--listen", "--cluster-listen", "--admin-listen"].iter().zip(&cluster.ports[number])
            {
                broker.add_flags(&[flag, &port.address()]);
            }
            let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
            broker.add_flags(&flags);
            cluster.brokers.push(broker);
        }
        cluster
    }

    /// The cluster, all of it started and active.
    pub fn start(&self) -> Cluster {
        let mut cluster = self.prepare();
        cluster.start_all();
        cluster.wait_active();
        cluster
    }
}

impl Cluster {
    /// Starts every broker that is not running.
    pub fn start_all(&mut self) {
        for broker in &mut self.brokers {
            if !broker.is_running() {
                broker.start();
            }
        }
    }

    /// A broker's data directory, counting from 0.
    pub fn data(&self, number: usize) -> PathBuf {
        self.place.path(&format!("b{}-data", number + 1))
    }

    /// A path for something else of the test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    /// All cluster addresses, as `--cluster-peers` takes them.
    pub fn peers(&self) -> String {
        let addresses: Vec<String> = self.ports.iter().map(|[_, cluster, _]| cluster.address()).collect();
        addresses.join(",")
    }

    /// Client addresses of brokers, running or not, counting from 0.
    pub fn client_address(&self, number: usize) -> String {
        self.ports[number][0].address()
    }

    /// As the client library takes it, with all brokers.
    pub fn url(&self) -> String {
        let addresses: Vec<String> =
            (0..self.ports.len()).map(|number| self.client_address(number)).collect();
        format!("quorate://{}", addresses.join(","))
    }

    /// Waits until every running broker is active, as a voter, and they agree on a leader of `/`; gives its number.
    ///
    /// # Panics
    /// That does not happen.
    pub fn wait_active(&mut self) -> usize {
        wait_for("an active cluster", || self.is_active())
    }

    pub(super) fn is_active(&mut self) -> Result<usize, String> {
        let mut leaders = Vec::new();
        for broker in &mut self.brokers {
            if !broker.is_running() {
                continue;
            }
            let status = broker.status()?;
            let leader =
                status.leader("/").and_then(|leader| leader.strip_prefix('b')?.parse::<usize>().ok());
            let is_member =
                ["/", "system"].iter().all(|vhost| matches!(status.role(vhost), "leader" | "replica"));
            match leader {
                Some(leader) if status.verdict() == "active" && is_member => leaders.push(leader - 1),
                _ => return Err(format!("{}: {}", broker.name(), status.0)),
            }
        }
        match leaders.first() {
            Some(first) if leaders.iter().all(|leader| leader == first) => {
                let status = self.brokers[*first].status()?;
                if status.role("/") == "leader" {
                    Ok(*first)
                } else {
                    Err("it does not know it yet".to_owned())
                }
            }
            _ => Err(format!("the brokers name these leaders: {leaders:?}")),
        }
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.brokers.len()
    }

    /// The numbers of all but one.
    pub fn others(&self, number: usize) -> Vec<usize> {
        (0..self.size()).filter(|other| *other != number).collect()
    }
}

impl Index<usize> for Cluster {
    type Output = Broker;

    fn index(&self, number: usize) -> &Broker {
        &self.brokers[number]
    }
}

impl IndexMut<usize> for Cluster {
    fn index_mut(&mut self, number: usize) -> &mut Broker {
        &mut self.brokers[number]
    }
}
