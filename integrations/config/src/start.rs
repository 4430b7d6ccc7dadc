//! Starts the supervisor, providers and pools of a configuration.

use std::collections::BTreeMap;

use claviger::supervisor::ProviderRef;
use claviger::{Credentials, Supervisor, SupervisorBuilder};
use futures_util::future::try_join_all;

use crate::any_provider::AnyProvider;
use crate::error::ConfigError;
use crate::kinds::Registration;
use crate::providers::Providers;
use crate::resolved_pool::ResolvedPool;
use crate::running_pools::RunningPools;
use crate::schema::{File, ProviderSettings, SupervisorSettings};

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
    if let Some(time) = settings.previous_lease_kept_for {
        builder = builder.with_previous_lease_kept_for(time.0);
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
    let providers = Providers::new(origin, file).await;
    let add = |key: String, name: String, provider: Result<AnyProvider, ConfigError>| async move {
        let added = if file.supervisor.start_in_background {
            supervisor.add_provider_in_background(&name, provider?)
        } else {
            supervisor.add_provider(&name, provider?).await
        };
        let added = added.map_err(|error| ConfigError::start_failed(origin, key, error))?;
        Ok((name, added))
    };
    let of_file = file.providers.iter();
    let of_file = of_file.filter(|(_, settings)| !matches!(settings, ProviderSettings::Service(_)));
    let of_file = of_file.map(|(name, settings)| {
        let provider = providers.of_file(name, settings);
        add(format!("providers.{name}"), name.clone(), provider)
    });
    let of_file = try_join_all(of_file).await?;
    let of_pools = resolved
        .iter()
        .filter(|pool| pool.settings.provider.is_none());
    let of_pools = of_pools.map(|pool| {
        let key = if pool.settings.aws_iam_auth {
            "aws_iam_auth"
        } else {
            "password"
        };
        let provider = providers.of_pool(pool);
        add(pool.key(key), pool.provider_name(), provider)
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
