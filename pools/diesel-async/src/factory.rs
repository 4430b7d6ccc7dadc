//! `PoolFactory` for pools of diesel-async.

use std::error::Error as StdError;
use std::time::Duration;

use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::pool::{AcquireError, Check, LoginPermits, PoolFactory, PoolSettings, Taken};
use claviger::{Credentials, Lease};
use claviger_tokio_postgres::{CallError, classify, classify_probe};
use diesel_async::SimpleAsyncConnection;
use futures_util::future::{join_all, maybe_done};
use tokio::time::{Instant, timeout};

use crate::connection::PgConnection;
use crate::errors::check_error;
use crate::pool::DieselPool;
use crate::pools::DieselPools;

/// Shortest time between two connections that are closed to make room on a full server.
const ROOM_EVERY: Duration = Duration::from_secs(15);

/// Longest wait for such a connection if all are in use.
const ROOM_WAIT: Duration = Duration::from_secs(1);

impl PoolFactory for DieselPools {
    type Secret = Credentials;
    type Pool = DieselPool;
    type Connection = PgConnection;
    type Error = CallError;

    fn settings(&self) -> PoolSettings {
        self.settings.clone()
    }

    fn check(&self, lease: &Lease<Credentials>) -> Result<(), ConnectError> {
        self.check_settings()?;
        self.connect.check_lease(lease)?;
        self.settings.policy.check(lease)
    }

    fn vacant(&self) -> DieselPool {
        DieselPool::vacant()
    }

    async fn verify(&self, credentials: &Credentials) -> Result<(), ConnectError> {
        self.connect.verify(credentials).await
    }

    fn account(&self, credentials: &Credentials) -> String {
        self.connect.account(credentials)
    }

    fn server(&self, credentials: &Credentials) -> String {
        self.connect.server(credentials)
    }

    fn explain(&self, credentials: &Credentials, error: ConnectError) -> ConnectError {
        self.connect.explain(credentials, error)
    }

    /// Closes at most one connection in 15 s, because another client may take its place. If all are
    /// in use, closes the next one that is returned within a second.
    async fn make_room(&self, pool: &DieselPool) -> bool {
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
                Ok(Ok(taken)) => self.discard(taken.connection),
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
    ) -> Result<DieselPool, ConnectError> {
        DieselPool::open(self, credentials, logins)
    }

    async fn warm(
        &self,
        pool: &DieselPool,
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
        let mut opening: Vec<_> = (0..missing)
            .map(|_| Box::pin(maybe_done(pool.get())))
            .collect();
        for getting in &mut opening {
            let _ = futures_util::poll!(getting.as_mut());
        }
        drop(idle);
        let all_opened = timeout(within, join_all(opening.iter_mut())).await;
        let opened: Result<Vec<_>, _> = opening
            .iter_mut()
            .filter_map(|getting| getting.as_mut().take_output())
            .collect();
        match opened {
            Ok(_) if all_opened.is_ok() => Ok(pool.connections()),
            Err(CallError::Connect(error)) => Err(error),
            Ok(_) | Err(_) => Err(never_ready(within)),
        }
    }

    fn update_in_place(&self, pool: &DieselPool, old: &Credentials, new: &Credentials) -> bool {
        old.endpoint() == new.endpoint() && pool.update(new)
    }

    async fn drain(&self, pool: DieselPool) {
        pool.drain().await;
    }

    fn connections(&self, pool: &DieselPool) -> u32 {
        pool.connections()
    }

    fn idle(&self, pool: &DieselPool) -> u32 {
        pool.idle()
    }

    fn classify(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        classify(error)
    }

    fn classify_probe(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        classify_probe(error)
    }

    fn try_get(&self, pool: &DieselPool) -> Option<Taken<PgConnection>> {
        pool.take_idle()
    }

    async fn get(&self, pool: &DieselPool) -> Result<Taken<PgConnection>, CallError> {
        pool.get().await
    }

    async fn check_connection(
        &self,
        connection: &mut PgConnection,
        check: Check,
    ) -> Result<(), CallError> {
        let sql = match check {
            Check::Probe => self.connect.probe_sql(),
            _ => "",
        };
        let checking = connection.batch_execute(sql);
        let checked = match self.config.timeouts.recycle {
            None => checking.await,
            Some(limit) => timeout(limit, checking)
                .await
                .map_err(|_| CallError::Connect(no_response(limit)))?,
        };
        checked.map_err(|error| CallError::Connect(check_error(error, check)))
    }

    fn discard(&self, connection: PgConnection) {
        connection.close();
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

/// Returns the error of a pool that has no connection ready although the credentials work.
fn never_ready(within: Duration) -> ConnectError {
    let within = humantime::format_duration(within);
    let message = format!(
        "no connection was ready within {within}, although the login works; check the pool's \
         after_connect and the server's limit"
    );
    ConnectError::new(ConnectErrorKind::Other, message)
}

fn no_response(limit: Duration) -> ConnectError {
    let limit = humantime::format_duration(limit);
    let message = format!("the connection did not respond within {limit} (timeouts.recycle)");
    ConnectError::new(ConnectErrorKind::Unreachable, message)
}
