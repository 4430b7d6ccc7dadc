//! Kinds of pools.

#[cfg(feature = "bb8")]
pub(crate) mod bb8;
#[cfg(feature = "deadpool")]
pub(crate) mod deadpool;
#[cfg(feature = "diesel")]
pub(crate) mod diesel;
#[cfg(any(feature = "bb8", feature = "deadpool", feature = "diesel"))]
mod postgres_config;
#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(feature = "sqlx")]
pub(crate) mod sqlx;
#[cfg(any(feature = "bb8", feature = "deadpool"))]
mod tokio_postgres;

use std::future::Future;
use std::sync::Arc;

use claviger::pool::PoolFactory;
use claviger::{Credentials, Handle};
use parking_lot::RwLock;

use crate::Problem;
use crate::server::{PLAIN, Server};

/// A kind of pool, and a plain pool of the same library beside it.
pub(crate) trait Kind: Send + Sync + 'static {
    type Server: Server;
    /// The supervised pools.
    type Pools: PoolFactory<Secret = Credentials>;
    /// The library's own pool, whose credentials do not change.
    type Plain: Clone + Send + Sync + 'static;

    /// The library's name.
    const NAME: &'static str;
    /// Name of what a call executes, in the plural.
    const CALLS: &'static str = "queries";
    /// Whether all callers share one connection.
    const SHARED: bool = false;

    fn pools(server: &Self::Server) -> Result<Self::Pools, Problem>;
    fn plain_pool(server: &Self::Server, credentials: &Credentials)
    -> Result<Self::Plain, Problem>;

    /// Reads the number of orders through the handle.
    fn call(db: &Handle<Self::Pools>) -> impl Future<Output = Result<(), CallFailure>> + Send;
    /// Reads the number of orders through the plain pool.
    fn call_plain(pool: &Self::Plain) -> impl Future<Output = Result<(), CallFailure>> + Send;
}

/// Reason why a call failed.
#[derive(Debug)]
pub(crate) struct CallFailure {
    /// Whether the connection was lost while the call opened or used it.
    pub(crate) lost_connection: bool,
    pub(crate) message: String,
}

/// A pool that the tasks of a service call. Clones are the same pool.
pub(crate) trait Caller: Clone + Send + Sync + 'static {
    fn call(&self) -> impl Future<Output = Result<(), CallFailure>> + Send;
}

/// A supervised pool, called through its handle.
pub(crate) struct Supervised<K: Kind>(pub(crate) Handle<K::Pools>);

impl<K: Kind> Clone for Supervised<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Kind> Caller for Supervised<K> {
    async fn call(&self) -> Result<(), CallFailure> {
        K::call(&self.0).await
    }
}

/// A plain pool, which a restart of its service replaces.
pub(crate) struct Plain<K: Kind>(Arc<RwLock<K::Plain>>);

impl<K: Kind> Clone for Plain<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Kind> Plain<K> {
    pub(crate) fn new(pool: K::Plain) -> Self {
        Self(Arc::new(RwLock::new(pool)))
    }

    /// Opens the pool of the user [`PLAIN`].
    pub(crate) fn open(server: &K::Server, password: &str) -> Result<Self, Problem> {
        let credentials = Credentials::new(PLAIN, password);
        Ok(Self::new(K::plain_pool(server, &credentials)?))
    }

    /// Replaces the pool by one with this password, as a restart of the service does.
    pub(crate) fn restart(&self, server: &K::Server, password: &str) -> Result<(), Problem> {
        self.replace(K::plain_pool(server, &Credentials::new(PLAIN, password))?);
        Ok(())
    }

    /// Replaces the pool.
    pub(crate) fn replace(&self, pool: K::Plain) {
        *self.0.write() = pool;
    }
}

impl<K: Kind> Caller for Plain<K> {
    async fn call(&self) -> Result<(), CallFailure> {
        let pool = self.0.read().clone();
        K::call_plain(&pool).await
    }
}
