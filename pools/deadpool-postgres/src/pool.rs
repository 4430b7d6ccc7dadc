//! A pool whose credentials can be replaced in place.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use claviger::Credentials;
use claviger::error::ConnectError;
use claviger::pool::{LoginError, LoginPermits, Taken};
use claviger_tokio_postgres::{OpenConnections, PgConnect};
use deadpool_postgres::{
    Connect, Hook, HookError, Manager, ManagerConfig, Metrics, Object, Pool, PoolError,
    RecyclingMethod, Runtime, WeakPool,
};
use parking_lot::Mutex;
use tokio::io::empty;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, Error, NoTls};

use crate::pools::DeadpoolPools;

/// Shortest and longest pause between two searches for connections that are too old.
const SEARCH_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Time after which a login of a closed pool fails. Callers of a handle no longer use it by then.
const CLOSED_AFTER: Duration = Duration::from_secs(1);

/// Time between two searches for idle connections of a closed pool.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// Idle time of the connection that a call of this task is about to return.
    static IDLE_FOR: Cell<Duration>;
}

/// A pool of deadpool-postgres, as [`Handle::current`](claviger::Handle::current) returns it.
#[derive(Clone)]
pub struct DeadpoolPool {
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

impl DeadpoolPool {
    /// Returns deadpool's own pool, `None` before the first lease is verified.
    pub fn deadpool(&self) -> Option<&Pool> {
        Some(&self.inner.as_ref()?.pool)
    }

    pub(crate) fn vacant() -> Self {
        Self { inner: None }
    }

    pub(crate) fn open(
        pools: &DeadpoolPools,
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
        // The handle executes the statement, because deadpool loses a connection whose check is
        // cancelled.
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let lifetimes = pools.lifetimes;
        let pool = Pool::builder(Manager::from_connect(Config::new(), connect, recycling))
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
    pub(crate) fn take_idle(&self) -> Option<Taken<Object>> {
        let pool = self.deadpool()?;
        let mut timeouts = pool.timeouts();
        timeouts.wait = Some(Duration::ZERO);
        IDLE_FOR.sync_scope(Cell::default(), || {
            let getting = std::pin::pin!(pool.timeout_get(&timeouts));
            let connection = futures_util::FutureExt::now_or_never(getting)?.ok()?;
            Some(Taken::new(connection, IDLE_FOR.get_copied()))
        })
    }

    pub(crate) async fn get(&self) -> Result<Taken<Object>, PoolError> {
        let pool = self.deadpool().ok_or(PoolError::Closed)?;
        let getting = async {
            let connection = pool.get().await?;
            Ok(Taken::new(connection, IDLE_FOR.get_copied()))
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

impl fmt::Debug for DeadpoolPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadpoolPool")
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
async fn close_old(pool: WeakPool, lifetimes: Lifetimes, pause: Duration) {
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
struct PermittedConnect {
    connect: Arc<PgConnect>,
    credentials: CurrentCredentials,
    connections: OpenConnections,
    logins: LoginPermits,
}

type Connecting<'c> =
    Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + 'c>>;

impl Connect for PermittedConnect {
    fn connect(&self, _: &Config) -> Connecting<'_> {
        Box::pin(async move {
            let log_in = || {
                let connect = Arc::clone(&self.connect);
                let credentials = Arc::clone(&self.credentials.lock());
                let guard = self.connections.begin();
                async move { connect.connect_with(&credentials, guard).await }
            };
            match self.logins.log_in(log_in).await {
                Ok(connected) => Ok(connected),
                Err(LoginError::Failed(error)) => Err(error),
                // The pool was replaced or removed. Callers of the handle no longer use it.
                Err(_) => Err(closed_error().await),
            }
        })
    }
}

/// Returns the driver's error of a closed connection, after a second. The driver has no other
/// constructor.
async fn closed_error() -> Error {
    loop {
        sleep(CLOSED_AFTER).await;
        let mut config = Config::new();
        config.user("closed").ssl_mode(SslMode::Disable);
        if let Err(error) = config.connect_raw(empty(), NoTls).await {
            return error;
        }
    }
}
