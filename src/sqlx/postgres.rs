//! PostgreSQL.

use std::sync::Arc;

use super::sqlx::error::DatabaseError;
use super::sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgListener, PgSslMode};
use super::sqlx::{self, Executor, Postgres};
use tokio::time::{Instant, timeout_at};

use super::dialect::{Dialect, methods_with_options};
use super::{SqlPools, shim};
use crate::credentials::Credentials;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::handle::Handle;
use crate::pool::{Address, Phase, give_back, wait_error};
use crate::sql::saslprep;

/// Makes PostgreSQL pools from [`Credentials`]: [`SqlPools`] with sqlx's `PgConnectOptions` and
/// `PgPoolOptions`.
///
/// Bearer tokens require `PgSslMode::VerifyFull`. The probe is `SELECT current_user, session_user`.
/// Unlike `SELECT 1`, it fails once the role is dropped, also after `SET ROLE`.
///
/// Passwords that SASLprep (RFC 4013) changes, such as those with a no-break space or decomposed
/// accents, work as in psql. sqlx 0.8 sends the same form for every method of authentication, but
/// SCRAM needs the prepared one, MD5 and clear text the original. After a rejection, the
/// verification is repeated with the other form, 0.1 to 0.2 s later at first. The form that works
/// is tried first from then on. sqlx 0.9 prepares passwords itself. With SCRAM, it cannot log in
/// with characters that SASLprep prohibits, such as most emoji. psql and sqlx 0.8 send them
/// unchanged.
///
/// ```
/// # #[cfg(feature = "sqlx-09")] {
/// use std::time::Duration;
/// use claviger::PgPools;
/// use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
///
/// let pools = PgPools::new(
///     PgConnectOptions::new().host("db.internal").database("orders"),
///     PgPoolOptions::new()
///         .max_connections(10)
///         .max_lifetime(Duration::from_secs(14 * 60))
///         .idle_timeout(Duration::from_secs(10 * 60)),
/// )
/// .with_overlap(2);
/// # drop(pools);
/// # }
/// ```
pub type PgPools = SqlPools<Postgres>;

impl SqlPools<Postgres> {
    /// Allows bearer tokens on connections without verified TLS: for a server on this machine,
    /// never elsewhere. Default: such a token is rejected before the first connection. MySQL's
    /// pools have no such option: their clear-text plugin requires verified TLS.
    #[must_use]
    pub fn with_danger_tokens_without_verified_tls(mut self) -> Self {
        self.tokens_in_clear = true;
        self
    }
}

impl Handle<SqlPools<Postgres>> {
    /// Returns a listener for `NOTIFY`, on a connection of the current generation. It keeps one of
    /// the pool's connections.
    ///
    /// Its login counts as a query's: it waits while the database rejects the credentials, up to
    /// `acquire_timeout`, and a rejection causes a fetch. The listener does not log in again before
    /// the next [`try_recv`](PgListener::try_recv), which returns `None` once the connection is
    /// lost. Replace the listener then, and when [`changed`](Self::changed) resolves. A listener
    /// that is not replaced logs in outside of the login budget. One that is made by
    /// [`PgListener::connect_with`] and [`current`](Self::current) does, too.
    ///
    /// ```no_run
    /// # #[cfg(feature = "sqlx-09")]
    /// # async fn listen(db: claviger::Handle<claviger::PgPools>) -> Result<(), sqlx::Error> {
    /// loop {
    ///     let mut changed = std::pin::pin!(db.changed());
    ///     let mut listener = db.listener().await?;
    ///     listener.listen("orders").await?;
    ///     // Notifications may have been missed: read the table here.
    ///     loop {
    ///         tokio::select! {
    ///             biased;
    ///             _ = &mut changed => break,
    ///             notification = listener.try_recv() => match notification? {
    ///                 Some(notification) => println!("{}", notification.payload()),
    ///                 None => break,
    ///             },
    ///         }
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn listener(&self) -> Result<PgListener, sqlx::Error> {
        let shared = self.shared();
        let deadline = Instant::from_std(shared.clock.mono()) + shared.settings.acquire_timeout;
        let ended = timeout_at(deadline, self.listen()).await;
        let error = || wait_error(shared, &shared.current()).unwrap_or(sqlx::Error::PoolTimedOut);
        ended.unwrap_or_else(|_| Err(error()))
    }

    async fn listen(&self) -> Result<PgListener, sqlx::Error> {
        let shared = self.shared();
        loop {
            let connection = self.acquire().await?;
            // Created before the state is read, so that no change is missed.
            let changed = std::pin::pin!(shared.next_notification());
            let current = shared.current();
            // A listener acquires its connection from a pool: this one, or a new one.
            give_back(shared, connection).await;
            let is_serving = current.lifecycle.phase() == Phase::Serving;
            if !is_serving || current.is_expired(&shared.clock) {
                // The connection is an older one that callers share, and a login would be rejected.
                changed.await;
                continue;
            }
            match PgListener::connect_with(&current.pool).await {
                Ok(mut listener) => {
                    listener.eager_reconnect(false);
                    return Ok(listener);
                }
                Err(sqlx::Error::PoolClosed) if self.generation() != current.number => {}
                Err(error) => {
                    self.rejected(current.number, &error);
                    return Err(error);
                }
            }
        }
    }
}

impl Dialect for Postgres {
    const DEFAULT_PORT: u16 = 5432;
    const PROBE: &'static str = "SELECT current_user, session_user";
    const VERIFIED_TLS: &'static str = "PgSslMode::VerifyFull and ssl_root_cert";

    methods_with_options!(PgConnectOptions);

    fn prepared(password: &str) -> Option<String> {
        // If the driver prepares it for SCRAM itself, as libpq does, there is only one form.
        if shim::PREPARES_PASSWORDS {
            None
        } else {
            saslprep::prepared(password)
        }
    }

    fn may_panic_with(user: &str) -> bool {
        !shim::PREPARES_PASSWORDS && saslprep::is_unfit_user(user)
    }

    fn verifies_certificate(options: &PgConnectOptions) -> bool {
        matches!(options.get_ssl_mode(), PgSslMode::VerifyFull)
    }

    fn verification_error(error: ConnectError) -> ConnectError {
        error.into_postgres_verification()
    }

    fn error_kind(error: &dyn DatabaseError) -> ConnectErrorKind {
        let routine = error
            .try_downcast_ref::<PgDatabaseError>()
            .and_then(|error| error.routine());
        ConnectErrorKind::from_postgres(error.code().as_deref(), routine, error.message())
    }
}
