//! Probes for Kubernetes, and the status in JSON.

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

/// Disables caching, because a response is outdated at once.
pub(crate) fn uncached(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
