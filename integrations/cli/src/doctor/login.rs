//! One login, and what its error means.

mod mysql;
mod postgres;
mod redis;

use std::time::Duration;

use claviger::Credentials;
use claviger_config::{Connection, Engine};
use sqlx::{MySqlConnection, PgConnection};

use super::network::Stream;
use super::pooler::Pooler;
use crate::finding::{Finding, one_line};
use crate::place::Place;
use crate::secret::Secret;

pub(super) use postgres::quote;

/// Longest time of a login.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An authenticated connection.
pub(super) enum LoggedIn {
    Postgres(PgConnection),
    MySql(MySqlConnection),
    Redis,
}

/// Error of a login. Its texts are those of the server or driver: they may contain the password,
/// and are printed by [`failed_finding`] alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LoginError {
    /// The server's code (SQLSTATE, number or first word) and message.
    Server {
        code: String,
        message: String,
    },
    TimedOut,
    /// The connection ended, or the driver stopped.
    Other(String),
}

impl LoginError {
    fn of_sqlx(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => Self::Server {
                code: error.code().unwrap_or_default().into_owned(),
                message: error.message().to_owned(),
            },
            error => Self::Other(error.to_string()),
        }
    }
}

/// What is known of a login when its error is judged.
pub(super) struct LoginFacts<'f> {
    pub(super) user: &'f str,
    pub(super) database: &'f str,
    pub(super) is_token: bool,
    pub(super) has_tls: bool,
    pub(super) pooler: Option<Pooler>,
}

/// Logs in once. Redis uses the stream, the others a connection of their driver.
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
        _ => redis::log_in(stream, credentials).await,
    }
}

/// Judges a failed login. The text of the server or driver is shown without the password.
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
    if *error != LoginError::TimedOut {
        finding.detail = one_line(&Secret::of(credentials).hide(&finding.detail));
    }
    finding
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
            pooler: None,
        };
        let text = "unknown command 'AUTH', with args beginning with: 'app' 's3cret-pw' ";
        for engine in [Engine::Postgres, Engine::Mysql, Engine::Redis] {
            for error in [
                LoginError::Other(text.to_owned()),
                LoginError::Server {
                    code: "ERR".to_owned(),
                    message: text.to_owned(),
                },
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
