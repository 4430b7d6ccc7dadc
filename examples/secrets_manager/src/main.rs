//! A service whose PostgreSQL credentials are in AWS Secrets Manager. Run it with
//!
//! ```text
//! cargo run -p secrets_manager -- SECRET CA_FILE
//! ```
//!
//! with arguments such as `prod/orders-db global-bundle.pem`. `aws-config` finds the AWS
//! credentials: environment, profile, SSO, web identity, ECS, EC2. The secret has AWS's JSON
//! fields, including the database's address. The service queries its user once a second, until
//! Ctrl-C. Rotate the secret meanwhile.
//!
//! The README of `claviger-secrets-manager` lists the permissions that it needs.

#![expect(clippy::print_stdout, reason = "an example prints its results")]

use std::time::Duration;

use aws_config::BehaviorVersion;
use claviger::{Handle, PgPools, Supervisor};
use claviger_secrets_manager::SecretsManager;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};

type Problem = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: secrets_manager SECRET CA_FILE";

#[tokio::main]
async fn main() -> Result<(), Problem> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [secret, authorities] = arguments.as_slice() else {
        return Err(USAGE.into());
    };

    // AWS's SDK determines the identity.
    let aws = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let supervisor = Supervisor::start();
    let credentials = supervisor
        .add_provider(
            "orders-credentials",
            SecretsManager::builder(&aws, secret)
                .with_endpoint_from_secret()
                .build()?,
        )
        .await?;

    // Host, port and database are in the secret.
    let connect = PgConnectOptions::new_without_pgpass()
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
