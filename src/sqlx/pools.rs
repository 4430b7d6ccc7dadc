//! Pools of sqlx, for every database.

mod explain;
mod factory;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::sqlx::pool::{PoolConnectionMetadata, PoolOptions};
use super::sqlx::{self, ConnectOptions, Connection, Pool};
use futures_core::future::BoxFuture;

use super::classify::login_error;
use super::dialect::{ConnectOptionsOf, Dialect};
use super::hooks::Hooks;
use crate::credentials::{Credentials, shown_host};
use crate::error::ConnectError;
use crate::pool::{
    CheckPolicy, HandoverPolicy, PoolFactory, PoolSettings, Verifier, WITHOUT_CALLER,
};
use crate::sql::fixed::FixedPool;
use crate::sql::forms::{Form, Forms};

/// Makes pools from [`Credentials`]; sqlx's own options are the settings. Used as `PgPools` and
/// `MySqlPools`, whose docs describe each database.
///
/// - `max_connections` bounds the connections (10 by sqlx's default); `min_connections` of them are
///   opened ahead of demand at each replacement.
/// - `acquire_timeout` is a call's one deadline (30 s), also across generations.
/// - `test_before_acquire` decides whether the handle pings (it does by default). sqlx's own ping
///   is off, because a cancelled acquire would lose the connection. For users of
///   [`Handle::current`](crate::Handle::current), see
///   [`with_checks_in_pool`](Self::with_checks_in_pool).
/// - `max_lifetime` and `idle_timeout` close connections as in sqlx. For tokens that are valid for
///   15 minutes, set a lifetime of 14 min, an idle timeout of 10 min and 10 connections. These
///   settings never send an expired token to the database.
/// - `after_connect`, `before_acquire` and `after_release` are called as in sqlx. The exception:
///   `before_acquire` is not called for connections that callers share while the database rejects
///   logins, or that are taken past a replacement's admission control.
///
/// User, password and endpoint come from the lease. The connect options have everything else, and
/// the parts that the endpoint leaves out.
pub struct SqlPools<DB: Dialect> {
    connect: ConnectOptionsOf<DB>,
    options: PoolOptions<DB>,
    settings: PoolSettings,
    /// Statement that checks whether the role of an open connection still exists.
    probe: Arc<str>,
    hooks: Hooks<DB>,
    /// Whether tokens may be sent without verified TLS. Only PostgreSQL's pools can set it.
    pub(super) tokens_in_clear: bool,
    verifier: Verifier,
    forms: Forms,
}

impl<DB: Dialect> SqlPools<DB> {
    /// Creates a factory of pools with these options.
    pub fn new(connect: ConnectOptionsOf<DB>, options: PoolOptions<DB>) -> Self {
        let mut settings = PoolSettings::new(options.get_max_connections());
        settings.warm_connections = options.get_min_connections();
        settings.acquire_timeout = options.get_acquire_timeout();
        if options.get_test_before_acquire() {
            settings.checks = CheckPolicy::Always;
        }
        DB::adapt_settings(&mut settings);
        // The handle has a deadline of its own. sqlx's would abort a login.
        let within = if settings.finishes_logins {
            options.get_acquire_timeout().saturating_add(WITHOUT_CALLER)
        } else {
            options.get_acquire_timeout()
        };
        Self {
            connect,
            // sqlx would refill a draining pool, and lose a connection whose ping is cancelled.
            options: options
                .min_connections(0)
                .test_before_acquire(false)
                .acquire_timeout(within),
            settings,
            probe: Arc::from(DB::PROBE),
            hooks: Hooks {
                after_connect: None,
                before_acquire: None,
                after_release: None,
                return_timeout: None,
                reports_idle_time: false,
                checks_in_pool: false,
            },
            tokens_in_clear: false,
            verifier: Verifier::default(),
            forms: Forms::default(),
        }
    }

    /// Sets whether handovers are in place or replace the pool. Default:
    /// [`HandoverPolicy::AsLeased`].
    ///
    /// With [`HandoverPolicy::AlwaysInPlace`] the pool of
    /// [`Handle::current`](crate::Handle::current) stays valid until a lease names another host,
    /// port or database. `PgListener`, sea-orm and connection stores need that. Connections of the
    /// old credential are closed after `max_lifetime`. A lease that ends its connections is an
    /// error.
    #[must_use]
    pub fn with_handover_policy(mut self, policy: HandoverPolicy) -> Self {
        self.settings.policy = policy;
        self
    }

    /// Checks only connections that were idle for at least `idle`, which saves most acquires a
    /// round trip. Takes precedence over `test_before_acquire`. Default: `test_before_acquire`
    /// decides, for each acquire or for none.
    ///
    /// When the server ends idle connections, each may fail one statement until the first failure
    /// is reported. Connections that were idle at that time are then checked, and for five seconds
    /// all.
    ///
    /// Replaces a `before_acquire` hook of the options: set that one by
    /// [`with_before_acquire`](Self::with_before_acquire).
    #[must_use]
    pub fn with_check_after_idle(mut self, idle: Duration) -> Self {
        self.settings.checks = CheckPolicy::AfterIdle(idle);
        self.hooks.reports_idle_time = true;
        self
    }

    /// Lets the pool itself check idle connections, for users of
    /// [`Handle::current`](crate::Handle::current): sea-orm, session stores, job queues. The
    /// condition is the handle's: `test_before_acquire`, or
    /// [`with_check_after_idle`](Self::with_check_after_idle). A handle still checks once. Default:
    /// only the handle checks, and other users may get connections that the server has ended.
    ///
    /// If an acquire of such a user is cancelled during a check, its connection is closed, as in
    /// sqlx.
    ///
    /// Replaces a `before_acquire` hook of the options: set that one by
    /// [`with_before_acquire`](Self::with_before_acquire).
    #[must_use]
    pub fn with_checks_in_pool(mut self) -> Self {
        self.hooks.checks_in_pool = true;
        // Marks the acquires of the handle.
        self.hooks.reports_idle_time = true;
        self
    }

    /// Sets by how many connections old and new pool together may exceed `max_connections` during
    /// a replacement. Default: a quarter, at least 1 (10: 2).
    #[must_use]
    pub fn with_overlap(mut self, connections: u32) -> Self {
        self.settings.overlap = connections;
        self
    }

    /// Sets the statement that must succeed on a connection for it to count as usable. Default: one
    /// that selects the current user.
    #[must_use]
    pub fn with_probe_sql(mut self, sql: impl Into<Arc<str>>) -> Self {
        self.probe = sql.into();
        self
    }

    /// Calls `hook` on each new connection, as [`PoolOptions::after_connect`] would, and on that of
    /// each verification. Credentials with which it fails are not used. Replaces an `after_connect`
    /// of the options. A verification does not call that one. Before publication, it is called on
    /// one connection alone.
    ///
    /// In a verification, the hook runs on a thread and a runtime of its own, which end with it.
    /// Tasks that it spawns are cancelled, `block_in_place` panics, and connections that it opens
    /// elsewhere are closed.
    ///
    /// ```
    /// # #[cfg(all(feature = "postgres", feature = "sqlx-09"))] {
    /// use claviger::PgPools;
    /// use sqlx::Executor;
    /// use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
    ///
    /// let pools = PgPools::new(PgConnectOptions::new(), PgPoolOptions::new())
    ///     .with_after_connect(|connection| Box::pin(async move {
    ///         connection.execute("SET ROLE orders_owner").await?;
    ///         Ok(())
    ///     }));
    /// # drop(pools);
    /// # }
    /// ```
    #[must_use]
    pub fn with_after_connect<F>(mut self, hook: F) -> Self
    where
        F: for<'c> Fn(&'c mut DB::Connection) -> BoxFuture<'c, Result<(), sqlx::Error>>
            + Send
            + Sync
            + 'static,
    {
        self.hooks.after_connect = Some(Arc::new(hook));
        self
    }

    /// Calls `hook` before an idle connection is handed out, as [`PoolOptions::before_acquire`]
    /// would, and replaces one that is set there. `false` closes the connection. Default: none.
    #[must_use]
    pub fn with_before_acquire<F>(mut self, hook: F) -> Self
    where
        F: for<'c> Fn(
                &'c mut DB::Connection,
                PoolConnectionMetadata,
            ) -> BoxFuture<'c, Result<bool, sqlx::Error>>
            + Send
            + Sync
            + 'static,
    {
        self.hooks.before_acquire = Some(Arc::new(hook));
        self
    }

    /// Calls `hook` when a connection is returned, as [`PoolOptions::after_release`] would, and
    /// replaces one that is set there. `false` closes the connection. Default: none.
    #[must_use]
    pub fn with_after_release<F>(mut self, hook: F) -> Self
    where
        F: for<'c> Fn(
                &'c mut DB::Connection,
                PoolConnectionMetadata,
            ) -> BoxFuture<'c, Result<bool, sqlx::Error>>
            + Send
            + Sync
            + 'static,
    {
        self.hooks.after_release = Some(Arc::new(hook));
        self
    }

    /// Closes a connection that does not respond to a ping within `timeout` when it is returned.
    /// Costs one round trip for each return. Default: none. sqlx then waits without end, and a
    /// connection that the network dropped keeps its place in the pool. A connection whose
    /// statement on the handle was cancelled is closed after 10 s.
    ///
    /// Replaces an `after_release` hook of the options: set that one by
    /// [`with_after_release`](Self::with_after_release).
    #[must_use]
    pub fn with_return_timeout(mut self, timeout: Duration) -> Self {
        self.hooks.return_timeout = Some(timeout);
        self
    }

    fn options_for(&self, credentials: &Credentials) -> ConnectOptionsOf<DB> {
        let form_and_prepared = self.form_and_prepared(credentials);
        let password = match &form_and_prepared {
            Some((Form::Prepared, prepared)) => prepared,
            _ => credentials.expose_password(),
        };
        DB::options_for(&self.connect, credentials, password)
    }

    /// Returns the form for the next login and the prepared password, if that one differs.
    fn form_and_prepared(&self, credentials: &Credentials) -> Option<(Form, String)> {
        if credentials.is_token() {
            return None;
        }
        let prepared = DB::prepared(credentials.expose_password())?;
        Some((self.forms.form_for(credentials), prepared))
    }

    async fn log_in_and_probe(&self, credentials: &Credentials) -> Result<(), ConnectError> {
        let mut connection: DB::Connection = self
            .options_for(credentials)
            .connect()
            .await
            .map_err(|error| self.connecting_failed(credentials, error))?;
        let mut probed = DB::execute(&mut connection, &self.probe).await;
        if let (Ok(()), Some(hook)) = (&probed, &self.hooks.after_connect) {
            probed = hook(&mut connection).await;
        }
        // It is closed either way. An error of the close does not concern the credentials.
        let _ = connection.close().await;
        // The role exists, because it has just logged in. If it may not run the probe (42501), the
        // probe is wrong.
        probed.map_err(|error| self.explain(credentials, login_error::<DB>(error)))
    }
}

impl<DB: Dialect> Clone for SqlPools<DB> {
    fn clone(&self) -> Self {
        Self {
            connect: self.connect.clone(),
            options: self.options.clone(),
            settings: self.settings.clone(),
            probe: Arc::clone(&self.probe),
            hooks: self.hooks.clone(),
            tokens_in_clear: self.tokens_in_clear,
            verifier: self.verifier.clone(),
            forms: self.forms.clone(),
        }
    }
}

impl<DB: Dialect> fmt::Debug for SqlPools<DB> {
    /// Leaves out sqlx's options, which would print the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlPools")
            .field("database", &DB::NAME)
            .field("host", &shown_host(DB::address(&self.connect).host()))
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl<DB: Dialect> FixedPool for Pool<DB> {
    type Factory = SqlPools<DB>;

    fn factory(&self) -> SqlPools<DB> {
        SqlPools::new((*self.connect_options()).clone(), self.options().clone())
    }
}
