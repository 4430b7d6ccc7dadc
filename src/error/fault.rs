//! What a database (or whatever a pool leads to) answers instead of a session.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use super::Source;

/// Why there is no session. Only [`Refused`](Self::Refused) may lead to a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// The database does not accept the credential: wrong or expired password, rejected token, locked role.
    Refused,
    /// The database has no room: too many connections.
    Overloaded,
    /// The database cannot be reached or is not up.
    Unreachable,
    /// Stays until somebody changes settings: no such database, no right to connect, no verified TLS.
    Misconfigured,
    /// Anything else.
    Other,
}

impl FaultKind {
    /// The word for telemetry's `error.type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Overloaded => "overloaded",
            Self::Unreachable => "unreachable",
            Self::Misconfigured => "misconfigured",
            Self::Other => "other",
        }
    }
}

/// Why there is no session. Cheap to clone; keeps the SQLSTATE where the database gave one.
#[derive(Clone)]
pub struct Fault {
    kind: FaultKind,
    code: Option<Arc<str>>,
    message: Arc<str>,
    source: Option<Source>,
}

impl Fault {
    /// A fault of `kind`. The message is logged: it must never carry a secret.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, code: None, message: message.into().into(), source: None }
    }

    /// Keeps the SQLSTATE (five characters, `28P01`).
    #[must_use]
    pub fn with_code(mut self, code: impl Into<Arc<str>>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Keeps the cause for [`source`](StdError::source).
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The kind, for a match.
    pub fn kind(&self) -> FaultKind {
        self.kind
    }

    /// The SQLSTATE, where the database gave one.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// What was said.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether it may pass without anybody's doing. A refusal may: a pod can start inside a rotation's window.
    pub fn is_transient(&self) -> bool {
        self.kind != FaultKind::Misconfigured
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(f, "{} ({}, SQLSTATE {code})", self.message, self.kind.as_str()),
            None => write!(f, "{} ({})", self.message, self.kind.as_str()),
        }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fault({self})")
    }
}

impl StdError for Fault {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
