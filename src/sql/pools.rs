//! Pools of sqlx's, whatever the database.

use std::error::Error as StdError;
use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolOptions;
use sqlx::{ConnectOptions, Connection, Executor, Pool};

use super::dialect::{ConnectOptionsOf, Dialect};
use super::fault;
use crate::error::{Fault, FaultKind};
use crate::lease::{Lease, Sessions};
use crate::login::Login;
use crate::pool::{Policy, PoolFactory, Terms};

/// How often a pool that drains is looked at while sessions of it are busy.
const STILL_BUSY: Duration = Duration::from_millis(10);

/// Makes pools of [`Login`]s; sqlx's own options are the settings. Used as `PgPools` and `MySqlPools`, whose docs say what is particular to each
/// database.
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
pub struct SqlPools<DB: Dialect> {
    connect: ConnectOptionsOf<DB>,
    options: PoolOptions<DB>,
    terms: Terms,
    /// PostgreSQL's alone.
    pub(super) tokens_in_clear: bool,
}

impl<DB: Dialect> SqlPools<DB> {
    /// Pools with these options.
    pub fn new(connect: ConnectOptionsOf<DB>, options: PoolOptions<DB>) -> Self {
        let mut terms = Terms::new(options.get_max_connections());
        terms.warm_sessions = options.get_min_connections();
        terms.acquire_timeout = options.get_acquire_timeout();
        terms.test_before_acquire = options.get_test_before_acquire();
        terms.probe = Arc::from(DB::PROBE);
        terms.probe_tells = DB::PROBE_TELLS;
        terms.ping = DB::PING.map(Arc::from);
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

    /// The statement that a session must answer to count as alive. Default: one that asks who the current user is.
    #[must_use]
    pub fn probe_sql(mut self, sql: impl Into<Arc<str>>) -> Self {
        self.terms.probe = sql.into();
        self
    }

    fn options_for(&self, login: &Login) -> ConnectOptionsOf<DB> {
        DB::options_for(&self.connect, login)
    }

    /// Why nothing came of a connect, and where to: what the operating system says names neither host nor file.
    fn connect_fault(&self, login: &Login, error: sqlx::Error) -> Fault {
        let sqlx::Error::Io(io) = &error else { return log_in_fault::<DB>(error) };
        let address = DB::address(&self.connect);
        if address.socket && login.location().is_none() {
            return log_in_fault::<DB>(error);
        }
        let (host, port) = login.location().map_or((address.host, address.port), |endpoint| (endpoint.host(), endpoint.port()));
        let fault = match io.kind() {
            // Of a socket's address there is no file that could be missing: it is one of those for TLS.
            ErrorKind::NotFound | ErrorKind::PermissionDenied => wrong(
                "ssl_root_cert, ssl_client_cert or ssl_client_key",
                format!("a file that is named in the connect options cannot be read ({io}); see to its path and its rights"),
            ),
            _ => Fault::new(kind::<DB>(&error), format!("{host}:{port}: {error}")),
        };
        fault.with_source(error)
    }

    fn check_login(login: &Login) -> Result<(), Fault> {
        if login.user().is_empty() {
            return Err(wrong("user", "the login has none; name the role to log in as"));
        }
        if login.user().contains('\0') || login.expose_password().contains('\0') {
            return Err(wrong("login", format!("user or password contains a NUL, which {} cannot take; issue another", DB::NAME)));
        }
        if login.expose_password().is_empty() {
            return Err(wrong("password", "is empty; issue one"));
        }
        Ok(())
    }

    fn check_address(&self, login: &Login) -> Result<(), Fault> {
        let address = DB::address(&self.connect);
        let port = format!("the server's port, {} by default", DB::DEFAULT_PORT);
        match login.location() {
            Some(_) if address.socket => {
                Err(wrong("socket", "the connect options name one, and the login says where the database is; leave one of them out"))
            }
            Some(endpoint) if endpoint.host().trim().is_empty() => Err(wrong("host", "is empty; give a name or an address")),
            Some(endpoint) if endpoint.port() == 0 => Err(wrong("port", format!("is 0; give {port}"))),
            Some(endpoint) if endpoint.database().is_empty() => Err(wrong("database", "is empty; name one")),
            None if !address.socket && address.host.trim().is_empty() => {
                Err(wrong("host", "is empty; set it in the connect options, or in the login's endpoint"))
            }
            None if !address.socket && address.port == 0 => Err(wrong("port", format!("is 0; in the connect options set {port}"))),
            None if address.database.is_none_or(str::is_empty) => {
                Err(wrong("database", "is missing; set it in the connect options, or in the login's endpoint"))
            }
            _ => Ok(()),
        }
    }
}

impl<DB: Dialect> Clone for SqlPools<DB> {
    fn clone(&self) -> Self {
        Self {
            connect: self.connect.clone(),
            options: self.options.clone(),
            terms: self.terms.clone(),
            tokens_in_clear: self.tokens_in_clear,
        }
    }
}

impl<DB: Dialect> fmt::Debug for SqlPools<DB> {
    /// sqlx's options would print the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlPools")
            .field("database", &DB::NAME)
            .field("host", &DB::address(&self.connect).host)
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

fn wrong(field: &str, problem: impl fmt::Display) -> Fault {
    Fault::new(FaultKind::Misconfigured, format!("{field}: {problem}"))
}

impl<DB: Dialect> PoolFactory for SqlPools<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    type Secret = Login;
    type Pool = Pool<DB>;

    fn terms(&self) -> Terms {
        self.terms.clone()
    }

    fn check(&self, lease: &Lease<Login>) -> Result<(), Fault> {
        let login = lease.secret();
        Self::check_login(login)?;
        self.check_address(login)?;
        if login.is_token() && !DB::verifies(&self.connect) && !self.tokens_in_clear {
            let advice = format!("a token is sent in clear to whoever answers; set {} in the connect options", DB::VERIFIED_TLS);
            return Err(wrong("ssl_mode", advice));
        }
        if self.terms.policy == Policy::AlwaysInPlace && lease.session_fate() == Sessions::EndWithLease {
            return Err(wrong("policy", "always_in_place cannot be kept with a lease that ends its sessions; leave it out"));
        }
        Ok(())
    }

    fn vacant(&self) -> Pool<DB> {
        let options = PoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
        let pool: Pool<DB> = options.connect_lazy_with(self.connect.clone());
        // Marked as closed by the call; there is nothing to wait for.
        drop(pool.close());
        pool
    }

    async fn prove(&self, login: &Login) -> Result<(), Fault> {
        let mut session: DB::Connection = self.options_for(login).connect().await.map_err(|error| self.connect_fault(login, error))?;
        let answer = session.execute(&*self.terms.probe).await;
        // It is gone either way; a server that does not say good-bye is no reason to doubt the credential.
        let _ = session.close().await;
        // The role exists, for it has just logged in: a probe that it may not run is wrong itself (42501).
        answer.map(drop).map_err(log_in_fault::<DB>)
    }

    fn open(&self, login: &Login) -> Result<Pool<DB>, Fault> {
        Ok(self.options.clone().connect_lazy_with(self.options_for(login)))
    }

    async fn warm(&self, pool: &Pool<DB>, sessions: u32) -> Result<u32, Fault> {
        // Idle ones are held meanwhile, or they would be answered with.
        let idle: Vec<_> = std::iter::from_fn(|| pool.try_acquire()).take(sessions as usize).collect();
        let missing = sessions.saturating_sub(pool.size());
        // Side by side: one after the other takes 2 to 8 times as long.
        let opened = futures_util::future::try_join_all((0..missing).map(|_| pool.acquire())).await;
        opened.map_err(log_in_fault::<DB>)?;
        drop(idle);
        Ok(pool.size())
    }

    fn refit(&self, pool: &Pool<DB>, old: &Login, new: &Login) -> bool {
        let same_place = old.location() == new.location();
        if same_place {
            pool.set_connect_options(self.options_for(new));
        }
        same_place
    }

    /// sqlx 0.8.6's `close` is not enough: for each idle session that it closes it gives a permit back that nobody had taken, so that it may return while as many
    /// others are busy; and one that comes back in its last round it overlooks.
    async fn drain(&self, pool: Pool<DB>) {
        loop {
            pool.close().await;
            if pool.size() == 0 {
                return;
            }
            tokio::time::sleep(STILL_BUSY).await;
        }
    }

    fn sessions(&self, pool: &Pool<DB>) -> u32 {
        pool.size()
    }

    /// sqlx counts after the fact, and for a moment below zero.
    fn idle(&self, pool: &Pool<DB>) -> u32 {
        u32::try_from(pool.num_idle()).unwrap_or(0).min(pool.size())
    }

    async fn probe(&self, pool: &Pool<DB>) -> Option<Result<(), Fault>> {
        let mut session = pool.try_acquire()?;
        let answer = session.execute(&*self.terms.probe).await;
        Some(answer.map(drop).map_err(|error| {
            drop(session.detach());
            probe_fault::<DB>(&error)
        }))
    }

    fn fault(&self, error: &(dyn StdError + 'static)) -> Fault {
        fault::find(error).map_or_else(|| Fault::new(FaultKind::Other, error.to_string()), |error| fault::of(kind::<DB>(error), error))
    }
}

/// What the answer to a log-in says.
fn kind<DB: Dialect>(error: &sqlx::Error) -> FaultKind {
    match error {
        sqlx::Error::Database(answer) => DB::kind_of(&**answer),
        error => fault::common_kind(error),
    }
}

fn log_in_fault<DB: Dialect>(error: sqlx::Error) -> Fault {
    fault::of(kind::<DB>(&error), &error).with_source(error)
}

/// What the answer to the probe says: a role that was dropped is a refused credential.
fn probe_fault<DB: Dialect>(error: &sqlx::Error) -> Fault {
    let kind = if fault::is_suspect(error) { FaultKind::Refused } else { kind::<DB>(error) };
    fault::of(kind, error)
}
