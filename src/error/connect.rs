//! Errors of connecting to a database, or to another server of a pool.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use super::provider::ProviderError;
use super::text::{self, Source};

/// Kind of a [`ConnectError`]. Only [`Rejected`](Self::Rejected) may cause a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectErrorKind {
    /// The database does not accept the credential: wrong or expired password, rejected token,
    /// locked role.
    Rejected,
    /// The database has no room: too many connections.
    Overloaded,
    /// The database cannot be reached or is not up.
    Unreachable,
    /// Permanent until settings change: no such database, no right to connect, no verified
    /// TLS.
    Misconfigured,
    /// Anything else.
    Other,
}

impl ConnectErrorKind {
    /// Returns the word for telemetry's `error.type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Overloaded => "overloaded",
            Self::Unreachable => "unreachable",
            Self::Misconfigured => "misconfigured",
            Self::Other => "other",
        }
    }
}

/// Error of a connect, and of its login. Cheap to clone; keeps the SQLSTATE where the database gave
/// one.
#[derive(Clone)]
pub struct ConnectError {
    kind: ConnectErrorKind,
    code: Option<Arc<str>>,
    message: Arc<str>,
    context: Option<Arc<Details>>,
    source: Option<Source>,
}

/// Facts that the server's response does not contain.
#[derive(Clone, Default)]
struct Details {
    /// User, address and database of the login.
    target: Option<Box<str>>,
    /// A possible cause, and what to check.
    advice: Option<&'static str>,
}

impl ConnectError {
    /// Creates an error of `kind`. The message is logged: it must never carry a secret.
    ///
    /// It is kept on one line: control characters, and those that hide or reorder text, become
    /// spaces. Text beyond 500 characters is cut.
    pub fn new(kind: ConnectErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: None,
            message: text::message(&message.into()).into(),
            context: None,
            source: None,
        }
    }

    /// Creates the error of a setting. `problem` states what is wrong with the field, and a valid
    /// value, as in `port: is 0; give the server's port`.
    pub fn misconfigured(field: &str, problem: impl fmt::Display) -> Self {
        Self::new(
            ConnectErrorKind::Misconfigured,
            format!("{field}: {problem}"),
        )
    }

    /// Returns the error of a pool whose provider returned no lease.
    pub(crate) fn no_lease(kind: ConnectErrorKind, provider: &str, error: &ProviderError) -> Self {
        let message = format!(
            "provider {provider:?} returned no lease: {}",
            error.message()
        );
        Self::new(kind, message)
    }

    /// Keeps the SQLSTATE (five characters, `28P01`), filtered as the message is.
    #[must_use]
    pub fn with_code(mut self, code: impl AsRef<str>) -> Self {
        self.code = Some(text::code(code.as_ref()).into());
        self
    }

    /// Keeps user, address and database of the login, as `user "orders" at db.internal:5432,
    /// database "orders"`. Filtered as the message is, and printed after it.
    #[must_use]
    pub fn with_target(mut self, target: impl AsRef<str>) -> Self {
        Arc::make_mut(self.context.get_or_insert_default()).target =
            Some(text::message(target.as_ref()).into());
        self
    }

    /// Adds a possible cause, and what to check. It is printed last.
    pub(crate) fn with_advice(mut self, advice: &'static str) -> Self {
        Arc::make_mut(self.context.get_or_insert_default()).advice = Some(advice);
        self
    }

    /// Replaces the kind, for a pool that can classify the error more exactly than by its text.
    #[must_use]
    pub fn with_kind(mut self, kind: ConnectErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Keeps the cause for [`source`](StdError::source) and [`cause`](Self::cause).
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Source::new(source));
        self
    }

    /// Returns the kind, for a match.
    pub fn kind(&self) -> ConnectErrorKind {
        self.kind
    }

    /// Returns the SQLSTATE, if the database gave one.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Returns the message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns user, address and database of the login, if they are known.
    pub fn target(&self) -> Option<&str> {
        self.context.as_ref()?.target.as_deref()
    }

    /// Returns the cause as it was given, for a downcast: `sqlx::Error` if the pool is one of
    /// sqlx's.
    ///
    /// Its texts are the server's own, unfiltered. Use [`source`](StdError::source) for printing:
    /// it filters the texts if one has control characters or more than 500 characters.
    pub fn cause(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.source.as_ref().map(Source::original)
    }

    /// Returns whether the error may end by itself. A rejection may: a pod can start during a
    /// rotation.
    pub fn is_transient(&self) -> bool {
        self.kind != ConnectErrorKind::Misconfigured
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.message, self.kind.as_str())?;
        if let Some(code) = &self.code {
            write!(f, ", SQLSTATE {code}")?;
        }
        let advice = self.context.as_ref().and_then(|context| context.advice);
        for part in [self.target(), advice].into_iter().flatten() {
            write!(f, "; {part}")?;
        }
        f.write_str(")")
    }
}

impl fmt::Debug for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectError({self})")
    }
}

impl StdError for ConnectError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(Source::printable)
    }
}
