//! One issued credential: the secret, its revision, when it dies and what becomes of the
//! connections it opened.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::expiry::Expiry;

/// The backend's opaque name of a credential: a `VersionId`, a lease id, a digest. Equal revision =
/// same credential.
///
/// Logs, spans and status show only its [`digest`](Self::digest). It must not be the secret itself,
/// nor an unkeyed hash of it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(Arc<str>);

impl Revision {
    /// Names a credential as its backend does.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The backend's name, as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Eight hexadecimal digits that are the same in every process and reveal nothing of the name.
    pub fn digest(&self) -> String {
        let hash = Sha256::digest(self.0.as_bytes());
        hash.iter()
            .take(4)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.digest())
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revision({})", self.digest())
    }
}

/// What becomes of open connections once a newer lease is served. Decides how a pool hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OldConnections {
    /// A renewed token: connections stay good. The pool is refitted in place, `max_lifetime`
    /// retires what is open.
    Keep,
    /// A rotated password: connections work, but should go. The pool is replaced, unhurried, within
    /// the connection budget.
    Drain,
    /// The backend drops the role. The pool is replaced, and drained before the lease dies.
    EndWithLease,
}

impl OldConnections {
    /// The word for telemetry.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Drain => "drain",
            Self::EndWithLease => "end_with_lease",
        }
    }
}

/// One issued credential. Clones share the secret.
///
/// ```
/// use std::time::Duration;
/// use claviger::{Expiry, Lease, Credentials, Timestamp, Revision, OldConnections};
///
/// let asked = Timestamp::now();
/// let lease = Lease::new(Credentials::new("orders", "token"), Revision::new("token-1"))
///     .with_expiry(Expiry::after(asked, Duration::from_secs(900)))
///     .with_old_connections(OldConnections::Keep)
///     .with_refresh_after(Duration::from_secs(840)); // asked for at 0:00, renewed at 14:00
/// assert!(!format!("{lease:?}").contains("token-1"));
/// ```
pub struct Lease<S> {
    secret: Arc<S>,
    revision: Revision,
    expiry: Expiry,
    old_connections: OldConnections,
    refresh_after: Option<Duration>,
}

impl<S> Lease<S> {
    /// A lease without a known death whose connections are drained when a newer one is served.
    pub fn new(secret: S, revision: Revision) -> Self {
        Self {
            secret: Arc::new(secret),
            revision,
            expiry: Expiry::never(),
            old_connections: OldConnections::Drain,
            refresh_after: None,
        }
    }

    /// When the credential dies. Default: [`Expiry::never`].
    #[must_use]
    pub fn with_expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    /// What becomes of open connections. Default: [`OldConnections::Drain`].
    #[must_use]
    pub fn with_old_connections(mut self, old_connections: OldConnections) -> Self {
        self.old_connections = old_connections;
        self
    }

    /// When to ask the backend again, counted from the start of the fetch, exactly (no jitter).
    /// Without it: at 80 % of the life less up to 10 % jitter (60 % when connections end with the
    /// lease), or every 5 min when there is no death. At least 1 s. A value at or beyond the
    /// lease's death is ignored in favour of that rule.
    #[must_use]
    pub fn with_refresh_after(mut self, after: Duration) -> Self {
        self.refresh_after = Some(after);
        self
    }

    /// The secret that pools take.
    pub fn secret(&self) -> &S {
        &self.secret
    }

    /// The backend's name of this credential.
    pub fn revision(&self) -> &Revision {
        &self.revision
    }

    /// When it dies.
    pub fn expiry(&self) -> Expiry {
        self.expiry
    }

    /// What becomes of the connections it opened.
    pub fn old_connections(&self) -> OldConnections {
        self.old_connections
    }

    pub(crate) fn refresh_hint(&self) -> Option<Duration> {
        self.refresh_after
    }
}

impl<S> Clone for Lease<S> {
    fn clone(&self) -> Self {
        Self {
            secret: Arc::clone(&self.secret),
            revision: self.revision.clone(),
            expiry: self.expiry,
            old_connections: self.old_connections,
            refresh_after: self.refresh_after,
        }
    }
}

impl<S> fmt::Debug for Lease<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("revision", &self.revision)
            .field("expiry", &self.expiry)
            .field("old_connections", &self.old_connections)
            .field("refresh_after", &self.refresh_after)
            .finish_non_exhaustive()
    }
}
