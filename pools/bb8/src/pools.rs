//! Settings of bb8's pools.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bb8::QueueStrategy;
use claviger_tokio_postgres::{QueuedPoolSettings, setters};

use crate::managers::ManagerFactory;

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
    pub(crate) settings: QueuedPoolSettings,
    pub(crate) queue_strategy: QueueStrategy,
}

impl<F: ManagerFactory> Bb8Pools<F> {
    /// Creates a factory of pools of at most `max_connections` connections.
    pub fn new(managers: F, max_connections: u32) -> Self {
        let mut settings = QueuedPoolSettings::new(max_connections);
        settings.pool.reuses_cancelled = managers.reuses_cancelled();
        Self {
            managers: Arc::new(managers),
            settings,
            queue_strategy: QueueStrategy::default(),
        }
    }

    setters!();

    /// Sets a call's one deadline, also across generations: bb8's `connection_timeout`. Default:
    /// 30 s.
    #[must_use]
    pub fn with_acquire_timeout(mut self, timeout: Duration) -> Self {
        self.settings.pool.acquire_timeout = timeout;
        self
    }

    /// Sets which idle connection is used next. Default: [`QueueStrategy::Fifo`], the one that was
    /// idle for longest.
    #[must_use]
    pub fn with_queue_strategy(mut self, strategy: QueueStrategy) -> Self {
        self.queue_strategy = strategy;
        self
    }
}

impl<F> Clone for Bb8Pools<F> {
    fn clone(&self) -> Self {
        Self {
            managers: Arc::clone(&self.managers),
            settings: self.settings.clone(),
            queue_strategy: self.queue_strategy,
        }
    }
}

impl<F: fmt::Debug> fmt::Debug for Bb8Pools<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bb8Pools")
            .field("managers", &self.managers)
            .field("settings", &self.settings)
            .field("queue_strategy", &self.queue_strategy)
            .finish_non_exhaustive()
    }
}
