//! A report as tables that Markdown understands.

use std::time::Duration;

use comfy_table::{Table, presets};

use super::measure::{Measured, OpenLoop, Percentiles, to_float};
use super::report::{Cell, Report};
use crate::units::{Size, grouped, rounded, short_time};

const NONE: &str = "-";
const LATENCIES: [&str; 6] = ["p50", "p90", "p99", "p99.9", "p99.99", "max"];

fn time(micros: f64) -> String {
    short_time(Duration::try_from_secs_f64(micros.max(0.0) / 1e6).unwrap_or(Duration::MAX))
}

/// Bodies, in MiB a second.
fn throughput(cell: &Cell, measured: &Measured) -> String {
    let mebibytes = measured.rate * to_float(cell.point.size) / f64::from(1 << 20);
    if mebibytes < 10.0 { format!("{mebibytes:.2}") } else { rounded(mebibytes) }
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| format!("{value:.digits$}"))
}

fn latencies(latency: &Percentiles) -> [String; 6] {
    let Percentiles { p50_us, p90_us, p99_us, p999_us, p9999_us, max_us, .. } = latency;
    [p50_us, p90_us, p99_us, p999_us, p9999_us, max_us].map(|micros| time(*micros))
}

/// Rows under a header, as Markdown.
pub fn markdown(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(header.to_vec());
    table.add_rows(rows);
    table.to_string()
}

/// A table; none without rows.
fn table<'a>(
    first: &[&'a str],
    more: impl IntoIterator<Item = &'a str>,
    rows: Vec<Vec<String>>,
) -> Option<String> {
    let header: Vec<&str> = first.iter().copied().chain(more).collect();
    if rows.is_empty() { None } else { Some(markdown(&header, rows)) }
}

impl Report {
    fn is_open(&self) -> bool {
        self.cells.iter().any(|cell| cell.point.rate.is_some())
    }

    /// What names a cell.
    fn key_header(&self) -> &'static [&'static str] {
        if self.is_open() { &["size", "window", "wanted/s"] } else { &["size", "window"] }
    }

    fn key(&self, cell: &Cell) -> Vec<String> {
        let mut row = vec![Size(cell.point.size).to_string(), cell.point.window.to_string()];
        if self.is_open() {
            row.push(cell.point.rate.map_or_else(|| NONE.to_owned(), grouped));
        }
        row
    }

    /// Every table there is something for, with its title.
    pub fn tables(&self) -> Vec<(String, String)> {
        let publish = if self.is_open() {
            "Publish, open loop (latency from when a message was due to its confirm)"
        } else {
            "Publish (latency from publish to confirm)"
        };
        let consume = match (self.consume_latency, self.is_open()) {
            ("end-to-end", true) => "Consume (latency from when a message was due to its delivery)",
            ("end-to-end", false) => "Consume (latency from publish to delivery)",
            _ => "Consume (latency from delivery to confirmed ack)",
        };
        let service =
            "The schedule, and the service time (from send to confirm, without the waiting before it)";
        let cost = format!("Cost, {} brokers together", self.brokers);
        [
            (publish.to_owned(), self.publish_table()),
            (service.to_owned(), self.schedule_table()),
            (consume.to_owned(), self.consume_table()),
            (cost, self.cost_table()),
        ]
        .into_iter()
        .filter_map(|(title, table)| Some((title, table?)))
        .collect()
    }

    /// Publishing, next to the floor if there is one.
    pub fn publish_table(&self) -> Option<String> {
        let has_floor = self.cells.iter().any(|cell| cell.floor.is_some());
        let rows = self.cells.iter().filter_map(|cell| {
            let measured = cell.publish.as_ref()?;
            let mut row = self.key(cell);
            row.extend([rounded(measured.rate), throughput(cell, measured)]);
            row.extend(latencies(&measured.latency));
            if let Some(floor) = &cell.floor {
                row.extend([rounded(floor.rate), time(floor.latency.p50_us), time(floor.latency.p99_us)]);
                row.push(number(cell.ratio_to_floor, 2));
            }
            row.push(number(Some(measured.unknown_percent), 2));
            Some(row)
        });
        let floor: &[&str] = if has_floor { &["floor/s", "floor p50", "floor p99", "of floor"] } else { &[] };
        let columns = ["publish/s", "MiB/s"]
            .into_iter()
            .chain(LATENCIES)
            .chain(floor.iter().copied())
            .chain(["unknown %"]);
        table(self.key_header(), columns, rows.collect())
    }

    /// How the schedule was kept; none in a closed loop.
    pub fn schedule_table(&self) -> Option<String> {
        let rows = self.cells.iter().filter_map(|cell| {
            let measured = cell.publish.as_ref()?;
            let OpenLoop { late, late_by_client, unsent, kept_up, ref service, .. } =
                *measured.open_loop.as_ref()?;
            let mut row = self.key(cell);
            row.push(rounded(measured.rate));
            row.push(if kept_up { "yes" } else { "NO" }.to_owned());
            row.extend([late, late_by_client, unsent].map(grouped));
            row.extend(latencies(service));
            Some(row)
        });
        let columns =
            ["achieved/s", "kept up", "late", "by client", "never sent"].into_iter().chain(LATENCIES);
        table(self.key_header(), columns, rows.collect())
    }

    /// Consuming.
    pub fn consume_table(&self) -> Option<String> {
        let rows = self.cells.iter().filter_map(|cell| {
            let measured: &Measured = cell.consume.as_ref()?;
            let mut row = self.key(cell);
            row.extend([rounded(measured.rate), throughput(cell, measured)]);
            row.extend(latencies(&measured.latency));
            row.push(number(Some(measured.unknown_percent), 2));
            Some(row)
        });
        let columns = ["consume/s", "MiB/s"].into_iter().chain(LATENCIES).chain(["unknown %"]);
        table(self.key_header(), columns, rows.collect())
    }

    /// What a message cost.
    pub fn cost_table(&self) -> Option<String> {
        let columns = [
            "what",
            "broker CPU µs/msg",
            "client CPU µs/msg",
            "syncs/msg",
            "log B/payload B",
            "disk B/payload B",
        ];
        let mut rows = Vec::new();
        for cell in &self.cells {
            for (what, cost) in [("publish", &cell.publish_cost), ("consume", &cell.consume_cost)] {
                let Some(cost) = cost else { continue };
                let mut row = self.key(cell);
                row.extend([
                    what.to_owned(),
                    number(cost.broker_cpu_us_per_message, 1),
                    number(cost.client_cpu_us_per_message, 1),
                    number(cost.syncs_per_message, 4),
                    number(cost.log_bytes_per_payload_byte, 2),
                    number(cost.disk_bytes_per_payload_byte, 2),
                ]);
                rows.push(row);
            }
        }
        table(self.key_header(), columns, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;

    #[test]
    fn tables_are_markdown() {
        let report = report(None);
        let text = report.publish_table().unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].starts_with("| size") && lines[1].starts_with("|--"), "{text}");
        for part in ["1 KiB", "64", "| 100 ", "| 0.10 ", "900 µs", "2.50 ms", "0.80"] {
            assert!(lines[2].contains(part), "{part} in {text}");
        }
        assert_eq!(report.tables().len(), 1);
        assert!(report.consume_table().is_none() && report.cost_table().is_none());
    }

    #[test]
    fn an_open_loop_shows_what_was_wanted_beside_what_was_achieved() {
        let report = report(Some(500));
        let text = report.schedule_table().unwrap();
        for part in ["wanted/s", "| 500", "| 100", "NO", "| 12", "| 3 ", "| 9 ", "400 µs"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(report.publish_table().unwrap().contains("wanted/s"));
    }
}
