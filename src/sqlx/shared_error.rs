//! An error that many callers share, because sqlx's own cannot be cloned.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::{fmt, io};

use super::sqlx;
use super::sqlx::error::{DatabaseError, ErrorKind};

use super::classify;
use crate::error::{ConnectError, ConnectErrorKind};

/// Error of a handle that has no connection. All waiting callers share it.
///
/// | what happened | error |
/// |---|---|
/// | the database returned a SQLSTATE or error number | [`sqlx::Error::Database`], with the original `code()` and message |
/// | a caller reported the database's error with [`Handle::rejected`](crate::Handle::rejected) | [`sqlx::Error::Io`], until a verification has failed; the code is in [`connect_error`](Self::connect_error) |
/// | the database is down, no lease was obtained yet, or the lease expired | [`sqlx::Error::Io`], which retry layers recognise |
/// | invalid settings | [`sqlx::Error::Configuration`] |
///
/// `downcast_ref` and `try_downcast_ref` of a shared database error return the original, a
/// `PgDatabaseError` or `MySqlDatabaseError`, with its detail, hint and routine. The `downcast` and
/// `try_downcast` by value panic, because the original is shared. Errors of statements are never
/// shared. [`connect_error`](Self::connect_error) returns the library's own classification.
#[derive(Clone)]
pub struct SharedError {
    error: ConnectError,
}

impl SharedError {
    /// Returns the kind, SQLSTATE, message and cause behind an error of a handle.
    ///
    /// `None` for sqlx's own errors: of a statement, of a pool, of a deadline.
    ///
    /// ```
    /// # #[cfg(feature = "sqlx-09")] {
    /// # use claviger::error::ConnectErrorKind;
    /// # use claviger::sqlx_09::SharedError;
    /// fn is_rejected(error: &sqlx::Error) -> bool {
    ///     SharedError::connect_error(error)
    ///         .is_some_and(|error| error.kind() == ConnectErrorKind::Rejected)
    /// }
    /// # assert!(!is_rejected(&sqlx::Error::PoolTimedOut));
    /// # }
    /// ```
    pub fn connect_error(error: &sqlx::Error) -> Option<&ConnectError> {
        match error {
            // Its type is that of the original; the shared error is its source.
            sqlx::Error::Database(database) => (**database).source()?.downcast_ref(),
            sqlx::Error::Io(io) => Some(&io.get_ref()?.downcast_ref::<Self>()?.error),
            sqlx::Error::Configuration(inner) => Some(&inner.downcast_ref::<Self>()?.error),
            _ => None,
        }
    }

    /// Returns the sqlx error for this error. If the original is its cause, callers can
    /// downcast to it.
    pub(super) fn to_sqlx(error: &ConnectError) -> sqlx::Error {
        let shared = Self {
            error: error.clone(),
        };
        // Without an original, `downcast_ref` would panic in the caller's code.
        if shared.database().is_some() {
            return sqlx::Error::Database(Box::new(shared));
        }
        let kind = match (original(error), error.kind()) {
            (_, ConnectErrorKind::Misconfigured) => {
                return sqlx::Error::Configuration(Box::new(shared));
            }
            (Some(sqlx::Error::Io(io)), _) => io.kind(),
            (_, ConnectErrorKind::Unreachable) => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::NotConnected,
        };
        sqlx::Error::Io(io::Error::new(kind, shared))
    }

    fn database(&self) -> Option<&dyn DatabaseError> {
        original(&self.error)?.as_database_error()
    }
}

fn original(error: &ConnectError) -> Option<&sqlx::Error> {
    classify::find_sqlx_error(error.cause()?)
}

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.error.message())
    }
}

impl fmt::Debug for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedError({})", self.error)
    }
}

impl StdError for SharedError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}

impl DatabaseError for SharedError {
    fn message(&self) -> &str {
        self.error.message()
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        self.error.code().map(Cow::Borrowed)
    }

    fn kind(&self) -> ErrorKind {
        self.database()
            .map_or(ErrorKind::Other, DatabaseError::kind)
    }

    fn is_transient_in_connect_phase(&self) -> bool {
        self.database()
            .is_some_and(DatabaseError::is_transient_in_connect_phase)
    }

    /// Returns the original, which `downcast_ref` then finds.
    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        match self.database() {
            Some(original) => original.as_error(),
            None => self,
        }
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_without_an_original_is_no_database_error() {
        let error = ConnectError::new(ConnectErrorKind::Rejected, "rejected").with_code("28P01");
        let shared = SharedError::to_sqlx(&error);
        assert!(matches!(shared, sqlx::Error::Io(_)), "{shared:?}");
        let code = SharedError::connect_error(&shared).and_then(ConnectError::code);
        assert_eq!(code, Some("28P01"));
    }
}
