//! `/api/v1/losses`: what this broker's quarantine holds that the cluster does not have.

use axum::http::StatusCode;
use quorate_store::files::real::RealFiles;
use quorate_store::quarantine::{Loss, losses};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::AdminState;
use super::answers::{ApiError, ask_status};

/// Losses in one answer, at most and unless told otherwise.
const PAGE: usize = 100;

/// Which of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// Those of later images than this one.
    #[serde(default)]
    after: u64,
    /// So many at most, of up to 100.
    limit: Option<usize>,
}

/// Losses of this broker.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Losses")]
pub(super) struct LossesJson {
    name: String,
    store_id: String,
    data_dir: Option<String>,
    #[schemars(with = "Vec<LossJson>")]
    losses: Vec<Loss>,
    /// There are later ones.
    more: bool,
}

/// What one image holds that the cluster does not have: [`Loss`] as it writes itself.
#[derive(JsonSchema)]
#[schemars(rename = "Loss")]
#[expect(dead_code, reason = "it describes what the store's own type writes")]
struct LossJson {
    id: String,
    group: u32,
    vhost: String,
    /// Epoch, term and index after which it begins.
    fork: String,
    /// The image's number.
    image: u64,
    directory: String,
    bytes: u64,
    /// Milliseconds since 1970.
    when_ms: u64,
}

/// Reads the records of the images only, and those in a thread of their own.
pub(super) async fn list(state: AdminState, page: Page) -> Result<LossesJson, ApiError> {
    let status = ask_status(&state).await?;
    let found = match state.data_dir.clone() {
        None => Vec::new(),
        Some(directory) => tokio::task::spawn_blocking(move || losses(&RealFiles, &directory))
            .await
            .map_err(|error| unreadable(error.to_string()))?
            .map_err(|error| unreadable(error.to_string()))?,
    };
    let limit = page.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let mut later = found.into_iter().filter(|loss| loss.image > page.after);
    let losses: Vec<Loss> = later.by_ref().take(limit).collect();
    Ok(LossesJson {
        name: status.name,
        store_id: status.store_id.to_string(),
        data_dir: state.data_dir.as_ref().map(|directory| directory.display().to_string()),
        losses,
        more: later.next().is_some(),
    })
}

fn unreadable(why: String) -> ApiError {
    let next = &["quorate store quarantine list DIR"];
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "io", why, next)
}
