//! The error of a call on a handle.

use std::error::Error as StdError;
use std::fmt;

use claviger::error::ConnectError;
use claviger::pool::AcquireError;
use tokio_postgres::Error;

use crate::classify::{find_postgres_error, login_error};

/// Reason why a call got no connection.
///
/// ```
/// use claviger_tokio_postgres::CallError;
///
/// fn is_password_wrong(error: &CallError) -> bool {
///     error.code() == Some("28P01")
/// }
/// # assert!(!is_password_wrong(&CallError::TimedOut));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CallError {
    /// The error of a login, or of the check of a connection. Waiting callers share it.
    Connect(ConnectError),
    /// The call's deadline has passed.
    TimedOut,
    /// The pool was removed or shut down.
    Closed,
}

impl CallError {
    /// Returns the SQLSTATE, if the database returned one.
    pub fn code(&self) -> Option<&str> {
        self.connect_error()?.code()
    }

    /// Returns the error of the login, if it is one.
    pub fn connect_error(&self) -> Option<&ConnectError> {
        match self {
            Self::Connect(error) => Some(error),
            Self::TimedOut | Self::Closed => None,
        }
    }

    /// Returns the driver's original error, with everything that the server returned.
    pub fn postgres_error(&self) -> Option<&Error> {
        find_postgres_error(self)
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        Self::Connect(login_error(error))
    }
}

impl From<AcquireError<'_>> for CallError {
    fn from(error: AcquireError<'_>) -> Self {
        match error {
            AcquireError::Connect(error) => Self::Connect(error.clone()),
            AcquireError::Closed => Self::Closed,
            _ => Self::TimedOut,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::TimedOut => f.write_str("timed out while waiting for a connection"),
            Self::Closed => f.write_str("the pool is closed"),
        }
    }
}

impl StdError for CallError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.connect_error()?.source()
    }
}
