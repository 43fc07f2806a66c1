//! May a store be marked, so that its cluster goes on from it? One pure function over the stores given, and the plan
//! that it makes.

use std::collections::BTreeSet;
use std::fmt;

use quorate_core::formation::InitialStatus;
use quorate_core::formation::lineage::{Relation, relation};
use quorate_core::formation::status::{GroupStatus, StoreState};
use quorate_store::ids::{GroupId, Incarnation, RaftId, StoreId, Term};
use quorate_store::stamp::{Known, LeftOut};

use super::inspect::{Judgement, judge as inspect, left_mark, left_out_and_unheard, quoted};
use super::subject::Subject;

/// What the operator said besides which stores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MarkOptions {
    /// Serve clients without waiting for other members.
    pub alone: bool,
    /// Go on in spite of what may be gone on in spite of.
    pub force: bool,
    /// The cluster id that was typed to confirm that.
    pub confirm: Option<String>,
}

/// Why a store is not marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ground {
    /// A process has it. Never overridden.
    InUse,
    /// It is not a directory, or could not be read. Never overridden.
    Unreadable,
    /// It is damaged. Never overridden.
    Damaged,
    /// It holds nothing of a cluster. Never overridden.
    Empty,
    /// It was cut off while it was updated, or does not know its own number. Never overridden.
    Incomplete,
    /// It is marked already. Never overridden.
    MarkedItself,
    /// A store given is of another cluster. Never overridden.
    Foreign,
    /// Another store given is marked.
    MarkedOther,
    /// Another store given is later.
    NotLatest,
    /// The stores given can simply be started.
    CouldStart,
    /// Recorded voters whose stores were not given could start by themselves.
    OthersCouldStart,
    /// `--force` was given and `--confirm` is not the cluster's id. Never overridden.
    NotConfirmed,
}

impl Ground {
    /// Whether `--force --confirm` goes on in spite of it.
    pub fn is_overridable(self) -> bool {
        matches!(self, Self::MarkedOther | Self::NotLatest | Self::CouldStart | Self::OthersCouldStart)
    }

    /// A stable name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::InUse => "in-use",
            Self::Unreadable => "unreadable",
            Self::Damaged => "damaged",
            Self::Empty => "empty",
            Self::Incomplete => "incomplete",
            Self::MarkedItself => "already-marked",
            Self::Foreign => "different-clusters",
            Self::MarkedOther => "another-is-marked",
            Self::NotLatest => "not-the-latest",
            Self::CouldStart => "could-start",
            Self::OthersCouldStart => "others-could-start",
            Self::NotConfirmed => "not-confirmed",
        }
    }
}

impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why, as a name.
    pub ground: Ground,
    /// Why, in words.
    pub reason: String,
    /// What to type instead.
    pub next: Vec<String>,
}

/// Yes, and this is what would be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The only voter from then on.
    pub sole: RaftId,
    /// How many members must be up to date before clients are served; 0 if alone.
    pub members: u32,
    /// Serve clients without waiting.
    pub alone: bool,
    /// What was gone on in spite of.
    pub overridden: Vec<Ground>,
    /// Each group that waits; all of them for a store that is to go on alone or votes no more; for a clean one, wherever nobody is
    /// beyond it.
    pub groups: Vec<GroupMark>,
    /// What may be lost, for people.
    pub warnings: Vec<String>,
}

/// One group's part of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMark {
    /// Which.
    pub group: GroupId,
    /// Above every term seen.
    pub term: Term,
    /// Every other store that is known of.
    pub left_out: Vec<LeftOut>,
}

/// Judges whether `target` may be marked beside `others`.
///
/// # Errors
/// It may not. Grounds that are never overridden come first.
pub fn judge(target: &Subject, others: &[Subject], options: &MarkOptions) -> Result<Plan, Refused> {
    let own = is_fit(target)?;
    let all: Vec<Subject> = std::iter::once(target).chain(others).cloned().collect();
    let judgement = inspect(&all);
    let sole = fit_among(target, own, others, &judgement)?;
    let groups = to_mark(own, others, &judgement, options.alone);
    let grounds = grounds(target, own, others, (&judgement, &groups));
    if options.force || options.confirm.is_some() {
        let cluster = own.cluster_id.map(|id| id.to_string());
        if !options.force || options.confirm != cluster {
            return refuse(
                Ground::NotConfirmed,
                "--force and --confirm go together, and --confirm takes the cluster's id".to_owned(),
                vec![format!("--force --confirm {}", cluster.unwrap_or_default())],
            );
        }
    } else if let Some(first) = grounds.first() {
        return Err(first.clone());
    }
    if !own.groups.iter().any(|part| groups.contains(&part.group)) {
        let reason = format!("{} holds nothing of the virtual hosts that wait", target.path);
        let next = vec!["quorate store inspect DIR…    (choose another one)".to_owned()];
        return refuse(Ground::Incomplete, reason, next);
    }
    let overridden: Vec<Ground> = grounds.iter().map(|refused| refused.ground).collect();
    let mut warnings: Vec<String> = grounds.into_iter().map(|refused| refused.reason).collect();
    warnings.extend(judgement.loss.as_ref().map(|loss| format!("loss {}: {}", loss.confirmed, loss.reason)));
    Ok(Plan {
        sole,
        members: if options.alone { 0 } else { members(own, others, &judgement) },
        alone: options.alone,
        overridden,
        groups: own
            .groups
            .iter()
            .filter(|group| groups.contains(&group.group))
            .map(|group| mark_of(target, others, &judgement, group.group))
            .collect(),
        warnings,
    })
}

/// The groups that the mark is for: those that wait. The rest goes on by itself, but not
/// - from a store that is to go on without the others, or that the cluster counts among its voters no more: it is marked in
///   every group;
/// - from one that is clean, if the mark made it less than that: it is marked wherever nobody is beyond it, and the group does
///   not go on along a history that its own was left behind by.
fn to_mark(own: &InitialStatus, others: &[Subject], judgement: &Judgement, alone: bool) -> BTreeSet<GroupId> {
    let held = own.groups.iter().map(|part| part.group);
    let all: BTreeSet<GroupId> = judgement.decisions.iter().map(|part| part.group).chain(held).collect();
    let system = judgement.decisions.iter().find(|part| part.group == GroupId::SYSTEM);
    let votes =
        system.is_none_or(|system| system.electorate.voters.iter().any(|voter| voter.store == own.key.store));
    if alone || !votes {
        return all;
    }
    let waiting = judgement.waiting();
    if !matches!(own.state, StoreState::Clean { .. }) {
        return waiting;
    }
    let elsewhere = |other| later_in(other, own).chain(forked_from(other, own));
    let others: BTreeSet<GroupId> = others.iter().flat_map(elsewhere).map(|part| part.group).collect();
    all.into_iter().filter(|group| waiting.contains(group) || !others.contains(group)).collect()
}

fn refuse<T>(ground: Ground, reason: String, next: Vec<String>) -> Result<T, Refused> {
    Err(Refused { ground, reason, next })
}

/// What no `--force` overrides about the store itself.
fn is_fit(target: &Subject) -> Result<&InitialStatus, Refused> {
    let path = &target.path;
    if target.directory.is_none() {
        let reason = format!("{path} is no store's directory: a mark is written into one");
        return refuse(Ground::Unreadable, reason, Vec::new());
    }
    if let Some(pid) = target.facts.in_use_by {
        let next = vec![format!("kill {pid}    (then mark it)")];
        return refuse(Ground::InUse, format!("{path} is in use by process {pid}"), next);
    }
    let Some(status) = &target.status else {
        let why = target.facts.unread.clone().unwrap_or_default();
        return refuse(Ground::Unreadable, format!("{path} could not be read: {why}"), Vec::new());
    };
    match &status.state {
        StoreState::Damaged { reason } => {
            let next = vec![format!("quorate store verify {}", quoted(path))];
            refuse(Ground::Damaged, format!("{path} is damaged: {reason}"), next)
        }
        StoreState::Empty | StoreState::Forming(_) | StoreState::Transient { .. } => {
            let next =
                vec!["quorate store inspect DIR…    (check the paths, and what is mounted there)".to_owned()];
            refuse(Ground::Empty, format!("{path} is {}: it belongs to no cluster", status.state), next)
        }
        StoreState::Recovered { recovery } => {
            let next = vec![format!("quorate store unmark {}", quoted(path))];
            refuse(
                Ground::MarkedItself,
                format!("{path} is marked already, with recovery id {recovery}"),
                next,
            )
        }
        StoreState::Dirty | StoreState::Clean { .. } => Ok(status),
    }
}

/// What no `--force` overrides about the store among the others; its Raft id if nothing does.
fn fit_among(
    target: &Subject,
    own: &InitialStatus,
    others: &[Subject],
    judgement: &Judgement,
) -> Result<RaftId, Refused> {
    if !judgement.same_cluster {
        let foreign: Vec<&str> = others
            .iter()
            .filter(|other| {
                other
                    .status
                    .as_ref()
                    .is_some_and(|status| status.belongs() && status.cluster_id != own.cluster_id)
            })
            .map(|other| other.path.as_str())
            .collect();
        let reason = format!("{} belong to another cluster: leave them out", foreign.join(", "));
        return refuse(Ground::Foreign, reason, judgement.next.clone());
    }
    let in_system = own.group(GroupId::SYSTEM).and_then(|group| {
        group.voters.iter().chain(&group.learners).find(|voter| voter.store == own.key.store)
    });
    match in_system {
        Some(voter) => Ok(voter.raft_id),
        None => refuse(
            Ground::Incomplete,
            format!("{} does not hold the membership that it is a part of", target.path),
            vec!["quorate store inspect DIR…    (choose another one)".to_owned()],
        ),
    }
}

/// Every ground that `--force` overrides.
fn grounds(
    target: &Subject,
    own: &InitialStatus,
    others: &[Subject],
    (judgement, groups): (&Judgement, &BTreeSet<GroupId>),
) -> Vec<Refused> {
    let mut grounds = Vec::new();
    let mut add = |ground, reason, next| grounds.push(Refused { ground, reason, next });
    // Also where a start left the mark in single groups: its broker goes on from it once nobody contradicts.
    let marked = others.iter().find(|other| other.is_marked() || left_mark(other).is_some());
    if let Some(marked) = marked {
        let unmark = format!("quorate store unmark {}", quoted(&marked.path));
        let next = match marked.facts.in_use_by {
            Some(pid) => vec![format!("kill {pid}    (its broker goes on from the mark otherwise)"), unmark],
            None => vec![unmark],
        };
        add(
            Ground::MarkedOther,
            format!("{} is marked already: two marks contradict each other", marked.path),
            next,
        );
    }
    let mut later: Vec<&str> = Vec::new();
    let mut vhosts: BTreeSet<&str> = BTreeSet::new();
    for other in others {
        let beyond: Vec<&GroupStatus> =
            later_in(other, own).filter(|part| groups.contains(&part.group)).collect();
        if !beyond.is_empty() {
            later.push(other.path.as_str());
            vhosts.extend(beyond.iter().map(|part| part.vhost.as_str()));
        }
    }
    let rolled_back =
        judgement.decisions.iter().any(|group| group.electorate.rolled_back.contains(&own.key.store));
    if !later.is_empty() || rolled_back {
        let reason = if later.is_empty() {
            format!("{} was rolled back: another store given recorded a later life of it", target.path)
        } else {
            let vhosts: Vec<&str> = vhosts.into_iter().collect();
            format!(
                "{} is not the latest: {} is beyond it in {}",
                target.path,
                later.join(", "),
                vhosts.join(", ")
            )
        };
        let next = judgement
            .latest
            .map(|_| "quorate store mark-clean LATEST --against OTHERS --reason TEXT".to_owned());
        add(Ground::NotLatest, reason, next.into_iter().collect());
    }
    let goes_on = !judgement.decisions.is_empty()
        && marked.is_none()
        && judgement.decisions.iter().all(|group| group.decision.verdict.goes_on());
    if goes_on {
        add(
            Ground::CouldStart,
            "the stores given need no mark: started together they go on, and nothing confirmed is missing"
                .to_owned(),
            judgement.next.clone(),
        );
    }
    let mut absent = BTreeSet::new();
    for group in judgement.decisions.iter().filter(|group| group.electorate.missing_could_go_on()) {
        absent.extend(group.electorate.missing.iter().map(|voter| voter.name.clone()));
    }
    let all: Vec<Subject> = std::iter::once(target).chain(others).cloned().collect();
    absent.extend(judgement.decisions.iter().flat_map(|group| left_out_and_unheard(&all, group)));
    if !absent.is_empty() {
        let names: Vec<String> = absent.into_iter().collect();
        add(
            Ground::OthersCouldStart,
            format!(
                "{} were not given, and could start by themselves: two histories would go on",
                names.join(", ")
            ),
            vec![format!(
                "quorate store mark-clean {} --against DIR|FACTS… --reason TEXT    (with the stores of {})",
                quoted(&target.path),
                names.join(", ")
            )],
        );
    }
    grounds
}

/// What a store holds beyond this one, on the same line. What forked is neither later nor earlier.
fn later_in<'a>(other: &'a Subject, own: &'a InitialStatus) -> impl Iterator<Item = &'a GroupStatus> {
    let groups = other.status.as_ref().filter(|status| status.belongs()).map(|status| &status.groups);
    groups.into_iter().flatten().filter(|there| match own.group(there.group) {
        None => true,
        Some(here) => match relation(&there.lineage, &here.lineage) {
            Relation::Later => true,
            Relation::Same => there.position > here.position,
            Relation::Earlier | Relation::Forked => false,
        },
    })
}

/// Where the other one's history is none of the own one's.
fn forked_from<'a>(other: &'a Subject, own: &'a InitialStatus) -> impl Iterator<Item = &'a GroupStatus> {
    let groups = other.status.as_ref().filter(|status| status.belongs()).map(|status| &status.groups);
    let forked = |there: &&GroupStatus| {
        own.group(there.group).is_some_and(|here| relation(&there.lineage, &here.lineage) == Relation::Forked)
    };
    groups.into_iter().flatten().filter(forked)
}

/// Row W1's number: the smaller of the largest `--cluster-wait-for` and the voters before the mark.
fn members(own: &InitialStatus, others: &[Subject], judgement: &Judgement) -> u32 {
    let statuses = others.iter().filter_map(|other| other.status.as_ref()).filter(|status| status.belongs());
    let largest = statuses.map(|status| status.wait_for).chain([own.wait_for]).max().unwrap_or(1);
    let voters = judgement
        .decisions
        .iter()
        .find(|group| group.group == GroupId::SYSTEM)
        .map_or(1, |group| group.electorate.voters.len());
    largest.min(u32::try_from(voters).unwrap_or(u32::MAX)).max(1)
}

fn mark_of(target: &Subject, others: &[Subject], judgement: &Judgement, group: GroupId) -> GroupMark {
    let statuses = || {
        std::iter::once(target)
            .chain(others)
            .filter_map(|subject| subject.status.as_ref())
            .filter_map(|status| Some((status, status.group(group)?)))
    };
    let highest = statuses().map(|(_, part)| part.term.max(part.position.term)).max().unwrap_or_default();
    let own = target.status.as_ref().map(|status| status.key.store);
    let voters = judgement.decisions.iter().find(|decision| decision.group == group);
    let voters = voters.map(|decision| decision.electorate.voters.as_slice()).unwrap_or_default();
    let mut left_out: Vec<LeftOut> = Vec::new();
    let mut named: BTreeSet<StoreId> = own.into_iter().collect();
    for (status, part) in statuses() {
        if !named.insert(status.key.store) {
            continue;
        }
        let known = part.lineage.last().map(|tip| Known {
            incarnation: Incarnation(status.incarnation.0),
            position: part.position,
            tip: tip.id,
        });
        left_out.push(LeftOut {
            store: status.key.store,
            name: status.name.clone(),
            voter: voters.iter().any(|voter| voter.store == status.key.store),
            named: false,
            known,
        });
    }
    for voter in voters {
        if named.insert(voter.store) {
            let name = voter.name.clone();
            left_out.push(LeftOut { store: voter.store, name, voter: true, named: false, known: None });
        }
    }
    GroupMark { group, term: Term(highest.0.saturating_add(1)), left_out }
}

#[cfg(test)]
mod tests;
