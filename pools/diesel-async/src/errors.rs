//! Errors of logins and checks, on their way through diesel and deadpool.

use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::pool::Check;
use claviger_tokio_postgres::{CallError, classify};
use diesel::ConnectionError;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel_async::pooled_connection::PoolError as SetupError;
use diesel_async::pooled_connection::deadpool::PoolError;

/// Returns whether this is PostgreSQL's text about a role that was dropped, or that lost its
/// rights: 42704 and 42501. A missing table or function has a similar text.
fn is_about_the_role(text: &str) -> bool {
    let names_a_role = text.starts_with("role \"") || text.starts_with("role with OID ");
    names_a_role && text.ends_with(" does not exist")
        || text.contains("invalid role OID")
        || text.contains("permission denied")
}

/// Returns whether this is PostgreSQL's text about a connection that it ends, such as 57P01.
fn is_about_the_end(text: &str) -> bool {
    text.starts_with("terminating connection")
}

/// Wraps an error in one of diesel's, which has no SQLSTATE of its own.
pub(crate) fn into_diesel(error: CallError) -> ConnectionError {
    ConnectionError::CouldntSetupConfiguration(QueryError::QueryBuilderError(Box::new(error)))
}

/// Returns the error of a call on deadpool.
pub(crate) fn call_error(error: PoolError) -> CallError {
    match error {
        PoolError::Backend(SetupError::ConnectionError(
            ConnectionError::CouldntSetupConfiguration(QueryError::QueryBuilderError(error)),
        )) => match error.downcast() {
            Ok(error) => *error,
            Err(error) => CallError::Connect(classify(&*error)),
        },
        PoolError::Timeout(_) => CallError::TimedOut,
        PoolError::Closed => CallError::Closed,
        error => CallError::Connect(classify(&error).with_source(error)),
    }
}

/// Returns the error of a new connection that diesel could not set up. Its login by tokio-postgres
/// has succeeded.
pub(crate) fn setup_error(error: ConnectionError) -> ConnectError {
    match error {
        ConnectionError::CouldntSetupConfiguration(error) => query_error(error, kind_of),
        error => ConnectError::new(ConnectErrorKind::Other, error.to_string()).with_source(error),
    }
}

/// Returns the error of a check. A probe's error is a rejection if the role may have been dropped.
/// diesel keeps the server's text but not its SQLSTATE, so the text is compared. On a server with
/// another language, a verification by tokio-postgres finds the rejection.
pub(crate) fn check_error(error: QueryError, check: Check) -> ConnectError {
    query_error(error, |error| match error {
        QueryError::DatabaseError(DatabaseErrorKind::Unknown, information)
            if check == Check::Probe && is_about_the_role(information.message()) =>
        {
            ConnectErrorKind::Rejected
        }
        error => kind_of(error),
    })
}

fn query_error(
    error: QueryError,
    kind: impl FnOnce(&QueryError) -> ConnectErrorKind,
) -> ConnectError {
    ConnectError::new(kind(&error), error.to_string()).with_source(error)
}

/// Returns the kind of an error of an open connection. If the server ended it, that is known by its
/// text or, on a server with another language, by the next statement.
fn kind_of(error: &QueryError) -> ConnectErrorKind {
    match error {
        QueryError::DatabaseError(DatabaseErrorKind::Unknown, information)
            if is_about_the_end(information.message()) =>
        {
            ConnectErrorKind::Unreachable
        }
        QueryError::DatabaseError(
            DatabaseErrorKind::UnableToSendCommand | DatabaseErrorKind::ClosedConnection,
            _,
        ) => ConnectErrorKind::Unreachable,
        _ => ConnectErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_rejected_only_if_its_role_is_gone() {
        for (text, kind) in [
            ("invalid role OID: 16385", ConnectErrorKind::Rejected),
            (
                "role with OID 16385 does not exist",
                ConnectErrorKind::Rejected,
            ),
            ("role \"app\" does not exist", ConnectErrorKind::Rejected),
            (
                "permission denied for table health",
                ConnectErrorKind::Rejected,
            ),
            (
                "relation \"health\" does not exist",
                ConnectErrorKind::Other,
            ),
            ("function health() does not exist", ConnectErrorKind::Other),
            ("column \"role\" does not exist", ConnectErrorKind::Other),
            ("schema \"health\" does not exist", ConnectErrorKind::Other),
        ] {
            let error = || {
                let text = Box::new(text.to_owned());
                QueryError::DatabaseError(DatabaseErrorKind::Unknown, text)
            };
            assert_eq!(check_error(error(), Check::Probe).kind(), kind, "{text}");
            let ping = check_error(error(), Check::Ping).kind();
            assert_eq!(ping, ConnectErrorKind::Other, "{text}");
        }
    }

    #[test]
    fn a_terminated_connection_is_unreachable() {
        for text in [
            "terminating connection due to administrator command",
            "terminating connection because of crash of another server process",
        ] {
            let error = || {
                let text = Box::new(text.to_owned());
                QueryError::DatabaseError(DatabaseErrorKind::Unknown, text)
            };
            let set_up = ConnectionError::CouldntSetupConfiguration(error());
            let set_up = setup_error(set_up).kind();
            assert_eq!(set_up, ConnectErrorKind::Unreachable, "{text}");
            for check in [Check::Ping, Check::Probe] {
                let checked = check_error(error(), check).kind();
                assert_eq!(checked, ConnectErrorKind::Unreachable, "{text}");
            }
        }
    }
}
