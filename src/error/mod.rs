//! Errors: one type per boundary.

mod advice;
mod connect;
mod postgres;
mod provider;
mod text;

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

pub use advice::Advice;
pub use connect::{ConnectError, ConnectErrorKind};
pub use provider::{ProviderError, ProviderErrorKind};

/// Message of a start that a removal or shutdown ends.
pub(crate) const ENDED_DURING_START: &str = "removed or shut down while it started";

/// Kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A name, duration or size is out of range; the message names the field and the allowed
    /// values.
    InvalidInput,
    /// A provider or pool of that name exists already.
    AlreadyRegistered,
    /// The name belongs to no provider or pool.
    NotRegistered,
    /// Pools still use the provider; the message names them.
    InUse,
    /// The provider is held; the message has the time since when.
    Held,
    /// The pool has no lease to return to; the message has the reason.
    NotPossible,
    /// The supervisor was shut down.
    ShutDown,
    /// There is no tokio runtime to run on: the call was made outside of one, or the supervisor's
    /// is gone.
    NoRuntime,
    /// The provider returned no usable lease; [`Error::provider_error`] has the cause.
    Provider,
    /// The lease could not be verified by a login; [`Error::connect_error`] has the cause, SQLSTATE
    /// included.
    Pool,
}

impl ErrorKind {
    /// Returns the word for telemetry's `error.type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::AlreadyRegistered => "already_registered",
            Self::NotRegistered => "not_registered",
            Self::InUse => "in_use",
            Self::Held => "held",
            Self::NotPossible => "not_possible",
            Self::ShutDown => "shut_down",
            Self::NoRuntime => "no_runtime",
            Self::Provider => "provider",
            Self::Pool => "pool",
        }
    }
}

/// Error of a call to the supervisor. The call leaves nothing registered or started.
///
/// ```
/// use claviger::Supervisor;
/// use claviger::error::ErrorKind;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let error = Supervisor::start().rotate_now("oders-credentials").await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotRegistered);
/// # }
/// ```
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    cause: Option<Cause>,
}

#[derive(Clone)]
enum Cause {
    Provider(ProviderError),
    Pool(ConnectError),
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            cause: None,
        }
    }

    pub(crate) fn invalid(field: &str, problem: impl fmt::Display) -> Self {
        Self::new(ErrorKind::InvalidInput, format!("{field}: {problem}"))
    }

    pub(crate) fn shut_down() -> Self {
        Self::new(
            ErrorKind::ShutDown,
            "the supervisor was shut down; start a new one",
        )
    }

    pub(crate) fn no_runtime(call: &str) -> Self {
        let problem =
            format!("no tokio runtime: call {call} within one (#[tokio::main], or Runtime::enter)");
        Self::new(ErrorKind::NoRuntime, problem)
    }

    pub(crate) fn runtime_is_gone() -> Self {
        Self::new(
            ErrorKind::NoRuntime,
            "the supervisor's tokio runtime is gone; start the supervisor on one that outlasts it",
        )
    }

    /// Returns the error of a provider that cannot start, or has not started within the time.
    pub(crate) fn from_provider(
        name: &str,
        waited: Option<Duration>,
        error: ProviderError,
    ) -> Self {
        let message = match waited {
            Some(waited) => format!(
                "provider {name:?} returned no lease within {}",
                humantime::format_duration(waited)
            ),
            None => format!("provider {name:?} cannot start"),
        };
        Self::new(ErrorKind::Provider, message).with_cause(Cause::Provider(error))
    }

    pub(crate) fn from_manual_rotation(name: &str, error: ProviderError) -> Self {
        let message =
            format!("provider {name:?} returned no new credential; the current lease stays in use");
        Self::new(ErrorKind::Provider, message).with_cause(Cause::Provider(error))
    }

    /// Returns the error of a call that a hold prevents. `since` is `None` if it has just ended.
    pub(crate) fn held(provider: &str, since: Option<String>) -> Self {
        let since = since
            .map(|since| format!(" since {since}"))
            .unwrap_or_default();
        Self::new(
            ErrorKind::Held,
            format!("provider {provider:?} is held{since}; call resume first"),
        )
    }

    /// Returns the error of a rollback whose lease was not verified.
    pub(crate) fn from_rollback(pool: &str, error: ConnectError) -> Self {
        let message = format!(
            "pool {pool:?} cannot return to its previous lease; the current one stays in use"
        );
        Self::new(ErrorKind::Pool, message).with_cause(Cause::Pool(error))
    }

    /// Returns the error of a pool that cannot start, or has not started within the time.
    pub(crate) fn from_pool(
        name: &str,
        provider: &str,
        waited: Option<Duration>,
        error: ConnectError,
    ) -> Self {
        let message = match waited {
            Some(waited) => format!(
                "pool {name:?} could not log in with a lease of provider {provider:?} within {}",
                humantime::format_duration(waited)
            ),
            None => format!("pool {name:?} cannot start with provider {provider:?}"),
        };
        Self::new(ErrorKind::Pool, message).with_cause(Cause::Pool(error))
    }

    /// Adds what explains the error to its message.
    pub(crate) fn with_hint(mut self, hint: &str) -> Self {
        self.message = format!("{}; {hint}", self.message);
        self
    }

    fn with_cause(self, cause: Cause) -> Self {
        Self {
            cause: Some(cause),
            ..self
        }
    }

    /// Returns the kind, for a match.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns whether the same call may succeed later without a change on the caller's side.
    pub fn is_transient(&self) -> bool {
        match &self.cause {
            Some(Cause::Provider(error)) => error.is_transient(),
            Some(Cause::Pool(connect_error)) => connect_error.is_transient(),
            None => false,
        }
    }

    /// Returns the provider's error behind [`ErrorKind::Provider`].
    pub fn provider_error(&self) -> Option<&ProviderError> {
        match &self.cause {
            Some(Cause::Provider(error)) => Some(error),
            _ => None,
        }
    }

    /// Returns the connect error behind [`ErrorKind::Pool`].
    pub fn connect_error(&self) -> Option<&ConnectError> {
        match &self.cause {
            Some(Cause::Pool(error)) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.cause {
            Some(Cause::Provider(error)) => write!(f, ": {error}"),
            Some(Cause::Pool(connect_error)) => write!(f, ": {connect_error}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({}: {self})", self.kind.as_str())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.cause {
            Some(Cause::Provider(error)) => error.source(),
            Some(Cause::Pool(connect_error)) => connect_error.source(),
            None => None,
        }
    }
}
