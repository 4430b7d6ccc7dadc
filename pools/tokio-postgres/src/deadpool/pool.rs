//! A pool whose credentials can be replaced in place.

use std::cell::Cell;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use claviger::Credentials;
use claviger::error::ConnectError;
use claviger::pool::{LoginPermits, Taken};
use deadpool::Runtime;
use deadpool::managed::{Hook, HookError, Manager, Metrics, Pool, WeakPool};
use futures_util::FutureExt;
use tokio::time::sleep;

use super::{ConnectionKind, ManagedPools, PermittedLogins};
use crate::{CallError, Lifetimes};

/// Time between two searches for idle connections of a closed pool.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// Idle time of the connection that a call of this task is about to return.
    static IDLE_FOR: Cell<Duration>;
}

/// A pool of deadpool, as [`Handle::current`](claviger::Handle::current) returns it.
pub struct ManagedPool<K: ConnectionKind> {
    /// `None` before the first lease is verified.
    inner: Option<Inner<K>>,
}

struct Inner<K: ConnectionKind> {
    pool: Pool<K::Manager>,
    logins: PermittedLogins,
}

impl<K: ConnectionKind> ManagedPool<K> {
    /// Returns deadpool's own pool, `None` before the first lease is verified.
    pub fn deadpool(&self) -> Option<&Pool<K::Manager>> {
        Some(&self.inner.as_ref()?.pool)
    }

    pub(super) fn vacant() -> Self {
        Self { inner: None }
    }

    pub(super) fn open(
        pools: &ManagedPools<K>,
        credentials: &Credentials,
        permits: LoginPermits,
    ) -> Result<Self, ConnectError> {
        let logins = PermittedLogins::new(Arc::clone(&pools.connect), credentials, permits);
        let lifetimes = pools.settings.lifetimes;
        let pool = Pool::builder(K::manager(logins.clone()))
            .max_size(pools.config.max_size)
            .queue_mode(pools.config.queue_mode)
            .wait_timeout(Some(pools.settings.pool.acquire_timeout))
            .runtime(Runtime::Tokio1)
            .pre_recycle(Hook::sync_fn(move |_, metrics| {
                if is_exceeded(lifetimes, metrics) {
                    return Err(HookError::message("it is too old"));
                }
                let _ = IDLE_FOR.try_with(|idle_for| idle_for.set(metrics.last_used()));
                Ok(())
            }))
            .build()
            .map_err(|error| ConnectError::misconfigured("pool", error))?;
        if let (Some(pause), Ok(runtime)) = (
            lifetimes.search_interval(),
            tokio::runtime::Handle::try_current(),
        ) {
            runtime.spawn(close_old(pool.weak(), lifetimes, pause));
        }
        Ok(Self {
            inner: Some(Inner { pool, logins }),
        })
    }

    /// Makes the next logins use these credentials. Returns `false` without a pool.
    pub(super) fn update(&self, credentials: &Credentials) -> bool {
        if let Some(inner) = &self.inner {
            inner.logins.update(credentials);
        }
        self.inner.is_some()
    }

    /// Returns an idle connection. If none is idle, deadpool would open one, but its login
    /// waits in the first poll and is dropped before it begins.
    pub(super) fn take_idle(&self) -> Option<Taken<K::Connection>> {
        let pool = self.deadpool()?;
        let mut timeouts = pool.timeouts();
        timeouts.wait = Some(Duration::ZERO);
        IDLE_FOR.sync_scope(Cell::default(), || {
            let object = pin!(pool.timeout_get(&timeouts)).now_or_never()?.ok()?;
            Some(Taken::new(object.into(), idle_for()))
        })
    }

    pub(super) async fn get(&self) -> Result<Taken<K::Connection>, CallError> {
        let pool = self.deadpool().ok_or(CallError::Closed)?;
        let getting = async {
            let object = pool.get().await.map_err(K::call_error)?;
            Ok(Taken::new(object.into(), idle_for()))
        };
        IDLE_FOR.scope(Cell::default(), getting).await
    }

    /// Returns the number of connections: busy, idle, being opened, and taken out of the pool.
    pub(super) fn connections(&self) -> u32 {
        let inner = self.inner.as_ref();
        inner.map_or(0, |inner| inner.logins.connections().count())
    }

    pub(super) fn idle(&self) -> u32 {
        let available = self.deadpool().map_or(0, |pool| pool.status().available);
        u32::try_from(available).unwrap_or(u32::MAX)
    }

    /// Closes the pool and waits for its last connection.
    pub(super) async fn drain(self) {
        let Some(Inner { pool, logins }) = self.inner else {
            return;
        };
        pool.close();
        loop {
            // A call that was cancelled while the pool closed leaves its connection idle.
            pool.retain(|_, _| false);
            tokio::select! {
                () = logins.connections().all_closed() => return,
                () = sleep(SWEEP_INTERVAL) => {}
            }
        }
    }
}

/// Returns the idle time of the connection that this task's call has got.
fn idle_for() -> Duration {
    IDLE_FOR.try_with(Cell::get).unwrap_or_default()
}

fn is_exceeded(lifetimes: Lifetimes, metrics: &Metrics) -> bool {
    lifetimes.is_exceeded(metrics.age(), metrics.last_used())
}

/// Closes idle connections that are too old, until the pool is closed.
async fn close_old<M: Manager>(pool: WeakPool<M>, lifetimes: Lifetimes, pause: Duration) {
    loop {
        sleep(pause).await;
        match pool.upgrade() {
            Some(pool) if !pool.is_closed() => {
                pool.retain(|_, metrics| !is_exceeded(lifetimes, &metrics));
            }
            _ => return,
        }
    }
}

impl<K: ConnectionKind> Clone for ManagedPool<K> {
    fn clone(&self) -> Self {
        let inner = self.inner.as_ref().map(|inner| Inner {
            pool: inner.pool.clone(),
            logins: inner.logins.clone(),
        });
        Self { inner }
    }
}

impl<K: ConnectionKind> fmt::Debug for ManagedPool<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagedPool")
            .field("status", &self.deadpool().map(Pool::status))
            .finish_non_exhaustive()
    }
}
