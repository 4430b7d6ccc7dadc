//! `PoolFactory` for pools of bb8.

use std::error::Error as StdError;
use std::future::Future;
use std::time::Duration;

use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::pool::{AcquireError, Check, LoginPermits, PoolFactory, PoolSettings, Taken};
use claviger::{Credentials, Lease};
use claviger_tokio_postgres::CallError;
use futures_util::future::try_join_all;
use tokio::time::{Instant, timeout};

use crate::managers::ManagerFactory;
use crate::pool::{Bb8Connection, Bb8Pool, discard};
use crate::pools::Bb8Pools;

/// Shortest time between two connections that are closed to make room on a full server.
const ROOM_EVERY: Duration = Duration::from_secs(15);

/// Longest wait for such a connection if all are in use.
const ROOM_WAIT: Duration = Duration::from_secs(1);

impl<F: ManagerFactory> PoolFactory for Bb8Pools<F> {
    type Secret = Credentials;
    type Pool = Bb8Pool<F>;
    type Connection = Bb8Connection<F>;
    type Error = CallError;

    fn settings(&self) -> PoolSettings {
        self.settings.clone()
    }

    fn check(&self, lease: &Lease<Credentials>) -> Result<(), ConnectError> {
        self.check_settings()?;
        self.managers.check(lease)?;
        self.settings.policy.check(lease)
    }

    fn vacant(&self) -> Bb8Pool<F> {
        Bb8Pool::vacant()
    }

    fn verify(
        &self,
        credentials: &Credentials,
    ) -> impl Future<Output = Result<(), ConnectError>> + Send {
        self.managers.verify(credentials)
    }

    fn account(&self, credentials: &Credentials) -> String {
        self.managers.account(credentials)
    }

    fn server(&self, credentials: &Credentials) -> String {
        self.managers.server(credentials)
    }

    fn explain(&self, credentials: &Credentials, error: ConnectError) -> ConnectError {
        self.managers.explain(credentials, error)
    }

    /// Closes at most one connection in 15 s, because another client may take its place. If all are
    /// in use, closes the next one that is returned within a second.
    async fn make_room(&self, pool: &Bb8Pool<F>) -> bool {
        let now = Instant::now();
        let last = *self.made_room.lock();
        if last.is_some_and(|last| now.saturating_duration_since(last) < ROOM_EVERY) {
            return false;
        }
        if !pool.close_one_idle() {
            // A pool below its maximum would open a connection.
            if pool.connections() < self.settings.max_connections {
                return false;
            }
            match timeout(ROOM_WAIT, pool.get()).await {
                Ok(Ok(taken)) => discard(taken.connection),
                _ => return false,
            }
        }
        *self.made_room.lock() = Some(now);
        true
    }

    fn open(
        &self,
        credentials: &Credentials,
        logins: LoginPermits,
    ) -> Result<Bb8Pool<F>, ConnectError> {
        Bb8Pool::open(self, credentials, logins)
    }

    async fn warm(
        &self,
        pool: &Bb8Pool<F>,
        connections: u32,
        within: Duration,
    ) -> Result<u32, ConnectError> {
        // Shorter than the deadline, to report the cause.
        let within = within * 4 / 5;
        // Idle connections are kept until each call has begun to connect; otherwise it would take
        // one of them. Callers can use them again before the first login completes.
        let idle: Vec<_> = std::iter::from_fn(|| pool.take_idle())
            .take(connections as usize)
            .collect();
        let missing = connections.saturating_sub(pool.connections());
        let mut opening = try_join_all((0..missing).map(|_| pool.get()));
        let begun = futures_util::poll!(&mut opening);
        drop(idle);
        let opened = match begun {
            std::task::Poll::Ready(opened) => Ok(opened),
            std::task::Poll::Pending => timeout(within, opening).await,
        };
        match opened {
            Ok(Ok(_)) => Ok(pool.connections()),
            Ok(Err(CallError::Connect(error))) => Err(error),
            Ok(Err(_)) | Err(_) => Err(never_ready(within)),
        }
    }

    fn update_in_place(&self, pool: &Bb8Pool<F>, old: &Credentials, new: &Credentials) -> bool {
        old.endpoint() == new.endpoint() && pool.update(new)
    }

    async fn drain(&self, pool: Bb8Pool<F>) {
        pool.drain().await;
    }

    fn connections(&self, pool: &Bb8Pool<F>) -> u32 {
        pool.connections()
    }

    fn idle(&self, pool: &Bb8Pool<F>) -> u32 {
        pool.idle()
    }

    fn classify(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        classified(error).unwrap_or_else(|| self.managers.classify(error))
    }

    fn classify_probe(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        classified(error).unwrap_or_else(|| self.managers.classify_probe(error))
    }

    fn try_get(&self, pool: &Bb8Pool<F>) -> Option<Taken<Bb8Connection<F>>> {
        pool.take_idle()
    }

    fn get(
        &self,
        pool: &Bb8Pool<F>,
    ) -> impl Future<Output = Result<Taken<Bb8Connection<F>>, CallError>> + Send {
        pool.get()
    }

    fn check_connection(
        &self,
        connection: &mut Bb8Connection<F>,
        check: Check,
    ) -> impl Future<Output = Result<(), CallError>> + Send {
        connection.check(check)
    }

    fn discard(&self, connection: Bb8Connection<F>) {
        discard(connection);
    }

    fn is_timeout(&self, error: &CallError) -> bool {
        matches!(error, CallError::TimedOut)
    }

    fn is_closed(&self, error: &CallError) -> bool {
        matches!(error, CallError::Closed)
    }

    fn error(&self, error: AcquireError<'_>) -> CallError {
        error.into()
    }
}

/// Returns the kind of an error that a manager's factory has classified.
fn classified(error: &(dyn StdError + 'static)) -> Option<ConnectError> {
    match error.downcast_ref() {
        Some(CallError::Connect(error)) => Some(error.clone()),
        _ => error.downcast_ref().cloned(),
    }
}

/// Returns the error of a pool that has no connection ready although the credentials work.
fn never_ready(within: Duration) -> ConnectError {
    let within = humantime::format_duration(within);
    let message = format!(
        "no connection was ready within {within}, although the login works; check the pool's \
         hooks and the server's limit"
    );
    ConnectError::new(ConnectErrorKind::Other, message)
}
