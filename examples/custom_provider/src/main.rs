//! A provider of one's own. Run it with `cargo run -p custom_provider`.
//!
//! The secret service mints a database user for each `POST /leases`, which lives for a minute, and
//! drops it on `DELETE /leases/{id}`. The provider asks for a user, asks for the next one long
//! before that minute is over, and gives the old one back when its last connection has gone.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

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
    let login = supervisor
        .add_provider("minted", HttpSecrets::new(format!("http://{address}"))?)
        .await?;
    let db = supervisor
        .add_pool(
            "orders",
            &login,
            PgPools::new(options, PgPoolOptions::new().max_connections(4)),
        )
        .await?;
    for _ in 0..3 {
        let user: String = sqlx::query_scalar("SELECT current_user::text")
            .fetch_one(&db)
            .await?;
        println!("generation {}: logged in as {user}", db.generation());
        let report = supervisor.rotate_now("minted").await?;
        println!(
            "rotated on demand: {}, took {:?}",
            report.outcome.as_str(),
            report.took
        );
    }
    let report = supervisor.shutdown(Duration::from_secs(10)).await;
    println!("shut down, nothing left behind: {}", report.clean);
    Ok(())
}
