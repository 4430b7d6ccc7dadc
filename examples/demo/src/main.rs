//! Demo: a service of 16 tasks calls a real server through a handle, while its credentials change
//! repeatedly. A plain pool beside it shows the effect without Claviger.
//!
//! The scenarios are written once, generic over the [`Kind`](kind::Kind) of pool.

#[cfg(not(any(
    feature = "bb8",
    feature = "deadpool",
    feature = "diesel",
    feature = "redis",
    feature = "sqlx"
)))]
compile_error!("enable the feature of a pool: sqlx, deadpool, diesel, bb8 or redis");

mod kind;
mod options;
#[cfg(feature = "page")]
mod page;
mod screen;
mod script;
mod server;
mod service;
mod show;
mod timeline;
#[cfg(feature = "traces")]
mod traces;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "sqlx")]
use kind::sqlx::{Database, Sqlx};
#[cfg(feature = "sqlx")]
use options::{Backend, DatabaseName};
use options::{Options, Pool};
use screen::Screen;
use script::file::show_password_changes;

/// An error outside of the service.
type Problem = Box<dyn std::error::Error + Send + Sync>;

/// Maximum number of connections of a pool.
const CONNECTIONS: u32 = 10;

/// Age at which connections are closed if none is killed. Short, so that logins are frequent.
#[cfg(any(feature = "rds-iam", feature = "secrets-manager", feature = "vault"))]
const CONNECTION_LIFETIME: Duration = Duration::from_millis(400);

/// Number of tasks on a plain pool whose connections are closed at that age. Each of its failed
/// logins costs the server CPU time, and that of a token a TLS handshake.
#[cfg(any(feature = "rds-iam", feature = "secrets-manager", feature = "vault"))]
const PLAIN_TASKS: usize = 4;

/// Acquire timeout of the pools.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait of a query that counts as succeeded.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::from_arguments();
    let json = matches!(&options, Ok(Some(options)) if options.json);
    let screen = Arc::new(Screen::new(json));
    let options = match options {
        Ok(Some(options)) => options,
        Ok(None) => {
            screen.picture(options::USAGE.trim_end());
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            screen.problem(&format!("{problem}\n{}", options::USAGE.trim_end()));
            return ExitCode::from(2);
        }
    };
    match show_with_traces(&screen, &options).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            screen.problem(&with_causes(&*problem));
            ExitCode::FAILURE
        }
    }
}

/// Runs the demo, and draws the trace of its last rotation if requested. Returns whether it
/// succeeded.
async fn show_with_traces(screen: &Arc<Screen>, options: &Options) -> Result<bool, Problem> {
    screen.start(options.purpose());
    #[cfg(feature = "traces")]
    let export = traces::TraceExport::start(screen, &options.traces).await?;
    let succeeded = show_pool(screen, options).await?;
    #[cfg(feature = "traces")]
    let drawn = match export {
        Some(export) => {
            screen
                .while_waiting("waiting for the traces", export.draw(screen))
                .await
        }
        None => Ok(()),
    };
    #[cfg(not(feature = "traces"))]
    let drawn: Result<(), Problem> = Ok(());
    if let Err(problem) = &drawn {
        screen.problem(&with_causes(&**problem));
    }
    let succeeded = succeeded && drawn.is_ok();
    screen.print_result(succeeded);
    Ok(succeeded)
}

/// Formats an error and its causes on one line. Some errors repeat the text of their cause.
fn with_causes(problem: &(dyn std::error::Error + 'static)) -> String {
    let mut causes: Vec<_> = std::iter::successors(Some(problem), |problem| problem.source())
        .map(ToString::to_string)
        .collect();
    causes.dedup();
    causes.join(": ")
}

async fn show_pool(screen: &Arc<Screen>, options: &Options) -> Result<bool, Problem> {
    match options.pool {
        #[cfg(feature = "sqlx")]
        Pool::Sqlx => show_database(screen, options).await,
        #[cfg(feature = "deadpool")]
        Pool::Deadpool => show_password_changes::<kind::deadpool::Deadpool>(screen, options).await,
        #[cfg(feature = "diesel")]
        Pool::Diesel => show_password_changes::<kind::diesel::Diesel>(screen, options).await,
        #[cfg(feature = "bb8")]
        Pool::Bb8 => show_password_changes::<kind::bb8::Bb8>(screen, options).await,
        #[cfg(feature = "redis")]
        Pool::Redis => show_password_changes::<kind::redis::RedisKind>(screen, options).await,
    }
}

#[cfg(feature = "sqlx")]
async fn show_database(screen: &Arc<Screen>, options: &Options) -> Result<bool, Problem> {
    match options.database {
        DatabaseName::PostgreSql => {
            show_backend::<claviger_servers::Postgres>(screen, options).await
        }
        #[cfg(feature = "mariadb")]
        DatabaseName::MariaDb => show_backend::<claviger_servers::MariaDb>(screen, options).await,
    }
}

#[cfg(feature = "sqlx")]
async fn show_backend<D: Database>(
    screen: &Arc<Screen>,
    options: &Options,
) -> Result<bool, Problem> {
    match options.backend {
        Backend::File => show_password_changes::<Sqlx<D>>(screen, options).await,
        #[cfg(feature = "rds-iam")]
        Backend::RdsIam => script::rds_iam::show_expiring_tokens::<D>(screen, options).await,
        #[cfg(feature = "secrets-manager")]
        Backend::SecretsManager => {
            script::secrets_manager::show_four_steps::<D>(screen, options).await
        }
        #[cfg(feature = "vault")]
        Backend::Vault => script::vault::show_dynamic_users::<D>(screen, options).await,
    }
}
