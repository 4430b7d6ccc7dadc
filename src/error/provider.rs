//! Errors of providers.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::text::{self, Source};

/// Kind of a [`ProviderError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProviderErrorKind {
    /// The backend cannot be reached, or has an internal error. Transient.
    Unavailable,
    /// The backend requires a lower rate of requests. Transient.
    Throttled,
    /// The backend did not respond within the fetch deadline. Transient.
    TimedOut,
    /// The backend denies the request. Permanent until somebody grants it.
    Denied,
    /// The secret does not exist. Permanent until somebody creates it.
    NotFound,
    /// The secret cannot be read. Permanent until somebody corrects it.
    Malformed,
    /// A setting of the provider is wrong. Permanent.
    Misconfigured,
    /// The lease had expired when it was returned. Transient.
    ExpiredLease,
    /// The provider panicked. Counts as transient.
    Panicked,
    /// Anything else. Counts as transient.
    Other,
}

impl ProviderErrorKind {
    /// Returns the word for telemetry's `error.type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Throttled => "throttled",
            Self::TimedOut => "timed_out",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::Malformed => "malformed",
            Self::Misconfigured => "misconfigured",
            Self::ExpiredLease => "expired_lease",
            Self::Panicked => "panicked",
            Self::Other => "other",
        }
    }
}

/// Error of a provider that returned no lease. Cheap to clone.
///
/// The message and the source are logged: they must never carry a secret.
///
/// ```
/// use std::time::Duration;
/// use claviger::error::{ProviderError, ProviderErrorKind};
///
/// let error = ProviderError::new(ProviderErrorKind::Throttled, "rate exceeded")
///     .with_retry_after(Duration::from_secs(3));
/// assert!(error.is_transient());
/// assert_eq!(error.to_string(), "rate exceeded (throttled)");
/// ```
#[derive(Clone)]
pub struct ProviderError {
    kind: ProviderErrorKind,
    message: Arc<str>,
    retry_after: Option<Duration>,
    source: Option<Source>,
}

impl ProviderError {
    /// Creates an error of `kind`. The message is what is wrong, then `; ` and what to do. Without
    /// the latter, [`action`](Self::action) is the advice for the kind.
    ///
    /// It is kept on one line: control characters, and those that hide or reorder text, become
    /// spaces. Text beyond 500 characters is cut.
    pub fn new(kind: ProviderErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: text::message(&message.into()).into(),
            retry_after: None,
            source: None,
        }
    }

    /// Returns the error of a provider that did not respond by the deadline of a caller.
    pub(crate) fn has_not_returned() -> Self {
        Self::new(
            ProviderErrorKind::TimedOut,
            "the provider has not returned yet",
        )
    }

    /// Keeps the cause for [`source`](StdError::source) and [`cause`](Self::cause).
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Source::new(source));
        self
    }

    /// Sets the shortest time before the next request, as the backend requires it.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Returns the kind, for a match.
    pub fn kind(&self) -> ProviderErrorKind {
        self.kind
    }

    /// Returns the message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the cause as it was given, for a downcast.
    ///
    /// Its texts are unfiltered. Use [`source`](StdError::source) for printing: it filters the
    /// texts if one has control characters or more than 500 characters.
    pub fn cause(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.source.as_ref().map(Source::original)
    }

    /// Returns whether the same fetch may succeed later by itself. A registration retries only such
    /// errors.
    pub fn is_transient(&self) -> bool {
        !matches!(
            self.kind,
            ProviderErrorKind::Denied
                | ProviderErrorKind::NotFound
                | ProviderErrorKind::Malformed
                | ProviderErrorKind::Misconfigured
        )
    }

    /// Returns the time that [`with_retry_after`](Self::with_retry_after) set.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.kind.as_str())
    }
}

impl fmt::Debug for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProviderError({self})")
    }
}

impl StdError for ProviderError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(Source::printable)
    }
}
