//! `PoolFactory` for shared connections.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use claviger::error::ConnectError;
use claviger::lease::Lease;
use claviger::pool::{AcquireError, Check, LoginPermits, PoolFactory, PoolSettings, Taken};
use claviger::{Credentials, Handle};

use crate::address::{Logins, misconfigured};
use crate::classify::{classify, login_error};
use crate::connection::RedisConnection;
use crate::kind::Kind;
use crate::pool::{RedisPool, Shared, ping};
use crate::{Error, RedisPools};

/// Verifies that a lease fits the pool, before anything connects.
pub(crate) fn check_lease(
    logins: &Logins,
    lease: &Lease<Credentials>,
    tokens_in_clear: bool,
) -> Result<(), ConnectError> {
    let credentials = lease.secret();
    if credentials.user().is_empty() {
        return Err(misconfigured(
            "user",
            "is empty; give the user's name, or \"default\"",
        ));
    }
    if credentials.expose_password().is_empty() {
        return Err(misconfigured("password", "is empty"));
    }
    logins.check_timeouts()?;
    let logins = logins.at_endpoint_of(credentials)?;
    if credentials.is_token() && !logins.hides_tokens() && !tokens_in_clear {
        return Err(misconfigured(
            "address",
            "has no TLS, and a token would be sent in clear text; give a URL that begins \
             with rediss://",
        ));
    }
    Ok(())
}

/// Logs in to the first node that can be reached.
pub(crate) async fn verify(logins: &Logins, credentials: &Credentials) -> Result<(), ConnectError> {
    let logins = logins.at_endpoint_of(credentials)?;
    let verified = logins.verify_any(credentials).await;
    verified.map_err(|error| login_error(error, credentials))
}

/// Returns the server of these credentials, for budgets and messages.
pub(crate) fn server(logins: &Logins, credentials: &Credentials) -> String {
    let logins = logins.at_endpoint_of(credentials);
    logins.map(|logins| logins.server()).unwrap_or_default()
}

/// Adds user and server to an error.
pub(crate) fn explain(
    logins: &Logins,
    credentials: &Credentials,
    error: ConnectError,
) -> ConnectError {
    if error.target().is_some() {
        return error;
    }
    let server = server(logins, credentials);
    error.with_target(format!("user {:?} at {server}", credentials.user()))
}

impl<K: Kind> PoolFactory for RedisPools<K> {
    type Secret = Credentials;
    type Pool = RedisPool<K>;
    type Connection = RedisConnection<K>;
    type Error = Error;

    fn settings(&self) -> PoolSettings {
        self.settings.clone()
    }

    fn check(&self, lease: &Lease<Credentials>) -> Result<(), ConnectError> {
        check_lease(&self.logins, lease, self.tokens_in_clear)
    }

    fn vacant(&self) -> RedisPool<K> {
        RedisPool { shared: None }
    }

    async fn verify(&self, credentials: &Credentials) -> Result<(), ConnectError> {
        verify(&self.logins, credentials).await
    }

    fn account(&self, credentials: &Credentials) -> String {
        format!("{}@{}", credentials.user(), self.server(credentials))
    }

    fn server(&self, credentials: &Credentials) -> String {
        server(&self.logins, credentials)
    }

    fn explain(&self, credentials: &Credentials, error: ConnectError) -> ConnectError {
        explain(&self.logins, credentials, error)
    }

    /// Closes none, because callers use the only connection.
    async fn make_room(&self, _: &RedisPool<K>) -> bool {
        false
    }

    fn open(
        &self,
        credentials: &Credentials,
        permits: LoginPermits,
    ) -> Result<RedisPool<K>, ConnectError> {
        let logins = self.logins.at_endpoint_of(credentials)?;
        let shared = Shared::new(logins, permits, credentials.clone());
        Ok(RedisPool {
            shared: Some(Arc::new(shared)),
        })
    }

    async fn warm(&self, pool: &RedisPool<K>, _: u32, _: Duration) -> Result<u32, ConnectError> {
        match self.get(pool).await {
            Ok(_) => Ok(1),
            Err(error) => Err(error.connect_error()),
        }
    }

    fn update_in_place(&self, pool: &RedisPool<K>, old: &Credentials, new: &Credentials) -> bool {
        let Some(shared) = pool.shared.as_ref() else {
            return false;
        };
        let same_endpoint = old.endpoint() == new.endpoint();
        if same_endpoint {
            shared.verified.update(new.clone());
        }
        same_endpoint
    }

    async fn reauthenticate(&self, pool: &RedisPool<K>, within: Duration) {
        if let Some(shared) = &pool.shared {
            shared.authenticate_again(within).await;
        }
    }

    async fn drain(&self, pool: RedisPool<K>) {
        if let Some(shared) = pool.shared {
            shared.drain().await;
        }
    }

    fn connections(&self, pool: &RedisPool<K>) -> u32 {
        pool.shared
            .as_ref()
            .map_or(0, |shared| shared.connections())
    }

    /// The connection is never busy.
    fn idle(&self, pool: &RedisPool<K>) -> u32 {
        u32::from(self.try_get(pool).is_some())
    }

    fn classify(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        classify(error)
    }

    fn try_get(&self, pool: &RedisPool<K>) -> Option<Taken<RedisConnection<K>>> {
        Some(pool.shared.as_ref()?.try_get()?.into())
    }

    async fn get(&self, pool: &RedisPool<K>) -> Result<Taken<RedisConnection<K>>, Error> {
        let shared = pool.shared.as_ref().ok_or(Error::Closed)?;
        Ok(shared.get().await?.into())
    }

    /// A dropped user's connections are closed by the server, so `PING` is a probe, too.
    async fn check_connection(
        &self,
        connection: &mut RedisConnection<K>,
        _: Check,
    ) -> Result<(), Error> {
        let pinged = ping(connection).await;
        pinged.map_err(|error| Error::Connect(classify(&error).with_source(error)))
    }

    /// Makes the next call check the connection by `PING`. This call's check may have ended at a
    /// short deadline of its own, while others use the connection.
    fn discard(&self, connection: RedisConnection<K>) {
        connection.state.note_suspect();
    }

    fn is_timeout(&self, error: &Error) -> bool {
        matches!(error, Error::TimedOut)
    }

    fn is_closed(&self, error: &Error) -> bool {
        matches!(error, Error::Closed)
    }

    fn error(&self, error: AcquireError<'_>) -> Error {
        Error::from_acquire(error)
    }
}

/// Compiles only while a handle can be used from any task.
const _: fn() = || {
    fn is_shareable<T: Send + Sync>() {}
    is_shareable::<Handle<RedisPools>>();
};
