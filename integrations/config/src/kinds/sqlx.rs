//! Pools of sqlx.

use std::str::FromStr;

#[cfg(feature = "mysql")]
use claviger::MySqlPools;
#[cfg(feature = "postgres")]
use claviger::PgPools;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
#[cfg(feature = "mysql")]
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::pool::PoolOptions;
#[cfg(feature = "postgres")]
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::error::Problem;
use crate::resolved_pool::ResolvedPool;
use crate::schema::SslMode;

/// Applies the settings that are not part of sqlx's options.
macro_rules! with_common_settings {
    ($pools:expr, $pool:expr) => {{
        let mut pools = $pools.with_handover_policy($pool.handover_policy());
        if let Some(idle) = $pool.settings.check_after_idle {
            pools = pools.with_check_after_idle(idle.0);
        }
        if let Some(overlap) = $pool.settings.overlap {
            pools = pools.with_overlap(overlap);
        }
        pools
    }};
}

#[cfg(feature = "postgres")]
pub(crate) fn postgres(pool: &ResolvedPool) -> Result<PgPools, Problem> {
    let pools = PgPools::new(postgres_options(pool)?, pool_options(pool));
    Ok(with_common_settings!(pools, pool))
}

/// Returns the options of a login, without user and password.
#[cfg(feature = "postgres")]
pub(crate) fn postgres_options(pool: &ResolvedPool) -> Result<PgConnectOptions, Problem> {
    let mut options: PgConnectOptions = with_parameters(pool, "postgres")?;
    let settings = &pool.settings;
    if let Some(host) = pool.host() {
        options = options.host(&host);
    }
    options = options.port(pool.port());
    if let Some(database) = pool.database() {
        options = options.database(&database);
    }
    if let Some(name) = &settings.application_name {
        options = options.application_name(name);
    }
    if let Some(mode) = pool.ssl_mode() {
        options = options.ssl_mode(match mode {
            SslMode::Disable => PgSslMode::Disable,
            SslMode::Prefer => PgSslMode::Prefer,
            SslMode::Require => PgSslMode::Require,
            SslMode::VerifyCa => PgSslMode::VerifyCa,
            SslMode::VerifyFull => PgSslMode::VerifyFull,
        });
    }
    if let Some(file) = pool.ca_file() {
        options = options.ssl_root_cert(file);
    }
    if let (Some(certificate), Some(key)) = (pool.client_certificate_file(), pool.client_key_file())
    {
        options = options.ssl_client_cert(certificate).ssl_client_key(key);
    }
    Ok(options)
}

#[cfg(feature = "mysql")]
pub(crate) fn mysql(pool: &ResolvedPool) -> Result<MySqlPools, Problem> {
    let pools = MySqlPools::new(mysql_options(pool)?, pool_options(pool));
    Ok(with_common_settings!(pools, pool))
}

/// Returns the options of a login, without user and password.
#[cfg(feature = "mysql")]
pub(crate) fn mysql_options(pool: &ResolvedPool) -> Result<MySqlConnectOptions, Problem> {
    let mut options: MySqlConnectOptions = with_parameters(pool, "mysql")?;
    if let Some(host) = pool.host() {
        options = options.host(&host);
    }
    options = options.port(pool.port());
    if let Some(database) = pool.database() {
        options = options.database(&database);
    }
    if let Some(mode) = pool.ssl_mode() {
        options = options.ssl_mode(match mode {
            SslMode::Disable => MySqlSslMode::Disabled,
            SslMode::Prefer => MySqlSslMode::Preferred,
            SslMode::Require => MySqlSslMode::Required,
            SslMode::VerifyCa => MySqlSslMode::VerifyCa,
            SslMode::VerifyFull => MySqlSslMode::VerifyIdentity,
        });
    }
    if let Some(file) = pool.ca_file() {
        options = options.ssl_ca(file);
    }
    if let (Some(certificate), Some(key)) = (pool.client_certificate_file(), pool.client_key_file())
    {
        options = options.ssl_client_cert(certificate).ssl_client_key(key);
    }
    Ok(options)
}

/// Returns options with the parameters of the URL alone: sqlx would combine its host with `host`.
fn with_parameters<O: FromStr>(pool: &ResolvedPool, scheme: &str) -> Result<O, Problem> {
    let mut url = format!("{scheme}://localhost/");
    for (nth, (key, value)) in pool.url_parameters().iter().enumerate() {
        let separator = if nth == 0 { '?' } else { '&' };
        let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
        url += &format!("{separator}{key}={value}");
    }
    // The message of sqlx may contain a part of the URL.
    O::from_str(&url).map_err(|_| {
        let message = "has a parameter with an invalid value; give one that sqlx accepts";
        Problem::new(pool.key("url"), message)
    })
}

pub(crate) fn pool_options<DB: sqlx::Database>(pool: &ResolvedPool) -> PoolOptions<DB> {
    PoolOptions::new()
        .max_connections(pool.max_connections())
        .min_connections(pool.min_connections())
        .max_lifetime(pool.max_lifetime())
        .idle_timeout(pool.idle_timeout())
        .acquire_timeout(pool.acquire_timeout())
}
