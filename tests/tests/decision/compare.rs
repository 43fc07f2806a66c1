//! Product against oracle: every member's point of view of every world, differences gathered by kind.

use std::collections::BTreeMap;
use std::fmt::Write;

use quorate_core::formation::{Verdict, decide};

use crate::facts::{facts, turn};
use crate::law::law;
use crate::model::{Cause, Line, Member, Origin, State, World};

/// Why some worlds are not compared yet. Each is to be removed with what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Excluded {
    /// An operator's mark: row O1 and what X1 and J1 make of marks.
    Mark,
    /// Epochs with a cause and with records of who was left out: W1's exception and X1's second half.
    ForcedEpoch,
    /// Row S1.
    Panicked,
    /// Row P1.
    DesignatedPrimary,
    /// J1 tells by client entries whether epochs that the active list lacks are dropped.
    EpochsWithoutClientEntries,
    /// Row C3 is about every clean store present; the product looks only at those of the latest lineage.
    ManualWithAnEarlierCleanStore,
    /// What a held store recorded of others counts; the product does not hear it.
    RecordsOfHeldStores,
    /// Row J2 takes a process that was active in an earlier lineage than others hold for a running cluster.
    RanInAnEarlierLineage,
    /// Rows J2 and Q1 stand before X1, and the product takes them by the letter: a store of a forked history never stops a
    /// cluster that was running a moment ago. The oracle has a fork stop it.
    RanBesideAFork,
    /// Row R3: a forming store beside stores beyond forming of its own id and of another.
    FormingBetweenTwoClusters,
    /// What a member of another cluster recorded counts to the oracle, and not to the product.
    RecordsOfAnotherCluster,
    /// A member that takes part without being a trusted voter. Row J1: it joins; the product says that it resumes. And its
    /// word on who is active does not count in the product: whoever is being filled may follow somebody who leads no more.
    ActiveWithoutAVote,
}

impl Excluded {
    fn of(world: &World) -> Option<Self> {
        let any = |holds: &dyn Fn(&Member) -> bool| world.members.iter().any(holds);
        let marks = [world.main, world.fork].iter().any(|origin| matches!(origin.cause, Cause::Mark { .. }));
        if marks || any(&|m| m.state == State::Marked) {
            return Some(Self::Mark);
        }
        if world.main != Origin::PLAIN || world.fork != Origin::PLAIN {
            return Some(Self::ForcedEpoch);
        }
        if any(&|m| m.panicked) {
            return Some(Self::Panicked);
        }
        if any(&|m| m.solo) {
            return Some(Self::DesignatedPrimary);
        }
        let lacks = |line: Line| any(&|m| m.cluster.is_some() && !line.holds(m.line) && !m.client_entries);
        if any(&|m| m.active && lacks(m.line)) {
            return Some(Self::EpochsWithoutClientEntries);
        }
        let earlier = |m: &Member| any(&|other| other.cluster == m.cluster && other.line.later_than(m.line));
        if any(&|m| m.manual) && any(&|m| matches!(m.state, State::Clean(_)) && earlier(m)) {
            return Some(Self::ManualWithAnEarlierCleanStore);
        }
        if any(&|m| m.twin) && any(&|m| m.rolled_back) {
            return Some(Self::RecordsOfHeldStores);
        }
        if any(&|m| m.ran && earlier(m)) && !any(&|m| m.active) {
            return Some(Self::RanInAnEarlierLineage);
        }
        let forked = |m: &Member| any(&|other| other.cluster == m.cluster && other.line.forks_from(m.line));
        if any(&|m| m.ran && m.belongs()) && any(&|m| m.belongs() && forked(m)) && !any(&|m| m.active) {
            return Some(Self::RanBesideAFork);
        }
        let clusters = [0, 1].map(|cluster| any(&|m| m.belongs() && m.cluster == Some(cluster)));
        if clusters == [true, true] && any(&|m| matches!(m.state, State::Forming(Some(_)))) {
            return Some(Self::FormingBetweenTwoClusters);
        }
        if any(&|m| m.active && !(m.trusted && !m.rolled_back && m.voters.has(m.store()))) {
            return Some(Self::ActiveWithoutAVote);
        }
        if clusters == [true, true] && any(&|m| m.rolled_back) {
            return Some(Self::RecordsOfAnotherCluster);
        }
        None
    }
}

/// One kind of difference and the smallest world that shows it.
struct Difference {
    count: u64,
    weight: usize,
    example: String,
}

/// Compares, and fails at the end with every kind of difference.
#[derive(Default)]
pub(crate) struct Comparison {
    /// Fact sets: a world from one member's point of view.
    pub(crate) compared: u64,
    pub(crate) excluded: BTreeMap<Excluded, u64>,
    differences: BTreeMap<String, Difference>,
    rows: BTreeMap<&'static str, u64>,
}

impl Comparison {
    /// From every member's point of view.
    pub(crate) fn check(&mut self, world: &World) {
        if world.members.is_empty() {
            return;
        }
        if let Some(reason) = Excluded::of(world) {
            *self.excluded.entry(reason).or_default() += world.members.len() as u64;
            return;
        }
        let mut facts = facts(world);
        for (index, me) in (0..).zip(0..world.members.len()) {
            let decision = decide(&facts);
            let found = (decision.row.label(), decision.verdict);
            let wanted = law(world, index);
            self.compared += 1;
            *self.rows.entry(wanted.0).or_default() += 1;
            if found != wanted {
                self.differ(world, me, wanted, found, &decision.reason);
            }
            turn(&mut facts, me);
        }
    }

    fn differ(
        &mut self,
        world: &World,
        me: usize,
        wanted: (&str, Verdict),
        found: (&str, Verdict),
        reason: &str,
    ) {
        let kind = format!("oracle {} {:?}, product {} {:?}", wanted.0, wanted.1, found.0, found.1);
        let spelled = |world: &World| {
            let name = ["first", "second", "third", "fourth", "fifth"][me];
            format!("{world}  seen by the {name}; the product says: {reason}\n")
        };
        let weight = world.members.len() * 1000 + format!("{:?}", world.members).len();
        let known = self.differences.entry(kind).or_insert_with(|| Difference {
            count: 0,
            weight: usize::MAX,
            example: String::new(),
        });
        known.count += 1;
        if weight < known.weight {
            known.weight = weight;
            known.example = spelled(world);
        }
    }

    /// Fails if there was a difference; says what was compared.
    pub(crate) fn finish(self, family: &str, rows: &[&str]) {
        println!(
            "{family}: {} fact sets compared; by row {:?}; excluded {:?}",
            self.compared, self.rows, self.excluded
        );
        let mut report = String::new();
        for (kind, difference) in &self.differences {
            let Difference { count, example, .. } = difference;
            write!(report, "\n{kind} ({count} times), smallest:\n{example}")
                .expect("a string takes everything");
        }
        assert!(self.differences.is_empty(), "{family}: product and oracle differ{report}");
        for row in rows {
            assert!(
                self.rows.contains_key(row),
                "{family} never came to row {row}: it compares less than it says"
            );
        }
    }
}
