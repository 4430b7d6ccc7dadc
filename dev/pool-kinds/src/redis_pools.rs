//! redis: one multiplexed connection serves all callers.

use std::error::Error as StdError;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use claviger::Credentials;
use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::pool::{
    AcquireError, Check, LoginError, LoginPermits, PoolFactory, PoolSettings, Taken,
};
use redis::aio::MultiplexedConnection;
use redis::{Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo};
use redis::{RedisConnectionInfo, RedisError, RedisResult};
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::CallError;

/// Interval at which a drain counts connections in use.
const BUSY_CHECK: Duration = Duration::from_millis(20);

/// Factory of multiplexed connections to Redis.
#[derive(Debug)]
pub struct RedisPools {
    host: String,
    port: u16,
}

impl RedisPools {
    /// Creates a factory for a server.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }

    fn client(&self, credentials: &Credentials) -> RedisResult<Client> {
        let settings = RedisConnectionInfo::default()
            .set_username(credentials.user())
            .set_password(credentials.expose_password());
        let address = ConnectionAddr::Tcp(self.host.clone(), self.port);
        let info: ConnectionInfo = address.into_connection_info()?;
        Client::open(info.set_redis_settings(settings))
    }
}

/// One multiplexed connection, opened on demand.
#[derive(Clone)]
pub struct RedisPool {
    client: Client,
    logins: LoginPermits,
    /// Its lock is the callers' queue.
    connection: Arc<Mutex<Option<MultiplexedConnection>>>,
}

/// A connection that several callers use at the same time.
pub struct RedisConnection {
    connection: MultiplexedConnection,
    pool: RedisPool,
}

impl Deref for RedisConnection {
    type Target = MultiplexedConnection;

    fn deref(&self) -> &MultiplexedConnection {
        &self.connection
    }
}

impl DerefMut for RedisConnection {
    fn deref_mut(&mut self) -> &mut MultiplexedConnection {
        &mut self.connection
    }
}

fn connect_error(error: &RedisError) -> ConnectError {
    let kind = match error.kind() {
        ErrorKind::AuthenticationFailed => ConnectErrorKind::Rejected,
        ErrorKind::Io => ConnectErrorKind::Unreachable,
        _ => match error.code() {
            Some("WRONGPASS" | "NOAUTH") => ConnectErrorKind::Rejected,
            _ => ConnectErrorKind::Other,
        },
    };
    ConnectError::new(kind, error.to_string())
}

fn login_error(error: RedisError) -> ConnectError {
    connect_error(&error).with_source(error)
}

impl PoolFactory for RedisPools {
    type Secret = Credentials;
    type Pool = Option<RedisPool>;
    type Connection = RedisConnection;
    type Error = CallError;

    fn settings(&self) -> PoolSettings {
        let mut settings = PoolSettings::new(1);
        settings.own_queue = true;
        settings
    }

    fn vacant(&self) -> Option<RedisPool> {
        None
    }

    async fn verify(&self, credentials: &Credentials) -> Result<(), ConnectError> {
        let client = self.client(credentials).map_err(login_error)?;
        let connected = client.get_multiplexed_async_connection().await;
        connected.map(drop).map_err(login_error)
    }

    fn open(
        &self,
        credentials: &Credentials,
        logins: LoginPermits,
    ) -> Result<Option<RedisPool>, ConnectError> {
        Ok(Some(RedisPool {
            client: self.client(credentials).map_err(login_error)?,
            logins,
            connection: Arc::default(),
        }))
    }

    async fn drain(&self, pool: Option<RedisPool>) {
        let Some(pool) = pool else {
            return;
        };
        drop(pool.connection.lock().await.take());
        // Each connection in use has a clone of the pool.
        while Arc::strong_count(&pool.connection) > 1 {
            sleep(BUSY_CHECK).await;
        }
    }

    fn connections(&self, pool: &Option<RedisPool>) -> u32 {
        self.idle(pool)
    }

    /// Returns 1 for an open connection, which is never busy.
    fn idle(&self, pool: &Option<RedisPool>) -> u32 {
        let is_open = |pool: &RedisPool| {
            let connection = pool.connection.try_lock();
            connection.is_ok_and(|connection| connection.is_some())
        };
        u32::from(pool.as_ref().is_some_and(is_open))
    }

    fn classify(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        if let Some(error) = error.downcast_ref::<RedisError>() {
            return connect_error(error);
        }
        match error.downcast_ref::<CallError>() {
            Some(error) => error.connect_error(),
            None => ConnectError::new(ConnectErrorKind::Other, error.to_string()),
        }
    }

    fn try_get(&self, pool: &Option<RedisPool>) -> Option<Taken<RedisConnection>> {
        let pool = pool.as_ref()?;
        let connection = pool.connection.try_lock().ok()?.clone()?;
        Some(Taken::from(RedisConnection {
            connection,
            pool: pool.clone(),
        }))
    }

    async fn get(&self, pool: &Option<RedisPool>) -> Result<Taken<RedisConnection>, CallError> {
        let pool = pool.as_ref().ok_or(CallError::Closed)?;
        let mut current = pool.connection.lock().await;
        let connection = match &*current {
            Some(connection) => connection.clone(),
            None => {
                let client = &pool.client;
                let log_in = || {
                    let client = client.clone();
                    async move { client.get_multiplexed_async_connection().await }
                };
                let connection = match pool.logins.log_in(log_in).await {
                    Ok(connection) => connection,
                    Err(LoginError::Failed(error)) => {
                        return Err(CallError::Connect(login_error(error)));
                    }
                    Err(_) => return Err(CallError::Closed),
                };
                current.insert(connection).clone()
            }
        };
        Ok(Taken::from(RedisConnection {
            connection,
            pool: pool.clone(),
        }))
    }

    async fn check_connection(
        &self,
        connection: &mut RedisConnection,
        _: Check,
    ) -> Result<(), CallError> {
        let pinged: RedisResult<()> = redis::cmd("PING").query_async(&mut **connection).await;
        pinged.map_err(|error| CallError::Connect(login_error(error)))
    }

    fn discard(&self, connection: RedisConnection) {
        if let Ok(mut current) = connection.pool.connection.try_lock() {
            *current = None;
        }
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
