//! Demo: a service of 16 tasks queries a real database through a handle, while its credentials
//! change repeatedly.

mod database;
mod options;
mod screen;
mod script;
mod service;
mod show;
#[cfg(feature = "traces")]
mod traces;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use database::Database;
use options::{Backend, Kind, Options};
use screen::Screen;

/// An error outside of the service.
type Problem = Box<dyn std::error::Error + Send + Sync>;

/// Maximum number of connections of a pool.
const CONNECTIONS: u32 = 10;

/// Lifetime of a connection. It is shorter than the 500 ms between an unannounced change and the
/// new file, so that connections are opened during that time.
const CONNECTION_LIFETIME: Duration = Duration::from_millis(400);

/// Acquire timeout of the pools.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait of a query that counts as succeeded.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    let screen = Arc::new(Screen::new());
    let options = match Options::from_arguments() {
        Ok(Some(options)) => options,
        Ok(None) => {
            screen.line(options::USAGE.trim_end());
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
    #[cfg(feature = "traces")]
    let export = traces::TraceExport::start(screen, &options.traces).await?;
    let succeeded = show_database(screen, options).await?;
    #[cfg(feature = "traces")]
    let drawn = match export {
        Some(export) => export.draw(screen).await,
        None => Ok(()),
    };
    #[cfg(not(feature = "traces"))]
    let drawn: Result<(), Problem> = Ok(());
    if let Err(problem) = &drawn {
        screen.problem(&with_causes(&**problem));
    }
    screen.print_result_line();
    Ok(succeeded && drawn.is_ok())
}

/// Formats an error and its sources on one line.
fn with_causes(problem: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(problem), |problem| problem.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

async fn show_database(screen: &Arc<Screen>, options: &Options) -> Result<bool, Problem> {
    match options.database {
        Kind::PostgreSql => show_backend::<claviger_servers::Postgres>(screen, options).await,
        #[cfg(feature = "mariadb")]
        Kind::MariaDb => show_backend::<claviger_servers::MariaDb>(screen, options).await,
    }
}

async fn show_backend<D: Database>(
    screen: &Arc<Screen>,
    options: &Options,
) -> Result<bool, Problem> {
    match options.backend {
        Backend::File => script::file::show_password_changes::<D>(screen, options).await,
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
