//! A real Redis, a scripted provider, and a supervised pool.

#![allow(
    clippy::allow_attributes,
    dead_code,
    reason = "each test file uses a part"
)]

use std::time::Duration;

use claviger::lease::OldConnections;
use claviger::pool::PoolFactory;
use claviger::supervisor::ProviderRef;
use claviger::{Credentials, Handle, Supervisor};
use claviger_redis::{Kind, RedisPools};
use claviger_servers::Redis;
use claviger_testkit::ScriptedProvider;

/// User of the pool.
pub(crate) const USER: &str = "app";

/// Returns the address of a server.
pub(crate) fn address(server: &Redis) -> String {
    let scheme = if server.ca_file().is_some() {
        "rediss"
    } else {
        "redis"
    };
    format!("{scheme}://{}:{}", server.host(), server.port())
}

/// Returns a factory of multiplexed connections to a server.
pub(crate) fn pools(server: &Redis) -> RedisPools {
    with_long_timeouts(RedisPools::new(address(server)).expect("an address"))
}

/// Sets timeouts for a machine under load.
pub(crate) fn with_long_timeouts<K: Kind>(pools: RedisPools<K>) -> RedisPools<K> {
    pools
        .with_connection_timeout(Duration::from_secs(4))
        .with_response_timeout(Some(Duration::from_secs(10)))
}

/// A server and a pool on it, whose first password is `password-1`.
pub(crate) struct Setup<F: PoolFactory> {
    pub(crate) server: Redis,
    pub(crate) provider: ScriptedProvider,
    pub(crate) supervisor: Supervisor,
    pub(crate) credentials: ProviderRef<Credentials>,
    pub(crate) cache: Handle<F>,
}

impl<F: PoolFactory<Secret = Credentials>> Setup<F> {
    /// Starts a server without TLS.
    pub(crate) async fn new(
        old_connections: OldConnections,
        factory: impl FnOnce(&Redis) -> F,
    ) -> Self {
        let server = Redis::start().expect("a server");
        Self::on(server, old_connections, factory).await
    }

    pub(crate) async fn on(
        server: Redis,
        old_connections: OldConnections,
        factory: impl FnOnce(&Redis) -> F,
    ) -> Self {
        let provider = ScriptedProvider::new().with_old_connections(old_connections);
        Self::with_provider(server, provider, factory).await
    }

    pub(crate) async fn with_provider(
        server: Redis,
        provider: ScriptedProvider,
        factory: impl FnOnce(&Redis) -> F,
    ) -> Self {
        server.set_user(USER, "password-1").expect("a user");
        let supervisor = Supervisor::start();
        let credentials = supervisor.add_provider("credentials", provider.clone());
        let credentials = credentials.await.expect("a lease");
        let cache = supervisor.add_pool("cache", &credentials, factory(&server));
        let cache = cache.await.expect("verified");
        Self {
            server,
            provider,
            supervisor,
            credentials,
            cache,
        }
    }

    /// Changes the user's password at the server alone.
    pub(crate) fn change_password(&self, password: &str) {
        self.server
            .set_password(USER, password)
            .expect("a new password");
    }

    /// Changes the password at the server and at the backend, and waits for the rotation.
    pub(crate) async fn rotate(&self) -> String {
        let password = self.provider.rotate();
        self.change_password(&password);
        self.rotate_now().await;
        password
    }

    /// Fetches, and waits until the pool has adopted the lease.
    pub(crate) async fn rotate_now(&self) {
        let report = self.supervisor.rotate_now("credentials").await;
        report.expect("a rotation");
    }

    /// Returns the ids of the user's connections.
    pub(crate) fn connection_ids(&self) -> Vec<u64> {
        let connections = self.server.connections_of(USER).expect("a list");
        connections.iter().map(|connection| connection.id).collect()
    }

    /// Waits until the user has these connections alone. Those of verifications take a moment to
    /// close.
    pub(crate) async fn until_connections(&self, ids: &[u64]) {
        let sorted = |mut ids: Vec<u64>| {
            ids.sort_unstable();
            ids
        };
        let ids = sorted(ids.to_vec());
        claviger_fixtures::eventually("the same connections are open", || {
            sorted(self.connection_ids()) == ids
        })
        .await;
    }

    pub(crate) fn rejected_logins(&self) -> u64 {
        self.server.rejected_logins_of(USER).expect("a log")
    }
}
