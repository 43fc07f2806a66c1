//! The latest events with a code, and verdicts, numbered and kept in memory for whoever listens; and how many there were
//! of each code.
//!
//! The core's thread only appends. Every listener has a place of its own in the row and reads from there as it can: one
//! that is slow costs no memory, finds its place gone at last, and is told so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use quorate_core::event::{CODES, Event, Fields, Level, Value};
use schemars::JsonSchema;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use tokio::sync::watch;

use crate::counters::Counter;
use crate::wall_time;

/// Events that are kept.
const KEPT_MAX: usize = 4096;
/// Bytes of them, of which the latest one may have more alone.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// What a change of the verdict, which has no code, is called where events are chosen by their code.
pub const VERDICT: &str = "verdict";

/// One event that happened.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number: one more than the event's before it.
    pub sequence: u64,
    /// Its code, or [`VERDICT`].
    pub code: &'static str,
    /// The virtual host it is about.
    pub vhost: Option<String>,
    /// The whole of it.
    pub json: String,
}

/// An event as programs see it: field names are a contract with scripts.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Event")]
pub(crate) struct EventJson<'a> {
    /// One more than the event's before it.
    sequence: u64,
    /// When, by the broker's wall clock: RFC 3339, UTC.
    time: String,
    broker: &'a str,
    /// As docs/reference/events.md lists them, or `verdict`.
    code: &'static str,
    #[schemars(extend("enum" = ["debug", "info", "warn", "error"]))]
    level: &'static str,
    text: String,
    #[serde(serialize_with = "as_object")]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    fields: Vec<(&'static str, FieldJson)>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum FieldJson {
    Field(#[serde(serialize_with = "as_value")] Value),
    Lines(Vec<String>),
}

fn as_object<S: Serializer>(fields: &[(&'static str, FieldJson)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(fields.len()))?;
    for (name, value) in fields {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

fn as_value<S: Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Value::Text(text) => serializer.serialize_str(text),
        Value::Number(number) => serializer.serialize_u64(*number),
        Value::Nodes(number) => serializer.serialize_u32(*number),
        Value::Name(name) => name.serialize(serializer),
        Value::Counts(counts) => counts.serialize(serializer),
    }
}

/// A level's word, as logs and JSON have it.
pub fn level_word(level: Level) -> &'static str {
    match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

/// The code that an event is listened to by; none for those that only the log has.
fn code_of(event: &Event) -> Option<&'static str> {
    match event {
        Event::Verdict { .. } => Some(VERDICT),
        event => event.code(),
    }
}

fn fields_of(event: &Event) -> Vec<(&'static str, FieldJson)> {
    let plain = |fields: Fields| {
        fields.into_iter().map(|(name, value)| (name, FieldJson::Field(value))).collect::<Vec<_>>()
    };
    match event {
        Event::Verdict { row, verdict, reason, next } => {
            let text = |text: &str| Value::Text(text.to_owned());
            let mut fields =
                plain(vec![("verdict", text(verdict)), ("row", text(row)), ("reason", text(reason))]);
            fields.push(("next", FieldJson::Lines(next.clone())));
            fields
        }
        event => plain(event.fields()),
    }
}

/// An event's JSON.
pub fn json(event: &Event, code: &'static str, sequence: u64, time_ms: u64, broker: &str) -> String {
    let shown = EventJson {
        sequence,
        time: wall_time::rfc3339(time_ms),
        broker,
        code,
        level: level_word(event.level()),
        text: event.text(),
        fields: fields_of(event),
    };
    serde_json::to_string(&shown).expect("an event has text keys only")
}

/// What there is after some number.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// In order.
    pub records: Vec<Arc<Record>>,
    /// What is gone before the first of them.
    pub missed: Missed,
    /// The number to go on after.
    pub last: u64,
}

/// What somebody who asks for the events after a number does not get any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// Nothing.
    Nothing,
    /// So many events.
    Events(u64),
    /// Nobody knows how many: the number is of an earlier process, or of another broker.
    Unknown,
}

/// The events of this process.
#[derive(Debug)]
pub struct EventLog {
    broker: String,
    /// The number before this process's first.
    origin: u64,
    kept: Mutex<Kept>,
    counts: [Counter; CODES.len()],
    latest: watch::Sender<Latest>,
}

/// What listeners wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latest {
    /// The number of the last event.
    pub sequence: u64,
    /// No more events are served.
    pub ended: bool,
}

#[derive(Debug)]
struct Kept {
    records: VecDeque<Arc<Record>>,
    bytes: usize,
    /// The number of the last record, or the origin.
    last: u64,
}

fn now_ms() -> u64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
}

impl EventLog {
    /// Of the broker of this name. Numbers begin at the wall clock's milliseconds, so that those of a process are above
    /// those of the process before it.
    pub fn new(broker: &str) -> Self {
        Self::beginning_after(broker, now_ms())
    }

    /// The same, with its numbers after this one.
    pub fn beginning_after(broker: &str, origin: u64) -> Self {
        let kept = Kept { records: VecDeque::new(), bytes: 0, last: origin };
        let (latest, _) = watch::channel(Latest { sequence: origin, ended: false });
        Self { broker: broker.to_owned(), origin, kept: Mutex::new(kept), counts: Default::default(), latest }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an event if it has a code or is a verdict.
    pub fn record(&self, event: &Event) {
        let Some(code) = code_of(event) else { return };
        if let Some(at) = CODES.iter().position(|row| row.name == code) {
            self.counts[at].add(1);
        }
        let sequence = {
            let mut kept = self.kept();
            let sequence = kept.last + 1;
            let json = json(event, code, sequence, now_ms(), &self.broker);
            kept.last = sequence;
            kept.bytes += json.len();
            let vhost = event.vhost().map(ToOwned::to_owned);
            kept.records.push_back(Arc::new(Record { sequence, code, vhost, json }));
            while kept.records.len() > KEPT_MAX || (kept.bytes > KEPT_BYTES_MAX && kept.records.len() > 1) {
                let gone = kept.records.pop_front().map_or(0, |record| record.json.len());
                kept.bytes -= gone;
            }
            sequence
        };
        self.latest.send_modify(|latest| latest.sequence = sequence);
    }

    /// Up to `limit` events after the one of this number.
    pub fn after(&self, sequence: u64, limit: usize) -> Page {
        let kept = self.kept();
        let first = kept.records.front().map_or(kept.last + 1, |record| record.sequence);
        let known = (self.origin..=kept.last).contains(&sequence);
        let missed = match first - 1 {
            // Whoever asks for everything knows that it is not everything.
            _ if sequence == 0 => Missed::Nothing,
            _ if !known => Missed::Unknown,
            before if before > sequence => Missed::Events(before - sequence),
            _ => Missed::Nothing,
        };
        let from = if known { sequence.max(first - 1) } else { first - 1 };
        let skipped = usize::try_from(from - (first - 1)).unwrap_or(usize::MAX);
        let records: Vec<_> = kept.records.iter().skip(skipped).take(limit).cloned().collect();
        let last = records.last().map_or(from, |record| record.sequence);
        Page { records, missed, last }
    }

    /// The number of the last event.
    pub fn last(&self) -> u64 {
        self.kept().last
    }

    /// Whose events these are.
    pub fn broker(&self) -> &str {
        &self.broker
    }

    /// Says when there is another event, and when there will be none.
    pub fn listen(&self) -> watch::Receiver<Latest> {
        self.latest.subscribe()
    }

    /// Listeners are to go.
    pub fn end(&self) {
        self.latest.send_modify(|latest| latest.ended = true);
    }

    /// How many events of each code there were, in the table's order.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CODES.iter().zip(&self.counts).map(|(code, count)| (code.name, count.get()))
    }
}

#[cfg(test)]
mod tests;
