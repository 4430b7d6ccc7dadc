//! Registered providers and pools of any type.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;
use tokio::time::timeout_at;

use crate::actor::Child;
use crate::id::Id;
use crate::pool::{NotRolledBack, PoolFactory, PoolSlot};
use crate::provider::{BoxFuture, ProviderObject, ProviderSlot, Subscriber, spawn_watch};
use crate::report::RotationReport;
use crate::status::PoolStatus;
use crate::telemetry::Caller;

/// Time for a provider to close, also when the bound of a shutdown is used up.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);

/// A pool of any kind.
pub(super) trait PoolObject: Send + Sync {
    fn status(&self) -> PoolStatus;
    /// Returns whether logins with the active credentials fail for an unknown reason.
    fn has_unknown_login_error(&self) -> bool;
    /// Returns the name of its provider.
    fn provider(&self) -> Arc<str>;
    /// Returns the pool to its previous lease.
    fn roll_back(
        self: Arc<Self>,
        caller: Caller,
    ) -> BoxFuture<'static, Result<RotationReport, NotRolledBack>>;
    /// Closes the pool: callers get `PoolClosed`, and its connections are drained.
    fn close(self: Arc<Self>);
    /// Resolves when no verification runs.
    fn until_idle(&self) -> BoxFuture<'_, ()>;
    fn until_drained(self: Arc<Self>) -> BoxFuture<'static, ()>;
    fn draining_connections(&self) -> Vec<(u64, u32)>;
    /// Unsubscribes from the provider, once the pool uses no lease.
    fn leave(&self);
}

impl<F: PoolFactory> PoolObject for PoolSlot<F> {
    fn status(&self) -> PoolStatus {
        Self::status(self)
    }

    fn has_unknown_login_error(&self) -> bool {
        Self::has_unknown_login_error(self)
    }

    fn provider(&self) -> Arc<str> {
        Arc::clone(self.provider_name())
    }

    fn roll_back(
        self: Arc<Self>,
        caller: Caller,
    ) -> BoxFuture<'static, Result<RotationReport, NotRolledBack>> {
        Box::pin(Self::roll_back(self, caller))
    }

    fn close(self: Arc<Self>) {
        Self::close(&self);
    }

    fn until_idle(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.idle())
    }

    fn until_drained(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.drained().await })
    }

    fn draining_connections(&self) -> Vec<(u64, u32)> {
        Self::draining_connections(self)
    }

    fn leave(&self) {
        Self::leave(self);
    }
}

/// A registered provider or pool, with its actor.
pub(super) struct Node<T: ?Sized> {
    pub(super) id: Id,
    pub(super) name: Arc<str>,
    pub(super) slot: Arc<T>,
    pub(super) child: Arc<Child>,
    /// Ends the task that waits for the provider's hints.
    watch: Option<AbortHandle>,
}

pub(super) type ProviderNode = Node<dyn ProviderObject>;
pub(super) type PoolNode = Node<dyn PoolObject>;

impl ProviderNode {
    pub(super) fn of_provider<S: Send + Sync + 'static>(slot: Arc<ProviderSlot<S>>) -> Arc<Self> {
        Arc::new(Self {
            id: slot.id(),
            name: Arc::clone(slot.name()),
            child: Child::new(Arc::clone(&slot)),
            watch: Some(spawn_watch(&slot).abort_handle()),
            slot,
        })
    }

    /// Releases everything, then closes the provider and stops its actor. Returns how many leases
    /// could not be released in time.
    pub(super) async fn close(&self, deadline: Instant) -> usize {
        let left = Arc::clone(&self.slot).release_all(deadline).await;
        if let Some(watch) = &self.watch {
            watch.abort();
        }
        let at_least = tokio::time::Instant::now() + CLOSE_TIMEOUT;
        let task = tokio::spawn(Arc::clone(&self.slot).close_provider());
        let _ = timeout_at(at_least.max(deadline.into()), task).await;
        self.child.stop().await;
        left
    }
}

impl PoolNode {
    pub(super) fn of_pool<F: PoolFactory>(slot: Arc<PoolSlot<F>>) -> Arc<Self> {
        Arc::new(Self {
            id: slot.id(),
            name: Arc::clone(slot.name()),
            child: Child::new(Arc::clone(&slot)),
            watch: None,
            slot,
        })
    }

    /// Stops its actor, and unsubscribes from the provider.
    pub(super) async fn stop(&self) {
        self.child.stop().await;
        self.slot.leave();
    }
}
