//! What the brokers spend on the messages of a cell.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::measure::{median, to_float};
use crate::admin::Admin;
use crate::process;

/// Where costs are read from.
#[derive(Clone, Debug)]
pub struct Meter {
    admin: Admin,
    /// Admin addresses of the brokers.
    brokers: Vec<String>,
    /// Their processes, if they are on this machine.
    pids: Vec<u32>,
}

/// All counters at one time.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    own_processor: Option<Duration>,
    processor: BTreeMap<u32, Duration>,
    written: BTreeMap<u32, u64>,
    syncs: BTreeMap<String, f64>,
    logged: BTreeMap<String, f64>,
}

/// What one message cost, all brokers together. None where it could not be read of every broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cost {
    /// Processor time of the brokers, in microseconds.
    pub broker_cpu_us_per_message: Option<f64>,
    /// Processor time of this process.
    pub client_cpu_us_per_message: Option<f64>,
    /// Syncs of the brokers' logs.
    pub syncs_per_message: Option<f64>,
    /// Bytes appended to the brokers' logs.
    pub log_bytes_per_payload_byte: Option<f64>,
    /// Bytes that the brokers' processes caused to be written to storage.
    pub disk_bytes_per_payload_byte: Option<f64>,
}

impl Meter {
    /// Reads of these brokers and processes.
    pub fn new(admin: Admin, brokers: Vec<String>, pids: Vec<u32>) -> Self {
        Self { admin, brokers, pids }
    }

    /// All counters now. Brokers are asked in another thread, so that whoever waits can be interrupted.
    pub async fn read(&self) -> Reading {
        let meter = self.clone();
        // If it panicked, that was said, and nothing is known.
        tokio::task::spawn_blocking(move || meter.read_now()).await.unwrap_or_default()
    }

    fn read_now(&self) -> Reading {
        let mut reading =
            Reading { own_processor: process::processor_time(std::process::id()), ..Reading::default() };
        for pid in &self.pids {
            reading.processor.extend(process::processor_time(*pid).map(|time| (*pid, time)));
            reading.written.extend(process::written_bytes(*pid).map(|bytes| (*pid, bytes)));
        }
        // All at once: those that do not answer are waited for together.
        let answers: Vec<_> = thread::scope(|scope| {
            let asked: Vec<_> = self
                .brokers
                .iter()
                .map(|broker| (broker, scope.spawn(|| self.admin.metrics(broker))))
                .collect();
            asked.into_iter().map(|(broker, answer)| (broker, answer.join())).collect()
        });
        for (broker, answer) in answers {
            let Ok(Ok(metrics)) = answer else { continue };
            let syncs = sample(&metrics, "quorate_log_syncs_total");
            let logged = sample(&metrics, "quorate_log_written_bytes_total");
            reading.syncs.extend(syncs.map(|value| (broker.clone(), value)));
            reading.logged.extend(logged.map(|value| (broker.clone(), value)));
        }
        reading
    }

    /// What was spent between two readings on so many messages with so many bytes of bodies.
    pub fn cost(&self, before: &Reading, after: &Reading, messages: u64, payload: u64) -> Cost {
        let per = |spent: Option<f64>, of: u64| spent.filter(|_| of > 0).map(|spent| spent / to_float(of));
        let micros = |time: &Duration| time.as_secs_f64() * 1e6;
        let processor = difference(&before.processor, &after.processor, self.pids.len(), micros);
        let own = after.own_processor.zip(before.own_processor);
        let own = own.map(|(after, before)| micros(&after.saturating_sub(before)));
        let written = difference(&before.written, &after.written, self.pids.len(), |bytes| to_float(*bytes));
        let syncs = difference(&before.syncs, &after.syncs, self.brokers.len(), |value| *value);
        let logged = difference(&before.logged, &after.logged, self.brokers.len(), |value| *value);
        Cost {
            broker_cpu_us_per_message: per(processor, messages),
            client_cpu_us_per_message: per(own, messages),
            syncs_per_message: per(syncs, messages),
            log_bytes_per_payload_byte: per(logged, payload),
            disk_bytes_per_payload_byte: per(written, payload),
        }
    }
}

/// The sum of what was added; none if one of the `count` sources is missing, or was started anew meanwhile.
fn difference<K: Ord, V>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    count: usize,
    value: impl Fn(&V) -> f64,
) -> Option<f64> {
    if count == 0 || before.len() != count || after.len() != count {
        return None;
    }
    let added = after
        .iter()
        .map(|(key, now)| Some(value(now) - value(before.get(key)?)).filter(|added| *added >= 0.0));
    added.sum()
}

/// The value of a sample without labels in Prometheus's text.
fn sample(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.trim().parse().ok()
}

impl Cost {
    /// The median of each over the rounds.
    pub fn median(rounds: &[Self]) -> Self {
        let of = |field: fn(&Self) -> Option<f64>| {
            let values: Vec<f64> = rounds.iter().filter_map(field).collect();
            if values.is_empty() { None } else { Some(median(values)) }
        };
        Self {
            broker_cpu_us_per_message: of(|cost| cost.broker_cpu_us_per_message),
            client_cpu_us_per_message: of(|cost| cost.client_cpu_us_per_message),
            syncs_per_message: of(|cost| cost.syncs_per_message),
            log_bytes_per_payload_byte: of(|cost| cost.log_bytes_per_payload_byte),
            disk_bytes_per_payload_byte: of(|cost| cost.disk_bytes_per_payload_byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_found_by_its_whole_name() {
        let text = "# TYPE quorate_log_syncs_total counter\nquorate_log_syncs_total_x 1\nquorate_log_syncs_total 42\n";
        assert_eq!(sample(text, "quorate_log_syncs_total"), Some(42.0));
        assert_eq!(sample(text, "quorate_log_syncs"), None);
    }

    #[test]
    fn a_broker_that_is_missing_or_was_restarted_makes_the_sum_unknown() {
        let map = |values: &[(u32, u64)]| values.iter().copied().collect::<BTreeMap<_, _>>();
        let of = |before, after| difference(&map(before), &map(after), 2, |value| to_float(*value));
        assert_eq!(of(&[(1, 10), (2, 10)], &[(1, 15), (2, 11)]), Some(6.0));
        assert_eq!(of(&[(1, 10), (2, 10)], &[(1, 15)]), None);
        assert_eq!(of(&[(1, 10), (2, 10)], &[(1, 15), (2, 1)]), None);
        assert_eq!(of(&[(1, 10), (2, 10)], &[(1, 15), (3, 11)]), None);
    }
}
