//! The mark by which an operator has a cluster go on from one store: by the book, of the latest store and against all
//! others; or blindly, of any store, as if the others were gone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_core::node::config::FIRST_VHOST;
use quorate_store::files::Files;
use quorate_store::ids::{Epoch, GroupId, Position, StoreId, Term};
use quorate_store::log::{self, LOG_DIRECTORY};
use quorate_store::stamp::{EpochCause, EpochEntry, Known, LeftOut, Stamp, StampFile, StampState};
use uuid::Uuid;

use super::fault::Target;
use super::host::Host;
use super::operator::Cure;
use super::schedule::{Happening, HostId, MILLI, Micros, Relief};
use super::storage::STORE_DIRECTORY;
use super::world::World;

/// A store that is marked blindly was left behind by the others for so long at most.
const LAG_MAX: Micros = 1500 * MILLI;

/// Where each group's log ends in a store, with the highest term of its hard state.
type Ends = BTreeMap<GroupId, (Position, Term)>;

/// A store that does not run, as the tool reads it.
struct Seen {
    stamp: Stamp,
    ends: Ends,
}

/// Where each group's log ends in a store.
///
/// # Panics
/// Its stamp or log cannot be read.
pub fn ends(world: &World, host: HostId) -> BTreeMap<GroupId, Position> {
    let seen = seen(&world.hosts[host]).expect("a readable stamp and a sound log");
    seen.ends.into_iter().map(|(group, (position, _))| (group, position)).collect()
}

fn seen(host: &Host) -> Option<Seen> {
    let stamp = host.medium.stamp()?;
    let dir = Path::new(STORE_DIRECTORY).join(LOG_DIRECTORY);
    let (_, recovered) = log::inspect(&host.medium.files, &dir, stamp.store_id, None).ok()?;
    let end = |group: &log::RecoveredGroup| {
        let (_, term) = group.terms.iter().rev().find(|(first, _)| *first <= group.last)?;
        let position = Position { epoch: group.epoch, term: *term, index: group.last };
        Some((group.group, (position, group.hard_state.term.max(*term))))
    };
    let ends = recovered.groups.iter().map(end).collect::<Option<_>>()?;
    Some(Seen { stamp, ends })
}

impl World {
    /// Marks the store of a host that does not run, as the tool does: one stamp write. `known` are the stores given with
    /// `--against`. Gives the recovery's id.
    ///
    /// # Errors
    /// The disk fails, or the store is none that the tool would mark.
    pub fn mark(&self, host: HostId, alone: bool, known: &[HostId]) -> Result<Uuid, String> {
        self.mark_in(host, alone, known, |_| true)
    }

    /// The same in these groups: the others go on by themselves.
    fn mark_in(
        &self,
        host: HostId,
        alone: bool,
        known: &[HostId],
        is_marked: impl Fn(GroupId) -> bool,
    ) -> Result<Uuid, String> {
        let unfit = || format!("host {host} has no store that could be marked");
        let Seen { mut stamp, ends } = seen(&self.hosts[host]).ok_or_else(unfit)?;
        let others: Vec<Seen> = known.iter().filter_map(|other| seen(&self.hosts[*other])).collect();
        let members = stamp.members.clone();
        let own = members.iter().find(|member| member.store_id == stamp.store_id).ok_or_else(unfit)?;
        let voters = members.iter().filter(|member| member.voter).count();
        let waits = others.iter().map(|other| other.stamp.wait_for).chain([stamp.wait_for]);
        let wait_for = waits.max().unwrap_or(1).min(u32::try_from(voters).unwrap_or(u32::MAX)).max(1);
        let recovery = Uuid::from_u64_pair(self.now(), host as u64 + 1);
        for group in stamp.groups.iter_mut().filter(|group| is_marked(group.group)) {
            let id = group.group;
            let (fork, own_term) = *ends.get(&id).ok_or_else(unfit)?;
            let of_group = |other: &Seen| {
                let part = other.stamp.groups.iter().find(|part| part.group == id)?;
                let tip = part.lineage.last()?.id;
                Some(Known { incarnation: other.stamp.incarnation, position: other.ends.get(&id)?.0, tip })
            };
            let left_out = members.iter().filter(|member| member.store_id != own.store_id).map(|member| {
                let given = others.iter().find(|other| other.stamp.store_id == member.store_id);
                LeftOut {
                    store: member.store_id,
                    name: member.name.clone(),
                    voter: member.voter,
                    named: false,
                    known: given.and_then(of_group),
                }
            });
            let terms = others.iter().filter_map(|other| other.ends.get(&id)).map(|(_, term)| *term);
            let highest = terms.chain([own_term]).max().unwrap_or_default();
            group.position = fork;
            group.synced = fork;
            let number = group.lineage.last().map_or(Epoch(1), |last| Epoch(last.number.0 + 1));
            let members = if alone { 0 } else { wait_for };
            group.lineage.push(EpochEntry {
                number,
                id: Uuid::from_u64_pair(self.now(), (host as u64 + 1) << 32 | u64::from(id.0)),
                fork,
                term: Term(highest.0 + 1),
                cause: EpochCause::Mark { recovery, alone, members, sole: own.raft_id },
                left_out: left_out.collect(),
                who: "operator".into(),
                when_ms: 1,
                why: "a test".into(),
            });
        }
        stamp.state = StampState::Recovered { recovery };
        let files: Arc<dyn Files> = Arc::new(self.hosts[host].medium.files.clone());
        let synced = log::sync_closed(files.as_ref(), &Path::new(STORE_DIRECTORY).join(LOG_DIRECTORY));
        synced.map_err(|error| error.to_string())?;
        let written = StampFile::open(files, PathBuf::from(STORE_DIRECTORY))
            .and_then(|(mut file, _)| file.write(stamp));
        written.map(|_| recovery).map_err(|error| error.to_string())
    }

    /// An operator will go on from the store of this host, which the others leave behind until then.
    pub(super) fn mark_blindly_soon(&mut self, target: Target, restart: Micros) {
        if self.may_mark() && self.all_vote() {
            let host = self.target(target);
            let lag = self.dice.between(0, LAG_MAX);
            self.isolate(host, LAG_MAX);
            self.schedule.after(lag, Happening::Relief(Relief::MarkBlindly(host, restart)));
        }
    }

    /// It is time for that, if nothing else has come between.
    pub(super) fn mark_blindly(&mut self, host: HostId, restart: Micros) {
        if !self.plan.is_empty() && self.go_on_from_mark(Some(host), restart) {
            let now = self.now();
            self.tally.count(now, "mark_blind");
        }
    }

    fn may_mark(&self) -> bool {
        self.ailing.is_none() && (3..=5).contains(&self.hosts.len()) && self.away.is_empty()
    }

    /// All lose their power, and an operator has this host go on without the others while its broker runs.
    pub(super) fn go_on_by_override(&mut self, host: HostId, restart: Micros) -> bool {
        if !self.may_mark() || !self.all_vote() {
            return false;
        }
        self.end_all(true, restart);
        let stores: Vec<Seen> = self.hosts.iter().filter_map(seen).collect();
        if stores.len() != self.hosts.len() || !may_be_marked(&stores) {
            return false;
        }
        let others: Vec<HostId> = (0..self.hosts.len()).filter(|other| *other != host).collect();
        let now = self.now();
        self.trace.line(now, || format!("host {host} goes on by an override"));
        self.give_up(host, &stores);
        self.away.extend(others);
        let copies = std::mem::replace(&mut self.copies, 1);
        let store = stores[host].stamp.store_id;
        self.begin_cure(host, store, Cure::Overridden { copies });
        true
    }

    /// All lose their power, and an operator has them go on from one store: by the book from the latest, against all
    /// others; blindly of this one, whatever it lacks. It goes on alone, and the others are started after it, one by one.
    pub(super) fn go_on_from_mark(&mut self, blind: Option<HostId>, restart: Micros) -> bool {
        if !self.may_mark() || blind.is_none() && !self.all_vote() {
            return false;
        }
        self.end_all(true, restart);
        let stores: Vec<Seen> = self.hosts.iter().filter_map(seen).collect();
        let latest = (0..stores.len()).find(|host| {
            stores.iter().all(|other| {
                other.ends.iter().all(|(group, (end, _))| {
                    stores[*host].ends.get(group).is_some_and(|(position, _)| position >= end)
                })
            })
        });
        let fit = stores.len() == self.hosts.len() && may_be_marked(&stores);
        let Some(host) = blind.or(latest).filter(|_| fit) else { return false };
        let others: Vec<HostId> = (0..self.hosts.len()).filter(|other| *other != host).collect();
        let known = if blind.is_some() { &[][..] } else { &others };
        if let Err(why) = self.mark(host, true, known) {
            let now = self.now();
            self.trace.line(now, || format!("host {host} is not marked: {why}"));
            // A mark that failed half way may count: the operator looks, and goes on from what is there.
            if !self.hosts[host].medium.stamp().is_some_and(|stamp| is_marked(&stamp)) {
                return false;
            }
        }
        let now = self.now();
        self.trace.line(now, || format!("host {host} is marked"));
        self.give_up(host, &stores);
        self.follow_marked(host, others, stores[host].stamp.store_id);
        true
    }

    /// All end, and an operator has them go on from the store that has most of the first virtual host, which is the one
    /// that the brokers named: what is in none of them is given up.
    pub(super) fn go_on_from_best(&mut self, named: Option<&str>) -> bool {
        // It may be the store that an operator goes on from already, which died before it was the only one no more.
        if !self.goes_on_from_store() && !self.may_mark() || !(3..=5).contains(&self.hosts.len()) {
            return false;
        }
        for host in 0..self.hosts.len() {
            self.end(host, false);
        }
        let stores: Vec<Seen> = self.hosts.iter().filter_map(seen).collect();
        if stores.len() != self.hosts.len() {
            return false;
        }
        // What was being filled again when the others lost their power is none to go on from.
        let is_whole = |host: &HostId| {
            let stamp = &stores[*host].stamp;
            matches!(stamp.state, StampState::Dirty | StampState::Clean { .. })
                && stamp.refilling.is_empty()
                && stores[*host].ends.contains_key(&FIRST_VHOST.0)
                && stamp.members.iter().any(|member| member.store_id == stamp.store_id)
        };
        let here = (0..self.hosts.len()).filter(|host| !self.away.contains(host));
        let candidates: Vec<HostId> = here.filter(is_whole).collect();
        let end = |host: HostId, group: GroupId| stores[host].ends.get(&group).map(|(end, _)| *end);
        let most = |host: HostId| (end(host, FIRST_VHOST.0), end(host, GroupId::SYSTEM));
        let Some(host) = candidates.iter().copied().max_by_key(|host| most(*host)) else { return false };
        let best = |other: HostId| end(other, FIRST_VHOST.0) == end(host, FIRST_VHOST.0);
        if !candidates.iter().any(|other| best(*other) && self.is_named(*other, named)) {
            self.checker.violation(format!("host {host} has the most recent log, and {named:?} was named"));
        }
        let others: Vec<HostId> = (0..self.hosts.len()).filter(|other| *other != host).collect();
        // Who still waits for a marked store to go on knows nothing of it: all of it is marked again.
        let only = self.away.is_empty().then_some(FIRST_VHOST.0);
        if let Err(why) = self.mark_in(host, true, &others, |group| only.is_none_or(|only| only == group)) {
            let now = self.now();
            self.trace.line(now, || format!("host {host} is not marked: {why}"));
            return false;
        }
        self.gone_unsynced = true;
        self.cut_clients();
        let ends: BTreeMap<GroupId, Position> =
            stores[host].ends.iter().map(|(group, (end, _))| (*group, *end)).collect();
        let end = ends.get(&FIRST_VHOST.0).copied().unwrap_or_default();
        self.checker.recovered((end.epoch.0, end.term.0, end.index.0));
        self.ledger.left_behind(host, &ends, only);
        self.start_later(host, 100 * MILLI);
        let store = stores[host].stamp.store_id;
        if only.is_none() {
            self.follow_marked(host, others, store);
            return true;
        }
        // All other groups go on by themselves, and need a majority for it.
        for other in others {
            let delay = self.dice.between(50, 300) * MILLI;
            self.start_later(other, delay);
        }
        self.follow_marked(host, Vec::new(), store);
        true
    }

    /// The one of these that has most of the first virtual host goes on without the others' votes, by an override; not if
    /// somebody has more than they, or in a cluster of two voters. They hold all that was confirmed, and so nothing of that is
    /// given up.
    pub(super) fn go_on_without_votes(&mut self, trusted: &[HostId]) -> bool {
        let pair = self.statuses.values().filter_map(|status| status.groups.first());
        if pair.map(|system| system.nodes.iter().filter(|node| node.role != "learner").count()).max()
            < Some(3)
        {
            return false;
        }
        let seen: Vec<(HostId, Seen)> =
            (0..self.hosts.len()).filter_map(|host| Some((host, seen(&self.hosts[host])?))).collect();
        let end = |seen: &Seen| seen.ends.get(&FIRST_VHOST.0).map(|(end, _)| *end);
        let most = seen.iter().map(|(_, seen)| end(seen)).max();
        let best =
            seen.into_iter().filter(|(host, _)| trusted.contains(host)).max_by_key(|(_, seen)| end(seen));
        let Some((host, best)) = best.filter(|(_, best)| Some(end(best)) == most) else { return false };
        if !self.may_mark() {
            return self.is_outvoted();
        }
        self.cut_clients();
        let ends: BTreeMap<GroupId, Position> =
            best.ends.iter().map(|(group, (end, _))| (*group, *end)).collect();
        self.ledger.left_behind(host, &ends, None);
        let copies = std::mem::replace(&mut self.copies, 1);
        self.begin_cure(host, best.stamp.store_id, Cure::Outvoted { copies });
        let now = self.now();
        self.trace
            .line(now, || format!("host {host} goes on without the votes of those that may lack something"));
        true
    }

    fn follow_marked(&mut self, host: HostId, others: Vec<HostId>, store: StoreId) {
        // Those that know nothing of the mark could go on without it, if there were enough of them at once.
        self.away.extend(others);
        let before = self.ailing.as_ref().and_then(super::operator::Ailing::copies_before);
        let copies = before.unwrap_or(self.copies);
        self.copies = 1;
        self.begin_cure(host, store, Cure::Marked { copies });
    }

    /// What the others have beyond the end of the marked store's logs is given up by its mark, and what they said that is
    /// still on its way.
    fn give_up(&mut self, host: HostId, stores: &[Seen]) {
        let lacks = |other: &Seen| {
            other
                .ends
                .iter()
                .any(|(group, (end, _))| stores[host].ends.get(group).is_none_or(|(at, _)| at < end))
        };
        if !stores.iter().any(lacks) {
            return;
        }
        self.cut_clients();
        let ends: BTreeMap<GroupId, Position> =
            stores[host].ends.iter().map(|(group, (end, _))| (*group, *end)).collect();
        let of_clients = ends.iter().find(|(group, _)| **group != GroupId::SYSTEM);
        let end = of_clients.map(|(_, end)| (end.epoch.0, end.term.0, end.index.0));
        self.checker.recovered(end.unwrap_or_default());
        self.ledger.left_behind(host, &ends, None);
    }

    /// Whether the marked store's broker asks its operator which of two histories it is to be: the others had been started
    /// before any of them had followed it.
    pub(super) fn is_forked(&self, marked: HostId) -> bool {
        self.statuses.get(&marked).is_some_and(|status| status.row == "X1")
    }

    /// The operator stays with the marked store, against all others, and begins again.
    pub(super) fn decide_fork(&mut self, marked: HostId) {
        let others: Vec<HostId> = (0..self.hosts.len()).filter(|other| *other != marked).collect();
        for host in 0..self.hosts.len() {
            self.end(host, true);
        }
        // Those that followed it before may have more of its history than it has itself.
        let stores: Vec<Seen> = self.hosts.iter().filter_map(seen).collect();
        if stores.len() == self.hosts.len() {
            self.give_up(marked, &stores);
        }
        let now = self.now();
        match self.mark(marked, true, &others) {
            Ok(_) => {
                self.trace.line(now, || format!("host {marked} is marked against all others"));
                let ends = ends(self, marked);
                self.ledger.left_behind(marked, &ends, None);
            }
            Err(why) => self.trace.line(now, || format!("host {marked} is not marked again: {why}")),
        }
        self.away.extend(others);
        self.start_later(marked, 100 * MILLI);
    }

    /// Starts the next of those that wait, if everybody who was started before takes part in the marked store's history.
    pub(super) fn start_next(&mut self, marked: HostId) {
        let mut started = (0..self.hosts.len()).filter(|host| !self.away.contains(host));
        if started.all(|host| self.takes_part(host))
            && self.goes_on_from_mark(marked)
            && let Some(next) = self.away.pop_first()
        {
            self.start(next);
        }
    }

    /// Whether this host's broker votes in every group, by its own latest status.
    fn takes_part(&self, host: HostId) -> bool {
        self.statuses.get(&host).is_some_and(|status| {
            status.groups.len() > 1
                && status
                    .groups
                    .iter()
                    // An override whose lease is over serves nobody, and updates all the same.
                    .all(|group| {
                        matches!(group.role, "leader" | "replica")
                            && (group.quorum || group.in_force.is_some())
                    })
        })
    }

    /// Whether the marked store's log goes on in its new epoch.
    fn goes_on_from_mark(&self, host: HostId) -> bool {
        let begun = |seen: Seen| {
            seen.stamp.groups.iter().all(|group| {
                let last = group.lineage.last().map(|last| last.number);
                last.is_some() && last == seen.ends.get(&group.group).map(|(position, _)| position.epoch)
            })
        };
        self.hosts[host].process.is_some() && seen(&self.hosts[host]).is_some_and(begun)
    }

    /// Whether every host's broker is one of the voters, by its own latest status.
    pub(super) fn all_vote(&self) -> bool {
        (0..self.hosts.len()).all(|host| self.votes(host))
    }
}

fn is_marked(stamp: &Stamp) -> bool {
    matches!(stamp.state, StampState::Recovered { .. })
}

/// Sound stores of one cluster and one history, each a voter's.
fn may_be_marked(stores: &[Seen]) -> bool {
    let clusters: BTreeSet<_> = stores.iter().map(|seen| seen.stamp.cluster_id).collect();
    let ids: BTreeSet<StoreId> = stores.iter().map(|seen| seen.stamp.store_id).collect();
    let tips: BTreeSet<_> = stores
        .iter()
        .flat_map(|seen| {
            seen.stamp.groups.iter().map(|group| (group.group, group.lineage.last().map(|tip| tip.id)))
        })
        .collect();
    let groups: BTreeSet<GroupId> = tips.iter().map(|(group, _)| *group).collect();
    let sound = stores.iter().all(|seen| {
        let stamp = &seen.stamp;
        matches!(stamp.state, StampState::Dirty | StampState::Clean { .. })
            && stamp.refilling.is_empty()
            // The tool marks what the store holds; this operator knows of what the stamp names.
            && seen.ends.keys().all(|id| stamp.groups.iter().any(|group| group.group == *id))
            && ids.iter().all(|id| stamp.members.iter().any(|member| member.store_id == *id && member.voter))
    });
    sound && clusters.len() == 1 && ids.len() == stores.len() && tips.len() == groups.len()
}
