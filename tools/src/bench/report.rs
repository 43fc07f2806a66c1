//! The result of a run: medians over the rounds, as tables that Markdown understands and as JSON.

use comfy_table::{Table, presets};
use serde::Serialize;

use super::cost::Cost;
use super::measure::Measured;
use crate::units::{Size, grouped, short_time};

/// One round of one cell.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Round {
    /// The floor, if one was measured.
    pub floor: Option<Measured>,
    /// Publishing.
    pub publish: Option<Measured>,
    /// What publishing cost.
    pub publish_cost: Option<Cost>,
    /// Consuming.
    pub consume: Option<Measured>,
    /// What consuming cost.
    pub consume_cost: Option<Cost>,
}

/// All rounds of one size and window.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// Bytes of each body.
    pub size: u64,
    /// Messages on their way, or unsettled, at one time.
    pub window: usize,
    /// Medians.
    pub floor: Option<Measured>,
    /// Medians.
    pub publish: Option<Measured>,
    /// The rate of publishing, of the floor's: the median of the rounds' own ratios, so that a slow moment of the disk
    /// counts for both.
    pub ratio_to_floor: Option<f64>,
    /// Medians.
    pub publish_cost: Option<Cost>,
    /// Medians.
    pub consume: Option<Measured>,
    /// Medians.
    pub consume_cost: Option<Cost>,
    /// What they are medians of.
    pub rounds: Vec<Round>,
}

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// publish, consume or both.
    pub mode: &'static str,
    /// What the latency of consuming is: `ack` (delivery to confirmed ack) or `end-to-end` (publish to delivery).
    pub consume_latency: &'static str,
    /// How many rounds.
    pub rounds: usize,
    /// Where the floor was measured.
    pub floor_directory: Option<String>,
    /// How many brokers the costs are of.
    pub brokers: usize,
    /// By size, then window.
    pub cells: Vec<Cell>,
}

impl Cell {
    /// The medians of these rounds.
    pub fn new(size: u64, window: usize, rounds: Vec<Round>) -> Self {
        let measured = |field: fn(&Round) -> &Option<Measured>| {
            let all: Vec<Measured> = rounds.iter().filter_map(|round| field(round).clone()).collect();
            if all.is_empty() { None } else { Some(Measured::median(&all)) }
        };
        let cost = |field: fn(&Round) -> &Option<Cost>| {
            let all: Vec<Cost> = rounds.iter().filter_map(|round| field(round).clone()).collect();
            if all.is_empty() { None } else { Some(Cost::median(&all)) }
        };
        let ratios: Vec<f64> = rounds
            .iter()
            .filter_map(|round| Some((round.publish.as_ref()?.rate, round.floor.as_ref()?.rate)))
            .filter(|(_, floor)| *floor > 0.0)
            .map(|(cluster, floor)| cluster / floor)
            .collect();
        Self {
            size,
            window,
            floor: measured(|round| &round.floor),
            publish: measured(|round| &round.publish),
            ratio_to_floor: if ratios.is_empty() { None } else { Some(super::measure::median(ratios)) },
            publish_cost: cost(|round| &round.publish_cost),
            consume: measured(|round| &round.consume),
            consume_cost: cost(|round| &round.consume_cost),
            rounds,
        }
    }
}

const NONE: &str = "-";

fn time(micros: f64) -> String {
    short_time(std::time::Duration::from_secs_f64(micros.max(0.0) / 1e6))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are positive and far below 2^64"
)]
fn rate(measured: &Measured) -> String {
    grouped(measured.rate.max(0.0).round() as u64)
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| format!("{value:.digits$}"))
}

fn latencies(measured: &Measured) -> [String; 4] {
    [measured.p50_us, measured.p99_us, measured.p999_us, measured.max_us].map(time)
}

fn markdown(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(header.to_vec());
    table.add_rows(rows);
    table.to_string()
}

impl Report {
    /// Publishing next to the floor; none if it was not measured.
    pub fn publish_table(&self) -> Option<String> {
        let header = [
            "size",
            "window",
            "publish/s",
            "p50",
            "p99",
            "p99.9",
            "max",
            "floor/s",
            "floor p50",
            "floor p99",
            "of floor",
            "unknown %",
        ];
        let rows = self.cells.iter().filter_map(|cell| {
            let measured = cell.publish.as_ref()?;
            let mut row = vec![Size(cell.size).to_string(), cell.window.to_string(), rate(measured)];
            row.extend(latencies(measured));
            match &cell.floor {
                Some(floor) => row.extend([rate(floor), time(floor.p50_us), time(floor.p99_us)]),
                None => row.extend([NONE; 3].map(str::to_owned)),
            }
            row.extend([number(cell.ratio_to_floor, 2), number(Some(measured.unknown_percent), 2)]);
            Some(row)
        });
        let rows: Vec<_> = rows.collect();
        if rows.is_empty() { None } else { Some(markdown(&header, rows)) }
    }

    /// Consuming; none if it was not measured.
    pub fn consume_table(&self) -> Option<String> {
        let header = ["size", "window", "consume/s", "p50", "p99", "p99.9", "max", "unknown %"];
        let rows = self.cells.iter().filter_map(|cell| {
            let measured = cell.consume.as_ref()?;
            let mut row = vec![Size(cell.size).to_string(), cell.window.to_string(), rate(measured)];
            row.extend(latencies(measured));
            row.push(number(Some(measured.unknown_percent), 2));
            Some(row)
        });
        let rows: Vec<_> = rows.collect();
        if rows.is_empty() { None } else { Some(markdown(&header, rows)) }
    }

    /// What a message cost; none if nothing is known.
    pub fn cost_table(&self) -> Option<String> {
        let header = [
            "size",
            "window",
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
                rows.push(vec![
                    Size(cell.size).to_string(),
                    cell.window.to_string(),
                    what.to_owned(),
                    number(cost.broker_cpu_us_per_message, 1),
                    number(cost.client_cpu_us_per_message, 1),
                    number(cost.syncs_per_message, 4),
                    number(cost.log_bytes_per_payload_byte, 2),
                    number(cost.disk_bytes_per_payload_byte, 2),
                ]);
            }
        }
        if rows.is_empty() { None } else { Some(markdown(&header, rows)) }
    }

    /// Messages of which nobody knows whether they arrived, or that were refused: was all well?
    pub fn is_clean(&self) -> bool {
        let clean = |measured: &Option<Measured>| {
            measured.as_ref().is_none_or(|one| one.refused == 0 && one.unknown_percent <= 0.0)
        };
        self.cells
            .iter()
            .flat_map(|cell| &cell.rounds)
            .all(|round| clean(&round.publish) && clean(&round.consume))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(rate: f64) -> Measured {
        Measured { messages: 10, seconds: 1.0, rate, p50_us: 900.0, p99_us: 2_500.0, ..Measured::default() }
    }

    fn report() -> Report {
        let round = |cluster: f64, floor: f64| Round {
            floor: Some(measured(floor)),
            publish: Some(measured(cluster)),
            ..Round::default()
        };
        let rounds = vec![round(100.0, 200.0), round(900.0, 1000.0), round(80.0, 100.0)];
        Report {
            mode: "publish",
            consume_latency: "ack",
            rounds: 3,
            floor_directory: None,
            brokers: 3,
            cells: vec![Cell::new(1024, 64, rounds)],
        }
    }

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_ratios() {
        let report = report();
        assert!((report.cells[0].ratio_to_floor.unwrap() - 0.8).abs() < 1e-9);
        assert!((report.cells[0].publish.as_ref().unwrap().rate - 100.0).abs() < 1e-9);
        assert!(report.is_clean());
    }

    #[test]
    fn tables_are_markdown() {
        let text = report().publish_table().unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].starts_with("| size") && lines[1].starts_with("|--"), "{text}");
        for part in ["1 KiB", "64", "900 µs", "2.50 ms", "0.80"] {
            assert!(lines[2].contains(part), "{part} in {text}");
        }
        assert!(report().consume_table().is_none() && report().cost_table().is_none());
    }
}
