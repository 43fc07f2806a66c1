//! The decision table, row by row, and whole: against an oracle, and by what holds for all facts.

mod combinations;
mod founding;
mod history;
mod kinds;
mod properties;
mod refused;
mod restoring;
mod running;
mod told;

use std::collections::BTreeSet;

use super::{Decision, Row, TABLE, Verdict, decide};
use crate::formation::facts::Facts;
use crate::formation::samples::facts;
use crate::formation::status::InitialStatus;

const REFUSED: Verdict = Verdict::Refuse { exit_status: 3 };

fn outcome(facts: &Facts) -> (Row, Verdict) {
    let decision = decide(facts);
    (decision.row, decision.verdict)
}

/// What one of them sees when all see each other.
fn seen_by(all: &[InitialStatus], own: usize) -> Facts {
    let others = all.iter().enumerate().filter(|(at, _)| *at != own).map(|(_, other)| other.clone());
    facts(all[own].clone(), others)
}

/// The decision of each of them when all see each other.
fn decisions(all: &[InitialStatus]) -> Vec<Decision> {
    (0..all.len()).map(|own| decide(&seen_by(all, own))).collect()
}

#[test]
fn the_table_has_each_row_once_and_in_the_documented_order() {
    let order: Vec<Row> = TABLE.iter().map(|(row, _, _)| *row).collect();
    assert_eq!(order, Row::ALL);
    let labels: BTreeSet<&str> = Row::ALL.iter().map(|row| row.label()).collect();
    assert_eq!(labels.len(), Row::ALL.len());
    for row in Row::ALL {
        assert_eq!(row.to_string(), format!("{row:?}"));
    }
}

#[test]
fn the_operators_reference_lists_the_rows_of_the_table() {
    let page = include_str!("../../../../../../docs/reference/rows.md");
    let listed: Vec<(String, String)> = page
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            let label = cells.next()?.trim_matches('*').to_owned();
            (label.len() == 2 && label.ends_with(char::is_numeric)).then_some(())?;
            Some((label, cells.next()?.to_owned()))
        })
        .collect();
    let table: Vec<(String, String)> =
        Row::ALL.iter().map(|row| (row.label().to_owned(), row.summary().to_owned())).collect();
    assert_eq!(listed, table);
}
