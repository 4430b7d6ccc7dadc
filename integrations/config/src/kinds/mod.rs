//! Registration of pools, and their factories from the settings of the file.

#[cfg(feature = "redis")]
pub(crate) mod redis;
#[cfg(any(feature = "mysql", feature = "postgres"))]
pub(crate) mod sqlx;
#[cfg(any(
    feature = "bb8",
    feature = "deadpool-postgres",
    feature = "diesel-async"
))]
pub(crate) mod tokio_postgres;

use claviger::pool::{HandoverPolicy, PoolFactory};
use claviger::supervisor::ProviderRef;
use claviger::{Credentials, Supervisor};

use crate::error::{ConfigError, Problem};
use crate::resolved_pool::ResolvedPool;
use crate::running_pools::Pool;
use crate::schema::{Handover, PoolKind};

/// A pool that is about to be registered.
pub(crate) struct Registration<'r> {
    pub(crate) origin: &'r str,
    pub(crate) supervisor: &'r Supervisor,
    pub(crate) in_background: bool,
    pub(crate) pool: &'r ResolvedPool,
    pub(crate) provider: Option<&'r ProviderRef<Credentials>>,
}

impl Registration<'_> {
    pub(crate) async fn add(&self) -> Result<Pool, ConfigError> {
        let pool = self.pool;
        let kind: PoolKind = pool.kind;
        match kind {
            #[cfg(feature = "postgres")]
            PoolKind::Postgres => self.add_factory(sqlx::postgres(pool)).await,
            #[cfg(feature = "mysql")]
            PoolKind::Mysql => self.add_factory(sqlx::mysql(pool)).await,
            #[cfg(feature = "deadpool-postgres")]
            PoolKind::DeadpoolPostgres => self.add_factory(tokio_postgres::deadpool(pool)).await,
            #[cfg(feature = "diesel-async")]
            PoolKind::DieselPostgres => self.add_factory(tokio_postgres::diesel(pool)).await,
            #[cfg(feature = "bb8")]
            PoolKind::Bb8Postgres => self.add_factory(tokio_postgres::bb8(pool)).await,
            #[cfg(feature = "redis")]
            PoolKind::Redis => self.add_factory(redis::multiplexed(pool)).await,
            #[cfg(feature = "redis")]
            PoolKind::RedisManaged => self.add_factory(redis::managed(pool)).await,
            #[cfg(feature = "redis")]
            PoolKind::RedisCluster => self.add_factory(redis::cluster(pool)).await,
            #[cfg(feature = "redis")]
            PoolKind::RedisExclusive => self.add_factory(redis::exclusive(pool)).await,
            // `check` finds a missing feature first.
            #[cfg(not(all(
                feature = "bb8",
                feature = "deadpool-postgres",
                feature = "diesel-async",
                feature = "mysql",
                feature = "postgres",
                feature = "redis"
            )))]
            _ => Err(self.error(Problem::new(pool.key("kind"), "needs a feature"))),
        }
    }

    async fn add_factory<F>(&self, factory: Result<F, Problem>) -> Result<Pool, ConfigError>
    where
        F: PoolFactory<Secret = Credentials>,
    {
        let factory = factory.map_err(|problem| self.error(problem))?;
        let (name, key) = (&self.pool.name, format!("pools.{}", self.pool.name));
        let Some(provider) = self.provider else {
            return Err(self.error(Problem::new(key, "has no provider")));
        };
        let added = if self.in_background {
            self.supervisor
                .add_pool_in_background(name, provider, factory)
        } else {
            self.supervisor.add_pool(name, provider, factory).await
        };
        let handle = added.map_err(|error| ConfigError::start_failed(self.origin, key, error))?;
        Ok(Pool {
            kind: self.pool.kind,
            handle: Box::new(handle),
        })
    }

    fn error(&self, problem: Problem) -> ConfigError {
        ConfigError::new(self.origin, vec![problem])
    }
}

/// Checks the options of a pool's driver. Reads no file.
///
/// # Errors
/// The driver does not accept them.
pub(crate) fn check_options(pool: &ResolvedPool) -> Result<(), Problem> {
    match pool.kind {
        #[cfg(feature = "postgres")]
        PoolKind::Postgres => sqlx::postgres_options(pool).map(drop),
        #[cfg(feature = "mysql")]
        PoolKind::Mysql => sqlx::mysql_options(pool).map(drop),
        #[cfg(feature = "deadpool-postgres")]
        PoolKind::DeadpoolPostgres => tokio_postgres::config(pool).map(drop),
        #[cfg(feature = "diesel-async")]
        PoolKind::DieselPostgres => tokio_postgres::config(pool).map(drop),
        #[cfg(feature = "bb8")]
        PoolKind::Bb8Postgres => tokio_postgres::config(pool).map(drop),
        #[cfg(feature = "redis")]
        PoolKind::RedisCluster => redis::check_nodes(pool),
        #[cfg(feature = "redis")]
        PoolKind::Redis | PoolKind::RedisManaged | PoolKind::RedisExclusive => {
            redis::check_address(pool)
        }
        #[cfg(not(all(
            feature = "bb8",
            feature = "deadpool-postgres",
            feature = "diesel-async",
            feature = "mysql",
            feature = "postgres",
            feature = "redis"
        )))]
        _ => Ok(()),
    }
}

impl ResolvedPool {
    fn handover_policy(&self) -> HandoverPolicy {
        match self.settings.handover {
            None | Some(Handover::AsLeased) => HandoverPolicy::AsLeased,
            Some(Handover::AlwaysInPlace) => HandoverPolicy::AlwaysInPlace,
            Some(Handover::AlwaysReplace) => HandoverPolicy::AlwaysReplace,
        }
    }
}
