//! A handle without a supervisor.

use std::sync::Arc;

use crate::clock::Clock;
use crate::handle::Handle;
use crate::pool::{Generation, Phase, PoolFactory, Shared};
use crate::telemetry::Meters;

/// A pool that a handle can lead to without a supervisor. Sealed: sqlx's pools, of either version.
pub trait FixedPool: Clone + Send + Sync + 'static {
    /// Factory of this kind of pool.
    type Factory: PoolFactory<Pool = Self>;
    /// Returns a factory with the options of this pool.
    fn factory(&self) -> Self::Factory;
}

impl<F: PoolFactory> Handle<F> {
    /// Returns a handle to a pool without a supervisor, for `#[sqlx::test]` and local runs.
    /// Development and production then differ by one line.
    pub fn fixed<P: FixedPool<Factory = F>>(pool: P) -> Self
    where
        F: PoolFactory<Pool = P>,
    {
        let factory = Arc::new(pool.factory());
        let settings = factory.settings();
        let max = settings.max_connections;
        let first = Generation::without_lease(1, Phase::Serving, pool, max);
        Self::supervised(Shared::new(
            Arc::from("fixed"),
            factory,
            settings,
            Clock::default(),
            Meters::default(),
            first,
            None,
        ))
    }
}
