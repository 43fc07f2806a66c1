//! `/api/v1/members/…`: who belongs to the cluster, and who leads.

use axum::http::StatusCode;
use quorate_core::admin::{AdminReply, AdminRequest, Author, MemberAct, MemberReport, MemberRequest};
use quorate_store::ids::StoreId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::answers::{ApiError, failed, unexpected};
use super::{AdminState, COMMAND_TIMEOUT};

/// Longest name or address that is taken, in bytes.
const TEXT_BYTES_MAX: usize = 255;

/// Which member.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    name: String,
    /// Answer after so long at the latest, however far it is; 20,000 if it is not said, and not more.
    timeout_ms: Option<u64>,
    /// For the audit: at most 1,000 bytes without control characters.
    #[serde(default)]
    reason: String,
}

/// Whose store.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Replaced {
    name: String,
    /// The store that is to go, if it is known: then no store that has come in its place is meant.
    store_id: Option<String>,
    /// Answer after so long at the latest, however far it is; 20,000 if it is not said, and not more.
    timeout_ms: Option<u64>,
    /// For the audit: at most 1,000 bytes without control characters.
    #[serde(default)]
    reason: String,
}

/// Which broker.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Added {
    name: String,
    /// A cluster address to look for it at.
    address: Option<String>,
    /// Answer after so long at the latest, however far it is; 20,000 if it is not said, and not more.
    timeout_ms: Option<u64>,
    /// For the audit: at most 1,000 bytes without control characters.
    #[serde(default)]
    reason: String,
}

/// How far a change of membership has come.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MemberChange")]
pub(super) struct ReportJson {
    name: String,
    store_id: Option<String>,
    /// This request decided it; if not, it was decided before.
    changed: bool,
    /// It is so in every group. If not it goes on by itself.
    complete: bool,
    detail: String,
}

/// 200 once it is so in every group, 202 while it goes on.
type Answered = Result<(StatusCode, ReportJson), ApiError>;

pub(super) async fn add(state: AdminState, author: Author, body: Added) -> Answered {
    let Added { name, address, timeout_ms, reason } = body;
    let (act, within_millis) = (MemberAct::Add, within(timeout_ms));
    ask(&state, MemberRequest { act, name, address, store: None, within_millis, reason, author }).await
}

pub(super) async fn remove(state: AdminState, author: Author, body: Named) -> Answered {
    named(&state, MemberAct::Remove, author, body).await
}

pub(super) async fn replace(state: AdminState, author: Author, body: Replaced) -> Answered {
    let Replaced { name, store_id, timeout_ms, reason } = body;
    let parsed = store_id.map(|text| Uuid::parse_str(&text)).transpose();
    let store = parsed.map(|id| id.map(StoreId)).map_err(|error| {
        let text = format!("store_id is none: {error}");
        ApiError::new(StatusCode::BAD_REQUEST, "invalid", text, &["quorate member list"])
    })?;
    ask(
        &state,
        MemberRequest {
            act: MemberAct::Replace,
            name,
            address: None,
            store,
            within_millis: within(timeout_ms),
            reason,
            author,
        },
    )
    .await
}

pub(super) async fn drain(state: AdminState, author: Author, body: Named) -> Answered {
    named(&state, MemberAct::Drain, author, body).await
}

pub(super) async fn resume(state: AdminState, author: Author, body: Named) -> Answered {
    named(&state, MemberAct::Resume, author, body).await
}

async fn named(state: &AdminState, act: MemberAct, author: Author, body: Named) -> Answered {
    let Named { name, timeout_ms, reason } = body;
    let within_millis = within(timeout_ms);
    ask(state, MemberRequest { act, name, address: None, store: None, within_millis, reason, author }).await
}

/// The broker answers by then, in milliseconds.
fn within(timeout_ms: Option<u64>) -> u64 {
    timeout_ms.unwrap_or(u64::MAX)
}

async fn ask(state: &AdminState, request: MemberRequest) -> Answered {
    for text in std::iter::once(&request.name).chain(&request.address) {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                "invalid",
                format!(
                    "a name or address is text of 1 to {TEXT_BYTES_MAX} bytes without control characters"
                ),
                &["quorate member list"],
            ));
        }
    }
    match state.desk.ask(AdminRequest::Member(request), COMMAND_TIMEOUT).await? {
        AdminReply::Member(report) => {
            let status = if report.complete { StatusCode::OK } else { StatusCode::ACCEPTED };
            Ok((status, ReportJson::from(*report)))
        }
        AdminReply::Failed { code, message, next, leader_admin_address } => {
            Err(failed(code, message, next, leader_admin_address))
        }
        _ => Err(unexpected()),
    }
}

impl From<MemberReport> for ReportJson {
    fn from(report: MemberReport) -> Self {
        Self {
            name: report.name,
            store_id: report.store_id.map(|store| store.to_string()),
            changed: report.changed,
            complete: report.complete,
            detail: report.detail,
        }
    }
}
