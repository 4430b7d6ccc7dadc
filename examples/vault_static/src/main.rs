//! A service whose PostgreSQL password Vault or OpenBao rotates. Run it with
//!
//! ```text
//! cargo run -p vault_static -- VAULT TOKEN_FILE ROLE DB_HOST DB_PORT DATABASE CA_FILE
//! ```
//!
//! with arguments such as `https://vault.internal:8200 /run/vault/token orders db.internal 5432
//! orders db-ca.pem`. The token file is that of a Vault agent's sink. The database engine is
//! mounted at `database`. The service queries its user once a second, until Ctrl-C. Rotate the
//! role's password meanwhile.
//!
//! The README of `claviger-vault` describes the policy that it needs.

#![expect(clippy::print_stdout, reason = "an example prints its results")]

use std::time::Duration;

use claviger::{Handle, PgPools, Supervisor};
use claviger_vault::{Auth, VaultSession, VaultStatic};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};

type Problem = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: vault_static VAULT TOKEN_FILE ROLE DB_HOST DB_PORT DATABASE CA_FILE";

#[tokio::main]
async fn main() -> Result<(), Problem> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [vault, token, role, host, port, database, authorities] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let port = port.parse().map_err(|_| USAGE)?;

    // The agent renews the token; the file is read again when its token changes.
    let session = VaultSession::new(vault, Auth::token_file(token))?;
    let supervisor = Supervisor::start();
    let credentials = supervisor
        .add_provider(
            "orders-credentials",
            VaultStatic::new(&session, "database", role)?,
        )
        .await?;

    let connect = PgConnectOptions::new_without_pgpass()
        .host(host)
        .port(port)
        .database(database)
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert(authorities);
    let pool = PgPoolOptions::new().max_connections(10);
    let db = supervisor
        .add_pool("orders", &credentials, PgPools::new(connect, pool))
        .await?;

    let outcome = tokio::select! {
        outcome = serve(&db) => outcome,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Problem::from),
    };
    let report = supervisor.shutdown(Duration::from_secs(10)).await;
    println!("shut down, nothing remains: {}", report.clean);
    outcome
}

/// Does the work of the service: one query a second.
async fn serve(db: &Handle<PgPools>) -> Result<(), Problem> {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        let user: String = sqlx::query_scalar("SELECT current_user::text")
            .fetch_one(db)
            .await?;
        println!("generation {}: logged in as {user}", db.generation());
    }
}
