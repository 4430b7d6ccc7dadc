//! redis-rs's client of Redis Cluster.

use std::sync::Arc;
use std::time::Duration;

use claviger::error::ConnectError;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{IntoConnectionInfo, ProtocolVersion, RedisResult};

use crate::RedisPools;
use crate::address::{self, Logins, misconfigured};
use crate::connection::State;
use crate::credentials::Verified;
use crate::kind::{Kind, sealed};
use crate::reconnecting::Reconnecting;

/// Timeout of commands if none is set, because the client requires one.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3_600);

/// One client of a cluster, with a connection to each node, which it opens again when one ends.
#[derive(Clone, Copy, Debug)]
pub enum Cluster {}

impl Kind for Cluster {}

impl sealed::Connect for Cluster {
    type Connection = ClusterConnection;

    const NAME: &'static str = "Cluster";
    const RECONNECTS: bool = true;

    async fn connect(
        logins: Logins,
        verified: Verified,
        state: Arc<State>,
    ) -> RedisResult<ClusterConnection> {
        // After a rejection by each node, the client would return an error of its own.
        let credentials = verified.current().credentials;
        logins.verify_any(&credentials).await?;
        let provider = Reconnecting::new(verified, &state);
        state.set_client(provider.client());
        let builder = ClusterClientBuilder::new(logins.nodes.clone())
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(logins.connection_timeout)
            .response_timeout(logins.response_timeout.unwrap_or(FOREVER))
            .set_credentials_provider(provider);
        #[cfg(feature = "tls")]
        let builder = match logins.certificates {
            Some(certificates) => builder.certs(certificates),
            None => builder,
        };
        builder.build()?.get_async_connection().await
    }
}

impl RedisPools<Cluster> {
    /// Creates a factory of clients of a cluster, which find its other nodes from these.
    ///
    /// An endpoint of the credentials replaces all of them.
    ///
    /// # Errors
    /// As [`RedisPools::new`]; also without an address, or with a database other than 0.
    pub fn cluster<A: IntoConnectionInfo>(
        addresses: impl IntoIterator<Item = A>,
    ) -> Result<Self, ConnectError> {
        let nodes: Result<Vec<_>, _> = addresses.into_iter().map(address::parse).collect();
        let nodes = nodes?;
        if nodes.is_empty() {
            return Err(misconfigured(
                "addresses",
                "are none; give at least one node",
            ));
        }
        if nodes.iter().any(|node| node.redis_settings().db() != 0) {
            return Err(misconfigured(
                "addresses",
                "name a database, and a cluster has database 0 alone; leave it out",
            ));
        }
        Ok(Self::with_logins(Logins::new(nodes)))
    }
}
