//! A supervisor on a clock that tests move, with failpoints in its actors.

use claviger::pool::PoolFactory;
use claviger::supervisor::ProviderRef;
use claviger::{Error, Handle, Provider, Supervisor, SupervisorBuilder};

use crate::{Failpoints, MovedClock};

/// A supervisor on a clock that tests move.
#[derive(Debug)]
pub struct Lab {
    /// The supervisor.
    pub supervisor: Supervisor,
    /// The supervisor's wall clock: tokio's clock, paused or not, plus the offset that a test sets.
    pub clock: MovedClock,
    /// The failpoints of the supervisor's actors.
    pub failpoints: Failpoints,
}

impl Lab {
    /// Starts a supervisor with the default durations.
    ///
    /// # Panics
    /// Panics outside of a tokio runtime.
    #[expect(clippy::expect_used, reason = "the default durations are valid")]
    pub fn new() -> Self {
        Self::with_builder(Supervisor::builder()).expect("the default durations are valid")
    }

    /// Starts a supervisor from a builder.
    ///
    /// # Errors
    /// A duration is invalid.
    pub fn with_builder(builder: SupervisorBuilder) -> Result<Self, Error> {
        let (clock, failpoints) = (MovedClock::default(), Failpoints::default());
        let supervisor = builder.testing(clock.clone(), failpoints.clone()).start()?;
        Ok(Self {
            supervisor,
            clock,
            failpoints,
        })
    }

    /// Registers a provider.
    ///
    /// # Panics
    /// Panics when the provider returns no lease.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub async fn add_provider<P: Provider>(
        &self,
        name: &str,
        provider: P,
    ) -> ProviderRef<P::Secret> {
        let added = self.supervisor.add_provider(name, provider).await;
        added.expect("the provider returns a lease")
    }

    /// Registers a pool.
    ///
    /// # Panics
    /// Panics when the pool's first lease is not verified.
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub async fn add_pool<F: PoolFactory>(
        &self,
        name: &str,
        provider: &ProviderRef<F::Secret>,
        factory: F,
    ) -> Handle<F> {
        let added = self.supervisor.add_pool(name, provider, factory).await;
        added.expect("the first lease is verified")
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}
