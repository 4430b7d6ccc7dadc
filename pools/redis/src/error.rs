//! Reason why a call got no connection.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::pool::AcquireError;
use redis::{ErrorKind, RedisError};

/// Reason why a call got no connection. `?` converts it to a [`RedisError`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The error of the login, as the server returned it.
    Connect(ConnectError),
    /// The call's deadline has passed.
    TimedOut,
    /// The pool was removed or shut down.
    Closed,
}

impl Error {
    pub(crate) fn from_acquire(error: AcquireError<'_>) -> Self {
        match error {
            AcquireError::Connect(error) => Self::Connect(error.clone()),
            AcquireError::Closed => Self::Closed,
            _ => Self::TimedOut,
        }
    }

    pub(crate) fn connect_error(&self) -> ConnectError {
        match self {
            Self::Connect(error) => error.clone(),
            other => ConnectError::new(ConnectErrorKind::Other, other.to_string()),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::TimedOut => f.write_str("timed out while waiting for a connection"),
            Self::Closed => f.write_str("the pool is closed"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Connect(error) => error.source(),
            Self::TimedOut | Self::Closed => None,
        }
    }
}

impl From<Error> for RedisError {
    /// Returns the original error of the login, if there is one.
    fn from(error: Error) -> Self {
        let original = match &error {
            Error::Connect(error) => error.cause().and_then(|cause| cause.downcast_ref::<Self>()),
            Error::TimedOut => {
                return io::Error::new(io::ErrorKind::TimedOut, error.to_string()).into();
            }
            Error::Closed => None,
        };
        original.cloned().unwrap_or_else(|| {
            let text = "no connection";
            match &error {
                Error::Connect(connect) if connect.kind() == ConnectErrorKind::Rejected => {
                    (ErrorKind::AuthenticationFailed, text, error.to_string()).into()
                }
                _ => (ErrorKind::Client, text, error.to_string()).into(),
            }
        })
    }
}
