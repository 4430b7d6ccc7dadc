//! What Kubernetes and an operator ask a service that embeds [Claviger](claviger): routers to be
//! merged into the service's own.
//!
//! | route | by | answers |
//! |---|---|---|
//! | `GET /livez` | [`probes`] | 200 while the runtime answers, whatever the state of databases and backends |
//! | `GET /readyz` | [`probes`] | 200 while every credential is good and was verified, else 503; the reasons in JSON |
//! | `GET /status` | [`status`] | the whole [`Status`](claviger::Status) in JSON; never mounted unless asked for |
//!
//! Nothing of it carries a secret. `/status` names providers, pools and what the database answered:
//! mount it where only operators come.
//!
//! ```
//! use axum::{Router, routing::get};
//! use claviger::Supervisor;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let supervisor = Supervisor::start();
//! let service: Router = Router::new()
//!     .route("/orders", get(async || "none"))
//!     .merge(claviger_axum::probes(&supervisor));
//! // For operators alone, as on a port of its own.
//! let operators: Router = claviger_axum::status(&supervisor);
//! # drop((service, operators));
//! # }
//! ```

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use claviger::Supervisor;

/// The routes for Kubernetes: `/livez` and `/readyz`, each with its facts in JSON, never cached.
///
/// `/livez` is 200 as long as the process can answer, also during shutdown, and never looks at a
/// database: a restart cures none. `/readyz` is 503 from the call of [`Supervisor::shutdown`] on,
/// so that traffic stops while requests that are under way end.
///
/// The routers answer from memory: a probe costs no query and no request to a backend.
pub fn probes<S: Clone + Send + Sync + 'static>(supervisor: &Supervisor) -> Router<S> {
    let (alive, ready) = (supervisor.clone(), supervisor.clone());
    Router::new()
        .route(
            "/livez",
            get(async move || fresh(Json(alive.liveness()).into_response())),
        )
        .route(
            "/readyz",
            get(async move || {
                let readiness = ready.readiness();
                let code = if readiness.ready {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                fresh((code, Json(readiness)).into_response())
            }),
        )
}

/// The route for operators: `/status`, how everything stands, in JSON. Durations are in seconds,
/// points in time by RFC 3339.
///
/// It tells the names of providers and pools, digests of revisions, expiries, the last errors: no
/// secret, and yet nothing for everybody.
pub fn status<S: Clone + Send + Sync + 'static>(supervisor: &Supervisor) -> Router<S> {
    let supervisor = supervisor.clone();
    Router::new().route(
        "/status",
        get(async move || fresh(Json(supervisor.status()).into_response())),
    )
}

/// A probe's answer is worth nothing a moment later.
fn fresh(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
