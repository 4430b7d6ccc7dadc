//! A custom provider. Run it with `cargo run -p custom_provider`.
//!
//! The secret service creates a database user with a ttl of one minute for each `POST /leases`, and
//! drops it on `DELETE /leases/{id}`. The provider obtains the next user long before the old one
//! expires. It releases the old one when its last connection has closed.

#![expect(clippy::print_stdout, reason = "an example prints its results")]

mod provider;
mod service;

use std::time::Duration;

use claviger::{PgPools, Supervisor};
use claviger_servers::Postgres;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use provider::HttpSecrets;

type Problem = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Problem> {
    let server = tokio::task::spawn_blocking(Postgres::start).await??;
    let options = PgConnectOptions::new_without_pgpass()
        .host(server.host())
        .port(server.port())
        .database("postgres");
    let address = service::start(server).await?;

    let supervisor = Supervisor::start();
    let credentials = supervisor
        .add_provider(
            "orders-credentials",
            HttpSecrets::new(format!("http://{address}"))?,
        )
        .await?;
    let db = supervisor
        .add_pool(
            "orders",
            &credentials,
            PgPools::new(options, PgPoolOptions::new().max_connections(4)),
        )
        .await?;
    for _ in 0..3 {
        let user: String = sqlx::query_scalar("SELECT current_user::text")
            .fetch_one(&db)
            .await?;
        println!("generation {}: logged in as {user}", db.generation());
        let report = supervisor.rotate_now("orders-credentials").await?;
        println!(
            "rotated manually: {}, took {:?}",
            report.outcome.as_str(),
            report.took
        );
    }
    let report = supervisor.shutdown(Duration::from_secs(10)).await;
    println!("shut down, nothing remains: {}", report.clean);
    Ok(())
}
