//! A service with credentials in a file, a pool, a query and a rotation of the password.
//!
//! Run it with `cargo run --package quickstart`. Each line begins with the time since the start.

use std::io::IsTerminal as _;
use std::time::Duration;

use claviger::{PgPools, Supervisor};
use claviger_file::FileProvider;
use claviger_servers::{Postgres, Server, install};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tracing::info;
use tracing_subscriber::fmt::time::uptime;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Shows the library's log lines, too.
    tracing_subscriber::fmt()
        .with_ansi(std::io::stdout().is_terminal())
        .with_timer(uptime())
        .init();

    // The environment: a server and a mounted file with the secret. Where PostgreSQL may not be
    // installed automatically, the error has the command.
    install(Server::PostgreSql).map_err(|error| error.to_string())?;
    let server = Postgres::start()?;
    server.create_role("app", "first")?;
    server.create_database("orders", "app")?;
    let secret = tempfile::NamedTempFile::new()?;
    std::fs::write(&secret, r#"{"username": "app", "password": "first"}"#)?;
    info!("a PostgreSQL has started");

    // The code of a service.
    let supervisor = Supervisor::start();
    let provider = FileProvider::json(secret.path())?;
    let credentials = supervisor
        .add_provider("orders-credentials", provider)
        .await?;
    let options = PgConnectOptions::new()
        .host(server.host())
        .port(server.port())
        .database("orders");
    let pools = PgPools::new(options, PgPoolOptions::new());
    let db = supervisor.add_pool("orders", &credentials, pools).await?;
    let user: String = sqlx::query_scalar("SELECT current_user::text")
        .fetch_one(&db)
        .await?;
    info!("generation {}: connected as {user}", db.generation());

    // A rotation.
    let changed = db.changed();
    server.set_password("app", "second")?;
    std::fs::write(&secret, r#"{"username": "app", "password": "second"}"#)?;
    info!("the password has changed");
    let generation = changed.await;
    sqlx::query("SELECT 1").execute(&db).await?;
    info!("generation {generation} serves queries");
    supervisor.shutdown(Duration::from_secs(10)).await;
    Ok(())
}
