//! Whom a decision counts: the brokers of the own kind and cluster, each store and each name once.

use std::collections::{BTreeMap, BTreeSet};

use quorate_store::ids::{ClusterId, GroupId, StoreId};
use quorate_store::stamp::EpochEntry;

use super::assembly::Assembly;
use super::facts::Facts;
use super::lineage::{Relation, relation};
use super::rivals::outnumbered;
use super::status::{GroupStatus, InitialStatus, StoreState, VoterRef};
use crate::io::PeerKey;

/// The facts sorted out: who counts, and who does not and why.
#[derive(Debug)]
pub(crate) struct Company<'a> {
    own: &'a InitialStatus,
    choice: Choice,
    members: Vec<&'a InitialStatus>,
    witnesses: Vec<&'a InitialStatus>,
    asides: Vec<Aside<'a>>,
    rivalled_by: Option<&'a InitialStatus>,
}

/// The cluster this is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Nobody here belongs to one.
    None,
    /// The own one, or the only candidate.
    One(ClusterId),
    /// An empty or forming store sees several and none of them has the better claim.
    Several(BTreeSet<ClusterId>),
}

/// A broker that is here and does not count.
#[derive(Clone, Debug)]
pub(crate) struct Aside<'a> {
    pub(crate) status: &'a InitialStatus,
    pub(crate) why: Why,
}

/// Why a broker does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    OtherKind,
    OtherClusterName,
    Damaged,
    StoreTwice,
    Panicked,
    NameTwice,
    /// Its store is recorded under one name, and it calls itself by that of another member: the wrong disk, or a copy.
    OthersName,
    Foreign(ClusterId),
    WaitsFor(ClusterId),
}

impl Aside<'_> {
    /// Why it does not count, in words.
    pub(crate) fn reason(&self) -> String {
        let status = self.status;
        match &self.why {
            Why::OtherKind if status.is_transient() => "it is transient".to_owned(),
            Why::OtherKind => "it is persistent".to_owned(),
            Why::OtherClusterName => format!("its --cluster-name is {}", status.cluster_name),
            Why::Damaged => format!("its store is {}", status.state),
            Why::StoreTwice => format!("store {} is there twice", status.key.store),
            Why::Panicked => {
                let cause = status.panicked.as_deref().unwrap_or("cause unknown");
                format!("it panicked ({cause}); clear that on it with quorate cluster panic clear")
            }
            Why::NameTwice => "another broker has its name".to_owned(),
            Why::OthersName => "its store is recorded under another member's name".to_owned(),
            Why::Foreign(id) => format!("its store belongs to cluster {id}"),
            Why::WaitsFor(id) => format!("it only joins cluster {id}"),
        }
    }
}

/// The name that this store is recorded under, and the store that has the name that it is started with, if those are
/// two members.
pub(crate) fn recorded_name(status: &InitialStatus) -> Option<(&VoterRef, &VoterRef)> {
    let system = status.group(GroupId::SYSTEM)?;
    let members = || system.voters.iter().chain(&system.learners);
    let own = members().find(|member| member.store == status.key.store)?;
    let holder = members().find(|member| member.name == status.name)?;
    (own.name != status.name).then_some((own, holder))
}

impl<'a> Company<'a> {
    pub(crate) fn of(facts: &'a Facts) -> Self {
        let own = &facts.own;
        let mut here: Vec<&InitialStatus> =
            facts.seen.iter().filter(|seen| seen.key != own.key).chain([own]).collect();
        here.sort_by_key(|status| status.key);
        here.dedup_by_key(|status| status.key);

        let mut asides = Vec::new();
        let mut set_aside = |here: &mut Vec<&'a InitialStatus>,
                             test: &dyn Fn(&InitialStatus) -> Option<Why>| {
            here.retain(|status| match test(status) {
                Some(why) => {
                    asides.push(Aside { status, why });
                    false
                }
                None => true,
            });
        };
        set_aside(&mut here, &|status| {
            (status.is_transient() != own.is_transient()).then_some(Why::OtherKind)
        });
        set_aside(&mut here, &|status| {
            (status.cluster_name != own.cluster_name).then_some(Why::OtherClusterName)
        });
        set_aside(&mut here, &|status| {
            matches!(status.state, StoreState::Damaged { .. }).then_some(Why::Damaged)
        });
        // Beside the store's own broker it is a copy like any other, and held; that one it never holds up.
        let all = here.clone();
        let is_twice = |status: &InitialStatus| {
            all.iter().any(|other| other.key.store == status.key.store && other.key != status.key)
        };
        set_aside(&mut here, &|status| {
            recorded_name(status).map(|_| if is_twice(status) { Why::StoreTwice } else { Why::OthersName })
        });
        let sound = here.clone();
        let twice = stores_twice(&here);
        let rivalled_by = rivalled(own, &sound).or_else(|| contested(own, &sound));
        let is_told_of = |status: &InitialStatus| {
            let by = if status.key == own.key { rivalled_by } else { contested(status, &sound) };
            by.is_some()
        };
        set_aside(&mut here, &|status| {
            (twice.contains(&status.key) || is_told_of(status)).then_some(Why::StoreTwice)
        });
        set_aside(&mut here, &|status| status.panicked.is_some().then_some(Why::Panicked));
        let choice = choose(own, &here);
        set_aside(&mut here, &|status| outside(status, &choice));
        let losers = names_twice(&here);
        set_aside(&mut here, &|status| losers.contains(&status.key.store).then_some(Why::NameTwice));
        let witnesses = witnesses(&here, &sound);
        Self { own, choice, members: here, witnesses, asides, rivalled_by }
    }

    pub(crate) fn own(&self) -> &'a InitialStatus {
        self.own
    }

    pub(crate) fn choice(&self) -> &Choice {
        &self.choice
    }

    /// The cluster, if there is exactly one candidate.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        if let Choice::One(id) = self.choice { Some(id) } else { None }
    }

    /// Who counts, ascending by store; the own broker among them unless it is set aside itself.
    pub(crate) fn members(&self) -> &[&'a InitialStatus] {
        &self.members
    }

    /// Whose records of other stores are heard.
    pub(crate) fn witnesses(&self) -> &[&'a InitialStatus] {
        &self.witnesses
    }

    /// Somebody for whom another process with the own store counts, which keeps this one from counting.
    pub(crate) fn rivalled_by(&self) -> Option<&'a InitialStatus> {
        self.rivalled_by
    }

    /// Who does not count.
    pub(crate) fn asides(&self) -> &[Aside<'a>] {
        &self.asides
    }

    /// Why the own broker does not count, if it does not.
    pub(crate) fn own_aside(&self) -> Option<&Why> {
        self.asides.iter().find(|aside| aside.status.key == self.own.key).map(|aside| &aside.why)
    }

    /// Foreign stores that are here, by cluster.
    pub(crate) fn foreign(&self) -> BTreeMap<ClusterId, Vec<&'a InitialStatus>> {
        let mut foreign: BTreeMap<ClusterId, Vec<&InitialStatus>> = BTreeMap::new();
        for aside in &self.asides {
            if let Why::Foreign(id) = aside.why {
                foreign.entry(id).or_default().push(aside.status);
            }
        }
        foreign
    }

    /// The member whose word on an active group is the latest: the highest term, its leader first.
    pub(crate) fn active(&self, group: GroupId) -> Option<&'a InitialStatus> {
        let rank = |status: &InitialStatus| {
            let part = status.group(group)?;
            let active = part.active?;
            Some((active.term, active.leader == status.key.store, part.position, status.key))
        };
        self.members
            .iter()
            .copied()
            .filter(|member| member.is_active(group))
            // Whoever is being filled, or holds nothing yet, does not know who votes.
            .filter(|member| member.group(group).is_some_and(|part| part.trusted && !part.voters.is_empty()))
            .filter(|member| !self.gives_way(group, member))
            .max_by_key(|member| rank(member))
    }

    /// The history of `system` that is active, if one is.
    fn active_history(&self) -> Option<&'a [EpochEntry]> {
        let part = self.active(GroupId::SYSTEM)?.group(GroupId::SYSTEM)?;
        Some(&part.lineage)
    }

    /// Members whose virtual hosts are the cluster's: while a history of `system` is active, those that have it. What was
    /// created in a history that was left behind is nobody's but its own.
    pub(crate) fn knowing_groups(&self) -> impl Iterator<Item = &'a InitialStatus> {
        let active = self.active_history();
        let own = self.own.key;
        self.members.iter().copied().filter(move |member| {
            let has = |history| {
                let part = member.group(GroupId::SYSTEM);
                part.is_some_and(|part| relation(&part.lineage, history) == Relation::Same)
            };
            member.key == own || active.is_none_or(has)
        })
    }

    /// Members whose word on deleted groups counts: they have the history of `system` that is active, or else the latest one
    /// here. What was deleted in a history that was left behind may be there in the one that goes on.
    pub(crate) fn knowing_deletions(&self) -> Vec<&'a InitialStatus> {
        let says = |member: &&InitialStatus| !member.deleted.is_empty();
        // Most clusters never deleted anything.
        if !self.members.iter().copied().any(|member| says(&member)) {
            return Vec::new();
        }
        let system = self.assembly(GroupId::SYSTEM);
        let history = self.active_history().unwrap_or(system.history());
        let knows = |member: &&InitialStatus| {
            let standing = system.standing(member.key.store);
            standing.is_some_and(|standing| relation(standing.lineage, history) == Relation::Same)
        };
        self.members.iter().copied().filter(says).filter(knows).collect()
    }

    /// Somebody is here with a history of the group that has a higher designated number than this one's, active or about to
    /// be: such a history has one voter.
    pub(crate) fn gives_way(&self, group: GroupId, member: &InitialStatus) -> bool {
        let own = member.group(group).map(|part| part.lineage.as_slice()).unwrap_or_default();
        let parts = self.members.iter().filter_map(|other| other.group(group));
        parts.filter(|part| part.trusted).any(|part| outnumbered(own, &part.lineage))
    }

    /// The largest `--cluster-wait-for` of those who count; at least 1.
    pub(crate) fn wait_for(&self) -> usize {
        let largest = self.members.iter().map(|member| member.wait_for).max().unwrap_or(1).max(1);
        usize::try_from(largest).unwrap_or(usize::MAX)
    }

    /// Names that somebody answers to, if only with a damaged store: nothing more can be expected under them.
    pub(crate) fn answered_names(&self) -> BTreeSet<&'a str> {
        let damaged = self.asides.iter().filter(|aside| aside.why == Why::Damaged).map(|aside| aside.status);
        damaged.chain(self.members.iter().copied()).map(|status| status.name.as_str()).collect()
    }

    /// How this group's members stand to each other.
    pub(crate) fn assembly(&self, group: GroupId) -> Assembly<'a> {
        Assembly::of(&self.members, &self.witnesses, self.cluster(), group, self.answered_names())
    }

    /// What people should know besides the verdict.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self
            .asides
            .iter()
            .filter(|aside| aside.status.key != self.own.key)
            .map(|aside| {
                let Aside { status, .. } = aside;
                let why = aside.reason();
                format!("{} at {} does not count: {why}", status.name, status.cluster_address)
            })
            .collect();
        let waits: BTreeSet<u32> = self.members.iter().map(|member| member.wait_for).collect();
        if waits.len() > 1 {
            notes.push(format!(
                "--cluster-wait-for differs between the members; the largest, {}, is used",
                self.wait_for()
            ));
        }
        notes
    }
}

/// Every run of a store that is there twice, but the one that an active cluster acknowledged.
fn stores_twice(here: &[&InitialStatus]) -> BTreeSet<PeerKey> {
    let mut runs: BTreeMap<StoreId, Vec<&InitialStatus>> = BTreeMap::new();
    for status in here {
        runs.entry(status.key.store).or_default().push(status);
    }
    let acknowledged =
        |status: &InitialStatus| status.is_active(GroupId::SYSTEM) || is_acknowledged(status.key, here);
    let mut twice = BTreeSet::new();
    for same in runs.values().filter(|same| same.len() > 1) {
        let kept: Vec<_> = same.iter().filter(|status| acknowledged(status)).collect();
        let kept = if let [only] = kept.as_slice() { Some(only.key) } else { None };
        twice.extend(same.iter().map(|status| status.key).filter(|key| Some(*key) != kept));
    }
    twice
}

/// Whether somebody else who is active recorded this very run.
fn is_acknowledged(key: PeerKey, here: &[&InitialStatus]) -> bool {
    here.iter().any(|witness| {
        witness.key.store != key.store
            && witness.is_active(GroupId::SYSTEM)
            && witness.recorded.iter().any(|seen| seen.store == key.store && seen.run == Some(key.run))
    })
}

/// Somebody for whom another process with the own store counts: that one is to be met before anything is decided, though
/// it be somebody else who answers first. Whoever took part in this run is that one itself, and so is the only one of the
/// two that an active cluster acknowledged, as in [`stores_twice`].
fn rivalled<'a>(own: &InitialStatus, here: &[&'a InitialStatus]) -> Option<&'a InitialStatus> {
    if own.group(GroupId::SYSTEM).is_some_and(|part| part.was_active_this_run) {
        return None;
    }
    let own_is_acknowledged = is_acknowledged(own.key, here);
    let counts = |key: &PeerKey| {
        key.store == own.key.store && *key != own.key && (!own_is_acknowledged || is_acknowledged(*key, here))
    };
    here.iter().copied().find(|status| status.rivalled.iter().any(counts))
}

/// Somebody who met this process and another one with its store, while nobody is active who could have acknowledged one of
/// them: then neither counts, for anybody.
fn contested<'a>(status: &InitialStatus, here: &[&'a InitialStatus]) -> Option<&'a InitialStatus> {
    let ran = status.group(GroupId::SYSTEM).is_some_and(|part| part.was_active_this_run);
    if ran || here.iter().any(|other| other.is_active(GroupId::SYSTEM)) {
        return None;
    }
    let met =
        |other: &&InitialStatus| other.key.store != status.key.store && other.rivalled.contains(&status.key);
    here.iter().copied().find(met)
}

/// The cluster this broker is in, or would join.
fn choose(own: &InitialStatus, here: &[&InitialStatus]) -> Choice {
    if own.belongs() {
        return own.cluster_id.map_or(Choice::None, Choice::One);
    }
    if let Some(wanted) = own.cluster_id_wanted {
        return Choice::One(wanted);
    }
    let belonging = || here.iter().copied().filter(|status| status.belongs());
    let candidates: BTreeSet<ClusterId> = belonging().filter_map(|status| status.cluster_id).collect();
    // A store that answered a cluster's founding belongs there, if that cluster came to be.
    if let StoreState::Forming(forming) = &own.state
        && let Some(value) = forming.value()
        && candidates.contains(&value.cluster_id)
    {
        return Choice::One(value.cluster_id);
    }
    let active: BTreeSet<ClusterId> = belonging()
        .filter(|status| status.is_active(GroupId::SYSTEM))
        .filter_map(|status| status.cluster_id)
        .collect();
    let complete = || candidates.iter().copied().filter(|id| stands_alone(here, here, *id)).collect();
    let best = if active.is_empty() && candidates.len() > 1 {
        let complete: BTreeSet<ClusterId> = complete();
        if complete.is_empty() { candidates } else { complete }
    } else if active.is_empty() {
        candidates
    } else {
        active
    };
    match (best.first(), best.len()) {
        (None, _) => Choice::None,
        (Some(id), 1) => Choice::One(*id),
        (Some(_), _) => Choice::Several(best),
    }
}

/// Whether the stores of this cluster could restore it by themselves (row C1 or O1 for `system`).
pub(crate) fn stands_alone(
    here: &[&InitialStatus],
    witnesses: &[&InitialStatus],
    cluster: ClusterId,
) -> bool {
    let side: Vec<&InitialStatus> = here.iter().copied().filter(|status| is_of(status, cluster)).collect();
    let assembly = Assembly::of(&side, witnesses, Some(cluster), GroupId::SYSTEM, BTreeSet::new());
    assembly.is_restorable() || assembly.sole_marked().is_some()
}

/// A store beyond forming of this cluster, or one that answered its founding.
pub(crate) fn is_of(status: &InitialStatus, cluster: ClusterId) -> bool {
    if status.belongs() {
        return status.cluster_id == Some(cluster);
    }
    let StoreState::Forming(forming) = &status.state else { return false };
    forming.value().is_some_and(|value| value.cluster_id == cluster)
}

/// Whose records of other stores are heard: everybody of the members' clusters, and those too that do not count, as what
/// they recorded was so.
fn witnesses<'a>(members: &[&'a InitialStatus], sound: &[&'a InitialStatus]) -> Vec<&'a InitialStatus> {
    let clusters: BTreeSet<ClusterId> = members.iter().filter_map(|member| member.cluster_id).collect();
    let of_them = |status: &&InitialStatus| {
        status.belongs() && status.cluster_id.is_some_and(|id| clusters.contains(&id))
    };
    sound.iter().copied().filter(of_them).collect()
}

/// Why a broker is outside the chosen cluster, if it is.
fn outside(status: &InitialStatus, choice: &Choice) -> Option<Why> {
    if status.belongs() {
        return match (choice, status.cluster_id) {
            (Choice::One(chosen), Some(id)) if *chosen == id => None,
            (_, Some(id)) => Some(Why::Foreign(id)),
            // A stamp beyond forming without a cluster id contradicts itself.
            (_, None) => Some(Why::Damaged),
        };
    }
    match (choice, status.cluster_id_wanted) {
        (Choice::One(chosen), Some(wanted)) if *chosen != wanted => Some(Why::WaitsFor(wanted)),
        _ => None,
    }
}

/// The stores that lose their name to another one: recorded voters before active ones before others that are recorded,
/// before belonging before older, and the smaller store id last.
fn names_twice(here: &[&InitialStatus]) -> BTreeSet<StoreId> {
    let recorded = |of: fn(&GroupStatus) -> &Vec<VoterRef>| -> BTreeSet<StoreId> {
        let parts = here.iter().filter_map(|status| status.group(GroupId::SYSTEM));
        parts.flat_map(of).map(|voter| voter.store).collect()
    };
    let voters = recorded(|part| &part.voters);
    let learners = recorded(|part| &part.learners);
    let claim = |status: &InitialStatus| {
        (
            voters.contains(&status.key.store),
            status.is_active(GroupId::SYSTEM),
            learners.contains(&status.key.store),
            status.belongs(),
            status.incarnation,
            std::cmp::Reverse(status.key.store),
        )
    };
    let mut best: BTreeMap<&str, &InitialStatus> = BTreeMap::new();
    for status in here {
        let holder = best.entry(&status.name).or_insert(status);
        if claim(status) > claim(holder) {
            *holder = status;
        }
    }
    here.iter()
        .filter(|status| best.get(status.name.as_str()).is_some_and(|best| best.key != status.key))
        .map(|status| status.key.store)
        .collect()
}
