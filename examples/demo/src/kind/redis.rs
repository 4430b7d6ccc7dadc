//! Redis: one connection for all callers.

use claviger::pool::HandoverPolicy;
use claviger::{Credentials, Handle};
use claviger_redis::RedisPools;
use claviger_redis::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use claviger_redis::redis::{AsyncCommands, Client, RedisError};
use claviger_servers::Redis;

use super::{CallFailure, Kind};
use crate::{ACQUIRE_TIMEOUT, Problem};

/// Number of times that the plain manager repeats a failed login. With redis-rs's default of six,
/// calls wait for seconds before they fail.
const PLAIN_RETRIES: usize = 1;

pub(crate) struct RedisKind;

impl Kind for RedisKind {
    type Server = Redis;
    type Pools = RedisPools;
    /// Client that reconnects by itself, as the supervised pool does.
    type Plain = ConnectionManager;

    const NAME: &'static str = "redis";
    const CALLS: &'static str = "commands";
    const SHARED: bool = true;

    fn pools(server: &Redis) -> Result<RedisPools, Problem> {
        let pools = RedisPools::new(format!("redis://{}:{}", server.host(), server.port()))?;
        Ok(pools
            .with_acquire_timeout(ACQUIRE_TIMEOUT)
            .with_handover_policy(HandoverPolicy::AlwaysInPlace))
    }

    fn plain_pool(server: &Redis, credentials: &Credentials) -> Result<Self::Plain, Problem> {
        let url = format!(
            "redis://{}:{}@{}:{}",
            credentials.user(),
            credentials.expose_password(),
            server.host(),
            server.port()
        );
        Ok(ConnectionManager::new_lazy_with_config(
            Client::open(url)?,
            ConnectionManagerConfig::new().set_number_of_retries(PLAIN_RETRIES),
        )?)
    }

    async fn call(cache: &Handle<RedisPools>) -> Result<(), CallFailure> {
        let mut connection = cache
            .get()
            .await
            .map_err(|error| failure(&RedisError::from(error)))?;
        let orders: Result<u64, _> = connection.get("orders").await;
        orders.map(drop).map_err(|error| failure(&error))
    }

    async fn call_plain(manager: &ConnectionManager) -> Result<(), CallFailure> {
        let orders: Result<u64, _> = manager.clone().get("orders").await;
        orders.map(drop).map_err(|error| failure(&error))
    }
}

fn failure(error: &RedisError) -> CallFailure {
    CallFailure {
        lost_connection: error.is_io_error() || error.is_connection_dropped(),
        message: error.to_string(),
    }
}
