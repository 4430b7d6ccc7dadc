//! Routes for customers and operators.

use axum::Router;
use axum::extract::{FromRef, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use claviger::{Handle, PgPools, Supervisor};

use crate::Metrics;

/// State of the handlers. Clones are the same service.
#[derive(Clone, Debug)]
pub struct Service {
    pub(crate) supervisor: Supervisor,
    db: Handle<PgPools>,
    metrics: Metrics,
}

/// Lets a handler that needs only the database take `State<Handle<PgPools>>`.
impl FromRef<Service> for Handle<PgPools> {
    fn from_ref(service: &Service) -> Self {
        service.db.clone()
    }
}

impl Service {
    /// Creates the service.
    pub fn new(supervisor: Supervisor, db: Handle<PgPools>, metrics: Metrics) -> Self {
        Self {
            supervisor,
            db,
            metrics,
        }
    }

    /// Returns the routes for customers, Kubernetes and Prometheus: `/orders`, `/report/{seconds}`,
    /// `/livez`, `/readyz`, `/metrics`.
    pub fn routes(&self) -> Router {
        Router::new()
            .route("/orders", get(count_orders))
            .route("/report/{seconds}", get(report_orders))
            .route("/metrics", get(metrics_text))
            .with_state(self.clone())
            .merge(claviger_axum::probes(&self.supervisor))
    }

    /// Returns the routes for operators: the status page at `/`, and `/status` in JSON.
    pub fn operators(&self) -> Router {
        claviger_axum::page(&self.supervisor).merge(claviger_axum::status(&self.supervisor))
    }
}

async fn count_orders(State(db): State<Handle<PgPools>>) -> Result<String, QueryError> {
    let orders: i64 = sqlx::query_scalar("SELECT count(*) FROM orders")
        .fetch_one(&db)
        .await?;
    Ok(format!("{orders} orders\n"))
}

/// Runs a slow query and then another one. During a shutdown the second one needs the pool, not
/// only a connection.
async fn report_orders(
    State(db): State<Handle<PgPools>>,
    Path(seconds): Path<f64>,
) -> Result<String, QueryError> {
    sqlx::query("SELECT pg_sleep($1)")
        .bind(seconds)
        .execute(&db)
        .await?;
    let orders: i64 = sqlx::query_scalar("SELECT count(*) FROM orders")
        .fetch_one(&db)
        .await?;
    Ok(format!("{orders} orders, counted in {seconds} s\n"))
}

async fn metrics_text(State(service): State<Service>) -> Response {
    match service.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A failed query. Its cause is in the log, not in the response.
struct QueryError(sqlx::Error);

impl From<sqlx::Error> for QueryError {
    fn from(error: sqlx::Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for QueryError {
    fn into_response(self) -> Response {
        tracing::warn!(error = %self.0, "a query failed");
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the database is not available\n",
        )
            .into_response()
    }
}
