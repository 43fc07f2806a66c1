//! Brokers that meet an active group: row J1.

use quorate_store::ids::{Incarnation, Term};

use super::super::{Row, Verdict, decide};
use super::outcome;
use crate::formation::samples::*;
use crate::formation::status::RecordedRun;

#[test]
fn j1_an_empty_store_under_a_recorded_name_is_updated_and_named() {
    let mut fresh = empty(4);
    fresh.name = "c".into();
    let decision = decide(&facts(fresh, [active(1), active(2)]));
    assert_eq!((decision.row, decision.verdict), (Row::J1, Verdict::Join));
    assert_eq!(decision.next, ["quorate member replace --name c"]);
    assert!(decision.reason.contains(&store(3).to_string()), "{}", decision.reason);
}

#[test]
fn j1_lineages_decide_who_resumes() {
    let with = |ids: &[u128], number: u128| {
        let mut status = dirty(number);
        let part = &mut status.groups[0];
        part.lineage = epochs(ids);
        part.client_epochs = part.lineage.iter().map(|epoch| epoch.number).collect();
        status
    };
    let mut leader = active(1);
    leader.groups[0].lineage = epochs(&[1, 2]);
    assert_eq!(outcome(&facts(with(&[1, 2], 2), [leader.clone()])), (Row::J1, Verdict::Resume));
    assert_eq!(outcome(&facts(with(&[1], 2), [leader.clone()])), (Row::J1, Verdict::Join));
    for forked in [&[1, 3][..], &[1, 2, 3], &[4]] {
        let decision = decide(&facts(with(forked, 2), [leader.clone()]));
        assert_eq!((decision.row, decision.verdict), (Row::J1, Verdict::NeedsOperator), "{forked:?}");
        assert!(decision.reason.contains("forked"), "{}", decision.reason);
    }
    // Not a voter of the active configuration.
    assert_eq!(outcome(&facts(with(&[1, 2], 4), [leader])), (Row::J1, Verdict::Join));
}

#[test]
fn j1_the_word_of_the_highest_term_counts() {
    // b still believes in a leadership of which c was no voter; a leads a later one of which it is.
    let mut old = active(2);
    old.groups[0].voters = voters(&[1, 2]);
    let mut new = active(1);
    new.groups[0].active.as_mut().unwrap().term = Term(9);
    assert_eq!(outcome(&facts(dirty(3), [old.clone(), new.clone()])), (Row::J1, Verdict::Resume));
    new.groups[0].voters = voters(&[1, 2]);
    old.groups[0].voters = voters(&[1, 2, 3]);
    assert_eq!(outcome(&facts(dirty(3), [old, new])), (Row::J1, Verdict::Join));
}

#[test]
fn an_older_copy_of_a_store_is_not_trusted() {
    let record = |incarnation, run_id: Option<u128>| {
        vec![RecordedRun {
            store: store(1),
            incarnation: Incarnation(incarnation),
            run: run_id.map(run),
            positions: Vec::new(),
        }]
    };
    // The stamp of `dirty(1)` says incarnation 1 and run 1001.
    for (recorded, trusted) in [
        (record(0, Some(7)), true),
        (record(1, None), true),
        (record(1, Some(1001)), true),
        (record(1, Some(7)), false),
        (record(2, None), false),
    ] {
        let mut witness = active(2);
        witness.recorded = recorded.clone();
        let decision = decide(&facts(dirty(1), [witness]));
        let wanted = if trusted { Verdict::Resume } else { Verdict::Join };
        assert_eq!((decision.row, decision.verdict), (Row::J1, wanted), "{recorded:?}");
        assert_eq!(decision.reason.contains("SAFE-2003"), !trusted);
        // Nor does it help to restore.
        let mut witness = dirty(2);
        witness.recorded = recorded;
        let mut all = facts(dirty(1), [witness]);
        all.own.wait_for = 2;
        all.seen[0].wait_for = 2;
        assert_eq!(decide(&all).row, if trusted { Row::C1 } else { Row::W2 });
    }
}
