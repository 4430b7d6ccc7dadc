//! PostgreSQL pools.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, Executor, Postgres};

use super::fault;
use crate::error::{Fault, FaultKind};
use crate::lease::{Lease, Sessions};
use crate::login::Login;
use crate::pool::{Policy, PoolFactory, Terms};

/// Makes PostgreSQL pools of [`Login`]s; sqlx's own options are the settings.
///
/// - `max_connections` bounds the sessions (10 by sqlx's default); `min_connections` of them are opened ahead of demand at each replacement.
/// - `acquire_timeout` is a call's one deadline (30 s), however many generations pass.
/// - `test_before_acquire` decides whether the handle pings (it does by default); sqlx's own ping is off, for an acquire cancelled inside of it would cost the session.
/// - `max_lifetime` and `idle_timeout` retire sessions as ever. For tokens that live 15 minutes the settings that never show a dead token to the database are
///   a lifetime of 14 min, an idle time-out of 10 min and 10 connections: a session opened with a token of any age is gone before it would have to log in again.
/// - `after_connect`, `before_acquire` and `after_release` are called as ever, except that `before_acquire` is not asked about sessions that callers share
///   while the database refuses new log-ins, or that are taken from under the gate of a replacement.
///
/// User, password and, where the login says so, host, port and database come from the lease; everything else from the connect options.
///
/// ```
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
/// .overlap(2);
/// # drop(pools);
/// ```
#[derive(Clone)]
pub struct PgPools {
    connect: PgConnectOptions,
    options: PoolOptions<Postgres>,
    terms: Terms,
    tokens_in_clear: bool,
}

impl PgPools {
    /// Pools with these options.
    pub fn new(connect: PgConnectOptions, options: PoolOptions<Postgres>) -> Self {
        let mut terms = Terms::new(options.get_max_connections());
        terms.warm_sessions = options.get_min_connections();
        terms.acquire_timeout = options.get_acquire_timeout();
        terms.test_before_acquire = options.get_test_before_acquire();
        terms.probe = Arc::from("SELECT current_user");
        Self {
            connect,
            // sqlx would refill a draining pool, and lose a session whose ping is cancelled.
            options: options.min_connections(0).test_before_acquire(false),
            terms,
            tokens_in_clear: false,
        }
    }

    /// Every handover in place: what [`Handle::current`](crate::Handle::current) answers stays valid, for `PgListener`, sea-orm and session stores. Sessions
    /// of the old credential go when `max_lifetime` says. An error with a lease that ends its sessions.
    #[must_use]
    pub fn always_in_place(mut self) -> Self {
        self.terms.policy = Policy::AlwaysInPlace;
        self
    }

    /// Every handover by replacing, also for leases whose sessions stay good.
    #[must_use]
    pub fn always_replace(mut self) -> Self {
        self.terms.policy = Policy::AlwaysReplace;
        self
    }

    /// By how many sessions old and new pool together may exceed `max_connections` during a replacement. Default: a quarter, at least 1 (10: 2).
    #[must_use]
    pub fn overlap(mut self, sessions: u32) -> Self {
        self.terms.overlap = sessions;
        self
    }

    /// The statement that a session must answer to count as alive. Default: `SELECT current_user`, which fails once the role is dropped, where
    /// `SELECT 1` does not. After `SET ROLE`, use `SELECT session_user::regrole`.
    #[must_use]
    pub fn probe_sql(mut self, sql: impl Into<Arc<str>>) -> Self {
        self.terms.probe = sql.into();
        self
    }

    /// Lets bearer tokens go over connections whose TLS is not verified: for a server on this machine, never elsewhere.
    #[must_use]
    pub fn danger_tokens_without_verified_tls(mut self) -> Self {
        self.tokens_in_clear = true;
        self
    }

    fn options_for(&self, login: &Login) -> PgConnectOptions {
        let options = self.connect.clone().username(login.user()).password(login.expose_password());
        match login.location() {
            Some(endpoint) => options.host(endpoint.host()).port(endpoint.port()).database(endpoint.database()),
            None => options,
        }
    }
}

impl fmt::Debug for PgPools {
    /// sqlx's options would print the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgPools").field("host", &self.connect.get_host()).field("terms", &self.terms).finish_non_exhaustive()
    }
}

fn wrong(field: &str, problem: &str) -> Fault {
    Fault::new(FaultKind::Misconfigured, format!("{field}: {problem}"))
}

impl PoolFactory for PgPools {
    type Secret = Login;
    type Pool = PgPool;

    fn terms(&self) -> Terms {
        self.terms.clone()
    }

    fn check(&self, lease: &Lease<Login>) -> Result<(), Fault> {
        let login = lease.secret();
        if login.user().is_empty() {
            return Err(wrong("user", "the login has none; name the role to log in as"));
        }
        if login.user().contains('\0') || login.expose_password().contains('\0') {
            return Err(wrong("login", "user or password contains a NUL, which PostgreSQL cannot take; issue another"));
        }
        if login.expose_password().is_empty() {
            return Err(wrong("password", "is empty; issue one"));
        }
        match login.location() {
            Some(endpoint) if endpoint.host().trim().is_empty() => return Err(wrong("host", "is empty; give a name or an address")),
            Some(endpoint) if endpoint.port() == 0 => return Err(wrong("port", "is 0; give the server's port, 5432 by default")),
            Some(endpoint) if endpoint.database().is_empty() => return Err(wrong("database", "is empty; name one")),
            None if self.connect.get_host().trim().is_empty() => {
                return Err(wrong("host", "is empty; set it in the connect options, or in the login's endpoint"));
            }
            None if self.connect.get_port() == 0 => {
                return Err(wrong("port", "is 0; set the server's port in the connect options, 5432 by default"));
            }
            None if self.connect.get_database().is_none_or(str::is_empty) => {
                return Err(wrong("database", "is missing; set it in the connect options, or in the login's endpoint"));
            }
            _ => {}
        }
        let verified = matches!(self.connect.get_ssl_mode(), PgSslMode::VerifyFull);
        if login.is_token() && !verified && !self.tokens_in_clear {
            return Err(wrong(
                "ssl_mode",
                "a token is sent in clear to whoever answers; set PgSslMode::VerifyFull and ssl_root_cert in the connect options",
            ));
        }
        if self.terms.policy == Policy::AlwaysInPlace && lease.session_fate() == Sessions::EndWithLease {
            return Err(wrong("policy", "always_in_place cannot be kept with a lease that ends its sessions; leave it out"));
        }
        Ok(())
    }

    fn vacant(&self) -> PgPool {
        let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None).connect_lazy_with(self.connect.clone());
        // Marked as closed by the call; there is nothing to wait for.
        drop(pool.close());
        pool
    }

    async fn prove(&self, login: &Login) -> Result<(), Fault> {
        let mut session: PgConnection = self.options_for(login).connect().await.map_err(log_in_fault)?;
        let answer = session.execute(&*self.terms.probe).await;
        // It is gone either way; a server that does not say good-bye is no reason to doubt the credential.
        let _ = session.close().await;
        // The role exists, for it has just logged in: a probe that it may not run is wrong itself (42501).
        answer.map(drop).map_err(log_in_fault)
    }

    fn open(&self, login: &Login) -> Result<PgPool, Fault> {
        Ok(self.options.clone().connect_lazy_with(self.options_for(login)))
    }

    async fn warm(&self, pool: &PgPool, sessions: u32) -> Result<u32, Fault> {
        // Idle ones are held meanwhile, or they would be answered with.
        let idle: Vec<_> = std::iter::from_fn(|| pool.try_acquire()).take(sessions as usize).collect();
        let missing = sessions.saturating_sub(pool.size());
        // Side by side: one after the other takes 2 to 8 times as long.
        let opened = futures_util::future::try_join_all((0..missing).map(|_| pool.acquire())).await;
        opened.map_err(log_in_fault)?;
        drop(idle);
        Ok(pool.size())
    }

    fn refit(&self, pool: &PgPool, old: &Login, new: &Login) -> bool {
        let same_place = old.location() == new.location();
        if same_place {
            pool.set_connect_options(self.options_for(new));
        }
        same_place
    }

    async fn drain(&self, pool: PgPool) {
        pool.close().await;
    }

    fn sessions(&self, pool: &PgPool) -> u32 {
        pool.size()
    }

    async fn probe(&self, pool: &PgPool) -> Option<Result<(), Fault>> {
        let mut session = pool.try_acquire()?;
        let answer = session.execute(&*self.terms.probe).await;
        Some(answer.map(drop).map_err(|error| {
            drop(session.detach());
            probe_fault(&error)
        }))
    }

    fn fault(&self, error: &(dyn StdError + 'static)) -> Fault {
        fault::find(error).map_or_else(|| Fault::new(FaultKind::Other, error.to_string()), |error| fault::of(log_in_kind(error), error))
    }
}

fn log_in_fault(error: sqlx::Error) -> Fault {
    fault::of(log_in_kind(&error), &error).with_source(error)
}

/// What the answer to a log-in says. The codes are PostgreSQL's, appendix A of its manual.
fn log_in_kind(error: &sqlx::Error) -> FaultKind {
    let sqlx::Error::Database(database) = error else { return fault::common_kind(error) };
    let routine = database.try_downcast_ref::<PgDatabaseError>().and_then(|error| error.routine());
    match database.code().as_deref() {
        // No line of pg_hba.conf lets us in, whatever the password.
        Some("28000") if routine == Some("ClientAuthentication") => FaultKind::Misconfigured,
        // Wrong or expired password; PAM refused, no such role, or it may not log in.
        Some("28P01" | "28000") => FaultKind::Refused,
        // No room; the role's own limit is 53300, too.
        Some("53300") => FaultKind::Overloaded,
        // Starting up, shutting down, terminated.
        Some("57P01" | "57P02" | "57P03") => FaultKind::Unreachable,
        // No such database; no right to connect to it.
        Some("3D000" | "42501") => FaultKind::Misconfigured,
        _ => FaultKind::Other,
    }
}

/// What the answer to the probe says: a role that was dropped is a refused credential.
fn probe_fault(error: &sqlx::Error) -> Fault {
    let kind = if fault::is_suspect(error) { FaultKind::Refused } else { log_in_kind(error) };
    fault::of(kind, error)
}
