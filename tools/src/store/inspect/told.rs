//! What is told: the verdict in a sentence, remarks on a store, and what to type next.

use std::cmp::Ordering;

use quorate_core::formation::status::{GroupStatus, StoreState};
use quorate_core::formation::{Facts, InitialStatus, Row, decide_group};
use quorate_store::ids::GroupId;
use quorate_store::stamp::EpochCause;

use super::{Judgement, Verdict, cluster_of};
use crate::store::subject::Subject;

impl Judgement {
    /// The verdict.
    pub(super) fn sentence(&self, subjects: &[Subject]) -> String {
        let names = |numbers: &[usize]| {
            let names: Vec<&str> =
                numbers.iter().filter_map(|number| subjects.get(*number)).map(Subject::name).collect();
            names.join(", ")
        };
        match self.verdict {
            Verdict::SafeSet => {
                let needed = self.decisions.iter().map(|group| group.electorate.majority).max().unwrap_or(1);
                match self.safe.len().cmp(&needed) {
                    Ordering::Greater => format!(
                        "started together {} hold everything that was confirmed; any {needed} of them do",
                        names(&self.safe)
                    ),
                    Ordering::Equal => {
                        format!("started together {} hold everything that was confirmed", names(&self.safe))
                    }
                    Ordering::Less => {
                        "started together these stores hold everything that was confirmed".to_owned()
                    }
                }
            }
            Verdict::Marked => {
                let marked = subjects.iter().find(|subject| subject.is_marked());
                let name = marked.map_or("one of them", Subject::name);
                format!(
                    "{name} was marked by an operator: a start goes on from it, and the others are updated"
                )
            }
            Verdict::Ambiguous => {
                "stores that claim the same hold different things: no choice is made here".to_owned()
            }
            Verdict::Forked => {
                "the histories of these stores went on separately: no choice is made here".to_owned()
            }
            _ => {
                let group = self
                    .decisions
                    .iter()
                    .filter(|group| !group.decision.verdict.goes_on())
                    .min_by_key(|group| group.electorate.able.len());
                match group {
                    Some(group) if group.electorate.able.len() >= group.electorate.majority => {
                        format!("an operator has to choose: {}", group.decision.reason)
                    }
                    Some(group) => format!(
                        "{} of the {} recorded voters of {} are given and may vote, {} are needed",
                        group.electorate.able.len(),
                        group.electorate.voters.len(),
                        group.vhost,
                        group.electorate.majority
                    ),
                    None => "these stores cannot go on by themselves".to_owned(),
                }
            }
        }
    }

    /// Everything is saved before somebody chooses.
    pub(super) fn exports(subjects: &[Subject]) -> Vec<String> {
        subjects
            .iter()
            .filter(|subject| cluster_of(subject).is_some())
            .filter(|subject| subject.directory.is_some())
            .map(|subject| format!("quorate store export {}", quoted(&subject.path)))
            .collect()
    }

    pub(super) fn commands(
        &self,
        subjects: &[Subject],
        own: &InitialStatus,
        statuses: &[&InitialStatus],
    ) -> Vec<String> {
        match self.verdict {
            Verdict::SafeSet => {
                let safe = self.safe.iter().filter_map(|number| subjects.get(*number));
                let mut next: Vec<String> = safe.map(start).collect();
                let facts = Facts { own: own.clone(), seen: statuses.iter().copied().cloned().collect() };
                let real = decide_group(&facts, GroupId::SYSTEM);
                if real.row == Row::W1 {
                    next.push(format!("they would wait: {}", real.reason));
                    next.extend(real.next);
                }
                next
            }
            Verdict::Ambiguous | Verdict::Forked => {
                let mut next = Self::exports(subjects);
                next.push(MARK_CHOSEN.to_owned());
                next
            }
            Verdict::NoSafeSet => self.commands_without_a_safe_set(subjects),
            Verdict::Marked => subjects.iter().filter(|subject| subject.is_marked()).map(start).collect(),
            Verdict::DifferentClusters | Verdict::Empty | Verdict::Unknown => Vec::new(),
        }
    }

    fn commands_without_a_safe_set(&self, subjects: &[Subject]) -> Vec<String> {
        let marked: Vec<&Subject> = subjects.iter().filter(|subject| subject.is_marked()).collect();
        if marked.len() > 1 {
            let path = |subject: &Subject| quoted(&subject.path);
            let unmark = |path| format!("quorate store unmark {path}    (all but the one to go on from)");
            return marked.into_iter().map(path).map(unmark).collect();
        }
        let mut next = Vec::new();
        let missing = self.loss.as_ref().map(|loss| loss.not_given.join(", ")).unwrap_or_default();
        if !missing.is_empty() {
            let given: Vec<String> = subjects.iter().map(|subject| quoted(&subject.path)).collect();
            next.push(format!(
                "quorate store inspect {} DIR…    (with the stores of {missing})",
                given.join(" ")
            ));
        }
        let latest = self.latest.and_then(|latest| Some((latest, subjects.get(latest)?)));
        next.push(latest.map_or(MARK_CHOSEN.to_owned(), |(number, subject)| {
            // `mark-clean` takes none that cannot be read.
            let others =
                subjects.iter().enumerate().filter(|(other, one)| *other != number && one.status.is_some());
            let others: Vec<String> = others.map(|(_, other)| quoted(&other.path)).collect();
            let against =
                if others.is_empty() { String::new() } else { format!(" --against {}", others.join(" ")) };
            format!("quorate store mark-clean {}{against} --reason TEXT", quoted(&subject.path))
        }));
        next
    }
}

const MARK_CHOSEN: &str = "quorate store mark-clean CHOSEN --against OTHERS --reason TEXT";

/// How the store's broker is started.
fn start(subject: &Subject) -> String {
    let dir = subject.directory.as_ref().map_or("DIR", |_| subject.path.as_str());
    format!("quorated --name {} --data-dir {} …", quoted(subject.name()), quoted(dir))
}

/// A path as a shell takes it.
pub fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@%=".contains(c);
    if !path.is_empty() && path.chars().all(plain) {
        return path.to_owned();
    }
    format!("'{}'", path.replace('\'', "'\\''"))
}

/// Says of which groups the store may lack what its broker acknowledged, and by which policy.
pub(super) fn lost(subject: &Subject) -> impl Iterator<Item = String> {
    let status = subject.status.iter().flat_map(|status| &status.groups);
    status.filter(|part| !part.trusted).filter_map(|part| {
        let stamped = subject.facts.groups.iter().find(|group| group.vhost == part.vhost)?;
        let (policy, weakest) = (stamped.policy.as_deref()?, stamped.weakest.as_deref()?);
        let event = match weakest {
            "no-sync" => "its process ended",
            "write-no-sync" => "the system was started anew since",
            _ => return None,
        };
        Some(format!(
            "may lack what it acknowledged in {}: by {weakest} (the policy is {policy}) it acknowledged what was not synced, \
             and {event}",
            part.vhost
        ))
    })
}

/// Says where a start left a mark on which nothing was begun, in a store that is dirty.
pub(in crate::store) fn left_mark(subject: &Subject) -> Option<String> {
    let status = subject.status.as_ref().filter(|status| status.state == StoreState::Dirty)?;
    let is_left = |group: &&GroupStatus| {
        group.trusted
            && group.lineage.last().is_some_and(|epoch| {
                // The log ends where the epoch would begin.
                matches!(epoch.cause, EpochCause::Mark { .. }) && group.position.index <= epoch.fork.index
            })
    };
    let vhosts: Vec<&str> = status.groups.iter().filter(is_left).map(|group| group.vhost.as_str()).collect();
    let path = quoted(&subject.path);
    (!vhosts.is_empty()).then(|| {
        format!(
            "marked, and nothing was begun on the mark in {}: `quorate store unmark {path}` takes it back there",
            vhosts.join(", ")
        )
    })
}
