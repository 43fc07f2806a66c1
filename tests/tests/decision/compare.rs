//! Product against oracle: every member's point of view of every world, differences gathered by kind.

use std::collections::BTreeMap;
use std::fmt::Write;

use quorate_core::formation::{Verdict, decide};

use crate::facts::{facts, turn};
use crate::law::law;
use crate::model::World;

/// How many voters there are is not defined while histories fork, so whether fewer than those are here is not either: the
/// fork is told now, or once enough are here.
fn waits_beside_a_fork((row, verdict): &(&str, Verdict)) -> bool {
    matches!((*row, verdict), ("W1", Verdict::Wait) | ("X1", Verdict::NeedsOperator))
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
    differences: BTreeMap<String, Difference>,
    rows: BTreeMap<&'static str, u64>,
}

impl Comparison {
    /// From every member's point of view.
    pub(crate) fn check(&mut self, world: &World) {
        if world.members.is_empty() {
            return;
        }
        let mut facts = facts(world);
        for (index, me) in (0..).zip(0..world.members.len()) {
            let decision = decide(&facts);
            let found = (decision.row.label(), decision.verdict);
            let wanted = law(world, index);
            self.compared += 1;
            *self.rows.entry(wanted.0).or_default() += 1;
            if found != wanted && !(waits_beside_a_fork(&found) && waits_beside_a_fork(&wanted)) {
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
        println!("{family}: {} fact sets compared; by row {:?}", self.compared, self.rows);
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
