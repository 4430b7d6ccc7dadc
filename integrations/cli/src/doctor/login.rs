//! One login, and what its error means.

mod error;
mod mysql;
mod pgbouncer;
mod postgres;
mod rds_proxy;
mod redis;
mod resp;

use std::time::Duration;

use claviger::Credentials;
use claviger_config::{Connection, Engine};
use sqlx::{MySqlConnection, PgConnection};

use super::greeting::Method;
use super::network::Stream;
use super::pooler::Pooler;
use crate::finding::{Finding, one_line};
use crate::place::Place;
use crate::secret::Secret;

pub(super) use error::{LoginError, ServerError};
pub(super) use postgres::quote;
pub(super) use redis::{Observed, observed_findings};

/// Longest time of a login.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An authenticated connection.
pub(super) enum LoggedIn {
    Postgres(PgConnection),
    /// A connection by tokio-postgres, for the kinds of pools that use it.
    TokioPostgres(tokio_postgres::Client),
    MySql(MySqlConnection),
    Redis(Observed),
}

/// What is known of a login when its error is judged. The names are those to show.
pub(super) struct LoginFacts<'f> {
    pub(super) user: &'f str,
    pub(super) database: &'f str,
    pub(super) is_token: bool,
    pub(super) has_tls: bool,
    pub(super) has_client_certificate: bool,
    pub(super) pooler: Option<Pooler>,
    /// What the server requested before the login; `None` if that is unknown.
    pub(super) method: Option<Method>,
}

/// Logs in once. Redis uses the stream, the others a connection of the pool's driver.
///
/// # Errors
/// The server's code and message, or why there was no response.
pub(super) async fn log_in(
    connection: &Connection,
    place: &Place,
    credentials: &Credentials,
    stream: &mut dyn Stream,
) -> Result<LoggedIn, LoginError> {
    match connection.engine() {
        Engine::Postgres => postgres::log_in(connection, place, credentials).await,
        Engine::Mysql => mysql::log_in(connection, place, credentials).await,
        _ => redis::log_in(stream, place, credentials).await,
    }
}

/// Returns the finding for a failed login. The text of the server or driver is shown without the
/// password.
pub(super) fn failed_finding(
    engine: Engine,
    facts: &LoginFacts<'_>,
    error: &LoginError,
    credentials: &Credentials,
) -> Finding {
    let mut finding = match engine {
        Engine::Postgres => postgres::failed_finding(facts, error),
        Engine::Mysql => mysql::failed_finding(facts, error),
        _ => redis::failed_finding(facts, error),
    };
    if error.has_foreign_text() {
        finding.detail = one_line(&Secret::of(credentials).hide(&finding.detail));
    }
    finding
}

/// Returns the finding for a statement that failed after a login. `None` if the error is no cause
/// of the pool's own failures.
pub(super) fn unusable_finding(engine: Engine, error: &sqlx::Error) -> Option<Finding> {
    match engine {
        Engine::Mysql => mysql::unusable_finding(error),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_a_server_or_driver_shows_the_password() {
        let credentials = Credentials::new("app", "s3cret-pw");
        let facts = LoginFacts {
            user: "app",
            database: "orders",
            is_token: false,
            has_tls: false,
            has_client_certificate: false,
            pooler: None,
            method: None,
        };
        let text = "unknown command 'AUTH', with args beginning with: 'app' 's3cret-pw' ";
        for engine in [Engine::Postgres, Engine::Mysql, Engine::Redis] {
            for error in [
                LoginError::Other(text.to_owned()),
                LoginError::Server(ServerError::new("ERR", text)),
                // Cut in the middle of the password.
                LoginError::Other(format!("{}s3cret-pw", "word ".repeat(59))),
            ] {
                let finding = failed_finding(engine, &facts, &error, &credentials);
                let shown = format!("{finding:?}");
                assert!(!shown.contains("s3c") && shown.contains("***"), "{shown}");
            }
        }
    }
}
