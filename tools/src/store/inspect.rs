//! What a set of stores can be together: the core's decision over their statuses, and what follows for an operator.
//!
//! Everything here is a function of the subjects: no file is read.

mod apart;
mod bound;
mod copies;
mod latest;
mod told;

use std::collections::{BTreeMap, BTreeSet};

use quorate_core::formation::status::StoreState;
use quorate_core::formation::{Decision, Electorate, Facts, InitialStatus, Row, decide, decide_group};
use quorate_store::ids::{ClusterId, GroupId, StoreId};
use serde::Serialize;

use super::subject::Subject;
use crate::exit::Status;

pub use self::bound::LossBound;
pub(super) use self::bound::left_out_and_unheard;
pub use self::latest::{Standing, compare};
pub(super) use self::told::left_mark;
pub use self::told::quoted;

/// The one word of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Started together they go on, and nothing confirmed is missing.
    SafeSet,
    /// One of them was marked by an operator: it is what a start goes on from.
    Marked,
    /// They cannot go on by themselves.
    NoSafeSet,
    /// Stores that claim the same and hold different things: no choice can be made for the operator.
    Ambiguous,
    /// Histories that went on separately.
    Forked,
    /// Stores of more than one cluster.
    DifferentClusters,
    /// No store that belongs to a cluster.
    Empty,
    /// Nothing could be read.
    Unknown,
}

/// The decision for one group, if the members that are waited for did not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDecision {
    /// Which.
    pub group: GroupId,
    /// Its virtual host.
    pub vhost: String,
    /// What the table says.
    pub decision: Decision,
    /// Who may vote.
    pub electorate: Electorate,
}

/// All of it. Numbers are places in the list of subjects.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The word.
    pub verdict: Verdict,
    /// How the command ends.
    pub status: Status,
    /// The verdict in a sentence.
    pub summary: String,
    /// Those that belong to a cluster belong to the same.
    pub same_cluster: bool,
    /// The cluster, if it is one.
    pub cluster_id: Option<ClusterId>,
    /// The store that is at or beyond every other one in every group.
    pub latest: Option<usize>,
    /// Stores that hold the same as another.
    pub ties: Vec<Vec<usize>>,
    /// What was compared, sentence by sentence.
    pub why: Vec<String>,
    /// What is to be said of each.
    pub remarks: Vec<Vec<String>>,
    /// Group by group.
    pub decisions: Vec<GroupDecision>,
    /// Those that may vote in every group.
    pub safe: Vec<usize>,
    /// What can be lost; none if there is nothing to go on from.
    pub loss: Option<LossBound>,
    /// What to type next.
    pub next: Vec<String>,
}

/// Judges them. `subjects` should not be more than [`super::limits::STORES`].
pub fn judge(subjects: &[Subject]) -> Judgement {
    let mut judgement = Judgement {
        verdict: Verdict::Unknown,
        status: Status::Unknown,
        summary: "nothing could be read".to_owned(),
        same_cluster: true,
        cluster_id: None,
        latest: None,
        ties: Vec::new(),
        why: Vec::new(),
        remarks: vec![Vec::new(); subjects.len()],
        decisions: Vec::new(),
        safe: Vec::new(),
        loss: None,
        next: Vec::new(),
    };
    judgement.remark_on_each(subjects);
    if subjects.iter().all(|subject| subject.status.is_none()) {
        judgement.next = vec!["quorate store facts DIR -o table".to_owned()];
        return judgement;
    }
    let clusters: BTreeSet<ClusterId> = subjects.iter().filter_map(cluster_of).collect();
    judgement.same_cluster = clusters.len() <= 1;
    let mut clusters = clusters.into_iter();
    match (clusters.next(), clusters.next()) {
        (None, _) => judgement.none_belongs(subjects),
        (Some(cluster), None) => judgement.one_cluster(subjects, cluster),
        (Some(_), Some(_)) => judgement.several_clusters(subjects),
    }
    judgement
}

/// The cluster of a store beyond forming.
fn cluster_of(subject: &Subject) -> Option<ClusterId> {
    subject.status.as_ref().filter(|status| status.belongs()).and_then(|status| status.cluster_id)
}

impl Judgement {
    fn remark_on_each(&mut self, subjects: &[Subject]) {
        for (remarks, subject) in self.remarks.iter_mut().zip(subjects) {
            if let Some(pid) = subject.facts.in_use_by {
                remarks.push(format!("in use by process {pid}: what is shown may be moving"));
            }
            if let Some(why) = &subject.facts.unread {
                remarks.push(format!("not read: {why}"));
            }
            remarks.extend(subject.facts.damage.iter().map(|damage| format!("damaged: {damage}")));
            remarks.extend(subject.facts.notes.iter().cloned());
            remarks.extend(left_mark(subject));
            remarks.extend(told::lost(subject));
        }
    }

    fn none_belongs(&mut self, subjects: &[Subject]) {
        if subjects.iter().any(|subject| subject.facts.state == "damaged") {
            self.verdict = Verdict::NoSafeSet;
            self.status = Status::Refused;
            "no readable store belongs to a cluster, and one is damaged".clone_into(&mut self.summary);
            self.next =
                vec!["quorate store inspect DIR…    (with the stores of the other members)".to_owned()];
            return;
        }
        self.verdict = Verdict::Empty;
        self.status = Status::Warning;
        "no store given belongs to a cluster".clone_into(&mut self.summary);
        self.why.push("an empty store holds nothing; one that is forming was not used yet".to_owned());
        self.next =
            vec!["quorate store inspect DIR…    (check the paths, and what is mounted there)".to_owned()];
    }

    fn several_clusters(&mut self, subjects: &[Subject]) {
        self.verdict = Verdict::DifferentClusters;
        self.status = Status::Refused;
        let mut by_cluster: BTreeMap<ClusterId, Vec<usize>> = BTreeMap::new();
        for (number, subject) in subjects.iter().enumerate() {
            if let Some(cluster) = cluster_of(subject) {
                by_cluster.entry(cluster).or_default().push(number);
            }
        }
        self.summary = format!("these stores belong to {} different clusters", by_cluster.len());
        for (cluster, numbers) in &by_cluster {
            let side: Vec<Subject> =
                numbers.iter().filter_map(|number| subjects.get(*number).cloned()).collect();
            let names: Vec<&str> = side.iter().map(Subject::name).collect();
            let alone = judge(&side);
            self.why.push(format!(
                "cluster {cluster}: {}; by themselves: {}",
                names.join(", "),
                alone.summary
            ));
            let paths: Vec<String> = side.iter().map(|subject| quoted(&subject.path)).collect();
            self.next.push(format!("quorate store inspect {}", paths.join(" ")));
        }
    }

    fn one_cluster(&mut self, subjects: &[Subject], cluster: ClusterId) {
        self.cluster_id = Some(cluster);
        let family = copies::sort_out(subjects);
        for (number, remark) in &family.remarks {
            if let Some(remarks) = self.remarks.get_mut(*number) {
                remarks.push(remark.clone());
            }
        }
        let counted = |number: &usize| !family.aside.contains(number);
        let here: Vec<usize> = (0..subjects.len())
            .filter(|number| subjects.get(*number).is_some_and(|subject| subject.status.is_some()))
            .filter(counted)
            .collect();
        let member = |number: &usize| subjects.get(*number).filter(|subject| cluster_of(subject).is_some());
        let members: Vec<usize> = here.iter().copied().filter(|number| member(number).is_some()).collect();
        let statuses: Vec<&InitialStatus> =
            here.iter().filter_map(|number| subjects.get(*number)?.status.as_ref()).collect();
        let Some(own) = members.first().and_then(|number| subjects.get(*number)?.status.as_ref()) else {
            return self.none_belongs(subjects);
        };
        self.decisions = decisions(own, &statuses);
        self.remark_on_votes(subjects, &members);
        let standings: Vec<Standing<'_>> = members
            .iter()
            .filter(|number| !self.is_rolled_back(subjects, **number))
            .filter_map(|number| Standing::of(*number, subjects.get(*number)?))
            .collect();
        let mut found = latest::find(&standings, subjects);
        let waiting = self.waiting();
        if waiting.len() < self.decisions.len() {
            // The others go on by themselves: whoever is behind in those is brought up to date.
            let among: Vec<Standing<'_>> =
                standings.iter().map(|standing| standing.among(&waiting)).collect();
            let found_among = latest::find(&among, subjects);
            found = if found.is_ambiguous { found } else { found_among };
        }
        self.latest = found.latest.filter(|_| !family.is_torn);
        self.ties = found.ties.into_iter().chain(family.same).collect();
        self.why.extend(found.why);
        self.why.extend(family.why);
        self.safe = members
            .iter()
            .copied()
            .filter(|number| {
                let store = store_of(subjects, *number);
                self.decisions.iter().all(|group| store.is_some_and(|id| group.electorate.able.contains(&id)))
            })
            .collect();
        self.decide(subjects, own, &statuses, found.is_ambiguous || family.is_torn);
    }

    /// The groups that an operator has to decide about: those that do not go on by themselves; all of them if all do.
    pub(super) fn waiting(&self) -> BTreeSet<GroupId> {
        let goes_on = |group: &&GroupDecision| group.decision.verdict.goes_on();
        let all = || self.decisions.iter();
        let waiting: BTreeSet<GroupId> =
            all().filter(|group| !goes_on(group)).map(|group| group.group).collect();
        if waiting.is_empty() { all().map(|group| group.group).collect() } else { waiting }
    }

    fn is_rolled_back(&self, subjects: &[Subject], number: usize) -> bool {
        let store = store_of(subjects, number);
        self.decisions.iter().any(|group| store.is_some_and(|id| group.electorate.rolled_back.contains(&id)))
    }

    fn remark_on_votes(&mut self, subjects: &[Subject], members: &[usize]) {
        for number in members {
            let Some(store) = store_of(subjects, *number) else { continue };
            let mut said = Vec::new();
            if self.is_rolled_back(subjects, *number) {
                said.push(
                    "rolled back: another member recorded a later life of it; it may be read and never votes"
                        .to_owned(),
                );
            }
            let not_voter: Vec<&str> = self
                .decisions
                .iter()
                .filter(|group| !group.electorate.voters.iter().any(|voter| voter.store == store))
                .map(|group| group.vhost.as_str())
                .collect();
            if !not_voter.is_empty() {
                said.push(format!("no voter of {}", not_voter.join(", ")));
            }
            if let Some(remarks) = self.remarks.get_mut(*number) {
                remarks.extend(said);
            }
        }
    }

    fn decide(
        &mut self,
        subjects: &[Subject],
        own: &InitialStatus,
        statuses: &[&InitialStatus],
        is_ambiguous: bool,
    ) {
        let stuck = self.decisions.iter().find(|group| !group.decision.verdict.goes_on());
        let row = stuck.map(|group| group.decision.row);
        let needs_operator =
            self.decisions.iter().any(|group| group.decision.verdict == decide::Verdict::NeedsOperator);
        let marks =
            statuses.iter().filter(|status| matches!(status.state, StoreState::Recovered { .. })).count();
        self.verdict = match (row, is_ambiguous) {
            (_, false) if marks == 1 && !needs_operator => Verdict::Marked,
            (Some(Row::X1), _) => Verdict::Forked,
            (_, true) => Verdict::Ambiguous,
            (None, false) => Verdict::SafeSet,
            (Some(_), false) => Verdict::NoSafeSet,
        };
        let decided: Vec<String> = self
            .decisions
            .iter()
            .map(|group| format!("{}: row {}: {}", group.vhost, group.decision.row, group.decision.reason))
            .collect();
        self.why.extend(decided);
        self.loss = match self.latest {
            Some(latest) if marks == 1 && !is_ambiguous => bound::of_mark(subjects, latest),
            Some(latest) => self.bound(subjects, latest),
            None => Some(LossBound {
                confirmed: "unknown",
                reason: "no store is chosen here; what each alone holds is listed".to_owned(),
                not_given: Vec::new(),
            }),
        };
        if self.verdict != Verdict::SafeSet && is_ambiguous {
            self.safe.clear();
        }
        let odd = subjects.len() > self.safe.len();
        self.status = match self.verdict {
            Verdict::Marked => Status::Warning,
            Verdict::SafeSet if odd => Status::Warning,
            Verdict::SafeSet => Status::Done,
            _ => Status::Refused,
        };
        self.summary = self.sentence(subjects);
        self.next = self.commands(subjects, own, statuses);
    }
}

fn store_of(subjects: &[Subject], number: usize) -> Option<StoreId> {
    Some(subjects.get(number)?.status.as_ref()?.key.store)
}

/// What the table says for each group, without waiting for members that hold nothing.
fn decisions(own: &InitialStatus, statuses: &[&InitialStatus]) -> Vec<GroupDecision> {
    let patient = |status: &InitialStatus| InitialStatus { wait_for: 1, ..status.clone() };
    let facts = Facts { own: patient(own), seen: statuses.iter().copied().map(patient).collect() };
    let name = |group: GroupId| {
        let known = statuses.iter().find_map(|status| status.group(group));
        known.map_or_else(|| format!("group {group}"), |status| status.vhost.clone())
    };
    facts
        .groups()
        .into_iter()
        .map(|group| GroupDecision {
            group,
            vhost: name(group),
            decision: decide_group(&facts, group),
            electorate: Electorate::of(&facts, group),
        })
        .collect()
}

#[cfg(test)]
mod tests;
