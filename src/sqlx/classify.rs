//! Kinds of sqlx's errors that do not depend on the database.

use std::borrow::Cow;
use std::error::Error as StdError;

use super::sqlx;
use crate::error::{ConnectError, ConnectErrorKind};

/// Returns an error of this kind with the database's own message and SQLSTATE.
pub(super) fn connect_error(kind: ConnectErrorKind, error: &sqlx::Error) -> ConnectError {
    match error {
        sqlx::Error::Database(database) => {
            let connect_error = ConnectError::new(kind, database.message());
            match database.code() {
                Some(code) => connect_error.with_code(code.as_ref()),
                None => connect_error,
            }
        }
        error => ConnectError::new(kind, error.to_string()),
    }
}

/// Finds sqlx's error among the sources of an error.
pub(super) fn find_sqlx_error<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e sqlx::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Returns the kind of an error that every database has.
pub(super) fn common_kind(error: &sqlx::Error) -> ConnectErrorKind {
    match error {
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

/// Returns the field that SASLprep prohibits, if the driver reports one. The driver's text quotes a
/// character of the password.
pub(super) fn prohibited_field(error: &sqlx::Error) -> Option<&'static str> {
    let sqlx::Error::Configuration(inner) = error else {
        return None;
    };
    let text = inner.to_string();
    [
        ("Failed to saslprep password", "password"),
        ("Failed to saslprep username", "user"),
    ]
    .into_iter()
    .find_map(|(prefix, field)| text.starts_with(prefix).then_some(field))
}

/// Returns whether the role of the connection may have been dropped: 42501 (no privilege) or 42704
/// (no such role).
pub(super) fn may_be_a_dropped_role(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| code == "42501" || code == "42704")
}

/// Returns whether the server ended the connection (57P01). The role may have been dropped.
pub(super) fn is_ended_by_server(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| code == "57P01")
}

fn code(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error()?.code()
}
