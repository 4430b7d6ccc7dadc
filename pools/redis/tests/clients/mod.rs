//! Pools of clients that reconnect by themselves, on servers of their own.

#![allow(
    clippy::allow_attributes,
    dead_code,
    reason = "each test file uses a part"
)]

use std::time::Duration;

use claviger::lease::OldConnections;
use claviger_redis::{Cluster, Managed, RedisPools};
use claviger_servers::Redis;

use crate::common::{Setup, address, with_long_timeouts};

/// Starts a server, and a pool of one `ConnectionManager`.
pub(crate) async fn managed(old_connections: OldConnections) -> Setup<RedisPools<Managed>> {
    let pools = |server: &Redis| {
        with_long_timeouts(RedisPools::managed(address(server)).expect("an address"))
    };
    Setup::new(old_connections, pools).await
}

/// Starts a cluster of one node, and a pool of its client.
pub(crate) async fn cluster(
    old_connections: OldConnections,
    adjust: impl FnOnce(RedisPools<Cluster>) -> RedisPools<Cluster>,
) -> Setup<RedisPools<Cluster>> {
    let server = Redis::builder().cluster().start().expect("a cluster");
    let pools = |server: &Redis| {
        let pools = RedisPools::cluster([address(server)]).expect("an address");
        adjust(with_long_timeouts(pools))
    };
    Setup::on(server, old_connections, pools).await
}

/// Sets the timeout of commands, for which those of a rejected client wait.
pub(crate) fn with_short_responses(pools: RedisPools<Cluster>) -> RedisPools<Cluster> {
    pools.with_response_timeout(Some(Duration::from_secs(2)))
}
