//! `quorate cluster events`: the operational logs of the brokers, one line an event.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use crate::admin::{self, Admin, Answer, Silent};
use crate::console::Console;
use crate::exit::{Failure, Status};
use crate::settings::Settings;

/// Which events.
#[derive(Debug, Args)]
pub struct EventsArguments {
    /// Only events from now on, as they happen, until this command is ended
    #[arg(long)]
    follow: bool,
    /// Only these codes, with commas between; `verdict` for changes of the verdict
    #[arg(long, value_name = "CODE,...")]
    code: Option<String>,
    /// Only events about this virtual host
    #[arg(long, value_name = "NAME")]
    vhost: Option<String>,
}

/// Between two questions, with `--follow`.
const POLL: Duration = Duration::from_millis(300);
/// Events that are asked for at once.
const PAGE: usize = 1000;

/// What is known of one broker's events.
#[derive(Debug, Default)]
struct Place {
    /// The number of the last event that was taken.
    after: Option<u64>,
    /// It did not answer the last time.
    silent: bool,
}

/// Prints them.
///
/// # Errors
/// No broker answers, or what was asked for is wrong.
pub(super) fn events(
    arguments: &EventsArguments,
    admin: &Admin,
    settings: &Settings,
    console: &mut Console,
) -> Result<Status, Failure> {
    let mut events = Events { arguments, admin, places: BTreeMap::new() };
    let began = Instant::now();
    let mut silent = events.round(console, !arguments.follow)?;
    // Whoever follows waits for the first broker as any command that needs one.
    while arguments.follow && silent.len() == admin.addresses().len() && began.elapsed() < settings.timeout {
        thread::sleep(POLL);
        silent = events.round(console, false)?;
    }
    if silent.len() == admin.addresses().len() {
        return Err(admin::unreachable(&silent));
    }
    if arguments.follow {
        loop {
            thread::sleep(POLL);
            events.round(console, true)?;
        }
    }
    Ok(if silent.is_empty() { Status::Done } else { Status::Warning })
}

struct Events<'a> {
    arguments: &'a EventsArguments,
    admin: &'a Admin,
    places: BTreeMap<String, Place>,
}

impl Events<'_> {
    /// Asks every broker for what is new, prints it in the order of the brokers' clocks, and gives who did not answer.
    fn round(&mut self, console: &mut Console, show: bool) -> Result<Vec<Silent>, Failure> {
        let mut found = Vec::new();
        let mut silent = Vec::new();
        for (address, answer) in self.ask_all() {
            let place = self.places.entry(address.clone()).or_default();
            match answer {
                Ok(news) => {
                    if std::mem::take(&mut place.silent) {
                        console.note(format_args!("{address} answers again"));
                    }
                    place.after = Some(news.last);
                    if let Some(gone) = news.gone {
                        console.note(format_args!("{address}: {gone}"));
                    }
                    found.extend(news.events);
                }
                Err(Unasked::Silent(one)) => {
                    if !std::mem::replace(&mut place.silent, true) {
                        console.note(format_args!("{} does not answer: {}", one.address, one.error));
                    }
                    silent.push(one);
                }
                Err(Unasked::Refused(failure)) => return Err(failure),
            }
        }
        if show {
            found.sort_by(|one, other| order(one).cmp(&order(other)));
            // A broker with two addresses says everything twice.
            found.dedup();
            found.iter().try_for_each(|event| print(event, console))?;
        }
        Ok(silent)
    }

    /// What each broker has to say that it has not said yet.
    fn ask_all(&self) -> Vec<(String, Result<News, Unasked>)> {
        thread::scope(|scope| {
            let asked: Vec<_> = self
                .admin
                .addresses()
                .iter()
                .map(|address| {
                    let after = self.places.get(address).and_then(|place| place.after);
                    (address.clone(), scope.spawn(move || self.news(address, after)))
                })
                .collect();
            let answer = |asked: thread::ScopedJoinHandle<'_, _>| {
                asked.join().expect("asking a broker does not panic")
            };
            asked.into_iter().map(|(address, asked)| (address, answer(asked))).collect()
        })
    }

    fn news(&self, address: &str, after: Option<u64>) -> Result<News, Unasked> {
        let mut news = News { events: Vec::new(), last: after.unwrap_or(0), gone: None };
        loop {
            let body = self.page(address, news.last)?;
            if after.is_some() && news.events.is_empty() {
                news.gone = match &body["missed"] {
                    Value::Null => Some("it began anew; what it said before is in its log".to_owned()),
                    missed if missed.as_u64() == Some(0) => None,
                    missed => Some(format!("{missed} events are gone that nobody asked for in time")),
                };
            }
            news.events.extend(body["events"].as_array().cloned().unwrap_or_default());
            let last = body["last"].as_u64().unwrap_or(news.last);
            let more = body["more"] == true && last != news.last;
            news.last = last;
            if !more {
                return Ok(news);
            }
        }
    }

    fn page(&self, address: &str, after: u64) -> Result<Value, Unasked> {
        let mut path = format!("/api/v1/events?limit={PAGE}&after={after}");
        for (name, value) in [("code", &self.arguments.code), ("vhost", &self.arguments.vhost)] {
            if let Some(value) = value {
                let _ = write!(path, "&{name}={}", in_query(value));
            }
        }
        match self.admin.get(address, &path) {
            Ok(Answer { status: 200, body, .. }) => Ok(body),
            Ok(answer) if answer.status < 500 => Err(Unasked::Refused(admin::refused(&answer))),
            Ok(answer) => {
                let error = admin::refused(&answer).message;
                Err(Unasked::Silent(Silent { address: address.to_owned(), error }))
            }
            Err(silent) => Err(Unasked::Silent(silent)),
        }
    }
}

/// What a broker has to say.
struct News {
    events: Vec<Value>,
    last: u64,
    gone: Option<String>,
}

enum Unasked {
    Silent(Silent),
    Refused(Failure),
}

fn order(event: &Value) -> (&str, &str, u64) {
    let text = |field: &str| event[field].as_str().unwrap_or_default();
    (text("time"), text("broker"), event["sequence"].as_u64().unwrap_or(0))
}

fn print(event: &Value, console: &mut Console) -> Result<(), Failure> {
    if console.is_json() {
        return console.json_line(event);
    }
    let text = |field: &str| event[field].as_str().unwrap_or("-");
    let (time, broker, code, level) = (text("time"), text("broker"), text("code"), text("level"));
    console.record(format_args!("{time} {broker} {code:7} {level:5} {}", text("text")))
}

/// As a query of an address has it.
fn in_query(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~,/".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_stands_in_a_query_is_escaped() {
        assert_eq!(in_query("HA-1010,verdict"), "HA-1010,verdict");
        assert_eq!(in_query("a b&c=ü"), "a%20b%26c%3D%C3%BC");
    }

    #[test]
    fn events_of_several_brokers_are_in_the_order_of_time_and_each_brokers_in_its_own() {
        let event = |time: &str, broker: &str, sequence: u64| json!({"time": time, "broker": broker, "sequence": sequence});
        let mut events = [event("2", "b1", 8), event("1", "b2", 3), event("2", "b1", 7), event("2", "a", 9)];
        events.sort_by(|one, other| order(one).cmp(&order(other)));
        let sorted: Vec<u64> = events.iter().map(|event| order(event).2).collect();
        assert_eq!(sorted, [3, 9, 7, 8]);
    }
}
