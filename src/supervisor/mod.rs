//! The supervisor: status and events. Its registrations are in `start`, manual rotation in
//! `rotate`, holds in `hold` and `roll_back`, removals and shutdown in `shutdown`.

mod builder;
mod hold;
mod inner;
mod node;
#[cfg(feature = "otel")]
mod observe;
mod provider_ref;
mod readiness;
mod registry;
mod rehearse;
mod roll_back;
mod rotate;
mod runtime;
mod shutdown;
mod start;
mod validate;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::runtime::Handle as Runtime;

pub use builder::SupervisorBuilder;
pub use provider_ref::ProviderRef;

use crate::error::Error;
use crate::events::Events;
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

    /// Returns the state of every provider and pool.
    #[must_use]
    pub fn status(&self) -> Status {
        let (providers, pools, shutting_down) = self.inner.registered();
        Status {
            providers: providers.iter().map(|node| node.slot.status()).collect(),
            pools: pools.iter().map(|node| node.slot.status()).collect(),
            shutting_down,
        }
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
        let (providers, pools, shutting_down) = self.inner.registered();
        let providers = providers.iter().map(|node| node.child.restarts());
        let pools = pools.iter().map(|node| node.child.restarts());
        Liveness {
            alive: true,
            shutting_down,
            restarts: providers.chain(pools).sum(),
        }
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

    /// Returns whether [`announce_shutdown`](Self::announce_shutdown) or
    /// [`shutdown`](Self::shutdown) was called. Long responses, such as streams of events, should
    /// end then.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        let (_, _, closed) = self.inner.registered();
        closed || self.inner.leaving.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("status", &self.status())
            .finish()
    }
}
