//! What holds for all facts, drawn at random: the order of the peers does not matter, everyone sees the same row, an
//! empty store more changes no source.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use quorate_store::ids::{Epoch, GroupId, Incarnation, RaftId};
use quorate_store::stamp::{EpochCause, LeftOut};
use uuid::Uuid;

use super::super::{Decision, Row, Verdict, decide};
use super::{decisions, seen_by};
use crate::formation::lineage::{Relation, relation};
use crate::formation::samples::*;
use crate::formation::status::{InitialStatus, RecoveryMode, StoreState};

/// Any of the states that a persistent store of the cluster may be in, with histories that fork, end early and were
/// marked.
fn member(number: u128) -> impl Strategy<Value = InitialStatus> {
    let state = 0..9u8;
    let history = vec((2..5u128, 0..5u8), 0..3);
    let record = (any::<bool>(), 0..3u64, 18..23u64, 0..4u128);
    (state, history, vec(record, 3), 18..23u64, any::<[bool; 4]>(), 1..4u32).prop_map(
        move |(state, history, records, index, flags, wait_for)| {
            let [trusted, manual, clients, sole] = flags;
            let mut status = match state {
                0 => clean(number, 1),
                1 => clean(number, 2),
                2 => ran(number),
                3 => active(number),
                _ => dirty(number),
            };
            status.wait_for = wait_for;
            if manual {
                status.recovery = RecoveryMode::Manual;
            }
            status.groups[0].position = position(2, index);
            let left: Vec<LeftOut> = (1..)
                .zip(&records)
                .filter(|(other, _)| *other != number)
                .map(|(other, (known, incarnation, index, tip))| {
                    let mut record = left_out(&dirty(other));
                    match &mut record.known {
                        Some(seen) if *known => {
                            seen.incarnation = Incarnation(*incarnation);
                            seen.position = position(2, *index);
                            seen.tip = Uuid::from_u128(*tip);
                        }
                        other => *other = None,
                    }
                    record
                })
                .collect();
            for (id, cause) in history {
                let cause = match cause {
                    0 => EpochCause::Override { sole: RaftId(1), lease_ms: 60_000 },
                    1 => EpochCause::Solo { sole: RaftId(1), number: 1 },
                    2 => EpochCause::TakeOver { sole: RaftId(1), number: 1 },
                    alone => EpochCause::Mark {
                        recovery: Uuid::from_u128(id),
                        alone: alone == 3,
                        members: 3,
                        sole: RaftId(1),
                    },
                };
                status = forced(status, id, cause, &left);
            }
            let part = &mut status.groups[0];
            part.trusted = trusted;
            if clients {
                part.client_epochs = part.lineage.iter().map(|epoch| epoch.number).collect();
            }
            if sole && part.lineage.len() > 1 {
                part.position.epoch = Epoch(u32::try_from(part.lineage.len()).unwrap());
                part.voters = voters(&[number]);
            }
            let tip = part.lineage.last().unwrap().id;
            if state == 4 && status.groups[0].lineage.len() > 1 {
                status.state = StoreState::Recovered { recovery: tip };
            }
            status
        },
    )
}

/// Up to three members of one cluster, some of them missing or replaced by something that holds nothing.
fn members() -> impl Strategy<Value = Vec<InitialStatus>> {
    let one = |number: u128| {
        prop_oneof![
            6 => member(number).prop_map(Some),
            1 => Just(Some(empty(number))),
            1 => Just(Some(damaged(number))),
            1 => Just(None),
        ]
    };
    (one(1), one(2), one(3)).prop_map(|(a, b, c)| [a, b, c].into_iter().flatten().collect())
}

/// Who goes on from the own log at once.
fn sources(all: &[InitialStatus], decisions: &[Decision]) -> BTreeSet<u128> {
    all.iter()
        .zip(decisions)
        .filter(|(_, decision)| matches!(decision.verdict, Verdict::Restore | Verdict::Resume))
        .map(|(status, _)| status.key.store.0.as_u128())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_the_peers_does_not_matter(all in members(), turn in 0..3usize, reverse in any::<bool>()) {
        prop_assume!(!all.is_empty());
        let first = seen_by(&all, 0);
        let mut second = first.clone();
        if !second.seen.is_empty() {
            let by = turn % second.seen.len();
            second.seen.rotate_left(by);
        }
        if reverse {
            second.seen.reverse();
        }
        prop_assert_eq!(decide(&first), decide(&second));
    }

    #[test]
    fn everyone_who_sees_the_same_comes_to_the_same_row(all in members()) {
        let decisions = decisions(&all);
        let counted: Vec<&Decision> =
            decisions.iter().filter(|decision| decision.row != Row::R2).collect();
        for pair in counted.windows(2) {
            prop_assert_eq!(pair[0].row, pair[1].row, "{:?}", decisions);
        }
        // Whoever restores does so from one history.
        let restored: Vec<_> = all
            .iter()
            .zip(&decisions)
            .filter(|(status, decision)| {
                matches!(decision.verdict, Verdict::Restore | Verdict::Resume) && !status.is_active(GroupId::SYSTEM)
            })
            .map(|(status, _)| &status.groups[0].lineage)
            .collect();
        for pair in restored.windows(2) {
            prop_assert_eq!(relation(pair[0], pair[1]), Relation::Same);
        }
    }

    #[test]
    fn an_added_empty_member_never_changes_the_source(all in members(), wait_for in 1..4u32) {
        // Enough are here in any case, so that the number of members is not what is decided by.
        let mut all = all;
        for status in &mut all {
            status.wait_for = 1;
        }
        prop_assume!(all.iter().any(InitialStatus::belongs));
        let before = decisions(&all);
        let mut more = all.clone();
        let mut added = empty(4);
        added.wait_for = wait_for.min(1);
        more.push(added);
        let after = decisions(&more);
        prop_assert_eq!(sources(&all, &before), sources(&more, &after));
        let last = after.last().expect("the added one decides, too");
        prop_assert!(!matches!(last.verdict, Verdict::Form | Verdict::Restore | Verdict::Resume), "{:?}", last);
    }

    #[test]
    fn only_trusted_stores_restore_and_only_marked_ones_without_a_majority(all in members()) {
        for (status, decision) in all.iter().zip(decisions(&all)) {
            if decision.verdict == Verdict::Restore {
                prop_assert!(status.groups[0].trusted, "{:?}", decision);
            }
            if decision.row == Row::O1 && decision.verdict == Verdict::Restore {
                let marked = matches!(status.state, StoreState::Recovered { .. });
                prop_assert!(marked, "{:?}", decision);
            }
        }
    }
}
