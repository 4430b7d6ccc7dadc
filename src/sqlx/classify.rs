//! Kinds of sqlx's errors, and errors of logins.

use std::error::Error as StdError;
use std::iter::successors;

use super::dialect::Dialect;
use super::sqlx;
use crate::error::{ConnectError, ConnectErrorKind};

/// Returns the kind of an error.
pub(super) fn kind<DB: Dialect>(error: &sqlx::Error) -> ConnectErrorKind {
    match error {
        sqlx::Error::Database(error) => DB::error_kind(&**error),
        // rustls reports an untrusted certificate with this kind.
        sqlx::Error::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => {
            ConnectErrorKind::Misconfigured
        }
        // An authentication method that sqlx does not support.
        sqlx::Error::Protocol(message) if message.contains("auth") => {
            ConnectErrorKind::Misconfigured
        }
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => ConnectErrorKind::Misconfigured,
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => ConnectErrorKind::Unreachable,
        _ => ConnectErrorKind::Other,
    }
}

/// Returns the error with its kind, and the database's own message and SQLSTATE.
pub(super) fn connect_error<DB: Dialect>(error: &sqlx::Error) -> ConnectError {
    let kind = kind::<DB>(error);
    let Some(database) = error.as_database_error() else {
        return ConnectError::new(kind, error.to_string());
    };
    let connect_error = ConnectError::new(kind, database.message());
    match database.code() {
        Some(code) => connect_error.with_code(code),
        None => connect_error,
    }
}

/// Returns the error of a user or a password with which the driver cannot log in by SCRAM.
pub(super) fn unfit_for_scram(field: &str) -> ConnectError {
    let problem =
        "SASLprep prohibits a character of it, so sqlx cannot use it with SCRAM; choose another";
    ConnectError::misconfigured(field, problem)
}

/// Returns the error of a login, its probe or its hook.
pub(super) fn login_error<DB: Dialect>(error: sqlx::Error) -> ConnectError {
    if let Some(field) = prohibited_field(&error) {
        return unfit_for_scram(field);
    }
    connect_error::<DB>(&error).with_source(error)
}

/// Finds sqlx's error among the sources of an error.
pub(super) fn find_sqlx_error<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e sqlx::Error> {
    successors(Some(error), |&error| error.source()).find_map(|error| error.downcast_ref())
}

/// Returns the field with a character that SASLprep prohibits, if the driver reports one. The
/// driver's text is never returned, because it quotes a character of the password.
fn prohibited_field(error: &sqlx::Error) -> Option<&'static str> {
    let sqlx::Error::Configuration(inner) = error else {
        return None;
    };
    match inner.to_string() {
        text if text.starts_with("Failed to saslprep password") => Some("password"),
        text if text.starts_with("Failed to saslprep username") => Some("user"),
        _ => None,
    }
}
