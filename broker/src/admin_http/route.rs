//! A route of the router and of the document, made of its handler: what is taken and what is answered has one type, which
//! is read, written and described.

use std::future::Future;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{MethodRouter, get, post};
use quorate_core::admin::Author;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::AdminState;
use super::access::By;
use super::answers::{ApiError, read_json};

/// Describes a type, and what it consists of.
pub(super) type Describe = fn(&mut SchemaGenerator) -> Schema;

/// One route.
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    /// Needs no token.
    pub(super) open: bool,
    pub(super) query: Option<Describe>,
    pub(super) body: Option<Describe>,
    /// Statuses of success.
    pub(super) statuses: &'static [u16],
    pub(super) answer: Answer,
    pub(super) handler: MethodRouter<AdminState>,
}

/// What is answered if all is well.
pub(super) enum Answer {
    /// JSON of this type.
    Json(Describe),
    /// Something of this media type.
    Media(&'static str),
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// The query of an address, or what is wrong with it.
pub(super) fn read_query<Q>(asked: Result<Query<Q>, QueryRejection>) -> Result<Q, ApiError> {
    asked.map(|Query(query)| query).map_err(|error| {
        let next = &["GET /api/v1/openapi.json", "docs/reference/http.md"];
        ApiError::new(StatusCode::BAD_REQUEST, "invalid", error.body_text(), next)
    })
}

/// A question without anything to choose.
pub(super) fn told<A, F, Fut>(path: &'static str, summary: &'static str, handler: F) -> Route
where
    A: Serialize + JsonSchema + 'static,
    F: Fn(AdminState) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<A, ApiError>> + Send + 'static,
{
    let handler = get(move |State(state): State<AdminState>| {
        let answered = handler(state);
        async move { answered.await.map(Json) }
    });
    question(path, summary, Answer::Json(of::<A>), handler)
}

/// A question with a query.
pub(super) fn asked<Q, A, F, Fut>(path: &'static str, summary: &'static str, handler: F) -> Route
where
    Q: DeserializeOwned + JsonSchema + Send + 'static,
    A: Serialize + JsonSchema + 'static,
    F: Fn(AdminState, Q) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<A, ApiError>> + Send + 'static,
{
    let handler = get(move |State(state): State<AdminState>, asked: Result<Query<Q>, QueryRejection>| {
        let answered = read_query(asked).map(|query| handler(state, query));
        async move { answered?.await.map(Json) }
    });
    Route { query: Some(of::<Q>), ..question(path, summary, Answer::Json(of::<A>), handler) }
}

/// A command, by its author, with a body of JSON. Answered with one of these statuses if it is well.
pub(super) fn done<B, A, F, Fut>(
    path: &'static str,
    summary: &'static str,
    statuses: &'static [u16],
    handler: F,
) -> Route
where
    B: DeserializeOwned + JsonSchema + Send + 'static,
    A: Serialize + JsonSchema + 'static,
    F: Fn(AdminState, Author, B) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<(StatusCode, A), ApiError>> + Send + 'static,
{
    let handler =
        post(move |State(state): State<AdminState>, By(author): By, headers: HeaderMap, body: Bytes| {
            let answered = read_json(&headers, &body).map(|body| handler(state, author, body));
            async move { answered?.await.map(|(status, answer)| (status, Json(answer))) }
        });
    let command = question(path, summary, Answer::Json(of::<A>), handler);
    Route { method: "post", body: Some(of::<B>), statuses, ..command }
}

/// A question whose answer is not JSON, or not ours to write.
pub(super) fn raw(
    path: &'static str,
    summary: &'static str,
    media: &'static str,
    handler: MethodRouter<AdminState>,
) -> Route {
    question(path, summary, Answer::Media(media), handler)
}

/// A GET that takes nothing and is for whoever has a token.
fn question(
    path: &'static str,
    summary: &'static str,
    answer: Answer,
    handler: MethodRouter<AdminState>,
) -> Route {
    let (query, body) = (None, None);
    Route { method: "get", path, summary, open: false, query, body, statuses: &[200], answer, handler }
}

impl Route {
    /// The same, for everybody.
    pub(super) fn open(self) -> Self {
        Self { open: true, ..self }
    }

    /// The same, with a query that the handler reads itself.
    pub(super) fn with_query<Q: JsonSchema>(self) -> Self {
        Self { query: Some(of::<Q>), ..self }
    }
}
