//! `/api/v1/losses`: what this broker's quarantine holds that the cluster does not have.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use quorate_store::files::real::RealFiles;
use quorate_store::quarantine::{Loss, losses};
use serde::Deserialize;
use serde_json::{Value, json};

use super::AdminState;
use super::answers::{ApiError, ask_status};

/// Losses in one answer, at most and unless told otherwise.
const PAGE: usize = 100;

/// Which of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// Those of later images than this one.
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

type Asked = Result<Query<Page>, axum::extract::rejection::QueryRejection>;

/// Reads the records of the images only, and those in a thread of their own.
pub(super) async fn list(State(state): State<AdminState>, asked: Asked) -> Result<Json<Value>, ApiError> {
    let Query(page) = asked.map_err(|error| {
        let next = &["GET /api/v1/losses?after=0&limit=100"];
        ApiError::new(StatusCode::BAD_REQUEST, "invalid", error.body_text(), next)
    })?;
    let status = ask_status(&state).await?;
    let found = match state.data_dir.clone() {
        None => Vec::new(),
        Some(directory) => tokio::task::spawn_blocking(move || losses(&RealFiles, &directory))
            .await
            .map_err(|error| unreadable(error.to_string()))?
            .map_err(|error| unreadable(error.to_string()))?,
    };
    let limit = page.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let mut later = found.iter().filter(|loss| loss.image > page.after);
    let shown: Vec<&Loss> = later.by_ref().take(limit).collect();
    let answer = json!({
        "name": status.name,
        "store_id": status.store_id.to_string(),
        "data_dir": state.data_dir.as_ref().map(|directory| directory.display().to_string()),
        "losses": shown,
        "more": later.next().is_some(),
    });
    Ok(Json(answer))
}

fn unreadable(why: String) -> ApiError {
    let next = &["quorate store quarantine list DIR"];
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "io", why, next)
}
