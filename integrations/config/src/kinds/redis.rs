//! Clients of Redis and Valkey.

use std::path::Path;

use claviger::error::ConnectError;
use claviger::pool::CheckPolicy;
use claviger_redis::{Cluster, ExclusivePools, Kind, Managed, RedisPools};

use crate::error::Problem;
use crate::resolved_pool::ResolvedPool;
use crate::schema::SslMode;

pub(crate) fn multiplexed(pool: &ResolvedPool) -> Result<RedisPools, Problem> {
    with_settings(pool, RedisPools::new(address(pool)))
}

pub(crate) fn managed(pool: &ResolvedPool) -> Result<RedisPools<Managed>, Problem> {
    with_settings(pool, RedisPools::managed(address(pool)))
}

pub(crate) fn cluster(pool: &ResolvedPool) -> Result<RedisPools<Cluster>, Problem> {
    with_settings(pool, RedisPools::cluster(addresses(pool)))
}

/// Returns the addresses of a cluster's nodes.
fn addresses(pool: &ResolvedPool) -> Vec<String> {
    let first = pool.host().map(|host| (host, pool.port()));
    let nodes = first.into_iter().chain(pool.nodes().into_iter().flatten());
    let addresses = nodes.map(|(host, port)| address_of(pool, &host, port));
    addresses.collect()
}

/// Checks the addresses of a cluster.
pub(crate) fn check_nodes(pool: &ResolvedPool) -> Result<(), Problem> {
    let pools = RedisPools::cluster(addresses(pool)).map(drop);
    pools.map_err(|error| problem(pool, "nodes", &error))
}

/// Checks the address of a pool that is not a cluster.
pub(crate) fn check_address(pool: &ResolvedPool) -> Result<(), Problem> {
    let pools = RedisPools::new(address(pool)).map(drop);
    pools.map_err(|error| problem(pool, "host", &error))
}

pub(crate) fn exclusive(pool: &ResolvedPool) -> Result<ExclusivePools, Problem> {
    let pools = ExclusivePools::new(multiplexed(pool)?, pool.max_connections())
        .map_err(|error| problem(pool, "max_connections", &error))?;
    Ok(pools.with_warm_connections(pool.min_connections()))
}

/// Returns the address without user and password, which come from the lease.
fn address(pool: &ResolvedPool) -> String {
    let host = pool.host().unwrap_or_else(|| "localhost".to_owned());
    address_of(pool, &host, pool.port())
}

fn address_of(pool: &ResolvedPool, host: &str, port: u16) -> String {
    let has_tls = match pool.ssl_mode() {
        None => pool.has_tls_scheme(),
        Some(mode) => mode != SslMode::Disable,
    };
    let scheme = if has_tls { "rediss" } else { "redis" };
    let host = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let database = pool.database().unwrap_or_default();
    format!("{scheme}://{host}:{port}/{database}")
}

fn with_settings<K: Kind>(
    pool: &ResolvedPool,
    pools: Result<RedisPools<K>, ConnectError>,
) -> Result<RedisPools<K>, Problem> {
    let settings = &pool.settings;
    let mut pools = pools
        .map_err(|error| problem(pool, "host", &error))?
        .with_acquire_timeout(pool.acquire_timeout())
        .with_handover_policy(pool.handover_policy());
    if let Some(idle) = settings.check_after_idle {
        pools = pools.with_checks(CheckPolicy::AfterIdle(idle.0));
    }
    if let Some(file) = &pool.ca_file() {
        pools = pools
            .with_ca_pem(pem(pool, "ca_file", file)?)
            .map_err(|error| problem(pool, "ca_file", &error))?;
    }
    if let (Some(certificate), Some(key)) =
        (&pool.client_certificate_file(), &pool.client_key_file())
    {
        let certificate = pem(pool, "client_certificate_file", certificate)?;
        let key = pem(pool, "client_key_file", key)?;
        pools = pools
            .with_client_certificate(certificate, key)
            .map_err(|error| problem(pool, "client_certificate_file", &error))?;
    }
    Ok(pools)
}

fn pem(pool: &ResolvedPool, key: &str, file: &Path) -> Result<Vec<u8>, Problem> {
    std::fs::read(file).map_err(|error| {
        let message = format!("{} cannot be read: {error}", file.display());
        Problem::new(pool.key(key), message)
    })
}

fn problem(pool: &ResolvedPool, key: &str, error: &ConnectError) -> Problem {
    Problem::new(pool.key(key), error.to_string())
}
