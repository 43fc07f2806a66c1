//! `/api/v1/members/…`: who belongs to the cluster, and who leads.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use quorate_core::admin::{AdminReply, AdminRequest, MemberAct, MemberReport, MemberRequest};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::By;
use super::answers::{ApiError, failed, read_json, unexpected};
use super::{AdminState, COMMAND_TIMEOUT};

/// Longest name or address that is taken, in bytes.
const TEXT_BYTES_MAX: usize = 255;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Added {
    name: String,
    address: Option<String>,
}

/// 200 once it is so in every group, 202 while it goes on.
type Answered = Result<(StatusCode, Json<Value>), ApiError>;

pub(super) async fn add(
    State(state): State<AdminState>,
    By(author): By,
    headers: HeaderMap,
    body: Bytes,
) -> Answered {
    let Added { name, address } = read_json(&headers, &body)?;
    ask(&state, MemberRequest { act: MemberAct::Add, name, address, author }).await
}

pub(super) async fn remove(
    State(state): State<AdminState>,
    by: By,
    headers: HeaderMap,
    body: Bytes,
) -> Answered {
    named(&state, MemberAct::Remove, by, &headers, &body).await
}

pub(super) async fn replace(
    State(state): State<AdminState>,
    by: By,
    headers: HeaderMap,
    body: Bytes,
) -> Answered {
    named(&state, MemberAct::Replace, by, &headers, &body).await
}

pub(super) async fn drain(
    State(state): State<AdminState>,
    by: By,
    headers: HeaderMap,
    body: Bytes,
) -> Answered {
    named(&state, MemberAct::Drain, by, &headers, &body).await
}

pub(super) async fn resume(
    State(state): State<AdminState>,
    by: By,
    headers: HeaderMap,
    body: Bytes,
) -> Answered {
    named(&state, MemberAct::Resume, by, &headers, &body).await
}

async fn named(
    state: &AdminState,
    act: MemberAct,
    By(author): By,
    headers: &HeaderMap,
    body: &Bytes,
) -> Answered {
    let Named { name } = read_json(headers, body)?;
    ask(state, MemberRequest { act, name, address: None, author }).await
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
            Ok((status, Json(report_json(&report))))
        }
        AdminReply::Failed { code, message, next, leader_admin_address } => {
            Err(failed(code, message, next, leader_admin_address))
        }
        _ => Err(unexpected()),
    }
}

fn report_json(report: &MemberReport) -> Value {
    json!({
        "name": report.name,
        "store_id": report.store_id.map(|store| store.to_string()),
        "changed": report.changed,
        "complete": report.complete,
        "detail": report.detail,
    })
}
