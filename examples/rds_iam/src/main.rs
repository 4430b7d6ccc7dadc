//! A service that logs in to RDS for PostgreSQL with IAM tokens. Run it with
//!
//! ```text
//! cargo run -p rds_iam -- ENDPOINT PORT USER DATABASE CA_FILE
//! ```
//!
//! with arguments such as `orders.c1a2b3.eu-west-1.rds.amazonaws.com 5432 orders_app orders
//! global-bundle.pem`. `aws-config` finds the AWS credentials: environment, profile, SSO, web
//! identity, ECS, EC2. The service queries its user once a second, until Ctrl-C. A token expires
//! after 15 minutes, and the service continues.
//!
//! The README of `claviger-rds-iam` describes the setup of the database and the role. It also has
//! the address of the file with RDS's certificate authorities.

#![expect(clippy::print_stdout, reason = "an example prints its results")]

use std::time::Duration;

use aws_config::BehaviorVersion;
use claviger::{Handle, PgPools, Supervisor};
use claviger_rds_iam::RdsIam;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};

type Problem = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "usage: rds_iam ENDPOINT PORT USER DATABASE CA_FILE";

#[tokio::main]
async fn main() -> Result<(), Problem> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, port, user, database, authorities] = arguments.as_slice() else {
        return Err(USAGE.into());
    };
    let port = port.parse().map_err(|_| USAGE)?;

    // AWS's SDK determines the identity.
    let aws = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let supervisor = Supervisor::start();
    let credentials = supervisor
        .add_provider(
            "orders-credentials",
            RdsIam::new(&aws, endpoint, port, user)?,
        )
        .await?;

    let connect = PgConnectOptions::new_without_pgpass()
        .host(endpoint)
        .port(port)
        .database(database)
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert(authorities);
    let pool = PgPoolOptions::new()
        .max_connections(10)
        .max_lifetime(Duration::from_secs(14 * 60))
        .idle_timeout(Duration::from_secs(10 * 60));
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
