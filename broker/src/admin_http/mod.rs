//! HTTP on the admin port: health, metrics and the API. State never changes by GET.

mod access;
mod answers;
mod document;
mod events;
mod explain_json;
mod groups;
mod health;
mod losses;
mod members;
mod metrics;
mod names;
mod panic;
mod patient;
mod route;
mod routes;
mod server;
mod status_json;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use crate::admin_desk::AdminDesk;
use crate::counters::Counters;
use crate::event_log::EventLog;
use crate::pulse::Pulse;

pub use access::{Access, Tokens};
pub use document::text as openapi;
pub use names::KnownNames;
pub use server::serve;

use answers::ApiError;

/// What the handlers need.
#[derive(Clone)]
pub struct AdminState {
    /// To ask the core.
    pub desk: AdminDesk,
    /// The process's own numbers.
    pub counters: Arc<Counters>,
    /// What happened.
    pub events: Arc<EventLog>,
    /// When the core thread last ran.
    pub pulse: Arc<Pulse>,
    /// Said in every status.
    pub insecure: bool,
    /// The store's directory, if there is one.
    pub data_dir: Option<PathBuf>,
    /// Who may ask.
    pub access: Access,
    /// By which names, while no token is asked for.
    pub names: KnownNames,
    /// Who may listen to events.
    listeners: Arc<Semaphore>,
}

impl AdminState {
    /// What the handlers of a broker need that has no store, permits nothing off loopback, and asks for no token.
    pub fn new(desk: AdminDesk, counters: Arc<Counters>, events: Arc<EventLog>, pulse: Arc<Pulse>) -> Self {
        let listeners = Arc::new(Semaphore::new(events::LISTENERS_MAX));
        let access = Access::open();
        Self {
            desk,
            counters,
            events,
            pulse,
            insecure: false,
            data_dir: None,
            access,
            names: KnownNames::default(),
            listeners,
        }
    }
}

/// Requests have small bodies.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Until a request's body is whole.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// A core that takes longer than this to say how it is, is not ready.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(3);
/// Commands wait for a quorum.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Everything that is served.
pub fn router(state: AdminState) -> Router {
    routes::routes()
        .into_iter()
        .fold(Router::new(), |router, route| router.route(route.path, route.handler))
        .fallback(answers::not_found)
        .method_not_allowed_fallback(answers::method_not_allowed)
        .layer(middleware::from_fn(whole))
        .layer(middleware::from_fn_with_state(state.clone(), access::admit))
        .with_state(state)
}

/// Lets a request on once all of it is here: small, and in time.
async fn whole(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let read = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, BODY_BYTES_MAX));
    let refused = match read.await {
        Ok(Ok(body)) => return next.run(Request::from_parts(head, Body::from(body))).await,
        Ok(Err(error)) => ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            format!("the body cannot be read, or has more than {BODY_BYTES_MAX} bytes: {error}"),
            &["GET /api/v1/openapi.json"],
        ),
        Err(_) => ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "too-slow",
            format!("the body was not whole within {BODY_TIMEOUT:?}"),
            &["send it at once"],
        ),
    };
    refused.into_response()
}

#[cfg(test)]
mod tests;
