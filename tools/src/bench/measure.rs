//! What one cell measured: a rate, and how latencies are distributed.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies up to this are told apart; longer ones count as this.
const LONGEST: Duration = Duration::from_mins(2);

/// Latencies, to three digits.
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

/// What a cell measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Measured {
    /// How many messages were done.
    pub messages: u64,
    /// How long it took.
    pub seconds: f64,
    /// Messages per second.
    pub rate: f64,
    /// Half of the messages took no longer, in microseconds.
    pub p50_us: f64,
    /// 99 of 100.
    pub p99_us: f64,
    /// 999 of 1000.
    pub p999_us: f64,
    /// All.
    pub max_us: f64,
    /// Messages of which nobody knows whether they arrived, in percent.
    pub unknown_percent: f64,
    /// Messages refused.
    pub refused: u64,
}

impl Measured {
    /// From what was counted.
    pub fn new(messages: u64, took: Duration, latencies: &Latencies) -> Self {
        let seconds = took.as_secs_f64();
        Self {
            messages,
            seconds,
            rate: if seconds > 0.0 { to_float(messages) / seconds } else { 0.0 },
            p50_us: latencies.micros(0.5),
            p99_us: latencies.micros(0.99),
            p999_us: latencies.micros(0.999),
            max_us: latencies.micros(1.0),
            unknown_percent: 0.0,
            refused: 0,
        }
    }

    /// The median of each number over the rounds. Messages, seconds and refused are sums.
    pub fn median(rounds: &[Self]) -> Self {
        let of = |field: fn(&Self) -> f64| median(rounds.iter().map(field).collect());
        Self {
            messages: rounds.iter().map(|round| round.messages).sum(),
            seconds: rounds.iter().map(|round| round.seconds).sum(),
            rate: of(|round| round.rate),
            p50_us: of(|round| round.p50_us),
            p99_us: of(|round| round.p99_us),
            p999_us: of(|round| round.p999_us),
            max_us: of(|round| round.max_us),
            unknown_percent: of(|round| round.unknown_percent),
            refused: rounds.iter().map(|round| round.refused).sum(),
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
        assert!((measured.p50_us - 500_000.0).abs() < 2_000.0, "{measured:?}");
        assert!((measured.p99_us - 990_000.0).abs() < 3_000.0, "{measured:?}");
        assert!((measured.max_us - 120_000_000.0).abs() < 200_000.0, "{measured:?}");
        assert!(Measured::new(0, Duration::ZERO, &Latencies::default()).max_us.abs() < f64::EPSILON);
    }
}
