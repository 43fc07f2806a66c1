//! Weaker durability policies, and the operator who is asked when what was acknowledged may be gone: nothing is lost
//! otherwise, and never without that.

use quorate_core::admin::{GroupVerdict, Status, VerdictWord};
use quorate_core::node::config::FIRST_VHOST;
use quorate_store::stamp::{Durability, DurabilityPolicy};

use super::controls::STRICT;
use super::fault::Fault;
use super::host::Host;
use super::schedule::HostId;
use super::world::World;

/// The group whose policy is set, as faults and scenes do.
const VHOST: &str = "/";

fn policy_of(status: &Status) -> Option<(DurabilityPolicy, Durability)> {
    let group = status.groups.iter().find(|group| group.vhost == VHOST)?;
    Some((group.durability, group.durability_weakest))
}

/// Whether this broker asks its operator to go on with the group from one of the stores.
fn asks(status: &Status) -> bool {
    let group = status.groups.iter().find(|group| group.vhost == VHOST);
    let verdict = group.and_then(|group| group.verdict.as_ref());
    match verdict {
        Some(shown) => shown.verdict == VerdictWord::NeedsOperator && shown.row == "N1",
        // It holds nothing of it, and waits for the others.
        None => group.is_none() && status.verdict == VerdictWord::NeedsOperator && status.row == "N1",
    }
}

impl World {
    /// Whether some policy, or some stamp, admits of what is not synced.
    pub fn is_weak(&self) -> bool {
        let stamped = |host: &Host| {
            let groups = host.medium.stamp().map(|stamp| stamp.groups).unwrap_or_default();
            groups.iter().any(|group| group.policy != STRICT || group.weakest != Durability::Sync)
        };
        self.statuses.values().filter_map(policy_of).any(|found| found != (STRICT, Durability::Sync))
            || self.hosts.iter().any(stamped)
    }

    /// Whether a store is still being filled again for what it lacked: it has no vote until then, so one more store that
    /// goes may be the one that was needed.
    pub(super) fn is_filling(&self) -> bool {
        let fills = |host: &Host| host.medium.stamp().is_some_and(|stamp| !stamp.refilling.is_empty());
        self.hosts.iter().any(fills)
    }

    /// Faults that take a store, or whose operator has a book of his own, are for clusters in which everything is synced:
    /// two such operators at once would mend each other's work.
    pub(super) fn is_for_the_strict(fault: &Fault) -> bool {
        matches!(
            fault,
            Fault::LoseDisk(..)
                | Fault::Damage(..)
                | Fault::Rot(..)
                | Fault::OldCopy(..)
                | Fault::Clone(..)
                | Fault::Twin(..)
                | Fault::Foreign(..)
                | Fault::Remove(_)
                | Fault::Intrude(_)
                | Fault::Mark(_)
                | Fault::MarkBlind(..)
                | Fault::RequiredNodes(..)
                // A broker that may lack something refuses it: the operator marks a store, as here.
                | Fault::Override(..)
        )
    }

    /// Whether all run and none waits for another one, and those that hold what they acknowledged are too few to elect
    /// anybody; then who of the voters those are.
    fn outvoted(&self) -> Option<Vec<HostId>> {
        let group = |host: &HostId| self.statuses.get(host)?.groups.iter().find(|group| group.vhost == VHOST);
        let hosts = 0..self.hosts.len();
        let stuck = hosts.clone().all(|host| {
            let verdict = group(&host).and_then(|group| group.verdict.as_ref());
            let asks =
                |shown: &GroupVerdict| shown.verdict == VerdictWord::NeedsOperator && shown.row == "Q1";
            self.hosts[host].process.is_some() && verdict.is_some_and(asks)
        });
        // Whoever is being filled again holds less than it did.
        let filled = |host: &HostId| {
            self.hosts[*host].medium.stamp().is_some_and(|stamp| !stamp.refilling.contains(&FIRST_VHOST.0))
        };
        let votes = |host: &HostId| {
            let name = &self.hosts[*host].name;
            group(host).is_some_and(|group| {
                group.nodes.iter().any(|node| node.name == *name && node.role != "learner")
            })
        };
        let holds = |host: &HostId| group(host).is_some_and(|group| group.may_lack.is_none()) && filled(host);
        stuck.then(|| hosts.filter(holds).filter(votes).collect())
    }

    /// If all brokers run, and all ask for it, the operator goes on from the store that has most of the group.
    pub(super) fn look_for_losses(&mut self) {
        if let Some(outvoted) = self.outvoted().filter(|_| self.away.is_empty()) {
            if !self.go_on_without_votes(&outvoted) {
                let done = self.go_on_from_best(None);
                let now = self.now();
                self.trace.line(now, || format!("the operator goes on from the latest of all: {done}"));
            }
            return;
        }
        let mut here = (0..self.hosts.len()).filter(|host| !self.away.contains(host));
        let all_ask =
            here.all(|host| self.hosts[host].process.is_some() && self.statuses.get(&host).is_some_and(asks));
        if !all_ask {
            return;
        }
        if !self.is_weak() {
            self.checker.violation("an operator is asked though everything was synced".to_owned());
            return;
        }
        let named = self.statuses.values().find_map(named_by);
        let done = self.go_on_from_best(named.as_deref());
        let now = self.now();
        self.trace.line(now, || format!("the operator goes on from what is left: {done}"));
    }

    /// Whether this is the host whose store the brokers named.
    pub(super) fn is_named(&self, host: HostId, named: Option<&str>) -> bool {
        named.is_none_or(|named| self.hosts[host].name == named)
    }
}

/// Whom the verdict names as the one with the most recent log, where its broker sees them all.
fn named_by(status: &Status) -> Option<String> {
    let group = status.groups.iter().find(|group| group.vhost == VHOST)?;
    let reason = &group.verdict.as_ref()?.reason;
    let (_, named) = reason.split_once(", is that of ").filter(|_| !reason.contains("is missing"))?;
    named.split(':').next().map(str::to_owned)
}
