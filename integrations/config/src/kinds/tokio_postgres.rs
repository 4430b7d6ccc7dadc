//! Pools of tokio-postgres.

use claviger::pool::CheckPolicy;
#[cfg(feature = "bb8")]
use claviger_bb8::Bb8Pools;
#[cfg(feature = "deadpool-postgres")]
use claviger_deadpool_postgres::DeadpoolPools;
#[cfg(feature = "diesel-async")]
use claviger_diesel_async::DieselPools;
use claviger_tokio_postgres::PgConnect;
use claviger_tokio_postgres::tokio_postgres::Config;
use claviger_tokio_postgres::tokio_postgres::config::SslMode as DriverSslMode;

use crate::error::Problem;
use crate::resolved_pool::ResolvedPool;
use crate::schema::SslMode;

/// Applies the settings that all these kinds of pools have.
macro_rules! with_common_settings {
    ($pools:expr, $pool:expr) => {{
        let mut pools = $pools
            .with_handover_policy($pool.handover_policy())
            .with_min_connections($pool.min_connections())
            .with_max_lifetime($pool.max_lifetime())
            .with_idle_timeout($pool.idle_timeout());
        if let Some(idle) = $pool.settings.check_after_idle {
            pools = pools.with_checks(CheckPolicy::AfterIdle(idle.0));
        }
        if let Some(overlap) = $pool.settings.overlap {
            pools = pools.with_overlap(overlap);
        }
        pools
    }};
}

#[cfg(feature = "deadpool-postgres")]
pub(crate) fn deadpool(pool: &ResolvedPool) -> Result<DeadpoolPools, Problem> {
    use claviger_deadpool_postgres::deadpool_postgres::PoolConfig;

    let mut config = PoolConfig::new(size(pool));
    config.timeouts.wait = Some(pool.acquire_timeout());
    let pools = DeadpoolPools::new(connect(pool)?, config);
    Ok(with_common_settings!(pools, pool))
}

#[cfg(feature = "diesel-async")]
pub(crate) fn diesel(pool: &ResolvedPool) -> Result<DieselPools, Problem> {
    use claviger_diesel_async::deadpool::managed::PoolConfig;

    let mut config = PoolConfig::new(size(pool));
    config.timeouts.wait = Some(pool.acquire_timeout());
    let pools = DieselPools::new(connect(pool)?, config);
    Ok(with_common_settings!(pools, pool))
}

#[cfg(feature = "bb8")]
pub(crate) fn bb8(pool: &ResolvedPool) -> Result<Bb8Pools<PgConnect>, Problem> {
    let pools = Bb8Pools::new(connect(pool)?, pool.max_connections())
        .with_acquire_timeout(pool.acquire_timeout());
    Ok(with_common_settings!(pools, pool))
}

#[cfg(any(feature = "deadpool-postgres", feature = "diesel-async"))]
fn size(pool: &ResolvedPool) -> usize {
    usize::try_from(pool.max_connections()).unwrap_or(usize::MAX)
}

/// Returns the connector of these kinds of pools.
pub(crate) fn connect(pool: &ResolvedPool) -> Result<PgConnect, Problem> {
    let connect = PgConnect::new(config(pool)?);
    match pool.ca_file() {
        None => Ok(connect),
        Some(file) => connect
            .with_root_certificates(file)
            .map_err(|error| Problem::new(pool.key("ca_file"), error.to_string())),
    }
}

/// Returns the options of a login, without user and password.
pub(crate) fn config(pool: &ResolvedPool) -> Result<Config, Problem> {
    let settings = &pool.settings;
    let mut config: Config = parameters(pool).parse().map_err(|_| {
        let message = "has an unknown or invalid parameter; give those of tokio-postgres";
        Problem::new(pool.key("url"), message)
    })?;
    if let Some(host) = pool.host() {
        config.host(host);
    }
    config.port(pool.port());
    if let Some(database) = pool.database() {
        config.dbname(database);
    }
    if let Some(name) = &settings.application_name {
        config.application_name(name);
    }
    config.ssl_mode(match pool.ssl_mode() {
        Some(SslMode::Disable) => DriverSslMode::Disable,
        Some(SslMode::VerifyFull) => DriverSslMode::Require,
        _ => DriverSslMode::Prefer,
    });
    Ok(config)
}

/// Returns the parameters of the URL in the form `key='value'`.
fn parameters(pool: &ResolvedPool) -> String {
    let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
    let parameters = pool.url_parameters().iter();
    let parameters = parameters.map(|(key, value)| format!("{key}='{}'", quoted(value)));
    parameters.collect::<Vec<_>>().join(" ")
}
