//! A service with credentials in a file, a pool, a query and a rotation of the password.
//!
//! Run it with `cargo run --example quickstart`.

#![expect(clippy::print_stdout, reason = "an example prints its results")]

use std::time::Duration;

use claviger::{PgPools, Supervisor};
use claviger_file::FileProvider;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The environment: a server and a mounted file with the secret.
    let server = claviger_servers::Postgres::start()?;
    server.create_role("app", "first")?;
    server.create_database("orders", "app")?;
    let secret = tempfile::NamedTempFile::new()?;
    std::fs::write(&secret, r#"{"username": "app", "password": "first"}"#)?;

    // The code of a service.
    let supervisor = Supervisor::start();
    let credentials = supervisor
        .add_provider("orders-credentials", FileProvider::json(secret.path())?)
        .await?;
    let options = PgConnectOptions::new()
        .host(server.host())
        .port(server.port())
        .database("orders");
    let db = supervisor
        .add_pool(
            "orders",
            &credentials,
            PgPools::new(options, PgPoolOptions::new()),
        )
        .await?;
    let user: String = sqlx::query_scalar("SELECT current_user::text")
        .fetch_one(&db)
        .await?;
    println!("generation {}: logged in as {user}", db.generation());

    // A rotation.
    let changed = db.changed();
    server.set_password("app", "second")?;
    std::fs::write(&secret, r#"{"username": "app", "password": "second"}"#)?;
    println!(
        "the password changed; generation {} is current",
        changed.await
    );
    sqlx::query("SELECT 1").execute(&db).await?;
    supervisor.shutdown(Duration::from_secs(10)).await;
    Ok(())
}
