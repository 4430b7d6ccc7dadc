//! Operations over HTTP, for operators with a token.

mod failure;
mod limit;
mod token;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use claviger::Supervisor;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::probes::uncached;
use failure::Failure;
use limit::Limit;
pub use token::{OperatorToken, TokenError};

/// Number of operations that may begin at once.
const BURST: u32 = 10;
/// Time between two operations afterwards.
const INTERVAL: Duration = Duration::from_secs(1);
/// Maximum size of a body, in bytes.
const BODY: usize = 4_096;

/// Returns the operations for operators, each a POST with a token. They are not mounted by default,
/// and there is none without a token.
///
/// | route | body | call |
/// |---|---|---|
/// | `/rotate` | `{"provider": "…"}` | [`Supervisor::rotate_now`] |
/// | `/hold` | `{"provider": "…"}` | [`Supervisor::hold`] |
/// | `/resume` | `{"provider": "…"}` | [`Supervisor::resume`] |
/// | `/roll_back` | `{"pool": "…"}` | [`Supervisor::roll_back`] |
/// | `/rehearse` | `{"provider": "…"}` or `{"pool": "…"}` | [`Supervisor::rehearse`], [`Supervisor::rehearse_pool`] |
///
/// A request has `Authorization: Bearer TOKEN` and `Content-Type: application/json`. Any of the
/// `tokens` is accepted, so that they can be replaced one after the other. A response is JSON: with
/// 200 `{"operation": …, "name": …, "result": …}`, else `{"error": {"kind": …, "message": …}}`.
/// The result is the report of the rotation or rehearsal, or, of `/hold` and `/resume`, the
/// provider's status.
///
/// - Errors of a request: 400 for an invalid body, 401 without a valid token, 404 for an unknown
///   name (with the nearest one). 429 (with `Retry-After`) if there are too many requests.
/// - Errors of an operation: 409 if the state does not allow it, 502 if the backend or the database
///   fails, 503 after the shutdown.
/// - Ten operations may begin at once, then one each second. Requests without a valid token have a
///   limit of their own, so they do not block operators.
/// - Tokens are compared in constant time.
/// - Each operation is logged at INFO: what, whose token, and from where if the router is served
///   with `into_make_service_with_connect_info::<SocketAddr>()`. It continues if the client leaves.
///
/// ```
/// use claviger::Supervisor;
/// use claviger_axum::{OperatorToken, operations, page, status};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main()
/// # -> Result<(), Box<dyn std::error::Error>> {
/// # let text = "6f0c4e1b0d5a4f2e9c3b7a8d1e2f3a4b";
/// let supervisor = Supervisor::start();
/// // `text` is from a mounted file or the environment.
/// let token = OperatorToken::new("on-call", text)?;
/// let operators: axum::Router = page(&supervisor)
///     .merge(status(&supervisor))
///     .merge(operations(&supervisor, [token]));
/// # drop(operators); Ok(()) }
/// ```
pub fn operations<S: Clone + Send + Sync + 'static>(
    supervisor: &Supervisor,
    tokens: impl IntoIterator<Item = OperatorToken>,
) -> Router<S> {
    let guard = Arc::new(Guard {
        supervisor: supervisor.clone(),
        tokens: tokens.into_iter().collect(),
        limit: Limit::new(BURST, INTERVAL),
        rejections: Limit::new(BURST, INTERVAL),
        unlogged: AtomicU64::new(0),
    });
    let mut router = Router::new();
    for operation in Operation::ALL {
        let guard = Arc::clone(&guard);
        let handler = async move |request: Request| guard.respond(operation, request).await;
        router = router.route(&format!("/{}", operation.as_str()), post(handler));
    }
    router
}

/// An operation that an operator can request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Rotate,
    Hold,
    Resume,
    RollBack,
    Rehearse,
}

impl Operation {
    const ALL: [Self; 5] = [
        Self::Rotate,
        Self::Hold,
        Self::Resume,
        Self::RollBack,
        Self::Rehearse,
    ];

    fn as_str(self) -> &'static str {
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
enum Target {
    Provider(String),
    Pool(String),
}

impl Target {
    fn name(&self) -> &str {
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

/// State that all operations share.
struct Guard {
    supervisor: Supervisor,
    tokens: Vec<OperatorToken>,
    limit: Limit,
    /// Limits requests without a valid token.
    rejections: Limit,
    /// Number of such requests since the last one that was logged.
    unlogged: AtomicU64,
}

impl Guard {
    async fn respond(self: Arc<Self>, operation: Operation, request: Request) -> Response {
        let response = match self.run(operation, request).await {
            Ok((name, result)) => {
                let operation = operation.as_str();
                let body = json!({ "operation": operation, "name": name, "result": result });
                Json(body).into_response()
            }
            Err(failure) => failure.into_response(),
        };
        uncached(response)
    }

    async fn run(
        self: Arc<Self>,
        operation: Operation,
        request: Request,
    ) -> Result<(String, Value), Failure> {
        let address = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let from = address.map_or_else(|| "unknown".to_owned(), |address| address.0.to_string());
        let Some(token) = token::find(&self.tokens, request.headers()) else {
            return Err(self.reject(operation, &from));
        };
        let by = token.label().to_owned();
        let log = Log {
            operation,
            by,
            from,
        };
        let target = match self.limit.take() {
            Ok(()) => read(operation, request).await,
            Err(wait) => Err(Failure::too_many(wait)),
        };
        let target = target.inspect_err(|failure| log.failed(None, failure))?;
        let name = target.name().to_owned();
        // In a task, so that it is completed and logged if the client leaves.
        let operation = tokio::spawn(async move {
            let result = self.call(operation, &target).await;
            match &result {
                Ok(result) => log.done(&target, result),
                Err(failure) => log.failed(Some(&target), failure),
            }
            result
        });
        let result = operation.await.map_err(|_| Failure::panicked())??;
        Ok((name, result))
    }

    /// Returns the response to a request without a valid token. Ten are logged at once, then one in
    /// a second.
    fn reject(&self, operation: Operation, from: &str) -> Failure {
        if let Err(wait) = self.rejections.take() {
            self.unlogged.fetch_add(1, Ordering::Relaxed);
            return Failure::too_many(wait);
        }
        let unlogged = self.unlogged.swap(0, Ordering::Relaxed);
        tracing::warn!(
            operation = operation.as_str(),
            from,
            unlogged,
            "an operation without a valid token was rejected"
        );
        Failure::unauthorized()
    }

    async fn call(&self, operation: Operation, target: &Target) -> Result<Value, Failure> {
        let (supervisor, name) = (&self.supervisor, target.name());
        let result = match (operation, target) {
            (Operation::Rotate, _) => supervisor
                .rotate_now(name)
                .await
                .map(|report| json!(report)),
            (Operation::RollBack, _) => {
                supervisor.roll_back(name).await.map(|report| json!(report))
            }
            (Operation::Rehearse, Target::Provider(_)) => {
                supervisor.rehearse(name).await.map(|report| json!(report))
            }
            (Operation::Rehearse, Target::Pool(_)) => supervisor
                .rehearse_pool(name)
                .await
                .map(|report| json!(report)),
            (Operation::Hold, _) => supervisor.hold(name).map(|()| self.provider(name)),
            (Operation::Resume, _) => supervisor.resume(name).map(|()| self.provider(name)),
        };
        result.map_err(|error| {
            let status = supervisor.status();
            let known: Vec<_> = match target {
                Target::Provider(_) => status.providers.into_iter().map(|one| one.name).collect(),
                Target::Pool(_) => status.pools.into_iter().map(|one| one.name).collect(),
            };
            Failure::of_call(&error, name, &known)
        })
    }

    /// Returns the status of a provider.
    fn provider(&self, name: &str) -> Value {
        let status = self.supervisor.status();
        let mut providers = status.providers.iter();
        json!(providers.find(|one| &*one.name == name))
    }
}

/// Reads the target of an operation.
async fn read(operation: Operation, request: Request<Body>) -> Result<Target, Failure> {
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
    names
        .and_then(|names| operation.target(names))
        .ok_or_else(|| {
            let (name, expected) = (operation.as_str(), operation.body());
            let problem = format!("body: is not that of {name}; give {expected}");
            Failure::invalid(StatusCode::BAD_REQUEST, problem)
        })
}

/// Fields of an operation's log line.
struct Log {
    operation: Operation,
    by: String,
    from: String,
}

impl Log {
    fn done(&self, target: &Target, result: &Value) {
        let outcome = result.get("outcome").and_then(Value::as_str);
        tracing::info!(
            operation = self.operation.as_str(),
            name = target.name(),
            by = self.by,
            from = self.from,
            outcome = outcome.unwrap_or("done"),
            "an operator's request was carried out"
        );
    }

    fn failed(&self, target: Option<&Target>, failure: &Failure) {
        tracing::warn!(
            operation = self.operation.as_str(),
            name = target.map(Target::name),
            by = self.by,
            from = self.from,
            status = failure.status.as_u16(),
            error_type = failure.kind,
            error = failure.message,
            "an operator's request failed"
        );
    }
}
