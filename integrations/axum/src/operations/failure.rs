//! Errors of operations, as responses in JSON.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use claviger::error::{Error, ErrorKind};
use serde_json::{Value, json};

/// The reason why an operation was not done.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    /// A word for programs, and for the log.
    pub(super) kind: &'static str,
    /// One line for people.
    pub(super) message: String,
    /// More fields of the body.
    more: Vec<(&'static str, Value)>,
    retry_after: Option<u64>,
}

impl Failure {
    pub(super) fn invalid(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            kind: "invalid_input",
            message: message.into(),
            more: Vec::new(),
            retry_after: None,
        }
    }

    /// The same for a missing and for a wrong token.
    pub(super) fn unauthorized() -> Self {
        Self {
            kind: "unauthorized",
            ..Self::invalid(
                StatusCode::UNAUTHORIZED,
                "a valid token is required: Authorization: Bearer TOKEN",
            )
        }
    }

    pub(super) fn too_many(wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self {
            kind: "too_many_requests",
            more: vec![("retry_after_seconds", json!(seconds))],
            retry_after: Some(seconds),
            ..Self::invalid(
                StatusCode::TOO_MANY_REQUESTS,
                format!("too many requests; try again in {seconds} s"),
            )
        }
    }

    pub(super) fn panicked() -> Self {
        Self {
            kind: "panicked",
            ..Self::invalid(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the operation panicked; the log has the cause",
            )
        }
    }

    /// Returns the failure of a call to the supervisor. `known` are the names that exist.
    pub(super) fn of_call(error: &Error, name: &str, known: &[Arc<str>]) -> Self {
        let kind = error.kind();
        let status = match kind {
            ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
            ErrorKind::NotRegistered => StatusCode::NOT_FOUND,
            ErrorKind::AlreadyRegistered
            | ErrorKind::InUse
            | ErrorKind::Held
            | ErrorKind::NotPossible => StatusCode::CONFLICT,
            ErrorKind::Provider | ErrorKind::Pool => StatusCode::BAD_GATEWAY,
            ErrorKind::ShutDown | ErrorKind::NoRuntime => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut more = Vec::new();
        if kind == ErrorKind::NotRegistered {
            more.push(("nearest", json!(nearest(name, known))));
        }
        let cause = match (error.provider_error(), error.connect_error()) {
            (Some(cause), _) => Some(json!(cause)),
            (_, Some(cause)) => Some(json!(cause)),
            _ => None,
        };
        more.extend(cause.map(|cause| ("cause", cause)));
        Self {
            kind: kind.as_str(),
            more,
            ..Self::invalid(status, error.to_string())
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut error = json!({ "kind": self.kind, "message": self.message });
        for (name, value) in self.more {
            error[name] = value;
        }
        let mut response = (self.status, Json(json!({ "error": error }))).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Smallest similarity of a name that is suggested.
const MIN_SIMILARITY: f64 = 0.5;

/// Returns the name that is most similar, if one is similar at all.
fn nearest<'k>(name: &str, known: &'k [Arc<str>]) -> Option<&'k str> {
    // The sender determines the length of a name.
    let name: String = name.chars().take(200).collect();
    let similar = known.iter().map(|one| {
        let similarity = strsim::normalized_damerau_levenshtein(&name, one);
        (similarity, &**one)
    });
    let (similarity, nearest) = similar.max_by(|(left, _), (right, _)| left.total_cmp(right))?;
    (similarity >= MIN_SIMILARITY).then_some(nearest)
}
