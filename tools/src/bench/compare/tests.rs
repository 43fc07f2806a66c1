//! Whole comparisons.

use super::file::tests::found;
use super::*;

fn scaled(found: &Found, rate: f64) -> Found {
    let mut scaled = found.clone();
    for round in &mut scaled.cells.0[0].rounds.0 {
        if let Some(publish) = &mut round.publish {
            publish.rate = 500.0 * rate;
        }
    }
    scaled
}

fn with(old: &Found, new: &Found) -> Comparison {
    compare(old, new, ["old", "new"], 0.1, false).unwrap()
}

#[test]
fn a_run_is_the_same_as_itself() {
    let found = found();
    let comparison = with(&found, &found);
    // A rate and two latencies; no costs were read.
    assert_eq!((comparison.lines.len(), comparison.same), (3, 3));
    assert_eq!(comparison.status(), Status::Done);
    assert_eq!(comparison.details(), None);
}

#[test]
fn slower_beyond_the_tolerance_is_status_1_and_faster_is_0() {
    let old = scaled(&found(), 1.0);
    let slower = with(&old, &scaled(&old, 0.5));
    assert_eq!((slower.slower, slower.beyond_tolerance, slower.status()), (1, 1, Status::Warning));
    assert!(slower.table().contains("0.50 SLOWER"), "{}", slower.table());
    let details = slower.details().unwrap();
    for part in ["500.0 [500.0 … 500.0]", "250.0 [250.0 … 250.0]", "slower"] {
        assert!(details.contains(part), "{part} in {details}");
    }
    let little = with(&old, &scaled(&old, 0.95));
    assert_eq!((little.slower, little.beyond_tolerance, little.status()), (1, 0, Status::Done));
    let faster = with(&old, &scaled(&old, 2.0));
    assert_eq!((faster.faster, faster.slower, faster.status()), (1, 0, Status::Done));
}

#[test]
fn runs_that_were_given_something_else_are_refused_by_name_and_shown_if_wanted() {
    let old = found();
    let mut new = old.clone();
    new.brokers = 5;
    let failure = compare(&old, &new, ["a", "b"], 0.1, false).unwrap_err();
    assert_eq!((failure.status, failure.code.as_str()), (Status::Refused, "not-comparable"));
    assert!(failure.message.contains("brokers: 3 and 5"), "{failure}");
    let shown = compare(&old, &new, ["a", "b"], 0.1, true).unwrap();
    assert_eq!((shown.differences.len(), shown.lines.len()), (1, 3));
}

#[test]
fn with_one_round_nothing_is_claimed() {
    let old = found();
    let mut new = scaled(&old, 0.1);
    new.cells.0[0].rounds.0.truncate(1);
    let failure = compare(&old, &new, ["a", "b"], 0.1, false).unwrap_err();
    assert!(failure.message.contains("1 times"), "{failure}");
    let shown = compare(&old, &new, ["a", "b"], 0.1, true).unwrap();
    assert_eq!((shown.unclear, shown.status()), (3, Status::Done));
}

#[test]
fn a_run_that_did_not_measure_all_is_refused_and_shown_if_wanted() {
    let old = found();
    let text = serde_json::json!({ "code": "interrupted", "message": "cut", "next": [] });
    let mut report = serde_json::to_value(crate::bench::report::tests::report(None)).unwrap();
    report["incomplete"] = text;
    report["messages"]["lost"] = 3.into();
    let new = file::tests::parsed(&report.to_string());
    let failure = compare(&old, &new, ["a", "b"], 0.1, false).unwrap_err();
    assert!(failure.message.starts_with("b is the report") && failure.message.ends_with("cut"), "{failure}");
    let shown = compare(&old, &new, ["a", "b"], 0.1, true).unwrap();
    assert_eq!((shown.new.incomplete.as_deref(), shown.new.messages.lost), (Some("cut"), Some(3)));
    assert_eq!((shown.old.incomplete, shown.old.messages.lost), (None, None));
}

#[test]
fn where_nothing_was_measured_no_latency_is_called_faster() {
    let old = found();
    let mut new = scaled(&old, 0.0);
    for round in &mut new.cells.0[0].rounds.0 {
        let publish = round.publish.as_mut().unwrap();
        (publish.p50_us, publish.p99_us) = (0.0, 0.0);
    }
    let comparison = with(&scaled(&old, 1.0), &new);
    assert_eq!((comparison.lines.len(), comparison.slower, comparison.faster), (1, 1, 0));
}

#[test]
fn without_a_common_cell_there_is_nothing_to_show() {
    let old = found();
    let mut new = old.clone();
    new.cells.0.clear();
    assert!(compare(&old, &new, ["a", "b"], 0.1, true).is_err());
}
