//! The result of a run: medians over the rounds. Its JSON is described in docs/operate/bench.md; fields are only added.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::account::Account;
use super::cost::Cost;
use super::measure::{Measured, median};
use super::plan::{Plan, Point};
use crate::exit::{Failure, Status};
use crate::units::{Size, grouped, rounded};

/// What a report says it is.
pub const FORMAT: &str = "quorate-bench";
/// The version of its fields. What reads an older one may take a newer one for it; only a change of meaning raises it.
pub const SCHEMA: u32 = 1;

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
    /// What became of the messages.
    pub messages: Account,
}

/// All rounds of one size, window and rate.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// Size, window and rate.
    #[serde(flatten)]
    pub point: Point,
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
    /// Sums.
    pub messages: Account,
    /// What they are medians and sums of.
    pub rounds: Vec<Round>,
}

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: &'static str,
    /// [`SCHEMA`].
    pub schema: u32,
    /// Of this program.
    pub version: &'static str,
    /// When it ended, in milliseconds since 1970.
    pub time_unix_ms: u64,
    /// What was asked for, defaults included.
    pub arguments: Plan,
    /// publish, consume or both.
    pub mode: &'static str,
    /// What the latency of consuming is: `ack` (delivery to confirmed ack) or `end-to-end` (publish, or when it was due,
    /// to delivery).
    pub consume_latency: &'static str,
    /// How many rounds.
    pub rounds: usize,
    /// Where the floor was measured.
    pub floor_directory: Option<String>,
    /// How many brokers the costs are of.
    pub brokers: usize,
    /// What became of the messages of all rounds.
    pub messages: Account,
    /// Why it ended before all was measured; none if all was.
    pub incomplete: Option<Failure>,
    /// By size, then window, then rate. Of an incomplete run those of which something was measured.
    pub cells: Vec<Cell>,
}

impl Cell {
    /// The medians of these rounds.
    pub fn new(point: Point, rounds: Vec<Round>) -> Self {
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
            point,
            floor: measured(|round| &round.floor),
            publish: measured(|round| &round.publish),
            ratio_to_floor: if ratios.is_empty() { None } else { Some(median(ratios)) },
            publish_cost: cost(|round| &round.publish_cost),
            consume: measured(|round| &round.consume),
            consume_cost: cost(|round| &round.consume_cost),
            messages: rounds.iter().fold(Account::default(), |sum, round| sum.with(&round.messages)),
            rounds,
        }
    }

    /// Whose fault it is that the schedule was not kept, in one sentence; none if it was, or there was none.
    pub fn not_kept(&self) -> Option<String> {
        let publish = self.publish.as_ref()?;
        let open = publish.open_loop.as_ref().filter(|open| !open.kept_up)?;
        let by_client = open.late_by_client.saturating_mul(2) > open.late;
        let who = if by_client { "this client" } else { "the cluster" };
        let Point { size, window, .. } = self.point;
        let (wanted, achieved) = (rounded(open.wanted_rate), rounded(publish.rate));
        Some(format!(
            "{who} did not keep up with {wanted} messages/s at {}, window {window}: {achieved}/s achieved, {} of {} late, \
             {} never sent",
            Size(size),
            grouped(open.late),
            grouped(open.scheduled),
            grouped(open.unsent)
        ))
    }
}

impl Report {
    /// Of what was measured now.
    pub fn new(plan: Plan, brokers: usize, cells: Vec<Cell>, incomplete: Option<Failure>) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            format: FORMAT,
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            time_unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            mode: plan.mode.name(),
            consume_latency: if plan.together { "end-to-end" } else { "ack" },
            rounds: usize::from(plan.rounds),
            floor_directory: plan.floor_dir.clone(),
            brokers,
            messages: cells.iter().fold(Account::default(), |sum, cell| sum.with(&cell.messages)),
            arguments: plan,
            incomplete,
            cells,
        }
    }

    /// Whether all was well: lost messages first, then whether all was measured, then whether the schedule was kept.
    pub fn status(&self) -> Status {
        match (self.messages.status(), &self.incomplete) {
            (Status::Refused, _) => return Status::Refused,
            (_, Some(failure)) => return failure.status,
            (_, None) => {}
        }
        match self.messages.status() {
            Status::Done if self.cells.iter().any(|cell| cell.not_kept().is_some()) => Status::Warning,
            other => other,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::measure::{OpenLoop, Percentiles};
    use super::super::plan::tests::plan;
    use super::*;

    fn measured(rate: f64) -> Measured {
        let latency = Percentiles { p50_us: 900.0, p99_us: 2_500.0, ..Percentiles::default() };
        Measured { messages: 10, seconds: 1.0, rate, latency, ..Measured::default() }
    }

    /// Publishing in three rounds, at a rate if one is given.
    pub(in crate::bench) fn report(rate: Option<u64>) -> Report {
        let open_loop = rate.map(|rate| OpenLoop {
            wanted_rate: super::super::measure::to_float(rate),
            scheduled: 10,
            late: 4,
            late_by_client: 1,
            unsent: 3,
            kept_up: false,
            service: Percentiles { p50_us: 400.0, ..Percentiles::default() },
        });
        let round = |cluster: f64, floor: f64| Round {
            floor: Some(measured(floor)),
            publish: Some(Measured { open_loop: open_loop.clone(), ..measured(cluster) }),
            messages: Account { published: 10, confirmed: 10, ..Account::default() },
            ..Round::default()
        };
        let rounds = vec![round(100.0, 200.0), round(900.0, 1000.0), round(80.0, 100.0)];
        let point = Point { size: 1024, window: 64, rate };
        Report::new(plan(), 3, vec![Cell::new(point, rounds)], None)
    }

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_ratios() {
        let report = report(None);
        assert!((report.cells[0].ratio_to_floor.unwrap() - 0.8).abs() < 1e-9);
        assert!((report.cells[0].publish.as_ref().unwrap().rate - 100.0).abs() < 1e-9);
        assert_eq!((report.messages.confirmed, report.status()), (30, Status::Done));
    }

    #[test]
    fn a_schedule_that_was_not_kept_is_a_warning_and_says_whose_fault_it_is() {
        let mut report = report(Some(500));
        assert_eq!(report.status(), Status::Warning);
        let text = report.cells[0].not_kept().unwrap();
        assert!(
            text.starts_with("the cluster did not keep up with 500 messages/s at 1 KiB, window 64: 100/s"),
            "{text}"
        );
        assert!(text.ends_with("12 of 30 late, 9 never sent"), "{text}");
        let publish = report.cells[0].publish.as_mut().unwrap();
        publish.open_loop.as_mut().unwrap().late_by_client = 7;
        assert!(report.cells[0].not_kept().unwrap().starts_with("this client"));
    }

    #[test]
    fn an_incomplete_run_has_the_status_of_what_ended_it_unless_messages_are_lost() {
        let mut report = report(None);
        report.incomplete = Some(Failure::new(Status::Unknown, "interrupted", "interrupted before the end"));
        assert_eq!(report.status(), Status::Unknown);
        report.messages.lost = Some(1);
        assert_eq!(report.status(), Status::Refused);
        assert_eq!(serde_json::to_value(report).unwrap()["incomplete"]["code"], "interrupted");
    }

    #[test]
    fn the_fields_of_the_json_are_those_that_are_documented() {
        let value = serde_json::to_value(report(Some(500))).unwrap();
        assert_eq!((&value["format"], &value["schema"]), (&"quorate-bench".into(), &1.into()));
        let cell = &value["cells"][0];
        assert_eq!((&cell["size"], &cell["window"], &cell["rate"]), (&1024.into(), &64.into(), &500.into()));
        assert_eq!(cell["rounds"].as_array().unwrap().len(), 3);
        for field in
            ["messages", "seconds", "rate", "p50_us", "p90_us", "p99_us", "p999_us", "p9999_us", "max_us"]
        {
            assert!(cell["publish"][field].is_number(), "{field} in {cell}");
        }
        assert_eq!(cell["publish"]["open_loop"]["kept_up"], false);
        assert_eq!(cell["publish"]["open_loop"]["service"]["p50_us"], 400.0);
        for argument in ["mode", "sizes", "windows", "rates", "publishers", "consumers", "queues", "seconds"]
        {
            assert!(!value["arguments"][argument].is_null(), "{argument}");
        }
    }
}
