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

use crate::{PgKind, Settings};

/// Maximum wait of a test for a condition without a deadline of its own.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Handle of a kind of pool.
pub type PoolOf<K> = Handle<<K as PgKind>::Factory>;
/// Connection of a kind of pool.
pub type ConnectionOf<K> = <<K as PgKind>::Factory as PoolFactory>::Connection;

/// A pool `orders` of the provider `login` on a server of its own.
pub struct Fixture<K: PgKind> {
    pub server: Postgres,
    pub supervisor: Supervisor,
    pub provider: ScriptedProvider,
    pub credentials: ProviderRef<Credentials>,
    pub pool: PoolOf<K>,
}

impl<K: PgKind> Fixture<K> {
    pub async fn new(old_connections: OldConnections, settings: Settings) -> Self {
        let provider = ScriptedProvider::new().with_old_connections(old_connections);
        Self::with(provider, settings).await
    }

    pub async fn with(provider: ScriptedProvider, settings: Settings) -> Self {
        Self::with_connect(provider, settings, |connect| connect).await
    }

    /// Creates a pool whose logins have other settings.
    pub async fn with_connect(
        provider: ScriptedProvider,
        settings: Settings,
        set: impl FnOnce(PgConnect) -> PgConnect,
    ) -> Self {
        let server = server("password-1");
        let supervisor = Supervisor::start();
        let credentials = supervisor.add_provider("login", provider.clone());
        let credentials = credentials.await.expect("a lease");
        let factory = K::factory(set(connect(&server)), settings);
        let pool = supervisor.add_pool("orders", &credentials, factory);
        let pool = pool.await.expect("verified");
        Self {
            server,
            supervisor,
            provider,
            credentials,
            pool,
        }
    }

    pub fn connect(&self) -> PgConnect {
        connect(&self.server)
    }

    /// Adds another pool of the same provider and server.
    pub async fn add_pool(&self, name: &str, settings: Settings) -> PoolOf<K> {
        let factory = K::factory(self.connect(), settings);
        let pool = self.supervisor.add_pool(name, &self.credentials, factory);
        pool.await.expect("verified")
    }

    /// Changes the password on the server and at the backend, and rotates. Returns when the next
    /// generation is published.
    pub async fn rotate(&self) {
        let before = self.pool.generation();
        let next = self.provider.rotate();
        self.set_password(&next);
        self.provider.hint();
        eventually("the next generation is published", || {
            self.pool.generation() > before
        })
        .await;
    }

    pub fn set_password(&self, password: &str) {
        block_in_place(|| self.server.set_password("app", password).expect("changed"));
    }

    pub fn terminate_connections(&self) {
        let terminated = || {
            self.server
                .terminate_connections("app")
                .expect("terminated")
        };
        block_in_place(terminated);
    }

    pub fn open_connections(&self, user: &str) -> usize {
        block_in_place(|| self.server.connection_count(user).expect("a count"))
    }

    pub fn failed_logins(&self) -> usize {
        let log = self.server.log();
        block_in_place(|| log.rejected_logins_of("app").expect("a log"))
    }

    /// Opens `count` connections and keeps them.
    pub async fn hold(&self, count: u32) -> Vec<ConnectionOf<K>> {
        let mut taken = Vec::new();
        for _ in 0..count {
            let getting = timeout(PATIENCE, self.pool.get());
            let connection = getting.await.expect("the pool has its full size");
            taken.push(connection.expect("a connection"));
        }
        taken
    }

    /// Executes a statement as the server's administrator.
    pub fn sql(&self, sql: &str) -> String {
        block_in_place(|| self.server.sql(sql).expect("it succeeds").trim().to_owned())
    }

    /// Returns how often the server has logged this text.
    pub fn logged(&self, text: &str) -> usize {
        block_in_place(|| self.server.log().count(text).expect("a log"))
    }

    pub async fn until_drained(&self) {
        eventually("old generations have drained", || {
            let status = self.pool.status();
            status.is_some_and(|status| status.draining.is_empty())
        })
        .await;
    }
}

/// Starts a server with the database `orders` of the user `app`.
pub(crate) fn server(password: &str) -> Postgres {
    block_in_place(|| {
        let server = Postgres::start().expect("a server");
        server.create_role("app", password).expect("a role");
        server.create_database("orders", "app").expect("a database");
        server
    })
}

pub(crate) fn connect(server: &Postgres) -> PgConnect {
    let mut config = Config::new();
    config
        .host(server.host())
        .port(server.port())
        .dbname("orders")
        .ssl_mode(SslMode::Disable);
    PgConnect::new(config)
}

/// Executes a query on a connection of its own.
pub(crate) async fn query<K: PgKind>(pool: &PoolOf<K>) -> Result<(), String> {
    let mut connection = pool.get().await.map_err(|error| error.to_string())?;
    K::value(&mut connection, ONE).await.map(drop)
}

/// A query that returns one.
pub const ONE: &str = "select 1::bigint as value";

/// Waits up to 30 s until the condition holds.
pub async fn eventually(expected: &str, condition: impl FnMut() -> bool) {
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
