//! `PoolFactory` for pools of sqlx.

use std::error::Error as StdError;
use std::time::Duration;

use futures_util::future::{join_all, maybe_done};
use tokio::time::timeout;

use super::super::classify::{self, login_error, unfit_for_scram};
use super::super::dialect::Dialect;
use super::super::hooks;
use super::super::shared_error::SharedError;
use super::super::shim;
use super::super::sqlx::pool::{PoolConnection, PoolOptions};
use super::super::sqlx::{self, Pool};
use super::SqlPools;
use super::explain::never_ready;
use crate::credentials::Credentials;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::lease::Lease;
use crate::pool::{
    AcquireError, Check, LoginPermits, PANICKED, PoolFactory, PoolSettings, RETURN_TIMEOUT, Taken,
    check_credentials, explain_login,
};

/// Time between two counts of a draining pool's connections while some are busy.
const COUNT_EVERY: Duration = Duration::from_millis(10);

/// Longest wait for a connection to be returned, if all are in use.
const ROOM_WAIT: Duration = Duration::from_secs(1);

impl<DB: Dialect> PoolFactory for SqlPools<DB> {
    type Secret = Credentials;
    type Pool = Pool<DB>;
    type Connection = PoolConnection<DB>;
    type Error = sqlx::Error;

    fn settings(&self) -> PoolSettings {
        self.settings.clone()
    }

    fn check(&self, lease: &Lease<Credentials>) -> Result<(), ConnectError> {
        let credentials = lease.secret();
        check_credentials(credentials, DB::NAME)?;
        DB::address(&self.connect).check(credentials, DB::DEFAULT_PORT)?;
        for (field, limit) in [
            ("max_lifetime", self.options.get_max_lifetime()),
            ("idle_timeout", self.options.get_idle_timeout()),
        ] {
            if limit == Some(Duration::ZERO) {
                // sqlx would check its connections without a pause.
                return Err(ConnectError::misconfigured(
                    field,
                    "is 0s; give at least a second, or None",
                ));
            }
        }
        if credentials.is_token()
            && !DB::verifies_certificate(&self.connect)
            && !self.tokens_in_clear
        {
            let advice = format!(
                "a token would be sent in clear text to any server at this address; set {} in the \
                 connect options",
                DB::VERIFIED_TLS
            );
            return Err(ConnectError::misconfigured("ssl_mode", advice));
        }
        self.settings.policy.check(lease)
    }

    fn vacant(&self) -> Pool<DB> {
        let options = PoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None);
        let pool: Pool<DB> = options.connect_lazy_with(self.connect.clone());
        // Marked as closed by the call; there is nothing to wait for.
        drop(pool.close());
        pool
    }

    async fn verify(&self, credentials: &Credentials) -> Result<(), ConnectError> {
        // A hostile server can make the driver compute without end (SCRAM iteration count), so this
        // needs a thread of its own.
        let (pools, own) = (self.clone(), credentials.clone());
        let form = self.form_and_prepared(credentials);
        let verified = self
            .verifier
            .run(async move {
                pools
                    .log_in_and_probe(&own)
                    .await
                    .map_err(DB::verification_error)
            })
            .await;
        match (form, &verified) {
            (Some((form, _)), Ok(())) => self.forms.worked(credentials, form),
            (Some((form, _)), Err(error)) if error.kind() == ConnectErrorKind::Rejected => {
                self.forms.rejected(credentials, form);
            }
            _ => {}
        }
        match verified {
            Err(error) if error.message() == PANICKED && DB::may_panic_with(credentials.user()) => {
                Err(unfit_for_scram("user"))
            }
            verified => verified,
        }
    }

    /// Does nothing if `with_after_connect` set a hook, which the verification has called. A hook
    /// of the options is called by sqlx alone, which retries it and logs its error.
    async fn verify_as_pool(
        &self,
        credentials: &Credentials,
        within: Duration,
    ) -> Result<(), ConnectError> {
        let within = pool_timeout(within);
        if self.hooks.after_connect.is_some() {
            return Ok(());
        }
        let options = self
            .options
            .clone()
            .max_connections(1)
            .acquire_timeout(within);
        let pool = self
            .hooks
            .apply(options, self.settings.checks)
            .connect_lazy_with(self.options_for(credentials));
        let tried = match pool.acquire().await {
            Ok(connection) => {
                // It is closed either way.
                let _ = connection.close().await;
                Ok(())
            }
            Err(sqlx::Error::PoolTimedOut) => Err(never_ready(within)),
            Err(error) => Err(self.explain(credentials, login_error::<DB>(error))),
        };
        pool.close().await;
        tried
    }

    fn account(&self, credentials: &Credentials) -> String {
        format!("{}@{}", credentials.user(), self.server(credentials))
    }

    fn server(&self, credentials: &Credentials) -> String {
        self.address(credentials).server()
    }

    fn explain(&self, credentials: &Credentials, error: ConnectError) -> ConnectError {
        explain_login(credentials, || self.target(credentials), error)
    }

    /// Closes an idle connection, or the next one that is returned within a second.
    async fn make_room(&self, pool: &Pool<DB>) -> bool {
        let connection = match pool.try_acquire() {
            Some(connection) => connection,
            // A pool below its maximum would open a connection.
            None if pool.size() < self.options.get_max_connections() => return false,
            None => match timeout(ROOM_WAIT, pool.acquire()).await {
                Ok(Ok(connection)) => connection,
                _ => return false,
            },
        };
        let _ = connection.close().await;
        true
    }

    fn open(&self, credentials: &Credentials, _: LoginPermits) -> Result<Pool<DB>, ConnectError> {
        Ok(self
            .hooks
            .apply(self.options.clone(), self.settings.checks)
            .connect_lazy_with(self.options_for(credentials)))
    }

    async fn warm(
        &self,
        pool: &Pool<DB>,
        connections: u32,
        within: Duration,
    ) -> Result<u32, ConnectError> {
        let within = pool_timeout(within);
        // Idle connections are kept until each acquire has begun to connect; otherwise it would
        // take one of them. Callers can use them again before the first login completes.
        let idle: Vec<_> = std::iter::from_fn(|| pool.try_acquire())
            .take(connections as usize)
            .collect();
        let missing = connections.saturating_sub(pool.size());
        let mut opening: Vec<_> = (0..missing)
            .map(|_| Box::pin(maybe_done(pool.acquire())))
            .collect();
        for acquiring in &mut opening {
            let _ = futures_util::poll!(acquiring.as_mut());
        }
        drop(idle);
        // Concurrent, because one after the other takes 2 to 8 times as long. If one fails, the
        // others still end, because MySQL counts an aborted login against the host.
        let all_opened = timeout(within, join_all(opening.iter_mut())).await;
        let opened = opening
            .iter_mut()
            .filter_map(|acquiring| acquiring.as_mut().take_output());
        match all_opened.map(|_| opened.collect::<Result<Vec<_>, _>>()) {
            Ok(Ok(connections)) => {
                // Returned here: a dropped connection becomes idle later, and a caller before that
                // would log in.
                let returns = connections
                    .into_iter()
                    .map(|mut connection| async move { connection.return_to_pool().await });
                let _ = timeout(RETURN_TIMEOUT, join_all(returns)).await;
                Ok(pool.size())
            }
            Ok(Err(sqlx::Error::PoolTimedOut)) | Err(_) => Err(never_ready(within)),
            Ok(Err(error)) => Err(login_error::<DB>(error)),
        }
    }

    fn update_in_place(&self, pool: &Pool<DB>, old: &Credentials, new: &Credentials) -> bool {
        let same_place = old.endpoint() == new.endpoint();
        if same_place {
            pool.set_connect_options(self.options_for(new));
        }
        same_place
    }

    async fn drain(&self, pool: Pool<DB>) {
        loop {
            shim::close(&pool).await;
            if pool.size() == 0 {
                return;
            }
            tokio::time::sleep(COUNT_EVERY).await;
        }
    }

    fn connections(&self, pool: &Pool<DB>) -> u32 {
        pool.size()
    }

    /// sqlx counts late, and briefly below zero.
    fn idle(&self, pool: &Pool<DB>) -> u32 {
        u32::try_from(pool.num_idle()).unwrap_or(0).min(pool.size())
    }

    fn classify(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        classify::find_sqlx_error(error).map_or_else(
            || ConnectError::new(ConnectErrorKind::Other, error.to_string()),
            classify::connect_error::<DB>,
        )
    }

    fn classify_probe(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        self.classify(error).into_postgres_probe()
    }

    fn try_get(&self, pool: &Pool<DB>) -> Option<Taken<PoolConnection<DB>>> {
        pool.try_acquire().map(Taken::from)
    }

    async fn get(&self, pool: &Pool<DB>) -> Result<Taken<PoolConnection<DB>>, sqlx::Error> {
        if self.hooks.reports_idle_time {
            hooks::taken(pool.acquire()).await
        } else {
            pool.acquire().await.map(Taken::from)
        }
    }

    async fn check_connection(
        &self,
        connection: &mut PoolConnection<DB>,
        check: Check,
    ) -> Result<(), sqlx::Error> {
        match check {
            Check::Probe => DB::execute(connection, &self.probe).await,
            Check::Ping => DB::ping(connection).await,
        }
    }

    fn discard(&self, connection: PoolConnection<DB>) {
        drop(connection.detach());
    }

    /// sqlx pings the connection, without a timeout.
    async fn give_back(&self, mut connection: PoolConnection<DB>) {
        connection.return_to_pool().await;
    }

    fn is_timeout(&self, error: &sqlx::Error) -> bool {
        matches!(error, sqlx::Error::PoolTimedOut)
    }

    fn is_closed(&self, error: &sqlx::Error) -> bool {
        matches!(error, sqlx::Error::PoolClosed)
    }

    fn error(&self, error: AcquireError<'_>) -> sqlx::Error {
        match error {
            AcquireError::TimedOut => sqlx::Error::PoolTimedOut,
            AcquireError::Closed => sqlx::Error::PoolClosed,
            AcquireError::Connect(error) => SharedError::to_sqlx(error),
        }
    }
}

/// Returns the pool's own timeout, short enough to report the cause before the deadline: 4 s of 5
/// s by default.
fn pool_timeout(deadline: Duration) -> Duration {
    deadline * 4 / 5
}
