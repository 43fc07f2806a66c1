//! The start-up decision: labelled rows over plain facts, tried in order.

mod found;
mod join;
mod marks;
mod next;
mod refuse;
mod restore;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use quorate_store::ids::{ClusterId, GroupId, StoreId};

use super::assembly::Assembly;
use super::company::{Company, Why};
use super::facts::Facts;
use super::rivals::outnumbered;
use super::rows::Row;

/// Exit status of every refusal.
const EXIT_REFUSED: u8 = 3;

/// What to do, for one group.
///
/// A broker that goes on keeps to that: it decides again only after it lost what it went on with (a quorum it had, the
/// leader it joined), and shows the row it went on by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `FORM`: found a cluster with those present.
    Form,
    /// `RESTORE`: go on from the own log as a voter; the group elects the most recent.
    Restore,
    /// `JOIN`: take part as a non-voter until updated.
    Join,
    /// The group goes on without a restore: resume as a voter at once. Shown as active.
    Resume,
    /// `WAIT`.
    Wait,
    /// `NEEDS-OPERATOR`.
    NeedsOperator,
    /// Held apart; never exits.
    Held,
    /// `REFUSE`: end the process.
    Refuse {
        /// With this exit status.
        exit_status: u8,
    },
}

impl Verdict {
    /// The verdict as people and scripts read it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Restore => "restore",
            Self::Join => "join",
            Self::Resume => "resume",
            Self::Wait => "wait",
            Self::NeedsOperator => "needs-operator",
            Self::Held => "held",
            Self::Refuse { .. } => "refuse",
        }
    }

    /// Whether the broker takes part in the group under this verdict.
    pub fn goes_on(self) -> bool {
        matches!(self, Self::Form | Self::Restore | Self::Join | Self::Resume)
    }
}

/// A verdict and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The first row whose facts hold.
    pub row: Row,
    /// What to do.
    pub verdict: Verdict,
    /// Why, for people: who is missing, k of N.
    pub reason: String,
    /// Names, or addresses where no name is known, of the brokers not counted or waited for.
    pub missing: Vec<String>,
    /// What to type next, most useful first.
    pub next: Vec<String>,
    /// What else was noticed: brokers that do not count and why, settings that differ.
    pub notes: Vec<String>,
    /// The cluster this is about; none while founding.
    pub cluster_id: Option<ClusterId>,
}

/// Decides for the group `system`, that is, for the broker as a whole.
pub fn decide(facts: &Facts) -> Decision {
    decide_group(facts, GroupId::SYSTEM)
}

/// Decides for one group: `system` first, then the group by its own log and configuration. A group that cannot go on
/// waits alone.
pub fn decide_group(facts: &Facts, group: GroupId) -> Decision {
    decide_in(&Company::of(facts), group)
}

/// Groups of one member that [`asking`] looks at: while it is being updated, all of them do not go on yet.
const GROUPS_ASKED: usize = 64;

/// Members that ask for an operator in a group that goes on here, and their decision: by the same table and the same facts,
/// with that member in the middle. Of a member that asks in `system`, that alone.
pub fn asking(facts: &Facts) -> Vec<(StoreId, Decision)> {
    let company = Company::of(facts);
    let mut asking = Vec::new();
    for &member in company.members().iter().filter(|member| member.key != facts.own.key) {
        let goes_on_here = facts.own.groups.iter().filter(|part| part.active.is_some());
        let aside = goes_on_here.map(|part| part.group).filter(|group| !member.is_active(*group));
        let aside: Vec<GroupId> = aside.take(GROUPS_ASKED).collect();
        if aside.is_empty() {
            continue;
        }
        let seen = facts.seen.iter().chain([&facts.own]).filter(|other| other.key != member.key);
        let theirs = Facts { own: member.clone(), seen: seen.cloned().collect() };
        let theirs = Company::of(&theirs);
        for group in aside {
            let decision = decide_in(&theirs, group);
            if decision.verdict == Verdict::NeedsOperator {
                asking.push((member.key.store, decision));
                if group == GroupId::SYSTEM {
                    break;
                }
            }
        }
    }
    asking
}

fn decide_in(company: &Company<'_>, group: GroupId) -> Decision {
    let system = Case::new(company, GroupId::SYSTEM).decide();
    if group == GroupId::SYSTEM {
        return system;
    }
    let held_apart = matches!(system.verdict, Verdict::Held | Verdict::Refuse { .. })
        || matches!(system.row, Row::S1 | Row::R2);
    let runs = company.active(group).is_some() && !held_apart;
    if system.verdict == Verdict::Form || !(system.verdict.goes_on() || runs) {
        return system;
    }
    Case::new(company, group).decide()
}

/// The rows that were tried for the group before `row`, in order: their facts do not hold.
pub fn rows_before(group: GroupId, row: Row) -> Vec<Row> {
    let tried = |scope: Scope| scope == Scope::Group || group == GroupId::SYSTEM;
    TABLE
        .iter()
        .take_while(|(tested, _, _)| *tested != row)
        .filter(|(_, scope, _)| tried(*scope))
        .map(|(row, _, _)| *row)
        .collect()
}

/// One group's facts, sorted once for all rows.
#[derive(Debug)]
pub(crate) struct Case<'a> {
    pub(crate) company: &'a Company<'a>,
    pub(crate) group: GroupId,
    /// Along the latest history.
    pub(crate) assembly: Assembly<'a>,
    /// Along the history of the processes that took part while the group was active, if they go on with it. Those whose
    /// history a later one left behind, within what was recorded for them, hold nobody up; but a majority of them can
    /// elect a leader at any moment, so nobody goes on beside it.
    pub(crate) running: Option<Assembly<'a>>,
}

impl<'a> Case<'a> {
    pub(crate) fn new(company: &'a Company<'a>, group: GroupId) -> Self {
        let assembly = company.assembly(group);
        let running = assembly.running().filter(|running| {
            let goes_on = running.is_restorable() && !outnumbered(running.history(), assembly.history());
            goes_on || !assembly.left_running_behind()
        });
        Self { company, group, assembly, running }
    }

    fn decide(&self) -> Decision {
        TABLE
            .iter()
            .filter(|(_, scope, _)| *scope == Scope::Group || self.group == GroupId::SYSTEM)
            .find_map(|(_, _, test)| test(self))
            .expect("the last row always holds")
    }

    fn decision(&self, row: Row, verdict: Verdict, reason: String) -> Decision {
        Decision {
            row,
            verdict,
            reason,
            missing: Vec::new(),
            next: Vec::new(),
            notes: self.company.notes(),
            cluster_id: self.company.cluster(),
        }
    }

    /// Names of those who are here and do not count for this reason.
    fn aside_for(&self, why: &Why) -> BTreeSet<&str> {
        let asides = self.company.asides().iter().filter(|aside| aside.why == *why);
        asides.map(|aside| aside.status.name.as_str()).collect()
    }

    /// How those who are missing come to count: they are started; or, if they are here, what keeps them from it is ended.
    fn bring(&self, missing: &[String]) -> Vec<String> {
        let (twins, panicked) = (self.aside_for(&Why::StoreTwice), self.aside_for(&Why::Panicked));
        let is_of = |names: &BTreeSet<&str>, name: &String| names.contains(name.as_str());
        let twice = missing.iter().filter(|name| is_of(&twins, name)).map(|name| next::stop_twin(name));
        let cleared = missing.iter().any(|name| is_of(&panicked, name));
        let clear = cleared.then(|| next::clear_panic(self.company.cluster()));
        let away: Vec<String> =
            missing.iter().filter(|name| !is_of(&twins, name) && !is_of(&panicked, name)).cloned().collect();
        twice.chain(clear).chain(next::start(&away)).collect()
    }

    /// The group as people call it.
    fn group_name(&self) -> String {
        if self.group == GroupId::SYSTEM {
            return "the cluster".to_owned();
        }
        let vhost = self.company.members().iter().find_map(|member| member.group(self.group));
        vhost.map_or_else(|| format!("group {}", self.group), |part| format!("virtual host {}", part.vhost))
    }
}

/// Names joined for people.
fn list<T: AsRef<str>>(items: &[T]) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    items.join(", ")
}

/// Which groups a row decides for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The broker as a whole, that is, `system`.
    Broker,
    /// Every group.
    Group,
}

/// A row's test: a decision if its facts hold.
type Test = fn(&Case<'_>) -> Option<Decision>;

/// The table: the first row whose facts hold decides.
pub(crate) const TABLE: [(Row, Scope, Test); Row::ALL.len()] = [
    (Row::S1, Scope::Broker, refuse::row_s1),
    (Row::R1, Scope::Broker, refuse::row_r1),
    (Row::R2, Scope::Broker, refuse::row_r2),
    (Row::R3, Scope::Broker, refuse::row_r3),
    (Row::R4, Scope::Broker, refuse::row_r4),
    (Row::R5, Scope::Broker, refuse::row_r5),
    (Row::J1, Scope::Group, join::row_j1),
    (Row::J2, Scope::Group, join::row_j2),
    (Row::Q1, Scope::Group, join::row_q1),
    (Row::P1, Scope::Group, join::row_p1),
    (Row::W1, Scope::Broker, found::row_w1),
    (Row::F1, Scope::Broker, found::row_f1),
    (Row::F2, Scope::Broker, found::row_f2),
    (Row::F3, Scope::Broker, found::row_f3),
    (Row::X1, Scope::Group, marks::row_x1),
    (Row::O1, Scope::Group, marks::row_o1),
    (Row::C3, Scope::Group, restore::row_c3),
    (Row::C2, Scope::Group, restore::row_c2),
    (Row::C1, Scope::Group, restore::row_c1),
    (Row::W2, Scope::Group, restore::row_w2),
    (Row::N1, Scope::Group, restore::row_n1),
];
