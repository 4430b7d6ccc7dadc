//! The trait that a provider implements, and its fetch request.

use std::fmt::{self, Debug};
use std::future::{Future, pending};
use std::sync::Arc;

use super::fetched::Fetched;
use super::hints::Hints;
use crate::clock::{Clock, Timestamp};
use crate::error::ProviderError;
#[cfg(doc)]
use crate::error::ProviderErrorKind;
use crate::expiry::Expiry;
use crate::lease::{Lease, Revision};
use crate::report::RotationTrigger;

/// Obtains credentials from a backend.
///
/// Implement [`fetch`](Self::fetch); everything else has a default. A closure becomes a provider by
/// [`provider_fn`](crate::provider_fn).
///
/// ```
/// use std::time::Duration;
/// use claviger::{Credentials, Lease, Provider, Revision};
/// use claviger::error::ProviderError;
/// use claviger::lease::Expiry;
/// use claviger::provider::{FetchRequest, Fetched};
///
/// #[derive(Debug)]
/// struct Backend;
///
/// impl Backend {
///     /// Returns whether the backend extended the credential by an hour.
///     async fn renew(&self, _revision: &Revision) -> Result<bool, ProviderError> {
///         Ok(true)
///     }
///
///     async fn create(&self) -> Result<(String, String), ProviderError> {
///         Ok(("orders_1".into(), "s3cret".into()))
///     }
/// }
///
/// impl Provider for Backend {
///     type Secret = Credentials;
///
///     async fn fetch(
///         &self,
///         request: FetchRequest<Credentials>,
///     ) -> Result<Fetched<Credentials>, ProviderError> {
///         let expiry = Expiry::after(request.started, Duration::from_secs(3_600));
///         if let Some(current) = &request.current
///             && !request.is_rejected(current.revision())
///             && self.renew(current.revision()).await?
///         {
///             return Ok(Fetched::Renewed(expiry));
///         }
///         let (user, password) = self.create().await?;
///         let revision = Revision::new(user.clone());
///         let lease = Lease::new(Credentials::new(user, password), revision);
///         Ok(Fetched::New(lease.with_expiry(expiry)))
///     }
/// }
/// ```
pub trait Provider: Debug + Send + Sync + 'static {
    /// Secret of a lease: [`Credentials`](crate::Credentials) for databases.
    type Secret: Send + Sync + 'static;

    /// Returns the credential to use now.
    ///
    /// - [`Fetched::New`]: a lease. With a new revision it causes a handover.
    /// - [`Fetched::Renewed`]: the current lease with another expiry. On
    ///   [`RotationTrigger::Manual`] return a new credential instead.
    /// - [`Fetched::Unchanged`]: the current lease, unchanged.
    ///
    /// `request.rejected` lists revisions that the database rejects at present. Return another
    /// candidate if there is one, or the first choice again if all are rejected.
    ///
    /// # Cancel safety
    /// Never cancelled by the library, because a cancelled creation could leave a role behind. It
    /// runs in a task of its own with a deadline (default 30 s). A lease returned after the
    /// deadline is released, unless it is in use. A panic counts as one failed attempt.
    ///
    /// # Errors
    /// During registration, a permanent error ([`ProviderError::is_transient`] false) is returned
    /// at once. Later, the current lease stays in use. [`Fetched::Renewed`] and
    /// [`Fetched::Unchanged`] without a current lease count as an error
    /// ([`ProviderErrorKind::Other`]).
    fn fetch(
        &self,
        request: FetchRequest<Self::Secret>,
    ) -> impl Future<Output = Result<Fetched<Self::Secret>, ProviderError>> + Send;

    /// Renews the current lease (`request.current`), and never creates a credential. Called in
    /// place of [`fetch`](Self::fetch) when the lease is due to be refreshed while the provider is
    /// held by [`Supervisor::hold`](crate::Supervisor::hold). Returns the new expiry, or `None` if
    /// the lease cannot be renewed; it is then not called again during the hold. Default: `None`.
    ///
    /// # Cancel safety
    /// As [`fetch`](Self::fetch).
    ///
    /// # Errors
    /// The current lease stays in use, and the renewal is retried as a fetch is.
    fn renew(
        &self,
        request: FetchRequest<Self::Secret>,
    ) -> impl Future<Output = Result<Option<Expiry>, ProviderError>> + Send {
        let _ = request;
        async { Ok(None) }
    }

    /// Obtains the credential that the next rotation would use, for
    /// [`Supervisor::rehearse`](crate::Supervisor::rehearse). A pending one is read, and not made
    /// current at the backend. It is not served. May run beside a [`fetch`](Self::fetch), which
    /// does not wait for it. Default: `fetch` with the trigger [`RotationTrigger::Rehearsal`], for
    /// which a new credential is obtained as for `Manual`.
    ///
    /// Implement it if a `fetch` for `Manual` makes the backend change the only password of a user:
    /// a rehearsal must change nothing that is in use.
    ///
    /// # Cancel safety
    /// As [`fetch`](Self::fetch). The lease is released afterwards, unless it is in use.
    ///
    /// # Errors
    /// The rehearsal fails with it. It is not retried, and nothing else changes.
    fn rehearse(
        &self,
        request: FetchRequest<Self::Secret>,
    ) -> impl Future<Output = Result<Fetched<Self::Secret>, ProviderError>> + Send {
        self.fetch(request)
    }

    /// Releases a lease that no connection uses any more, or that no pool adopted. Default: does
    /// nothing.
    ///
    /// # Errors
    /// A transient error is retried with backoff until the lease expires, within the provider's
    /// token bucket, and after its fetches. A permanent error ([`ProviderError::is_transient`]
    /// false) is logged once and not retried: the lease remains until it expires.
    ///
    /// # Cancel safety
    /// Dropped and retried after the fetch deadline (default 30 s).
    fn release(
        &self,
        lease: Lease<Self::Secret>,
    ) -> impl Future<Output = Result<(), ProviderError>> + Send {
        let _ = lease;
        async { Ok(()) }
    }

    /// Does the provider's own background work: watches a file, renews a login token. Runs while
    /// the provider is registered, and is restarted with backoff when it ends or panics.
    ///
    /// # Cancel safety
    /// Dropped at an await point when the provider is removed.
    fn watch(&self, hints: Hints) -> impl Future<Output = ()> + Send {
        let _ = hints;
        pending()
    }

    /// Closes the provider: called once after the last release at removal or shutdown, with a
    /// deadline.
    fn close(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// Request for a fetch. Owned, cheap to clone.
#[non_exhaustive]
pub struct FetchRequest<S> {
    /// Reason for the fetch.
    pub trigger: RotationTrigger,
    /// Start of the fetch, before the request to the backend. Count lifetimes from it.
    pub started: Timestamp,
    /// The current lease, if any.
    pub current: Option<Lease<S>>,
    /// The revisions that the database rejects at present.
    pub rejected: Arc<[Revision]>,
    pub(super) clock: Clock,
}

impl<S> FetchRequest<S> {
    /// Returns the first request of a registration: no current lease, nothing rejected.
    pub fn first() -> Self {
        Self::new(RotationTrigger::Start)
    }

    /// Creates a request without a current lease or rejected revisions, for a provider's tests.
    pub fn new(trigger: RotationTrigger) -> Self {
        let clock = Clock::default();
        Self {
            trigger,
            started: clock.now(),
            current: None,
            rejected: Arc::from([]),
            clock,
        }
    }

    /// Returns the request with this clock, started now.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.started = clock.now();
        self.clock = clock;
        self
    }

    /// Reads the supervisor's clock now. Tests can move that clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns the supervisor's clock, for work that outlives the fetch.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns the request with a current lease.
    #[must_use]
    pub fn with_current(mut self, lease: Lease<S>) -> Self {
        self.current = Some(lease);
        self
    }

    /// Returns the request with revisions that the database rejects.
    #[must_use]
    pub fn with_rejected(mut self, revisions: impl IntoIterator<Item = Revision>) -> Self {
        self.rejected = revisions.into_iter().collect();
        self
    }

    /// Returns whether the database rejects that revision at present.
    pub fn is_rejected(&self, revision: &Revision) -> bool {
        self.rejected.contains(revision)
    }
}

impl<S> Clone for FetchRequest<S> {
    fn clone(&self) -> Self {
        Self {
            trigger: self.trigger,
            started: self.started,
            current: self.current.clone(),
            rejected: Arc::clone(&self.rejected),
            clock: self.clock.clone(),
        }
    }
}

/// Prints no secret, so that the secret's type needs no `Debug`.
impl<S> Debug for FetchRequest<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchRequest")
            .field("trigger", &self.trigger)
            .field("started", &self.started)
            .field("current", &self.current)
            .field("rejected", &self.rejected)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_needs_no_debug_and_is_not_printed() {
        struct Secret(&'static str);
        let lease = || Lease::new(Secret("s3cret"), Revision::new("v1"));
        assert_eq!(lease().secret().0, "s3cret");
        let request = FetchRequest::first()
            .with_current(lease())
            .with_rejected([Revision::new("v0")]);
        let request = format!("{request:?}");
        let fetched = format!("{:?}", Fetched::New(lease()));
        let digests = ["v1", "v0"].map(|name| Revision::new(name).to_string());
        assert!(
            digests.iter().all(|digest| request.contains(digest)),
            "{request}"
        );
        assert!(fetched.contains(&digests[0]), "{fetched}");
        for text in [request, fetched] {
            assert!(!text.contains("s3cret") && !text.contains("v1"), "{text}");
        }
    }
}
