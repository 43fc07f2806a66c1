//! Health: 200 or 503, for orchestrators and load balancers.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use quorate_core::admin::{GroupStatusView, Status, VerdictWord};
use serde::Deserialize;
use serde_json::{Value, json};

use super::AdminState;
use super::answers::{ApiError, ask_status};

/// A follower further behind than this many entries does not serve its role.
const READY_LAG_MAX: u64 = 10_000;

type Healthy = Result<Json<Value>, ApiError>;

fn healthy() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

fn unhealthy(code: &str, message: String) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, message, &["quorate cluster status"])
}

/// The ports are open: otherwise nobody could ask.
pub(super) async fn startup() -> Healthy {
    Ok(healthy())
}

/// The core thread turns. What it waits for does not matter here: restarting would not help.
pub(super) async fn live(State(state): State<AdminState>) -> Healthy {
    if state.pulse.is_live() {
        Ok(healthy())
    } else {
        Err(unhealthy("stuck", "the core thread has not run for a while".to_owned()))
    }
}

/// This broker serves its role.
pub(super) async fn ready(State(state): State<AdminState>) -> Healthy {
    why_not_ready(&ask_status(&state).await?)
        .map_or_else(|| Ok(healthy()), |reason| Err(unhealthy("not-ready", reason)))
}

/// Which group a question is about.
#[derive(Debug, Deserialize)]
pub(super) struct Question {
    #[serde(default = "default_vhost")]
    vhost: String,
    max_lag: Option<u64>,
}

fn default_vhost() -> String {
    "/".to_owned()
}

type Asked = Result<Query<Question>, axum::extract::rejection::QueryRejection>;

fn question(asked: Asked) -> Result<Question, ApiError> {
    asked.map(|Query(question)| question).map_err(|error| {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid", error.body_text(), &["GET /api/v1/openapi.json"])
    })
}

/// This broker leads the virtual host with a quorum.
pub(super) async fn leader(State(state): State<AdminState>, asked: Asked) -> Healthy {
    let question = question(asked)?;
    let status = ask_status(&state).await?;
    why_not_leader(&status, &question.vhost)
        .map_or_else(|| Ok(healthy()), |reason| Err(unhealthy("not-leader", reason)))
}

/// This broker follows a leader of the virtual host, closely enough.
pub(super) async fn replica(State(state): State<AdminState>, asked: Asked) -> Healthy {
    let question = question(asked)?;
    let status = ask_status(&state).await?;
    let limit = question.max_lag.unwrap_or(READY_LAG_MAX);
    why_not_replica(&status, &question.vhost, limit)
        .map_or_else(|| Ok(healthy()), |reason| Err(unhealthy("not-replica", reason)))
}

fn group<'a>(status: &'a Status, vhost: &str) -> Result<&'a GroupStatusView, String> {
    status
        .groups
        .iter()
        .find(|group| group.vhost == vhost)
        .ok_or_else(|| format!("no virtual host {vhost:?} here"))
}

fn follows(group: &GroupStatusView, lag_limit: u64) -> Result<(), String> {
    let vhost = &group.vhost;
    if group.role != "replica" {
        return Err(format!("role in {vhost} is {}", group.role));
    }
    if group.updating.is_some() {
        return Err(format!("{vhost} is being updated"));
    }
    if group.leader.is_none() {
        return Err(format!("{vhost} has no leader"));
    }
    if group.own_lag > lag_limit {
        return Err(format!("{vhost} is {} entries behind, {lag_limit} are allowed", group.own_lag));
    }
    Ok(())
}

fn leads(group: &GroupStatusView) -> bool {
    group.role == "leader" && group.quorum
}

pub(super) fn why_not_ready(status: &Status) -> Option<String> {
    if status.verdict != VerdictWord::Active {
        return Some(format!("{}: {}", status.verdict.word(), status.reason));
    }
    status.groups.iter().filter(|group| !leads(group)).find_map(|group| {
        if group.role == "leader" {
            Some(format!("{} has no quorum", group.vhost))
        } else {
            follows(group, READY_LAG_MAX).err()
        }
    })
}

pub(super) fn why_not_leader(status: &Status, vhost: &str) -> Option<String> {
    match group(status, vhost) {
        Ok(group) if leads(group) => None,
        Ok(group) if group.role == "leader" => Some(format!("{vhost} has no quorum")),
        Ok(group) => Some(format!("role in {vhost} is {}", group.role)),
        Err(reason) => Some(reason),
    }
}

pub(super) fn why_not_replica(status: &Status, vhost: &str, lag_limit: u64) -> Option<String> {
    group(status, vhost).and_then(|group| follows(group, lag_limit)).err()
}
