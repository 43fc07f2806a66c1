//! Health: 200 or 503, for orchestrators and load balancers.

use axum::http::StatusCode;
use quorate_core::admin::{GroupStatusView, Status, VerdictWord};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::AdminState;
use super::answers::{ApiError, ask_status};

/// A follower further behind than this many entries does not serve its role.
const READY_LAG_MAX: u64 = 10_000;

/// Yes.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Health")]
pub(super) struct HealthJson {
    #[schemars(extend("enum" = ["ok"]))]
    status: &'static str,
}

type Healthy = Result<HealthJson, ApiError>;

fn healthy() -> HealthJson {
    HealthJson { status: "ok" }
}

fn unhealthy(code: &str, message: String) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, message, &["quorate cluster status"])
}

/// The ports are open: otherwise nobody could ask.
pub(super) async fn startup(_state: AdminState) -> Healthy {
    Ok(healthy())
}

/// The core thread turns. What it waits for does not matter here: restarting would not help.
pub(super) async fn live(state: AdminState) -> Healthy {
    if state.pulse.is_live() {
        Ok(healthy())
    } else {
        Err(unhealthy("stuck", "the core thread has not run for a while".to_owned()))
    }
}

/// This broker serves its role.
pub(super) async fn ready(state: AdminState) -> Healthy {
    let status = ask_status(&state).await?;
    let code = if status.verdict == VerdictWord::Panicked { "panicked" } else { "not-ready" };
    why_not_ready(&status).map_or_else(|| Ok(healthy()), |reason| Err(unhealthy(code, reason)))
}

/// Which group.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Leader {
    /// Which virtual host.
    #[serde(default = "default_vhost")]
    vhost: String,
}

/// Which group, and how closely it is followed.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Replica {
    /// Which virtual host.
    #[serde(default = "default_vhost")]
    vhost: String,
    /// How many log entries it may be behind.
    #[serde(default = "default_lag")]
    max_lag: u64,
}

fn default_vhost() -> String {
    "/".to_owned()
}

fn default_lag() -> u64 {
    READY_LAG_MAX
}

/// This broker leads the virtual host with a quorum.
pub(super) async fn leader(state: AdminState, question: Leader) -> Healthy {
    let status = ask_status(&state).await?;
    why_not_leader(&status, &question.vhost)
        .map_or_else(|| Ok(healthy()), |reason| Err(unhealthy("not-leader", reason)))
}

/// This broker follows a leader of the virtual host, closely enough.
pub(super) async fn replica(state: AdminState, question: Replica) -> Healthy {
    let status = ask_status(&state).await?;
    why_not_replica(&status, &question.vhost, question.max_lag)
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
