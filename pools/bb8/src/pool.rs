//! A pool whose credentials can be replaced in place.

use std::fmt;
use std::time::Duration;

use bb8::{Pool, PooledConnection, RunError};
use claviger::Credentials;
use claviger::error::ConnectError;
use claviger::pool::{LoginPermits, Taken};
use claviger_tokio_postgres::CallError;
use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::manager::PermittedManager;
use crate::managers::ManagerFactory;
use crate::pools::Bb8Pools;

/// Time between two of bb8's searches for connections that are too old, if none ever is.
const WITHOUT_LIFETIMES: Duration = Duration::from_secs(30);

/// Time between two searches for idle connections of a closed pool.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Time after which a waiting caller checks the pool again.
const CHECK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A connection that a handle returns. It dereferences to the manager's own, such as
/// [`Client`](tokio_postgres::Client).
pub type Bb8Connection<F> = PooledConnection<'static, PermittedManager<F>>;

/// A pool of bb8, as [`Handle::current`](claviger::Handle::current) returns it.
pub struct Bb8Pool<F: ManagerFactory> {
    /// `None` before the first lease is verified.
    inner: Option<Inner<F>>,
}

struct Inner<F: ManagerFactory> {
    pool: Pool<PermittedManager<F>>,
    manager: PermittedManager<F>,
}

impl<F: ManagerFactory> Bb8Pool<F> {
    /// Returns bb8's own pool, `None` before the first lease is verified.
    pub fn bb8(&self) -> Option<&Pool<PermittedManager<F>>> {
        Some(&self.inner.as_ref()?.pool)
    }

    pub(crate) fn vacant() -> Self {
        Self { inner: None }
    }

    pub(crate) fn open(
        pools: &Bb8Pools<F>,
        credentials: &Credentials,
        logins: LoginPermits,
    ) -> Result<Self, ConnectError> {
        // bb8 panics with settings that it cannot use, and without a runtime.
        pools.settings.check()?;
        Handle::try_current().map_err(|error| ConnectError::misconfigured("pool", error))?;
        let (settings, lifetimes) = (&pools.settings.pool, pools.settings.lifetimes);
        let max = settings.max_connections;
        let manager = PermittedManager::new(pools.managers.clone(), credentials, max, logins)?;
        // The handle checks connections, because a check of bb8 is never a probe. The manager
        // repeats logins.
        let pool = Pool::builder()
            .max_size(max)
            .max_lifetime(lifetimes.max_lifetime)
            .idle_timeout(lifetimes.idle_timeout)
            .connection_timeout(settings.acquire_timeout)
            .queue_strategy(pools.queue_strategy)
            .reaper_rate(lifetimes.search_interval().unwrap_or(WITHOUT_LIFETIMES))
            .test_on_check_out(false)
            .retry_connection(false)
            .build_unchecked(manager.clone());
        Ok(Self {
            inner: Some(Inner { pool, manager }),
        })
    }

    /// Makes the next logins use these credentials. Returns `false` without a pool.
    pub(crate) fn update(&self, credentials: &Credentials) -> bool {
        let inner = self.inner.as_ref();
        inner.is_some_and(|inner| inner.manager.update(credentials).is_ok())
    }

    /// Returns an idle connection that is not known to be broken. Returns `None` outside of a tokio
    /// runtime, where bb8 panics.
    pub(crate) fn take_idle(&self) -> Option<Taken<Bb8Connection<F>>> {
        let inner = self.inner.as_ref()?;
        Handle::try_current().ok()?;
        // Without an idle connection, bb8 would open one.
        while inner.pool.state().idle_connections > 0 {
            let got = inner.pool.get_owned().now_or_never()?;
            if let Some(mut taken) = working(got.ok()?) {
                // Without a place, if callers of `get` have all of them.
                taken.connection.keep(inner.manager.free_place());
                return Some(taken);
            }
        }
        None
    }

    pub(crate) async fn get(&self) -> Result<Taken<Bb8Connection<F>>, CallError> {
        let inner = self.inner.as_ref().ok_or(CallError::Closed)?;
        let place = inner.manager.place().await?;
        // Before bb8 begins a login, so that no error is missed.
        let mut caller = inner.manager.waiting().caller();
        loop {
            let mut getting = std::pin::pin!(inner.pool.get_owned());
            let got = loop {
                tokio::select! {
                    biased;
                    got = &mut getting => break got,
                    error = caller.error() => return Err(error),
                    () = sleep(CHECK_AGAIN_AFTER) => {}
                }
                // bb8 may have notified nobody of a connection that was returned, or of a login
                // that failed as this call began. Otherwise it would begin one more login.
                let has_idle = inner.pool.state().idle_connections > 0;
                if !has_idle && inner.manager.waiting().each_caller_has_a_login() {
                    continue;
                }
                if let Some(got) = inner.pool.get_owned().now_or_never() {
                    break got;
                }
            };
            match got {
                // A broken one is closed and replaced.
                Ok(connection) => {
                    if let Some(mut taken) = working(connection) {
                        taken.connection.keep(Some(place));
                        return Ok(taken);
                    }
                }
                Err(RunError::User(error)) => return Err(error),
                Err(RunError::TimedOut) => return Err(CallError::TimedOut),
            }
        }
    }

    /// Returns the number of connections: busy, idle, being opened and closing.
    pub(crate) fn connections(&self) -> u32 {
        let inner = self.inner.as_ref();
        inner.map_or(0, |inner| inner.manager.connections().count())
    }

    pub(crate) fn idle(&self) -> u32 {
        self.bb8().map_or(0, |pool| pool.state().idle_connections)
    }

    /// Closes the pool and waits for its last connection.
    pub(crate) async fn drain(self) {
        let Some(Inner { pool, manager }) = self.inner else {
            return;
        };
        manager.close();
        loop {
            // A login that ended as the pool closed leaves its connection idle.
            while pool.state().idle_connections > 0 {
                // It is closed when it is dropped.
                if pool.get_owned().now_or_never().is_none() {
                    break;
                }
            }
            tokio::select! {
                () = manager.connections().all_closed() => return,
                () = sleep(SWEEP_INTERVAL) => {}
            }
        }
    }
}

/// Closes a connection instead of returning it.
pub(crate) fn discard<F: ManagerFactory>(mut connection: Bb8Connection<F>) {
    connection.discard();
}

/// Returns the connection, unless it is known to be broken: then it is closed.
fn working<F: ManagerFactory>(mut connection: Bb8Connection<F>) -> Option<Taken<Bb8Connection<F>>> {
    if connection.is_broken() {
        discard(connection);
        return None;
    }
    let idle_for = connection.idle_for();
    Some(Taken::new(connection, idle_for))
}

impl<F: ManagerFactory> Clone for Bb8Pool<F> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<F: ManagerFactory> Clone for Inner<F> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            manager: self.manager.clone(),
        }
    }
}

impl<F: ManagerFactory> fmt::Debug for Bb8Pool<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bb8Pool")
            .field("state", &self.bb8().map(Pool::state))
            .finish_non_exhaustive()
    }
}
