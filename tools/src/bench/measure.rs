//! What one cell measured: a rate, and how latencies are distributed.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::histogram;

/// Latencies up to this are told apart; longer ones count as this.
const LONGEST: Duration = Duration::from_mins(2);

/// Latencies, to three digits, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        let longest = u64::try_from(LONGEST.as_nanos()).expect("two minutes fit");
        Self(Histogram::new_with_bounds(100, longest, 3).expect("the bounds are in order"))
    }
}

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, latency: Duration) {
        self.add_many(latency, 1);
    }

    /// Adds the same so many times.
    pub fn add_many(&mut self, latency: Duration, count: u64) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        // Longer ones count as the longest.
        self.0.saturating_record_n(nanos, count);
    }

    fn micros(&self, quantile: f64) -> f64 {
        if self.0.is_empty() { 0.0 } else { to_float(self.0.value_at_quantile(quantile)) / 1e3 }
    }
}

/// A count as a number to reckon with.
#[expect(clippy::cast_precision_loss, reason = "no run has 2^53 of anything")]
pub fn to_float(count: u64) -> f64 {
    count as f64
}

/// How latencies are distributed, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half of the messages took no longer.
    pub p50_us: f64,
    /// 9 of 10.
    pub p90_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
    /// 999 of 1000.
    pub p999_us: f64,
    /// 9999 of 10,000.
    pub p9999_us: f64,
    /// All.
    pub max_us: f64,
    /// All of it, for one round: nanoseconds as HdrHistogram V2, compressed envelope, Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub histogram: Option<String>,
}

impl Percentiles {
    /// Of these latencies.
    pub fn new(latencies: &Latencies) -> Self {
        Self {
            p50_us: latencies.micros(0.5),
            p90_us: latencies.micros(0.9),
            p99_us: latencies.micros(0.99),
            p999_us: latencies.micros(0.999),
            p9999_us: latencies.micros(0.9999),
            max_us: latencies.micros(1.0),
            histogram: Some(histogram::encode(&latencies.0)),
        }
    }

    /// The median of each number over the rounds.
    pub fn median<'a>(rounds: &(impl Iterator<Item = &'a Self> + Clone)) -> Self {
        let of = |field: fn(&Self) -> f64| median(rounds.clone().map(field).collect());
        Self {
            p50_us: of(|round| round.p50_us),
            p90_us: of(|round| round.p90_us),
            p99_us: of(|round| round.p99_us),
            p999_us: of(|round| round.p999_us),
            p9999_us: of(|round| round.p9999_us),
            max_us: of(|round| round.max_us),
            histogram: None,
        }
    }
}

/// What an open loop adds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OpenLoop {
    /// Messages a second that were wanted; the achieved ones are the rate.
    pub wanted_rate: f64,
    /// Messages that were due.
    pub scheduled: u64,
    /// Of these, sent more than a millisecond late, or never.
    pub late: u64,
    /// Of the late ones, those for which there was room in the window: this process did not keep up.
    pub late_by_client: u64,
    /// Never sent: the window was still full when the cell ended. Their waiting is in the latencies, as far as it is known.
    pub unsent: u64,
    /// All were sent, and answered soon after the schedule's end. Over rounds: in every one.
    pub kept_up: bool,
    /// From send to confirm: what the latencies would be if nobody had waited to be sent.
    pub service: Percentiles,
}

impl OpenLoop {
    fn median(rounds: &[Self]) -> Option<Self> {
        Some(Self {
            wanted_rate: rounds.first()?.wanted_rate,
            scheduled: rounds.iter().map(|round| round.scheduled).sum(),
            late: rounds.iter().map(|round| round.late).sum(),
            late_by_client: rounds.iter().map(|round| round.late_by_client).sum(),
            unsent: rounds.iter().map(|round| round.unsent).sum(),
            kept_up: rounds.iter().all(|round| round.kept_up),
            service: Percentiles::median(&rounds.iter().map(|round| &round.service)),
        })
    }
}

/// What a cell measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Measured {
    /// How many messages were done.
    pub messages: u64,
    /// How long it took.
    pub seconds: f64,
    /// Messages per second.
    pub rate: f64,
    /// Latencies; in an open loop from when each message was due.
    #[serde(flatten)]
    pub latency: Percentiles,
    /// Messages of which nobody knows whether they arrived, in percent.
    pub unknown_percent: f64,
    /// Messages refused.
    pub refused: u64,
    /// What an open loop adds; null in a closed one.
    pub open_loop: Option<OpenLoop>,
}

impl Measured {
    /// From what was counted.
    pub fn new(messages: u64, took: Duration, latencies: &Latencies) -> Self {
        let seconds = took.as_secs_f64();
        Self {
            messages,
            seconds,
            rate: if seconds > 0.0 { to_float(messages) / seconds } else { 0.0 },
            latency: Percentiles::new(latencies),
            unknown_percent: 0.0,
            refused: 0,
            open_loop: None,
        }
    }

    /// The median of each number over the rounds. Messages, seconds and refused are sums.
    pub fn median(rounds: &[Self]) -> Self {
        let of = |field: fn(&Self) -> f64| median(rounds.iter().map(field).collect());
        let open: Vec<OpenLoop> = rounds.iter().filter_map(|round| round.open_loop.clone()).collect();
        Self {
            messages: rounds.iter().map(|round| round.messages).sum(),
            seconds: rounds.iter().map(|round| round.seconds).sum(),
            rate: of(|round| round.rate),
            latency: Percentiles::median(&rounds.iter().map(|round| &round.latency)),
            unknown_percent: of(|round| round.unknown_percent),
            refused: rounds.iter().map(|round| round.refused).sum(),
            open_loop: OpenLoop::median(&open),
        }
    }
}

/// The middle one; between the two middle ones if there is none; 0 of nothing.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (None, _) => 0.0,
        (Some(value), 1) => *value,
        (Some(value), _) => values.get(middle - 1).map_or(*value, |below| f64::midpoint(*below, *value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(Vec::new()).abs() < f64::EPSILON);
    }

    #[test]
    fn quantiles_are_those_of_the_latencies() {
        let mut latencies = Latencies::default();
        for millis in 1..=1000 {
            latencies.add(Duration::from_millis(millis));
        }
        latencies.add(Duration::from_secs(1_000_000));
        let measured = Measured::new(1001, Duration::from_secs(2), &latencies);
        assert!((measured.rate - 500.5).abs() < 1e-6);
        for (value, expected) in [
            (measured.latency.p50_us, 500_000.0),
            (measured.latency.p90_us, 900_000.0),
            (measured.latency.p99_us, 990_000.0),
            (measured.latency.p999_us, 1_000_000.0),
            (measured.latency.p9999_us, 120_000_000.0),
            (measured.latency.max_us, 120_000_000.0),
        ] {
            assert!((value / expected - 1.0).abs() < 0.003, "{value} instead of {expected}: {measured:?}");
        }
        assert!(Measured::new(0, Duration::ZERO, &Latencies::default()).latency.max_us.abs() < f64::EPSILON);
    }

    #[test]
    fn it_kept_up_if_it_did_in_every_round() {
        let open = |kept_up, late| OpenLoop {
            wanted_rate: 10.0,
            scheduled: 100,
            late,
            late_by_client: 0,
            unsent: 1,
            kept_up,
            service: Percentiles::default(),
        };
        let round = |open_loop| Measured { open_loop, ..Measured::default() };
        let both = Measured::median(&[round(Some(open(true, 1))), round(Some(open(false, 2)))]);
        let both = both.open_loop.unwrap();
        assert_eq!((both.scheduled, both.late, both.unsent, both.kept_up), (200, 3, 2, false));
        assert_eq!(Measured::median(&[round(None)]).open_loop, None);
    }
}
