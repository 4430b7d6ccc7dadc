//! One login, and what its error means.

mod mysql;
mod postgres;
mod redis;

use std::time::Duration;

use sqlx::{MySqlConnection, PgConnection};

use super::pooler::Pooler;
use crate::finding::one_line;

pub(super) use mysql::{failed_finding as mysql_finding, log_in as mysql};
pub(super) use postgres::{failed_finding as postgres_finding, log_in as postgres, quote};
pub(super) use redis::{failed_finding as redis_finding, log_in as redis};

/// Longest time of a login.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An authenticated connection.
pub(super) enum LoggedIn {
    Postgres(PgConnection),
    MySql(MySqlConnection),
    Redis,
}

/// Error of a login.
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
                message: one_line(error.message()),
            },
            error => Self::Other(one_line(&error.to_string())),
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
