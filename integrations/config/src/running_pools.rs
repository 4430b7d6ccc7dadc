//! The running pools of a configuration.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;

use claviger::pool::PoolFactory;
use claviger::supervisor::ProviderRef;
use claviger::{Credentials, Handle, Supervisor};

use crate::error::ConfigError;
use crate::nearest::suggestion;
use crate::schema::PoolKind;

/// The running pools and providers of a configuration, by name.
pub struct RunningPools {
    pub(crate) origin: String,
    pub(crate) supervisor: Supervisor,
    pub(crate) providers: BTreeMap<String, ProviderRef<Credentials>>,
    pub(crate) pools: BTreeMap<String, Pool>,
}

/// The handle of a pool of any kind.
pub(crate) struct Pool {
    pub(crate) kind: PoolKind,
    pub(crate) handle: Box<dyn Any + Send + Sync>,
}

impl RunningPools {
    /// Returns the handle of a pool: `get::<PgPools>("orders")`.
    ///
    /// # Errors
    /// No pool has this name, or the pool is of another kind. The message names the nearest pool,
    /// or the type to request.
    pub fn get<F: PoolFactory>(&self, name: &str) -> Result<Handle<F>, ConfigError> {
        let key = format!("pools.{name}");
        let Some(pool) = self.pools.get(name) else {
            let names: Vec<_> = self.pools.keys().map(String::as_str).collect();
            let message = format!("is unknown; {}", suggestion(name, &names));
            return Err(ConfigError::one(&self.origin, key, message));
        };
        let handle = pool.handle.downcast_ref::<Handle<F>>().cloned();
        handle.ok_or_else(|| {
            let message = format!(
                "is of kind `{}`; get it as {}",
                pool.kind.as_str(),
                pool.kind.handle()
            );
            ConfigError::one(&self.origin, key, message)
        })
    }

    /// Returns a provider, for pools that the service adds itself.
    pub fn provider(&self, name: &str) -> Option<&ProviderRef<Credentials>> {
        self.providers.get(name)
    }

    /// Returns the names of the pools.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.pools.keys().map(String::as_str)
    }

    /// Returns the supervisor: for readiness, status, events and the shutdown.
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }
}

impl fmt::Debug for RunningPools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningPools")
            .field("pools", &self.pools.keys())
            .field("providers", &self.providers.keys())
            .finish_non_exhaustive()
    }
}
