//! A server, a supervisor, a scripted provider and one pool.

use std::time::Duration;

use claviger::lease::OldConnections;
use claviger::pool::PoolFactory;
use claviger::supervisor::ProviderRef;
use claviger::{Credentials, Handle, Supervisor};
use claviger_servers::Postgres;
use claviger_testkit::ScriptedProvider;
use claviger_tokio_postgres::PgConnect;
use claviger_tokio_postgres::tokio_postgres::Config;
use claviger_tokio_postgres::tokio_postgres::config::SslMode;
use tokio::task::block_in_place;
use tokio::time::{sleep, timeout};

use crate::{PgKind, Size};

/// Maximum wait of a test for a condition without a deadline of its own.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) type PoolOf<K> = Handle<<K as PgKind>::Factory>;
pub(crate) type ConnectionOf<K> = <<K as PgKind>::Factory as PoolFactory>::Connection;

/// A pool `orders` of the provider `login` on a server of its own.
pub(crate) struct Fixture<K: PgKind> {
    pub(crate) server: Postgres,
    pub(crate) supervisor: Supervisor,
    pub(crate) provider: ScriptedProvider,
    pub(crate) pool: PoolOf<K>,
    _credentials: ProviderRef<Credentials>,
}

impl<K: PgKind> Fixture<K> {
    pub(crate) async fn new(old_connections: OldConnections, size: Size) -> Self {
        let provider = ScriptedProvider::new().with_old_connections(old_connections);
        Self::with(provider, size).await
    }

    pub(crate) async fn with(provider: ScriptedProvider, size: Size) -> Self {
        let server = block_in_place(|| {
            let server = Postgres::start().expect("a server");
            server.create_role("app", "password-1").expect("a role");
            server.create_database("orders", "app").expect("a database");
            server
        });
        let mut config = Config::new();
        config
            .host(server.host())
            .port(server.port())
            .dbname("orders")
            .ssl_mode(SslMode::Disable);
        let supervisor = Supervisor::start();
        let credentials = supervisor.add_provider("login", provider.clone());
        let credentials = credentials.await.expect("a lease");
        let factory = K::factory(PgConnect::new(config), size);
        let pool = supervisor.add_pool("orders", &credentials, factory);
        let pool = pool.await.expect("verified");
        Self {
            server,
            supervisor,
            provider,
            pool,
            _credentials: credentials,
        }
    }

    /// Changes the password on the server and at the backend, and rotates. Returns when the next
    /// generation is published.
    pub(crate) async fn rotate(&self) {
        let before = self.pool.generation();
        let next = self.provider.rotate();
        self.set_password(&next);
        self.provider.hint();
        eventually("the next generation is published", || {
            self.pool.generation() > before
        })
        .await;
    }

    pub(crate) fn set_password(&self, password: &str) {
        block_in_place(|| self.server.set_password("app", password).expect("changed"));
    }

    pub(crate) fn terminate_connections(&self) {
        let terminated = || {
            self.server
                .terminate_connections("app")
                .expect("terminated")
        };
        block_in_place(terminated);
    }

    pub(crate) fn open_connections(&self, user: &str) -> usize {
        block_in_place(|| self.server.connection_count(user).expect("a count"))
    }

    pub(crate) fn failed_logins(&self) -> usize {
        let log = self.server.log();
        block_in_place(|| log.rejected_logins_of("app").expect("a log"))
    }

    /// Opens `count` connections and keeps them.
    pub(crate) async fn hold(&self, count: u32) -> Vec<ConnectionOf<K>> {
        let mut taken = Vec::new();
        for _ in 0..count {
            let getting = timeout(PATIENCE, self.pool.get());
            let connection = getting.await.expect("the pool has its full size");
            taken.push(connection.expect("a connection"));
        }
        taken
    }

    pub(crate) async fn until_drained(&self) {
        eventually("old generations have drained", || {
            let status = self.pool.status();
            status.is_some_and(|status| status.draining.is_empty())
        })
        .await;
    }
}

/// Executes a query on a connection of its own.
pub(crate) async fn query<K: PgKind>(pool: &PoolOf<K>) -> Result<(), String> {
    let mut connection = pool.get().await.map_err(|error| error.to_string())?;
    K::value(&mut connection, ONE).await.map(drop)
}

pub(crate) const ONE: &str = "select 1::bigint as value";

/// Waits up to 30 s until the condition holds.
pub(crate) async fn eventually(expected: &str, condition: impl FnMut() -> bool) {
    eventually_within(PATIENCE, expected, condition).await;
}

pub(crate) async fn eventually_within(
    limit: Duration,
    expected: &str,
    mut condition: impl FnMut() -> bool,
) {
    let holds = async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(
        timeout(limit, holds).await.is_ok(),
        "not within {limit:?}: {expected}"
    );
}
