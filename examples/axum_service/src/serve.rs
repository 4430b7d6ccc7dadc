//! Serves requests, and shuts down.

use std::future::Future;
use std::time::Duration;

use claviger::report::ShutdownReport;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::{Problem, Service};

/// Time limits of the shutdown: 23 s in all, within the 30 s after which Kubernetes sends SIGKILL.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Time in which requests are still accepted while `/readyz` returns 503. Load balancers notice
    /// the 503 with a delay. Default: 3 s.
    pub not_ready: Duration,
    /// Time for requests in progress. Default: 10 s.
    pub requests: Duration,
    /// Time for pools to drain and leases to be released. Default: 10 s.
    pub pools: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            not_ready: Duration::from_secs(3),
            requests: Duration::from_secs(10),
            pools: Duration::from_secs(10),
        }
    }
}

/// Serves customers and operators until `stop`, then shuts down in this order:
///
/// 1. `/readyz` returns 503.
/// 2. No new connection is accepted, and requests in progress end.
/// 3. Pools drain, and leases are released.
///
/// Operators are served until the end.
///
/// # Errors
/// The error of a listener that failed. Requests that exceed their time limit are cut when the
/// program ends, and the report contains their pools.
pub async fn serve(
    service: Service,
    customers: TcpListener,
    operators: TcpListener,
    stop: impl Future<Output = ()>,
    bounds: Bounds,
) -> Result<ShutdownReport, Problem> {
    let (close, closed) = oneshot::channel::<()>();
    let server = axum::serve(customers, service.routes()).with_graceful_shutdown(async {
        let _ = closed.await;
    });
    let mut server = Task(tokio::spawn(async move { server.await }));
    let mut operators_server = Task(tokio::spawn({
        let routes = service.operators();
        async move { axum::serve(operators, routes).await }
    }));
    tokio::select! {
        ended = &mut server.0 => ended??,
        ended = &mut operators_server.0 => ended??,
        () = stop => {}
    }

    tracing::info!("shutdown requested; no longer ready");
    service.supervisor.announce_shutdown();
    tokio::time::sleep(bounds.not_ready).await;
    // The receiver is dropped when the server has ended.
    let _ = close.send(());
    match tokio::time::timeout(bounds.requests, &mut server.0).await {
        Ok(ended) => ended??,
        Err(_) => {
            tracing::warn!(
                bound = ?bounds.requests,
                "requests are still in progress; they will be cut"
            )
        }
    }
    Ok(service.supervisor.shutdown(bounds.pools).await)
}

/// A server task that is aborted on drop.
struct Task(JoinHandle<std::io::Result<()>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
