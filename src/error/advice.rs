//! What each kind of error means to an operator, and what to do. The operators' manual has the same
//! texts, which a test compares.

use super::{ConnectErrorKind, ProviderError, ProviderErrorKind};

/// What an error means to an operator, and what to do: a row of the operators' manual
/// (`docs/operating.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Advice {
    /// What the error means.
    pub meaning: &'static str,
    /// What to do, or what to check.
    pub action: &'static str,
}

const fn advice(meaning: &'static str, action: &'static str) -> Advice {
    Advice { meaning, action }
}

impl ProviderErrorKind {
    /// Every kind, in the order of the operators' manual.
    pub const ALL: &'static [Self] = &[
        Self::Unavailable,
        Self::TimedOut,
        Self::Throttled,
        Self::Denied,
        Self::NotFound,
        Self::Malformed,
        Self::Misconfigured,
        Self::ExpiredLease,
        Self::Panicked,
        Self::Other,
    ];

    /// Returns what the error means, and what to do.
    pub const fn advice(self) -> Advice {
        match self {
            Self::Unavailable => advice(
                "the backend cannot be reached, or has an internal error",
                "check the backend's own status, then DNS, network policy and proxy; for a \
                 file, that it can be read",
            ),
            Self::TimedOut => advice(
                "no response within the fetch deadline (30 s)",
                "check the backend's own status; look for a full connection table, or a \
                 firewall that drops packets",
            ),
            Self::Throttled => advice(
                "the backend limits requests",
                "nothing at first: the library sends fewer requests. Check whether many \
                 instances start together",
            ),
            Self::Denied => advice(
                "the backend authenticated the service and denies the request",
                "grant the role or policy the permission to read this secret; look for a \
                 revoked token or service account; check the mode of a file",
            ),
            Self::NotFound => advice(
                "there is no such secret, role or file",
                "check its name, region and mount, and who removed it",
            ),
            Self::Malformed => advice(
                "the content cannot be used",
                "write the secret as the provider's README describes; the message names the \
                 field",
            ),
            Self::Misconfigured => advice(
                "a setting of the provider is wrong",
                "change the setting that the message names",
            ),
            Self::ExpiredLease => advice(
                "the lease had expired when it was returned",
                "compare the machine's clock with the backend's",
            ),
            Self::Panicked => advice(
                "the provider's code panicked",
                "read the service's output; report the panic to the authors of the provider",
            ),
            Self::Other => advice("anything else", "read the message"),
        }
    }
}

/// Divides a provider's message: what is wrong, then what to do.
const BEFORE_ACTION: &str = "; ";

impl ProviderError {
    /// Returns what is wrong: the message up to its first `; `.
    pub fn problem(&self) -> &str {
        let message = self.message();
        message
            .split_once(BEFORE_ACTION)
            .map_or(message, |(problem, _)| problem)
    }

    /// Returns what to do: the message after its first `; `, or else the advice for the kind. It is
    /// never empty.
    ///
    /// ```
    /// use claviger::error::{ProviderError, ProviderErrorKind as Kind};
    ///
    /// let error = ProviderError::new(Kind::NotFound, "no such secret; create it");
    /// assert_eq!((error.problem(), error.action()), ("no such secret", "create it"));
    /// let error = ProviderError::new(Kind::Misconfigured, "the region is wrong");
    /// assert_eq!(error.action(), Kind::Misconfigured.advice().action);
    /// ```
    pub fn action(&self) -> &str {
        let action = self.message().split_once(BEFORE_ACTION);
        let action = action.map(|(_, action)| action.trim());
        action
            .filter(|action| !action.is_empty())
            .unwrap_or(self.kind().advice().action)
    }
}

impl ConnectErrorKind {
    /// Every kind, in the order of the operators' manual.
    pub const ALL: &'static [Self] = &[
        Self::Rejected,
        Self::Overloaded,
        Self::Unreachable,
        Self::Misconfigured,
        Self::Other,
    ];

    /// Returns what the error means, and what to do.
    pub const fn advice(self) -> Advice {
        match self {
            Self::Rejected => advice(
                "wrong or expired password, rejected token, locked role (PostgreSQL 28P01, \
                 28000; MariaDB 1045, 4151, 1820)",
                "give backend and database the same password: finish the rotation, or unlock the \
                 role. For a token, check which identity signs it, and this machine's clock",
            ),
            Self::Overloaded => advice(
                "too many connections (53300; 1040, 1203, 1226)",
                "find out who uses the connections; compare replicas × (max_connections + \
                 overlap) with the server's limit. Never causes a fetch",
            ),
            Self::Unreachable => advice(
                "the database is down, starting or frozen, or the network is down (57P01, \
                 57P03, no response within 5 s)",
                "repair the database or the network. Never causes a fetch",
            ),
            Self::Misconfigured => advice(
                "no such database, no permission to connect, no entry in pg_hba.conf, TLS that \
                 cannot be verified (3D000, 42501)",
                "change what the message names; the error is permanent",
            ),
            Self::Other => advice(
                "anything else, a panic of a pool factory included",
                "read the message",
            ),
        }
    }
}
