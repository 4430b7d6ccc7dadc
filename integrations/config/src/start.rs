//! Starts the supervisor, providers and pools of a configuration.

use std::collections::BTreeMap;

use claviger::pool::PoolFactory;
use claviger::supervisor::ProviderRef;
use claviger::{Credentials, Supervisor, SupervisorBuilder};
use futures_util::future::try_join_all;

use crate::error::{ConfigError, Problem};
use crate::providers::Providers;
use crate::resolved_pool::ResolvedPool;
use crate::running_pools::{Pool, RunningPools};
use crate::schema::{File, PoolKind, SupervisorSettings};

/// Returns a builder with the settings of `[supervisor]`.
pub(crate) fn builder(settings: &SupervisorSettings) -> SupervisorBuilder {
    let mut builder = Supervisor::builder();
    if settings.fail_fast {
        builder = builder.with_fail_fast();
    }
    if let Some(deadline) = settings.start_deadline {
        builder = builder.with_start_deadline(deadline.0);
    }
    if let Some(deadline) = settings.fetch_deadline {
        builder = builder.with_fetch_deadline(deadline.0);
    }
    if let Some(deadline) = settings.verify_deadline {
        builder = builder.with_verify_deadline(deadline.0);
    }
    if let Some(deadline) = settings.drain_deadline {
        builder = builder.with_drain_deadline(deadline.0);
    }
    if let Some(interval) = settings.poll_interval {
        builder = builder.with_poll_interval(interval.0);
    }
    if let Some(margin) = settings.ready_margin {
        builder = builder.with_ready_margin(margin.0);
    }
    builder
}

/// Registers all providers concurrently, then all pools concurrently. `registered` has the
/// providers that the service added.
///
/// # Errors
/// The first error of a provider or pool. Earlier ones stay registered.
pub(crate) async fn register(
    origin: &str,
    supervisor: &Supervisor,
    file: &File,
    resolved: &[ResolvedPool],
    mut registered: BTreeMap<String, ProviderRef<Credentials>>,
) -> Result<RunningPools, ConfigError> {
    let providers = Providers::new(origin, supervisor, file).await?;
    let of_file = file.providers.iter().map(|(name, settings)| {
        let providers = &providers;
        async move { Ok((name.clone(), providers.add(name, settings).await?)) }
    });
    let of_file = try_join_all(of_file).await?;
    let of_pools = resolved
        .iter()
        .filter(|pool| pool.settings.provider.is_none());
    let of_pools = of_pools.map(|pool| {
        let providers = &providers;
        async move { Ok((pool.provider_name(), providers.add_of_pool(pool).await?)) }
    });
    let of_pools = try_join_all(of_pools).await?;
    registered.extend(of_file);
    registered.extend(of_pools);
    let handles = resolved.iter().map(|pool| {
        let registration = Registration {
            origin,
            supervisor,
            in_background: file.supervisor.start_in_background,
            pool,
            provider: registered.get(&pool.provider_name()),
        };
        async move { Ok::<_, ConfigError>((pool.name.clone(), registration.add().await?)) }
    });
    let pools = try_join_all(handles).await?.into_iter().collect();
    Ok(RunningPools {
        origin: origin.to_owned(),
        supervisor: supervisor.clone(),
        providers: registered,
        pools,
    })
}

/// A pool that is about to be registered.
struct Registration<'r> {
    origin: &'r str,
    supervisor: &'r Supervisor,
    in_background: bool,
    pool: &'r ResolvedPool,
    provider: Option<&'r ProviderRef<Credentials>>,
}

impl Registration<'_> {
    async fn add(&self) -> Result<Pool, ConfigError> {
        let pool = self.pool;
        match pool.kind {
            #[cfg(feature = "postgres")]
            PoolKind::Postgres => self.add_factory(crate::kinds::sqlx::postgres(pool)).await,
            #[cfg(feature = "mysql")]
            PoolKind::Mysql => self.add_factory(crate::kinds::sqlx::mysql(pool)).await,
            #[cfg(feature = "deadpool-postgres")]
            PoolKind::DeadpoolPostgres => {
                self.add_factory(crate::kinds::tokio_postgres::deadpool(pool))
                    .await
            }
            #[cfg(feature = "diesel-async")]
            PoolKind::DieselPostgres => {
                self.add_factory(crate::kinds::tokio_postgres::diesel(pool))
                    .await
            }
            #[cfg(feature = "bb8")]
            PoolKind::Bb8Postgres => {
                self.add_factory(crate::kinds::tokio_postgres::bb8(pool))
                    .await
            }
            #[cfg(feature = "redis")]
            PoolKind::Redis => {
                self.add_factory(crate::kinds::redis::multiplexed(pool))
                    .await
            }
            #[cfg(feature = "redis")]
            PoolKind::RedisManaged => self.add_factory(crate::kinds::redis::managed(pool)).await,
            #[cfg(feature = "redis")]
            PoolKind::RedisCluster => self.add_factory(crate::kinds::redis::cluster(pool)).await,
            #[cfg(feature = "redis")]
            PoolKind::RedisExclusive => {
                self.add_factory(crate::kinds::redis::exclusive(pool)).await
            }
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

    #[cfg_attr(
        not(any(
            feature = "bb8",
            feature = "deadpool-postgres",
            feature = "diesel-async",
            feature = "mysql",
            feature = "postgres",
            feature = "redis"
        )),
        expect(dead_code, reason = "no kind of pool is enabled")
    )]
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
