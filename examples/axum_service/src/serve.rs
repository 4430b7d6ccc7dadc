//! From the first request to the last.

use std::future::Future;
use std::time::Duration;

use claviger::ShutdownReport;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::{Problem, Service};

/// How long the steps of the end may take: 23 s in all, within the 30 s after which Kubernetes
/// kills.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How long everything is served as before while `/readyz` says 503: who sends requests here
    /// takes a moment to hear of it. 3 s.
    pub farewell: Duration,
    /// How long requests that are under way may then take. 10 s.
    pub requests: Duration,
    /// How long the pools may take to drain and leases to be released. 10 s.
    pub pools: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            farewell: Duration::from_secs(3),
            requests: Duration::from_secs(10),
            pools: Duration::from_secs(10),
        }
    }
}

/// Serves customers and operators until `stop`, then ends in this order: `/readyz` says 503 → no
/// new connection is accepted and requests that are under way end → pools drain → leases are
/// released. Operators can look at `/status` to the last.
///
/// # Errors
/// When a listener fails. A request that does not end within its bound is cut with the program's
/// end, and is no error here: the report tells of it.
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
    let mut aside = Task(tokio::spawn({
        let routes = service.operators();
        async move { axum::serve(operators, routes).await }
    }));
    tokio::select! {
        ended = &mut server.0 => ended??,
        ended = &mut aside.0 => ended??,
        () = stop => {}
    }

    tracing::info!("asked to stop: unready from now on");
    service.supervisor.announce_shutdown();
    tokio::time::sleep(bounds.farewell).await;
    // Its receiver is gone when the server is.
    let _ = close.send(());
    match tokio::time::timeout(bounds.requests, &mut server.0).await {
        Ok(ended) => ended??,
        Err(_) => {
            tracing::warn!(bound = ?bounds.requests, "requests are still under way; they will be cut")
        }
    }
    Ok(service.supervisor.shutdown(bounds.pools).await)
}

/// A server that ends with whoever waits for it.
struct Task(JoinHandle<std::io::Result<()>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
