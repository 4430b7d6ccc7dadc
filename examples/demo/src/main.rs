//! A small service of 16 tasks queries a real database through a handle, while its credential
//! changes again and again.

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
use options::{Issuer, Kind, Options};
use screen::Screen;

/// What went wrong outside of the service.
type Problem = Box<dyn std::error::Error + Send + Sync>;

/// How many connections a pool may have.
const CONNECTIONS: u32 = 10;

/// Shorter than the half second by which the file lags behind an unannounced change: new logins are
/// needed all the time, and in every such gap.
const CONNECTION_LIFE: Duration = Duration::from_millis(400);

/// How long a query waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// A query that waited longer than this counts as not answered.
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
    match watched(&screen, &options).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            screen.problem(&with_causes(&*problem));
            ExitCode::FAILURE
        }
    }
}

/// The whole of it, and the trace of its last rotation if that is wanted; whether all went well.
async fn watched(screen: &Arc<Screen>, options: &Options) -> Result<bool, Problem> {
    #[cfg(feature = "traces")]
    let watch = traces::Watch::start(screen, &options.traces).await?;
    let well = on_its_server(screen, options).await?;
    #[cfg(feature = "traces")]
    let told = match watch {
        Some(watch) => watch.show(screen).await,
        None => Ok(()),
    };
    #[cfg(not(feature = "traces"))]
    let told: Result<(), Problem> = Ok(());
    if let Err(problem) = &told {
        screen.problem(&with_causes(&**problem));
    }
    screen.account();
    Ok(well && told.is_ok())
}

/// An error and what led to it, on one line.
fn with_causes(problem: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(problem), |problem| problem.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

async fn on_its_server(screen: &Arc<Screen>, options: &Options) -> Result<bool, Problem> {
    match options.database {
        Kind::PostgreSql => run::<claviger_servers::Postgres>(screen, options).await,
        #[cfg(feature = "mariadb")]
        Kind::MariaDb => run::<claviger_servers::MariaDb>(screen, options).await,
    }
}

async fn run<D: Database>(screen: &Arc<Screen>, options: &Options) -> Result<bool, Problem> {
    match options.issuer {
        Issuer::File => script::file::run::<D>(screen, options).await,
        #[cfg(feature = "rds-iam")]
        Issuer::RdsIam => script::rds_iam::run::<D>(screen, options).await,
        #[cfg(feature = "secrets-manager")]
        Issuer::SecretsManager => script::secrets_manager::run::<D>(screen, options).await,
        #[cfg(feature = "vault")]
        Issuer::Vault => script::vault::run::<D>(screen, options).await,
    }
}
