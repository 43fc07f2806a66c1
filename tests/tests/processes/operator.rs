//! An operator at a terminal: the tool `quorate`, with the addresses of a broker or a cluster, answering in JSON.

use std::process::Command;

use quorate_tests::process::{Broker, Cluster, Place, programs};
use serde_json::Value;

/// Where the tool is told to go.
pub(super) struct Operator {
    url: String,
    admin: String,
}

impl Operator {
    /// At this broker.
    pub(super) fn at(broker: &Broker) -> Self {
        Self { url: broker.client_address(), admin: broker.admin_address() }
    }

    /// At all brokers of this cluster, for what goes to clients' ports, and at the first one's admin port.
    pub(super) fn of(cluster: &Cluster) -> Self {
        Self { url: cluster.url(), admin: cluster[0].admin_address() }
    }

    /// The tool, not started.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = programs::command("quorate");
        command.args(["-o", "json", "--url", &self.url, "--admin", &self.admin]).args(arguments);
        command
    }

    /// Runs the tool; gives its exit status and the JSON that it printed.
    pub(super) fn runs(&self, arguments: &[&str]) -> (i32, Value) {
        programs::answer(self.command(arguments))
    }
}

/// Runs `quorate` at the brokers that run; gives its exit status and the JSON that it printed.
pub(super) fn quorate(cluster: &mut Cluster, arguments: &[&str]) -> (i32, Value) {
    let running: Vec<usize> = (0..cluster.size()).filter(|number| cluster[*number].is_running()).collect();
    let admins: Vec<String> = running.iter().map(|number| cluster[*number].admin_address()).collect();
    let mut command = programs::command("quorate");
    command.args(["-o", "json", "--admin", &admins.join(",")]).args(arguments);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{arguments:?}: {error}: {text}{}", String::from_utf8_lossy(&output.stderr))
    });
    (output.status.code().expect("it ends by itself"), value)
}

/// A broker that is alone and serves.
pub(super) fn leading(place: &Place) -> Broker {
    let mut broker = Broker::single(&place.path(""), "b");
    broker.start();
    broker.wait_leading();
    broker
}
