//! HTTP on the admin port: health, metrics and the API. State never changes by GET.

mod answers;
mod author;
mod explain_json;
mod health;
mod losses;
mod members;
mod metrics;
mod status_json;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{MethodRouter, get, post};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::admin_desk::AdminDesk;
use crate::counters::Counters;
use crate::pulse::Pulse;

/// What the handlers need.
#[derive(Clone)]
pub struct AdminState {
    /// To ask the core.
    pub desk: AdminDesk,
    /// The process's own numbers.
    pub counters: Arc<Counters>,
    /// When the core thread last ran.
    pub pulse: Arc<Pulse>,
    /// Said in every status.
    pub insecure: bool,
    /// The store's directory, if there is one.
    pub data_dir: Option<PathBuf>,
}

/// Requests have small bodies.
const BODY_BYTES_MAX: usize = 64 << 10;
/// A core that takes longer than this to say how it is, is not ready.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(3);
/// Commands wait for a quorum.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// One route of the router and of the OpenAPI document.
struct Route {
    method: &'static str,
    path: &'static str,
    handler: fn() -> MethodRouter<AdminState>,
}

/// What is served. The test compares it with `openapi.json`.
const ROUTES: [Route; 19] = [
    Route { method: "get", path: "/health/startup", handler: || get(health::startup) },
    Route { method: "get", path: "/health/live", handler: || get(health::live) },
    Route { method: "get", path: "/health/ready", handler: || get(health::ready) },
    Route { method: "get", path: "/health/leader", handler: || get(health::leader) },
    Route { method: "get", path: "/health/replica", handler: || get(health::replica) },
    Route { method: "get", path: "/metrics", handler: || get(answers::metrics) },
    Route { method: "get", path: "/api/v1/status", handler: || get(answers::status) },
    Route { method: "get", path: "/api/v1/explain", handler: || get(answers::explain) },
    Route { method: "get", path: "/api/v1/members", handler: || get(answers::members) },
    Route { method: "post", path: "/api/v1/members/add", handler: || post(members::add) },
    Route { method: "post", path: "/api/v1/members/remove", handler: || post(members::remove) },
    Route { method: "post", path: "/api/v1/members/replace", handler: || post(members::replace) },
    Route { method: "post", path: "/api/v1/members/drain", handler: || post(members::drain) },
    Route { method: "post", path: "/api/v1/members/resume", handler: || post(members::resume) },
    Route { method: "get", path: "/api/v1/losses", handler: || get(losses::list) },
    Route { method: "get", path: "/api/v1/vhosts", handler: || get(answers::list_vhosts) },
    Route { method: "post", path: "/api/v1/vhosts", handler: || post(answers::create_vhost) },
    Route { method: "post", path: "/api/v1/cluster/shutdown", handler: || post(answers::shutdown) },
    Route { method: "get", path: "/api/v1/openapi.json", handler: || get(answers::openapi) },
];

/// Everything that is served.
pub fn router(state: AdminState) -> Router {
    ROUTES
        .iter()
        .fold(Router::new(), |router, route| {
            debug_assert!(["get", "post"].contains(&route.method));
            router.route(route.path, (route.handler)())
        })
        .fallback(answers::not_found)
        .method_not_allowed_fallback(answers::method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(state)
}

/// Serves until the other end of `closing` is dropped; what was answered by then is written first.
pub async fn serve(listener: TcpListener, state: AdminState, closing: oneshot::Receiver<()>) {
    let service = router(state).into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(async {
        let _ = closing.await;
    });
    if let Err(error) = serving.await {
        tracing::error!("the admin listener failed: {error}");
    }
}

#[cfg(test)]
mod tests;
