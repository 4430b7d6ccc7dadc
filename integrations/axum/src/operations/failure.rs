//! Errors of operations, as responses in JSON.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use claviger::error::{Error, ErrorKind};
use serde_json::{Value, json};
use tokio::task::JoinError;

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

    pub(super) fn another_method() -> Self {
        Self::invalid(
            StatusCode::METHOD_NOT_ALLOWED,
            "send this request with the method POST",
        )
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

    /// Returns the failure of an operation whose task has ended without a result.
    pub(super) fn lost(error: &JoinError) -> Self {
        if !error.is_panic() {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            let message = "the service is ending; the operation may not be complete";
            return Self {
                kind: "no_runtime",
                ..Self::invalid(status, message)
            };
        }
        Self {
            kind: "panicked",
            ..Self::invalid(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the operation panicked; the log has the cause",
            )
        }
    }

    /// Returns the failure of a request whose target does not exist. `known` are the names that do.
    pub(super) fn not_registered(kind: &str, name: &str, known: &[Arc<str>]) -> Self {
        let names: Vec<_> = known.iter().map(|known| format!("{known:?}")).collect();
        let known_names = match names.is_empty() {
            true => "none is registered".to_owned(),
            false => format!("registered: {}", names.join(", ")),
        };
        let name_shown = shortened(name);
        Self {
            kind: ErrorKind::NotRegistered.as_str(),
            more: vec![("nearest", json!(nearest(name, known)))],
            ..Self::invalid(
                StatusCode::NOT_FOUND,
                format!("no {kind} is named {name_shown:?}; {known_names}"),
            )
        }
    }

    /// Returns the failure of a call to the supervisor.
    pub(super) fn of_call(error: &Error) -> Self {
        let kind = error.kind();
        let status = match kind {
            ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
            ErrorKind::AlreadyRegistered
            | ErrorKind::InUse
            | ErrorKind::Held
            | ErrorKind::NotPossible => StatusCode::CONFLICT,
            ErrorKind::Provider | ErrorKind::Pool => StatusCode::BAD_GATEWAY,
            ErrorKind::ShutDown | ErrorKind::NoRuntime => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let cause = match (error.provider_error(), error.connect_error()) {
            (Some(cause), _) => Some(json!(cause)),
            (_, Some(cause)) => Some(json!(cause)),
            _ => None,
        };
        Self {
            kind: kind.as_str(),
            more: cause.map(|cause| ("cause", cause)).into_iter().collect(),
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
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Number of characters of an unknown name that are shown: a quarter of the shortest token, which
/// may be sent in the wrong place.
const SHOWN: usize = 8;

/// Returns the beginning of a name that somebody sent.
pub(super) fn shortened(name: &str) -> String {
    match name.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// Smallest similarity of a name that is suggested.
const MIN_SIMILARITY: f64 = 0.5;

/// Returns the name that is most similar, if one is similar at all.
fn nearest<'k>(name: &str, known: &'k [Arc<str>]) -> Option<&'k str> {
    let similar = known.iter().map(|one| {
        let similarity = strsim::normalized_damerau_levenshtein(name, one);
        (similarity, &**one)
    });
    let (similarity, nearest) = similar.max_by(|(left, _), (right, _)| left.total_cmp(right))?;
    (similarity >= MIN_SIMILARITY).then_some(nearest)
}
