//! Operations over HTTP, for operators with a token.

mod failure;
mod limit;
mod log;
mod request;
mod token;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use claviger::Supervisor;
use claviger::error::ErrorKind;
use serde_json::{Value, json};

use crate::probes::uncached;
use failure::Failure;
use limit::Limit;
use log::{Log, Outcome};
use request::{Operation, Target, read};
pub use token::{OperatorToken, TokenError};

/// Number of requests of one kind with one token that are carried out at once.
const BURST: u32 = 10;
/// Time between two of them afterwards.
const INTERVAL: Duration = Duration::from_secs(1);

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
/// 200 `{"operation": …, "name": …, "outcome": …, "result": …}`, else `{"error": {"kind": …,
/// "message": …}}`. The result is the report of the rotation or rehearsal, or, of `/hold` and
/// `/resume`, the provider's status. The outcome is a word: `adopted`, `unchanged`, `superseded` or
/// `unfinished` of a rotation, `verified`, `not_verified` or `no_pools` of a rehearsal, `held`,
/// `resumed`.
///
/// - Errors of a request: 400 for an invalid body, 401 without a valid token, 404 for an unknown
///   name (with the nearest one), 405 for another method than POST. 429 (with `Retry-After`) if
///   there are too many requests.
/// - Errors of an operation: 409 if the state does not allow it, 502 if the backend or the database
///   fails, 503 after the shutdown.
/// - A token may begin each operation ten times at once, then once a second. No operator blocks
///   another. Requests without a valid token have a limit of their own, and block nobody.
/// - Tokens are compared in constant time.
/// - Each operation is logged when it begins and when it ends: what, whose token, and from where if
///   the router is served with `into_make_service_with_connect_info::<SocketAddr>()`. It continues
///   if the client leaves.
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
        operators: tokens.into_iter().map(Operator::new).collect(),
        rejections: Limit::new(BURST, INTERVAL),
    });
    let mut router = Router::new();
    for operation in Operation::ALL {
        let guard = Arc::clone(&guard);
        let handler = async move |request: Request| guard.respond(operation, request).await;
        let another_method = async || uncached(Failure::another_method().into_response());
        let methods = post(handler).fallback(another_method);
        router = router.route(&format!("/{}", operation.as_str()), methods);
    }
    router
}

/// A token, and the limit of each operation with it. No operator's requests block another's.
struct Operator {
    token: OperatorToken,
    limits: [Limit; Operation::ALL.len()],
    /// Limits the log lines about requests beyond them.
    logged: Limit,
}

impl Operator {
    fn new(token: OperatorToken) -> Self {
        let limits = Operation::ALL.map(|_| Limit::new(BURST, INTERVAL));
        let logged = Limit::new(BURST, INTERVAL);
        Self {
            token,
            limits,
            logged,
        }
    }
}

/// State that all operations share.
struct Guard {
    supervisor: Supervisor,
    operators: Vec<Operator>,
    /// Limits requests without a valid token.
    rejections: Limit,
}

impl Guard {
    async fn respond(self: Arc<Self>, operation: Operation, request: Request) -> Response {
        let response = match self.run(operation, request).await {
            Ok((name, outcome)) => Json(json!({
                "operation": operation.as_str(),
                "name": name,
                "outcome": outcome.word,
                "result": outcome.result,
            }))
            .into_response(),
            Err(failure) => failure.into_response(),
        };
        uncached(response)
    }

    async fn run(
        self: Arc<Self>,
        operation: Operation,
        request: Request,
    ) -> Result<(String, Outcome), Failure> {
        let address = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let from = address.map_or_else(|| "unknown".to_owned(), |address| address.0.to_string());
        let tokens = self.operators.iter().map(|operator| &operator.token);
        let Some(found) = token::find(tokens, request.headers()) else {
            return Err(self.reject(operation, &from));
        };
        let operator = &self.operators[found];
        let mut log = Log::new(operation, operator.token.label(), from);
        if let Err(wait) = operator.limits[operation as usize].take() {
            let failure = Failure::too_many(wait);
            if let Ok(unlogged) = operator.logged.take() {
                log.limited(&failure, unlogged);
            }
            return Err(failure);
        }
        let target = read(operation, request).await;
        let target = target.inspect_err(|failure| log.failed(failure))?;
        let name = target.name().to_owned();
        log.name(&name, &self.known(&target));
        log.begins();
        // In tasks, so that it is completed and logged if the client leaves.
        let task = tokio::spawn(async move {
            let call = tokio::spawn(async move { self.call(operation, &target).await });
            let called = call
                .await
                .unwrap_or_else(|error| Err(Failure::lost(&error)));
            let result = called.map(|result| Outcome::new(operation, result));
            match &result {
                Ok(outcome) => log.ended(outcome),
                Err(failure) => log.failed(failure),
            }
            result
        });
        let outcome = task
            .await
            .unwrap_or_else(|error| Err(Failure::lost(&error)))?;
        Ok((name, outcome))
    }

    /// Returns the registered names of the target's kind.
    fn known(&self, target: &Target) -> Vec<Arc<str>> {
        let status = self.supervisor.status();
        match target {
            Target::Provider(_) => status.providers.into_iter().map(|one| one.name).collect(),
            Target::Pool(_) => status.pools.into_iter().map(|one| one.name).collect(),
        }
    }

    /// Returns the response to a request without a valid token. Ten are logged at once, then one in
    /// a second.
    fn reject(&self, operation: Operation, from: &str) -> Failure {
        let unlogged = match self.rejections.take() {
            Ok(unlogged) => unlogged,
            Err(wait) => return Failure::too_many(wait),
        };
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
        result.map_err(|error| match error.kind() {
            ErrorKind::NotRegistered => {
                Failure::not_registered(target.kind(), name, &self.known(target))
            }
            _ => Failure::of_call(&error),
        })
    }

    /// Returns the status of a provider.
    fn provider(&self, name: &str) -> Value {
        let status = self.supervisor.status();
        let mut providers = status.providers.iter();
        json!(providers.find(|one| &*one.name == name))
    }
}
