//! Every combination of three members: against an oracle, and against each other.

use std::collections::BTreeSet;

use quorate_store::ids::GroupId;

use super::super::{Row, Verdict, decide};
use super::kinds::{KINDS, Kind};
use super::{REFUSED, decisions};
use crate::formation::samples::*;
use crate::formation::status::{InitialStatus, RecoveryMode};

use Kind::*;

/// The rows as a reader of the specification applies them to three brokers, the first being the own one.
fn expected(kinds: [Kind; 3], wait_for: usize, manual: bool) -> (Row, Verdict) {
    let own = kinds[0];
    if own == Damaged {
        return (Row::R2, Verdict::NeedsOperator);
    }
    let any = |test: &dyn Fn(Kind) -> bool| kinds.iter().any(|kind| test(*kind));
    let able = kinds.iter().filter(|kind| kind.is_able()).count();
    let foreign_active = any(&|kind| kind == ForeignActive);
    let foreign = any(&Kind::is_foreign);
    if own.belongs() {
        let running = any(&|kind| matches!(kind, Ran | Active));
        if foreign && !running {
            if foreign_active {
                return (Row::R3, REFUSED);
            }
            if able < 2 {
                return (Row::R3, Verdict::Wait);
            }
        }
        return within(kinds.map(|kind| if kind.is_foreign() { Absent } else { kind }), wait_for, manual);
    }
    // An empty store chooses its cluster: an active one before one that can stand alone before any.
    let ours = any(&Kind::belongs);
    let ours_active = any(&|kind| kind == Active);
    if ours && foreign {
        if ours_active == foreign_active {
            return (Row::R3, Verdict::Wait);
        }
        if foreign_active {
            return (Row::J1, Verdict::Join);
        }
        return within(kinds.map(|kind| if kind.is_foreign() { Absent } else { kind }), wait_for, manual);
    }
    let as_ours = |kind| match kind {
        Foreign => Dirty,
        // Takes part in an active group, so it ran.
        ForeignActive => Active,
        other => other,
    };
    within(kinds.map(as_ours), wait_for, manual)
}

/// The rows beyond R3, within one cluster.
fn within(kinds: [Kind; 3], wait_for: usize, manual: bool) -> (Row, Verdict) {
    let own = kinds[0];
    let count = |test: &dyn Fn(Kind) -> bool| kinds.iter().filter(|kind| test(**kind)).count();
    let able = count(&Kind::is_able);
    let has = |wanted: Kind| kinds.contains(&wanted);
    let or_join = |verdict| if own.is_able() { verdict } else { Verdict::Join };
    if has(Active) {
        return (Row::J1, or_join(Verdict::Resume));
    }
    if has(Ran) {
        let reachable = able + count(&|kind| kind == Absent);
        return match (able >= 2, reachable >= 2) {
            (true, _) => (Row::J2, or_join(Verdict::Resume)),
            (false, true) => (Row::Q1, Verdict::Wait),
            (false, false) => (Row::Q1, Verdict::NeedsOperator),
        };
    }
    if count(&|kind| !matches!(kind, Absent | Damaged)) < wait_for {
        return (Row::W1, Verdict::Wait);
    }
    if count(&Kind::belongs) == 0 {
        return if count(&|kind| kind == Empty) >= 2 {
            (Row::F2, Verdict::Form)
        } else {
            (Row::F3, Verdict::Wait)
        };
    }
    let clean = has(CleanOne) || has(CleanTwo);
    let missing = count(&|kind| kind == Absent);
    if manual {
        if (has(CleanOne) && has(CleanTwo)) || (clean && (has(Dirty) || has(Untrusted))) {
            return (Row::C3, Verdict::NeedsOperator);
        }
        if !clean && missing == 0 {
            return (Row::C2, Verdict::NeedsOperator);
        }
    }
    if able >= 2 && (clean || !manual) {
        return (Row::C1, or_join(Verdict::Restore));
    }
    if missing > 0 && able + missing >= 2 {
        (Row::W2, Verdict::Wait)
    } else {
        (Row::N1, Verdict::NeedsOperator)
    }
}

#[test]
fn every_combination_of_three_members_has_its_row() {
    let mut rows = BTreeSet::new();
    let mut tried = 0;
    for a in KINDS.into_iter().filter(|kind| *kind != Absent && !kind.is_foreign()) {
        for b in KINDS {
            for c in KINDS {
                for wait_for in [1, 2, 3] {
                    for manual in [false, true] {
                        let seen = [b.status(2), c.status(3)].into_iter().flatten();
                        let mut facts = facts(a.status(1).unwrap(), seen);
                        for status in facts.seen.iter_mut().chain([&mut facts.own]) {
                            status.wait_for = wait_for;
                            status.recovery =
                                if manual { RecoveryMode::Manual } else { RecoveryMode::Automatic };
                        }
                        let wanted = expected([a, b, c], usize::try_from(wait_for).unwrap(), manual);
                        let decision = decide(&facts);
                        assert_eq!(
                            (decision.row, decision.verdict),
                            wanted,
                            "{a:?} {b:?} {c:?}, wait for {wait_for}, manual {manual}: {}",
                            decision.reason
                        );
                        facts.seen.reverse();
                        assert_eq!(decide(&facts), decision, "the order of the peers matters");
                        rows.insert(decision.row);
                        tried += 1;
                    }
                }
            }
        }
    }
    assert_eq!(tried, 8 * 11 * 11 * 3 * 2);
    let special = [Row::S1, Row::R1, Row::R4, Row::R5, Row::P1, Row::F1, Row::X1, Row::O1];
    for row in Row::ALL {
        assert_ne!(rows.contains(&row), special.contains(&row), "{row} is shown here or by its own test");
    }
}

#[test]
fn brokers_that_see_the_same_facts_take_compatible_parts() {
    // Whatever three brokers are, no two of them go on by different plans.
    for a in KINDS {
        for b in KINDS {
            for c in KINDS {
                let all: Vec<InitialStatus> = [(a, 1), (b, 2), (c, 3)]
                    .into_iter()
                    .filter_map(|(kind, number)| kind.status(number))
                    .collect();
                let decisions = decisions(&all);
                let forms = decisions.iter().any(|decision| decision.verdict == Verdict::Form);
                let restores = decisions.iter().any(|decision| decision.verdict == Verdict::Restore);
                assert!(!(forms && restores), "{a:?} {b:?} {c:?} both form and restore");
                for (status, decision) in all.iter().zip(&decisions) {
                    if matches!(decision.verdict, Verdict::Restore | Verdict::Resume) {
                        assert_eq!(decision.cluster_id, status.cluster_id, "{a:?} {b:?} {c:?}");
                        assert!(status.is_active(GroupId::SYSTEM) || status.groups[0].trusted);
                    }
                }
            }
        }
    }
}
