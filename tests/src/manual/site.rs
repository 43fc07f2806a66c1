//! The site that the operator's pages speak of: `host1` to `host3`, a broker on each, and somebody who types.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use super::page::{Block, Step, is_as_shown};
use crate::process::ports::ReservedPort;
use crate::process::{Broker, Place, programs, wait_for};

/// Where each host's broker has its store, as the pages say.
const DATA: &str = "/var/lib/quorate";
/// Where each host's broker has its settings, as the pages say.
const CONFIG: &str = "/etc/quorate.toml";
/// Stands for the cluster's id.
const CLUSTER_ID: &str = "CLUSTER-ID";
/// Stands for the loss that an answer advises to look at with this command.
const LOSS: &str = "LOSS";
/// See [`LOSS`].
const LOSS_COMMAND: &str = "quorate loss show ";
/// Commands that only look: they are typed again until the answer is as shown.
const LOOKING: [&str; 9] = [
    "quorate loss list",
    "quorate cluster ",
    "quorate group status",
    "quorate group audit",
    "quorate --admin",
    "quorate queue list",
    "quorate queue show",
    "journalctl ",
    "cat ",
];

/// The hosts, and what is on them.
#[derive(Debug)]
pub struct Site {
    brokers: Vec<Broker>,
    ports: Vec<[ReservedPort; 3]>,
    cluster_id: Option<String>,
    loss: Option<String>,
    place: Place,
}

impl Site {
    /// Three hosts with settings, all started and active. Further lines of settings are the same on all of them.
    ///
    /// # Panics
    /// They do not become active.
    pub fn start(settings: &str) -> Self {
        let mut site = Self::prepare(settings);
        for number in 0..site.brokers.len() {
            site.brokers[number].start();
        }
        site.wait_active();
        site
    }

    fn prepare(settings: &str) -> Self {
        let place = Place::new();
        let ports: Vec<[ReservedPort; 3]> =
            (0..3).map(|_| std::array::from_fn(|_| ReservedPort::any())).collect();
        let peers: Vec<String> = ports.iter().map(|[_, cluster, _]| cluster.address()).collect();
        let mut site = Self { brokers: Vec::new(), ports, cluster_id: None, loss: None, place };
        for number in 0..3 {
            let [client, cluster, admin] = &site.ports[number];
            let text = format!(
                "name = \"b{}\"\ndata-dir = \"{}\"\ncluster-peers = \"{}\"\ncluster-wait-for = 3\n\
                 listen = \"{}\"\ncluster-listen = \"{}\"\nadmin-listen = \"{}\"\n{settings}",
                number + 1,
                site.data(number).display(),
                peers.join(","),
                client.address(),
                cluster.address(),
                admin.address(),
            );
            let config = site.config(number);
            fs::write(&config, text).expect("settings can be written");
            let name = format!("b{}", number + 1);
            let flags = ["--config", &config.display().to_string()].map(ToOwned::to_owned);
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            site.brokers.push(Broker::new(&site.place.path(""), &name, &flags));
        }
        site
    }

    /// The broker of a host, counting from 0.
    pub fn broker(&mut self, number: usize) -> &mut Broker {
        &mut self.brokers[number]
    }

    /// Its store.
    pub fn data(&self, number: usize) -> PathBuf {
        self.place.path(&format!("host{}-data", number + 1))
    }

    fn config(&self, number: usize) -> PathBuf {
        self.place.path(&format!("host{}.toml", number + 1))
    }

    /// Waits until all that run are active, as voters.
    ///
    /// # Panics
    /// They do not become so.
    pub fn wait_active(&mut self) {
        for broker in &mut self.brokers {
            if !broker.is_running() {
                continue;
            }
            let status = broker.wait_until("is active", |status| {
                let is_member =
                    ["/", "system"].iter().all(|group| matches!(status.role(group), "leader" | "replica"));
                status.verdict() == "active" && is_member && status.leader("/").is_some()
            });
            self.cluster_id = status.cluster_id().map(ToOwned::to_owned);
        }
    }

    /// Waits until all have applied the same in `/`.
    ///
    /// # Panics
    /// They do not.
    pub fn wait_equal(&self) {
        wait_for("equal stores", || {
            let digests: Vec<_> =
                self.brokers.iter().map(|broker| broker.status().map(|status| status.digest("/"))).collect();
            let is_equal =
                matches!(digests.first(), Some(Ok(Some(_)))) && digests.iter().all(|one| *one == digests[0]);
            if is_equal { Ok(()) } else { Err(format!("{digests:?}")) }
        });
    }

    /// Types something that no page shows, for what happened before the page begins.
    ///
    /// # Panics
    /// It fails.
    pub fn prepare_with(&self, host: usize, command: &str) {
        let output = self.shell(host, command);
        assert!(output.status.success(), "{command}: {output:?}");
    }

    /// Does what a block of a page says, and compares.
    ///
    /// # Panics
    /// An answer is not as shown.
    pub fn follow(&mut self, block: &Block) {
        for step in &block.steps {
            self.take(step);
        }
    }

    fn take(&mut self, step: &Step) {
        let host = step.host.trim_start_matches("host").parse::<usize>().expect("a host's number") - 1;
        assert!(host < self.brokers.len(), "line {}: there is no {}", step.line, step.host);
        match step.command.strip_prefix("systemctl ") {
            Some("start quorated") => self.brokers[host].start(),
            Some("stop quorated") => {
                self.brokers[host].terminate();
            }
            Some("restart quorated") => {
                self.brokers[host].terminate();
                self.brokers[host].start();
            }
            Some(other) => panic!("line {}: systemctl {other}", step.line),
            None => self.type_in(step, host),
        }
    }

    fn type_in(&mut self, step: &Step, host: usize) {
        let looks = LOOKING.iter().any(|begin| step.command.starts_with(begin))
            && !step.command.contains(" shutdown ");
        let what = format!("the answer of line {}, {}$ {}", step.line, step.host, step.command);
        let ask = || {
            let output = self.shell(host, &step.command);
            let status = output.status.code();
            let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.push_str(&String::from_utf8_lossy(&output.stderr));
            let advised = text.split_once(LOSS_COMMAND).and_then(|(_, rest)| rest.split_whitespace().next());
            let loss = advised.map(ToOwned::to_owned);
            let text = self.as_on_the_page(host, &text);
            let text = loss.as_ref().map_or(text.clone(), |loss| text.replace(loss.as_str(), LOSS));
            if status == Some(step.status) && is_as_shown(&step.shown, &text) {
                eprintln!("{}$ {}\n{text}[{}]", step.host, step.command, step.status);
                return Ok(loss);
            }
            Err(format!(
                "it is\n{text}[{status:?}]\nand the page shows\n{}\n[{}]",
                step.shown.join("\n"),
                step.status
            ))
        };
        let loss =
            if looks { wait_for(&what, ask) } else { ask().unwrap_or_else(|why| panic!("{what}: {why}")) };
        // The first one that was named: later answers may list others before it.
        self.loss = self.loss.take().or(loss);
    }

    /// What the page's words stand for, longer ones first where one begins with the other.
    fn words(&self, host: usize) -> Vec<(String, String)> {
        let mut words = vec![
            (DATA.to_owned(), self.data(host).display().to_string()),
            (CONFIG.to_owned(), self.config(host).display().to_string()),
        ];
        for (number, ports) in (1..).zip(&self.ports) {
            for (port, reserved) in (7420..).zip(ports) {
                words.push((format!("host{number}:{port}"), reserved.address()));
            }
        }
        words.extend(self.loss.iter().map(|loss| (LOSS.to_owned(), loss.clone())));
        words.extend(self.cluster_id.iter().map(|id| (CLUSTER_ID.to_owned(), id.clone())));
        words
    }

    fn as_on_the_page(&self, host: usize, text: &str) -> String {
        let words = self.words(host);
        words.iter().fold(text.to_owned(), |text, (word, real)| text.replace(real, word))
    }

    fn shell(&self, host: usize, command: &str) -> Output {
        let log = self.place.path(&format!("b{}.log", host + 1)).display().to_string();
        let words = self.words(host);
        let command = words.iter().fold(command.to_owned(), |text, (word, real)| text.replace(word, real));
        let command = command.replace("journalctl -u quorated", &format!("cat {log}"));
        let tool = programs::path("quorate");
        let folder = tool.parent().expect("a program is in a folder").display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let [client, _, admin] = &self.ports[host];
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).current_dir(self.place.path(""));
        shell.env("PATH", format!("{folder}:{path}"));
        shell.env("QUORATE_URL", client.address()).env("QUORATE_ADMIN", admin.address());
        shell.stdin(std::process::Stdio::null()).output().expect("a shell")
    }
}
