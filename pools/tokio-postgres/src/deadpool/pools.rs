//! Settings of deadpool's pools.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use claviger::Lease;
use claviger::error::ConnectError;
use deadpool::managed::PoolConfig;

use super::ConnectionKind;
use crate::settings::check_limit;
use crate::{PgConnect, QueuedPoolSettings};

/// Makes pools of deadpool from [`Credentials`](claviger::Credentials).
///
/// [`PgConnect`] has the connection's settings, deadpool's own [`PoolConfig`] those of the pool:
///
/// - `max_size` bounds the connections (deadpool's default is twice the number of cores).
/// - `timeouts.wait` is a call's one deadline, also across generations. Default: 30 s.
/// - `timeouts.recycle` limits the check of a connection. Default: none; the call's deadline
///   applies.
/// - `timeouts.create` must be `None`: it would end the wait for a permit, which a rotation may
///   need. Set `connect_timeout` in the configuration of tokio-postgres instead.
/// - `queue_mode` is deadpool's.
///
/// deadpool does not record when a connection is returned. Idle times count from when it was last
/// taken.
pub struct ManagedPools<K> {
    pub(super) connect: Arc<PgConnect>,
    pub(super) config: PoolConfig,
    pub(super) settings: QueuedPoolSettings,
    kind: PhantomData<fn() -> K>,
}

impl<K: ConnectionKind> ManagedPools<K> {
    /// Creates a factory of pools with these settings.
    pub fn new(connect: PgConnect, config: PoolConfig) -> Self {
        let max_connections = u32::try_from(config.max_size).unwrap_or(u32::MAX);
        let mut settings = QueuedPoolSettings::new(max_connections);
        settings.pool.names.max_connections = "max_size";
        settings.pool.names.acquire_timeout = "timeouts.wait";
        if let Some(wait) = config.timeouts.wait {
            settings.pool.acquire_timeout = wait;
        }
        Self {
            connect: Arc::new(connect),
            config,
            settings,
            kind: PhantomData,
        }
    }

    crate::setters!();

    /// Rejects settings that deadpool cannot use, or that do not fit the lease.
    pub(super) fn check_settings(
        &self,
        lease: &Lease<claviger::Credentials>,
    ) -> Result<(), ConnectError> {
        if self.config.timeouts.create.is_some() {
            return Err(ConnectError::misconfigured(
                "timeouts.create",
                "would end the wait for a permit; leave it None, and set connect_timeout in the \
                 configuration of tokio-postgres",
            ));
        }
        check_limit("timeouts.recycle", self.config.timeouts.recycle)?;
        self.settings.check_with(lease)
    }
}

impl<K> Clone for ManagedPools<K> {
    fn clone(&self) -> Self {
        Self {
            connect: Arc::clone(&self.connect),
            config: self.config,
            settings: self.settings.clone(),
            kind: PhantomData,
        }
    }
}

impl<K> fmt::Debug for ManagedPools<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagedPools")
            .field("connect", &self.connect)
            .field("config", &self.config)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
