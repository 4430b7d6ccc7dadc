//! The trait that a provider implements, and the request of a fetch.

use std::fmt::Debug;
use std::future::{Future, pending};
use std::sync::Arc;

use super::fetched::Fetched;
use super::hints::Hints;
use crate::clock::{Clock, Timestamp};
use crate::error::ProviderError;
#[cfg(doc)]
use crate::error::ProviderErrorKind;
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
    /// - [`Fetched::New`]: a lease. With a new revision it leads to a handover.
    /// - [`Fetched::Renewed`]: the current lease with another expiry. On
    ///   [`RotationTrigger::Manual`] a new credential is wanted instead.
    /// - [`Fetched::Unchanged`]: the current lease as it is.
    /// - `request.rejected` names revisions that the database rejects at present: offer another
    ///   candidate if there is one, and the first choice again when all are rejected.
    ///
    /// # Cancel safety
    /// Never cancelled by the library: a cancelled creation would leave a role that nobody drops. It
    /// runs in a task of its own under a deadline (default 30 s); a lease that comes later than
    /// that is released, unless it is in use. A panic counts as one failed attempt.
    ///
    /// # Errors
    /// A permanent error ([`ProviderError::is_transient`] false) ends a registration at once; later
    /// it leaves the current lease in service. [`Fetched::Renewed`] and [`Fetched::Unchanged`]
    /// without a current lease count as an error ([`ProviderErrorKind::Other`]).
    fn fetch(
        &self,
        request: FetchRequest<Self::Secret>,
    ) -> impl Future<Output = Result<Fetched<Self::Secret>, ProviderError>> + Send;

    /// Releases a lease that no connection uses any more, or that no pool adopted. Default: does
    /// nothing.
    ///
    /// # Errors
    /// A transient one: retried with back-off within the provider's budget, after its fetches,
    /// until the lease expires. A permanent one ([`ProviderError::is_transient`] false): logged
    /// once, and not retried; the lease remains until it expires.
    ///
    /// # Cancel safety
    /// Dropped when it takes longer than the fetch deadline (default 30 s), and retried.
    fn release(
        &self,
        lease: Lease<Self::Secret>,
    ) -> impl Future<Output = Result<(), ProviderError>> + Send {
        let _ = lease;
        async { Ok(()) }
    }

    /// Does the provider's own background work: watches a file, renews a login token. Runs while
    /// the provider is registered; when it ends or panics it is started again with back-off.
    ///
    /// # Cancel safety
    /// Dropped at an await point when the provider is removed.
    fn watch(&self, hints: Hints) -> impl Future<Output = ()> + Send {
        let _ = hints;
        pending()
    }

    /// Called once, under a deadline, after the last release, at removal and shutdown.
    fn close(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// The request of a fetch. Owned, cheap to clone.
#[derive(Debug)]
#[non_exhaustive]
pub struct FetchRequest<S> {
    /// Why.
    pub trigger: RotationTrigger,
    /// When, read before the request to the backend: count lifetimes from here.
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

    /// Creates a request without a current lease, and with nothing rejected, for a provider's
    /// tests.
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
