//! The shortest service whose rotations can be watched in Jaeger.
//!
//! ```console
//! $ docker run --rm -p 4318:4318 -p 16686:16686 jaegertracing/jaeger    # or any other Jaeger
//! $ OTEL_METRICS_EXPORTER=none PGHOST=localhost PGDATABASE=orders cargo run -p jaeger -- /etc/orders/secret.json
//! ```
//!
//! Rewrite the file and change the password, and there is a trace `credential.rotation` of the
//! service `orders`. Jaeger takes no metrics; a collector that does takes those, too.

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
    // From the first moment on: who is told to end while it starts is not to be killed by it.
    let (mut interrupted, mut terminated) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let telemetry = claviger_otel::init("orders")?; // before the supervisor
    let supervisor = Supervisor::start();
    let login = supervisor
        .add_provider("orders-login", FileProvider::json(file)?)
        .await?;
    let pools = PgPools::new(
        PgConnectOptions::new_without_pgpass(),
        PgPoolOptions::new().max_connections(4),
    );
    let db = supervisor.add_pool("orders", &login, pools).await?;

    loop {
        // A request, with a span of its own: if it has to wait for a credential, that is told in
        // it.
        let request = async {
            sqlx::query_scalar::<_, i64>("SELECT count(*) FROM pg_database")
                .fetch_one(&db)
                .await
        };
        match request
            .instrument(tracing::info_span!("GET /databases", otel.kind = "server"))
            .await
        {
            Ok(databases) => tracing::debug!(databases, "answered"),
            Err(error) => tracing::warn!(%error, "not answered"),
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
            _ = interrupted.recv() => break,
            _ = terminated.recv() => break,
        }
    }
    supervisor.shutdown(Duration::from_secs(10)).await;
    telemetry.shutdown(); // what is still on its way is sent
    Ok(())
}
