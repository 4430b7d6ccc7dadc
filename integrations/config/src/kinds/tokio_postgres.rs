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
use crate::schema::SslMode;
use crate::target::Target;

/// Applies the settings that all these kinds of pools have.
macro_rules! with_common_settings {
    ($pools:expr, $target:expr) => {{
        let mut pools = $pools
            .with_handover_policy($target.handover_policy())
            .with_min_connections($target.min_connections())
            .with_max_lifetime($target.max_lifetime())
            .with_idle_timeout($target.idle_timeout());
        if let Some(idle) = $target.settings.check_after_idle {
            pools = pools.with_checks(CheckPolicy::AfterIdle(idle.0));
        }
        if let Some(overlap) = $target.settings.overlap {
            pools = pools.with_overlap(overlap);
        }
        pools
    }};
}

#[cfg(feature = "deadpool-postgres")]
pub(crate) fn deadpool(target: &Target) -> Result<DeadpoolPools, Problem> {
    use claviger_deadpool_postgres::deadpool_postgres::PoolConfig;

    let mut config = PoolConfig::new(size(target));
    config.timeouts.wait = Some(target.acquire_timeout());
    let pools = DeadpoolPools::new(connect(target)?, config);
    Ok(with_common_settings!(pools, target))
}

#[cfg(feature = "diesel-async")]
pub(crate) fn diesel(target: &Target) -> Result<DieselPools, Problem> {
    use claviger_diesel_async::deadpool::managed::PoolConfig;

    let mut config = PoolConfig::new(size(target));
    config.timeouts.wait = Some(target.acquire_timeout());
    let pools = DieselPools::new(connect(target)?, config);
    Ok(with_common_settings!(pools, target))
}

#[cfg(feature = "bb8")]
pub(crate) fn bb8(target: &Target) -> Result<Bb8Pools<PgConnect>, Problem> {
    let pools = Bb8Pools::new(connect(target)?, target.max_connections())
        .with_acquire_timeout(target.acquire_timeout());
    Ok(with_common_settings!(pools, target))
}

#[cfg(any(feature = "deadpool-postgres", feature = "diesel-async"))]
fn size(target: &Target) -> usize {
    usize::try_from(target.max_connections()).unwrap_or(usize::MAX)
}

fn connect(target: &Target) -> Result<PgConnect, Problem> {
    let settings = &target.settings;
    let mut config: Config = parameters(target).parse().map_err(|_| {
        let message = "has an unknown or invalid parameter; give those of tokio-postgres";
        Problem::new(target.key("url"), message)
    })?;
    if let Some(host) = target.host() {
        config.host(host);
    }
    config.port(target.port());
    if let Some(database) = target.database() {
        config.dbname(database);
    }
    if let Some(name) = &settings.application_name {
        config.application_name(name);
    }
    config.ssl_mode(match target.ssl_mode() {
        Some(SslMode::Disable) => DriverSslMode::Disable,
        Some(SslMode::VerifyFull) => DriverSslMode::Require,
        _ => DriverSslMode::Prefer,
    });
    let connect = PgConnect::new(config);
    match &settings.ca_file {
        None => Ok(connect),
        Some(file) => connect
            .with_root_certificates(file)
            .map_err(|error| Problem::new(target.key("ca_file"), error.to_string())),
    }
}

/// Returns the parameters of the URL in the form `key='value'`.
fn parameters(target: &Target) -> String {
    let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
    let parameters = target.url_parameters().into_iter();
    let parameters = parameters.map(|(key, value)| format!("{key}='{}'", quoted(&value)));
    parameters.collect::<Vec<_>>().join(" ")
}
