//! Runs the service. Try it with
//!
//! ```text
//! cargo run -p axum_service -- 127.0.0.1:8080 127.0.0.1:8081 postgres://127.0.0.1/orders /etc/orders-db
//! ```
//!
//! The arguments are the address for customers, the address for operators, the URL of the database
//! without a user, and a folder. The folder has the files `username` and `password`, as Kubernetes
//! mounts a secret. When the files change, the pool is handed over. After SIGTERM every request in
//! progress is completed.
//!
//! The service listens at once and is not ready (`/readyz`) until the first login. A pod that
//! starts while the database is down, or during a rotation, becomes ready by itself.

#![expect(clippy::print_stdout, reason = "an example prints its results")]

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use axum_service::{Bounds, Metrics, Problem, Service, serve};
use claviger::{PgPools, Supervisor};
use claviger_file::FileProvider;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

const USAGE: &str = "usage: axum_service LISTEN OPERATORS DATABASE_URL CREDENTIALS_FOLDER";

#[tokio::main]
async fn main() -> Result<(), Problem> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, operators, database, folder] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    // ractor opens a span for the lifetime of each actor.
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,ractor=off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .init();
    // Installed first, so that a signal during the start also causes an orderly shutdown.
    let (mut terminated, mut interrupted) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );

    let metrics = Metrics::new("orders")?;
    metrics.set_global();
    let supervisor = Supervisor::builder().start()?;
    let credentials = supervisor
        .add_provider_in_background("orders-credentials", FileProvider::directory(folder)?)?;
    let connect: PgConnectOptions = database.parse()?;
    let options = PgPoolOptions::new()
        .max_connections(10)
        .acquire_timeout(Duration::from_secs(5));
    let db = supervisor.add_pool_in_background(
        "orders",
        &credentials,
        PgPools::new(connect, options),
    )?;

    let (customers, operators) = (
        TcpListener::bind(listen).await?,
        TcpListener::bind(operators).await?,
    );
    println!(
        "customers at http://{}, operators at http://{}",
        customers.local_addr()?,
        operators.local_addr()?
    );
    let stop = async move {
        tokio::select! { _ = terminated.recv() => {}, _ = interrupted.recv() => {} }
    };
    let report = serve(
        Service::new(supervisor, db, metrics),
        customers,
        operators,
        stop,
        Bounds::default(),
    )
    .await?;
    println!("shut down, nothing remains: {}", report.clean);
    if report.clean {
        Ok(())
    } else {
        Err(format!("shutdown was incomplete: {report:?}").into())
    }
}
