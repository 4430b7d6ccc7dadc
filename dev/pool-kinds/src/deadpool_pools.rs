//! deadpool: a caller that finds no idle connection opens one itself.

use std::error::Error as StdError;
use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use claviger::Credentials;
use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::pool::{
    AcquireError, Check, LoginError, LoginPermits, PoolFactory, PoolSettings, Taken,
};
use deadpool_postgres::{
    Connect, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_postgres::{Client, Config, Error};

use crate::{CallError, postgres};

/// Interval at which a drain counts busy connections.
const BUSY_CHECK: Duration = Duration::from_millis(20);

/// Factory of deadpool's pools of PostgreSQL.
#[derive(Debug)]
pub struct DeadpoolPools {
    config: Config,
    settings: PoolSettings,
}

impl DeadpoolPools {
    /// Creates a factory of pools of at most `max_connections` connections. User and password of
    /// the configuration are replaced.
    pub fn new(config: Config, max_connections: u32) -> Self {
        let mut settings = PoolSettings::new(max_connections);
        settings.own_queue = true;
        Self { config, settings }
    }
}

/// A pool whose credentials can be replaced in place.
#[derive(Clone)]
pub struct DeadpoolPool {
    pool: Pool,
    config: Arc<Mutex<Config>>,
}

impl From<PoolError> for CallError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => {
                Self::Connect(postgres::connect_error(&error).with_source(error))
            }
            PoolError::Timeout(_) => Self::TimedOut,
            PoolError::Closed => Self::Closed,
            error => Self::Connect(ConnectError::new(
                ConnectErrorKind::Other,
                error.to_string(),
            )),
        }
    }
}

/// Logs in with the current credentials and a permit.
struct PermittedConnect {
    config: Arc<Mutex<Config>>,
    logins: LoginPermits,
}

type Connecting<'c> =
    Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + 'c>>;

impl Connect for PermittedConnect {
    fn connect(&self, _: &Config) -> Connecting<'_> {
        Box::pin(async move {
            let log_in = || postgres::log_in(current_config(&self.config));
            match self.logins.log_in(log_in).await {
                Ok(connected) => Ok(connected),
                Err(LoginError::Failed(error)) => Err(error),
                // The pool was replaced or removed, so the caller leaves it.
                Err(_) => pending().await,
            }
        })
    }
}

fn current_config(config: &Mutex<Config>) -> Config {
    let current = config.lock();
    current.clone()
}

impl PoolFactory for DeadpoolPools {
    type Secret = Credentials;
    type Pool = Option<DeadpoolPool>;
    type Connection = Object;
    type Error = CallError;

    fn settings(&self) -> PoolSettings {
        self.settings.clone()
    }

    fn vacant(&self) -> Option<DeadpoolPool> {
        None
    }

    async fn verify(&self, credentials: &Credentials) -> Result<(), ConnectError> {
        postgres::verify(postgres::config_for(&self.config, credentials)).await
    }

    fn open(
        &self,
        credentials: &Credentials,
        logins: LoginPermits,
    ) -> Result<Option<DeadpoolPool>, ConnectError> {
        let config = postgres::config_for(&self.config, credentials);
        let config = Arc::new(Mutex::new(config));
        let connect = PermittedConnect {
            config: Arc::clone(&config),
            logins,
        };
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_connect(Config::new(), connect, recycling);
        let pool = Pool::builder(manager)
            .max_size(self.settings.max_connections as usize)
            .runtime(Runtime::Tokio1)
            .build();
        let misconfigured =
            |error| ConnectError::new(ConnectErrorKind::Misconfigured, format!("{error}"));
        Ok(Some(DeadpoolPool {
            pool: pool.map_err(misconfigured)?,
            config,
        }))
    }

    async fn warm(
        &self,
        pool: &Option<DeadpoolPool>,
        connections: u32,
        _: Duration,
    ) -> Result<u32, ConnectError> {
        let mut opened = Vec::new();
        for _ in 0..connections {
            opened.push(
                self.get(pool)
                    .await
                    .map_err(|error| self.classify(&error))?,
            );
        }
        Ok(self.connections(pool))
    }

    fn update_in_place(
        &self,
        pool: &Option<DeadpoolPool>,
        old: &Credentials,
        new: &Credentials,
    ) -> bool {
        let Some(pool) = pool.as_ref().filter(|_| old.endpoint() == new.endpoint()) else {
            return false;
        };
        let mut config = pool.config.lock();
        *config = postgres::config_for(&self.config, new);
        true
    }

    async fn drain(&self, pool: Option<DeadpoolPool>) {
        let Some(pool) = pool else {
            return;
        };
        pool.pool.close();
        while pool.pool.status().size > 0 {
            sleep(BUSY_CHECK).await;
        }
    }

    fn connections(&self, pool: &Option<DeadpoolPool>) -> u32 {
        let size = |pool: &DeadpoolPool| pool.pool.status().size;
        u32::try_from(pool.as_ref().map_or(0, size)).unwrap_or(u32::MAX)
    }

    fn idle(&self, pool: &Option<DeadpoolPool>) -> u32 {
        let available = |pool: &DeadpoolPool| pool.pool.status().available;
        u32::try_from(pool.as_ref().map_or(0, available)).unwrap_or(u32::MAX)
    }

    fn classify(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        if let Some(error) = error.downcast_ref::<Error>() {
            return postgres::connect_error(error);
        }
        match error.downcast_ref::<CallError>() {
            Some(error) => error.connect_error(),
            None => ConnectError::new(ConnectErrorKind::Other, error.to_string()),
        }
    }

    /// Polls deadpool once. A login would begin in a later poll.
    fn try_get(&self, pool: &Option<DeadpoolPool>) -> Option<Taken<Object>> {
        let pool = &pool.as_ref()?.pool;
        let mut timeouts = pool.timeouts();
        timeouts.wait = Some(Duration::ZERO);
        let getting = pin!(pool.timeout_get(&timeouts));
        match getting.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(got) => got.ok().map(Taken::from),
            Poll::Pending => None,
        }
    }

    async fn get(&self, pool: &Option<DeadpoolPool>) -> Result<Taken<Object>, CallError> {
        let pool = pool.as_ref().ok_or(CallError::Closed)?;
        Ok(pool.pool.get().await?.into())
    }

    async fn check_connection(
        &self,
        connection: &mut Object,
        check: Check,
    ) -> Result<(), CallError> {
        postgres::check(connection, check)
            .await
            .map_err(|error| PoolError::Backend(error).into())
    }

    fn discard(&self, connection: Object) {
        drop(Object::take(connection));
    }

    fn is_timeout(&self, error: &CallError) -> bool {
        matches!(error, CallError::TimedOut)
    }

    fn is_closed(&self, error: &CallError) -> bool {
        matches!(error, CallError::Closed)
    }

    fn error(&self, error: AcquireError<'_>) -> CallError {
        CallError::from_acquire(error)
    }
}
