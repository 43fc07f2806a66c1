//! Who asks.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use quorate_core::admin::Author;

use super::AdminState;
use super::answers::{ApiError, unexpected};

/// The author of a request that changes something.
pub(super) struct By(pub(super) Author);

impl FromRequestParts<AdminState> for By {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &AdminState) -> Result<Self, ApiError> {
        let ConnectInfo(address) =
            parts.extensions.get::<ConnectInfo<SocketAddr>>().ok_or_else(unexpected)?;
        Ok(Self(Author::local(address.to_string())))
    }
}
