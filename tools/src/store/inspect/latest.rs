//! Which store is the latest: lineages as lists, then positions, group by group; and which of them hold the same.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use quorate_core::formation::lineage::{Relation, relation};
use quorate_core::formation::status::GroupStatus;
use quorate_store::ids::GroupId;

use crate::store::facts::GroupFacts;
use crate::store::subject::Subject;

/// One store with what it holds of each group.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    pub(super) number: usize,
    groups: &'a [GroupStatus],
    facts: &'a [GroupFacts],
    /// Only these are compared; none: all.
    among: Option<&'a BTreeSet<GroupId>>,
}

/// What the comparison found.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) latest: Option<usize>,
    pub(super) ties: Vec<Vec<usize>>,
    /// Two stores stand at the same place and hold different things.
    pub(super) is_ambiguous: bool,
    pub(super) why: Vec<String>,
}

impl<'a> Standing<'a> {
    /// Of a subject that could be read.
    pub fn of(number: usize, subject: &'a Subject) -> Option<Self> {
        let status = subject.status.as_ref()?;
        let facts = &subject.facts.groups;
        Some(Self { number, groups: &status.groups, facts, among: None })
    }

    /// By what it holds of these groups.
    pub(super) fn among(self, groups: &'a BTreeSet<GroupId>) -> Self {
        Self { among: Some(groups), ..self }
    }

    fn counted(&self) -> impl Iterator<Item = &'a GroupStatus> {
        let among = self.among;
        self.groups.iter().filter(move |status| among.is_none_or(|among| among.contains(&status.group)))
    }

    fn group(&self, group: GroupId) -> Option<&'a GroupStatus> {
        self.groups.iter().find(|status| status.group == group)
    }

    /// It holds all that it acknowledged.
    fn is_trusted(&self) -> bool {
        self.counted().all(|status| status.trusted)
    }

    /// The fingerprint of what a group holds.
    fn digest(&self, group: GroupId) -> Option<&'a str> {
        self.facts.iter().find(|facts| facts.group == group.0)?.digest.as_deref()
    }
}

/// How the groups of two stores stand to each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Groups in which the first is behind.
    pub behind: Vec<GroupId>,
    /// Groups in which the first is ahead.
    pub ahead: Vec<GroupId>,
    /// Groups that went on separately.
    pub forked: Vec<GroupId>,
    /// Groups at the same place with different content.
    pub different: Vec<GroupId>,
}

impl Comparison {
    /// The first has everything that the second has, as far as positions tell.
    pub fn is_at_least(&self) -> bool {
        self.behind.is_empty() && self.forked.is_empty()
    }

    /// Both stand at the same place everywhere.
    pub fn is_level(&self) -> bool {
        self.is_at_least() && self.ahead.is_empty()
    }
}

/// Compares two stores.
pub fn compare(one: &Standing<'_>, other: &Standing<'_>) -> Comparison {
    let groups: BTreeSet<GroupId> = one.counted().chain(other.counted()).map(|status| status.group).collect();
    let mut found = Comparison::default();
    for group in groups {
        match (one.group(group), other.group(group)) {
            (Some(here), Some(there)) => match relation(&here.lineage, &there.lineage) {
                Relation::Forked => found.forked.push(group),
                Relation::Earlier => found.behind.push(group),
                Relation::Later => found.ahead.push(group),
                Relation::Same => match here.position.cmp(&there.position) {
                    Ordering::Less => found.behind.push(group),
                    Ordering::Greater => found.ahead.push(group),
                    Ordering::Equal => {
                        let digests = one.digest(group).zip(other.digest(group));
                        if digests.is_some_and(|(here, there)| here != there) {
                            found.different.push(group);
                        }
                    }
                },
            },
            (Some(_), None) => found.ahead.push(group),
            (None, Some(_)) => found.behind.push(group),
            (None, None) => {}
        }
    }
    found
}

/// Finds the latest of them. Stores that are level with it are ties: equal, or ambiguous.
pub(super) fn find(standings: &[Standing<'_>], subjects: &[Subject]) -> Found {
    let mut found = Found::default();
    let name = |number: usize| subjects.get(number).map_or("?", Subject::name);
    let mut tops: Vec<&Standing<'_>> = standings
        .iter()
        .filter(|one| standings.iter().all(|other| compare(one, other).is_at_least()))
        .collect();
    // As brokers choose; of several the one that was given first.
    tops.sort_by_key(|one| !one.is_trusted());
    let Some((first, rest)) = tops.split_first() else {
        if standings.len() > 1 {
            found.why.push(
                "no store is at or beyond every other one in every group: each holds something the others lack"
                    .to_owned(),
            );
        }
        return found;
    };
    for other in rest {
        let different = compare(first, other).different;
        if different.is_empty() {
            continue;
        }
        let vhosts: Vec<&str> = different
            .iter()
            .filter_map(|group| first.group(*group))
            .map(|status| status.vhost.as_str())
            .collect();
        found.is_ambiguous = true;
        found.why.push(format!(
            "{} and {} end at the same positions and hold different content in {}",
            name(first.number),
            name(other.number),
            vhosts.join(", ")
        ));
    }
    if found.is_ambiguous {
        return found;
    }
    found.latest = Some(first.number);
    if !rest.is_empty() {
        let mut tie: Vec<usize> = tops.iter().map(|standing| standing.number).collect();
        tie.sort_unstable();
        let names: Vec<&str> = tie.iter().map(|number| name(*number)).collect();
        found.why.push(format!(
            "{} end at the same positions and hold the same content: either may be used",
            names.join(", ")
        ));
        found.ties.push(tie);
    }
    for other in standings.iter().filter(|other| tops.iter().all(|top| top.number != other.number)) {
        found.why.push(behind(first, other, name(first.number), name(other.number)));
    }
    found
}

/// `a is beyond b in …`.
fn behind(latest: &Standing<'_>, other: &Standing<'_>, one: &str, two: &str) -> String {
    let groups: Vec<String> = compare(latest, other)
        .ahead
        .iter()
        .filter_map(|group| {
            let here = latest.group(*group)?;
            Some(match other.group(*group) {
                None => format!("{}, which the other does not hold", here.vhost),
                Some(there) if relation(&here.lineage, &there.lineage) == Relation::Later => format!(
                    "{}, by {} later epochs",
                    here.vhost,
                    here.lineage.len().saturating_sub(there.lineage.len())
                ),
                Some(there) => format!("{} ({} after {})", here.vhost, here.position, there.position),
            })
        })
        .collect();
    format!("{one} is beyond {two} in {}", groups.join("; "))
}
