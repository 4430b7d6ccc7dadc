//! A service whose PostgreSQL users Vault or OpenBao creates and drops. Run it with
//!
//! ```text
//! cargo run -p vault_dynamic -- VAULT ROLE_ID SECRET_ID_FILE DB_HOST DB_PORT DATABASE CA_FILE
//! ```
//!
//! with arguments such as `https://vault.internal:8200 2f7c… /run/secrets/secret-id db.internal
//! 5432 orders db-ca.pem`. The database engine is mounted at `database`, and its role is `orders`.
//! The service queries its user once a second, until Ctrl-C. The user changes, and no query fails.
//!
//! The README of `claviger-vault` describes the policy that it needs, and how the role should
//! terminate a user's connections.

#![expect(clippy::print_stdout, reason = "an example prints its results")]

use std::time::Duration;

use claviger::{Handle, PgPools, Supervisor};
use claviger_vault::{Auth, SecretId, VaultDynamic, VaultSession};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};

type Problem = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str =
    "usage: vault_dynamic VAULT ROLE_ID SECRET_ID_FILE DB_HOST DB_PORT DATABASE CA_FILE";

#[tokio::main]
async fn main() -> Result<(), Problem> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [vault, role_id, secret_id, host, port, database, authorities] = arguments.as_slice()
    else {
        return Err(USAGE.into());
    };
    let port = port.parse().map_err(|_| USAGE)?;

    // One login and one token for all providers of this Vault.
    let session = VaultSession::new(vault, Auth::app_role(role_id, SecretId::file(secret_id)))?;
    let supervisor = Supervisor::start();
    let credentials = supervisor
        .add_provider(
            "orders-credentials",
            VaultDynamic::new(&session, "database", "orders")?,
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
    // The shutdown drops the last user and revokes the token.
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
