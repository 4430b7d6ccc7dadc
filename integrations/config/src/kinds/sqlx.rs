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
use crate::schema::SslMode;
use crate::target::Target;

#[cfg(feature = "postgres")]
pub(crate) fn postgres(target: &Target) -> Result<PgPools, Problem> {
    let mut options: PgConnectOptions = with_parameters(target, "postgres")?;
    let settings = &target.settings;
    if let Some(host) = target.host() {
        options = options.host(&host);
    }
    options = options.port(target.port());
    if let Some(database) = target.database() {
        options = options.database(&database);
    }
    if let Some(name) = &settings.application_name {
        options = options.application_name(name);
    }
    if let Some(mode) = target.ssl_mode() {
        options = options.ssl_mode(match mode {
            SslMode::Disable => PgSslMode::Disable,
            SslMode::Prefer => PgSslMode::Prefer,
            SslMode::Require => PgSslMode::Require,
            SslMode::VerifyCa => PgSslMode::VerifyCa,
            SslMode::VerifyFull => PgSslMode::VerifyFull,
        });
    }
    if let Some(file) = &settings.ca_file {
        options = options.ssl_root_cert(file);
    }
    if let (Some(certificate), Some(key)) =
        (&settings.client_certificate_file, &settings.client_key_file)
    {
        options = options.ssl_client_cert(certificate).ssl_client_key(key);
    }
    let mut pools =
        PgPools::new(options, pool_options(target)).with_handover_policy(target.handover_policy());
    if let Some(idle) = settings.check_after_idle {
        pools = pools.with_check_after_idle(idle.0);
    }
    if let Some(overlap) = settings.overlap {
        pools = pools.with_overlap(overlap);
    }
    Ok(pools)
}

#[cfg(feature = "mysql")]
pub(crate) fn mysql(target: &Target) -> Result<MySqlPools, Problem> {
    let mut options: MySqlConnectOptions = with_parameters(target, "mysql")?;
    let settings = &target.settings;
    if let Some(host) = target.host() {
        options = options.host(&host);
    }
    options = options.port(target.port());
    if let Some(database) = target.database() {
        options = options.database(&database);
    }
    if let Some(mode) = target.ssl_mode() {
        options = options.ssl_mode(match mode {
            SslMode::Disable => MySqlSslMode::Disabled,
            SslMode::Prefer => MySqlSslMode::Preferred,
            SslMode::Require => MySqlSslMode::Required,
            SslMode::VerifyCa => MySqlSslMode::VerifyCa,
            SslMode::VerifyFull => MySqlSslMode::VerifyIdentity,
        });
    }
    if let Some(file) = &settings.ca_file {
        options = options.ssl_ca(file);
    }
    if let (Some(certificate), Some(key)) =
        (&settings.client_certificate_file, &settings.client_key_file)
    {
        options = options.ssl_client_cert(certificate).ssl_client_key(key);
    }
    let mut pools = MySqlPools::new(options, pool_options(target))
        .with_handover_policy(target.handover_policy());
    if let Some(idle) = settings.check_after_idle {
        pools = pools.with_check_after_idle(idle.0);
    }
    if let Some(overlap) = settings.overlap {
        pools = pools.with_overlap(overlap);
    }
    Ok(pools)
}

/// Returns options with the parameters of the URL alone: sqlx would combine its host with `host`.
fn with_parameters<O: FromStr>(target: &Target, scheme: &str) -> Result<O, Problem> {
    let mut url = format!("{scheme}://localhost/");
    for (nth, (key, value)) in target.url_parameters().iter().enumerate() {
        let separator = if nth == 0 { '?' } else { '&' };
        let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
        url += &format!("{separator}{key}={value}");
    }
    // The message of sqlx may contain a part of the URL.
    O::from_str(&url).map_err(|_| {
        let message = "has a parameter with an invalid value; give one that sqlx accepts";
        Problem::new(target.key("url"), message)
    })
}

fn pool_options<DB: sqlx::Database>(target: &Target) -> PoolOptions<DB> {
    PoolOptions::new()
        .max_connections(target.max_connections())
        .min_connections(target.min_connections())
        .max_lifetime(target.max_lifetime())
        .idle_timeout(target.idle_timeout())
        .acquire_timeout(target.acquire_timeout())
}
