//! The error of a call to a pool of any kind.

use std::error::Error as StdError;
use std::fmt;

use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::pool::AcquireError;

/// Why a call got no connection.
#[derive(Clone, Debug)]
pub enum CallError {
    /// The database's error.
    Connect(ConnectError),
    /// The deadline has passed.
    TimedOut,
    /// The pool was closed.
    Closed,
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

impl StdError for CallError {}

impl CallError {
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
