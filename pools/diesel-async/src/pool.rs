//! A pool whose credentials can be replaced in place.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use claviger::Credentials;
use claviger::error::ConnectError;
use claviger::pool::{LoginError, LoginPermits, Taken};
use claviger_tokio_postgres::{CallError, OpenConnections, PgConnect, login_error};
use deadpool::Runtime;
use deadpool::managed::{HookError, Metrics, WeakPool};
use diesel::ConnectionResult;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::deadpool::{Hook, Pool as DieselDeadpool};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::connection::PgConnection;
use crate::errors::{call_error, into_diesel, setup_error};
use crate::pools::DieselPools;

type Manager = AsyncDieselConnectionManager<AsyncPgConnection>;
type Pool = DieselDeadpool<AsyncPgConnection>;

/// Shortest and longest pause between two searches for connections that are too old.
const SEARCH_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Time between two searches for idle connections of a closed pool.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// Idle time of the connection that a call of this task is about to return.
    static IDLE_FOR: Cell<Duration>;
}

/// A pool of diesel-async over deadpool, as [`Handle::current`](claviger::Handle::current) returns
/// it.
#[derive(Clone)]
pub struct DieselPool {
    /// `None` before the first lease is verified.
    inner: Option<Inner>,
}

#[derive(Clone)]
struct Inner {
    pool: Pool,
    credentials: CurrentCredentials,
    connections: OpenConnections,
}

type CurrentCredentials = Arc<Mutex<Arc<Credentials>>>;

/// Limits on the age of connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetimes {
    pub(crate) max_lifetime: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
}

impl Lifetimes {
    fn are_over(self, metrics: &Metrics) -> bool {
        let reached = |limit: Option<Duration>, time| limit.is_some_and(|limit| time >= limit);
        reached(self.max_lifetime, metrics.age()) || reached(self.idle_timeout, metrics.last_used())
    }

    fn search_every(self) -> Option<Duration> {
        let shortest = self.max_lifetime.into_iter().chain(self.idle_timeout).min();
        Some((shortest? / 4).clamp(SEARCH_EVERY.0, SEARCH_EVERY.1))
    }
}

impl DieselPool {
    /// Returns deadpool's own pool, `None` before the first lease is verified.
    pub fn deadpool(&self) -> Option<&Pool> {
        Some(&self.inner.as_ref()?.pool)
    }

    pub(crate) fn vacant() -> Self {
        Self { inner: None }
    }

    pub(crate) fn open(
        pools: &DieselPools,
        credentials: &Credentials,
        logins: LoginPermits,
    ) -> Result<Self, ConnectError> {
        let credentials = Arc::new(Mutex::new(Arc::new(credentials.clone())));
        let connections = OpenConnections::default();
        let connect = PermittedConnect {
            connect: Arc::clone(&pools.connect),
            credentials: Arc::clone(&credentials),
            connections: connections.clone(),
            logins,
        };
        let mut config = ManagerConfig::default();
        // The handle executes the statement, because deadpool loses a connection whose check is
        // cancelled.
        config.recycling_method = RecyclingMethod::Fast;
        config.custom_setup = Box::new(move |_| {
            let connect = connect.clone();
            async move { connect.log_in().await }.boxed()
        });
        let lifetimes = pools.lifetimes;
        let pool = Pool::builder(Manager::new_with_config("", config))
            .max_size(pools.config.max_size)
            .queue_mode(pools.config.queue_mode)
            .wait_timeout(Some(pools.settings.acquire_timeout))
            .runtime(Runtime::Tokio1)
            .pre_recycle(Hook::sync_fn(move |_, metrics| {
                if lifetimes.are_over(metrics) {
                    return Err(HookError::message("it is too old"));
                }
                let _ = IDLE_FOR.try_with(|idle_for| idle_for.set(metrics.last_used()));
                Ok(())
            }))
            .build()
            .map_err(|error| ConnectError::misconfigured("pool", error))?;
        if let (Some(pause), Ok(runtime)) = (
            lifetimes.search_every(),
            tokio::runtime::Handle::try_current(),
        ) {
            runtime.spawn(close_old(pool.weak(), lifetimes, pause));
        }
        Ok(Self {
            inner: Some(Inner {
                pool,
                credentials,
                connections,
            }),
        })
    }

    /// Makes the next logins use these credentials. Returns `false` without a pool.
    pub(crate) fn update(&self, credentials: &Credentials) -> bool {
        if let Some(inner) = &self.inner {
            *inner.credentials.lock() = Arc::new(credentials.clone());
        }
        self.inner.is_some()
    }

    /// Returns an idle connection. deadpool opens one if none is idle: its login waits in the first
    /// poll, and is dropped before it begins.
    pub(crate) fn take_idle(&self) -> Option<Taken<PgConnection>> {
        let pool = self.deadpool()?;
        let mut timeouts = pool.timeouts();
        timeouts.wait = Some(Duration::ZERO);
        IDLE_FOR.sync_scope(Cell::default(), || {
            let getting = std::pin::pin!(pool.timeout_get(&timeouts));
            let connection = getting.now_or_never()?.ok()?;
            Some(Taken::new(
                PgConnection::new(connection),
                IDLE_FOR.get_copied(),
            ))
        })
    }

    pub(crate) async fn get(&self) -> Result<Taken<PgConnection>, CallError> {
        let pool = self.deadpool().ok_or(CallError::Closed)?;
        let getting = async {
            let connection = pool.get().await.map_err(call_error)?;
            Ok(Taken::new(
                PgConnection::new(connection),
                IDLE_FOR.get_copied(),
            ))
        };
        IDLE_FOR.scope(Cell::default(), getting).await
    }

    /// Closes one idle connection. Returns whether there was one.
    pub(crate) fn close_one_idle(&self) -> bool {
        let mut closed = false;
        if let Some(pool) = self.deadpool() {
            pool.retain(|_, _| std::mem::replace(&mut closed, true));
        }
        closed
    }

    /// Returns the number of connections: busy, idle, being opened, and taken out of the pool.
    pub(crate) fn connections(&self) -> u32 {
        let inner = self.inner.as_ref();
        inner.map_or(0, |inner| inner.connections.count())
    }

    pub(crate) fn idle(&self) -> u32 {
        let available = self.deadpool().map_or(0, |pool| pool.status().available);
        u32::try_from(available).unwrap_or(u32::MAX)
    }

    /// Closes the pool and waits for its last connection.
    pub(crate) async fn drain(self) {
        let Some(inner) = self.inner else {
            return;
        };
        inner.pool.close();
        loop {
            // A call that was cancelled while the pool closed leaves its connection idle.
            inner.pool.retain(|_, _| false);
            tokio::select! {
                () = inner.connections.all_closed() => return,
                () = sleep(SWEEP_EVERY) => {}
            }
        }
    }
}

impl fmt::Debug for DieselPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DieselPool")
            .field("status", &self.deadpool().map(Pool::status))
            .finish_non_exhaustive()
    }
}

/// Reads a cell of a task.
trait GetCopied {
    fn get_copied(&'static self) -> Duration;
}

impl GetCopied for tokio::task::LocalKey<Cell<Duration>> {
    fn get_copied(&'static self) -> Duration {
        self.try_with(Cell::get).unwrap_or_default()
    }
}

/// Closes idle connections that are too old, until the pool is closed.
async fn close_old(pool: WeakPool<Manager>, lifetimes: Lifetimes, pause: Duration) {
    loop {
        sleep(pause).await;
        match pool.upgrade() {
            Some(pool) if !pool.is_closed() => {
                pool.retain(|_, metrics| !lifetimes.are_over(&metrics));
            }
            _ => return,
        }
    }
}

/// Logs in with the current credentials and a permit.
#[derive(Clone)]
struct PermittedConnect {
    connect: Arc<PgConnect>,
    credentials: CurrentCredentials,
    connections: OpenConnections,
    logins: LoginPermits,
}

impl PermittedConnect {
    async fn log_in(&self) -> ConnectionResult<AsyncPgConnection> {
        let log_in = || {
            let connect = Arc::clone(&self.connect);
            let credentials = Arc::clone(&self.credentials.lock());
            let guard = self.connections.begin();
            async move {
                let connecting = connect.connect_with(&credentials, guard);
                let (client, _task) = connecting.await.map_err(login_error)?;
                let set_up = AsyncPgConnection::try_from(client).await;
                set_up.map_err(setup_error)
            }
        };
        let ended = self.logins.log_in(log_in).await;
        ended.map_err(|error| {
            into_diesel(match error {
                LoginError::Failed(error) => CallError::Connect(error),
                // The pool was replaced or removed. Callers of the handle no longer use it.
                _ => CallError::Closed,
            })
        })
    }
}
