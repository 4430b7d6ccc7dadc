//! Routes for Kubernetes and operators, to merge into the router of a service that uses
//! [Claviger](claviger).
//!
//! | route | function | response |
//! |---|---|---|
//! | `GET /livez` | [`probes`] | 200 while the process responds, independent of databases |
//! | `GET /readyz` | [`probes`] | 200 while every credential is valid and verified, else 503 |
//! | `GET /status` | [`status`] | the whole [`Status`](claviger::status::Status); never mounted by default |
//!
//! All bodies are JSON. That of `/readyz` lists the reasons. None of them contains a secret.
//! `/status` contains the names of providers and pools, and error messages of the database: serve
//! it to operators only.
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
//! // For operators only, for example on another port.
//! let operators: Router = claviger_axum::status(&supervisor);
//! # drop((service, operators));
//! # }
//! ```

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use claviger::Supervisor;

/// Returns the routes for Kubernetes, `/livez` and `/readyz`, with JSON bodies that are never
/// cached.
///
/// `/livez` is 200 while the process can respond, also during shutdown. It does not depend on a
/// database, because a restart would not repair one. `/readyz` is 503 once
/// [`Supervisor::shutdown`] was called, so that traffic stops while requests in progress complete.
///
/// The routes respond from memory: a probe costs no query and no request to a backend.
pub fn probes<S: Clone + Send + Sync + 'static>(supervisor: &Supervisor) -> Router<S> {
    let (livez, readyz) = (supervisor.clone(), supervisor.clone());
    Router::new()
        .route(
            "/livez",
            get(async move || uncached(Json(livez.liveness()).into_response())),
        )
        .route(
            "/readyz",
            get(async move || {
                let readiness = readyz.readiness();
                let code = if readiness.ready {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                uncached((code, Json(readiness)).into_response())
            }),
        )
}

/// Returns the route for operators, `/status`: the whole
/// [`Status`](claviger::status::Status) in JSON. Durations are in seconds, times in RFC 3339.
///
/// It contains names of providers and pools, digests of revisions, expiries and the last errors.
/// None of it is secret, but none of it is meant for the public.
pub fn status<S: Clone + Send + Sync + 'static>(supervisor: &Supervisor) -> Router<S> {
    let supervisor = supervisor.clone();
    Router::new().route(
        "/status",
        get(async move || uncached(Json(supervisor.status()).into_response())),
    )
}

/// Disables caching, because a probe's response is outdated at once.
fn uncached(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
