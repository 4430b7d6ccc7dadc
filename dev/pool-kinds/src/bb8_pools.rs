//! bb8: the pool's tasks open connections, and callers wait for one.

use std::error::Error as StdError;
use std::future::Future;
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bb8::{ManageConnection, Pool, PooledConnection, RunError};
use claviger::Credentials;
use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::pool::{
    AcquireError, Check, LoginError, LoginPermits, PoolFactory, PoolSettings, Taken,
};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_postgres::{Client, Config, Error};

use crate::{CallError, postgres};

/// Interval at which a drain counts busy connections.
const BUSY_CHECK: Duration = Duration::from_millis(20);

/// Factory of bb8's pools of PostgreSQL.
#[derive(Debug)]
pub struct Bb8Pools {
    config: Config,
    settings: PoolSettings,
}

impl Bb8Pools {
    /// Creates a factory of pools of at most `max_connections` connections. User and password of
    /// the configuration are replaced.
    pub fn new(config: Config, max_connections: u32) -> Self {
        let mut settings = PoolSettings::new(max_connections);
        settings.own_queue = true;
        Self { config, settings }
    }
}

/// Opens the connections of one pool.
#[derive(Clone)]
pub struct Connections {
    inner: Arc<Inner>,
}

struct Inner {
    config: Mutex<Config>,
    logins: LoginPermits,
    /// Whether returned connections are closed.
    drained: AtomicBool,
    /// Error of the last failed login, which bb8 does not return to callers.
    last_error: watch::Sender<Option<ConnectError>>,
}

impl ManageConnection for Connections {
    type Connection = PooledClient;
    type Error = CallError;

    async fn connect(&self) -> Result<PooledClient, CallError> {
        let inner = &self.inner;
        let log_in = || {
            let config = inner.config.lock();
            postgres::log_in(config.clone())
        };
        match inner.logins.log_in(log_in).await {
            Ok((client, _task)) => Ok(PooledClient {
                client,
                is_discarded: false,
            }),
            Err(LoginError::Failed(error)) => {
                let error = postgres::connect_error(&error).with_source(error);
                inner.last_error.send_replace(Some(error.clone()));
                Err(CallError::Connect(error))
            }
            Err(_) => Err(CallError::Closed),
        }
    }

    async fn is_valid(&self, client: &mut PooledClient) -> Result<(), CallError> {
        let checked = postgres::check(client, Check::Ping).await;
        checked
            .map_err(|error| CallError::Connect(postgres::connect_error(&error).with_source(error)))
    }

    fn has_broken(&self, client: &mut PooledClient) -> bool {
        client.is_discarded || client.is_closed() || self.inner.drained.load(Ordering::Acquire)
    }
}

/// A client in a pool of bb8.
pub struct PooledClient {
    client: Client,
    is_discarded: bool,
}

impl Deref for PooledClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

type Bb8Pool = Option<(Pool<Connections>, Connections)>;

impl PoolFactory for Bb8Pools {
    type Secret = Credentials;
    type Pool = Bb8Pool;
    type Connection = PooledConnection<'static, Connections>;
    type Error = CallError;

    fn settings(&self) -> PoolSettings {
        self.settings.clone()
    }

    fn vacant(&self) -> Bb8Pool {
        None
    }

    async fn verify(&self, credentials: &Credentials) -> Result<(), ConnectError> {
        postgres::verify(postgres::config_for(&self.config, credentials)).await
    }

    fn open(
        &self,
        credentials: &Credentials,
        logins: LoginPermits,
    ) -> Result<Bb8Pool, ConnectError> {
        let connections = Connections {
            inner: Arc::new(Inner {
                config: Mutex::new(postgres::config_for(&self.config, credentials)),
                logins,
                drained: AtomicBool::new(false),
                last_error: watch::Sender::default(),
            }),
        };
        let pool = Pool::builder()
            .max_size(self.settings.max_connections)
            .connection_timeout(self.settings.acquire_timeout)
            .test_on_check_out(false)
            .retry_connection(false)
            .build_unchecked(connections.clone());
        Ok(Some((pool, connections)))
    }

    async fn warm(
        &self,
        pool: &Bb8Pool,
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

    fn update_in_place(&self, pool: &Bb8Pool, old: &Credentials, new: &Credentials) -> bool {
        let Some((_, connections)) = pool.as_ref().filter(|_| old.endpoint() == new.endpoint())
        else {
            return false;
        };
        let config = &connections.inner.config;
        *config.lock() = postgres::config_for(&self.config, new);
        true
    }

    async fn drain(&self, pool: Bb8Pool) {
        let Some((pool, connections)) = pool else {
            return;
        };
        connections.inner.drained.store(true, Ordering::Release);
        while pool.state().connections > 0 {
            if pool.state().idle_connections > 0 {
                // Dropping it closes it.
                drop(pool.get().await);
            } else {
                sleep(BUSY_CHECK).await;
            }
        }
    }

    fn connections(&self, pool: &Bb8Pool) -> u32 {
        pool.as_ref()
            .map_or(0, |(pool, _)| pool.state().connections)
    }

    fn idle(&self, pool: &Bb8Pool) -> u32 {
        pool.as_ref()
            .map_or(0, |(pool, _)| pool.state().idle_connections)
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

    fn try_get(&self, pool: &Bb8Pool) -> Option<Taken<Self::Connection>> {
        let (pool, _) = pool.as_ref()?;
        if pool.state().idle_connections == 0 {
            return None;
        }
        let getting = pin!(pool.get_owned());
        match getting.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(got) => got.ok().map(Taken::from),
            Poll::Pending => None,
        }
    }

    async fn get(&self, pool: &Bb8Pool) -> Result<Taken<Self::Connection>, CallError> {
        let (pool, connections) = pool.as_ref().ok_or(CallError::Closed)?;
        let mut last_error = connections.inner.last_error.subscribe();
        tokio::select! {
            biased;
            got = pool.get_owned() => match got {
                Ok(connection) => Ok(connection.into()),
                Err(RunError::User(error)) => Err(error),
                Err(RunError::TimedOut) => Err(CallError::TimedOut),
            },
            Ok(()) = last_error.changed() => {
                let error = last_error.borrow().clone();
                Err(error.map_or(CallError::TimedOut, CallError::Connect))
            }
        }
    }

    async fn check_connection(
        &self,
        connection: &mut Self::Connection,
        check: Check,
    ) -> Result<(), CallError> {
        let checked = postgres::check(connection, check).await;
        checked
            .map_err(|error| CallError::Connect(postgres::connect_error(&error).with_source(error)))
    }

    fn discard(&self, mut connection: Self::Connection) {
        connection.is_discarded = true;
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
