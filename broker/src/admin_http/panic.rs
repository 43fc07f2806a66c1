//! `/api/v1/cluster/panic`: the safety number, and whether this broker panicked.

use axum::http::StatusCode;
use quorate_core::admin::{AdminReply, AdminRequest, Author, SafetyView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answers::{ApiError, failed, unexpected};
use super::{AdminState, COMMAND_TIMEOUT, QUESTION_TIMEOUT};

/// Longest confirmation or reason that is taken, in bytes.
const TEXT_BYTES_MAX: usize = 1000;

/// The safety number, and a panic.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Panic")]
pub(super) struct PanicJson {
    panicked: bool,
    /// In force as this broker knows it: 16 hexadecimal digits; null before the first.
    safety_number: Option<String>,
    /// How often it was renewed.
    renewals: u64,
    /// The two numbers and the likely cause.
    message: Option<String>,
    /// Null, as all about it, if it did not panic, or its panic file cannot be read.
    #[schemars(extend("enum" = ["second-writer", "two-histories", null]))]
    cause: Option<&'static str>,
    likely_cause: Option<&'static str>,
    own_number: Option<String>,
    found_number: Option<String>,
    /// Who has that number.
    found: Option<String>,
    /// Of the process that panicked.
    incarnation: Option<u64>,
    run_id: Option<String>,
    /// Milliseconds since 1970.
    when_ms: Option<u64>,
    /// An earlier process of this broker panicked.
    before_start: bool,
    /// Commands to type next.
    next: Vec<String>,
}

/// A safety number, as text, because JavaScript's numbers do not hold 64 bits; none before the first.
pub(super) fn number(number: u64) -> Option<String> {
    (number != 0).then(|| format!("{number:016x}"))
}

impl From<SafetyView> for PanicJson {
    fn from(view: SafetyView) -> Self {
        let panic = view.panic;
        let record = panic.as_ref().and_then(|panic| panic.record.as_ref());
        Self {
            panicked: panic.is_some(),
            safety_number: number(view.number),
            renewals: view.renewals,
            message: panic.as_ref().map(|panic| panic.text.clone()),
            cause: record.map(|record| record.cause.word()),
            likely_cause: record.map(|record| record.cause.likely()),
            own_number: record.map(|record| format!("{:016x}", record.own.safety_number)),
            found_number: record.map(|record| format!("{:016x}", record.found_number)),
            found: record.map(|record| record.found.clone()),
            incarnation: record.map(|record| record.own.incarnation.0),
            run_id: record.map(|record| record.own.run_id.to_string()),
            when_ms: record.map(|record| record.when_ms),
            before_start: panic.as_ref().is_some_and(|panic| panic.before_start),
            next: panic.map(|panic| panic.next).unwrap_or_default(),
        }
    }
}

pub(super) async fn show(state: AdminState) -> Result<PanicJson, ApiError> {
    match state.desk.ask(AdminRequest::Safety, QUESTION_TIMEOUT).await? {
        AdminReply::Safety(view) => Ok(PanicJson::from(*view)),
        AdminReply::Failed { code, message, next, leader_admin_address } => {
            Err(failed(code, message, next, leader_admin_address))
        }
        _ => Err(unexpected()),
    }
}

/// That the cause is gone.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClearPanic {
    /// The cluster's id; the store's, if it belongs to none.
    confirm: String,
    /// For the broker's log: at most 1,000 bytes without control characters.
    #[serde(default)]
    reason: String,
}

/// It is not panicked any more.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PanicCleared {
    /// False if it was not panicked before.
    cleared: bool,
}

pub(super) async fn clear(
    state: AdminState,
    author: Author,
    body: ClearPanic,
) -> Result<(StatusCode, PanicCleared), ApiError> {
    let ClearPanic { confirm, reason } = body;
    let is_bad = |text: &&String| text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control);
    if [&confirm, &reason].iter().any(is_bad) {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "invalid",
            format!(
                "confirmation and reason must be text of at most {TEXT_BYTES_MAX} bytes without control characters"
            ),
            &["quorate cluster panic clear --confirm CLUSTER-ID --reason TEXT"],
        ));
    }
    let request = AdminRequest::ClearPanic { confirm, reason, author };
    match state.desk.ask(request, COMMAND_TIMEOUT).await? {
        AdminReply::Done { changed } => Ok((StatusCode::OK, PanicCleared { cleared: changed })),
        AdminReply::Failed { code, message, next, leader_admin_address } => {
            Err(failed(code, message, next, leader_admin_address))
        }
        _ => Err(unexpected()),
    }
}
