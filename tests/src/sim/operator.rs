//! An operator who looks after stores that are lost, and does what an operator does by the book.

use std::collections::BTreeMap;
use std::path::PathBuf;

use quorate_core::admin::{AdminRequest, Author, MemberAct, MemberRequest, Status, VerdictWord};
use quorate_store::ids::StoreId;

use super::dice::Dice;
use super::fault::Fault;
use super::host::Host;
use super::plan::cluster;
use super::schedule::{Happening, HostId, MILLI, Micros, Relief, SECOND};
use super::storage::{LogSizes, Medium};
use super::world::World;

/// How often the operator looks.
const OPERATOR: Micros = SECOND;
/// A wrong store is found out after so long.
const FOUND_OUT: Micros = 5 * SECOND;
/// How often the operator asks again for what no leader has taken yet.
pub(super) const ASK_AGAIN: Micros = 500 * MILLI;

/// A host whose store is not what it was.
#[derive(Clone, Debug)]
pub struct Ailing {
    /// Which host.
    pub host: HostId,
    /// The id of the store that it had.
    pub store: StoreId,
    /// Whose place a twin may have taken: it has to vote again, too.
    also: Option<HostId>,
    cure: Cure,
}

/// What has to be done about it.
#[derive(Clone, Debug)]
pub(super) enum Cure {
    /// Nothing, as long as the cluster fills it again; `member replace` when the broker says that its store is damaged.
    Wait,
    /// `cluster panic clear`, once the broker has panicked.
    Clear,
    /// `member replace`.
    Replace,
    /// Nobody knows yet that the store is not its own, which holds just this. At this time its disk is wiped.
    WipeAt(Micros, Box<Wrong>),
    /// `member remove`, then wipe and `member add`.
    Remove,
    /// `member add`.
    Add,
    /// The others are started once the marked store goes on, one after the other, and are filled from it. Until they all
    /// vote again, one copy is enough; then as many as before.
    Marked {
        /// So many.
        copies: usize,
    },
    /// The same, and the store goes on by an override, which is asked for until it is so.
    Overridden {
        /// So many.
        copies: usize,
    },
    /// All run, and too many of them may lack something: one that does not goes on by an override.
    Outvoted {
        /// So many.
        copies: usize,
    },
}

/// A store that does not belong there.
#[derive(Clone, Debug)]
pub(super) enum Wrong {
    /// Another member's, run under that one's name: it may take the other's place.
    Twin,
    /// Another cluster's, or another member's under a name that is not that one's: nobody may change a byte of it.
    Untouched(BTreeMap<PathBuf, Vec<u8>>),
}

impl Ailing {
    /// How many copies a confirm needed before an operator went on from one store.
    pub(super) fn copies_before(&self) -> Option<usize> {
        match self.cure {
            Cure::Marked { copies } | Cure::Outvoted { copies } => Some(copies),
            _ => None,
        }
    }
}

impl World {
    /// Takes a voter's store away, or the voter, if the cluster can do without it.
    pub(super) fn take_store(&mut self, fault: &Fault) -> bool {
        let target = match fault {
            Fault::LoseDisk(target, _)
            | Fault::Damage(target, _)
            | Fault::Rot(target, ..)
            | Fault::OldCopy(target, _)
            | Fault::Clone(target, ..)
            | Fault::Twin(target, ..)
            | Fault::Foreign(target, _)
            | Fault::Remove(target) => *target,
            _ => return false,
        };
        let host = self.target(target);
        let store = self.statuses.get(&host).map(|status| status.store_id).filter(|_| self.votes(host));
        let Some(store) = store.filter(|_| self.ailing.is_none() && self.can_spare_one()) else {
            return false;
        };
        // One that is damaged, or holds what is not its own, is no member: a start that waits for all would wait for ever.
        let spared = self.hosts.iter().any(|other| other.config.wait_for as usize >= self.hosts.len());
        let (restart, medium, cure) = match *fault {
            Fault::LoseDisk(_, restart) => (restart, Some(Medium::new()), Cure::Replace),
            Fault::Damage(_, restart) | Fault::Rot(_, _, restart) if !spared => (restart, None, Cure::Wait),
            Fault::OldCopy(_, restart) => {
                let Some(older) = self.older_life(host, store) else { return false };
                (restart, Some(older), Cure::Wait)
            }
            Fault::Clone(_, other, restart) if !spared && other != host && self.votes(other) => {
                let copy = self.hosts[other].medium.clone_now();
                let wrong = Wrong::Untouched(copy.fingerprint());
                (restart, Some(copy), Cure::WipeAt(self.now() + restart + FOUND_OUT, Box::new(wrong)))
            }
            // Whoever is not there for a moment may lose its place to its copy, and then two are lost.
            Fault::Twin(_, other, restart)
                if other != host
                    && self.hosts.len() >= self.founders().max(3) + 2
                    && self.votes(other)
                    && self.statuses.len() >= 5 =>
            {
                let Some(status) = self.statuses.get(&other) else { return false };
                let Some(copy) = self.older_life(other, status.store_id) else { return false };
                let at = self.now() + restart + FOUND_OUT;
                (restart, Some(copy), Cure::WipeAt(at, Box::new(Wrong::Twin)))
            }
            Fault::Foreign(_, restart) if !spared => {
                let foreign = foreign_store(&mut self.dice);
                let wrong = Wrong::Untouched(foreign.fingerprint());
                (restart, Some(foreign), Cure::WipeAt(self.now() + restart + FOUND_OUT, Box::new(wrong)))
            }
            Fault::Remove(_) => {
                self.begin_cure(host, store, Cure::Remove);
                return true;
            }
            _ => return false,
        };
        if !self.end_and_restart(host, true, restart) {
            return false;
        }
        match (medium, fault) {
            (Some(medium), _) => self.replace_medium(host, medium),
            (None, Fault::Rot(_, place, _)) => {
                if !self.hosts[host].medium.rot(*place) {
                    return false;
                }
                self.ledger.forget(host);
            }
            (None, _) => self.hosts[host].medium.spoil_stamp(),
        }
        if let Fault::Twin(_, other, _) = *fault {
            self.hosts[host].name = super::host::name_of(other);
            // The one that was copied may lose its place to the copy, until it is filled again.
            self.copies = self.copies.min((self.founders() - 2) / 2 + 1);
        }
        self.begin_cure(host, store, cure);
        if let (Fault::Twin(_, other, _), Some(ailing)) = (fault, &mut self.ailing) {
            ailing.also = Some(*other);
        }
        true
    }

    /// Whether hosts that never were in the cluster, and one that is emptied, stay too few to found another cluster while
    /// nobody is there who could tell them of this one.
    fn can_spare_one(&self) -> bool {
        let belongs = |host: &&Host| host.medium.stamp().is_some_and(|stamp| stamp.cluster_id.is_some());
        let belonging = self.hosts.iter().filter(belongs).count();
        belonging > 0 && 2 * (belonging - 1) >= self.hosts.len()
    }

    pub(super) fn begin_cure(&mut self, host: HostId, store: StoreId, cure: Cure) {
        self.ailing = Some(Ailing { host, store, also: None, cure });
        // Until the new store votes, they are one fewer.
        self.copies = self.copies.min((self.founders() - 1) / 2 + 1);
        self.schedule.after(OPERATOR, Happening::Operator);
    }

    /// A copy of this host's store of an earlier life than the present one, of which everybody else knows durably. Of a copy
    /// of the present life only those could tell who know what was acknowledged since, and if those are away, nobody.
    fn older_life(&mut self, host: HostId, store: StoreId) -> Option<Medium> {
        let older = self.older.get(&host)?;
        let copied = older.stamp().filter(|stamp| stamp.store_id == store)?;
        let present = self.hosts[host].medium.stamp().filter(|stamp| stamp.store_id == store)?.incarnation;
        let knows = |other: &Host| {
            let stamp = other.medium.stamp();
            stamp.is_some_and(|stamp| {
                stamp.witnessed.iter().any(|known| known.store == store && known.incarnation >= present)
            })
        };
        let all_know = self.hosts.iter().filter(|other| other.id != host).all(knows);
        (copied.incarnation < present && all_know).then(|| self.older.remove(&host)).flatten()
    }

    /// How many there are at least that vote, if nobody is missing.
    fn founders(&self) -> usize {
        let founders = self.hosts.iter().map(|host| host.config.wait_for as usize).max().unwrap_or(1);
        founders.max(2)
    }

    /// Now and then a copy of a disk is put away, as administrators do; it is kept as long as the host has that store. Not
    /// while one store goes on alone: a copy of it from then would do so again, and if nobody answers it, nobody can tell.
    pub(super) fn copy_some_disk(&mut self) {
        let host = self.dice.index(self.hosts.len());
        let medium = &self.hosts[host].medium;
        let runs = self.hosts[host].process.is_some()
            && !medium.files.is_off()
            && !self.goes_on_from_store()
            // Put back, it would be panicked still.
            && !self.intrusions.expected.contains(&host);
        let id = |medium: &Medium| medium.stamp().map(|stamp| stamp.store_id);
        let has_one = self.older.get(&host).is_some_and(|older| id(older) == id(medium));
        if runs && !has_one && self.dice.chance(80) {
            self.older.insert(host, self.hosts[host].medium.clone_now());
        }
    }

    /// Whether this host's broker is one of at least three voters in every group, by its own latest status.
    pub(super) fn votes(&self, host: HostId) -> bool {
        let Some(status) = self.statuses.get(&host) else { return false };
        let known = status.groups.len() > 1 && status.verdict == VerdictWord::Active;
        known
            && status.groups.iter().all(|group| {
                let here = |role| matches!(role, "leader" | "replica" | "waiting");
                let voters = group.nodes.iter().filter(|node| here(node.role)).count();
                matches!(group.role, "leader" | "replica") && group.quorum && voters >= 3
            })
    }

    /// The operator looks after the ailing broker until it votes again.
    pub(super) fn operate(&mut self) {
        let Some(Ailing { host, store, also, cure }) = self.ailing.clone() else { return };
        let now = self.now();
        let done = match &cure {
            Cure::Marked { .. } => self.away.is_empty() && self.all_vote(),
            Cure::Overridden { .. } | Cure::Outvoted { .. } => {
                self.away.is_empty() && self.all_vote() && !self.is_forced()
            }
            // What is not found out yet looks as well as before.
            Cure::Clear => self.votes(host) && !self.is_intruded(host),
            Cure::Wait | Cure::Replace | Cure::Add => {
                self.votes(host) && also.is_none_or(|also| self.votes(also))
            }
            Cure::WipeAt(..) | Cure::Remove => false,
        };
        if done {
            self.trace.line(now, || format!("host {host} votes again"));
            self.ailing = None;
            self.intrusions.expected.remove(&host);
            if let Cure::Marked { copies } | Cure::Overridden { copies } | Cure::Outvoted { copies } = cure {
                self.copies = copies;
            }
            return;
        }
        self.schedule.after(OPERATOR, Happening::Operator);
        match cure {
            Cure::Wait => {
                let shown = self.statuses.get(&host);
                if shown.is_some_and(|status| {
                    status.members.iter().any(|member| member.store_id == store && member.state == "damaged")
                }) {
                    self.ask_leader(host, MemberAct::Replace, |status| is_voter(status, store));
                }
            }
            Cure::Replace => {
                self.ask_leader(host, MemberAct::Replace, |status| is_voter(status, store));
            }
            Cure::Clear => {
                self.clear_panic(host);
            }
            Cure::Add => {
                self.ask_leader(host, MemberAct::Add, |_| true);
            }
            Cure::Marked { .. } if self.is_forked(host) => self.decide_fork(host),
            Cure::Marked { .. } => self.start_next(host),
            Cure::Overridden { .. } | Cure::Outvoted { .. } if self.is_forked(host) => self.decide_fork(host),
            // All ran when that was asked for; they do not any more if a fork was decided meanwhile.
            Cure::Outvoted { .. } if self.away.is_empty() => self.ask_override(host),
            Cure::Outvoted { .. } => self.start_next(host),
            Cure::Overridden { .. } => {
                // Once others are there again, whatever they do out of sight of it would be another history.
                if self.away.len() + 1 == self.hosts.len() {
                    self.ask_override(host);
                }
                self.start_next(host);
            }
            Cure::WipeAt(at, _) if now < at => {}
            Cure::WipeAt(_, wrong) => {
                if let Wrong::Untouched(before) = *wrong
                    && self.hosts[host].medium.fingerprint() != before
                {
                    self.checker.violation(format!("host {host} changed a store that is not its own"));
                }
                self.hosts[host].name = super::host::name_of(host);
                self.ledger.disown(host);
                self.set_cure(Cure::Replace);
                self.wipe(host);
            }
            Cure::Remove => {
                let is_member =
                    |status: &Status| status.members.iter().any(|member| member.store_id == store);
                if self.ask_leader(host, MemberAct::Remove, is_member) {
                    return;
                }
                let leads = self.statuses.values().find(|status| leads_system(status));
                if leads.is_some_and(|status| !is_member(status)) {
                    self.wipe(host);
                    self.set_cure(Cure::Add);
                }
            }
        }
    }

    /// Something that was forced is in force yet.
    fn is_forced(&self) -> bool {
        self.statuses.values().any(|status| status.groups.iter().any(|group| group.in_force.is_some()))
    }

    /// Whether the store on this host is another broker's: what it shows says nothing of the cluster.
    pub(super) fn holds_wrong_store(&self, host: HostId) -> bool {
        let wrong = |ailing: &Ailing| ailing.host == host && matches!(ailing.cure, Cure::WipeAt(..));
        self.ailing.as_ref().is_some_and(wrong)
    }

    /// An operator goes on without the votes of those that may lack something, and is not done.
    pub(super) fn is_outvoted(&self) -> bool {
        matches!(&self.ailing, Some(Ailing { cure: Cure::Outvoted { .. }, .. }))
    }

    /// An operator goes on from a marked store, and is not done.
    pub(super) fn goes_on_from_store(&self) -> bool {
        matches!(
            &self.ailing,
            Some(Ailing { cure: Cure::Marked { .. } | Cure::Overridden { .. } | Cure::Outvoted { .. }, .. })
        )
    }

    fn set_cure(&mut self, cure: Cure) {
        if let Some(ailing) = &mut self.ailing {
            ailing.cure = cure;
        }
    }

    /// The host begins with an empty disk.
    fn wipe(&mut self, host: HostId) {
        self.end(host, true);
        self.replace_medium(host, Medium::new());
        self.start(host);
    }

    /// Asks the leader of `system` for this, if it shows that it is still to be done; true if it was asked.
    fn ask_leader(&mut self, host: HostId, act: MemberAct, wants: impl Fn(&Status) -> bool) -> bool {
        let leader = self.statuses.iter().find(|(_, status)| leads_system(status) && wants(status));
        let Some(leader) = leader.map(|(leader, _)| *leader) else { return false };
        if self.hosts[leader].process.is_none() {
            return false;
        }
        let name = self.hosts[host].name.clone();
        let author = Author::local("a test");
        let store = self.ailing.as_ref().map(|ailing| ailing.store).filter(|_| act == MemberAct::Replace);
        self.ask(
            leader,
            AdminRequest::Member(MemberRequest {
                act,
                name,
                address: None,
                store,
                within_millis: 20_000,
                reason: String::new(),
                author,
            }),
        );
        true
    }

    /// Drains a broker, if none is drained, and has it back after a while.
    pub(super) fn drain(&mut self, name: &str, time: Micros) -> bool {
        let host = self.hosts.iter().position(|host| host.name == name);
        let Some(host) = host.filter(|_| self.drained.is_none()) else { return false };
        if !self.ask_leader(host, MemberAct::Drain, |_| true) {
            return false;
        }
        self.drained = Some(host);
        self.schedule.after(time, Happening::Relief(Relief::Undrain));
        true
    }

    /// The drained broker may lead again; asked for until the leader says so.
    pub(super) fn undrain(&mut self) {
        let Some(host) = self.drained else { return };
        let name = self.hosts[host].name.clone();
        let leads = self.statuses.values().find(|status| leads_system(status));
        let is_drained =
            |status: &Status| status.members.iter().any(|member| member.name == name && member.drained);
        // What was asked for and has not happened yet may still happen.
        let settled = self.undrain_since.is_some_and(|at| self.now() > at + 10 * SECOND);
        if settled && leads.is_some_and(|status| !is_drained(status)) {
            self.drained = None;
            self.undrain_since = None;
            return;
        }
        self.undrain_since.get_or_insert(self.now());
        self.ask_leader(host, MemberAct::Resume, is_drained);
        self.schedule.after(ASK_AGAIN, Happening::Relief(Relief::Undrain));
    }
}

fn is_voter(status: &Status, store: StoreId) -> bool {
    status.members.iter().any(|member| member.store_id == store && member.voter)
}

pub(super) fn leads_system(status: &Status) -> bool {
    status.groups.iter().any(|group| group.vhost == "system" && group.role == "leader" && group.quorum)
}

/// The store of one member of another cluster of three.
fn foreign_store(dice: &mut Dice) -> Medium {
    let mut world = World::new(dice.number(), cluster(3, LogSizes::default()), false);
    world.start_all();
    assert!(world.settle(20 * SECOND), "another cluster serves");
    world.end(0, false);
    world.hosts.swap_remove(0).medium
}
