//! The supervisor: registration, status, events, manual rotation, shutdown.

mod builder;
mod inner;
mod node;
#[cfg(feature = "otel")]
mod observe;
mod provider_ref;
mod readiness;
mod registry;
mod rotate;
mod runtime;
mod shutdown;
mod start;
mod validate;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle as Runtime;

pub use builder::SupervisorBuilder;
pub use provider_ref::ProviderRef;

use crate::error::Error;
use crate::events::Events;
use crate::handle::Handle;
use crate::pool::PoolFactory;
use crate::provider::Provider;
use crate::report::{RotationReport, ShutdownReport};
use crate::status::{Liveness, Readiness, Status};
use inner::Inner;

/// Owns providers and pools, and keeps them working through every rotation. Clones are the same
/// supervisor.
///
/// Dropping the last clone without [`shutdown`](Self::shutdown) is logged at WARN. Providers and
/// pools then run as long as the runtime.
///
/// ```
/// use claviger::{Credentials, Supervisor, static_credentials};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), claviger::Error> {
/// let supervisor = Supervisor::start();
/// let credentials = static_credentials(Credentials::new("orders", "s3cret"));
/// let provider = supervisor.add_provider("orders-credentials", credentials).await?;
/// assert_eq!(provider.name(), "orders-credentials");
/// supervisor.shutdown(std::time::Duration::from_secs(1)).await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "without it, nothing can be added, removed or shut down"]
pub struct Supervisor {
    inner: Arc<Inner>,
}

impl SupervisorBuilder {
    /// Starts the supervisor on the tokio runtime of the caller, whose timer must be enabled. All
    /// work is done there, so the runtime has to last as long as the supervisor is used.
    ///
    /// # Errors
    /// When a duration is zero or longer than a day, or the poll interval is shorter than a second;
    /// the message names the field. Outside of a tokio runtime
    /// ([`ErrorKind::NoRuntime`](crate::error::ErrorKind::NoRuntime)).
    pub fn start(self) -> Result<Supervisor, Error> {
        let context = self.context()?;
        let runtime = Runtime::try_current().map_err(|_| Error::no_runtime("start"))?;
        let inner = Arc::new(Inner::new(context, runtime));
        #[cfg(feature = "otel")]
        observe::register(&inner);
        Ok(Supervisor { inner })
    }
}

impl Supervisor {
    /// Starts with the defaults of [`SupervisorBuilder`].
    ///
    /// # Panics
    /// Outside of a tokio runtime; the message names the caller's line.
    /// [`SupervisorBuilder::start`] returns an error there.
    #[track_caller]
    pub fn start() -> Self {
        match SupervisorBuilder::default().start() {
            Ok(supervisor) => supervisor,
            #[expect(
                clippy::panic,
                reason = "documented; the builder returns an error instead"
            )]
            Err(error) => panic!("{error}"),
        }
    }

    /// Returns a builder, for other durations than the defaults.
    pub fn builder() -> SupervisorBuilder {
        SupervisorBuilder::default()
    }

    /// Registers a provider and waits for its first lease.
    ///
    /// # Errors
    /// At once when the name is empty or taken, or when the lease expires too soon to be handed
    /// over. At once, too, when the provider returns a permanent error
    /// ([`ProviderError::is_transient`](crate::error::ProviderError::is_transient) false).
    /// Transient errors are retried until the start deadline (30 s). Nothing stays registered then.
    /// Outside of a tokio runtime ([`ErrorKind::NoRuntime`](crate::error::ErrorKind::NoRuntime)).
    ///
    /// # Cancel safety
    /// Dropping the future unregisters it.
    pub async fn add_provider<P: Provider>(
        &self,
        name: &str,
        provider: P,
    ) -> Result<ProviderRef<P::Secret>, Error> {
        start::add_provider(&self.inner, name, provider).await
    }

    /// Registers a provider without waiting for its first lease: its pools are not ready until that
    /// is obtained.
    ///
    /// # Errors
    /// When the name is empty or taken, after shutdown, or when the supervisor's runtime is gone.
    pub fn add_provider_in_background<P: Provider>(
        &self,
        name: &str,
        provider: P,
    ) -> Result<ProviderRef<P::Secret>, Error> {
        start::add_provider_in_background(&self.inner, name, provider)
    }

    /// Registers a pool and waits until a login has verified its first lease.
    ///
    /// # Errors
    /// At once when the name is empty or taken, or when a size or duration is out of range. At
    /// once, too, when no credential would help (no such database, no right to connect). Everything
    /// else, a rejection included, is retried until the start deadline (30 s); the error then
    /// carries the SQLSTATE. Nothing stays registered then. Outside of a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropping the future unregisters it.
    pub async fn add_pool<F: PoolFactory>(
        &self,
        name: &str,
        provider: &ProviderRef<F::Secret>,
        factory: F,
    ) -> Result<Handle<F>, Error> {
        start::add_pool(&self.inner, name, provider, factory).await
    }

    /// Registers a pool without waiting for a verification: the service starts while the database
    /// is down. Until the first verification, callers wait as long as for a connection. A permanent
    /// error of the provider is returned at once. [`Handle::current`] returns a closed pool.
    ///
    /// # Errors
    /// When the name is empty or taken, a size or duration is out of range, or after shutdown.
    pub fn add_pool_in_background<F: PoolFactory>(
        &self,
        name: &str,
        provider: &ProviderRef<F::Secret>,
        factory: F,
    ) -> Result<Handle<F>, Error> {
        start::add_pool_in_background(&self.inner, name, provider, factory)
    }

    /// Requests a *new* credential, never a renewal, and waits until every pool has adopted it: up
    /// to the start deadline (30 s) after the fetch. Calls within a second share one fetch. If the
    /// backend's newest credential is still being handed over, the call waits for that, and returns
    /// the report of that rotation.
    ///
    /// # Errors
    /// When there is no such provider, or it returned no lease; the current lease then stays in
    /// service. Outside of a tokio runtime.
    pub async fn rotate_now(&self, provider: &str) -> Result<RotationReport, Error> {
        rotate::rotate_now(&self.inner, provider).await
    }

    /// Removes a pool: its callers get `PoolClosed`, its connections are drained. Returns when they
    /// are gone or the drain deadline (60 s) has passed.
    ///
    /// # Errors
    /// When there is no such pool. When the supervisor's runtime is gone and the call is made
    /// outside of one.
    ///
    /// # Cancel safety
    /// The removal continues without the future, on the supervisor's runtime.
    pub async fn remove_pool(&self, name: &str) -> Result<(), Error> {
        shutdown::remove_pool(&self.inner, name).await
    }

    /// Removes a provider: its leases are released, its background work ends.
    ///
    /// # Errors
    /// When there is no such provider, or it still has pools; the message names them. A removed
    /// pool counts until its last connection is gone. When the supervisor's runtime is gone and the
    /// call is made outside of one.
    ///
    /// # Cancel safety
    /// The removal continues without the future, on the supervisor's runtime.
    pub async fn remove_provider(&self, name: &str) -> Result<(), Error> {
        shutdown::remove_provider(&self.inner, name).await
    }

    /// Returns the state of every provider and pool.
    #[must_use]
    pub fn status(&self) -> Status {
        self.inner.status()
    }

    /// Returns whether traffic should be sent here: every credential is verified, not rejected and
    /// not about to expire. Nothing is sent to a database for it.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        readiness::readiness(&self.inner)
    }

    /// Returns the liveness of this process, independent of databases and backends.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        readiness::liveness(&self.inner)
    }

    /// Returns a reader of the events from now on. A slow reader misses events, and gets their
    /// number. It never slows the supervisor.
    pub fn events(&self) -> Events {
        self.inner.context.events.subscribe()
    }

    /// Makes [`readiness`](Self::readiness) permanently not ready, so that traffic is sent
    /// elsewhere. Every call is still served. Call [`shutdown`](Self::shutdown) some seconds later,
    /// when no more requests arrive and running ones have ended.
    pub fn announce_shutdown(&self) {
        self.inner.leaving.store(true, Ordering::Release);
    }

    /// Ends everything in order, within `bound`: nothing new starts → running work ends →
    /// connections drain → leases are released → actors stop. A tenth of the bound is kept for
    /// releases, which happen even where a drain was abandoned. Further calls return the same
    /// report.
    ///
    /// The work is done on the runtime on which the supervisor was started. If that runtime is
    /// gone, the caller's is used: leases are released, and tasks of the old runtime are not waited
    /// for. If it is not driven, the call returns at most two seconds after the bound. The report
    /// then lists everything as left behind.
    ///
    /// # Cancel safety
    /// The shutdown continues without the future.
    pub async fn shutdown(&self, bound: Duration) -> ShutdownReport {
        shutdown::shutdown(&self.inner, bound).await
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("status", &self.status())
            .finish()
    }
}
