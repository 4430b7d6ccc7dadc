//! Clients of Redis and Valkey.

use std::path::Path;

use claviger::error::ConnectError;
use claviger::pool::CheckPolicy;
use claviger_redis::{Cluster, ExclusivePools, Kind, Managed, RedisPools};

use crate::error::Problem;
use crate::schema::SslMode;
use crate::target::Target;

pub(crate) fn multiplexed(target: &Target) -> Result<RedisPools, Problem> {
    with_settings(target, RedisPools::new(address(target)))
}

pub(crate) fn managed(target: &Target) -> Result<RedisPools<Managed>, Problem> {
    with_settings(target, RedisPools::managed(address(target)))
}

pub(crate) fn cluster(target: &Target) -> Result<RedisPools<Cluster>, Problem> {
    with_settings(target, RedisPools::cluster([address(target)]))
}

pub(crate) fn exclusive(target: &Target) -> Result<ExclusivePools, Problem> {
    let pools = ExclusivePools::new(multiplexed(target)?, target.max_connections())
        .map_err(|error| problem(target, "max_connections", &error))?;
    Ok(pools.with_warm_connections(target.min_connections()))
}

/// Returns the address without user and password, which come from the lease.
fn address(target: &Target) -> String {
    let has_tls = match target.ssl_mode() {
        None => target.has_tls_scheme(),
        Some(mode) => mode != SslMode::Disable,
    };
    let scheme = if has_tls { "rediss" } else { "redis" };
    let host = target.host().unwrap_or_else(|| "localhost".to_owned());
    let host = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host
    };
    let database = target.database().unwrap_or_default();
    format!("{scheme}://{host}:{}/{database}", target.port())
}

fn with_settings<K: Kind>(
    target: &Target,
    pools: Result<RedisPools<K>, ConnectError>,
) -> Result<RedisPools<K>, Problem> {
    let settings = &target.settings;
    let mut pools = pools
        .map_err(|error| problem(target, "host", &error))?
        .with_acquire_timeout(target.acquire_timeout())
        .with_handover_policy(target.handover_policy());
    if let Some(idle) = settings.check_after_idle {
        pools = pools.with_checks(CheckPolicy::AfterIdle(idle.0));
    }
    if let Some(file) = &settings.ca_file {
        pools = pools
            .with_ca_pem(pem(target, "ca_file", file)?)
            .map_err(|error| problem(target, "ca_file", &error))?;
    }
    if let (Some(certificate), Some(key)) =
        (&settings.client_certificate_file, &settings.client_key_file)
    {
        let certificate = pem(target, "client_certificate_file", certificate)?;
        let key = pem(target, "client_key_file", key)?;
        pools = pools
            .with_client_certificate(certificate, key)
            .map_err(|error| problem(target, "client_certificate_file", &error))?;
    }
    Ok(pools)
}

fn pem(target: &Target, key: &str, file: &Path) -> Result<Vec<u8>, Problem> {
    std::fs::read(file).map_err(|error| {
        let message = format!("{} cannot be read: {error}", file.display());
        Problem::new(target.key(key), message)
    })
}

fn problem(target: &Target, key: &str, error: &ConnectError) -> Problem {
    Problem::new(target.key(key), error.to_string())
}
