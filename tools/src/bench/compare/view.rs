//! A comparison for people.

use super::spread::{Change, Verdict};
use super::{Comparison, Line};
use crate::bench::tables::markdown;
use crate::exit::Status;
use crate::units::{Size, grouped};

/// Columns of the table, by the names in the report.
const COLUMNS: [(&str, &str); 7] = [
    ("rate", "rate"),
    ("p50_us", "p50"),
    ("p99_us", "p99"),
    ("broker_cpu_us_per_message", "CPU/msg"),
    ("syncs_per_message", "syncs/msg"),
    ("log_bytes_per_payload_byte", "log B/B"),
    ("disk_bytes_per_payload_byte", "disk B/B"),
];

fn cell(change: &Change) -> String {
    let ratio = change.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
    match change.verdict {
        Verdict::Same => ratio,
        Verdict::Unclear => format!("{ratio} ?"),
        Verdict::Slower if change.beyond_tolerance => format!("{ratio} SLOWER"),
        verdict => format!("{ratio} {}", verdict.word()),
    }
}

impl Comparison {
    /// 1 if something is slower by more than the tolerance.
    pub fn status(&self) -> Status {
        if self.beyond_tolerance > 0 { Status::Warning } else { Status::Done }
    }

    /// The first line.
    pub fn verdict(&self) -> String {
        let percent = self.tolerance * 100.0;
        let Self { faster, slower, beyond_tolerance, same, unclear, .. } = self;
        let mut text = format!(
            "{slower} of {} numbers slower, {beyond_tolerance} of them by more than {percent:.0} %; {faster} faster, {same} the same",
            self.lines.len()
        );
        if *unclear > 0 {
            let needed = super::ROUNDS_NEEDED.to_string();
            text.extend([", ", &unclear.to_string(), " unclear (fewer than ", &needed, " rounds)"]);
        }
        text
    }

    fn has_rates(&self) -> bool {
        self.lines.iter().any(|line| line.rate.is_some())
    }

    fn key(&self, line: &Line) -> Vec<String> {
        let mut key = vec![Size(line.size).to_string(), line.window.to_string()];
        if self.has_rates() {
            key.push(line.rate.map_or_else(|| "-".to_owned(), grouped));
        }
        key.push(line.what.to_owned());
        key
    }

    /// One row for each cell and phase: the ratio of the medians, new by old, and what is not the same.
    pub fn table(&self) -> String {
        let mut header = vec!["size", "window"];
        if self.has_rates() {
            header.push("wanted/s");
        }
        header.push("what");
        header.extend(COLUMNS.map(|(_, title)| title));
        let mut rows: Vec<Vec<String>> = Vec::new();
        let phases = self.lines.chunk_by(|one, next| {
            (one.size, one.window, one.rate, one.what) == (next.size, next.window, next.rate, next.what)
        });
        for phase in phases {
            let Some(first) = phase.first() else { continue };
            let mut row = self.key(first);
            row.extend(COLUMNS.map(|(metric, _)| {
                let line = phase.iter().find(|line| line.metric == metric);
                line.map_or_else(|| "-".to_owned(), |line| cell(&line.change))
            }));
            rows.push(row);
        }
        markdown(&header, rows)
    }

    /// Every number that is not the same, with the ranges of its rounds; none if there is none.
    pub fn details(&self) -> Option<String> {
        let changed = |line: &&Line| matches!(line.change.verdict, Verdict::Faster | Verdict::Slower);
        let rows: Vec<Vec<String>> = self
            .lines
            .iter()
            .filter(changed)
            .map(|line| {
                let Change { old, new, verdict, .. } = line.change;
                let mut row = self.key(line);
                row.push(line.metric.to_owned());
                row.extend([old, new].map(|side| {
                    format!("{} [{} … {}]", short(side.median), short(side.least), short(side.most))
                }));
                row.push(verdict.word().to_owned());
                row
            })
            .collect();
        if rows.is_empty() {
            return None;
        }
        let mut header = vec!["size", "window"];
        if self.has_rates() {
            header.push("wanted/s");
        }
        header.extend([
            "what",
            "number",
            "old: median [least … most]",
            "new: median [least … most]",
            "verdict",
        ]);
        Some(markdown(&header, rows))
    }
}

/// A number with some four digits.
fn short(value: f64) -> String {
    match value {
        small if small < 10.0 => format!("{small:.3}"),
        middle if middle < 1000.0 => format!("{middle:.1}"),
        large => format!("{large:.0}"),
    }
}
