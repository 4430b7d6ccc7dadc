//! The shortest service whose rotations are traces in Jaeger.
//!
//! ```console
//! $ docker run --rm -p 4318:4318 -p 16686:16686 jaegertracing/jaeger    # or any other Jaeger
//! $ OTEL_METRICS_EXPORTER=none PGHOST=localhost PGDATABASE=orders cargo run -p jaeger -- /etc/orders/secret.json
//! ```
//!
//! Rewrite the file and change the password. The service `orders` then has a trace
//! `credential.rotation`. Jaeger accepts no metrics. Other collectors do.

use std::time::Duration;

use claviger::{PgPools, Supervisor};
use claviger_file::FileProvider;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::signal::unix::{SignalKind, signal};
use tracing::Instrument;

type Problem = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Problem> {
    let file = std::env::args()
        .nth(1)
        .ok_or("give the path of the secret: {\"username\": …, \"password\": …}")?;
    // Installed first, so that a signal during the start also causes an orderly shutdown.
    let (mut interrupted, mut terminated) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let telemetry = claviger_otel::init("orders")?; // before the supervisor
    let supervisor = Supervisor::start();
    let credentials = supervisor
        .add_provider("orders-credentials", FileProvider::json(file)?)
        .await?;
    let pools = PgPools::new(
        PgConnectOptions::new_without_pgpass(),
        PgPoolOptions::new().max_connections(4),
    );
    let db = supervisor.add_pool("orders", &credentials, pools).await?;

    loop {
        // A request with a span of its own, which records a wait for a credential.
        let request = async {
            sqlx::query_scalar::<_, i64>("SELECT count(*) FROM pg_database")
                .fetch_one(&db)
                .await
        };
        match request
            .instrument(tracing::info_span!("GET /databases", otel.kind = "server"))
            .await
        {
            Ok(databases) => tracing::debug!(databases, "query succeeded"),
            Err(error) => tracing::warn!(%error, "query failed"),
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
            _ = interrupted.recv() => break,
            _ = terminated.recv() => break,
        }
    }
    supervisor.shutdown(Duration::from_secs(10)).await;
    telemetry.shutdown(); // sends what is still buffered
    Ok(())
}
