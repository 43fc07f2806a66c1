//! The API's answers, and the one shape of all errors: `{"code","message","next"}`.

use axum::Json;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderMap};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use quorate_core::admin::{AdminReply, AdminRequest, Author, Metrics, ShutdownReport, Status};
use quorate_protocol::fault::{Blame, FaultCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::explain_json::ExplanationJson;
use super::status_json::{MembersJson, StatusJson, VhostsJson};
use super::{AdminState, COMMAND_TIMEOUT, QUESTION_TIMEOUT, metrics};
use crate::admin_desk::NoAnswer;

/// The document behind `/api/v1/openapi.json`.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// An error as a client sees it.
#[derive(Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) code: String,
    pub(super) message: String,
    pub(super) next: Vec<String>,
    pub(super) leader_admin_address: Option<String>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>, next: &[&str]) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.into(),
            next: next.iter().map(|&line| line.to_owned()).collect(),
            leader_admin_address: None,
        }
    }
}

/// Why something was not done.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(super) struct ErrorJson {
    /// A stable name of the reason. LEADER_CHANGED: what was asked for was decided before the leadership moved; UNDECIDED: it
    /// may be decided yet.
    code: String,
    /// For people.
    message: String,
    /// Commands to type next.
    next: Vec<String>,
    /// Where to ask instead, if that is the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    leader_admin_address: Option<String>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorJson {
            code: self.code,
            message: self.message,
            next: self.next,
            leader_admin_address: self.leader_admin_address,
        };
        (self.status, Json(body)).into_response()
    }
}

impl From<NoAnswer> for ApiError {
    fn from(reason: NoAnswer) -> Self {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        match reason {
            NoAnswer::Busy => {
                Self::new(unavailable, "busy", "too many questions at once", &["ask again in a second"])
            }
            NoAnswer::Timeout => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "no-answer",
                "the broker did not answer in time; a command may still take effect",
                &["quorate cluster status"],
            ),
            NoAnswer::Stopping => {
                Self::new(unavailable, "stopping", "the broker is stopping", &["ask another broker"])
            }
        }
    }
}

/// Maps the core's refusal of a command to HTTP. Its codes are the names of the wire's registry.
pub(super) fn failed(
    code: &'static str,
    message: String,
    next: Vec<String>,
    leader: Option<String>,
) -> ApiError {
    let fault = FaultCode::ALL.iter().find(|fault| fault.name() == code);
    let status = match fault {
        _ if leader.is_some() => StatusCode::MISDIRECTED_REQUEST,
        Some(fault) if fault.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
        Some(_) if code.ends_with("_EXISTS") => StatusCode::CONFLICT,
        _ if code.ends_with("_NOT_FOUND") => StatusCode::NOT_FOUND,
        None if ["MEMBER_", "GROUP_", "TRANSFER_", "VHOST_"].iter().any(|of| code.starts_with(of)) => {
            StatusCode::CONFLICT
        }
        None if code == "INVALID" => StatusCode::BAD_REQUEST,
        None if code == "NOT_CONFIRMED" => StatusCode::BAD_REQUEST,
        Some(fault) if fault.blame() == Blame::Caller => StatusCode::BAD_REQUEST,
        Some(fault) if fault.blame() == Blame::Bug => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    ApiError { status, code: code.to_owned(), message, next, leader_admin_address: leader }
}

/// A reply that does not fit its request is a bug here, not in the client.
pub(super) fn unexpected() -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "unexpected reply of the core", &[])
}

pub(super) async fn ask_status(state: &AdminState) -> Result<Status, ApiError> {
    match state.desk.ask(AdminRequest::Status, QUESTION_TIMEOUT).await? {
        AdminReply::Status(status) => Ok(*status),
        AdminReply::Failed { code, message, next, leader_admin_address } => {
            Err(failed(code, message, next, leader_admin_address))
        }
        _ => Err(unexpected()),
    }
}

pub(super) async fn status(state: AdminState) -> Result<StatusJson, ApiError> {
    let status = ask_status(&state).await?;
    Ok(StatusJson::new(status, state.insecure))
}

pub(super) async fn explain(state: AdminState) -> Result<ExplanationJson, ApiError> {
    match state.desk.ask(AdminRequest::Explain, QUESTION_TIMEOUT).await? {
        AdminReply::Explain(explanation) => Ok(ExplanationJson::from(*explanation)),
        AdminReply::Failed { code, message, next, leader_admin_address } => {
            Err(failed(code, message, next, leader_admin_address))
        }
        _ => Err(unexpected()),
    }
}

pub(super) async fn members(state: AdminState) -> Result<MembersJson, ApiError> {
    Ok(MembersJson::from(ask_status(&state).await?))
}

pub(super) async fn list_vhosts(state: AdminState) -> Result<VhostsJson, ApiError> {
    Ok(VhostsJson::from(ask_status(&state).await?))
}

/// What virtual host to create.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateVhost {
    name: String,
    /// For the audit: at most 1,000 bytes without control characters.
    #[serde(default)]
    reason: String,
}

/// It exists.
#[derive(Serialize, JsonSchema)]
pub(super) struct VhostCreated {
    name: String,
    /// False if it existed before.
    created: bool,
}

pub(super) async fn create_vhost(
    state: AdminState,
    author: Author,
    body: CreateVhost,
) -> Result<(StatusCode, VhostCreated), ApiError> {
    let CreateVhost { name, reason } = body;
    let request = AdminRequest::CreateVhost { name: name.clone(), reason, author };
    match state.desk.ask(request, COMMAND_TIMEOUT).await? {
        AdminReply::Done { changed } => {
            let status = if changed { StatusCode::CREATED } else { StatusCode::OK };
            Ok((status, VhostCreated { name, created: changed }))
        }
        AdminReply::Failed { code, message, next, leader_admin_address } => {
            Err(failed(code, message, next, leader_admin_address))
        }
        _ => Err(unexpected()),
    }
}

/// Why the cluster is to be shut down.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Shutdown {
    /// For the brokers' logs: 1 to 1,000 bytes without control characters.
    reason: String,
}

/// Longest reason of an operator that is taken, in bytes.
const REASON_BYTES_MAX: usize = 1000;

pub(super) async fn shutdown(
    state: AdminState,
    author: Author,
    body: Shutdown,
) -> Result<(StatusCode, ShutdownJson), ApiError> {
    let Shutdown { reason } = body;
    if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX || reason.chars().any(char::is_control) {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "invalid",
            format!("the reason must be text of 1 to {REASON_BYTES_MAX} bytes without control characters"),
            &["quorate cluster shutdown --reason TEXT"],
        ));
    }
    match state.desk.ask(AdminRequest::Shutdown { reason, author }, COMMAND_TIMEOUT).await? {
        AdminReply::ShutDown(report) => Ok((StatusCode::OK, ShutdownJson::from(*report))),
        AdminReply::Failed { code, message, next, leader_admin_address } => {
            Err(failed(code, message, next, leader_admin_address))
        }
        _ => Err(unexpected()),
    }
}

/// How the cluster was shut down.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Shut")]
pub(super) struct ShutdownJson {
    shutdown_id: String,
    /// There are no stores that could be clean.
    transient: bool,
    members: Vec<MemberShutJson>,
}

/// How one member was.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MemberShut")]
struct MemberShutJson {
    name: String,
    store_id: String,
    clean: bool,
    stopped: bool,
    /// Why its store is not clean.
    detail: Option<String>,
}

impl From<ShutdownReport> for ShutdownJson {
    fn from(report: ShutdownReport) -> Self {
        let transient = report.transient;
        let members = report.members.into_iter().map(|member| MemberShutJson {
            name: member.name,
            store_id: member.store_id.to_string(),
            clean: !transient && member.why_not_clean.is_none(),
            stopped: member.why_not_clean.is_none(),
            detail: member.why_not_clean,
        });
        Self { shutdown_id: report.id.to_string(), transient, members: members.collect() }
    }
}

/// Only JSON that says so: a web page of somebody else cannot send that here without asking first.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(
    headers: &HeaderMap,
    body: &[u8],
) -> Result<T, ApiError> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not-json",
            "the body must be JSON",
            &["send the header Content-Type: application/json"],
        ));
    }
    serde_json::from_slice(body).map_err(|error| {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid", error.to_string(), &["GET /api/v1/openapi.json"])
    })
}

pub(super) async fn metrics(State(state): State<AdminState>) -> Response {
    let core: Option<Metrics> = match state.desk.ask(AdminRequest::Metrics, QUESTION_TIMEOUT).await {
        Ok(AdminReply::Metrics(metrics)) => Some(*metrics),
        _ => None,
    };
    let text = metrics::text(core, &state.counters, &state.events);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

pub(super) async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

pub(super) async fn not_found(uri: Uri) -> ApiError {
    let message = format!("nothing is served at {}", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, "not-found", message, &["GET /api/v1/openapi.json"])
}

pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let message = format!("{method} is not for {}", uri.path());
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        message,
        &["GET /api/v1/openapi.json"],
    )
}
