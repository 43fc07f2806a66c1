//! What clients did and were told, in the order in which it was noted.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::sim::checker::{MessageName, Place};

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message is about to be published for the first time.
    Publish {
        /// Which.
        name: MessageName,
        /// To which queue.
        queue: String,
        /// As it is sent.
        body: Bytes,
    },
    /// It was never given to the client library: nobody can have it.
    Withdrawn(MessageName),
    /// Its confirm came.
    Confirmed(MessageName, Place),
    /// It was refused for good.
    Refused(MessageName),
    /// Nobody knows what became of it.
    Unknown(MessageName),
    /// A consumer got a message.
    Delivered {
        /// From which queue.
        queue: String,
        /// Its place there.
        seq: u64,
        /// Whether it may have been delivered before.
        redelivered: bool,
        /// As it came.
        body: Bytes,
    },
    /// Its acknowledgement is about to be sent.
    AckSent(MessageName),
    /// Its acknowledgement was confirmed.
    Settled(MessageName),
    /// Nobody knows whether its acknowledgement was taken.
    AckUnknown(MessageName),
    /// An operator went on from one store: what is in its log up to this place is there, and nothing else can be.
    Recovered(Place),
    /// Something of the schedule, for people.
    Note(String),
    /// All queues were found empty.
    Drained,
}

#[derive(Debug, Default)]
struct Log {
    events: Vec<(Duration, Event)>,
    confirmed: u64,
    last_confirm: Duration,
    longest_gap: Duration,
}

/// A history that many write.
#[derive(Clone, Debug)]
pub struct History {
    begun: Instant,
    log: Arc<Mutex<Log>>,
}

impl Default for History {
    fn default() -> Self {
        Self { begun: Instant::now(), log: Arc::default() }
    }
}

impl History {
    fn log(&self) -> MutexGuard<'_, Log> {
        // An event is added whole or not at all.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an event; those of one task are in its order.
    pub fn note(&self, event: Event) {
        let mut log = self.log();
        // Taken under the lock, so that times ascend with places.
        let at = self.begun.elapsed();
        if matches!(event, Event::Confirmed(..)) {
            log.confirmed += 1;
            log.longest_gap = log.longest_gap.max(at.saturating_sub(log.last_confirm));
            log.last_confirm = at;
        }
        log.events.push((at, event));
    }

    /// Confirms so far.
    pub fn confirmed(&self) -> u64 {
        self.log().confirmed
    }

    /// The longest time between two confirms.
    pub fn longest_gap(&self) -> Duration {
        self.log().longest_gap
    }

    /// Everything so far.
    pub fn events(&self) -> Vec<(Duration, Event)> {
        self.log().events.clone()
    }

    /// Writes it for people, a line for each event; of bodies the length.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = String::new();
        for (at, event) in &self.log().events {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{:>12.6} {}", at.as_secs_f64(), line(event));
        }
        std::fs::write(path, text)
    }
}

fn line(event: &Event) -> String {
    let of = |name: &MessageName| format!("{}/{}", name.0, name.1);
    let place = |(epoch, term, index): &Place| format!("{epoch}.{term}.{index}");
    match event {
        Event::Publish { name, queue, body } => {
            format!("publish {} to {queue}, {} bytes", of(name), body.len())
        }
        Event::Withdrawn(name) => format!("withdrawn {}", of(name)),
        Event::Confirmed(name, at) => format!("confirmed {} at {}", of(name), place(at)),
        Event::Refused(name) => format!("refused {}", of(name)),
        Event::Unknown(name) => format!("unknown {}", of(name)),
        Event::Delivered { queue, seq, redelivered, body } => {
            let name = crate::sim::checker::name_in(body);
            let again = if *redelivered { ", redelivered" } else { "" };
            let name = name.as_ref().map_or_else(|| "nameless".to_owned(), of);
            format!("delivered {name} from {queue} at {seq}{again}, {} bytes", body.len())
        }
        Event::AckSent(name) => format!("ack {}", of(name)),
        Event::Settled(name) => format!("settled {}", of(name)),
        Event::AckUnknown(name) => format!("ack unknown {}", of(name)),
        Event::Recovered(at) => format!("--- recovered up to {}", place(at)),
        Event::Note(text) => format!("--- {text}"),
        Event::Drained => "--- drained".to_owned(),
    }
}
