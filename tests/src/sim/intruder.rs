//! A second process on a host's store, whose lock was missed: it writes its stamp as a broker does that leaves its held
//! state, and ends. Who is there must find that out, and nobody else may panic, ever.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use quorate_core::admin::{AdminRequest, Author, VerdictWord};
use quorate_store::files::Files;
use quorate_store::ids::{Incarnation, RunId};
use quorate_store::stamp::{Stamp, StampFile, StampFound, StampState};

use super::dice::Dice;
use super::operator::Cure;
use super::schedule::{Happening, HostId, MILLI, Micros, Relief};
use super::storage::{Medium, STORE_DIRECTORY};
use super::world::World;

/// On top of two intervals, by the process's own clock: until its next round.
const SLACK: Micros = 300 * MILLI;
/// How often it is looked at whether the time is over.
const LOOK: Micros = 100 * MILLI;

/// Who may panic, and who did.
#[derive(Clone, Debug, Default)]
pub struct Intrusions {
    /// Stores that somebody else wrote to, or whose histories went on apart.
    pub expected: BTreeSet<HostId>,
    /// In which life of the host.
    panicked: BTreeMap<HostId, u64>,
}

impl Medium {
    /// Writes the stamp of another process that begins a later life of this store; false if there is none in use.
    pub fn intrude(&self, dice: &mut Dice) -> bool {
        let files: Arc<dyn Files> = Arc::new(self.files.clone());
        let Ok((mut file, StampFound::Stamp(stamp))) = StampFile::open(files, PathBuf::from(STORE_DIRECTORY))
        else {
            return false;
        };
        if stamp.state != StampState::Dirty {
            return false;
        }
        let incarnation = Incarnation(stamp.incarnation.0 + 1);
        let written = file.write(Stamp { incarnation, run_id: RunId(dice.id()), ..*stamp });
        // A disk that fails on the second slot has the first.
        written.is_ok() || self.stamp().is_some_and(|stamp| stamp.incarnation == incarnation)
    }
}

impl World {
    /// Another process writes to the store of this host, of which the cluster can do without.
    pub(super) fn intrude(&mut self, host: HostId) -> bool {
        let runs = self.hosts[host].process.as_ref().is_some_and(|process| process.paused.is_none());
        let store = self.statuses.get(&host).map(|status| status.store_id).filter(|_| self.votes(host));
        let Some(store) = store.filter(|_| runs && self.ailing.is_none()) else { return false };
        if !self.hosts[host].medium.intrude(&mut self.dice) {
            return false;
        }
        self.expect_panic(host);
        self.begin_cure(host, store, Cure::Clear);
        true
    }

    /// This host's process has to panic within two intervals of its own clock, unless it ends before.
    pub fn expect_panic(&mut self, host: HostId) {
        let now = self.now();
        self.intrusions.expected.insert(host);
        let Some(process) = &self.hosts[host].process else { return };
        let by = process.clock.shows(now) + 2 * self.hosts[host].config.safety_millis * MILLI + SLACK;
        let life = self.hosts[host].life;
        self.schedule.after(LOOK, Happening::Relief(Relief::FoundOut { host, life, by }));
    }

    /// Looks whether it did.
    pub(super) fn found_out(&mut self, host: HostId, life: u64, by: Micros) {
        let now = self.now();
        let machine = &self.hosts[host];
        let Some(process) = machine.process.as_ref().filter(|_| machine.life == life) else { return };
        if self.intrusions.panicked.get(&host) == Some(&life) {
            return;
        }
        if process.paused.is_none() && process.clock.shows(now) > by {
            let text =
                format!("host {host} did not find out in time that another process writes to its store");
            self.checker.violation(text);
            return;
        }
        // After a pause everything that waited comes first.
        let by = if process.paused.is_some() { by.max(process.clock.shows(now) + SLACK) } else { by };
        self.schedule.after(LOOK, Happening::Relief(Relief::FoundOut { host, life, by }));
    }

    /// Whether the stamp on this host is not that of its running process.
    pub(super) fn is_intruded(&self, host: HostId) -> bool {
        let host = &self.hosts[host];
        let stamped = host.medium.stamp().map(|stamp| stamp.run_id);
        host.process.as_ref().is_none_or(|process| stamped != Some(process.key.run))
    }

    /// A broker panicked.
    pub(super) fn panicked(&mut self, host: HostId, text: &str) {
        self.intrusions.panicked.insert(host, self.hosts[host].life);
        if !self.intrusions.expected.contains(&host) {
            self.checker.violation(format!("host {host} panicked for nothing: {text}"));
        }
    }

    /// An operator who has found the cause lets it take part again.
    pub fn clear_panic(&mut self, host: HostId) -> Option<u64> {
        let status = self.statuses.get(&host).filter(|status| status.verdict == VerdictWord::Panicked)?;
        let confirm = status.cluster_id?.to_string();
        let request = AdminRequest::ClearPanic {
            confirm,
            reason: "the cause is gone".to_owned(),
            author: Author::local("a test"),
        };
        Some(self.ask(host, request))
    }
}
