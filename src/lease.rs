//! One credential as obtained: the secret, its revision, its expiry, and what to do with the
//! connections opened with it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

pub use crate::clock::Timestamp;
pub use crate::expiry::Expiry;

/// The backend's opaque identifier of a credential: a `VersionId`, a lease id, a digest. Equal
/// revision = same credential.
///
/// Logs, spans and status show only its [`digest`](Self::digest). It must not be the secret itself,
/// nor an unkeyed hash of it.
///
/// ```
/// use claviger::Revision;
///
/// let version = Revision::new("a1b2c3d4-version-of-the-secret");
/// assert_eq!(version, Revision::new("a1b2c3d4-version-of-the-secret"));
/// assert_ne!(version.digest(), version.as_str(), "logs show the digest");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(Arc<str>);

impl Revision {
    /// Creates a revision from the backend's identifier.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// Returns the identifier as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns eight hexadecimal digits, which are the same in every process and do not reveal the
    /// identifier.
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

/// Treatment of open connections once a newer lease is active. Decides the handover mode.
///
/// ```
/// use claviger::lease::OldConnections;
/// use claviger::{Credentials, Lease, Revision};
///
/// // The backend drops the user when its lease ends.
/// let lease = Lease::new(Credentials::new("orders_7", "s3cret"), Revision::new("7"))
///     .with_old_connections(OldConnections::EndWithLease);
/// assert_eq!(lease.old_connections(), OldConnections::EndWithLease);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OldConnections {
    /// Keeps them, as with a newer token. The pool is updated in place; `max_lifetime` closes its
    /// connections.
    Keep,
    /// Drains them, as after a rotated password: they work, but should close. The pool is replaced
    /// within `max_connections` and the overlap.
    Drain,
    /// Ends them with the lease, because the backend drops the role. The pool is replaced, and
    /// drained before the lease expires.
    EndWithLease,
    /// Keeps those that authenticate again with the newer credentials before the lease expires, or
    /// before [a later time](Lease::with_connection_expiry). Some servers require that, because
    /// they close a connection some time after its last authentication. The pool is updated in
    /// place: verify → update → publish → authenticate open connections again. The old lease is
    /// released after that. Connections that are about to end authenticate before the publication.
    /// Only verified credentials are sent.
    ///
    /// Pools whose connections cannot authenticate again, those of SQL databases among them, treat
    /// it as [`EndWithLease`](Self::EndWithLease).
    Reauthenticate,
}

impl OldConnections {
    /// Returns the word for telemetry.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Drain => "drain",
            Self::EndWithLease => "end_with_lease",
            Self::Reauthenticate => "reauthenticate",
        }
    }

    /// Returns the treatment by a pool whose connections can authenticate again, or cannot.
    pub(crate) fn by_pool(self, reauthenticates: bool) -> Self {
        match self {
            Self::Reauthenticate if !reauthenticates => Self::EndWithLease,
            other => other,
        }
    }

    /// Returns whether connections end at the lease's expiry, unless the pool acts before.
    pub(crate) fn expire(self) -> bool {
        matches!(self, Self::EndWithLease | Self::Reauthenticate)
    }
}

/// Returns when the server ends connections of a lease with this expiry. `given` is the time that
/// the provider set.
pub(crate) fn connection_expiry(
    old_connections: OldConnections,
    given: Option<Expiry>,
    expiry: Expiry,
) -> Expiry {
    if old_connections.expire() {
        given.map_or(expiry, |given| given.latest(expiry))
    } else {
        Expiry::never()
    }
}

/// One credential as obtained. Clones share the secret.
///
/// ```
/// use std::time::Duration;
/// use claviger::{Credentials, Lease, Revision};
/// use claviger::lease::{Expiry, OldConnections};
/// use claviger::provider::FetchRequest;
///
/// let request = FetchRequest::<Credentials>::first();
/// let lease = Lease::new(Credentials::new("orders", "token"), Revision::new("token-1"))
///     .with_expiry(Expiry::after(request.started, Duration::from_secs(900)))
///     .with_old_connections(OldConnections::Keep)
///     .with_refresh_after(Duration::from_secs(840)); // fetched at 0:00, and again at 14:00
/// assert!(!format!("{lease:?}").contains("token-1"));
/// ```
pub struct Lease<S> {
    secret: Arc<S>,
    revision: Revision,
    expiry: Expiry,
    old_connections: OldConnections,
    connection_expiry: Option<Expiry>,
    refresh_after: Option<Duration>,
}

impl<S> Lease<S> {
    /// Creates a lease that never expires and whose connections are drained when a newer one is
    /// active.
    pub fn new(secret: S, revision: Revision) -> Self {
        Self {
            secret: Arc::new(secret),
            revision,
            expiry: Expiry::never(),
            old_connections: OldConnections::Drain,
            connection_expiry: None,
            refresh_after: None,
        }
    }

    /// Sets the expiry. Default: [`Expiry::never`].
    #[must_use]
    pub fn with_expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    /// Sets what to do with open connections. Default: [`OldConnections::Drain`].
    #[must_use]
    pub fn with_old_connections(mut self, old_connections: OldConnections) -> Self {
        self.old_connections = old_connections;
        self
    }

    /// Sets when the server ends connections whose last authentication used this lease. A time
    /// before the lease's expiry counts as that expiry. Default: the lease's expiry.
    ///
    /// Without newer credentials, open connections are handed out until shortly before that time.
    /// The margin is a tenth of the remaining time, at least 1 s and at most a minute.
    ///
    /// Connections end only with [`OldConnections::Reauthenticate`] and
    /// [`OldConnections::EndWithLease`]. The other variants ignore this time.
    ///
    /// A token of ElastiCache is valid for 15 minutes, and a connection for 12 hours after its last
    /// authentication. If a token was fetched at 0:13 and no newer one is available, no login uses
    /// it from 0:28 on. Connections that it authenticated are handed out until 12:12.
    ///
    /// ```
    /// use std::time::Duration;
    /// use claviger::{Credentials, Lease, Revision};
    /// use claviger::lease::{Expiry, OldConnections};
    /// use claviger::provider::FetchRequest;
    ///
    /// let started = FetchRequest::<Credentials>::first().started;
    /// let lease = Lease::new(Credentials::new("orders", "token"), Revision::new("token-1"))
    ///     .with_expiry(Expiry::after(started, Duration::from_secs(900)))
    ///     .with_old_connections(OldConnections::Reauthenticate)
    ///     .with_connection_expiry(Expiry::after(started, Duration::from_secs(12 * 3_600)));
    /// let left = lease.connection_expiry().remaining(started);
    /// assert_eq!(left, Some(Duration::from_secs(12 * 3_600)));
    /// ```
    #[must_use]
    pub fn with_connection_expiry(mut self, expiry: Expiry) -> Self {
        self.connection_expiry = Some(expiry);
        self
    }

    /// Sets the time of the next fetch, counted from the start of this one, without jitter. At
    /// least 1 s. Default: 80 % of the lifetime, less up to 10 % jitter: of 1 h after 42 to 48 min.
    /// It is 60 % if connections end with the lease or must authenticate again before its expiry,
    /// and 5 min for a lease that never expires. The default also replaces a value at or beyond the
    /// expiry.
    #[must_use]
    pub fn with_refresh_after(mut self, after: Duration) -> Self {
        self.refresh_after = Some(after);
        self
    }

    /// Returns the secret.
    pub fn secret(&self) -> &S {
        &self.secret
    }

    /// Returns the revision.
    pub fn revision(&self) -> &Revision {
        &self.revision
    }

    /// Returns the expiry.
    pub fn expiry(&self) -> Expiry {
        self.expiry
    }

    /// Returns what to do with connections opened with it.
    pub fn old_connections(&self) -> OldConnections {
        self.old_connections
    }

    /// Returns when the server ends connections whose last authentication used this lease:
    /// [`Expiry::never`] if they are kept or drained.
    pub fn connection_expiry(&self) -> Expiry {
        let given = self.connection_expiry;
        connection_expiry(self.old_connections, given, self.expiry)
    }

    /// Returns the time that [`with_connection_expiry`](Self::with_connection_expiry) set.
    pub(crate) fn given_connection_expiry(&self) -> Option<Expiry> {
        self.connection_expiry
    }

    /// Returns the time that [`with_refresh_after`](Self::with_refresh_after) set.
    pub fn refresh_after(&self) -> Option<Duration> {
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
            connection_expiry: self.connection_expiry,
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
            .field("connection_expiry", &self.connection_expiry)
            .field("refresh_after", &self.refresh_after)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_cannot_authenticate_again_end_with_the_lease() {
        for (given, can, cannot) in [
            (
                OldConnections::Reauthenticate,
                OldConnections::Reauthenticate,
                OldConnections::EndWithLease,
            ),
            (
                OldConnections::Keep,
                OldConnections::Keep,
                OldConnections::Keep,
            ),
            (
                OldConnections::Drain,
                OldConnections::Drain,
                OldConnections::Drain,
            ),
        ] {
            assert_eq!((given.by_pool(true), given.by_pool(false)), (can, cannot));
        }
    }

    #[test]
    fn connections_end_at_the_expiry_or_at_a_later_time() {
        let now = Timestamp::now();
        let after = |seconds| Expiry::after(now, Duration::from_secs(seconds));
        let lease = |old_connections, expiry| {
            Lease::new((), Revision::new("r"))
                .with_expiry(expiry)
                .with_old_connections(old_connections)
        };
        for (old_connections, ends) in [
            (OldConnections::Reauthenticate, true),
            (OldConnections::EndWithLease, true),
            (OldConnections::Keep, false),
            (OldConnections::Drain, false),
        ] {
            for (given, expected) in [(None, 900), (Some(60), 900), (Some(43_200), 43_200)] {
                let mut lease = lease(old_connections, after(900));
                if let Some(given) = given {
                    lease = lease.with_connection_expiry(after(given));
                }
                let expected = if ends {
                    after(expected)
                } else {
                    Expiry::never()
                };
                assert_eq!(lease.connection_expiry(), expected, "{old_connections:?}");
            }
        }
        let unlimited = lease(OldConnections::Reauthenticate, Expiry::never());
        let unlimited = unlimited.with_connection_expiry(after(60));
        assert!(unlimited.connection_expiry().is_never());
    }
}
