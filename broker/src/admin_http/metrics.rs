//! `/metrics`: the core's samples and the process's own, in Prometheus's text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use quorate_core::admin::{MetricSample, Metrics};

use crate::config::read_bounded;
use crate::counters::Counters;
use crate::event_log::EventLog;

/// All samples as text. `core` is none while the core does not answer; the process's own numbers are there anyway.
pub(super) fn text(core: Option<Metrics>, counters: &Counters, events: &EventLog) -> String {
    let mut samples = process_samples(counters);
    samples.extend(event_samples(events));
    samples.extend(core.unwrap_or_default().samples);
    // A family's lines must be together, whoever made them.
    let mut families: BTreeMap<&'static str, Vec<MetricSample>> = BTreeMap::new();
    for sample in samples {
        families.entry(sample.name).or_default().push(sample);
    }
    let mut text = String::new();
    for (name, samples) in families {
        write_family(&mut text, name, &samples);
    }
    if let Some(bytes) = resident_bytes() {
        text.push_str("# HELP process_resident_memory_bytes Resident memory.\n# TYPE process_resident_memory_bytes gauge\n");
        let _ = writeln!(text, "process_resident_memory_bytes {bytes}");
    }
    text
}

fn write_family(text: &mut String, name: &str, samples: &[MetricSample]) {
    let help = samples.first().map_or("", |sample| sample.help);
    let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
    let _ = writeln!(text, "# HELP quorate_{name} {}", help.replace('\\', "\\\\").replace('\n', "\\n"));
    let _ = writeln!(text, "# TYPE quorate_{name} {kind}");
    for sample in samples {
        let _ = write!(text, "quorate_{name}");
        for (position, (label, value)) in sample.labels.iter().enumerate() {
            let open = if position == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(text, "{open}{label}=\"{value}\"");
        }
        if !sample.labels.is_empty() {
            text.push('}');
        }
        let _ = writeln!(text, " {}", sample.value);
    }
}

fn event_samples(events: &EventLog) -> impl Iterator<Item = MetricSample> {
    #[allow(clippy::cast_precision_loss, reason = "Prometheus's values are 64-bit floats")]
    events.counts().map(|(code, count)| MetricSample {
        name: "events_total",
        help: "Events of the operational log.",
        labels: vec![("code", code.to_owned())],
        value: count as f64,
    })
}

fn process_samples(counters: &Counters) -> Vec<MetricSample> {
    #[allow(clippy::cast_precision_loss, reason = "Prometheus's values are 64-bit floats")]
    let sample =
        |name, help, value: u64| MetricSample { name, help, labels: Vec::new(), value: value as f64 };
    #[allow(clippy::cast_precision_loss, reason = "Prometheus's values are 64-bit floats")]
    let sync_seconds = counters.log_sync_nanos.get() as f64 / 1e9;
    vec![
        sample("core_rounds_total", "Rounds of the core.", counters.rounds.get()),
        sample("core_inputs_total", "Inputs given to the core.", counters.inputs.get()),
        sample("log_writes_total", "Writes to the log.", counters.log_writes.get()),
        sample("log_written_bytes_total", "Bytes appended to the log.", counters.log_written_bytes.get()),
        sample("log_syncs_total", "Syncs of the log.", counters.log_syncs.get()),
        MetricSample {
            name: "log_sync_seconds_total",
            help: "Time spent in syncs of the log.",
            labels: Vec::new(),
            value: sync_seconds,
        },
        sample("log_bytes", "Bytes of log segments on disk.", counters.log_bytes.get()),
        sample("quarantine_bytes", "Bytes in quarantine.", counters.quarantine_bytes.get()),
        sample("stamps_total", "Stamps written.", counters.stamps.get()),
        sample("state_writes_total", "Writes to the state store.", counters.state_writes.get()),
        sample("state_flushes_total", "Flushes of the state store.", counters.state_flushes.get()),
        sample("connections", "Open client connections.", counters.sessions.get()),
        sample(
            "connections_accepted_total",
            "Client connections accepted.",
            counters.sessions_accepted.get(),
        ),
        sample(
            "connections_rejected_total",
            "Client connections turned away because there were too many.",
            counters.sessions_rejected.get(),
        ),
        sample("client_read_bytes_total", "Bytes read from clients.", counters.client_read_bytes.get()),
        sample(
            "client_written_bytes_total",
            "Bytes written to clients.",
            counters.client_written_bytes.get(),
        ),
        sample("peer_links", "Links to peers that can be sent on.", counters.peer_links.get()),
        sample("peer_read_bytes_total", "Bytes read from peers.", counters.peer_read_bytes.get()),
        sample("peer_written_bytes_total", "Bytes sent to peers.", counters.peer_written_bytes.get()),
        sample(
            "peer_overflows_total",
            "Links dropped because the peer did not keep up.",
            counters.peer_overflows.get(),
        ),
    ]
}

/// Resident memory of this process.
fn resident_bytes() -> Option<u64> {
    let status = read_bounded(Path::new("/proc/self/status"), 1 << 16).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_together_and_labels_escaped() {
        let sample = |value: f64, vhost: &str| MetricSample {
            name: "group_term",
            help: "Term.",
            labels: vec![("vhost", vhost.to_owned()), ("kind", "x".to_owned())],
            value,
        };
        let other =
            MetricSample { name: "elections_total", help: "Elections.", labels: Vec::new(), value: 3.0 };
        let core = Metrics { samples: vec![sample(1.0, "/"), other, sample(2.5, "a\"b\\c\n")] };
        let counters = Counters::default();
        counters.log_sync_nanos.add(1_500_000_000);
        let events = EventLog::new("b1");
        events.record(&quorate_core::event::Event::NodeDeleted { vhost: "/".into() });
        let text = text(Some(core), &counters, &events);
        assert!(
            text.contains(
                "quorate_events_total{code=\"HA-1001\"} 0\nquorate_events_total{code=\"HA-1002\"} 1\n"
            ),
            "{text}"
        );
        assert!(
            text.contains(
                "# HELP quorate_group_term Term.\n# TYPE quorate_group_term gauge\n\
                 quorate_group_term{vhost=\"/\",kind=\"x\"} 1\nquorate_group_term{vhost=\"a\\\"b\\\\c\\n\",kind=\"x\"} 2.5\n"
            ),
            "{text}"
        );
        assert!(text.contains("# TYPE quorate_elections_total counter\nquorate_elections_total 3\n"));
        assert!(text.contains("quorate_log_sync_seconds_total 1.5\n"));
        assert!(text.contains("\nprocess_resident_memory_bytes "));
    }

    #[test]
    fn this_process_has_some_memory() {
        assert!(resident_bytes().unwrap() > 100_000);
    }
}
