//! Settings of bb8's pools.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bb8::QueueStrategy;
use claviger::error::ConnectError;
use claviger::pool::{CheckPolicy, HandoverPolicy, PoolSettings};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::managers::ManagerFactory;

const MAX_LIFETIME: Duration = Duration::from_secs(30 * 60);
const IDLE_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// Makes pools of bb8 from [`Credentials`](claviger::Credentials).
///
/// The [`ManagerFactory`] has the connection's settings: usually a
/// [`PgConnect`](crate::PgConnect).
///
/// ```
/// use std::time::Duration;
///
/// use claviger_bb8::tokio_postgres::Config;
/// use claviger_bb8::{Bb8Pools, PgConnect};
///
/// let mut config = Config::new();
/// config.host("db.internal").dbname("orders");
/// let pools = Bb8Pools::new(PgConnect::new(config), 10)
///     .with_acquire_timeout(Duration::from_secs(5))
///     .with_max_lifetime(Duration::from_secs(14 * 60));
/// # drop(pools);
/// ```
pub struct Bb8Pools<F> {
    pub(crate) managers: Arc<F>,
    pub(crate) settings: PoolSettings,
    pub(crate) queue_strategy: QueueStrategy,
    pub(crate) max_lifetime: Option<Duration>,
    pub(crate) idle_timeout: Option<Duration>,
    /// Time at which a connection was last closed to make room on a full server.
    pub(crate) made_room: Arc<Mutex<Option<Instant>>>,
}

impl<F: ManagerFactory> Bb8Pools<F> {
    /// Creates a factory of pools of at most `max_connections` connections.
    pub fn new(managers: F, max_connections: u32) -> Self {
        let mut settings = PoolSettings::new(max_connections);
        settings.own_queue = true;
        settings.reuses_cancelled = managers.reuses_cancelled();
        Self {
            managers: Arc::new(managers),
            settings,
            queue_strategy: QueueStrategy::default(),
            max_lifetime: Some(MAX_LIFETIME),
            idle_timeout: Some(IDLE_TIMEOUT),
            made_room: Arc::default(),
        }
    }

    /// Sets a call's one deadline, also across generations: bb8's `connection_timeout`. Default:
    /// 30 s.
    #[must_use]
    pub fn with_acquire_timeout(mut self, timeout: Duration) -> Self {
        self.settings.acquire_timeout = timeout;
        self
    }

    /// Sets whether each connection is checked before a handle returns it, by the manager's
    /// `is_valid`. That costs a round trip and finds a connection whose server no longer responds.
    /// Default: `false`, unlike bb8's.
    ///
    /// In either case, a connection that the manager's `has_broken` reports is never returned.
    /// That finds one that the server or the network has closed, and costs nothing.
    #[must_use]
    pub fn with_test_on_check_out(mut self, test: bool) -> Self {
        self.settings.checks = match test {
            true => CheckPolicy::Always,
            false => CheckPolicy::Never,
        };
        self
    }

    /// Checks only connections that were idle for at least `idle`. After one was found broken, all
    /// are checked for five seconds. Replaces
    /// [`with_test_on_check_out`](Self::with_test_on_check_out).
    #[must_use]
    pub fn with_check_after_idle(mut self, idle: Duration) -> Self {
        self.settings.checks = CheckPolicy::AfterIdle(idle);
        self
    }

    /// Sets which idle connection is used next. Default: [`QueueStrategy::Fifo`], the one that was
    /// idle for longest.
    #[must_use]
    pub fn with_queue_strategy(mut self, strategy: QueueStrategy) -> Self {
        self.queue_strategy = strategy;
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

    /// Sets by how many connections old and new pool together may exceed `max_connections` during
    /// a replacement. Default: a quarter, at least 1 (10: 2).
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

    /// Sets the age at which an idle connection is closed, within a quarter of that age and 30 s at
    /// most, or a busy one once it is returned. Use 14 min with tokens that are valid for 15 min.
    /// `None`: at no age. Default: 30 min.
    #[must_use]
    pub fn with_max_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.max_lifetime = lifetime.into();
        self
    }

    /// Sets for how long an idle connection stays open. `None`: for any time. Default: 10 min.
    #[must_use]
    pub fn with_idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = timeout.into();
        self
    }

    /// Rejects settings that bb8 cannot use.
    pub(crate) fn check_settings(&self) -> Result<(), ConnectError> {
        let error = |field, problem| Err(ConnectError::misconfigured(field, problem));
        if self.settings.max_connections == 0 {
            return error("max_connections", "is 0; give at least 1");
        }
        if self.settings.acquire_timeout.is_zero() {
            return error("acquire_timeout", "is 0s; give at least a second");
        }
        for (field, limit) in [
            ("max_lifetime", self.max_lifetime),
            ("idle_timeout", self.idle_timeout),
        ] {
            if limit == Some(Duration::ZERO) {
                return error(field, "is 0s; give at least a second, or None");
            }
        }
        Ok(())
    }
}

impl<F> Clone for Bb8Pools<F> {
    fn clone(&self) -> Self {
        Self {
            managers: Arc::clone(&self.managers),
            settings: self.settings.clone(),
            queue_strategy: self.queue_strategy,
            max_lifetime: self.max_lifetime,
            idle_timeout: self.idle_timeout,
            made_room: Arc::clone(&self.made_room),
        }
    }
}

impl<F: fmt::Debug> fmt::Debug for Bb8Pools<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bb8Pools")
            .field("managers", &self.managers)
            .field("settings", &self.settings)
            .field("queue_strategy", &self.queue_strategy)
            .field("max_lifetime", &self.max_lifetime)
            .field("idle_timeout", &self.idle_timeout)
            .finish_non_exhaustive()
    }
}
