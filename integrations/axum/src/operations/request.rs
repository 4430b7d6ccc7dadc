//! The request of an operation: which one, and its target.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use serde::Deserialize;

use super::failure::Failure;

/// Maximum size of a body, in bytes.
const BODY: usize = 4_096;
/// Longest name that can be registered, in bytes.
const LONGEST_NAME: usize = 200;

/// An operation that an operator can request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Rotate,
    Hold,
    Resume,
    RollBack,
    Rehearse,
}

impl Operation {
    pub(super) const ALL: [Self; 5] = [
        Self::Rotate,
        Self::Hold,
        Self::Resume,
        Self::RollBack,
        Self::Rehearse,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Rotate => "rotate",
            Self::Hold => "hold",
            Self::Resume => "resume",
            Self::RollBack => "roll_back",
            Self::Rehearse => "rehearse",
        }
    }

    /// Returns the body, for an error.
    fn body(self) -> &'static str {
        match self {
            Self::Rotate | Self::Hold | Self::Resume => r#"{"provider": "NAME"}"#,
            Self::RollBack => r#"{"pool": "NAME"}"#,
            Self::Rehearse => r#"{"provider": "NAME"} or {"pool": "NAME"}"#,
        }
    }

    /// Returns the target in the body, if the operation has such targets.
    fn target(self, names: Names) -> Option<Target> {
        match (names.provider, names.pool) {
            (Some(name), None) if self != Self::RollBack => Some(Target::Provider(name)),
            (None, Some(name)) if matches!(self, Self::RollBack | Self::Rehearse) => {
                Some(Target::Pool(name))
            }
            _ => None,
        }
    }
}

/// Target of an operation.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Provider(String),
    Pool(String),
}

impl Target {
    /// Returns what it names.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Provider(_) => "provider",
            Self::Pool(_) => "pool",
        }
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Provider(name) | Self::Pool(name) => name,
        }
    }
}

/// The body of a request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Names {
    provider: Option<String>,
    pool: Option<String>,
}

/// Reads the target of an operation.
pub(super) async fn read(operation: Operation, request: Request<Body>) -> Result<Target, Failure> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next());
    if !media_type.is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json")) {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        let problem = "Content-Type: must be application/json";
        return Err(Failure::invalid(status, problem));
    }
    let body = to_bytes(request.into_body(), BODY).await.map_err(|_| {
        let problem = format!("the body cannot be read, or has more than {BODY} bytes");
        Failure::invalid(StatusCode::PAYLOAD_TOO_LARGE, problem)
    })?;
    // serde's messages contain values, and somebody may send a token in the wrong place.
    let names: Option<Names> = serde_json::from_slice(&body).ok();
    let target = names.and_then(|names| operation.target(names));
    let target = target.ok_or_else(|| {
        let (name, expected) = (operation.as_str(), operation.body());
        let problem = format!("body: is not that of {name}; give {expected}");
        Failure::invalid(StatusCode::BAD_REQUEST, problem)
    })?;
    let name = target.name();
    if name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
        let problem = format!(
            "{}: has more than {LONGEST_NAME} bytes or control characters; give a registered name",
            target.kind()
        );
        return Err(Failure::invalid(StatusCode::BAD_REQUEST, problem));
    }
    Ok(target)
}
