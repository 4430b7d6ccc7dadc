//! Settings of diesel's pools.

use std::sync::Arc;
use std::time::Duration;

use claviger::error::ConnectError;
use claviger::pool::{CheckPolicy, HandoverPolicy, PoolSettings};
use claviger_tokio_postgres::PgConnect;
use deadpool::managed::PoolConfig;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::pool::Lifetimes;

const MAX_LIFETIME: Duration = Duration::from_secs(30 * 60);
const IDLE_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// Makes pools of diesel-async over deadpool from [`Credentials`](claviger::Credentials).
///
/// [`PgConnect`] has the connection's settings, deadpool's own [`PoolConfig`] those of the pool:
///
/// - `max_size` bounds the connections (deadpool's default is twice the number of cores).
/// - `timeouts.wait` is a call's one deadline, also across generations. Default: 30 s.
/// - `timeouts.recycle` limits the check of a connection. Default: none; the call's deadline
///   holds.
/// - `timeouts.create` must be `None`: it would end the wait for a permit, which a rotation may
///   need. Set `connect_timeout` in the configuration of tokio-postgres instead.
/// - `queue_mode` is deadpool's.
///
/// ```
/// use std::time::Duration;
///
/// use claviger_diesel_async::deadpool::managed::PoolConfig;
/// use claviger_diesel_async::tokio_postgres::Config;
/// use claviger_diesel_async::{DieselPools, PgConnect};
///
/// let mut config = Config::new();
/// config.host("db.internal").dbname("orders");
/// let pools = DieselPools::new(PgConnect::new(config), PoolConfig::new(10))
///     .with_max_lifetime(Duration::from_secs(14 * 60))
///     .with_overlap(2);
/// # drop(pools);
/// ```
#[derive(Clone, Debug)]
pub struct DieselPools {
    pub(crate) connect: Arc<PgConnect>,
    pub(crate) config: PoolConfig,
    pub(crate) settings: PoolSettings,
    pub(crate) lifetimes: Lifetimes,
    /// Time at which a connection was last closed to make room on a full server.
    pub(crate) made_room: Arc<Mutex<Option<Instant>>>,
}

impl DieselPools {
    /// Creates a factory of pools with these settings.
    pub fn new(connect: PgConnect, config: PoolConfig) -> Self {
        let mut settings = PoolSettings::new(u32::try_from(config.max_size).unwrap_or(u32::MAX));
        settings.own_queue = true;
        if let Some(wait) = config.timeouts.wait {
            settings.acquire_timeout = wait;
        }
        Self {
            connect: Arc::new(connect),
            config,
            settings,
            lifetimes: Lifetimes {
                max_lifetime: Some(MAX_LIFETIME),
                idle_timeout: Some(IDLE_TIMEOUT),
            },
            made_room: Arc::default(),
        }
    }

    /// Sets whether each connection is checked before a handle returns it. That costs a round trip
    /// and finds a connection whose server no longer responds. Default: `false`, as with
    /// diesel-async's `RecyclingMethod::Fast`.
    ///
    /// In either case, a connection that the server or the network has closed is never returned.
    #[must_use]
    pub fn with_verified_recycling(mut self, verified: bool) -> Self {
        self.settings.checks = match verified {
            true => CheckPolicy::Always,
            false => CheckPolicy::Never,
        };
        self
    }

    /// Checks only connections that nobody took for at least `idle`. After one was found broken,
    /// all are checked for five seconds. Replaces
    /// [`with_verified_recycling`](Self::with_verified_recycling).
    ///
    /// deadpool does not record when a connection is returned. The time counts from when it was
    /// last taken.
    #[must_use]
    pub fn with_check_after_idle(mut self, idle: Duration) -> Self {
        self.settings.checks = CheckPolicy::AfterIdle(idle);
        self
    }

    /// Sets whether handovers are in place or replace the pool. Default:
    /// [`HandoverPolicy::AsLeased`].
    ///
    /// With [`HandoverPolicy::AlwaysInPlace`] the pool of
    /// [`Handle::current`](claviger::Handle::current) stays valid until a lease names another host,
    /// port or database. Connections of the old credential are closed after the maximum lifetime.
    #[must_use]
    pub fn with_handover_policy(mut self, policy: HandoverPolicy) -> Self {
        self.settings.policy = policy;
        self
    }

    /// Sets by how many connections old and new pool together may exceed `max_size` during a
    /// replacement. Default: a quarter, at least 1 (10: 2).
    #[must_use]
    pub fn with_overlap(mut self, connections: u32) -> Self {
        self.settings.overlap = connections;
        self
    }

    /// Sets how many connections are opened ahead of demand when a pool is replaced. Default: 0.
    #[must_use]
    pub fn with_min_connections(mut self, connections: u32) -> Self {
        self.settings.warm_connections = connections;
        self
    }

    /// Sets the age at which an idle connection is closed, or a busy one once it is returned. Use
    /// 14 min with tokens that are valid for 15 min. `None`: at no age. Default: 30 min.
    #[must_use]
    pub fn with_max_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.lifetimes.max_lifetime = lifetime.into();
        self
    }

    /// Sets for how long an idle connection stays open after it was last taken. `None`: for any
    /// time. Default: 10 min.
    #[must_use]
    pub fn with_idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.lifetimes.idle_timeout = timeout.into();
        self
    }

    /// Rejects settings that deadpool cannot use.
    pub(crate) fn check_settings(&self) -> Result<(), ConnectError> {
        let error = |field, problem| Err(ConnectError::misconfigured(field, problem));
        if self.config.timeouts.create.is_some() {
            return error(
                "timeouts.create",
                "would end the wait for a permit; leave it None, and set connect_timeout in the \
                 configuration of tokio-postgres",
            );
        }
        for (field, limit) in [
            ("timeouts.recycle", self.config.timeouts.recycle),
            ("max_lifetime", self.lifetimes.max_lifetime),
            ("idle_timeout", self.lifetimes.idle_timeout),
        ] {
            if limit == Some(Duration::ZERO) {
                return error(field, "is 0s; give at least a second, or None");
            }
        }
        Ok(())
    }
}
