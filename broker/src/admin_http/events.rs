//! `/events` and `/api/v1/events`: what happens, as a stream and page by page.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use quorate_core::event::Code;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::AdminState;
use super::access::{Shown, Watch};
use super::answers::ApiError;
use super::route::read_query;
use crate::event_log::{EventJson, EventLog, Latest, Missed, Page, Record, VERDICT};

/// Listeners at once.
pub(super) const LISTENERS_MAX: usize = 64;
/// Events that are given to a listener in one piece.
const PIECE: usize = 64;
/// Events in one answer, at most and unless told otherwise.
const PAGE: usize = 1000;
/// A silent connection is told so often that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a browser waits before it connects again, in milliseconds.
const RETRY_MILLIS: u64 = 1000;

/// Which events.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Codes, with commas between; none: all.
    code: Option<String>,
    /// Only those about this virtual host.
    vhost: Option<String>,
    /// Those after this number.
    after: Option<u64>,
    /// So many at most, of up to 1,000; the stream knows no limit.
    limit: Option<usize>,
}

impl Wanted {
    fn filter(&self) -> Result<Filter, ApiError> {
        let mut codes = Vec::new();
        for name in self.code.iter().flat_map(|codes| codes.split(',')).map(str::trim) {
            let known = Code::find(name).map(|code| code.name).or((name == VERDICT).then_some(VERDICT));
            codes.push(known.ok_or_else(|| {
                let next = &["GET /events?code=HA-1009,HA-1010&vhost=/&after=0", "docs/reference/events.md"];
                let text = format!("{name:?} is no code of an event");
                ApiError::new(StatusCode::BAD_REQUEST, "invalid", text, next)
            })?);
        }
        Ok(Filter { codes, vhost: self.vhost.clone() })
    }
}

/// Which events a listener is told.
#[derive(Debug)]
struct Filter {
    /// Empty: all.
    codes: Vec<&'static str>,
    vhost: Option<String>,
}

impl Filter {
    fn lets_through(&self, record: &Record) -> bool {
        (self.codes.is_empty() || self.codes.contains(&record.code))
            && (self.vhost.is_none() || self.vhost == record.vhost)
    }
}

/// Events of this broker.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Events")]
pub(super) struct PageJson {
    broker: String,
    #[schemars(with = "Vec<EventJson<'_>>")]
    events: Vec<Box<RawValue>>,
    /// How many events are gone that came after the number asked for; none if nobody knows.
    missed: Option<u64>,
    /// The number to go on after.
    last: u64,
    more: bool,
}

pub(super) async fn page(state: AdminState, wanted: Wanted) -> Result<PageJson, ApiError> {
    let filter = wanted.filter()?;
    let limit = wanted.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let Page { records, missed, last } = state.events.after(wanted.after.unwrap_or(0), limit);
    let shown = records.iter().filter(|record| filter.lets_through(record));
    Ok(PageJson {
        broker: state.events.broker().to_owned(),
        events: shown.filter_map(|record| RawValue::from_string(record.json.clone()).ok()).collect(),
        missed: match missed {
            Missed::Nothing => Some(0),
            Missed::Events(count) => Some(count),
            Missed::Unknown => None,
        },
        last,
        more: last < state.events.last(),
    })
}

pub(super) async fn stream(
    State(state): State<AdminState>,
    Extension(shown): Extension<Shown>,
    headers: HeaderMap,
    asked: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, ApiError> {
    let wanted = read_query(asked)?;
    let filter = wanted.filter()?;
    // A browser that connects again says where it was, and keeps the address with the first number.
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.trim().parse().ok());
    let place = Arc::clone(&state.listeners).try_acquire_owned().map_err(|_| {
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            format!("{LISTENERS_MAX} listeners are here, which is the limit"),
            &["listen to another broker, or ask /api/v1/events now and then"],
        )
    })?;
    let after = resumed.or(wanted.after).unwrap_or_else(|| state.events.last());
    let listener = Listener {
        changes: state.events.listen(),
        log: Arc::clone(&state.events),
        watch: state.access.watch(shown),
        filter,
        after,
        stage: Stage::Greeting,
        _place: place,
    };
    let pieces = futures_util::stream::unfold(listener, |mut listener| async move {
        let piece = listener.piece().await?;
        Some((Ok::<_, Infallible>(Bytes::from(piece)), listener))
    });
    let mut response = Body::from_stream(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Somebody who listens, with a place in the row of events.
struct Listener {
    log: Arc<EventLog>,
    changes: watch::Receiver<Latest>,
    watch: Watch,
    filter: Filter,
    /// Has been told up to here.
    after: u64,
    stage: Stage,
    _place: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was said yet.
    Greeting,
    /// What is gone is said, and the rest follows.
    Resuming,
    /// What is gone now was lost by being slow.
    Following,
    /// The last word was said.
    Over,
}

impl Listener {
    /// What is to be written next; none at the end. Waits until there is something.
    async fn piece(&mut self) -> Option<String> {
        match self.stage {
            Stage::Over => return None,
            Stage::Greeting => {
                self.stage = Stage::Resuming;
                return Some(format!(
                    ": events of {}\nretry: {RETRY_MILLIS}\n\n",
                    one_line(self.log.broker())
                ));
            }
            Stage::Resuming | Stage::Following => {}
        }
        loop {
            let seen = *self.changes.borrow_and_update();
            let Page { records, missed, last } = self.log.after(self.after, PIECE);
            let mut piece = self.told_of(missed);
            if self.stage == Stage::Over {
                return Some(piece);
            }
            self.stage = Stage::Following;
            self.after = last;
            for record in records.iter().filter(|record| self.filter.lets_through(record)) {
                let _ = write!(piece, "id: {}\ndata: {}\n\n", record.sequence, record.json);
            }
            if !piece.is_empty() {
                return Some(piece);
            }
            if !records.is_empty() {
                continue;
            }
            if seen.ended {
                return None;
            }
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                () = self.watch.withdrawn() => {
                    self.stage = Stage::Over;
                    let text = "the token of this listener was withdrawn";
                    return Some(format!("event: cut\ndata: {}\n\n", json!({ "missed": 0, "text": text })));
                }
                () = tokio::time::sleep(KEEP_ALIVE) => return Some(": still here\n\n".to_owned()),
            }
        }
    }

    /// Says what is gone: to whoever comes, and goes on; to whoever was here, for the last time.
    fn told_of(&mut self, missed: Missed) -> String {
        let (count, what) = match missed {
            Missed::Nothing => return String::new(),
            Missed::Events(count) => (Some(count), format!("{count} events after {} are gone", self.after)),
            Missed::Unknown => (
                None,
                format!(
                    "{} is no number of this broker since it started: all it has follows, and what came before is \
                     in its log only",
                    self.after
                ),
            ),
        };
        if self.stage == Stage::Following {
            self.stage = Stage::Over;
            let text = format!("{what}: this listener did not keep up; connect again");
            return format!("event: cut\ndata: {}\n\n", json!({ "missed": count, "text": text }));
        }
        format!("event: missed\ndata: {}\n\n", json!({ "missed": count, "text": what }))
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use quorate_core::event::Event;
    use tokio::sync::Semaphore;

    use super::super::access::Access;
    use super::*;

    fn listener(log: &Arc<EventLog>, after: u64, codes: &[&'static str]) -> Listener {
        Listener {
            log: Arc::clone(log),
            changes: log.listen(),
            watch: Access::open().watch(Shown::default()),
            filter: Filter { codes: codes.to_vec(), vhost: None },
            after,
            stage: Stage::Greeting,
            _place: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(),
        }
    }

    fn created(vhost: &str) -> Event {
        Event::NodeCreated { vhost: vhost.to_owned() }
    }

    #[tokio::test]
    async fn a_listener_gets_what_comes_and_is_cut_off_if_it_does_not_keep_up() {
        let log = Arc::new(EventLog::beginning_after("b1", 0));
        let mut slow = listener(&log, log.last(), &[]);
        assert!(slow.piece().await.unwrap().starts_with(": events of b1\nretry: "));
        log.record(&created("a"));
        let piece = slow.piece().await.unwrap();
        assert!(piece.starts_with("id: 1\ndata: {\"sequence\":1,") && piece.ends_with("}\n\n"), "{piece}");
        for _ in 0..5000 {
            log.record(&created("b"));
        }
        let last_word = slow.piece().await.unwrap();
        assert!(last_word.starts_with("event: cut\ndata: {\"missed\":904,"), "{last_word}");
        assert_eq!(slow.piece().await, None);
    }

    #[tokio::test]
    async fn whoever_comes_again_is_told_what_is_gone_and_gets_the_rest() {
        let log = Arc::new(EventLog::beginning_after("b1", 0));
        for _ in 0..5000 {
            log.record(&created("b"));
        }
        let mut late = listener(&log, 10, &[]);
        late.piece().await;
        let piece = late.piece().await.unwrap();
        assert!(piece.starts_with("event: missed\ndata: {\"missed\":894,"), "{piece}");
        assert!(piece.contains("id: 905\n"), "{piece}");
        let mut other = listener(&log, 1 << 50, &[]);
        other.piece().await;
        assert!(other.piece().await.unwrap().starts_with("event: missed\ndata: {\"missed\":null,"));
    }

    #[tokio::test]
    async fn the_filter_passes_over_the_rest_and_the_end_ends_it() {
        let log = Arc::new(EventLog::beginning_after("b1", 0));
        let mut some = listener(&log, 0, &["HA-1002"]);
        some.piece().await;
        for _ in 0..PIECE * 2 {
            log.record(&created("a"));
        }
        log.record(&Event::NodeDeleted { vhost: "a".into() });
        assert!(some.piece().await.unwrap().starts_with(&format!("id: {}\n", PIECE * 2 + 1)));
        log.end();
        assert_eq!(some.piece().await, None);
    }
}
